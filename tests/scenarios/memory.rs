//! Versions larger than memory should be: pushes and clones are streams.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::{MIB, TestServer, large, process};

/// Memory of the server that is not mapped from files, whatever goes through it, in bytes.
const RSS_ANON_LIMIT: u64 = 200 * MIB as u64;

/// Makes a file that nothing compresses, by a program that streams.
fn write_noise(path: &Path, seed: usize, size: u64) {
    let file = std::fs::File::create(path).expect("a file");
    let key = format!("{seed:032x}");
    let mut command = std::process::Command::new("openssl");
    command
        .args(["enc", "-aes-128-ctr", "-nosalt", "-K", &key, "-iv", "0"])
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size), &mut stdin).expect("openssl reads");
    drop(stdin);
    assert!(child.wait().expect("openssl ends").success());
}

/// Pushes and clones one version of `size` bytes in files of `piece` bytes.
fn goes_through(size: u64, piece: u64) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.git(&["config", "core.compression", "0"]).assert_ok();
    // Git takes a file below half a gigabyte into memory a few times over, on the client.
    song.git(&["config", "core.bigFileThreshold", "1m"]).assert_ok();
    let mut files = 0;
    let mut left = size;
    while left > 0 {
        let this = left.min(piece);
        write_noise(&song.folder.join(format!("take {files}.wav")), files, this);
        files += 1;
        left -= this;
    }
    song.commit("Everything");

    let (push, pushing) = process::peak_rss_anon_during(server.pid(), || song.push("anna/song", &["main"]));
    push.assert_ok();
    // The objects of the project go, so that the disk holds one copy less.
    std::fs::remove_dir_all(song.folder.join(".git")).expect("a folder");
    let (copy, cloning) = process::peak_rss_anon_during(server.pid(), || {
        anna.clone_repo("anna/song", "copy", &["--no-checkout"])
    });

    println!("peak RssAnon: push {} MiB, clone {} MiB", pushing >> 20, cloning >> 20);
    assert!(pushing < RSS_ANON_LIMIT, "push: {} MiB", pushing >> 20);
    assert!(cloning < RSS_ANON_LIMIT, "clone: {} MiB", cloning >> 20);
    assert_eq!(copy.ask(&["ls-tree", "main"]).lines().count(), files);
}

/// With git's own settings files below 512 MiB become deltas of each other: three versions of one of
/// `size` bytes are pushed, one more builds on what is there, and an old one is sent without its base.
fn deltas_go_through(size: u64) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    let take = song.folder.join("take.wav");
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&take).expect("there");
        file.write_all(text.as_bytes()).expect("written");
        song.commit(text);
    };
    write_noise(&take, 1, size);
    append("first");
    song.git(&["tag", "first"]).assert_ok();
    append("second");
    append("third");
    let pushed = process::peak_rss_anon_during(server.pid(), || song.push("anna/song", &["main", "first"]));
    append("fourth");
    let thin = process::peak_rss_anon_during(server.pid(), || song.push("anna/song", &["--thin", "main"]));
    let cloned = process::peak_rss_anon_during(server.pid(), || {
        anna.clone_repo(
            "anna/song",
            "old",
            &["--no-checkout", "--depth", "1", "--branch", "first"],
        )
    });

    let bare = server.folder_of("anna/song");
    let verified = crate::support::repositories::on_disk(&bare, &["count-objects", "-v"]);
    let packed_kib = verified
        .out()
        .lines()
        .find_map(|line| line.strip_prefix("size-pack: ")?.parse::<u64>().ok())
        .expect("git says it");
    assert!(packed_kib << 10 < 3 * size, "git made no deltas: {packed_kib} KiB");
    pushed.0.assert_ok();
    thin.0.assert_ok();
    for (what, peak) in [("push", pushed.1), ("thin push", thin.1), ("clone", cloned.1)] {
        println!("peak RssAnon: {what} {} MiB", peak >> 20);
        assert!(peak < RSS_ANON_LIMIT, "{what}: {} MiB", peak >> 20);
    }
}

#[test]
fn deltas_of_files_of_105_mb_go_through_in_little_memory() {
    deltas_go_through(105 * MIB as u64);
}

#[test]
#[ignore = "large: 8 GiB of disk; ./tests/run --large"]
fn deltas_of_files_of_500_mb_go_through_in_little_memory() {
    assert!(large(), "run by ./tests/run --large");
    deltas_go_through(500 * MIB as u64);
}

#[test]
fn a_version_of_300_mb_goes_through_in_little_memory() {
    goes_through(300 * MIB as u64, 150 * MIB as u64);
}

#[test]
#[ignore = "large: 12 GiB of disk; ./tests/run --large"]
fn a_version_of_4_gib_goes_through_in_little_memory() {
    assert!(large(), "run by ./tests/run --large");
    goes_through(4096 * MIB as u64, 1024 * MIB as u64);
}

#[test]
#[ignore = "large: 12 GiB of disk; ./tests/run --large"]
fn a_single_file_of_over_4_gib_goes_through_in_little_memory() {
    assert!(large(), "run by ./tests/run --large");
    goes_through(4200 * MIB as u64, 4200 * MIB as u64);
}
