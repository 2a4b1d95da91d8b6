//! Bitmaps, reverse indexes and multi-pack-indexes: what git wrote is read right, what we write git
//! finds sound and uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use auxin::git::ObjectId;
use auxin::git::bitmap::ewah::words_for;
use auxin::git::bitmap::{self, BitmapFile, BitmapHead, BitmapWriter, name_hash, type_bits};
use auxin::git::midx::{self, Midx};
use auxin::git::object_store::{ObjectKind, ObjectStore, Pack, Pos};
use auxin::git::rev;
use auxin::git::walk::{Bits, Walker};
use gix::hash::Kind;
use proptest::test_runner::{Config, TestRunner};

use crate::plan::{TestRepo, git_in};

const MAX_OBJECT_BYTES: usize = 1 << 30;

/// A repository of forty commits for each hash function that is built in.
fn histories() -> Vec<(Kind, TestRepo)> {
    Kind::all()
        .iter()
        .map(|kind| (*kind, TestRepo::with_history_in(&kind.to_string())))
        .collect()
}

fn pack_folder(repo: &TestRepo) -> PathBuf {
    repo.path.join("objects/pack")
}

fn store(repo: &TestRepo, kind: Kind) -> ObjectStore {
    ObjectStore::open(&repo.path.join("objects"), kind, &[], None, MAX_OBJECT_BYTES).expect("opens")
}

/// One pack of everything, as git repacks it.
fn repack(repo: &TestRepo, config: &[&str], options: &[&str]) {
    let mut arguments: Vec<&str> = config.iter().flat_map(|setting| ["-c", *setting]).collect();
    arguments.extend(["repack", "-adfq"]);
    arguments.extend(options);
    repo.git(&arguments);
}

/// Several packs: one without parts of the history, and more with the rest and with some objects again.
fn scatter(repo: &TestRepo) {
    repack(repo, &[], &["--no-write-bitmap-index"]);
    for tips in ["main~8", "side~3", "main\nside\n^main~20"] {
        let arguments = ["pack-objects", "-q", "--revs", "objects/pack/pack"];
        assert!(git_in(&repo.path, &arguments, tips.as_bytes()).0);
    }
}

fn remove_midx(repo: &TestRepo) {
    for file in fs::read_dir(pack_folder(repo)).expect("lists") {
        let path = file.expect("entry").path();
        if path.to_string_lossy().contains("multi-pack-index") {
            fs::remove_file(path).expect("removes");
        }
    }
}

fn commits(repo: &TestRepo) -> Vec<String> {
    let commits: Vec<String> = repo.git(&["rev-list", "--all"]).lines().map(str::to_owned).collect();
    assert!(commits.len() >= 40);
    commits
}

fn reached(repo: &TestRepo, commit: &str) -> BTreeSet<String> {
    let list = repo.git(&["rev-list", "--objects", "--no-object-names", commit]);
    list.lines().map(str::to_owned).collect()
}

fn id(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).expect("an id")
}

fn ids_of(words: &[u64], id_of_bit: &dyn Fn(u32) -> String) -> BTreeSet<String> {
    (0..words.len() as u32 * 64)
        .filter(|bit| words[*bit as usize / 64] >> (bit % 64) & 1 == 1)
        .map(id_of_bit)
        .collect()
}

/// Compares a bitmap file with what git says; `id_of_bit` names objects, `ids` are in the order of the
/// list of ids.
fn assert_says_what_git_says(repo: &TestRepo, file: &BitmapFile, ids: &[String], id_of_bit: &dyn Fn(u32) -> String) {
    assert!(!file.entries().is_empty());
    let len = words_for(file.object_count());
    for entry in file.entries() {
        let commit = &ids[entry.index_position as usize];
        let mut words = vec![0; len];
        file.reach(entry, &mut words).expect("reads");
        assert_eq!(ids_of(&words, id_of_bit), reached(repo, commit), "{commit}");
    }
    let kinds = repo.git(&[
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objecttype) %(objectname)",
    ]);
    for kind in [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag] {
        let mut words = vec![0; len];
        file.type_bits(kind, &mut words).expect("reads");
        let expected: BTreeSet<String> = kinds
            .lines()
            .filter_map(|line| line.strip_prefix(kind.as_str())?.strip_prefix(' '))
            .filter(|id| ids.iter().any(|other| other == id))
            .map(str::to_owned)
            .collect();
        assert_eq!(ids_of(&words, id_of_bit), expected, "{kind:?}");
    }
}

