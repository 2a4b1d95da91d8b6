//! Objects of any size, in little memory: deltas are run from one temporary file into the next.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use flate2::bufread::ZlibDecoder;
use gix_pack::data::entry::Header;

use super::{ObjectKind, ObjectStore, Pos, Reader, StoreError};
use crate::git::spill::{Content, ContentWriter, DeltaStream, IN_MEMORY_BYTES, SpillError};
use crate::git::work::{Stopped, Tick};

/// How often a chain of deltas may go on in another pack.
const MAX_PACKS_IN_CHAIN: u32 = 16;

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Reader<'_> {
    /// Kind and content of the object at a position, whatever its size; large content lies in a file
    /// without a name in the object folder.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn content(&mut self, position: Pos, tick: Tick<'_>) -> Result<(ObjectKind, Content), ReadError> {
        if self.header_at(position)?.1 > IN_MEMORY_BYTES {
            return self.streamed(position, tick);
        }
        let mut buffer = Vec::new();
        let object = self.read_at(position, &mut buffer)?;
        let (kind, len) = (object.kind, object.data.len());
        buffer.truncate(len);
        Ok((kind, Content::Memory(buffer)))
    }

    /// Like [`Reader::content`], without the cache, and never with more than a little in memory.
    pub(super) fn streamed(&mut self, position: Pos, tick: Tick<'_>) -> Result<(ObjectKind, Content), ReadError> {
        self.content_below(position, 0, tick)
    }

    fn content_below(&mut self, position: Pos, packs: u32, tick: Tick<'_>) -> Result<(ObjectKind, Content), ReadError> {
        let store = self.store();
        let Some((number, order)) = store.locate(position) else {
            return self.loose_content(position, tick);
        };
        let mut chain = Vec::new();
        let (kind, mut content) = self.chain_start(number, order, &mut chain, packs, tick)?;
        let failed = |error| failed(store.packs()[number].path(), error);
        while let Some(delta) = chain.pop() {
            let delta = DeltaStream::open(inflated(store, number, delta)?).map_err(failed)?;
            let mut writer = ContentWriter::new(delta.result_size, store.own_folder()).map_err(failed)?;
            delta
                .run(&content, tick, &mut |piece| writer.write(piece))
                .map_err(failed)?;
            content = writer.finish();
        }
        Ok((kind, content))
    }

    /// Follows a chain of deltas to the object that is stored whole. The stretches of the pack that hold
    /// the deltas go to `chain`, the one nearest to the whole object last.
    fn chain_start(
        &mut self,
        number: usize,
        mut order: u32,
        chain: &mut Vec<Range<u64>>,
        packs: u32,
        tick: Tick<'_>,
    ) -> Result<(ObjectKind, Content), ReadError> {
        let store = self.store();
        let pack = &store.packs()[number];
        let damaged = |detail: &str| StoreError::damaged(pack.path().display(), detail);
        loop {
            let offset = pack.offsets[order as usize];
            let entry = pack
                .data
                .entry(offset)
                .map_err(|error| StoreError::damaged(pack.path().display(), error))?;
            let stretch = entry.data_offset..pack.offsets[order as usize + 1];
            let kind = match entry.header {
                Header::Commit => ObjectKind::Commit,
                Header::Tree => ObjectKind::Tree,
                Header::Blob => ObjectKind::Blob,
                Header::Tag => ObjectKind::Tag,
                Header::OfsDelta { base_distance } => {
                    chain.push(stretch);
                    order = offset
                        .checked_sub(base_distance)
                        .and_then(|base| pack.order_at_offset(base))
                        .ok_or_else(|| damaged("a delta names no entry as its base"))?;
                    continue;
                }
                Header::RefDelta { base_id } => {
                    chain.push(stretch);
                    if chain.len() > pack.object_count() as usize || packs > MAX_PACKS_IN_CHAIN {
                        return Err(damaged("its deltas build on each other in a circle").into());
                    }
                    if let Some(base) = pack.order_of_id(&base_id) {
                        order = base;
                        continue;
                    }
                    let base = store
                        .position(&base_id)
                        .ok_or_else(|| damaged("the base of a delta is missing"))?;
                    return self.content_below(base, packs + 1, tick);
                }
            };
            let mut input = inflated(store, number, stretch)?;
            let content = Content::inflated(&mut input, entry.decompressed_size, store.own_folder(), tick)
                .map_err(|error| failed(pack.path(), error))?;
            return Ok((kind, content));
        }
    }

    fn loose_content(&mut self, position: Pos, tick: Tick<'_>) -> Result<(ObjectKind, Content), ReadError> {
        let store = self.store();
        let id = store.id(position);
        if let Some((kind, size, mut content)) = self.open_loose(position)? {
            let content = Content::inflated(&mut content, size, store.own_folder(), tick);
            return match content {
                Ok(content) => Ok((kind, content)),
                Err(error) => Err(failed(Path::new(&id.to_string()), error)),
            };
        }
        let moved = self.moved()?;
        let packed = moved.position(&id).filter(|position| moved.locate(*position).is_some());
        let position = packed.ok_or_else(|| StoreError::damaged(id, "it vanished while it was read"))?;
        moved.reader(0).streamed(position, tick)
    }
}

/// What is stored at a stretch of a pack, as a stream.
fn inflated(store: &ObjectStore, number: usize, stretch: Range<u64>) -> Result<impl Read + use<'_>, StoreError> {
    let pack = &store.packs()[number];
    match pack.data.entry_slice(stretch) {
        Some(bytes) => Ok(ZlibDecoder::new(bytes)),
        None => Err(StoreError::damaged(
            pack.path().display(),
            "it is shorter than when it was opened",
        )),
    }
}

fn failed(what: &Path, error: SpillError) -> ReadError {
    match error {
        SpillError::Stopped(stopped) => stopped.into(),
        SpillError::Disk(source) => StoreError::Io {
            path: what.to_owned(),
            source,
        }
        .into(),
        error => StoreError::damaged(what.display(), error).into(),
    }
}
