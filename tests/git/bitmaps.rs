//! Fetches from repositories with stored bitmaps, judged by stock git.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use auxin::config::GitSettings;
use auxin::git::ObjectId;
use auxin::git::filter::{Filter, FilterLimits};
use auxin::git::plan::{PackRequest, plan};
use auxin::git::snapshot::Repository;
use auxin::git::walk::{Reaching, Walker};

use crate::fetch_support::{Random, Repo, run_git};

/// How a repository's objects lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// One pack with a bitmap.
    Whole,
    /// A pack with a bitmap of an earlier moment, and later packs and loose objects.
    Lagging,
    /// Several packs and a multi-pack-index with a bitmap.
    Midx,
    /// The same of an earlier moment.
    LaggingMidx,
    /// Everything twice: a pack with a bitmap and larger ones without, with the same objects.
    Duplicates,
    /// Another repository lends a pack with a bitmap.
    Borrowed,
}

const LAYOUTS: [Layout; 6] = [
    Layout::Whole,
    Layout::Lagging,
    Layout::Midx,
    Layout::LaggingMidx,
    Layout::Duplicates,
    Layout::Borrowed,
];

fn packs(path: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path.join("objects/pack")) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|other| other == extension))
        .collect();
    found.sort();
    found
}

/// Refs that name the first half of the commits only, so that what is written then lags behind.
fn with_half(repo: &Repo, then: impl FnOnce()) {
    let refs = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    let early: Vec<&String> = repo.commits.iter().take(repo.commits.len() / 2).collect();
    for line in refs.lines() {
        let (_, name) = line.split_once(' ').expect("an id and a name");
        repo.git(&["update-ref", "--no-deref", "-d", name]);
    }
    for (number, id) in early.iter().enumerate() {
        repo.git(&["update-ref", &format!("refs/heads/early{number}"), id]);
    }
    then();
    for number in 0..early.len() {
        repo.git(&["update-ref", "-d", &format!("refs/heads/early{number}")]);
    }
    for line in refs.lines() {
        let (id, name) = line.split_once(' ').expect("an id and a name");
        repo.git(&["update-ref", name, id]);
    }
}

/// Some packs of what single commits reach.
fn split(repo: &Repo, random: &mut Random) {
    for _ in 0..3 {
        let tip = &repo.commits[random.below(repo.commits.len())];
        let arguments = ["pack-objects", "-q", "--revs", "objects/pack/pack"];
        let (ok, _, errors) = run_git(&repo.path, &arguments, tip.as_bytes());
        assert!(ok, "{errors}");
    }
}

fn make(layout: Layout, seed: u64) -> Repo {
    let repo = Repo::random(seed);
    let random = &mut Random::new(seed);
    match layout {
        Layout::Whole => drop(repo.git(&["repack", "-adbq"])),
        Layout::Lagging => {
            // All objects stay in a pack beside.
            repo.git(&["repack", "-adq"]);
            let keep = packs(&repo.path, "pack")[0].with_extension("keep");
            fs::write(&keep, "").expect("writes");
            with_half(&repo, || drop(repo.git(&["repack", "-aqb", "--pack-kept-objects"])));
            fs::remove_file(keep).expect("removes");
            repo.git(&["update-ref", "refs/heads/newest", &a_commit_on(&repo, "HEAD")]);
        }
        Layout::Midx => {
            split(&repo, random);
            remove_bitmaps(&repo);
            repo.git(&["multi-pack-index", "write", "--bitmap"]);
        }
        Layout::LaggingMidx => {
            split(&repo, random);
            repo.git(&["repack", "-dq"]);
            remove_bitmaps(&repo);
            with_half(&repo, || drop(repo.git(&["multi-pack-index", "write", "--bitmap"])));
            repo.git(&["update-ref", "refs/heads/newest", &a_commit_on(&repo, "HEAD")]);
        }
        Layout::Duplicates => {
            repo.git(&["repack", "-adbq"]);
            let (ok, _, errors) = run_git(
                &repo.path,
                &[
                    "pack-objects",
                    "-q",
                    "--all",
                    "--reflog",
                    "--window=0",
                    "objects/pack/pack",
                ],
                b"",
            );
            assert!(ok, "{errors}");
            repo.git(&["update-ref", "refs/heads/newest", &a_commit_on(&repo, "HEAD")]);
            split(&repo, random);
        }
        Layout::Borrowed => {
            repo.git(&["repack", "-adbq"]);
            let lender = repo.beside("lender");
            fs::rename(repo.path.join("objects"), &lender).expect("moves");
            for folder in ["objects/pack", "objects/info"] {
                fs::create_dir_all(repo.path.join(folder)).expect("a folder");
            }
            let lenders = format!("{}\n", lender.display());
            fs::write(repo.path.join("objects/info/alternates"), lenders).expect("writes");
            repo.git(&["update-ref", "refs/heads/newest", &a_commit_on(&repo, "HEAD")]);
        }
    }
    repo
}

