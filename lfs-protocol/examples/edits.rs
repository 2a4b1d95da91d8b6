//! Makes a take and the files that common edits make of it, and tells what a push of each sends when the first is
//! there already. For `tests/bench/edits`.
//!
//!     edits make FOLDER                 writes the files
//!     edits count FIRST SECOND          one line of JSON: what SECOND needs beside FIRST

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use lfs_protocol::codec::Encoder;
use lfs_protocol::recipe::Recipe;
use lfs_protocol::{Chunk, ChunkId, Chunking, Cutter, Oid};

const RATE: usize = 48_000;
const FRAME_BYTES: usize = 6;
const TAKE_SECS: usize = 300;
const PART_BYTES: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", folder] => Ok(make(Path::new(folder))?),
        ["count", first, second] => count(Path::new(first), Path::new(second)),
        _ => Err("edits make FOLDER | edits count FIRST SECOND".into()),
    }
}

/// Random numbers that are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// Between −1 and 1.
    fn share(&mut self) -> f64 {
        (self.next() & 0xffff_ffff) as f64 / f64::from(1_u32 << 31) - 1.0
    }
}

/// Sound of so many seconds: notes that fade over a quiet noise, both channels a little different, 24 bits.
fn sound(secs: f64, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let frames = (secs * RATE as f64) as usize;
    let mut sides = [vec![0_f64; frames], vec![0_f64; frames]];
    for _ in 0..frames / RATE * 3 {
        let start = random.below(frames);
        let pitch = 110.0 * 2_f64.powf(random.below(36) as f64 / 12.0);
        let length = (RATE / 2 + random.below(RATE * 3 / 2)).min(frames - start);
        let pan = random.share().abs();
        for partial in 1..6 {
            let step = std::f64::consts::TAU * pitch * f64::from(partial) / RATE as f64;
            let strength = 0.06 * random.share().abs() / f64::from(partial);
            let fade = 0.99995 - random.share().abs() * 2e-4;
            let (mut re, mut im, cos, sin) = (strength, 0.0, step.cos() * fade, step.sin() * fade);
            let [left, right] = &mut sides;
            for (left, right) in left.iter_mut().zip(right).skip(start).take(length) {
                *left += re * (1.0 - pan);
                *right += re * pan;
                (re, im) = (re * cos - im * sin, re * sin + im * cos);
            }
        }
    }
    let mut bytes = Vec::with_capacity(frames * FRAME_BYTES);
    for at in 0..frames {
        for side in &sides {
            let value = (side[at] + random.share() * 2e-4).clamp(-1.0, 1.0) * 8_388_607.0;
            bytes.extend_from_slice(&(value as i32).to_le_bytes()[..3]);
        }
    }
    bytes
}

/// A WAV file with so many bytes of other facts before the sound; `is_broken` leaves out the byte that pads an odd
/// number of them, so that no reader finds the sound.
fn wav(facts_bytes: usize, is_broken: bool, data: &[u8]) -> Vec<u8> {
    let mut facts = Vec::new();
    if facts_bytes > 0 {
        facts.extend_from_slice(b"LGWV");
        facts.extend_from_slice(&(facts_bytes as u32).to_le_bytes());
        facts.extend((0..facts_bytes).map(|at| (at * 7) as u8));
        if facts_bytes % 2 == 1 && !is_broken {
            facts.push(0);
        }
    }
    let mut file = Vec::with_capacity(data.len() + 100 + facts.len());
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&((36 + facts.len() + data.len()) as u32).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16_u32.to_le_bytes());
    file.extend_from_slice(&[1, 0, 2, 0]);
    file.extend_from_slice(&(RATE as u32).to_le_bytes());
    file.extend_from_slice(&((RATE * FRAME_BYTES) as u32).to_le_bytes());
    file.extend_from_slice(&[FRAME_BYTES as u8, 0, 24, 0]);
    file.extend_from_slice(&facts);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(data);
    file
}

fn at(secs: f64) -> usize {
    (secs * RATE as f64) as usize * FRAME_BYTES
}

