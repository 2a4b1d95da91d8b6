//! An object is put together from its chunks, any part of it. Each chunk is compared with its name before a
//! byte of it goes out.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lfs_protocol::codec::{Codec, Decoder, MAX_RAW_BYTES};
use lfs_protocol::recipe::Recipe;
use lfs_protocol::{ChunkId, Oid};
use tokio::runtime::Handle;

use super::recipes::recipe_of;
use super::{Inner, LargeFiles, LfsError};
use crate::db::{FramePlace, Hash, ObjectRow, SoundRow};
use crate::git::work::Work;
use crate::ids::RepoId;
use crate::service::access::Opened;
use crate::service::transfer::{Answer, CallerKey, Errors, Kind, TransferError};
use crate::storage::Key;

/// Chunks about which the database is asked at once.
pub(super) const ASK_CHUNKS: usize = 256;
/// What is read from the store at once, in bytes, unless one chunk is larger.
const READ_BYTES: u64 = 4 << 20;
/// Frames with at most so much between them are read together, in bytes.
const GAP_BYTES: u64 = 64 << 10;

/// An object that may be read.
#[derive(Clone, Debug)]
pub struct LargeObject {
    /// Its name.
    pub oid: Oid,
    /// Its size, in bytes.
    pub size_bytes: u64,
    pub(super) row: ObjectRow,
}

impl LargeFiles {
    /// An object of a repository that is open for reading.
    ///
    /// # Errors
    /// [`LfsError::NoObject`]
    pub async fn find(&self, repo: &Opened, oid: Oid) -> Result<LargeObject, LfsError> {
        self.inner.check_on()?;
        let row = self.inner.db.linked_object(repo.id, oid.as_bytes()).await?;
        let row = row.ok_or(LfsError::NoObject(oid))?;
        Ok(LargeObject {
            oid,
            size_bytes: row.size_bytes,
            row,
        })
    }

    /// All bytes of an object of a repository, for threads of transfers; `None` if the repository has none of this
    /// name and size.
    pub(in crate::service) fn whole(
        &self,
        handle: &Handle,
        repo: RepoId,
        oid: Oid,
        size_bytes: u64,
        work: &Work,
    ) -> Result<Option<Vec<u8>>, TransferError> {
        let row = handle.block_on(self.inner.db.linked_object(repo, oid.as_bytes()));
        let row = row.map_err(LfsError::from)?;
        let Some(row) = row.filter(|row| row.size_bytes == size_bytes) else {
            return Ok(None);
        };
        let mut reading = Reading::new(&self.inner, handle, oid);
        let recipe = reading.recipe(&row)?;
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        reading.send(&recipe.chunks, 0..size_bytes, &mut bytes, work)?;
        Ok(Some(bytes))
    }

    /// What an object of a repository is as sound, if it is any.
    pub(in crate::service) async fn sound(&self, repo: RepoId, oid: Oid) -> Result<Option<SoundRow>, LfsError> {
        let mut found = self.inner.db.linked_sounds(repo, &[*oid.as_bytes()]).await?;
        Ok(found.remove(oid.as_bytes()))
    }

    /// The bytes of a part of it.
    ///
    /// # Errors
    /// [`TransferError`] while nothing has been sent; later ones break the answer off.
    pub async fn read(
        &self,
        caller: CallerKey,
        object: LargeObject,
        range: Range<u64>,
    ) -> Result<Answer, TransferError> {
        let admitted = self.inner.transfer.admit(caller)?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let work = move |tools: crate::service::transfer::Tools<'_>| {
            let mut reading = Reading::new(&inner, &handle, object.oid);
            let recipe = reading.recipe(&object.row)?;
            reading.send(&recipe.chunks, range, tools.output, tools.work)
        };
        self.inner
            .transfer
            .run(Kind::LargeFile, Errors::BreakOff, admitted, None, work)
            .await
    }
}

/// Puts one object together.
pub(super) struct Reading<'i> {
    inner: &'i Inner,
    handle: &'i Handle,
    oid: Oid,
    decoder: Decoder,
    raw: Vec<u8>,
    /// The recipe comes from a client, and what does not fit is its fault.
    is_claimed: bool,
}

/// A chunk, and what of it is wanted.
struct Piece {
    id: ChunkId,
    part: Range<usize>,
}

impl<'i> Reading<'i> {
    /// Begins with the object of this name.
    pub(super) fn new(inner: &'i Inner, handle: &'i Handle, oid: Oid) -> Self {
        Self {
            inner,
            handle,
            oid,
            decoder: Decoder::default(),
            raw: Vec::new(),
            is_claimed: false,
        }
    }

    /// Begins with an object whose recipe somebody has sent, and whose chunks are read whole.
    pub(super) fn claimed(inner: &'i Inner, handle: &'i Handle, oid: Oid) -> Self {
        Self {
            is_claimed: true,
            ..Self::new(inner, handle, oid)
        }
    }

    fn damaged(&self, what: impl Into<String>) -> LfsError {
        LfsError::Damaged {
            oid: self.oid,
            what: what.into(),
        }
    }