fn remove_bitmaps(repo: &Repo) {
    for bitmap in packs(&repo.path, "bitmap") {
        fs::remove_file(bitmap).expect("removes");
    }
}

/// A new commit, loose, with a new file beside those of its parent.
fn a_commit_on(repo: &Repo, parent: &str) -> String {
    let (ok, blob, errors) = run_git(&repo.path, &["hash-object", "-w", "--stdin"], b"newest\n");
    assert!(ok, "{errors}");
    let blob = String::from_utf8(blob).expect("an id");
    let mut tree = repo.git(&["ls-tree", parent]);
    tree += &format!("100644 blob {}\tnewest.txt\n", blob.trim());
    let (ok, tree, errors) = run_git(&repo.path, &["mktree"], tree.as_bytes());
    assert!(ok, "{errors}");
    let tree = String::from_utf8(tree).expect("an id");
    let commit = repo.git(&["commit-tree", "-m", "newest", "-p", parent, tree.trim()]);
    commit.trim().to_owned()
}

fn id(text: &str) -> ObjectId {
    ObjectId::from_hex(text.as_bytes()).expect("an id")
}

fn has_bitmaps(repo: &Repo) -> bool {
    let snapshot = repo.open().snapshot().expect("reads");
    snapshot.objects.bitmaps().is_some()
}

fn sent(repo: &Repo, request: &PackRequest) -> Vec<u8> {
    sent_by(&repo.open(), request)
}

fn sent_by(repository: &Repository, request: &PackRequest) -> Vec<u8> {
    let snapshot = repository.snapshot().expect("reads");
    let mut pack = Vec::new();
    plan(&snapshot, request, &mut || Ok(()))
        .expect("plans")
        .write_to(&mut pack, &mut || Ok(()))
        .expect("writes");
    pack
}

/// Ids of the objects in a pack; it may need no others.
fn contents(repo: &Repo, pack: &[u8], is_closed: bool) -> BTreeSet<String> {
    let place = repo.beside("one.pack");
    fs::write(&place, pack).expect("writes");
    let place = place.to_str().expect("text").to_owned();
    let mut arguments = vec!["index-pack"];
    arguments.extend(is_closed.then_some("--strict"));
    arguments.push(&place);
    let (ok, _, errors) = run_git(&repo.path, &arguments, b"");
    assert!(ok, "{errors}");
    let index = fs::read(place.replace(".pack", ".idx")).expect("reads");
    let (ok, out, errors) = run_git(&repo.path, &["show-index"], &index);
    assert!(ok, "{errors}");
    fs::remove_file(place.replace(".pack", ".idx")).expect("removes");
    String::from_utf8(out)
        .expect("text")
        .lines()
        .map(|line| line.split(' ').nth(1).expect("an id").to_owned())
        .collect()
}

fn listed(repo: &Repo, arguments: &[&str], ids: &[String]) -> BTreeSet<String> {
    let mut all = vec!["rev-list", "--objects", "--no-object-names", "--stdin"];
    all.extend(arguments);
    let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let (ok, out, errors) = run_git(&repo.path, &all, input.as_bytes());
    assert!(ok || ids.is_empty(), "{errors}");
    let out = String::from_utf8(out).expect("text");
    out.lines().map(str::to_owned).collect()
}

