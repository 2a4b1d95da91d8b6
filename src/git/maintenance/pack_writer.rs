//! Writes a pack of chosen objects in a chosen order.
//!
//! Stored entries are copied as they are, with their deltas, after their CRC has been compared with
//! the index: damage does not travel into a new pack. A delta is kept only where its base goes into the
//! same pack, before it; else the object is written whole, or as a new delta if one was found.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix_pack::data::entry::Header;

use super::MaintenanceError;
use crate::git::delta::{DeltaIndex, encode};
use crate::git::fault;
use crate::git::index_pack::{WrittenEntry, index_written};
use crate::git::object_store::{ObjectKind, ObjectStore, Pack, Pos, Reader, StoreError};
use crate::git::walk::Bits;
use crate::git::work::{Stopped, Tick};

/// Memory for delta bases of objects that are written whole, in bytes.
const CACHE_BYTES: usize = 32 << 20;
/// Piece copied at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Loose objects larger than this are written as a stream, in bytes.
const STREAM_BYTES: u64 = 8 << 20;
/// Name of the pack until its checksum is known.
const UNFINISHED: &str = "unfinished.pack";
/// Stands for an entry whose base is being written before it. No entry begins within the header.
const IN_PROGRESS: u64 = 1;

/// A delta that was searched for.
#[derive(Debug)]
pub(super) struct NewDelta {
    /// What it is made against; goes into the same pack.
    pub base: Pos,
    /// Its instructions, compressed, and their length before that in bytes; `None` where that would take too
    /// much memory: it is made again when it is written.
    pub made: Option<(Vec<u8>, u64)>,
}

/// A pack that was written, with its indexes; not yet synced.
#[derive(Debug)]
pub(super) struct WrittenPack {
    pub checksum: ObjectId,
    pub objects: u32,
    pub bytes: u64,
    folder: PathBuf,
}

impl WrittenPack {
    /// Its name without an ending, such as `pack-…`.
    pub fn stem(&self) -> String {
        format!("pack-{}", self.checksum)
    }

    /// Where its file with this ending lies.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.stem()))
    }
}

/// Writes the objects in `set` into a pack in `folder`, in this order; `order` names each of them.
///
/// # Errors
/// [`MaintenanceError`]; then files may be left in `folder`.
pub(super) fn write_pack(
    store: &ObjectStore,
    set: &Bits,
    order: impl Iterator<Item = Pos>,
    new_deltas: &HashMap<Pos, NewDelta>,
    folder: &Path,
    tick: Tick<'_>,
) -> Result<WrittenPack, MaintenanceError> {
    let expected = set.count();
    let path = folder.join(UNFINISHED);
    let io = |source| MaintenanceError::Io {
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(io)?;
    let mut writer = Writer {
        store,
        set,
        new_deltas,
        out: BufWriter::with_capacity(PIECE_BYTES, file),
        hash: gix::hash::hasher(store.hash()),
        crc: flate2::Crc::new(),
        at: 0,
        offsets: vec![0; store.len() as usize],
        written: Vec::with_capacity(expected as usize),
        reader: store.reader(CACHE_BYTES),
        buffer: Vec::new(),
    };
    let mut head = *b"PACK\0\0\0\x02\0\0\0\0";
    head[8..].copy_from_slice(&expected.to_be_bytes());
    writer.put(&head)?;
    for position in order {
        tick()?;
        writer.write_with_bases(position, tick)?;
    }
    let found = writer.written.len() as u32;
    if found != expected {
        return Err(MaintenanceError::Incomplete { expected, found });
    }
    let checksum = writer
        .hash
        .try_finalize()
        .map_err(|error| io(io::Error::other(error)))?;
    writer.out.write_all(checksum.as_slice()).map_err(io)?;
    writer.out.flush().map_err(io)?;
    let bytes = writer.at + checksum.as_slice().len() as u64;
    let pack = WrittenPack {
        checksum,
        objects: expected,
        bytes,
        folder: folder.to_owned(),
    };
    index_written(folder, store.hash(), &checksum, &writer.written, tick)?;
    std::fs::rename(&path, pack.file("pack")).map_err(io)?;
    fault::point("maintenance-pack-written");
    Ok(pack)
}

struct Writer<'w> {
    store: &'w ObjectStore,
    set: &'w Bits,
    new_deltas: &'w HashMap<Pos, NewDelta>,
    out: BufWriter<File>,
    hash: gix::hash::Hasher,
    crc: flate2::Crc,
    /// Bytes written.
    at: u64,
    /// Per position where its entry begins; 0 before it is written.
    offsets: Vec<u64>,
    written: Vec<WrittenEntry>,
    reader: Reader<'w>,
    buffer: Vec<u8>,
}

