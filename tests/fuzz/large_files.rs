//! What strangers can send or have stored of large files.

use std::convert::Infallible;

use git_auxin::audio::SoundReader;
use lfs_protocol::batch::{BatchRequest, VerifyRequest};
use lfs_protocol::chunked::{Run, parse_runs, runs_to_bytes};
use lfs_protocol::codec::{Codec, Decoder, Encoder, MAX_RAW_BYTES};
use lfs_protocol::pack::{self, Kind, PackWriter, TRAILER_BYTES, Trailer};
use lfs_protocol::recipe::Recipe;
use lfs_protocol::{Chunk, ChunkId, Chunking, Cutter, Oid, PcmFormat, audio_layout};

use super::audio_files;
use super::targets::Target;

const FORMAT: PcmFormat = PcmFormat {
    sample_bytes: 3,
    is_float: false,
    is_big_endian: false,
    channels: 2,
};

/// A small file with a header and something like sound.
fn take() -> Vec<u8> {
    let mut file =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0data\xb8\x0b\0\0".to_vec();
    file.extend((0..1000_u32).flat_map(|n| {
        let [a, b, c, _] = ((n % 97) * (n % 89) * 300 + n % 7).to_le_bytes();
        [a, b, c]
    }));
    file
}

fn packs() -> Vec<Vec<u8>> {
    let mut writer = PackWriter::new(Vec::new()).expect("memory");
    let mut all = vec![writer_of(&[]), writer_of(&[b"one"])];
    for part in take().chunks(700) {
        let name = *ChunkId::of(part).as_bytes();
        writer
            .add(name, Kind::Chunk, Codec::Raw, part.len(), part)
            .expect("fits");
    }
    all.push(writer.seal().expect("memory").0);
    all
}

fn writer_of(parts: &[&[u8]]) -> Vec<u8> {
    let mut writer = PackWriter::new(Vec::new()).expect("memory");
    for part in parts {
        writer
            .add([1; 32], Kind::Recipe, Codec::Raw, part.len(), part)
            .expect("fits");
    }
    writer.seal().expect("memory").0
}

/// The index of a chunk pack: what is read lies in the pack, and is found again.
pub fn chunk_pack() -> Target {
    Target {
        name: "chunk-pack",
        corpus: packs,
        run: Box::new(|input| {
            let last = &input[input.len().saturating_sub(TRAILER_BYTES)..];
            let Ok(trailer) = Trailer::parse(last, input.len() as u64) else {
                return;
            };
            let index = &input[trailer.index_offset as usize..][..trailer.index_bytes];
            let Ok(rows) = pack::parse_index(index, &trailer) else {
                return;
            };
            for row in rows {
                let end = u64::from(row.offset) + u64::from(row.stored_bytes);
                assert!(end <= trailer.index_offset, "a row lies outside of the pack");
            }
        }),
    }
}

/// Recipes: what is read is what is written again.
pub fn recipe() -> Target {
    Target {
        name: "recipe",
        corpus: || {
            let recipe = |count: u32| Recipe {
                oid: Oid::from_sha256([7; 32]),
                size_bytes: u64::from(count) * 1000,
                chunking: Chunking::Other,
                chunks: (0..count).map(|n| (ChunkId::of(&n.to_le_bytes()), 1000)).collect(),
            };
            [0, 1, 20].map(|count| recipe(count).to_bytes()).to_vec()
        },
        run: Box::new(|input| {
            if let Ok(recipe) = Recipe::parse(input) {
                assert_eq!(recipe.to_bytes(), input);
            }
        }),
    }
}

/// Lists of runs: an input is the number of chunks and a list. What is read lies in the object.
pub fn runs() -> Target {
    Target {
        name: "runs",
        corpus: || {
            let run = |first, count| Run { first, count };
            let list = |chunks: u32, runs: &[Run]| [&chunks.to_le_bytes()[..], &runs_to_bytes(runs)].concat();
            vec![
                list(0, &[]),
                list(9, &[run(0, 9)]),
                list(1000, &[run(7, 1), run(3, 2), run(990, 10)]),
            ]
        },
        run: Box::new(|input| {
            let Some((chunks, list)) = input.split_first_chunk::<4>() else {
                return;
            };
            let chunks = u32::from_le_bytes(*chunks);
            if let Ok(runs) = parse_runs(list, chunks) {
                assert_eq!(runs_to_bytes(&runs), list);
                assert!(runs.iter().all(|run| run.count > 0 && run.end() <= u64::from(chunks)));
                let all: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
                assert!(all <= u64::from(chunks));
            }
        }),
    }
}

