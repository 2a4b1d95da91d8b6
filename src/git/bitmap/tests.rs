//! What is written is read again; what is damaged is refused.

use std::path::PathBuf;

use gix::ObjectId;
use gix::hash::Kind;
use proptest::prelude::*;
use tempfile::TempDir;

use super::ewah::words_for;
use super::*;
use crate::git::summed::SummedWriter;

/// A bitmap file in memory.
#[derive(Clone, Debug)]
struct Made {
    owner: ObjectId,
    object_count: u32,
    /// Position in the index and reached objects.
    entries: Vec<(u32, Vec<u64>)>,
    bytes: Vec<u8>,
}

fn owner(kind: Kind) -> ObjectId {
    let mut id = kind.null();
    id.as_mut_slice().fill(0x5a);
    id
}

fn kinds(object_count: u32) -> impl Iterator<Item = ObjectKind> {
    (0..object_count as usize).map(|bit| KINDS[bit % 4])
}

fn make(kind: Kind, object_count: u32, entries: Vec<(u32, Vec<u64>)>, name_hashes: Option<&[u32]>) -> Made {
    let owner = owner(kind);
    let types = type_bits(object_count, kinds(object_count));
    let head = BitmapHead {
        owner: &owner,
        object_count,
        entry_count: entries.len() as u32,
        types: &types,
        name_hashes,
    };
    let mut writer = BitmapWriter::start(Vec::new(), head).expect("starts");
    for (position, reach) in &entries {
        writer.add(*position, reach.clone()).expect("adds");
    }
    Made {
        owner,
        object_count,
        entries,
        bytes: writer.finish().expect("finishes"),
    }
}

impl Made {
    /// Growing sets, as those of commits on one line are.
    fn growing(kind: Kind) -> Self {
        let mut words = vec![0_u64; 5];
        let entries = (0..60)
            .map(|number| {
                for bit in number * 5..number * 5 + 5 {
                    words[bit / 64] |= 1 << (bit % 64);
                }
                (299 - number as u32, words.clone())
            })
            .collect();
        let hashes: Vec<u32> = (0..300).map(|object| object * 7).collect();
        make(kind, 300, entries, Some(&hashes))
    }

    fn write(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join("pack.bitmap");
        std::fs::write(&path, &self.bytes).expect("writes");
        (folder, path)
    }

    fn open(&self) -> Result<(TempDir, BitmapFile), BitmapError> {
        let (folder, path) = self.write();
        BitmapFile::open(&path, &self.owner, self.object_count).map(|file| (folder, file))
    }

    /// Makes the checksum right again.
    fn sum(&mut self) {
        let len = self.bytes.len().saturating_sub(self.owner.as_slice().len());
        let mut out = SummedWriter::new(Vec::new(), self.owner.kind());
        out.bytes(&self.bytes[..len]).expect("writes to memory");
        self.bytes = out.finish().expect("writes to memory").0;
    }

    fn assert_is_read(&self) {
        let (_folder, file) = self.open().expect("opens");
        assert_eq!(file.entries().len(), self.entries.len());
        for (position, reach) in &self.entries {
            let entry = file.entry_of(*position).expect("there is an entry");
            assert_eq!(entry.index_position, *position);
            let mut words = vec![0; words_for(self.object_count)];
            file.reach(entry, &mut words).expect("reads");
            assert_eq!(words, *reach);
        }
    }
}

#[test]
fn growing_sets_are_read_again_with_every_hash_function() {
    for kind in Kind::all() {
        let made = Made::growing(*kind);
        made.assert_is_read();
        let (_folder, file) = made.open().expect("opens");
        assert_eq!(file.belongs_to(), made.owner);
        assert!(file.entry_of(5).is_none());
        let hashes = file.name_hashes().expect("reads").expect("there are some");
        assert!(hashes.iter().zip(0..).all(|(hash, object)| *hash == object * 7));
        let types = type_bits(300, kinds(300));
        for (kind, expected) in KINDS.into_iter().zip(types) {
            let mut words = vec![0; words_for(300)];
            file.type_bits(kind, &mut words).expect("reads");
            assert_eq!(words, expected);
        }
    }
}

#[test]
fn entries_are_differences_to_similar_ones() {
    let mut whole: Vec<u64> = (0..200_u64)
        .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        .collect();
    let mut entries = Vec::new();
    for number in 0..100 {
        whole[number] ^= 2;
        entries.push((number as u32, whole.clone()));
    }
    let made = make(Kind::Sha1, 200 * 64, entries, None);
    made.assert_is_read();
    // Two of them stand for themselves; the others take a few words each.
    assert!(made.bytes.len() < 15_000, "{}", made.bytes.len());
}

