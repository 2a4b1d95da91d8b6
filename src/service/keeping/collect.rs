//! The collector: large files that nothing needs go, in the order links, objects, chunks, packs.
//!
//! A link is needed while a ref of its repository reaches a pointer to it, a push under way or a ref of the grace
//! time ago does, or somebody was told within the grace time that the object is here. What a mark finds unneeded
//! is noted; a later mark that finds the same removes it. Whoever comes to need a chunk in between takes its note
//! off in the transaction that needs it, and finds out there if it is gone already. Bytes go last, some time after
//! their rows, and a key is never used again.

use std::collections::HashSet;
use std::time::Duration;

use lfs_protocol::Oid;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Keeping, KeepingError};
use crate::db::{Hash, RepoRow, US_PER_SEC};
use crate::git::ObjectId;
use crate::git::large_file_pointers::{pointers, reach_all};
use crate::names::RepoAddress;
use crate::service::lfs::recipe_of;
use crate::storage::Key;

/// Repositories or objects that are listed at once.
const PAGE_ROWS: u32 = 500;
/// Chunks that are looked at in one transaction.
const PAGE_CHUNKS: u32 = 4096;
/// How often the server collects by itself.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long after its start it begins.
const FIRST: Duration = Duration::from_secs(600);
/// The fact that says that somebody takes care of backups.
const WITHOUT_BACKUP: &str = "collects_without_backup";
const LAST_BACKUP: &str = "last_backup_at_us";

/// How to collect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collect {
    /// Nothing is removed and no first mark is set, only told.
    pub is_dry_run: bool,
    /// Collect although there is no backup, now and from now on.
    pub without_backup: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Collected {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Commits that were read for pointers.
    pub read_commits: u64,
    /// Large files that repositories do not have any more: `OWNER/NAME: OID`, with sizes in bytes.
    pub removed: Vec<RemovedFile>,
    /// Large files that no repository has any more.
    pub removed_objects: u64,
    /// Chunks that nothing needs any more, with what they take.
    pub removed_chunks: u64,
    /// In bytes.
    pub removed_chunk_bytes: u64,
    /// Chunk packs that wait for removal from now on.
    pub condemned_packs: u64,
    /// Chunk packs that were removed from the store.
    pub removed_packs: u64,
    /// In bytes.
    pub removed_pack_bytes: u64,
    /// Large files that the next mark may remove.
    pub first_marked_files: u64,
    /// Chunks that the next mark may remove.
    pub first_marked_chunks: u64,
}

