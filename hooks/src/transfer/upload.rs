//! Brings an object: cuts its file, asks what the server lacks, sends that in chunk packs, then the recipe, and
//! waits until the server has proven the whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lfs_protocol::codec::{Codec, Encoder};
use lfs_protocol::pack::{Kind, PackWriter};
use lfs_protocol::recipe::{self, Recipe};
use lfs_protocol::{Chunk, ChunkId, Chunking, CutError, Cutter, Oid, PcmFormat};
use serde::Deserialize;
use ureq::http::Method;

use super::lines::{Failure, Progress};
use super::remote::{Answer, BINARY, CHUNK_PACK, Payload, Remote};

/// Up to this size an object goes with its recipe in one request, in bytes.
pub const SMALL_BYTES: u64 = 1 << 20;
/// Up to this size it is not even asked what the server lacks, in bytes: a request costs more.
const TINY_BYTES: u64 = 128 << 10;
/// So many ids are asked about at once.
const IDS_AT_ONCE: usize = 1 << 16;
/// So often it is asked anew what lacks, when chunks that were there are gone.
const MAX_ROUNDS: u32 = 4;
/// So much is read at once, in bytes.
const PART_BYTES: usize = 256 << 10;
/// A proof that does not move for so long has failed.
const PROOF_SILENCE: Duration = Duration::from_secs(600);
const FIRST_PROOF_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PROOF_PAUSE: Duration = Duration::from_secs(2);

/// Hundredths of the progress at which the file is cut, and at which everything is sent.
const CUT_DONE: u64 = 5;
const SENT_DONE: u64 = 95;

/// What is to be brought.
pub struct Upload<'a> {
    /// The object.
    pub oid: Oid,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Its file.
    pub path: &'a Path,
    /// Where a chunk pack can lie while it is made and sent.
    pub temporary: &'a Path,
    /// The ways of cutting that the server takes.
    pub takes: Vec<Chunking>,
    /// Repositories whose chunks count as there, as a query; empty if there are none.
    pub with: &'a str,
}

/// One chunk of the file.
struct Piece {
    id: ChunkId,
    raw_bytes: u32,
    /// Bytes of the frame of samples in which it begins that lie before it; [`NO_SOUND`] outside of sound.
    phase: u32,
}

const NO_SOUND: u32 = u32::MAX;

/// A file that was cut.
struct Cut {
    chunking: Chunking,
    pieces: Vec<Piece>,
    format: Option<PcmFormat>,
}

#[derive(Deserialize)]
struct State {
    state: String,
    #[serde(default)]
    proven_bytes: u64,
}

/// Brings it; the server has proven it then. Gives its recipe.
///
/// # Errors
/// A [`Failure`]; chunks that the server has taken need not be sent again for a while.
pub fn run(upload: &Upload<'_>, remote: &mut Remote, progress: &mut Progress<'_>) -> Result<Recipe, Failure> {
    let file = File::open(upload.path).map_err(|error| Failure::file(upload.path, &error))?;
    let cut = cut(upload, &file, progress)?;
    if !upload.takes.contains(&cut.chunking) {
        return Err(Failure::new(
            501,
            format!(
                "the server takes no files that are cut by version {}; bring git-auxin and the server to versions that fit, or run `git auxin install --uninstall` to send whole files",
                cut.chunking.version()
            ),
        ));
    }
    if upload.size_bytes > SMALL_BYTES {
        remote.freshen()?;
    }
    let recipe = Recipe {
        oid: upload.oid,
        size_bytes: upload.size_bytes,
        chunking: cut.chunking,
        chunks: cut.pieces.iter().map(|piece| (piece.id, piece.raw_bytes)).collect(),
    };
    if recipe.chunks.len() > recipe::MAX_CHUNKS {
        return Err(Failure::new(
            413,
            format!(
                "it has {} chunks, more than the chunked transfer can bring",
                recipe.chunks.len()
            ),
        ));
    }
    let mut sender = Sender {
        upload,
        remote,
        file: &file,
        cut: &cut,
        encoder: Encoder::default(),
        raw: Vec::new(),
    };
    if upload.size_bytes <= SMALL_BYTES {
        sender.bring_small(&recipe, progress)?;
    } else {
        sender.bring(&recipe, progress)?;
    }
    Ok(recipe)
}