fn some(from: &[String], random: &mut Random, most: usize) -> Vec<String> {
    (0..1 + random.below(most))
        .map(|_| from[random.below(from.len())].clone())
        .collect()
}

fn tips(repo: &Repo) -> Vec<String> {
    let tips = repo.git(&["for-each-ref", "--format=%(objectname)"]);
    tips.lines().map(str::to_owned).collect()
}

fn reachable(repo: &Repo) -> Vec<String> {
    repo.git(&["rev-list", "--all"]).lines().map(str::to_owned).collect()
}

#[test]
fn every_layout_is_one_whose_bitmaps_are_read() {
    for layout in LAYOUTS {
        let read = (1..=2).filter(|seed| has_bitmaps(&make(layout, *seed))).count();
        assert_eq!(read, 2, "{layout:?}");
    }
}

#[test]
fn clones_and_fetches_hold_what_they_must_however_bitmaps_lie() {
    for layout in LAYOUTS {
        for seed in 1..=3 {
            let repo = make(layout, seed);
            let (tips, reachable) = (tips(&repo), reachable(&repo));
            for number in 0..3 {
                let random = &mut Random::new(seed * 100 + number);
                let wants = some(if random.once_in(2) { &tips } else { &reachable }, random, 4);
                let haves = if number == 0 {
                    Vec::new()
                } else {
                    some(&reachable, random, 4)
                };
                let request = PackRequest {
                    wants: wants.iter().map(|want| id(want)).collect(),
                    haves: haves.iter().map(|have| id(have)).collect(),
                    ofs_delta: random.once_in(2),
                    ..PackRequest::default()
                };
                let what = format!("{layout:?} seed {seed} request {number}");

                let pack = contents(&repo, &sent(&repo, &request), false);

                let all = listed(&repo, &[], &wants);
                let had = listed(&repo, &[], &haves);
                let needed: BTreeSet<String> = all.difference(&had).cloned().collect();
                assert!(needed.is_subset(&pack), "{what}");
                assert!(pack.is_subset(&all), "{what}");
                if matches!(layout, Layout::Whole | Layout::Midx) {
                    assert_eq!(pack, needed, "{what}: bitmaps tell exactly what the client has");
                }
            }
        }
    }
}

#[test]
fn thin_packs_build_only_on_what_the_client_has() {
    for layout in LAYOUTS {
        for seed in 11..=12 {
            let repo = make(layout, seed);
            let reachable = reachable(&repo);
            for number in 0..2 {
                let random = &mut Random::new(seed * 100 + number);
                let wants = some(&tips(&repo), random, 3);
                let have = reachable[random.below(reachable.len())].clone();
                let client = tempfile::TempDir::new().expect("a temporary folder");
                assert!(run_git(client.path(), &["init", "-q", "--bare", "."], b"").0);
                let base = PackRequest {
                    wants: vec![id(&have)],
                    ofs_delta: true,
                    ..PackRequest::default()
                };
                let stored = run_git(client.path(), &["index-pack", "--stdin"], &sent(&repo, &base));
                assert!(stored.0, "{}", stored.2);
                let request = PackRequest {
                    wants: wants.iter().map(|want| id(want)).collect(),
                    haves: vec![id(&have)],
                    thin: true,
                    ofs_delta: random.once_in(2),
                    ..PackRequest::default()
                };

                let pack = sent(&repo, &request);

                let what = format!("{layout:?} seed {seed} request {number}");
                let (ok, _, errors) = run_git(client.path(), &["index-pack", "--stdin", "--fix-thin"], &pack);
                assert!(ok, "{what}: {errors}");
                let mut arguments = vec!["rev-list", "--objects", "--quiet"];
                arguments.extend(wants.iter().map(String::as_str));
                let (ok, _, errors) = run_git(client.path(), &arguments, b"");
                assert!(ok, "{what}: {errors}");
            }
        }
    }
}

