//! Who one is: passwords, tokens, and what happens when they change beside a running server.

use crate::support::{GitProgram, Person, Request, TestServer};

fn server_with_a_song() -> (TestServer, Person) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    (server, anna)
}

fn status(server: &TestServer, request: Request) -> u16 {
    server.send(request).status
}

fn refs() -> Request {
    Request::upload_refs("anna/song", 2)
}

#[test]
fn a_wrong_password_is_told_and_forgotten_by_git() {
    let (server, _anna) = server_with_a_song();
    let forgetful = server.person("anna", "not this one");

    let clone = forgetful.try_clone("anna/song", "copy", &[]);

    clone.assert_refused_with("Authentication failed");
    assert_eq!(forgetful.kept_passwords().trim(), "");
}

#[test]
fn every_stock_git_on_the_machine_signs_in() {
    let (server, anna) = server_with_a_song();
    for git in GitProgram::all() {
        let anna = anna.with_git(&git);
        anna.clone_repo("anna/song", "copy", &[]);
        assert!(!anna.kept_passwords().is_empty(), "{git:?} forgot the password");
        anna.keep_password("wrong");
        anna.try_clone("anna/song", "other", &[])
            .assert_refused_with("Authentication failed");
    }
    drop(server);
}

#[test]
fn someone_without_a_password_is_asked_for_one_and_a_missing_repository_looks_the_same() {
    let (server, _anna) = server_with_a_song();

    let private = server.send(refs());
    let missing = server.send(Request::upload_refs("anna/nothing", 2));
    let nobody = server.send(Request::upload_refs("someone/nothing", 2));

    for answer in [&private, &missing, &nobody] {
        answer.assert_status(401);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Basic realm="), "{answer:?}");
        assert_eq!(
            answer.header("content-type").map(|kind| kind.split(';').next()),
            Some(Some("text/plain"))
        );
    }
    assert_eq!(private.body, missing.body);
    assert_eq!(private.body, nobody.body);
}

#[test]
fn a_changed_password_counts_from_the_next_request_on() {
    let (server, anna) = server_with_a_song();
    assert_eq!(status(&server, refs().by(&anna)), 200);

    server
        .auxin_with_input(&["user", "passwd", "anna", "--password-stdin"], b"a whole new tune\n")
        .assert_ok();

    assert_eq!(status(&server, refs().by(&anna)), 401);
    assert_eq!(status(&server, refs().basic("anna", "a whole new tune")), 200);
}

#[test]
fn a_disabled_person_is_out_at_once_and_so_are_their_tokens() {
    let (server, anna) = server_with_a_song();
    let token = new_token(&server, &["anna", "--scope", "write"]);
    assert_eq!(status(&server, refs().by(&anna)), 200);
    assert_eq!(status(&server, refs().basic("anna", &token)), 200);

    server.auxin(&["user", "disable", "anna"]).assert_ok();

    assert_eq!(status(&server, refs().by(&anna)), 401);
    assert_eq!(status(&server, refs().basic("anna", &token)), 401);
}

#[test]
fn a_person_who_owns_repositories_is_removed_only_when_someone_takes_them_over() {
    let (server, anna) = server_with_a_song();
    let ben = server.user("ben");

    let refused = server.auxin(&["user", "remove", "anna"]);
    refused.assert_failed().assert_said("transfer-to");
    assert_eq!(status(&server, refs().by(&anna)), 200);

    server
        .auxin(&["user", "remove", "anna", "--transfer-to", "ben"])
        .assert_ok();

    assert_eq!(status(&server, refs().by(&anna)), 401);
    ben.clone_repo("ben/song", "copy", &[]);
}

/// Makes a token and gives its secret.
fn new_token(server: &TestServer, args: &[&str]) -> String {
    let mut all = vec!["token", "create"];
    all.extend_from_slice(args);
    all.push("--json");
    let made = server.auxin(&all);
    let made = made.assert_ok().json();
    made["token"].as_str().expect("the token is told once").to_owned()
}

#[test]
fn a_token_works_in_every_place_where_clients_put_it() {
    let (server, anna) = server_with_a_song();
    let token = new_token(&server, &["anna", "--scope", "read"]);

    assert!(token.starts_with("auxin_"), "{token}");
    for (user, password) in [
        ("anna", token.as_str()),
        ("", token.as_str()),
        ("x-token", token.as_str()),
        (token.as_str(), ""),
    ] {
        assert_eq!(
            status(&server, refs().basic(user, password)),
            200,
            "user {user:?} password {password:?}"
        );
    }
    let bearer = refs().header("Authorization", &format!("Bearer {token}"));
    assert_eq!(status(&server, bearer), 200);
    server.person("anna", &token).clone_repo("anna/song", "copy", &[]);
    drop(anna);
}

#[test]
fn a_token_can_do_no_more_than_its_scope() {
    let (server, anna) = server_with_a_song();
    let reader = server.person("anna", &new_token(&server, &["anna", "--scope", "read"]));
    let writer = server.person("anna", &new_token(&server, &["anna", "--scope", "write"]));
    let song = anna.project("song");
    song.write("Song.txt", "la la").commit("Second take");
    let push_as = |person: &Person| {
        let folder = song.folder.to_string_lossy().into_owned();
        let url = person.url("anna/song");
        person.git(&["-C", &folder, "push", &url, "main"])
    };

    let refused = push_as(&reader);
    refused.assert_failed();
    assert!(!refused.remote_lines().is_empty(), "no sentence: {refused:?}");
    push_as(&writer).assert_ok();
}

