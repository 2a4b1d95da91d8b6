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

/// A server that removes what nothing needs as soon as two looks have found it.
fn impatient() -> TestServer {
    let prepare = TestServer::prepare()
        .setting("lfs.unreferenced_grace_days", 0)
        .setting("lfs.second_mark_after_secs", 0);
    prepare.start()
}

fn gc(server: &TestServer, more: &[&str]) -> Value {
    // Settings reach commands through the file.
    let args: Vec<&str> = ["gc"].into_iter().chain(more.iter().copied()).collect();
    json(server, &args)
}

#[test]
fn what_no_ref_needs_goes_after_two_looks_and_what_one_needs_stays() {
    let server = impatient();
    std::fs::write(
        server.data().join("auxin.toml"),
        "[lfs]\nunreferenced_grace_days = 0\nsecond_mark_after_secs = 0\n",
    )
    .expect("writes");
    let anna = server.user("anna");
    let song = song(&anna, "song");
    let (kept, shared) = (noise(1, MIB), noise(2, MIB));
    song.write("kept.wav", &kept).commit("Kept");
    song.push("anna/song", &["main"]).assert_ok();
    song.git(&["checkout", "--quiet", "-b", "idea"]).assert_ok();
    let mut half = shared.clone();
    half.truncate(MIB / 2);
    song.write("half.wav", &half).commit("An idea");
    song.push("anna/song", &["idea"]).assert_ok();
    song.write("thrown.wav", noise(3, 2 * MIB)).commit("Thrown away");
    song.push("anna/song", &["idea"]).assert_ok();
    // Another repository needs the half of it.
    song.git(&["branch", "half", "idea~1"]).assert_ok();
    song.push("anna/copy", &["half"]).assert_ok();
    let url = anna.url("anna/song");
    song.git(&["push", &url, ":idea"]).assert_ok();
    let before = packs(server.data()).len();

    server.auxin(&["gc"]).assert_refused_with("There is no backup");
    let mut told = gc(&server, &["--dry-run"]);
    assert_eq!(told["removed"].as_array().expect("a list").len(), 0, "{told}");
    assert_eq!(bytes(&told, "first_marked_files"), 2, "{told}");
    assert_eq!(
        gc(&server, &["--dry-run"])["first_marked_files"],
        told["first_marked_files"]
    );
    let first = gc(&server, &["--without-backup"]);
    assert_eq!(
        (bytes(&first, "first_marked_files"), bytes(&first, "removed_objects")),
        (2, 0)
    );
    told = gc(&server, &["--dry-run"]);
    assert_eq!(told["removed"].as_array().expect("a list").len(), 2, "{told}");
    let second = gc(&server, &[]);
    assert_eq!(second["removed"].as_array().expect("a list").len(), 2, "{second}");
    assert_eq!(
        bytes(&second, "removed_objects"),
        1,
        "one is still needed elsewhere: {second}"
    );
    assert_eq!(bytes(&second, "read_commits"), 0, "nothing is new: {second}");
    assert!(bytes(&second, "first_marked_chunks") > 10, "{second}");
    let shown = json(&server, &["doctor"]);
    assert!(
        bytes(&shown, "collectable_bytes") > 2 * MIB as u64 - 64 * KIB as u64,
        "{shown}"
    );
    let third = gc(&server, &[]);
    assert!(bytes(&third, "removed_chunk_bytes") >= 2 * MIB as u64, "{third}");
    assert_eq!(bytes(&third, "condemned_packs"), 1, "{third}");
    assert_eq!(packs(server.data()).len(), before, "somebody may be reading it");
    let fourth = gc(&server, &[]);
    assert_eq!(bytes(&fourth, "removed_packs"), 1, "{fourth}");
    assert_eq!(packs(server.data()).len(), before - 1);

    server.auxin(&["doctor"]).assert_ok();
    for repo in ["anna/song", "anna/copy"] {
        server.auxin(&["repo", "fsck", repo]).assert_ok();
    }
    // What went may come again.
    song.push("anna/song", &["idea"]).assert_ok();
    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    let copy = clone_all(&anna);
    assert!(std::fs::read(copy.folder.join("thrown.wav")).expect("reads") == noise(3, 2 * MIB));
}

fn clone_all(person: &Person) -> WorkTree {
    person.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    person.clone_repo("anna/song", "again", &["--branch", "idea"])
}

#[test]
fn nothing_is_collected_where_something_is_wrong() {
    let server = impatient();
    let anna = server.user("anna");
    let song = song(&anna, "song");
    song.write("a.wav", noise(1, MIB)).commit("A take");
    song.push("anna/song", &["main"]).assert_ok();
    let folder = server.repo("anna/other");
    gc(&server, &["--without-backup"]);

    // A repository that cannot be read.
    std::fs::rename(&folder, server.scratch().join("other")).expect("moves");
    server.auxin(&["gc"]).assert_refused_with("nothing was removed");
    std::fs::rename(server.scratch().join("other"), &folder).expect("moves back");
    server.auxin(&["gc"]).assert_ok();
    // A store of another server.
    let owner = server.data().join("store/instance-id");
    let own = std::fs::read(&owner).expect("reads");
    std::fs::write(&owner, "somebody else\n").expect("writes");
    server
        .auxin(&["gc"])
        .assert_refused_with("belongs to the server somebody else");
    std::fs::write(&owner, own).expect("writes");
    // The store of another database, which is empty.
    let empty = TestServer::start();
    let pack = packs(server.data()).pop().expect("a pack");
    let target = empty.data().join("store/packs/aa");
    std::fs::create_dir_all(&target).expect("makes");
    std::fs::copy(&pack, target.join("x.pack")).expect("copies");
    empty
        .auxin(&["gc", "--without-backup"])
        .assert_refused_with("knows of no large file");
    assert_eq!(packs(empty.data()).len(), 1);
    assert!(pack.exists());
}