/// Opens the bitmap of the only pack, compares it with git, and gives it back with the ids of the index.
fn read_pack_bitmap(repo: &TestRepo, kind: Kind) -> (BitmapFile, Vec<String>) {
    let store = store(repo, kind);
    let [pack] = store.packs() else {
        panic!("one pack expected")
    };
    let path = pack.path().with_extension("bitmap");
    let file = BitmapFile::open(&path, &pack.checksum(), pack.object_count()).expect("opens");
    let ids: Vec<String> = (0..pack.object_count())
        .map(|position| store.id(Pos(pack.order_at_index(position))).to_string())
        .collect();
    assert!(ids.is_sorted());
    assert_says_what_git_says(repo, &file, &ids, &|bit| store.id(Pos(bit)).to_string());
    (file, ids)
}

#[test]
fn bitmaps_of_packs_that_git_wrote_say_what_git_says_whatever_extensions_they_have() {
    let pseudo_merges = [
        "bitmapPseudoMerge.all.pattern=refs/",
        "bitmapPseudoMerge.all.threshold=now",
        "bitmapPseudoMerge.all.stableThreshold=now",
    ];
    for (kind, repo) in histories() {
        for (hashes, table, merges) in [
            (false, false, false),
            (true, false, false),
            (true, true, false),
            (false, true, true),
            (true, true, true),
        ] {
            let hash_cache = format!("pack.writeBitmapHashCache={hashes}");
            let lookup_table = format!("pack.writeBitmapLookupTable={table}");
            let mut config = vec![hash_cache.as_str(), &lookup_table];
            if merges {
                config.extend(pseudo_merges);
            }
            repack(&repo, &config, &["-b"]);

            let (file, _) = read_pack_bitmap(&repo, kind);

            assert_eq!(file.has_name_hashes(), hashes);
            let flags = fs::read(file.path()).expect("reads")[7];
            assert_eq!((flags & 0x10 != 0, flags & 0x20 != 0), (table, merges), "{flags:x}");
        }
    }
}

#[test]
fn hashes_of_names_are_those_of_the_paths_under_which_git_found_the_objects() {
    for (kind, repo) in histories() {
        repack(&repo, &[], &["-b"]);
        let (file, ids) = read_pack_bitmap(&repo, kind);
        let mut names: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for commit in commits(&repo) {
            for line in repo.git(&["ls-tree", "-r", "-t", &commit]).lines() {
                let (what, path) = line.split_once('\t').expect("a path");
                let id = what.rsplit(' ').next().expect("an id").to_owned();
                names.entry(id).or_default().insert(name_hash(path.as_bytes()));
            }
        }
        let hashes = file.name_hashes().expect("reads").expect("git writes them");
        let named = ids
            .iter()
            .zip(&hashes)
            .filter(|(id, hash)| names.get(*id).is_some_and(|names| names.contains(hash)))
            .count();
        let in_trees = ids.iter().filter(|id| names.contains_key(*id)).count();
        assert_eq!(named, in_trees);
        assert!(named > 100);
    }
}

/// Sets of bits that each commit reaches, as maintenance finds them.
fn closures(store: &ObjectStore, commits: &[String], bit_of: &dyn Fn(Pos) -> u32, count: u32) -> Vec<Vec<u64>> {
    let mut walker = Walker::new(store, &[], 8 << 20);
    let closure = |commit: &String| {
        let mut bits = Bits::new(store.len());
        walker.forget_seen();
        walker
            .add_closure(&[id(commit)], &mut bits, &mut || Ok(()))
            .expect("walks");
        let mut words = vec![0; words_for(count)];
        for position in bits.range(0, store.len()) {
            let bit = bit_of(position);
            words[bit as usize / 64] |= 1 << (bit % 64);
        }
        words
    };
    commits.iter().map(closure).collect()
}

