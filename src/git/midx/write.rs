//! Writes multi-pack-indexes.

use std::io::{self, Write};

use gix::ObjectId;
use gix::hash::oid;

use super::{
    BITMAPPED_PACKS, CHUNK_LINE_BYTES, FAN_OUT, HEAD, HEAD_BYTES, IDS, LARGE_OFFSETS, OFFSETS, PACK_NAMES,
    REVERSE_INDEX,
};
use crate::git::object_store::Pack;
use crate::git::summed::SummedWriter;

/// What follows the names of packs begins at a multiple of this, in bytes.
const NAMES_ALIGNMENT: usize = 4;
/// Set in an offset that stands among the large ones.
const IS_LARGE: u32 = 1 << 31;
/// First bit of a pack of which no object was taken, as git writes it.
const NO_BIT: u32 = u32::MAX;
/// Not taken from this pack.
const NOT_TAKEN: u32 = u32::MAX;

/// Why a multi-pack-index could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MidxWriteError {
    /// What it is written to fails.
    #[error("the multi-pack-index could not be written")]
    Io(#[from] io::Error),
    /// It would be over no packs, over one twice, or over more objects than can be numbered.
    #[error("the multi-pack-index was not written: {0}")]
    Mismatch(&'static str),
}

/// A multi-pack-index that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenMidx {
    /// Its checksum, by which a bitmap names what it belongs to.
    pub checksum: ObjectId,
    /// How many objects it lists.
    pub object_count: u32,
}

/// An object and the pack it is taken from.
#[derive(Clone, Copy)]
struct Taken {
    /// Place of the pack among those the caller gave.
    pack: u32,
    /// Its position in that pack's index.
    index_position: u32,
}

/// Writes a multi-pack-index over `packs`, with the pseudo-pack order that a bitmap needs.
///
/// An object in several packs is taken from `preferred`, which is a place in `packs`, and else from
/// the first one that has it.
///
/// # Errors
/// [`MidxWriteError`]
pub fn write<W: Write>(packs: &[&Pack], preferred: usize, out: W) -> Result<(W, WrittenMidx), MidxWriteError> {
    let first = packs
        .get(preferred)
        .ok_or(MidxWriteError::Mismatch("there is no pack to be preferred"))?;
    let hash = first.checksum().kind();
    let sorted = Sorted::new(packs, preferred)?;
    let taken = take(packs, &sorted.by_preference)?;
    let object_count =
        u32::try_from(taken.len()).map_err(|_| MidxWriteError::Mismatch("there are too many objects"))?;
    let orders = pack_order(packs, &taken);

    let (offsets, large) = offset_chunks(
        taken
            .iter()
            .map(|object| (sorted.number[object.pack as usize], offset(packs, *object))),
    );
    let names = sorted.names_chunk();
    let count = u64::from(object_count);
    let mut chunks = vec![
        (PACK_NAMES, names.len() as u64),
        (FAN_OUT, 4 * 256),
        (IDS, count * hash.len_in_bytes() as u64),
        (OFFSETS, count * 8),
        (LARGE_OFFSETS, large.len() as u64),
        (REVERSE_INDEX, count * 4),
        (BITMAPPED_PACKS, packs.len() as u64 * 8),
    ];
    chunks.retain(|(_, len)| *len > 0);

    let mut out = SummedWriter::new(out, hash);
    out.bytes(&HEAD)?;
    out.bytes(&[hash as u8, chunks.len() as u8, 0])?;
    out.u32(packs.len() as u32)?;
    let mut start = HEAD_BYTES + CHUNK_LINE_BYTES * (chunks.len() as u64 + 1);
    for (id, len) in &chunks {
        out.bytes(id)?;
        out.u64(start)?;
        start += len;
    }
    out.u32(0)?;
    out.u64(start)?;

    out.bytes(&names)?;
    write_fan_out(packs, &taken, &mut out)?;
    for object in &taken {
        out.bytes(id(packs, *object).as_bytes())?;
    }
    out.bytes(&offsets)?;
    out.bytes(&large)?;
    write_orders(&sorted, &orders, &mut out)?;
    debug_assert_eq!(out.len(), start);
    let (out, checksum) = out.finish()?;
    Ok((out, WrittenMidx { checksum, object_count }))
}

fn id<'p>(packs: &[&'p Pack], object: Taken) -> &'p oid {
    packs[object.pack as usize].index.oid_at_index(object.index_position)
}

fn offset(packs: &[&Pack], object: Taken) -> u64 {
    packs[object.pack as usize]
        .index
        .pack_offset_at_index(object.index_position)
}

/// Pack and offset of each object, and those offsets that need 64 bits.
///
/// As git does it: only if one needs more than 32 bits, all from 31 bits on stand among the large ones.
fn offset_chunks(objects: impl Iterator<Item = (u32, u64)> + Clone) -> (Vec<u8>, Vec<u8>) {
    let has_large = objects.clone().any(|(_, offset)| offset > u64::from(u32::MAX));
    let (mut offsets, mut large) = (Vec::new(), Vec::new());
    for (pack, offset) in objects {
        let short = if has_large && offset >= u64::from(IS_LARGE) {
            let number = (large.len() / 8) as u32;
            large.extend_from_slice(&offset.to_be_bytes());
            IS_LARGE | number
        } else {
            offset as u32
        };
        offsets.extend_from_slice(&pack.to_be_bytes());
        offsets.extend_from_slice(&short.to_be_bytes());
    }
    (offsets, large)
}

/// The order of the packs in the file.
struct Sorted {
    /// Names of the indexes, sorted.
    names: Vec<String>,
    /// Place of a pack among those the caller gave → its number in the file.
    number: Vec<u32>,
    /// Places, the preferred pack's first.
    by_preference: Vec<u32>,
    /// Places in the order of bits: the preferred pack's, then by number.
    by_bits: Vec<u32>,
}

