//! What this machine has already: chunks that lie in objects of `git lfs`, known by the recipes of objects that
//! passed here (`lfs/auxin/recipes`), and downloads that were cut off (`lfs/auxin/partial`).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lfs_protocol::recipe::Recipe;
use lfs_protocol::{ChunkId, Oid};

use super::lines::Failure;
use crate::git;

/// Below this size it is not worth knowing where the chunks of an object lie, in bytes.
const WORTH_BYTES: u64 = 128 << 10;
/// Most chunks whose place is known at a time; older objects are left out.
const MAX_KNOWN_CHUNKS: usize = 1 << 18;
/// A download that was cut off is thrown away after so long.
const PARTIAL_LIVES: Duration = Duration::from_secs(14 * 24 * 3600);

/// The folder of `git lfs` in a repository.
pub struct Storage {
    lfs: PathBuf,
    known: Option<HashMap<[u8; 32], Place>>,
    objects: Vec<Oid>,
}

#[derive(Clone, Copy)]
struct Place {
    object: u32,
    offset: u64,
}

impl Storage {
    /// Of the repository in which this program runs.
    ///
    /// # Errors
    /// A [`Failure`] if Git does not tell.
    pub fn here() -> Result<Self, Failure> {
        let failed = |error: git::GitError| Failure::new(500, error.to_string());
        let git = PathBuf::from(git::ask(&["rev-parse", "--git-common-dir"]).map_err(failed)?);
        let named = git::settings(&["--path", "--get", "lfs.storage"]).map_err(failed)?;
        // Of `--get`, entries are values alone.
        let lfs = named
            .first()
            .map_or_else(|| git.join("lfs"), |(folder, _)| git.join(folder));
        Ok(Self::at(
            std::path::absolute(&lfs).map_err(|error| Failure::file(&lfs, &error))?,
        ))
    }

    /// At a folder that has `objects`.
    pub fn at(lfs: PathBuf) -> Self {
        Self {
            lfs,
            known: None,
            objects: Vec::new(),
        }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.lfs
    }

    /// Whether an object of this size is here, as `git lfs` sees it.
    pub fn has_object(&self, oid: Oid, size_bytes: u64) -> bool {
        size_bytes == 0
            || fs::metadata(self.object_path(oid)).is_ok_and(|data| data.is_file() && data.len() == size_bytes)
    }

    /// Where an object of `git lfs` lies.
    pub fn object_path(&self, oid: Oid) -> PathBuf {
        let name = oid.to_string();
        self.lfs.join("objects").join(&name[..2]).join(&name[2..4]).join(name)
    }

    /// Notes where the chunks of an object lie that is or will be here. What cannot be noted is got again later.
    pub fn note(&self, recipe: &Recipe) {
        if recipe.size_bytes < WORTH_BYTES {
            return;
        }
        let folder = self.lfs.join("auxin").join("recipes");
        let made = folder.join(format!("{}.{}", recipe.oid, std::process::id()));
        let noted = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&made, recipe.to_bytes()))
            .and_then(|()| fs::rename(&made, folder.join(recipe.oid.to_string())));
        if noted.is_err() {
            let _ = fs::remove_file(&made);
        }
    }

    /// Learns where chunks lie; only once, and only for an object that is worth it.
    pub fn learn(&mut self, size_bytes: u64) {
        if self.known.is_some() || size_bytes < WORTH_BYTES {
            return;
        }
        let mut known = HashMap::new();
        let mut files: Vec<_> = fs::read_dir(self.lfs.join("auxin").join("recipes"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        for (_, path) in files {
            let recipe = fs::read(&path).ok().and_then(|bytes| Recipe::parse(&bytes).ok());
            let Some(recipe) = recipe.filter(|recipe| self.object_path(recipe.oid).is_file()) else {
                // Its object was pruned, or it is damaged.
                let _ = fs::remove_file(&path);
                continue;
            };
            if known.len() + recipe.chunks.len() > MAX_KNOWN_CHUNKS {
                break;
            }
            let object = self.objects.len() as u32;
            self.objects.push(recipe.oid);
            let mut offset = 0;
            for (id, raw_bytes) in &recipe.chunks {
                known.entry(*id.as_bytes()).or_insert(Place { object, offset });
                offset += u64::from(*raw_bytes);
            }
        }
        self.known = Some(known);
    }

    /// Reads a chunk into `out` if it lies in some object, checked.
    pub fn read(&mut self, id: ChunkId, raw_bytes: u32, open: &mut Option<(u32, File)>, out: &mut Vec<u8>) -> bool {
        let Some(place) = self.known.as_ref().and_then(|known| known.get(id.as_bytes())).copied() else {
            return false;
        };
        if open.as_ref().is_none_or(|(object, _)| *object != place.object) {
            let path = self.object_path(self.objects[place.object as usize]);
            *open = File::open(path).ok().map(|file| (place.object, file));
        }
        let is_read = open
            .as_ref()
            .is_some_and(|(_, file)| read_at(file, place.offset, raw_bytes, out).is_ok() && ChunkId::of(out) == id);
        if !is_read && let Some(known) = &mut self.known {
            known.remove(id.as_bytes());
        }
        is_read
    }

    /// Whether a chunk should lie in some object.
    pub fn has(&self, id: ChunkId) -> bool {
        self.known
            .as_ref()
            .is_some_and(|known| known.contains_key(id.as_bytes()))
    }

    /// The file in which a download lies until it is whole, locked; what an earlier try has left is in it. If another
    /// program has it open, an empty one of our own.
    ///
    /// # Errors
    /// A [`Failure`] if it cannot be written.
    pub fn partial(&self, oid: Oid) -> Result<(PathBuf, File), Failure> {
        let folder = self.lfs.join("auxin").join("partial");
        fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
        let path = folder.join(oid.to_string());
        let file = open(&path)?;
        if file.try_lock().is_ok() {
            return Ok((path, file));
        }
        let path = folder.join(format!("{oid}.{}", std::process::id()));
        let file = open(&path)?;
        file.set_len(0).map_err(|error| Failure::file(&path, &error))?;
        Ok((path, file))
    }

    /// Throws away downloads that nobody went on with.
    pub fn tidy(&self) {
        for entry in fs::read_dir(self.lfs.join("auxin").join("partial"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let age = entry
                .metadata()
                .and_then(|data| data.modified())
                .ok()
                .and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > PARTIAL_LIVES) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    let mut options = fs::OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(|error| Failure::file(path, &error))
}

/// Reads `len` bytes from `offset` on.
pub fn read_at(mut file: &File, offset: u64, len: u32, out: &mut Vec<u8>) -> io::Result<()> {
    out.resize(len as usize, 0);
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}
