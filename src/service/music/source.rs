//! A commit as the readers of projects see it.

use std::collections::{BTreeMap, HashMap};

use git_auxin::audio::SoundFacts;
use git_auxin::logic::{Content, FileFacts, Source};
use lfs_protocol::{MAX_POINTER_BYTES, Oid, Pointer};
use tokio::runtime::Handle;

use super::unreadable;
use crate::git::ObjectId;
use crate::git::commit_files::{blob, blob_bytes};
use crate::git::snapshot::Snapshot;
use crate::git::work::Work;
use crate::ids::RepoId;
use crate::service::lfs::LargeFiles;
use crate::service::transfer::TransferError;

/// What one request reads in all, in bytes; the rest counts as too large.
const MAX_READ_BYTES: u64 = 256 << 20;

/// A blob, its length in bytes, and the large file it points to with its length.
type Looked = (ObjectId, u64, Option<(Oid, u64)>);

/// The files of commits of one repository. Blocks: for threads of transfers.
pub(in crate::service) struct CommitSource<'a> {
    handle: &'a Handle,
    large_files: &'a LargeFiles,
    snapshot: &'a Snapshot,
    repo: RepoId,
    work: &'a Work,
    files: BTreeMap<String, ObjectId>,
    /// Blobs that were looked at: their length, and what they point to.
    known: HashMap<ObjectId, (u64, Option<(Oid, u64)>)>,
    left_bytes: u64,
}

impl<'a> CommitSource<'a> {
    /// Without a commit.
    pub(in crate::service) fn new(
        handle: &'a Handle,
        large_files: &'a LargeFiles,
        snapshot: &'a Snapshot,
        repo: RepoId,
        work: &'a Work,
    ) -> Self {
        Self {
            handle,
            large_files,
            snapshot,
            repo,
            work,
            files: BTreeMap::new(),
            known: HashMap::new(),
            left_bytes: MAX_READ_BYTES,
        }
    }

    /// Goes on with the files of another commit.
    pub(in crate::service) fn turn_to(&mut self, files: &BTreeMap<String, ObjectId>) {
        self.files.clone_from(files);
    }

    /// A file's blob, its length in bytes, and what it points to.
    fn look(&mut self, path: &str) -> Result<Option<Looked>, TransferError> {
        let Some(&id) = self.files.get(path) else {
            return Ok(None);
        };
        if let Some(&(bytes, pointer)) = self.known.get(&id) {
            return Ok(Some((id, bytes, pointer)));
        }
        self.work.check().map_err(unreadable)?;
        let Some(bytes) = blob_bytes(self.snapshot, &id).map_err(unreadable)? else {
            return Ok(None);
        };
        let mut pointer = None;
        if (1..MAX_POINTER_BYTES as u64).contains(&bytes) {
            let content = blob(self.snapshot, &id).map_err(unreadable)?.unwrap_or_default();
            pointer = Pointer::parse(&content)
                .ok()
                .map(|parsed| (parsed.pointer.oid, parsed.pointer.size_bytes));
        }
        self.known.insert(id, (bytes, pointer));
        Ok(Some((id, bytes, pointer)))
    }

    /// Whether so much may still be read.
    fn take(&mut self, bytes: u64, max_bytes: u64) -> bool {
        let left = self.left_bytes.checked_sub(bytes).filter(|_| bytes <= max_bytes);
        if let Some(left) = left {
            self.left_bytes = left;
        }
        left.is_some()
    }

    fn sound(&self, oid: Oid) -> Result<(Option<String>, Option<SoundFacts>), TransferError> {
        let row = self.handle.block_on(self.large_files.sound(self.repo, oid))?;
        let hash = row.as_ref().and_then(|row| row.sound);
        let hex = |hash: [u8; 32]| git_auxin::audio::SoundHash::from_bytes(hash).to_string();
        Ok((hash.map(hex), row.and_then(|row| serde_json::from_str(&row.facts).ok())))
    }
}

impl Source for CommitSource<'_> {
    type Error = TransferError;

    fn paths(&mut self) -> Result<Vec<String>, TransferError> {
        Ok(self.files.keys().cloned().collect())
    }

    fn read(&mut self, path: &str, max_bytes: u64) -> Result<Content, TransferError> {
        let Some((id, bytes, pointer)) = self.look(path)? else {
            return Ok(Content::Absent);
        };
        let bytes = pointer.map_or(bytes, |(_, bytes)| bytes);
        if !self.take(bytes, max_bytes) {
            return Ok(Content::TooLarge);
        }
        let Some((oid, _)) = pointer else {
            let content = blob(self.snapshot, &id).map_err(unreadable)?;
            return Ok(content.map_or(Content::Absent, Content::Bytes));
        };
        let content = self.large_files.whole(self.handle, self.repo, oid, bytes, self.work)?;
        Ok(content.map_or(Content::LfsMissing, Content::Bytes))
    }

    fn facts(&mut self, path: &str) -> Result<Option<FileFacts>, TransferError> {
        let Some((id, bytes, pointer)) = self.look(path)? else {
            return Ok(None);
        };
        let Some((oid, large_bytes)) = pointer else {
            return Ok(Some(FileFacts {
                bytes,
                oid: Some(format!("git:{id}")),
                ..FileFacts::default()
            }));
        };
        let (sound, facts) = self.sound(oid)?;
        Ok(Some(FileFacts {
            bytes: large_bytes,
            oid: Some(format!("sha256:{oid}")),
            sound,
            seconds: facts.as_ref().and_then(|facts| facts.seconds),
            sample_rate_hz: facts.as_ref().and_then(|facts| facts.sample_rate_hz),
        }))
    }
}
