//! Packs that lie, circle, bomb or break off.

use super::*;

#[test]
fn deltas_in_a_circle_and_deltas_on_nothing_are_unresolved() {
    let mut pack = PackBuilder::new();
    let (a, b) = (blob_id(b"aa"), blob_id(b"bb"));
    pack.ref_delta(&b, &[2, 2, 2, b'a', b'a']);
    pack.ref_delta(&a, &[2, 2, 2, b'b', b'b']);

    match refusal(&pack.finish()) {
        IndexError::Unresolved { count, base } => assert_eq!((count, base), (2, b)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_pack_of_doubled_bases_does_not_double_the_work() {
    // Each object comes twice, each as a delta on the one before: without a claim on every delta
    // the work would double with each level, 2^60 in all.
    let mut pack = PackBuilder::new();
    let mut text = b"base".to_vec();
    pack.whole(ObjectKind::Blob, &text);
    pack.whole(ObjectKind::Blob, &text);
    for n in 0..60u8 {
        let id = blob_id(&text);
        pack.ref_delta(&id, &appending(text.len(), &[n]));
        pack.ref_delta(&id, &appending(text.len(), &[n]));
        text.push(n);
    }

    assert!(matches!(refusal(&pack.finish()), IndexError::Duplicate(_)));
}

#[test]
fn an_object_that_came_twice_is_refused() {
    let mut pack = PackBuilder::new();
    pack.whole(ObjectKind::Blob, b"twin");
    pack.whole(ObjectKind::Blob, b"twin");

    assert!(matches!(refusal(&pack.finish()), IndexError::Duplicate(_)));
}

#[test]
fn a_chain_of_deltas_longer_than_the_limit_is_refused_and_one_that_reaches_it_is_not() {
    let chain = |len: usize| {
        let mut pack = PackBuilder::new();
        let mut at = pack.whole(ObjectKind::Blob, b"base");
        for size in 4..4 + len {
            at = pack.ofs_delta(at, &appending(size, b"+"));
        }
        pack.finish()
    };

    taken_in(&chain(64));
    assert!(matches!(
        refusal(&chain(65)),
        IndexError::BadEntry {
            what: BadEntry::TooDeep { limit: 64 },
            ..
        }
    ));
}

#[test]
fn a_chain_of_a_hundred_thousand_deltas_needs_no_stack() {
    let mut pack = PackBuilder::new();
    let size = 4;
    let mut at = pack.whole(ObjectKind::Blob, b"base");
    for _ in 0..100_000u32 {
        let mut delta = size_varint(size);
        delta.extend(size_varint(size));
        delta.extend([0xb0, size as u8, (size >> 8) as u8]);
        at = pack.ofs_delta(at, &delta);
    }
    let pack = pack.finish();
    let deep = IndexLimits {
        max_delta_depth: u32::MAX,
        ..limits()
    };

    assert!(matches!(refusal_under(&deep, &pack), IndexError::Duplicate(_)));
    assert!(matches!(
        refusal(&pack),
        IndexError::BadEntry {
            what: BadEntry::TooDeep { .. },
            ..
        }
    ));
}

#[test]
fn a_base_offset_must_name_the_start_of_an_earlier_object() {
    let with_distance = |distance: u64| {
        let mut pack = PackBuilder::new();
        pack.whole(ObjectKind::Blob, b"base");
        let delta = appending(4, b"x");
        let mut head = delta_head(6, delta.len());
        head.extend(offset_varint(distance));
        pack.raw(&head, &deflated(&delta));
        refusal(&pack.finish())
    };
    let what = |error| match error {
        IndexError::BadEntry { what, .. } => what,
        other => panic!("{other}"),
    };

    assert_eq!(what(with_distance(0)), BadEntry::BaseOutOfBounds);
    assert_eq!(what(with_distance(1 << 40)), BadEntry::BaseOutOfBounds);
    assert_eq!(what(with_distance(u64::MAX >> 1)), BadEntry::BaseOutOfBounds);
    assert_eq!(what(with_distance(1)), BadEntry::BaseNotAnEntry);
}

#[test]
fn sizes_that_lie_either_way_are_refused() {
    let stated = |size: u64, data: &[u8]| {
        let mut pack = PackBuilder::new();
        pack.raw(&whole_entry_head(ObjectKind::Blob, size), &deflated(data));
        refusal(&pack.finish())
    };

    for (size, len) in [
        (3, 4usize),
        (0, 1),
        (65_535, 65_536),
        (65_536, 65_537),
        (200_000, 200_001),
    ] {
        let error = stated(size, &vec![b'x'; len]);
        assert!(
            matches!(
                error,
                IndexError::BadEntry {
                    what: BadEntry::LargerThanStated { .. },
                    ..
                }
            ),
            "{size}: {error}"
        );
    }
    for (size, len) in [(4, 3usize), (1, 0), (65_537, 65_536), (200_000, 100_000)] {
        let error = stated(size, &vec![b'x'; len]);
        assert!(
            matches!(
                error,
                IndexError::BadEntry {
                    what: BadEntry::SmallerThanStated { .. },
                    ..
                }
            ),
            "{size}: {error}"
        );
    }
}

#[test]
fn a_zlib_bomb_stops_at_the_stated_size() {
    let bomb = deflated(&vec![0; 32 << 20]);
    let mut pack = PackBuilder::new();
    pack.raw(&whole_entry_head(ObjectKind::Tree, 100), &bomb);

    assert!(matches!(
        refusal(&pack.finish()),
        IndexError::BadEntry {
            what: BadEntry::LargerThanStated { stated: 100 },
            ..
        }
    ));
}

#[test]
fn huge_stated_sizes_are_refused_before_any_room_is_made() {
    let with_head = |head: &[u8]| {
        let mut pack = PackBuilder::new();
        pack.raw(head, &deflated(b"x"));
        refusal(&pack.finish())
    };
    let too_large = whole_entry_head(ObjectKind::Blob, 1 << 40);
    let too_large_for_memory = whole_entry_head(ObjectKind::Commit, 65 << 20);

    assert!(matches!(with_head(&too_large), IndexError::ObjectTooLarge { .. }));
    assert!(matches!(
        with_head(&too_large_for_memory),
        IndexError::TooLargeForMemory { .. }
    ));
    assert!(matches!(
        with_head(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        IndexError::BadEntry {
            what: BadEntry::SizeOverflow,
            ..
        }
    ));
}

#[test]
fn a_delta_whose_result_would_be_huge_is_refused_before_it_is_made() {
    let mut pack = PackBuilder::new();
    let base = pack.whole(ObjectKind::Blob, b"base");
    let mut delta = size_varint(4);
    delta.extend(size_varint(600 << 20));
    delta.extend([0x90, 4]);
    pack.ofs_delta(base, &delta);

    assert!(matches!(refusal(&pack.finish()), IndexError::TooLargeForDelta { .. }));
}

#[test]
fn the_stated_count_must_be_what_comes() {
    let three = || {
        let mut pack = PackBuilder::new();
        pack.whole(ObjectKind::Blob, b"one");
        pack.whole(ObjectKind::Blob, b"two");
        pack.whole(ObjectKind::Blob, b"three");
        pack
    };

    refusal(&three().finish_with_count(4));
    assert!(matches!(refusal(&three().finish_with_count(2)), IndexError::Checksum));
    assert!(matches!(
        refusal(&three().finish_with_count(u32::MAX)),
        IndexError::TooManyObjects { .. }
    ));
}

#[test]
fn a_pack_cut_off_anywhere_is_refused() {
    let mut pack = PackBuilder::new();
    let base = pack.whole(ObjectKind::Blob, b"some text that is long enough");
    pack.ofs_delta(base, &appending(29, b"more"));
    let pack = pack.finish();

    for len in 0..pack.len() {
        assert!(matches!(refusal(&pack[..len]), IndexError::Truncated), "cut at {len}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let mut pack = PackBuilder::new();
    let base = pack.whole(ObjectKind::Blob, b"some text that is long enough");
    pack.ofs_delta(base, &appending(29, b"more"));
    let pack = pack.finish();

    for at in 0..pack.len() {
        for bit in 0..8 {
            let mut damaged = pack.clone();
            damaged[at] ^= 1 << bit;
            refusal(&damaged);
        }
    }
}

#[test]
fn garbage_after_the_pack_is_refused() {
    let mut pack = PackBuilder::new();
    pack.whole(ObjectKind::Blob, b"text");
    let mut pack = pack.finish();
    pack.push(0);

    assert!(matches!(refusal(&pack), IndexError::TrailingGarbage));
}

#[test]
fn a_pack_larger_than_the_limit_is_refused() {
    let mut pack = PackBuilder::new();
    pack.whole(ObjectKind::Blob, &[b'x'; 1000]);
    let small = IndexLimits {
        max_pack_bytes: 20,
        ..limits()
    };

    assert!(matches!(
        refusal_under(&small, &pack.finish()),
        IndexError::PackTooLarge { limit_bytes: 20 }
    ));
}

#[test]
fn everything_that_a_pack_unfolds_to_is_counted_deltas_included() {
    let mut pack = PackBuilder::new();
    let base = pack.whole(ObjectKind::Blob, &[b'x'; 1000]);
    let deltas = [b"a", b"b", b"c"].map(|end| appending(1000, end));
    for delta in &deltas {
        pack.ofs_delta(base, delta);
    }
    let pack = pack.finish();
    let came = 1000 + deltas.iter().map(Vec::len).sum::<usize>() as u64;
    let all = came + 3 * 1001;
    let under = |max_inflated_bytes| IndexLimits {
        max_inflated_bytes,
        ..limits()
    };

    for limit in [came - 1, came, all - 1] {
        let refused = refusal_under(&under(limit), &pack);
        assert!(
            matches!(refused, IndexError::TooMuchInflated { limit_bytes } if limit_bytes == limit),
            "{refused}"
        );
    }
    assert_eq!(taken_in_under(&under(all), &pack, &mut |_| None).1.objects, 4);
}

#[test]
fn unknown_types_versions_and_magic_are_refused() {
    let mut pack = PackBuilder::new();
    pack.raw(&[0x51], &deflated(b"x"));
    assert!(matches!(
        refusal(&pack.finish()),
        IndexError::BadEntry {
            what: BadEntry::UnknownType(5),
            ..
        }
    ));

    let mut version_3 = PackBuilder::new().finish();
    version_3[7] = 3;
    assert!(matches!(refusal(&version_3), IndexError::Version(3)));
    assert!(matches!(refusal(b"PUCK\0\0\0\x02\0\0\0\0"), IndexError::Signature));
}
