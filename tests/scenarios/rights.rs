//! Who may do what: every cell of the table, through the real HTTP surface.

use crate::support::wire::{self, V2};
use crate::support::{Person, Request, TestServer};

/// A pack without objects.
pub const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

const VISIBILITIES: [&str; 3] = ["public", "internal", "private"];
const ROLES: [&str; 7] = [
    "stranger",
    "outsider",
    "reader",
    "writer",
    "admin",
    "owner",
    "site admin",
];

/// What a caller of a role hears: reading, then writing.
fn expected(visibility: &str, role: &str) -> (u16, u16) {
    match (visibility, role) {
        // A stranger learns nothing but that a password is needed.
        ("public", "stranger") => (200, 401),
        (_, "stranger") => (401, 401),
        // Signed in without a right: as if it did not exist.
        ("private", "outsider") => (404, 404),
        (_, "outsider" | "reader") => (200, 403),
        _ => (200, 200),
    }
}

#[test]
fn every_cell_of_the_table_of_rights_holds() {
    let server = TestServer::start();
    let owner = server.user("olga");
    let song = owner.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    let tip = song.id("main");
    let people: Vec<(&str, Person)> = vec![
        ("stranger", server.stranger()),
        ("outsider", server.user("otto")),
        ("reader", server.user("rita")),
        ("writer", server.user("wim")),
        ("admin", server.user("ada")),
        ("owner", owner.clone()),
        ("site admin", server.admin()),
    ];
    let mut wrong = Vec::new();
    for visibility in VISIBILITIES {
        let address = format!("olga/{visibility}");
        song.push(&address, &["main"]).assert_ok();
        server.auxin(&["repo", "visibility", &address, visibility]).assert_ok();
        for (user, role) in [("rita", "read"), ("wim", "write"), ("ada", "admin")] {
            server.auxin(&["member", "add", &address, user, role]).assert_ok();
        }
        for (number, role) in ROLES.iter().enumerate() {
            let (known, person) = &people[number];
            assert_eq!(known, role);
            let (read, write) = expected(visibility, role);
            let fetch = V2::fetch().arg(format!("want {tip}")).arg("done").bytes();
            let branch = format!("refs/heads/take-{number}");
            let push = wire::push(
                &[wire::command(wire::NO_OBJECT, &tip, &branch)],
                "report-status",
                &[],
                EMPTY_PACK,
            );
            let cells = [
                ("refs for reading", read, Request::upload_refs(&address, 2)),
                ("refs for reading, v0", read, Request::upload_refs(&address, 0)),
                ("fetch", read, Request::upload_pack(&address, 2, fetch)),
                ("refs for writing", write, Request::receive_refs(&address)),
                ("push", write, Request::receive_pack(&address, push)),
            ];
            for (action, status, request) in cells {
                let answer = server.send(request.by(person));
                if answer.status != status {
                    wrong.push(format!(
                        "{visibility} / {role} / {action}: {} instead of {status}",
                        answer.status
                    ));
                }
                let text = answer.text();
                if answer.status >= 400 && !text.trim_end().contains(' ') {
                    wrong.push(format!("{visibility} / {role} / {action}: no sentence: {text:?}"));
                }
                if action == "fetch" && answer.status == 200 && !text.contains("PACK") {
                    wrong.push(format!("{visibility} / {role} / {action}: no pack: {text:?}"));
                }
                if action == "push" && answer.status == 200 && !text.contains(&format!("ok {branch}")) {
                    wrong.push(format!("{visibility} / {role} / {action}: not done: {text:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_one_may_not_see_looks_exactly_like_what_does_not_exist() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/secret", &["main"]).assert_ok();

    let ask = |address: &str, person: &Person| server.send(Request::upload_refs(address, 2).by(person));
    let hidden = ask("anna/secret", &ben);
    let missing = ask("anna/nothing", &ben);

    hidden.assert_status(404);
    missing.assert_status(404);
    let names = |text: String| text.replace("secret", "NAME").replace("nothing", "NAME");
    assert_eq!(names(hidden.text()), names(missing.text()));
    assert_eq!(hidden.headers.len(), missing.headers.len());
}

#[test]
fn a_member_who_is_removed_is_out_with_the_next_request() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    let ask = || server.send(Request::receive_refs("anna/song").by(&ben)).status;
    assert_eq!(ask(), 404);

    server
        .auxin(&["member", "add", "anna/song", "ben", "write"])
        .assert_ok();
    assert_eq!(ask(), 200);
    let members = server
        .auxin(&["member", "list", "anna/song", "--json"])
        .assert_ok()
        .out();
    assert!(members.contains("ben"), "{members}");

    server.auxin(&["member", "remove", "anna/song", "ben"]).assert_ok();
    assert_eq!(ask(), 404);
}

#[test]
fn an_archived_repository_is_read_only_and_says_so() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    server.auxin(&["repo", "archive", "anna/song"]).assert_ok();

    song.write("Song.txt", "la la").commit("Second take");
    let push = song.push("anna/song", &["main"]);

    push.assert_failed();
    assert!(push.err().contains("archived"), "{push:?}");
    anna.clone_repo("anna/song", "copy", &[]);
    server.auxin(&["repo", "unarchive", "anna/song"]).assert_ok();
    song.push("anna/song", &["main"]).assert_ok();
}

#[test]
fn a_deleted_repository_is_gone() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();

    server.auxin(&["repo", "delete", "anna/song", "--yes"]).assert_ok();

    anna.try_clone("anna/song", "copy", &[])
        .assert_refused_with("not found");
    assert!(!server.folder_of("anna/song").exists());
    song.push("anna/song", &["main"]).assert_ok();
}
