//! The server keeps repositories in order by itself, and says so.

use std::path::Path;
use std::time::Duration;

use crate::support::{Prepare, TestServer, process, repositories};

fn packs(bare: &Path) -> usize {
    std::fs::read_dir(bare.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".pack"))
        .count()
}

fn eager() -> Prepare {
    TestServer::prepare()
        .setting("maintenance.min_packs", 4)
        .setting("maintenance.min_free_bytes", 0)
}

#[test]
fn after_some_pushes_the_server_puts_a_repository_in_order_by_itself() {
    let server = eager().setting("git.bundle_uri", true).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let song = anna.new_project("song");
    for number in 0..6 {
        song.write("Song.txt", number.to_string()).commit("Take");
        song.push("anna/song", &["main"]).assert_ok();
    }

    process::wait_until("there is one pack with a bitmap", Duration::from_secs(60), || {
        let shown = server
            .auxin(&["--json", "repo", "show", "anna/song"])
            .assert_ok()
            .json();
        let care = &shown["maintenance"];
        care["packs"] == 1 && care["bitmap"] == true && care["commit_graph"] == true
    });

    server.wait_for_line("Maintenance of anna/song");
    process::wait_until("there is a bundle", Duration::from_secs(60), || {
        let entries = std::fs::read_dir(bare.join("auxin-bundles"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.path())
            .any(|path| path.extension().is_some_and(|end| end == "bundle"))
    });
    repositories::assert_sound(&bare);
    anna.clone_repo("anna/song", "copy", &[]).assert_sound();
    song.write("Song.txt", "more").commit("More");
    song.push("anna/song", &["main"]).assert_ok();
}

#[test]
fn a_server_that_is_told_not_to_leaves_repositories_alone() {
    let server = eager()
        .setting("maintenance.enabled", false)
        .setting("maintenance.check_secs", 1)
        .start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let song = anna.new_project("song");
    for number in 0..6 {
        song.write("Song.txt", number.to_string()).commit("Take");
        song.push("anna/song", &["main"]).assert_ok();
    }

    let told = server.auxin(&["repo", "maintain", "--all", "--dry-run"]);

    told.assert_ok().assert_said("would be put in order");
    assert_eq!(packs(&bare), 6);
}

#[test]
fn an_administrator_can_have_it_done_at_once_beside_the_server() {
    let server = eager().setting("maintenance.enabled", false).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    server.repo("anna/empty");
    repositories::straight_history(&bare, 30);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("more.txt", "more").commit("More");
    copy.push("anna/song", &["main"]).assert_ok();

    let done = server
        .auxin(&["--json", "repo", "maintain", "anna/song"])
        .assert_ok()
        .json();

    assert_eq!(
        (&done["changed"], &done["packs_after"]),
        (&true.into(), &1.into()),
        "{done}"
    );
    assert_eq!(packs(&bare), 1);
    let again = server
        .auxin(&["--json", "repo", "maintain", "--all"])
        .assert_ok()
        .json();
    assert_eq!(again.as_array().map(Vec::len), Some(2), "{again}");
    assert_eq!(again[1]["changed"], false, "{again}");
    let shown = server.auxin(&["repo", "show", "anna/song"]);
    shown.assert_ok().assert_said("with bitmap; 0 objects beside it");
    server.auxin(&["repo", "maintain", "anna/nothing"]).assert_failed();
    server.auxin(&["repo", "maintain"]).assert_failed();
    server.auxin(&["repo", "repack", "anna/song", "--deltas"]).assert_ok();
    repositories::assert_sound(&bare);
    copy.write("later.txt", "later").commit("Later");
    copy.push("anna/song", &["main"]).assert_ok();
    anna.clone_repo("anna/song", "again", &[]).assert_sound();
}

#[test]
fn what_another_repository_borrows_is_not_pruned() {
    let server = eager().setting("maintenance.enabled", false).start();
    server.user("anna");
    let lender = server.repo("anna/song");
    let fork = server.repo("anna/fork");
    repositories::straight_history(&lender, 5);
    let id = repositories::id(&lender, "main");
    std::fs::create_dir_all(fork.join("objects/info")).expect("a folder");
    let line = format!("{}\n", lender.join("objects").display());
    std::fs::write(fork.join("objects/info/alternates"), line).expect("writes");
    repositories::on_disk(&fork, &["update-ref", "refs/heads/main", &id]).assert_ok();
    repositories::on_disk(&lender, &["update-ref", "-d", "refs/heads/main"]).assert_ok();

    let mut command = crate::support::server::auxin_command(server.data(), &["repo", "maintain", "anna/song"]);
    command.env("AUXIN_MAINTENANCE__GRACE_DAYS", "0");
    let done = crate::support::run(&mut command);

    done.assert_ok().assert_said("anna/fork borrows objects from it");
    repositories::assert_sound(&fork);
}

#[test]
fn a_full_disk_keeps_maintenance_away_and_is_told() {
    let server = eager().setting("maintenance.min_free_bytes", 1_u64 << 50).start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    for number in 0..5 {
        song.write("Song.txt", number.to_string()).commit("Take");
        song.push("anna/song", &["main"]).assert_ok();
    }

    server.wait_for_line("maintenance.min_free_bytes");

    assert_eq!(packs(&server.folder_of("anna/song")), 5);
    song.write("Song.txt", "still").commit("Still");
    song.push("anna/song", &["main"]).assert_ok();
}
