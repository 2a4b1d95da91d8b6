//! Cuts a file into chunks while it passes, in one go with all hashes.

use sha2::{Digest, Sha256};

use crate::container::{AudioLayout, audio_layout};
use crate::{ChunkId, Chunking, Oid, PcmFormat};

/// So much of a file decides how it is cut, in bytes.
pub const HEAD_BYTES: usize = 64 << 10;

/// So much is taken at once, in bytes.
const PART_BYTES: usize = 256 << 10;
/// So much must be there before anything is cut, unless it is the end, in bytes.
const ENOUGH_BYTES: usize = 256 << 10;

/// One piece of a file.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What is in it.
    pub bytes: &'a [u8],
    /// Its name.
    pub id: ChunkId,
    /// The samples it consists of, and how many bytes of the frame it begins in lie before it; `None` outside
    /// of sound.
    pub pcm: Option<(PcmFormat, u32)>,
}

/// Why cutting ended.
#[derive(Debug, thiserror::Error)]
pub enum CutError<E> {
    /// There are more bytes than were announced.
    #[error("it has more than the {expected_bytes} bytes that were announced")]
    TooLong {
        /// What was announced.
        expected_bytes: u64,
    },
    /// There are fewer bytes than were announced.
    #[error("it has {found_bytes} bytes, not the {expected_bytes} that were announced")]
    TooShort {
        /// What was announced.
        expected_bytes: u64,
        /// What came.
        found_bytes: u64,
    },
    /// Whoever takes the chunks failed.
    #[error(transparent)]
    Taker(E),
}

/// Takes a file in pieces of any size and gives chunks. Equal files give equal chunks, however they come. Holds
/// at most half a megabyte.
pub struct Cutter {
    size_bytes: u64,
    whole: Sha256,
    taken_bytes: u64,
    /// Not cut yet; begins at `offset`.
    left: Vec<u8>,
    offset: u64,
    plan: Option<Plan>,
}

struct Plan {
    chunking: Chunking,
    layout: Option<AudioLayout>,
}

impl Plan {
    /// The next place at or after which no chunk may go on.
    fn border(&self, offset: u64) -> Option<u64> {
        let layout = self.layout?;
        let borders = [layout.data_offset, layout.data_offset + layout.data_bytes];
        borders.into_iter().find(|&border| border > offset)
    }

    fn pcm(&self, offset: u64) -> Option<(PcmFormat, u32)> {
        let layout = self.layout?;
        let format = layout.format?;
        let into = offset
            .checked_sub(layout.data_offset)
            .filter(|&into| into < layout.data_bytes)?;
        let frame_bytes = u64::from(format.sample_bytes) * u64::from(format.channels);
        Some((format, (into % frame_bytes) as u32))
    }
}

