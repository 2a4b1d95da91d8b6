//! Hooks of a musician's own repository, with the real git, git-lfs, dash, bash and server.

use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::client::{auxin, install};
use crate::support::{KIB, Outcome, Person, TestServer, WorkTree, noise, run, run_with_input};

const SONG: &str = "anna/song";
const SHELLS: [&str; 2] = ["/bin/dash", "/bin/bash"];

/// A take with an overview; the same sound for the same seed.
fn take(seed: u64, overview: u64) -> Vec<u8> {
    let (len, overview_len) = (20 * KIB, 64);
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0LGWV".to_vec();
    file.extend((overview_len as u32).to_le_bytes());
    file.extend(noise(1000 + overview, overview_len));
    file.extend(b"data");
    file.extend((len as u32).to_le_bytes());
    file.extend(noise(seed, len));
    file
}

/// A new song with hooks that this shell runs.
fn song(person: &Person, folder: &str, shell: &str) -> WorkTree {
    install(person);
    let song = person.new_project(folder);
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n");
    add_hooks(&song, shell);
    song
}

fn add_hooks(tree: &WorkTree, shell: &str) {
    auxin(tree, &["install", "--hooks"]).assert_ok();
    for hook in ["post-checkout", "post-merge", "pre-commit", "pre-push"] {
        let path = tree.folder.join(".git/hooks").join(hook);
        let text = std::fs::read_to_string(&path).expect("a hook");
        std::fs::write(&path, text.replacen("/bin/sh", shell, 1)).expect("written");
    }
}

/// Commits everything at this time, in seconds since 1970.
#[track_caller]
fn commit_at(tree: &WorkTree, secs: u64) -> Outcome {
    tree.git(&["add", "--all"]).assert_ok();
    run(tree
        .person
        .command_in(&tree.folder, &["commit", "-q", "-m", "Take"])
        .env("GIT_COMMITTER_DATE", format!("{secs} +0000")))
}

