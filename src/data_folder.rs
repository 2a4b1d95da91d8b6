//! The folder that holds everything a server owns, and the lock that says who serves it.
//!
//! ```text
//! auxin.toml                settings
//! auxin.db                  database
//! auxin.lock                locked by the process that serves; holds its process id and address
//! secrets/                  signing key; one file each, readable by the owner alone
//! repos/{owner}/{name}.git  bare repositories
//! store/ tmp/ cache/
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::TryRng as _;

/// The data folder when nobody names one.
pub const DEFAULT_DATA_FOLDER: &str = "auxin-data";
/// Length of a secret that the program makes for itself, in bytes.
pub const SECRET_BYTES: usize = 32;
/// Largest file in `secrets/`, in bytes.
const MAX_SECRET_FILE_BYTES: u64 = 4096;

/// Largest lock file that is read, in bytes.
const MAX_LOCK_FILE_BYTES: u64 = 4096;

const LOCK_FILE: &str = "auxin.lock";
const SETTINGS_FILE: &str = "auxin.toml";
const DATABASE_FILE: &str = "auxin.db";
const FOLDERS: &[&str] = &["secrets", "repos", "store", "tmp", "cache"];

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// There is none at this path.
    #[error(
        "There is no data folder at {}. `auxin serve` makes one; to use another, name it with --data DIR or AUXIN_DATA.",
        .0.display()
    )]
    Missing(PathBuf),
    /// The folder holds something else.
    #[error(
        "{} is not empty and is not a data folder of Auxin. Name an empty or a new folder with --data DIR.",
        .0.display()
    )]
    Foreign(PathBuf),
    /// Another process serves it.
    #[error("{}", served_by(path, *pid))]
    Served {
        /// The data folder.
        path: PathBuf,
        /// The process that serves it; `None` while that one is just starting.
        pid: Option<u32>,
    },
    /// A file in `secrets/` is not what was written there.
    #[error(
        "{} is damaged. Restore it from a backup; if there is none, move it away, and the next start makes a new one (links that were signed with the old one stop working).",
        .0.display()
    )]
    DamagedSecret(PathBuf),
    /// The operating system refused.
    #[error("The data folder cannot be used: {} {}: {cause}.", doing, path.display())]
    Io {
        /// What was being done, such as `creating`.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
}

fn served_by(path: &Path, pid: Option<u32>) -> String {
    let who = match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    };
    let stop = match pid {
        Some(pid) => format!("Stop it first (kill {pid})"),
        None => "Stop it first".to_owned(),
    };
    format!(
        "The data folder {} is being served by {who}. {stop}, or start this server with another folder (--data DIR).",
        path.display()
    )
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DataFolderError + 'a {
    move |cause| DataFolderError::Io {
        doing,
        path: path.to_owned(),
        cause,
    }
}

/// An existing data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DataFolder {
    path: Arc<Path>,
}

/// Held while this process serves the data folder; the operating system lets go of it whenever
/// the process ends, however it ends.
#[derive(Debug)]
pub struct ServingLock {
    file: File,
}

impl ServingLock {
    /// Tells commands at which address this process serves.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn announce(&mut self, address: &str) -> io::Result<()> {
        self.write(&format!("{}\n{address}\n", std::process::id()))
    }

    /// Takes back the address, and lets go of the lock only when the process ends.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn keep_until_exit(mut self) -> io::Result<()> {
        let taken_back = self.write(&format!("{}\n", std::process::id()));
        std::mem::forget(self);
        taken_back
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for ServingLock {
    fn drop(&mut self) {
        // What is left here when the process is killed says no more than where it was last served.
        let _ = self.file.set_len(0);
    }
}

