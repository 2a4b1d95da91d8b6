//! Repositories that others change on disk while they are served.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use auxin::git::ObjectId;
use auxin::git::snapshot::{Repository, Snapshot};

use crate::fetch_support::{Repo, run_git};
use crate::plan::{all_objects, contents, git_in};

/// How often an object moves while it is looked for.
const MOVES: usize = 400;

fn id(text: &str) -> ObjectId {
    ObjectId::from_hex(text.trim().as_bytes()).expect("an id")
}

fn target(snapshot: &Snapshot, name: &str) -> Option<ObjectId> {
    snapshot.refs.find(name.into()).map(|known| known.target)
}

fn pack_files(repo: &Repo) -> Vec<PathBuf> {
    let entries = fs::read_dir(repo.path.join("objects/pack")).expect("readable");
    entries.map(|entry| entry.expect("readable").path()).collect()
}

fn with_extension<'f>(files: &'f [PathBuf], extension: &str) -> &'f Path {
    let found = files
        .iter()
        .find(|path| path.extension().is_some_and(|other| other == extension));
    found.expect("there")
}

#[test]
fn an_object_that_is_being_packed_is_never_missed() {
    let repo = Repo::linear(1);
    let commit = id(&repo.id("main"));
    repo.git(&["repack", "-adq"]);
    let files = pack_files(&repo);
    let (pack, index) = (with_extension(&files, "pack"), with_extension(&files, "idx"));
    let (pack_aside, index_aside) = (repo.beside("aside.pack"), repo.beside("aside.idx"));
    fs::rename(pack, &pack_aside).expect("moves");
    fs::rename(index, &index_aside).expect("moves");
    let (ok, _, errors) = run_git(
        &repo.path,
        &["unpack-objects", "-q"],
        &fs::read(&pack_aside).expect("readable"),
    );
    assert!(ok, "{errors}");
    let hex = commit.to_string();
    let loose = repo.path.join("objects").join(&hex[..2]).join(&hex[2..]);
    let loose_aside = repo.beside("aside.loose");
    fs::rename(&loose, &loose_aside).expect("moves");

    for round in 0..MOVES {
        fs::copy(&loose_aside, &loose).expect("copies");
        let repository = Repository::open(&repo.path, false).expect("opens");
        let is_packed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // In the order in which `git repack -d` does it.
                fs::hard_link(&pack_aside, pack).expect("links");
                fs::hard_link(&index_aside, index).expect("links");
                fs::remove_file(&loose).expect("removes");
                is_packed.store(true, Ordering::Release);
            });
            while !is_packed.load(Ordering::Acquire) {
                let snapshot = repository.reload().expect("reads");
                assert!(snapshot.objects.contains(&commit), "round {round}");
            }
        });
        fs::remove_file(index).expect("removes");
        fs::remove_file(pack).expect("removes");
    }
}

#[test]
fn a_pack_that_is_replaced_by_another_is_never_missed() {
    let repo = Repo::linear(1);
    let commit = id(&repo.id("main"));
    repo.git(&["repack", "-adq"]);
    let files = pack_files(&repo);
    let (pack, index) = (with_extension(&files, "pack"), with_extension(&files, "idx"));
    let (pack_aside, index_aside) = (repo.beside("aside.pack"), repo.beside("aside.idx"));
    fs::rename(pack, &pack_aside).expect("moves");
    fs::rename(index, &index_aside).expect("moves");
    let name = |name: usize, extension: &str| pack.with_file_name(format!("pack-{name:040x}.{extension}"));
    let put = |number| {
        fs::hard_link(&pack_aside, name(number, "pack")).expect("links");
        fs::hard_link(&index_aside, name(number, "idx")).expect("links");
    };
    put(0);

    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=MOVES {
                put(number);
                fs::remove_file(name(number - 1, "idx")).expect("removes");
                fs::remove_file(name(number - 1, "pack")).expect("removes");
                // Stock git does not repack without a pause either.
                std::thread::yield_now();
            }
            is_done.store(true, Ordering::Release);
        });
        while !is_done.load(Ordering::Acquire) {
            // That packs come and go too fast is a sentence; that a branch has no commit is a lie.
            if let Ok(repository) = Repository::open(&repo.path, false) {
                let snapshot = match repository.snapshot() {
                    Err(error) if error.to_string().contains("replaced faster") => continue,
                    snapshot => snapshot.expect("reads"),
                };
                assert_eq!(target(&snapshot, "refs/heads/main"), Some(commit));
            }
        }
    });
}

#[test]
fn an_index_without_its_pack_is_passed_over() {
    let repo = Repo::linear(2);
    repo.git(&["repack", "-adq"]);
    let files = pack_files(&repo);
    let index = with_extension(&files, "idx");
    fs::copy(index, index.with_file_name(format!("pack-{}.idx", "1".repeat(40)))).expect("copies");

    let snapshot = repo.open().snapshot().expect("reads");

    assert_eq!(target(&snapshot, "refs/heads/main"), Some(id(&repo.id("main"))));
}

