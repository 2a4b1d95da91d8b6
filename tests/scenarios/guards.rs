//! Guards that hold the server itself together: budgets, queues, places, and what a stranger may ask for.

use std::io::{Read, Write};
use std::time::Duration;

use super::limits::Target;
use crate::support::wire::{self, NO_OBJECT, V2};
use crate::support::{MIB, Request, TestServer};
use crate::support::{process, repositories};

/// A fetch of a few small folders that make up a million million paths, every one of which a filter
/// must look at: it goes on until somebody stops it, and never sends a byte of a pack.
fn endless_fetch(server: &TestServer) -> V2 {
    let bare = server.repo("anna/bomb");
    let input = |args: &[&str], text: &str| {
        let made = repositories::on_disk_with_input(&bare, args, text.as_bytes());
        made.assert_ok();
        made.out()
    };
    let patterns = input(&["hash-object", "-w", "--stdin"], "nothing\n/a/b/c\n");
    let mut tree = input(&["mktree"], &format!("100644 blob {patterns}\tpatterns\n"));
    for _ in 0..12 {
        let folders: String = (0..10)
            .map(|number| format!("040000 tree {tree}\tfolder-{number}\n"))
            .collect();
        tree = input(&["mktree"], &folders);
    }
    let commit = input(&["commit-tree", "-m", "A take", &tree], "");
    repositories::on_disk(&bare, &["update-ref", "refs/heads/main", &commit]).assert_ok();
    V2::fetch()
        .arg(format!("want {commit}"))
        .arg(format!("filter sparse:oid={patterns}"))
        .arg("done")
}

#[test]
fn a_filter_over_endless_paths_ends_with_the_budget() {
    let target = Target::with(TestServer::prepare().setting("git.cpu_budget_secs", 1));
    let body = endless_fetch(&target.server).bytes();

    let answer = target.attack(Request::upload_pack("anna/bomb", 2, body));

    let parsed = wire::parse_v2_fetch(&answer.body).expect("pkt-lines");
    let error = parsed.error.unwrap_or_default();
    assert!(error.contains("processor time"), "{error:?}");
    target.assert_unharmed();
}

#[test]
fn work_that_nobody_waits_for_any_more_ends() {
    let target = Target::start();
    let body = endless_fetch(&target.server).bytes();
    let open = |_| {
        Request::upload_pack("anna/bomb", 2, body.clone())
            .by(&target.anna)
            .open(target.server.url())
    };
    let streams: Vec<_> = (0..50).map(open).collect();
    let pid = target.server.pid();
    let used = || process::cpu_ticks(pid).expect("the server runs");
    // It would go on for ten minutes: this is what must end.
    let before = used();
    process::wait_until("the server works", Duration::from_secs(60), || used() - before > 50);

    drop(streams);

    process::wait_until("the server is idle", Duration::from_secs(60), || {
        let before = used();
        std::thread::sleep(Duration::from_millis(500));
        used() - before <= 5
    });
    target.assert_unharmed();
}

#[test]
fn with_a_full_queue_the_answer_is_to_come_again() {
    let target = Target::with(
        TestServer::prepare()
            .setting("git.max_packs_building", 1)
            .setting("git.max_waiting", 0),
    );
    let body = endless_fetch(&target.server).bytes();
    let stream = Request::upload_pack("anna/bomb", 2, body)
        .by(&target.anna)
        .open(target.server.url());
    // Were it not at work yet, the next request would have the turn and this one none.
    let pid = target.server.pid();
    let used = || process::cpu_ticks(pid).expect("the server runs");
    let before = used();
    process::wait_until("the server works", Duration::from_secs(60), || used() - before > 50);
    let fetch = || {
        let body = V2::fetch().arg(format!("want {}", target.tip)).arg("done").bytes();
        target
            .server
            .send(Request::upload_pack("anna/song", 2, body).by(&target.anna))
    };
    let mut refused = None;
    process::wait_until("the only turn is taken", Duration::from_secs(20), || {
        let answer = fetch();
        refused = wire::parse_v2_fetch(&answer.body).expect("pkt-lines").error;
        refused.is_some()
    });
    let refused = refused.expect("just seen");

    assert!(
        refused.contains("busy") && refused.contains("Try again in"),
        "{refused:?}"
    );
    drop(stream);
    process::wait_until("the turn is free again", Duration::from_secs(20), || {
        let answer = wire::parse_v2_fetch(&fetch().body).expect("pkt-lines");
        answer.error.is_none()
    });
    target.assert_unharmed();
}

