//! What is done with a lock that is held, and what holds for the locks of a repository.

use std::str::FromStr as _;

use super::{LockError, Locks, outdated, shown, span};
use crate::db::{ActOnLock, By, LockAct, LockAsk, LockRow, LockRules, LockRulesChange, Outdated, Reach};
use crate::git::ObjectId;
use crate::git::push_changes::ChangeLimits;
use crate::ids::LockId;
use crate::names::OwnerName;
use crate::service::access::{Access, Opened};
use crate::service::rights::{Right, is_maintainer};
use crate::service::sign_in::{Caller, SignedIn};
use crate::service::transfer::{CallerKey, Kind, TransferError, snapshot};

/// Longest reason, note or name of a machine, in characters.
const TEXT_MAX_CHARS: usize = 500;

/// A lock that was taken, and what its holder should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The lock.
    pub lock: LockRow,
    /// A sentence, if it was taken on an old version.
    pub warning: Option<String>,
}

impl Locks {
    /// Takes a lock and tells whether `commit`, the version at hand, is behind its branch. The lock is taken
    /// first, so that every push is either seen here or sees the lock.
    ///
    /// # Errors
    /// Those of [`Locks::take`]; [`LockError::Outdated`] where the repository wants it so.
    pub async fn take_at(
        &self,
        repo: &Opened,
        by: &SignedIn,
        mut wish: super::LockWish,
        commit: Option<String>,
    ) -> Result<Taken, LockError> {
        wish.reason = text(wish.reason)?;
        wish.machine = text(wish.machine)?;
        let commit = commit.map(|hex| {
            ObjectId::from_str(&hex).map_err(|_| LockError::BadRequest("`commit` is a full commit id.".into()))
        });
        let commit = commit.transpose()?;
        let wanted_branch = super::branch(wish.branch.clone())?;
        let lock = self.take(repo, by, wish).await?;
        let rules = self.db.lock_rules(repo.id).await?;
        let (Some(commit), false) = (commit, rules.outdated == Outdated::Allow) else {
            return Ok(Taken { lock, warning: None });
        };
        let warning = match self.warning(repo, by, &lock, wanted_branch, commit).await {
            Ok(warning) => warning,
            Err(error) => {
                tracing::warn!(repository = %repo.address, %error, "How old a locked version is cannot be told");
                Some("How old your version is cannot be told now; pull before you work.".to_owned())
            }
        };
        match warning {
            Some(sentence) if rules.outdated == Outdated::Refuse => {
                self.release(repo, by, &lock.id.to_string(), false).await?;
                Err(LockError::Outdated(sentence))
            }
            warning => Ok(Taken { lock, warning }),
        }
    }

    async fn warning(
        &self,
        repo: &Opened,
        by: &SignedIn,
        lock: &LockRow,
        branch: Option<String>,
        commit: ObjectId,
    ) -> Result<Option<String>, TransferError> {
        let admitted = self.transfer.admit(CallerKey::User(by.id))?;
        let (transfer, path, trust) = (self.transfer.clone(), repo.path.clone(), repo.trust_hooks);
        let settings = &self.config.locks;
        let limits = ChangeLimits {
            max_commits: settings.max_push_commits,
            max_paths: settings.max_push_paths,
        };
        let covers_key = lock.covers_key.clone();
        let looked = self.transfer.compute(Kind::Listing, admitted, move |work| {
            let repository = transfer.open(&path, trust)?;
            let snapshot = snapshot(&repository)?;
            let branch = branch.as_deref();
            Ok(outdated::behind(
                &snapshot,
                branch,
                &commit,
                &covers_key,
                limits,
                &mut || work.check(),
            ))
        });
        Ok(match looked.await?.0 {
            Ok(Some(behind)) if behind.changing > 0 => Some(format!(
                "Your version of {} is old: {} is {} commits ahead, {} of which change it. Pull before you work.",
                lock.path,
                behind.branch.strip_prefix("refs/heads/").unwrap_or(&behind.branch),
                behind.ahead,
                behind.changing
            )),
            Ok(Some(_)) => None,
            Ok(None) => Some("Your version is not known here, so whether it is the newest cannot be told.".into()),
            Err(error) => {
                tracing::debug!(%error, "How old a locked version is cannot be told");
                Some("Your version is so far behind that its age cannot be told: pull before you work.".into())
            }
        })
    }

