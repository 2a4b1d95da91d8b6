//! Large files with stock git-lfs.

use std::path::Path;

use crate::support::process;
use crate::support::{KIB, MIB, Person, Request, TestServer, WorkTree, noise};

/// A project whose sound goes to Git LFS.
fn song(person: &Person) -> WorkTree {
    let song = person.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(
        ".gitattributes",
        "*.wav filter=lfs diff=lfs merge=lfs -text\n*.aif filter=lfs diff=lfs merge=lfs -text lockable\n",
    );
    song
}

/// A take: a header, and samples that are much like sound.
fn take(seed: u64, len: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0data".to_vec();
    file.extend((len as u32).to_le_bytes());
    file.extend(noise(seed, len));
    file
}

/// A clone with its large files.
fn clone(person: &Person, address: &str, folder: &str) -> WorkTree {
    person.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    person.clone_repo(address, folder, &[])
}

fn read(tree: &WorkTree, path: &str) -> Vec<u8> {
    std::fs::read(tree.folder.join(path)).expect("readable")
}

/// The length of everything in the store, in bytes.
fn stored_bytes(server: &TestServer) -> u64 {
    fn below(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => below(&entry.path()),
                _ => entry.metadata().map_or(0, |data| data.len()),
            })
            .sum()
    }
    below(&server.data().join("store"))
}

#[test]
fn the_first_push_brings_large_files_into_a_repository_that_did_not_exist() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    let vox = take(1, 3 * MIB);
    song.write("vox.wav", &vox).write("Song.txt", "la").commit("First take");

    song.push("anna/song", &["main"]).assert_ok();

    let copy = clone(&anna, "anna/song", "copy");
    assert!(read(&copy, "vox.wav") == vox, "another sound came back");
    let pointer = copy.ask(&["cat-file", "-p", "HEAD:vox.wav"]);
    assert!(pointer.starts_with("version https://git-lfs"), "{pointer}");
    copy.git(&["lfs", "fsck"]).assert_ok();
    song.push("anna/song", &["main"]).assert_ok();
}

#[test]
fn every_command_of_stock_git_lfs_works() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    let (vox, bass) = (take(1, 700 * KIB), take(2, 40 * KIB));
    song.write("vox.wav", &vox)
        .write("bass.aif", &bass)
        .commit("First take");
    let url = anna.url("anna/song");
    song.git(&["remote", "add", "origin", &url]).assert_ok();
    song.git(&["push", "origin", "main"]).assert_ok();
    let newer = take(3, 700 * KIB);
    song.write("vox.wav", &newer).commit("Second take");
    song.git(&["lfs", "push", "--all", "origin"]).assert_ok();
    song.git(&["push", "origin", "main"]).assert_ok();

    // Without large files at first, then one by one.
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let copy = {
        let mut command = anna.command_in(anna.home(), &["clone", "--quiet", &url, "copy"]);
        command.env("GIT_LFS_SKIP_SMUDGE", "1");
        crate::support::run(&mut command).assert_ok();
        anna.project("copy")
    };
    assert!(read(&copy, "vox.wav").len() < 200, "the pointer");
    copy.git(&["lfs", "pull", "--include", "bass.aif"]).assert_ok();
    assert!(read(&copy, "bass.aif") == bass);
    assert!(read(&copy, "vox.wav").len() < 200, "still the pointer");
    copy.git(&["lfs", "fetch", "--all"]).assert_ok();
    copy.git(&["lfs", "checkout"]).assert_ok();
    assert!(read(&copy, "vox.wav") == newer);
    copy.git(&["checkout", "--quiet", "main~1"]).assert_ok();
    assert!(read(&copy, "vox.wav") == vox);
    copy.git(&["checkout", "--quiet", "main"]).assert_ok();
    copy.git(&["lfs", "fsck"]).assert_ok();
    copy.git(&["lfs", "prune", "--verify-remote"]).assert_ok();

    // A history whose sound lay in git so far.
    let old = anna.new_project("old");
    old.git(&["lfs", "install", "--local"]).assert_ok();
    old.write("drums.wav", take(4, 200 * KIB)).commit("In git");
    old.git(&["lfs", "migrate", "import", "--everything", "--yes", "--include=*.wav"])
        .assert_ok();
    old.push("anna/old", &["main"]).assert_ok();
    let drums = clone(&anna, "anna/old", "old-copy");
    assert!(read(&drums, "drums.wav") == take(4, 200 * KIB));
}

#[test]
fn only_what_is_new_in_a_file_is_stored_again() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    let first = take(1, 4 * MIB);
    song.write("vox.wav", &first).commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    let before = stored_bytes(&server);
    // Logic writes its overview into the file; the sound stays.
    let mut again = first[..36].to_vec();
    again.extend(b"LGWV\x10\x27\0\0");
    again.extend(noise(9, 10_000));
    again.extend(&first[36..]);

    song.write("vox.wav", &again).commit("Indexed");
    song.push("anna/song", &["main"]).assert_ok();

    let grown = stored_bytes(&server) - before;
    assert!(grown < 60 * KIB as u64, "{grown} bytes for a header of 10,000");
    let copy = clone(&anna, "anna/song", "copy");
    assert!(read(&copy, "vox.wav") == again);
}

