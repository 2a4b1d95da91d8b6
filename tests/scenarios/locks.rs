//! Locks with stock git and git-lfs.

use crate::support::client::auxin;
use crate::support::process;
use crate::support::{Outcome, Person, Request, TestServer, WorkTree};

const SONG: &str = "anna/song";

/// A song with sound in Git LFS, pushed by anna; ben and cleo may push to it.
fn song(server: &TestServer) -> (Person, Person) {
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text lockable\n")
        .write("vox.wav", b"la la la")
        .write("bass.wav", b"dum dum")
        .write("Caf\u{e9}/lyrics.txt", "la")
        .write("notes.txt", "do")
        .commit("First take");
    song.git(&["remote", "add", "origin", &anna.url(SONG)]).assert_ok();
    song.git(&["push", "-q", "-u", "origin", "main"]).assert_ok();
    server.auxin(&["member", "add", SONG, "ben", "write"]).assert_ok();
    (anna, ben)
}

/// Somebody's clone.
fn clone(person: &Person, folder: &str) -> WorkTree {
    person.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let tree = person.clone_repo(SONG, folder, &[]);
    tree.git(&["config", "lfs.locksverify", "false"]).assert_ok();
    tree
}

/// The id of the lock on a path.
fn lock_id(tree: &WorkTree, path: &str) -> String {
    let locks = tree.ask(&["lfs", "locks", "--path", path]);
    let (_, id) = locks.rsplit_once("ID:").expect("an id");
    id.trim().to_owned()
}

