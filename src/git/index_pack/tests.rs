//! Odd packs, built by hand.

mod hostile;

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::hash::Kind;
use sha1::{Digest, Sha1};

use super::entry::whole_entry_head;
use super::*;

/// A pack made byte by byte.
struct PackBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl PackBuilder {
    fn new() -> Self {
        Self {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            count: 0,
        }
    }

    fn raw(&mut self, head: &[u8], compressed: &[u8]) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(compressed);
        self.count += 1;
        at
    }

    fn whole(&mut self, kind: ObjectKind, data: &[u8]) -> u64 {
        self.raw(&whole_entry_head(kind, data.len() as u64), &deflated(data))
    }

    fn ofs_delta(&mut self, base: u64, delta: &[u8]) -> u64 {
        let mut head = delta_head(6, delta.len());
        let distance = self.bytes.len() as u64 - base;
        head.extend(offset_varint(distance));
        self.raw(&head, &deflated(delta))
    }

    fn ref_delta(&mut self, base: &ObjectId, delta: &[u8]) -> u64 {
        let mut head = delta_head(7, delta.len());
        head.extend_from_slice(base.as_slice());
        self.raw(&head, &deflated(delta))
    }

    fn finish(self) -> Vec<u8> {
        let count = self.count;
        self.finish_with_count(count)
    }

    fn finish_with_count(mut self, count: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        let checksum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&checksum);
        self.bytes
    }
}

fn delta_head(bits: u8, size: usize) -> Vec<u8> {
    let mut head = whole_entry_head(ObjectKind::Commit, size as u64);
    head[0] = (head[0] & 0x8f) | (bits << 4);
    head
}

fn offset_varint(mut distance: u64) -> Vec<u8> {
    let mut bytes = vec![(distance & 0x7f) as u8];
    while distance >> 7 > 0 {
        distance = (distance >> 7) - 1;
        bytes.push(0x80 | (distance & 0x7f) as u8);
    }
    bytes.reverse();
    bytes
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::default());
    out.write_all(data).expect("to memory");
    out.finish().expect("to memory")
}

