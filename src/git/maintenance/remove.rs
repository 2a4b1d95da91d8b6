//! Removes what lies in new packs by now.
//!
//! Stock git may repack at the same time, and may end up with a pack of the same name as one that was
//! listed here: then that one holds what git removes our new packs for. So only the very files that were
//! listed go. Each is moved into a quarantine folder first, which takes hold of it whatever happens, and
//! moved back if it is another one. If the process dies in between, the next run moves back what it finds
//! there: a pack that should have gone is then a pack like any other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::MaintenanceError;
use super::own::{COMPANIONS, Own, OwnPack, loose_path};
use super::state::State;
use crate::git::durable;
use crate::git::fault;
use crate::git::object_store::{FileStamp, ObjectStore, Pos};
use crate::git::quarantine::{Quarantine, sweep_maintenance};
use crate::git::ref_transaction::sweep_pack_locks;

/// Folder for packs that are being removed, in a quarantine folder.
const OLD: &str = "old";

fn in_place(path: &Path) -> impl FnOnce(io::Error) -> MaintenanceError + '_ {
    move |source| MaintenanceError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Removes these packs, as far as they are still the ones that were listed; gives their number.
///
/// # Errors
/// The disk's; the rest is removed by the next run.
pub(super) fn remove_packs<'p>(
    objects_dir: &Path,
    packs: impl Iterator<Item = &'p OwnPack>,
) -> Result<usize, MaintenanceError> {
    let packs: Vec<&OwnPack> = packs.collect();
    if packs.is_empty() {
        return Ok(0);
    }
    let quarantine = Quarantine::for_maintenance(objects_dir).map_err(in_place(objects_dir))?;
    let old = quarantine.folder().join(OLD);
    fs::create_dir(&old).map_err(in_place(&old))?;
    let mut removed = 0;
    for pack in &packs {
        let Some(listed) = &pack.files else { continue };
        // A push may have brought the very same pack meanwhile, and relies on it until its refs have moved.
        if pack.path.with_extension("keep").exists() {
            continue;
        }
        let index = pack.path.with_extension("idx");
        if !take(&index, &old, &listed.index)? {
            continue;
        }
        fault::point("maintenance-index-removed");
        if !take(&pack.path, &old, &listed.pack)? {
            put_back(&old.join(index.file_name().unwrap_or_default()), &index)?;
            continue;
        }
        for extension in COMPANIONS {
            remove(&pack.path.with_extension(extension))?;
        }
        removed += 1;
    }
    let folder = objects_dir.join("pack");
    durable::sync_folder(&folder).map_err(in_place(&folder))?;
    Ok(removed)
}

/// Moves a file into a folder if it is this very one; tells whether it did.
fn take(path: &Path, folder: &Path, listed: &FileStamp) -> Result<bool, MaintenanceError> {
    let Some(name) = path.file_name() else {
        return Ok(false);
    };
    let taken = folder.join(name);
    match fs::rename(path, &taken) {
        // Stock git was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        moved => moved.map_err(in_place(path))?,
    }
    if FileStamp::read(&taken).as_ref() == Some(listed) {
        return Ok(true);
    }
    put_back(&taken, path)?;
    Ok(false)
}

/// Gives a file its name back, unless a newer one has it by now.
fn put_back(taken: &Path, path: &Path) -> Result<(), MaintenanceError> {
    match fs::hard_link(taken, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(in_place(path)(error)),
        _ => {}
    }
    remove(taken)
}

/// Removes these loose objects, and folders that are empty then.
///
/// # Errors
/// The disk's.
pub(super) fn remove_loose(objects_dir: &Path, objects: &ObjectStore, loose: &[Pos]) -> Result<(), MaintenanceError> {
    if loose.is_empty() {
        return Ok(());
    }
    for position in loose {
        let path = loose_path(objects_dir, objects, *position);
        remove(&path)?;
        fault::point("maintenance-loose-removed");
        if let Some(folder) = path.parent() {
            // Fails where others remain.
            let _ = fs::remove_dir(folder);
        }
    }
    durable::sync_folder(objects_dir).map_err(in_place(objects_dir))
}

pub(super) fn remove(path: &Path) -> Result<(), MaintenanceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_place(path)(error)),
        _ => Ok(()),
    }
}