impl DataFolder {
    /// The data folder at `path`, which must be there.
    ///
    /// # Errors
    /// [`DataFolderError::Missing`] and [`DataFolderError::Foreign`].
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let resolved = fs::canonicalize(path).map_err(|_| DataFolderError::Missing(path.to_owned()))?;
        if is_data_folder(&resolved) {
            Ok(Self { path: resolved.into() })
        } else if is_empty(&resolved) {
            Err(DataFolderError::Missing(path.to_owned()))
        } else {
            Err(DataFolderError::Foreign(path.to_owned()))
        }
    }

    /// The data folder at `path`, made if there is none; whatever a start that was broken off left
    /// out is added. New folders are readable by their owner alone.
    ///
    /// # Errors
    /// [`DataFolderError::Foreign`] when the folder holds something else, and then nothing changed.
    pub fn create(path: &Path) -> Result<Self, DataFolderError> {
        if !path.exists() {
            make_folder(path)?;
        }
        let path = fs::canonicalize(path).map_err(failed("finding", path))?;
        if !is_data_folder(&path) {
            if !is_empty(&path) {
                return Err(DataFolderError::Foreign(path));
            }
            // The lock file comes first: it marks the folder as ours should this start be cut short.
            let lock = path.join(LOCK_FILE);
            open_private(&lock, false).map_err(failed("creating", &lock))?;
            sync_folder(&path)?;
        }
        for name in FOLDERS {
            let folder = path.join(name);
            if !folder.is_dir() {
                make_folder(&folder)?;
            }
        }
        sync_folder(&path)?;
        if let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
        Ok(Self { path: path.into() })
    }

    /// Where it is; an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `auxin.toml`.
    pub fn settings_file(&self) -> PathBuf {
        settings_file(&self.path)
    }

    /// `auxin.db`.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// `repos/`, with a folder per owner.
    pub fn repos(&self) -> PathBuf {
        self.path.join("repos")
    }

    /// `store/`.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// `tmp/`: on the same file system as `repos/`, so that what is made here can be renamed there.
    pub fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// `cache/`: may be deleted at any time.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Takes the right to serve this folder. Commands do not need it.
    ///
    /// # Errors
    /// [`DataFolderError::Served`] while another process has it.
    pub fn lock_for_serving(&self) -> Result<ServingLock, DataFolderError> {
        let path = self.path.join(LOCK_FILE);
        let mut file = open_private(&path, false).map_err(failed("opening", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataFolderError::Served {
                    path: self.path.to_path_buf(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(cause)) => return Err(failed("locking", &path)(cause)),
        }
        let mut lock = ServingLock { file };
        lock.write(&format!("{}\n", std::process::id()))
            .map_err(failed("writing", &path))?;
        Ok(lock)
    }

    /// Whether a process serves this folder right now.
    ///
    /// Asks for the lock for a moment, which a server that starts in the very same moment would take
    /// for another server: so only ask when it matters.
    pub fn is_served(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LOCK_FILE)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Bytes that are free for this user on the file system of the folder.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&*self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Where the process that serves this folder, or the last one that was killed, can be reached.
    pub fn announced_address(&self) -> Option<String> {
        let mut file = File::open(self.path.join(LOCK_FILE)).ok()?;
        let text = read_announcement(&mut file)?;
        text.lines().nth(1).map(str::to_owned)
    }

    /// The secret `name`, [`SECRET_BYTES`] random bytes, made when first asked for. Two processes
    /// that ask at once get the same.
    ///
    /// # Errors
    /// [`DataFolderError::DamagedSecret`] when the file has another length.
    pub fn secret(&self, name: &str) -> Result<[u8; SECRET_BYTES], DataFolderError> {
        let _alone = self.lock_secrets()?;
        let path = self.secret_path(name);
        if let Some(bytes) = self.read_secret(name)? {
            return bytes.try_into().map_err(|_| DataFolderError::DamagedSecret(path));
        }
        let mut bytes = [0; SECRET_BYTES];
        rand::rngs::SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|cause| failed("making a random", &path)(io::Error::other(cause)))?;
        write_durably(&path, &bytes)?;
        Ok(bytes)
    }

    /// The bytes kept under `name` in `secrets/`, if there are any.
    ///
    /// # Errors
    /// [`DataFolderError::Io`] when the file is there and cannot be read.
    pub fn read_secret(&self, name: &str) -> Result<Option<Vec<u8>>, DataFolderError> {
        let path = self.secret_path(name);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file
                .take(MAX_SECRET_FILE_BYTES)
                .read_to_end(&mut bytes)
                .map_err(failed("reading", &path))?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("reading", &path)(cause)),
        };
        Ok(Some(bytes))
    }

    /// Keeps `bytes` under `name` in `secrets/`; durable when this returns.
    ///
    /// # Errors
    /// [`DataFolderError::Io`].
    pub fn write_secret(&self, name: &str, bytes: &[u8]) -> Result<(), DataFolderError> {
        let _alone = self.lock_secrets()?;
        write_durably(&self.secret_path(name), bytes)
    }

    /// Forgets `name`; it need not be there.
    ///
    /// # Errors
    /// [`DataFolderError::Io`].
    pub fn remove_secret(&self, name: &str) -> Result<(), DataFolderError> {
        let path = self.secret_path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.path.join("secrets")),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(failed("removing", &path)(cause)),
        }
    }

    /// Writes the commented settings file unless there is one. Returns whether it was written.
    ///
    /// # Errors
    /// [`DataFolderError::Io`].
    pub fn write_settings_once(&self, text: &str) -> Result<bool, DataFolderError> {
        let path = self.settings_file();
        if path.exists() {
            return Ok(false);
        }
        write_durably(&path, text.as_bytes())?;
        Ok(true)
    }

    fn secret_path(&self, name: &str) -> PathBuf {
        self.path.join("secrets").join(name)
    }

    /// Waits until no other process changes `secrets/`.
    fn lock_secrets(&self) -> Result<File, DataFolderError> {
        let folder = self.path.join("secrets");
        if !folder.is_dir() {
            make_folder(&folder)?;
        }
        let path = folder.join(".lock");
        let file = open_private(&path, false).map_err(failed("opening", &path))?;
        file.lock().map_err(failed("locking", &path))?;
        Ok(file)
    }
}

