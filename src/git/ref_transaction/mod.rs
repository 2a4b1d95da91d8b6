//! Changing refs: locked, compared, durable, and at peace with stock git on the same disk.
//!
//! Every ref is locked by git's own lock file, its old value compared under the lock, the new one
//! written and synced before it is renamed into place. An atomic transaction takes all locks and
//! makes all comparisons before it changes anything; should the process die between two renames,
//! the push row holds what is needed to finish ([`settle`]). A transaction of very many refs goes
//! into `packed-refs` in one rename instead of as many files.

mod commit;
mod files;
mod lock;
mod pack;
mod packed;
mod prepare;
mod reflog;
mod settle;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use gix::ObjectId;

pub use self::files::above;
use self::files::{Value, read_loose};
use self::lock::{Lock, replace};
pub use self::pack::{PackRefsError, loose_refs_due, pack_loose_refs, sweep_pack_locks};
use self::packed::PackedRefs;
use self::prepare::Prepared;
pub use self::prepare::{collision, compare};
pub use self::reflog::ReflogIdentity;
pub use self::settle::{settle, sweep};
use super::durable::sync_folder;
use super::fault;
use super::repo_config::LogRefUpdates;

/// With this many refs to write they go into `packed-refs` at once.
const REFS_FOR_PACKED: usize = 256;

/// Symbolic refs that are followed one after the other.
const MAX_SYMREF_DEPTH: usize = 5;

/// One ref that shall change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// Full name, such as `refs/heads/main`; bytes, not always UTF-8.
    pub name: BString,
    /// What it must name now; the null id if it must not exist.
    pub old: ObjectId,
    /// What it shall name; the null id to delete it.
    pub new: ObjectId,
}

impl RefUpdate {
    /// Whether the ref is to be deleted.
    pub fn is_delete(&self) -> bool {
        self.new.is_null()
    }
}

/// Why a ref was not changed. [`RefError::reason`] is the short form that scripts match.
#[derive(Debug, thiserror::Error)]
pub enum RefError {
    /// Another ref stands in the way: `a` and `a/b` cannot both exist.
    #[error("cannot lock ref '{name}': '{other}' exists; cannot create '{name}'")]
    NameConflict {
        /// The ref.
        name: BString,
        /// The one in the way.
        other: BString,
    },
    /// Two refs of one transaction stand in each other's way.
    #[error("cannot lock ref '{name}': cannot process '{name}' and '{other}' at the same time")]
    NamesCollide {
        /// The ref.
        name: BString,
        /// The other one.
        other: BString,
    },
    /// It exists though it should not.
    #[error("cannot lock ref '{name}': reference already exists")]
    Exists {
        /// The ref.
        name: BString,
    },
    /// It does not exist though it should.
    #[error("cannot lock ref '{name}': reference is missing but expected {expected}")]
    Missing {
        /// The ref.
        name: BString,
        /// What it should name.
        expected: ObjectId,
    },
    /// It names something else than it should.
    #[error("cannot lock ref '{name}': is at {found} but expected {expected}")]
    Moved {
        /// The ref.
        name: BString,
        /// What it names.
        found: ObjectId,
        /// What it should name.
        expected: ObjectId,
    },
    /// Its file holds neither an id nor the name of a ref.
    #[error("cannot lock ref '{name}': its file is broken")]
    Broken {
        /// The ref.
        name: BString,
    },
    /// Someone else holds its lock.
    #[error("cannot lock ref '{name}': someone else is changing it ({lock} exists); try again")]
    Locked {
        /// The ref.
        name: BString,
        /// The lock file, relative to the repository.
        lock: String,
    },
    /// Its name is no ref name.
    #[error("'{name}' is not a ref name")]
    BadName {
        /// The name.
        name: BString,
    },
    /// A hook said no.
    #[error("{0}")]
    Declined(String),
    /// Another ref of the atomic transaction failed.
    #[error("another ref of this atomic push failed")]
    Atomic,
    /// The disk failed.
    #[error("cannot write ref '{name}'")]
    Io {
        /// The ref.
        name: BString,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl RefError {
    fn io(name: &BString, source: io::Error) -> Self {
        Self::Io {
            name: name.clone(),
            source,
        }
    }

    /// Git's words for a report, which scripts match.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NameConflict { .. } | Self::NamesCollide { .. } => "refname conflict",
            Self::Exists { .. } => "reference already exists",
            Self::Missing { .. } => "reference does not exist",
            Self::Moved { .. } => "incorrect old value provided",
            Self::BadName { .. } => "funny refname",
            Self::Declined(_) => "hook declined",
            Self::Atomic => "atomic transaction failed",
            Self::Broken { .. } | Self::Locked { .. } | Self::Io { .. } => "failed to update ref",
        }
    }
}

