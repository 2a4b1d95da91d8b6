//! The repositories that are open in memory, least recently used ones closed first.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moka::sync::Cache;

use crate::git::snapshot::{OpenError, Repository};
use crate::git::upload_pack::Answers;

/// A bounded set of open repositories.
pub(super) struct OpenRepositories {
    by_path: Cache<PathBuf, Entry>,
    answers: Arc<Answers>,
}

/// An open repository and the folder it was opened in.
#[derive(Clone)]
struct Entry {
    repository: Arc<Repository>,
    folder: Option<FolderId>,
}

/// Device and inode: tells a folder from another one that took its name.
type FolderId = (u64, u64);

impl OpenRepositories {
    pub(super) fn new(max_open: usize, answers: Arc<Answers>) -> Self {
        let max_open = u64::try_from(max_open).unwrap_or(u64::MAX).max(1);
        Self {
            by_path: Cache::new(max_open),
            answers,
        }
    }

    /// The repository at `path`, opened if it is not yet, or if it is not the one that was opened
    /// (a command beside the server may have removed it and made another). May block.
    pub(super) fn get(&self, path: &Path, trust: bool) -> Result<Arc<Repository>, Arc<OpenError>> {
        let folder = folder_id(path);
        if let Some(entry) = self.by_path.get(path) {
            if entry.folder == folder && entry.repository.trusts_config() == trust {
                return Ok(entry.repository);
            }
            self.by_path.invalidate(path);
        }
        self.by_path
            .try_get_with_by_ref(path, || {
                let answers = Some(Arc::clone(&self.answers));
                Repository::open_with(path, trust, answers).map(|repository| Entry { repository, folder })
            })
            .map(|entry| entry.repository)
    }

    pub(super) fn forget(&self, path: &Path) {
        self.by_path.invalidate(path);
    }
}

fn folder_id(path: &Path) -> Option<FolderId> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
