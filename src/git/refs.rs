//! Reading refs: loose files and `packed-refs`, merged into one sorted list.
//!
//! What was read is kept together with the folders' time stamps, so that looking again costs one
//! `stat` per folder of refs. Every writer of refs (git's and ours) renames a lock file into place,
//! which changes the folder's time stamp.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bstr::{BStr, BString, ByteSlice};
use gix::hash::{Kind, ObjectId};

use super::object_store::{FileStamp, StoreError};

/// A folder whose time stamp is younger than this when it is read may change again within the same
/// tick of the file system's clock, so it is read again the next time.
const CLOCK_TICK: Duration = Duration::from_millis(100);
/// Symbolic refs that are followed one after the other, as git does.
const MAX_SYMREF_DEPTH: usize = 5;
/// Nesting of folders below `refs`.
const MAX_FOLDER_DEPTH: usize = 64;

/// One ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// Full name, such as `refs/heads/main`; bytes, not always UTF-8.
    pub name: BString,
    /// What it names.
    pub target: ObjectId,
    /// For an annotated tag, what it names in the end.
    pub peeled: Option<ObjectId>,
    /// For a symbolic ref, the ref it names.
    pub symref: Option<BString>,
}

/// What `HEAD` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// It names a branch, which may not exist yet.
    Symbolic {
        /// The branch's full name.
        branch: BString,
        /// What the branch names; `None` while it is unborn.
        target: Option<ObjectId>,
    },
    /// It names a commit.
    Detached(ObjectId),
}

/// All refs of a repository at one moment.
#[derive(Clone, Debug)]
pub struct Refs {
    head: Head,
    all: Vec<Ref>,
}

impl Refs {
    /// `all` must be sorted by name.
    pub(super) fn new(head: Head, all: Vec<Ref>) -> Self {
        debug_assert!(all.is_sorted_by(|a, b| a.name < b.name));
        Self { head, all }
    }

    /// What `HEAD` says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Every ref, sorted by the bytes of its name; `HEAD` is not among them.
    pub fn all(&self) -> &[Ref] {
        &self.all
    }

    /// The ref with this full name.
    pub fn find(&self, name: &BStr) -> Option<&Ref> {
        self.all
            .binary_search_by(|other| other.name.as_bstr().cmp(name))
            .ok()
            .map(|at| &self.all[at])
    }

    /// The refs whose full name begins with `prefix`.
    pub fn with_prefix(&self, prefix: &[u8]) -> &[Ref] {
        let first = self.all.partition_point(|other| other.name.as_slice() < prefix);
        let count = self.all[first..].partition_point(|other| other.name.starts_with(prefix));
        &self.all[first..first + count]
    }
}

/// A ref as it lies on disk.
#[derive(Clone, Debug)]
pub(super) struct RawRef {
    pub name: BString,
    pub target: ObjectId,
    pub peeled: Peeled,
    pub symref: Option<BString>,
}

/// What is known without looking at the object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peeled {
    /// `packed-refs` says so.
    Known(Option<ObjectId>),
    /// The object must be looked at.
    Unknown,
}

#[derive(Clone, Debug)]
enum LooseValue {
    Id(ObjectId),
    Symbolic(BString),
}

#[derive(Clone)]
struct LooseFile {
    stamp: FileStamp,
    value: Option<LooseValue>,
}

#[derive(Default)]
struct Folder {
    modified: Option<SystemTime>,
    /// The time stamp was old enough when the folder was read to tell any later change.
    is_settled: bool,
    files: BTreeMap<OsString, LooseFile>,
    folders: Vec<OsString>,
}

struct PackedRef {
    name: BString,
    target: ObjectId,
    peeled: Peeled,
}

/// The ref files of one repository, remembered between looks.
pub(super) struct RefFiles {
    git_dir: PathBuf,
    hash: Kind,
    folders: BTreeMap<PathBuf, Folder>,
    packed: Arc<Vec<PackedRef>>,
    packed_stamp: Option<FileStamp>,
    /// The packed file's time stamp was old enough when it was read to tell any later change.
    is_packed_settled: bool,
    head: Vec<u8>,
}

impl RefFiles {
    /// The hash function of the ids that its files hold.
    pub fn hash(&self) -> Kind {
        self.hash
    }

    pub fn new(git_dir: &Path, hash: Kind) -> Self {
        Self {
            git_dir: git_dir.to_owned(),
            hash,
            folders: BTreeMap::new(),
            packed: Arc::default(),
            packed_stamp: None,
            is_packed_settled: false,
            head: Vec::new(),
        }
    }