fn cut(upload: &Upload<'_>, mut file: &File, progress: &mut Progress<'_>) -> Result<Cut, Failure> {
    let mut pieces = Vec::new();
    let mut format = None;
    let mut take = |chunk: Chunk<'_>| -> Result<(), Failure> {
        format = format.or(chunk.pcm.map(|(format, _)| format));
        pieces.push(Piece {
            id: chunk.id,
            raw_bytes: chunk.bytes.len() as u32,
            phase: chunk.pcm.map_or(NO_SOUND, |(_, phase)| phase),
        });
        Ok(())
    };
    let mut cutter = Cutter::new(upload.size_bytes);
    let mut part = vec![0; PART_BYTES.min(upload.size_bytes as usize + 1)];
    let mut done = 0;
    loop {
        let len = match file.read(&mut part) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::file(upload.path, &error)),
        };
        cutter
            .push(&part[..len], &mut take)
            .map_err(|error| changed(upload, error))?;
        done += len as u64;
        progress.reach_part(0, CUT_DONE, done, upload.size_bytes);
    }
    let (oid, chunking) = cutter.finish(&mut take).map_err(|error| changed(upload, error))?;
    if oid != upload.oid {
        return Err(Failure::new(
            422,
            format!(
                "{} is not what its name says: its bytes are damaged or have changed; `git lfs fsck` tells more",
                upload.path.display()
            ),
        ));
    }
    Ok(Cut {
        chunking,
        pieces,
        format,
    })
}

fn changed(upload: &Upload<'_>, error: CutError<Failure>) -> Failure {
    match error {
        CutError::Taker(failure) => failure,
        error => Failure::new(422, format!("{} cannot be sent: {error}", upload.path.display())),
    }
}

struct Sender<'a> {
    upload: &'a Upload<'a>,
    remote: &'a mut Remote,
    file: &'a File,
    cut: &'a Cut,
    encoder: Encoder,
    raw: Vec<u8>,
}

