//! Bundles: files with refs and all that they reach, which clones begin with.
//!
//! A bundle is made of the visible refs alone and never changes; a newer one has another name. It
//! may fall behind: a client fetches what is missing. The file before the newest one stays, for
//! clients that were told of it a moment ago.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bstr::{BString, ByteSlice};
use gix::ObjectId;
use gix::hash::Kind;
use sha2::{Digest, Sha256};

use super::advertise::{HexId, is_listed, visible_head};
use super::durable::{sync_file, sync_folder};
use super::emit::EmitError;
use super::plan::{self, PackRequest};
use super::snapshot::{OpenError, Repository, Snapshot};
use super::walk::WalkError;
use super::work::Tick;

/// The folder of a repository that its bundles lie in.
const FOLDER: &str = "auxin-bundles";
/// How names of bundles end.
const EXTENSION: &str = ".bundle";
/// How files begin that are being written.
const UNFINISHED: &str = ".new-";
/// Digits of the time in a name, so that names sort by age.
const TIME_DIGITS: usize = 12;
/// Digits of the hash in a name.
const HASH_DIGITS: usize = 40;
/// Bundles that are kept.
const KEPT: usize = 2;
/// Largest list of refs in a bundle that is read, in bytes.
const MAX_HEADER_BYTES: u64 = 256 << 20;
/// What is written at once, in bytes.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// A bundle that lies ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBundle {
    /// Its name in the folder: when it was made and a hash of its content.
    pub name: String,
    /// What its refs name.
    pub tips: Vec<ObjectId>,
    /// Its length, in bytes.
    pub len_bytes: u64,
}

/// What [`make`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBundle {
    /// Its name in the folder.
    pub name: String,
    /// Refs in it, `HEAD` among them.
    pub refs: usize,
    /// Its length, in bytes.
    pub len_bytes: u64,
    /// It was made now; else the newest one is still right.
    pub is_new: bool,
}

/// Why a bundle cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Another one of the same repository is being made.
    #[error("a bundle of this repository is being made already; wait for that to end")]
    Busy,
    /// The repository cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its history is damaged, or the work was stopped.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// Its objects cannot be written into the bundle.
    #[error("the bundle could not be written")]
    Emit(#[from] EmitError),
    /// A file could not be worked on.
    #[error("{}: cannot be worked on: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file is no bundle.
    #[error("{}: not a bundle; remove it and make a new one", .0.display())]
    Damaged(PathBuf),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> BundleError {
    move |source| BundleError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Where the bundles of the repository at `git_dir` lie.
pub fn folder(git_dir: &Path) -> PathBuf {
    git_dir.join(FOLDER)
}

/// Whether this can be the name of a bundle. Nothing else ever becomes part of a path.
pub fn is_name(name: &str) -> bool {
    let Some((time, hash)) = name.strip_suffix(EXTENSION).and_then(|stem| stem.split_once('-')) else {
        return false;
    };
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    time.len() == TIME_DIGITS
        && time.bytes().all(|byte| byte.is_ascii_digit())
        && hash.len() == HASH_DIGITS
        && hash.bytes().all(is_hex)
}

/// Makes a bundle of what fetches may see of the repository, in `folder` (see [`folder`]), durably.
/// Older ones are removed, except the last.
///
/// `None`: nothing can be seen, or the repository's own history is cut off, so that a bundle of it
/// could not stand alone.
///
/// # Errors
/// [`BundleError`]; the bundles are then as they were.
pub fn make(repository: &Repository, folder: &Path, tick: Tick<'_>) -> Result<Option<MadeBundle>, BundleError> {
    let snapshot = repository.reload()?;
    let refs = visible_refs(&snapshot);
    if refs.is_empty() || !snapshot.shallow.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let _lock = lock(folder)?;
    remove_unfinished(folder)?;
    let header = header(snapshot.hash(), &refs);
    let names = names(folder)?;
    if let Some(name) = names.last()
        && let Some(len_bytes) = begins_with(&folder.join(name), &header)?
    {
        return Ok(Some(MadeBundle {
            name: name.clone(),
            refs: refs.len(),
            len_bytes,
            is_new: false,
        }));
    }

    let unfinished = Unfinished::new(folder);
    let (hash, len_bytes) = write(&snapshot, &refs, &header, &unfinished.0, tick)?;
    let name = format!("{:0TIME_DIGITS$}-{hash}{EXTENSION}", next_time(names.last()));
    let path = folder.join(&name);
    fs::rename(&unfinished.0, &path).map_err(io_error(&path))?;
    sync_folder(folder).map_err(io_error(folder))?;
    for old in names.iter().rev().skip(KEPT - 1) {
        let old = folder.join(old);
        fs::remove_file(&old).map_err(io_error(&old))?;
    }
    Ok(Some(MadeBundle {
        name,
        refs: refs.len(),
        len_bytes,
        is_new: true,
    }))
}

/// Removes all bundles in `folder`. Clients that are reading one read on.
///
/// # Errors
/// The disk's.
pub fn remove_all(folder: &Path) -> Result<(), BundleError> {
    for name in names(folder)? {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(io_error(&path))?;
    }
    Ok(())
}

/// Whether there is a bundle in `folder`.
///
/// # Errors
/// The disk's.
pub fn exists(folder: &Path) -> io::Result<bool> {
    match names(folder) {
        Ok(names) => Ok(!names.is_empty()),
        Err(BundleError::Io { source, .. }) => Err(source),
        Err(other) => Err(io::Error::other(other)),
    }
}

/// The newest bundle in `folder`.
///
/// # Errors
/// The disk's, or the file is no bundle.
pub fn newest(folder: &Path) -> Result<Option<StoredBundle>, BundleError> {
    match names(folder)?.pop() {
        Some(name) => Ok(open(folder, &name)?.map(|(stored, _)| stored)),
        None => Ok(None),
    }
}

/// The bundle of this name, and its file, read from the beginning; `None` if there is none.
///
/// # Errors
/// The disk's, or the file is no bundle.
pub fn open(folder: &Path, name: &str) -> Result<Option<(StoredBundle, File)>, BundleError> {
    if !is_name(name) {
        return Ok(None);
    }
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path)(error)),
    };
    let fail = io_error(&path);
    let len_bytes = file.metadata().map_err(&fail)?.len();
    let again = File::open(&path).map_err(&fail)?;
    let tips = read_tips(&file)
        .map_err(&fail)?
        .ok_or(BundleError::Damaged(path.clone()))?;
    let stored = StoredBundle {
        name: name.to_owned(),
        tips,
        len_bytes,
    };
    Ok(Some((stored, again)))
}

