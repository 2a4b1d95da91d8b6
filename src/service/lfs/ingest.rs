//! An upload is cut, encoded and packed while it streams in.
//!
//! Order of writes: packs, then one transaction with the rows of packs, chunks, object and link. Whatever ends
//! it before that leaves packs that nobody speaks of, and those are removed at once. Bytes that are not what
//! was announced change nothing.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use lfs_protocol::codec::{Codec, Encoder};
use lfs_protocol::pack::{self, PackWriter};
use lfs_protocol::recipe::{self, Recipe};
use lfs_protocol::{Chunk, ChunkId, CutError, Cutter, Oid, PcmFormat};
use tokio::runtime::Handle;

use super::sounds::Listener;
use super::{Inner, LfsError};
use crate::db::{Hash, NewChunk, NewObject, NewPack, NewRecipe, SoundRow};
use crate::git::work::Work;
use crate::ids::RepoId;
use crate::service::transfer::TransferError;
use crate::storage::{StorageError, Store, Writing};

/// What is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;
/// Chunks about which the database is asked at once.
const ASK_CHUNKS: usize = 64;
/// And their length together, in bytes.
const ASK_BYTES: usize = 4 << 20;
/// A recipe up to this length is a row, in bytes.
const SHORT_RECIPE_BYTES: usize = 4 << 10;

/// Takes an object in. Blocks.
pub(super) fn take(
    inner: &Inner,
    handle: &Handle,
    repo: RepoId,
    (oid, size_bytes): (Oid, u64),
    input: &mut dyn Read,
    work: &Work,
) -> Result<(), TransferError> {
    let mut packing = Packing::new(inner, handle);
    let taken = packing.take(oid, size_bytes, input, work);
    let stored = taken.and_then(|recipe| Ok(packing.commit(repo, &recipe)?));
    match stored {
        Ok(unneeded) => {
            remove(&inner.store, handle, unneeded);
            Ok(())
        }
        Err(error) => {
            packing.undo();
            Err(error)
        }
    }
}

/// Removes packs that no row speaks of.
pub(super) fn remove(store: &Store, handle: &Handle, keys: Vec<String>) {
    for key in keys {
        let key = crate::storage::Key::from_stored(key);
        if let Err(error) = handle.block_on(store.remove(&key)) {
            tracing::warn!(%key, error = &error as &dyn std::error::Error, "An object that nobody needs stays behind in the store");
        }
    }
}

/// An object of the store as an output.
struct Sink<'h> {
    writing: Writing,
    handle: &'h Handle,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.handle
            .block_on(self.writing.add(bytes))
            .map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A chunk of which is not known whether it is stored.
struct Waiting {
    id: ChunkId,
    bytes: Vec<u8>,
    pcm: Option<(PcmFormat, u32)>,
}

/// One upload on its way into packs.
pub(super) struct Packing<'i> {
    inner: &'i Inner,
    handle: &'i Handle,
    encoder: Encoder,
    payload: Vec<u8>,
    /// Chunks of which is not known whether they are stored.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// Chunks of this upload that are in its own packs.
    own: HashSet<ChunkId>,
    open: Option<(PackWriter<Sink<'i>>, Vec<NewChunk>)>,
    done: Vec<NewPack>,
    chunks: Vec<(ChunkId, u32)>,
    sound: Option<SoundRow>,
}

impl<'i> Packing<'i> {
    pub(super) fn new(inner: &'i Inner, handle: &'i Handle) -> Self {
        Self {
            inner,
            handle,
            encoder: Encoder::default(),
            payload: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            own: HashSet::new(),
            open: None,
            done: Vec::new(),
            chunks: Vec::new(),
            sound: None,
        }
    }