#[test]
fn a_client_that_waits_for_a_long_plan_hears_that_it_goes_on() {
    let target = Target::with(TestServer::prepare().setting("git.keep_alive_secs", 1));
    let body = endless_fetch(&target.server).arg("no-progress").bytes();
    let mut stream = Request::upload_pack("anna/bomb", 2, body)
        .by(&target.anna)
        .open(target.server.url());
    let mut heard = Vec::new();
    while !heard.windows(5).any(|bytes| bytes == b"0005\x01") {
        let mut piece = [0; 1000];
        let read = stream.read(&mut piece).expect("the server says something");
        assert!(read > 0, "the answer ended: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..read]);
    }
}

#[test]
fn a_caller_that_drips_its_request_holds_no_turn() {
    let target = Target::with(TestServer::prepare().setting("git.max_packs_building", 1));
    let dripping: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = Request::new("POST", "/anna/song.git/git-upload-pack")
                .header("Content-Type", "application/x-git-upload-pack-request")
                .header("Content-Length", "200000")
                .header("Git-Protocol", "version=2")
                .by(&target.anna)
                .open(target.server.url());
            stream.write_all(b"0").expect("the server reads");
            stream
        })
        .collect();

    for mut stream in dripping {
        target.assert_unharmed();
        stream.write_all(b"0").expect("the server reads");
    }
    target.anna.clone_repo("anna/song", "copy", &[]).assert_sound();
}

#[test]
fn a_request_head_that_drips_in_is_cut_off_after_its_whole_time() {
    let target = Target::with(TestServer::prepare().setting("server.header_timeout_secs", 1));
    let mut stream = crate::support::http::connect(&target.server.address());
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a deadline can be set");
    stream.write_all(b"GET /").expect("the server reads");
    let mut dripped = 0;
    // Never silent for long, and never done.
    let ended = loop {
        let mut piece = [0; 1000];
        match stream.read(&mut piece) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()) => {
                if stream.write_all(b"x").is_err() {
                    break true;
                }
                dripped += 1;
            }
            Err(_) => break true,
        }
        if dripped > 300 {
            break false;
        }
    };

    assert!(ended, "the server listened to {dripped} drops");
    target.assert_unharmed();
}

#[test]
fn more_connections_than_there_may_be_wait_at_the_door() {
    let target = Target::with(TestServer::prepare().setting("server.max_connections", 3));
    let mut idle: Vec<_> = Vec::new();
    // Others may just be leaving.
    process::wait_until("all places are taken", Duration::from_secs(20), || {
        idle.push(crate::support::http::connect(&target.server.address()));
        idle.len() >= 8
    });
    let mut late = Request::get("/livez").open(target.server.url());
    late.set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a deadline can be set");
    let mut byte = [0; 1];
    let waits = late.read(&mut byte);
    assert!(waits.is_err(), "it was let in: {waits:?}");

    drop(idle);

    late.set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a deadline can be set");
    assert!(crate::support::http::read_answer(late).status == 200);
    target.assert_unharmed();
}

