//! Pushes: what they make, what their rows say, and what is refused.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use auxin::config::GitSettings;
use auxin::db::{By, ProtectedBranch, PushRow, PushState, RefChange, Visibility};
use auxin::ids::{GitId, RepoId, TokenId};
use auxin::names::{OwnerName, RepoAddress};
use auxin::service::{Role, Scope, TokenRequest};

use super::support::{PASSWORD, Server, basic, git, git_ok, with_song};

const RECEIVE: &str = "git-receive-pack HTTP/1.1\nContent-Type: application/x-git-receive-pack-request";

/// The address of a repository with a name and the password in it.
fn url(server: &Server, user: &str, repo: &str) -> String {
    format!("http://{user}:a%20long%3A%20pass%40word@{}/{repo}.git", server.address)
}

/// A repository of one's own with one commit on `branch`.
fn work(server: &Server, name: &str, branch: &str) -> PathBuf {
    let work = server.work().join(name);
    std::fs::create_dir(&work).expect("a folder");
    git_ok(&work, &["init", "-q", "-b", branch]);
    commit(&work, "First take");
    work
}

fn commit(work: &std::path::Path, text: &str) -> String {
    std::fs::write(work.join("song.txt"), text).expect("written");
    git_ok(work, &["add", "."]);
    git_ok(work, &["commit", "-q", "-m", text]);
    git_ok(work, &["rev-parse", "HEAD"])
}

