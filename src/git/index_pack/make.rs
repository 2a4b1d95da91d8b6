//! Second pass, one object at a time: reads what an entry holds and runs a delta on its base.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use flate2::read::ZlibDecoder;
use gix::ObjectId;
use gix::hash::Kind;
use gix::zlib::{Decompress, FlushDecompress, Status};

use super::entry::{apply_delta, delta_sizes, each_delta_piece};
use super::resolve::Worker;
use super::{BadEntry, IndexError, SEEN_BLOB_MAX_BYTES, object_hasher, object_id};
use crate::git::object_store::ObjectKind;
use crate::git::spill::{Content, ContentWriter, DeltaStream, IN_MEMORY_BYTES, Section, SpillError};
use crate::git::work::Tick;

/// Results larger than this that nothing builds on are hashed piece by piece, in bytes.
const STREAMED_RESULT_BYTES: u64 = 1 << 20;

/// What is wanted of a delta's result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Its id; its content only where that costs nothing.
    Id,
    /// Id and content.
    Both,
}

/// What a delta made.
pub(super) struct Made {
    pub(super) id: ObjectId,
    pub(super) content: Option<Content>,
}

/// The id of an object of any size; `None` if it is part of a collision attack.
pub(in crate::git) fn content_id(
    hash: Kind,
    kind: ObjectKind,
    content: &Content,
    tick: Tick<'_>,
) -> Result<Option<ObjectId>, SpillError> {
    if let Content::Memory(data) = content {
        return Ok(object_id(hash, kind, data));
    }
    let mut hasher = object_hasher(hash, kind, content.len_bytes());
    content.each_piece(&mut |piece| {
        hasher.update(piece);
        Ok(tick()?)
    })?;
    Ok(hasher.try_finalize().ok())
}

/// What an error means for the entry at `offset`.
pub(super) fn index_error(offset: u64, error: SpillError) -> IndexError {
    let bad = |what| IndexError::BadEntry { offset, what };
    match error {
        SpillError::Delta(error) => bad(error.into()),
        SpillError::Inflate => bad(BadEntry::Inflate),
        SpillError::Disk(error) => IndexError::Write(error),
        SpillError::Stopped(stopped) => stopped.into(),
    }
}

impl<'a> Worker<'a> {
    pub(super) fn at(&self, entry: u32, error: SpillError) -> IndexError {
        index_error(self.shared.received.entries[entry as usize].offset, error)
    }

    /// Runs the delta of the entry `child` on `base`.
    pub(super) fn make(
        &mut self,
        base: &Content,
        child: u32,
        kind: ObjectKind,
        want: Want,
        tick: Tick<'_>,
    ) -> Result<Made, IndexError> {
        let shared = self.shared;
        let entry = &shared.received.entries[child as usize];
        let bad = |what| IndexError::BadEntry {
            offset: entry.offset,
            what,
        };
        let Content::Memory(small_base) = base else {
            return self.make_large(base, self.inflated(child), child, kind, want, tick);
        };
        if entry.size > IN_MEMORY_BYTES {
            return self.make_large(base, self.inflated(child), child, kind, want, tick);
        }
        let mut buffer = std::mem::take(&mut self.delta);
        let delta = self.small_entry(child, &mut buffer)?;
        let size = delta_sizes(delta).map_err(|error| bad(error.into()))?.result;
        self.check_result_size(kind, size)?;
        let made = if kind == ObjectKind::Blob && want == Want::Id && size > STREAMED_RESULT_BYTES {
            shared.count_inflated(size)?;
            let mut hasher = object_hasher(shared.hash, kind, size);
            each_delta_piece(small_base, delta, |piece| hasher.update(piece)).map_err(|error| bad(error.into()))?;
            Made {
                id: hasher.try_finalize().map_err(|_| bad(BadEntry::Collision))?,
                content: None,
            }
        } else if size <= IN_MEMORY_BYTES {
            shared.count_inflated(size)?;
            let mut data = self.spare.pop().unwrap_or_default();
            apply_delta(small_base, delta, &mut data).map_err(|error| bad(error.into()))?;
            Made {
                id: object_id(shared.hash, kind, &data).ok_or_else(|| bad(BadEntry::Collision))?,
                content: Some(Content::Memory(data)),
            }
        } else {
            self.make_large(base, delta, child, kind, want, tick)?
        };
        self.delta = buffer;
        Ok(made)
    }