#[track_caller]
fn says(outcome: &Outcome, words: &[&str]) {
    let text = format!("{}{}", outcome.out(), outcome.err());
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn stock_git_lfs_locks_lists_and_unlocks_by_path_and_by_id() {
    let server = TestServer::start();
    let (anna, ben) = song(&server);
    let (of_anna, of_ben) = (clone(&anna, "a"), clone(&ben, "b"));

    says(of_ben.git(&["lfs", "lock", "vox.wav"]).assert_ok(), &["Locked vox.wav"]);
    says(of_anna.git(&["lfs", "locks"]).assert_ok(), &["vox.wav", "ben", "ID:"]);
    says(of_anna.git(&["lfs", "locks", "--path", "bass.wav"]).assert_ok(), &[]);
    says(
        of_anna.git(&["lfs", "lock", "vox.wav"]).assert_failed(),
        &["locked by ben"],
    );
    // One that is not there yet, and one that is no large file.
    of_anna.git(&["lfs", "lock", "draft.txt"]).assert_ok();
    of_anna.git(&["lfs", "lock", "notes.txt"]).assert_ok();
    let json = of_anna.ask(&["lfs", "locks", "--verify", "--json"]);
    assert!(json.contains("draft.txt") && json.contains("\"theirs\""), "{json}");

    says(of_anna.git(&["lfs", "unlock", "vox.wav"]).assert_failed(), &["ben"]);
    of_ben
        .git(&["lfs", "unlock", "--id", &lock_id(&of_ben, "vox.wav")])
        .assert_ok();
    // By path git-lfs 3.3 looks for the file first, so one that is not there goes by id.
    let missing = lock_id(&of_anna, "draft.txt");
    of_anna.git(&["lfs", "unlock", "--id", &missing]).assert_ok();
    of_anna.git(&["rm", "-q", "notes.txt"]).assert_ok();
    let deleted = lock_id(&of_anna, "notes.txt");
    of_anna.git(&["lfs", "unlock", "--id", &deleted]).assert_ok();
    of_anna.git(&["lfs", "lock", "bass.wav"]).assert_ok();
    of_anna.git(&["lfs", "unlock", "bass.wav"]).assert_ok();
    assert_eq!(of_anna.ask(&["lfs", "locks"]), "");
    // A maintainer takes one from somebody who went on holiday.
    of_ben.git(&["lfs", "lock", "bass.wav"]).assert_ok();
    of_anna.git(&["lfs", "unlock", "--force", "bass.wav"]).assert_ok();
    assert_eq!(of_ben.ask(&["lfs", "locks"]), "");
}

/// Locks through the API, for what git-lfs does not do itself.
#[track_caller]
fn lock(server: &TestServer, person: &Person, path: &str) -> String {
    let body = serde_json::json!({ "path": path }).to_string();
    let request = Request::post(
        &format!("/{SONG}.git/info/lfs/locks"),
        "application/vnd.git-lfs+json",
        body,
    );
    let answer = server.send(request.by(person));
    answer.assert_status(201);
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    answer["lock"]["id"].as_str().expect("an id").to_owned()
}

/// Does something in a clone and wants the push of it to be refused, then takes it back.
#[track_caller]
fn refused(tree: &WorkTree, why: &[&str], change: &[&[&str]]) {
    for command in change {
        tree.git(command).assert_ok();
    }
    tree.commit("Changed");
    let pushed = tree.push(SONG, &["--force", "main"]);
    pushed.assert_failed();
    says(&pushed, why);
    tree.git(&["reset", "-q", "--hard", "origin/main"]).assert_ok();
}

#[test]
fn what_somebody_else_has_locked_is_not_changed_in_any_way_by_any_push() {
    let server = TestServer::start();
    let (anna, ben) = song(&server);
    let (of_anna, of_ben) = (clone(&anna, "a"), clone(&ben, "b"));
    lock(&server, &anna, "notes.txt");
    lock(&server, &anna, "vox.wav");
    lock(&server, &anna, "new/part.txt");
    lock(&server, &anna, "cafe\u{301}/LYRICS.txt");

    of_ben.write("notes.txt", "re");
    refused(
        &of_ben,
        &[
            "notes.txt has been locked by anna since 20",
            " UTC: ask anna to release it, or push without changing it",
        ],
        &[],
    );
    // A large file, for a client that does not ask for locks.
    of_ben.write("vox.wav", b"lo lo lo");
    refused(&of_ben, &["vox.wav has been locked by anna"], &[]);
    refused(&of_ben, &["notes.txt has been locked"], &[&["rm", "-q", "notes.txt"]]);
    refused(
        &of_ben,
        &["notes.txt has been locked"],
        &[&["mv", "notes.txt", "other.txt"]],
    );
    refused(
        &of_ben,
        &["notes.txt has been locked"],
        &[
            &["update-index", "--chmod=+x", "notes.txt"],
            &["commit", "-q", "-m", "x"],
        ],
    );
    refused(
        &of_ben,
        &["Caf\u{e9}/lyrics.txt has been locked"],
        &[&["rm", "-q", "-r", "Caf\u{e9}"]],
    );
    of_ben.write("NEW/Part.txt", "x");
    refused(&of_ben, &["NEW/Part.txt has been locked by anna"], &[]);
    // Also in the middle of what is pushed, and put back in the end.
    of_ben.write("notes.txt", "re").commit("One");
    of_ben.write("notes.txt", "do");
    refused(&of_ben, &["notes.txt has been locked"], &[]);
    // And by way of a tag or another branch.
    of_ben.write("notes.txt", "re").commit("One");
    of_ben
        .push(SONG, &["HEAD:refs/heads/side"])
        .assert_refused_with("notes.txt has been locked");
    of_ben
        .push(SONG, &["HEAD:refs/tags/v1"])
        .assert_refused_with("notes.txt has been locked");
    of_ben.git(&["reset", "-q", "--hard", "origin/main"]).assert_ok();

    // What is not locked passes, and of two branches only the one with the locked file is refused.
    of_ben.write("bass.wav", b"dum").write("mine.txt", "x").commit("Mine");
    of_ben.push(SONG, &["main"]).assert_ok();
    of_ben.git(&["branch", "good"]).assert_ok();
    of_ben.write("notes.txt", "re").commit("Bad");
    let both = of_ben.push(SONG, &["good", "main:bad"]);
    both.assert_failed();
    let heads = of_anna.ask(&["ls-remote", "origin", "refs/heads/*"]);
    assert!(heads.contains("good") && !heads.contains("bad"), "{heads}");

    // The holder's own changes pass, and nobody is held for them who merges them or builds on them.
    of_anna.git(&["pull", "-q"]).assert_ok();
    of_anna
        .write("notes.txt", "mi")
        .write("vox.wav", b"la")
        .commit("Third take");
    of_anna.push(SONG, &["main"]).assert_ok();
    of_ben.git(&["reset", "-q", "--hard", "good"]).assert_ok();
    of_ben.write("mine.txt", "y").commit("Mine, too");
    of_ben.push(SONG, &["HEAD:refs/heads/feature"]).assert_ok();
    of_ben.git(&["fetch", "-q"]).assert_ok();
    of_ben.git(&["checkout", "-q", "-b", "merged"]).assert_ok();
    of_ben.git(&["merge", "-q", "--no-edit", "origin/main"]).assert_ok();
    of_ben.push(SONG, &["merged:main"]).assert_ok();
    of_ben.git(&["checkout", "-q", "-B", "feature", "good"]).assert_ok();
    of_ben.write("mine.txt", "z").commit("Mine again");
    of_ben.git(&["rebase", "-q", "origin/main"]).assert_ok();
    of_ben.push(SONG, &["--force", "feature"]).assert_ok();

    // A branch that moves back, or is forced, takes away what anna did.
    let back = of_ben.push(SONG, &["--force", "good:main"]);
    back.assert_refused_with("has been locked by anna");
    let main = of_ben.id("merged");
    assert!(
        of_anna
            .ask(&["ls-remote", "origin", "refs/heads/main"])
            .starts_with(&main)
    );
    // Without locks it may.
    for path in ["notes.txt", "vox.wav"] {
        of_anna.git(&["lfs", "unlock", "--force", path]).assert_ok();
    }
    of_ben.push(SONG, &["--force", "good:main"]).assert_ok();
}

#[test]
fn a_lock_on_a_songs_data_keeps_its_alternative_and_no_other() {
    let server = TestServer::start();
    let (anna, ben) = song(&server);
    let of_ben = clone(&ben, "b");
    lock(&server, &anna, "Song.logicx/Alternatives/000/ProjectData");

    of_ben.write("Song.logicx/Alternatives/000/DisplayState.plist", "x");
    refused(
        &of_ben,
        &["Song.logicx/Alternatives/000/DisplayState.plist has been locked by anna"],
        &[],
    );
    of_ben
        .write("Song.logicx/Alternatives/001/ProjectData", "x")
        .write("Song.logicx/Media/take.txt", "x")
        .commit("Another alternative");
    of_ben.push(SONG, &["main"]).assert_ok();
}

#[test]
fn with_too_much_to_look_at_a_push_is_told_to_come_in_parts() {
    let server = TestServer::prepare().setting("locks.max_push_commits", 2).start();
    let (anna, ben) = song(&server);
    let of_ben = clone(&ben, "b");
    for number in 0..3 {
        of_ben.write("mine.txt", format!("{number}")).commit("Mine");
    }
    let held = lock(&server, &anna, "notes.txt");

    of_ben.push(SONG, &["main"]).assert_refused_with("more than 2 commits");
    of_ben.push(SONG, &["main~1:main"]).assert_ok();
    of_ben.push(SONG, &["main"]).assert_ok();
    anna.git_in(&anna.home().join("song"), &["lfs", "unlock", "--id", &held])
        .assert_ok();
    for number in 0..3 {
        of_ben.write("mine.txt", format!("{number} again")).commit("Mine");
    }
    of_ben.push(SONG, &["main"]).assert_ok();
}

/// A lock is taken after the push was looked at and before its refs move; whether the push was refused.
fn lock_in_the_middle_of_a_push(fault: &str) -> bool {
    let server = TestServer::prepare().env("AUXIN_FAULT", fault).start();
    let (anna, ben) = song(&server);
    let of_ben = clone(&ben, "b");
    server.auxin(&["repo", "trust-hooks", SONG]).assert_ok();
    let hooks = server.data().join("repos").join(format!("{SONG}.git/hooks"));
    std::fs::create_dir_all(&hooks).expect("a folder");
    let (reached, go) = (hooks.join("reached"), hooks.join("go"));
    // Runs after the server's own checks; ends by itself should nobody come.
    let script = format!(
        "#!/bin/sh\ntouch '{}'\nfor n in $(seq 600); do test -e '{}' && exit 0; sleep 0.05; done\nexit 0\n",
        reached.display(),
        go.display()
    );
    std::fs::write(hooks.join("pre-receive"), script).expect("a hook");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(hooks.join("pre-receive"), mode).expect("a mode");
    of_ben.write("notes.txt", "re").commit("Changed");

    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| of_ben.push(SONG, &["main"]));
        process::wait_until("the hook runs", std::time::Duration::from_secs(60), || reached.exists());
        lock(&server, &anna, "notes.txt");
        std::fs::write(&go, "").expect("a file");
        let pushed = pushing.join().expect("pushed");
        if !pushed.ok() {
            says(&pushed, &["notes.txt has been locked by anna"]);
        }
        !pushed.ok()
    })
}

