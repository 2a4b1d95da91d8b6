//! Hooks on the server's disk: they run as git runs them, once an administrator trusts them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Person, Prepare, TestServer, WorkTree, repositories};

fn write_hook(bare: &Path, name: &str, script: &str) {
    let hooks = bare.join("hooks");
    std::fs::create_dir_all(&hooks).expect("a folder");
    let path = hooks.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// A repository whose hooks are trusted, and a project with one commit more than it.
fn song(prepare: Prepare) -> (TestServer, Person, PathBuf, WorkTree) {
    let server = prepare.start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("late.txt", "late").commit("Late");
    (server, anna, bare, copy)
}

#[test]
fn all_hooks_run_in_gits_order_with_gits_words_and_environment() {
    let (_server, _anna, bare, copy) = song(TestServer::prepare());
    let log = bare.join("log");
    let log = log.display();
    for name in ["pre-receive", "post-receive"] {
        write_hook(
            &bare,
            name,
            &format!("read line; echo \"{name} $line $GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0\" >>'{log}'"),
        );
    }
    write_hook(&bare, "update", &format!("echo \"update $1 $2 $3\" >>'{log}'"));
    write_hook(&bare, "post-update", &format!("echo \"post-update $1\" >>'{log}'"));
    write_hook(
        &bare,
        "reference-transaction",
        &format!("read line; echo \"transaction $1 $line\" >>'{log}'"),
    );
    repositories::on_disk(&bare, &["config", "receive.advertisePushOptions", "true"]).assert_ok();
    let (old, new) = (copy.id("main~1"), copy.id("main"));

    copy.push("anna/song", &["--push-option=mood=blue", "main"]).assert_ok();

    let logged = std::fs::read_to_string(bare.join("log")).expect("the hooks ran");
    let lines: Vec<&str> = logged.lines().collect();
    let main = "refs/heads/main";
    assert_eq!(
        lines,
        [
            format!("pre-receive {old} {new} {main} 1 mood=blue"),
            format!("update {main} {old} {new}"),
            format!("transaction prepared {old} {new} {main}"),
            format!("transaction committed {old} {new} {main}"),
            format!("post-receive {old} {new} {main} 1 mood=blue"),
            format!("post-update {main}"),
        ],
        "{logged}"
    );
}

#[test]
fn what_a_hook_says_reaches_the_person_and_its_no_counts() {
    let (_server, _anna, bare, copy) = song(TestServer::prepare());
    let before = repositories::refs(&bare);
    write_hook(
        &bare,
        "pre-receive",
        "echo 'The mix is frozen until Friday.' >&2; exit 1",
    );

    let push = copy.push("anna/song", &["main"]);

    push.assert_refused_with("pre-receive hook declined");
    assert!(
        push.remote_lines()
            .iter()
            .any(|line| line == "The mix is frozen until Friday."),
        "{push:?}"
    );
    assert_eq!(repositories::refs(&bare), before);

    std::fs::remove_file(bare.join("hooks/pre-receive")).expect("a file");
    write_hook(&bare, "update", "[ \"$1\" != refs/heads/main ] || exit 1");
    let push = copy.push("anna/song", &["main", "main:other"]);
    push.assert_refused_with("hook declined");
    assert_eq!(repositories::id(&bare, "refs/heads/other"), copy.id("main"));
    assert_ne!(repositories::id(&bare, "refs/heads/main"), copy.id("main"));
}

#[test]
fn a_hook_sees_the_new_objects_before_they_are_the_repositorys() {
    let (_server, _anna, bare, copy) = song(TestServer::prepare());
    write_hook(
        &bare,
        "pre-receive",
        "read old new name; git cat-file -p $new >&2; git rev-list $old..$new >&2; exit 1",
    );

    let push = copy.push("anna/song", &["main"]);

    push.assert_failed().assert_said("Late").assert_said(&copy.id("main"));
    repositories::on_disk(&bare, &["cat-file", "-e", &copy.id("main")]).assert_failed();
}

#[test]
fn a_hook_that_does_not_end_is_ended_and_so_is_one_that_talks_too_much() {
    let prepare = TestServer::prepare()
        .setting("git.hook_timeout_secs", 1)
        .setting("git.max_hook_output_bytes", 10_000);
    let (server, _anna, bare, copy) = song(prepare);
    write_hook(&bare, "pre-receive", "sleep 600");
    copy.push("anna/song", &["main"]).assert_failed();

    write_hook(&bare, "pre-receive", "yes la la la >&2");
    let push = copy.push("anna/song", &["main"]);
    push.assert_failed();
    assert!(push.stderr.len() < 200_000, "{} bytes", push.stderr.len());

    std::fs::remove_file(bare.join("hooks/pre-receive")).expect("a file");
    copy.push("anna/song", &["main"]).assert_ok();
    drop(server);
}

#[test]
fn escapes_that_a_hook_prints_do_not_reach_the_terminal() {
    let (_server, _anna, bare, copy) = song(TestServer::prepare());
    write_hook(
        &bare,
        "post-receive",
        "printf 'one\\033]0;title\\007two\\033[31mred\\n' >&2",
    );

    let push = copy.push("anna/song", &["main"]);

    push.assert_ok();
    assert!(!push.stderr.windows(2).any(|pair| pair == b"\x1b]"), "{push:?}");
    assert!(!push.stderr.contains(&7), "{push:?}");
}

#[test]
fn an_adopted_repository_runs_and_obeys_nothing_it_brought_along_until_it_is_trusted() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let outside = server.scratch().join("old.git");
    repositories::init(&outside);
    repositories::straight_history(&outside, 3);
    let (mark, other_mark) = (server.scratch().join("mark"), server.scratch().join("other-mark"));
    // Its own hook, hooks elsewhere, and rules in a file that it includes.
    write_hook(&outside, "pre-receive", &format!("touch '{}'", mark.display()));
    let elsewhere = server.scratch().join("elsewhere");
    write_hook(&elsewhere, "post-receive", &format!("touch '{}'", other_mark.display()));
    let hooks_elsewhere = elsewhere.join("hooks").display().to_string();
    let rules = server.scratch().join("rules");
    std::fs::write(&rules, "[receive]\n\tdenyNonFastForwards = true\n").expect("a file");
    let rules = rules.display().to_string();
    repositories::on_disk(&outside, &["config", "include.path", &rules]).assert_ok();
    let from = outside.display().to_string();

    server.auxin(&["repo", "adopt", "anna/song", &from]).assert_ok();
    let bare = server.folder_of("anna/song");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    let force = |text: &str| {
        copy.git(&["commit", "--quiet", "--amend", "--allow-empty", "-m", text])
            .assert_ok();
        copy.push("anna/song", &["--force", "main"])
    };

    force("One").assert_ok();
    assert!(!mark.exists(), "a hook ran that nobody trusts");
    repositories::on_disk(&bare, &["config", "core.hooksPath", &hooks_elsewhere]).assert_ok();
    force("Two").assert_ok();
    assert!(!other_mark.exists(), "a hook ran that nobody trusts");

    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    force("Three").assert_refused_with("non-fast-forward");
    copy.push("anna/song", &["main:other"]).assert_ok();
    assert!(
        other_mark.exists(),
        "core.hooksPath is not followed though it is trusted"
    );
    repositories::on_disk(&bare, &["config", "--unset", "core.hooksPath"]).assert_ok();
    copy.push("anna/song", &["main:another"]).assert_ok();
    assert!(mark.exists(), "its own hook does not run though it is trusted");
}

#[test]
fn hooks_that_came_with_a_repository_do_not_run_until_an_administrator_says_so() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let outside = server.scratch().join("old.git");
    repositories::init(&outside);
    repositories::straight_history(&outside, 3);
    let mark = server.scratch().join("mark");
    let touch = format!("touch '{}'", mark.display());
    write_hook(&outside, "pre-receive", &touch);
    let evil = server.scratch().join("evil-hooks");
    std::fs::create_dir_all(&evil).expect("a folder");
    write_hook(&evil, "../post-receive", &touch);
    let evil_path = evil.display().to_string();
    repositories::on_disk(&outside, &["config", "core.hooksPath", &evil_path]).assert_ok();
    let from = outside.display().to_string();

    server.auxin(&["repo", "import", "anna/song", &from]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("late.txt", "late").commit("Late");
    copy.push("anna/song", &["main"]).assert_ok();

    assert!(!mark.exists(), "an unknown hook ran");
}
