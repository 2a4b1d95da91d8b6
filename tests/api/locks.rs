//! The Git LFS locking API, byte for byte.

use auxin::db::{By, Role, Visibility};
use auxin::service::{Scope, TokenRequest};
use serde_json::{Value, json};

use super::support::{Answer, PASSWORD, Server, basic};

const API: &str = "/anna/song.git/info/lfs/locks";

/// A private repository of anna's; ben and cleo may push, rita may read, olga may do nothing.
fn server() -> Server {
    with(|_| {})
}

fn with(change: impl FnOnce(&mut auxin::config::Settings)) -> Server {
    let server = Server::with(change);
    for name in ["anna", "ben", "cleo", "rita", "olga"] {
        server.user(name, false);
    }
    server.repo("anna/song", Visibility::Private);
    for (name, role) in [("ben", Role::Write), ("cleo", Role::Write), ("rita", Role::Read)] {
        let (repo, user) = ("anna/song".parse().expect("an address"), name.parse().expect("a name"));
        let added = server.app.members.add(&repo, &user, role, By::Command);
        server.run(added).expect("added");
    }
    server
}

fn ask(server: &Server, user: &str, method: &str, path: &str, body: &str) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\n{}\nContent-Type: application/vnd.git-lfs+json\nContent-Length: {}",
        basic(user, PASSWORD),
        body.len()
    );
    server.ask(&head, body.as_bytes())
}

fn json_of(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.git-lfs+json"),
        "{answer:?}"
    );
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn lock(server: &Server, user: &str, path: &str) -> (u16, Value) {
    let body = json!({"path": path, "ref": {"name": "refs/heads/main"}}).to_string();
    let answer = ask(server, user, "POST", API, &body);
    (answer.status, json_of(&answer))
}

/// Takes a lock that nobody has; its id.
#[track_caller]
fn locked(server: &Server, user: &str, path: &str) -> String {
    let (status, answer) = lock(server, user, path);
    assert_eq!(status, 201, "{answer}");
    answer["lock"]["id"].as_str().expect("an id").to_owned()
}

