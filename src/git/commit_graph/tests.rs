use std::fs;
use std::path::Path;

use gix::hash::{Kind, ObjectId};
use proptest::prelude::*;
use tempfile::TempDir;

use super::encode::{Table, stored_date};
use super::place::{self, Lock};
use super::*;

fn id(number: u8) -> ObjectId {
    let mut bytes = [number; 20];
    bytes[19] = 1;
    ObjectId::from_bytes_or_panic(&bytes)
}

/// Commits with the ids 1, 2, …, given with the numbers of their parents and their levels.
fn table<'a>(below: &'a [ObjectId], first: u8, commits: &[(&[u32], u32)]) -> Table<'a> {
    let mut table = Table {
        hash: Kind::Sha1,
        below,
        ids: Vec::new(),
        trees: Vec::new(),
        parents: Vec::new(),
        parent_ends: Vec::new(),
        dates: Vec::new(),
        levels: Vec::new(),
        corrected_dates: Vec::new(),
    };
    for (number, (parents, level)) in (first..).zip(commits) {
        table.ids.extend(id(number).as_bytes());
        table.trees.extend(id(number + 100).as_bytes());
        table.parents.extend(*parents);
        table.parent_ends.push(table.parents.len());
        table.dates.push(1000 + u64::from(number));
        table.levels.push(*level);
        table
            .corrected_dates
            .push(1000 + u64::from(number) + (u64::from(number) << 30));
    }
    table
}

fn objects() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

/// Four commits in one layer, the last with three parents, and one commit in a layer upon it.
fn chain(objects: &Path) -> [ObjectId; 2] {
    let lower = Lock::take(objects, true)
        .expect("free")
        .write_layer(
            objects,
            &table(&[], 1, &[(&[], 1), (&[], 1), (&[0], 2), (&[2, 0, 1], 3)]),
        )
        .expect("writes");
    let upper = Lock::take(objects, true)
        .expect("free")
        .write_layer(objects, &table(&[lower], 5, &[(&[3, 4], 4)]))
        .expect("writes");
    [lower, upper]
}

fn open(objects: &Path) -> Result<Option<CommitGraph>, GraphError> {
    CommitGraph::open(objects, Kind::Sha1, None)
}

#[test]
fn what_was_written_is_read_through_all_layers() {
    let objects = objects();
    let lower = Lock::take(objects.path(), true)
        .expect("free")
        .write_layer(
            objects.path(),
            &table(&[], 1, &[(&[], 1), (&[], 1), (&[0], 2), (&[2, 0, 1], 3)]),
        )
        .expect("writes");
    Lock::take(objects.path(), true)
        .expect("free")
        .write_layer(objects.path(), &table(&[lower], 5, &[(&[3], 4)]))
        .expect("writes");

    let graph = open(objects.path()).expect("sound").expect("there");

    assert_eq!((graph.len(), graph.layer_count(), graph.is_whole), (5, 2, true));
    for number in 1..=5 {
        let position = graph.position(&id(number)).expect("it is there");
        assert_eq!(position, GraphPos(u32::from(number) - 1));
        assert_eq!(graph.id(position), Some(id(number).as_ref()));
        let commit = graph.commit(position).expect("sound");
        assert_eq!(commit.tree, id(number + 100));
        assert_eq!(commit.committed_at_secs, 1000 + i64::from(number));
    }
    let info = graph.info(&id(4)).expect("it is there");
    assert_eq!(info.parents, [id(3), id(1), id(2)]);
    assert_eq!(graph.info(&id(5)).expect("it is there").parents, [id(4)]);
    assert_eq!((graph.level(&id(4)), graph.level(&id(5))), (Some(3), Some(4)));
    assert_eq!(graph.position(&id(6)), None);
    assert_eq!(graph.position(&ObjectId::null(Kind::Sha1)), None);
    assert_eq!(graph.id(GraphPos(5)), None);
    assert!(graph.commit(GraphPos(5)).is_err());
    // Distances of 2^31 and more take the way round the overflow chunk.
    let expected: Vec<u64> = (1..=5).map(|number| 1000 + number + (number << 30)).collect();
    assert_eq!(graph.corrected_dates().expect("sound"), Some(expected));
}

#[test]
fn a_parent_that_is_no_commit_of_the_graph_makes_it_unused() {
    let objects = objects();
    chain(objects.path());
    let graph = open(objects.path()).expect("its tables are sound").expect("there");

    // Commit 5 names itself and commit 4; that is within the graph. Number 9 is not.
    Lock::take(objects.path(), false)
        .expect("free")
        .write_one_file(&table(&[], 1, &[(&[], 1), (&[9], 2), (&[0], 2)]))
        .expect("writes");
    let damaged = open(objects.path()).expect("its tables are sound").expect("there");

    assert!(graph.info(&id(5)).is_some());
    assert!(damaged.info(&id(3)).is_some());
    assert_eq!(damaged.info(&id(2)), None);
    assert_eq!(
        damaged.info(&id(3)),
        None,
        "nothing else in it is believed from then on"
    );
    assert_eq!(damaged.level(&id(3)), None);
}

