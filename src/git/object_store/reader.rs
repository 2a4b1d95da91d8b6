//! Decoding objects.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use gix::hash::{ObjectId, oid};
use gix_pack::cache::lru::MemoryCappedHashmap;
use gix_pack::data;
use gix_pack::data::decode::entry::ResolvedBase;

use crate::git::commit_graph::CommitGraph;

use super::{CommitInfo, Object, ObjectKind, ObjectStore, Pos, ReadError, StoreError};

/// Longest header of a loose object: kind, size and the byte that ends it.
const MAX_LOOSE_HEADER_BYTES: u64 = 32;

/// Decodes objects of an [`ObjectStore`]; not shared between threads.
pub struct Reader<'s> {
    store: &'s ObjectStore,
    inflate: gix_zlib::Inflate,
    cache: MemoryCappedHashmap,
    loose: Vec<gix::odb::loose::Store>,
    scratch: Vec<u8>,
    graph: Option<Arc<CommitGraph>>,
    /// See [`Reader::moved`].
    moved: Option<Arc<ObjectStore>>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(store: &'s ObjectStore, cache_bytes: usize) -> Self {
        let options = gix::odb::loose::Options {
            alloc_limit_bytes: Some(store.max_object_bytes),
            ..Default::default()
        };
        Self {
            store,
            inflate: gix_zlib::Inflate::default(),
            cache: MemoryCappedHashmap::new(cache_bytes.max(1 << 20)),
            loose: store
                .folders
                .iter()
                .map(|folder| gix::odb::loose::Store::at_opts(folder.clone(), store.hash, options))
                .collect(),
            scratch: Vec::new(),
            graph: store.graph(),
            moved: None,
        }
    }

    /// Reads every commit from its object, never from a commit-graph.
    #[must_use]
    pub fn without_graph(mut self) -> Self {
        self.graph = None;
        self
    }

    /// The store it reads.
    pub fn store(&self) -> &'s ObjectStore {
        self.store
    }

    /// The object with this id, decoded into `buffer`; `None` if it is absent.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged, or larger than the store's limit.
    pub fn read<'a>(&mut self, id: &oid, buffer: &'a mut Vec<u8>) -> Result<Option<Object<'a>>, StoreError> {
        match self.store.position(id) {
            Some(position) => self.read_at(position, buffer).map(Some),
            None => Ok(None),
        }
    }

    /// The object at a position, decoded into `buffer`.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged, or larger than the store's limit.
    pub fn read_at<'a>(&mut self, position: Pos, buffer: &'a mut Vec<u8>) -> Result<Object<'a>, StoreError> {
        match self.store.locate(position) {
            Some((number, order)) => self.read_packed(number, order, buffer),
            None => self.read_loose(position, buffer),
        }
    }

    /// Opens the content of a loose object for reading as a stream; `None` if it is packed.
    pub(in crate::git) fn open_loose(
        &mut self,
        position: Pos,
    ) -> Result<Option<(ObjectKind, u64, impl Read + use<>)>, StoreError> {
        if self.store.locate(position).is_some() {
            return Ok(None);
        }
        let id = self.store.id(position).to_string();
        for folder in &self.store.folders {
            let path = folder.join(&id[..2]).join(&id[2..]);
            let Ok(file) = fs::File::open(&path) else { continue };
            let (kind, size) = self.header_at(position)?;
            let mut content = BufReader::new(flate2::read::ZlibDecoder::new(file));
            let mut header = Vec::new();
            content
                .by_ref()
                .take(MAX_LOOSE_HEADER_BYTES)
                .read_until(0, &mut header)
                .map_err(|source| StoreError::Io { path, source })?;
            return Ok(Some((kind, size, content.take(size))));
        }
        Ok(None)
    }

    /// The object of one entry of one pack.
    pub(in crate::git) fn read_packed<'a>(
        &mut self,
        number: usize,
        order: u32,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Object<'a>, StoreError> {
        let pack = &self.store.packs[number];
        let damaged = |detail: &dyn ToString| StoreError::damaged(pack.path.display(), detail.to_string());
        let entry = pack
            .data
            .entry(pack.offsets[order as usize])
            .map_err(|error| damaged(&error))?;
        if entry.decompressed_size > self.store.max_object_bytes as u64 {
            return Err(damaged(&format!(
                "an object of {} bytes is larger than may be held in memory",
                entry.decompressed_size
            )));
        }
        let store = self.store;
        let resolve = |base: &oid, out: &mut Vec<u8>| resolve_base(store, number, base, out);
        buffer.clear();
        let mut cache = PackCache {
            inner: &mut self.cache,
            pack: number as u32,
        };
        let kind = match pack
            .data
            .decode_entry(entry, buffer, &mut self.inflate, &resolve, &mut cache)
        {
            Ok(outcome) => outcome.kind.into(),
            // It may have needed too much memory at once.
            Err(_) => self.read_large(number, order, buffer)?,
        };
        Ok(Object {
            kind,
            // Not `outcome.object_size`: for a delta that comes from the cache itself that is the
            // length of the delta. The buffer holds the object and nothing else.
            data: buffer,
        })
    }

    /// The object of a packed entry that could not be decoded in one go, decoded in little more memory
    /// than it takes itself.
    fn read_large(&mut self, number: usize, order: u32, buffer: &mut Vec<u8>) -> Result<ObjectKind, StoreError> {
        let position = Pos(self.store.pack_start(number) + order);
        let (kind, content) = match self.streamed(position, &mut || Ok(())) {
            Ok(found) => found,
            Err(ReadError::Store(error)) => return Err(error),
            Err(ReadError::Stopped(_)) => return Err(StoreError::damaged(self.store.id(position), "it was not read")),
        };
        let id = || self.store.id(position);
        if content.len_bytes() > self.store.max_object_bytes as u64 {
            let detail = format!(
                "an object of {} bytes is larger than may be held in memory",
                content.len_bytes()
            );
            return Err(StoreError::damaged(id(), detail));
        }
        buffer.clear();
        let read = content.each_piece(&mut |piece| {
            buffer.extend_from_slice(piece);
            Ok(())
        });
        read.map_err(|error| StoreError::damaged(id(), error))?;
        Ok(kind)
    }

    fn read_loose<'a>(&mut self, position: Pos, buffer: &'a mut Vec<u8>) -> Result<Object<'a>, StoreError> {
        let id = self.store.id(position);
        let mut kind = None;
        for store in &self.loose {
            match store.try_find(&id, buffer) {
                Ok(Some(found)) => {
                    kind = Some((ObjectKind::from(found.kind), found.data.len()));
                    break;
                }
                Ok(None) => {}
                Err(error) => return Err(StoreError::damaged(id, error)),
            }
        }
        let (kind, len) = match kind {
            Some(found) => found,
            None => {
                let moved = self.moved()?;
                let packed = moved.position(&id).and_then(|position| moved.locate(position));
                let (number, order) = packed.ok_or_else(|| StoreError::damaged(id, "it vanished while it was read"))?;
                let mut reader = moved.reader(0);
                let object = reader.read_packed(number, order, buffer)?;
                (object.kind, object.data.len())
            }
        };
        Ok(Object {
            kind,
            data: &buffer[..len],
        })
    }

    /// The store as it is on disk now. Stock git may pack a loose object between the moment it was
    /// listed and the moment it is read; then it is in a pack that this store does not know.
    pub(super) fn moved(&mut self) -> Result<Arc<ObjectStore>, StoreError> {
        if let Some(store) = &self.moved {
            return Ok(store.clone());
        }
        let store = Arc::new(ObjectStore::open(
            &self.store.folders[0],
            self.store.hash,
            &self.store.folders[1..],
            Some(self.store),
            self.store.max_object_bytes,
        )?);
        self.moved = Some(store.clone());
        Ok(store)
    }

    /// Kind and size in bytes of an object, without decoding all of it; `None` if it is absent.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged.
    pub fn header(&mut self, id: &oid) -> Result<Option<(ObjectKind, u64)>, StoreError> {
        match self.store.position(id) {
            Some(position) => self.header_at(position).map(Some),
            None => Ok(None),
        }
    }

    /// Kind and size in bytes of the object at a position.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged.
    pub fn header_at(&mut self, position: Pos) -> Result<(ObjectKind, u64), StoreError> {
        let Some((number, order)) = self.store.locate(position) else {
            let id = self.store.id(position);
            for store in &self.loose {
                if let Some((size, kind)) = store.try_header(&id).map_err(|error| StoreError::damaged(id, error))? {
                    return Ok((kind.into(), size));
                }
            }
            let moved = self.moved()?;
            return match moved.position(&id).filter(|position| moved.locate(*position).is_some()) {
                Some(position) => moved.reader(0).header_at(position),
                None => Err(StoreError::damaged(id, "it vanished while it was read")),
            };
        };
        let pack = &self.store.packs[number];
        let damaged = |error: gix::error::Error| StoreError::damaged(pack.path.display(), error);
        let entry = pack.data.entry(pack.offsets[order as usize]).map_err(damaged)?;
        let store = self.store;
        let outcome = pack
            .data
            .decode_header(entry, &mut self.inflate, &|base| resolve_header(store, number, base))
            .map_err(damaged)?;
        Ok((outcome.kind.into(), outcome.object_size))
    }

    /// What walks need of a commit; `None` if there is no such object or it is no commit.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged.
    pub fn commit(&mut self, id: &oid) -> Result<Option<CommitInfo>, StoreError> {
        match self.store.position(id) {
            Some(position) => self.commit_at(position),
            None => Ok(None),
        }
    }

    /// What walks need of the commit at a position; `None` if it is no commit.
    ///
    /// # Errors
    /// [`StoreError`] if it is damaged.
    pub fn commit_at(&mut self, position: Pos) -> Result<Option<CommitInfo>, StoreError> {
        if let Some(known) = self
            .graph
            .as_ref()
            .and_then(|graph| graph.info(&self.store.id(position)))
        {
            return Ok(Some(known));
        }
        let mut buffer = std::mem::take(&mut self.scratch);
        let result = self
            .read_at(position, &mut buffer)
            .and_then(|object| match object.kind {
                ObjectKind::Commit => parse_commit(object.data)
                    .map(Some)
                    .ok_or_else(|| StoreError::damaged(self.store.id(position), "it is not a well-formed commit")),
                _ => Ok(None),
            });
        self.scratch = buffer;
        result
    }

    /// The topological level of a commit, which is higher than those of all its ancestors; `None`
    /// where no commit-graph tells.
    pub(in crate::git) fn level_at(&self, position: Pos) -> Option<u32> {
        self.graph.as_ref()?.level(&self.store.id(position))
    }

    /// Follows annotated tags to what they name in the end; `None` if anything on the way is absent.
    ///
    /// # Errors
    /// [`StoreError`] if an object is damaged.
    pub fn peel(&mut self, id: &oid) -> Result<Option<(ObjectId, ObjectKind)>, StoreError> {
        let mut id = id.to_owned();
        let mut buffer = std::mem::take(&mut self.scratch);
        let result = loop {
            match self.header(&id) {
                Ok(Some((ObjectKind::Tag, _))) => {}
                Ok(Some((kind, _))) => break Ok(Some((id, kind))),
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
            match self.read(&id, &mut buffer) {
                Ok(Some(object)) => match parse_tag_target(object.data) {
                    // Ids are hashes of what they name, so a chain of tags cannot close a circle.
                    Some((target, _)) => id = target,
                    None => break Err(StoreError::damaged(id, "it is not a well-formed tag")),
                },
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.scratch = buffer;
        result
    }
}

/// gix numbers packs by a field only its own store sets; ours go by their number here.
struct PackCache<'c> {
    inner: &'c mut MemoryCappedHashmap,
    pack: u32,
}

impl gix_pack::cache::DecodeEntry for PackCache<'_> {
    fn put(&mut self, _pack: u32, offset: u64, data: &[u8], kind: gix::objs::Kind, compressed_size: usize) {
        self.inner.put(self.pack, offset, data, kind, compressed_size);
    }

    fn get(&mut self, _pack: u32, offset: u64, out: &mut Vec<u8>) -> Option<(gix::objs::Kind, usize)> {
        self.inner.get(self.pack, offset, out)
    }
}