    /// Looks at the disk again; tells whether anything changed.
    ///
    /// Loose refs come before `packed-refs`: `git pack-refs` writes the packed file before it
    /// removes loose ones, so no ref can be missed in between.
    pub fn refresh(&mut self) -> Result<bool, StoreError> {
        let head_path = self.git_dir.join("HEAD");
        let head = fs::read(&head_path).map_err(|source| StoreError::Io {
            path: head_path,
            source,
        })?;
        let mut changed = head != self.head;
        self.head = head;
        let mut seen = Vec::new();
        changed |= self.refresh_folder(PathBuf::from("refs"), 0, &mut seen)?;
        let before = self.folders.len();
        self.folders.retain(|path, _| seen.binary_search(path).is_ok());
        changed |= self.folders.len() != before;
        changed |= self.refresh_packed()?;
        Ok(changed)
    }

    /// Reads one folder if it changed, then the folders in it; `seen` stays sorted.
    fn refresh_folder(&mut self, path: PathBuf, depth: usize, seen: &mut Vec<PathBuf>) -> Result<bool, StoreError> {
        let full = self.git_dir.join(&path);
        let Some(modified) = FileStamp::read(&full).and_then(|stamp| stamp.modified()) else {
            return Ok(false);
        };
        if depth > MAX_FOLDER_DEPTH {
            tracing::warn!(path = %full.display(), "refs nested deeper than {MAX_FOLDER_DEPTH} folders are ignored");
            return Ok(false);
        }
        let known = self.folders.get(&path);
        let is_fresh = known.is_some_and(|folder| folder.is_settled && folder.modified == Some(modified));
        let mut changed = false;
        if !is_fresh {
            let (folder, differs) = self.read_folder(&full, modified, known)?;
            changed = differs;
            self.folders.insert(path.clone(), folder);
        }
        let at = seen.binary_search(&path).unwrap_or_else(|at| at);
        seen.insert(at, path.clone());
        let children = self.folders.get(&path).map(|folder| folder.folders.clone());
        for child in children.unwrap_or_default() {
            changed |= self.refresh_folder(path.join(child), depth + 1, seen)?;
        }
        Ok(changed)
    }

    fn read_folder(
        &self,
        full: &Path,
        modified: SystemTime,
        known: Option<&Folder>,
    ) -> Result<(Folder, bool), StoreError> {
        let fail = |source| StoreError::Io {
            path: full.to_owned(),
            source,
        };
        let mut folder = Folder {
            modified: Some(modified),
            is_settled: is_settled(modified),
            ..Folder::default()
        };
        let mut changed = false;
        let entries = match fs::read_dir(full) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((folder, known.is_some())),
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            // The file may be gone by now: a lock file renamed into place, say.
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if metadata.is_dir() {
                folder.folders.push(name);
                continue;
            }
            if name.as_bytes().ends_with(b".lock") {
                continue;
            }
            let stamp = FileStamp::of(&metadata);
            let old = known.and_then(|folder| folder.files.get(&name));
            let file = match old {
                Some(old) if old.stamp == stamp && known.is_some_and(|folder| folder.is_settled) => old.clone(),
                _ => {
                    changed = true;
                    let value = match fs::read(entry.path()) {
                        Ok(content) => self.parse_loose(&content),
                        // Deleted since it was listed; that changed the folder's time stamp.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        // As git, which passes over a ref that it may not read.
                        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                        Err(source) => {
                            let path = entry.path();
                            return Err(StoreError::Io { path, source });
                        }
                    };
                    LooseFile { stamp, value }
                }
            };
            folder.files.insert(name, file);
        }
        folder.folders.sort();
        changed |= known.is_none_or(|known| known.files.len() != folder.files.len());
        Ok((folder, changed))
    }

    fn parse_loose(&self, content: &[u8]) -> Option<LooseValue> {
        let content = content.trim_end();
        if let Some(target) = content.strip_prefix(b"ref:") {
            return Some(LooseValue::Symbolic(target.trim_start().into()));
        }
        let (hex, rest) = content.split_at_checked(self.hash.len_in_hex())?;
        // As git: an id may be followed by a blank and anything, but not by more digits.
        if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return None;
        }
        ObjectId::from_hex(hex).ok().map(LooseValue::Id)
    }

    fn refresh_packed(&mut self) -> Result<bool, StoreError> {
        let path = self.git_dir.join("packed-refs");
        let stamp = FileStamp::read(&path);
        if stamp == self.packed_stamp && (stamp.is_none() || self.is_packed_settled) {
            return Ok(false);
        }
        let modified = stamp.as_ref().and_then(FileStamp::modified);
        let is_settled = modified.is_some_and(is_settled);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        self.packed = Arc::new(
            parse_packed(&content, self.hash)
                .ok_or_else(|| StoreError::damaged(path.display(), "a line is not a ref"))?,
        );
        self.packed_stamp = stamp;
        self.is_packed_settled = is_settled;
        Ok(true)
    }

    /// `HEAD` and all refs, sorted by name; what cannot be read is left out.
    pub fn collect(&self) -> Result<(Head, Vec<RawRef>), StoreError> {
        let mut loose: BTreeMap<BString, LooseValue> = BTreeMap::new();
        for (path, folder) in &self.folders {
            for (name, file) in &folder.files {
                let full = BString::from(path.join(name).into_os_string().into_vec());
                match &file.value {
                    Some(value) if is_valid_name(&full) => {
                        loose.insert(full, value.clone());
                    }
                    _ => tracing::warn!(r#ref = %full, "a broken ref is left out"),
                }
            }
        }
        let mut all = Vec::with_capacity(self.packed.len() + loose.len());
        let mut packed = self.packed.iter().peekable();
        let push_packed = |all: &mut Vec<RawRef>, packed: &PackedRef| {
            all.push(RawRef {
                name: packed.name.clone(),
                target: packed.target,
                peeled: packed.peeled,
                symref: None,
            });
        };
        for (name, value) in &loose {
            while let Some(before) = packed.next_if(|other| other.name < *name) {
                push_packed(&mut all, before);
            }
            packed.next_if(|other| other.name == *name);
            let (target, symref) = match value {
                LooseValue::Id(id) => (Some(*id), None),
                LooseValue::Symbolic(to) => (self.resolve(to.as_bstr(), &loose), Some(to.clone())),
            };
            if let Some(target) = target {
                all.push(RawRef {
                    name: name.clone(),
                    target,
                    peeled: Peeled::Unknown,
                    symref,
                });
            }
        }
        for rest in packed {
            push_packed(&mut all, rest);
        }
        let head = match self.parse_loose(&self.head) {
            Some(LooseValue::Id(id)) => Head::Detached(id),
            Some(LooseValue::Symbolic(branch)) => {
                let target = self.resolve(branch.as_bstr(), &loose);
                Head::Symbolic { branch, target }
            }
            None => {
                return Err(StoreError::damaged(
                    self.git_dir.join("HEAD").display(),
                    "it names neither a branch nor a commit",
                ));
            }
        };
        Ok((head, all))
    }

    fn resolve(&self, name: &BStr, loose: &BTreeMap<BString, LooseValue>) -> Option<ObjectId> {
        let mut name = name.to_owned();
        for _ in 0..MAX_SYMREF_DEPTH {
            match loose.get(&name) {
                Some(LooseValue::Id(id)) => return Some(*id),
                Some(LooseValue::Symbolic(next)) => name = next.clone(),
                None => {
                    return self
                        .packed
                        .binary_search_by(|other| other.name.cmp(&name))
                        .ok()
                        .map(|at| self.packed[at].target);
                }
            }
        }
        None
    }
}

