//! Care for repositories: what [`crate::git::maintenance`] does, when, and at whose cost.
//!
//! The server looks at a repository some time after pushes, and at all of them now and then; how a
//! repository's folder looks says what is due, so nothing is lost by a restart. One repository is worked
//! on at a time, on one thread, which pauses while requests run. A command does the same at once.

mod borrowers;
mod pace;
mod schedule;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use self::pace::Pace;
pub use self::schedule::PushedTo;
use super::repos::{RepoError, Repos};
use super::transfer::Transfer;
use crate::config::Settings;
use crate::db::{Db, RepoRow};
use crate::git::ObjectId;
use crate::git::maintenance::{self, MaintenanceError, MaintenanceOptions};
use crate::git::work::Tick;
use crate::names::RepoAddress;

pub use crate::git::maintenance::{Due, MaintenanceReport, Role as PackRole, StepReport, Survey};

/// What a command asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpkeepRequest {
    /// Everything is put in order, even where little is due.
    pub is_full: bool,
    /// New deltas are searched.
    pub with_deltas: bool,
    /// Nothing is changed, only told.
    pub is_dry_run: bool,
}

/// Cares for repositories. Cheap to clone.
#[derive(Clone)]
pub struct Upkeep {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Settings>,
    db: Db,
    transfer: Transfer,
    repos: Repos,
    pushed_to: PushedTo,
    /// One repository at a time.
    turn: Mutex<()>,
}

impl Upkeep {
    /// `pushed_to` hears of pushes.
    pub fn new(config: Arc<Settings>, db: Db, transfer: Transfer, repos: Repos, pushed_to: PushedTo) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                db,
                transfer,
                repos,
                pushed_to,
                turn: Mutex::new(()),
            }),
        }
    }

    /// Looks at the folder of a repository.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`], [`RepoError::Unreadable`].
    pub async fn survey(&self, address: &RepoAddress) -> Result<Survey, RepoError> {
        let repo = self.inner.repos.find(address).await?;
        let path = self.inner.repos.path(&repo);
        let looked = tokio::task::spawn_blocking(move || Survey::of(&path).map_err(|error| error.to_string())).await;
        looked
            .unwrap_or_else(|ended| Err(ended.to_string()))
            .map_err(|cause| unreadable(&repo, cause))
    }

    /// Cares for one repository now, at full speed; waits for another maintenance of it. Returns when all
    /// is done.
    ///
    /// # Errors
    /// [`RepoError::NoRepo`]; [`RepoError::Unreadable`] if it cannot be done, and then it is whole all the same.
    pub async fn maintain(
        &self,
        address: &RepoAddress,
        request: UpkeepRequest,
    ) -> Result<MaintenanceReport, RepoError> {
        let repo = self.inner.repos.find(address).await?;
        let needs = self.inner.needs_of(&repo).await?;
        let (inner, row) = (Arc::clone(&self.inner), repo.clone());
        let done = tokio::task::spawn_blocking(move || {
            inner
                .maintain(&row, &needs, request, true, &mut || Ok(()))
                .map_err(|error| sentence(&error))
        })
        .await;
        done.unwrap_or_else(|ended| Err(ended.to_string()))
            .map_err(|cause| unreadable(&repo, cause))
    }
}

fn unreadable(repo: &RepoRow, cause: String) -> RepoError {
    RepoError::Unreadable {
        repo: repo.address.clone(),
        cause,
    }
}

/// An error with its causes.
fn sentence(error: &MaintenanceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// What keeps objects of a repository alive beside its own refs.
struct Needs {
    keep: Vec<ObjectId>,
    borrowers: Vec<String>,
}

impl Inner {
    async fn needs_of(&self, repo: &RepoRow) -> Result<Needs, RepoError> {
        let grace_us = self.config.git.want_grace_secs.saturating_mul(1_000_000);
        let since_us = self.db.now_us().saturating_sub_unsigned(grace_us);
        let id = |bytes: &[u8]| ObjectId::try_from(bytes).ok();
        let moved = self.db.moved_old_ids(repo.id, since_us).await?;
        let mut keep: Vec<ObjectId> = moved.iter().filter_map(|moved| id(moved.old.as_bytes())).collect();
        let open = self.db.open_new_ids(repo.id).await?;
        keep.extend(open.iter().filter_map(|new| id(new.as_bytes())));
        let borrowers = borrowers::of(&self.repos, repo).await?;
        Ok(Needs { keep, borrowers })
    }

    /// Cares for one repository. Blocks.
    fn maintain(
        &self,
        repo: &RepoRow,
        needs: &Needs,
        request: UpkeepRequest,
        wait: bool,
        tick: Tick<'_>,
    ) -> Result<MaintenanceReport, MaintenanceError> {
        let path: PathBuf = self.repos.path(repo);
        let repository = crate::git::snapshot::Repository::open(&path, repo.trust_hooks)?;
        let options = MaintenanceOptions {
            settings: &self.config.maintenance,
            git: &self.config.git,
            is_full: request.is_full,
            is_pushed_to: self.pushed_to.is_waiting(repo.id),
            with_deltas: request.with_deltas,
            is_dry_run: request.is_dry_run,
            wait,
            keep: &needs.keep,
            borrowers: &needs.borrowers,
        };
        maintenance::maintain(&repository, &options, tick)
    }
}
