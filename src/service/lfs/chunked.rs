//! Downloads of the chunked transfer: the recipe of an object, and those of its chunks that a client lacks, as
//! they lie in the store. The client compares each chunk with its name; nothing is decoded here.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lfs_protocol::ChunkId;
use lfs_protocol::chunked::{self, FrameHead, Run};
use lfs_protocol::codec::{Codec, MAX_RAW_BYTES};
use lfs_protocol::recipe::{ENTRY_BYTES, HEAD_BYTES, Head};
use tokio::runtime::Handle;

use super::read::{ASK_CHUNKS, together};
use super::{Inner, LargeFiles, LargeObject, LfsError};
use crate::db::{FramePlace, Hash, RecipePlace};
use crate::git::work::Work;
use crate::service::transfer::spool::Spool;
use crate::service::transfer::{Answer, CallerKey, Coding, Errors, Incoming, Kind, TransferError};
use crate::storage::Key;

/// What is read of a recipe at once, in bytes.
const RECIPE_READ_BYTES: u64 = 1 << 20;
/// Entries of a recipe that are read at once.
const ENTRIES_READ: u32 = 4096;

impl LargeFiles {
    /// The recipe of an object, with its length in bytes.
    ///
    /// # Errors
    /// [`TransferError`] while nothing has been sent; later ones break the answer off.
    pub async fn recipe(&self, caller: CallerKey, object: LargeObject) -> Result<(Answer, u64), TransferError> {
        let admitted = self.inner.transfer.admit(caller)?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let len_bytes = StoredRecipe::len_bytes(&object);
        let work = move |tools: crate::service::transfer::Tools<'_>| {
            StoredRecipe::open(&inner, &handle, &object)?.send(tools.output, tools.work)
        };
        let transfer = &self.inner.transfer;
        let answer = transfer.run(Kind::LargeFile, Errors::BreakOff, admitted, None, work);
        Ok((answer.await?, len_bytes))
    }

    /// Those chunks of an object that the request names by their places in the recipe.
    ///
    /// # Errors
    /// [`LfsError::BadRequest`] for runs that make no sense; [`TransferError`] while nothing has been sent; later
    /// ones break the answer off.
    pub async fn chunks(
        &self,
        caller: CallerKey,
        object: LargeObject,
        incoming: Incoming,
    ) -> Result<Answer, TransferError> {
        let transfer = &self.inner.transfer;
        let admitted = transfer.admit(caller)?;
        let body = read_plain(self, incoming, (chunked::MAX_RUNS * Run::BYTES) as u64, "").await?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let work = move |tools: crate::service::transfer::Tools<'_>| {
            let mut recipe = StoredRecipe::open(&inner, &handle, &object)?;
            let runs = chunked::parse_runs(&body, recipe.head.count);
            let runs = runs.map_err(|error| LfsError::BadRequest(format!("The request is wrong: {error}.")))?;
            for run in runs {
                recipe.send_run(run, tools.output, tools.work)?;
            }
            Ok(())
        };
        transfer
            .run(Kind::LargeFile, Errors::BreakOff, admitted, None, work)
            .await
    }
}

/// A short body that is not compressed, whole.
pub(super) async fn read_plain(
    files: &LargeFiles,
    incoming: Incoming,
    max_bytes: u64,
    setting: &'static str,
) -> Result<Vec<u8>, TransferError> {
    if incoming.coding != Coding::Plain {
        return Err(LfsError::BadRequest("Bodies of the chunked transfer are not compressed once more.".into()).into());
    }
    let transfer = &files.inner.transfer;
    let spool = Spool::read(incoming.body, transfer.tmp_dir(), max_bytes, transfer.silence()).await;
    let spool = spool.map_err(|error| match error {
        TransferError::TooLarge { max_bytes } => LfsError::TooLong { max_bytes, setting }.into(),
        error => error,
    })?;
    let read = tokio::task::spawn_blocking(move || {
        let mut spool = spool;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut spool, &mut bytes).map(|_| bytes)
    });
    let read = read.await.map_err(|_| TransferError::Crashed)?;
    read.map_err(TransferError::Spool)
}

/// A recipe where it lies: only what is wanted of it is read.
struct StoredRecipe<'i> {
    inner: &'i Inner,
    handle: &'i Handle,
    object: &'i LargeObject,
    head: Head,
    /// Entries that were read last, and the number of the first one.
    window: (u32, Bytes),
}

impl<'i> StoredRecipe<'i> {
    fn len_bytes(object: &LargeObject) -> u64 {
        match &object.row.recipe {
            RecipePlace::Here(bytes) => bytes.len() as u64,
            RecipePlace::InPack(place) => u64::from(place.stored_bytes),
        }
    }

    fn open(inner: &'i Inner, handle: &'i Handle, object: &'i LargeObject) -> Result<Self, LfsError> {
        let damaged = |what: String| LfsError::Damaged { oid: object.oid, what };
        if let RecipePlace::InPack(place) = &object.row.recipe
            && place.codec != Codec::Raw.tag()
        {
            return Err(damaged("its recipe is stored in a way that is not known".into()));
        }
        let len_bytes = Self::len_bytes(object);
        let head = read(inner, handle, object, 0..len_bytes.min(HEAD_BYTES as u64))?;
        let head = Head::parse(&head).map_err(|error| damaged(format!("its recipe: {error}")))?;
        let is_its_own = (head.oid, head.size_bytes) == (object.oid, object.size_bytes);
        if !is_its_own || head.recipe_bytes() as u64 != len_bytes {
            return Err(damaged("its recipe makes another object".into()));
        }
        Ok(Self {
            inner,
            handle,
            object,
            head,
            window: (0, Bytes::new()),
        })
    }

