//! Samples of sound: linear prediction with Rice-coded residuals, chunk by chunk.
//!
//! A payload, bits with the most significant first:
//!
//! ```text
//! u8 sample bytes − 1 (2 bits) · 0 (4 bits) · floating-point (1 bit) · big-endian (1 bit)
//! u8 channels
//! u8 bytes before the first whole frame; these bytes; the bytes behind the last whole frame
//! n blocks, the fewest of at most 4096 frames each; each has a n-th of the frames, rounded up, the last one the rest:
//!     floating-point: 8 bits: the largest exponent of the block; the samples then are whole numbers, see `float`
//!     if there are two channels: 2 bits: 0 left right · 1 left side · 2 side right · 3 mid side
//!     each channel: 2 bits kind, 5 bits low bits that are all zero and left out, then
//!         0 constant: one sample
//!         1 fixed:    3 bits order (0 to 4); samples; residuals
//!         2 linear:   4 bits order − 1; 4 bits shift; coefficients of 14 bits; samples; residuals
//!         3 verbatim: all samples
//!     a sample has the bits of the format (25 if floating-point), and one more in a side channel
//!     residuals: for each 256 samples, 5 bits: Rice parameter, or 31: 6 bits width, residuals of that width
//!     floating-point: 1 bit: 1 if more follows, for each sample of each channel: what its whole number lacks
//! ```
//!
//! Prediction is done in whole numbers, so that every machine decodes alike; only what an encoder chooses
//! may differ. Side is left − right, mid the sum without its lowest bit.

use pulp::{Arch, Simd, WithSimd};

use super::bits::{BitReader, BitWriter};
use super::predict::{self, MAX_ORDER};
use super::{DecodeError, float};
use crate::PcmFormat;

/// Most frames in a block.
const BLOCK_FRAMES: usize = 4096;
/// Samples with one Rice parameter.
const PARTITION: usize = 256;
/// Most channels.
const MAX_CHANNELS: u16 = 32;
/// A Rice parameter that stands for residuals of a fixed width.
const ESCAPE: u64 = 31;
/// Bits of a coefficient.
const COEFFICIENT_BITS: u32 = 14;

const CONSTANT: u64 = 0;
const FIXED: u64 = 1;
const LINEAR: u64 = 2;
const VERBATIM: u64 = 3;

/// Appends the payload of a chunk of samples to `out`; false if it cannot be told in this way. `phase` is how many
/// bytes of its first frame lie before the chunk.
pub(super) fn encode(raw: &[u8], format: PcmFormat, phase: u32, out: &mut Vec<u8>) -> bool {
    let (sample_bytes, channels) = (usize::from(format.sample_bytes), usize::from(format.channels));
    let is_known = if format.is_float {
        sample_bytes == 4
    } else {
        (2..=4).contains(&sample_bytes)
    };
    if !is_known || format.channels > MAX_CHANNELS {
        return false;
    }
    let frame_bytes = sample_bytes * channels;
    let head_bytes = (frame_bytes - phase as usize % frame_bytes) % frame_bytes;
    let Some((head, rest)) = raw.split_at_checked(head_bytes) else {
        return false;
    };
    let (frames, tail) = rest.split_at(rest.len() - rest.len() % frame_bytes);
    out.push(((format.sample_bytes - 1) << 6) | (u8::from(format.is_float) << 1) | u8::from(format.is_big_endian));
    out.extend_from_slice(&[channels as u8, head_bytes as u8]);
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    let mut writer = BitWriter::after(std::mem::take(out));
    let bits = 8 * sample_bytes as u32;
    let mut block: Vec<Vec<i32>> = vec![Vec::with_capacity(BLOCK_FRAMES); channels];
    let mut residuals = Vec::with_capacity(BLOCK_FRAMES);
    let mut lost = float::Lost::default();
    for bytes in frames.chunks(block_frames(frames.len() / frame_bytes) * frame_bytes) {
        for (channel, samples) in block.iter_mut().enumerate() {
            samples.clear();
            let at = channel * sample_bytes;
            match (sample_bytes, format.is_big_endian) {
                (2, false) => read_frames(bytes, frame_bytes, at, samples, |two| {
                    i32::from(i16::from_le_bytes(two))
                }),
                (2, true) => read_frames(bytes, frame_bytes, at, samples, |two| {
                    i32::from(i16::from_be_bytes(two))
                }),
                (3, false) => read_frames(bytes, frame_bytes, at, samples, |[a, b, c]| {
                    i32::from_le_bytes([0, a, b, c]) >> 8
                }),
                (3, true) => read_frames(bytes, frame_bytes, at, samples, |[a, b, c]| {
                    i32::from_be_bytes([a, b, c, 0]) >> 8
                }),
                (_, false) => read_frames(bytes, frame_bytes, at, samples, i32::from_le_bytes),
                (_, true) => read_frames(bytes, frame_bytes, at, samples, i32::from_be_bytes),
            }
        }
        if format.is_float {
            let Some(exponent) = float::to_integers(&mut block, &mut lost) else {
                return false;
            };
            writer.put(u64::from(exponent), 8);
            write_block(&mut block, float::INTEGER_BITS, &mut writer, &mut residuals);
            lost.write(&mut writer);
        } else {
            write_block(&mut block, bits, &mut writer, &mut residuals);
        }
        if writer.len() > raw.len() {
            // It does not become shorter.
            return false;
        }
    }
    *out = writer.finish();
    true
}

