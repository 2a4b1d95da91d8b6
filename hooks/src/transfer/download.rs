//! Gets an object: its recipe, then each chunk from an object that is here already, from an earlier place in the
//! same file, or from the server; in order, so that what is written when a connection ends need not come again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use lfs_protocol::codec::{Codec, Decoder, MAX_RAW_BYTES};
use lfs_protocol::recipe::{self, Recipe};
use lfs_protocol::{ChunkId, Oid};
use sha2::{Digest as _, Sha256};
use ureq::http::Method;

use super::lines::{Failure, Progress};
use super::local::{Storage, read_at};
use super::remote::{BINARY, Patience, Payload, Refusal, Remote};

/// So much of the object is asked for at once, in bytes.
const WINDOW_BYTES: u64 = 64 << 20;
/// Most runs of chunks in one request.
const MAX_RUNS: usize = 1 << 16;
/// From this size on a token with all its time left is asked for, in bytes.
const LARGE_BYTES: u64 = 1 << 20;

/// Gets it; gives its file, durable and checked, and its recipe.
///
/// # Errors
/// A [`Failure`]; what has come is kept for the next try.
pub fn run(
    oid: Oid,
    size_bytes: u64,
    remote: &mut Remote,
    storage: &mut Storage,
    progress: &mut Progress<'_>,
) -> Result<(PathBuf, Recipe), Failure> {
    if size_bytes > LARGE_BYTES {
        remote.freshen()?;
    }
    let recipe = recipe(oid, size_bytes, remote)?;
    storage.learn(size_bytes);
    let (path, file) = storage.partial(oid)?;
    let mut getter = Getter::new(&recipe, &path, &file);
    getter.resume(progress)?;
    let mut patience = Patience::new();
    while getter.next < recipe.chunks.len() {
        let before = getter.next;
        let ended = getter.get_window(remote, storage, progress);
        if getter.next > before {
            patience = Patience::new();
        }
        match ended {
            Ok(()) => {}
            Err(Refusal::Final(failure)) => return Err(failure),
            Err(Refusal::Passing(failure, asked)) => patience.wait(failure, asked)?,
        }
        if progress.is_lost() {
            return Err(Failure::new(500, "git lfs is gone"));
        }
    }
    if getter.whole.finalize().as_slice() != oid.as_bytes() {
        // Nothing of it is of use: the recipe is wrong.
        let _ = std::fs::remove_file(&path);
        return Err(Failure::new(
            502,
            "the chunks that the server named do not make this object; tell its administrator",
        ));
    }
    file.sync_all().map_err(|error| Failure::file(&path, &error))?;
    Ok((path, recipe))
}

fn recipe(oid: Oid, size_bytes: u64, remote: &mut Remote) -> Result<Recipe, Failure> {
    let path = format!("/objects/{oid}/recipe");
    let answer = remote.call(Method::GET, &path, Payload::None, recipe::MAX_BYTES as u64, &mut |_| {})?;
    if answer.status != 200 {
        return Err(answer.failure());
    }
    let bad = |what: &str| Failure::new(502, format!("the server's recipe is of no use: {what}"));
    let recipe = Recipe::parse(&answer.body).map_err(|error| bad(&error.to_string()))?;
    if recipe.oid != oid || recipe.size_bytes != size_bytes {
        return Err(bad("it is that of another object"));
    }
    Ok(recipe)
}

struct Getter<'a> {
    recipe: &'a Recipe,
    path: &'a Path,
    file: &'a File,
    /// The next chunk, and where it begins.
    next: usize,
    offset: u64,
    whole: Sha256,
    /// Where chunks lie that are written already.
    written: HashMap<ChunkId, u64>,
    decoder: Decoder,
    payload: Vec<u8>,
    raw: Vec<u8>,
}