    /// Reads everything into packs; gives the recipe, if the bytes are what was announced.
    fn take(&mut self, oid: Oid, size_bytes: u64, input: &mut dyn Read, work: &Work) -> Result<Recipe, TransferError> {
        let wrong = |what: String| TransferError::from(LfsError::WrongBytes { oid, what });
        let cut = |error: CutError<LfsError>| match error {
            CutError::Taker(error) => error.into(),
            error => wrong(error.to_string()),
        };
        let (mut cutter, mut listener) = (Cutter::new(size_bytes), Listener::default());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = input.read(&mut buffer).map_err(TransferError::Body)?;
            if count == 0 {
                break;
            }
            work.check()
                .map_err(|stopped| TransferError::Body(io::Error::other(stopped)))?;
            listener.push(&buffer[..count]);
            cutter
                .push(&buffer[..count], &mut |chunk| self.add(chunk))
                .map_err(cut)?;
        }
        let (found, chunking) = cutter.finish(&mut |chunk| self.add(chunk)).map_err(cut)?;
        if found != oid {
            return Err(wrong(format!("the bytes that came are those of {found}")));
        }
        self.ask()?;
        self.sound = listener.finish();
        Ok(Recipe {
            oid,
            size_bytes,
            chunking,
            chunks: std::mem::take(&mut self.chunks),
        })
    }

    fn add(&mut self, chunk: Chunk<'_>) -> Result<(), LfsError> {
        if self.chunks.len() >= recipe::MAX_CHUNKS {
            return Err(LfsError::BadRequest(format!(
                "The file would be cut into more than {} pieces, which this server does not keep.",
                recipe::MAX_CHUNKS
            )));
        }
        self.chunks.push((chunk.id, chunk.bytes.len() as u32));
        if self.own.insert(chunk.id) {
            self.waiting_bytes += chunk.bytes.len();
            self.waiting.push(Waiting {
                id: chunk.id,
                bytes: chunk.bytes.to_vec(),
                pcm: chunk.pcm,
            });
        }
        if self.waiting.len() >= ASK_CHUNKS || self.waiting_bytes >= ASK_BYTES {
            self.ask()?;
        }
        Ok(())
    }

    /// Packs those of the waiting chunks that are not stored.
    fn ask(&mut self) -> Result<(), LfsError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if waiting.is_empty() {
            return Ok(());
        }
        let hashes: Vec<Hash> = waiting.iter().map(|chunk| *chunk.id.as_bytes()).collect();
        let stored = self.handle.block_on(self.inner.db.stored_chunks(&hashes))?;
        for chunk in waiting {
            if !stored.contains(chunk.id.as_bytes()) {
                self.store(&chunk)?;
            }
        }
        Ok(())
    }

    fn store(&mut self, chunk: &Waiting) -> Result<(), LfsError> {
        let codec = self.encoder.encode(&chunk.bytes, chunk.pcm, &mut self.payload);
        let frame = self.frame(*chunk.id.as_bytes(), pack::Kind::Chunk, codec, chunk.bytes.len())?;
        if let Some((_, chunks)) = &mut self.open {
            chunks.push(frame);
        }
        Ok(())
    }

    /// Writes `payload` into a pack, a new one if need be.
    fn frame(&mut self, name: Hash, kind: pack::Kind, codec: Codec, raw_bytes: usize) -> Result<NewChunk, LfsError> {
        if self
            .open
            .as_ref()
            .is_some_and(|(open, _)| open.is_full_for(self.payload.len()))
        {
            self.seal()?;
        }
        let (open, _) = match &mut self.open {
            Some(open) => open,
            none => {
                let sink = Sink {
                    writing: self.handle.block_on(self.inner.store.write())?,
                    handle: self.handle,
                };
                none.insert((PackWriter::new(sink).map_err(store_error)?, Vec::new()))
            }
        };
        let row = open
            .add(name, kind, codec, raw_bytes, &self.payload)
            .map_err(store_error)?;
        Ok(NewChunk {
            chunk: name,
            start: row.offset,
            stored_bytes: row.stored_bytes,
            raw_bytes: row.raw_bytes,
            codec: codec.tag(),
        })
    }

    /// Ends the open pack and brings it into the store.
    fn seal(&mut self) -> Result<(), LfsError> {
        let Some((open, chunks)) = self.open.take() else {
            return Ok(());
        };
        let (sink, sealed) = open.seal().map_err(store_error)?;
        let key = self.handle.block_on(sink.writing.complete())?;
        self.done.push(NewPack {
            key: key.as_str().to_owned(),
            bytes: sealed.bytes,
            sha256: sealed.sha256,
            chunks,
        });
        Ok(())
    }

    /// Writes a chunk that is encoded already.
    pub(super) fn add_encoded(
        &mut self,
        id: ChunkId,
        codec: Codec,
        raw_bytes: usize,
        payload: &[u8],
    ) -> Result<(), LfsError> {
        self.payload.clear();
        self.payload.extend_from_slice(payload);
        let frame = self.frame(*id.as_bytes(), pack::Kind::Chunk, codec, raw_bytes)?;
        if let Some((_, chunks)) = &mut self.open {
            chunks.push(frame);
        }
        Ok(())
    }

    /// Where it puts things.
    pub(super) fn home(&self) -> (&'i Inner, &'i Handle) {
        (self.inner, self.handle)
    }

    /// Notes what the object is as sound.
    pub(super) fn set_sound(&mut self, sound: Option<SoundRow>) {
        self.sound = sound;
    }

    /// Ends what is open and hands over the packs that were written; they are the caller's to undo then.
    pub(super) fn into_packs(mut self) -> Result<Vec<NewPack>, LfsError> {
        match self.seal() {
            Ok(()) => Ok(std::mem::take(&mut self.done)),
            Err(error) => {
                self.undo();
                Err(error)
            }
        }
    }

    /// Makes the object count. Tells which packs nobody needs.
    pub(super) fn commit(&mut self, repo: RepoId, recipe: &Recipe) -> Result<Vec<String>, LfsError> {
        let bytes = recipe.to_bytes();
        let place = if bytes.len() <= SHORT_RECIPE_BYTES {
            NewRecipe::Here(bytes)
        } else {
            // Hashes do not become shorter.
            self.payload = bytes;
            let raw_bytes = self.payload.len();
            let frame = self.frame(*recipe.oid.as_bytes(), pack::Kind::Recipe, Codec::Raw, raw_bytes)?;
            NewRecipe::InPack {
                pack: self.done.len(),
                frame,
            }
        };
        self.seal()?;
        let mut chunks: Vec<Hash> = recipe.chunks.iter().map(|(id, _)| *id.as_bytes()).collect();
        chunks.sort_unstable();
        chunks.dedup();
        let new = NewObject {
            chunks,
            oid: *recipe.oid.as_bytes(),
            size_bytes: recipe.size_bytes,
            packs: self.done.clone(),
            recipe: place,
            sound: self.sound.take(),
        };
        let inserted = self.handle.block_on(self.inner.db.insert_object(repo, new))?;
        inserted.ok_or(LfsError::Gone)
    }

    /// Throws away what was written.
    pub(super) fn undo(&mut self) {
        if let Some((open, _)) = self.open.take() {
            self.handle.block_on(open.into_output().writing.abort());
        }
        let keys = std::mem::take(&mut self.done).into_iter().map(|pack| pack.key);
        remove(&self.inner.store, self.handle, keys.collect());
    }
}

/// What the store said, out of what a writer says.
fn store_error(error: io::Error) -> LfsError {
    match error.downcast::<StorageError>() {
        Ok(error) => error.into(),
        Err(error) => LfsError::BadRequest(format!("The file cannot be stored: {error}.")),
    }
}
