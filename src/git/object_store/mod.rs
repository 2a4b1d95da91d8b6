//! Reading objects: an immutable view of a repository's packs and loose objects.
//!
//! Every object has a *position*: pack after pack, in the order of the entries in each pack, then
//! the loose objects sorted by id. A pack with a bitmap file comes first, then the largest. Sets of objects are bitsets over positions, and an object that
//! lies in several packs has the position of the first one, so that a set names it once.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use gix::hash::{Kind, ObjectId, oid};

use super::commit_graph::CommitGraph;

mod bitmaps;
mod large;
mod pack;
mod reader;

pub use bitmaps::Bitmaps;
pub use large::ReadError;
pub(in crate::git) use pack::FileStamp;
pub use pack::Pack;
pub use reader::Reader;
pub(in crate::git) use reader::{parse_commit, parse_tag_target};

/// Packs with fewer objects than this are looked up in one shared table when there are several.
const SMALL_PACK_OBJECTS: u32 = 1 << 16;
/// How often the folders are listed again because a pack vanished meanwhile. Once is what happens
/// beside a repack; this many are for packs that are replaced without a pause.
const MAX_LISTINGS: usize = 100;
/// Number of alternates that are followed.
const MAX_ALTERNATES: usize = 64;
/// Nesting of alternates that is followed, as in git.
const MAX_ALTERNATE_DEPTH: usize = 6;

/// What is wrong with stored objects.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A pack, index or object is damaged.
    #[error("{what}: damaged: {detail}")]
    Damaged {
        /// The file or object.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// More than 2^32 objects.
    #[error("the repository has more objects than can be numbered (4294967295)")]
    TooMany,
}

impl StoreError {
    pub(in crate::git) fn damaged(what: impl ToString, detail: impl ToString) -> Self {
        Self::Damaged {
            what: what.to_string(),
            detail: detail.to_string(),
        }
    }
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A commit.
    Commit,
    /// A tree.
    Tree,
    /// A blob.
    Blob,
    /// An annotated tag.
    Tag,
}

impl ObjectKind {
    /// Git's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

impl From<gix::objs::Kind> for ObjectKind {
    fn from(kind: gix::objs::Kind) -> Self {
        match kind {
            gix::objs::Kind::Commit => Self::Commit,
            gix::objs::Kind::Tree => Self::Tree,
            gix::objs::Kind::Blob => Self::Blob,
            gix::objs::Kind::Tag => Self::Tag,
        }
    }
}

impl From<ObjectKind> for gix::objs::Kind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Commit => Self::Commit,
            ObjectKind::Tree => Self::Tree,
            ObjectKind::Blob => Self::Blob,
            ObjectKind::Tag => Self::Tag,
        }
    }
}

/// Number of an object in one [`ObjectStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pos(pub u32);

/// A decoded object.
#[derive(Debug)]
pub struct Object<'a> {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its content, without header.
    pub data: &'a [u8],
}

/// What walks need of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its root tree.
    pub tree: ObjectId,
    /// Its parents, first parent first.
    pub parents: Vec<ObjectId>,
    /// When it was committed, in seconds since 1970; 0 where the commit does not say.
    pub committed_at_secs: i64,
}

/// An immutable view of all objects of a repository, its alternates included.
///
/// It stays valid while packs are replaced on disk: opened packs are mapped files.
pub struct ObjectStore {
    hash: Kind,
    packs: Vec<Arc<Pack>>,
    /// First position of each pack; then the first position of loose objects.
    starts: Vec<u32>,
    /// Packs that are asked one by one, by number.
    large: Vec<usize>,
    /// First 8 bytes of the id and position of every object in the other packs, sorted.
    small: Vec<(u64, u32)>,
    loose: Vec<ObjectId>,
    /// Object folders, own first.
    folders: Vec<PathBuf>,
    max_object_bytes: usize,
    /// See [`ObjectStore::set_graph`].
    graph: RwLock<Option<Arc<CommitGraph>>>,
    /// The bitmap file of the first pack, or a multi-pack-index that may have one.
    bitmap_file: Option<bitmaps::Found>,
    /// Opened when first asked for.
    bitmaps: OnceLock<Option<Arc<Bitmaps>>>,
}

/// What the folders hold.
struct Listing {
    packs: Vec<Arc<Pack>>,
    bitmap_file: Option<bitmaps::Found>,
    loose: Vec<ObjectId>,
}

