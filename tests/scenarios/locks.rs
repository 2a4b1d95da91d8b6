//! Locks with stock git and git-lfs.

use crate::support::{Outcome, Person, TestServer, WorkTree};

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