    /// Runs a delta whose base, instructions or result are large.
    fn make_large(
        &self,
        base: &Content,
        delta: impl Read,
        child: u32,
        kind: ObjectKind,
        want: Want,
        tick: Tick<'_>,
    ) -> Result<Made, IndexError> {
        let shared = self.shared;
        let failed = |error| self.at(child, error);
        let delta = DeltaStream::open(delta).map_err(failed)?;
        let size = delta.result_size;
        self.check_result_size(kind, size)?;
        shared.count_inflated(size)?;
        let mut hasher = object_hasher(shared.hash, kind, size);
        // Visitors see what is no blob whole, and small blobs.
        let is_seen = kind != ObjectKind::Blob || size <= SEEN_BLOB_MAX_BYTES;
        let room = if is_seen { size as usize } else { 0 };
        let mut whole = Vec::with_capacity(room);
        let mut writer = match (kind, want) {
            (ObjectKind::Blob, Want::Both) if !is_seen => {
                Some(ContentWriter::new(size, shared.folder).map_err(failed)?)
            }
            _ => None,
        };
        let run = delta.run(base, tick, &mut |piece| {
            hasher.update(piece);
            match &mut writer {
                Some(writer) => writer.write(piece)?,
                None if is_seen => whole.extend_from_slice(piece),
                None => {}
            }
            Ok(())
        });
        run.map_err(failed)?;
        let id = hasher.try_finalize().map_err(|_| IndexError::BadEntry {
            offset: shared.received.entries[child as usize].offset,
            what: BadEntry::Collision,
        })?;
        let content = match writer {
            Some(writer) => Some(writer.finish()),
            None if is_seen => Some(Content::Memory(whole)),
            None => None,
        };
        Ok(Made { id, content })
    }

    /// Runs a delta whose result is known and was dropped.
    pub(super) fn make_again(&mut self, base: &Content, entry: u32, tick: Tick<'_>) -> Result<Content, IndexError> {
        let size = self.shared.received.entries[entry as usize].size;
        if let (Content::Memory(base), true) = (base, size <= IN_MEMORY_BYTES) {
            let mut buffer = std::mem::take(&mut self.delta);
            let delta = self.small_entry(entry, &mut buffer)?;
            let result = delta_sizes(delta).map_err(|error| self.at(entry, error.into()))?.result;
            if result <= IN_MEMORY_BYTES {
                let mut data = self.spare.pop().unwrap_or_default();
                apply_delta(base, delta, &mut data).map_err(|error| self.at(entry, error.into()))?;
                self.delta = buffer;
                return Ok(Content::Memory(data));
            }
            self.delta = buffer;
        }
        let failed = |error| self.at(entry, error);
        let delta = DeltaStream::open(self.inflated(entry)).map_err(failed)?;
        let mut writer = ContentWriter::new(delta.result_size, self.shared.folder).map_err(failed)?;
        delta
            .run(base, tick, &mut |piece| writer.write(piece))
            .map_err(failed)?;
        Ok(writer.finish())
    }

    /// Deltas are the one way to make much of little: what they make must fit the limits.
    fn check_result_size(&self, kind: ObjectKind, size: u64) -> Result<(), IndexError> {
        let limits = self.shared.limits;
        if size > limits.max_object_bytes {
            return Err(IndexError::ObjectTooLarge {
                size_bytes: size,
                limit_bytes: limits.max_object_bytes,
            });
        }
        limits.check_delta_object(size)?;
        if kind != ObjectKind::Blob && size > limits.max_in_memory_bytes {
            return Err(IndexError::TooLargeForMemory {
                size_bytes: size,
                limit_bytes: limits.max_in_memory_bytes,
            });
        }
        Ok(())
    }

    /// The content of a whole object that deltas build on.
    pub(super) fn root_data(&mut self, index: u32, tick: Tick<'_>) -> Result<Content, IndexError> {
        let size = self.shared.received.entries[index as usize].size;
        if size <= IN_MEMORY_BYTES {
            let mut data = self.spare.pop().unwrap_or_default();
            self.copy_small_entry(index, &mut data)?;
            return Ok(Content::Memory(data));
        }
        self.shared.limits.check_delta_object(size)?;
        Content::inflated(&mut self.inflated(index), size, self.shared.folder, tick)
            .map_err(|error| self.at(index, error))
    }

