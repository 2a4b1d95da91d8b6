//! Large files in a bucket of a real S3-compatible server.

use std::path::Path;

use crate::support::s3::{Mode, Proxy, S3Server, in_bucket};
use crate::support::{KIB, MIB, Person, TestServer, WorkTree, noise};

/// A project whose sound goes to Git LFS: one long file and many short ones.
fn song(person: &Person, seed: u64) -> WorkTree {
    let song = person.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n");
    song.write("long.wav", noise(seed, 12 * MIB));
    for number in 0..20 {
        song.write(&format!("hits/{number}.wav"), noise(seed + 1 + number, 30 * KIB));
    }
    song.commit("Takes");
    song
}

#[track_caller]
fn assert_whole(tree: &WorkTree, seed: u64) {
    let read = |path: &str| std::fs::read(tree.folder.join(path)).expect("readable");
    assert!(read("long.wav") == noise(seed, 12 * MIB), "another sound came back");
    for number in 0..20 {
        let path = format!("hits/{number}.wav");
        assert!(read(&path) == noise(seed + 1 + number, 30 * KIB), "{path}");
    }
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => 1,
        })
        .sum()
}

#[test]
fn a_song_goes_into_a_bucket_and_comes_back() {
    let bucket = S3Server::start();
    let mut server = in_bucket(TestServer::prepare(), bucket.address()).start();
    let anna = server.user("anna");
    let song = song(&anna, 100);

    song.push("anna/song", &["main"]).assert_ok();

    assert_eq!(files(&server.data().join("store/packs")), 0, "nothing lies on the disk");
    assert!(bucket.objects("auxin/packs/") > 0);
    server.stop();
    server.start_again();
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert_whole(&copy, 100);
    copy.git(&["lfs", "fsck"]).assert_ok();
}

#[test]
fn a_bucket_that_fails_all_the_time_loses_nothing() {
    let bucket = S3Server::start();
    let proxy = Proxy::before(bucket.address(), Mode::Faulty, 7);
    let server = in_bucket(TestServer::prepare(), proxy.address())
        .setting("store.timeout_secs", 20)
        .start();
    let anna = server.user("anna");
    let song = song(&anna, 200);
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();

    let is_pushed = (0..10).any(|_| song.push("anna/song", &["main"]).code == Some(0));

    assert!(is_pushed, "ten tries");
    assert!(proxy.faults() > 3, "{} faults", proxy.faults());
    // What was acknowledged is there, and comes through faults, too.
    let is_cloned = (0..10).any(|number| {
        let url = anna.url("anna/song");
        let folder = format!("copy-{number}");
        let cloned = anna.git(&["clone", "-q", &url, &folder]).code == Some(0);
        if cloned {
            assert_whole(&anna.project(&folder), 200);
        }
        cloned
    });
    assert!(is_cloned, "ten tries");
    proxy.set(Mode::Honest);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert_whole(&copy, 200);
    copy.git(&["lfs", "fsck"]).assert_ok();
}

/// The test above can fail.
#[test]
fn a_bucket_that_says_stored_and_stores_nothing_is_found_out() {
    let bucket = S3Server::start();
    let proxy = Proxy::before(bucket.address(), Mode::Lying, 7);
    let server = in_bucket(TestServer::prepare(), proxy.address()).start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs -text\n")
        .write("vox.wav", noise(1, 30 * KIB))
        .commit("Take");
    song.push("anna/song", &["main"]).assert_ok();
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();

    let cloned = anna.git(&["clone", "-q", &anna.url("anna/song"), "copy"]);

    cloned.assert_failed();
}

#[test]
fn a_bucket_that_cannot_be_reached_is_told_to_the_person_and_changes_nothing() {
    let bucket = S3Server::start();
    let server = in_bucket(TestServer::prepare(), bucket.address())
        .setting("store.max_retries", 0)
        .start();
    drop(bucket);
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs -text\n")
        .write("vox.wav", noise(1, 30 * KIB))
        .commit("Take");

    song.git(&[
        "-c",
        "lfs.transfer.maxretries=1",
        "push",
        &anna.url("anna/song"),
        "main",
    ])
    .assert_failed();
}
