//! What travels in the chunked transfer, beside recipes and chunk packs (docs/protocol.md, "The chunked
//! transfer"). All numbers are little-endian.

use serde::{Deserialize, Serialize};

use crate::codec::{Codec, DecodeError};

/// The name of the transfer in batches.
pub const TRANSFER: &str = "auxin";
/// The header of an upload action with the versions of the cuts that the server takes.
pub const CHUNKING_HEADER: &str = "Auxin-Chunking";
/// The type of a body that is a chunk pack.
pub const PACK_TYPE: &str = "application/vnd.auxin.chunk-pack";
/// Most runs in one request.
pub const MAX_RUNS: usize = 1 << 16;

/// Chunks of a recipe that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first one, counted from 0.
    pub first: u32,
    /// How many, at least one.
    pub count: u32,
}

impl Run {
    /// Length of one in a request, in bytes.
    pub const BYTES: usize = 8;

    /// The one behind the last one.
    pub const fn end(self) -> u64 {
        self.first as u64 + self.count as u64
    }
}

/// Why a list of runs cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunsError {
    /// Not a whole number of runs.
    #[error("a list of runs has 8 bytes for each of them, and this one has {0} bytes")]
    Length(usize),
    /// More runs than one request may name.
    #[error("it names {0} runs; at most {MAX_RUNS} are answered at once")]
    TooMany(usize),
    /// A run of no chunk.
    #[error("run {0} has no chunk")]
    Empty(usize),
    /// A run goes on behind the last chunk.
    #[error("run {0} goes on behind the last chunk")]
    Outside(usize),
    /// More chunks than the object has.
    #[error("it names more chunks than the file has")]
    Overlapping,
}

/// The bytes of a list of runs.
pub fn runs_to_bytes(runs: &[Run]) -> Vec<u8> {
    let numbers = runs.iter().flat_map(|run| [run.first, run.count]);
    numbers.flat_map(u32::to_le_bytes).collect()
}

/// Reads a list of runs for an object of `chunks` chunks. Together they name no more chunks than that.
///
/// # Errors
/// [`RunsError`]
pub fn parse_runs(bytes: &[u8], chunks: u32) -> Result<Vec<Run>, RunsError> {
    if !bytes.len().is_multiple_of(Run::BYTES) {
        return Err(RunsError::Length(bytes.len()));
    }
    let count = bytes.len() / Run::BYTES;
    if count > MAX_RUNS {
        return Err(RunsError::TooMany(count));
    }
    let mut runs = Vec::with_capacity(count);
    let mut sum = 0;
    for (number, run) in bytes.chunks_exact(Run::BYTES).enumerate() {
        let half = |at: usize| {
            let four = run.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map_or(0, u32::from_le_bytes)
        };
        let run = Run {
            first: half(0),
            count: half(4),
        };
        if run.count == 0 {
            return Err(RunsError::Empty(number));
        }
        if run.end() > u64::from(chunks) {
            return Err(RunsError::Outside(number));
        }
        sum += u64::from(run.count);
        if sum > u64::from(chunks) {
            return Err(RunsError::Overlapping);
        }
        runs.push(run);
    }
    Ok(runs)
}

/// What stands before the payload of a chunk in the answer to a list of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// How the chunk is stored.
    pub codec: Codec,
    /// Length of the payload that follows, in bytes.
    pub stored_bytes: u32,
    /// Length of the chunk, in bytes.
    pub raw_bytes: u32,
}

impl FrameHead {
    /// Length of a head, in bytes.
    pub const BYTES: usize = 9;

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.codec.tag();
        bytes[1..5].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[5..].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes
    }

    /// Reads one. Whoever reads on compares the lengths with what a chunk may have.
    ///
    /// # Errors
    /// [`DecodeError::UnknownCodec`]
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, DecodeError> {
        let [tag, a, b, c, d, e, f, g, h] = *bytes;
        Ok(Self {
            codec: Codec::from_tag(tag)?,
            stored_bytes: u32::from_le_bytes([a, b, c, d]),
            raw_bytes: u32::from_le_bytes([e, f, g, h]),
        })
    }
}

/// The answer to `POST …/auxin/token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The new token.
    pub token: String,
    /// For how long it is good, in seconds.
    pub expires_in: u32,
}

/// The answer to `POST …/auxin/objects/{oid}` and `GET …/auxin/objects/{oid}/proof`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofAnswer {
    /// How far it is.
    pub state: ProofState,
    /// What has been hashed so far, in bytes, while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_bytes: Option<u64>,
}

/// How far a proof is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofState {
    /// It goes on.
    Proving,
    /// The object is proven and counts.
    Proven,
}

impl ProofAnswer {
    /// It counts.
    pub const fn proven() -> Self {
        Self {
            state: ProofState::Proven,
            proven_bytes: None,
        }
    }

    /// It goes on.
    pub const fn proving(proven_bytes: u64) -> Self {
        Self {
            state: ProofState::Proving,
            proven_bytes: Some(proven_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_have_the_bytes_of_the_format() {
        let runs = [Run { first: 1, count: 2 }, Run { first: 258, count: 1 }];
        let bytes = runs_to_bytes(&runs);
        assert_eq!(bytes, [1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(parse_runs(&bytes, 259), Ok(runs.to_vec()));
        assert_eq!(parse_runs(b"", 0), Ok(Vec::new()));
    }

    #[test]
    fn runs_that_make_no_sense_are_refused() {
        let refused = |runs: &[Run], chunks| parse_runs(&runs_to_bytes(runs), chunks).expect_err("refused");
        let run = |first, count| Run { first, count };
        assert_eq!(refused(&[run(0, 1), run(1, 0)], 9), RunsError::Empty(1));
        assert_eq!(refused(&[run(8, 2)], 9), RunsError::Outside(0));
        assert_eq!(refused(&[run(u32::MAX, u32::MAX)], u32::MAX), RunsError::Outside(0));
        assert_eq!(refused(&[run(0, 5), run(0, 5)], 9), RunsError::Overlapping);
        assert_eq!(
            refused(&vec![run(0, 1); MAX_RUNS + 1], u32::MAX),
            RunsError::TooMany(MAX_RUNS + 1)
        );
        assert_eq!(parse_runs(&[0; 9], 9), Err(RunsError::Length(9)));
    }

    #[test]
    fn the_head_of_a_frame_is_read_back() {
        let head = FrameHead {
            codec: Codec::Pcm,
            stored_bytes: 258,
            raw_bytes: 1,
        };
        assert_eq!(head.to_bytes(), [2, 2, 1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(FrameHead::parse(&head.to_bytes()), Ok(head));
        assert_eq!(FrameHead::parse(&[7; 9]), Err(DecodeError::UnknownCodec(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), chunks: u32) {
            if let Ok(runs) = parse_runs(&bytes, chunks) {
                prop_assert_eq!(runs_to_bytes(&runs), bytes);
                prop_assert!(runs.iter().all(|run| run.end() <= u64::from(chunks)));
            }
        }
    }
}