    fn damaged(&self, what: impl Into<String>) -> LfsError {
        LfsError::Damaged {
            oid: self.object.oid,
            what: what.into(),
        }
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, LfsError> {
        read(self.inner, self.handle, self.object, range)
    }

    /// Sends all of it.
    fn send(&self, out: &mut dyn Write, work: &Work) -> Result<(), TransferError> {
        let end = Self::len_bytes(self.object);
        let mut at = 0;
        while at < end {
            check(work)?;
            let next = end.min(at + RECIPE_READ_BYTES);
            out.write_all(&self.read(at..next)?).map_err(TransferError::Answer)?;
            at = next;
        }
        Ok(())
    }

    /// The chunk at a place.
    fn entry(&mut self, number: u32) -> Result<(ChunkId, u32), LfsError> {
        let (first, window) = &self.window;
        let held = (window.len() / ENTRY_BYTES) as u32;
        if number < *first || number - first >= held {
            let end = self.head.count.min(number.saturating_add(ENTRIES_READ));
            let at = |number: u32| HEAD_BYTES as u64 + u64::from(number) * ENTRY_BYTES as u64;
            self.window = (number, self.read(at(number)..at(end))?);
        }
        let (first, window) = &self.window;
        let at = (number - first) as usize * ENTRY_BYTES;
        let entry = window.get(at..at + ENTRY_BYTES).unwrap_or_default();
        let entry = self.head.entry(number as usize, entry);
        entry.map_err(|error| self.damaged(format!("its recipe: {error}")))
    }

    fn send_run(&mut self, run: Run, out: &mut dyn Write, work: &Work) -> Result<(), TransferError> {
        let mut next = u64::from(run.first);
        while next < run.end() {
            check(work)?;
            let end = run.end().min(next + ASK_CHUNKS as u64);
            let some: Result<Vec<_>, LfsError> = (next..end).map(|number| self.entry(number as u32)).collect();
            self.send_some(&some?, out)?;
            next = end;
        }
        Ok(())
    }

    fn send_some(&self, chunks: &[(ChunkId, u32)], out: &mut dyn Write) -> Result<(), TransferError> {
        let hashes: Vec<Hash> = chunks.iter().map(|(id, _)| *id.as_bytes()).collect();
        let places = self.handle.block_on(self.inner.db.chunk_places(&hashes));
        let places = places.map_err(LfsError::from)?;
        let mut wanted = Vec::with_capacity(chunks.len());
        for (id, raw_bytes) in chunks {
            let place = places.get(id.as_bytes());
            let place = place.ok_or_else(|| self.damaged(format!("chunk {id} is missing")))?;
            wanted.push((self.head_of(*id, *raw_bytes, place)?, place));
        }
        let mut rest = wanted.as_slice();
        while let Some((_, first)) = rest.first() {
            let (count, range) = together(rest.iter().map(|(_, place)| *place));
            let key = Key::from_stored(first.key.clone());
            let stored = self.handle.block_on(self.inner.store.read(&key, range.clone()));
            let stored = stored.map_err(LfsError::from)?;
            for (head, place) in &rest[..count] {
                let at = (place.start - range.start) as usize;
                let payload = stored.get(at..at + place.stored_bytes as usize);
                let payload = payload.ok_or_else(|| self.damaged(format!("{} is too short", place.key)))?;
                out.write_all(&head.to_bytes()).map_err(TransferError::Answer)?;
                out.write_all(payload).map_err(TransferError::Answer)?;
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    fn head_of(&self, id: ChunkId, raw_bytes: u32, place: &FramePlace) -> Result<FrameHead, LfsError> {
        let codec = Codec::from_tag(place.codec).map_err(|error| LfsError::damaged(self.object.oid, &error))?;
        if place.raw_bytes != raw_bytes || raw_bytes as usize > MAX_RAW_BYTES {
            return Err(self.damaged(format!("chunk {id} has another length")));
        }
        Ok(FrameHead {
            codec,
            stored_bytes: place.stored_bytes,
            raw_bytes,
        })
    }
}

/// A part of a recipe.
fn read(inner: &Inner, handle: &Handle, object: &LargeObject, range: Range<u64>) -> Result<Bytes, LfsError> {
    match &object.row.recipe {
        RecipePlace::Here(bytes) => {
            let part = bytes.get(range.start as usize..range.end as usize);
            Ok(Bytes::copy_from_slice(part.unwrap_or_default()))
        }
        RecipePlace::InPack(place) => {
            let key = Key::from_stored(place.key.clone());
            let range = place.start + range.start..place.start + range.end;
            Ok(handle.block_on(inner.store.read(&key, range))?)
        }
    }
}

fn check(work: &Work) -> Result<(), TransferError> {
    work.check()
        .map_err(|stopped| TransferError::Answer(std::io::Error::other(stopped)))
}