#[test]
fn layers_that_are_absent_or_damaged_leave_the_ones_below() {
    let objects = objects();
    let [lower, upper] = chain(objects.path());
    let folder = objects.path().join(CHAIN_FOLDER);
    let upper = folder.join(layer_name(&upper));
    let content = fs::read(&upper).expect("reads");
    fs::remove_file(&upper).expect("removes");

    let without = open(objects.path()).expect("sound below").expect("there");
    let mut flipped = content.clone();
    flipped[content.len() / 2] ^= 1;
    fs::write(&upper, flipped).expect("writes");
    let damaged = open(objects.path()).expect("sound below").expect("there");
    fs::remove_file(folder.join(layer_name(&lower))).expect("removes");

    assert_eq!((without.len(), without.is_whole), (4, false));
    assert_eq!((damaged.len(), damaged.is_whole), (4, false));
    assert!(open(objects.path()).is_err());
}

#[test]
fn layers_of_other_chains_are_not_taken_for_ones_of_this() {
    let objects = objects();
    let [lower, upper] = chain(objects.path());
    let chain_file = objects.path().join(CHAIN_FILE);
    for (content, sound) in [
        (format!("{lower}\n{upper}\n"), true),
        (format!("{upper}\n"), false),
        (format!("{lower}\n{lower}\n"), false),
        ("nonsense\n".to_owned(), false),
        (String::new(), false),
        (format!("{lower}\n").repeat(300), false),
    ] {
        fs::remove_file(&chain_file).expect("removes");
        fs::write(&chain_file, &content).expect("writes");
        assert_eq!(open(objects.path()).is_ok(), sound, "{content}");
    }
}

#[test]
fn one_file_goes_before_a_chain_and_files_that_did_not_change_are_shared() {
    let objects = objects();
    chain(objects.path());
    let chained = open(objects.path()).expect("sound").expect("there");
    let again = CommitGraph::open(objects.path(), Kind::Sha1, Some(&chained))
        .expect("sound")
        .expect("there");
    Lock::take(objects.path(), false)
        .expect("free")
        .write_one_file(&table(&[], 1, &[(&[], 1)]))
        .expect("writes");
    let one = open(objects.path()).expect("sound").expect("there");

    assert!(chained.layers.iter().zip(&again.layers).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert_eq!((one.len(), one.form), (1, Form::OneFile));

    place::remove_chain(objects.path()).expect("removes");
    assert_eq!(
        fs::read_dir(objects.path().join(CHAIN_FOLDER)).expect("lists").count(),
        0
    );
}

#[test]
fn a_lock_keeps_others_out_and_is_let_go() {
    let objects = objects();
    let lock = Lock::take(objects.path(), true).expect("free");
    let second = Lock::take(objects.path(), true);

    assert_eq!(
        second.err().map(|error| error.kind()),
        Some(io::ErrorKind::AlreadyExists)
    );
    drop(lock);
    assert!(Lock::take(objects.path(), true).is_ok());
}

#[test]
fn dates_are_kept_as_git_keeps_them() {
    assert_eq!(stored_date(1_700_000_000), 1_700_000_000);
    assert_eq!(stored_date(1 << 34), 0);
    assert_eq!(stored_date(-1), (1 << 34) - 1);
}

/// Makes the checksum at the end right again.
fn with_checksum(mut content: Vec<u8>) -> Vec<u8> {
    let end = content.len().saturating_sub(20);
    content.truncate(end);
    let mut hasher = gix::hash::hasher(Kind::Sha1);
    hasher.update(&content);
    let checksum = hasher.try_finalize().expect("no collision");
    content.extend(checksum.as_bytes());
    content
}

proptest! {
    #[test]
    fn a_damaged_file_is_an_error_or_changes_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let objects = objects();
        Lock::take(objects.path(), false).expect("free")
            .write_one_file(&table(&[], 1, &[(&[], 1), (&[], 1), (&[0], 2), (&[2, 0, 1], 3)])).expect("writes");
        let path = objects.path().join(ONE_FILE);
        let sound = fs::read(&path).expect("reads");
        let mut content = sound.clone();
        for (at, byte) in &changes {
            let at = at.index(content.len());
            content[at] = *byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        fs::remove_file(&path).expect("removes");
        fs::write(&path, &content).expect("writes");

        let opened = open(objects.path());
        prop_assert_eq!(opened.is_ok(), content == sound);

        // Even one that was made to lie is bounded, and never panics.
        fs::write(&path, with_checksum(content)).expect("writes");
        if let Ok(Some(graph)) = open(objects.path()) {
            for number in 0..graph.len() {
                if let Ok(commit) = graph.commit(GraphPos(number)) {
                    prop_assert!(commit.parents.iter().all(|parent| parent.0 < graph.len()));
                }
            }
            let _ = graph.corrected_dates();
        }
    }
}
