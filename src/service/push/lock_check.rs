//! Locks at a push: what somebody else has locked is not changed.

use super::gate::Gate;
use crate::git::object_store::ObjectStore;
use crate::git::push_changes::{ChangeLimits, PushChangesError};
use crate::git::receive_pack::{GateError, RefUpdate};
use crate::git::snapshot::Snapshot;
use crate::git::walk::WalkError;
use crate::ids::LockId;
use crate::service::locks::Guard;

/// How often a push looks again because somebody took a lock meanwhile.
pub(super) const LOOKS_MAX: usize = 50;

/// What one look at the locks found.
#[derive(Default)]
pub(super) struct Looked {
    /// The version of the repository's locks that was looked at.
    pub version: i64,
    /// For each update why it is refused.
    pub verdicts: Vec<Option<String>>,
    /// For each update the locks of the pusher that it is about, if they go after the push.
    pub own: Vec<(Vec<u8>, Vec<LockId>)>,
}

impl Gate<'_> {
    /// Looks at the locks that there are now. `before` is the repository without the push, `objects` holds both.
    pub(super) fn look_at_locks(
        &self,
        before: &Snapshot,
        objects: &ObjectStore,
        updates: &[RefUpdate],
    ) -> Result<Looked, GateError> {
        let read = self.handle.block_on(self.inner.db.push_locks(self.repo.id, self.by.id));
        let locks = read.map_err(|error| self.failed(&error))?;
        let guard = Guard::new(locks.locks, self.by.id);
        let mut looked = Looked {
            version: locks.version,
            verdicts: vec![None; updates.len()],
            own: Vec::new(),
        };
        if guard.is_empty() {
            return Ok(looked);
        }
        let settings = &self.inner.config.locks;
        let limits = ChangeLimits {
            max_commits: settings.max_push_commits,
            max_paths: settings.max_push_paths,
        };
        let now_us = self.inner.db.now_us();
        let found = guard.look(before, objects, updates, &locks.rules, (limits, now_us), &mut || {
            self.work.check()
        });
        let found = found.map_err(|error| match error {
            PushChangesError::Walk(WalkError::Stopped(stopped)) => GateError::new(stopped.to_string()),
            PushChangesError::Walk(error) => self.failed(&error),
            PushChangesError::TooManyCommits { limit } => GateError::new(format!(
                "files are locked here, and this push brings or takes away more than {limit} commits, which are too many to \
                 look at (locks.max_push_commits); push it in parts"
            )),
            PushChangesError::TooManyPaths { limit } => GateError::new(format!(
                "files are locked here, and this push changes more than {limit} files beside them, which are too many to \
                 look at (locks.max_push_paths); push it in parts"
            )),
            error @ PushChangesError::PathTooLong => GateError::new(format!("files are locked here, and {error}")),
        })?;
        looked.verdicts = found.verdicts;
        if locks.rules.release_after_push {
            let names = updates.iter().map(|update| update.name.to_vec());
            looked.own = names.zip(found.own).collect();
        }
        Ok(looked)
    }
}
