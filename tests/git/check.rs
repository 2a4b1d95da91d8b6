//! Checking repositories, judged by what is wrong with them.

use std::fs;
use std::path::PathBuf;

use auxin::git::check::check;
use auxin::git::snapshot::Repository;

use crate::plan::{TestRepo, git_in};

pub fn pack_files(repo: &TestRepo) -> Vec<PathBuf> {
    let mut packs: Vec<PathBuf> = fs::read_dir(repo.path.join("objects/pack"))
        .expect("lists")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pack"))
        .collect();
    packs.sort();
    packs
}

pub fn scattered() -> TestRepo {
    let repo = TestRepo::with_history();
    repo.git(&["repack", "-adfq"]);
    for tip in ["main~8", "side~3", "main\n^main~20"] {
        let (ok, _) = git_in(
            &repo.path,
            &["pack-objects", "-q", "--revs", "objects/pack/pack"],
            tip.as_bytes(),
        );
        assert!(ok);
    }
    let (ok, _) = git_in(&repo.path, &["hash-object", "-w", "--stdin"], b"reached by no ref");
    assert!(ok);
    repo
}

#[test]
fn a_sound_repository_passes_the_check() {
    let repo = scattered();
    let repository = Repository::open(&repo.path, false).expect("opens");

    let report = check(&repository, &mut || Ok(())).expect("checks");

    assert_eq!(report.errors, Vec::<String>::new());
    assert!(report.objects > 100 && report.refs > 5);
}

#[test]
fn the_check_names_a_flipped_bit_and_the_refs_that_suffer() {
    let repo = TestRepo::with_history();
    repo.git(&["repack", "-adfq"]);
    let pack = pack_files(&repo).remove(0);
    let mut bytes = fs::read(&pack).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::remove_file(&pack).expect("removes");
    fs::write(&pack, bytes).expect("writes");
    let repository = Repository::open(&repo.path, false).expect("opens");

    let report = check(&repository, &mut || Ok(())).expect("checks");

    assert!(
        report
            .errors
            .iter()
            .any(|error| error.contains("does not match its checksum")),
        "{:?}",
        report.errors
    );
    assert!(
        report.errors.iter().any(|error| error.starts_with("object ")),
        "{:?}",
        report.errors
    );
}

#[test]
fn the_check_names_a_ref_whose_object_is_missing() {
    let repo = TestRepo::with_history();
    let lost = "1234567890123456789012345678901234567890";
    fs::write(repo.path.join("refs/heads/lost"), format!("{lost}\n")).expect("writes");
    let repository = Repository::open(&repo.path, false).expect("opens");

    let report = check(&repository, &mut || Ok(())).expect("checks");

    assert_eq!(
        report.errors,
        [format!("refs/heads/lost: its object {lost} is missing")]
    );
}