fn write_bitmap(
    path: &Path,
    head: BitmapHead<'_>,
    index_position: &dyn Fn(&str) -> u32,
    commits: &[String],
    reach: Vec<Vec<u64>>,
) {
    let mut writer = BitmapWriter::start(File::create_new(path).expect("creates"), head).expect("starts");
    for (commit, words) in commits.iter().zip(reach) {
        writer.add(index_position(commit), words).expect("adds");
    }
    writer.finish().expect("finishes");
}

/// Lets git compare bitmaps with a walk of its own, and use them.
fn assert_git_trusts(repo: &TestRepo, commits: &[String]) {
    for commit in commits {
        let arguments = ["rev-list", "--use-bitmap-index", "--test-bitmap", commit];
        assert!(git_in(&repo.path, &arguments, b"").0, "{commit}");
    }
    repo.git(&["fsck", "--full", "--strict", "--no-dangling"]);
    let count = |options: &[&str]| {
        let mut arguments = vec!["rev-list", "--count", "--objects", "--all"];
        arguments.extend(options);
        repo.git(&arguments)
    };
    assert_eq!(count(&["--use-bitmap-index"]), count(&[]));
    assert_eq!(
        count(&["--use-bitmap-index", "--filter=blob:none"]),
        count(&["--filter=blob:none"])
    );
    for reuse in ["single", "multi"] {
        let setting = format!("pack.allowPackReuse={reuse}");
        let arguments = ["-c", &setting, "pack-objects", "--all", "--stdout", "-q"];
        let (ok, pack) = git_in(&repo.path, &arguments, b"");
        assert!(ok);
        assert_eq!(
            crate::plan::contents_in(&pack, &object_format(repo)),
            repo.all_objects(),
            "{reuse}"
        );
    }
}

fn object_format(repo: &TestRepo) -> String {
    repo.git(&["rev-parse", "--show-object-format"]).trim().to_owned()
}

#[test]
fn git_trusts_a_bitmap_and_a_reverse_index_that_we_write_beside_a_pack() {
    for (kind, repo) in histories() {
        repack(&repo, &["pack.writeReverseIndex=false"], &["--no-write-bitmap-index"]);
        let store = store(&repo, kind);
        let pack = &store.packs()[0];
        let (count, checksum) = (pack.object_count(), pack.checksum());
        let reverse = File::create_new(pack.path().with_extension("rev")).expect("creates");
        rev::write(reverse, (0..count).map(|order| pack.index_at_order(order)), &checksum).expect("writes");
        let mut reader = store.reader(0);
        let kinds: Vec<ObjectKind> = (0..count)
            .map(|order| {
                let header = reader.header(&store.id(Pos(order))).expect("reads");
                header.expect("is there").0
            })
            .collect();
        let types = type_bits(count, kinds);
        let commits = commits(&repo);
        let hashes: Vec<u32> = (0..count).collect();
        let head = BitmapHead {
            owner: &checksum,
            object_count: count,
            entry_count: commits.len() as u32,
            types: &types,
            name_hashes: Some(&hashes),
        };
        let index_position = |commit: &str| pack.index_at_order(store.position(&id(commit)).expect("is there").0);

        let reach = closures(&store, &commits, &|position| position.0, count);
        let path = pack.path().with_extension("bitmap");
        write_bitmap(&path, head, &index_position, &commits, reach);

        assert_git_trusts(&repo, &commits);
        let (file, _) = read_pack_bitmap(&repo, kind);
        assert_eq!(file.entries().len(), commits.len());
        assert_eq!(file.name_hashes().expect("reads").as_deref(), Some(&hashes[..]));
    }
}

