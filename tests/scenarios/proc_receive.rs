//! Pushes for review: a hook takes `refs/for/…` and makes something of it.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{TestServer, repositories};

/// Puts what is pushed to `refs/for/BRANCH` on `refs/pull/1/head`; changes of `main` it leaves to the
/// server.
const HOOK: &str = r#"#!/usr/bin/env python3
import subprocess, sys

def read():
    lines = []
    while True:
        length = int(sys.stdin.buffer.read(4), 16)
        if length == 0:
            return lines
        lines.append(sys.stdin.buffer.read(length - 4).decode().strip())

def say(*lines):
    for line in lines:
        sys.stdout.buffer.write(b"%04x" % (len(line) + 4) + line.encode())
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()

read()
say("version=1")
answer = []
for line in read():
    old, new, name = line.split(" ")
    if name.startswith("refs/for/"):
        review = "refs/pull/1/head"
        subprocess.check_call(["git", "update-ref", review, new])
        answer += ["ok " + name, "option refname " + review, "option new-oid " + new]
        print("Review it at pull 1.", file=sys.stderr)
    else:
        answer += ["ok " + name, "option fall-through"]
say(*answer)
"#;

#[test]
fn a_push_for_review_lands_where_the_hook_says_and_the_client_is_told() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    let hook = bare.join("hooks/proc-receive");
    std::fs::create_dir_all(bare.join("hooks")).expect("a folder");
    std::fs::write(&hook, HOOK).expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    for value in ["refs/for", "m:refs/heads"] {
        repositories::on_disk(&bare, &["config", "--add", "receive.procReceiveRefs", value]).assert_ok();
    }
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    let before = repositories::id(&bare, "main");
    copy.write("late.txt", "late").commit("Late");
    let id = copy.id("main");

    let push = copy.push("anna/song", &["--porcelain", "main:refs/for/main"]);

    push.assert_ok().assert_said("main:refs/pull/1/head");
    assert!(
        push.remote_lines().contains(&"Review it at pull 1.".to_owned()),
        "{push:?}"
    );
    assert_eq!(repositories::id(&bare, "refs/pull/1/head"), id);
    assert_eq!(repositories::id(&bare, "main"), before);

    copy.push("anna/song", &["main", "main:refs/heads/new"]).assert_ok();
    assert_eq!(repositories::id(&bare, "main"), id);
    assert_eq!(repositories::id(&bare, "new"), id);
    repositories::assert_sound(&bare);
}