/// How one entry is written.
enum How {
    /// As it is stored: number of the pack and of the entry in it.
    Stored(usize, u32),
    /// A stored delta, with the distance to its base written anew.
    StoredDelta(usize, u32, Pos),
    /// A delta that was searched for.
    NewDelta(Pos),
    /// Decoded and compressed anew.
    Whole,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.hash.update(bytes);
        self.crc.update(bytes);
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(Stopped::Output)
    }

    /// Writes an object after the bases of its chain that are not written yet.
    fn write_with_bases(&mut self, position: Pos, tick: Tick<'_>) -> Result<(), MaintenanceError> {
        let mut stack = vec![position];
        while let Some(&top) = stack.last() {
            if self.offsets[top.0 as usize] > IN_PROGRESS {
                stack.pop();
                continue;
            }
            let mut how = self.decide(top)?;
            if let How::StoredDelta(_, _, base) | How::NewDelta(base) = how {
                match self.offsets[base.0 as usize] {
                    0 => {
                        self.offsets[top.0 as usize] = IN_PROGRESS;
                        stack.push(base);
                        continue;
                    }
                    // Packs that do not stand on their own may form a circle between them.
                    IN_PROGRESS => how = How::Whole,
                    _ => {}
                }
            }
            self.write_one(top, &how, tick)?;
            stack.pop();
        }
        Ok(())
    }

    fn decide(&self, position: Pos) -> Result<How, StoreError> {
        if let Some(delta) = self.new_deltas.get(&position) {
            return Ok(How::NewDelta(delta.base));
        }
        let Some((number, order)) = self.store.locate(position) else {
            return Ok(How::Whole);
        };
        Ok(match stored_base(self.store, position)? {
            StoredBase::NoDelta => How::Stored(number, order),
            StoredBase::At(base) if self.set.has(base) => How::StoredDelta(number, order, base),
            StoredBase::At(_) | StoredBase::Absent => How::Whole,
        })
    }

    fn write_one(&mut self, position: Pos, how: &How, tick: Tick<'_>) -> Result<(), MaintenanceError> {
        let offset = self.at;
        self.crc.reset();
        match how {
            How::Stored(number, order) => {
                let pack = self.store.packs()[*number].clone();
                let start = pack.offsets[*order as usize];
                self.check_crc(&pack, *order, tick)?;
                self.copy(&pack, start, pack.offsets[*order as usize + 1], tick)?;
            }
            How::StoredDelta(number, order, base) => {
                let pack = self.store.packs()[*number].clone();
                self.check_crc(&pack, *order, tick)?;
                let entry = stored_entry(&pack, *order)?;
                self.put_delta_head(*base, offset, entry.decompressed_size)?;
                self.copy(&pack, entry.data_offset, pack.offsets[*order as usize + 1], tick)?;
            }
            How::NewDelta(base) => {
                let (compressed, len) = match &self.new_deltas[&position].made {
                    Some((compressed, len)) => (compressed.clone(), *len),
                    None => self.make_delta(position, *base)?,
                };
                self.put_delta_head(*base, offset, len)?;
                self.put(&compressed)?;
            }
            How::Whole => self.write_whole(position, tick)?,
        }
        self.offsets[position.0 as usize] = offset;
        self.written.push(WrittenEntry {
            id: self.store.id(position),
            offset,
            crc32: self.crc.sum(),
        });
        Ok(())
    }

    fn make_delta(&mut self, position: Pos, base: Pos) -> Result<(Vec<u8>, u64), MaintenanceError> {
        let mut content = Vec::new();
        self.reader.read_at(base, &mut content)?;
        let index = DeltaIndex::new(content);
        let mut target = Vec::new();
        self.reader.read_at(position, &mut target)?;
        let delta = encode(&index, &target, usize::MAX).ok_or_else(|| {
            StoreError::damaged(self.store.id(position), "a delta that was found cannot be made again")
        })?;
        Ok((deflate(&delta).map_err(Stopped::Output)?, delta.len() as u64))
    }

    fn put_delta_head(&mut self, base: Pos, offset: u64, size: u64) -> Result<(), Stopped> {
        let header = Header::OfsDelta {
            base_distance: offset - self.offsets[base.0 as usize],
        };
        self.put_head(&header, size)
    }

    fn put_head(&mut self, header: &Header, size: u64) -> Result<(), Stopped> {
        let mut head = Vec::with_capacity(32);
        header.write_to(size, &mut head).map_err(Stopped::Output)?;
        self.put(&head)
    }

    /// Compares a stored entry with what its index says of it.
    fn check_crc(&self, pack: &Pack, order: u32, tick: Tick<'_>) -> Result<(), MaintenanceError> {
        let Some(stated) = pack.crc32_at_order(order) else {
            return Ok(());
        };
        let mut crc = flate2::Crc::new();
        each_piece(
            pack,
            pack.offsets[order as usize],
            pack.offsets[order as usize + 1],
            |piece| {
                crc.update(piece);
                Ok(tick()?)
            },
        )?;
        if crc.sum() != stated {
            let what = format!("{}: object {}", pack.path().display(), pack.id_at_order(order));
            return Err(StoreError::damaged(what, "its bytes do not match their checksum in the index").into());
        }
        Ok(())
    }

    fn copy(&mut self, pack: &Pack, start: u64, end: u64, tick: Tick<'_>) -> Result<(), MaintenanceError> {
        each_piece(pack, start, end, |piece| {
            self.put(piece)?;
            Ok(tick()?)
        })
    }

    fn write_whole(&mut self, position: Pos, tick: Tick<'_>) -> Result<(), MaintenanceError> {
        if self.reader.header_at(position)?.1 > STREAM_BYTES
            && let Some((kind, size, content)) = self.reader.open_loose(position)?
        {
            return self.write_stream(position, kind, size, content, tick);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let object = self.reader.read_at(position, &mut buffer)?;
        let (kind, compressed) = (object.kind, deflate(object.data).map_err(Stopped::Output)?);
        let len = object.data.len() as u64;
        self.buffer = buffer;
        self.put_head(&whole_header(kind), len)?;
        Ok(self.put(&compressed)?)
    }

    /// Writes a large object without holding it in memory.
    fn write_stream(
        &mut self,
        position: Pos,
        kind: ObjectKind,
        size: u64,
        mut content: impl Read,
        tick: Tick<'_>,
    ) -> Result<(), MaintenanceError> {
        self.put_head(&whole_header(kind), size)?;
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(PIECE_BYTES), Compression::default());
        let mut piece = vec![0; PIECE_BYTES];
        let mut left = size;
        while left > 0 {
            let len = content.read(&mut piece).unwrap_or(0);
            if len == 0 {
                return Err(StoreError::damaged(self.store.id(position), "it ends too early").into());
            }
            left = left.saturating_sub(len as u64);
            encoder.write_all(&piece[..len]).map_err(Stopped::Output)?;
            let ready = std::mem::take(encoder.get_mut());
            self.put(&ready)?;
            tick()?;
        }
        let rest = encoder.finish().map_err(Stopped::Output)?;
        Ok(self.put(&rest)?)
    }
}