impl ObjectStore {
    /// Opens `objects_dir`, its alternates and `extra` object folders (a quarantine, say).
    ///
    /// Packs that `previous` has open and that did not change on disk are shared with it.
    /// Objects larger than `max_object_bytes` are not decoded into memory.
    ///
    /// # Errors
    /// [`StoreError`] if a folder cannot be listed or a pack does not fit its index.
    pub fn open(
        objects_dir: &Path,
        hash: Kind,
        extra: &[PathBuf],
        previous: Option<&ObjectStore>,
        max_object_bytes: usize,
    ) -> Result<Self, StoreError> {
        let mut folders = vec![objects_dir.to_owned()];
        folders.extend(extra.iter().cloned());
        folders.extend(alternates(objects_dir)?);
        let mut leftovers = HashSet::new();
        for _ in 0..MAX_LISTINGS {
            if let Some(listing) = Self::list(&folders, hash, previous, max_object_bytes, &mut leftovers)? {
                let store = Self::assemble(hash, listing, folders, previous, max_object_bytes)?;
                store.set_graph(previous.and_then(Self::graph));
                return Ok(store);
            }
        }
        Err(StoreError::damaged(
            objects_dir.display(),
            "its packs are replaced faster than they can be opened",
        ))
    }

    /// Opens what the folders hold; `None` if a pack vanished in between, because what replaced it
    /// may not have been listed. Indexes whose packs were not there go into `leftovers`, and if they
    /// have none in the next listing either they are passed over.
    ///
    /// Loose objects come first: git packs objects before it removes their loose files, so none can
    /// be missed in between. For the same reason each pack folder is listed until nothing new shows:
    /// one listing may miss both a pack and the one that takes its place.
    fn list(
        folders: &[PathBuf],
        hash: Kind,
        previous: Option<&ObjectStore>,
        max_object_bytes: usize,
        leftovers: &mut HashSet<PathBuf>,
    ) -> Result<Option<Listing>, StoreError> {
        let mut packs: Vec<Arc<Pack>> = Vec::new();
        let mut loose = Vec::new();
        // By bytes: paths compare and hash part by part, which is slow where there are many packs.
        let mut seen: HashSet<OsString> = HashSet::new();
        let opened: HashMap<&OsStr, &Arc<Pack>> = previous
            .into_iter()
            .flat_map(|store| &store.packs)
            .map(|pack| (pack.path.as_os_str(), pack))
            .collect();
        for folder in folders {
            list_loose(folder, hash, &mut loose)?;
            for _ in 0..MAX_LISTINGS {
                let mut unopened = pack_files(&folder.join("pack"))?;
                unopened.retain(|path| seen.insert(path.clone().into_os_string()));
                if unopened.is_empty() {
                    break;
                }
                for path in unopened {
                    let Some(stamp) = FileStamp::read(&path) else {
                        if leftovers.insert(path) {
                            return Ok(None);
                        }
                        continue;
                    };
                    match opened.get(path.as_os_str()) {
                        Some(pack) if pack.stamp == stamp => packs.push(Arc::clone(pack)),
                        _ => match Pack::open(&path, stamp, hash, max_object_bytes) {
                            Ok(pack) => packs.push(Arc::new(pack)),
                            Err(_) if !path.exists() || !path.with_extension("idx").exists() => return Ok(None),
                            Err(error) => return Err(error),
                        },
                    }
                }
            }
        }
        // Largest first: most lookups end at the first pack, and big runs are sent before small ones.
        packs.sort_by(|a, b| {
            b.object_count()
                .cmp(&a.object_count())
                .then_with(|| a.path.as_os_str().cmp(b.path.as_os_str()))
        });
        let bitmap = packs
            .iter()
            .enumerate()
            .find_map(|(number, pack)| bitmaps::Found::of_pack(&pack.path).map(|found| (number, found)));
        let bitmap_file = match bitmap {
            Some((number, found)) => {
                packs[..=number].rotate_right(1);
                Some(found)
            }
            None => folders.iter().find_map(|folder| bitmaps::Found::of_folder(folder)),
        };
        loose.sort_unstable();
        loose.dedup();
        Ok(Some(Listing {
            packs,
            bitmap_file,
            loose,
        }))
    }

