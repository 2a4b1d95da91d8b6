//! What large files are as sound, found while they are uploaded.

use auxin::db::{Hash, SoundRow, Visibility};
use auxin::ids::RepoId;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::support::{PASSWORD, Server, basic};

/// Mono, 48 kHz, 24 bits, with this overview behind it.
fn take(frames: usize, overview: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\xbb\0\0\x80\x32\x02\0\x03\0\x18\0data".to_vec();
    let sound: Vec<u8> = (0..frames * 3).map(|n| (n * n % 251) as u8).collect();
    file.extend((sound.len() as u32).to_le_bytes());
    file.extend(&sound);
    file.extend(b"LGWV");
    file.extend((overview.len() as u32).to_le_bytes());
    file.extend(overview);
    file
}

fn put(server: &Server, address: &str, named: &[u8], sent: &[u8]) -> u16 {
    let oid: String = Sha256::digest(named).iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!(
        "PUT /{address}.git/info/lfs/objects/{oid}/{} HTTP/1.1\n{}\nContent-Length: {}",
        named.len(),
        basic("anna", PASSWORD),
        sent.len()
    );
    server.ask(&head, sent).status
}

fn sound_of(server: &Server, repo: RepoId, file: &[u8]) -> Option<SoundRow> {
    let oid: Hash = Sha256::digest(file).into();
    let found = server.run(server.app.db.linked_sounds(repo, &[oid]));
    found.expect("read").remove(&oid)
}

#[test]
fn files_that_differ_in_the_overview_are_stored_as_one_sound() {
    let server = Server::with(|_| {});
    server.user("anna", false);
    let repo = server.repo("anna/song", Visibility::Private);
    let other = server.repo("anna/other", Visibility::Private);
    let (first, second, longer) = (take(48_000, b"one"), take(48_000, b"another"), take(96_000, b"one"));
    let text = vec![b'x'; 70_000];
    for file in [&first, &second, &longer, &text] {
        assert_eq!(put(&server, "anna/song", file, file), 200);
    }

    let [a, b, c] = [&first, &second, &longer].map(|file| sound_of(&server, repo, file).expect("a sound"));

    assert!(a.sound.is_some());
    assert_eq!((&a.sound, &a.facts), (&b.sound, &b.facts));
    assert_ne!(a.sound, c.sound);
    let facts: Value = serde_json::from_str(&c.facts).expect("JSON");
    assert_eq!(facts["seconds"], 2.0);
    assert_eq!((&facts["container"], &facts["channels"]), (&"wav".into(), &1.into()));
    assert_eq!(sound_of(&server, repo, &text), None);
    assert_eq!(sound_of(&server, other, &first), None, "a hash is not a right");
}

#[test]
fn bytes_that_were_not_announced_leave_no_sound() {
    let server = Server::with(|_| {});
    server.user("anna", false);
    let repo = server.repo("anna/song", Visibility::Private);
    let (named, sent) = (take(1_000, b"one"), take(1_000, b"two"));

    assert_eq!(put(&server, "anna/song", &named, &sent), 422);

    assert_eq!(sound_of(&server, repo, &named), None);
    assert_eq!(sound_of(&server, repo, &sent), None);
    assert_eq!(put(&server, "anna/song", &named, &named), 200);
    assert!(sound_of(&server, repo, &named).is_some());
}
