//! The sound hash: a name of the sound in a file, apart from the container around it (docs/metadata.md).

use std::fmt;

use sha2::{Digest, Sha256};

/// What every sound hash begins with; another definition would get another number.
const DOMAIN: &[u8] = b"auxin-sound-1\0";
/// Samples whose bytes are turned around at once, in bytes; a multiple of every length of a sample up to 8.
const TURN_BYTES: usize = 840 * 8;

/// A hash of the sound in a file: equal where codec, rate, channels and samples are equal, whatever else the
/// files hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SoundHash([u8; 32]);

impl SoundHash {
    /// One that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SoundHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SoundHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoundHash({self})")
    }
}

/// How the sound is coded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Coding {
    /// Samples as they are.
    Pcm(Pcm),
    /// Anything else, and PCM of an odd kind: its bytes are hashed as they lie.
    Other {
        /// `alac`, `aac `, `wave-0055`.
        name: String,
        /// Length of a packet in bytes, 0 if they differ.
        packet_bytes: u32,
        /// Sample frames of a packet, 0 if they differ.
        packet_frames: u32,
    },
}

/// Samples as they lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pcm {
    /// 1 to 4, or 8.
    pub sample_bytes: u8,
    pub is_float: bool,
    pub is_big_endian: bool,
    /// Zero lies in the middle of the range: WAV of 8 bits.
    pub is_unsigned: bool,
}

impl Pcm {
    /// `None` for what nobody writes.
    pub fn new(sample_bytes: u32, is_float: bool, is_big_endian: bool, is_unsigned: bool) -> Option<Self> {
        let is_known = match is_float {
            true => matches!(sample_bytes, 4 | 8),
            false => (1..=4).contains(&sample_bytes),
        };
        is_known.then_some(Self {
            sample_bytes: sample_bytes as u8,
            is_float,
            is_big_endian,
            is_unsigned,
        })
    }
}

/// Format of a sound.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Format {
    pub coding: Coding,
    /// In Hz.
    pub rate_hz: f64,
    pub channels: u32,
    /// Bits of a sample that count; 0 if it is compressed.
    pub bits: u32,
}

/// Takes the sound of a file in pieces.
pub(super) struct Samples {
    hasher: Sha256,
    /// Whole samples that were hashed, in bytes.
    hashed_bytes: u64,
    pcm: Option<Pcm>,
    carry: [u8; 8],
    carried: usize,
}

impl Samples {
    pub fn new(coding: &Coding) -> Self {
        Self {
            hasher: Sha256::new(),
            hashed_bytes: 0,
            pcm: match coding {
                Coding::Pcm(pcm) => Some(*pcm),
                Coding::Other { .. } => None,
            },
            carry: [0; 8],
            carried: 0,
        }
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        let Some(pcm) = self.pcm else {
            self.hasher.update(bytes);
            self.hashed_bytes += bytes.len() as u64;
            return;
        };
        let sample_bytes = usize::from(pcm.sample_bytes);
        if self.carried > 0 {
            let count = (sample_bytes - self.carried).min(bytes.len());
            self.carry[self.carried..][..count].copy_from_slice(&bytes[..count]);
            self.carried += count;
            bytes = &bytes[count..];
            if self.carried < sample_bytes {
                return;
            }
            let sample = self.carry;
            self.carried = 0;
            self.whole(pcm, &sample[..sample_bytes]);
        }
        let (whole, rest) = bytes.split_at(bytes.len() / sample_bytes * sample_bytes);
        self.whole(pcm, whole);
        self.carry[..rest.len()].copy_from_slice(rest);
        self.carried = rest.len();
    }

    /// Hashes whole samples as signed and little-endian.
    fn whole(&mut self, pcm: Pcm, bytes: &[u8]) {
        self.hashed_bytes += bytes.len() as u64;
        let sample_bytes = usize::from(pcm.sample_bytes);
        if pcm.is_unsigned || (pcm.is_big_endian && sample_bytes > 1) {
            let mut turned = [0; TURN_BYTES];
            for piece in bytes.chunks(TURN_BYTES) {
                let turned = &mut turned[..piece.len()];
                turned.copy_from_slice(piece);
                for sample in turned.chunks_exact_mut(sample_bytes) {
                    if pcm.is_big_endian {
                        sample.reverse();
                    }
                    if pcm.is_unsigned {
                        sample[sample_bytes - 1] ^= 0x80;
                    }
                }
                self.hasher.update(turned);
            }
        } else {
            self.hasher.update(bytes);
        }
    }

    /// The hash, unless there is no sound. `cookie` and `packets` are hashes of what a decoder needs besides.
    pub fn finish(self, format: &Format, cookie: Option<[u8; 32]>, packets: Option<[u8; 32]>) -> Option<SoundHash> {
        if self.hashed_bytes == 0 {
            return None;
        }
        let (name, numbers) = match &format.coding {
            Coding::Pcm(pcm) => {
                let name = if pcm.is_float { "float" } else { "int" };
                (name, [u32::from(pcm.sample_bytes), 0, 0])
            }
            Coding::Other {
                name,
                packet_bytes,
                packet_frames,
            } => (name.as_str(), [0, *packet_bytes, *packet_frames]),
        };
        let besides = |hash: Option<[u8; 32]>| match format.coding {
            Coding::Pcm(_) => [0; 32],
            Coding::Other { .. } => hash.unwrap_or([0; 32]),
        };
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update([name.len() as u8]);
        hasher.update(name);
        hasher.update(format.rate_hz.to_le_bytes());
        hasher.update(format.channels.to_le_bytes());
        numbers.iter().for_each(|number| hasher.update(number.to_le_bytes()));
        hasher.update(self.hashed_bytes.to_le_bytes());
        hasher.update(self.hasher.finalize());
        hasher.update(besides(cookie));
        hasher.update(besides(packets));
        Some(SoundHash(hasher.finalize().into()))
    }
}