fn list(server: &Server, user: &str, query: &str) -> Value {
    let answer = ask(server, user, "GET", &format!("{API}{query}"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    json_of(&answer)
}

fn paths(locks: &Value) -> Vec<&str> {
    let locks = locks.as_array().expect("a list");
    locks
        .iter()
        .map(|lock| lock["path"].as_str().expect("a path"))
        .collect()
}

fn unlock(server: &Server, user: &str, id: &str, body: &Value) -> (u16, Value) {
    let answer = ask(server, user, "POST", &format!("{API}/{id}/unlock"), &body.to_string());
    (answer.status, json_of(&answer))
}

#[test]
fn a_lock_is_taken_once_and_the_answer_names_its_holder() {
    let server = server();

    let (status, taken) = lock(&server, "anna", "Song.logicx/Media/take.wav");
    assert_eq!(status, 201);
    let lock_of_anna = taken["lock"].clone();
    assert_eq!(lock_of_anna["path"], "Song.logicx/Media/take.wav");
    assert_eq!(lock_of_anna["owner"], json!({"name": "anna"}));
    let at = lock_of_anna["locked_at"].as_str().expect("a time");
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");
    assert_eq!(taken.as_object().expect("an object").len(), 1, "{taken}");

    for user in ["ben", "anna"] {
        let (status, held) = lock(&server, user, "song.logicx/media/TAKE.wav");
        assert_eq!((status, &held["lock"]), (409, &lock_of_anna), "{held}");
        let message = held["message"].as_str().expect("a message");
        assert!(message.contains("locked by anna since 20"), "{message}");
    }
}

#[test]
fn whoever_may_not_push_takes_no_lock_and_strangers_learn_nothing() {
    let server = server();
    let id = locked(&server, "anna", "a.wav");

    assert_eq!(lock(&server, "rita", "b.wav").0, 403);
    assert_eq!(ask(&server, "rita", "POST", &format!("{API}/verify"), "{}").status, 403);
    assert_eq!(unlock(&server, "rita", &id, &json!({"force": true})).0, 403);
    assert_eq!(paths(&list(&server, "rita", "")["locks"]), ["a.wav"]);
    assert_eq!(lock(&server, "olga", "b.wav").0, 404);
    assert_eq!(ask(&server, "olga", "GET", API, "").status, 404);
    let nameless = server.ask(&format!("GET {API} HTTP/1.1"), b"");
    assert_eq!(nameless.status, 401);
    assert!(nameless.header("lfs-authenticate").is_some(), "{nameless:?}");
    assert_eq!(ask(&server, "anna", "DELETE", API, "").status, 405);
    assert_eq!(
        ask(&server, "anna", "GET", &format!("{API}/{id}/unlock"), "").status,
        405
    );
    assert_eq!(ask(&server, "anna", "GET", &format!("{API}/{id}"), "").status, 404);
}

#[test]
fn lists_have_every_filter_and_come_in_pages() {
    let server = with(|settings| settings.locks.max_page = 3);
    assert_eq!(list(&server, "anna", ""), json!({"locks": []}));
    let ids: Vec<String> = (0..5)
        .map(|number| {
            locked(
                &server,
                if number % 2 == 0 { "anna" } else { "ben" },
                &format!("take {number}.wav"),
            )
        })
        .collect();

    let by_path = list(&server, "rita", "?path=TAKE%203.wav");
    assert_eq!(paths(&by_path["locks"]), ["take 3.wav"]);
    assert_eq!(by_path["locks"][0]["owner"]["name"], "ben");
    let by_id = list(&server, "rita", &format!("?id={}", ids[1]));
    assert_eq!(paths(&by_id["locks"]), ["take 1.wav"]);
    for nothing in [
        "?path=other.wav",
        "?id=7",
        "?id=00000000-0000-7000-8000-000000000000",
        "?path=..",
        &format!("?path=take%203.wav&id={}", ids[1]),
    ] {
        assert_eq!(list(&server, "anna", nothing), json!({"locks": []}), "{nothing}");
    }
    // Locks are good for every branch.
    assert_eq!(
        paths(&list(&server, "anna", "?refspec=refs/heads/x&limit=2")["locks"]).len(),
        2
    );

    let mut found = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = list(&server, "anna", &query);
        found.extend(paths(&page["locks"]).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(
        found,
        ["take 0.wav", "take 1.wav", "take 2.wav", "take 3.wav", "take 4.wav"]
    );
    assert_eq!(paths(&list(&server, "anna", "?limit=1000")["locks"]).len(), 3);

    for bad in ["?cursor=x", "?limit=x", "?limit=-1"] {
        assert_eq!(
            ask(&server, "anna", "GET", &format!("{API}{bad}"), "").status,
            422,
            "{bad}"
        );
    }
}

#[test]
fn verify_tells_ours_from_theirs_in_pages() {
    let server = server();
    for (user, path) in [("anna", "a"), ("ben", "b"), ("anna", "c")] {
        locked(&server, user, path);
    }
    let verify = |body: Value| {
        let answer = ask(&server, "anna", "POST", &format!("{API}/verify"), &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        json_of(&answer)
    };

    let all = verify(json!({"ref": {"name": "refs/heads/main"}, "limit": 0}));
    assert_eq!(
        (paths(&all["ours"]), paths(&all["theirs"])),
        (vec!["a", "c"], vec!["b"])
    );
    assert_eq!(all.get("next_cursor"), None);

    let first = verify(json!({"cursor": null, "limit": 2, "ref": {}}));
    assert_eq!((paths(&first["ours"]), paths(&first["theirs"])), (vec!["a"], vec!["b"]));
    let rest = verify(json!({"cursor": first["next_cursor"], "limit": 2, "ref": null}));
    assert_eq!((paths(&rest["ours"]), paths(&rest["theirs"])), (vec!["c"], vec![]));
    assert_eq!(rest.get("next_cursor"), None);
}

#[test]
fn a_repository_that_a_push_is_to_make_has_no_locks() {
    let server = server();
    let answer = ask(&server, "anna", "POST", "/anna/new.git/info/lfs/locks/verify", "{}");
    assert_eq!(
        (answer.status, json_of(&answer)),
        (200, json!({"ours": [], "theirs": []}))
    );
    let taken = ask(
        &server,
        "anna",
        "POST",
        "/anna/new.git/info/lfs/locks",
        r#"{"path": "a"}"#,
    );
    assert_eq!(taken.status, 404, "{taken:?}");
    assert!(!server.repo_path("anna/new").exists());
}

#[test]
fn a_lock_is_released_by_its_holder_and_by_maintainers_with_force() {
    let server = server();
    let id = locked(&server, "ben", "a.wav");

    let (status, refused) = unlock(&server, "cleo", &id, &json!({}));
    assert_eq!(status, 403);
    let message = refused["message"].as_str().expect("a message");
    assert!(
        message.contains("a.wav has been locked by ben since") && message.contains("12 h"),
        "{message}"
    );
    // Nor with force, as long as ben works with it.
    assert_eq!(unlock(&server, "cleo", &id, &json!({"force": true})).0, 403);
    assert_eq!(unlock(&server, "anna", &id, &json!({"force": false, "ref": {}})).0, 403);

    let (status, released) = unlock(&server, "anna", &id, &json!({"force": true}));
    assert_eq!(
        (status, &released["lock"]["owner"]["name"]),
        (200, &json!("ben")),
        "{released}"
    );
    assert_eq!(unlock(&server, "ben", &id, &json!({})).0, 404);
    assert_eq!(unlock(&server, "ben", "12", &json!({})).0, 404);

    let again = locked(&server, "ben", "a.wav");
    assert_ne!(again, id);
    assert_eq!(unlock(&server, "ben", &again, &json!({"force": true})).0, 200);
    assert_eq!(list(&server, "ben", ""), json!({"locks": []}));

    let audit = server.run(server.app.db.recent_audit(100)).expect("read");
    let acts: Vec<(&str, &str, &str)> = audit
        .iter()
        .rev()
        .filter(|row| row.action.starts_with("lock."))
        .map(|row| (row.actor.as_str(), row.action.as_str(), row.detail.as_str()))
        .collect();
    assert_eq!(
        acts,
        [
            ("user ben", "lock.take", "a.wav"),
            ("user anna", "lock.force-release", "a.wav of ben"),
            ("user ben", "lock.take", "a.wav"),
            ("user ben", "lock.release", "a.wav"),
        ]
    );
}

#[test]
fn a_lock_on_a_song_stands_for_its_folder_and_one_on_a_folder_for_what_is_in_it() {
    let server = server();
    locked(&server, "ben", "Song.logicx/Alternatives/000/ProjectData");
    locked(&server, "ben", "Stems");

    for taken in [
        "Song.logicx/Alternatives/000/DisplayState.plist",
        "song.logicx/alternatives/000/undo/x",
        "Song.logicx",
        "Stems/bass.wav",
        "STEMS",
    ] {
        assert_eq!(lock(&server, "cleo", taken).0, 409, "{taken}");
    }
    // What only looks like it is free, and to ben everything of his own is.
    for free in ["Song.logicx/Alternatives/001/ProjectData", "Stems 2", "Stems.txt"] {
        locked(&server, "cleo", free);
    }
    locked(&server, "ben", "Stems/bass.wav");
}

#[test]
fn bad_requests_are_told_and_change_nothing() {
    let server = with(|settings| settings.locks.max_per_repo = 1);
    for path in ["", "/a", "a//b", "../a", "a\0b"] {
        let (status, answer) = lock(&server, "anna", path);
        assert_eq!(status, 422, "{path:?} {answer}");
        assert!(
            answer["message"].as_str().is_some_and(|text| text.len() > 20),
            "{answer}"
        );
    }
    for body in ["", "{", "[]", r#"{"path": 7}"#] {
        assert_eq!(ask(&server, "anna", "POST", API, body).status, 422, "{body}");
    }
    let long = format!(r#"{{"path": "a", "x": "{}"}}"#, "x".repeat(70_000));
    assert_eq!(ask(&server, "anna", "POST", API, &long).status, 413);
    assert_eq!(list(&server, "anna", ""), json!({"locks": []}));

    locked(&server, "anna", "a");
    let (status, full) = lock(&server, "anna", "b");
    assert_eq!(status, 422);
    assert!(
        full["message"]
            .as_str()
            .is_some_and(|text| text.contains("locks.max_per_repo")),
        "{full}"
    );
}

/// The `Authorization` header of a new token of somebody's.
fn token(server: &Server, user: &str) -> String {
    let request = TokenRequest {
        owner: user.parse().expect("a name"),
        label: String::new(),
        scope: Scope::Write,
        repo: None,
        lifetime_days: None,
    };
    let token = server
        .run(server.app.tokens.create(request, By::Command))
        .expect("made");
    format!("Authorization: Bearer {}", token.secret.expose())
}

#[test]
fn of_a_hundred_that_ask_for_one_lock_at_once_one_gets_it() {
    let server = server();
    let body = r#"{"path": "Song.logicx/Alternatives/000/ProjectData"}"#;
    let mut open: Vec<_> = (0..100)
        .map(|number| {
            let token = token(&server, ["anna", "ben", "cleo"][number % 3]);
            let head = format!(
                "POST {API} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // All but the last byte, so that all are there before any is answered.
            let mut raw = server.connect();
            raw.write(head.as_bytes());
            raw.write(&body.as_bytes()[..body.len() - 1]);
            raw
        })
        .collect();
    for raw in &mut open {
        raw.write(b"}");
    }
    let answers: Vec<(u16, Value)> = open
        .into_iter()
        .map(|raw| {
            let answer = raw.answer();
            (answer.status, json_of(&answer))
        })
        .collect();

    let taken: Vec<&Value> = answers
        .iter()
        .filter(|(status, _)| *status == 201)
        .map(|(_, body)| body)
        .collect();
    assert_eq!(taken.len(), 1, "{answers:?}");
    let held: Vec<&Value> = answers
        .iter()
        .filter(|(status, _)| *status == 409)
        .map(|(_, body)| body)
        .collect();
    assert_eq!(held.len(), 99);
    assert!(held.iter().all(|body| body["lock"] == taken[0]["lock"]));
    assert_eq!(list(&server, "anna", "")["locks"], json!([taken[0]["lock"]]));
}

const REST: &str = "/api/v1/repos/anna/song/locks";

/// A request to the REST API; its status and JSON.
fn rest(server: &Server, user: &str, method: &str, rest: &str, body: Value) -> (u16, Value) {
    let answer = ask(server, user, method, &format!("{REST}{rest}"), &body.to_string());
    let is_problem = answer.status >= 400;
    let content_type = answer.header("content-type");
    assert_eq!(
        content_type,
        Some(if is_problem {
            "application/problem+json"
        } else {
            "application/json"
        }),
        "{answer:?}"
    );
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

#[test]
fn a_lock_of_the_rest_api_has_a_reason_is_asked_for_handed_over_and_stolen() {
    let server = server();
    let wish = json!({"path": "Stems/", "reason": "mixing", "machine": "studio", "keep": true});
    let (status, taken) = rest(&server, "ben", "POST", "", wish);
    assert_eq!((status, &taken["warning"]), (201, &Value::Null), "{taken}");
    let lock_of_ben = &taken["lock"];
    for (field, value) in [
        ("path", json!("Stems")),
        ("holder", json!("ben")),
        ("reason", json!("mixing")),
        ("machine", json!("studio")),
        ("is_kept", json!(true)),
        ("is_stale", json!(false)),
        ("branch", Value::Null),
    ] {
        assert_eq!(lock_of_ben[field], value, "{field}");
    }
    let id = lock_of_ben["id"].as_str().expect("an id").to_owned();
    let (status, held) = rest(&server, "cleo", "POST", "", json!({"path": "stems/bass.wav"}));
    assert_eq!(
        (status, &held["lock"], &held["status"]),
        (409, lock_of_ben, &json!(409))
    );
    assert!(
        held["detail"]
            .as_str()
            .is_some_and(|text| text.contains("locked by ben")),
        "{held}"
    );

    let (status, _) = rest(
        &server,
        "cleo",
        "POST",
        &format!("/{id}/ask"),
        json!({"note": "need the bass"}),
    );
    assert_eq!(status, 200);
    for (name, is_mine) in [("ben", true), ("rita", false)] {
        let (_, page) = rest(&server, name, "GET", "", json!({}));
        assert_eq!(page["locks"][0]["is_mine"], is_mine, "{name}: {page}");
    }
    let (_, shown) = rest(&server, "rita", "GET", &format!("/{id}"), json!({}));
    assert_eq!(
        (&shown["asks"][0]["name"], &shown["asks"][0]["note"]),
        (&json!("cleo"), &json!("need the bass"))
    );
    assert_eq!(rest(&server, "ben", "POST", &format!("/{id}/ask"), json!({})).0, 422);
    assert_eq!(rest(&server, "rita", "POST", &format!("/{id}/ask"), json!({})).0, 403);

    for (user, status) in [("cleo", 403), ("ben", 200)] {
        assert_eq!(
            rest(&server, user, "POST", &format!("/{id}/heartbeat"), json!({})).0,
            status
        );
        let (found, lock) = rest(&server, user, "POST", &format!("/{id}/keep"), json!({"keep": false}));
        assert_eq!(found, status, "{lock}");
    }
    assert_eq!(
        rest(
            &server,
            "cleo",
            "POST",
            &format!("/{id}/hand-over"),
            json!({"to": "cleo"})
        )
        .0,
        403
    );
    for nobody in ["rita", "olga", "nobody", "", "-"] {
        let (status, _) = rest(
            &server,
            "ben",
            "POST",
            &format!("/{id}/hand-over"),
            json!({"to": nobody}),
        );
        assert_eq!(status, 422, "{nobody}");
    }
    let (status, given) = rest(
        &server,
        "ben",
        "POST",
        &format!("/{id}/hand-over"),
        json!({"to": "cleo"}),
    );
    assert_eq!((status, &given["lock"]["holder"]), (200, &json!("cleo")), "{given}");
    let id = given["lock"]["id"].as_str().expect("an id").to_owned();
    // What ben remembers is good for nothing any more.
    let old = lock_of_ben["id"].as_str().expect("an id");
    assert_eq!(
        rest(&server, "ben", "DELETE", &format!("/{old}?force=true"), json!({})).0,
        404
    );

    let (status, refused) = rest(&server, "ben", "POST", &format!("/{id}/steal"), json!({}));
    assert_eq!(status, 403);
    assert!(
        refused["detail"].as_str().is_some_and(|text| text.contains("12 h")),
        "{refused}"
    );
    let (status, stolen) = rest(
        &server,
        "anna",
        "POST",
        &format!("/{id}/steal"),
        json!({"reason": "deadline"}),
    );
    assert_eq!((status, &stolen["lock"]["holder"]), (200, &json!("anna")), "{stolen}");
    let id = stolen["lock"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(rest(&server, "anna", "POST", &format!("/{id}/dance"), json!({})).0, 404);
    assert_eq!(rest(&server, "anna", "DELETE", &format!("/{id}"), json!({})).0, 200);

    let audit = server.run(server.app.db.recent_audit(100)).expect("read");
    let acts: Vec<(&str, &str)> = audit
        .iter()
        .rev()
        .filter(|row| row.action.starts_with("lock."))
        .map(|row| (row.action.as_str(), row.detail.as_str()))
        .collect();
    assert_eq!(
        acts,
        [
            ("lock.take", "Stems"),
            ("lock.ask", "Stems of ben"),
            ("lock.keep-no-longer", "Stems"),
            ("lock.hand-over", "Stems of ben to cleo"),
            ("lock.steal", "Stems of cleo by anna"),
            ("lock.release", "Stems"),
        ]
    );
}

#[test]
fn rules_of_locks_are_for_those_who_manage_the_repository() {
    let server = server();
    let rules = |user: &str, method: &str, body: Value| {
        let answer = ask(
            &server,
            user,
            method,
            "/api/v1/repos/anna/song/lock-rules",
            &body.to_string(),
        );
        (
            answer.status,
            serde_json::from_slice::<Value>(&answer.body).expect("JSON"),
        )
    };
    let (status, found) = rules("rita", "GET", json!({}));
    assert_eq!(status, 200);
    assert_eq!(
        found,
        json!({"per_branch": false, "outdated": "warn", "stale_after_secs": 43200, "expire_after_secs": 0,
               "release_after_push": false})
    );
    let id = locked(&server, "ben", "a");
    assert_eq!(rules("ben", "PATCH", json!({"stale_after_secs": 0})).0, 403);
    assert_eq!(rules("olga", "PATCH", json!({"stale_after_secs": 0})).0, 404);
    for bad in [
        json!({"stale": 0}),
        json!({"outdated": "x"}),
        json!({"stale_after_secs": -1}),
        json!({"expire_after_secs": u64::MAX}),
    ] {
        assert_eq!(rules("anna", "PATCH", bad.clone()).0, 422, "{bad}");
    }

    let (status, changed) = rules("anna", "PATCH", json!({"stale_after_secs": 0}));

    assert_eq!(
        (status, &changed["stale_after_secs"], &changed["outdated"]),
        (200, &json!(0), &json!("warn"))
    );
    let (status, stolen) = rest(&server, "cleo", "POST", &format!("/{id}/steal"), json!({}));
    assert_eq!((status, &stolen["lock"]["holder"]), (200, &json!("cleo")));
    let audit = server.run(server.app.db.recent_audit(2)).expect("read");
    assert_eq!(
        (audit[1].action.as_str(), audit[1].detail.as_str()),
        ("lock.rules", "stale_after_secs 0")
    );
}

#[test]
fn lists_of_the_rest_api_come_in_pages_with_a_link() {
    let server = server();
    for path in ["a", "b", "c"] {
        locked(&server, "anna", path);
    }
    let answer = ask(&server, "rita", "GET", &format!("{REST}?limit=2"), "");
    let page: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(paths(&page["locks"]), ["a", "b"]);
    let link = answer.header("link").expect("a link");
    assert!(link.ends_with("; rel=\"next\""), "{link}");
    let next = link
        .split_once("/locks")
        .and_then(|(_, rest)| rest.split_once('>'))
        .expect("an address")
        .0;
    let (_, rest_of) = rest(&server, "rita", "GET", next, json!({}));
    assert_eq!(
        (paths(&rest_of["locks"]), &rest_of["next_cursor"]),
        (vec!["c"], &Value::Null)
    );
    assert_eq!(rest(&server, "rita", "GET", "?limit=x", json!({})).0, 422);
    assert_eq!(server.get(REST).status, 401);
    assert_eq!(rest(&server, "olga", "GET", "", json!({})).0, 404);
    assert_eq!(rest(&server, "anna", "PUT", "", json!({})).0, 405);
}
