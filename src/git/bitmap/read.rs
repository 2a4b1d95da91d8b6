//! Reads `.bitmap` files.
//!
//! Opening reads the file once from front to back, verifies its checksum and remembers where each
//! entry stands: a flipped bit would otherwise become an object that is missing from an answer, and
//! hashing a few megabytes once per open file costs milliseconds. The bitmaps themselves stay on the
//! disk and are read when asked for, so an open file takes little memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::oid;

use super::ewah::{self, EwahError, FRAME_BYTES, words_for};
use super::{FULL_DAG, HASH_CACHE, HEAD, KINDS, LOOKUP_LINE_BYTES, LOOKUP_TABLE, MAX_XOR_OFFSET, PSEUDO_MERGES};
use crate::git::object_store::ObjectKind;
use crate::git::summed::SummedReader;

/// Least bytes of an entry: position, distance, flags, frame.
const LEAST_ENTRY_BYTES: u64 = 6 + FRAME_BYTES;
/// Most differences that are followed from one entry to the next.
const MAX_CHAIN: usize = 1 << 16;

/// Why a bitmap file cannot be used. Walking history gives the same answer.
#[derive(Debug, thiserror::Error)]
pub enum BitmapError {
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
    /// The file belongs to another pack or multi-pack-index.
    #[error("{}: belongs to another pack ({found})", path.display())]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Checksum of what it belongs to.
        found: ObjectId,
    },
}

impl BitmapError {
    /// Whether there is no such file, which is no fault.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Where an encoded bitmap stands in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Start of its compressed words, in bytes from the start of the file.
    offset: u64,
    /// Compressed words.
    words: u32,
}

/// A commit whose objects are known.
#[derive(Clone, Copy, Debug)]
pub struct BitmapEntry {
    /// Position of the commit in the list of ids of the pack's index or of the multi-pack-index.
    pub index_position: u32,
    /// Number of the entry in the file.
    number: u32,
    /// How many entries before this one the one stands that it is the difference to; 0 if it is none.
    xor_offset: u8,
    place: Place,
}

/// An open `.bitmap` file.
#[derive(Debug)]
pub struct BitmapFile {
    path: PathBuf,
    file: File,
    owner: ObjectId,
    object_count: u32,
    types: [Place; 4],
    entries: Vec<BitmapEntry>,
    /// Numbers of entries, sorted by position in the index.
    by_index: Vec<u32>,
    /// Where the hashes of names start, in bytes from the start of the file.
    name_hashes: Option<u64>,
}

impl BitmapFile {
    /// Opens the bitmap file of the pack or multi-pack-index with the checksum `owner`, which holds
    /// `object_count` objects.
    ///
    /// # Errors
    /// [`BitmapError`]; ask [`BitmapError::is_absent`] for a file that is not there.
    pub fn open(path: &Path, owner: &oid, object_count: u32) -> Result<Self, BitmapError> {
        Self::read(path, owner, object_count).map_err(|error| error.at(path))
    }