fn make(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let put = |name: &str, bytes: &[u8]| {
        let mut file = File::create(folder.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let take = sound(TAKE_SECS as f64, 1);
    put("take.wav", &wav(1000, false, &take))?;
    put("header-grows-by-8.wav", &wav(1008, false, &take))?;
    put("header-grows-by-610.wav", &wav(1610, false, &take))?;
    put("header-unreadable.wav", &wav(1037, true, &take))?;
    put("copy.wav", &wav(1000, false, &take))?;
    let punch = sound(4.0, 2);
    let punched = [&take[..at(100.0)], &punch, &take[at(100.0) + punch.len()..]].concat();
    put("punch-in.wav", &wav(1000, false, &punched))?;
    put("trimmed.wav", &wav(1000, false, &take[at(1.3)..]))?;
    put(
        "appended.wav",
        &wav(1000, false, &[take.as_slice(), &sound(30.0, 3)].concat()),
    )?;
    // 24 segments in another order.
    let mut random = Random(77);
    let mut cuts: Vec<usize> = (0..23).map(|_| random.below(TAKE_SECS * RATE) * FRAME_BYTES).collect();
    cuts.extend([0, take.len()]);
    cuts.sort_unstable();
    let mut segments: Vec<&[u8]> = cuts.windows(2).map(|ends| &take[ends[0]..ends[1]]).collect();
    for last in (1..segments.len()).rev() {
        segments.swap(last, random.below(last + 1));
    }
    put("comp-of-24.wav", &wav(1000, false, &segments.concat()))?;
    let mut random = Random(5);
    let mut plain: Vec<u8> = (0..25 << 20).map(|_| random.next() as u8).collect();
    put("plain.bin", &plain)?;
    let part: Vec<u8> = (0..plain.len() / 100).map(|_| random.next() as u8).collect();
    let middle = plain.len() / 3;
    let inserted = [&plain[..middle], &part, &plain[middle..]].concat();
    put("plain-inserted.bin", &inserted)?;
    plain[middle..middle + part.len()].copy_from_slice(&part);
    put("plain-overwritten.bin", &plain)
}

/// The chunks of a file, each given to `take` with its bytes.
fn cut(path: &Path, mut take: impl FnMut(&Chunk<'_>)) -> Result<(Oid, Chunking), Box<dyn Error>> {
    let mut file = File::open(path)?;
    let mut cutter = Cutter::new(file.metadata()?.len());
    let mut taker = |chunk: Chunk<'_>| -> Result<(), Infallible> {
        take(&chunk);
        Ok(())
    };
    let mut part = vec![0; PART_BYTES];
    loop {
        let len = file.read(&mut part)?;
        if len == 0 {
            break;
        }
        cutter.push(&part[..len], &mut taker)?;
    }
    Ok(cutter.finish(&mut taker)?)
}

fn count(first: &Path, second: &Path) -> Result<(), Box<dyn Error>> {
    let mut known: HashSet<ChunkId> = HashSet::new();
    cut(first, |chunk| {
        known.insert(chunk.id);
    })?;
    let (mut encoder, mut frame) = (Encoder::default(), Vec::new());
    let (mut new_bytes, mut stored_bytes, mut new_chunks, mut chunks) = (0, 0, 0, Vec::new());
    let (oid, chunking) = cut(second, |chunk| {
        chunks.push((chunk.id, chunk.bytes.len() as u32));
        if known.insert(chunk.id) {
            encoder.encode(chunk.bytes, chunk.pcm, &mut frame);
            new_bytes += chunk.bytes.len();
            stored_bytes += frame.len();
            new_chunks += 1;
        }
    })?;
    let size_bytes = fs::metadata(second)?.len();
    let count = chunks.len();
    let recipe = Recipe {
        oid,
        size_bytes,
        chunking,
        chunks,
    };
    println!(
        "{{\"bytes\": {size_bytes}, \"chunks\": {count}, \"new_chunks\": {new_chunks}, \"new_bytes\": {new_bytes}, \
         \"stored_bytes\": {stored_bytes}, \"ids_bytes\": {}, \"recipe_bytes\": {}}}",
        count * 32,
        recipe.to_bytes().len()
    );
    Ok(())
}