#[test]
fn either_the_lock_sees_the_push_or_the_push_sees_the_lock() {
    assert!(lock_in_the_middle_of_a_push(""), "the push went past the lock");
    // Without the order of the two it would.
    assert!(!lock_in_the_middle_of_a_push("no-lock-order"), "the test sees nothing");
}

/// A request to the REST API; its JSON.
#[track_caller]
fn rest(
    server: &TestServer,
    person: &Person,
    method: &str,
    path: &str,
    body: &serde_json::Value,
    status: u16,
) -> serde_json::Value {
    let request = Request::json(method, &format!("/api/v1/repos/{SONG}/{path}"), body);
    let answer = server.send(request.by(person));
    answer.assert_status(status);
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn locks_go_after_the_push_of_their_path_unless_they_are_kept() {
    let server = TestServer::start();
    let (anna, ben) = song(&server);
    let of_ben = clone(&ben, "b");
    let rules = serde_json::json!({"release_after_push": true});
    rest(&server, &anna, "PATCH", "lock-rules", &rules, 200);
    for (path, keep) in [("notes.txt", false), ("bass.wav", true), ("vox.wav", false)] {
        let wish = serde_json::json!({"path": path, "keep": keep});
        rest(&server, &ben, "POST", "locks", &wish, 201);
    }
    of_ben
        .write("notes.txt", "re")
        .write("bass.wav", b"dum")
        .commit("Changed");

    let pushed = of_ben.push(SONG, &["main"]);

    pushed.assert_ok().assert_said("Released your locks on notes.txt.");
    let left = of_ben.ask(&["lfs", "locks"]);
    assert!(
        left.contains("bass.wav") && left.contains("vox.wav") && !left.contains("notes.txt"),
        "{left}"
    );
}

#[test]
fn a_lock_on_an_old_version_warns_or_is_refused() {
    let server = TestServer::start();
    let (anna, ben) = song(&server);
    let (of_anna, of_ben) = (clone(&anna, "a"), clone(&ben, "b"));
    for text in ["re", "mi"] {
        of_anna.write("notes.txt", text).commit("More");
    }
    of_anna.write("other.txt", "x").commit("Other");
    of_anna.push(SONG, &["main"]).assert_ok();
    let old = of_ben.id("main");
    let wish = |path: &str, commit: &str| serde_json::json!({"path": path, "commit": commit});

    let taken = rest(&server, &ben, "POST", "locks", &wish("notes.txt", &old), 201);
    let warning = taken["warning"].as_str().expect("a warning");
    assert!(
        warning.contains("main is 3 commits ahead, 2 of which change it"),
        "{warning}"
    );
    // What has not changed is not old.
    let taken = rest(&server, &ben, "POST", "locks", &wish("bass.wav", &old), 201);
    assert!(taken["warning"].is_null(), "{taken}");
    let unknown = "1".repeat(40);
    let taken = rest(&server, &ben, "POST", "locks", &wish("vox.wav", &unknown), 201);
    assert!(
        taken["warning"]
            .as_str()
            .is_some_and(|text| text.contains("not known here")),
        "{taken}"
    );

    of_ben.git(&["lfs", "unlock", "notes.txt"]).assert_ok();
    rest(
        &server,
        &anna,
        "PATCH",
        "lock-rules",
        &serde_json::json!({"outdated": "refuse"}),
        200,
    );
    let refused = rest(&server, &ben, "POST", "locks", &wish("notes.txt", &old), 422);
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|text| text.contains("3 commits ahead")),
        "{refused}"
    );
    assert_eq!(of_ben.ask(&["lfs", "locks", "--path", "notes.txt"]), "");
    let newest = of_anna.id("main");
    let taken = rest(&server, &ben, "POST", "locks", &wish("notes.txt", &newest), 201);
    assert!(taken["warning"].is_null(), "{taken}");
}

