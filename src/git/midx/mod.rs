//! Multi-pack-indexes: one list of ids over several packs, read and written.
//!
//! Git's "gitformat-pack", section on multi-pack-index files, version 1. Each object is listed once,
//! with the pack it is to be taken from. A bitmap over a multi-pack-index counts objects in its
//! *pseudo-pack order*: those of the preferred pack first, then pack after pack, each in the order of
//! offsets, as if the packs were one.

mod read;
mod write;

pub use read::{Midx, MidxError, PackOrder};
pub use write::{MidxWriteError, WrittenMidx, write};

/// Magic and version.
const HEAD: [u8; 5] = *b"MIDX\x01";
/// Bytes before the table of chunks: magic, version, hash function, number of chunks, number of base
/// files, number of packs.
const HEAD_BYTES: u64 = 12;
/// Bytes of one line in the table of chunks.
const CHUNK_LINE_BYTES: u64 = 12;
/// Names of the indexes.
const PACK_NAMES: [u8; 4] = *b"PNAM";
/// How many ids start with at most each byte.
const FAN_OUT: [u8; 4] = *b"OIDF";
/// Ids.
const IDS: [u8; 4] = *b"OIDL";
/// Pack and offset of each object.
const OFFSETS: [u8; 4] = *b"OOFF";
/// Offsets that need 64 bits.
const LARGE_OFFSETS: [u8; 4] = *b"LOFF";
/// Positions in the list of ids, in pseudo-pack order.
const REVERSE_INDEX: [u8; 4] = *b"RIDX";
/// For each pack its first bit and how many there are.
const BITMAPPED_PACKS: [u8; 4] = *b"BTMP";