    /// The inflated data of one entry as a stream.
    fn inflated(&self, index: u32) -> impl Read + use<'_> {
        let received = self.shared.received;
        let entry = &received.entries[index as usize];
        let from = entry.offset + u64::from(entry.head_len);
        ZlibDecoder::new(Section::new(&received.file, from, received.end_of(index as usize)))
    }

    /// The inflated data of one entry of at most [`IN_MEMORY_BYTES`]: kept from the first pass, or read again
    /// into `buffer`.
    fn small_entry<'d>(&mut self, index: u32, buffer: &'d mut Vec<u8>) -> Result<&'d [u8], IndexError>
    where
        'a: 'd,
    {
        let received = self.shared.received;
        let entry = &received.entries[index as usize];
        if let Some(at) = entry.kept {
            return Ok(received.kept.get(at, entry.size as usize));
        }
        self.read_again(index, buffer)?;
        Ok(buffer)
    }

    /// The same, always in `data`.
    fn copy_small_entry(&mut self, index: u32, data: &mut Vec<u8>) -> Result<(), IndexError> {
        let received = self.shared.received;
        let entry = &received.entries[index as usize];
        if let Some(at) = entry.kept {
            data.clear();
            data.extend_from_slice(received.kept.get(at, entry.size as usize));
            return Ok(());
        }
        self.read_again(index, data)
    }

    /// Inflates one entry of at most [`IN_MEMORY_BYTES`] into `data`.
    fn read_again(&mut self, index: u32, data: &mut Vec<u8>) -> Result<(), IndexError> {
        let received = self.shared.received;
        let entry = &received.entries[index as usize];
        let from = entry.offset + u64::from(entry.head_len);
        let to = received.end_of(index as usize);
        let size = entry.size as usize;
        data.clear();
        data.resize(size + INFLATE_SLACK_BYTES, 0);
        inflate_again(&received.file, from, to, &mut self.inflate, &mut self.raw, data, size)
            .map_err(|what| what.into_error(entry.offset))?;
        data.truncate(size);
        Ok(())
    }
}

/// Room beyond the end of an object: near the end of its output zlib takes a slow path.
const INFLATE_SLACK_BYTES: usize = 512;

/// Compressed bytes read at once in the second pass.
const READ_AGAIN_BYTES: u64 = 256 << 10;

/// Why an entry that was sound in the first pass cannot be read in the second.
enum ReadAgain {
    Io(std::io::Error),
    Damaged,
}

impl ReadAgain {
    fn into_error(self, offset: u64) -> IndexError {
        match self {
            Self::Io(error) => IndexError::Write(error),
            Self::Damaged => IndexError::BadEntry {
                offset,
                what: BadEntry::Inflate,
            },
        }
    }
}

/// Inflates what lies at `from..to` of the pack, which must make `size` bytes, into the front of `data`.
fn inflate_again(
    file: &File,
    mut from: u64,
    to: u64,
    inflate: &mut Decompress,
    raw: &mut Vec<u8>,
    data: &mut [u8],
    size: usize,
) -> Result<(), ReadAgain> {
    inflate.reset();
    let mut made = 0usize;
    while from < to {
        raw.resize((to - from).min(READ_AGAIN_BYTES) as usize, 0);
        file.read_exact_at(raw, from).map_err(ReadAgain::Io)?;
        from += raw.len() as u64;
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(rest, &mut data[made..], FlushDecompress::None)
                .map_err(|_| ReadAgain::Damaged)?;
            let used = (inflate.total_in() - in_before) as usize;
            let written = (inflate.total_out() - out_before) as usize;
            rest = &rest[used..];
            made += written;
            if status == Status::StreamEnd {
                return if made == size { Ok(()) } else { Err(ReadAgain::Damaged) };
            }
            if used == 0 && written == 0 {
                return Err(ReadAgain::Damaged);
            }
        }
    }
    Err(ReadAgain::Damaged)
}
