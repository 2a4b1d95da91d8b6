//! First half of a transaction: every ref is locked, then compared with what it should be.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use gix::ObjectId;

use super::files::{Value, above, make_folders, read_loose, remove_empty_tree};
use super::lock::{Lock, lock_path};
use super::pack::remove_abandoned;
use super::packed::PackedRefs;
use super::{MAX_SYMREF_DEPTH, REFS_FOR_PACKED, RefError, RefStore, RefUpdate, is_ref_name};
use crate::git::fault;

/// Tries to make a folder that someone else removes because it is empty.
const FOLDER_TRIES: usize = 5;

/// A ref that is locked and compared.
pub(super) struct Prepared {
    /// Position in the updates.
    pub index: usize,
    /// The ref that changes: of a symbolic one its target.
    pub name: BString,
    pub path: PathBuf,
    pub lock: Option<Lock>,
    /// What it named under the lock; null if it did not exist.
    pub found: ObjectId,
    /// Folders that had to be made for it.
    pub made_folders: Vec<PathBuf>,
}

impl RefStore<'_> {
    /// Locks the refs of the updates `picked` and compares their old values; failures go into
    /// `results`, and with `atomic` the first one ends it.
    pub(super) fn prepare(
        &self,
        updates: &[RefUpdate],
        picked: &[usize],
        atomic: bool,
        results: &mut [Result<(), RefError>],
    ) -> Vec<Prepared> {
        let goes_loose = picked.iter().filter(|&&n| !updates[n].is_delete()).count() < REFS_FOR_PACKED;
        let mut sorted = picked.to_vec();
        // In one order for everybody, so that no two transactions wait for each other.
        sorted.sort_by(|&a, &b| updates[a].name.cmp(&updates[b].name));
        let mut taken: BTreeSet<BString> = BTreeSet::new();
        let mut locked = Vec::with_capacity(sorted.len());
        for n in sorted {
            match self.lock_one(n, &updates[n], goes_loose, &taken) {
                Ok(one) => {
                    taken.insert(one.name.clone());
                    locked.push(one);
                }
                Err(error) => {
                    results[n] = Err(error);
                    if atomic {
                        return Vec::new();
                    }
                }
            }
        }
        // Read under the locks: git moves no ref between loose file and packed-refs that is locked.
        let packed = PackedRefs::read(self.git_dir);
        let mut prepared = Vec::with_capacity(locked.len());
        for mut one in locked {
            let compared = match &packed {
                Ok(packed) => {
                    let update = &updates[one.index];
                    self.compare_one(&mut one, update, packed)
                }
                Err(error) => Err(RefError::io(&one.name, io::Error::new(error.kind(), error.to_string()))),
            };
            match compared {
                Ok(()) => prepared.push(one),
                Err(error) => {
                    results[one.index] = Err(error);
                    if atomic {
                        return Vec::new();
                    }
                }
            }
        }
        prepared
    }

    fn lock_one(
        &self,
        index: usize,
        update: &RefUpdate,
        goes_loose: bool,
        taken: &BTreeSet<BString>,
    ) -> Result<Prepared, RefError> {
        if !is_ref_name(&update.name) {
            return Err(RefError::BadName {
                name: update.name.clone(),
            });
        }
        let name = self.resolve(&update.name)?;
        if let Some(other) = taken.get(&name).cloned().or_else(|| collision(&name, taken)) {
            return Err(RefError::NamesCollide { name, other });
        }
        let path = self.path_of(name.as_bstr());
        let mut made_folders = Vec::new();
        let value = (goes_loose && !update.is_delete()).then_some(update.new);
        let lock = self
            .take_lock(&name, &path, value, &mut made_folders)
            .map_err(|error| match error {
                // What cannot be locked because of a ref above it cannot exist either.
                RefError::NameConflict { name, .. } if update.is_delete() => RefError::Missing {
                    name,
                    expected: update.old,
                },
                error => error,
            })?;
        Ok(Prepared {
            index,
            name,
            path,
            lock: Some(lock),
            found: update.new.kind().null(),
            made_folders,
        })
    }

    /// Follows symbolic refs to the one that will change.
    pub(super) fn resolve(&self, name: &BString) -> Result<BString, RefError> {
        let mut name = name.clone();
        for _ in 0..MAX_SYMREF_DEPTH {
            match read_loose(&self.path_of(name.as_bstr())) {
                Ok(Some(Value::Symbolic(target))) if is_ref_name(&target) => name = target,
                Ok(Some(Value::Symbolic(_))) => return Err(RefError::Broken { name }),
                _ => return Ok(name),
            }
        }
        Err(RefError::Broken { name })
    }

    /// Locks one ref; with `value` the lock is ready to be renamed.
    fn take_lock(
        &self,
        name: &BString,
        path: &Path,
        value: Option<ObjectId>,
        made_folders: &mut Vec<PathBuf>,
    ) -> Result<Lock, RefError> {
        let folder = path.parent().unwrap_or(self.git_dir);
        for _ in 0..FOLDER_TRIES {
            let taken = make_folders(folder, made_folders).and_then(|()| match value {
                Some(id) => Lock::take_durably(path, format!("{id}\n").as_bytes()),
                None => Lock::take(path, b""),
            });
            let error = match taken {
                Ok(lock) => return Ok(lock),
                Err(error) => error,
            };
            if let Some(other) = above(name.as_bstr()).find(|above| self.path_of(above).is_file()) {
                return Err(RefError::NameConflict {
                    name: name.clone(),
                    other: other.to_owned(),
                });
            }
            match error.kind() {
                // Someone removed the folder because it was empty.
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                io::ErrorKind::AlreadyExists if remove_abandoned(self.git_dir, &lock_path(path)) => {}
                io::ErrorKind::AlreadyExists => {
                    return Err(RefError::Locked {
                        name: name.clone(),
                        lock: format!("{name}.lock"),
                    });
                }
                _ => return Err(RefError::io(name, error)),
            }
        }
        Err(RefError::io(
            name,
            io::Error::new(io::ErrorKind::NotFound, "its folder is removed again and again"),
        ))
    }

    /// Compares a locked ref with what it should be, and looks for refs in its way.
    fn compare_one(&self, one: &mut Prepared, update: &RefUpdate, packed: &PackedRefs) -> Result<(), RefError> {
        let name = &one.name;
        one.found = match self.read(name.as_bstr(), packed)? {
            Value::Id(id) => id,
            Value::Missing => update.new.kind().null(),
            Value::Symbolic(_) => return Err(RefError::Broken { name: name.clone() }),
        };
        compare(name, one.found, update.old)?;
        if !one.found.is_null() || update.is_delete() {
            return Ok(());
        }
        let conflict = |other: &BStr| {
            Err(RefError::NameConflict {
                name: name.clone(),
                other: other.to_owned(),
            })
        };
        if let Some(other) = above(name.as_bstr()).find(|above| packed.find(above).is_some()) {
            return conflict(other);
        }
        if let Some(other) = packed.first_below(&[name.as_slice(), b"/"].concat()) {
            return conflict(other);
        }
        match remove_empty_tree(&one.path) {
            Ok(None) => Ok(()),
            Ok(Some(file)) => {
                let other = file.strip_prefix(self.git_dir).unwrap_or(&file);
                conflict(<[u8]>::from_path(other).unwrap_or(b"refs").as_bstr())
            }
            Err(error) => Err(RefError::io(name, error)),
        }
    }
}

/// Whether the ref `name`, which names `found`, is still where a push believes it to be.
///
/// # Errors
/// How it is not.
pub fn compare(name: &BString, found: ObjectId, expected: ObjectId) -> Result<(), RefError> {
    let name = || name.clone();
    if found == expected || fault::is_on("no-cas") {
        Ok(())
    } else if expected.is_null() {
        Err(RefError::Exists { name: name() })
    } else if found.is_null() {
        Err(RefError::Missing { name: name(), expected })
    } else {
        Err(RefError::Moved {
            name: name(),
            found,
            expected,
        })
    }
}

/// A name among `taken` that cannot exist together with `name`.
pub fn collision(name: &BString, taken: &BTreeSet<BString>) -> Option<BString> {
    let folder = BString::from([name.as_slice(), b"/"].concat());
    let below = taken
        .range(folder.clone()..)
        .next()
        .filter(|other| other.starts_with(&folder));
    let above = above(name.as_bstr()).find_map(|above| taken.get(&above.to_owned()));
    below.or(above).cloned()
}
