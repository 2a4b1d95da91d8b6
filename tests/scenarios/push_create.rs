//! A push into nothing makes a repository.

use crate::support::repositories;
use crate::support::{Request, TestServer};

#[test]
fn a_push_to_a_repository_that_does_not_exist_creates_it_for_its_owner_alone() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.write("Song.txt", "la la la").commit("First take");

    song.push("anna/song", &["main"]).assert_ok();

    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert_eq!(copy.id("HEAD"), song.id("HEAD"));
    assert_eq!(copy.ask(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    ben.try_clone("anna/song", "copy", &[]).assert_failed();
    server.stranger().try_clone("anna/song", "copy", &[]).assert_failed();
    repositories::assert_sound(&server.folder_of("anna/song"));
}

#[test]
fn asking_for_the_refs_of_a_repository_that_does_not_exist_creates_nothing() {
    let server = TestServer::start();
    let anna = server.user("anna");

    let refs = server.send(Request::receive_refs("anna/song").by(&anna));
    // Large pushes ask this first, to find out whether the password is right.
    let probe = server.send(Request::receive_pack("anna/song", *b"0000").by(&anna));

    refs.assert_status(200);
    assert!(refs.text().contains("capabilities^{}"), "{refs:?}");
    probe.assert_status(200);
    let listed = server.auxin(&["repo", "list", "--json"]).assert_ok().out();
    assert!(!listed.contains("song"), "{listed}");
    assert!(!server.folder_of("anna/song").exists());
}

#[test]
fn a_fetch_from_a_repository_that_does_not_exist_creates_nothing() {
    let server = TestServer::start();
    let anna = server.user("anna");

    anna.try_clone("anna/song", "copy", &[])
        .assert_refused_with("not found");

    assert!(!server.folder_of("anna/song").exists());
}

#[test]
fn a_push_that_is_refused_leaves_no_repository_behind() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let missing = "1111111111111111111111111111111111111111";
    let command = format!("{} {missing} refs/heads/main\0 report-status", "0".repeat(40));
    let mut body = crate::support::wire::data(command.as_bytes());
    body.extend(b"0000this is no pack at all");

    let answer = server.send(Request::receive_pack("anna/song", body).by(&anna));

    answer.assert_status(200);
    let listed = server.auxin(&["repo", "list", "--json"]).assert_ok().out();
    assert!(!listed.contains("song"), "{listed}");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
}

#[test]
fn head_names_main_before_master_before_whatever_comes_first() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    for branch in ["master", "alpha", "zulu"] {
        song.git(&["branch", branch]).assert_ok();
    }
    let head = |address: &str| repositories::ask(&server.folder_of(address), &["symbolic-ref", "HEAD"]);

    song.push("anna/one", &["alpha", "master", "main"]).assert_ok();
    song.push("anna/two", &["alpha", "master"]).assert_ok();
    song.push("anna/three", &["zulu", "alpha"]).assert_ok();
    song.push("anna/four", &["main"]).assert_ok();

    assert_eq!(head("anna/one"), "refs/heads/main");
    assert_eq!(head("anna/two"), "refs/heads/master");
    assert!(
        ["refs/heads/alpha", "refs/heads/zulu"].contains(&head("anna/three").as_str()),
        "{}",
        head("anna/three")
    );
    assert_eq!(head("anna/four"), "refs/heads/main");
    let copy = anna.clone_repo("anna/three", "copy", &[]);
    assert_eq!(copy.id("HEAD"), song.id("HEAD"));
}

#[test]
fn a_push_of_tags_alone_creates_the_repository_and_a_later_branch_becomes_head() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.git(&["tag", "-a", "-m", "Mix 1", "mix-1"]).assert_ok();
    song.git(&["branch", "solo"]).assert_ok();

    song.push("anna/song", &["refs/tags/mix-1"]).assert_ok();
    song.push("anna/song", &["solo"]).assert_ok();

    let bare = server.folder_of("anna/song");
    assert_eq!(repositories::ask(&bare, &["symbolic-ref", "HEAD"]), "refs/heads/solo");
}

#[test]
fn a_push_into_anothers_space_is_refused_with_the_way_out() {
    let server = TestServer::start();
    let (anna, _ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    let push = song.push("ben/song", &["main"]);

    push.assert_failed();
    let said = push.remote_lines().join("\n");
    assert!(said.contains("anna/"), "names no way out: {said:?}\n{push:?}");
    assert!(!server.folder_of("ben/song").exists());
}

#[test]
fn with_the_setting_off_a_push_creates_nothing_and_hears_how_to_make_a_repository() {
    let server = TestServer::prepare().setting("repo.create_on_push", false).start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    let push = song.push("anna/song", &["main"]);

    push.assert_failed();
    let said = push.remote_lines().join("\n");
    assert!(
        said.contains("auxin repo create anna/song"),
        "names no way out: {said:?}\n{push:?}"
    );
    server.auxin(&["repo", "create", "anna/song"]).assert_ok();
    song.push("anna/song", &["main"]).assert_ok();
}

#[test]
fn a_repository_made_by_a_push_can_be_public_if_the_setting_says_so() {
    let server = TestServer::prepare()
        .setting("repo.default_visibility", "public")
        .start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    song.push("anna/song", &["main"]).assert_ok();

    server.stranger().clone_repo("anna/song", "copy", &[]);
}

#[test]
fn two_first_pushes_at_once_make_one_repository() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.git(&["branch", "solo"]).assert_ok();

    let outcomes = std::thread::scope(|scope| {
        let pushes = ["main", "solo"].map(|branch| {
            let song = &song;
            scope.spawn(move || song.push("anna/song", &[branch]))
        });
        pushes.map(|push| push.join().expect("no panic"))
    });

    for outcome in &outcomes {
        outcome.assert_ok();
    }
    let bare = server.folder_of("anna/song");
    assert_eq!(repositories::refs(&bare).len(), 2);
    repositories::assert_sound(&bare);
}
