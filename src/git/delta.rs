//! Finds what two versions of an object have in common, in git's delta format (gitformat-pack,
//! "Deltified representation").
//!
//! A delta says how to make the target: copy stretches of the base, insert bytes of its own. The
//! base is indexed once by blocks of 16 bytes and may then serve for many targets. Memory is about
//! half the length of the base; time is linear in the lengths of both, because no place of the
//! target looks at more than a bounded number of places in the base.

/// Bytes of the base that one entry of the index stands for.
const BLOCK_BYTES: usize = 16;
/// Entries of the index that one place in the target is compared with, at most.
const MAX_CANDIDATES: usize = 32;
/// A match of this length is taken without looking for a longer one, in bytes.
const GOOD_MATCH_BYTES: usize = 4096;
/// Longest stretch of one copy instruction; git's packs of version 2 know no longer one.
const MAX_COPY_BYTES: usize = 0x1_0000;
/// Longest stretch of one insert instruction.
const MAX_INSERT_BYTES: usize = 0x7f;
/// Multiplier of the rolling hash; odd.
const ROLL: u32 = 0x0100_0193;
/// Spreads the rolling hash over the table (Fibonacci hashing).
const SPREAD: u32 = 0x9e37_79b1;

/// A base that deltas can be made against. `B` owns or borrows its bytes.
pub struct DeltaIndex<B> {
    base: B,
    /// Latest block of each slot plus one; 0 for none.
    heads: Vec<u32>,
    /// Per block: the next one of the same slot plus one.
    next: Vec<u32>,
    /// Bits by which a spread hash is shifted to give a slot.
    shift: u32,
}

impl<B: AsRef<[u8]>> DeltaIndex<B> {
    /// Indexes `base`. What lies beyond 4 GiB is not copied from, because no instruction reaches it.
    pub fn new(base: B) -> Self {
        let bytes = base.as_ref();
        let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
        let blocks = bytes.len() / BLOCK_BYTES;
        let slot_bits = blocks.max(2).next_power_of_two().trailing_zeros();
        let mut heads = vec![0; 1 << slot_bits];
        let mut next = vec![0; blocks];
        let shift = u32::BITS - slot_bits;
        let block = |number: usize| &bytes[number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES];
        // From the end, so that each slot's list begins with what lies first in the base.
        for number in (0..blocks).rev() {
            // Of a long repetition only the first block is of use: a match goes on from there.
            if number > 0 && block(number) == block(number - 1) {
                continue;
            }
            let slot = slot(hash(block(number)), shift);
            next[number] = heads[slot];
            heads[slot] = number as u32 + 1;
        }
        Self {
            base,
            heads,
            next,
            shift,
        }
    }

    /// The base itself.
    pub fn base(&self) -> &[u8] {
        self.base.as_ref()
    }

    /// Memory the index takes beside its base, in bytes.
    pub fn index_bytes(&self) -> usize {
        (self.heads.len() + self.next.len()) * size_of::<u32>()
    }

    /// Where the longest match of `target[at..]` lies in the base, with its length; `hash` is that
    /// of the block at `at`.
    fn longest(&self, target: &[u8], at: usize, hash: u32) -> Option<(usize, usize)> {
        let base = self.base();
        let wanted = &target[at..];
        let (mut best, mut best_len) = (0, BLOCK_BYTES - 1);
        let mut number = self.heads[slot(hash, self.shift)];
        for _ in 0..MAX_CANDIDATES {
            let Some(block) = number.checked_sub(1) else { break };
            number = self.next[block as usize];
            let start = block as usize * BLOCK_BYTES;
            let len = common_len(&base[start..], wanted);
            if len > best_len {
                (best, best_len) = (start, len);
                if len >= GOOD_MATCH_BYTES {
                    break;
                }
            }
        }
        (best_len >= BLOCK_BYTES).then_some((best, best_len))
    }
}

/// Makes a delta from the base of `index` to `target`; `None` if it would be longer than `max_len`
/// bytes (before compression).
pub fn encode<B: AsRef<[u8]>>(index: &DeltaIndex<B>, target: &[u8], max_len: usize) -> Option<Vec<u8>> {
    let base = index.base();
    let mut out = Vec::with_capacity(max_len.min(target.len() / 8 + 64));
    write_size(base.len(), &mut out);
    write_size(target.len(), &mut out);
    let top = top_power();
    let mut inserted = 0;
    let mut at = 0;
    while at + BLOCK_BYTES <= target.len() {
        let mut rolling = hash(&target[at..at + BLOCK_BYTES]);
        let found = loop {
            if let Some(found) = index.longest(target, at, rolling) {
                break Some(found);
            }
            let Some(entering) = target.get(at + BLOCK_BYTES) else {
                break None;
            };
            rolling = rolling
                .wrapping_sub(u32::from(target[at]).wrapping_mul(top))
                .wrapping_mul(ROLL)
                .wrapping_add(u32::from(*entering));
            at += 1;
            // What is to be inserted counts before it is written.
            if out.len() + (at - inserted) > max_len {
                return None;
            }
        };
        let Some((mut from, mut len)) = found else { break };
        // Blocks begin where the base says, so a match mostly begins before them.
        while from > 0 && at > inserted && base[from - 1] == target[at - 1] {
            from -= 1;
            at -= 1;
            len += 1;
        }
        write_inserts(&target[inserted..at], &mut out);
        write_copies(from, len, &mut out);
        at += len;
        inserted = at;
        if out.len() > max_len {
            return None;
        }
    }
    write_inserts(&target[inserted..], &mut out);
    (out.len() <= max_len).then_some(out)
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 32;
    let most = a.len().min(b.len());
    let mut len = 0;
    while len + STEP <= most && a[len..len + STEP] == b[len..len + STEP] {
        len += STEP;
    }
    while len < most && a[len] == b[len] {
        len += 1;
    }
    len
}

