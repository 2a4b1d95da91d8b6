//! Takes in a pack as it arrives: checks every byte, names every object, completes thin packs,
//! and writes the index that makes it usable.
//!
//! Two passes. The first ([`receive`]) reads the stream once, writes it down and names every object
//! that came whole. The second ([`resolve`], [`make`]) works off the deltas, with an explicit stack and
//! a bounded cache. Then bases that the sender left out because we have them are appended
//! ([`complete`]), as git does, and `.idx` and `.rev` are written ([`write`]). Nothing that the sender
//! states is believed: sizes, counts and offsets are checked before room is made for them. Large blobs
//! are never held in memory, deltas or not: what a delta needs again lies in a temporary file.

pub mod entry;

mod complete;
mod make;
mod receive;
mod resolve;
mod write;

pub(in crate::git) use make::content_id;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::Kind;

use self::entry::DeltaError;
pub(in crate::git) use self::write::{WrittenEntry, index_written};
use crate::config::GitSettings;
use crate::git::object_store::ObjectKind;
use crate::git::spill::Content;
use crate::git::work::{OtherThreads, Stopped, Tick};

/// Longest loop between two calls of the tick, in objects.
const OBJECTS_PER_TICK: u32 = 256;

/// Deltas for which a second thread is worth starting.
pub const DELTAS_FOR_THREADS: usize = 4096;

/// What a pushed pack may cost.
#[derive(Clone, Debug)]
pub struct IndexLimits {
    /// Largest pack, in bytes; 0 is no limit.
    pub max_pack_bytes: u64,
    /// Most bytes that all objects have when inflated, and all deltas; 0 is no limit.
    pub max_inflated_bytes: u64,
    /// Most objects in the pack.
    pub max_objects: u32,
    /// Largest object, in bytes.
    pub max_object_bytes: u64,
    /// Largest commit, tree or tag, in bytes: these are looked at in memory.
    pub max_in_memory_bytes: u64,
    /// Largest object that deltas are made of or make, and largest delta, in bytes.
    pub max_delta_object_bytes: u64,
    /// Longest chain of deltas.
    pub max_delta_depth: u32,
    /// Memory for what was inflated and is still needed, in bytes.
    pub delta_cache_bytes: usize,
    /// Threads that work off deltas.
    pub threads: usize,
    /// With fewer deltas than this one thread does them all.
    pub deltas_for_threads: usize,
    /// Where these note their processor time, but for the calling one.
    pub other_threads: OtherThreads,
}

impl IndexLimits {
    /// The limits of a push under `settings`.
    pub fn of_push(settings: &GitSettings) -> Self {
        Self {
            max_pack_bytes: settings.max_push_bytes,
            max_inflated_bytes: settings.max_push_inflated_bytes,
            max_objects: settings.max_push_objects,
            max_object_bytes: settings.max_object_bytes,
            max_in_memory_bytes: settings.max_in_memory_bytes,
            max_delta_object_bytes: settings.max_delta_object_bytes,
            max_delta_depth: settings.max_delta_depth,
            delta_cache_bytes: settings.delta_cache_bytes,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(2)),
            deltas_for_threads: DELTAS_FOR_THREADS,
            other_threads: OtherThreads::default(),
        }
    }

    /// Refuses a pack that has come to this much, inflated.
    fn check_inflated(&self, bytes: u64) -> Result<(), IndexError> {
        if self.max_inflated_bytes > 0 && bytes > self.max_inflated_bytes {
            return Err(IndexError::TooMuchInflated {
                limit_bytes: self.max_inflated_bytes,
            });
        }
        Ok(())
    }

    /// Refuses objects, and deltas, that are too large for deltas.
    fn check_delta_object(&self, size_bytes: u64) -> Result<(), IndexError> {
        if size_bytes > self.max_delta_object_bytes {
            return Err(IndexError::TooLargeForDelta {
                size_bytes,
                limit_bytes: self.max_delta_object_bytes,
            });
        }
        Ok(())
    }
}

/// Longest file that a visitor sees, in bytes.
pub const SEEN_BLOB_MAX_BYTES: u64 = 1024;

