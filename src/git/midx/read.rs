//! Reads multi-pack-indexes.
//!
//! Looking up ids is gix's work, which maps the file into memory; what it does not know (the
//! pseudo-pack order, needed for bitmaps) is read here. The checksum is verified when the file is
//! opened: a wrong order would give bits to the wrong objects, and only whole packs could tell.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::{Kind, oid};
use gix_pack::multi_index;

use super::{CHUNK_LINE_BYTES, HEAD, HEAD_BYTES, REVERSE_INDEX};
use crate::git::rev;
use crate::git::summed::SummedReader;

/// Most memory for the names of packs, in bytes.
const MAX_NAME_BYTES: usize = 64 << 20;

/// Why a multi-pack-index cannot be used. The indexes of the packs give the same answers.
#[derive(Debug, thiserror::Error)]
pub enum MidxError {
    /// The file cannot be read, or is not there.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is damaged, or of a version that is not known.
    #[error("{}: cannot be used: {detail}; remove it, and it is made anew by maintenance", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl MidxError {
    /// Whether there is no such file, which is no fault.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A part of the file, in bytes from its start.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    start: u64,
    len: u64,
}

/// An open multi-pack-index.
pub struct Midx {
    path: PathBuf,
    index: multi_index::File<gix_pack::MMap>,
    file: File,
    reverse_index: Option<Chunk>,
}

/// The objects of a multi-pack-index in pseudo-pack order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOrder {
    /// Bit in a bitmap → position in the list of ids.
    pub positions: Vec<u32>,
    /// The pack whose objects come first; 0 if there are none.
    pub preferred_pack: u32,
}

impl Midx {
    /// Opens `objects/pack/multi-pack-index` of a repository with this hash function.
    ///
    /// # Errors
    /// [`MidxError`]; ask [`MidxError::is_absent`] for a file that is not there.
    pub fn open(path: &Path, hash: Kind) -> Result<Self, MidxError> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => damaged(path, "it is cut off"),
            _ => MidxError::Io {
                path: path.to_owned(),
                source,
            },
        };
        let mut file = SummedReader::open(path, hash).map_err(fail)?;
        let head: [u8; 12] = file.array().map_err(fail)?;
        let [_, _, _, _, _, hash_number, chunk_count, base_count, ..] = head;
        if !head.starts_with(&HEAD) || hash_number != hash as u8 || base_count != 0 {
            let detail = "it is of another version or hash function, or builds on other files";
            return Err(damaged(path, detail));
        }
        let reverse_index = Self::find_reverse_index(&mut file, chunk_count).map_err(fail)?;
        let Some((checksum, file)) = file.finish().map_err(fail)? else {
            return Err(damaged(path, "its checksum is wrong"));
        };
        let index =
            multi_index::File::at(path, Some(MAX_NAME_BYTES)).map_err(|error| damaged(path, error.to_string()))?;
        // It may have been replaced in between.
        if index.checksum() != checksum {
            return Err(damaged(path, "it was replaced while it was opened"));
        }
        if reverse_index.is_some_and(|chunk| chunk.len != 4 * u64::from(index.num_objects())) {
            return Err(damaged(path, "its reverse index does not fit the number of objects"));
        }
        Ok(Self {
            path: path.to_owned(),
            index,
            file,
            reverse_index,
        })
    }

    /// Reads the table of chunks. That it is in order, gix checks.
    fn find_reverse_index(file: &mut SummedReader, chunk_count: u8) -> io::Result<Option<Chunk>> {
        let mut found: Option<Chunk> = None;
        let mut is_next = false;
        for _ in 0..=chunk_count {
            let id: [u8; 4] = file.array()?;
            let start = file.u64()?;
            if let (Some(chunk), true) = (&mut found, is_next) {
                let in_file = chunk.start >= HEAD_BYTES + CHUNK_LINE_BYTES && start <= file.end();
                chunk.len = start.checked_sub(chunk.start).filter(|_| in_file).unwrap_or_default();
            }
            is_next = id == REVERSE_INDEX;
            if is_next {
                found = Some(Chunk { start, len: 0 });
            }
        }
        Ok(found)
    }

    /// Its checksum, by which a bitmap names what it belongs to.
    pub fn checksum(&self) -> ObjectId {
        self.index.checksum()
    }

    /// How many objects it lists.
    pub fn object_count(&self) -> u32 {
        self.index.num_objects()
    }

    /// The names of the packs' indexes (`pack-….idx`); a pack's number is its place here.
    pub fn pack_names(&self) -> &[PathBuf] {
        self.index.index_names()
    }

    /// The id at a position.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn id(&self, position: u32) -> &oid {
        self.index.oid_at_index(position)
    }

    /// The position of an id, if it is listed.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.index.lookup(id)
    }

    /// Number of the pack that the object at a position is to be taken from, and where it starts there,
    /// in bytes.
    ///
    /// # Errors
    /// [`MidxError::Damaged`]
    pub fn location(&self, position: u32) -> Result<(u32, u64), MidxError> {
        self.index
            .pack_id_and_pack_offset_at_index(position)
            .map_err(|error| damaged(&self.path, error.to_string()))
    }

    /// Where a bitmap over it lies, if there is one.
    pub fn bitmap_path(&self) -> PathBuf {
        self.path
            .with_file_name(format!("multi-pack-index-{}.bitmap", self.checksum()))
    }

    /// The pseudo-pack order, from the file or, as older versions of git wrote it, from the `.rev` file
    /// beside it; `None` if there is neither. It is checked against packs and offsets.
    ///
    /// # Errors
    /// [`MidxError`]
    pub fn pack_order(&self) -> Result<Option<PackOrder>, MidxError> {
        let positions = match self.reverse_index {
            Some(chunk) => self.read_chunk(chunk)?,
            None => {
                let path = self
                    .path
                    .with_file_name(format!("multi-pack-index-{}.rev", self.checksum()));
                match rev::read(&path, self.object_count(), &self.checksum()) {
                    Ok(positions) => positions,
                    Err(error) if error.is_absent() => return Ok(None),
                    Err(error) => return Err(damaged(&path, error.to_string())),
                }
            }
        };
        let mut preferred_pack = 0;
        let mut last = None;
        for position in &positions {
            let (pack, offset) = self.location(*position)?;
            if last.is_none() {
                preferred_pack = pack;
            }
            let key = Some((pack != preferred_pack, pack, offset));
            // Always more than the last one, so none is there twice.
            if last >= key {
                return Err(damaged(&self.path, "its reverse index is out of order"));
            }
            last = key;
        }
        Ok(Some(PackOrder {
            positions,
            preferred_pack,
        }))
    }

    fn read_chunk(&self, chunk: Chunk) -> Result<Vec<u32>, MidxError> {
        let mut bytes = vec![0; chunk.len as usize];
        self.file
            .read_exact_at(&mut bytes, chunk.start)
            .map_err(|source| MidxError::Io {
                path: self.path.clone(),
                source,
            })?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect())
    }
}

fn damaged(path: &Path, detail: impl Into<String>) -> MidxError {
    MidxError::Damaged {
        path: path.to_owned(),
        detail: detail.into(),
    }
}