    fn read(path: &Path, owner: &oid, object_count: u32) -> Result<Self, ReadError> {
        let mut file = SummedReader::open(path, owner.kind())?;
        if file.array()? != HEAD {
            return Err(ReadError::Damaged(
                "it does not start like a bitmap of version 1".into(),
            ));
        }
        let flags = u16::from_be_bytes(file.array()?);
        if flags & FULL_DAG == 0 || flags & !(FULL_DAG | HASH_CACHE | LOOKUP_TABLE | PSEUDO_MERGES) != 0 {
            return Err(ReadError::Damaged(format!("its flags {flags:#x} are not known")));
        }
        let entry_count = file.u32()?;
        let found = file.id()?;
        if found.as_ref() != owner {
            return Err(ReadError::OtherOwner(found));
        }
        if u64::from(entry_count) * LEAST_ENTRY_BYTES > file.left() || entry_count > object_count {
            return Err(ReadError::Damaged(format!("it has no room for {entry_count} entries")));
        }
        let mut types = [Place { offset: 0, words: 0 }; 4];
        for place in &mut types {
            *place = Self::pass_bitmap(&mut file, object_count)?;
        }
        let mut entries = Vec::with_capacity(entry_count as usize);
        for number in 0..entry_count {
            let index_position = file.u32()?;
            let [xor_offset, _flags] = file.array()?;
            if index_position >= object_count {
                return Err(ReadError::Damaged(format!(
                    "entry {number} is of an object that does not exist"
                )));
            }
            if xor_offset > MAX_XOR_OFFSET || u32::from(xor_offset) > number {
                return Err(ReadError::Damaged(format!(
                    "entry {number} counts from none that stands before it"
                )));
            }
            entries.push(BitmapEntry {
                index_position,
                number,
                xor_offset,
                place: Self::pass_bitmap(&mut file, object_count)?,
            });
        }
        let mut by_index: Vec<u32> = (0..entry_count).collect();
        by_index.sort_unstable_by_key(|&number| entries[number as usize].index_position);
        let position = |number: u32| entries[number as usize].index_position;
        if by_index.windows(2).any(|pair| position(pair[0]) == position(pair[1])) {
            return Err(ReadError::Damaged("it has a commit twice".into()));
        }
        let name_hashes = Self::pass_extensions(&mut file, flags, object_count, entry_count)?;
        let (_, file) = file
            .finish()?
            .ok_or_else(|| ReadError::Damaged("its checksum is wrong".into()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            owner: found,
            object_count,
            types,
            entries,
            by_index,
            name_hashes,
        })
    }

    fn pass_bitmap(file: &mut SummedReader, object_count: u32) -> Result<Place, ReadError> {
        let bits = file.u32()?;
        let words = file.u32()?;
        if words_for(bits) > words_for(object_count) || u64::from(words) > ewah::most_words(object_count) {
            return Err(EwahError::TooLong.into());
        }
        let place = Place {
            offset: file.at(),
            words,
        };
        file.skip(u64::from(words) * 8)?;
        let last_marker = file.u32()?;
        if last_marker > words {
            return Err(EwahError::CutOff.into());
        }
        Ok(place)
    }

    /// Reads on to the checksum; tells where the hashes of names start.
    fn pass_extensions(
        file: &mut SummedReader,
        flags: u16,
        object_count: u32,
        entry_count: u32,
    ) -> Result<Option<u64>, ReadError> {
        let bytes_if = |flag: u16, bytes: u64| if flags & flag != 0 { bytes } else { 0 };
        let hash_bytes = bytes_if(HASH_CACHE, 4 * u64::from(object_count));
        let behind_merges = hash_bytes + bytes_if(LOOKUP_TABLE, LOOKUP_LINE_BYTES * u64::from(entry_count));
        let merges = file.left().checked_sub(behind_merges);
        let fits = match merges {
            Some(0) => flags & PSEUDO_MERGES == 0,
            Some(8..) if flags & PSEUDO_MERGES != 0 => {
                let len = merges.unwrap_or_default();
                file.skip(len - 8)?;
                // Their length, this number included.
                file.u64()? == len
            }
            _ => false,
        };
        if !fits {
            return Err(ReadError::Damaged("its length does not fit what is in it".into()));
        }
        Ok((flags & HASH_CACHE != 0).then(|| file.end() - hash_bytes))
    }

    /// Checksum of the pack or multi-pack-index it belongs to.
    pub fn belongs_to(&self) -> ObjectId {
        self.owner
    }

