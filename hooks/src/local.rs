//! A version in the repository of the current folder, as a source of projects: Git hands out what it keeps, and large
//! files come from the folder of Git LFS.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};

use lfs_protocol::{MAX_POINTER_BYTES, Oid, Pointer};

use crate::audio::{SoundReader, is_audio_path};
use crate::git::{self, GitError};
use crate::logic::{Content, FileFacts, Source};
use crate::transfer::local::Storage;

/// Most files of a version.
const MAX_FILES: usize = 2_000_000;
/// Most bytes of sound that are read for one version; what is beyond is told by its name alone.
const MAX_SOUND_BYTES: u64 = 8 << 30;

/// Why a version cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Git did not help.
    #[error(transparent)]
    Git(#[from] GitError),
    /// There is no such version.
    #[error(
        "There is no version `{0}` here. A branch, a tag, an id or HEAD~1 names one; `git log --oneline` lists them."
    )]
    NoVersion(String),
    /// It is larger than what is read.
    #[error("This version has more than {MAX_FILES} files, which is more than is read.")]
    TooManyFiles,
    /// The folder of Git LFS cannot be used.
    #[error("{0}")]
    LargeFiles(String),
    /// Git ended in the middle.
    #[error("git cat-file ended in the middle: {0}.")]
    Ended(#[from] io::Error),
}

struct Entry {
    blob: String,
    /// `None` if Git does not have it, as in a partial clone.
    size_bytes: Option<u64>,
}

/// A version.
pub struct LocalVersion {
    /// Its id, shortened as Git does.
    pub name: String,
    files: BTreeMap<String, Entry>,
    storage: Storage,
    git: CatFile,
    /// The blobs whose sound is read.
    listened: BTreeSet<String>,
    left_bytes: u64,
}

impl LocalVersion {
    /// Finds a version by a name that Git understands.
    ///
    /// # Errors
    /// [`LocalError`]
    pub fn open(name: &str) -> Result<Self, LocalError> {
        let no_version = || LocalError::NoVersion(name.to_owned());
        if name.is_empty() || name.starts_with('-') {
            return Err(no_version());
        }
        // Outside of a repository, Git says that best.
        git::ask(&["rev-parse", "--git-dir"])?;
        let wanted = format!("{name}^{{commit}}");
        let found = git::run(&["rev-parse", "--verify", "--quiet", "--short", &wanted])?;
        if !found.status.success() {
            return Err(no_version());
        }
        let short = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        let args = ["ls-tree", "-r", "-l", "-z", "--full-tree", &short];
        let output = git::run_quietly(&args, b"")?;
        if !output.status.success() {
            return Err(git::failed(&args, &output).into());
        }
        let mut files = BTreeMap::new();
        for line in output.stdout.split(|&byte| byte == 0) {
            // A name that is no text cannot be one of Logic's.
            let Some((path, entry)) = std::str::from_utf8(line).ok().and_then(entry) else {
                continue;
            };
            files.insert(path, entry);
            if files.len() > MAX_FILES {
                return Err(LocalError::TooManyFiles);
            }
        }
        Ok(Self {
            name: short,
            files,
            storage: Storage::here().map_err(|failure| LocalError::LargeFiles(failure.message))?,
            git: CatFile::start()?,
            listened: BTreeSet::new(),
            left_bytes: MAX_SOUND_BYTES,
        })
    }

    /// Lets both listen to the audio files that are not the same in both, so that a changed overview is no other sound.
    pub fn listen_to_changes(&mut self, other: &mut Self) {
        let audio = |version: &Self| -> BTreeSet<String> {
            let files = version.files.iter().filter(|(path, _)| is_audio_path(path));
            files.map(|(_, entry)| entry.blob.clone()).collect()
        };
        let (one, two) = (audio(self), audio(other));
        self.listened = one.difference(&two).cloned().collect();
        other.listened = two.difference(&one).cloned().collect();
    }

    /// The object behind a pointer, if the file is one.
    fn pointer(&mut self, path: &str) -> Result<Option<(Oid, u64)>, LocalError> {
        let Some(entry) = self.files.get(path) else {
            return Ok(None);
        };
        if !entry
            .size_bytes
            .is_some_and(|size| size > 0 && size < MAX_POINTER_BYTES as u64)
        {
            return Ok(None);
        }
        let bytes = self.git.read(&entry.blob, MAX_POINTER_BYTES as u64)?;
        let parsed = bytes.and_then(|bytes| Pointer::parse(&bytes).ok());
        Ok(parsed.map(|parsed| (parsed.pointer.oid, parsed.pointer.size_bytes)))
    }