fn time(tree: &WorkTree, path: &str) -> u64 {
    let at = tree.folder.join(path).metadata().expect("a file").modified();
    let since = at.expect("a time").duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn committed(tree: &WorkTree) -> String {
    tree.ask(&["show", "--format=", "--name-only", "HEAD"])
}

#[test]
fn sound_keeps_the_time_of_the_commit_that_last_changed_it() {
    let server = TestServer::start();
    let anna = server.user("anna");
    for (number, shell) in SHELLS.into_iter().enumerate() {
        let song = song(&anna, &format!("song{number}"), shell);
        song.write("vox.wav", take(1, 1))
            .write("b/bass one.wav", take(2, 1))
            .write("notes.txt", "do");
        commit_at(&song, 1_700_000_100).assert_ok();
        song.git(&["branch", "old"]).assert_ok();
        song.write("vox.wav", take(3, 1));
        commit_at(&song, 1_700_000_200).assert_ok();
        // Logic draws all overviews anew.
        song.write("vox.wav", take(3, 2))
            .write("b/bass one.wav", take(2, 2))
            .write("notes.txt", "re");
        commit_at(&song, 1_700_000_300).assert_ok();

        song.git(&["checkout", "-q", "old"]).assert_ok();

        let times = |tree: &WorkTree| (time(tree, "vox.wav"), time(tree, "b/bass one.wav"));
        assert_eq!(times(&song), (1_700_000_100, 1_700_000_100), "{shell}");
        song.git(&["checkout", "-q", "main"]).assert_ok();
        assert_eq!(times(&song), (1_700_000_200, 1_700_000_100), "{shell}");
        assert!(time(&song, "notes.txt") > 1_700_000_300, "only sound");
        assert_eq!(song.ask(&["status", "--porcelain"]), "");

        // A merge, while another file is being worked on.
        song.git(&["checkout", "-q", "-b", "idea", "old"]).assert_ok();
        song.write("new.wav", take(7, 1));
        commit_at(&song, 1_700_000_400).assert_ok();
        song.git(&["checkout", "-q", "main"]).assert_ok();
        song.write("vox.wav", take(8, 1));
        let mine = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let file = std::fs::File::open(song.folder.join("vox.wav")).expect("a file");
        file.set_modified(mine).expect("a time");
        song.git(&["merge", "-q", "--no-edit", "idea"]).assert_ok();
        assert_eq!(time(&song, "new.wav"), 1_700_000_400, "{shell}");
        assert_eq!(time(&song, "vox.wav"), 1_600_000_000, "{shell}: not touched");
        assert_eq!(song.ask(&["status", "--porcelain"]), " M vox.wav");
    }
    // Without the hooks it is the time of the checkout.
    let plain = anna.project("song0");
    plain.git(&["checkout", "-q", "--", "."]).assert_ok();
    auxin(&plain, &["install", "--hooks", "--uninstall"]).assert_ok();
    plain.git(&["checkout", "-q", "old"]).assert_ok();
    assert!(time(&plain, "vox.wav") > 1_700_000_400);
    // They begin with giving everything its time.
    auxin(&plain, &["install", "--hooks"]).assert_ok();
    assert_eq!(time(&plain, "vox.wav"), 1_700_000_100);
}

#[test]
fn files_of_which_only_the_overview_changed_may_stay_out_of_a_commit() {
    let server = TestServer::start();
    let anna = server.user("anna");
    for (number, shell) in SHELLS.into_iter().enumerate() {
        let song = song(&anna, &format!("song{number}"), shell);
        song.write("vox.wav", take(1, 1))
            .write("bass.wav", take(2, 1))
            .commit("First");
        let change = |overview: u64| {
            song.write("vox.wav", take(1, overview))
                .write("bass.wav", take(10 + overview, 1))
                .write("notes.txt", overview.to_string());
        };

        // Where nobody can be asked, it is told.
        change(2);
        let said = commit_at(&song, 1_700_000_100);
        said.assert_ok()
            .assert_said("The sound of 1 file is as it was")
            .assert_said("  vox.wav");
        assert_eq!(committed(&song), "bass.wav\nnotes.txt\nvox.wav");

        // At a terminal the person is asked.
        for (overview, answer, files) in [
            (3, "n\n", "bass.wav\nnotes.txt\nvox.wav"),
            (4, "\n", "bass.wav\nnotes.txt"),
        ] {
            change(overview);
            song.git(&["add", "--all"]).assert_ok();
            let mut command = song.person.command_in(&song.folder, &[]);
            let mut terminal = Command::new("script");
            terminal.current_dir(&song.folder).env_clear();
            for (name, value) in command.env_remove("GIT_TERMINAL_PROMPT").get_envs() {
                if let Some(value) = value {
                    terminal.env(name, value);
                }
            }
            terminal.env("PATH", std::env::var_os("PATH").unwrap_or_default());
            terminal.args(["-qec", "git commit -q -m Take", "/dev/null"]);
            let said = run_with_input(&mut terminal, answer.as_bytes());
            said.assert_ok().assert_said("Leave them out of this commit?");
            assert_eq!(committed(&song), files, "{shell} {answer:?}");
        }
        assert_eq!(song.ask(&["status", "--porcelain"]), " M vox.wav");

        song.git(&["config", "auxin.leaveOutOverviews", "always"]).assert_ok();
        change(5);
        commit_at(&song, 1_700_000_200)
            .assert_ok()
            .assert_said("stay out of this commit");
        assert_eq!(committed(&song), "bass.wav\nnotes.txt");
        // Nothing but overviews is no commit.
        let before = song.id("HEAD");
        commit_at(&song, 1_700_000_300).assert_refused_with("so there is nothing to commit");
        assert_eq!(song.id("HEAD"), before);
        song.git(&["config", "auxin.leaveOutOverviews", "never"]).assert_ok();
        let said = commit_at(&song, 1_700_000_300);
        assert!(!said.assert_ok().err().contains("as it was"), "{said:?}");
        assert_eq!(committed(&song), "vox.wav");
    }
}

#[test]
fn what_somebody_else_has_locked_is_told_before_a_push_sends_anything() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = song(&anna, "song", "/bin/sh");
    song.write("vox.wav", take(1, 1))
        .write("bass.wav", take(2, 1))
        .commit("First");
    song.git(&["remote", "add", "origin", &anna.url(SONG)]).assert_ok();
    song.git(&["push", "-q", "-u", "origin", "main"]).assert_ok();
    server.auxin(&["member", "add", SONG, "ben", "write"]).assert_ok();
    auxin(&song, &["lock", "vox.wav"]).assert_ok();
    install(&ben);
    for (number, shell) in SHELLS.into_iter().enumerate() {
        let copy = ben.clone_repo(SONG, &format!("copy{number}"), &[]);
        add_hooks(&copy, shell);
        copy.write("vox.wav", take(20 + number as u64, 1)).commit("Mine");
        let branch = format!("HEAD:refs/heads/{number}");
        let printed = server.printed();

        copy.git(&["push", "-q", "origin", &branch])
            .assert_refused_with("vox.wav is locked by anna since 20");

        let after = server.printed();
        let new = &after[printed.len().min(after.len())..];
        assert!(!new.contains("objects/batch"), "{shell}: nothing of it travels: {new}");
        // The lock is not in the way of anything else, and large files go along.
        copy.git(&["reset", "-q", "--hard", "origin/main"]).assert_ok();
        copy.write("bass.wav", take(30 + number as u64, 1)).commit("Bass");
        copy.git(&["push", "-q", "origin", &branch]).assert_ok();
        let name = format!("refs/heads/{number}");
        assert!(server.printed().contains(&name), "{}", server.printed());
        // Others see the sound.
        song.git(&["fetch", "-q", "origin"]).assert_ok();
        song.git(&["lfs", "fetch", "origin", &format!("origin/{number}")])
            .assert_ok();
    }
    // Its holder is not told of it.
    song.write("vox.wav", take(5, 1)).commit("Again");
    song.git(&["push", "-q", "origin", "main"]).assert_ok();
    // A server that is not there is for git to tell.
    song.write("vox.wav", take(6, 1)).commit("Again");
    let said = song.git(&["push", "-q", "http://127.0.0.1:1/anna/song.git", "main"]);
    assert!(!said.assert_failed().err().contains("locked"), "{said:?}");
}