/// How many frames each block of so many has: as many in each as can be, for a short one costs more.
fn block_frames(frames: usize) -> usize {
    frames.div_ceil(frames.div_ceil(BLOCK_FRAMES).max(1)).max(1)
}

/// The samples of one channel, which lie at `at` in each frame.
fn read_frames<const BYTES: usize>(
    bytes: &[u8],
    frame_bytes: usize,
    at: usize,
    samples: &mut Vec<i32>,
    sample: impl Fn([u8; BYTES]) -> i32,
) {
    let places = bytes
        .chunks_exact(frame_bytes)
        .filter_map(|frame| frame.get(at..)?.first_chunk::<BYTES>());
    samples.extend(places.map(|place| sample(*place)));
}

fn write_block(block: &mut [Vec<i32>], bits: u32, writer: &mut BitWriter, residuals: &mut Vec<i32>) {
    let mut widths = [bits; 2];
    if let [left, right] = block {
        // A side of 32 bits would have 33.
        let mode = if bits < 32 { stereo_mode(left, right) } else { 0 };
        writer.put(mode, 2);
        for (l, r) in left.iter_mut().zip(right.iter_mut()) {
            let (side, mid) = (l.wrapping_sub(*r), l.wrapping_add(*r) >> 1);
            match mode {
                1 => *r = side,
                2 => *l = side,
                3 => (*l, *r) = (mid, side),
                _ => {}
            }
        }
        match mode {
            1 | 3 => widths[1] += 1,
            2 => widths[0] += 1,
            _ => {}
        }
    }
    for (channel, samples) in block.iter_mut().enumerate() {
        let width = widths.get(channel).copied().unwrap_or(bits);
        write_channel(samples, width, writer, residuals);
    }
}

/// Which pair is cheapest, by the sums of second differences.
fn stereo_mode(left: &[i32], right: &[i32]) -> u64 {
    struct Choose<'c>(&'c [i32], &'c [i32]);
    impl WithSimd for Choose<'_> {
        type Output = u64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> u64 {
            cheapest_pair(self.0, self.1)
        }
    }
    Arch::new().dispatch(Choose(left, right))
}

#[inline(always)]
fn cheapest_pair(left: &[i32], right: &[i32]) -> u64 {
    let mut sums = [0_u64; 4];
    // Every other part tells enough.
    for (left, right) in left.chunks(PARTITION).zip(right.chunks(PARTITION)).step_by(2) {
        for (left, right) in left.array_windows::<3>().zip(right.array_windows::<3>()) {
            let second = |[a, b, c]: [i32; 3]| c.wrapping_sub(b.wrapping_mul(2)).wrapping_add(a);
            let (l, r) = (second(*left), second(*right));
            // Those of the mid are nearly the half of the sum.
            for (sum, value) in sums.iter_mut().zip([l, r, l.wrapping_sub(r), l.wrapping_add(r) >> 1]) {
                *sum += u64::from(value.unsigned_abs());
            }
        }
    }
    let [l, r, side, mid] = sums;
    let costs = [l + r, l + side, side + r, mid + side];
    (0..4).min_by_key(|&mode| costs[mode]).unwrap_or(0) as u64
}

