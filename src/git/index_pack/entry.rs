//! The head of one entry in a pack, and the instructions of a delta: pure functions over bytes.

use crate::git::object_store::ObjectKind;

/// What an entry of a pack holds, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The object itself.
    Whole(ObjectKind),
    /// A delta whose base begins so many bytes before this entry.
    OfsDelta,
    /// A delta whose base is named by its id.
    RefDelta,
}

impl EntryKind {
    /// Reads the three type bits of an entry's first byte; `None` for the two unused values.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Whole(ObjectKind::Commit),
            2 => Self::Whole(ObjectKind::Tree),
            3 => Self::Whole(ObjectKind::Blob),
            4 => Self::Whole(ObjectKind::Tag),
            6 => Self::OfsDelta,
            7 => Self::RefDelta,
            _ => return None,
        })
    }
}

/// Longest size field of an entry, in bytes: 4 bits and then 7 at a time up to 64.
pub const MAX_SIZE_BYTES: usize = 10;

/// The type bits of `kind` in a pack.
fn kind_bits(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::Commit => 1,
        ObjectKind::Tree => 2,
        ObjectKind::Blob => 3,
        ObjectKind::Tag => 4,
    }
}

/// The head of an entry that holds a whole object of `size` bytes.
pub fn whole_entry_head(kind: ObjectKind, size: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(MAX_SIZE_BYTES);
    let mut byte = (kind_bits(kind) << 4) | (size & 0x0f) as u8;
    let mut rest = size >> 4;
    while rest > 0 {
        head.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    head.push(byte);
    head
}

/// What is wrong with the instructions of a delta.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// The instructions end in the middle of one.
    #[error("the delta ends too early")]
    Truncated,
    /// A size field that does not fit 64 bits.
    #[error("a size in the delta is out of range")]
    SizeOverflow,
    /// The base has another size than the delta was made for.
    #[error("the delta was made for a base of {stated} bytes, its base has {found}")]
    BaseSize {
        /// Size the delta states, in bytes.
        stated: u64,
        /// Size of the base, in bytes.
        found: u64,
    },
    /// A copy from beyond the end of the base.
    #[error("the delta copies from beyond the end of its base")]
    CopyOutOfBounds,
    /// The instructions make more or less than the stated size.
    #[error("the delta does not make an object of the size it states")]
    ResultSize,
    /// The reserved instruction 0.
    #[error("the delta has an unknown instruction")]
    UnknownInstruction,
}

/// Reads a size as deltas write it: 7 bits at a time, lowest first. Returns it and its length.
fn delta_size(data: &[u8]) -> Result<(u64, usize), DeltaError> {
    let mut size = 0u64;
    for (at, &byte) in data.iter().enumerate() {
        let shift = 7 * at as u32;
        let bits = u64::from(byte & 0x7f);
        if shift >= 64 || (bits << shift) >> shift != bits {
            return Err(DeltaError::SizeOverflow);
        }
        size |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok((size, at + 1));
        }
    }
    Err(DeltaError::Truncated)
}

/// The sizes at the start of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaSizes {
    /// Size of the base, in bytes.
    pub base: u64,
    /// Size of the result, in bytes.
    pub result: u64,
    /// Where the instructions begin.
    pub instructions_at: usize,
}

/// Reads the two sizes at the start of `delta`.
pub fn delta_sizes(delta: &[u8]) -> Result<DeltaSizes, DeltaError> {
    let (base, first) = delta_size(delta)?;
    let (result, second) = delta_size(&delta[first..])?;
    Ok(DeltaSizes {
        base,
        result,
        instructions_at: first + second,
    })
}

/// Runs the instructions of `delta` on `base` and hands each piece of the result to `piece`, in order.
///
/// Nothing outside `base` is read and never more than the stated result is made; the caller has
/// checked that size against its limit before it makes room.
pub fn each_delta_piece(base: &[u8], delta: &[u8], mut piece: impl FnMut(&[u8])) -> Result<(), DeltaError> {
    let sizes = delta_sizes(delta)?;
    if sizes.base != base.len() as u64 {
        return Err(DeltaError::BaseSize {
            stated: sizes.base,
            found: base.len() as u64,
        });
    }
    let mut rest = &delta[sizes.instructions_at..];
    let mut room = sizes.result;
    while let Some((&instruction, after)) = rest.split_first() {
        rest = after;
        let made = if instruction & 0x80 != 0 {
            let (offset, len);
            (offset, len, rest) = copy_operands(instruction, rest)?;
            let end = offset.checked_add(len).ok_or(DeltaError::CopyOutOfBounds)?;
            base.get(offset..end).ok_or(DeltaError::CopyOutOfBounds)?
        } else if instruction != 0 {
            let len = usize::from(instruction);
            let inserted = rest.get(..len).ok_or(DeltaError::Truncated)?;
            rest = &rest[len..];
            inserted
        } else {
            return Err(DeltaError::UnknownInstruction);
        };
        room = room.checked_sub(made.len() as u64).ok_or(DeltaError::ResultSize)?;
        piece(made);
    }
    if room == 0 { Ok(()) } else { Err(DeltaError::ResultSize) }
}