#[test]
fn git_auxin_locks_asks_hands_over_keeps_and_steals() {
    let server = TestServer::start();
    let (anna, ben) = song(&server);
    let (of_anna, of_ben) = (clone(&anna, "a"), clone(&ben, "b"));
    auxin(&of_ben, &["locks"]).assert_ok().assert_said("Nothing is locked.");
    // A lockable file is read-only until it is locked.
    let vox = of_ben.folder.join("vox.wav");
    let is_read_only = || vox.metadata().expect("a file").permissions().readonly();
    of_ben.git(&["lfs", "pull"]).assert_ok();
    assert!(is_read_only());

    auxin(&of_ben, &["lock", "vox.wav", "--reason", "new chorus"])
        .assert_ok()
        .assert_said("Locked vox.wav.");

    assert!(!is_read_only());
    auxin(&of_anna, &["lock", "./VOX.wav"])
        .assert_failed()
        .assert_said("vox.wav has been locked by ben since 20");
    let locks = auxin(&of_anna, &["locks"]).assert_ok().out();
    assert!(
        locks.starts_with("vox.wav\tben\tsince 20") && locks.ends_with("\tnew chorus"),
        "{locks}"
    );
    auxin(&of_anna, &["ask", "vox.wav", "may I?"])
        .assert_ok()
        .assert_said("Asked ben for vox.wav.");
    auxin(&of_ben, &["keep", "vox.wav"]).assert_ok();
    auxin(&of_ben, &["hand-over", "vox.wav", "anna"])
        .assert_ok()
        .assert_said("vox.wav is anna's now.");
    auxin(&of_ben, &["steal", "vox.wav"])
        .assert_failed()
        .assert_said("idle for 12 h");
    auxin(&of_ben, &["unlock", "vox.wav"])
        .assert_failed()
        .assert_said("locked by anna");
    auxin(&of_anna, &["unlock", "vox.wav"])
        .assert_ok()
        .assert_said("Released vox.wav.");
    auxin(&of_anna, &["unlock", "vox.wav"])
        .assert_failed()
        .assert_said("vox.wav is not locked.");

    // A folder, from within another one; and a maintainer who cannot wait.
    std::fs::create_dir_all(of_ben.folder.join("Stems/Drums")).expect("a folder");
    let inside = WorkTree {
        person: ben.clone(),
        folder: of_ben.folder.join("Stems/Drums"),
    };
    auxin(&inside, &["lock", "../"])
        .assert_ok()
        .assert_said("Locked Stems.");
    auxin(&of_anna, &["steal", "Stems", "--reason", "deadline"])
        .assert_ok()
        .assert_said("Stems is yours now.");
    of_ben.write("Stems/kick.txt", "x").commit("Kick");
    of_ben.push(SONG, &["main"]).assert_refused_with("deadline)");

    // An old version is told of.
    of_anna.git(&["reset", "-q", "--hard", "origin/main"]).assert_ok();
    of_anna.write("notes.txt", "re").commit("More");
    of_anna.push(SONG, &["main"]).assert_ok();
    auxin(&of_ben, &["lock", "notes.txt"])
        .assert_ok()
        .assert_said("main is 1 commits ahead, 1 of which change it");
    for wrong in [
        &["lock"][..],
        &["hand-over", "vox.wav"],
        &["lock", "a", "b"],
        &["steal", "--reason"],
    ] {
        auxin(&of_ben, wrong).assert_failed().assert_said("hand-over PATH USER");
    }
}
