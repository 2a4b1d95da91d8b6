//! What the server says of commits, with stock git.

use serde_json::{Value, json};

use crate::support::{Person, TestServer, WorkTree};

const SONG: &str = "anna/song";
const METADATA: &str = "Hook.logicx/Alternatives/000/MetaData.plist";

/// The lists of a project as Logic writes them, with this tempo.
fn metadata(bpm: f64) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\
         <key>BeatsPerMinute</key><real>{bpm}</real><key>SampleRate</key><integer>48000</integer>\
         <key>SongKey</key><string>A</string><key>SongGenderKey</key><string>minor</string>\
         <key>SongSignatureNumerator</key><integer>6</integer><key>SongSignatureDenominator</key><integer>8</integer>\
         <key>NumberOfTracks</key><integer>24</integer></dict></plist>\n"
    )
}

/// A project with a song, not pushed.
fn song(person: &Person) -> WorkTree {
    let tree = person.new_project("song");
    tree.write(METADATA, metadata(120.0))
        .write("README", "la")
        .commit("First take");
    tree.git(&["remote", "add", "origin", &person.url(SONG)]).assert_ok();
    tree
}

/// The note of a commit, as the server has it.
fn note(tree: &WorkTree, commit: &str) -> Value {
    tree.git(&["fetch", "-q", "origin", "+refs/notes/*:refs/notes/*"])
        .assert_ok();
    let text = tree.ask(&["notes", "--ref=logic", "show", commit]);
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_push_is_told_what_its_song_is_and_stock_git_reads_the_notes() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let tree = song(&anna);

    let pushed = tree.git(&["push", "origin", "main"]);

    pushed
        .assert_ok()
        .assert_said("120 BPM · A minor · 6/8 · 48 kHz · 24 tracks");
    let first = note(&tree, "HEAD");
    assert_eq!(
        (&first["bpm"], &first["key"], &first["sample_rate"]),
        (&json!(120.0), &json!("A minor"), &json!(48000))
    );
    assert_eq!(first["auto"]["primary"], "Hook.logicx");
    let shown = tree.ask(&["log", "-1", "--notes=logic-summary"]);
    assert!(
        shown.contains("Notes (logic-summary):") && shown.contains("120 BPM"),
        "{shown}"
    );

    // People have the last word, and it holds until the project says something else.
    tree.write("README", "la la")
        .commit("Faster in my head\n\nBPM: 126\nTags: Mix");
    tree.git(&["push", "-q", "-o", "logic.tag=wip", "-o", "ci.skip", "origin", "main"])
        .assert_ok();
    let second = note(&tree, "HEAD");
    assert_eq!(
        (&second["bpm"], &second["tags"]),
        (&json!(126.0), &json!(["mix", "wip"]))
    );
    assert_eq!(second["warnings"][0]["code"], "differs_from_project");
    assert_eq!(second["user"]["tags"]["by"].as_str().map(str::is_empty), Some(false));
    tree.write("README", "la la la").commit("Third");
    tree.git(&["push", "-q", "origin", "main"]).assert_ok();
    let third = note(&tree, "HEAD");
    assert_eq!((&third["bpm"], &third["tags"]), (&json!(126.0), &Value::Null));
    tree.write(METADATA, metadata(90.0)).commit("Slower");
    tree.git(&["push", "-q", "origin", "main"])
        .assert_ok()
        .assert_said("90 BPM");
    assert_eq!(note(&tree, "HEAD")["bpm"], json!(90.0));
    assert_eq!(note(&tree, "HEAD~3")["bpm"], json!(120.0));
    // One commit of notes for each push.
    assert_eq!(tree.ask(&["rev-list", "--count", "refs/notes/logic"]).trim(), "4");
    server.auxin(&["repo", "fsck", SONG]).assert_ok();
}

#[test]
fn what_is_not_music_gets_no_notes() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let tree = anna.new_project("code");
    tree.write("src/main.rs", "fn main() {}").commit("First");
    let pushed = tree.push("anna/code", &["main"]);
    pushed.assert_ok();
    assert!(!pushed.err().contains("notes"), "{}", pushed.err());
    assert_eq!(tree.ask(&["ls-remote", &anna.url("anna/code"), "refs/notes/*"]), "");
}

#[test]
fn the_notes_are_the_servers_to_write_and_an_option_that_means_nothing_is_refused() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let tree = song(&anna);
    tree.git(&["push", "-q", "origin", "main"]).assert_ok();
    let before = note(&tree, "HEAD");

    for what in [
        &["origin", ":refs/notes/logic"][..],
        &["-f", "origin", "main:refs/notes/logic-summary"],
    ] {
        let args: Vec<&str> = ["push"].iter().chain(what).copied().collect();
        tree.git(&args).assert_failed().assert_said("is written by the server");
    }
    let odd = tree.git(&["push", "-o", "logic.tempo=3", "origin", "main:other"]);
    odd.assert_failed().assert_said("there is no such option");

    assert_eq!(note(&tree, "HEAD"), before);
}

#[test]
fn what_a_crash_cut_off_is_written_after_the_next_start() {
    let mut server = TestServer::start();
    let anna = server.user("anna");
    let tree = song(&anna);
    server.repo(SONG);
    server.stop();
    server.start_again_with("AUXIN_FAULT", "after-refs");
    tree.git(&["push", "origin", "main"]);
    server.wait_for_end();

    server.start_again_with("AUXIN_FAULT", "");

    let has_come = || !tree.ask(&["ls-remote", "origin", "refs/notes/logic"]).is_empty();
    for _ in 0..100 {
        if has_come() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(note(&tree, "main")["bpm"], json!(120.0));
}

#[test]
fn a_history_that_came_another_way_gets_its_notes_by_command() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let tree = song(&anna);
    tree.write("README", "la la").commit("Second\n\nKey: D minor");
    let bare = server.repo(SONG);
    tree.git(&["push", "-q", &bare.display().to_string(), "main"])
        .assert_ok();

    server
        .auxin(&["repo", "notes", SONG])
        .assert_ok()
        .assert_said("2 commits looked at, 2 with a note");

    assert_eq!(note(&tree, "HEAD")["key"], "D minor");
    let tip = tree.ask(&["rev-parse", "refs/notes/logic"]);
    server.auxin(&["repo", "notes", SONG, "--rebuild"]).assert_ok();
    note(&tree, "HEAD");
    assert_eq!(
        tree.ask(&["rev-parse", "refs/notes/logic"]),
        tip,
        "the same again is no change"
    );
}
