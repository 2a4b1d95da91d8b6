//! Writes `.bitmap` files. Which commits get an entry, and what they reach, is the caller's business.

use std::collections::VecDeque;
use std::io::{self, Write};

use gix::hash::oid;

use super::ewah::{Encoder, words_for};
use super::{FULL_DAG, HASH_CACHE, HEAD, KINDS};
use crate::git::object_store::ObjectKind;
use crate::git::summed::SummedWriter;

/// How many entries before it an entry is compared with, as in git.
const CANDIDATES: usize = 10;
/// Most differences from an entry to one that stands for itself: reading an entry decodes them all.
const MAX_CHAIN: u8 = 50;

/// Why a bitmap file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BitmapWriteError {
    /// What it is written to fails.
    #[error("the bitmap could not be written")]
    Io(#[from] io::Error),
    /// What the caller gives does not go together.
    #[error("the bitmap was not written: {0}")]
    Mismatch(&'static str),
}

/// What stands before and after the entries.
#[derive(Clone, Copy, Debug)]
pub struct BitmapHead<'a> {
    /// Checksum of the pack or multi-pack-index. All that its objects name must be in it, too.
    pub owner: &'a oid,
    /// Objects in it.
    pub object_count: u32,
    /// Entries that will be added.
    pub entry_count: u32,
    /// Commits, trees, blobs and tags, as [`type_bits`] makes them.
    pub types: &'a [Vec<u64>; 4],
    /// For each object, in the order of the list of ids, the [`name_hash`] of a path it was found
    /// under, if they are known. Git uses them when it searches deltas.
    pub name_hashes: Option<&'a [u32]>,
}

/// An entry that later ones may be the difference to.
#[derive(Debug)]
struct Recent {
    words: Vec<u64>,
    chain: u8,
}

/// Writes a bitmap file entry by entry. Holds the last few sets, nothing else.
pub struct BitmapWriter<'a, W> {
    out: SummedWriter<W>,
    head: BitmapHead<'a>,
    added: u32,
    /// The nearest one first.
    recent: VecDeque<Recent>,
    encoder: Encoder,
    best: Encoder,
    bytes: Vec<u8>,
}

impl<'a, W: Write> BitmapWriter<'a, W> {
    /// Writes what stands before the entries.
    ///
    /// # Errors
    /// [`BitmapWriteError`]
    pub fn start(out: W, head: BitmapHead<'a>) -> Result<Self, BitmapWriteError> {
        if head
            .name_hashes
            .is_some_and(|hashes| hashes.len() != head.object_count as usize)
        {
            return Err(BitmapWriteError::Mismatch("there is not one name hash per object"));
        }
        let mut writer = Self {
            out: SummedWriter::new(out, head.owner.kind()),
            head,
            added: 0,
            recent: VecDeque::with_capacity(CANDIDATES),
            encoder: Encoder::default(),
            best: Encoder::default(),
            bytes: Vec::new(),
        };
        let hash_cache = if head.name_hashes.is_some() { HASH_CACHE } else { 0 };
        writer.out.bytes(&HEAD)?;
        writer.out.bytes(&(FULL_DAG | hash_cache).to_be_bytes())?;
        writer.out.u32(head.entry_count)?;
        writer.out.bytes(head.owner.as_bytes())?;
        for words in head.types {
            writer.check(words)?;
            writer.best.encode(words.iter().copied(), usize::MAX);
            writer.write_best()?;
        }
        Ok(writer)
    }

    /// Adds the objects that a commit reaches, itself included: bit *n* is object *n* in the order of
    /// the pack. The commit is at `index_position` in the list of ids.
    ///
    /// Commits that reach much the same should be added one after the other.
    ///
    /// # Errors
    /// [`BitmapWriteError`]
    pub fn add(&mut self, index_position: u32, reach: Vec<u64>) -> Result<(), BitmapWriteError> {
        self.check(&reach)?;
        if self.added == self.head.entry_count || index_position >= self.head.object_count {
            return Err(BitmapWriteError::Mismatch("there are more entries than were announced"));
        }
        self.best.encode(reach.iter().copied(), usize::MAX);
        let (mut xor_offset, mut chain) = (0, 0);
        for (offset, other) in (1..).zip(&self.recent) {
            let difference = reach.iter().zip(&other.words).map(|(word, other)| word ^ other);
            let most_words = self.best.word_count() - 1;
            if other.chain < MAX_CHAIN && self.encoder.encode(difference, most_words) {
                std::mem::swap(&mut self.encoder, &mut self.best);
                (xor_offset, chain) = (offset, other.chain + 1);
            }
        }
        self.out.u32(index_position)?;
        self.out.bytes(&[xor_offset, 0])?;
        self.write_best()?;
        self.recent.truncate(CANDIDATES - 1);
        self.recent.push_front(Recent { words: reach, chain });
        self.added += 1;
        Ok(())
    }

    /// Writes what stands after the entries.
    ///
    /// # Errors
    /// [`BitmapWriteError`]
    pub fn finish(mut self) -> Result<W, BitmapWriteError> {
        if self.added != self.head.entry_count {
            return Err(BitmapWriteError::Mismatch(
                "there are fewer entries than were announced",
            ));
        }
        for hash in self.head.name_hashes.unwrap_or_default() {
            self.out.u32(*hash)?;
        }
        Ok(self.out.finish()?.0)
    }

    fn write_best(&mut self) -> io::Result<()> {
        self.bytes.clear();
        self.best.append_to(&mut self.bytes);
        self.out.bytes(&self.bytes)
    }

    fn check(&self, words: &[u64]) -> Result<(), BitmapWriteError> {
        let used = self.head.object_count % 64;
        if words.len() != words_for(self.head.object_count)
            || (used != 0 && words.last().is_some_and(|last| last >> used != 0))
        {
            return Err(BitmapWriteError::Mismatch("a set does not fit the number of objects"));
        }
        Ok(())
    }
}

/// Sets of the commits, trees, blobs and tags among objects of these kinds, which are given in the
/// order of the pack.
pub fn type_bits(object_count: u32, kinds: impl IntoIterator<Item = ObjectKind>) -> [Vec<u64>; 4] {
    let mut types = [(); 4].map(|()| vec![0; words_for(object_count)]);
    for (bit, kind) in (0..object_count as usize).zip(kinds) {
        let number = KINDS.iter().position(|other| *other == kind).unwrap_or_default();
        types[number][bit / 64] |= 1 << (bit % 64);
    }
    types
}

/// Git's hash of a path, by which objects are sorted when deltas are searched: the last letters count
/// most. White space does not count.
pub fn name_hash(path: &[u8]) -> u32 {
    path.iter()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .fold(0_u32, |hash, byte| (hash >> 2).wrapping_add(u32::from(*byte) << 24))
}