fn write_channel(samples: &mut [i32], width: u32, writer: &mut BitWriter, residuals: &mut Vec<i32>) {
    let Some(&first) = samples.first() else { return };
    let signed = |value: i32| value as u32 as u64;
    if samples.iter().all(|&sample| sample == first) {
        writer.put(CONSTANT, 2);
        writer.put(0, 5);
        put_sample(writer, first, width);
        return;
    }
    let wasted = samples
        .iter()
        .fold(0, |all, &sample| all | signed(sample))
        .trailing_zeros()
        .min(width - 1);
    samples.iter_mut().for_each(|sample| *sample >>= wasted);
    let width = width - wasted;
    let plan = predict::plan(samples, residuals);
    let order = plan.order();
    if samples.len() <= order {
        writer.put(VERBATIM, 2);
        writer.put(u64::from(wasted), 5);
        samples.iter().for_each(|&sample| put_sample(writer, sample, width));
        return;
    }
    match &plan {
        predict::Plan::Fixed(order) => {
            writer.put(FIXED, 2);
            writer.put(u64::from(wasted), 5);
            writer.put(*order as u64, 3);
        }
        predict::Plan::Linear(linear) => {
            writer.put(LINEAR, 2);
            writer.put(u64::from(wasted), 5);
            writer.put(linear.coefficients.len() as u64 - 1, 4);
            writer.put(u64::from(linear.shift), 4);
            for &coefficient in &linear.coefficients {
                writer.put(coefficient as u32 as u64, COEFFICIENT_BITS);
            }
        }
    }
    samples[..order]
        .iter()
        .for_each(|&sample| put_sample(writer, sample, width));
    for part in residuals.chunks(PARTITION) {
        write_residuals(part, writer);
    }
}

fn put_sample(writer: &mut BitWriter, sample: i32, width: u32) {
    // A side of 24 bits has 25, of which the sign is kept.
    writer.put(i64::from(sample) as u64 & 0xffff_ffff, width.min(32));
}

/// Positive and negative numbers in turn.
#[inline(always)]
fn folded(residual: i32) -> u32 {
    ((residual << 1) ^ (residual >> 31)) as u32
}

#[inline]
fn unfolded(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How the residuals of a partition are written.
enum Coding {
    /// By Rice's code with this parameter.
    Rice(u32),
    /// Each with so many bits.
    Fixed(u32),
}

/// The shortest coding of `folded` residuals.
fn coding(folded: &[u32]) -> Coding {
    struct Choose<'c>(&'c [u32]);
    impl WithSimd for Choose<'_> {
        type Output = Coding;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Coding {
            shortest_coding(self.0)
        }
    }
    Arch::new().dispatch(Choose(folded))
}

#[inline(always)]
fn shortest_coding(folded: &[u32]) -> Coding {
    let count = folded.len() as u64;
    let (mut sum, mut all) = (0_u64, 0_u32);
    for &value in folded {
        sum += u64::from(value);
        all |= value;
    }
    let mean = (sum / count.max(1)) as u32;
    let guess = 31 - (mean | 1).leading_zeros();
    let bits = |k: u32| {
        let quotients = match all.leading_zeros() {
            // Short sums do not overflow.
            8.. => u64::from(folded.iter().map(|value| value >> k).sum::<u32>()),
            _ => folded.iter().map(|value| u64::from(value >> k)).sum(),
        };
        quotients + count * u64::from(k + 1)
    };
    let (low, high) = (guess.saturating_sub(1).min(30), guess.min(30));
    let (low_bits, high_bits) = (bits(low), bits(high));
    let (k, least) = if low_bits <= high_bits {
        (low, low_bits)
    } else {
        (high, high_bits)
    };
    let widest = 32 - all.leading_zeros();
    if 6 + count * u64::from(widest) < least {
        return Coding::Fixed(widest);
    }
    Coding::Rice(k)
}

fn write_residuals(part: &[i32], writer: &mut BitWriter) {
    let mut values = [0_u32; PARTITION];
    for (value, residual) in values.iter_mut().zip(part) {
        *value = folded(*residual);
    }
    let values = &values[..part.len().min(PARTITION)];
    match coding(values) {
        Coding::Fixed(width) => {
            writer.put(ESCAPE, 5);
            writer.put(u64::from(width), 6);
            values.iter().for_each(|value| writer.put(u64::from(*value), width));
        }
        Coding::Rice(k) => {
            writer.put(u64::from(k), 5);
            writer.put_rice(values, k);
        }
    }
}

