//! Repositories that a push makes: they stay only if a ref gets into them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ids::RepoId;

/// Counts the pushes that run in each repository, and knows which repositories a push has made and
/// none has filled yet. Such a one has a marker file, so that a start after a crash knows it too.
pub(super) struct Made {
    markers: PathBuf,
    running: Mutex<HashMap<RepoId, Running>>,
}

#[derive(Default)]
struct Running {
    pushes: usize,
    /// A push made the repository, and no ref has got into it.
    is_provisional: bool,
}

impl Made {
    /// `markers` is a folder; it need not exist.
    pub(super) fn new(markers: PathBuf) -> Self {
        Self {
            markers,
            running: Mutex::default(),
        }
    }

    /// Notes that a push is about to make `repo`. Called before there is anything of it.
    pub(super) fn mark(&self, repo: RepoId) -> io::Result<()> {
        std::fs::create_dir_all(&self.markers)?;
        std::fs::File::create(self.marker(repo))?.sync_all()?;
        std::fs::File::open(&self.markers)?.sync_all()
    }

    /// Forgets the note: the repository stays, or is gone.
    pub(super) fn unmark(&self, repo: RepoId) {
        let marker = self.marker(repo);
        if let Err(error) = std::fs::remove_file(&marker)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %marker.display(), %error, "A marker stays behind");
        }
    }

    /// The repositories that are noted: at a start, those whose push a crash ended.
    pub(super) fn marked(&self) -> Vec<RepoId> {
        let Ok(entries) = std::fs::read_dir(&self.markers) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// A push runs in `repo` until [`Made::leave`]; `is_made` if it is the one that made it.
    pub(super) fn enter(&self, repo: RepoId, is_made: bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = running.entry(repo).or_default();
        entry.pushes += 1;
        entry.is_provisional |= is_made;
    }

    /// A ref got into `repo`: it stays.
    pub(super) fn keep(&self, repo: RepoId) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = running.get_mut(&repo)
            && std::mem::take(&mut entry.is_provisional)
        {
            self.unmark(repo);
        }
    }

    /// A push in `repo` is over. Runs `remove` if it was the last one in a repository that was made
    /// by a push and got nothing; no push can enter meanwhile.
    pub(super) fn leave(&self, repo: RepoId, remove: impl FnOnce()) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = running.get_mut(&repo) else {
            return;
        };
        entry.pushes = entry.pushes.saturating_sub(1);
        if entry.pushes > 0 {
            return;
        }
        let is_provisional = entry.is_provisional;
        running.remove(&repo);
        if is_provisional {
            remove();
            self.unmark(repo);
        }
    }

    fn marker(&self, repo: RepoId) -> PathBuf {
        self.markers.join(repo.to_string())
    }
}

/// Leaves when dropped, also when the push panics.
pub(super) struct Inside<F: FnOnce()> {
    made: Arc<Made>,
    repo: RepoId,
    remove: Option<F>,
}

impl<F: FnOnce()> Inside<F> {
    pub(super) fn enter(made: &Arc<Made>, repo: RepoId, is_made: bool, remove: F) -> Self {
        made.enter(repo, is_made);
        Self {
            made: Arc::clone(made),
            repo,
            remove: Some(remove),
        }
    }
}

impl<F: FnOnce()> Drop for Inside<F> {
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            self.made.leave(self.repo, remove);
        }
    }
}

/// Where the markers are kept, below a folder whose loss costs nothing.
pub(super) fn markers_in(cache_dir: &Path) -> PathBuf {
    cache_dir.join("made-by-push")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn made() -> (Made, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (Made::new(markers_in(folder.path())), folder)
    }

    #[test]
    fn a_repository_that_got_nothing_is_removed_when_the_last_push_leaves() {
        let (made, _folder) = made();
        let (repo, removed) = (RepoId::new(), Cell::new(0));
        let remove = || removed.set(removed.get() + 1);
        made.mark(repo).expect("marked");
        made.enter(repo, true);
        made.enter(repo, false);

        made.leave(repo, remove);
        assert_eq!((removed.get(), made.marked()), (0, vec![repo]));
        made.leave(repo, remove);
        assert_eq!((removed.get(), made.marked()), (1, vec![]));
    }

    #[test]
    fn a_repository_that_another_push_filled_stays() {
        let (made, _folder) = made();
        let repo = RepoId::new();
        made.mark(repo).expect("marked");
        made.enter(repo, true);
        made.enter(repo, false);
        made.keep(repo);

        made.leave(repo, || panic!("it has a ref"));
        made.leave(repo, || panic!("it has a ref"));
        assert_eq!(made.marked(), vec![]);
    }

    #[test]
    fn a_repository_that_no_push_made_is_never_removed() {
        let (made, _folder) = made();
        let repo = RepoId::new();
        made.enter(repo, false);
        made.leave(repo, || panic!("it was there before"));
    }
}
