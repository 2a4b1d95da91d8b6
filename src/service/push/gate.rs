//! What decides about one push and records it, called from the thread that runs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bstr::ByteSlice as _;
use git_auxin::notes::from_push_options;
use tokio::runtime::Handle;

use super::consequences::{self, Pushed};
use super::lock_check::{LOOKS_MAX, Looked};
use super::{Inner, Push, change};
use crate::db::{BeginPush, FinishPush, NewPush, RefChange};
use crate::git::ancestry;
use crate::git::fault;
use crate::git::receive_pack::{GateError, PushGate, PushRequest, RefUpdate};
use crate::git::snapshot::Repository;
use crate::git::upload_pack::history::HistoryError;
use crate::git::work::Work;
use crate::ids::{LockId, PushId};
use crate::service::access::{AccessError, Opened};
use crate::service::notes;
use crate::service::protection;
use crate::service::sign_in::SignedIn;
use crate::service::transfer::snapshot;

/// Said when the database does not answer; the reason is in the log.
const NOT_RECORDED: &str = "the server cannot record this push now; nothing was changed, try again";

/// Stands where only the form of what is said matters.
const NO_TIME: &str = "1970-01-01T00:00:00Z";
/// How long a push waits for what is said of its commits.
const SUMMARY_PATIENCE: Duration = Duration::from_secs(1);

/// The gate of one push.
pub(super) struct Gate<'w> {
    pub(super) inner: Arc<Inner>,
    pub(super) handle: Handle,
    pub(super) work: &'w Work,
    pub(super) repo: Opened,
    pub(super) repository: Arc<Repository>,
    pub(super) by: SignedIn,
    address: String,
    is_made: bool,
    options: Vec<String>,
    open: Option<PushId>,
    refs: Vec<RefChange>,
    locks: Looked,
}

impl<'w> Gate<'w> {
    /// The gate of `push` into `repo`; `is_made` if the push has made it.
    pub(super) fn new(
        inner: Arc<Inner>,
        handle: Handle,
        work: &'w Work,
        repository: Arc<Repository>,
        repo: Opened,
        push: &Push,
        is_made: bool,
    ) -> Self {
        Self {
            inner,
            handle,
            work,
            repo,
            repository,
            by: push.by.clone(),
            address: push.address.to_string(),
            is_made,
            options: Vec::new(),
            open: None,
            refs: Vec::new(),
            locks: Looked::default(),
        }
    }

    /// What the one who pushes should know about where it went.
    fn about_repository(&self) -> Vec<String> {
        let base_url = &self.inner.config.server.public_url;
        let address = &self.repo.address;
        let mut lines = Vec::new();
        if self.is_made {
            lines.push(format!("Made the {} repository {address}.", self.repo.visibility));
        }
        if let Some(old) = &self.repo.renamed_from {
            lines.push(format!("{old} is called {address} now. To use the new address:"));
            lines.push(format!("  git remote set-url origin {base_url}/{address}.git"));
        }
        lines
    }

    /// The rule that forbids `update`, as a sentence.
    fn forbidden(&self, update: &RefUpdate, push: &PushRequest<'_>) -> Result<Option<String>, GateError> {
        if update.name == notes::NOTES_REF || update.name == notes::SUMMARY_REF {
            return Ok(Some(format!(
                "{} is written by the server; say what you mean at the end of a commit's message (Key: A minor), or with \
                 git push -o logic.key='A minor'",
                update.name
            )));
        }
        let rules = || {
            self.repo
                .protected
                .iter()
                .filter(|rule| protection::covers(rule, &update.name))
        };
        let name = update
            .name
            .strip_prefix(b"refs/heads/")
            .unwrap_or(&update.name)
            .as_bstr();
        if update.is_delete() {
            return Ok(rules()
                .any(|rule| rule.no_delete)
                .then(|| format!("{name} is protected: it cannot be deleted")));
        }
        if update.old.is_null() || !rules().any(|rule| rule.no_force) {
            return Ok(None);
        }
        let shallow = match snapshot(&self.repository) {
            Ok(snapshot) => snapshot.shallow.clone(),
            Err(error) => return Err(self.failed(&error)),
        };
        let (old, new) = (&update.old, &update.new);
        let is_added_to = ancestry::is_fast_forward(push.objects, &shallow, old, new, &mut || self.work.check());
        match is_added_to {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(format!(
                "{name} is protected: commits can be added to it, not taken away; pull first, then push without --force"
            ))),
            Err(HistoryError::Stopped(stopped)) => Err(GateError::new(stopped.to_string())),
            Err(error) => Err(self.failed(&error)),
        }
    }
}