/// Appends the bytes of a chunk to `out`, which has room for `raw_bytes`.
pub(super) fn decode(payload: &[u8], raw_bytes: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    decoded(payload, raw_bytes, out).ok_or(DecodeError::Damaged)
}

fn decoded(payload: &[u8], raw_bytes: usize, out: &mut Vec<u8>) -> Option<()> {
    let (&[kind, channels, head_bytes], rest) = payload.split_first_chunk::<3>()?;
    let (sample_bytes, is_float, is_big_endian) = (usize::from(kind >> 6) + 1, kind & 2 == 2, kind & 1 == 1);
    let channels = usize::from(channels);
    if kind & 0b0011_1100 != 0
        || sample_bytes < if is_float { 4 } else { 2 }
        || !(1..=usize::from(MAX_CHANNELS)).contains(&channels)
    {
        return None;
    }
    let frame_bytes = sample_bytes * channels;
    let head_bytes = usize::from(head_bytes);
    let framed_bytes = raw_bytes.checked_sub(head_bytes).filter(|_| head_bytes < frame_bytes)?;
    let (head, rest) = rest.split_at_checked(head_bytes)?;
    let (tail, rest) = rest.split_at_checked(framed_bytes % frame_bytes)?;
    out.extend_from_slice(head);
    let mut reader = BitReader::new(rest);
    let mut block: Vec<Vec<i32>> = vec![Vec::new(); channels];
    let mut left = framed_bytes / frame_bytes;
    let block_frames = block_frames(left);
    while left > 0 {
        let frames = left.min(block_frames);
        if is_float {
            let exponent = reader.take(8)? as u32;
            read_block(&mut block, float::INTEGER_BITS, frames, &mut reader)?;
            float::from_integers(&mut block, exponent, &mut reader)?;
        } else {
            read_block(&mut block, 8 * sample_bytes as u32, frames, &mut reader)?;
        }
        write_frames(&block, sample_bytes, is_big_endian, frames, out);
        left -= frames;
    }
    out.extend_from_slice(tail);
    Some(())
}

fn write_frames(block: &[Vec<i32>], sample_bytes: usize, is_big_endian: bool, frames: usize, out: &mut Vec<u8>) {
    let frame_bytes = sample_bytes * block.len();
    let start = out.len();
    out.resize(start + frames * frame_bytes, 0);
    let bytes = &mut out[start..];
    match (sample_bytes, is_big_endian) {
        (2, false) => put_frames(bytes, block, |sample| (sample as i16).to_le_bytes()),
        (2, true) => put_frames(bytes, block, |sample| (sample as i16).to_be_bytes()),
        (3, false) => put_frames(bytes, block, |sample| {
            let [a, b, c, _] = sample.to_le_bytes();
            [a, b, c]
        }),
        (3, true) => put_frames(bytes, block, |sample| {
            let [_, a, b, c] = sample.to_be_bytes();
            [a, b, c]
        }),
        (_, false) => put_frames(bytes, block, i32::to_le_bytes),
        (_, true) => put_frames(bytes, block, i32::to_be_bytes),
    }
}

/// Puts the samples of all channels where they lie in each frame.
fn put_frames<const BYTES: usize>(bytes: &mut [u8], block: &[Vec<i32>], place: impl Fn(i32) -> [u8; BYTES]) {
    let (places, _) = bytes.as_chunks_mut::<BYTES>();
    match block {
        [one] => {
            for (to, sample) in places.iter_mut().zip(one) {
                *to = place(*sample);
            }
        }
        [left, right] => {
            let (pairs, _) = places.as_chunks_mut::<2>();
            for ([to_left, to_right], (left, right)) in pairs.iter_mut().zip(left.iter().zip(right)) {
                *to_left = place(*left);
                *to_right = place(*right);
            }
        }
        _ => {
            for (channel, samples) in block.iter().enumerate() {
                let places = places.iter_mut().skip(channel).step_by(block.len());
                for (to, sample) in places.zip(samples) {
                    *to = place(*sample);
                }
            }
        }
    }
}

