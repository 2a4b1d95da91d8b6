//! First pass: the stream is checked, written down and hashed as it comes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use gix::ObjectId;
use gix::hash::Kind;
use gix::zlib::{Decompress, FlushDecompress, Status};

use super::entry::EntryKind;
use super::{
    BadEntry, Entry, IndexError, IndexLimits, KEPT_ITEM_MAX_BYTES, Kept, OBJECTS_PER_TICK, Received,
    SEEN_BLOB_MAX_BYTES, UNRESOLVED, Visitor, object_hasher,
};
use crate::git::checksum::Checksum;
use crate::git::object_store::ObjectKind;
use crate::git::work::Tick;

/// Bytes read from the stream at once.
const INPUT_BUFFER_BYTES: usize = 256 << 10;

/// Inflated bytes held at once of an object that streams by.
const INFLATE_BUFFER_BYTES: usize = 64 << 10;

/// Inflated pieces between two calls of the tick, over all objects.
const PIECES_PER_TICK: u32 = 64;

/// Room made for an object before any of it came, in bytes: what a header states is not believed.
const FIRST_ROOM_BYTES: usize = 1 << 20;

/// Name of the pack while it arrives.
pub(super) const ARRIVING: &str = "tmp_pack_arriving";

/// Magic, version and count.
const HEADER_BYTES: usize = 12;

/// Takes in the whole stream. `None` is a pack without objects.
pub(super) fn receive<V: Visitor>(
    input: &mut dyn Read,
    folder: &Path,
    hash: Kind,
    limits: &IndexLimits,
    visitor: &mut V,
    tick: Tick<'_>,
) -> Result<Option<Received>, IndexError> {
    let path = folder.join(ARRIVING);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(IndexError::Write)?;
    let mut stream = Stream::new(input, &file, hash, limits.max_pack_bytes);
    let count = read_header(&mut stream, limits)?;
    let mut pass = FirstPass {
        stream,
        hash,
        limits,
        inflate: Decompress::new(),
        chunk: vec![0; INFLATE_BUFFER_BYTES],
        whole: Vec::new(),
        entries: Vec::new(),
        ofs_deltas: Vec::new(),
        ref_deltas: Vec::new(),
        kept: Kept::new(limits.delta_cache_bytes / 2),
        pieces: 0,
        inflated_bytes: 0,
    };
    for n in 0..count {
        if n % OBJECTS_PER_TICK == 0 {
            tick()?;
        }
        pass.entry(visitor, tick)?;
    }
    let FirstPass {
        stream,
        entries,
        ofs_deltas,
        ref_deltas,
        kept,
        inflated_bytes,
        ..
    } = pass;
    let end = stream.position;
    let checksum = stream.finish()?;
    if count == 0 {
        std::fs::remove_file(&path).map_err(IndexError::Write)?;
        return Ok(None);
    }
    Ok(Some(Received {
        file,
        path,
        entries,
        ofs_deltas,
        ref_deltas,
        kept,
        inflated_bytes,
        end,
        checksum,
    }))
}

/// Reads magic, version and count; the count is only compared, never made room for.
fn read_header(stream: &mut Stream<'_>, limits: &IndexLimits) -> Result<u32, IndexError> {
    let header = stream.fill(HEADER_BYTES)?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (magic, version, count) = (word(0), word(4), word(8));
    if magic != u32::from_be_bytes(*b"PACK") {
        return Err(IndexError::Signature);
    }
    if version != 2 {
        return Err(IndexError::Version(version));
    }
    if count > limits.max_objects {
        return Err(IndexError::TooManyObjects {
            stated: count,
            limit: limits.max_objects,
        });
    }
    stream.consume(HEADER_BYTES)?;
    Ok(count)
}

/// What becomes of the inflated data of one entry.
enum Sink {
    /// A delta: looked at in the second pass.
    Delta,
    /// Hashed as it streams by.
    Blob,
    /// Held whole for the visitor.
    Visited(ObjectKind),
}