/// Opens the multi-pack-index and its bitmap, and compares both with git.
fn read_midx(repo: &TestRepo, kind: Kind) -> Midx {
    let folder = pack_folder(repo);
    let midx = Midx::open(&folder.join("multi-pack-index"), kind).expect("opens");
    let store = store(repo, kind);
    let packs: Vec<usize> = midx
        .pack_names()
        .iter()
        .map(|name| {
            let path = folder.join(name).with_extension("pack");
            let found = store.packs().iter().position(|pack| pack.path() == path);
            found.expect("every pack is there")
        })
        .collect();
    let ids: Vec<String> = (0..midx.object_count()).map(|at| midx.id(at).to_string()).collect();
    assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), repo.all_objects());
    for (at, hex) in (0..).zip(&ids) {
        assert_eq!(midx.position(&id(hex)), Some(at));
        let (pack, offset) = midx.location(at).expect("reads");
        let pack = packs[pack as usize];
        let order = store.packs()[pack]
            .order_at_offset(offset)
            .expect("an entry starts there");
        let start: u32 = store.packs()[..pack].iter().map(|pack| pack.object_count()).sum();
        assert_eq!(store.id(Pos(start + order)).to_string(), *hex);
    }
    let order = midx.pack_order().expect("reads").expect("there is one");
    let file = BitmapFile::open(&midx.bitmap_path(), &midx.checksum(), midx.object_count()).expect("opens");
    assert_says_what_git_says(repo, &file, &ids, &|bit| {
        ids[order.positions[bit as usize] as usize].clone()
    });
    midx
}

#[test]
fn multi_pack_indexes_with_bitmaps_that_git_wrote_say_what_git_says() {
    for (kind, repo) in histories() {
        scatter(&repo);
        let mut names: Vec<String> = fs::read_dir(pack_folder(&repo))
            .expect("lists")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
            .filter(|name| name.ends_with(".pack"))
            .collect();
        names.sort();
        assert_eq!(names.len(), 4);
        for (number, name) in names.iter().enumerate() {
            // Git leaves one that is over the same packs as it is.
            remove_midx(&repo);
            repo.git(&[
                "multi-pack-index",
                "write",
                "--bitmap",
                &format!("--preferred-pack={name}"),
            ]);
            let midx = read_midx(&repo, kind);
            let order = midx.pack_order().expect("reads").expect("there is one");
            assert_eq!(order.preferred_pack as usize, number);
        }
    }
}

#[test]
fn a_multi_pack_index_without_a_reverse_index_has_no_order() {
    let repo = TestRepo::with_history();
    scatter(&repo);
    repo.git(&["multi-pack-index", "write"]);
    let midx = Midx::open(&pack_folder(&repo).join("multi-pack-index"), Kind::Sha1).expect("opens");
    assert_eq!(midx.pack_order().expect("reads"), None);
    assert!(!midx.bitmap_path().exists());
    let absent = Midx::open(&repo.path.join("multi-pack-index"), Kind::Sha1);
    assert!(absent.is_err_and(|error| error.is_absent()));
}

#[test]
fn git_trusts_a_multi_pack_index_and_a_bitmap_that_we_write() {
    for (kind, repo) in histories() {
        scatter(&repo);
        for preferred in 0..4 {
            let store = store(&repo, kind);
            let packs: Vec<&Pack> = store.packs().iter().map(|pack| &**pack).collect();
            remove_midx(&repo);
            let path = pack_folder(&repo).join("multi-pack-index");
            let (_, written) =
                midx::write(&packs, preferred, File::create_new(&path).expect("creates")).expect("writes");
            repo.git(&["multi-pack-index", "verify"]);

            let midx = Midx::open(&path, kind).expect("opens");
            assert_eq!(midx.checksum(), written.checksum);
            assert_eq!(midx.object_count(), written.object_count);
            let order = midx.pack_order().expect("reads").expect("there is one");
            let preferred_name = packs[preferred].path().with_extension("idx");
            assert_eq!(
                preferred_name.file_name().expect("a name"),
                midx.pack_names()[order.preferred_pack as usize]
            );
            let mut bit_of = vec![0; order.positions.len()];
            for (bit, position) in (0..).zip(&order.positions) {
                bit_of[*position as usize] = bit;
            }
            let index_position = |id: &ObjectId| midx.position(id).expect("is there");
            let mut reader = store.reader(0);
            let kinds: Vec<ObjectKind> = order
                .positions
                .iter()
                .map(|at| reader.header(midx.id(*at)).expect("reads").expect("is there").0)
                .collect();
            let types = type_bits(written.object_count, kinds);
            let commits = commits(&repo);
            let head = BitmapHead {
                owner: &written.checksum,
                object_count: written.object_count,
                entry_count: commits.len() as u32,
                types: &types,
                name_hashes: None,
            };
            let bit = |position: Pos| bit_of[index_position(&store.id(position)) as usize];
            let reach = closures(&store, &commits, &bit, written.object_count);
            let position_of = |commit: &str| index_position(&id(commit));
            write_bitmap(&midx.bitmap_path(), head, &position_of, &commits, reach);

            assert_git_trusts(&repo, &commits);
            read_midx(&repo, kind);
        }
    }
}