/// A large file that a repository does not have any more.
#[derive(Clone, Debug, Serialize)]
pub struct RemovedFile {
    /// The repository.
    pub repository: String,
    /// Its name.
    pub oid: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

impl Keeping {
    /// Collects by itself until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = EVERY;
            tokio::select! {
                () = shutdown.cancelled() => return,
                done = self.collect(Collect::default()) => match done {
                    Ok(done) if done.removed.is_empty() && done.removed_packs == 0 => {}
                    Ok(done) => tracing::info!(
                        files = done.removed.len(), chunks = done.removed_chunks, packs = done.removed_packs,
                        bytes = done.removed_pack_bytes, "Collected large files that nothing needs"
                    ),
                    Err(error @ KeepingError::NoBackup) => tracing::info!(%error, "Nothing is collected"),
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "Nothing can be collected now"),
                }
            }
        }
    }

    /// Collects once.
    ///
    /// # Errors
    /// [`KeepingError`]; what was removed until then was needed by nothing.
    pub async fn collect(&self, how: Collect) -> Result<Collected, KeepingError> {
        let inner = &self.inner;
        self.check_may_collect(how).await?;
        let started_us = inner.db.now_us();
        let lfs = &inner.config.lfs;
        let grace_us = i64::from(lfs.unreferenced_grace_days) * 86_400 * US_PER_SEC;
        let held_us = started_us.saturating_sub(grace_us);
        let ripe_us = started_us.saturating_sub(i64::from(lfs.second_mark_after_secs) * US_PER_SEC);
        let mut done = Collected {
            dry_run: how.is_dry_run,
            ..Collected::default()
        };

        let mut after: Option<RepoAddress> = None;
        loop {
            let rows = inner.repos.list(None, after.as_ref(), PAGE_ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.address.clone());
            for row in rows {
                done.read_commits += self.mark(&row, held_us).await?;
            }
        }
        let unlinked = inner.db.unlink(ripe_us, held_us, how.is_dry_run).await?;
        for (repo, oid, size_bytes) in unlinked.links {
            let row = inner.db.repo_by_id(repo).await?;
            done.removed.push(RemovedFile {
                repository: row.map_or_else(|| repo.to_string(), |row| row.address.to_string()),
                oid: Oid::from_sha256(oid).to_string(),
                size_bytes,
            });
        }
        done.removed_objects = unlinked.objects;
        done.first_marked_files = unlinked.first_marks;
        self.collect_chunks(how, ripe_us, &mut done).await?;
        self.collect_packs(how, ripe_us, &mut done).await?;
        Ok(done)
    }

    async fn check_may_collect(&self, how: Collect) -> Result<(), KeepingError> {
        let (db, store) = (&self.inner.db, &self.inner.store);
        match store.identity().await? {
            Some(found) if found == db.instance_id() => {}
            Some(found) => {
                return Err(KeepingError::ForeignStore {
                    found,
                    expected: db.instance_id().to_owned(),
                });
            }
            None => return Err(KeepingError::UnclaimedStore),
        }
        if db.pack_page(0, 1).await?.is_empty() && db.dead_packs(i64::MAX).await?.is_empty() {
            let mut has_packs = false;
            store.list(|_| has_packs = true).await?;
            if has_packs {
                return Err(KeepingError::EmptyDatabase);
            }
        }
        if how.is_dry_run {
            return Ok(());
        }
        if how.without_backup {
            return Ok(db.set_fact(WITHOUT_BACKUP, "yes".into()).await?);
        }
        if db.fact(WITHOUT_BACKUP).await?.is_none() && db.fact(LAST_BACKUP).await?.is_none() {
            return Err(KeepingError::NoBackup);
        }
        Ok(())
    }

    /// Reads what is new in a repository, or all of it if a ref does not reach any more what it did. Tells how many
    /// commits.
    async fn mark(&self, row: &RepoRow, since_us: i64) -> Result<u64, KeepingError> {
        let db = &self.inner.db;
        let id = |bytes: &[u8]| ObjectId::try_from(bytes).ok();
        let mut extra: Vec<ObjectId> = Vec::new();
        let moved = db.moved_old_ids(row.id, since_us).await?;
        extra.extend(moved.iter().filter_map(|moved| id(moved.old.as_bytes())));
        extra.extend(
            db.open_new_ids(row.id)
                .await?
                .iter()
                .filter_map(|new| id(new.as_bytes())),
        );
        let before = db.marked_tips(row.id).await?;
        let before: Vec<ObjectId> = before.iter().filter_map(|tip| id(tip)).collect();
        let read = self.inner.repos.with_snapshot(row, move |snapshot| {
            let mut tips = snapshot.all_tips();
            tips.extend(extra.into_iter().filter(|id| snapshot.objects.contains(id)));
            tips.sort_unstable();
            tips.dedup();
            let sentence = |error: crate::git::walk::WalkError| error.to_string();
            let is_all = before.is_empty() || !reach_all(snapshot, &tips, &before, &mut || Ok(())).map_err(sentence)?;
            let read_before: &[ObjectId] = if is_all { &[] } else { &before };
            let mut oids: HashSet<Hash> = HashSet::new();
            let commits = pointers(snapshot, &tips, read_before, &mut || Ok(()), &mut |oid, _| {
                oids.insert(*oid.as_bytes());
            })
            .map_err(sentence)?;
            Ok((is_all, tips, oids, commits))
        });
        let (is_all, tips, oids, commits) = match read.await {
            Ok(read) => read,
            // A repository that was deleted meanwhile needs nothing.
            Err(_) if db.repo_by_id(row.id).await?.is_none() => return Ok(0),
            Err(error) => return Err(KeepingError::Mark(Box::new(error))),
        };
        let tips = tips.iter().map(|tip| tip.as_bytes().to_vec()).collect();
        db.mark(row.id, is_all, tips, oids.into_iter().collect()).await?;
        Ok(commits as u64)
    }

    async fn collect_chunks(&self, how: Collect, ripe_us: i64, done: &mut Collected) -> Result<(), KeepingError> {
        let inner = &self.inner;
        // The first 8 bytes of a name: two that share them keep each other, and that is all.
        let mut needed: HashSet<[u8; 8]> = HashSet::new();
        let first = |chunk: &Hash| chunk.first_chunk::<8>().copied().unwrap_or_default();
        let mut after = None;
        loop {
            let page = inner.db.object_page(after.as_ref(), PAGE_ROWS).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (oid, row) in &page {
                let recipe = recipe_of(&inner.store, Oid::from_sha256(*oid), row).await?;
                needed.extend(recipe.chunks.iter().map(|(chunk, _)| first(chunk.as_bytes())));
            }
        }
        let mut after = None;
        loop {
            let page = inner.db.chunk_page(after.as_ref(), PAGE_CHUNKS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.chunk);
            let (mut keep, mut note, mut remove, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
            for chunk in page {
                match (needed.contains(&first(&chunk.chunk)), chunk.unneeded_since_us) {
                    (true, Some(_)) => keep.push(chunk.chunk),
                    (true, None) => {}
                    (false, Some(since_us)) if since_us <= ripe_us => {
                        bytes += chunk.stored_bytes;
                        remove.push(chunk.chunk);
                    }
                    (false, Some(_)) => {}
                    (false, None) if chunk.stored_at_us <= ripe_us => note.push(chunk.chunk),
                    (false, None) => {}
                }
            }
            done.first_marked_chunks += note.len() as u64;
            done.removed_chunk_bytes += bytes;
            if how.is_dry_run {
                done.removed_chunks += remove.len() as u64;
            } else if !(keep.is_empty() && note.is_empty() && remove.is_empty()) {
                done.removed_chunks += inner.db.settle_chunks(keep, note, remove, ripe_us).await?;
            }
        }
    }

    async fn collect_packs(&self, how: Collect, ripe_us: i64, done: &mut Collected) -> Result<(), KeepingError> {
        let inner = &self.inner;
        let mut old = Vec::new();
        let list = inner.store.list(|object| {
            if object.written_at_us <= ripe_us {
                old.push((object.key.as_str().to_owned(), object.bytes));
            }
        });
        list.await?;
        let mut strays = Vec::new();
        for (key, bytes) in old {
            if !inner.db.is_known_pack(&key).await? {
                strays.push((key, bytes));
            }
        }
        let dead = inner.db.dead_packs(ripe_us).await?;
        done.condemned_packs = inner.db.condemn_packs(strays, how.is_dry_run).await?;
        for (key, bytes) in dead {
            done.removed_packs += 1;
            done.removed_pack_bytes += bytes;
            if !how.is_dry_run {
                inner.store.remove(&Key::from_stored(key.clone())).await?;
                inner.db.pack_is_gone(key).await?;
            }
        }
        Ok(())
    }
}