impl Sender<'_> {
    fn recipe_path(&self) -> String {
        let and = if self.upload.with.is_empty() { "" } else { "&" };
        let Upload {
            oid, size_bytes, with, ..
        } = self.upload;
        format!("/objects/{oid}?size={size_bytes}{and}{with}")
    }

    /// One request with the recipe and what lacks.
    fn bring_small(&mut self, recipe: &Recipe, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let mut lacks = if self.upload.size_bytes <= TINY_BYTES {
            self.each_once()
        } else {
            self.ask_missing()?
        };
        for _ in 0..MAX_ROUNDS {
            let mut pack = PackWriter::new(Vec::new()).map_err(memory)?;
            let mut offset = 0;
            let mut payload = Vec::new();
            for (piece, lacks) in self.cut.pieces.iter().zip(&lacks) {
                if *lacks {
                    let codec = self.encode(piece, offset, &mut payload)?;
                    pack.add(
                        *piece.id.as_bytes(),
                        Kind::Chunk,
                        codec,
                        piece.raw_bytes as usize,
                        &payload,
                    )
                    .map_err(memory)?;
                }
                offset += u64::from(piece.raw_bytes);
            }
            let bytes = recipe.to_bytes();
            pack.add(*recipe.oid.as_bytes(), Kind::Recipe, Codec::Raw, bytes.len(), &bytes)
                .map_err(memory)?;
            let (pack, _) = pack.seal().map_err(memory)?;
            progress.reach_part(0, SENT_DONE, 1, 2);
            let payload = Payload::Bytes(CHUNK_PACK, &pack);
            let answer = self.remote.ask(Method::POST, &self.recipe_path(), payload)?;
            if self.settle(answer, payload, progress)? {
                return Ok(());
            }
            lacks = self.ask_missing()?;
        }
        Err(never_settled())
    }

    /// Packs, then the recipe.
    fn bring(&mut self, recipe: &Recipe, progress: &mut Progress<'_>) -> Result<(), Failure> {
        for _ in 0..MAX_ROUNDS {
            let lacks = self.ask_missing()?;
            self.send_packs(&lacks, progress)?;
            let bytes = recipe.to_bytes();
            let payload = Payload::Bytes(BINARY, &bytes);
            let answer = self.remote.ask(Method::POST, &self.recipe_path(), payload)?;
            if self.settle(answer, payload, progress)? {
                return Ok(());
            }
        }
        Err(never_settled())
    }

    /// Where in the file a chunk is for the first time.
    fn each_once(&self) -> Vec<bool> {
        let mut first = vec![false; self.cut.pieces.len()];
        for place in self.firsts() {
            first[place as usize] = true;
        }
        first
    }

    /// The first place of each chunk, sorted by its id.
    fn firsts(&self) -> Vec<u32> {
        let pieces = &self.cut.pieces;
        let mut places: Vec<u32> = (0..pieces.len() as u32).collect();
        places.sort_unstable_by_key(|&place| (pieces[place as usize].id, place));
        places.dedup_by_key(|place| pieces[*place as usize].id);
        places
    }

    /// For each chunk, whether it has to be sent; of equal ones the first.
    fn ask_missing(&mut self) -> Result<Vec<bool>, Failure> {
        let mut lacks = vec![false; self.cut.pieces.len()];
        let firsts = self.firsts();
        let path = match self.upload.with {
            "" => "/missing".to_owned(),
            with => format!("/missing?{with}"),
        };
        for places in firsts.chunks(IDS_AT_ONCE) {
            let ids = places
                .iter()
                .flat_map(|&place| self.cut.pieces[place as usize].id.as_bytes());
            let ids: Vec<u8> = ids.copied().collect();
            let answer = self.remote.ask(Method::POST, &path, Payload::Bytes(BINARY, &ids))?;
            if answer.status != 200 {
                return Err(answer.failure());
            }
            if answer.body.len() != places.len().div_ceil(8) {
                return Err(Failure::new(
                    502,
                    format!(
                        "the server told {} bytes about {} chunks",
                        answer.body.len(),
                        places.len()
                    ),
                ));
            }
            for (number, &place) in places.iter().enumerate() {
                lacks[place as usize] = answer.body[number / 8] >> (number % 8) & 1 == 1;
            }
        }
        Ok(lacks)
    }

    fn send_packs(&mut self, lacks: &[bool], progress: &mut Progress<'_>) -> Result<(), Failure> {
        let pieces = self.cut.pieces.iter().zip(lacks);
        let lacking = pieces
            .filter(|(_, lacks)| **lacks)
            .map(|(piece, _)| u64::from(piece.raw_bytes));
        // What is settled: everything but what lacks and has not been sent.
        let mut settled = self.upload.size_bytes - lacking.sum::<u64>();
        progress.reach_part(CUT_DONE, SENT_DONE, settled, self.upload.size_bytes);
        let Some(last) = lacks.iter().rposition(|&lacks| lacks) else {
            return Ok(());
        };
        let scratch = Scratch::new(self.upload)?;
        let mut pack = scratch.begin()?;
        let (mut offset, mut in_pack, mut payload) = (0, 0, Vec::new());
        for (place, piece) in self.cut.pieces.iter().enumerate().take(last + 1) {
            if lacks[place] {
                let codec = self.encode(piece, offset, &mut payload)?;
                if pack.is_full_for(payload.len()) {
                    self.send(&scratch, pack, settled, in_pack, progress)?;
                    settled += in_pack;
                    (pack, in_pack) = (scratch.begin()?, 0);
                }
                pack.add(
                    *piece.id.as_bytes(),
                    Kind::Chunk,
                    codec,
                    piece.raw_bytes as usize,
                    &payload,
                )
                .map_err(|error| scratch.failure(&error))?;
                in_pack += u64::from(piece.raw_bytes);
            }
            offset += u64::from(piece.raw_bytes);
        }
        self.send(&scratch, pack, settled, in_pack, progress)
    }

    /// Sends a pack that holds `raw_bytes` of the file.
    fn send(
        &mut self,
        scratch: &Scratch<'_>,
        pack: PackWriter<BufWriter<&File>>,
        settled: u64,
        raw_bytes: u64,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let (mut out, sealed) = pack.seal().map_err(|error| scratch.failure(&error))?;
        out.flush().map_err(|error| scratch.failure(&error))?;
        drop(out);
        let path = format!("/packs/{}", Oid::from_sha256(sealed.sha256));
        let payload = Payload::File(&scratch.file, sealed.bytes);
        let size_bytes = self.upload.size_bytes;
        let mut sent = |bytes: u64| {
            let part = u128::from(raw_bytes) * u128::from(bytes) / u128::from(sealed.bytes.max(1));
            progress.reach_part(CUT_DONE, SENT_DONE, settled + part as u64, size_bytes);
        };
        let answer = self.remote.call(Method::PUT, &path, payload, 64 << 10, &mut sent)?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(answer.failure())
    }

    /// The stored form of a chunk that lies at `offset` of the file.
    fn encode(&mut self, piece: &Piece, offset: u64, payload: &mut Vec<u8>) -> Result<Codec, Failure> {
        let upload = self.upload;
        self.raw.resize(piece.raw_bytes as usize, 0);
        let mut file = self.file;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut self.raw))
            .map_err(|error| Failure::file(upload.path, &error))?;
        if ChunkId::of(&self.raw) != piece.id {
            return Err(Failure::new(
                422,
                format!("{} changed while it was being sent; push again", upload.path.display()),
            ));
        }
        let pcm = self.cut.format.filter(|_| piece.phase != NO_SOUND);
        let pcm = pcm.map(|format| (format, piece.phase));
        Ok(self.encoder.encode(&self.raw, pcm, payload))
    }

    /// Whether it is proven; not if chunks are lacking. Waits for the proof.
    fn settle(
        &mut self,
        mut answer: Answer,
        payload: Payload<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<bool, Failure> {
        let proof_path = format!("/objects/{}/proof", self.upload.oid);
        let (mut pause, mut moved, mut reached) = (FIRST_PROOF_PAUSE, Instant::now(), None);
        loop {
            match answer.status {
                409 => return Ok(false),
                200 | 202 => {}
                _ => return Err(answer.failure()),
            }
            let state: State = serde_json::from_slice(&answer.body).map_err(|error| {
                Failure::new(
                    502,
                    format!("the server's word on the proof is not understood: {error}"),
                )
            })?;
            match state.state.as_str() {
                "proven" => return Ok(true),
                "proving" => {}
                other => return Err(Failure::new(502, format!("the server calls the proof {other:?}"))),
            }
            if reached.is_none_or(|reached| state.proven_bytes > reached) {
                (reached, moved) = (Some(state.proven_bytes), Instant::now());
                progress.reach_part(SENT_DONE, 99, state.proven_bytes, self.upload.size_bytes);
            } else if moved.elapsed() > PROOF_SILENCE {
                return Err(Failure::new(
                    504,
                    "the server has all of it but does not get on with the proof; push again later",
                ));
            }
            if progress.is_lost() {
                return Err(Failure::new(500, "git lfs is gone"));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PROOF_PAUSE);
            answer = self.remote.ask(Method::GET, &proof_path, Payload::None)?;
            if answer.status == 404 {
                // The server was started anew; what it has proven of the chunks is kept.
                answer = self.remote.ask(Method::POST, &self.recipe_path(), payload)?;
            }
        }
    }
}

