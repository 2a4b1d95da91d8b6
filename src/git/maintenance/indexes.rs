//! What helps to find objects in packs: multi-pack-index and commit-graph.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::MaintenanceError;
use super::own::Own;
use super::remove::remove;
use crate::git::durable;
use crate::git::fault;
use crate::git::midx;
use crate::git::object_store::{ObjectStore, Pack};
use crate::git::quarantine::Quarantine;

/// Name of the multi-pack-index, and how the names of the files that go with it begin.
const MULTI_PACK_INDEX: &str = "multi-pack-index";
/// Mode of everything in a pack folder: never written again.
const READ_ONLY: u32 = 0o444;

fn in_place(path: &Path) -> impl FnOnce(io::Error) -> MaintenanceError + '_ {
    move |source| MaintenanceError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Writes the multi-pack-index over the repository's own packs but those of which `is_going` says so, or
/// removes it where one pack is left. Gives the number of packs in it.
///
/// To be called before packs are removed: git takes for granted that what it lists is there. `preferred`
/// is the pack, by its name without an ending, from which an object in several packs is taken.
///
/// # Errors
/// [`MaintenanceError`]; the old one is then in place.
pub(super) fn write_multi_pack_index(
    objects_dir: &Path,
    objects: &ObjectStore,
    preferred: Option<&str>,
    is_going: impl Fn(&Path) -> bool,
) -> Result<usize, MaintenanceError> {
    let folder = objects_dir.join("pack");
    let path = folder.join(MULTI_PACK_INDEX);
    let own = Own::find(objects, objects_dir);
    let staying: Vec<&Pack> = own
        .packs
        .iter()
        .filter(|pack| !is_going(&pack.path))
        .map(|pack| &*objects.packs()[pack.number])
        .collect();
    if staying.len() < 2 {
        remove_multi_pack_index(objects_dir)?;
        return Ok(0);
    }
    if lists_just(&path, &staying, objects) {
        return Ok(staying.len());
    }
    let is_preferred = |pack: &&Pack| pack.path().file_stem().and_then(|stem| stem.to_str()) == preferred;
    let first = staying.iter().position(is_preferred).unwrap_or(0);
    let quarantine = Quarantine::for_maintenance(objects_dir).map_err(in_place(objects_dir))?;
    let new = quarantine.folder().join(MULTI_PACK_INDEX);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&new)
        .map_err(in_place(&new))?;
    let (mut out, written) = midx::write(&staying, first, BufWriter::with_capacity(128 << 10, file))?;
    out.flush().map_err(in_place(&new))?;
    let file = out.into_inner().map_err(|error| in_place(&new)(error.into_error()))?;
    file.set_permissions(fs::Permissions::from_mode(READ_ONLY))
        .and_then(|()| durable::sync_file(&file))
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| durable::sync_folder(&folder))
        .map_err(in_place(&path))?;
    fault::point("maintenance-multi-pack-index-written");
    remove_companions(&folder, Some(&written.checksum.to_string()))?;
    Ok(staying.len())
}

/// Removes the multi-pack-index, if there is one, and what goes with it.
///
/// # Errors
/// The disk's.
pub(super) fn remove_multi_pack_index(objects_dir: &Path) -> Result<(), MaintenanceError> {
    let folder = objects_dir.join("pack");
    let path = folder.join(MULTI_PACK_INDEX);
    if path.exists() {
        remove_companions(&folder, None)?;
        remove(&path)?;
        durable::sync_folder(&folder).map_err(in_place(&folder))?;
    }
    Ok(())
}

/// Whether the multi-pack-index is over these packs and no others.
fn lists_just(path: &Path, packs: &[&Pack], objects: &ObjectStore) -> bool {
    let Ok(index) = midx::Midx::open(path, objects.hash()) else {
        return false;
    };
    let mut names: Vec<String> = packs
        .iter()
        .filter_map(|pack| Some(pack.path().with_extension("idx").file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    let mut listed: Vec<String> = index
        .pack_names()
        .iter()
        .map(|name| name.display().to_string())
        .collect();
    listed.sort();
    names == listed
}

/// Removes bitmaps and reverse indexes of other multi-pack-indexes.
fn remove_companions(folder: &Path, of: Option<&str>) -> Result<(), MaintenanceError> {
    for entry in fs::read_dir(folder).map_err(in_place(folder))? {
        let path = entry.map_err(in_place(folder))?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let Some(rest) = name
            .strip_prefix(MULTI_PACK_INDEX)
            .and_then(|rest| rest.strip_prefix('-'))
        else {
            continue;
        };
        let is_companion = rest.ends_with(".bitmap") || rest.ends_with(".rev");
        if is_companion && of.is_none_or(|of| !rest.starts_with(of)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the commit-graph: before commits go that it may list, which git would call damage.
///
/// # Errors
/// The disk's.
pub(super) fn remove_commit_graph(objects_dir: &Path) -> Result<(), MaintenanceError> {
    let info = objects_dir.join("info");
    remove(&info.join("commit-graph"))?;
    let chain = info.join("commit-graphs");
    remove(&chain.join("commit-graph-chain"))?;
    match fs::read_dir(&chain) {
        Ok(entries) => {
            for entry in entries {
                remove(&entry.map_err(in_place(&chain))?.path())?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(in_place(&chain)(error)),
    }
}
