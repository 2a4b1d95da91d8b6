//! `git auxin status` with the real git, git-lfs and server.

use serde_json::Value;

use crate::support::client::{auxin, install};
use crate::support::{KIB, Person, TestServer, WorkTree, noise};

const SONG: &str = "anna/song";
const DATA: &str = "Song.logicx/Alternatives/000/ProjectData";
const ATTRIBUTES: &str = "*.wav filter=lfs diff=lfs merge=lfs -text\n\
                          ProjectData filter=lfs diff=lfs merge=lfs -text lockable\n";

/// A song that anna pushed, and ben's clone of it.
fn song(server: &TestServer) -> (WorkTree, WorkTree) {
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    for person in [&anna, &ben] {
        install(person);
    }
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", ATTRIBUTES)
        .write(DATA, noise(1, 3 * KIB))
        .write("vox.wav", noise(2, 20 * KIB))
        .commit("First take");
    song.git(&["remote", "add", "origin", &anna.url(SONG)]).assert_ok();
    song.git(&["push", "-q", "-u", "origin", "main"]).assert_ok();
    server.auxin(&["member", "add", SONG, "ben", "write"]).assert_ok();
    let copy = ben.clone_repo(SONG, "copy", &[]);
    (song, copy)
}

#[track_caller]
fn status(tree: &WorkTree, code: i32) -> (String, Value) {
    let text = auxin(tree, &["status"]);
    assert_eq!(text.code, Some(code), "{text:?}");
    let json = auxin(tree, &["status", "--json"]);
    assert_eq!(json.code, Some(code), "{json:?}");
    (text.out(), json.json()["repository"].clone())
}