    fn assemble(
        hash: Kind,
        listing: Listing,
        folders: Vec<PathBuf>,
        previous: Option<&ObjectStore>,
        max_object_bytes: usize,
    ) -> Result<Self, StoreError> {
        let Listing {
            packs,
            bitmap_file,
            loose,
        } = listing;
        let mut starts = Vec::with_capacity(packs.len() + 1);
        let mut next = 0_u32;
        for pack in &packs {
            starts.push(next);
            next = next.checked_add(pack.object_count()).ok_or(StoreError::TooMany)?;
        }
        starts.push(next);
        u32::try_from(loose.len())
            .ok()
            .and_then(|count| next.checked_add(count))
            .ok_or(StoreError::TooMany)?;
        let small_count = packs
            .iter()
            .filter(|pack| pack.object_count() < SMALL_PACK_OBJECTS)
            .count();
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for (number, pack) in packs.iter().enumerate() {
            // The first pack is asked first, so that its objects have their positions in it.
            let is_first_of_all = number == 0 && bitmap_file.is_some();
            if small_count < 3 || pack.object_count() >= SMALL_PACK_OBJECTS || is_first_of_all {
                large.push(number);
                continue;
            }
            let start = starts[number];
            small.extend((0..pack.object_count()).map(|order| (id_prefix(pack.id_at_order(order)), start + order)));
        }
        small.sort_unstable();
        let bitmaps = previous
            .filter(|previous| {
                bitmap_file.as_ref().is_some_and(bitmaps::Found::is_of_pack)
                    && previous.bitmap_file == bitmap_file
                    && previous
                        .packs
                        .first()
                        .zip(packs.first())
                        .is_some_and(|(a, b)| Arc::ptr_eq(a, b))
            })
            .map(|previous| previous.bitmaps.clone())
            .unwrap_or_default();
        Ok(Self {
            hash,
            packs,
            starts,
            large,
            small,
            loose,
            folders,
            max_object_bytes,
            graph: RwLock::default(),
            bitmap_file,
            bitmaps,
        })
    }

    /// What commits reach, as far as stored bitmaps tell; `None` if there are none that can be used.
    pub fn bitmaps(&self) -> Option<&Bitmaps> {
        let found = self.bitmap_file.as_ref()?;
        self.bitmaps.get_or_init(|| bitmaps::open(self, found)).as_deref()
    }

    /// Whether both have the same stored bitmaps.
    pub(in crate::git) fn has_bitmaps_of(&self, other: &Self) -> bool {
        self.bitmap_file == other.bitmap_file
    }

    /// The hash function of its ids.
    pub fn hash(&self) -> Kind {
        self.hash
    }

    /// Number of positions: objects, counted once per pack that holds them.
    pub fn len(&self) -> u32 {
        self.loose_start() + self.loose.len() as u32
    }

    /// Whether it holds no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its own object folder.
    pub(super) fn own_folder(&self) -> &Path {
        &self.folders[0]
    }

    /// Object folders beside its own: those of alternates.
    pub(in crate::git) fn alternates(&self) -> &[PathBuf] {
        &self.folders[1..]
    }

    /// Its packs, in the order of positions.
    pub fn packs(&self) -> &[Arc<Pack>] {
        &self.packs
    }

    /// Whether a pack in `folder` or below holds an object.
    pub(in crate::git) fn is_in_pack_of(&self, folder: &Path, id: &oid) -> bool {
        let mut packs = self.packs.iter().filter(|pack| pack.path.starts_with(folder));
        packs.any(|pack| pack.order_of_id(id).is_some())
    }

    /// Number of loose objects.
    pub fn loose_count(&self) -> usize {
        self.loose.len()
    }

    /// Whether both have the same loose objects.
    pub(in crate::git) fn has_loose_of(&self, other: &Self) -> bool {
        self.loose == other.loose
    }

    /// First position of the loose objects.
    pub(in crate::git) fn loose_start(&self) -> u32 {
        *self.starts.last().expect("starts always ends with the loose objects")
    }

    /// First position of pack `number`.
    pub(in crate::git) fn pack_start(&self, number: usize) -> u32 {
        self.starts[number]
    }

    /// Where an object is, if it is here.
    pub fn position(&self, id: &oid) -> Option<Pos> {
        if id.kind() != self.hash {
            return None;
        }
        for number in &self.large {
            if let Some(order) = self.packs[*number].order_of_id(id) {
                return Some(Pos(self.starts[*number] + order));
            }
        }
        if !self.small.is_empty() {
            let prefix = id_prefix(id);
            let first = self.small.partition_point(|(other, _)| *other < prefix);
            for (other, position) in &self.small[first..] {
                if *other != prefix {
                    break;
                }
                let (number, order) = self.locate(Pos(*position)).expect("the table holds packed objects");
                if self.packs[number].id_at_order(order) == id {
                    return Some(Pos(*position));
                }
            }
        }
        self.loose
            .binary_search_by(|other| other.as_ref().cmp(id))
            .ok()
            .map(|at| Pos(self.loose_start() + at as u32))
    }

    /// Whether an object is here.
    pub fn contains(&self, id: &oid) -> bool {
        self.position(id).is_some()
    }

    /// The id of the object at a position.
    ///
    /// # Panics
    /// If the position is not of this store.
    pub fn id(&self, position: Pos) -> ObjectId {
        match self.locate(position) {
            Some((number, order)) => self.packs[number].id_at_order(order).to_owned(),
            None => self.loose[(position.0 - self.loose_start()) as usize],
        }
    }

    /// Pack number and entry number in pack order; `None` for a loose object.
    pub(in crate::git) fn locate(&self, position: Pos) -> Option<(usize, u32)> {
        if position.0 >= self.loose_start() {
            return None;
        }
        let number = self.starts.partition_point(|start| *start <= position.0) - 1;
        Some((number, position.0 - self.starts[number]))
    }