#[test]
fn a_pack_is_read_the_same_with_a_reverse_index_without_and_with_a_damaged_one() {
    for (kind, repo) in histories() {
        repack(&repo, &["pack.writeReverseIndex=true"], &[]);
        let ids = || {
            let store = store(&repo, kind);
            (0..store.len()).map(|at| store.id(Pos(at))).collect::<Vec<_>>()
        };
        let path = store(&repo, kind).packs()[0].path().with_extension("rev");
        let checksum = store(&repo, kind).packs()[0].checksum();
        let expected = ids();
        let sound = fs::read(&path).expect("reads");
        fs::remove_file(&path).expect("removes");
        assert_eq!(ids(), expected);

        let mut positions = {
            fs::write(&path, &sound).expect("writes");
            rev::read(&path, expected.len() as u32, &checksum).expect("reads")
        };
        positions.swap(3, 4);
        let out_of_order = rev::write(Vec::new(), positions.iter().copied(), &checksum).expect("writes");
        positions[3] = positions[4];
        let twice = rev::write(Vec::new(), positions, &checksum).expect("writes");
        let mut flipped = sound.clone();
        flipped[20] ^= 1;
        let cut = sound[..sound.len() / 2].to_vec();
        for damaged in [out_of_order, twice, flipped, cut, Vec::new()] {
            fs::remove_file(&path).expect("removes");
            fs::write(&path, damaged).expect("writes");
            assert_eq!(ids(), expected);
        }
    }
}

#[test]
fn a_damaged_multi_pack_index_is_refused_or_stays_within_its_bounds() {
    let repo = TestRepo::with_history();
    scatter(&repo);
    repo.git(&["multi-pack-index", "write", "--bitmap"]);
    let sound = fs::read(pack_folder(&repo).join("multi-pack-index")).expect("reads");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("multi-pack-index");
    let mut runner = TestRunner::new(Config::with_cases(400));
    let strategy = (
        0..sound.len(),
        0_u8..8,
        proptest::bool::ANY,
        proptest::option::weighted(0.2, 0..sound.len()),
    );
    let result = runner.run(&strategy, |(at, bit, is_summed, cut)| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << bit;
        bytes.truncate(cut.unwrap_or(bytes.len()));
        if is_summed && bytes.len() > 20 {
            let end = bytes.len() - 20;
            let sum = <sha1::Sha1 as sha1::Digest>::digest(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum);
        }
        let _ = fs::remove_file(&path);
        fs::write(&path, &bytes).expect("writes");
        match Midx::open(&path, Kind::Sha1) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(midx) => {
                assert!(is_summed, "only a right checksum makes a damaged file readable");
                for position in 0..midx.object_count() {
                    midx.position(midx.id(position));
                    if let Ok((pack, _)) = midx.location(position) {
                        assert!((pack as usize) < midx.pack_names().len());
                    }
                }
                if let Ok(Some(order)) = midx.pack_order() {
                    let all: BTreeSet<u32> = order.positions.iter().copied().collect();
                    assert_eq!(all, (0..midx.object_count()).collect());
                }
            }
        }
        Ok(())
    });
    result.expect("no counterexample");
    assert!(bitmap::BitmapFile::open(&path, &Kind::Sha1.null(), 1).is_err());
}