fn read_block(block: &mut [Vec<i32>], bits: u32, frames: usize, reader: &mut BitReader<'_>) -> Option<()> {
    let mode = if block.len() == 2 { reader.take(2)? } else { 0 };
    if mode != 0 && bits >= 32 {
        return None;
    }
    for (channel, samples) in block.iter_mut().enumerate() {
        let is_side = matches!((mode, channel), (1 | 3, 1) | (2, 0));
        read_channel(samples, bits + u32::from(is_side), frames, reader)?;
    }
    if let ([left, right], 1..) = (block, mode) {
        for (l, r) in left.iter_mut().zip(right.iter_mut()) {
            match mode {
                1 => *r = l.wrapping_sub(*r),
                2 => *l = l.wrapping_add(*r),
                _ => {
                    let sum = (l.wrapping_shl(1)) | (*r & 1);
                    (*l, *r) = (sum.wrapping_add(*r) >> 1, sum.wrapping_sub(*r) >> 1);
                }
            }
        }
    }
    Some(())
}

fn take_sample(reader: &mut BitReader<'_>, width: u32) -> Option<i32> {
    let width = width.min(32);
    let bits = reader.take(width)? as u32;
    Some(((bits << (32 - width)) as i32) >> (32 - width))
}

fn read_channel(samples: &mut Vec<i32>, width: u32, frames: usize, reader: &mut BitReader<'_>) -> Option<()> {
    samples.clear();
    let (kind, wasted) = (reader.take(2)?, reader.take(5)? as u32);
    let width = width.checked_sub(wasted).filter(|&width| width > 0)?;
    match kind {
        CONSTANT => {
            let sample = take_sample(reader, width)?;
            samples.resize(frames, sample);
        }
        FIXED => {
            let order = reader.take(3)? as usize;
            read_first(samples, order, 4, width, frames, reader)?;
            predict::with_fixed(
                order,
                ReadResiduals {
                    samples,
                    frames,
                    reader,
                },
            )?;
        }
        LINEAR => {
            let order = reader.take(4)? as usize + 1;
            let shift = reader.take(4)? as u32;
            let mut coefficients = [0_i32; MAX_ORDER];
            for coefficient in coefficients.get_mut(..order)? {
                let bits = reader.take(COEFFICIENT_BITS)? as u32;
                *coefficient = ((bits << (32 - COEFFICIENT_BITS)) as i32) >> (32 - COEFFICIENT_BITS);
            }
            read_first(samples, order, MAX_ORDER, width, frames, reader)?;
            let coefficients = &coefficients[..order];
            predict::with_linear(
                coefficients,
                shift,
                ReadResiduals {
                    samples,
                    frames,
                    reader,
                },
            )?;
        }
        _ => {
            for _ in 0..frames {
                samples.push(take_sample(reader, width)?);
            }
        }
    }
    if wasted > 0 {
        samples
            .iter_mut()
            .for_each(|sample| *sample = sample.wrapping_shl(wasted));
    }
    Some(())
}

/// The samples that prediction begins with.
fn read_first(
    samples: &mut Vec<i32>,
    order: usize,
    most: usize,
    width: u32,
    frames: usize,
    reader: &mut BitReader<'_>,
) -> Option<()> {
    if order > most || order >= frames {
        return None;
    }
    for _ in 0..order {
        samples.push(take_sample(reader, width)?);
    }
    Some(())
}

/// Makes the samples behind the first ones, each of what came before and a residual.
struct ReadResiduals<'r, 'b> {
    samples: &'r mut Vec<i32>,
    frames: usize,
    reader: &'r mut BitReader<'b>,
}

impl predict::Predicted for ReadResiduals<'_, '_> {
    type Output = Option<()>;

    fn run<const ORDER: usize>(self, guess: impl Fn(&[i32; ORDER]) -> i64) -> Option<()> {
        let (samples, reader) = (self.samples, self.reader);
        samples.resize(self.frames, 0);
        let mut at = ORDER;
        let mut add = |at: usize, residual: i64| -> Option<()> {
            let (before, rest) = samples.split_at_mut(at);
            *rest.first_mut()? = guess(before.last_chunk()?).wrapping_add(residual) as i32;
            Some(())
        };
        while at < self.frames {
            let end = self.frames.min(at + PARTITION);
            match reader.take(5)? {
                ESCAPE => {
                    let width = reader.take(6)? as u32;
                    for at in at..end {
                        add(at, unfolded(reader.take_long(width)?))?;
                    }
                }
                k => {
                    // Reading and adding in one loop: the next residual is read while this sample is computed.
                    for at in at..end {
                        add(at, unfolded(reader.take_rice(k as u32)?))?;
                    }
                }
            }
            at = end;
        }
        Some(())
    }
}
