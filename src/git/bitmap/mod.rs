//! Reachability bitmaps: `.bitmap` files of packs and of multi-pack-indexes, read and written.
//!
//! Git's "bitmap-format", version 1. Such a file belongs to one pack or one multi-pack-index, its
//! *owner*, and says for some commits which objects they reach. Bit *n* is the *n*th object in the
//! order of the pack; with a multi-pack-index, in its pseudo-pack order (see
//! [`PackOrder`](super::midx::PackOrder)). Commits are named by their position in the owner's
//! list of ids, which is another number than their bit.

pub mod ewah;

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{BitmapEntry, BitmapError, BitmapFile};
pub use write::{BitmapHead, BitmapWriteError, BitmapWriter, name_hash, type_bits};

use super::object_store::ObjectKind;

/// Magic and version.
const HEAD: [u8; 6] = *b"BITM\0\x01";
/// Flag: everything that an object names is in the owner too. Always set.
const FULL_DAG: u16 = 0x1;
/// Flag: the hashes of names stand at the end.
const HASH_CACHE: u16 = 0x4;
/// Flag: a table of where each entry stands comes before that. Reading from front to back needs none.
const LOOKUP_TABLE: u16 = 0x10;
/// Flag: bitmaps of made-up merges come before that. They are passed over.
const PSEUDO_MERGES: u16 = 0x20;
/// Bytes of one line in the table of where each entry stands.
const LOOKUP_LINE_BYTES: u64 = 16;
/// How far before an entry the one may stand that it is the difference to.
const MAX_XOR_OFFSET: u8 = 160;

/// Kinds of objects in the order of their bitmaps.
const KINDS: [ObjectKind; 4] = [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag];

/// Puts the set `from` into `into`, `first` bits further up: from the bits of a pack to positions.
///
/// # Panics
/// If it does not fit.
pub fn or_at(from: &[u64], into: &mut [u64], first: u32) {
    let (skip, shift) = (first as usize / 64, first % 64);
    if shift == 0 {
        for (word, more) in into[skip..][..from.len()].iter_mut().zip(from) {
            *word |= more;
        }
        return;
    }
    let mut carry = 0;
    for (at, word) in (skip..).zip(from) {
        into[at] |= word << shift | carry;
        carry = word >> (64 - shift);
    }
    if carry != 0 {
        into[skip + from.len()] |= carry;
    }
}

/// The `count` bits of `from` that begin at bit `first`: from positions to the bits of a pack.
///
/// # Panics
/// If `from` is shorter.
pub fn bits_at(from: &[u64], first: u32, count: u32) -> Vec<u64> {
    let (skip, shift) = (first as usize / 64, first % 64);
    let len = ewah::words_for(count);
    let mut words: Vec<u64> = (skip..skip + len)
        .map(|at| match shift {
            0 => from[at],
            _ => from[at] >> shift | from.get(at + 1).map_or(0, |next| next << (64 - shift)),
        })
        .collect();
    if let Some(last) = words.last_mut()
        && !count.is_multiple_of(64)
    {
        *last &= (1 << (count % 64)) - 1;
    }
    words
}