    /// A lock, and who asked for it.
    ///
    /// # Errors
    /// [`LockError::NoLock`]
    pub async fn show(&self, repo: &Opened, id: &str) -> Result<(LockRow, Vec<LockAsk>), LockError> {
        let no_lock = || LockError::NoLock(shown(id));
        let lock = self.db.lock_by_id(repo.id, id.parse().map_err(|_| no_lock())?).await?;
        let lock = lock.ok_or_else(no_lock)?;
        let asks = self.db.lock_asks(&lock).await?;
        Ok((lock, asks))
    }

    /// The holder works with the lock.
    ///
    /// # Errors
    /// [`LockError::NoLock`], [`LockError::Foreign`].
    pub async fn touch(&self, repo: &Opened, by: &SignedIn, id: &str) -> Result<LockRow, LockError> {
        self.act(repo, by, id, Reach::Own, LockAct::Touch).await
    }

    /// The lock stays after a push, or no longer.
    ///
    /// # Errors
    /// [`LockError::NoLock`], [`LockError::Foreign`].
    pub async fn keep(&self, repo: &Opened, by: &SignedIn, id: &str, is_kept: bool) -> Result<LockRow, LockError> {
        self.act(repo, by, id, Reach::Own, LockAct::Keep(is_kept)).await
    }

    /// Asks the holder for the lock.
    ///
    /// # Errors
    /// [`LockError::NoLock`], [`LockError::BadRequest`].
    pub async fn ask(
        &self,
        repo: &Opened,
        by: &SignedIn,
        id: &str,
        note: Option<String>,
    ) -> Result<LockRow, LockError> {
        let note = text(note)?.unwrap_or_default();
        self.act(repo, by, id, Reach::Own, LockAct::Ask { note }).await
    }

    /// Gives the lock to somebody else who may push. Maintainers may do that with every lock.
    ///
    /// # Errors
    /// [`LockError::NoLock`], [`LockError::Foreign`], [`LockError::BadRequest`].
    pub async fn hand_over(
        &self,
        access: &Access,
        repo: &Opened,
        by: &SignedIn,
        id: &str,
        to: &str,
    ) -> Result<LockRow, LockError> {
        let cannot = || LockError::BadRequest(format!("{} cannot push to {}.", shown(to), repo.address));
        let name: OwnerName = to.parse().map_err(|_| cannot())?;
        let to = self
            .db
            .user_by_name(&name)
            .await?
            .filter(|user| !user.is_disabled)
            .ok_or_else(cannot)?;
        let caller = Caller::User(SignedIn {
            id: to.id,
            name: to.name.clone(),
            is_site_admin: to.is_site_admin,
            token: None,
        });
        let opened = access.open(&caller, &repo.address, Right::Write).await;
        if !opened.is_ok_and(|opened| opened.id == repo.id) {
            return Err(cannot());
        }
        let reach = match is_maintainer(repo.role, by) {
            true => Reach::All,
            false => Reach::Own,
        };
        let act = LockAct::HandOver {
            to: to.id,
            to_name: to.name,
        };
        self.act(repo, by, id, reach, act).await
    }