/// `HEAD` and the refs that fetches are told of, with what they name.
fn visible_refs(snapshot: &Snapshot) -> Vec<(BString, ObjectId)> {
    let head = visible_head(snapshot).and_then(|head| head.target);
    let mut refs: Vec<(BString, ObjectId)> = head.map(|id| (BString::from("HEAD"), id)).into_iter().collect();
    let listed = snapshot.refs.all().iter().filter(|known| is_listed(snapshot, known));
    refs.extend(listed.map(|known| (known.name.clone(), known.target)));
    refs
}

/// What stands before the pack, as `git bundle` writes it: version 2 for SHA-1, else 3.
fn header(hash: Kind, refs: &[(BString, ObjectId)]) -> Vec<u8> {
    let mut header = match hash {
        Kind::Sha1 => b"# v2 git bundle\n".to_vec(),
        other => format!("# v3 git bundle\n@object-format={other}\n").into_bytes(),
    };
    for (name, id) in refs {
        header.extend_from_slice(HexId::new(id).as_bytes());
        header.push(b' ');
        header.extend_from_slice(name);
        header.push(b'\n');
    }
    header.push(b'\n');
    header
}

/// Reads the ids of the refs; `None` if this is no bundle that stands alone.
fn read_tips(file: &File) -> io::Result<Option<Vec<ObjectId>>> {
    let mut reader = BufReader::new(file.take(MAX_HEADER_BYTES));
    let mut tips = Vec::new();
    let mut line = Vec::new();
    let mut is_first = true;
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\n") else {
            return Ok(None);
        };
        match text {
            b"# v2 git bundle" | b"# v3 git bundle" if is_first => {}
            _ if is_first => return Ok(None),
            b"" => return Ok(Some(tips)),
            capability if capability.starts_with(b"@object-format=") => {}
            reference => {
                let id = reference
                    .split_once_str(b" ")
                    .and_then(|(id, _)| ObjectId::from_hex(id).ok());
                match id {
                    Some(id) => tips.push(id),
                    None => return Ok(None),
                }
            }
        }
        is_first = false;
    }
}

