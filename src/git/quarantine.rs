//! Where pushed objects wait until the push is accepted.
//!
//! A folder of its own inside `objects`, so that moving in is a rename, and under a name that `git prune`
//! leaves alone. It is removed when it is dropped: after any refusal, error, panic or
//! disconnect. What a killed process leaves is removed at the next start ([`sweep`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind;

use super::durable::{sync_file, sync_folder};
use super::fault;

/// How our quarantine folders begin. Not with `tmp_`: `git prune --expire=now` removes that, and with it
/// pushes that are under way.
const PREFIX: &str = "incoming-auxin-";

/// How those of maintenance go on: only who holds its lock may remove them.
const MAINTENANCE: &str = "maintenance-";

/// Mode of an object file: never written again.
const READ_ONLY: u32 = 0o444;

/// What stands in the `.keep` file of a pack that a push is about to make refs for.
const KEEP_MARK: &[u8] = b"auxin: a push is under way\n";

/// Bytes compared at once.
const COMPARE_BUFFER_BYTES: usize = 64 << 10;

/// A quarantine folder; removed when dropped.
#[derive(Debug)]
pub struct Quarantine {
    objects: PathBuf,
    folder: PathBuf,
    is_own_folder: bool,
}

impl Quarantine {
    /// Makes one in the object folder `objects`.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(objects: &Path) -> io::Result<Self> {
        if fault::is_on("no-quarantine") {
            return Ok(Self {
                objects: objects.to_owned(),
                folder: objects.to_owned(),
                is_own_folder: false,
            });
        }
        Self::with_prefix(objects, PREFIX)
    }

    /// Makes one for packs that maintenance writes. The caller holds the repository's lock for that.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::git) fn for_maintenance(objects: &Path) -> io::Result<Self> {
        Self::with_prefix(objects, &format!("{PREFIX}{MAINTENANCE}"))
    }

    fn with_prefix(objects: &Path, prefix: &str) -> io::Result<Self> {
        let folder = objects.join(format!("{prefix}{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder)?;
        let quarantine = Self {
            objects: objects.to_owned(),
            folder,
            is_own_folder: true,
        };
        fs::create_dir(quarantine.pack_folder())?;
        Ok(quarantine)
    }

    /// The folder, which has the form of an object folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder for packs.
    pub fn pack_folder(&self) -> PathBuf {
        self.folder.join("pack")
    }

    /// Puts the empty tree here, for repositories that lack it.
    ///
    /// # Errors
    /// The disk's.
    pub fn add_empty_tree(&self, hash: Kind) -> io::Result<()> {
        self.add_loose(&ObjectId::empty_tree(hash), "tree", b"")
    }

    /// Puts one object here, of this id, kind and content.
    ///
    /// # Errors
    /// The disk's.
    pub fn add_loose(&self, id: &ObjectId, kind: &str, content: &[u8]) -> io::Result<()> {
        let id = id.to_string();
        let folder = self.folder.join(&id[..2]);
        fs::create_dir_all(&folder)?;
        let mut file = ZlibEncoder::new(File::create(folder.join(&id[2..]))?, Compression::default());
        write!(file, "{kind} {}\0", content.len())?;
        file.write_all(content)?;
        file.finish()?.set_permissions(Permissions::from_mode(READ_ONLY))
    }

    /// Moves everything into the object folder, durably: first contents, then names, and each
    /// index after its pack. Hooks may have written objects here, too.
    ///
    /// A pack that is there already is left as it is.
    ///
    /// # Errors
    /// The disk's. Then some files may have been moved; no ref names anything in them.
    pub fn migrate(self) -> io::Result<()> {
        if !self.is_own_folder {
            return sync_folder(&self.pack_folder());
        }
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_loose = name.len() == 2 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
            if is_loose && entry.file_type()?.is_dir() {
                migrate_loose(&entry.path(), &self.objects.join(name))?;
            }
        }
        migrate_packs(&self.pack_folder(), &self.objects.join("pack"))
    }

    /// Like [`Quarantine::migrate`], for objects that no ref names yet. As git does it: a `.keep` file
    /// holds `git repack -a -d` off until refs name them.
    ///
    /// # Errors
    /// The disk's, as for [`Quarantine::migrate`].
    pub fn migrate_kept(self) -> io::Result<KeptPacks> {
        let mut kept = KeptPacks::default();
        if self.is_own_folder {
            for entry in fs::read_dir(self.pack_folder())? {
                let name = PathBuf::from(entry?.file_name());
                if name.extension().is_none_or(|extension| extension != "pack") {
                    continue;
                }
                let keep = self.objects.join("pack").join(name.with_extension("keep"));
                match OpenOptions::new().write(true).create_new(true).open(&keep) {
                    Ok(mut file) => {
                        kept.0.push(keep);
                        file.write_all(KEEP_MARK)?;
                    }
                    // Somebody keeps this very pack already.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.migrate()?;
        Ok(kept)
    }
}

/// Packs that moved in and that no repack may drop, because no ref names yet what is in them; let go
/// when dropped.
#[derive(Debug, Default)]
#[must_use = "the packs are protected only as long as this lives"]
pub struct KeptPacks(Vec<PathBuf>);

impl Drop for KeptPacks {
    fn drop(&mut self) {
        for keep in &self.0 {
            if let Err(error) = fs::remove_file(keep) {
                tracing::warn!(file = %keep.display(), %error, "a .keep file of a push stays until the next start");
            }
        }
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        if self.is_own_folder
            && let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(folder = %self.folder.display(), %error, "a quarantine folder could not be removed");
        }
    }
}

/// Moves loose objects; those that are there already stay.
fn migrate_loose(from: &Path, to: &Path) -> io::Result<()> {
    if let Err(error) = fs::create_dir(to)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if !target.exists() {
            sync_file(&File::open(entry.path())?)?;
            fs::rename(entry.path(), target)?;
        }
    }
    sync_folder(to)?;
    to.parent().map_or(Ok(()), sync_folder)
}

/// Moves packs: contents to the disk, then pack, further files and index by name, then the folder.
fn migrate_packs(from: &Path, to: &Path) -> io::Result<()> {
    let mut packs: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(stem) = path
            .file_stem()
            .filter(|stem| stem.as_encoded_bytes().starts_with(b"pack-"))
        {
            packs.entry(stem.to_owned()).or_default().push(path);
        }
    }
    for files in packs.values_mut() {
        files.sort_by_key(|path| place_in_line(path));
        for path in files.iter() {
            let file = File::open(path)?;
            file.set_permissions(Permissions::from_mode(READ_ONLY))?;
            sync_file(&file)?;
        }
        fault::point("after-pack-fsync");
        if is_there_already(files, to)? {
            continue;
        }
        for path in files.iter() {
            let Some(name) = path.file_name() else { continue };
            fs::rename(path, to.join(name))?;
            match path.extension() {
                Some(extension) if extension == "pack" => fault::point("after-pack-rename"),
                Some(extension) if extension == "idx" => fault::point("after-idx-rename"),
                _ => {}
            }
        }
    }
    sync_folder(to)
}