    /// Takes the lock from its holder: maintainers at any time, everybody else who may push once it is stale.
    ///
    /// # Errors
    /// [`LockError::NoLock`], [`LockError::Foreign`], [`LockError::BadRequest`].
    pub async fn steal(
        &self,
        repo: &Opened,
        by: &SignedIn,
        id: &str,
        (reason, machine): (Option<String>, Option<String>),
    ) -> Result<LockRow, LockError> {
        let reach = match is_maintainer(repo.role, by) {
            true => Reach::All,
            false => Reach::Stale,
        };
        let act = LockAct::Steal {
            by_name: by.name.clone(),
            reason: text(reason)?,
            machine: text(machine)?,
        };
        self.act(repo, by, id, reach, act).await
    }

    async fn act(
        &self,
        repo: &Opened,
        by: &SignedIn,
        id: &str,
        reach: Reach,
        act: LockAct,
    ) -> Result<LockRow, LockError> {
        let no_lock = || LockError::NoLock(shown(id));
        let lock: LockId = id.parse().map_err(|_| no_lock())?;
        let what = match &act {
            LockAct::Touch => None,
            LockAct::Keep(_) => Some("keeps"),
            LockAct::HandOver { .. } => Some("handed over"),
            LockAct::Steal { .. } => Some("stole"),
            LockAct::Ask { .. } => Some("asked for"),
        };
        let actor = (by.id, By::User(by.name.clone()));
        match self.db.act_on_lock(repo.id, lock, actor, reach, act).await? {
            ActOnLock::Done(done) => {
                let (was, now) = *done;
                if let Some(what) = what {
                    tracing::info!(repository = %repo.address, user = %by.name, lock.id = %now.id,
                        holder = %now.holder_name, was = %was.holder_name, "{} {what} the lock on {}", by.name,
                        now.path.escape_debug());
                }
                Ok(now)
            }
            ActOnLock::Gone => Err(no_lock()),
            ActOnLock::Own(_) => Err(LockError::BadRequest("The lock is yours already.".into())),
            ActOnLock::Refused => Err(LockError::BadRequest(
                "Too many have asked for this lock already.".into(),
            )),
            ActOnLock::Foreign(lock) => {
                let rules = self.db.lock_rules(repo.id).await?;
                let held = LockError::Held(Box::new(lock.clone()));
                Err(LockError::Foreign(format!(
                    "{held} Ask {} for it. Maintainers can steal it at any time, everybody else who may push once it has \
                     been idle for {}.",
                    lock.holder_name,
                    span(rules.stale_after_secs)
                )))
            }
        }
    }

    /// What holds for the locks of a repository.
    ///
    /// # Errors
    /// [`LockError::Db`]
    pub async fn rules(&self, repo: &Opened) -> Result<LockRules, LockError> {
        Ok(self.db.lock_rules(repo.id).await?)
    }

    /// Changes it; for those who may manage the repository.
    ///
    /// # Errors
    /// [`LockError::Gone`], [`LockError::BadRequest`].
    pub async fn set_rules(&self, repo: &Opened, by: By, change: LockRulesChange) -> Result<LockRules, LockError> {
        const YEAR_SECS: u64 = 366 * 24 * 60 * 60;
        for secs in [change.stale_after_secs, change.expire_after_secs]
            .into_iter()
            .flatten()
        {
            if secs > YEAR_SECS {
                return Err(LockError::BadRequest(format!("A time is at most {YEAR_SECS} seconds.")));
            }
        }
        self.db
            .set_lock_rules(repo.id, change, by)
            .await?
            .ok_or(LockError::Gone)
    }

    /// Whether somebody seems to have left a lock behind.
    pub fn is_stale(&self, rules: &LockRules, lock: &LockRow) -> bool {
        rules.is_stale(lock, self.db.now_us())
    }
}

/// Text for people, or nothing.
fn text(text: Option<String>) -> Result<Option<String>, LockError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.chars().count() > TEXT_MAX_CHARS || text.chars().any(char::is_control) {
        return Err(LockError::BadRequest(format!(
            "A reason, a note or the name of a machine has at most {TEXT_MAX_CHARS} characters, in one line."
        )));
    }
    Ok(Some(text))
}
