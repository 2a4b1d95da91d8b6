//! How a server ends that has work left which does not.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::support::server::auxin_command;
use crate::support::{TestServer, process, repositories, run};

#[test]
fn a_hook_that_does_not_end_keeps_neither_the_server_from_ending_nor_gives_its_folder_away_before() {
    let mut server = TestServer::prepare().setting("server.drain_secs", 0).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    let hook = bare.join("hooks/post-receive");
    std::fs::create_dir_all(bare.join("hooks")).expect("a folder");
    std::fs::write(
        &hook,
        "#!/bin/sh\ntouch began\nfor _ in $(seq 50); do [ -e go-on ] && exit 0; sleep 1; done\ntouch ended\n",
    )
    .expect("a file");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let song = anna.clone_repo("anna/song", "song", &[]);
    song.write("late.txt", "late").commit("Late");

    std::thread::scope(|scope| {
        let push = scope.spawn(|| song.push("anna/song", &["main"]));
        process::wait_until("the hook runs", Duration::from_secs(60), || bare.join("began").exists());
        server.ask_to_end();
        server.wait_for_line("Transfers are still running");
        let mut second = Command::new("timeout");
        let serve = auxin_command(server.data(), &["serve", "--listen", "127.0.0.1:0"]);
        second.arg("30").arg(serve.get_program()).args(serve.get_args());

        run(&mut second).assert_refused_with(&format!("is being served by process {}", server.pid()));

        assert_eq!(server.wait_for_end(), Some(0));
        assert!(!bare.join("ended").exists(), "the server waited for the hook");
        std::fs::write(bare.join("go-on"), "").expect("a file");
        drop(push.join());
    });
    server.start_again();
    assert_eq!(
        repositories::id(&bare, "main"),
        song.id("main"),
        "it was moved before the hook ran"
    );
}
