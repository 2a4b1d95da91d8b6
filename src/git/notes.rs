//! Git notes: a text for each of many commits, in a ref of its own.
//!
//! A notes ref names a commit whose tree has one blob for each commit that has a note, called by that commit's id. Git
//! spreads the blobs over folders called by the first two digits, as deep as it likes, and reads any mixture
//! (`Documentation/git-notes.txt`; `notes.c` names the layout *fan-out*). Here one level of folders is written,
//! whatever was there.

use std::collections::{BTreeMap, HashSet};
use std::io;

use bstr::{BStr, BString, ByteSlice as _};
use gix::ObjectId;

use super::index_pack::object_id;
use super::maintenance::{GuardError, PushGuard};
use super::object_store::{ObjectKind, Reader, StoreError};
use super::quarantine::Quarantine;
use super::ref_transaction::{RefError, RefStore, RefUpdate, ReflogIdentity};
use super::snapshot::{OpenError, Repository, Snapshot};
use super::walk::tree_entries;
use super::work::{Stopped, Tick};

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 4 << 20;
/// Digits of a folder's name.
const FOLDER_DIGITS: usize = 2;
const FILE_MODE: u32 = 0o100_644;
const FOLDER_MODE: u32 = 0o040_000;

/// Who writes notes.
#[derive(Clone, Debug)]
pub struct NotesAuthor {
    /// Name.
    pub name: String,
    /// Mail address.
    pub email: String,
    /// When, in seconds since 1970.
    pub at_secs: u64,
}

/// What shall become of the notes in one ref.
#[derive(Clone, Debug)]
pub struct NotesChange {
    /// The ref, such as `refs/notes/logic`.
    pub name: BString,
    /// What it names now; null if it does not exist.
    pub old: ObjectId,
    /// The new text of each commit; `None` takes its note away.
    pub notes: BTreeMap<ObjectId, Option<Vec<u8>>>,
}

/// Why notes cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    /// The repository cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A tree of notes is damaged.
    #[error("the notes in {0} are damaged")]
    Damaged(ObjectId),
    /// Somebody else changed the ref meanwhile, or it cannot be changed.
    #[error(transparent)]
    Ref(#[from] RefError),
    /// Pruning cannot be held off.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The disk failed.
    #[error("the notes cannot be written")]
    Io(#[from] io::Error),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Reads the notes that a ref holds.
pub struct Notes<'s> {
    reader: Reader<'s>,
    root: Option<ObjectId>,
    buffer: Vec<u8>,
}

/// One entry of a tree, owned.
struct Entry {
    mode: u32,
    id: ObjectId,
}

impl Entry {
    fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == FOLDER_MODE
    }
}

type Tree = BTreeMap<BString, Entry>;

impl<'s> Notes<'s> {
    /// The notes that `tip` holds, a commit; without one there are none.
    ///
    /// # Errors
    /// [`NotesError`]
    pub fn at(snapshot: &'s Snapshot, tip: Option<ObjectId>) -> Result<Self, NotesError> {
        let mut reader = snapshot.objects.reader(CACHE_BYTES);
        let root = match tip {
            None => None,
            Some(tip) => Some(reader.commit(&tip)?.ok_or(NotesError::Damaged(tip))?.tree),
        };
        Ok(Self {
            reader,
            root,
            buffer: Vec::new(),
        })
    }

    /// What `name` holds now.
    ///
    /// # Errors
    /// [`NotesError`]
    pub fn of(snapshot: &'s Snapshot, name: &BStr) -> Result<Self, NotesError> {
        Self::at(snapshot, snapshot.refs.find(name).map(|found| found.target))
    }

    /// The blob with the note of `commit`.
    ///
    /// # Errors
    /// [`NotesError`]
    pub fn find(&mut self, commit: &ObjectId) -> Result<Option<ObjectId>, NotesError> {
        let digits = commit.to_string();
        let mut rest = digits.as_bytes();
        let mut tree = self.root;
        while let Some(id) = tree {
            let entries = self.tree(&id)?;
            if let Some(found) = entries.get(rest.as_bstr()).filter(|entry| !entry.is_folder()) {
                return Ok(Some(found.id));
            }
            if rest.len() <= FOLDER_DIGITS {
                return Ok(None);
            }
            let (folder, below) = rest.split_at(FOLDER_DIGITS);
            tree = entries
                .get(folder.as_bstr())
                .filter(|entry| entry.is_folder())
                .map(|entry| entry.id);
            rest = below;
        }
        Ok(None)
    }