#[test]
fn filters_leave_out_what_git_leaves_out_however_bitmaps_lie() {
    for layout in LAYOUTS {
        let repo = make(layout, 21);
        let wants = tips(&repo);
        for filter in [
            "blob:none",
            "blob:limit=5",
            "blob:limit=0",
            "tree:0",
            "tree:1",
            "tree:2",
            "object:type=blob",
            "object:type=tree",
            "object:type=commit",
            "object:type=tag",
            "combine:blob:limit=5+tree:2",
            "combine:blob:none+object:type=tree",
        ] {
            let request = PackRequest {
                wants: wants.iter().map(|want| id(want)).collect(),
                filter: Filter::parse(filter, FilterLimits::from(&GitSettings::default())).expect("a filter"),
                ofs_delta: true,
                ..PackRequest::default()
            };

            let pack = contents(&repo, &sent(&repo, &request), false);

            let expected = listed(&repo, &[&format!("--filter={filter}")], &wants);
            let differing: Vec<_> = pack.symmetric_difference(&expected).collect();
            assert!(differing.is_empty(), "{layout:?} {filter}: {differing:?}");
        }
    }
}

#[test]
fn what_is_cut_off_is_not_taken_from_bitmaps() {
    for layout in LAYOUTS {
        let repo = make(layout, 31);
        let head = repo.id("HEAD");
        let request = PackRequest {
            wants: vec![id(&head)],
            parentless: vec![id(&head)],
            shallow_involved: true,
            ofs_delta: true,
            ..PackRequest::default()
        };

        let pack = contents(&repo, &sent(&repo, &request), false);

        let expected = listed(&repo, &[], &[format!("{head}^{{tree}}"), format!("^{head}^@")]);
        assert!(expected.is_subset(&pack), "{layout:?}");
        let commits = pack.iter().filter(|id| repo.commits.contains(id)).count();
        assert!(commits <= 1, "{layout:?}: {commits} commits");

        // The client cut its history off there, and has nothing of what comes before.
        let older = &repo.commits[0];
        let shallow = PackRequest {
            wants: vec![id(older)],
            haves: vec![id(&head)],
            ..request
        };
        let pack = contents(&repo, &sent(&repo, &shallow), false);
        assert!(pack.contains(older) || older == &head, "{layout:?}");
    }
}

#[test]
fn what_refs_reach_is_told_from_bitmaps_as_by_a_walk() {
    for layout in LAYOUTS {
        let repo = make(layout, 41);
        let hidden = a_commit_on(&repo, "HEAD");
        repo.git(&["update-ref", "refs/hidden/one", &hidden]);
        repo.git(&["config", "transfer.hideRefs", "refs/hidden"]);
        let snapshot = repo.open().snapshot().expect("reads");
        let everything = repo.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
        let ids: Vec<ObjectId> = everything.lines().map(id).collect();
        let visible = listed(&repo, &["--exclude=refs/hidden/*", "--all"], &[]);

        let reached = snapshot.reachable(&ids, &[], &mut || Ok(())).expect("reads");

        for (id, is_reached) in ids.iter().zip(reached) {
            assert_eq!(is_reached, visible.contains(&id.to_string()), "{layout:?}: {id}");
        }
        let walker = Walker::new(&snapshot.objects, &snapshot.shallow, 1 << 20);
        let step_by_step = Reaching::new(walker, &snapshot.visible_tips(), &mut || Ok(())).expect("reads");
        let mut step_by_step = step_by_step.expect("there are bitmaps");
        for id in &ids {
            let kind = repo.git(&["cat-file", "-t", &id.to_string()]);
            if matches!(kind.trim(), "blob" | "tree") {
                let position = snapshot.objects.position(id).expect("it is here");
                let is_reached = step_by_step.reaches(position, &mut || Ok(())).expect("reads");
                assert_eq!(is_reached, visible.contains(&id.to_string()), "{layout:?}: {id}");
            }
        }
    }
}

#[test]
fn a_clone_is_the_pack_file_itself_although_other_objects_lie_beside_it() {
    let repo = Repo::random(51);
    repo.git(&["repack", "-adbq"]);
    let pack = packs(&repo.path, "pack").remove(0);
    // Duplicates, a larger pack, loose objects, and what only a hidden ref names.
    let hidden = a_commit_on(&repo, "HEAD");
    repo.git(&["update-ref", "refs/hidden/one", &hidden]);
    repo.git(&["config", "transfer.hideRefs", "refs/hidden"]);
    let (ok, _, errors) = run_git(
        &repo.path,
        &["pack-objects", "-q", "--all", "--window=0", "objects/pack/pack"],
        b"",
    );
    assert!(ok, "{errors}");
    let visible = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heads", "refs/tags"]);
    let request = PackRequest {
        wants: visible.lines().map(id).collect(),
        include_tag: true,
        ofs_delta: true,
        ..PackRequest::default()
    };

    let sent = sent(&repo, &request);

    assert_eq!(sent, fs::read(pack).expect("reads"));
}