struct FirstPass<'a> {
    stream: Stream<'a>,
    hash: Kind,
    limits: &'a IndexLimits,
    inflate: Decompress,
    chunk: Vec<u8>,
    whole: Vec<u8>,
    entries: Vec<Entry>,
    ofs_deltas: Vec<(u32, u32)>,
    ref_deltas: Vec<(ObjectId, u32)>,
    kept: Kept,
    /// Pieces inflated since the last tick.
    pieces: u32,
    /// Inflated size of all entries so far, in bytes.
    inflated_bytes: u64,
}

impl FirstPass<'_> {
    /// Takes in one entry: head, base, compressed data.
    fn entry<V: Visitor>(&mut self, visitor: &mut V, tick: Tick<'_>) -> Result<(), IndexError> {
        let offset = self.stream.position;
        let bad = |what| IndexError::BadEntry { offset, what };
        self.stream.start_entry();
        let (type_bits, size) = self.read_type_and_size(offset)?;
        let kind = EntryKind::from_bits(type_bits).ok_or_else(|| bad(BadEntry::UnknownType(type_bits)))?;
        if size > self.limits.max_object_bytes {
            return Err(IndexError::ObjectTooLarge {
                size_bytes: size,
                limit_bytes: self.limits.max_object_bytes,
            });
        }
        self.inflated_bytes = self.inflated_bytes.saturating_add(size);
        self.limits.check_inflated(self.inflated_bytes)?;
        let index = self.entries.len() as u32;
        let sink = match kind {
            EntryKind::OfsDelta => {
                let base = self.read_base_offset(offset)?;
                self.ofs_deltas.push((base, index));
                Sink::Delta
            }
            EntryKind::RefDelta => {
                let len = self.hash.len_in_bytes();
                let base = ObjectId::from_bytes_or_panic(&self.stream.fill(len)?[..len]);
                self.stream.consume(len)?;
                self.ref_deltas.push((base, index));
                Sink::Delta
            }
            EntryKind::Whole(ObjectKind::Blob) => Sink::Blob,
            EntryKind::Whole(kind) => Sink::Visited(kind),
        };
        if matches!(sink, Sink::Delta) {
            self.limits.check_delta_object(size)?;
        }
        if matches!(sink, Sink::Visited(_)) && size > self.limits.max_in_memory_bytes {
            return Err(IndexError::TooLargeForMemory {
                size_bytes: size,
                limit_bytes: self.limits.max_in_memory_bytes,
            });
        }
        let head_len = (self.stream.position - offset) as u8;
        let (id, kept) = self.body(offset, size, &sink, visitor, tick)?;
        let (kind, is_delta) = match sink {
            Sink::Delta => (UNRESOLVED, true),
            Sink::Blob => (Some(ObjectKind::Blob), false),
            Sink::Visited(kind) => (Some(kind), false),
        };
        let crc32 = self.stream.entry_crc32();
        self.entries.push(Entry {
            offset,
            size,
            id,
            crc32,
            kept,
            head_len,
            kind,
            is_delta,
        });
        Ok(())
    }

    /// Type bits and stated size at the start of an entry.
    fn read_type_and_size(&mut self, offset: u64) -> Result<(u8, u64), IndexError> {
        let first = self.stream.byte()?;
        let mut size = u64::from(first & 0x0f);
        let mut shift = 4u32;
        let mut byte = first;
        while byte & 0x80 != 0 {
            byte = self.stream.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift >= 64 || (bits << shift) >> shift != bits {
                return Err(IndexError::BadEntry {
                    offset,
                    what: BadEntry::SizeOverflow,
                });
            }
            size |= bits << shift;
            shift += 7;
        }
        Ok(((first >> 4) & 7, size))
    }

    /// The base of an ofs-delta, as a position in `entries`. It must be the start of an earlier entry.
    fn read_base_offset(&mut self, offset: u64) -> Result<u32, IndexError> {
        let bad = |what| IndexError::BadEntry { offset, what };
        let mut byte = self.stream.byte()?;
        let mut distance = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.stream.byte()?;
            if distance >= 1 << 56 {
                return Err(bad(BadEntry::BaseOutOfBounds));
            }
            distance = ((distance + 1) << 7) | u64::from(byte & 0x7f);
        }
        let base = offset
            .checked_sub(distance)
            .filter(|&base| base < offset && base >= HEADER_BYTES as u64);
        let base = base.ok_or_else(|| bad(BadEntry::BaseOutOfBounds))?;
        // Most bases are near: the steps back double until one is passed.
        let entries = &self.entries;
        let (mut end, mut step) = (entries.len(), 1);
        let start = loop {
            let start = end.saturating_sub(step);
            if start == 0 || entries[start].offset <= base {
                break start;
            }
            (end, step) = (start, step * 2);
        };
        match entries[start..end].binary_search_by_key(&base, |entry| entry.offset) {
            Ok(index) => Ok((start + index) as u32),
            Err(_) => Err(bad(BadEntry::BaseNotAnEntry)),
        }
    }

    /// Inflates the data of one entry; of one with more than its head states no more than fits the buffer.
    fn body<V: Visitor>(
        &mut self,
        offset: u64,
        size: u64,
        sink: &Sink,
        visitor: &mut V,
        tick: Tick<'_>,
    ) -> Result<(ObjectId, Option<super::KeptAt>), IndexError> {
        let bad = |what| IndexError::BadEntry { offset, what };
        let mut hasher = match sink {
            Sink::Delta => None,
            Sink::Blob => Some(object_hasher(self.hash, ObjectKind::Blob, size)),
            Sink::Visited(kind) => Some(object_hasher(self.hash, *kind, size)),
        };
        let hold = matches!(sink, Sink::Visited(_)) && size >= INFLATE_BUFFER_BYTES as u64;
        self.whole.clear();
        if hold {
            self.whole.reserve((size as usize).min(FIRST_ROOM_BYTES));
        }
        self.inflate.reset();
        let mut total = 0u64;
        let mut in_chunk = 0usize;
        loop {
            // What fits one buffer stays in it; of what is larger only the last piece does.
            if in_chunk == self.chunk.len() || (total > 0 && size >= INFLATE_BUFFER_BYTES as u64) {
                in_chunk = 0;
            }
            // All the room there is, though no more than the size is wanted: near the end of its output
            // zlib takes a slow path.
            let room = self.chunk.len() - in_chunk;
            let input = self.stream.fill(1)?;
            let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, &mut self.chunk[in_chunk..in_chunk + room], FlushDecompress::None)
                .map_err(|_| bad(BadEntry::Inflate))?;
            let used = (self.inflate.total_in() - in_before) as usize;
            let made = (self.inflate.total_out() - out_before) as usize;
            self.stream.consume(used)?;
            total += made as u64;
            if total > size {
                return Err(bad(BadEntry::LargerThanStated { stated: size }));
            }
            let piece = &self.chunk[in_chunk..in_chunk + made];
            if let Some(hasher) = &mut hasher {
                hasher.update(piece);
            }
            if hold {
                self.whole.extend_from_slice(piece);
            }
            in_chunk += made;
            if status == Status::StreamEnd {
                break;
            }
            if used == 0 && made == 0 {
                return Err(bad(BadEntry::Inflate));
            }
            self.pieces += 1;
            if self.pieces >= PIECES_PER_TICK {
                self.pieces = 0;
                tick()?;
            }
        }
        if total != size {
            return Err(bad(BadEntry::SmallerThanStated {
                stated: size,
                found: total,
            }));
        }
        let whole = if hold { &self.whole[..] } else { &self.chunk[..in_chunk] };
        let id = match hasher {
            None => ObjectId::null(self.hash),
            Some(hasher) => hasher.try_finalize().map_err(|_| bad(BadEntry::Collision))?,
        };
        match sink {
            Sink::Visited(kind) => visitor.visit(&id, *kind, whole),
            Sink::Blob if size <= SEEN_BLOB_MAX_BYTES => visitor.visit_small_blob(&id, whole),
            Sink::Blob | Sink::Delta => {}
        }
        // Only what is still whole in memory and may be needed again; commits are hardly ever bases.
        let wanted = !matches!(sink, Sink::Visited(ObjectKind::Commit | ObjectKind::Tag));
        let kept = if wanted && whole.len() as u64 == size && size <= KEPT_ITEM_MAX_BYTES as u64 {
            self.kept.keep(whole)
        } else {
            None
        };
        Ok((id, kept))
    }
}