fn size_varint(mut size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while size >= 0x80 {
        bytes.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes
}

/// A delta that puts `text` after the whole of a base of `base_len` bytes.
fn appending(base_len: usize, text: &[u8]) -> Vec<u8> {
    let mut delta = size_varint(base_len);
    delta.extend(size_varint(base_len + text.len()));
    if base_len > 0 {
        delta.extend([0xb0, base_len as u8, (base_len >> 8) as u8]);
    }
    delta.push(text.len() as u8);
    delta.extend_from_slice(text);
    delta
}

fn limits() -> IndexLimits {
    IndexLimits {
        max_pack_bytes: 0,
        max_inflated_bytes: 0,
        max_objects: 1_000_000,
        max_object_bytes: 1 << 30,
        max_in_memory_bytes: 64 << 20,
        max_delta_object_bytes: 256 << 20,
        max_delta_depth: 64,
        delta_cache_bytes: 8 << 20,
        threads: 2,
        deltas_for_threads: DELTAS_FOR_THREADS,
        other_threads: OtherThreads::default(),
    }
}

fn take_in_with(
    pack: &[u8],
    folder: &Path,
    limits: &IndexLimits,
    find_base: FindBase<'_>,
) -> Result<Option<IndexedPack>, IndexError> {
    index_pack(
        &mut &pack[..],
        folder,
        Kind::Sha1,
        limits,
        find_base,
        &mut (),
        &mut || Ok(()),
    )
}

fn refusal(pack: &[u8]) -> IndexError {
    refusal_under(&limits(), pack)
}

fn refusal_under(limits: &IndexLimits, pack: &[u8]) -> IndexError {
    let folder = tempfile::tempdir().expect("temporary folder");
    take_in_with(pack, folder.path(), limits, &mut |_| None).expect_err("the pack is refused")
}

fn taken_in(pack: &[u8]) -> (tempfile::TempDir, IndexedPack) {
    taken_in_under(&limits(), pack, &mut |_| None)
}

fn taken_in_under(limits: &IndexLimits, pack: &[u8], find_base: FindBase<'_>) -> (tempfile::TempDir, IndexedPack) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let indexed = take_in_with(pack, folder.path(), limits, find_base)
        .expect("a sound pack")
        .expect("not empty");
    git_verifies(&indexed);
    (folder, indexed)
}

/// Stock git accepts pack and index.
fn git_verifies(pack: &IndexedPack) {
    let output = std::process::Command::new("git")
        .args(["verify-pack", "-v"])
        .arg(pack.file("idx"))
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn blob_id(data: &[u8]) -> ObjectId {
    object_id(Kind::Sha1, ObjectKind::Blob, data).expect("no collision")
}

#[test]
fn a_pack_without_objects_stores_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");

    let indexed = take_in_with(&PackBuilder::new().finish(), folder.path(), &limits(), &mut |_| None);

    assert!(indexed.expect("an empty pack is sound").is_none());
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
}

#[test]
fn deltas_of_both_kinds_are_worked_off_in_any_order() {
    let mut pack = PackBuilder::new();
    let grandchild = b"basechildgrandchild";
    pack.ref_delta(&blob_id(b"basechild"), &appending(9, b"grandchild"));
    let base = pack.whole(ObjectKind::Blob, b"base");
    pack.ref_delta(&blob_id(b"base"), &appending(4, b"child"));
    let other = pack.ofs_delta(base, &appending(4, b"other"));
    pack.ofs_delta(other, &appending(9, b"last"));
    pack.ref_delta(&blob_id(grandchild), &appending(grandchild.len(), b"!"));

    let (_folder, indexed) = taken_in(&pack.finish());

    assert_eq!((indexed.objects, indexed.completed), (6, 0));
}

#[test]
fn many_families_of_deltas_are_worked_off_by_two_threads() {
    let mut pack = PackBuilder::new();
    for n in 0..700u32 {
        let mut text = format!("family {n} ").into_bytes();
        let mut at = pack.whole(ObjectKind::Blob, &text);
        for child in 0..7u32 {
            let more = format!("child {child} ").into_bytes();
            at = pack.ofs_delta(at, &appending(text.len(), &more));
            text.extend(more);
        }
    }

    let (_folder, indexed) = taken_in(&pack.finish());

    assert_eq!(indexed.objects, 5600);
}

#[test]
fn what_the_cache_dropped_is_made_again() {
    let mut pack = PackBuilder::new();
    let mut text: Vec<u8> = (0..20_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes())
        .collect();
    text.truncate(60_000);
    let mut at = pack.whole(ObjectKind::Blob, &text);
    for n in 0..40u8 {
        pack.ofs_delta(at, &appending(text.len(), &[n, 1]));
        let next = pack.ofs_delta(at, &appending(text.len(), &[n, 2]));
        pack.ofs_delta(at, &appending(text.len(), &[n, 3]));
        text.extend([n, 2]);
        at = next;
    }
    let pack = pack.finish();

    let (_folder, indexed) = taken_in_under(
        &IndexLimits {
            delta_cache_bytes: 1,
            ..limits()
        },
        &pack,
        &mut |_| None,
    );

    assert_eq!(indexed.objects, 121);
}

#[test]
fn a_thin_pack_is_completed_with_the_objects_it_builds_on_and_no_others() {
    let mut pack = PackBuilder::new();
    pack.ref_delta(&blob_id(b"ours"), &appending(4, b"first"));
    pack.ref_delta(&blob_id(b"oursfirst"), &appending(9, b"second"));
    pack.ref_delta(&blob_id(b"in the pack"), &appending(11, b"third"));
    pack.whole(ObjectKind::Blob, b"in the pack");

    let mut asked = Vec::new();
    let (_folder, indexed) = taken_in_under(&limits(), &pack.finish(), &mut |id| {
        asked.push(*id);
        [&b"ours"[..], b"oursfirst", b"in the pack"]
            .into_iter()
            .find(|data| blob_id(data) == *id)
            .map(|data| (ObjectKind::Blob, Content::Memory(data.to_vec())))
    });

    assert_eq!((indexed.objects, indexed.completed), (5, 1));
    assert!(asked.iter().all(|id| *id == blob_id(b"ours")), "{asked:?}");
}

#[test]
fn a_base_of_ours_that_also_came_as_a_delta_is_stored_once() {
    let mut pack = PackBuilder::new();
    pack.ref_delta(&blob_id(b"oursfirst"), &appending(9, b"second"));
    pack.ref_delta(&blob_id(b"ours"), &appending(4, b"first"));

    let (_folder, indexed) = taken_in_under(&limits(), &pack.finish(), &mut |id| {
        [&b"ours"[..], b"oursfirst"]
            .into_iter()
            .find(|data| blob_id(data) == *id)
            .map(|data| (ObjectKind::Blob, Content::Memory(data.to_vec())))
    });

    assert_eq!((indexed.objects, indexed.completed), (3, 1));
}

#[test]
fn a_family_on_an_object_of_ours_survives_a_tiny_cache() {
    let ours: Vec<u8> = (0..50_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let mut pack = PackBuilder::new();
    let mut text = ours.clone();
    let mut at = pack.ref_delta(&blob_id(&ours), &appending(ours.len(), b"a"));
    text.extend(b"a");
    for n in 0..10u8 {
        pack.ofs_delta(at, &appending(text.len(), &[n, 1]));
        let next = pack.ofs_delta(at, &appending(text.len(), &[n, 2]));
        pack.ofs_delta(at, &appending(text.len(), &[n, 3]));
        text.extend([n, 2]);
        at = next;
    }

    let tiny = IndexLimits {
        delta_cache_bytes: 1,
        ..limits()
    };
    let (_folder, indexed) = taken_in_under(&tiny, &pack.finish(), &mut |_| {
        Some((ObjectKind::Blob, Content::Memory(ours.clone())))
    });

    assert_eq!((indexed.objects, indexed.completed), (32, 1));
}

#[test]
fn a_damaged_object_of_ours_is_not_built_on() {
    let mut pack = PackBuilder::new();
    pack.ref_delta(&blob_id(b"ours"), &appending(4, b"first"));
    let folder = tempfile::tempdir().expect("temporary folder");

    let result = take_in_with(&pack.finish(), folder.path(), &limits(), &mut |_| {
        Some((ObjectKind::Blob, Content::Memory(b"rotten".to_vec())))
    });

    assert!(matches!(result, Err(IndexError::OwnObject(_))), "{result:?}");
}

#[test]
fn objects_of_every_size_around_the_buffers_are_taken_in() {
    let mut pack = PackBuilder::new();
    for len in [0usize, 1, 65_534, 65_535, 65_536, 65_537, 131_072, 300_000] {
        let data: Vec<u8> = (0..len as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        pack.whole(ObjectKind::Blob, &data);
        // Sound trees of many sizes do not come by so easily; the hash is what counts here.
        let mut tag = b"object 0000000000000000000000000000000000000001\n".to_vec();
        tag.extend_from_slice(&data);
        pack.whole(ObjectKind::Tag, &tag);
    }

    let (_folder, indexed) = taken_in(&pack.finish());

    assert_eq!(indexed.objects, 16);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Damage behind a right checksum: what is left to find are the entries themselves.
    #[test]
    fn a_damaged_pack_with_a_right_checksum_is_taken_in_whole_or_refused(
        changes in proptest::collection::vec((12usize..400, proptest::num::u8::ANY), 1..6),
        count in 0u32..9,
    ) {
        let mut pack = PackBuilder::new();
        let mut text: Vec<u8> = (0..60u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
        let mut at = pack.whole(ObjectKind::Blob, &text);
        pack.ref_delta(&blob_id(&text), &appending(text.len(), b"by id"));
        for n in 0..5u8 {
            at = pack.ofs_delta(at, &appending(text.len(), &[n, n]));
            text.extend([n, n]);
        }
        for (place, byte) in changes {
            let place = place % pack.bytes.len();
            pack.bytes[place.max(12)] = byte;
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        let taken = take_in_with(&pack.finish_with_count(count), folder.path(), &limits(), &mut |_| None);
        if let Ok(Some(indexed)) = taken {
            git_verifies(&indexed);
        }
    }
}

#[test]
fn a_visitor_sees_every_commit_tree_tag_and_small_file_once_deltas_included() {
    #[derive(Default)]
    struct Seen(Vec<(ObjectKind, usize)>);
    impl Visitor for Seen {
        fn visit(&mut self, _: &ObjectId, kind: ObjectKind, data: &[u8]) {
            self.0.push((kind, data.len()));
        }
        fn visit_small_blob(&mut self, _: &ObjectId, data: &[u8]) {
            self.0.push((ObjectKind::Blob, data.len()));
        }
        fn split(&self) -> Self {
            Self::default()
        }
        fn join(&mut self, other: Self) {
            self.0.extend(other.0);
        }
    }
    let mut pack = PackBuilder::new();
    let commit = pack.whole(ObjectKind::Commit, b"commit");
    pack.ofs_delta(commit, &appending(6, b"two"));
    let small = pack.whole(ObjectKind::Blob, b"blob");
    pack.ofs_delta(small, &appending(4, b"more"));
    pack.whole(ObjectKind::Blob, &[7; 1025]);
    // Its base lies in a file meanwhile.
    let large = pack.whole(
        ObjectKind::Blob,
        &vec![7; (crate::git::spill::IN_MEMORY_BYTES + 1) as usize],
    );
    pack.ofs_delta(
        large,
        &repeating((crate::git::spill::IN_MEMORY_BYTES + 1) as usize, 0, b"little"),
    );
    pack.whole(ObjectKind::Tree, b"");
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut seen = Seen::default();

    let pack = pack.finish();
    index_pack(
        &mut &pack[..],
        folder.path(),
        Kind::Sha1,
        &limits(),
        &mut |_| None,
        &mut seen,
        &mut || Ok(()),
    )
    .expect("a sound pack");

    assert_eq!(
        seen.0,
        [
            (ObjectKind::Commit, 6),
            (ObjectKind::Blob, 4),
            (ObjectKind::Tree, 0),
            (ObjectKind::Commit, 9),
            (ObjectKind::Blob, 8),
            (ObjectKind::Blob, 6)
        ]
    );
}

#[test]
fn work_stops_when_it_is_told_to() {
    let mut pack = PackBuilder::new();
    pack.whole(ObjectKind::Blob, b"text");
    let folder = tempfile::tempdir().expect("temporary folder");

    let result = index_pack(
        &mut &pack.finish()[..],
        folder.path(),
        Kind::Sha1,
        &limits(),
        &mut |_| None,
        &mut (),
        &mut || Err(Stopped::Cancelled),
    );

    assert!(matches!(result, Err(IndexError::Stopped(Stopped::Cancelled))));
}

/// Objects with one delta on each.
fn many_small_families(count: u32) -> Vec<u8> {
    let mut pack = PackBuilder::new();
    for n in 0..count {
        let text = format!("family {n}").into_bytes();
        let base = pack.whole(ObjectKind::Blob, &text);
        pack.ofs_delta(base, &appending(text.len(), b" and child"));
    }
    pack.finish()
}

#[test]
fn small_families_of_deltas_tick_as_one_large_family_does() {
    let pack = many_small_families(3000);
    let folder = tempfile::tempdir().expect("temporary folder");
    // The first pass calls it 24 times.
    let mut calls = 0;

    let result = index_pack(
        &mut &pack[..],
        folder.path(),
        Kind::Sha1,
        &limits(),
        &mut |_| None,
        &mut (),
        &mut || {
            calls += 1;
            if calls > 60 { Err(Stopped::Cancelled) } else { Ok(()) }
        },
    );

    assert!(matches!(result, Err(IndexError::Stopped(Stopped::Cancelled))));
}

#[test]
fn sorting_completing_and_writing_the_index_tick_too() {
    let mut pack = PackBuilder::new();
    for n in 0..2000u32 {
        pack.whole(ObjectKind::Blob, &n.to_le_bytes());
    }
    pack.ref_delta(&blob_id(b"ours"), &appending(4, b"first"));
    let pack = pack.finish();
    let calls_in_all = std::cell::Cell::new(0);
    let take_in = |stop_at: u32| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut calls = 0;
        let result = index_pack(
            &mut &pack[..],
            folder.path(),
            Kind::Sha1,
            &limits(),
            &mut |_| Some((ObjectKind::Blob, Content::Memory(b"ours".to_vec()))),
            &mut (),
            &mut || {
                calls += 1;
                if calls == stop_at {
                    Err(Stopped::Cancelled)
                } else {
                    Ok(())
                }
            },
        );
        calls_in_all.set(calls);
        result
    };
    take_in(0).expect("a sound pack");
    let all = calls_in_all.get();

    // The last calls are those of the index files; whichever says stop, it ends there.
    for stop_at in (1..=all).rev().take(20) {
        let result = take_in(stop_at);
        assert!(
            matches!(result, Err(IndexError::Stopped(_))),
            "{stop_at} of {all}: {result:?}"
        );
    }
    assert!(all > 2 * 256, "two sorts by 256 first bytes: {all}");
}

#[test]
fn the_processor_time_of_the_second_thread_is_noted() {
    let limits = limits();

    taken_in_under(&limits, &many_small_families(5000), &mut |_| None);

    assert!(limits.other_threads.used() > std::time::Duration::ZERO);
}

#[test]
fn what_builds_on_an_object_that_came_often_is_done_once() {
    let mut pack = PackBuilder::new();
    for _ in 0..3000 {
        pack.whole(ObjectKind::Blob, b"twin");
    }
    for n in 0..3000u32 {
        pack.ref_delta(&blob_id(b"twin"), &appending(4, &n.to_le_bytes()));
    }
    let pack = pack.finish();
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut calls = 0;

    let result = index_pack(
        &mut &pack[..],
        folder.path(),
        Kind::Sha1,
        &limits(),
        &mut |_| None,
        &mut (),
        &mut || {
            calls += 1;
            Ok(())
        },
    );

    // Nine million looks would be 140,000 calls.
    assert!(matches!(result, Err(IndexError::Duplicate(_))), "{result:?}");
    assert!(calls < 2000, "{calls}");
}

/// What cannot be compressed, in bytes.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A delta that copies a base of `base_len` bytes `times` times and adds `text`.
fn repeating(base_len: usize, times: usize, text: &[u8]) -> Vec<u8> {
    let mut delta = size_varint(base_len);
    delta.extend(size_varint(base_len * times + text.len()));
    for _ in 0..times {
        let mut at = 0;
        while at < base_len {
            let len = (base_len - at).min(0xff_ffff);
            delta.push(0xff);
            delta.extend((at as u32).to_le_bytes());
            delta.extend(&(len as u32).to_le_bytes()[..3]);
            at += len;
        }
    }
    delta.push(text.len() as u8);
    delta.extend_from_slice(text);
    delta
}

#[test]
fn deltas_on_large_files_and_large_results_are_worked_off_in_files() {
    let large = noise(9 << 20, 1);
    let mut pack = PackBuilder::new();
    // Large base, large result that others build on by distance and by id.
    let base = pack.whole(ObjectKind::Blob, &large);
    let second = pack.ofs_delta(base, &repeating(large.len(), 1, b"second"));
    pack.ofs_delta(second, &repeating(large.len() + 6, 1, b"third"));
    pack.ref_delta(
        &blob_id(&[&large[..], b"second"].concat()),
        &repeating(large.len() + 6, 1, b"by id"),
    );
    // A small result of a large base.
    let mut small = size_varint(large.len());
    small.extend(size_varint(4));
    small.extend([0b1001_0001, 200, 4]);
    let small = pack.ofs_delta(base, &small);
    pack.ofs_delta(small, &appending(4, b"child"));
    // A large result of a small base, and a large tag, which is looked at as a whole.
    let seed = noise(60_000, 2);
    let little = pack.whole(ObjectKind::Blob, &seed);
    let grown = pack.ofs_delta(little, &repeating(seed.len(), 160, b"grown"));
    pack.ofs_delta(grown, &repeating(seed.len() * 160 + 5, 1, b"on"));
    let tag = pack.whole(ObjectKind::Tag, &noise(9 << 20, 3));
    pack.ofs_delta(tag, &repeating(9 << 20, 1, b"another tag"));

    let (folder, indexed) = taken_in_under(&limits(), &pack.finish(), &mut |_| None);

    assert_eq!(indexed.objects, 11);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("readable").count(),
        3,
        "pack, idx, rev"
    );
}

#[test]
fn a_thin_pack_on_a_large_file_of_ours_is_completed_from_a_file() {
    let ours = noise(9 << 20, 4);
    let spill = tempfile::tempdir().expect("temporary folder");
    let mut pack = PackBuilder::new();
    let first = pack.ref_delta(&blob_id(&ours), &repeating(ours.len(), 1, b"first"));
    pack.ofs_delta(first, &repeating(ours.len() + 5, 1, b"second"));

    let (_folder, indexed) = taken_in_under(&limits(), &pack.finish(), &mut |_| {
        let content = Content::Memory(ours.clone()).settled(spill.path()).expect("a file");
        assert!(content.spilled_bytes() > 0);
        Some((ObjectKind::Blob, content))
    });

    assert_eq!((indexed.objects, indexed.completed), (3, 1));
}

#[test]
fn a_delta_on_something_too_large_for_deltas_is_refused() {
    let mut pack = PackBuilder::new();
    let large = vec![b'x'; 9 << 20];
    let base = pack.whole(ObjectKind::Blob, &large);
    pack.ofs_delta(base, &appending(0, b"x"));
    let small = IndexLimits {
        max_delta_object_bytes: 8 << 20,
        ..limits()
    };

    assert!(matches!(
        refusal_under(&small, &pack.finish()),
        IndexError::TooLargeForDelta { .. }
    ));
}
