//! Versions larger than memory should be: pushes and clones are streams.

use std::process::Stdio;

use crate::support::{MIB, TestServer, large, process};

/// Memory of the server that is not mapped from files, whatever goes through it, in bytes.
const RSS_ANON_LIMIT: u64 = 200 * MIB as u64;

/// Pushes and clones one version of `size` bytes in files of `piece` bytes.
fn goes_through(size: u64, piece: u64) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.git(&["config", "core.compression", "0"]).assert_ok();
    song.git(&["config", "core.bigFileThreshold", "1m"]).assert_ok();
    let mut files = 0;
    let mut left = size;
    while left > 0 {
        let this = left.min(piece);
        // Random, so that nothing is saved by compression; made by a program that streams.
        let path = song.folder.join(format!("take {files}.wav"));
        let file = std::fs::File::create(path).expect("a file");
        let mut command = std::process::Command::new("openssl");
        command
            .args([
                "enc",
                "-aes-128-ctr",
                "-nosalt",
                "-K",
                &format!("{files:032x}"),
                "-iv",
                "0",
            ])
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), this), &mut stdin).expect("openssl reads");
        drop(stdin);
        assert!(child.wait().expect("openssl ends").success());
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