#[test]
fn a_filter_of_a_thousand_lists_of_patterns_is_refused_and_costs_nothing() {
    let target = Target::start();
    let bare = target.server.folder_of("anna/song");
    let list = "a\n".repeat(MIB / 2);
    let mut parts = Vec::new();
    let mut entries = String::new();
    for number in 0..40 {
        let content = format!("{list}{number}\n");
        let made = repositories::on_disk_with_input(&bare, &["hash-object", "-w", "--stdin"], content.as_bytes());
        entries.push_str(&format!("100644 blob {}\tlist-{number}\n", made.out()));
        parts.push(format!("sparse:oid={}", made.out()));
    }
    let tree = repositories::on_disk_with_input(&bare, &["mktree"], entries.as_bytes()).out();
    repositories::on_disk(&bare, &["update-ref", "refs/tags/lists", &tree]).assert_ok();
    let ask = |filter: String| {
        let body = V2::fetch()
            .arg(format!("want {}", target.tip))
            .arg(format!("filter {filter}"))
            .arg("done")
            .bytes();
        let answer = target.attack(Request::upload_pack("anna/song", 2, body));
        wire::parse_v2_fetch(&answer.body)
            .expect("pkt-lines")
            .error
            .unwrap_or_default()
    };

    let many_lists = ask(format!("combine:{}", parts.join("+")));
    let one_list_often = ask(format!("combine:{}", vec![parts[0].clone(); 300].join("+")));

    assert!(many_lists.contains("patterns"), "{many_lists:?}");
    assert!(one_list_often.contains("git.max_filter_parts"), "{one_list_often:?}");
    repositories::on_disk(&bare, &["update-ref", "-d", "refs/tags/lists"]).assert_ok();
    target.assert_unharmed();
}

#[test]
fn what_a_lender_has_and_the_borrower_does_not_name_is_not_served() {
    let target = Target::start();
    let lender = target.server.repo("anna/lender");
    let mut import = repositories::Import::default();
    import.commit("refs/heads/main", &[], &[("Song.txt", b"nobody else has this")]);
    import.write_to(&lender);
    let secret = repositories::id(&lender, "main");
    let bare = target.server.folder_of("anna/song");
    std::fs::create_dir_all(bare.join("objects/info")).expect("a folder");
    std::fs::write(
        bare.join("objects/info/alternates"),
        format!("{}\n", lender.join("objects").display()),
    )
    .expect("written");
    let file = repositories::ask(&lender, &["rev-parse", "main:Song.txt"]);
    for wanted in [&secret, &file] {
        let body = V2::fetch().arg(format!("want {wanted}")).arg("done").bytes();
        let answer = target.attack(Request::upload_pack("anna/song", 2, body));
        assert!(answer.text().contains("not our ref"), "{answer:?}");
    }
    target.assert_unharmed();
}

#[test]
fn a_push_into_a_repository_that_is_deleted_meanwhile_is_told_so() {
    let target = Target::start();
    target.server.repo("anna/gone");
    let (pack, tip) = super::hostile_packs::file_in_commit("blob", "100644", b"take", b"la");
    let command = wire::command(NO_OBJECT, &tip, "refs/heads/main");
    let body = wire::push(&[command], "report-status side-band-64k", &[], &pack.finish());
    let mut stream = Request::new("POST", "/anna/gone.git/git-receive-pack")
        .header("Content-Type", "application/x-git-receive-pack-request")
        .header("Content-Length", &body.len().to_string())
        .by(&target.anna)
        .open(target.server.url());
    stream.write_all(&body[..body.len() - 30]).expect("the server reads");
    process::wait_until("the push is under way", Duration::from_secs(20), || {
        !target.server.quarantines("anna/gone").is_empty()
    });

    target
        .server
        .auxin(&["repo", "delete", "anna/gone", "--yes"])
        .assert_ok();
    drop(stream.write_all(&body[body.len() - 30..]));
    let answer = crate::support::http::read_answer(stream);

    assert!(!answer.text().contains("ok refs/heads/main"), "{answer:?}");
    assert!(!target.server.folder_of("anna/gone").exists());
    target.assert_unharmed();
}

#[test]
fn names_that_differ_in_case_alone_are_two_branches() {
    let target = Target::start();
    let create = |name: &str| wire::command(NO_OBJECT, &target.tip, name);
    let body = wire::push(
        &[create("refs/heads/Main"), create("refs/heads/MAIN")],
        "report-status",
        &[],
        super::rights::EMPTY_PACK,
    );
    let answer = target.attack(Request::receive_pack("anna/song", body));
    let bare = target.server.folder_of("anna/song");
    let report = wire::parse_push(&answer.body, false).expect("pkt-lines").refs;

    // Each says for itself what became of it, and none takes the place of another.
    for name in ["refs/heads/Main", "refs/heads/MAIN"] {
        let told = report.contains(&format!("ok {name}"));
        assert_eq!(
            repositories::on_disk(&bare, &["rev-parse", "--verify", name]).ok(),
            told,
            "{report:?}"
        );
        repositories::on_disk(&bare, &["update-ref", "-d", name]);
    }
    target.assert_unharmed();
}