/// The stream of a pack: read in large pieces, written to the file and hashed as it is used.
struct Stream<'a> {
    input: &'a mut dyn Read,
    file: &'a File,
    buffer: Vec<u8>,
    /// Used up but not yet written.
    used: usize,
    /// End of what was read.
    filled: usize,
    /// Bytes used of the whole stream.
    position: u64,
    crc32: flate2::Crc,
    hash: Kind,
    checksum: Checksum,
    max_bytes: u64,
}

impl<'a> Stream<'a> {
    fn new(input: &'a mut dyn Read, file: &'a File, hash: Kind, max_bytes: u64) -> Self {
        Self {
            input,
            file,
            buffer: vec![0; INPUT_BUFFER_BYTES],
            used: 0,
            filled: 0,
            position: 0,
            crc32: flate2::Crc::new(),
            hash,
            checksum: Checksum::new(hash),
            max_bytes,
        }
    }

    /// Writes and hashes what was used, and makes room.
    fn flush(&mut self) -> Result<(), IndexError> {
        let used = &self.buffer[..self.used];
        self.checksum.update(used);
        self.file.write_all(used).map_err(IndexError::Write)?;
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        Ok(())
    }

    /// What is there and not used, at least `min` bytes of it.
    fn fill(&mut self, min: usize) -> Result<&[u8], IndexError> {
        if self.filled - self.used < min {
            self.flush()?;
            while self.filled < min {
                let read = self.read_more()?;
                if read == 0 {
                    return Err(IndexError::Truncated);
                }
            }
        }
        Ok(&self.buffer[self.used..self.filled])
    }