#[test]
fn a_token_for_one_repository_opens_no_other() {
    let (server, anna) = server_with_a_song();
    anna.project("song").push("anna/other", &["main"]).assert_ok();
    let token = new_token(&server, &["anna", "--scope", "write", "--repo", "anna/song"]);

    assert_eq!(status(&server, refs().basic("anna", &token)), 200);
    let other = Request::upload_refs("anna/other", 2).basic("anna", &token);
    assert_ne!(status(&server, other), 200);
    let new = Request::receive_refs("anna/brand-new").basic("anna", &token);
    assert_ne!(status(&server, new), 200);
}

#[test]
fn a_revoked_token_is_refused_from_the_next_request_on_so_that_helpers_forget_it() {
    let (server, _anna) = server_with_a_song();
    let token = new_token(&server, &["anna", "--scope", "read"]);
    assert_eq!(status(&server, refs().basic("anna", &token)), 200);
    let listed = server.auxin(&["token", "list", "anna", "--json"]).assert_ok().json();
    assert!(!listed.to_string().contains(&token), "secrets are shown once");
    let first = listed
        .as_array()
        .or_else(|| listed["tokens"].as_array())
        .and_then(|list| list.first())
        .cloned()
        .expect("one token");
    let id = first["id"].as_str().expect("an id").to_owned();

    server.auxin(&["token", "revoke", &id]).assert_ok();

    assert_eq!(status(&server, refs().basic("anna", &token)), 401);
}

#[test]
fn failed_sign_ins_are_slowed_for_the_one_who_fails_and_the_owner_still_gets_in() {
    let (server, anna) = server_with_a_song();
    // A stranger guesses from another address: from behind a proxy that is believed.
    let server = restarted_behind_a_proxy(server);
    let guess =
        |from: &str, password: &str| server.send(refs().basic("anna", password).header("X-Forwarded-For", from));

    let mut slowed = None;
    for number in 0..40 {
        let answer = guess("203.0.113.9", &format!("guess {number}"));
        if answer.status == 429 {
            slowed = Some(answer);
            break;
        }
        answer.assert_status(401);
    }

    let slowed = slowed.expect("the guesser is slowed");
    assert!(slowed.header("retry-after").is_some(), "{slowed:?}");
    guess("198.51.100.7", &anna.password).assert_status(200);
    // Another account from the guesser's address is not touched either.
    let ben = server.user("ben");
    server
        .send(refs().by(&ben).header("X-Forwarded-For", "203.0.113.9"))
        .assert_status(404);
}

fn restarted_behind_a_proxy(mut server: TestServer) -> TestServer {
    server.stop();
    server.start_again_with("AUXIN_SERVER__TRUSTED_PROXIES", "[\"127.0.0.1/32\"]");
    server
}

#[test]
fn two_authorization_headers_or_a_broken_one_never_break_the_server() {
    let (server, anna) = server_with_a_song();

    let two = server.send(refs().by(&anna).by(&anna));
    assert!([200, 400, 401].contains(&two.status), "{two:?}");
    for broken in [
        "Basic",
        "Basic !!!!",
        "Basic YW5uYQ==",
        "Bearer",
        "Negotiate abc",
        "Basic //79/A==",
    ] {
        let answer = server.send(refs().header("Authorization", broken));
        assert!([400, 401].contains(&answer.status), "{broken}: {answer:?}");
    }
    assert_eq!(status(&server, refs().by(&anna)), 200);
}

#[test]
fn a_password_may_hold_every_kind_of_letter() {
    let server = TestServer::start();
    let password = "p@ss:wörd %41 with/slash+plus♪";
    server
        .auxin_with_input(
            &["user", "add", "zoe", "--password-stdin"],
            format!("{password}\n").as_bytes(),
        )
        .assert_ok();
    let zoe = server.person("zoe", password);
    let song = zoe.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    song.push("zoe/song", &["main"]).assert_ok();
}

#[test]
fn the_next_clone_begins_on_the_branch_that_an_administrator_chose() {
    let (server, anna) = server_with_a_song();
    let song = anna.project("song");
    song.push("anna/song", &["main:mix"]).assert_ok();
    let head = || {
        let said = anna.git(&["ls-remote", "--symref", &anna.url("anna/song"), "HEAD"]);
        said.assert_ok().out().lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(head(), "ref: refs/heads/main\tHEAD");

    server
        .auxin(&["repo", "set-default-branch", "anna/song", "mix"])
        .assert_ok();

    assert_eq!(head(), "ref: refs/heads/mix\tHEAD");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert_eq!(copy.ask(&["branch", "--show-current"]), "mix");
}

#[test]
fn commands_list_people_and_repositories_as_json() {
    let (server, _anna) = server_with_a_song();

    let people = server.auxin(&["user", "list", "--json"]).assert_ok().out();
    let repos = server.auxin(&["repo", "list", "--json"]).assert_ok().out();
    let shown = server.auxin(&["repo", "show", "anna/song", "--json"]).assert_ok().out();

    assert!(people.contains("anna") && people.contains("admin"), "{people}");
    assert!(repos.contains("song"), "{repos}");
    assert!(shown.contains("private"), "{shown}");
}
