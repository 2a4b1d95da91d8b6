//! How the bytes of one chunk are stored. Every frame has a tag of one byte that names its codec.
//!
//! | tag | codec | payload |
//! | --- | --- | --- |
//! | 0 | raw | the bytes |
//! | 1 | zstd | one zstd frame (RFC 8878) of them |
//! | 2 | pcm | samples of sound by linear prediction, see `pcm` |
//!
//! An encoder proves what it made by decoding it; whoever reads a chunk compares the result with its
//! [`ChunkId`](crate::ChunkId). Other codecs may be added and old chunks encoded anew: names do not change.

mod bits;
mod float;
mod pcm;
mod predict;

use crate::{Chunking, PcmFormat};

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
    /// Samples of sound.
    Pcm = 2,
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
            2 => Ok(Self::Pcm),
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
    decoder: Decoder,
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
    /// Writes the shortest form of a chunk that was found and proven into `out`, which is cleared first. `pcm` says
    /// what its samples are, if it consists of some, and how many bytes of its first frame lie before it.
    pub fn encode(&mut self, raw: &[u8], pcm: Option<(PcmFormat, u32)>, out: &mut Vec<u8>) -> Codec {
        out.clear();
        if let Some((format, phase)) = pcm
            && pcm::encode(raw, format, phase, out)
            && out.len() < raw.len()
        {
            let is_proven = self.decoder.decode(Codec::Pcm, out, raw.len(), &mut self.proof).is_ok();
            if is_proven && self.proof == raw {
                return Codec::Pcm;
            }
        }
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
            Codec::Pcm => {
                out.reserve(raw_bytes);
                pcm::decode(payload, raw_bytes, out)?;
            }
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
        assert_eq!(encoder.encode(&[7; 50_000], None, &mut out), Codec::Zstd);
        assert!(out.len() < 100);
        let noise: Vec<u8> = (0..4096_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ ((n * n) >> 3) as u8)
            .collect();
        let codec = encoder.encode(&noise, None, &mut out);
        assert!(out.len() <= noise.len());
        let mut back = Vec::new();
        Decoder::default()
            .decode(codec, &out, noise.len(), &mut back)
            .expect("decodes");
        assert_eq!(back, noise);
        assert_eq!(encoder.encode(b"", None, &mut out), Codec::Raw);
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        let mut encoder = Encoder::default();
        let (mut out, mut back) = (Vec::new(), Vec::new());
        encoder.encode(&[0; MAX_RAW_BYTES], None, &mut out);
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

    /// Something like a take: tones that fade, and some noise.
    fn sound(len: usize, bits: u32, channels: u64) -> Vec<i64> {
        let mut state = 9_u64;
        (0..len as u64)
            .map(|at| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let (frame, channel) = (at / channels, at % channels);
                let time = frame as f64 / 48_000.0;
                let tone = (time * 440.0 * std::f64::consts::TAU).sin() * 0.4
                    + (time * 1234.5 * std::f64::consts::TAU).sin() * 0.1;
                let value = tone * (1.0 - 0.1 * channel as f64) + (state >> 40) as f64 / (1_u64 << 24) as f64 * 0.001;
                (value * (1_i64 << (bits - 1)) as f64) as i64
            })
            .collect()
    }

    fn bytes_of(samples: &[i64], format: PcmFormat) -> Vec<u8> {
        let size = usize::from(format.sample_bytes);
        let bytes = samples.iter().flat_map(|sample| match format.is_big_endian {
            false => sample.to_le_bytes()[..size].to_vec(),
            true => sample.to_be_bytes()[8 - size..].to_vec(),
        });
        bytes.collect()
    }

    #[test]
    fn sound_of_every_width_becomes_much_shorter_from_any_phase_on() {
        for sample_bytes in 2..=4_u8 {
            for (channels, is_big_endian) in [(1, false), (2, false), (2, true), (5, true)] {
                let format = PcmFormat {
                    sample_bytes,
                    is_float: false,
                    is_big_endian,
                    channels,
                };
                let bits = 8 * u32::from(sample_bytes);
                let all = bytes_of(&sound(20_000, bits, u64::from(channels)), format);
                let frame_bytes = u32::from(sample_bytes) * u32::from(channels);
                for phase in 0..frame_bytes {
                    let raw = &all[phase as usize..all.len() - 3];
                    let (mut out, mut back) = (Vec::new(), Vec::new());
                    let codec = Encoder::default().encode(raw, Some((format, phase)), &mut out);
                    assert_eq!(codec, Codec::Pcm, "{format:?} {phase}");
                    Decoder::default()
                        .decode(codec, &out, raw.len(), &mut back)
                        .expect("decodes");
                    assert!(back == raw, "{format:?} {phase}");
                    let share = out.len() as f64 / raw.len() as f64;
                    let noise_bits = f64::from(bits) - 9.0;
                    assert!(share < (noise_bits + 3.0) / f64::from(bits), "{format:?}: {share}");
                }
            }
        }
    }

    #[test]
    fn silence_and_low_bits_that_are_zero_cost_nothing() {
        let format = PcmFormat {
            sample_bytes: 3,
            is_float: false,
            is_big_endian: false,
            channels: 2,
        };
        let mut out = Vec::new();
        assert_eq!(
            Encoder::default().encode(&[0; 96_000], Some((format, 0)), &mut out),
            Codec::Pcm
        );
        assert!(out.len() < 60, "{}", out.len());
        let padded: Vec<i64> = sound(20_000, 16, 2).into_iter().map(|sample| sample << 8).collect();
        let raw = bytes_of(&padded, format);
        Encoder::default().encode(&raw, Some((format, 0)), &mut out);
        assert!(out.len() * 2 < raw.len(), "{}", out.len());
    }

    #[test]
    fn floating_point_becomes_nearly_as_short_as_whole_numbers() {
        let float = PcmFormat {
            sample_bytes: 4,
            is_float: true,
            is_big_endian: false,
            channels: 2,
        };
        let whole = PcmFormat {
            sample_bytes: 3,
            is_float: false,
            ..float
        };
        let samples = sound(20_000, 24, 2);
        let raw: Vec<u8> = samples
            .iter()
            .flat_map(|&sample| (sample as f32 / 8_388_608.0).to_le_bytes())
            .collect();
        let (mut out, mut back) = (Vec::new(), Vec::new());
        assert_eq!(
            Encoder::default().encode(&bytes_of(&samples, whole), Some((whole, 0)), &mut out),
            Codec::Pcm
        );
        let whole_bytes = out.len();
        assert_eq!(Encoder::default().encode(&raw, Some((float, 0)), &mut out), Codec::Pcm);
        assert!(
            out.len() < whole_bytes + whole_bytes / 50,
            "{} instead of {whole_bytes}",
            out.len()
        );
        Decoder::default()
            .decode(Codec::Pcm, &out, raw.len(), &mut back)
            .expect("decodes");
        assert!(back == raw);
    }

    #[test]
    fn floating_point_of_any_size_comes_back_and_what_is_no_number_goes_another_way() {
        let format = PcmFormat {
            sample_bytes: 4,
            is_float: true,
            is_big_endian: true,
            channels: 1,
        };
        let mut values: Vec<f32> = sound(9000, 24, 1)
            .iter()
            .map(|&sample| sample as f32 / 9_000_000.0 * 0.7)
            .collect();
        for (at, odd) in [
            0.0,
            -0.0,
            f32::MIN_POSITIVE / 4.0,
            -f32::MIN_POSITIVE,
            1e-20,
            f32::MAX,
            1.0,
        ]
        .into_iter()
        .enumerate()
        {
            values[at * 1000 + 7] = odd;
        }
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
        let (mut out, mut back) = (Vec::new(), Vec::new());
        let raw = bytes(&values);
        assert_eq!(Encoder::default().encode(&raw, Some((format, 0)), &mut out), Codec::Pcm);
        Decoder::default()
            .decode(Codec::Pcm, &out, raw.len(), &mut back)
            .expect("decodes");
        assert!(back == raw);
        values[3] = f32::NAN;
        let raw = bytes(&values);
        let codec = Encoder::default().encode(&raw, Some((format, 0)), &mut out);
        assert_ne!(codec, Codec::Pcm);
        Decoder::default()
            .decode(codec, &out, raw.len(), &mut back)
            .expect("decodes");
        assert!(back == raw);
    }

    proptest! {
        #[test]
        fn any_floating_point_comes_back(
            values in prop::collection::vec(any::<f32>(), 0..1500), scale in 0_i32..60, channels in 1_u16..4, phase in 0_u32..12,
        ) {
            let format = PcmFormat { sample_bytes: 4, is_float: true, is_big_endian: false, channels };
            let raw: Vec<u8> = values.iter().flat_map(|value| (value * 0.5_f32.powi(scale)).to_le_bytes()).collect();
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let codec = Encoder::default().encode(&raw, Some((format, phase)), &mut out);
            Decoder::default().decode(codec, &out, raw.len(), &mut back).expect("decodes");
            prop_assert!(back == raw && out.len() <= raw.len());
        }

        #[test]
        fn any_bytes_come_back(raw in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let codec = Encoder::default().encode(&raw, None, &mut out);
            Decoder::default().decode(codec, &out, raw.len(), &mut back).expect("decodes");
            prop_assert!(back == raw && out.len() <= raw.len());
        }

        #[test]
        fn any_payload_is_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..300), raw_bytes in 0_usize..200_000, tag in 0_u8..4) {
            if let Ok(codec) = Codec::from_tag(tag) {
                let mut out = Vec::new();
                if Decoder::default().decode(codec, &payload, raw_bytes, &mut out).is_ok() {
                    prop_assert_eq!(out.len(), raw_bytes);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_called_sound_come_back(
            raw in prop::collection::vec(any::<u8>(), 0..3000),
            sample_bytes in 1_u8..=4, is_float in any::<bool>(), is_big_endian in any::<bool>(), channels in 1_u16..40, phase in 0_u32..200,
        ) {
            let format = PcmFormat { sample_bytes, is_float, is_big_endian, channels };
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let codec = Encoder::default().encode(&raw, Some((format, phase)), &mut out);
            Decoder::default().decode(codec, &out, raw.len(), &mut back).expect("decodes");
            prop_assert!(back == raw && out.len() <= raw.len());
        }

        #[test]
        fn extreme_samples_come_back(raw in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 0x7f, 0x80, 0xff]), 0..2000), sample_bytes in 2_u8..=4) {
            let format = PcmFormat { sample_bytes, is_float: false, is_big_endian: false, channels: 2 };
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let codec = Encoder::default().encode(&raw, Some((format, 0)), &mut out);
            Decoder::default().decode(codec, &out, raw.len(), &mut back).expect("decodes");
            prop_assert!(back == raw);
        }

        #[test]
        fn damaged_sound_is_refused_or_decoded_to_its_length(at in any::<u16>(), bit in 0_u8..8, cut in any::<u16>()) {
            let format = PcmFormat { sample_bytes: 3, is_float: false, is_big_endian: false, channels: 2 };
            let raw = bytes_of(&sound(3000, 24, 2), format);
            let mut out = Vec::new();
            Encoder::default().encode(&raw, Some((format, 0)), &mut out);
            let at = usize::from(at) % out.len();
            out[at] ^= 1 << bit;
            let mut back = Vec::new();
            let mut decoder = Decoder::default();
            if decoder.decode(Codec::Pcm, &out, raw.len(), &mut back).is_ok() {
                prop_assert_eq!(back.len(), raw.len());
            }
            let cut = usize::from(cut) % out.len();
            let _ = decoder.decode(Codec::Pcm, &out[..cut], raw.len(), &mut back);
        }
    }
}