#[test]
fn hooks_of_others_stay_and_run_and_ours_can_be_taken_out_again() {
    let server = TestServer::start();
    let anna = server.user("anna");
    install(&anna);
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    let hooks = song.folder.join(".git/hooks");
    let put = |name: &str, text: &str| {
        let path = hooks.join(name);
        std::fs::write(&path, text).expect("written");
        run(Command::new("chmod").arg("+x").arg(path)).assert_ok();
    };
    let read = |name: &str| std::fs::read_to_string(hooks.join(name)).expect("a hook");
    put("pre-commit", "#!/usr/bin/env bash\ntouch own\nexec true\n");
    put("post-merge", "#!/usr/bin/env python3\nprint('la')\n");
    let before = ["post-checkout", "post-merge", "pre-commit", "pre-push"].map(read);

    let first = auxin(&song, &["install", "--hooks"]);
    let with = ["post-checkout", "post-merge", "pre-commit", "pre-push"].map(read);
    let second = auxin(&song, &["install", "--hooks"]);

    first
        .assert_ok()
        .assert_said("pre-push: in front of what is there")
        .assert_said("post-merge: left as it is");
    second.assert_ok().assert_said("pre-push: there already");
    assert_eq!(
        ["post-checkout", "post-merge", "pre-commit", "pre-push"].map(read),
        with
    );
    assert_eq!(with[1], before[1], "no script of a shell");
    assert!(
        with[3].ends_with(before[3].trim_start_matches("#!/bin/sh\n")),
        "{}",
        with[3]
    );
    song.write("a", "b").commit("First");
    assert!(song.folder.join("own").exists(), "the hook of somebody else runs");
    auxin(&song, &["status"]).assert_said("pre-push runs Git LFS");
    auxin(&song, &["install", "--hooks", "--uninstall"]).assert_ok();
    assert_eq!(
        ["post-checkout", "post-merge", "pre-commit", "pre-push"].map(read),
        before
    );

    // Where there was none, none stays.
    std::fs::remove_file(hooks.join("pre-commit")).expect("removed");
    auxin(&song, &["install", "--hooks"])
        .assert_ok()
        .assert_said("pre-commit: made");
    auxin(&song, &["install", "--hooks", "--uninstall"]).assert_ok();
    assert!(!hooks.join("pre-commit").exists());
    // A folder of hooks for all repositories is not for one of them to change.
    let shared = anna.home().join("hooks");
    std::fs::create_dir(&shared).expect("a folder");
    let path = shared.display().to_string();
    anna.git(&["config", "--global", "core.hooksPath", &path]).assert_ok();
    auxin(&song, &["install", "--hooks"]).assert_refused_with("core.hooksPath is ");
    assert_eq!(std::fs::read_dir(&shared).expect("a folder").count(), 0);
}