/// Removes what a run left that was killed, and moves back what it was about to remove. The caller holds the
/// repository's lock for maintenance.
///
/// # Errors
/// The disk's.
pub fn sweep(git_dir: &Path) -> io::Result<()> {
    let objects_dir = git_dir.join("objects");
    sweep_pack_locks(git_dir).map_err(io::Error::other)?;
    State::remove_unfinished(git_dir)?;
    let packs = objects_dir.join("pack");
    for entry in fs::read_dir(&objects_dir)? {
        let old = entry?.path().join(OLD);
        let mut files: Vec<PathBuf> = match fs::read_dir(&old) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<_>>()?,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error),
        };
        // The index, which makes a pack visible, comes last.
        files.sort_by_key(|path| path.extension().is_some_and(|extension| extension == "idx"));
        for path in files {
            let Some(name) = path.file_name() else { continue };
            let target = packs.join(name);
            // What lost its other half was being removed for good.
            let has_other_half = if path.extension().is_some_and(|extension| extension == "pack") {
                path.with_extension("idx").exists() || target.with_extension("idx").exists()
            } else {
                target.with_extension("pack").exists()
            };
            if has_other_half && !target.exists() {
                fs::rename(&path, &target)?;
            }
        }
    }
    sweep_maintenance(&objects_dir)?;
    remove_widows(&packs)
}

/// Removes files that lie beside a pack that is gone. Whoever moves a pack in moves it first.
fn remove_widows(packs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(packs)? {
        let path = entry?.path();
        let is_companion = COMPANIONS
            .iter()
            .any(|ending| path.extension().is_some_and(|other| other == *ending));
        let is_of_pack = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"pack-"));
        if is_companion && is_of_pack && !path.with_extension("pack").exists() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// All that was in packs and loose files and lies in new packs now.
///
/// # Errors
/// The disk's.
pub(super) fn remove_replaced(
    objects_dir: &Path,
    objects: &ObjectStore,
    own: &Own,
    is_replaced: impl Fn(&OwnPack) -> bool,
) -> Result<usize, MaintenanceError> {
    let removed = remove_packs(objects_dir, own.packs.iter().filter(|pack| is_replaced(pack)))?;
    remove_loose(objects_dir, objects, &own.loose)?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::maintenance::own::{Listed, Role};

    fn repository() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let packs = folder.path().join("objects/pack");
        fs::create_dir_all(&packs).expect("folders");
        fs::create_dir(folder.path().join("refs")).expect("a folder");
        (folder, packs)
    }

    fn pack(packs: &Path) -> OwnPack {
        let path = packs.join("pack-1.pack");
        for extension in ["idx", "pack", "rev"] {
            fs::write(path.with_extension(extension), extension).expect("writes");
        }
        let stamp = |path: &Path| FileStamp::read(path).expect("there");
        OwnPack {
            number: 0,
            role: Role::Plain,
            objects: 1,
            files: Some(Listed {
                pack: stamp(&path),
                index: stamp(&path.with_extension("idx")),
            }),
            path,
        }
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_pack_goes_with_all_its_files_and_one_that_took_its_name_stays() {
        let (folder, packs) = repository();
        let objects = folder.path().join("objects");
        let listed = pack(&packs);
        assert_eq!(remove_packs(&objects, [&listed].into_iter()).expect("removes"), 1);
        assert_eq!((count(&packs), count(&objects)), (0, 1));

        let listed = pack(&packs);
        for extension in ["pack", "idx"] {
            let new = packs.join("new");
            fs::write(&new, "of stock git").expect("writes");
            fs::rename(new, listed.path.with_extension(extension)).expect("renames");
            assert_eq!(remove_packs(&objects, [&listed].into_iter()).expect("leaves it"), 0);
            assert_eq!(count(&packs), 3, "a new {extension} and all the others are there");
        }
        let index = fs::read_to_string(listed.path.with_extension("idx")).expect("there");
        assert_eq!((count(&packs), index.as_str()), (3, "of stock git"));
    }

    #[test]
    fn what_was_about_to_go_when_the_process_died_comes_back_whole_or_not_at_all() {
        for (gone, stays) in [("", true), ("pack", true), ("idx", false), ("all", false)] {
            let (folder, packs) = repository();
            pack(&packs);
            let old = folder.path().join("objects/incoming-auxin-maintenance-1").join(OLD);
            fs::create_dir_all(&old).expect("folders");
            let away = |extension: &str| {
                let name = format!("pack-1.{extension}");
                fs::rename(packs.join(&name), old.join(&name)).expect("moves");
            };
            away("idx");
            if gone != "pack" {
                away("pack");
            }
            // The folder was being removed.
            if gone == "idx" {
                fs::remove_file(old.join("pack-1.idx")).expect("removes");
            } else if gone == "all" {
                fs::remove_file(old.join("pack-1.pack")).expect("removes");
            }

            sweep(folder.path()).expect("sweeps");

            let is_there = |extension: &str| packs.join(format!("pack-1.{extension}")).exists();
            let found = ["pack", "idx", "rev"].map(is_there);
            assert_eq!(found, [stays; 3], "{gone}");
            assert_eq!(count(&folder.path().join("objects")), 1);
        }
    }
}
