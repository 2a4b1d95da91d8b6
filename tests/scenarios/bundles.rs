//! Clones that begin with a bundle which lies ready on the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::repositories::{self, Import};
use crate::support::{Person, Prepare, TestServer, noise, process, run};

/// Noise in the first commit; the second one is small.
const FIRST_BYTES: usize = 300_000;

fn song(prepare: Prepare) -> (TestServer, Person, PathBuf) {
    let prepare = prepare.setting("log.format", "json");
    let server = prepare.setting("git.bundle_uri", true).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let mut import = Import::default();
    import.commit("refs/heads/main", &[], &[("vox.wav", &noise(1, FIRST_BYTES))]);
    import.write_to(&bare);
    (server, anna, bare)
}

fn commit_on_disk(bare: &Path) {
    let tree = repositories::id(bare, "main^{tree}");
    let commit = repositories::ask(bare, &["commit-tree", "-p", "main", "-m", "More", &tree]);
    repositories::on_disk(bare, &["update-ref", "refs/heads/main", &commit]).assert_ok();
}

/// What a clone sent and got, as git traces it.
fn traced_clone(anna: &Person, folder: &str) -> String {
    let trace = anna.home().join(format!("{folder}.trace"));
    let url = anna.url("anna/song");
    let mut command = anna.command_in(
        anna.home(),
        &[
            "-c",
            "transfer.bundleURI=true",
            "-c",
            "protocol.version=2",
            "clone",
            "--quiet",
            &url,
            folder,
        ],
    );
    command.env("GIT_TRACE_CURL", &trace).env("GIT_TRACE_CURL_NO_DATA", "1");
    run(&mut command).assert_ok();
    std::fs::read_to_string(trace).expect("traced")
}

/// The lengths of all answers of one route so far, from the server's log.
fn answered_bytes(server: &TestServer, route: &str) -> Vec<u64> {
    let printed = server.printed();
    printed
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["route"] == route && line["status"] == 200)
        .filter_map(|line| line["bytes_out"].as_u64())
        .collect()
}

/// Waits until the server has logged a long answer of a route: lines may come after answers.
fn wait_for_long_answer(server: &TestServer, route: &str) {
    process::wait_until("a long answer is logged", Duration::from_secs(60), || {
        answered_bytes(server, route)
            .iter()
            .any(|&bytes| bytes > FIRST_BYTES as u64)
    });
}

#[test]
fn a_private_clone_gets_the_bundle_with_its_password_and_fetches_only_the_rest() {
    let (server, anna, bare) = song(TestServer::prepare());
    server
        .auxin(&["repo", "bundle", "anna/song"])
        .assert_ok()
        .assert_said("Made a bundle");
    server
        .auxin(&["repo", "bundle", "anna/song"])
        .assert_ok()
        .assert_said("up to date");
    commit_on_disk(&bare);

    let trace = traced_clone(&anna, "copy");

    assert!(trace.contains("/-/bundles/anna/song/"), "the bundle was not asked for");
    let copy = anna.project("copy");
    copy.assert_sound();
    assert_eq!(copy.id("main"), repositories::id(&bare, "main"));
    wait_for_long_answer(&server, "bundle");
    // Who does not ask for it gets everything as ever.
    anna.clone_repo("anna/song", "plain", &[]).assert_sound();
    wait_for_long_answer(&server, "git-upload-pack");
    let fetched = answered_bytes(&server, "git-upload-pack");
    assert_eq!(
        fetched.iter().filter(|&&bytes| bytes > 10_000).count(),
        1,
        "{fetched:?}"
    );
}

#[test]
fn a_clone_does_without_a_bundle_that_is_gone_or_says_too_much() {
    let (server, anna, bare) = song(TestServer::prepare());
    traced_clone(&anna, "none");
    repositories::on_disk(&bare, &["update-ref", "refs/heads/secret", "main"]).assert_ok();
    commit_on_disk(&bare);
    repositories::on_disk(&bare, &["update-ref", "refs/heads/secret", "main"]).assert_ok();
    repositories::on_disk(&bare, &["update-ref", "refs/heads/main", "main~1"]).assert_ok();
    server.auxin(&["repo", "bundle", "anna/song"]).assert_ok();
    repositories::on_disk(&bare, &["config", "transfer.hideRefs", "refs/heads/secret"]).assert_ok();

    let trace = traced_clone(&anna, "copy");

    assert!(
        !trace.contains("/-/bundles/"),
        "a bundle with a hidden commit was offered"
    );
    anna.project("copy").assert_sound();
}