    /// Adds what the file says by its sound.
    fn listen(&mut self, path: &str, object: Option<(Oid, u64)>, facts: &mut FileFacts) -> Result<(), LocalError> {
        let Some(entry) = self.files.get(path) else {
            return Ok(());
        };
        if !self.listened.contains(&entry.blob) || facts.bytes > self.left_bytes {
            return Ok(());
        }
        let mut reader = SoundReader::new();
        match object {
            Some((oid, size_bytes)) if self.storage.has_object(oid, size_bytes) => {
                let mut file = File::open(self.storage.object_path(oid))?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match file.read(&mut buffer)? {
                        0 => break,
                        len => reader.push(&buffer[..len]),
                    }
                }
            }
            Some(_) => return Ok(()),
            None => {
                self.git.stream(&entry.blob, &mut |bytes| reader.push(bytes))?;
            }
        }
        self.left_bytes -= facts.bytes;
        if let Some(sound) = reader.finish() {
            facts.sound = sound.hash.map(|hash| hash.to_string());
            facts.seconds = sound.facts.seconds;
            facts.sample_rate_hz = sound.facts.sample_rate_hz;
        }
        Ok(())
    }
}

/// A line of `git ls-tree -l`: path and entry of a file.
fn entry(line: &str) -> Option<(String, Entry)> {
    let (facts, path) = line.split_once('\t')?;
    let mut facts = facts.split_whitespace();
    let is_file = matches!(facts.next()?, "100644" | "100755");
    let is_blob = facts.next()? == "blob";
    let (blob, size) = (facts.next()?.to_owned(), facts.next()?);
    let size_bytes = size.parse().ok();
    (is_file && is_blob).then(|| (path.to_owned(), Entry { blob, size_bytes }))
}

impl Source for LocalVersion {
    type Error = LocalError;

    fn paths(&mut self) -> Result<Vec<String>, LocalError> {
        Ok(self.files.keys().cloned().collect())
    }

    fn read(&mut self, path: &str, max_bytes: u64) -> Result<Content, LocalError> {
        if let Some((oid, size_bytes)) = self.pointer(path)? {
            if size_bytes > max_bytes {
                return Ok(Content::TooLarge);
            }
            if !self.storage.has_object(oid, size_bytes) {
                return Ok(Content::LfsMissing);
            }
            let mut bytes = Vec::new();
            let file = File::open(self.storage.object_path(oid))?;
            file.take(max_bytes).read_to_end(&mut bytes)?;
            return Ok(Content::Bytes(bytes));
        }
        Ok(match self.files.get(path) {
            None => Content::Absent,
            Some(Entry { size_bytes: None, .. }) => Content::LfsMissing,
            Some(entry) if entry.size_bytes.is_some_and(|size| size > max_bytes) => Content::TooLarge,
            Some(entry) => match self.git.read(&entry.blob, max_bytes)? {
                Some(bytes) => Content::Bytes(bytes),
                None => Content::LfsMissing,
            },
        })
    }

    fn facts(&mut self, path: &str) -> Result<Option<FileFacts>, LocalError> {
        let object = self.pointer(path)?;
        let Some(entry) = self.files.get(path) else {
            return Ok(None);
        };
        let mut facts = match object {
            Some((oid, size_bytes)) => FileFacts {
                bytes: size_bytes,
                oid: Some(format!("sha256:{oid}")),
                ..FileFacts::default()
            },
            None => FileFacts {
                bytes: entry.size_bytes.unwrap_or(0),
                oid: Some(format!("git:{}", entry.blob)),
                ..FileFacts::default()
            },
        };
        self.listen(path, object, &mut facts)?;
        Ok(Some(facts))
    }
}

/// A running `git cat-file --batch`.
struct CatFile {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl CatFile {
    fn start() -> Result<Self, GitError> {
        let mut child = git::start(&["cat-file", "--batch"])?;
        let absent = || GitError::Io(io::ErrorKind::BrokenPipe.into());
        let output = BufReader::new(child.stdout.take().ok_or_else(absent)?);
        let input = child.stdin.take().ok_or_else(absent)?;
        Ok(Self { child, input, output })
    }

    /// Asks for an object; its length, or `None` if Git does not have it.
    fn ask(&mut self, blob: &str) -> io::Result<Option<u64>> {
        writeln!(self.input, "{blob}")?;
        self.input.flush()?;
        let mut head = String::new();
        if (&mut self.output).take(1000).read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [_, "missing"] => Ok(None),
            [_, _, size] => size.parse().map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Hands out an object piece by piece; whether Git has it.
    fn stream(&mut self, blob: &str, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let Some(mut left) = self.ask(blob)? else {
            return Ok(false);
        };
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.output.read_exact(&mut buffer[..len])?;
            take(&buffer[..len]);
            left -= len as u64;
        }
        self.output.read_exact(&mut [0])?;
        Ok(true)
    }

    /// An object of at most `max_bytes`; `None` if Git does not have it, or if it is longer.
    fn read(&mut self, blob: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let (mut bytes, mut is_long) = (Vec::new(), false);
        let is_here = self.stream(blob, &mut |piece| {
            is_long |= (bytes.len() + piece.len()) as u64 > max_bytes;
            if !is_long {
                bytes.extend_from_slice(piece);
            }
        })?;
        Ok((is_here && !is_long).then_some(bytes))
    }
}

impl Drop for CatFile {
    fn drop(&mut self) {
        // It may be writing what nobody reads any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
