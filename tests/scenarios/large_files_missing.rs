//! Pushes whose large files nobody has brought.

use crate::support::{GitProgram, Person, TestServer, WorkTree, repositories};

/// The text that stands for a large file; `name` makes one that no file has.
fn pointer(name: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{name:064x}\nsize 123456\n")
}

/// A project whose pointers are written as they are: git-lfs is not set up in it.
fn project(person: &Person, folder: &str) -> WorkTree {
    let song = person.new_project(folder);
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n");
    song
}

#[test]
fn the_sentence_names_the_files_and_what_to_do_and_doing_it_helps() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n")
        .write("takes/vox.wav", [7; 5000])
        .write("bass.wav", [8; 5000])
        .commit("First take");
    let url = anna.url("anna/song");
    song.git(&["remote", "add", "origin", &url]).assert_ok();

    // Without the hook nobody brings them.
    let refused = song.git(&["push", "--no-verify", "origin", "main"]);
    refused.assert_refused_with(
        "large files are not on the server: bass.wav, takes/vox.wav; run `git lfs push --all origin`",
    );

    song.git(&["lfs", "push", "--all", "origin"]).assert_ok();
    song.git(&["push", "--no-verify", "origin", "main"]).assert_ok();
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert_eq!(
        std::fs::read(copy.folder.join("takes/vox.wav")).expect("there"),
        [7; 5000]
    );
}

#[test]
fn every_way_to_push_is_refused_by_every_git() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = project(&anna, "song");
    song.commit("Rules");
    let bare = server.repo("anna/song");
    song.push("anna/song", &["main"]).assert_ok();
    let main = repositories::id(&bare, "refs/heads/main");
    song.git(&["checkout", "-q", "-b", "good"]).assert_ok();
    song.write("text", "fine").commit("Fine");
    song.git(&["checkout", "-q", "main"]).assert_ok();
    // Many that are much alike come as deltas of one another.
    for number in 0..20 {
        song.write(&format!("hits/{number}.wav"), pointer(number));
    }
    song.commit("Hits").git(&["tag", "-a", "-m", "Mix", "mix"]).assert_ok();
    song.git(&["commit", "-q", "--amend", "-m", "Other hits"]).assert_ok();
    let words = "hits/0.wav, hits/1.wav, hits/10.wav, and 17 more; run";

    for git in GitProgram::all() {
        let anna = anna.with_git(&git);
        let url = anna.url("anna/song");
        let push = |what: &[&str]| {
            let (options, specs): (Vec<&str>, Vec<&str>) = what.iter().partition(|word| word.starts_with('-'));
            anna.git_in(&song.folder, &[&["push"], &options[..], &[&url], &specs[..]].concat())
        };
        for what in [
            &["main"][..],
            &["--force", "main", "main:refs/heads/new"],
            &["--atomic", "good", "main"],
            &["mix"],
            &["--signed=if-asked", "--no-thin", "main:refs/other/x"],
        ] {
            push(what).assert_refused_with(words);
            assert_eq!(
                repositories::refs(&bare),
                [format!("{main} refs/heads/main")],
                "{what:?}"
            );
        }
        // Beside it the rest gets in, and that brings the pointers no nearer.
        push(&["good", "main"]).assert_refused_with(words);
        assert_eq!(repositories::refs(&bare).len(), 2);
        push(&["main"]).assert_refused_with(words);
        push(&["--delete", "good"]).assert_ok();
    }
    repositories::assert_sound(&bare);
}