/// Compresses as packs hold it.
pub(super) fn deflate(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 2 + 64), Compression::default());
    encoder.write_all(data)?;
    encoder.finish()
}

/// What an object is stored as a delta against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredBase {
    /// It is stored whole.
    NoDelta,
    /// Another object.
    At(Pos),
    /// An object that is not here.
    Absent,
}

/// What the object at a position is stored against.
///
/// # Errors
/// [`StoreError`] if the entry is damaged.
pub(super) fn stored_base(store: &ObjectStore, position: Pos) -> Result<StoredBase, StoreError> {
    let Some((number, order)) = store.locate(position) else {
        return Ok(StoredBase::NoDelta);
    };
    let pack = &store.packs()[number];
    let base = match stored_entry(pack, order)?.header {
        Header::OfsDelta { base_distance } => {
            let base_order = pack.offsets[order as usize]
                .checked_sub(base_distance)
                .and_then(|base| pack.order_at_offset(base))
                .ok_or_else(|| StoreError::damaged(pack.path().display(), "a delta names no entry as its base"))?;
            pack.id_at_order(base_order).to_owned()
        }
        Header::RefDelta { base_id } => base_id,
        _ => return Ok(StoredBase::NoDelta),
    };
    Ok(store.position(&base).map_or(StoredBase::Absent, StoredBase::At))
}

fn stored_entry(pack: &Pack, order: u32) -> Result<gix_pack::data::Entry, StoreError> {
    pack.data
        .entry(pack.offsets[order as usize])
        .map_err(|error| StoreError::damaged(pack.path().display(), error))
}

/// Hands out the bytes of a pack from `start` to `end` in pieces.
fn each_piece(
    pack: &Pack,
    start: u64,
    end: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), MaintenanceError>,
) -> Result<(), MaintenanceError> {
    let mut at = start;
    while at < end {
        let next = end.min(at + PIECE_BYTES as u64);
        let piece = pack
            .data
            .entry_slice(at..next)
            .ok_or_else(|| StoreError::damaged(pack.path().display(), "it is shorter than when it was opened"))?;
        take(piece)?;
        at = next;
    }
    Ok(())
}

fn whole_header(kind: ObjectKind) -> Header {
    match kind {
        ObjectKind::Commit => Header::Commit,
        ObjectKind::Tree => Header::Tree,
        ObjectKind::Blob => Header::Blob,
        ObjectKind::Tag => Header::Tag,
    }
}