/// Is told of the stages of a transaction, as git's hook `reference-transaction` is.
pub trait Observer {
    /// All locks are held and all old values compared; `Err` stops the transaction.
    ///
    /// # Errors
    /// The sentence for the person who pushed.
    fn prepared(&mut self, updates: &[&RefUpdate]) -> Result<(), String>;
    /// The refs changed.
    fn committed(&mut self, updates: &[&RefUpdate]);
    /// No ref changed.
    fn aborted(&mut self, updates: &[&RefUpdate]);
}

/// Looks on without a word.
impl Observer for () {
    fn prepared(&mut self, _: &[&RefUpdate]) -> Result<(), String> {
        Ok(())
    }
    fn committed(&mut self, _: &[&RefUpdate]) {}
    fn aborted(&mut self, _: &[&RefUpdate]) {}
}

/// Where and for whom refs change.
pub struct RefStore<'a> {
    /// The bare repository.
    pub git_dir: &'a Path,
    /// Whether it keeps reflogs of its own.
    pub reflogs: Option<LogRefUpdates>,
    /// Who reflogs name.
    pub identity: &'a ReflogIdentity,
    /// What an annotated tag names in the end, `None` for anything else: `packed-refs` says so.
    pub peel: &'a dyn Fn(&ObjectId) -> Option<ObjectId>,
}

impl RefStore<'_> {
    /// Changes refs durably; one result per update, in their order.
    ///
    /// With `atomic` all change or none. Else each stands for itself, and deletions come first, so
    /// that `a` can make room for `a/b`. When this returns, what is `Ok` has reached the disk.
    pub fn apply(&self, updates: &[RefUpdate], atomic: bool, observer: &mut dyn Observer) -> Vec<Result<(), RefError>> {
        let mut results: Vec<Result<(), RefError>> = updates.iter().map(|_| Ok(())).collect();
        let all: Vec<usize> = (0..updates.len()).collect();
        if atomic {
            self.run(updates, &all, true, observer, &mut results);
        } else {
            let (deletes, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|&n| updates[n].is_delete());
            self.run(updates, &deletes, false, observer, &mut results);
            self.run(updates, &others, false, observer, &mut results);
        }
        results
    }

    /// One transaction over the updates `picked`.
    fn run(
        &self,
        updates: &[RefUpdate],
        picked: &[usize],
        atomic: bool,
        observer: &mut dyn Observer,
        results: &mut [Result<(), RefError>],
    ) {
        if picked.is_empty() {
            return;
        }
        let mut prepared = self.prepare(updates, picked, atomic, results);
        let of = |prepared: &[Prepared]| prepared.iter().map(|one| &updates[one.index]).collect::<Vec<_>>();
        if atomic && prepared.len() < picked.len() {
            for &n in picked.iter() {
                if results[n].is_ok() {
                    results[n] = Err(RefError::Atomic);
                }
            }
            observer.aborted(&picked.iter().map(|&n| &updates[n]).collect::<Vec<_>>());
            return;
        }
        if prepared.is_empty() {
            return;
        }
        let refs = of(&prepared);
        if let Err(sentence) = observer.prepared(&refs) {
            for one in &prepared {
                results[one.index] = Err(RefError::Declined(sentence.clone()));
            }
            return;
        }
        fault::point("before-ref-rename");
        self.commit(updates, &mut prepared, atomic, results);
        let (done, failed): (Vec<_>, Vec<_>) = refs_by_result(updates, &prepared, results);
        drop(prepared);
        if !done.is_empty() {
            observer.committed(&done);
        }
        if !failed.is_empty() {
            observer.aborted(&failed);
        }
    }

    /// What the ref of each update names now, null if it does not exist; `None` if it cannot be read.
    pub fn values<'n>(&self, updates: impl Iterator<Item = &'n RefUpdate>) -> Vec<Option<ObjectId>> {
        let packed = PackedRefs::read(self.git_dir);
        let value_of = |update: &RefUpdate| {
            let name = &update.name;
            let name = is_ref_name(name).then(|| self.resolve(name).ok()).flatten()?;
            match self.read(name.as_bstr(), packed.as_ref().ok()?) {
                Ok(Value::Id(id)) => Some(id),
                Ok(Value::Missing) => Some(update.new.kind().null()),
                Ok(Value::Symbolic(_)) | Err(_) => None,
            }
        };
        updates.map(value_of).collect()
    }

    /// What a ref names now, without following symbolic ones.
    fn read(&self, name: &BStr, packed: &PackedRefs) -> Result<Value, RefError> {
        match read_loose(&self.path_of(name)) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Ok(packed.find(name).map_or(Value::Missing, Value::Id)),
            Err(_) => Err(RefError::Broken { name: name.to_owned() }),
        }
    }

    fn path_of(&self, name: &BStr) -> PathBuf {
        self.git_dir.join(OsStr::from_bytes(name.as_bytes()))
    }
}