/// Whether a full ref name follows `git check-ref-format`.
pub(super) fn is_valid_name(name: &BString) -> bool {
    name.starts_with(b"refs/") && gix::validate::reference::name(name.as_bstr()).is_ok()
}

/// Parses `packed-refs` (gitformat: one `<id> <name>` per line, `^<id>` after an annotated tag).
/// Whether a time stamp is old enough to tell any later change.
fn is_settled(modified: SystemTime) -> bool {
    SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|age| age > CLOCK_TICK)
}

fn parse_packed(content: &[u8], hash: Kind) -> Option<Vec<PackedRef>> {
    let hex_len = hash.len_in_hex();
    let mut refs: Vec<PackedRef> = Vec::new();
    let (mut is_fully_peeled, mut is_peeled, mut is_sorted) = (false, false, false);
    for line in content.lines() {
        if let Some(traits) = line.strip_prefix(b"# pack-refs with:") {
            let has = |word: &[u8]| traits.split(|byte| *byte == b' ').any(|other| other == word);
            is_fully_peeled = has(b"fully-peeled");
            is_peeled = has(b"peeled");
            is_sorted = has(b"sorted");
        } else if line.starts_with(b"#") || line.is_empty() {
        } else if let Some(peeled) = line.strip_prefix(b"^") {
            refs.last_mut()?.peeled = Peeled::Known(Some(ObjectId::from_hex(peeled.get(..hex_len)?).ok()?));
        } else {
            let target = ObjectId::from_hex(line.get(..hex_len)?).ok()?;
            let name = BString::from(line[hex_len..].strip_prefix(b" ")?);
            if !is_valid_name(&name) {
                tracing::warn!(r#ref = %name, "a ref with a bad name is left out");
                continue;
            }
            let knows = is_fully_peeled || (is_peeled && name.starts_with(b"refs/tags/"));
            refs.push(PackedRef {
                name,
                target,
                peeled: if knows { Peeled::Known(None) } else { Peeled::Unknown },
            });
        }
    }
    if !is_sorted || !refs.is_sorted_by(|a, b| a.name < b.name) {
        refs.sort_by(|a, b| a.name.cmp(&b.name));
        refs.dedup_by(|a, b| a.name == b.name);
    }
    Some(refs)
}