impl PushGate for Gate<'_> {
    fn check(&mut self, push: &PushRequest<'_>) -> Result<Vec<Option<String>>, GateError> {
        // Changes that stock git made come before this push in the order of rows.
        if let Err(error) = self.inner.notices.look(&self.handle, self.repo.id, &self.repository) {
            tracing::error!(repo.id = %self.repo.id, %error, "Changes on disk cannot be recorded");
            return Err(GateError::new(NOT_RECORDED));
        }
        // The pack may have taken hours.
        self.repo.protected = self.look_again()?.protected;
        self.options = push
            .options
            .iter()
            .map(|option| option.to_str_lossy().into_owned())
            .collect();
        let spoken = from_push_options(self.options.iter().map(String::as_str), "", NO_TIME);
        if let Err(error) = spoken {
            return Err(GateError::new(format!("push option: {error}")));
        }
        let verdicts: Result<Vec<_>, _> = push.updates.iter().map(|update| self.forbidden(update, push)).collect();
        let mut verdicts = verdicts?;
        self.refuse_unfilled(push, &mut verdicts)?;
        let open: Vec<usize> = (0..verdicts.len()).filter(|&n| verdicts[n].is_none()).collect();
        let updates: Vec<RefUpdate> = open.iter().map(|&n| push.updates[n].clone()).collect();
        let before = snapshot(&self.repository).map_err(|error| self.failed(&error))?;
        self.locks = self.look_at_locks(&before, push.objects, &updates)?;
        for (n, verdict) in open.into_iter().zip(std::mem::take(&mut self.locks.verdicts)) {
            verdicts[n] = verdict;
        }
        Ok(verdicts)
    }

    fn begin(&mut self, accepted: &[RefUpdate], atomic: bool) -> Result<(), GateError> {
        // Hooks may have taken a while, too.
        let protected = self.look_again()?.protected;
        let is_covered = |update: &RefUpdate| protected.iter().any(|rule| protection::covers(rule, &update.name));
        if protected != self.repo.protected && accepted.iter().any(is_covered) {
            return Err(GateError::new(
                "the protection of this branch was changed while you were pushing; push again",
            ));
        }
        self.refs = accepted.iter().map(change).collect();
        self.inner
            .unclosed
            .close(&self.handle, &self.inner.db, self.repo.id)
            .map_err(|error| self.failed(&error))?;
        for _ in 0..LOOKS_MAX {
            let push = NewPush {
                repo: self.repo.id,
                user: self.by.id,
                pusher: self.by.name.clone(),
                token: self.by.token.as_ref().map(|token| token.id),
                address: self.address.clone(),
                atomic,
                options: self.options.clone(),
                locks_version: (!fault::is_on("no-lock-order")).then_some(self.locks.version),
                releases: self.releases(),
            };
            let begun = self.handle.block_on(self.inner.db.begin_push(push, self.refs.clone()));
            match begun.map_err(|error| self.failed(&error))? {
                BeginPush::Begun(id) => {
                    self.inner.notices.wait(self.repo.id);
                    self.open = Some(id);
                    return Ok(());
                }
                BeginPush::RepoGone => {
                    return Err(GateError::new("this repository was deleted while you were pushing"));
                }
                BeginPush::Archived => return Err(GateError::new(super::archived(&self.repo.address))),
                BeginPush::LocksChanged => {
                    // The objects have moved in, the refs have not moved yet.
                    let now = snapshot(&self.repository).map_err(|error| self.failed(&error))?;
                    self.locks = self.look_at_locks(&now, &now.objects, accepted)?;
                    if let Some(sentence) = self.locks.verdicts.iter().flatten().next() {
                        return Err(GateError::new(sentence));
                    }
                }
            }
        }
        Err(GateError::new(
            "locks are being taken faster than this push can look at them; push again",
        ))
    }

    fn finish(&mut self, results: &[(RefUpdate, bool)]) -> Result<Vec<String>, GateError> {
        let Some(id) = self.open.take() else {
            return Ok(Vec::new());
        };
        let by_name: HashMap<&[u8], bool> = results
            .iter()
            .map(|(update, applied)| (update.name.as_slice(), *applied))
            .collect();
        let applied: Vec<bool> = self
            .refs
            .iter()
            .map(|change| by_name.get(change.name.as_slice()) == Some(&true))
            .collect();
        let moved: Vec<RefChange> = self
            .refs
            .iter()
            .zip(&applied)
            .filter(|(_, applied)| **applied)
            .map(|(change, _)| change.clone())
            .collect();
        let mut lines = Vec::new();
        if !moved.is_empty() {
            self.inner.made.keep(self.repo.id);
            self.inner.pushed_to.note(self.repo.id);
            lines = self.about_repository();
            // Told once, also where a hook took a part of the push.
            self.is_made = false;
            self.repo.renamed_from = None;
            lines.extend(consequences::run(&Pushed {
                handle: &self.handle,
                db: &self.inner.db,
                id,
                repo: self.repo.id,
                repository: &self.repository,
                pusher: self.by.name.as_str(),
                applied: &moved,
            }));
        }
        let summary = self.inner.notes.ask(id);
        // The refs have moved and stay moved: from here on a failure is ours to log, and the next
        // push's or the next start's to settle.
        match self.handle.block_on(self.inner.db.finish_push(id, applied.clone())) {
            Ok(FinishPush::Done) if self.may_say(&moved) => {
                self.inner.notes.kick(self.repo.id);
                lines.extend(said(summary.wait(SUMMARY_PATIENCE)));
            }
            Ok(FinishPush::Done) => {}
            Ok(other) => tracing::error!(push.id = %id, ?other, "A push cannot be closed"),
            Err(error) => {
                tracing::error!(push.id = %id, %error, "A push stays open");
                self.inner.unclosed.add(self.repo.id, id, applied);
            }
        }
        let advanced = self
            .inner
            .notices
            .advance(&self.handle, self.repo.id, &self.repository, &moved);
        if let Err(error) = advanced {
            tracing::warn!(repo.id = %self.repo.id, %error, "Changes on disk cannot be recorded now");
        }
        Ok(lines)
    }
}

