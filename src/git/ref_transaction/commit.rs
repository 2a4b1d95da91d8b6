//! Second half of a transaction: what is locked and compared is changed, and brought to the disk.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bstr::{BStr, ByteSlice};

use super::files::{Value, read_loose, remove_empty_folders};
use super::lock::{Lock, lock_path};
use super::pack::remove_abandoned;
use super::packed::PackedRefs;
use super::prepare::Prepared;
use super::{REFS_FOR_PACKED, RefError, RefStore, RefUpdate, reflog};
use crate::git::durable::sync_folder;
use crate::git::fault;

impl RefStore<'_> {
    /// Renames, deletes, syncs. What fails here fails for the disk's sake.
    pub(super) fn commit(
        &self,
        updates: &[RefUpdate],
        prepared: &mut [Prepared],
        atomic: bool,
        results: &mut [Result<(), RefError>],
    ) {
        let writes = prepared.iter().filter(|one| !updates[one.index].is_delete()).count();
        let outcome = if writes >= REFS_FOR_PACKED {
            self.commit_packed(updates, prepared)
        } else {
            self.commit_loose(updates, prepared, atomic, results)
        };
        if let Err(error) = outcome {
            for one in prepared
                .iter()
                .filter(|one| results[one.index].is_ok())
                .collect::<Vec<_>>()
            {
                let cause = io::Error::new(error.kind(), error.to_string());
                results[one.index] = Err(RefError::io(&one.name, cause));
            }
        }
        fault::point("after-refs");
        self.write_reflogs(updates, prepared, results);
    }

    /// New values as loose files, then deletions. What may fail is done before the first ref changes.
    fn commit_loose(
        &self,
        updates: &[RefUpdate],
        prepared: &mut [Prepared],
        atomic: bool,
        results: &mut [Result<(), RefError>],
    ) -> io::Result<()> {
        let (mut deletes, writes): (Vec<_>, Vec<_>) = prepared
            .iter_mut()
            .filter(|one| !updates[one.index].is_delete() || !one.found.is_null())
            .partition(|one| updates[one.index].is_delete());
        let mut packed = None;
        if !deletes.is_empty() {
            // Held until the loose files are gone, too: `git pack-refs` would bring them back.
            let lock = self.lock_packed()?;
            let mut rest = PackedRefs::read(self.git_dir)?;
            let names: Vec<&BStr> = deletes.iter().map(|one| one.name.as_bstr()).collect();
            let staged = rest.remove(&names).then(|| rest.stage(self.git_dir)).transpose()?;
            packed = Some((lock, staged));
        }
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        let mut renamed = Vec::new();
        let mut is_whole = true;
        for one in writes {
            let Some(lock) = one.lock.take() else { continue };
            if one.found == updates[one.index].new {
                continue;
            }
            match lock.rename_to(&one.path) {
                Ok(()) => {
                    folders.extend(one.path.parent().map(Path::to_owned));
                    folders.extend(
                        one.made_folders
                            .iter()
                            .filter_map(|made| made.parent())
                            .map(Path::to_owned),
                    );
                    renamed.push(RefUpdate {
                        name: one.name.clone(),
                        old: updates[one.index].new,
                        new: one.found,
                    });
                    fault::point("after-first-ref");
                }
                Err(error) => {
                    results[one.index] = Err(RefError::io(&one.name, error));
                    is_whole = false;
                    if atomic {
                        break;
                    }
                }
            }
        }
        if atomic && !is_whole {
            drop(packed);
            self.take_back(&renamed);
            return Err(io::Error::other("another ref of this atomic push could not be written"));
        }
        for folder in folders {
            sync_folder(&folder)?;
        }
        let Some((_lock, staged)) = packed else {
            return Ok(());
        };
        if let Some(staged) = staged {
            staged.publish(self.git_dir)?;
        }
        self.delete_loose(&mut deletes)
    }

    /// Gives refs of an atomic transaction that cannot be finished their old values back.
    fn take_back(&self, renamed: &[RefUpdate]) {
        for (update, result) in renamed.iter().zip(self.apply(renamed, false, &mut ())) {
            if let Err(error) = result {
                tracing::error!(r#ref = %update.name, %error, "a ref of a failed atomic push could not be set back");
            }
        }
    }

    /// Everything into `packed-refs` in one rename; loose files that would hide it go afterwards.
    fn commit_packed(&self, updates: &[RefUpdate], prepared: &mut [Prepared]) -> io::Result<()> {
        let _lock = self.lock_packed()?;
        let mut packed = PackedRefs::read(self.git_dir)?;
        let (deletes, writes): (Vec<_>, Vec<_>) = prepared.iter().partition(|one| updates[one.index].is_delete());
        packed.remove(&deletes.iter().map(|one| one.name.as_bstr()).collect::<Vec<_>>());
        packed.put(writes.iter().map(|one| {
            let new = updates[one.index].new;
            (one.name.clone(), new, (self.peel)(&new))
        }));
        packed.write(self.git_dir)?;
        fault::point("after-first-ref");
        self.delete_loose(&mut prepared.iter_mut().collect::<Vec<_>>())
    }

    /// Removes loose files while their locks are held, then the locks and the empty folders.
    fn delete_loose(&self, gone: &mut [&mut Prepared]) -> io::Result<()> {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for one in gone.iter_mut() {
            match std::fs::remove_file(&one.path) {
                Ok(()) => folders.extend(one.path.parent().map(Path::to_owned)),
                Err(error) if error.kind() == io::ErrorKind::NotFound || one.path.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        for folder in &folders {
            sync_folder(folder)?;
        }
        for one in gone {
            one.lock = None;
            remove_empty_folders(self.git_dir, one.name.as_bstr());
        }
        Ok(())
    }

    fn lock_packed(&self) -> io::Result<Lock> {
        let path = self.git_dir.join("packed-refs");
        let mut lock = Lock::take_marked(&path);
        if lock.is_err() && remove_abandoned(self.git_dir, &lock_path(&path)) {
            lock = Lock::take_marked(&path);
        }
        lock.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::other("packed-refs.lock exists: someone else is packing refs"),
            _ => error,
        })
    }

    fn write_reflogs(&self, updates: &[RefUpdate], prepared: &[Prepared], results: &[Result<(), RefError>]) {
        if self.reflogs.is_none() && !self.git_dir.join("logs").is_dir() {
            return;
        }
        let head = match read_loose(&self.git_dir.join("HEAD")) {
            Ok(Some(Value::Symbolic(branch))) => Some(branch),
            _ => None,
        };
        for one in prepared.iter().filter(|one| results[one.index].is_ok()) {
            let new = &updates[one.index].new;
            let append = |name: &BStr| {
                let result = reflog::append(self.git_dir, self.reflogs, name, &one.found, new, self.identity);
                if let Err(error) = result {
                    tracing::warn!(r#ref = %name, %error, "a reflog could not be written");
                }
            };
            if head.as_ref() == Some(&one.name) {
                append("HEAD".into());
            }
            if new.is_null() {
                reflog::remove(self.git_dir, one.name.as_bstr());
            } else {
                append(one.name.as_bstr());
            }
        }
    }
}