#[test]
fn dangerous_folders_pass_only_where_the_administrator_has_switched_the_check_off() {
    for (checks, expected) in [(true, "ng refs/heads/evil"), (false, "ok refs/heads/evil")] {
        let target = Target::with(TestServer::prepare().setting("git.fsck_objects", checks));
        let (pack, tip) = super::hostile_packs::file_in_commit("blob", "100644", b".git", b"la");
        let command = wire::command(NO_OBJECT, &tip, "refs/heads/evil");
        let body = wire::push(&[command], "report-status", &[], &pack.finish());

        let answer = target.attack(Request::receive_pack("anna/song", body));

        assert!(answer.text().contains(expected), "{checks}: {answer:?}");
    }
}

#[test]
fn a_fetch_that_waits_for_its_turn_has_its_status_meanwhile_and_its_answer_then() {
    let target = Target::with(TestServer::prepare().setting("git.max_packs_building", 1));
    let off = target.server.repo("anna/off");
    repositories::on_disk(&off, &["config", "http.uploadpack", "false"]).assert_ok();
    let endless = endless_fetch(&target.server).bytes();
    let pid = target.server.pid();
    let used = || process::cpu_ticks(pid).expect("the server runs");
    let before = used();
    let in_front = Request::upload_pack("anna/bomb", 2, endless)
        .by(&target.anna)
        .open(target.server.url());
    process::wait_until("the only turn is taken", Duration::from_secs(60), || {
        used() - before > 50
    });
    let body = V2::fetch().arg(format!("want {}", target.tip)).arg("done").bytes();
    let waiting = ["anna/song", "anna/off"].map(|repository| {
        let mut stream = Request::upload_pack(repository, 2, body.clone())
            .by(&target.anna)
            .open(target.server.url());
        // There is a deadline on reading, and in front of it is work for ten minutes.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).expect("the status comes before the turn");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
        (head, stream)
    });

    drop(in_front);

    let [served, refused] = waiting.map(|(head, stream)| {
        let answer = crate::support::http::read_answer(head.as_slice().chain(stream));
        wire::parse_v2_fetch(&answer.body).expect("pkt-lines")
    });
    assert!(served.pack.is_some(), "{served:?}");
    // What can no longer have a status is told in the protocol.
    let refused = refused.error.unwrap_or_default();
    assert!(refused.contains("takes no fetches"), "{refused:?}");
    target.assert_unharmed();
}

#[test]
fn a_caller_with_many_slow_transfers_leaves_some_for_others() {
    let target = Target::with(TestServer::prepare().setting("server.max_transfers", 8));
    let ben = target.server.user("ben");
    let public = target.server.public_repo("anna/open");
    repositories::straight_history(&public, 2);
    let command = wire::command(NO_OBJECT, &target.tip, "refs/heads/slow");
    let body = wire::push(&[command], "report-status", &[], b"PACK");
    let ask = |person| target.server.send(Request::upload_refs("anna/open", 2).by(person));
    let mut slow = Vec::new();
    let mut refused = None;
    process::wait_until("the caller is told to wait", Duration::from_secs(60), || {
        let mut stream = Request::new("POST", "/anna/song.git/git-receive-pack")
            .header("Content-Type", "application/x-git-receive-pack-request")
            .header("Content-Length", "100000")
            .by(&target.anna)
            .open(target.server.url());
        stream.write_all(&body).expect("the server reads");
        slow.push(stream);
        let answer = ask(&target.anna);
        refused = (answer.status != 200).then_some(answer);
        refused.is_some()
    });
    let refused = refused.expect("just seen");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    // However many more the one caller tries.
    for _ in 0..8 {
        assert_eq!(ask(&ben).status, 200);
        assert_eq!(ask(&target.anna).status, 429);
    }

    drop(slow);
    process::wait_until("there is room again", Duration::from_secs(20), || {
        ask(&target.anna).status == 200
    });
    target.assert_unharmed();
}