#[test]
fn only_what_the_rules_of_a_commit_call_a_large_file_counts() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write(
        ".gitattributes",
        "[attr]sound filter=lfs -text\n*.wav filter=lfs\n*.aif sound\n/top.raw filter=lfs\n",
    )
    .write(
        "doc/.gitattributes",
        "*.wav -filter\n[attr]late filter=lfs\n*.late late\n",
    )
    .write("doc/example.wav", pointer(1))
    .write("doc/x.late", pointer(2))
    .write("doc/top.raw", pointer(3))
    .write("plain.txt", pointer(4))
    .write("almost.wav", format!("{}\n", pointer(5)))
    .write("empty.wav", "")
    .write("binary.wav.txt", pointer(6))
    .commit("What pointers look like");
    song.push("anna/song", &["main"]).assert_ok();
    let bare = server.folder_of("anna/song");
    let before = repositories::refs(&bare);

    for (path, words) in [
        ("vox.aif", ": vox.aif; run"),
        ("top.raw", ": top.raw; run"),
        ("a/b/größe.wav", ": a/b/größe.wav; run"),
    ] {
        song.write(path, pointer(9)).commit(path);
        song.push("anna/song", &["main"]).assert_refused_with(words);
        song.git(&["reset", "-q", "--hard", "HEAD~1"]).assert_ok();
    }
    // A nearer file wins, whichever way.
    song.write("a/b/.gitattributes", "*.bin filter=lfs\n")
        .write("a/c/x.bin", pointer(10))
        .commit("Elsewhere");
    song.push("anna/song", &["main"]).assert_ok();
    song.write("a/b/c/x.bin", pointer(11)).commit("There");
    song.push("anna/song", &["main"])
        .assert_refused_with(": a/b/c/x.bin; run");
    song.git(&["reset", "-q", "--hard", "HEAD~1"]).assert_ok();
    assert_ne!(repositories::refs(&bare), before);

    // The rule may come after the file, in the same push.
    song.write("late.bin", pointer(12)).commit("File");
    song.write("more", "more").commit("Between");
    song.write(".gitattributes", "*.bin filter=lfs\n").commit("Rule");
    song.push("anna/song", &["main"]).assert_refused_with(": late.bin; run");
    // What is gone again in a later commit was held by an earlier one.
    song.git(&["reset", "-q", "--hard", "HEAD~3"]).assert_ok();
    song.write("gone.wav", pointer(13)).commit("File");
    song.git(&["rm", "-q", "gone.wav"]).assert_ok();
    song.commit("Gone");
    song.push("anna/song", &["main"]).assert_refused_with(": gone.wav; run");
}

#[test]
fn what_the_repository_lacked_before_does_not_stop_new_work() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = project(&anna, "song");
    song.write("old.wav", pointer(1)).commit("Old");
    let bare = server.repo("anna/song");
    let path = bare.to_str().expect("utf-8");
    song.git(&["push", "-q", path, "main"]).assert_ok();

    song.git(&["mv", "old.wav", "renamed.wav"]).assert_ok();
    song.write("again/old.wav", pointer(1)).commit("Moved");
    song.push("anna/song", &["--no-thin", "main"]).assert_ok();

    song.write("new.wav", pointer(2)).commit("New");
    song.push("anna/song", &["main"]).assert_refused_with(": new.wav; run");
}

#[test]
fn a_large_file_of_another_repository_counts_for_those_who_may_read_it() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs -text\n")
        .write("vox.wav", [7; 5000])
        .commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    let url = ben.url("ben/song");
    let copy = |name: &str| {
        let bare = server.folder_of("anna/song");
        ben.git(&["clone", "-q", bare.to_str().expect("utf-8"), name])
            .assert_ok();
        ben.project(name)
    };
    let copy = copy("copy");

    copy.git(&["push", "--no-verify", &url, "main"])
        .assert_refused_with("a large file is not on the server: vox.wav; run");
    server.auxin(&["member", "add", "anna/song", "ben", "read"]).assert_ok();
    copy.git(&["push", "--no-verify", &url, "main"]).assert_ok();
    server.auxin(&["repo", "delete", "anna/song", "--yes"]).assert_ok();
    ben.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let whole = ben.clone_repo("ben/song", "whole", &[]);
    assert_eq!(std::fs::read(whole.folder.join("vox.wav")).expect("there"), [7; 5000]);
}

#[test]
fn the_check_can_be_switched_off() {
    let server = TestServer::prepare().setting("lfs.require_objects", false).start();
    let anna = server.user("anna");
    let song = project(&anna, "song");
    song.write("vox.wav", pointer(1)).commit("First take");

    song.push("anna/song", &["main"]).assert_ok();
}
