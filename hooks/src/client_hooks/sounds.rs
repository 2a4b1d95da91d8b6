//! Sound hashes of large files that are here, kept in `lfs/auxin/sounds` so that each is read once.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use lfs_protocol::Oid;

use super::HookError;
use crate::audio::{READER_VERSION, SoundReader};
use crate::transfer::local::Storage;

/// Most bytes of sound that are read at one time; what is beyond counts as changed.
const MAX_READ_BYTES: u64 = 8 << 30;
/// Longest file of known hashes, in bytes; a longer one is begun anew.
const MAX_KNOWN_BYTES: u64 = 16 << 20;

/// Sound hashes of large files.
pub(super) struct Sounds {
    storage: Storage,
    file: PathBuf,
    known: HashMap<Oid, Option<String>>,
    new: String,
    left_bytes: u64,
}

impl Sounds {
    pub(super) fn open() -> Result<Self, HookError> {
        let storage = Storage::here().map_err(|failure| HookError::Stop(failure.message))?;
        let file = storage.folder().join("auxin").join(format!("sounds-{READER_VERSION}"));
        let is_fit = file.metadata().is_ok_and(|data| data.len() <= MAX_KNOWN_BYTES);
        let text = is_fit.then(|| fs::read_to_string(&file).ok()).flatten();
        let line = |line: &str| {
            let (oid, hash) = line.split_once(' ')?;
            Some((Oid::parse(oid).ok()?, (hash != "-").then(|| hash.to_owned())))
        };
        Ok(Self {
            known: text.unwrap_or_default().lines().filter_map(line).collect(),
            storage,
            file,
            new: String::new(),
            left_bytes: MAX_READ_BYTES,
        })
    }

    /// Whether two large files are known to hold the same sound. Not if one is not here.
    pub(super) fn are_equal(&mut self, one: (Oid, u64), other: (Oid, u64)) -> bool {
        one == other || self.of(one).is_some_and(|one| self.of(other) == Some(one))
    }

    fn of(&mut self, (oid, size_bytes): (Oid, u64)) -> Option<String> {
        if let Some(known) = self.known.get(&oid) {
            return known.clone();
        }
        if size_bytes > self.left_bytes || !self.storage.has_object(oid, size_bytes) {
            return None;
        }
        self.left_bytes -= size_bytes;
        let mut file = File::open(self.storage.object_path(oid)).ok()?;
        let (mut reader, mut buffer) = (SoundReader::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                len => reader.push(&buffer[..len]),
            }
        }
        let hash = reader
            .finish()
            .and_then(|sound| sound.hash)
            .map(|hash| hash.to_string());
        self.new
            .push_str(&format!("{oid} {}\n", hash.as_deref().unwrap_or("-")));
        self.known.insert(oid, hash.clone());
        hash
    }
}

impl Drop for Sounds {
    /// What cannot be kept is read again.
    fn drop(&mut self) {
        if self.new.is_empty() {
            return;
        }
        let is_long = self.file.metadata().is_ok_and(|data| data.len() > MAX_KNOWN_BYTES);
        let mut options = OpenOptions::new();
        options.create(true).append(!is_long).truncate(is_long).write(true);
        let folder = self.file.parent().map_or(Ok(()), fs::create_dir_all);
        let _ = folder
            .and_then(|()| options.open(&self.file))
            .and_then(|mut file| file.write_all(self.new.as_bytes()));
    }
}