#[test]
fn a_thousand_small_files_go_up_and_come_down() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    for number in 0..1000 {
        song.write(&format!("hits/{number}.wav"), noise(number, 2000));
    }
    song.commit("A kit");

    song.push("anna/song", &["main"]).assert_ok();

    let copy = clone(&anna, "anna/song", "copy");
    for number in [0, 1, 500, 999] {
        assert!(read(&copy, &format!("hits/{number}.wav")) == noise(number, 2000));
    }
    copy.git(&["lfs", "fsck"]).assert_ok();
}

#[test]
fn a_hash_is_not_a_right() {
    let server = TestServer::start();
    let (anna, ben) = (server.user("anna"), server.user("ben"));
    let secret = song(&anna);
    secret.write("vox.wav", take(1, 300 * KIB)).commit("Secret");
    secret.push("anna/secret", &["main"]).assert_ok();
    let pointer = secret.ask(&["cat-file", "-p", "HEAD:vox.wav"]);
    let oid = pointer
        .split("sha256:")
        .nth(1)
        .expect("an oid")
        .split_whitespace()
        .next()
        .expect("an oid")
        .to_owned();
    server.repo("ben/song");
    let batch = |person: &Person, address: &str, operation: &str| {
        let body = format!(r#"{{"operation":"{operation}","objects":[{{"oid":"{oid}","size":307244}}]}}"#);
        server.send(
            Request::post(
                &format!("/{address}.git/info/lfs/objects/batch"),
                "application/vnd.git-lfs+json",
                body,
            )
            .by(person),
        )
    };

    let there = batch(&ben, "anna/secret", "download");
    let nowhere = batch(&ben, "anna/nothing", "download");
    assert_eq!((there.status, nowhere.status), (404, 404));
    let own = batch(&ben, "ben/song", "download");
    assert!(own.text().contains("\"code\":404"), "{own:?}");
    let asked = batch(&ben, "ben/song", "upload");
    assert!(
        asked.text().contains("/ben/song.git/info/lfs/objects/"),
        "he must bring the bytes: {asked:?}"
    );
    let direct = server.send(Request::get(&format!("/ben/song.git/info/lfs/objects/{oid}")).by(&ben));
    direct.assert_status(404);
    // Whoever may read the other repository need not bring them.
    server
        .auxin(&["member", "add", "anna/secret", "ben", "read"])
        .assert_ok();
    let known = batch(&ben, "ben/song", "upload");
    assert!(!known.text().contains("actions"), "{known:?}");
    server.auxin(&["repo", "delete", "anna/secret", "--yes"]).assert_ok();
    let linked = server.send(Request::get(&format!("/ben/song.git/info/lfs/objects/{oid}")).by(&ben));
    assert!(
        linked.body == take(1, 300 * KIB),
        "it does not depend on the other repository"
    );
}

#[test]
fn memory_stays_flat_while_a_file_of_half_a_gigabyte_passes() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    {
        use std::io::Write as _;
        let mut file = std::fs::File::create(song.folder.join("mix.wav")).expect("a file");
        file.write_all(&take(1, 0)).expect("written");
        for number in 0..512 {
            file.write_all(&noise(number, MIB)).expect("written");
        }
    }
    song.commit("A long take");
    let idle = server.rss_anon_bytes();
    let (copy, most) = process::peak_rss_anon_during(server.pid(), || {
        song.push("anna/song", &["main"]).assert_ok();
        clone(&anna, "anna/song", "copy")
    });

    let (there, here) = (copy.folder.join("mix.wav"), song.folder.join("mix.wav"));
    let same = std::process::Command::new("cmp").args([there, here]).status();
    assert!(same.expect("cmp runs").success(), "another file came back");
    let grown = most.saturating_sub(idle) / MIB as u64;
    assert!(grown < 100, "memory grew by {grown} MiB");
}

#[test]
fn a_server_that_is_killed_in_mid_upload_takes_the_file_again() {
    let mut server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    let vox = take(1, 40 * MIB);
    song.write("vox.wav", &vox).commit("First take");
    let unfinished = |server: &TestServer| {
        let mut left = vec![server.data().join("store")];
        let mut found = 0;
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => left.push(entry.path()),
                    _ => found += usize::from(entry.file_name().to_string_lossy().contains('#')),
                }
            }
        }
        found
    };
    std::thread::scope(|scope| {
        let push = scope.spawn(|| song.push("anna/song", &["main"]));
        process::wait_until("a pack is being written", std::time::Duration::from_secs(60), || {
            unfinished(&server) > 0
        });
        crate::support::server::signal(server.pid(), "KILL");
        push.join().expect("git ran").assert_failed();
    });
    server.kill();
    assert!(unfinished(&server) > 0, "it was not in mid upload");

    server.start_again();

    assert_eq!(unfinished(&server), 0);
    song.push("anna/song", &["main"]).assert_ok();
    let copy = clone(&anna, "anna/song", "copy");
    assert!(read(&copy, "vox.wav") == vox);
}
