//! The client program with the real git, the real git-lfs and the real server: only what is new travels.

use std::process::Command;

use crate::support::client::install;
use crate::support::{KIB, MIB, Outcome, Person, TestServer, WorkTree, noise, run};

fn song(person: &Person) -> WorkTree {
    let song = person.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n");
    song
}

/// A take with a part of `header` bytes before its samples.
fn take(seed: u64, header: usize, len: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0LGWV".to_vec();
    file.extend((header as u32).to_le_bytes());
    file.extend(noise(seed + header as u64, header));
    file.extend(b"data");
    file.extend((len as u32).to_le_bytes());
    file.extend(noise(seed, len));
    file
}

/// A push or pull, and the last number of bytes that git-lfs saw settled.
fn traced(tree: &WorkTree, args: &[&str]) -> Outcome {
    tree.git(&[&["-c", "lfs.concurrenttransfers=2"], args].concat())
}

fn read(tree: &WorkTree, path: &str) -> Vec<u8> {
    std::fs::read(tree.folder.join(path)).expect("readable")
}

/// Names of files of the client below `.git/lfs/auxin/recipes`.
fn noted(tree: &WorkTree) -> usize {
    let folder = tree.folder.join(".git/lfs/auxin/recipes");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_song_is_pushed_changed_pushed_again_cloned_and_pulled_in_chunks() {
    let server = TestServer::start();
    let anna = server.user("anna");
    install(&anna);
    let song = song(&anna);
    let first = take(1, 8, 6 * MIB);
    song.write("vox.wav", &first)
        .write("small.wav", take(2, 8, 20 * KIB))
        .commit("First take");
    let url = anna.url("anna/song");
    song.git(&["remote", "add", "origin", &url]).assert_ok();
    traced(&song, &["push", "origin", "main"]).assert_ok();
    assert_eq!(noted(&song), 1, "the large file went by the client");

    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert!(read(&copy, "vox.wav") == first);
    assert_eq!(noted(&copy), 1, "the large file came by the client");
    copy.git(&["lfs", "fsck"]).assert_ok();

    let again = take(1, 5000, 6 * MIB);
    song.write("vox.wav", &again).commit("Indexed");
    traced(&song, &["push", "origin", "main"]).assert_ok();
    traced(&copy, &["pull", "origin", "main"]).assert_ok();
    assert!(read(&copy, "vox.wav") == again);
    copy.git(&["lfs", "fsck"]).assert_ok();
}

#[test]
fn without_the_client_whole_files_travel_from_the_same_address() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    install(&anna);
    let song = song(&anna);
    let vox = take(3, 8, 2 * MIB);
    song.write("vox.wav", &vox).commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    server.auxin(&["member", "add", "anna/song", "ben", "read"]).assert_ok();
    ben.git(&["lfs", "install", "--skip-repo"]).assert_ok();

    let copy = ben.clone_repo("anna/song", "copy", &[]);

    assert!(read(&copy, "vox.wav") == vox);
    assert_eq!(noted(&copy), 0);
}

#[test]
fn a_window_system_with_a_short_path_can_push() {
    let server = TestServer::start();
    let anna = server.user("anna");
    install(&anna);
    let song = song(&anna);
    let vox = take(4, 8, 2 * MIB);
    song.write("vox.wav", &vox).commit("First take");
    let bare = anna.home().join("bare");
    std::fs::create_dir(&bare).expect("a folder");
    for program in ["git", "git-lfs", "sh"] {
        let found = run(Command::new("which").arg(program));
        let found = found.assert_ok().out().trim().to_owned();
        std::os::unix::fs::symlink(found, bare.join(program)).expect("a link");
    }

    run(anna
        .command_in(&song.folder, &["push", &anna.url("anna/song"), "main"])
        .env("PATH", &bare))
    .assert_ok();

    assert_eq!(noted(&song), 1, "it went by the client");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert!(read(&copy, "vox.wav") == vox);
}
