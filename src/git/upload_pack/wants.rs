//! Which objects a client may have, and which of its commits it may be told that the server has.
//!
//! Everything that a visible ref or `HEAD` reaches may be fetched, and for a while what they
//! reached until lately, so that a force push between two requests breaks no clone. What only
//! hidden refs reach, or nothing at all, is answered exactly like what does not exist.
//!
//! The same holds for `have` lines: an id is acknowledged only if the client may know of it, or
//! else hidden commits could be found by guessing. Only commits that are in the store at all are
//! looked at further. Those that refs name directly cost one look-up, recent ones a short walk for
//! all of them together ([`nearby`]); for the others the snapshot computes once which commits its
//! refs reach, however many haves there are.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice, ByteVec};
use gix::ObjectId;

use super::history::{CommitNumber, History};
use super::nearby;
use super::request::FetchRequest;
use super::{UploadError, UploadOptions};
use crate::git::advertise::{allows_reachable_wants, visible_head};
use crate::git::negotiate::Have;
use crate::git::object_store::ObjectKind;
use crate::git::pkt_line::quotable;
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::walk::tree_entries;
use crate::git::work::Tick;

/// Memory for decoded delta bases while a named blob is looked for, in bytes.
const CACHE_BYTES: usize = 4 << 20;

/// A ref wanted by name, with the id it has now.
pub type WantedRef = (BString, ObjectId);

/// Decides for one request.
pub struct Access<'a> {
    /// The repository as this request sees it.
    pub snapshot: Arc<Snapshot>,
    options: &'a UploadOptions<'a>,
    grace: OnceCell<Vec<ObjectId>>,
}

impl<'a> Access<'a> {
    /// Looks at the repository as it is now.
    ///
    /// # Errors
    /// [`UploadError::Open`]
    pub fn new(repository: &Repository, options: &'a UploadOptions<'a>) -> Result<Self, UploadError> {
        Ok(Self {
            snapshot: options.snapshot(repository)?,
            options,
            grace: OnceCell::new(),
        })
    }

    /// Checks that every wanted object is here and may be had.
    ///
    /// # Errors
    /// [`UploadError::Refused`] with the words that clients match on, naming the first such id.
    pub fn check_wants(
        &mut self,
        repository: &Repository,
        wants: &[ObjectId],
        tick: Tick<'_>,
    ) -> Result<(), UploadError> {
        let is_reach_enough = allows_reachable_wants(&self.snapshot, self.options.limits);
        let unknown = self.unknown(repository, wants, is_reach_enough, tick)?;
        // The first of those asked for, so that the answer does not depend on hashing.
        match wants.iter().find(|id| unknown.contains(*id)) {
            None => Ok(()),
            Some(id) => Err(not_our_ref(id)),
        }
    }

    /// Which of these objects the client may not have: those that are not here, and those that no
    /// visible ref names, nor, if `is_reach_enough`, reaches.
    ///
    /// An object that is not here may have come by another way a moment ago, so the repository is
    /// looked at once more before it counts as unknown.
    ///
    /// # Errors
    /// [`UploadError`] if history cannot be walked.
    pub fn unknown(
        &mut self,
        repository: &Repository,
        ids: &[ObjectId],
        is_reach_enough: bool,
        tick: Tick<'_>,
    ) -> Result<HashSet<ObjectId>, UploadError> {
        if ids.iter().any(|id| !self.snapshot.objects.contains(id)) {
            self.snapshot = repository.reload()?;
        }
        let (mut open, absent): (HashSet<ObjectId>, HashSet<ObjectId>) =
            ids.iter().partition(|id| self.snapshot.objects.contains(id));
        self.remove_tips(&mut open);
        let ordered = |open: &HashSet<ObjectId>| -> Vec<ObjectId> {
            ids.iter().filter(|id| open.contains(*id)).copied().collect()
        };
        if !open.is_empty() && is_reach_enough {
            if !self.snapshot.knows_reachable_commits() {
                nearby::remove_recent_commits(&self.snapshot, &mut open, tick)?;
            }
            if !open.is_empty() && !self.snapshot.knows_reachable_objects() {
                nearby::remove_present_files(&self.snapshot, &mut open, tick)?;
            }
        }
        if !open.is_empty() && is_reach_enough {
            let asked = ordered(&open);
            let reached = self.snapshot.reachable(&asked, &[], tick)?;
            retain_unreached(&mut open, &asked, &reached);
        }
        if !open.is_empty() {
            for id in self.grace_tips() {
                open.remove(id);
            }
        }
        if !open.is_empty() && is_reach_enough && !self.grace_tips().is_empty() {
            let asked = ordered(&open);
            let reached = self.snapshot.reachable(&asked, self.grace_tips(), tick)?;
            retain_unreached(&mut open, &asked, &reached);
        }
        open.extend(absent);
        Ok(open)
    }

