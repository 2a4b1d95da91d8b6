//! How the bytes of one chunk are stored. Every frame has a tag of one byte that names its codec.
//!
//! | tag | codec | payload |
//! | --- | --- | --- |
//! | 0 | raw | the bytes |
//! | 1 | zstd | one zstd frame (RFC 8878) of them |
//!
//! An encoder proves what it made by decoding it; whoever reads a chunk compares the result with its
//! [`ChunkId`](crate::ChunkId). Other codecs may be added and old chunks encoded anew: names do not change.

use crate::Chunking;

/// Largest chunk of any kind, in bytes.
pub const MAX_RAW_BYTES: usize = Chunking::Media.max_bytes();
/// Level of zstd that new chunks are encoded with.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;

/// The codec of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// The bytes as they are.
    Raw = 0,
    /// Zstandard.
    Zstd = 1,
}

impl Codec {
    /// Its tag.
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// The codec of a tag.
    ///
    /// # Errors
    /// [`DecodeError::UnknownCodec`]
    pub const fn from_tag(tag: u8) -> Result<Self, DecodeError> {
        match tag {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            _ => Err(DecodeError::UnknownCodec(tag)),
        }
    }
}

/// Why a frame cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A tag that this version does not know.
    #[error("it is stored by codec {0}, which this version does not know")]
    UnknownCodec(u8),
    /// More than a chunk may have.
    #[error("it would have {0} bytes, more than a chunk may have")]
    TooLarge(usize),
    /// The payload is not what its codec makes, or makes another number of bytes.
    #[error("its stored form is damaged")]
    Damaged,
    /// Built without the feature `zstd`.
    #[error("it is stored by zstd, and this program was built without it")]
    NoZstd,
}

/// Encodes chunks, one after the other.
#[derive(Default)]
pub struct Encoder {
    /// Made when first used.
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
    #[cfg(feature = "zstd")]
    decoder: Decoder,
    #[cfg(feature = "zstd")]
    proof: Vec<u8>,
}

/// Decodes chunks, one after the other.
#[derive(Default)]
pub struct Decoder {
    /// Made when first used.
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Encoder {
    /// Writes the shortest form of a chunk that was found and proven into `out`, which is cleared first.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        out.clear();
        #[cfg(feature = "zstd")]
        if let Some(zstd) = made(&mut self.zstd, || zstd::bulk::Compressor::new(ZSTD_LEVEL)) {
            out.resize(raw.len(), 0);
            // Where it does not become shorter there is no room for it, and it stays as it is.
            if let Ok(len) = zstd.compress_to_buffer(raw, out.as_mut_slice()) {
                out.truncate(len);
                let is_proven = self
                    .decoder
                    .decode(Codec::Zstd, out, raw.len(), &mut self.proof)
                    .is_ok();
                if len < raw.len() && is_proven && self.proof == raw {
                    return Codec::Zstd;
                }
            }
            out.clear();
        }
        out.extend_from_slice(raw);
        Codec::Raw
    }
}

impl Decoder {
    /// Writes the `raw_bytes` bytes of a chunk into `out`, which is cleared first. Makes room for no more.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn decode(
        &mut self,
        codec: Codec,
        payload: &[u8],
        raw_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        out.clear();
        if raw_bytes > MAX_RAW_BYTES {
            return Err(DecodeError::TooLarge(raw_bytes));
        }
        match codec {
            Codec::Raw if payload.len() == raw_bytes => out.extend_from_slice(payload),
            Codec::Raw => return Err(DecodeError::Damaged),
            #[cfg(feature = "zstd")]
            Codec::Zstd => {
                let zstd = made(&mut self.zstd, zstd::bulk::Decompressor::new).ok_or(DecodeError::NoZstd)?;
                out.resize(raw_bytes, 0);
                match zstd.decompress_to_buffer(payload, out.as_mut_slice()) {
                    Ok(len) if len == raw_bytes => {}
                    _ => return Err(DecodeError::Damaged),
                }
            }
            #[cfg(not(feature = "zstd"))]
            Codec::Zstd => return Err(DecodeError::NoZstd),
        }
        Ok(())
    }
}

/// What is in `place`, put there if nothing is.
#[cfg(feature = "zstd")]
fn made<T>(place: &mut Option<T>, make: impl FnOnce() -> std::io::Result<T>) -> Option<&mut T> {
    if place.is_none() {
        *place = make().ok();
    }
    place.as_mut()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_becomes_short_and_noise_stays() {
        let mut encoder = Encoder::default();
        let mut out = Vec::new();
        assert_eq!(encoder.encode(&[7; 50_000], &mut out), Codec::Zstd);
        assert!(out.len() < 100);
        let noise: Vec<u8> = (0..4096_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ ((n * n) >> 3) as u8)
            .collect();
        let codec = encoder.encode(&noise, &mut out);
        assert!(out.len() <= noise.len());
        let mut back = Vec::new();
        Decoder::default()
            .decode(codec, &out, noise.len(), &mut back)
            .expect("decodes");
        assert_eq!(back, noise);
        assert_eq!(encoder.encode(b"", &mut out), Codec::Raw);
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        let mut encoder = Encoder::default();
        let (mut out, mut back) = (Vec::new(), Vec::new());
        encoder.encode(&[0; MAX_RAW_BYTES], &mut out);
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.decode(Codec::Zstd, &out, 100, &mut back),
            Err(DecodeError::Damaged)
        );
        assert_eq!(
            decoder.decode(Codec::Zstd, &out, MAX_RAW_BYTES + 1, &mut back),
            Err(DecodeError::TooLarge(MAX_RAW_BYTES + 1))
        );
        assert_eq!(Codec::from_tag(9), Err(DecodeError::UnknownCodec(9)));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(raw in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let codec = Encoder::default().encode(&raw, &mut out);
            Decoder::default().decode(codec, &out, raw.len(), &mut back).expect("decodes");
            prop_assert!(back == raw && out.len() <= raw.len());
        }

        #[test]
        fn any_payload_is_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..300), raw_bytes in 0_usize..200_000, tag in 0_u8..3) {
            if let Ok(codec) = Codec::from_tag(tag) {
                let mut out = Vec::new();
                if Decoder::default().decode(codec, &payload, raw_bytes, &mut out).is_ok() {
                    prop_assert_eq!(out.len(), raw_bytes);
                }
            }
        }
    }
}
