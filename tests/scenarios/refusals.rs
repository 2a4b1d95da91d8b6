//! What is refused after the first answer: the person reads the sentence in the terminal.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{GitProgram, Person, TestServer, process, repositories};

/// Every stock git, at a computer of the same person.
fn computers(person: &Person) -> Vec<Person> {
    GitProgram::all().iter().map(|git| person.with_git(git)).collect()
}

#[test]
fn a_fetch_that_asks_for_too_much_is_told_what_the_limit_is() {
    let server = TestServer::prepare().setting("git.max_request_bytes", 1024).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let mut import = repositories::Import::default();
    for number in 0..100 {
        import.commit(
            &format!("refs/heads/take-{number}"),
            &[],
            &[("take", format!("{number}").as_bytes())],
        );
    }
    import.write_to(&bare);

    for anna in computers(&anna) {
        for version in ["0", "2"] {
            let config = format!("protocol.version={version}");
            let fetch = ["-c", &config, "clone", &anna.url("anna/song"), "copy"];
            anna.git(&fetch)
                .assert_refused_with("The request is longer than 1024 bytes, which is this server's limit");
        }
    }
}

#[test]
fn a_push_to_a_busy_server_is_told_so_and_when_to_try_again() {
    let server = TestServer::prepare()
        .setting("git.max_pushes", 1)
        .setting("git.max_waiting", 0)
        .start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    let (began, go_on) = (bare.join("began"), bare.join("go-on"));
    let hook = bare.join("hooks/pre-receive");
    std::fs::create_dir_all(bare.join("hooks")).expect("a folder");
    std::fs::write(
        &hook,
        "#!/bin/sh\ntouch began\nfor _ in $(seq 500); do [ -e go-on ] && exit 0; sleep 0.1; done\n",
    )
    .expect("a file");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let song = anna.clone_repo("anna/song", "song", &[]);
    song.write("late.txt", "late").commit("Late");

    std::thread::scope(|scope| {
        let first = scope.spawn(|| song.push("anna/song", &["main:one"]));
        process::wait_until("the first push is at work", Duration::from_secs(60), || began.exists());
        for anna in computers(&anna) {
            let copy = anna.clone_repo("anna/song", "busy", &[]);
            copy.write("later.txt", "later").commit("Later");

            let refused = copy.push("anna/song", &["main:two"]);

            refused.assert_failed();
            let said = refused.remote_lines();
            assert!(
                said.contains(&"The server is busy with other transfers. Try again in 10 seconds.".to_owned()),
                "{refused:?}"
            );
        }
        std::fs::write(&go_on, "").expect("a file");
        first.join().expect("git ran").assert_ok();
    });
    repositories::on_disk(&bare, &["rev-parse", "--verify", "refs/heads/two"]).assert_failed();
}