/// Pushes and wants it refused; what git says.
fn refused(work: &std::path::Path, args: &[&str]) -> String {
    let output = git(work, &[&["push"], args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{stderr}");
    stderr
}

fn exists(server: &Server, address: &str) -> bool {
    let address: RepoAddress = address.parse().expect("an address");
    let found = server
        .run(server.app.db.find_repo(&address, None))
        .expect("the database");
    found.is_some() || server.repo_path(&address.to_string()).exists()
}

fn id_of(server: &Server, address: &str) -> RepoId {
    let address: RepoAddress = address.parse().expect("an address");
    let found = server
        .run(server.app.db.find_repo(&address, None))
        .expect("the database");
    found.expect("it exists").repo.id
}

fn name(text: &str) -> OwnerName {
    text.parse().expect("a name")
}

fn write_hook(bare: &std::path::Path, name: &str, script: &str) {
    let hook = bare.join("hooks").join(name);
    std::fs::create_dir_all(bare.join("hooks")).expect("a folder");
    std::fs::write(&hook, format!("#!/bin/sh\n{script}\n")).expect("a file");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// An id from how git prints it.
fn git_id(hex: &str) -> Option<GitId> {
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex"))
        .collect();
    GitId::from_bytes(&bytes).expect("an id")
}

/// Refs of a push, and whether they moved.
type Moves = Vec<(String, Option<bool>)>;

/// All pushes, oldest first, with their refs.
fn rows(server: &Server, address: &str) -> Vec<(PushRow, Moves)> {
    let db = &server.app.db;
    let id = id_of(server, address);
    server.run(async {
        let mut rows = Vec::new();
        for row in db.list_pushes(id, None, 100).await.expect("the database").rows {
            let refs = db.push_refs(row.id, None, 1000).await.expect("the database");
            let refs = refs
                .into_iter()
                .map(|found| (String::from_utf8(found.name).expect("utf-8"), found.applied))
                .collect();
            rows.insert(0, (row, refs));
        }
        rows
    })
}

#[test]
fn a_first_push_makes_a_private_repository_and_looking_makes_none() {
    let server = Server::start();
    server.user("anna", false);
    let refs = format!(
        "GET /anna/song.git/info/refs?service=git-receive-pack HTTP/1.1\n{}",
        basic("anna", PASSWORD)
    );
    let looked = server.ask(&refs, b"");
    assert_eq!(looked.status, 200);
    assert!(looked.text().contains("capabilities^{}"), "{}", looked.text());
    let probe = format!(
        "POST /anna/song.git/{RECEIVE}\nContent-Length: 4\n{}",
        basic("anna", PASSWORD)
    );
    assert_eq!(server.ask(&probe, b"0000").status, 200);
    assert!(!exists(&server, "anna/song"));

    let work = work(&server, "work", "main");
    let pushed = git(&work, &["push", &url(&server, "anna", "anna/song"), "main"]);
    let said = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(pushed.status.success(), "{said}");
    assert!(
        said.contains("remote: Made the private repository anna/song."),
        "{said}"
    );

    assert_eq!(
        git_ok(
            &work,
            &["ls-remote", "--symref", &url(&server, "anna", "anna/song"), "HEAD"]
        )
        .lines()
        .next(),
        Some("ref: refs/heads/main\tHEAD")
    );
    let stranger = server.get("/anna/song.git/info/refs?service=git-upload-pack");
    assert_eq!(stranger.status, 401);
}

#[test]
fn two_first_pushes_at_once_make_one_repository() {
    let server = Server::start();
    server.user("anna", false);
    let work = work(&server, "work", "main");
    let branches: Vec<String> = (0..6).map(|at| format!("branch-{at}")).collect();
    let url = url(&server, "anna", "anna/song");
    std::thread::scope(|scope| {
        for branch in &branches {
            let target = format!("main:refs/heads/{branch}");
            let (work, url) = (&work, &url);
            scope.spawn(move || git_ok(work, &["push", "-q", url, &target]));
        }
    });

    let refs = git_ok(&work, &["ls-remote", "--heads", &url]);
    assert_eq!(refs.lines().count(), branches.len(), "{refs}");
    assert_eq!(rows(&server, "anna/song").len(), branches.len());
}

#[test]
fn head_names_main_else_master_else_the_first_branch_pushed() {
    let server = Server::start();
    server.user("anna", false);
    let work = work(&server, "work", "solo");
    for branch in ["main", "master", "aaa"] {
        git_ok(&work, &["branch", branch]);
    }
    for (repo, pushed, head) in [
        ("one", &["solo", "master", "main"][..], "main"),
        ("two", &["solo", "aaa", "master"], "master"),
        ("three", &["solo", "aaa"], "solo"),
    ] {
        let url = url(&server, "anna", &format!("anna/{repo}"));
        git_ok(&work, &[&["push", "-q", &url], pushed].concat());
        let symref = git_ok(&work, &["ls-remote", "--symref", &url, "HEAD"]);
        assert_eq!(
            symref.lines().next(),
            Some(format!("ref: refs/heads/{head}\tHEAD").as_str()),
            "{repo}"
        );
    }
    // Once there is a branch, HEAD stays with whatever it was given.
    let url = url(&server, "anna", "anna/three");
    git_ok(&work, &["push", "-q", &url, "main"]);
    assert!(git_ok(&work, &["ls-remote", "--symref", &url, "HEAD"]).starts_with("ref: refs/heads/solo"));
}

#[test]
fn of_first_pushes_at_once_one_names_head() {
    let server = Server::start();
    server.user("anna", false);
    let id = server.repo("anna/song", Visibility::Private);
    let trusted = server.app.db.set_trust_hooks(id, true, By::Command);
    server.run(trusted).expect("the database");
    let bare = server.repo_path("anna/song");
    // Each push has moved its branch before either of them goes on.
    write_hook(
        &bare,
        "reference-transaction",
        "[ \"$1\" = committed ] || exit 0\n\
         for _ in $(seq 600); do [ -e refs/heads/one ] && [ -e refs/heads/two ] && exit 0; sleep 0.1; done",
    );
    let work = work(&server, "work", "main");
    let url = url(&server, "anna", "anna/song");

    let said: Vec<String> = std::thread::scope(|scope| {
        let pushes = ["one", "two"].map(|branch| {
            let (work, url) = (&work, &url);
            scope.spawn(move || git(work, &["push", url, &format!("main:refs/heads/{branch}")]))
        });
        let told = pushes.map(|push| String::from_utf8_lossy(&push.join().expect("git ran").stderr).into_owned());
        told.to_vec()
    });

    let head = git_ok(&bare, &["rev-parse", "--symbolic-full-name", "HEAD"]);
    assert!(["refs/heads/one", "refs/heads/two"].contains(&head.as_str()), "{head}");
    let told: Vec<_> = said
        .iter()
        .filter(|said| said.contains("The default branch is now"))
        .collect();
    assert_eq!(told.len(), 1, "{said:?}");
}

#[test]
fn first_pushes_that_the_last_run_left_open_name_head_too() {
    let server = Server::start();
    server.user("anna", false);
    let id = server.repo("anna/song", Visibility::Private);
    let work = work(&server, "work", "main");
    let bare = server.repo_path("anna/song");
    let new = git_id(&git_ok(&work, &["rev-parse", "main"]));
    for branch in ["one", "two"] {
        let name = format!("refs/heads/{branch}");
        let change = RefChange {
            name: name.clone().into_bytes(),
            old: None,
            new,
        };
        server.begin_open_push(id, vec![change]);
        git_ok(
            &work,
            &["push", "-q", bare.to_str().expect("utf-8"), &format!("main:{name}")],
        );
    }

    let server = server.restart();
    // Answered after what was left open is settled.
    assert_eq!(server.get("/livez").status, 200);

    let head = git_ok(&server.repo_path("anna/song"), &["symbolic-ref", "HEAD"]);
    assert_eq!(head, "refs/heads/one");
}

#[test]
fn a_push_into_the_space_of_another_is_refused_with_the_way_out() {
    let server = Server::start();
    server.user("anna", false);
    server.user("ben", false);
    let work = work(&server, "work", "main");
    let said = refused(&work, &[&url(&server, "ben", "anna/song"), "main"]);
    assert!(
        said.contains("Pushing creates repositories only in your own space"),
        "{said}"
    );
    assert!(!exists(&server, "anna/song"));
}

#[test]
fn a_push_that_breaks_off_or_is_refused_leaves_no_repository() {
    let server = Server::start();
    server.user("anna", false);
    let credentials = basic("anna", PASSWORD);
    let command = format!("{} {} refs/heads/main\0 report-status", "0".repeat(40), "1".repeat(40));
    let command = format!("{:04x}{command}", command.len() + 4);

    // Within the command list.
    let head = format!("POST /anna/song.git/{RECEIVE}\nHost: x\nContent-Length: 1000\n{credentials}\n\n");
    drop(server.send(format!("{}{command}", head.replace('\n', "\r\n")).as_bytes()));
    // After it, within the pack.
    drop(server.send(format!("{}{command}0000PACK", head.replace('\n', "\r\n")).as_bytes()));
    // A pack that is none.
    let body = format!("{command}0000this is no pack");
    let head = format!(
        "POST /anna/song.git/{RECEIVE}\nContent-Length: {}\n{credentials}",
        body.len()
    );
    let answer = server.ask(&head, body.as_bytes());
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("unpack "), "{}", answer.text());

    // The row goes first, then the folder.
    let repos = server.work().join("data/repos");
    let is_empty = || std::fs::read_dir(&repos).expect("a folder").next().is_none();
    server.until("nothing is left", || !exists(&server, "anna/song") && is_empty());
}

#[test]
fn a_first_push_that_speaks_of_sha256_gets_its_refusals_in_words_too() {
    let server = Server::start();
    server.user("anna", false);
    server.user("ben", false);
    let work = server.work().join("work");
    std::fs::create_dir(&work).expect("a folder");
    git_ok(&work, &["init", "-q", "-b", "main", "--object-format=sha256"]);
    commit(&work, "First take");

    let said = refused(&work, &[&url(&server, "anna", "ben/song"), "main"]);

    assert!(said.contains("anna/"), "{said}");
    assert!(!exists(&server, "ben/song"));
    git_ok(&work, &["push", "-q", &url(&server, "anna", "anna/song"), "main"]);
    assert!(exists(&server, "anna/song"));
}

#[test]
fn every_push_has_a_row_that_says_who_moved_what() {
    let server = Server::start();
    server.user("anna", false);
    let work = work(&server, "work", "main");
    let url = url(&server, "anna", "anna/song");
    git_ok(&work, &["push", "-q", &url, "main", "main:refs/heads/side"]);
    commit(&work, "Second take");
    git_ok(&work, &["push", "-q", &url, "main", ":side"]);

    let rows = rows(&server, "anna/song");
    assert_eq!(rows.len(), 2);
    for (row, refs) in &rows {
        assert_eq!(row.pusher.as_deref(), Some("anna"));
        assert_eq!(row.state, PushState::Done);
        assert_eq!(row.address.as_deref(), Some("127.0.0.1"));
        assert_eq!(refs.len(), 2);
        assert!(refs.iter().all(|(_, applied)| *applied == Some(true)), "{refs:?}");
    }
}

/// A hook that puts `refs/for/main` on `refs/heads/main`, and says that it made a `refs/pull/1/head` too.
const PROC_RECEIVE: &str = r#"#!/usr/bin/env python3
import subprocess, sys
def read():
    lines = []
    while (length := int(sys.stdin.buffer.read(4), 16)) > 0:
        lines.append(sys.stdin.buffer.read(length - 4).decode().strip())
    return lines
def say(*lines):
    sys.stdout.write("".join("%04x%s" % (len(line) + 4, line) for line in lines) + "0000")
    sys.stdout.flush()
read()
say("version=1")
old, new, name = read()[0].split(" ")
before = subprocess.run(["git", "rev-parse", "refs/heads/main"], capture_output=True).stdout.decode().strip()
subprocess.check_call(["git", "update-ref", "refs/heads/main", new])
say("ok " + name, "option refname refs/heads/main", "option old-oid " + before,
    "ok " + name, "option refname refs/pull/1/head")
"#;

#[test]
fn what_the_hook_proc_receive_did_has_a_row_of_its_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    with_song(&server);
    let address: RepoAddress = "anna/song".parse().expect("an address");
    let trusted = server.app.repos.trust_hooks(&address, true, By::Command);
    server.run(trusted).expect("trusted");
    let bare = server.repo_path("anna/song");
    git_ok(&bare, &["config", "receive.procReceiveRefs", "refs/for"]);
    std::fs::create_dir_all(bare.join("hooks")).expect("a folder");
    let hook = bare.join("hooks/proc-receive");
    std::fs::write(&hook, PROC_RECEIVE).expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let work = server.work().join("work");
    let id = commit(&work, "Second take");

    let url = url(&server, "anna", "anna/song");
    git_ok(
        &work,
        &["push", "-q", &url, "main:refs/for/main", "main:refs/heads/side"],
    );

    assert_eq!(git_ok(&bare, &["rev-parse", "main"]), id);
    let told: Vec<_> = rows(&server, "anna/song")
        .into_iter()
        .map(|(row, refs)| (row.pusher, row.state, refs))
        .collect();
    let moved = |name: &str, is_so| (format!("refs/{name}"), Some(is_so));
    assert_eq!(
        told,
        [
            // Put there by stock git, and noticed.
            (None, PushState::Done, vec![moved("heads/main", true)]),
            (
                Some("anna".into()),
                PushState::Done,
                vec![moved("heads/main", true), moved("pull/1/head", false)]
            ),
            (Some("anna".into()), PushState::Done, vec![moved("heads/side", true)]),
        ]
    );
    // Nothing of it is taken for a change on disk later.
    git_ok(server.work(), &["clone", "-q", &server.url("anna/song.git"), "copy"]);
    git_ok(&bare, &["branch", "late", "main"]);
    git_ok(server.work(), &["clone", "-q", &server.url("anna/song.git"), "later"]);
    server.until("the late branch is noticed", || rows(&server, "anna/song").len() == 4);
}

#[test]
fn what_stock_git_changes_on_disk_gets_a_row_without_a_person_once() {
    let server = Server::start();
    with_song(&server);
    let bare = server.repo_path("anna/song");
    let clone = |name: &str| git_ok(server.work(), &["clone", "-q", &server.url("anna/song.git"), name]);
    clone("first");
    server.until("what was there at first is known", || {
        rows(&server, "anna/song").len() == 1
    });

    git_ok(&bare, &["branch", "side", "main"]);
    clone("second");
    server.until("the new branch is noticed", || rows(&server, "anna/song").len() == 2);
    git_ok(&bare, &["branch", "-D", "-q", "side"]);
    clone("third");
    server.until("its end is noticed", || rows(&server, "anna/song").len() == 3);

    // A push is no change on disk.
    let work = server.work().join("first");
    commit(&work, "Second take");
    git_ok(&work, &["push", "-q", &url(&server, "anna", "anna/song"), "main"]);
    clone("fourth");
    git_ok(&bare, &["branch", "late", "main"]);
    clone("fifth");
    server.until("the late branch is noticed", || rows(&server, "anna/song").len() == 5);
    let names: Vec<_> = rows(&server, "anna/song")
        .into_iter()
        .map(|(row, refs)| (row.pusher, refs[0].0.clone(), refs.len()))
        .collect();
    let row = |pusher: Option<&str>, name: &str| (pusher.map(str::to_owned), format!("refs/heads/{name}"), 1);
    assert_eq!(
        names,
        [
            row(None, "main"),
            row(None, "side"),
            row(None, "side"),
            row(Some("anna"), "main"),
            row(None, "late")
        ]
    );
}

#[test]
fn a_protected_branch_takes_new_commits_and_nothing_else() {
    let server = Server::start();
    server.user("anna", false);
    let work = work(&server, "work", "main");
    let url = url(&server, "anna", "anna/song");
    git_ok(&work, &["push", "-q", &url, "main", "main:release/1"]);
    let rule = |pattern: &str| ProtectedBranch {
        pattern: pattern.into(),
        no_force: true,
        no_delete: true,
    };
    for pattern in ["main", "release/*"] {
        let address = "anna/song".parse().expect("an address");
        server
            .run(server.app.protection.set(&address, rule(pattern), By::Command))
            .expect("set");
    }

    commit(&work, "Second take");
    git_ok(&work, &["push", "-q", &url, "main"]);
    git_ok(&work, &["reset", "-q", "--hard", "HEAD~1"]);
    commit(&work, "Another second take");
    let said = refused(&work, &["-f", &url, "main"]);
    assert!(
        said.contains("main is protected: commits can be added to it, not taken away"),
        "{said}"
    );
    let said = refused(&work, &[&url, ":release/1"]);
    assert!(said.contains("release/1 is protected: it cannot be deleted"), "{said}");
    git_ok(&work, &["push", "-q", "-f", &url, "main:side"]);
    git_ok(&work, &["push", "-q", &url, ":side"]);
}

/// A pack without objects.
const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

#[test]
fn what_is_taken_away_while_a_push_comes_in_does_not_count_for_it() {
    /// Takes something away from ben, who pushes with this token.
    type TakeAway = fn(&Server, RepoId, TokenId);
    let cases: [(TakeAway, &str); 6] = [
        (
            |server, _, _| {
                server
                    .run(server.app.accounts.disable(&name("ben"), By::Command))
                    .expect("disabled");
            },
            "the account ben was disabled",
        ),
        (
            |server, _, token| {
                let revoked = server.app.db.revoke_token(token, By::Command);
                assert!(server.run(revoked).expect("revoked"));
            },
            "your access token was revoked",
        ),
        (
            |server, repo, _| {
                let ben = server.run(server.app.accounts.find(&name("ben"))).expect("ben");
                let removed = server.app.db.remove_member(repo, ben.id, By::Command);
                assert!(server.run(removed).expect("removed"));
            },
            "was closed to you",
        ),
        (
            |server, repo, _| {
                let ben = server.run(server.app.accounts.find(&name("ben"))).expect("ben");
                let lessened = server.app.db.set_member(repo, ben.id, Role::Read, By::Command);
                assert!(server.run(lessened).expect("lessened"));
            },
            "You may read anna/song but not push to it",
        ),
        (
            |server, repo, _| {
                let archived = server.app.db.set_archived(repo, true, By::Command);
                assert!(server.run(archived).expect("archived"));
            },
            "is archived",
        ),
        (
            |server, repo, _| {
                let rule = ProtectedBranch {
                    pattern: "side".into(),
                    no_force: true,
                    no_delete: true,
                };
                let protected = server.app.db.set_protected_branch(repo, rule, 100, By::Command);
                server.run(protected).expect("protected");
            },
            "side is protected",
        ),
    ];
    for (take_away, reason) in cases {
        let server = Server::start();
        with_song(&server);
        server.user("ben", false);
        let bare = server.repo_path("anna/song");
        git_ok(&bare, &["branch", "side", "main"]);
        let tip = git_ok(&bare, &["rev-parse", "main"]);
        let repo = id_of(&server, "anna/song");
        let hidden = server.app.db.set_visibility(repo, Visibility::Private, By::Command);
        server.run(hidden).expect("hidden");
        let ben = server.run(server.app.accounts.find(&name("ben"))).expect("ben");
        let added = server.app.db.set_member(repo, ben.id, Role::Write, By::Command);
        server.run(added).expect("added");
        let wanted = TokenRequest {
            owner: name("ben"),
            label: String::new(),
            scope: Scope::Write,
            repo: None,
            lifetime_days: None,
        };
        let token = server
            .run(server.app.tokens.create(wanted, By::Command))
            .expect("a token");
        let none = "0".repeat(40);
        let lines = [
            format!("{none} {tip} refs/heads/new\0report-status atomic\n"),
            format!("{tip} {none} refs/heads/side\n"),
        ];
        let mut body: Vec<u8> = lines
            .iter()
            .flat_map(|line| format!("{:04x}{line}", line.len() + 4).into_bytes())
            .collect();
        body.extend_from_slice(b"0000");
        body.extend_from_slice(EMPTY_PACK);
        let credentials = basic("ben", token.secret.expose());
        let head = format!(
            "POST /anna/song.git/{RECEIVE}\nHost: x\nConnection: close\nExpect: 100-continue\n\
             Content-Length: {}\n{credentials}\n\n",
            body.len()
        );
        let mut push = server.send(head.replace('\n', "\r\n").as_bytes());
        assert_eq!(push.head().status, 100, "{reason}");

        take_away(&server, repo, token.info.id);
        push.write(&body);

        let said = push.rest();
        assert!(said.contains(reason), "{reason}: {said}");
        let refs = git_ok(&bare, &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(refs, "refs/heads/main\nrefs/heads/side", "{reason}");
    }
}

#[test]
fn what_is_taken_away_while_a_hook_runs_does_not_count_for_the_push() {
    let server = Server::start();
    with_song(&server);
    server.user("ben", false);
    let repo = id_of(&server, "anna/song");
    let ben = server.run(server.app.accounts.find(&name("ben"))).expect("ben");
    server
        .run(server.app.db.set_member(repo, ben.id, Role::Write, By::Command))
        .expect("added");
    server
        .run(server.app.db.set_trust_hooks(repo, true, By::Command))
        .expect("trusted");
    let bare = server.repo_path("anna/song");
    write_hook(
        &bare,
        "pre-receive",
        "touch began; for _ in $(seq 600); do [ -e go-on ] && exit 0; sleep 0.1; done",
    );
    let work = server.work().join("work");
    let url = url(&server, "ben", "anna/song");
    let began = bare.join("began");

    let said = std::thread::scope(|scope| {
        let push = scope.spawn(|| refused(&work, &[&url, "main:new"]));
        server.until("the hook runs", || began.exists());
        let removed = server.app.db.remove_member(repo, ben.id, By::Command);
        assert!(server.run(removed).expect("removed"));
        std::fs::write(bare.join("go-on"), "").expect("a file");
        push.join().expect("git ran")
    });

    assert!(said.contains("You may read anna/song but not push to it"), "{said}");
    assert_eq!(
        git_ok(&bare, &["for-each-ref", "--format=%(refname)"]),
        "refs/heads/main"
    );
}

#[test]
fn an_archived_repository_says_so_before_anything_is_sent() {
    let server = Server::start();
    with_song(&server);
    let address: RepoAddress = "anna/song".parse().expect("an address");
    server
        .run(server.app.repos.archive(&address, By::Command))
        .expect("archived");
    let work = server.work().join("work");
    let said = refused(&work, &[&url(&server, "anna", "anna/song"), "main:more"]);
    assert!(said.contains("remote: anna/song is archived"), "{said}");
}

#[test]
fn a_push_to_an_old_address_arrives_and_tells_the_new_one() {
    let server = Server::with(|settings| settings.server.public_url = "https://git.example.org".into());
    with_song(&server);
    let address: RepoAddress = "anna/song".parse().expect("an address");
    let new_name = "tune".parse().expect("a name");
    server
        .run(server.app.repos.rename(&address, new_name, By::Command))
        .expect("renamed");
    let work = server.work().join("work");
    commit(&work, "Second take");
    let output = git(&work, &["push", &url(&server, "anna", "anna/song"), "main"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("remote:   git remote set-url origin https://git.example.org/anna/tune.git"),
        "{said}"
    );
    git_ok(&work, &["fetch", "-q", &server.url("anna/song.git")]);
}

#[test]
fn a_compressed_push_is_understood() {
    let said = compressed_push(|_| {});
    assert!(said.contains("unpack ok"), "{said}");
    assert!(said.contains("ok refs/heads/main"), "{said}");
}

#[test]
fn a_compressed_push_that_means_too_much_is_told_the_limit() {
    for limit in [(|git| git.max_push_bytes = 250) as fn(&mut GitSettings), |git| {
        git.max_compressed_push_bytes = 250
    }] {
        let said = compressed_push(limit);
        assert!(said.contains("250 bytes"), "{said}");
        assert!(said.contains("ng refs/heads/main"), "{said}");
    }
}

/// Pushes a project as JGit does, compressed, to a server with these limits; what the server says.
fn compressed_push(limit: impl FnOnce(&mut GitSettings)) -> String {
    let server = Server::with(|settings| limit(&mut settings.git));
    server.user("anna", false);
    let work = work(&server, "work", "main");
    let id = git_ok(&work, &["rev-parse", "HEAD"]);
    let packed = std::process::Command::new("sh")
        .current_dir(&work)
        .args([
            "-c",
            "git rev-list --objects HEAD | cut -c1-40 | git pack-objects --stdout -q",
        ])
        .output()
        .expect("git is installed");
    let command = format!("{} {id} refs/heads/main\0 report-status", "0".repeat(40));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write!(gzip, "{:04x}{command}0000", command.len() + 4).expect("memory");
    gzip.write_all(&packed.stdout).expect("memory");
    let body = gzip.finish().expect("memory");

    let head = format!(
        "POST /anna/song.git/{RECEIVE}\nContent-Encoding: gzip\nContent-Length: {}\n{}",
        body.len(),
        basic("anna", PASSWORD)
    );
    server.ask(&head, &body).text()
}

#[test]
fn a_push_that_the_last_run_left_open_is_settled_by_what_the_refs_say() {
    let server = Server::start();
    with_song(&server);
    let repo = id_of(&server, "anna/song");
    let bare = server.repo_path("anna/song");
    let main = git_ok(&bare, &["rev-parse", "main"]);
    let new = git_id(&main);
    let change = |name: &str| RefChange {
        name: name.into(),
        old: None,
        new,
    };
    // As if the process had died between the two refs.
    git_ok(&bare, &["branch", "moved", "main"]);
    server.begin_open_push(repo, vec![change("refs/heads/moved"), change("refs/heads/unmoved")]);
    let server = server.restart();
    assert_eq!(server.get("/livez").status, 200);

    let rows = rows(&server, "anna/song");
    let (row, refs) = &rows[0];
    assert_eq!(row.state, PushState::Done);
    assert_eq!(
        refs,
        &[
            ("refs/heads/moved".into(), Some(true)),
            ("refs/heads/unmoved".into(), Some(false))
        ]
    );
}
