//! Cuts and encodes files and decodes them again: how small they become, and how fast. For `tests/bench/sound`.
//!
//! Prints one line of JSON for each file; times are processor times of this one thread, in seconds.

use std::convert::Infallible;
use std::time::Instant;

use lfs_protocol::codec::{Codec, Decoder, Encoder};
use lfs_protocol::{Chunk, Cutter};

/// Each time is the best of so many.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let (mut cut_secs, mut encode_secs, mut decode_secs) = (f64::MAX, f64::MAX, f64::MAX);
        let (mut stored, mut sound, mut count) = (0, 0, 0);
        for _ in 0..ROUNDS {
            let mut chunks = Vec::new();
            let started = Instant::now();
            let mut cutter = Cutter::new(bytes.len() as u64);
            let mut take = |chunk: Chunk<'_>| -> Result<(), Infallible> {
                chunks.push((chunk.bytes.to_vec(), chunk.pcm));
                Ok(())
            };
            cutter.push(&bytes, &mut take)?;
            cutter.finish(&mut take)?;
            cut_secs = cut_secs.min(started.elapsed().as_secs_f64());

            let (mut encoder, mut frames) = (Encoder::default(), Vec::new());
            let started = Instant::now();
            for (raw, pcm) in &chunks {
                let mut out = Vec::new();
                let codec = encoder.encode(raw, *pcm, &mut out);
                frames.push((codec, out, raw.len()));
            }
            encode_secs = encode_secs.min(started.elapsed().as_secs_f64());

            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            let started = Instant::now();
            for (codec, payload, raw_bytes) in &frames {
                decoder.decode(*codec, payload, *raw_bytes, &mut out)?;
            }
            decode_secs = decode_secs.min(started.elapsed().as_secs_f64());
            count = frames.len();
            stored = frames.iter().map(|(_, payload, _)| payload.len()).sum();
            sound = frames.iter().filter(|(codec, ..)| *codec == Codec::Pcm).count();
        }
        println!(
            "{{\"file\": {path:?}, \"bytes\": {}, \"stored\": {stored}, \"chunks\": {count}, \"sound_chunks\": {sound}, \
             \"cut_secs\": {cut_secs:.4}, \"encode_secs\": {encode_secs:.4}, \"decode_secs\": {decode_secs:.4}}}",
            bytes.len()
        );
    }
    Ok(())
}