impl<'a> Getter<'a> {
    fn new(recipe: &'a Recipe, path: &'a Path, file: &'a File) -> Self {
        Self {
            recipe,
            path,
            file,
            next: 0,
            offset: 0,
            whole: Sha256::new(),
            written: HashMap::new(),
            decoder: Decoder::default(),
            payload: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::file(self.path, error)
    }

    /// Takes what an earlier try has left, as far as it is right.
    fn resume(&mut self, progress: &mut Progress<'_>) -> Result<(), Failure> {
        while let Some(&(id, raw_bytes)) = self.recipe.chunks.get(self.next) {
            let read = read_at(self.file, self.offset, raw_bytes, &mut self.raw);
            if read.is_err() || ChunkId::of(&self.raw) != id {
                break;
            }
            self.advance(id, progress);
        }
        self.file.set_len(self.offset).map_err(|error| self.failure(&error))
    }

    /// `raw` lies where the next chunk belongs.
    fn advance(&mut self, id: ChunkId, progress: &mut Progress<'_>) {
        self.whole.update(&self.raw);
        self.written.entry(id).or_insert(self.offset);
        self.offset += self.raw.len() as u64;
        self.next += 1;
        progress.reach(self.offset);
    }

    fn write(&mut self, id: ChunkId, progress: &mut Progress<'_>) -> Result<(), Refusal> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.write_all(&self.raw))
            .map_err(|error| Refusal::Final(self.failure(&error)))?;
        self.advance(id, progress);
        Ok(())
    }

    /// The chunks up to which one request goes, and the runs of those that have to come from the server.
    fn plan(&self, storage: &Storage) -> (usize, Vec<(u32, u32)>, Vec<bool>) {
        let (mut runs, mut remote): (Vec<(u32, u32)>, Vec<bool>) = (Vec::new(), Vec::new());
        let (mut bytes, mut end) = (0, self.next);
        let mut seen = std::collections::HashSet::new();
        for (place, (id, raw_bytes)) in self.recipe.chunks.iter().enumerate().skip(self.next) {
            let is_here = self.written.contains_key(id) || storage.has(*id) || seen.contains(id);
            if !is_here {
                if bytes + u64::from(*raw_bytes) > WINDOW_BYTES {
                    break;
                }
                let is_full = runs.len() == MAX_RUNS;
                match runs.last_mut() {
                    Some((first, count)) if *first + *count == place as u32 => *count += 1,
                    _ if is_full => break,
                    _ => runs.push((place as u32, 1)),
                }
                bytes += u64::from(*raw_bytes);
            }
            seen.insert(*id);
            remote.push(!is_here);
            end = place + 1;
        }
        (end, runs, remote)
    }

    /// Gets the next stretch. If a chunk is not where it should be here, it ends early, and the next one asks for it.
    fn get_window(
        &mut self,
        remote: &mut Remote,
        storage: &mut Storage,
        progress: &mut Progress<'_>,
    ) -> Result<(), Refusal> {
        let (end, runs, is_remote) = self.plan(storage);
        let from = self.next;
        let mut stream = None;
        if !runs.is_empty() {
            let body: Vec<u8> = runs
                .iter()
                .flat_map(|(first, count)| [first.to_le_bytes(), count.to_le_bytes()].concat())
                .collect();
            let path = format!("/objects/{}/chunks", self.recipe.oid);
            stream = Some(remote.stream(&path, Payload::Bytes(BINARY, &body))?);
        }
        let mut open = None;
        while self.next < end {
            let (id, raw_bytes) = self.recipe.chunks[self.next];
            if let Some(stream) = stream.as_mut().filter(|_| is_remote[self.next - from]) {
                self.read_frame(stream, id, raw_bytes)?;
            } else if let Some(&offset) = self.written.get(&id) {
                read_at(self.file, offset, raw_bytes, &mut self.raw)
                    .map_err(|error| Refusal::Final(self.failure(&error)))?;
            } else if !storage.read(id, raw_bytes, &mut open, &mut self.raw) {
                return Ok(());
            }
            self.write(id, progress)?;
        }
        Ok(())
    }

    /// The next chunk of a stream, decoded and checked, into `raw`.
    fn read_frame(&mut self, stream: &mut impl Read, id: ChunkId, raw_bytes: u32) -> Result<(), Refusal> {
        let cut = |error: io::Error| {
            let sentence = format!("the connection ended in the middle ({error}); try again, it goes on there");
            Refusal::Passing(Failure::new(503, sentence), None)
        };
        let bad = |what: &str| Refusal::Final(Failure::new(502, format!("chunk {id} came damaged: {what}")));
        let mut head = [0; 9];
        stream.read_exact(&mut head).map_err(cut)?;
        let [codec, s0, s1, s2, s3, r0, r1, r2, r3] = head;
        let stored_bytes = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        if u32::from_le_bytes([r0, r1, r2, r3]) != raw_bytes || stored_bytes > MAX_RAW_BYTES {
            return Err(bad("it has another length"));
        }
        self.payload.resize(stored_bytes, 0);
        stream.read_exact(&mut self.payload).map_err(cut)?;
        let codec = Codec::from_tag(codec).map_err(|error| bad(&error.to_string()))?;
        self.decoder
            .decode(codec, &self.payload, raw_bytes as usize, &mut self.raw)
            .map_err(|error| bad(&error.to_string()))?;
        if ChunkId::of(&self.raw) == id {
            Ok(())
        } else {
            Err(bad("its bytes are others"))
        }
    }
}