/// The file in which a pack lies while it is made and sent. It has no name, so that nothing is left if this
/// program ends, and `git lfs` may tidy up its folder.
struct Scratch<'a> {
    file: File,
    upload: &'a Upload<'a>,
}

impl<'a> Scratch<'a> {
    fn new(upload: &'a Upload<'a>) -> Result<Self, Failure> {
        let path = upload
            .temporary
            .join(format!("{}-auxin-{}", upload.oid, std::process::id()));
        let made = fs::create_dir_all(upload.temporary).and_then(|()| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
        });
        let file = made.map_err(|error| Failure::file(&path, &error))?;
        // Where that is impossible it is `git lfs` that removes it.
        let _ = fs::remove_file(&path);
        Ok(Self { file, upload })
    }

    fn begin(&self) -> Result<PackWriter<BufWriter<&File>>, Failure> {
        let mut file = &self.file;
        let begun = file.set_len(0).and_then(|()| file.rewind());
        begun
            .and_then(|()| PackWriter::new(BufWriter::with_capacity(PART_BYTES, file)))
            .map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(
            500,
            format!(
                "a chunk pack cannot be written in {}: {error}",
                self.upload.temporary.display()
            ),
        )
    }
}

fn memory(error: io::Error) -> Failure {
    Failure::new(500, format!("a chunk pack cannot be made: {error}"))
}

fn never_settled() -> Failure {
    Failure::new(
        503,
        "the server keeps losing chunks that it had a moment ago; push again later",
    )
}