#[test]
fn refs_that_were_seen_in_a_look_that_failed_are_seen_in_the_next() {
    let repo = Repo::linear(2);
    let repository = repo.open();
    let (new, config) = (id(&repo.id("main~1")), repo.path.join("config"));
    repo.git(&["update-ref", "refs/heads/late", "main~1"]);
    fs::rename(&config, repo.beside("config")).expect("moves");
    fs::write(&config, "[broken").expect("writes");
    assert!(repository.snapshot().is_err());

    fs::rename(repo.beside("config"), &config).expect("moves");
    let snapshot = repository.snapshot().expect("reads");

    assert_eq!(target(&snapshot, "refs/heads/late"), Some(new));
}

#[test]
fn loose_objects_that_were_listed_while_they_were_written_are_listed_again_when_a_ref_names_them() {
    let repo = Repo::linear(3);
    repo.git(&["repack", "-adq"]);
    let repository = repo.open();
    let (ok, blob) = git_in(&repo.path, &["hash-object", "-w", "--stdin"], b"new");
    assert!(ok);
    let blob = String::from_utf8(blob).expect("hex").trim().to_owned();
    let (ok, tree) = git_in(
        &repo.path,
        &["mktree"],
        format!("100644 blob {blob}\tfile\n").as_bytes(),
    );
    assert!(ok);
    let tree = String::from_utf8(tree).expect("hex").trim().to_owned();
    let commit = repo.git(&["commit-tree", "-m", "c", &tree]).trim().to_owned();
    let loose = repo.path.join("objects").join(&blob[..2]).join(&blob[2..]);
    fs::rename(&loose, repo.beside("late")).expect("moves");
    // A listing that met the commit before it came to the folder of the file.
    repository.reload().expect("reads");
    fs::rename(repo.beside("late"), &loose).expect("moves");

    repo.git(&["update-ref", "refs/heads/new", &commit]);
    let snapshot = repository.snapshot().expect("reads");

    let request = auxin::git::plan::PackRequest {
        wants: vec![id(&commit)],
        ..Default::default()
    };
    let mut pack = Vec::new();
    auxin::git::plan::plan(&snapshot, &request, &mut || Ok(()))
        .expect("plans")
        .write_to(&mut pack, &mut || Ok(()))
        .expect("writes");
    assert!(contents(&pack).contains(&blob));
}

#[test]
fn alternates_of_alternates_are_found_as_git_finds_them() {
    let repo = Repo::linear(3);
    let folder = repo.beside("");
    let clone = |name: &str, alternates: &str| {
        let path = folder.join(name);
        let arguments = ["clone", "-q", "--bare", "--shared", ".", &path.to_string_lossy()];
        repo.git(&arguments);
        fs::write(path.join("objects/info/alternates"), alternates).expect("writes");
        path
    };
    fs::create_dir(folder.join("deeper")).expect("a folder");
    clone("deeper/middle.git", "../../../song.git/objects\n");
    // A comment, one that is gone, and a circle.
    let outer = clone(
        "outer.git",
        "# others\n/nowhere/objects\n../../deeper/middle.git/objects\n../objects\n",
    );
    fs::write(
        repo.path.join("objects/info/alternates"),
        "../../deeper/middle.git/objects\n",
    )
    .expect("writes");

    for path in [&outer, &repo.path] {
        let snapshot = Repository::open(path, false).expect("opens").snapshot().expect("reads");
        assert_eq!(target(&snapshot, "refs/heads/main"), Some(id(&repo.id("main"))));
        assert!(
            all_objects(path)
                .iter()
                .all(|object| snapshot.objects.contains(&id(object)))
        );
    }
}

#[test]
fn a_damaged_object_costs_the_refs_that_name_it_and_no_others() {
    let repo = Repo::linear(2);
    repo.git(&["repack", "-adq"]);
    let tree = repo.id("main^{tree}");
    let commit = repo.git(&["commit-tree", "-m", "c", &tree]).trim().to_owned();
    repo.git(&["update-ref", "refs/heads/damaged", &commit]);
    let loose = repo.path.join("objects").join(&commit[..2]).join(&commit[2..]);
    fs::remove_file(&loose).expect("removes");
    // What a power cut leaves of a file that was not synced.
    fs::write(&loose, "").expect("writes");

    let snapshot = repo.open().snapshot().expect("reads");

    assert_eq!(target(&snapshot, "refs/heads/damaged"), None);
    assert_eq!(target(&snapshot, "refs/heads/main"), Some(id(&repo.id("main"))));
}

#[test]
fn a_head_that_names_a_missing_commit_keeps_nobody_from_older_commits() {
    let repo = Repo::linear(3);
    let old = id(&repo.id("main~2"));
    fs::write(repo.path.join("HEAD"), format!("{}\n", "12".repeat(20))).expect("writes");

    let snapshot = repo.open().snapshot().expect("reads");

    let reached = snapshot.reachable(&[old], &[], &mut || Ok(()));
    assert_eq!(reached.expect("walks"), [true]);
}
