//! Names of people and repositories, and what becomes of an old name.

use crate::support::{Request, TestServer};

#[test]
fn a_renamed_repository_answers_at_its_old_name_to_fetch_and_push() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);

    server.auxin(&["repo", "rename", "anna/song", "anna/tune"]).assert_ok();

    copy.git(&["fetch", "origin"]).assert_ok();
    copy.write("Song.txt", "la la").commit("Second take");
    copy.git(&["push", "origin", "main"]).assert_ok();
    anna.clone_repo("anna/song", "old-name", &[]);
    let tune = anna.clone_repo("anna/tune", "new-name", &[]);
    assert_eq!(tune.id("HEAD"), copy.id("HEAD"));
    assert!(!anna.kept_passwords().is_empty(), "the password was lost on the way");
}

#[test]
fn an_old_name_that_is_used_again_leads_to_the_new_repository() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    server.auxin(&["repo", "rename", "anna/song", "anna/tune"]).assert_ok();

    server.auxin(&["repo", "create", "anna/song"]).assert_ok();
    let other = anna.new_project("other");
    other.write("Other.txt", "lo").commit("Other take");
    other.push("anna/song", &["main"]).assert_ok();

    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert!(copy.folder.join("Other.txt").exists());
    let tune = anna.clone_repo("anna/tune", "tune", &[]);
    assert!(tune.folder.join("Song.txt").exists());
}

#[test]
fn an_old_name_tells_a_stranger_nothing() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    server.auxin(&["repo", "rename", "anna/song", "anna/tune"]).assert_ok();

    server.send(Request::upload_refs("anna/song", 2)).assert_status(401);
    server
        .send(Request::upload_refs("anna/song", 2).by(&ben))
        .assert_status(404);
}

#[test]
fn names_that_could_mean_something_else_are_refused_everywhere() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    for name in [
        "..",
        ".",
        ".git",
        "song.lock",
        "-song",
        "so ng",
        "so\\ng",
        "CON",
        "song.",
        "a~1",
        "a^b",
        "a:b",
        "a?b",
        "sö\u{301}ng",
        "\u{202e}gnos",
    ] {
        let made = server.auxin(&["repo", "create", "--", &format!("anna/{name}")]);
        made.assert_failed();
    }
    for owner in ["..", "-", "api", "admin/../anna", ".git", "a b", "-x"] {
        let made = server.auxin_with_input(&["user", "add", "--password-stdin", "--", owner], b"some words here\n");
        made.assert_failed();
    }
    let repos: Vec<_> = std::fs::read_dir(server.data().join("repos"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(repos.len() <= 1, "{repos:?}");
}

#[test]
fn paths_are_decoded_once_and_then_parsed() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    let tail = "/info/refs?service=git-upload-pack";
    for path in [
        "/anna/%2e%2e%2fanna/song.git",
        "/anna/..%2fanna%2fsong.git",
        "/anna/song%00.git",
        "/anna/song%2500.git",
        "/anna/../anna/song.git",
        "/anna/song.git/../song.git",
        "/anna\\song.git",
        "/anna/song.git.git",
        "/anna/%ff%fe.git",
        "/anna/%zz.git",
    ] {
        let answer = server.send(Request::get(&format!("{path}{tail}")).by(&anna));
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    let long = "x".repeat(5000);
    let answer = server.send(Request::get(&format!("/anna/{long}.git{tail}")).by(&anna));
    assert!([400, 404, 414].contains(&answer.status), "{answer:?}");
    server
        .send(Request::upload_refs("anna/song", 2).by(&anna))
        .assert_status(200);
}

#[test]
fn upper_and_lower_case_name_the_same_person_and_repository() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/Song", &["main"]).assert_ok();

    anna.clone_repo("anna/song", "copy", &[]);
    server.auxin(&["repo", "create", "Anna/SONG"]).assert_failed();
    server
        .auxin_with_input(&["user", "add", "ANNA", "--password-stdin"], b"some words here\n")
        .assert_failed();
}