/// Whether the file at `path` begins with these bytes; its length if it does.
fn begins_with(path: &Path, header: &[u8]) -> Result<Option<u64>, BundleError> {
    let fail = io_error(path);
    let file = File::open(path).map_err(&fail)?;
    let len_bytes = file.metadata().map_err(&fail)?.len();
    let mut found = Vec::with_capacity(header.len());
    file.take(header.len() as u64).read_to_end(&mut found).map_err(&fail)?;
    Ok((found == header).then_some(len_bytes))
}

/// Names of bundles in a folder, which may not exist, the newest last.
fn names(folder: &Path) -> Result<Vec<String>, BundleError> {
    let fail = io_error(folder);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(&fail)?.file_name().into_string()
            && is_name(&name)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Seconds since 1970, but always later than the newest bundle.
fn next_time(newest: Option<&String>) -> u64 {
    let now_secs = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let newest_secs = newest.and_then(|name| name.get(..TIME_DIGITS)?.parse::<u64>().ok());
    now_secs.max(newest_secs.map_or(0, |secs| secs + 1))
}

/// Writes header and pack to a new file and brings them to the disk; tells the hash and the length.
fn write(
    snapshot: &Snapshot,
    refs: &[(BString, ObjectId)],
    header: &[u8],
    path: &Path,
    tick: Tick<'_>,
) -> Result<(String, u64), BundleError> {
    let fail = io_error(path);
    let request = PackRequest {
        wants: refs.iter().map(|(_, id)| *id).collect(),
        ofs_delta: true,
        ..PackRequest::default()
    };
    let plan = plan::plan(snapshot, &request, tick)?;
    let file = File::create_new(path).map_err(&fail)?;
    let mut out = Hashed {
        out: BufWriter::with_capacity(WRITE_BUFFER_BYTES, file),
        hash: Sha256::new(),
        len_bytes: 0,
    };
    out.write_all(header).map_err(&fail)?;
    plan.write_to(&mut out, tick)?;
    let Hashed { out, hash, len_bytes } = out;
    let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
    sync_file(&file).map_err(&fail)?;
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((hash[..HASH_DIGITS].to_owned(), len_bytes))
}

/// Hashes what passes through.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    len_bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.len_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that is being written; removed when dropped, unless it has got its name.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(folder: &Path) -> Self {
        Self(folder.join(format!("{UNFINISHED}{:016x}", rand::random::<u64>())))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more if all went well.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes what a killed process left.
fn remove_unfinished(folder: &Path) -> Result<(), BundleError> {
    let fail = io_error(folder);
    for entry in fs::read_dir(folder).map_err(&fail)? {
        let entry = entry.map_err(&fail)?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path()).map_err(&fail)?;
        }
    }
    Ok(())
}

/// Holds off another process or thread that makes a bundle in the same folder.
fn lock(folder: &Path) -> Result<File, BundleError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BundleError::Busy),
        Err(TryLockError::Error(error)) => Err(io_error(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_make_is_the_name_of_a_bundle() {
        let name = format!("{:012}-{}.bundle", 1_700_000_000, "a".repeat(40));
        assert!(is_name(&name));
        for bad in [
            "",
            ".bundle",
            "lock",
            "../../config",
            &name[1..],
            &name.replace('a', "g"),
            &name.replace('-', "/"),
            &format!("{name}x"),
            &format!("{}\0", &name[..name.len() - 1]),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_file_that_is_no_bundle_is_told_from_one_that_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("{:012}-{}.bundle", 7, "b".repeat(40));
        let id = "1".repeat(40);
        for (content, expected) in [
            (
                format!("# v2 git bundle\n{id} HEAD\n{id} refs/heads/a\n\nPACK"),
                Some(2),
            ),
            (format!("# v3 git bundle\n@object-format=sha1\n{id} HEAD\n\n"), Some(1)),
            (format!("# v2 git bundle\n-{id} needed\n{id} HEAD\n\n"), None),
            (format!("# v2 git bundle\n{id} HEAD\n"), None),
            (String::new(), None),
            ("hello\n\n".into(), None),
        ] {
            fs::write(folder.path().join(&name), &content).expect("written");
            let found = open(folder.path(), &name);
            match (found, expected) {
                (Ok(Some((stored, _))), Some(tips)) => assert_eq!(stored.tips.len(), tips),
                (Err(BundleError::Damaged(_)), None) => {}
                (found, _) => panic!("{content:?}: {found:?}"),
            }
        }
    }
}