#[test]
fn a_file_of_another_owner_is_told_from_a_damaged_one() {
    let made = Made::growing(Kind::Sha1);
    let (_folder, path) = made.write();
    let other = BitmapFile::open(&path, &Kind::Sha1.null(), made.object_count);
    assert!(matches!(other, Err(BitmapError::OtherOwner { found, .. }) if found == made.owner));
    let absent = BitmapFile::open(&path.with_extension("x"), &made.owner, 1);
    assert!(absent.is_err_and(|error| error.is_absent()));
}

#[test]
fn another_number_of_objects_is_an_error() {
    let mut made = Made::growing(Kind::Sha1);
    for object_count in [0, 1, 64, 299, 301, 320, u32::MAX] {
        made.object_count = object_count;
        assert!(
            matches!(made.open(), Err(BitmapError::Damaged { .. })),
            "{object_count}"
        );
    }
}

#[test]
fn the_writer_refuses_what_does_not_go_together() {
    let owner = owner(Kind::Sha1);
    let types = type_bits(70, kinds(70));
    let head = BitmapHead {
        owner: &owner,
        object_count: 70,
        entry_count: 1,
        types: &types,
        name_hashes: None,
    };
    let start = || BitmapWriter::start(Vec::new(), head).expect("starts");
    assert!(start().add(0, vec![1]).is_err());
    assert!(start().add(0, vec![1, 1 << 6]).is_err());
    assert!(start().add(70, vec![1, 0]).is_err());
    assert!(start().finish().is_err());
    let mut writer = start();
    writer.add(0, vec![1, 1 << 5]).expect("adds");
    assert!(writer.add(1, vec![1, 0]).is_err());
    writer.finish().expect("finishes");
    let hashes = BitmapHead {
        name_hashes: Some(&[1, 2]),
        ..head
    };
    assert!(BitmapWriter::start(Vec::new(), hashes).is_err());
}

#[test]
fn names_hash_as_in_git() {
    assert_eq!(name_hash(b""), 0);
    assert_eq!(name_hash(b"a"), 0x6100_0000);
    assert_eq!(name_hash(b"ab"), 0x6100_0000 / 4 + 0x6200_0000);
    assert_eq!(name_hash(b"a b\t\n"), name_hash(b"ab"));
    assert_eq!(name_hash(&[0xff, 0xff]), 0x3fc0_0000_u32.wrapping_add(0xff00_0000));
}

#[test]
fn bits_move_between_a_pack_and_positions() {
    for first in [0, 1, 63, 64, 65, 130] {
        let from = [0x8000_0000_0000_0001, 5, 1 << 9];
        let mut into = vec![0; (first as usize + 138).div_ceil(64)];
        or_at(&from, &mut into, first);
        assert_eq!(into.iter().map(|word| word.count_ones()).sum::<u32>(), 5);
        for bit in [0, 63, 64, 66, 137] {
            let at = first as usize + bit;
            assert_eq!(into[at / 64] >> (at % 64) & 1, 1, "{first} {bit}");
        }
        assert_eq!(bits_at(&into, first, 138), from);
        assert_eq!(bits_at(&into, first, 137), [from[0], 5, 0]);
    }
}

fn any_made() -> impl Strategy<Value = Made> {
    (1_u32..400).prop_flat_map(|object_count| {
        let word = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
        let set = proptest::collection::vec(word, words_for(object_count));
        let sets = proptest::collection::vec(set, 0..(object_count as usize).min(30));
        (sets, any::<bool>()).prop_map(move |(mut sets, with_hashes)| {
            for set in &mut sets {
                *set = bits_at(set, 0, object_count);
            }
            let entries = (0..).zip(sets).collect();
            let hashes = vec![9; object_count as usize];
            make(Kind::Sha1, object_count, entries, with_hashes.then_some(&hashes[..]))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_sets_are_read_again(made in any_made()) {
        made.assert_is_read();
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_an_error(made in any_made(), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let mut made = made;
        let at = at.index(made.bytes.len());
        if cut {
            made.bytes.truncate(at);
        } else {
            made.bytes[at] ^= 1 << bit;
        }
        prop_assert!(made.open().is_err());
    }

    #[test]
    fn damage_under_a_right_checksum_never_makes_objects_up(
        made in any_made(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut made = made;
        for (at, byte) in changes {
            let at = at.index(made.bytes.len());
            made.bytes[at] = byte;
        }
        if let Some(cut) = cut {
            made.bytes.truncate(cut.index(made.bytes.len()));
        }
        made.sum();
        if let Ok((_folder, file)) = made.open() {
            let mut all = vec![0; words_for(made.object_count)];
            for entry in file.entries() {
                let before = all.clone();
                if file.reach(entry, &mut all).is_err() {
                    prop_assert_eq!(&all, &before);
                }
            }
            prop_assert_eq!(bits_at(&all, 0, made.object_count), all);
        }
    }
}