/// Offset and length of a copy instruction, and what follows its operands.
fn copy_operands(instruction: u8, mut rest: &[u8]) -> Result<(usize, usize, &[u8]), DeltaError> {
    let mut field = |first_bit: u32, bytes: u32| -> Result<usize, DeltaError> {
        let mut value = 0usize;
        for n in 0..bytes {
            if instruction & (1 << (first_bit + n)) != 0 {
                let (&byte, after) = rest.split_first().ok_or(DeltaError::Truncated)?;
                rest = after;
                value |= usize::from(byte) << (8 * n);
            }
        }
        Ok(value)
    };
    let offset = field(0, 4)?;
    let len = field(4, 3)?;
    Ok((offset, if len == 0 { 0x1_0000 } else { len }, rest))
}

/// Runs `delta` on `base` into `result`, which is cleared first.
pub fn apply_delta(base: &[u8], delta: &[u8], result: &mut Vec<u8>) -> Result<(), DeltaError> {
    let sizes = delta_sizes(delta)?;
    result.clear();
    result.reserve(usize::try_from(sizes.result).map_err(|_| DeltaError::SizeOverflow)?);
    each_delta_piece(base, delta, |piece| result.extend_from_slice(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_of_a_copy_and_an_insertion_makes_the_stated_object() {
        let mut result = Vec::new();

        apply_delta(b"hello world", &[11, 8, 0x90, 6, 2, b'!', b'?'], &mut result).expect("a sound delta");

        assert_eq!(result, b"hello !?");
    }

    #[test]
    fn a_delta_is_refused_when_it_copies_from_beyond_its_base() {
        let mut result = Vec::new();

        assert_eq!(
            apply_delta(b"abc", &[3, 4, 0x90, 4], &mut result),
            Err(DeltaError::CopyOutOfBounds)
        );
        assert_eq!(
            apply_delta(b"abc", &[3, 4, 0x9f, 0xff, 0xff, 0xff, 0xff, 4], &mut result),
            Err(DeltaError::CopyOutOfBounds)
        );
    }

    #[test]
    fn a_delta_is_refused_when_its_sizes_lie() {
        let mut result = Vec::new();

        assert_eq!(
            apply_delta(b"abc", &[4, 3, 0x90, 3], &mut result),
            Err(DeltaError::BaseSize { stated: 4, found: 3 })
        );
        assert_eq!(
            apply_delta(b"abc", &[3, 2, 0x90, 3], &mut result),
            Err(DeltaError::ResultSize)
        );
        assert_eq!(
            apply_delta(b"abc", &[3, 4, 0x90, 3], &mut result),
            Err(DeltaError::ResultSize)
        );
        assert_eq!(delta_sizes(&[0xff; 12]), Err(DeltaError::SizeOverflow));
        assert_eq!(delta_sizes(&[0x83]), Err(DeltaError::Truncated));
    }

    #[test]
    fn a_delta_is_refused_when_it_is_cut_off_or_uses_the_reserved_instruction() {
        let mut result = Vec::new();

        assert_eq!(
            apply_delta(b"abc", &[3, 4, 4, b'a'], &mut result),
            Err(DeltaError::Truncated)
        );
        assert_eq!(
            apply_delta(b"abc", &[3, 4, 0x91], &mut result),
            Err(DeltaError::Truncated)
        );
        assert_eq!(
            apply_delta(b"abc", &[3, 4, 0], &mut result),
            Err(DeltaError::UnknownInstruction)
        );
    }

    #[test]
    fn the_head_of_a_whole_entry_holds_its_size_seven_bits_at_a_time() {
        assert_eq!(whole_entry_head(ObjectKind::Blob, 5), [0x35]);
        assert_eq!(whole_entry_head(ObjectKind::Commit, 0x1234), [0x94, 0xa3, 0x02]);
    }
}