/// What a push says of its newest commit, or where that will stand.
fn said(summary: Option<String>) -> Vec<String> {
    match summary {
        Some(text) => text.lines().map(str::to_owned).collect(),
        None => vec!["What its projects say is still being read; it will be in refs/notes/logic-summary.".to_owned()],
    }
}

impl Gate<'_> {
    /// Whether something is to be said of what has moved.
    fn may_say(&self, moved: &[RefChange]) -> bool {
        let snapshot = match self.repository.snapshot() {
            Ok(snapshot) if !moved.is_empty() && self.inner.config.notes.enabled => snapshot,
            _ => return false,
        };
        self.inner.notes.may_say(&snapshot, moved, &self.options)
    }

    /// The pusher's locks on what is pushed, where they go after a push.
    fn releases(&self) -> Vec<(usize, LockId)> {
        if fault::is_on("no-release-row") {
            return Vec::new();
        }
        let places: HashMap<&[u8], usize> = (self.refs.iter().enumerate())
            .map(|(ord, change)| (change.name.as_slice(), ord))
            .collect();
        let own = self.locks.own.iter();
        let own = own.filter_map(|(name, ids)| Some((*places.get(name.as_slice())?, ids)));
        own.flat_map(|(ord, ids)| ids.iter().map(move |id| (ord, *id)))
            .collect()
    }

    /// The repository as the one who pushes may use it now.
    fn look_again(&self) -> Result<Opened, GateError> {
        let opened = self.handle.block_on(self.inner.access.open_again(&self.by, &self.repo));
        opened.map_err(|error| match error {
            AccessError::Db(cause) => self.failed(&cause),
            refusal => GateError::new(refusal.to_string()),
        })
    }

    pub(super) fn failed(&self, error: &(dyn std::error::Error + 'static)) -> GateError {
        tracing::error!(repo.id = %self.repo.id, error, "A push cannot be recorded");
        GateError::new(NOT_RECORDED)
    }
}

/// Refuses every update with one sentence; stands where there is no repository to push to.
pub(super) struct Closed(pub(super) String);

impl PushGate for Closed {
    fn check(&mut self, push: &PushRequest<'_>) -> Result<Vec<Option<String>>, GateError> {
        Ok(vec![Some(self.0.clone()); push.updates.len()])
    }

    fn begin(&mut self, _: &[RefUpdate], _: bool) -> Result<(), GateError> {
        Err(GateError::new(&self.0))
    }

    fn finish(&mut self, _: &[(RefUpdate, bool)]) -> Result<Vec<String>, GateError> {
        Ok(Vec::new())
    }
}