fn resolve_base(
    store: &ObjectStore,
    number: usize,
    base: &oid,
    out: &mut Vec<u8>,
) -> Result<Option<ResolvedBase>, gix::error::Error> {
    let pack = &store.packs[number];
    if let Some(order) = pack.order_of_id(base) {
        let entry = pack.data.entry(pack.offsets[order as usize])?;
        return Ok(Some(ResolvedBase::InPack(entry)));
    }
    // A stored pack with a base elsewhere is not git's way, but it is readable.
    let mut reader = store.reader(0);
    match reader.read(base, out) {
        Ok(Some(object)) => {
            let (kind, end) = (object.kind.into(), object.data.len());
            Ok(Some(ResolvedBase::OutOfPack { kind, end }))
        }
        Ok(None) | Err(_) => Ok(None),
    }
}

fn resolve_header(
    store: &ObjectStore,
    number: usize,
    base: &oid,
) -> Result<Option<data::decode::header::ResolvedBase>, gix::error::Error> {
    let pack = &store.packs[number];
    if let Some(order) = pack.order_of_id(base) {
        let entry = pack.data.entry(pack.offsets[order as usize])?;
        return Ok(Some(data::decode::header::ResolvedBase::InPack(entry)));
    }
    match store.reader(0).header(base) {
        Ok(Some((kind, _))) => Ok(Some(data::decode::header::ResolvedBase::OutOfPack {
            kind: kind.into(),
            num_deltas: None,
        })),
        Ok(None) | Err(_) => Ok(None),
    }
}