impl Cutter {
    /// For a file of this size.
    pub fn new(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            whole: Sha256::new(),
            taken_bytes: 0,
            left: Vec::new(),
            offset: 0,
            plan: None,
        }
    }

    /// Takes the next bytes; gives the chunks that are complete now to `taker`, in order.
    ///
    /// # Errors
    /// [`CutError::TooLong`], or what `taker` fails with.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        taker: &mut dyn FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<(), CutError<E>> {
        self.taken_bytes += bytes.len() as u64;
        if self.taken_bytes > self.size_bytes {
            return Err(CutError::TooLong {
                expected_bytes: self.size_bytes,
            });
        }
        self.whole.update(bytes);
        // In parts, so that what is left never grows with what comes; large ones, since what is left is moved.
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PART_BYTES));
            self.left.extend_from_slice(part);
            bytes = rest;
            self.cut(false, taker)?;
        }
        Ok(())
    }

    /// Gives the last chunks, then the name of the whole and how it was cut.
    ///
    /// # Errors
    /// [`CutError::TooShort`], or what `taker` fails with.
    pub fn finish<E>(
        mut self,
        taker: &mut dyn FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<(Oid, Chunking), CutError<E>> {
        if self.taken_bytes < self.size_bytes {
            return Err(CutError::TooShort {
                expected_bytes: self.size_bytes,
                found_bytes: self.taken_bytes,
            });
        }
        self.cut(true, taker)?;
        let chunking = self.plan().chunking;
        Ok((Oid::from_sha256(self.whole.finalize().into()), chunking))
    }

    fn plan(&mut self) -> &Plan {
        let (size_bytes, head) = (self.size_bytes, &self.left);
        self.plan.get_or_insert_with(|| {
            let head = &head[..head.len().min(HEAD_BYTES)];
            Plan {
                chunking: Chunking::of(size_bytes, head),
                layout: audio_layout(size_bytes, head),
            }
        })
    }

    fn cut<E>(&mut self, is_end: bool, taker: &mut dyn FnMut(Chunk<'_>) -> Result<(), E>) -> Result<(), CutError<E>> {
        if self.left.len() < ENOUGH_BYTES && !is_end {
            return Ok(());
        }
        self.plan();
        let Some(plan) = &self.plan else { return Ok(()) };
        let mut at = 0;
        while at < self.left.len() {
            let offset = self.offset + at as u64;
            let source = &self.left[at..];
            let to_border = plan
                .border(offset)
                .and_then(|border| usize::try_from(border - offset).ok())
                .filter(|&to_border| to_border <= source.len());
            if to_border.is_none() && source.len() < plan.chunking.max_bytes() && !is_end {
                break;
            }
            let source = &source[..to_border.unwrap_or(source.len())];
            let bytes = &source[..plan.chunking.first_cut(source)];
            let chunk = Chunk {
                offset,
                bytes,
                id: ChunkId::of(bytes),
                pcm: plan.pcm(offset),
            };
            at += bytes.len();
            taker(chunk).map_err(CutError::Taker)?;
        }
        self.left.drain(..at);
        self.offset += at as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    type Cut = Vec<(u64, Vec<u8>, ChunkId)>;

    fn cut_in(bytes: &[u8], pieces: usize) -> (Cut, Oid, Chunking) {
        let mut cutter = Cutter::new(bytes.len() as u64);
        let mut cut = Vec::new();
        let mut take = |chunk: Chunk<'_>| -> Result<(), Infallible> {
            cut.push((chunk.offset, chunk.bytes.to_vec(), chunk.id));
            Ok(())
        };
        for piece in bytes.chunks(pieces.max(1)) {
            cutter.push(piece, &mut take).expect("fits");
        }
        let (oid, chunking) = cutter.finish(&mut take).expect("whole");
        (cut, oid, chunking)
    }

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    }

    fn take(header: &[u8], samples: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0".to_vec();
        file.extend(b"LGWV");
        file.extend((header.len() as u32).to_le_bytes());
        file.extend(header);
        file.extend(b"data");
        file.extend((samples.len() as u32).to_le_bytes());
        file.extend(samples);
        file.extend(b"LGXX\x04\0\0\0tail");
        file
    }

    #[test]
    fn chunks_make_the_file_again_and_keep_their_sizes() {
        for (len, pieces) in [
            (0, 1),
            (1, 1),
            (1023, 100),
            (70_000, 7),
            (3_000_000, 100_000),
            (9 << 20, 1 << 20),
        ] {
            let bytes = noise(len, len as u64);
            let (cut, oid, chunking) = cut_in(&bytes, pieces);
            assert_eq!(
                cut.iter().flat_map(|(_, bytes, _)| bytes.clone()).collect::<Vec<u8>>(),
                bytes
            );
            assert_eq!(oid.as_bytes(), ChunkId::of(&bytes).as_bytes());
            let last = cut.len().saturating_sub(1);
            for (number, (_, bytes, id)) in cut.iter().enumerate() {
                assert_eq!(*id, ChunkId::of(bytes));
                assert!(bytes.len() <= chunking.max_bytes());
                assert!(
                    bytes.len() >= chunking.min_bytes() || number == last,
                    "{number} of {last}"
                );
            }
        }
    }

    #[test]
    fn a_header_that_grows_changes_only_the_header() {
        let samples = noise(4 << 20, 1);
        let (before, ..) = cut_in(&take(&[1; 8], &samples), 1 << 16);
        for header in [vec![2; 16], vec![3; 618], vec![4; 46]] {
            let (after, _, chunking) = cut_in(&take(&header, &samples), 1 << 15);
            assert_eq!(chunking, Chunking::Media);
            let known: std::collections::HashSet<ChunkId> = before.iter().map(|cut| cut.2).collect();
            let new: usize = after
                .iter()
                .filter(|cut| !known.contains(&cut.2))
                .map(|cut| cut.1.len())
                .sum();
            assert!(new < 1024, "{new} new bytes");
        }
    }

    #[test]
    fn what_is_inserted_costs_little() {
        let samples = noise(4 << 20, 2);
        let mut changed = samples.clone();
        changed.splice(2_000_000..2_000_000, noise(1000, 3));
        let (before, ..) = cut_in(&samples, 1 << 20);
        let (after, ..) = cut_in(&changed, 1 << 20);
        let known: std::collections::HashSet<ChunkId> = before.iter().map(|cut| cut.2).collect();
        let new: usize = after
            .iter()
            .filter(|cut| !known.contains(&cut.2))
            .map(|cut| cut.1.len())
            .sum();
        assert!(new < 300_000, "{new} new bytes");
    }

    #[test]
    fn a_length_that_was_not_announced_is_refused() {
        let mut nobody = |_: Chunk<'_>| Ok::<(), Infallible>(());
        let mut cutter = Cutter::new(3);
        assert!(matches!(
            cutter.push(b"four", &mut nobody),
            Err(CutError::TooLong { expected_bytes: 3 })
        ));
        let cutter = Cutter::new(3);
        assert!(matches!(
            cutter.finish(&mut nobody),
            Err(CutError::TooShort { found_bytes: 0, .. })
        ));
    }

    #[test]
    fn sound_is_told_with_its_phase() {
        let file = take(&[0; 8], &noise(1_200_000, 4));
        let mut cutter = Cutter::new(file.len() as u64);
        let mut seen = Vec::new();
        let mut taker = |chunk: Chunk<'_>| -> Result<(), Infallible> {
            seen.push((chunk.offset, chunk.pcm.map(|(_, phase)| phase)));
            Ok(())
        };
        cutter.push(&file, &mut taker).expect("fits");
        cutter.finish(&mut taker).expect("whole");
        let data_offset = 12 + 24 + 16 + 8;
        assert_eq!((seen[0], seen[1]), ((0, None), (data_offset, Some(0))));
        for (offset, phase) in &seen[1..seen.len() - 1] {
            assert_eq!(*phase, Some(((offset - data_offset) % 6) as u32));
        }
        assert_eq!(seen.last().expect("some").1, None, "the tail is no sound");
    }

    #[test]
    fn the_cuts_of_version_1_and_2_stay_where_they_are() {
        let bytes = noise(300_000, 7);
        let lengths = |chunking: Chunking| {
            let mut left = &bytes[..];
            let mut lengths = Vec::new();
            while !left.is_empty() && lengths.len() < 4 {
                let len = chunking.first_cut(left);
                lengths.push(len);
                left = &left[len..];
            }
            lengths
        };
        assert_eq!(lengths(Chunking::Media), [37140, 10857, 38546, 42225]);
        assert_eq!(lengths(Chunking::Other), [5967, 4582, 4344, 5270]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn pieces_do_not_matter(len in 0_usize..200_000, seed in any::<u64>(), one in 1_usize..50_000, other in 1_usize..50_000) {
            let bytes = noise(len, seed);
            prop_assert_eq!(cut_in(&bytes, one), cut_in(&bytes, other));
        }
    }
}