#[test]
fn one_screen_tells_locks_and_what_was_not_pushed() {
    let server = TestServer::start();
    let (song, copy) = song(&server);

    let (text, all) = status(&song, 0);
    for words in [
        "Locks             none of yours",
        "Unpushed sound    none",
        "Missing sound     none of 2 large files",
        "Songs             in Git LFS and lockable",
        "Hooks             pre-push runs Git LFS",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(all["locks"]["state"], "known", "{all}");
    assert_eq!(all["branch"], "refs/heads/main");

    // One's own lock is told, and what is new by its size.
    auxin(&song, &["lock", DATA]).assert_ok();
    song.write(DATA, noise(3, 4000))
        .write("bass.wav", noise(4, 30_000))
        .commit("Bass");
    let (text, all) = status(&song, 0);
    assert!(text.contains(&format!("1 of yours: {DATA}")), "{text}");
    assert!(
        text.contains("2 large files, 34.0 kB, in 1 commit that no remote has"),
        "{text}"
    );
    assert_eq!(all["locks"]["mine"][0]["path"], DATA);
    assert_eq!(all["large_files"]["unpushed"]["bytes"], 34_000);

    // Of another's lock only what it covers and was changed is in the way.
    let (text, all) = status(&copy, 0);
    assert!(text.contains("none of yours, 1 of others elsewhere"), "{text}");
    assert_eq!(all["locks"]["in_the_way"], serde_json::json!([]));
    copy.write("Song.logicx/Alternatives/000/WindowImage.jpg", "x")
        .write("notes.txt", "x");
    let (text, all) = status(&copy, 1);
    assert!(
        text.contains(&format!("! Locked            {DATA} by anna since 20")),
        "{text}"
    );
    let in_the_way = &all["locks"]["in_the_way"][0];
    assert_eq!(in_the_way["holder"], "anna");
    assert_eq!(
        in_the_way["changed"],
        serde_json::json!(["Song.logicx/Alternatives/000/WindowImage.jpg"])
    );
    // Committed is changed, too, until it is pushed.
    copy.commit("A picture");
    status(&copy, 1);

    song.git(&["push", "-q", "origin", "main"]).assert_ok();
    let (text, _) = status(&song, 0);
    assert!(text.contains("Unpushed sound    none"), "{text}");
}

#[test]
fn sound_that_is_not_here_is_told_and_what_a_push_would_lack() {
    let server = TestServer::start();
    let (_, copy) = song(&server);
    let bare = &["-c", "filter.lfs.smudge=", "-c", "filter.lfs.process="];
    let url = copy.person.url(SONG);
    let args = [
        bare,
        ["clone", "-q", "-c", "filter.lfs.required=false", &url, "bare"].as_slice(),
    ]
    .concat();
    copy.person.git(&args).assert_ok();
    let bare = copy.person.project("bare");
    bare.git(&["config", "--unset", "filter.lfs.required"]).assert_ok();
    bare.git(&["lfs", "install", "--local"]).assert_ok();

    let (text, all) = status(&bare, 1);
    let words = format!("! Missing sound     2 of 2 large files, 23.6 kB; `git lfs pull` gets them: {DATA}, vox.wav");
    assert!(text.contains(&words), "{text}");
    assert_eq!(all["large_files"]["missing"]["files"], 2);
    // Who leaves it out by intention has no problem.
    bare.git(&["config", "lfs.fetchexclude", "*"]).assert_ok();
    let (text, _) = status(&bare, 0);
    assert!(text.contains("leave some out"), "{text}");
    bare.git(&["config", "--unset", "lfs.fetchexclude"]).assert_ok();
    bare.git(&["lfs", "pull"]).assert_ok();
    status(&bare, 0);

    copy.write("new.wav", noise(9, 1000)).commit("New");
    copy.git(&["rm", "-q", "new.wav"]).assert_ok();
    copy.commit("No");
    std::fs::remove_dir_all(copy.folder.join(".git/lfs/objects")).expect("removed");
    let (text, all) = status(&copy, 1);
    assert!(
        text.contains("1 large file, 1.0 kB, in 2 commits that no remote has; 1 of them is not on this computer"),
        "{text}"
    );
    assert_eq!(all["large_files"]["unpushed"]["not_here"], 1);
}

#[test]
fn hooks_attributes_and_plain_sound_that_would_lose_work_are_told() {
    let server = TestServer::start();
    let (song, _) = song(&server);
    let hook = song.folder.join(".git/hooks/pre-push");
    let kept = std::fs::read(&hook).expect("a hook");

    std::fs::write(&hook, "#!/bin/sh\nexit 0\n").expect("written");
    let (text, _) = status(&song, 1);
    assert!(
        text.contains("! Hooks             pre-push here does not run Git LFS"),
        "{text}"
    );
    std::fs::remove_file(&hook).expect("removed");
    let (text, _) = status(&song, 1);
    assert!(text.contains("! Hooks             pre-push is absent"), "{text}");
    std::fs::write(&hook, kept).expect("written");
    let (text, _) = status(&song, 1);
    assert!(text.contains("! Hooks             pre-push may not be run"), "{text}");
    std::fs::remove_file(&hook).expect("removed");
    song.git(&["lfs", "update"]).assert_ok();
    status(&song, 0);

    song.write(".gitattributes", "ProjectData filter=lfs diff=lfs merge=lfs -text\n")
        .write("plain.wav", noise(5, 5000))
        .commit("Carelessly");
    let (text, _) = status(&song, 1);
    assert!(
        text.contains(&format!("! Songs             not lockable: {DATA}")),
        "{text}"
    );
    assert!(
        text.contains("1 file, 5.0 kB, not in Git LFS but in git itself: plain.wav"),
        "{text}"
    );
}

#[test]
fn without_a_server_or_a_commit_it_tells_what_it_can_and_asks_nobody() {
    let server = TestServer::start();
    let anna = server.user("anna");
    install(&anna);
    let empty = anna.new_project("empty");
    empty.git(&["lfs", "install", "--local"]).assert_ok();
    let (text, all) = status(&empty, 0);
    assert!(text.contains("nobody keeps them: no remote is set"), "{text}");
    assert_eq!(all["locks"]["state"], "no_server");

    // A server that is down, and one that does not know this person.
    let unknown = |person: &Person, url: &str, words: &str| {
        let tree = person.new_project("other");
        tree.git(&["lfs", "install", "--local"]).assert_ok();
        tree.git(&["remote", "add", "origin", url]).assert_ok();
        let (text, all) = status(&tree, 1);
        assert!(
            text.contains("! Locks             not known: ") && text.contains(words),
            "{text}"
        );
        assert_eq!(all["locks"]["state"], "unknown");
    };
    unknown(
        &anna,
        "http://anna@127.0.0.1:1/anna/song.git",
        "knows no name and password",
    );
    let cleo = server.stranger();
    install(&cleo);
    unknown(&cleo, &anna.url(SONG), "knows no name and password");
}