/// Sees every commit, tree and tag of a pack while it is in memory, and small files.
///
/// Deltas are worked off by several threads; each has its own visitor, made by [`Visitor::split`]
/// and joined again at the end.
pub trait Visitor: Send + Sized {
    /// Sees one commit, tree or tag.
    fn visit(&mut self, id: &ObjectId, kind: ObjectKind, data: &[u8]);
    /// Sees one file of at most [`SEEN_BLOB_MAX_BYTES`].
    fn visit_small_blob(&mut self, id: &ObjectId, data: &[u8]) {
        let _ = (id, data);
    }
    /// An empty visitor of the same settings for another thread.
    fn split(&self) -> Self;
    /// Takes over what the visitor of another thread saw.
    fn join(&mut self, other: Self);
}

/// A visitor that looks at nothing.
impl Visitor for () {
    fn visit(&mut self, _: &ObjectId, _: ObjectKind, _: &[u8]) {}
    fn split(&self) {}
    fn join(&mut self, (): Self) {}
}

/// Finds an object outside the pack, to complete a thin one. `None`: not there.
pub type FindBase<'a> = &'a mut dyn FnMut(&ObjectId) -> Option<(ObjectKind, Content)>;

/// A pack that was taken in: three files in one folder, not yet synced to disk.
#[derive(Debug)]
pub struct IndexedPack {
    /// The checksum at the end of the pack; the files are named after it.
    pub checksum: ObjectId,
    /// The folder the files lie in.
    pub folder: PathBuf,
    /// Objects in the pack, with those that completed it.
    pub objects: u32,
    /// Objects of our own that were appended because the sender left them out.
    pub completed: u32,
    /// Size of the pack file, in bytes.
    pub bytes: u64,
    /// Kind of every object, in the order of the pack.
    pub kinds: Vec<ObjectKind>,
}

impl IndexedPack {
    /// Path of the file with this extension: `pack`, `idx` or `rev`.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(self.file_name(extension))
    }

    /// Name of the file with this extension.
    pub fn file_name(&self, extension: &str) -> String {
        format!("pack-{}.{extension}", self.checksum)
    }
}

/// What whoever sends bytes says about why there are no more, for the end of a sentence.
fn why(error: &io::Error) -> String {
    error.get_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// Why a pack was not taken in. One line each, for the person who pushed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The connection broke or the sender stopped sending.
    #[error("the pack could not be read to its end{}", why(.0))]
    Read(#[source] io::Error),
    /// The stream ended too early.
    #[error("the pack ends too early (early EOF)")]
    Truncated,
    /// Not a pack.
    #[error("this is no pack (pack signature mismatch)")]
    Signature,
    /// A version other than 2.
    #[error("packs of version {0} are not supported")]
    Version(u32),
    /// Bytes after the checksum.
    #[error("there is garbage after the end of the pack")]
    TrailingGarbage,
    /// The checksum at the end is wrong.
    #[error("the pack is damaged: its checksum does not match")]
    Checksum,
    /// Larger than a push may be.
    #[error("the pack exceeds the maximum of {limit_bytes} bytes for one push (git.max_push_bytes)")]
    PackTooLarge {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// Its objects are larger than those of a push may be.
    #[error(
        "the objects of this push exceed the maximum of {limit_bytes} bytes, unpacked, for one push \
         (git.max_push_inflated_bytes); push fewer branches at once"
    )]
    TooMuchInflated {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// More objects than a push may have.
    #[error("the pack says it has {stated} objects, one push may have {limit} (git.max_push_objects)")]
    TooManyObjects {
        /// What the pack says.
        stated: u32,
        /// The limit.
        limit: u32,
    },
    /// An object is larger than any may be.
    #[error("an object of {size_bytes} bytes exceeds the maximum of {limit_bytes} (git.max_object_bytes)")]
    ObjectTooLarge {
        /// Its size in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A delta is made of something too large, or makes it.
    #[error(
        "a delta of an object of {size_bytes} bytes exceeds the maximum of {limit_bytes} \
         (git.max_delta_object_bytes); try `git config core.bigFileThreshold 1m` and push again"
    )]
    TooLargeForDelta {
        /// Size of the object, in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A commit, tree or tag is too large to be held in memory.
    #[error(
        "a commit, folder or tag of {size_bytes} bytes exceeds the maximum of {limit_bytes} \
         (git.max_in_memory_bytes); spread the files of very large folders over several"
    )]
    TooLargeForMemory {
        /// Its size in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The entry at this offset is damaged.
    #[error("the pack has a bad object at offset {offset}: {what}")]
    BadEntry {
        /// Where the entry begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        what: BadEntry,
    },
    /// Deltas whose base is neither in the pack nor here.
    #[error("the pack has {count} unresolved deltas: {base} is neither in it nor here")]
    Unresolved {
        /// How many deltas.
        count: u32,
        /// The first missing base.
        base: ObjectId,
    },
    /// The same object twice.
    #[error("the same object appears twice in the pack: {0}")]
    Duplicate(ObjectId),
    /// An object of ours that the pack builds on is damaged.
    #[error("object {0} of this repository is damaged; ask its administrator to run `auxin repo fsck`")]
    OwnObject(ObjectId),
    /// Writing failed.
    #[error("the pack could not be stored{}", disk_hint(.0))]
    Write(#[source] io::Error),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What else to say to somebody whose objects the disk did not take.
pub(in crate::git) fn disk_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the server's disk is full; nothing was changed, tell its administrator and push again later"
        }
        _ => "",
    }
}