    /// The refs of `want-ref` lines.
    ///
    /// # Errors
    /// [`UploadError::Refused`] for a ref that is unknown, hidden, or named twice.
    pub fn wanted_refs(&self, request: &FetchRequest) -> Result<Vec<WantedRef>, UploadError> {
        let mut seen = HashSet::new();
        let mut wanted = Vec::with_capacity(request.want_refs.len());
        for name in &request.want_refs {
            let Some(id) = self.visible_ref(name.as_bstr()) else {
                return Err(UploadError::Refused(format!("unknown ref {}", quotable(name))));
            };
            if !seen.insert(name) {
                return Err(UploadError::Refused(format!("duplicate want-ref {}", quotable(name))));
            }
            wanted.push((name.clone(), id));
        }
        Ok(wanted)
    }

    /// What the refs of `deepen-not` lines name. A name may be short, as in `git rev-parse`.
    ///
    /// # Errors
    /// [`UploadError::Refused`] for a name that fits no visible ref, or several.
    pub fn deepen_not(&self, request: &FetchRequest) -> Result<Vec<ObjectId>, UploadError> {
        let mut excluded = Vec::with_capacity(request.deepen.not_refs.len());
        for name in &request.deepen.not_refs {
            let mut found = self.named(name.as_bstr());
            let line = || quotable(name);
            match (found.next(), found.next()) {
                (Some(id), None) => excluded.push(id),
                (Some(_), Some(_)) => {
                    return Err(UploadError::Refused(format!("ambiguous deepen-not: {}", line())));
                }
                (None, _) => {
                    return Err(UploadError::Refused(format!("deepen-not is not a ref: {}", line())));
                }
            }
        }
        Ok(excluded)
    }

    /// What visible refs of this name name; it may be short, as in `git rev-parse`.
    fn named<'n>(&'n self, name: &'n BStr) -> impl Iterator<Item = ObjectId> + 'n {
        let rules = [
            ("", ""),
            ("refs/", ""),
            ("refs/tags/", ""),
            ("refs/heads/", ""),
            ("refs/remotes/", ""),
            ("refs/remotes/", "/HEAD"),
        ];
        rules.into_iter().filter_map(move |(before, after)| {
            let mut full = BString::from(before);
            full.push_str(name);
            full.push_str(after);
            self.visible_ref(full.as_bstr())
        })
    }

    /// The object that a sparse filter names as `REF`, `REF:PATH` or `ID:PATH`. Whether the client may
    /// have it is left to [`Access::check_wants`].
    ///
    /// # Errors
    /// [`UploadError::Refused`] if there is none, or it is in something the client may not have.
    pub fn named_blob(&mut self, repository: &Repository, name: &str, tick: Tick<'_>) -> Result<ObjectId, UploadError> {
        let unknown = || {
            UploadError::Refused(format!(
                "unable to access sparse blob in '{}'",
                quotable(name.as_bytes())
            ))
        };
        let (revision, path) = match name.split_once(':') {
            Some((revision, path)) => (revision, Some(path)),
            None => (name, None),
        };
        let start = match ObjectId::from_hex(revision.as_bytes()) {
            Ok(id) => {
                self.check_wants(repository, &[id], tick).map_err(|error| match error {
                    UploadError::Refused(_) => unknown(),
                    other => other,
                })?;
                id
            }
            Err(_) => self.named(revision.into()).next().ok_or_else(unknown)?,
        };
        let Some(path) = path else { return Ok(start) };
        let objects = &self.snapshot.objects;
        let mut reader = objects.reader(CACHE_BYTES);
        let mut id = match reader.peel(&start)? {
            Some((id, ObjectKind::Commit)) => reader.commit(&id)?.ok_or_else(unknown)?.tree,
            Some((id, ObjectKind::Tree)) => id,
            _ => return Err(unknown()),
        };
        let mut buffer = Vec::new();
        for part in path.split('/') {
            let tree = match reader.read(&id, &mut buffer)? {
                Some(object) if object.kind == ObjectKind::Tree => object,
                _ => return Err(unknown()),
            };
            let mut entries = tree_entries(tree.data, objects.hash().len_in_bytes());
            let entry = entries.find_map(|entry| entry.ok().filter(|entry| entry.name == part.as_bytes()));
            id = entry.ok_or_else(unknown)?.id.to_owned();
        }
        Ok(id)
    }