/// The settings file of the data folder at `path`, whether the folder exists or not.
pub fn settings_file(path: &Path) -> PathBuf {
    path.join(SETTINGS_FILE)
}

fn is_data_folder(path: &Path) -> bool {
    [LOCK_FILE, SETTINGS_FILE, DATABASE_FILE]
        .iter()
        .any(|name| path.join(name).is_file())
}

/// Whether nothing is in there. The folder that file systems keep at their root does not count.
fn is_empty(path: &Path) -> bool {
    fs::read_dir(path)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn make_folder(path: &Path) -> Result<(), DataFolderError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("creating", path))
}

fn open_private(path: &Path, fresh: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(fresh)
        .mode(0o600)
        .open(path)
}

/// Writes a file that is either there whole or not at all, also after a power cut.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), DataFolderError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let folder = path.parent().unwrap_or(Path::new("."));
    open_private(&unfinished, true)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(failed("writing", &unfinished))?;
    fs::rename(&unfinished, path).map_err(failed("writing", path))?;
    sync_folder(folder)
}

fn sync_folder(path: &Path) -> Result<(), DataFolderError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("syncing", path))
}

fn read_pid(file: &mut File) -> Option<u32> {
    read_announcement(file)?.lines().next()?.parse().ok()
}

fn read_announcement(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(MAX_LOCK_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_new_data_folder_is_for_its_owner_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("deep/er/auxin-data");

        let data = DataFolder::create(&path).expect("created");
        data.secret("signing-key").expect("made");
        data.write_settings_once("# settings").expect("written");

        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("secrets")), 0o700);
        assert_eq!(mode(&path.join("secrets/signing-key")), 0o600);
        assert_eq!(mode(&data.settings_file()), 0o600);
        for folder in ["repos", "store", "tmp", "cache"] {
            assert_eq!(mode(&path.join(folder)), 0o700);
        }
    }

    #[test]
    fn a_start_that_was_broken_off_is_completed_by_the_next() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("data");

        // What a start leaves behind when it ends right after each of its first steps.
        fs::create_dir(&path).expect("created");
        DataFolder::create(&path).expect("an empty folder is fine");
        fs::remove_dir(path.join("store")).expect("removed");
        fs::write(path.join("secrets/signing-key.new"), "half").expect("written");
        let data = DataFolder::create(&path).expect("completed");

        assert!(path.join("store").is_dir());
        let key = data.secret("signing-key").expect("made");
        assert_eq!(data.secret("signing-key").expect("kept"), key);
        assert_ne!(data.secret("other").expect("made"), key);
    }

    #[test]
    fn settings_that_are_there_are_never_overwritten() {
        let root = tempfile::tempdir().expect("a folder");
        let data = DataFolder::create(root.path()).expect("created");
        fs::write(data.settings_file(), "mine").expect("written");

        assert!(!data.write_settings_once("template").expect("left alone"));
        assert_eq!(fs::read_to_string(data.settings_file()).expect("read"), "mine");
    }

    #[test]
    fn a_folder_of_someone_else_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("song.txt"), "la").expect("written");

        let refusal = DataFolder::create(root.path()).expect_err("it is not empty");

        assert!(refusal.to_string().contains("is not empty"), "{refusal}");
        assert_eq!(fs::read_dir(root.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_command_does_not_create_a_data_folder_by_mistake() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("tpyo");

        let refusal = DataFolder::open(&path).expect_err("there is none");

        assert!(
            refusal.to_string().starts_with("There is no data folder at"),
            "{refusal}"
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_second_server_is_told_which_process_serves_the_folder() {
        let root = tempfile::tempdir().expect("a folder");
        let data = DataFolder::create(root.path()).expect("created");

        let mut lock = data.lock_for_serving().expect("nobody has it");
        lock.announce("http://127.0.0.1:1").expect("told");
        let refusal = data.lock_for_serving().expect_err("taken");
        let pid = std::process::id();
        assert!(
            refusal.to_string().contains(&format!("served by process {pid}.")),
            "{refusal}"
        );
        assert!(refusal.to_string().contains("--data DIR"), "{refusal}");

        assert_eq!(data.announced_address().as_deref(), Some("http://127.0.0.1:1"));

        assert!(data.is_served());

        drop(lock);
        assert_eq!(data.announced_address(), None);
        assert!(!data.is_served());
        data.lock_for_serving().expect("free again");
    }

    #[test]
    fn a_lock_that_is_kept_until_the_end_tells_no_address_any_more() {
        let root = tempfile::tempdir().expect("a folder");
        let data = DataFolder::create(root.path()).expect("created");
        let mut lock = data.lock_for_serving().expect("nobody has it");
        lock.announce("http://127.0.0.1:1").expect("told");

        lock.keep_until_exit().expect("kept");

        assert_eq!(data.announced_address(), None);
        assert!(data.is_served());
        let refusal = data.lock_for_serving().expect_err("taken");
        assert!(refusal.to_string().contains("served by process"), "{refusal}");
    }

    #[test]
    fn a_secret_of_the_wrong_length_is_refused_and_kept() {
        let root = tempfile::tempdir().expect("a folder");
        let data = DataFolder::create(root.path()).expect("created");
        data.write_secret("signing-key", b"short").expect("written");

        let refusal = data.secret("signing-key").expect_err("damaged");

        assert!(refusal.to_string().contains("is damaged"), "{refusal}");
        assert_eq!(data.read_secret("signing-key").expect("read"), Some(b"short".to_vec()));
        data.remove_secret("signing-key").expect("removed");
        data.remove_secret("signing-key").expect("removing twice is fine");
        assert_eq!(data.read_secret("signing-key").expect("read"), None);
    }
}