type RefsByResult<'u> = (Vec<&'u RefUpdate>, Vec<&'u RefUpdate>);

fn refs_by_result<'u>(
    updates: &'u [RefUpdate],
    prepared: &[Prepared],
    results: &[Result<(), RefError>],
) -> RefsByResult<'u> {
    let (done, failed): (Vec<_>, Vec<_>) = prepared.iter().partition(|one| results[one.index].is_ok());
    let refs = |of: Vec<&Prepared>| of.into_iter().map(|one| &updates[one.index]).collect();
    (refs(done), refs(failed))
}

/// Whether this is a full ref name that may be made into a path.
pub fn is_ref_name(name: &BString) -> bool {
    name.starts_with(b"refs/") && gix::validate::reference::name(name.as_bstr()).is_ok()
}

/// Takes commits into the repository's shallow boundary (git's file `shallow`), durably.
///
/// # Errors
/// Someone else holds the lock, or the disk failed.
pub fn add_shallow(git_dir: &Path, commits: &[ObjectId]) -> io::Result<()> {
    let path = git_dir.join("shallow");
    let read = || match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    };
    let _lock = Lock::take_marked(&path)?;
    fault::point("after-shallow-lock");
    let mut lines: std::collections::BTreeSet<String> = read()?.lines().map(str::to_owned).collect();
    lines.extend(commits.iter().map(ObjectId::to_string));
    let content: String = lines.into_iter().map(|line| line + "\n").collect();
    replace(&path, content.as_bytes())?;
    sync_folder(git_dir)
}

/// Lets `HEAD` name `branch`, durably.
///
/// # Errors
/// `branch` is no full branch name, someone else holds the lock, or the disk failed.
pub fn set_head(git_dir: &Path, branch: &BStr) -> io::Result<()> {
    if !branch.starts_with(b"refs/heads/") || !is_ref_name(&branch.to_owned()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("'{branch}' is not a branch"),
        ));
    }
    let path = git_dir.join("HEAD");
    let _lock = Lock::take_marked(&path)?;
    fault::point("after-head-lock");
    replace(&path, &[b"ref: ", branch.as_bytes(), b"\n"].concat())?;
    sync_folder(git_dir)
}

#[cfg(test)]
mod tests;
