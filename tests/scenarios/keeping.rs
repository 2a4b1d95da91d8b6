//! Large files after they came: figures, checks, collection.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{KIB, MIB, Person, TestServer, WorkTree, noise};

/// A project whose sound goes to Git LFS.
pub fn song(person: &Person, folder: &str) -> WorkTree {
    let song = person.new_project(folder);
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n");
    song
}

/// What a command says to programs.
pub fn json(server: &TestServer, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    server.auxin(&args).json()
}

pub fn bytes(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Every chunk pack on the disk of the server.
pub fn packs(data: &Path) -> Vec<PathBuf> {
    let fans = std::fs::read_dir(data.join("store/packs"))
        .into_iter()
        .flatten()
        .flatten();
    let files = fans.flat_map(|fan| std::fs::read_dir(fan.path()).expect("lists"));
    files.map(|file| file.expect("an entry").path()).collect()
}

#[test]
fn figures_say_what_is_there_and_what_was_saved() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna, "song");
    let take = noise(1, 2 * MIB);
    // Half of it has been there before, and half a megabyte of silence costs next to nothing.
    let mut second = take[..MIB].to_vec();
    second.resize(MIB + 512 * KIB, 0);
    // One after the other: what two uploads bring at the same time lies in the packs of both.
    song.write("a.wav", &take).commit("A take");
    song.push("anna/song", &["main"]).assert_ok();
    song.write("b.wav", &second).commit("Another");
    song.push("anna/song", &["main"]).assert_ok();
    song.push("anna/copy", &["main"]).assert_ok();

    let shown = json(&server, &["repo", "show", "anna/song"]);
    let whole = json(&server, &["doctor"]);

    let logical = (take.len() + second.len()) as u64;
    assert_eq!(bytes(&shown, "logical_bytes"), logical);
    assert_eq!(bytes(&whole, "logical_bytes"), 2 * logical, "each repository counts");
    for figures in [&shown, &whole] {
        let (stored, by_dedup) = (bytes(figures, "stored_bytes"), bytes(figures, "saved_by_dedup_bytes"));
        let sum = stored + by_dedup + bytes(figures, "saved_by_codec_bytes");
        assert_eq!(sum, bytes(figures, "logical_bytes"), "{figures}");
        let noise_bytes = 2 * MIB as u64;
        assert!(
            (noise_bytes..noise_bytes + 64 * KIB as u64).contains(&stored),
            "{figures}"
        );
        assert_eq!(bytes(figures, "damaged_objects"), 0);
    }
    assert!(bytes(&shown, "saved_by_dedup_bytes") > 900 * KIB as u64, "{shown}");
    assert!(bytes(&shown, "saved_by_codec_bytes") > 0, "{shown}");
    assert!(bytes(&whole, "collectable_bytes") < 16, "{whole}");
    assert_eq!(whole["ok"], true, "{whole}");
}

#[test]
fn the_doctor_finds_a_missing_pack_a_missing_repository_and_a_foreign_store() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna, "song");
    song.write("a.wav", noise(1, MIB)).commit("A take");
    song.push("anna/song", &["main"]).assert_ok();
    let folder = server.repo("anna/gone");
    server.auxin(&["doctor"]).assert_ok();

    let pack = packs(server.data()).pop().expect("a pack");
    std::fs::rename(&pack, server.scratch().join("pack")).expect("moves");
    std::fs::remove_dir_all(folder).expect("removes");
    std::fs::write(server.data().join("store/instance-id"), "somebody else\n").expect("writes");
    let found = json(&server, &["doctor"]);

    assert_eq!(found["ok"], false);
    let broken: Vec<&str> = found["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| check["check"].as_str().expect("a name"))
        .collect();
    assert_eq!(broken, ["repositories", "store", "packs"], "{found}");
    server.auxin(&["doctor"]).assert_failed();
}