    /// The note of `commit`; `None` if it has none. Longer ones than `max_bytes` are told as `Err`.
    ///
    /// # Errors
    /// [`NotesError`]
    pub fn read(&mut self, commit: &ObjectId, max_bytes: u64) -> Result<Option<Result<Vec<u8>, u64>>, NotesError> {
        match self.find(commit)? {
            Some(blob) => self.blob(&blob, max_bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The content of a note's blob, or how long it is if that is more than `max_bytes`.
    ///
    /// # Errors
    /// [`NotesError`]
    pub fn blob(&mut self, blob: &ObjectId, max_bytes: u64) -> Result<Result<Vec<u8>, u64>, NotesError> {
        match self.reader.header(blob)? {
            Some((ObjectKind::Blob, bytes)) if bytes > max_bytes => return Ok(Err(bytes)),
            Some((ObjectKind::Blob, _)) => {}
            _ => return Err(NotesError::Damaged(*blob)),
        }
        match self.reader.read(blob, &mut self.buffer)? {
            Some(object) => Ok(Ok(object.data.to_vec())),
            None => Err(NotesError::Damaged(*blob)),
        }
    }

    /// Every note: the commit and its blob.
    ///
    /// # Errors
    /// [`NotesError`]
    pub fn all(&mut self, tick: Tick<'_>) -> Result<BTreeMap<ObjectId, ObjectId>, NotesError> {
        let mut found = BTreeMap::new();
        if let Some(root) = self.root {
            let digits_len = root.kind().len_in_hex();
            let mut open = vec![(String::new(), root)];
            while let Some((above, tree)) = open.pop() {
                tick()?;
                for (name, entry) in self.tree(&tree)? {
                    let Some(path) = digits(name.as_bstr()).map(|name| above.clone() + name) else {
                        continue;
                    };
                    if entry.is_folder() {
                        if name.len() == FOLDER_DIGITS && path.len() < digits_len {
                            open.push((path, entry.id));
                        }
                    } else if let Ok(commit) = ObjectId::from_hex(path.as_bytes()) {
                        found.insert(commit, entry.id);
                    }
                }
            }
        }
        Ok(found)
    }

    fn tree(&mut self, id: &ObjectId) -> Result<Tree, NotesError> {
        let hash_len = id.as_bytes().len();
        let object = self.reader.read(id, &mut self.buffer)?;
        let Some(object) = object.filter(|object| object.kind == ObjectKind::Tree) else {
            return Err(NotesError::Damaged(*id));
        };
        let mut tree = Tree::new();
        for entry in tree_entries(object.data, hash_len) {
            let entry = entry.map_err(|()| NotesError::Damaged(*id))?;
            let (mode, id) = (entry.mode, entry.id.to_owned());
            tree.insert(entry.name.into(), Entry { mode, id });
        }
        Ok(tree)
    }

    /// Moves what lies in folders below `tree` up, so that names have all their digits after the first two.
    fn flatten(&mut self, tree: Tree) -> Result<Tree, NotesError> {
        let mut flat = Tree::new();
        let mut open = vec![(BString::default(), tree)];
        while let Some((above, tree)) = open.pop() {
            for (name, entry) in tree {
                let mut path = above.clone();
                path.extend_from_slice(&name);
                if entry.is_folder() && name.len() == FOLDER_DIGITS && digits(name.as_bstr()).is_some() {
                    let below = self.tree(&entry.id)?;
                    open.push((path, below));
                } else {
                    flat.insert(path, entry);
                }
            }
        }
        Ok(flat)
    }
}

/// A name of hexadecimal digits, as text.
fn digits(name: &BStr) -> Option<&str> {
    let text = name.to_str().ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        .then_some(text)
}

/// Writes notes, each ref with one new commit on top of what it names, and moves all refs together, durably. Refs whose
/// notes would stay as they are are left alone. Returns the refs that moved.
///
/// # Errors
/// [`NotesError::Ref`] if somebody moved a ref meanwhile: then nothing has moved, and the caller looks again.
pub fn write(
    repository: &Repository,
    snapshot: &Snapshot,
    changes: &[NotesChange],
    author: &NotesAuthor,
    message: &str,
    tick: Tick<'_>,
) -> Result<Vec<RefUpdate>, NotesError> {
    // Blobs and trees that are there already are relied upon.
    let _guard = PushGuard::take(repository.path(), tick)?;
    let quarantine = Quarantine::new(&repository.objects_dir())?;
    let (mut updates, mut written) = (Vec::new(), HashSet::new());
    for change in changes {
        tick()?;
        let base = (!change.old.is_null()).then_some(change.old);
        let writer = Writer {
            notes: Notes::at(snapshot, base)?,
            quarantine: &quarantine,
            written: &mut written,
            hash: snapshot.hash(),
        };
        if let Some(new) = writer.commit(base, &change.notes, author, message, tick)? {
            let (name, old) = (change.name.clone(), change.old);
            updates.push(RefUpdate { name, old, new });
        }
    }
    if updates.is_empty() {
        return Ok(updates);
    }
    let _kept = quarantine.migrate_kept()?;
    let identity = ReflogIdentity {
        name: author.name.clone(),
        email: author.email.clone(),
        at_secs: author.at_secs,
    };
    let store = RefStore {
        git_dir: repository.path(),
        reflogs: snapshot.config.log_ref_updates,
        identity: &identity,
        // Notes refs name commits.
        peel: &|_| None,
    };
    for result in store.apply(&updates, true, &mut ()) {
        result?;
    }
    Ok(updates)
}

struct Writer<'s, 'q> {
    notes: Notes<'s>,
    quarantine: &'q Quarantine,
    /// What lies in it.
    written: &'q mut HashSet<ObjectId>,
    hash: gix::hash::Kind,
}

impl Writer<'_, '_> {
    /// The commit with the notes changed, or `None` if they are as they shall be.
    fn commit(
        mut self,
        base: Option<ObjectId>,
        changes: &BTreeMap<ObjectId, Option<Vec<u8>>>,
        author: &NotesAuthor,
        message: &str,
        tick: Tick<'_>,
    ) -> Result<Option<ObjectId>, NotesError> {
        let old_root = self.notes.root;
        let mut root = match old_root {
            Some(id) => self.notes.tree(&id)?,
            None => Tree::new(),
        };
        // Folders that change, by name; notes that lie beside folders go into one.
        let mut folders: BTreeMap<BString, Tree> = BTreeMap::new();
        let hex_len = self.hash.len_in_hex();
        let is_note = |name: &BString, entry: &Entry| {
            !entry.is_folder() && name.len() == hex_len && digits(name.as_bstr()).is_some()
        };
        let beside: Vec<BString> = root
            .iter()
            .filter(|(name, entry)| is_note(name, entry))
            .map(|(name, _)| name.clone())
            .collect();
        for name in beside {
            if let Some(entry) = root.remove(&name) {
                let (folder, rest) = name.split_at(FOLDER_DIGITS);
                self.open(&mut folders, &root, folder.into())?
                    .insert(rest.into(), entry);
            }
        }
        for (commit, note) in changes {
            tick()?;
            let name = commit.to_string();
            let (folder, rest) = name.split_at(FOLDER_DIGITS);
            let blob = match note {
                Some(text) => Some(self.put(ObjectKind::Blob, text)?),
                None => None,
            };
            let tree = self.open(&mut folders, &root, folder.into())?;
            match blob {
                Some(id) => tree.insert(rest.into(), Entry { mode: FILE_MODE, id }),
                None => tree.remove(&BString::from(rest)),
            };
        }
        for (name, tree) in folders {
            if tree.is_empty() {
                root.remove(&name);
                continue;
            }
            let id = self.put(ObjectKind::Tree, &content(&tree))?;
            root.insert(name, Entry { mode: FOLDER_MODE, id });
        }
        let root = self.put(ObjectKind::Tree, &content(&root))?;
        if old_root == Some(root) || (old_root.is_none() && root.is_empty_tree()) {
            return Ok(None);
        }
        let clean = |text: &str| text.replace(|c: char| c.is_control() || c == '<' || c == '>', "");
        let who = format!(
            "{} <{}> {} +0000",
            clean(&author.name),
            clean(&author.email),
            author.at_secs
        );
        let parent = base.map(|base| format!("parent {base}\n")).unwrap_or_default();
        let commit = format!("tree {root}\n{parent}author {who}\ncommitter {who}\n\n{message}\n");
        self.put(ObjectKind::Commit, commit.as_bytes()).map(Some)
    }

    /// The folder `name`, opened for changes.
    fn open<'f>(
        &mut self,
        folders: &'f mut BTreeMap<BString, Tree>,
        root: &Tree,
        name: BString,
    ) -> Result<&'f mut Tree, NotesError> {
        Ok(match folders.entry(name) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let tree = match root.get(free.key()).filter(|entry| entry.is_folder()) {
                    Some(entry) => {
                        let id = entry.id;
                        let tree = self.notes.tree(&id)?;
                        self.notes.flatten(tree)?
                    }
                    None => Tree::new(),
                };
                free.insert(tree)
            }
        })
    }

    /// Writes an object unless it is there.
    fn put(&mut self, kind: ObjectKind, data: &[u8]) -> Result<ObjectId, NotesError> {
        let id = object_id(self.hash, kind, data).ok_or_else(|| io::Error::other("an object collides with another"))?;
        if !self.notes.reader.store().contains(&id) && self.written.insert(id) {
            self.quarantine.add_loose(&id, kind.as_str(), data)?;
        }
        Ok(id)
    }
}

/// A tree as Git stores it: sorted as if names of folders ended in a slash.
fn content(tree: &Tree) -> Vec<u8> {
    let mut entries: Vec<(&BString, &Entry)> = tree.iter().collect();
    let key = |name: &BString, entry: &Entry| {
        let mut key = name.to_vec();
        if entry.is_folder() {
            key.push(b'/');
        }
        key
    };
    entries.sort_by_cached_key(|(name, entry)| key(name, entry));
    let mut data = Vec::new();
    for (name, entry) in entries {
        data.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        data.extend_from_slice(name);
        data.push(0);
        data.extend_from_slice(entry.id.as_bytes());
    }
    data
}