#[test]
fn a_damaged_bitmap_file_makes_answers_slower_not_wrong() {
    for layout in [Layout::Whole, Layout::Midx] {
        let repo = make(layout, 61);
        let bitmap = packs(&repo.path, "bitmap").remove(0);
        let sound = fs::read(&bitmap).expect("reads");
        let wants = tips(&repo);
        let expected = listed(&repo, &[], &wants);
        let request = PackRequest {
            wants: wants.iter().map(|want| id(want)).collect(),
            ofs_delta: true,
            ..PackRequest::default()
        };
        fs::remove_file(&bitmap).expect("removes");
        for place in (0..sound.len()).step_by(sound.len() / 8 + 1) {
            let mut damaged = sound.clone();
            damaged[place] ^= 0x41;
            fs::write(&bitmap, &damaged).expect("writes");

            assert!(!has_bitmaps(&repo), "{layout:?}: damage at byte {place}");
            assert_eq!(
                contents(&repo, &sent(&repo, &request), true),
                expected,
                "{layout:?} {place}"
            );
        }
        fs::write(&bitmap, &sound[..sound.len() / 2]).expect("writes");
        assert!(!has_bitmaps(&repo));
        fs::write(&bitmap, &sound).expect("writes");
        assert!(has_bitmaps(&repo), "{layout:?}: the same file undamaged is read");
    }
}

#[test]
fn a_bitmap_that_is_written_later_is_noticed() {
    let repo = Repo::random(71);
    repo.git(&["repack", "-adq", "--no-write-bitmap-index"]);
    let repository = repo.open();
    let before = repository.snapshot().expect("reads");
    assert!(before.objects.bitmaps().is_none());

    repo.git(&["repack", "-adbq"]);
    let after = repository.snapshot().expect("reads");
    assert!(after.objects.bitmaps().is_some());
    remove_bitmaps(&repo);
    let last = repository.snapshot().expect("reads");

    assert!(last.objects.bitmaps().is_none());
    assert!(after.objects.bitmaps().is_some(), "an open file stays readable");
}

#[test]
fn clones_are_whole_while_stock_git_repacks_and_writes_bitmaps() {
    let repo = make(Layout::Lagging, 81);
    let repository = repo.open();
    let wants = tips(&repo);
    let expected = listed(&repo, &[], &wants);
    let request = PackRequest {
        wants: wants.iter().map(|want| id(want)).collect(),
        ofs_delta: true,
        ..PackRequest::default()
    };
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let repacking = scope.spawn(|| {
            for round in 0..3 {
                let arguments: &[&str] = match round % 3 {
                    0 => &["repack", "-adbfq"],
                    1 => &["repack", "-dq", "--write-midx", "--no-write-bitmap-index"],
                    _ => &["repack", "-adq", "--no-write-bitmap-index"],
                };
                let (ok, _, errors) = run_git(&repo.path, arguments, b"");
                assert!(ok, "{errors}");
            }
            is_done.store(true, Ordering::Release);
        });
        let mut rounds = 0;
        while !is_done.load(Ordering::Acquire) || rounds == 0 {
            let pack = sent_by(&repository, &request);
            assert_eq!(contents(&repo, &pack, true), expected);
            rounds += 1;
        }
        repacking.join().expect("repacks");
    });
}

#[test]
fn a_pack_with_a_bitmap_comes_first_although_another_is_larger() {
    let repo = make(Layout::Duplicates, 91);
    let bitmap = packs(&repo.path, "bitmap").remove(0);

    let snapshot = repo.open().snapshot().expect("reads");

    assert_eq!(snapshot.objects.packs()[0].path().with_extension("bitmap"), bitmap);
}
