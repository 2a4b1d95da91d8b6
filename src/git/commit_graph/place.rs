//! Files of a commit-graph on disk: written aside, synced, renamed; what they replace goes last.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gix::hash::ObjectId;

use super::encode::Table;
use super::{CHAIN_FILE, CHAIN_FOLDER, ONE_FILE, layer_name};
use crate::git::durable::{sync_file, sync_folder};

/// Age from which a lock or a half-written layer is taken for that of a process that died.
const STALE: Duration = Duration::from_secs(60 * 60);
/// How half-written layers begin, as git's do.
const HALF_WRITTEN: &str = "tmp_graph_";
/// Mode of a finished file: never written again.
const READ_ONLY: u32 = 0o444;

/// Git's lock on a file of the graph; let go when dropped.
pub(super) struct Lock {
    path: PathBuf,
    target: PathBuf,
    file: File,
    is_held: bool,
}

impl Lock {
    /// Takes the lock on the graph in one file, or on the chain.
    ///
    /// # Errors
    /// `AlreadyExists` if somebody writes the graph just now; else the disk's.
    pub fn take(objects_dir: &Path, is_chain: bool) -> io::Result<Self> {
        make_folder(&objects_dir.join("info"))?;
        if is_chain {
            make_folder(&objects_dir.join(CHAIN_FOLDER))?;
        }
        let target = objects_dir.join(if is_chain { CHAIN_FILE } else { ONE_FILE });
        let path = target.with_added_extension("lock");
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_stale(&path) => {
                fs::remove_file(&path)?;
                open()?
            }
            opened => opened?,
        };
        Ok(Self {
            path,
            target,
            file,
            is_held: true,
        })
    }

    /// Puts what was written to the lock in the place of the file, durably.
    fn put_in_place(mut self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(READ_ONLY))?;
        sync_file(&self.file)?;
        fs::rename(&self.path, &self.target)?;
        self.is_held = false;
        self.target.parent().map_or(Ok(()), sync_folder)
    }

    /// Writes the graph in one file.
    pub fn write_one_file(self, table: &Table<'_>) -> io::Result<()> {
        table.encode(BufWriter::new(&self.file))?;
        self.put_in_place()
    }

    /// Writes a layer and the chain that ends with it; returns its checksum.
    pub fn write_layer(mut self, objects_dir: &Path, table: &Table<'_>) -> io::Result<ObjectId> {
        let folder = objects_dir.join(CHAIN_FOLDER);
        let aside = HalfWritten(folder.join(format!("{HALF_WRITTEN}{:016x}", rand::random::<u64>())));
        let file = File::create_new(&aside.0)?;
        let checksum = table.encode(BufWriter::new(&file))?;
        file.set_permissions(Permissions::from_mode(READ_ONLY))?;
        sync_file(&file)?;
        fs::rename(&aside.0, folder.join(layer_name(&checksum)))?;
        sync_folder(&folder)?;
        for layer in table.below.iter().chain([&checksum]) {
            writeln!(self.file, "{layer}")?;
        }
        self.put_in_place()?;
        Ok(checksum)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_held {
            // If this fails the next writer says that the lock is held, until it is stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removed when dropped, if it is still there.
struct HalfWritten(PathBuf);

impl Drop for HalfWritten {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the graph in one file: a chain took its place.
pub(super) fn remove_one_file(objects_dir: &Path) -> io::Result<()> {
    if remove(&objects_dir.join(ONE_FILE))? {
        sync_folder(&objects_dir.join("info"))?;
    }
    Ok(())
}

/// Removes the chain: one file took its place. The list goes before what it lists.
pub(super) fn remove_chain(objects_dir: &Path) -> io::Result<()> {
    if remove(&objects_dir.join(CHAIN_FILE))? {
        sync_folder(&objects_dir.join(CHAIN_FOLDER))?;
    }
    remove_layers(objects_dir, &[])
}

/// Removes the layers that are not in use, and what dead processes left half-written.
pub(super) fn remove_layers(objects_dir: &Path, in_use: &[ObjectId]) -> io::Result<()> {
    let folder = objects_dir.join(CHAIN_FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let names: Vec<String> = in_use.iter().map(layer_name).collect();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_old_layer = name.ends_with(".graph") && !names.iter().any(|used| *used == name);
        if is_old_layer || name.starts_with(HALF_WRITTEN) && is_stale(&entry.path()) {
            remove(&entry.path())?;
        }
    }
    sync_folder(&folder)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether there was one.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > STALE))
}