    /// From here on new readers take commits from this graph where it holds them. What they read is
    /// the same, only sooner, so this is no change of the view. A store that is opened upon this one
    /// takes the graph over.
    pub(in crate::git) fn set_graph(&self, graph: Option<Arc<CommitGraph>>) {
        *self.graph.write().unwrap_or_else(PoisonError::into_inner) = graph;
    }

    /// The commit-graph that new readers use.
    pub(in crate::git) fn graph(&self) -> Option<Arc<CommitGraph>> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A reader with its own decoding state; one per thread. `cache_bytes` bounds the memory for
    /// decoded delta bases.
    pub fn reader(&self, cache_bytes: usize) -> Reader<'_> {
        Reader::new(self, cache_bytes)
    }
}

fn id_prefix(id: &oid) -> u64 {
    let bytes: [u8; 8] = id.as_bytes()[..8].try_into().expect("ids have at least 20 bytes");
    u64::from_be_bytes(bytes)
}

/// Whether a repository borrows objects from another one by a path that counts from where it lies, so
/// that it cannot be moved.
///
/// # Errors
/// [`StoreError`] if its list of alternates cannot be read.
pub fn borrows_by_relative_path(objects_dir: &Path) -> Result<bool, StoreError> {
    let path = objects_dir.join("info/alternates");
    let content = match fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::Io { path, source }),
    };
    let listed = gix::odb::alternate::parse(&content).map_err(|error| StoreError::damaged(path.display(), error))?;
    Ok(listed.iter().any(|entry| entry.is_relative()))
}

/// Whether the object folder `objects_dir` names `lender`, another one, as an alternate.
///
/// # Errors
/// [`StoreError`] if its list of alternates cannot be read.
pub fn borrows_from(objects_dir: &Path, lender: &Path) -> Result<bool, StoreError> {
    let path = objects_dir.join("info/alternates");
    let content = match fs::read(&path) {
        Ok(content) => content,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(source) => return Err(StoreError::Io { path, source }),
    };
    let listed = gix::odb::alternate::parse(&content).map_err(|error| StoreError::damaged(path.display(), error))?;
    let Ok(lender) = fs::canonicalize(lender) else {
        return Ok(false);
    };
    Ok(listed
        .iter()
        .any(|entry| fs::canonicalize(objects_dir.join(entry)).is_ok_and(|target| target == lender)))
}

/// Object folders of all alternates, nested ones included, each once and in git's order.
///
/// As in git a relative path counts from the folder that names it, and what is missing, nested too
/// deeply or closes a circle is passed over.
fn alternates(objects_dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut seen: HashSet<PathBuf> = fs::canonicalize(objects_dir).into_iter().collect();
    let mut open = vec![(objects_dir.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        if depth > 0 {
            found.push(folder.clone());
        }
        let path = folder.join("info/alternates");
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let listed =
            gix::odb::alternate::parse(&content).map_err(|error| StoreError::damaged(path.display(), error))?;
        let mut next = Vec::new();
        for entry in listed {
            match fs::canonicalize(folder.join(&entry)) {
                Ok(_) if depth == MAX_ALTERNATE_DEPTH => {
                    tracing::warn!(path = %path.display(), "alternates are nested too deeply; the rest is passed over");
                }
                Ok(target) if !seen.insert(target.clone()) => {}
                Ok(_) if seen.len() > MAX_ALTERNATES => {
                    let detail = format!("more than {MAX_ALTERNATES} alternates");
                    return Err(StoreError::damaged(path.display(), detail));
                }
                Ok(target) => next.push((target, depth + 1)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), entry = %entry.display(), %error, "an alternate is passed over");
                }
            }
        }
        open.extend(next.into_iter().rev());
    }
    Ok(found)
}

/// `.pack` files that have an index, sorted.
fn pack_files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let packs = list(folder)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .map(|path| path.with_extension("pack"))
        .collect();
    Ok(packs)
}

fn list_loose(folder: &Path, hash: Kind, ids: &mut Vec<ObjectId>) -> Result<(), StoreError> {
    for fan in list(folder)? {
        let Some(first) = fan.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if first.len() != 2 || !first.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let first = first.to_owned();
        for path in list(&fan)? {
            let Some(rest) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if first.len() + rest.len() != hash.len_in_hex() {
                continue;
            }
            if let Ok(id) = ObjectId::from_hex(format!("{first}{rest}").as_bytes()) {
                ids.push(id);
            }
        }
    }
    Ok(())
}

/// Entries of a folder; none if it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let fail = |source| StoreError::Io {
        path: folder.to_owned(),
        source,
    };
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(fail))
            .collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(fail(error)),
    }
}
