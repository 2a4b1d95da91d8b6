//! What changed in songs between two commits, over the REST API.

use std::fs;
use std::path::Path;

use auxin::db::Visibility;
use sha2::{Digest as _, Sha256};

use super::support::{PASSWORD, Server, basic, git_ok};

#[expect(dead_code, reason = "the readers' own tests use the rest")]
#[path = "../../hooks/tests/support/project_data_files.rs"]
mod project_data_files;

use project_data_files::{markers, project_data, tempos};

/// A `MetaData.plist`.
fn list(bpm: u32, used: &[&str]) -> String {
    let used: String = used.iter().map(|path| format!("<string>{path}</string>")).collect();
    format!(
        "<plist version=\"1.0\"><dict><key>BeatsPerMinute</key><integer>{bpm}</integer>\
         <key>SampleRate</key><integer>48000</integer><key>AudioFiles</key><array>{used}</array></dict></plist>"
    )
}

/// One second of sound, mono, 48 kHz, 16 bits, with something behind it.
fn take(seed: u8, overview: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\xbb\0\0\0\x77\x01\0\x02\0\x10\0data".to_vec();
    file.extend(96_000_u32.to_le_bytes());
    file.extend((0..96_000_u32).map(|n| (n % 251) as u8 ^ seed));
    file.extend(b"LGWV");
    file.extend((overview.len() as u32).to_le_bytes());
    file.extend(overview);
    file
}

/// Brings a large file to the server; its pointer.
fn large(server: &Server, file: &[u8]) -> String {
    let oid: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!(
        "PUT /anna/song.git/info/lfs/objects/{oid}/{} HTTP/1.1\n{}\nContent-Length: {}",
        file.len(),
        basic("anna", PASSWORD),
        file.len()
    );
    assert_eq!(server.ask(&head, file).status, 200);
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n",
        file.len()
    )
}

fn write(work: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = work.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, content).expect("written");
}

const ALTERNATIVE: &str = "Songs/Hook.logicx/Alternatives/000";

/// `before` and `mix/after` of a private repository with a song and another one that stays as it is; both ids.
fn with_songs(server: &Server) -> [String; 2] {
    server.user("anna", false);
    server.user("otto", false);
    server.repo("anna/song", Visibility::Private);
    let work = server.work().join("work");
    fs::create_dir(&work).expect("a folder");
    git_ok(&work, &["init", "-q", "-b", "before"]);
    let audio = "Songs/Hook.logicx/Media/Audio Files";
    write(&work, "Other.logicx/Alternatives/000/MetaData.plist", list(90, &[]));
    write(
        &work,
        &format!("{ALTERNATIVE}/MetaData.plist"),
        list(120, &["Audio Files/a.wav"]),
    );
    let song = project_data(0x09cf, &[tempos(&[(0, 120.0)]), markers(&[(0, "Intro")])]);
    write(&work, &format!("{ALTERNATIVE}/ProjectData"), large(server, &song));
    write(&work, &format!("{audio}/a.wav"), large(server, &take(1, b"one")));
    git_ok(&work, &["add", "."]);
    git_ok(&work, &["commit", "-q", "-m", "First"]);
    git_ok(&work, &["checkout", "-q", "-b", "mix/after"]);
    write(
        &work,
        &format!("{ALTERNATIVE}/MetaData.plist"),
        list(124, &["Audio Files/b.wav", "Audio Files/a.wav"]),
    );
    let song = project_data(
        0x09cf,
        &[
            tempos(&[(0, 124.0), (7680, 62.0)]),
            markers(&[(0, "Intro"), (3840, "Verse")]),
        ],
    );
    // A plain file this time.
    write(&work, &format!("{ALTERNATIVE}/ProjectData"), song);
    write(&work, &format!("{audio}/a.wav"), large(server, &take(1, b"another")));
    write(&work, &format!("{audio}/b.wav"), large(server, &take(2, b"")));
    git_ok(&work, &["add", "."]);
    git_ok(&work, &["commit", "-q", "-m", "Second"]);
    let bare = server.repo_path("anna/song");
    let bare = bare.to_str().expect("utf-8");
    git_ok(&work, &["push", "-q", bare, "before", "mix/after"]);
    ["before", "mix/after"].map(|name| git_ok(&work, &["rev-parse", name]))
}

fn ask(server: &Server, user: &str, rest: &str) -> super::support::Answer {
    let head = format!(
        "GET /api/v1/repos/anna/song/compare/{rest} HTTP/1.1\n{}",
        basic(user, PASSWORD)
    );
    server.ask(&head, b"")
}

#[test]
fn two_commits_are_compared_in_a_musicians_words() {
    let server = Server::with(|_| {});
    let [old, new] = with_songs(&server);

    let answer = ask(&server, "anna", "before...mix/after?format=text");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        "Hook.logicx\n  tempo 120 → 124\n  1 audio file added (1 s, 96 kB)\n  1 file re-indexed by Logic: sound \
         unchanged\n  markers: + “Verse” at bar 2\n  tempo map: + 62 at bar 3\n"
    );
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let line = ask(&server, "anna", "before...mix%2Fafter?format=compact");
    assert_eq!(
        line.text(),
        "Hook.logicx: BPM 120→124, +1 audio (1s), 1 re-indexed, 1 marker, 1 tempo change\n"
    );

    let answer = ask(&server, "anna", &format!("{old}...{new}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_str(&answer.text()).expect("JSON");
    assert_eq!(json["after"]["commit"], new.as_str());
    assert_eq!(
        json["projects"].as_array().map(Vec::len),
        Some(1),
        "the other one did not change"
    );
    assert_eq!(json["projects"][0]["audio"]["reindexed"]["count"], 1);

    let same = ask(
        &server,
        "anna",
        "before...mix/after?project=Other.logicx&format=compact",
    );
    assert!(
        same.text().starts_with("Other.logicx: no structural change seen"),
        "{}",
        same.text()
    );
    let nothing = ask(&server, "anna", "before...before?format=text");
    assert_eq!((nothing.status, nothing.text().as_str()), (200, ""));
}

#[test]
fn what_cannot_be_compared_is_said_and_strangers_learn_nothing() {
    let server = Server::with(|_| {});
    let [old, _] = with_songs(&server);

    for (rest, status) in [
        ("before...nowhere", 404),
        ("before...0000000000000000000000000000000000000001", 404),
        ("before", 400),
        ("...before", 400),
        ("before...mix/after?format=xml", 400),
        ("before...mix/after?project=Missing.logicx", 404),
    ] {
        let answer = ask(&server, "anna", rest);
        assert_eq!(answer.status, status, "{rest}: {}", answer.text());
    }
    let told = ask(&server, "anna", "before...nowhere").text();
    assert!(
        told.contains("There is no branch, tag or commit nowhere here."),
        "{told}"
    );

    assert_eq!(ask(&server, "otto", "before...mix/after").status, 404);
    assert_eq!(
        server.get("/api/v1/repos/anna/song/compare/before...mix/after").status,
        401
    );
    let head = format!(
        "POST /api/v1/repos/anna/song/compare/a...b HTTP/1.1\n{}",
        basic("anna", PASSWORD)
    );
    assert_eq!(server.ask(&head, b"").status, 405);

    // A commit that no ref leads to any more is not told either.
    git_ok(
        &server.repo_path("anna/song"),
        &["update-ref", "-d", "refs/heads/before"],
    );
    git_ok(
        &server.repo_path("anna/song"),
        &["update-ref", "-d", "refs/heads/mix/after"],
    );
    assert_eq!(ask(&server, "anna", &format!("{old}...{old}")).status, 404);
}