fn slot(hash: u32, shift: u32) -> usize {
    (hash.wrapping_mul(SPREAD) >> shift) as usize
}

fn hash(block: &[u8]) -> u32 {
    block.iter().fold(0, |hash: u32, byte| {
        hash.wrapping_mul(ROLL).wrapping_add(u32::from(*byte))
    })
}

/// What a block's first byte was multiplied with by the time it leaves.
fn top_power() -> u32 {
    (1..BLOCK_BYTES).fold(1, |power: u32, _| power.wrapping_mul(ROLL))
}

fn write_size(mut size: usize, out: &mut Vec<u8>) {
    while size >= 0x80 {
        out.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
}

fn write_inserts(bytes: &[u8], out: &mut Vec<u8>) {
    for piece in bytes.chunks(MAX_INSERT_BYTES) {
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
}

fn write_copies(mut from: usize, mut len: usize, out: &mut Vec<u8>) {
    while len > 0 {
        let copied = len.min(MAX_COPY_BYTES);
        let head = out.len();
        out.push(0x80);
        for (bit, byte) in (from as u32).to_le_bytes().into_iter().enumerate() {
            if byte != 0 {
                out[head] |= 1 << bit;
                out.push(byte);
            }
        }
        // No byte of size at all stands for the longest stretch.
        for (bit, byte) in (copied as u32).to_le_bytes().into_iter().take(2).enumerate() {
            if byte != 0 {
                out[head] |= 0x10 << bit;
                out.push(byte);
            }
        }
        from += copied;
        len -= copied;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Applies a delta as the format describes it.
    fn apply(base: &[u8], delta: &[u8]) -> Vec<u8> {
        let mut at = 0;
        let mut size = || {
            let (mut size, mut shift) = (0_usize, 0);
            loop {
                let byte = delta[at];
                at += 1;
                size |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return size;
                }
            }
        };
        assert_eq!(size(), base.len());
        let target_len = size();
        let mut target = Vec::new();
        while at < delta.len() {
            let code = delta[at];
            at += 1;
            if code & 0x80 == 0 {
                assert_ne!(code, 0, "a reserved instruction");
                target.extend_from_slice(&delta[at..at + usize::from(code)]);
                at += usize::from(code);
                continue;
            }
            let mut number = |bits: std::ops::Range<u8>| {
                let first = bits.start;
                bits.fold(0_usize, |number, bit| {
                    if code & (1 << bit) == 0 {
                        return number;
                    }
                    at += 1;
                    number | usize::from(delta[at - 1]) << (8 * (bit - first))
                })
            };
            let from = number(0..4);
            let len = match number(4..7) {
                0 => MAX_COPY_BYTES,
                len => len,
            };
            target.extend_from_slice(&base[from..from + len]);
        }
        assert_eq!(target.len(), target_len);
        target
    }

    fn delta(base: &[u8], target: &[u8]) -> Vec<u8> {
        encode(&DeltaIndex::new(base), target, usize::MAX).expect("no limit")
    }

    #[test]
    fn a_small_change_makes_a_small_delta() {
        let base: Vec<u8> = (0..20_000_u32)
            .flat_map(|number| number.to_string().into_bytes())
            .collect();
        let mut target = base.clone();
        target.splice(5_000..5_010, *b"something new");
        target.extend_from_slice(b"and an end");

        let delta = delta(&base, &target);

        assert_eq!(apply(&base, &delta), target);
        assert!(delta.len() < 80, "{} bytes", delta.len());
    }

    #[test]
    fn a_stretch_longer_than_one_instruction_copies_is_copied_by_several() {
        let base: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();

        let delta = delta(&base, &base);

        assert_eq!(apply(&base, &delta), base);
        assert!(delta.len() < 60, "{} bytes", delta.len());
    }

    #[test]
    fn a_delta_that_is_not_worth_it_is_given_up() {
        let base = vec![1; 10_000];
        let target: Vec<u8> = (0..10_000_u32)
            .flat_map(|number| number.wrapping_mul(SPREAD).to_le_bytes())
            .collect();

        assert_eq!(encode(&DeltaIndex::new(&base), &target, 1_000), None);
    }

    #[test]
    fn repetitions_cost_no_more_than_anything_else() {
        let base = b"0123456789abcdef0123456789abcdeX".repeat(20_000);
        let target = b"Y123456789abcdef0123456789abcdef".repeat(20_000);

        let delta = delta(&base, &target);

        assert_eq!(apply(&base, &delta), target);
    }

    proptest! {
        #[test]
        fn every_delta_gives_back_its_target(
            base in proptest::collection::vec(0_u8..4, 0..2_000),
            other in proptest::collection::vec(0_u8..4, 0..200),
            cut in 0_usize..2_000,
        ) {
            let cut = cut.min(base.len());
            let target = [&other[..], &base[cut..], &other, &base[..cut]].concat();

            let delta = delta(&base, &target);

            prop_assert_eq!(apply(&base, &delta), target);
        }
    }
}