impl Sorted {
    fn new(packs: &[&Pack], preferred: usize) -> Result<Self, MidxWriteError> {
        let mut named: Vec<(String, u32)> = Vec::new();
        for (place, pack) in (0..).zip(packs) {
            let path = pack.path().with_extension("idx");
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or(MidxWriteError::Mismatch("a pack has a name that is no text"))?;
            named.push((name.to_owned(), place));
        }
        named.sort();
        if named.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(MidxWriteError::Mismatch("a pack is given twice"));
        }
        let mut number = vec![0; packs.len()];
        for (at, (_, place)) in (0..).zip(&named) {
            number[*place as usize] = at;
        }
        let preferred = preferred as u32;
        let first_preferred = |places: &mut dyn Iterator<Item = u32>| {
            std::iter::once(preferred)
                .chain(places.filter(|place| *place != preferred))
                .collect::<Vec<u32>>()
        };
        Ok(Self {
            by_preference: first_preferred(&mut (0..packs.len() as u32)),
            by_bits: first_preferred(&mut named.iter().map(|(_, place)| *place)),
            names: named.into_iter().map(|(name, _)| name).collect(),
            number,
        })
    }

    fn names_chunk(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in &self.names {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
        }
        bytes.resize(bytes.len().next_multiple_of(NAMES_ALIGNMENT), 0);
        bytes
    }
}

/// Every object once, sorted by id: from the first pack in `by_preference` that has it.
fn take(packs: &[&Pack], by_preference: &[u32]) -> Result<Vec<Taken>, MidxWriteError> {
    let most: u64 = packs.iter().map(|pack| u64::from(pack.object_count())).sum();
    if most > u64::from(u32::MAX) {
        return Err(MidxWriteError::Mismatch("there are too many objects"));
    }
    let mut taken = Vec::with_capacity(most as usize);
    let mut next = vec![0; packs.len()];
    let mut same_start: Vec<(&oid, u32, Taken)> = Vec::new();
    // Sorted in pieces: ids with the same first byte lie together in each index.
    for first_byte in 0..=u8::MAX {
        same_start.clear();
        for (rank, pack) in (0..).zip(by_preference) {
            let index = &packs[*pack as usize].index;
            let next = &mut next[*pack as usize];
            while *next < index.num_objects() && index.oid_at_index(*next).first_byte() <= first_byte {
                let object = Taken {
                    pack: *pack,
                    index_position: *next,
                };
                same_start.push((index.oid_at_index(*next), rank, object));
                *next += 1;
            }
        }
        if same_start.iter().any(|(id, _, _)| id.first_byte() != first_byte) {
            return Err(MidxWriteError::Mismatch("the index of a pack is not sorted"));
        }
        same_start.sort_unstable_by_key(|(id, rank, _)| (*id, *rank));
        same_start.dedup_by_key(|(id, _, _)| *id);
        taken.extend(same_start.iter().map(|(_, _, object)| *object));
    }
    Ok(taken)
}

/// For each pack, by its place: positions of its objects in the list of ids, in the order of the pack.
fn pack_order(packs: &[&Pack], taken: &[Taken]) -> Vec<Vec<u32>> {
    let mut at: Vec<Vec<u32>> = packs
        .iter()
        .map(|pack| vec![NOT_TAKEN; pack.object_count() as usize])
        .collect();
    for (position, object) in (0..).zip(taken) {
        let pack = packs[object.pack as usize];
        at[object.pack as usize][pack.order_at_index(object.index_position) as usize] = position;
    }
    for positions in &mut at {
        positions.retain(|position| *position != NOT_TAKEN);
    }
    at
}

fn write_fan_out<W: Write>(packs: &[&Pack], taken: &[Taken], out: &mut SummedWriter<W>) -> io::Result<()> {
    let mut counts = [0_u32; 256];
    for object in taken {
        counts[usize::from(id(packs, *object).first_byte())] += 1;
    }
    let mut sum = 0;
    for count in counts {
        sum += count;
        out.u32(sum)?;
    }
    Ok(())
}

/// The pseudo-pack order, and which bits each pack has in it.
fn write_orders<W: Write>(sorted: &Sorted, orders: &[Vec<u32>], out: &mut SummedWriter<W>) -> io::Result<()> {
    let mut bits = vec![(NO_BIT, 0); orders.len()];
    let mut next_bit = 0;
    for place in &sorted.by_bits {
        let order = &orders[*place as usize];
        for position in order {
            out.u32(*position)?;
        }
        let count = order.len() as u32;
        if count > 0 {
            bits[sorted.number[*place as usize] as usize] = (next_bit, count);
        }
        next_bit += count;
    }
    for (first, count) in bits {
        out.u32(first)?;
        out.u32(count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(bytes: &[u8]) -> Vec<u32> {
        let (numbers, _) = bytes.as_chunks::<4>();
        numbers.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect()
    }

    #[test]
    fn offsets_of_up_to_32_bits_stand_as_they_are_if_no_longer_one_is_there() {
        let (offsets, large) = offset_chunks([(0, 12), (1, 3 << 30)].into_iter());
        assert_eq!(numbers(&offsets), [0, 12, 1, 3 << 30]);
        assert!(large.is_empty());
    }

    #[test]
    fn one_offset_beyond_32_bits_moves_all_beyond_31_bits_among_the_large_ones() {
        let (offsets, large) = offset_chunks([(0, 12), (1, 3 << 30), (0, 5 << 30)].into_iter());
        assert_eq!(numbers(&offsets), [0, 12, 1, IS_LARGE, 0, IS_LARGE | 1]);
        assert_eq!(numbers(&large), [0, 3 << 30, 1, 1 << 30]);
    }
}