    fn other_length(&self, id: ChunkId) -> LfsError {
        match self.is_claimed {
            true => LfsError::WrongBytes {
                oid: self.oid,
                what: format!("chunk {id} has another length than the recipe says"),
            },
            false => self.damaged(format!("chunk {id} has another length")),
        }
    }

    fn recipe(&mut self, row: &ObjectRow) -> Result<Recipe, LfsError> {
        self.handle.block_on(recipe_of(&self.inner.store, self.oid, row))
    }

    fn fetch(&self, key: &str, range: Range<u64>) -> Result<Bytes, LfsError> {
        let key = Key::from_stored(key.to_owned());
        Ok(self.handle.block_on(self.inner.store.read(&key, range))?)
    }

    /// Writes a part of what some chunks make.
    pub(super) fn send(
        &mut self,
        chunks: &[(ChunkId, u32)],
        range: Range<u64>,
        out: &mut dyn Write,
        work: &Work,
    ) -> Result<(), TransferError> {
        let mut pieces = pieces_of(chunks, range);
        loop {
            let some: Vec<Piece> = pieces.by_ref().take(ASK_CHUNKS).collect();
            if some.is_empty() {
                return Ok(());
            }
            work.check()
                .map_err(|stopped| TransferError::Answer(std::io::Error::other(stopped)))?;
            let hashes: Vec<Hash> = some.iter().map(|piece| *piece.id.as_bytes()).collect();
            let places = self
                .handle
                .block_on(self.inner.db.chunk_places(&hashes))
                .map_err(LfsError::from)?;
            self.send_some(&some, &places, out)?;
        }
    }

    fn send_some(
        &mut self,
        pieces: &[Piece],
        places: &HashMap<Hash, FramePlace>,
        out: &mut dyn Write,
    ) -> Result<(), TransferError> {
        let place_of = |piece: &Piece| places.get(piece.id.as_bytes());
        let mut rest = pieces;
        while let Some(first) = rest.first() {
            let place = place_of(first).ok_or_else(|| self.damaged(format!("chunk {} is missing", first.id)))?;
            let (count, range) = together(rest.iter().map_while(place_of));
            let start = range.start;
            let stored = self.fetch(&place.key, range)?;
            for piece in &rest[..count] {
                let Some(place) = place_of(piece) else { continue };
                let at = (place.start - start) as usize;
                let payload = stored.get(at..at + place.stored_bytes as usize);
                let payload = payload.ok_or_else(|| self.damaged(format!("{} is too short", place.key)))?;
                self.decode(piece.id, place, payload)?;
                let fits = !self.is_claimed || piece.part == (0..self.raw.len());
                let part = self.raw.get(piece.part.clone()).filter(|_| fits);
                let part = part.ok_or_else(|| self.other_length(piece.id))?;
                out.write_all(part).map_err(TransferError::Answer)?;
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Puts the bytes of a chunk into `raw`.
    fn decode(&mut self, id: ChunkId, place: &FramePlace, payload: &[u8]) -> Result<(), LfsError> {
        let raw_bytes = place.raw_bytes as usize;
        let codec = Codec::from_tag(place.codec).map_err(|error| LfsError::damaged(self.oid, &error))?;
        let room = raw_bytes.min(MAX_RAW_BYTES);
        self.raw.reserve(room.saturating_sub(self.raw.capacity()));
        self.decoder
            .decode(codec, payload, raw_bytes, &mut self.raw)
            .map_err(|error| LfsError::damaged(self.oid, &error))?;
        if ChunkId::of(&self.raw) != id {
            return Err(self.damaged(format!("chunk {id} in {} is not what it was", place.key)));
        }
        Ok(())
    }
}

/// How many of these frames, at least one if there is one, are read in one go, and what of their pack.
pub(super) fn together<'p>(mut places: impl Iterator<Item = &'p FramePlace>) -> (usize, Range<u64>) {
    let Some(first) = places.next() else {
        return (0, 0..0);
    };
    let (mut count, mut end) = (1, first.start + u64::from(first.stored_bytes));
    for next in places {
        let next_end = next.start + u64::from(next.stored_bytes);
        let is_near = next.key == first.key && next.start >= end && next.start - end <= GAP_BYTES;
        if !is_near || next_end - first.start > READ_BYTES {
            break;
        }
        (count, end) = (count + 1, next_end);
    }
    (count, first.start..end)
}

/// The chunks of which a part of the whole consists.
fn pieces_of(chunks: &[(ChunkId, u32)], range: Range<u64>) -> impl Iterator<Item = Piece> {
    let mut at = 0_u64;
    chunks.iter().filter_map(move |(id, raw_bytes)| {
        let (start, end) = (at, at + u64::from(*raw_bytes));
        at = end;
        let part = range.start.max(start)..range.end.min(end);
        (part.start < part.end).then(|| Piece {
            id: *id,
            part: (part.start - start) as usize..(part.end - start) as usize,
        })
    })
}