    /// One read from the stream; 0 is its end.
    fn read_more(&mut self) -> Result<usize, IndexError> {
        loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(read) => {
                    self.filled += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(IndexError::Truncated);
                }
                Err(error) => return Err(IndexError::Read(error)),
            }
        }
    }

    /// Marks `len` bytes of what [`Stream::fill`] gave as used.
    fn consume(&mut self, len: usize) -> Result<(), IndexError> {
        self.crc32.update(&self.buffer[self.used..self.used + len]);
        self.used += len;
        self.position += len as u64;
        if self.max_bytes > 0 && self.position > self.max_bytes {
            return Err(IndexError::PackTooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, IndexError> {
        let byte = self.fill(1)?[0];
        self.consume(1)?;
        Ok(byte)
    }

    fn start_entry(&mut self) {
        self.crc32.reset();
    }

    fn entry_crc32(&self) -> u32 {
        self.crc32.sum()
    }

    /// Checks the checksum after the last entry and that nothing follows it.
    fn finish(mut self) -> Result<ObjectId, IndexError> {
        let len = self.hash.len_in_bytes();
        self.flush()?;
        let stated = ObjectId::from_bytes_or_panic(&self.fill(len)?[..len]);
        let found = std::mem::replace(&mut self.checksum, Checksum::new(self.hash)).finish();
        if found != stated {
            return Err(IndexError::Checksum);
        }
        if self.filled > len || self.read_more()? > 0 {
            return Err(IndexError::TrailingGarbage);
        }
        self.file.write_all(stated.as_slice()).map_err(IndexError::Write)?;
        Ok(stated)
    }
}
