//! Cuts and encodes files and decodes them again: how small they become, and how fast. For `tests/bench/sound`.
//!
//! Prints one line of JSON for each file; times are processor times of this one thread, in seconds. Encoding includes
//! the proof by decoding.

use std::convert::Infallible;

use lfs_protocol::codec::{Codec, Decoder, Encoder};
use lfs_protocol::{Chunk, Cutter};

/// Each time is the best of so many.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let (mut cut_secs, mut encode_secs, mut decode_secs) = (f64::MAX, f64::MAX, f64::MAX);
        let (mut stored, mut sound, mut count) = (0, 0, 0);
        for _ in 0..ROUNDS {
            let mut chunks = Vec::new();
            let started = used_secs();
            let mut cutter = Cutter::new(bytes.len() as u64);
            let mut take = |chunk: Chunk<'_>| -> Result<(), Infallible> {
                chunks.push((chunk.bytes.to_vec(), chunk.pcm));
                Ok(())
            };
            cutter.push(&bytes, &mut take)?;
            cutter.finish(&mut take)?;
            cut_secs = cut_secs.min(used_secs() - started);

            let (mut encoder, mut out) = (Encoder::default(), Vec::new());
            let started = used_secs();
            for (raw, pcm) in &chunks {
                encoder.encode(raw, *pcm, &mut out);
            }
            encode_secs = encode_secs.min(used_secs() - started);
            let mut frames = Vec::new();
            for (raw, pcm) in &chunks {
                let codec = encoder.encode(raw, *pcm, &mut out);
                frames.push((codec, out.clone(), raw.len()));
            }

            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            let started = used_secs();
            for (codec, payload, raw_bytes) in &frames {
                decoder.decode(*codec, payload, *raw_bytes, &mut out)?;
            }
            decode_secs = decode_secs.min(used_secs() - started);
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

/// Processor time that this thread has used, in seconds, as Linux tells it.
fn used_secs() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells what a thread has used");
    let used_ns: f64 = told
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    used_ns / 1e9
}
