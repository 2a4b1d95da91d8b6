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

#[test]
fn damage_is_told_with_every_file_and_mended_by_the_next_push_of_it() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let song = song(&anna, "song");
    let take = noise(1, MIB);
    song.write("takes/a.wav", &take).commit("A take");
    song.push("anna/song", &["main"]).assert_ok();
    song.push("anna/copy", &["main"]).assert_ok();
    // One that shares nearly everything with it.
    let mut longer = take.clone();
    longer.extend(noise(2, 300 * KIB));
    song.write("longer.wav", &longer).commit("Longer");
    song.push("anna/song", &["main"]).assert_ok();
    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    server.auxin(&["scrub"]).assert_ok();

    // The largest pack is that of the first take.
    let mut all = packs(server.data());
    all.sort_by_key(|pack| pack.metadata().expect("there").len());
    let pack = all.pop().expect("a pack");
    let mut bytes = std::fs::read(&pack).expect("reads");
    bytes[MIB / 2] ^= 1;
    std::fs::write(&pack, bytes).expect("writes");

    let found = json(&server, &["scrub"]);
    let problems = found["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 1, "{found}");
    let files = problems[0]["files"].to_string();
    for file in ["anna/song: ", "anna/copy: ", " takes/a.wav", " longer.wav"] {
        assert!(files.contains(file), "{file} in {files}");
    }
    server
        .auxin(&["repo", "fsck", "anna/copy"])
        .assert_failed()
        .assert_said("error: chunk");
    let parts: usize = (1..=3)
        .map(|part| json(&server, &["scrub", "--subset", &format!("{part}/3")]))
        .map(|part| part["problems"].as_array().expect("problems").len())
        .sum();
    assert_eq!(parts, 1, "each pack is in one part");
    server.auxin(&["doctor"]).assert_failed();

    // Somebody who may not read those repositories has the same sound, and mends it without hearing of them.
    let own = self::song(&ben, "own");
    own.write("mine.wav", &take).commit("Mine");
    own.push("ben/own", &["main"]).assert_ok();

    for repo in ["anna/song", "anna/copy", "ben/own"] {
        server.auxin(&["repo", "fsck", repo]).assert_ok();
    }
    server.auxin(&["scrub"]).assert_ok();
    server.auxin(&["doctor"]).assert_ok();
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "again", &[]);
    assert!(std::fs::read(copy.folder.join("longer.wav")).expect("reads") == longer);
}

#[test]
fn a_damaged_file_is_asked_for_again_where_it_lies() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna, "song");
    // Enough chunks for a recipe in the pack, and its pack gone altogether.
    song.write("a.wav", noise(1, 6 * MIB)).commit("A take");
    song.push("anna/song", &["main"]).assert_ok();
    for pack in packs(server.data()) {
        std::fs::remove_file(pack).expect("removes");
    }
    server.auxin(&["repo", "fsck", "anna/song"]).assert_failed();

    song.git(&["lfs", "push", "--all", &anna.url("anna/song")]).assert_ok();

    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    server.auxin(&["scrub", "--subset", "0/3"]).assert_failed();
}
