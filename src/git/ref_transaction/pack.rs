//! Loose refs go into `packed-refs`, as `git pack-refs` does it.
//!
//! Values are read while nobody can delete a ref, written, and only then the loose files go, each if it
//! still says the same. Many loose refs make every look at a repository slow; a rewrite of the file costs
//! as much as it is long, so the longer it is the more loose refs it waits for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use gix::ObjectId;

use super::files::{Value, read_loose, remove_empty_folders};
use super::is_ref_name;
use super::lock::{Lock, lock_path};
use super::packed::{self, PackedRefs};
use crate::git::durable::sync_folder;
use crate::git::fault;
use crate::git::maintenance::LOCK_FILE;
use crate::git::snapshot::Snapshot;

/// So many loose refs are left alone.
const FEW_LOOSE_REFS: usize = 64;
/// For so many bytes of `packed-refs` one more loose ref is.
const BYTES_PER_LOOSE_REF: u64 = 4000;
/// Nesting of folders that is followed.
const MAX_FOLDER_DEPTH: usize = 64;
/// What locks hold while maintenance has them.
const LOCK_MARK: &[u8] = b"auxin maintenance\n";
/// Refs that belong to one working tree and never go into `packed-refs`.
const OF_WORKTREES: [&[u8]; 3] = [b"refs/bisect/", b"refs/rewritten/", b"refs/worktree/"];

/// Why refs were not packed. All of them name what they named.
#[derive(Debug, thiserror::Error)]
pub enum PackRefsError {
    /// Somebody else has the lock.
    #[error("packed-refs.lock exists: someone else is packing refs; if nothing runs, remove it")]
    Locked,
    /// A file could not be worked on.
    #[error("{}: cannot be worked on", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn in_place(path: &Path) -> impl FnOnce(io::Error) -> PackRefsError + '_ {
    move |source| PackRefsError::Io {
        path: path.to_owned(),
        source,
    }
}

/// How many loose refs there are, if that is enough to pack them; else 0.
///
/// # Errors
/// [`PackRefsError`]
pub fn loose_refs_due(git_dir: &Path) -> Result<usize, PackRefsError> {
    let packed_bytes = fs::metadata(git_dir.join("packed-refs")).map_or(0, |data| data.len());
    let enough = FEW_LOOSE_REFS + usize::try_from(packed_bytes / BYTES_PER_LOOSE_REF).unwrap_or(usize::MAX);
    let mut count = 0;
    each_file(git_dir, &mut |name, _| {
        count += usize::from(!name.ends_with(b".lock"));
    })?;
    Ok(if count >= enough { count } else { 0 })
}

/// Puts loose refs into `packed-refs`, durably; gives their number. Symbolic refs stay, and so do refs
/// that changed since `snapshot` was made.
///
/// # Errors
/// [`PackRefsError`]
pub fn pack_loose_refs(git_dir: &Path, snapshot: &Snapshot) -> Result<usize, PackRefsError> {
    let path = git_dir.join("packed-refs");
    let taken = Lock::take(&path, LOCK_MARK).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => PackRefsError::Locked,
        _ => in_place(&path)(error),
    });
    let _lock = taken?;
    let mut found: Vec<(BString, ObjectId, Option<ObjectId>)> = Vec::new();
    each_file(git_dir, &mut |name, path| {
        let is_of_worktree = OF_WORKTREES.iter().any(|folder| name.starts_with(folder));
        let Some(known) = snapshot.refs.find(name.as_bstr()).filter(|_| !is_of_worktree) else {
            return;
        };
        if matches!(read_loose(path), Ok(Some(Value::Id(id))) if id == known.target) {
            found.push((name.clone(), known.target, known.peeled));
        }
    })?;
    if found.is_empty() {
        return Ok(0);
    }
    let mut refs = PackedRefs::read(git_dir).map_err(in_place(&path))?;
    refs.put(found.iter().cloned());
    refs.write(git_dir).map_err(in_place(&path))?;
    fault::point("maintenance-refs-packed");
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for (name, id, _) in &found {
        let path = git_dir.join(OsStr::from_bytes(name));
        // Whoever has it is about to change it.
        let Some(lock) = Lock::try_take(&path, LOCK_MARK).map_err(in_place(&path))? else {
            continue;
        };
        if matches!(read_loose(&path), Ok(Some(Value::Id(now))) if now == *id) {
            fs::remove_file(&path).map_err(in_place(&path))?;
            fault::point("maintenance-loose-ref-removed");
            folders.extend(path.parent().map(Path::to_owned));
        }
        drop(lock);
    }
    for folder in folders {
        sync_folder(&folder).map_err(in_place(&folder))?;
    }
    for (name, ..) in &found {
        remove_empty_folders(git_dir, name.as_bstr());
    }
    Ok(found.len())
}