/// What is wrong with one entry of a pack.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// One of the two unused type values.
    #[error("unknown object type {0}")]
    UnknownType(u8),
    /// A size beyond 64 bits.
    #[error("its size is out of range")]
    SizeOverflow,
    /// A base before the first entry or not before this one.
    #[error("delta base offset is out of bound")]
    BaseOutOfBounds,
    /// A base in the middle of an entry.
    #[error("its delta base is not the start of an object")]
    BaseNotAnEntry,
    /// zlib found an error.
    #[error("its compressed data is damaged")]
    Inflate,
    /// More data than stated.
    #[error("it is larger than the {stated} bytes that its header states")]
    LargerThanStated {
        /// What the header states, in bytes.
        stated: u64,
    },
    /// Less data than stated.
    #[error("it has {found} bytes, its header states {stated}")]
    SmallerThanStated {
        /// What the header states, in bytes.
        stated: u64,
        /// What came, in bytes.
        found: u64,
    },
    /// The delta's instructions are wrong.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// Too long a chain of deltas.
    #[error("its chain of deltas is longer than {limit} (git.max_delta_depth)")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// SHA-1 was attacked.
    #[error("it is part of a SHA-1 collision attack")]
    Collision,
}

/// No kind known yet: a delta that was not worked off.
const UNRESOLVED: Option<ObjectKind> = None;

/// Everything kept about one entry while the pack is taken in.
struct Entry {
    /// Where it begins in the pack, in bytes.
    offset: u64,
    /// Size of its data when inflated, in bytes; of a delta the instructions.
    size: u64,
    /// The object's id once known, else null.
    id: ObjectId,
    /// CRC-32 over the entry as it lies in the pack.
    crc32: u32,
    /// Where the inflated data was kept.
    kept: Option<KeptAt>,
    /// Length of the head before the compressed data, in bytes.
    head_len: u8,
    /// The object's kind once known.
    kind: Option<ObjectKind>,
    /// Whether the entry holds a delta.
    is_delta: bool,
}

/// What the first pass found.
struct Received {
    file: File,
    path: PathBuf,
    entries: Vec<Entry>,
    /// Deltas whose base came before: (base, delta), as positions in `entries`.
    ofs_deltas: Vec<(u32, u32)>,
    /// Deltas that name their base: (base, position in `entries`).
    ref_deltas: Vec<(ObjectId, u32)>,
    kept: Kept,
    /// Inflated size of all entries, in bytes.
    inflated_bytes: u64,
    /// Where the last entry ends and the checksum begins, in bytes.
    end: u64,
    checksum: ObjectId,
}

impl Received {
    /// Where entry `index` ends in the pack, in bytes.
    fn end_of(&self, index: usize) -> u64 {
        self.entries.get(index + 1).map_or(self.end, |next| next.offset)
    }
}