/// Decoders: an input is a tag, a length and a payload. What comes out has that length.
pub fn decoder() -> Target {
    Target {
        name: "chunk-decoder",
        corpus: || {
            let (raw, mut out) = (&take()[44..], Vec::new());
            let mut all = Vec::new();
            for pcm in [None, Some((FORMAT, 0)), Some((FORMAT, 4))] {
                let codec = Encoder::default().encode(raw, pcm, &mut out);
                let head = [codec.tag(), (raw.len() >> 8) as u8, raw.len() as u8];
                all.push([&head[..], &out].concat());
            }
            all
        },
        run: Box::new(|input| {
            let Some((&[tag, high, low], payload)) = input.split_first_chunk::<3>() else {
                return;
            };
            let Ok(codec) = Codec::from_tag(tag) else { return };
            let raw_bytes = usize::from(high) << 8 | usize::from(low);
            let mut out = Vec::new();
            if Decoder::default().decode(codec, payload, raw_bytes, &mut out).is_ok() {
                assert_eq!(out.len(), raw_bytes);
            }
            assert!(out.capacity() <= 2 * MAX_RAW_BYTES, "{} bytes of room", out.capacity());
        }),
    }
}

/// Files: what is cut and encoded is decoded to the same, whatever a header says of it.
pub fn file() -> Target {
    Target {
        name: "large-file",
        corpus: || {
            vec![
                take(),
                b"FORM\0\0\0\0AIFCCOMM\0\0\0\x16\0\x01\0\0\0\0\0\x10SSND".to_vec(),
                b"caff\0\x01\0\0desc".to_vec(),
            ]
        },
        run: Box::new(|input| {
            let _ = audio_layout(input.len() as u64, input);
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            let (mut out, mut back, mut whole) = (Vec::new(), Vec::new(), Vec::new());
            let mut take = |chunk: Chunk<'_>| -> Result<(), Infallible> {
                let codec = encoder.encode(chunk.bytes, chunk.pcm, &mut out);
                decoder
                    .decode(codec, &out, chunk.bytes.len(), &mut back)
                    .expect("what was encoded is decoded");
                whole.extend_from_slice(&back);
                Ok(())
            };
            let mut cutter = Cutter::new(input.len() as u64);
            cutter.push(input, &mut take).expect("as long as announced");
            cutter.finish(&mut take).expect("as long as announced");
            assert!(whole == input, "another file came back");
        }),
    }
}

/// Requests of the batch API.
pub fn batch() -> Target {
    Target {
        name: "batch",
        corpus: || {
            let oid = "a".repeat(64);
            vec![
                format!(r#"{{"operation":"upload","transfers":["basic"],"ref":{{"name":"refs/heads/main"}},"objects":[{{"oid":"{oid}","size":5}}],"hash_algo":"sha256"}}"#).into_bytes(),
                br#"{"operation":"download","ref":null,"objects":[]}"#.to_vec(),
                format!(r#"{{"oid":"{oid}","size":-1}}"#).into_bytes(),
            ]
        },
        run: Box::new(|input| {
            if let Ok(request) = serde_json::from_slice::<BatchRequest>(input) {
                let again = serde_json::to_vec(&request).expect("JSON");
                assert_eq!(serde_json::from_slice::<BatchRequest>(&again).expect("JSON"), request);
            }
            let _ = serde_json::from_slice::<VerifyRequest>(input);
        }),
    }
}

/// Facts and sound hash: whole and in pieces give the same, and what is told stays short.
pub fn sound() -> Target {
    Target {
        name: "sound",
        corpus: audio_files::all,
        run: Box::new(|input| {
            let mut whole = SoundReader::new();
            whole.push(input);
            let whole = whole.finish();
            let mut pieces = SoundReader::new();
            let len = 1 + input.len() % 13;
            input.chunks(len).for_each(|piece| pieces.push(piece));
            assert_eq!(pieces.finish(), whole, "a split changes what is read");
            if let Some(sound) = whole {
                let json = serde_json::to_vec(&sound.facts).expect("JSON");
                assert!(json.len() < 64 << 10, "{} bytes of facts", json.len());
                assert!(sound.facts.sound_bytes <= input.len() as u64);
            }
        }),
    }
}