/// Removes locks that a maintenance left when it was killed. The caller holds the repository's lock
/// for maintenance.
///
/// # Errors
/// [`PackRefsError`]
pub fn sweep_pack_locks(git_dir: &Path) -> Result<(), PackRefsError> {
    let is_ours = |path: &Path| fs::read(path).is_ok_and(|content| content == LOCK_MARK);
    let remove = |path: &Path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_place(path)(error)),
        _ => Ok(()),
    };
    let lock = lock_path(&git_dir.join("packed-refs"));
    if is_ours(&lock) {
        remove(&git_dir.join(packed::NEW_FILE))?;
        remove(&lock)?;
    }
    let mut left = Vec::new();
    each_file(git_dir, &mut |name, path| {
        if name.ends_with(b".lock") && is_ours(path) {
            left.push(path.to_owned());
        }
    })?;
    left.iter().try_for_each(|path| remove(path))
}

/// Removes the lock at `lock` if a maintenance left it that was killed; tells whether it did.
pub(super) fn remove_abandoned(git_dir: &Path, lock: &Path) -> bool {
    if !fs::read(lock).is_ok_and(|content| content == LOCK_MARK) {
        return false;
    }
    // As long as this is held no maintenance is at work.
    let Ok(alone) = fs::File::open(git_dir.join(LOCK_FILE)) else {
        return false;
    };
    if alone.try_lock().is_err() {
        return false;
    }
    // Looked at again: whoever had it may have let it go, and somebody else may have taken it.
    fs::read(lock).is_ok_and(|content| content == LOCK_MARK) && fs::remove_file(lock).is_ok()
}

/// Calls `see` with the name and path of every file below `refs`, locks included.
fn each_file(git_dir: &Path, see: &mut dyn FnMut(&BString, &Path)) -> Result<(), PackRefsError> {
    let mut open = vec![(PathBuf::from("refs"), 0)];
    while let Some((folder, depth)) = open.pop() {
        let full = git_dir.join(&folder);
        let entries = match fs::read_dir(&full) {
            Ok(entries) => entries,
            // Removed because it was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(in_place(&full)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(in_place(&full))?;
            let Ok(kind) = entry.file_type() else { continue };
            let name = folder.join(entry.file_name());
            if kind.is_dir() {
                if depth < MAX_FOLDER_DEPTH {
                    open.push((name, depth + 1));
                }
                continue;
            }
            let name = BString::from(name.into_os_string().into_vec());
            if name.ends_with(b".lock") || is_ref_name(&name) {
                see(&name, &entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_loose_refs_are_left_alone_and_the_more_the_longer_the_file_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let heads = folder.path().join("refs/heads");
        fs::create_dir_all(&heads).expect("folders");
        for number in 0..FEW_LOOSE_REFS {
            assert_eq!(loose_refs_due(folder.path()).expect("counts"), 0);
            fs::write(heads.join(number.to_string()), "").expect("writes");
        }
        assert_eq!(loose_refs_due(folder.path()).expect("counts"), FEW_LOOSE_REFS);

        fs::write(folder.path().join("packed-refs"), vec![b'#'; 8000]).expect("writes");

        assert_eq!(loose_refs_due(folder.path()).expect("counts"), 0);
    }

    #[test]
    fn a_lock_of_maintenance_is_taken_away_only_when_none_is_at_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = folder.path().join("main.lock");
        fs::write(&lock, LOCK_MARK).expect("writes");
        let at_work = fs::File::create(folder.path().join(LOCK_FILE)).expect("makes");
        at_work.lock().expect("free");
        assert!(!remove_abandoned(folder.path(), &lock));

        drop(at_work);

        assert!(remove_abandoned(folder.path(), &lock));
        fs::write(&lock, "").expect("writes");
        assert!(!remove_abandoned(folder.path(), &lock));
    }

    #[test]
    fn only_the_locks_of_a_dead_maintenance_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let heads = folder.path().join("refs/heads/a");
        fs::create_dir_all(&heads).expect("folders");
        fs::write(heads.join("ours.lock"), LOCK_MARK).expect("writes");
        fs::write(heads.join("theirs.lock"), "").expect("writes");
        fs::write(folder.path().join("packed-refs.lock"), LOCK_MARK).expect("writes");

        sweep_pack_locks(folder.path()).expect("sweeps");

        assert!(!heads.join("ours.lock").exists());
        assert!(heads.join("theirs.lock").exists());
        assert!(!folder.path().join("packed-refs.lock").exists());
    }
}