/// Size of one piece of kept memory, in bytes.
const KEPT_CHUNK_BYTES: usize = 1 << 20;

/// Largest single thing that is kept, in bytes.
const KEPT_ITEM_MAX_BYTES: usize = 64 << 10;

/// Inflated data from the first pass that the second will need, so that it is not inflated twice.
struct Kept {
    chunks: Vec<Vec<u8>>,
    max_chunks: usize,
}

/// A place in [`Kept`]: chunk in the upper bits, offset in the lower 20.
#[derive(Clone, Copy)]
struct KeptAt(u32);

impl Kept {
    fn new(budget_bytes: usize) -> Self {
        // 12 bits of a place are the chunk.
        Self {
            chunks: Vec::new(),
            max_chunks: (budget_bytes / KEPT_CHUNK_BYTES).min(1 << 12),
        }
    }

    /// Keeps a copy of `data` if there is room.
    fn keep(&mut self, data: &[u8]) -> Option<KeptAt> {
        if data.len() > KEPT_ITEM_MAX_BYTES {
            return None;
        }
        let fits = self
            .chunks
            .last()
            .is_some_and(|chunk| chunk.len() + data.len() <= KEPT_CHUNK_BYTES);
        if !fits {
            if self.chunks.len() >= self.max_chunks {
                return None;
            }
            // The first chunk grows as needed: most pushes are small.
            let room = if self.chunks.is_empty() {
                data.len()
            } else {
                KEPT_CHUNK_BYTES
            };
            self.chunks.push(Vec::with_capacity(room));
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let at = KeptAt(((index as u32) << 20) | chunk.len() as u32);
        chunk.extend_from_slice(data);
        Some(at)
    }

    fn get(&self, at: KeptAt, len: usize) -> &[u8] {
        let offset = (at.0 & 0xf_ffff) as usize;
        &self.chunks[(at.0 >> 20) as usize][offset..offset + len]
    }
}

/// Takes in the pack that comes from `input` and leaves it, with index and reverse index, in `folder`.
///
/// `None` is a pack without objects: nothing is stored. `find_base` is asked for the bases of a thin
/// pack, and must look only at what this repository had before. `visitor` sees commits, trees and
/// tags. On an error files may be left in `folder`; its owner removes it.
///
/// An object that the repository has already is stored once more and never replaces the old copy;
/// ids are made by a hash that detects collision attacks, so both hold the same.
pub fn index_pack<V: Visitor>(
    input: &mut dyn Read,
    folder: &Path,
    hash: Kind,
    limits: &IndexLimits,
    find_base: FindBase<'_>,
    visitor: &mut V,
    tick: Tick<'_>,
) -> Result<Option<IndexedPack>, IndexError> {
    let Some(mut received) = receive::receive(input, folder, hash, limits, visitor, tick)? else {
        return Ok(None);
    };
    let bases = resolve::resolve(&mut received, folder, hash, limits, find_base, visitor, tick)?;
    received.kept = Kept::new(0);
    let mut order = write::sorted_by_id(&received.entries, tick)?;
    let completed = complete::append_bases(&mut received, hash, &order, &bases, find_base, tick)?;
    if completed > 0 {
        order = write::sorted_by_id(&received.entries, tick)?;
    }
    let pack = write::finish(received, folder, hash, &order, completed, tick)?;
    Ok(Some(pack))
}

/// The id of an object, by the hash that detects collision attacks; `None` if there is one.
pub(in crate::git) fn object_id(hash: Kind, kind: ObjectKind, data: &[u8]) -> Option<ObjectId> {
    let mut hasher = object_hasher(hash, kind, data.len() as u64);
    hasher.update(data);
    hasher.try_finalize().ok()
}

/// A hasher that has seen the header of an object of this kind and size.
fn object_hasher(hash: Kind, kind: ObjectKind, size: u64) -> gix::hash::Hasher {
    let mut hasher = gix::hash::hasher(hash);
    hasher.update(kind.as_str().as_bytes());
    hasher.update(b" ");
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = size;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    hasher.update(&digits[at..]);
    hasher.update(b"\0");
    hasher
}

#[cfg(test)]
mod tests;