    /// Tells of each have whether it may be acknowledged.
    ///
    /// # Errors
    /// [`UploadError`] if history cannot be walked.
    pub fn check_haves(&self, haves: &[ObjectId], tick: Tick<'_>) -> Result<Vec<Have>, UploadError> {
        let mut open: HashSet<ObjectId> = haves
            .iter()
            .filter(|id| self.snapshot.objects.contains(id))
            .copied()
            .collect();
        let mut common = open.clone();
        self.remove_tips(&mut open);
        if !open.is_empty() && !self.snapshot.knows_reachable_commits() {
            nearby::remove_recent_commits(&self.snapshot, &mut open, tick)?;
        }
        if !open.is_empty() {
            let asked: Vec<ObjectId> = open.iter().copied().collect();
            let reached = self.snapshot.reachable_commits(&asked, &[], tick)?;
            retain_unreached(&mut open, &asked, &reached);
        }
        if !open.is_empty() && !self.grace_tips().is_empty() {
            let asked: Vec<ObjectId> = open.iter().copied().collect();
            let reached = self.snapshot.reachable_commits(&asked, self.grace_tips(), tick)?;
            retain_unreached(&mut open, &asked, &reached);
        }
        for id in &open {
            common.remove(id);
        }
        Ok(haves
            .iter()
            .map(|id| Have {
                id: *id,
                is_common: common.contains(id),
            })
            .collect())
    }

    /// The commits of the client's `shallow` lines. What the server lacks is passed over, as in git.
    ///
    /// With `tells_all` the client will hear of each whether it is here, and get its parents; then
    /// what it may not know of is passed over too.
    ///
    /// # Errors
    /// [`UploadError::Refused`] for an object that is no commit, if the client may know of it.
    pub fn shallow_commits(
        &mut self,
        repository: &Repository,
        history: &mut History<'_>,
        claimed: &[ObjectId],
        tells_all: bool,
        tick: Tick<'_>,
    ) -> Result<Vec<CommitNumber>, UploadError> {
        let mut commits = Vec::new();
        let mut seen = HashSet::new();
        for id in self.check_shallows(claimed, tells_all, tick)? {
            match history.look_up(&id)? {
                None => {}
                Some((_, Some(commit))) => commits.extend(seen.insert(commit).then_some(commit)),
                Some((_, None)) => match self.check_wants(repository, &[id], tick) {
                    Ok(()) => return Err(UploadError::Refused(format!("invalid shallow object {id}"))),
                    Err(UploadError::Refused(_)) => {}
                    Err(other) => return Err(other),
                },
            }
        }
        Ok(commits)
    }

    fn check_shallows(
        &self,
        claimed: &[ObjectId],
        tells_all: bool,
        tick: Tick<'_>,
    ) -> Result<Vec<ObjectId>, UploadError> {
        if !tells_all {
            return Ok(claimed.to_vec());
        }
        let checked = self.check_haves(claimed, tick)?;
        Ok(checked
            .into_iter()
            .filter(|have| have.is_common)
            .map(|have| have.id)
            .collect())
    }

    fn visible_ref(&self, name: &BStr) -> Option<ObjectId> {
        if name == "HEAD" {
            return visible_head(&self.snapshot)?.target;
        }
        self.snapshot
            .refs
            .find(name)
            .filter(|known| self.snapshot.is_visible(&known.name))
            .map(|known| known.target)
    }

    /// Takes out the ids that visible refs name, in one pass over the refs.
    fn remove_tips(&self, open: &mut HashSet<ObjectId>) {
        if let Some(target) = visible_head(&self.snapshot).and_then(|head| head.target) {
            open.remove(&target);
        }
        for known in self.snapshot.refs.all() {
            if open.is_empty() {
                return;
            }
            if open.contains(&known.target) && self.snapshot.is_visible(&known.name) {
                open.remove(&known.target);
            }
        }
    }

    fn grace_tips(&self) -> &[ObjectId] {
        self.grace.get_or_init(|| (self.options.grace_tips)())
    }
}

fn retain_unreached(open: &mut HashSet<ObjectId>, asked: &[ObjectId], reached: &[bool]) {
    for (id, is_reached) in asked.iter().zip(reached) {
        if *is_reached {
            open.remove(id);
        }
    }
}

/// The words that clients match on.
fn not_our_ref(id: &ObjectId) -> UploadError {
    UploadError::Refused(format!("upload-pack: not our ref {id}"))
}