/// Reads tree, parents and committer time of a commit (gitformat: commit objects).
pub(in crate::git) fn parse_commit(data: &[u8]) -> Option<CommitInfo> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let tree = ObjectId::from_hex(lines.next()?.strip_prefix(b"tree ")?).ok()?;
    let mut parents = Vec::new();
    let mut committed_at_secs = 0;
    for line in lines {
        if let Some(parent) = line.strip_prefix(b"parent ") {
            parents.push(ObjectId::from_hex(parent).ok()?);
        } else if let Some(committer) = line.strip_prefix(b"committer ") {
            // Old history has broken dates; git reads them as 0, and so do we.
            let after_mail = committer.rsplit(|byte| *byte == b'>').next().unwrap_or_default();
            committed_at_secs = std::str::from_utf8(after_mail)
                .ok()
                .and_then(|text| text.split_ascii_whitespace().next())
                .and_then(|secs| secs.parse().ok())
                .unwrap_or(0);
            break;
        } else if line.is_empty() {
            break;
        }
    }
    Some(CommitInfo {
        tree,
        parents,
        committed_at_secs,
    })
}

/// Reads what an annotated tag names (gitformat: tag objects).
pub(in crate::git) fn parse_tag_target(data: &[u8]) -> Option<(ObjectId, ObjectKind)> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = ObjectId::from_hex(lines.next()?.strip_prefix(b"object ")?).ok()?;
    let kind = match lines.next()?.strip_prefix(b"type ")? {
        b"commit" => ObjectKind::Commit,
        b"tree" => ObjectKind::Tree,
        b"blob" => ObjectKind::Blob,
        b"tag" => ObjectKind::Tag,
        _ => return None,
    };
    Some((target, kind))
}