    /// How many bits each set has: objects in the pack or multi-pack-index.
    pub fn object_count(&self) -> u32 {
        self.object_count
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commits whose objects are known, in the order of the file.
    pub fn entries(&self) -> &[BitmapEntry] {
        &self.entries
    }

    /// The entry of the commit at this position in the list of ids.
    pub fn entry_of(&self, index_position: u32) -> Option<&BitmapEntry> {
        let position = |number: &u32| self.entries[*number as usize].index_position;
        let at = self.by_index.binary_search_by_key(&index_position, position).ok()?;
        Some(&self.entries[self.by_index[at] as usize])
    }

    /// Puts all objects of one kind into `words`: bit *n* is object *n* in the order of the pack.
    ///
    /// # Errors
    /// [`BitmapError`]; `words` is then as it was.
    ///
    /// # Panics
    /// If `words` is shorter than [`words_for`] the number of objects.
    pub fn type_bits(&self, kind: ObjectKind, words: &mut [u64]) -> Result<(), BitmapError> {
        let number = KINDS.iter().position(|other| *other == kind).unwrap_or_default();
        self.or_places(&[self.types[number]], words)
    }

    /// Puts all objects that the commit of `entry` reaches, itself included, into `words`: bit *n* is
    /// object *n* in the order of the pack.
    ///
    /// # Errors
    /// [`BitmapError`]; `words` is then as it was.
    ///
    /// # Panics
    /// If `words` is shorter than [`words_for`] the number of objects, or the entry is of another file.
    pub fn reach(&self, entry: &BitmapEntry, words: &mut [u64]) -> Result<(), BitmapError> {
        let mut chain = vec![entry.place];
        let mut entry = entry;
        // Each entry counts from one before it, so this ends; the order of differences does not matter.
        while entry.xor_offset > 0 {
            if chain.len() == MAX_CHAIN {
                let detail = format!("more than {MAX_CHAIN} differences in a row");
                return Err(ReadError::Damaged(detail).at(&self.path));
            }
            entry = &self.entries[(entry.number - u32::from(entry.xor_offset)) as usize];
            chain.push(entry.place);
        }
        self.or_places(&chain, words)
    }

    /// Puts the difference of the bitmaps at `places` into `words`.
    fn or_places(&self, places: &[Place], words: &mut [u64]) -> Result<(), BitmapError> {
        let len = words_for(self.object_count);
        let words = &mut words[..len];
        let mut found = vec![0; len];
        let mut compressed = Vec::new();
        for place in places {
            compressed.resize(place.words as usize * 8, 0);
            self.file
                .read_exact_at(&mut compressed, place.offset)
                .map_err(ReadError::Io)
                .and_then(|()| Ok(ewah::xor_into(&compressed, &mut found, self.object_count)?))
                .map_err(|error| error.at(&self.path))?;
        }
        for (word, more) in words.iter_mut().zip(found) {
            *word |= more;
        }
        Ok(())
    }

    /// Whether it has the hashes of the names under which objects were found.
    pub fn has_name_hashes(&self) -> bool {
        self.name_hashes.is_some()
    }

    /// The hashes of names (see [`name_hash`](super::name_hash)), one per object, in the order of the
    /// list of ids; `None` if the file has none.
    ///
    /// # Errors
    /// [`BitmapError::Io`]
    pub fn name_hashes(&self) -> Result<Option<Vec<u32>>, BitmapError> {
        let Some(start) = self.name_hashes else {
            return Ok(None);
        };
        let mut bytes = vec![0; self.object_count as usize * 4];
        self.file
            .read_exact_at(&mut bytes, start)
            .map_err(|error| ReadError::Io(error).at(&self.path))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(Some(numbers.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect()))
    }
}

/// What went wrong, before the file is named.
enum ReadError {
    Io(io::Error),
    Damaged(String),
    OtherOwner(ObjectId),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut off".into()),
            _ => Self::Io(error),
        }
    }
}

impl From<EwahError> for ReadError {
    fn from(error: EwahError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl ReadError {
    fn at(self, path: &Path) -> BitmapError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => BitmapError::Io { path, source },
            Self::Damaged(detail) => BitmapError::Damaged { path, detail },
            Self::OtherOwner(found) => BitmapError::OtherOwner { path, found },
        }
    }
}