/// The pack first, the index, which makes it visible, last.
fn place_in_line(path: &Path) -> u8 {
    match path.extension().map(|extension| extension.as_encoded_bytes()) {
        Some(b"keep") => 0,
        Some(b"pack") => 1,
        Some(b"idx") => 3,
        _ => 2,
    }
}

/// Whether this very pack is in `to` with its index. The name is a hash of the pack, but not one that
/// resists attacks, so the indexes are compared: they name every object by one that does.
fn is_there_already(files: &[PathBuf], to: &Path) -> io::Result<bool> {
    let Some(index) = files
        .iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "idx"))
    else {
        return Ok(false);
    };
    let Some(name) = index.file_name() else {
        return Ok(false);
    };
    let there = to.join(name);
    if !there.exists() || !there.with_extension("pack").exists() {
        return Ok(false);
    }
    if is_same_content(index, &there)? {
        return Ok(true);
    }
    Err(io::Error::other(format!(
        "another pack has the name {} already",
        there.display()
    )))
}

fn is_same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; COMPARE_BUFFER_BYTES], vec![0; COMPARE_BUFFER_BYTES]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

/// At start: removes the quarantine folders and `.keep` files that a dead process left in the
/// repository at `git_dir`, and completes packs that it had moved in only half.
///
/// No server process but this one may be at work on it; folders of stock git are left alone, and so
/// are those of maintenance, which a command beside the server may be at.
///
/// # Errors
/// The disk's.
pub fn sweep(git_dir: &Path) -> io::Result<()> {
    let objects = git_dir.join("objects");
    sweep_folders(&objects, |rest| !rest.starts_with(MAINTENANCE.as_bytes()))?;
    for entry in fs::read_dir(objects.join("pack"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "keep")
            && fs::read(&path).is_ok_and(|content| content == KEEP_MARK)
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Removes what a dead maintenance left. The caller holds the repository's lock for that.
///
/// # Errors
/// The disk's.
pub(in crate::git) fn sweep_maintenance(objects: &Path) -> io::Result<()> {
    sweep_folders(objects, |rest| rest.starts_with(MAINTENANCE.as_bytes()))
}

/// Removes the quarantine folders whose name goes on as `is_dead` says.
fn sweep_folders(objects: &Path, is_dead: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .as_encoded_bytes()
            .strip_prefix(PREFIX.as_bytes())
            .is_some_and(&is_dead)
        {
            complete_half_moved(&entry.path().join("pack"), &objects.join("pack"))?;
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Moves the rest in of packs that were moved in only half: they had been accepted and synced.
fn complete_half_moved(from: &Path, to: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?,
    };
    files.sort_by_key(|path| place_in_line(path));
    for path in files {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        let is_half = target.with_extension("pack").exists() && !target.with_extension("idx").exists();
        if is_half && path.extension().is_some_and(|extension| extension != "pack") && !target.exists() {
            fs::rename(&path, &target)?;
        }
    }
    sync_folder(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> tempfile::TempDir {
        let objects = tempfile::tempdir().expect("temporary folder");
        fs::create_dir_all(objects.path().join("objects/pack")).expect("makes folders");
        objects
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("readable");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn pack_in(quarantine: &Quarantine, content: &str) {
        for extension in ["pack", "idx", "rev"] {
            let path = quarantine.pack_folder().join("pack-1").with_extension(extension);
            fs::write(path, format!("{extension} {content}")).expect("writes");
        }
    }

    #[test]
    fn what_is_not_accepted_leaves_nothing() {
        let repo = objects();
        let objects = repo.path().join("objects");

        let quarantine = Quarantine::new(&objects).expect("made");
        pack_in(&quarantine, "content");
        assert_eq!(names(&objects).len(), 2);
        drop(quarantine);

        assert_eq!(names(&objects), ["pack"]);
        assert!(names(&objects.join("pack")).is_empty());
    }

    #[test]
    fn what_is_accepted_moves_in_read_only() {
        let repo = objects();
        let objects = repo.path().join("objects");
        let quarantine = Quarantine::new(&objects).expect("made");
        pack_in(&quarantine, "content");
        fs::create_dir(quarantine.folder().join("ab")).expect("makes a folder");
        fs::write(quarantine.folder().join("ab/cdef"), "loose").expect("writes");

        quarantine.migrate().expect("moves");

        assert_eq!(names(&objects), ["ab", "pack"]);
        assert_eq!(
            names(&objects.join("pack")),
            ["pack-1.idx", "pack-1.pack", "pack-1.rev"]
        );
        let mode = fs::metadata(objects.join("pack/pack-1.pack"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, READ_ONLY);
    }

    #[test]
    fn a_pack_that_is_there_already_stays_and_one_that_only_looks_like_it_is_refused() {
        let repo = objects();
        let objects = repo.path().join("objects");
        for _ in 0..2 {
            let quarantine = Quarantine::new(&objects).expect("made");
            pack_in(&quarantine, "content");
            quarantine.migrate().expect("moves");
        }
        let quarantine = Quarantine::new(&objects).expect("made");
        pack_in(&quarantine, "attack!");

        assert!(quarantine.migrate().is_err());

        assert_eq!(
            fs::read_to_string(objects.join("pack/pack-1.pack")).expect("there"),
            "pack content"
        );
        assert_eq!(names(&objects), ["pack"]);
    }

    #[test]
    fn a_pack_whose_index_a_crash_took_is_completed() {
        let repo = objects();
        let objects = repo.path().join("objects");
        fs::write(objects.join("pack/pack-1.pack"), "pack content").expect("writes");
        let quarantine = Quarantine::new(&objects).expect("made");
        pack_in(&quarantine, "content");

        quarantine.migrate().expect("moves");

        assert_eq!(
            names(&objects.join("pack")),
            ["pack-1.idx", "pack-1.pack", "pack-1.rev"]
        );
    }

    #[test]
    fn at_start_a_pack_that_was_moved_in_only_half_is_completed_and_maintenance_is_left_alone() {
        let repo = objects();
        let objects = repo.path().join("objects");
        let quarantine = Quarantine::new(&objects).expect("made");
        pack_in(&quarantine, "content");
        fs::rename(
            quarantine.pack_folder().join("pack-1.pack"),
            objects.join("pack/pack-1.pack"),
        )
        .expect("renames");
        std::mem::forget(quarantine);
        let of_maintenance = Quarantine::for_maintenance(&objects).expect("made");

        sweep(repo.path()).expect("sweeps");

        assert_eq!(
            names(&objects.join("pack")),
            ["pack-1.idx", "pack-1.pack", "pack-1.rev"]
        );
        assert!(of_maintenance.folder().exists());
        std::mem::forget(of_maintenance);
        sweep_maintenance(&objects).expect("sweeps");
        assert_eq!(names(&objects), ["pack"]);
    }

    #[test]
    fn what_waits_is_left_alone_by_stock_git() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let git = |arguments: &[&str]| {
            let status = std::process::Command::new("git")
                .current_dir(folder.path())
                .args(arguments)
                .status();
            assert!(status.expect("git runs").success(), "{arguments:?}");
        };
        git(&["init", "-q", "--bare", "."]);
        let quarantine = Quarantine::new(&folder.path().join("objects")).expect("made");
        pack_in(&quarantine, "content");

        git(&["gc", "-q", "--prune=now"]);
        git(&["prune", "--expire=now"]);

        assert_eq!(
            names(&quarantine.pack_folder()),
            ["pack-1.idx", "pack-1.pack", "pack-1.rev"]
        );
    }

    #[test]
    fn at_start_our_leftovers_go_and_those_of_git_stay() {
        let repo = objects();
        let objects = repo.path().join("objects");
        std::mem::forget(Quarantine::new(&objects).expect("made"));
        fs::create_dir(objects.join("tmp_objdir-incoming-Xy12Zz")).expect("makes a folder");

        fs::write(objects.join("pack/pack-1.keep"), KEEP_MARK).expect("writes");
        fs::write(objects.join("pack/pack-2.keep"), "mine").expect("writes");

        sweep(repo.path()).expect("sweeps");

        assert_eq!(names(&objects), ["pack", "tmp_objdir-incoming-Xy12Zz"]);
        assert_eq!(names(&objects.join("pack")), ["pack-2.keep"]);
    }
}
