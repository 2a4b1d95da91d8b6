//! The objects of a push: into quarantine, checked, and found connected.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use gix::ObjectId;

use super::advertise::alternate_tips;
use super::bases::Bases;
use super::serve::{Command, Session};
use crate::git::connectivity::{Connectivity, ConnectivityError, Ground};
use crate::git::fault;
use crate::git::fsck::{Checker, FoundBlob, Rules};
use crate::git::index_pack::{IndexError, IndexLimits, IndexedPack, Visitor, disk_hint, index_pack};
use crate::git::lfs_pointers::Pointers;
use crate::git::links::Links;
use crate::git::maintenance::{GuardError, PushGuard};
use crate::git::object_store::{ObjectKind, ObjectStore, StoreError};
use crate::git::quarantine::Quarantine;
use crate::git::refs::Head;
use crate::git::snapshot::OpenError;
use crate::git::work::Stopped;

/// Memory for delta bases while thin packs are completed, in bytes.
const BASE_CACHE_BYTES: usize = 16 << 20;

/// Largest `.gitmodules` that is read, in bytes; the largest object held in memory may be smaller.
const GITMODULES_MAX_BYTES: u64 = 100 << 20;

/// Largest list of objects to pass over, in bytes.
const SKIP_LIST_MAX_BYTES: u64 = 64 << 20;

/// Bytes read away at once.
const DRAIN_BUFFER_BYTES: usize = 64 << 10;

/// Objects of a push that wait to be accepted.
pub(super) struct Pushed {
    /// Where they wait.
    pub quarantine: Quarantine,
    /// Git LFS pointers in it.
    pub pointers: Pointers,
    /// The pack; `None` if it had no objects.
    pub pack: Option<IndexedPack>,
    /// The repository's objects and these.
    pub objects: Arc<ObjectStore>,
    /// What they may rely on stays where it is until refs have moved.
    pub guard: PushGuard,
    /// Whether what the pack's objects name is all in it.
    is_self_contained: bool,
}

/// Sees the objects of the pack while they are in memory.
struct Inspection {
    checker: Option<Checker>,
    links: Links,
    /// `None` if nobody asks.
    pointers: Option<Pointers>,
}

impl Visitor for Inspection {
    fn visit(&mut self, id: &ObjectId, kind: ObjectKind, data: &[u8]) {
        if let Some(checker) = &mut self.checker {
            checker.visit(id, kind, data);
        }
        self.links.visit(id, kind, data);
    }

    fn visit_small_blob(&mut self, id: &ObjectId, data: &[u8]) {
        if let Some(pointers) = &mut self.pointers {
            pointers.visit_small_blob(id, data);
        }
    }

    fn split(&self) -> Self {
        Self {
            checker: self.checker.as_ref().map(Visitor::split),
            links: self.links.split(),
            pointers: self.pointers.as_ref().map(Visitor::split),
        }
    }

    fn join(&mut self, other: Self) {
        if let (Some(checker), Some(other)) = (&mut self.checker, other.checker) {
            checker.join(other);
        }
        self.links.join(other.links);
        if let (Some(pointers), Some(other)) = (&mut self.pointers, other.pointers) {
            pointers.join(other);
        }
    }
}

/// Why the pack of a push was not taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// It is damaged, too large, or incomplete.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Objects in it are refused.
    #[error("{count} objects of this push are refused, among them {first}")]
    Refused {
        /// How many problems.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// The disk failed.
    #[error("the objects of this push could not be stored{}", disk_hint(.0))]
    Disk(#[source] io::Error),
    /// What was stored cannot be read.
    #[error("the objects of this push could not be read back")]
    Store(#[source] StoreError),
    /// What is here cannot be kept safe from pruning.
    #[error("the objects of this push could not be stored: {0}")]
    Guard(#[source] io::Error),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<GuardError> for UnpackError {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Io(error) => Self::Guard(error),
            GuardError::Stopped(stopped) => Self::Stopped(stopped),
        }
    }
}

/// Notes when the stream has come to its end: from then on the client listens.
struct Watched<'a> {
    inner: &'a mut dyn Read,
    is_at_end: &'a Cell<bool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.is_at_end.set(true);
        }
        Ok(read)
    }
}

impl Session<'_> {
    /// Takes the pack into quarantine and checks its objects.
    pub(super) fn unpack(&self, input: &mut dyn Read) -> Result<Pushed, UnpackError> {
        let objects_dir = self.repository.objects_dir();
        let quarantine = Quarantine::new(&objects_dir).map_err(UnpackError::Disk)?;
        let mut inspection = Inspection {
            checker: self.checker(),
            links: Links::new(self.snapshot.hash(), self.options.limits.delta_cache_bytes / 2),
            pointers: self.options.gathers_pointers.then(Pointers::default),
        };
        let pack = self.take_in(input, &quarantine, &mut inspection)?;
        // Before a look at what is here; until then the push relies on nothing.
        let guard = PushGuard::take(self.repository.path(), &mut || self.tick())?;
        let objects = match &pack {
            None => self.reload()?,
            Some(_) => self.open_with(&quarantine).map_err(UnpackError::Store)?,
        };
        if let Some(checker) = &mut inspection.checker {
            self.finish_checks(checker, &objects)?;
        }
        let is_self_contained = match &pack {
            Some(pack) => inspection.links.stay_within(pack, &objects, &mut || self.tick())?,
            None => false,
        };
        Ok(Pushed {
            quarantine,
            pointers: inspection.pointers.unwrap_or_default(),
            pack,
            objects,
            guard,
            is_self_contained,
        })
    }

    /// The repository's objects as they are now.
    fn reload(&self) -> Result<Arc<ObjectStore>, UnpackError> {
        match self.repository.reload() {
            Ok(snapshot) => Ok(snapshot.objects.clone()),
            Err(OpenError::Store(error)) => Err(UnpackError::Store(error)),
            Err(error) => Err(UnpackError::Guard(io::Error::other(error))),
        }
    }

    fn take_in(
        &self,
        input: &mut dyn Read,
        quarantine: &Quarantine,
        inspection: &mut Inspection,
    ) -> Result<Option<IndexedPack>, UnpackError> {
        let is_at_end = Cell::new(false);
        let mut input = Watched {
            inner: input,
            is_at_end: &is_at_end,
        };
        let mut tick = || {
            // Most clients send all before they read a word.
            if is_at_end.get() {
                self.tick()
            } else {
                self.options.work.check()
            }
        };
        let mut limits = IndexLimits::of_push(self.options.limits);
        limits.other_threads = self.options.work.other_threads();
        if let Some(own @ 1..) = self.snapshot.config.max_input_bytes {
            let given = limits.max_pack_bytes;
            limits.max_pack_bytes = if given == 0 { own } else { own.min(given) };
        }
        let mut bases = Bases::new(
            self.repository,
            &self.snapshot,
            limits.max_delta_object_bytes,
            self.options.work,
        );
        let mut find_base = |id: &ObjectId| bases.find(id);
        let (folder, hash) = (quarantine.pack_folder(), self.snapshot.hash());
        let taken = index_pack(
            &mut input,
            &folder,
            hash,
            &limits,
            &mut find_base,
            inspection,
            &mut tick,
        );
        if taken.is_err() && !is_at_end.get() {
            drain(&mut input, self.options.limits.max_drain_bytes, &mut tick)?;
        }
        match taken {
            Err(error @ IndexError::Unresolved { .. }) => Err(bases.reason().unwrap_or(error).into()),
            taken => Ok(taken?),
        }
    }

    /// The rules objects are checked by; `None` if they are not checked.
    ///
    /// A repository's config may make the check stricter; looser only where it is trusted.
    fn checker(&self) -> Option<Checker> {
        let config = &self.snapshot.config;
        let is_trusted = self.options.trust_hooks;
        let mut rules = match config.fsck_objects {
            Some(true) => Rules::strict(),
            Some(false) if is_trusted => return None,
            _ if self.options.limits.fsck_objects => Rules::default(),
            _ => return None,
        };
        for (message, severity) in &config.fsck_severities {
            if message == "skiplist" {
                if is_trusted {
                    self.read_skip_list(&mut rules, severity);
                }
            } else if (is_trusted || severity.starts_with("error")) && !rules.set(message, severity) {
                tracing::warn!(%message, %severity, "an unknown receive.fsck setting is passed over");
            }
        }
        Some(Checker::new(Arc::new(rules)))
    }

    fn read_skip_list(&self, rules: &mut Rules, path: &str) {
        let path = self.repository.path().join(path);
        let mut list = Vec::new();
        let read = std::fs::File::open(&path).and_then(|file| file.take(SKIP_LIST_MAX_BYTES).read_to_end(&mut list));
        match read {
            Ok(_) => rules.skip(&list),
            Err(error) => tracing::warn!(path = %path.display(), %error, "receive.fsck.skipList cannot be read"),
        }
    }

    /// Reads what trees named, shows what was found, and decides.
    fn finish_checks(&self, checker: &mut Checker, objects: &ObjectStore) -> Result<(), UnpackError> {
        let mut reader = objects.reader(BASE_CACHE_BYTES);
        let mut buffer = Vec::new();
        let largest = GITMODULES_MAX_BYTES.min(self.options.limits.max_in_memory_bytes);
        checker.finish(&mut |id| match reader.header(id) {
            Ok(Some((ObjectKind::Blob, size))) if size > largest => FoundBlob::TooLarge,
            Ok(Some((ObjectKind::Blob, _))) => match reader.read(id, &mut buffer) {
                Ok(Some(blob)) => FoundBlob::Content(blob.data.to_vec()),
                _ => FoundBlob::Missing,
            },
            Ok(Some(_)) => FoundBlob::NotABlob,
            _ => FoundBlob::Missing,
        });
        for problem in checker.problems() {
            self.say(&problem.to_string());
        }
        match checker.problems().first() {
            Some(first) if first.is_error => Err(UnpackError::Refused {
                count: checker.error_count(),
                first: first.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The repository's objects and those in quarantine.
    fn open_with(&self, quarantine: &Quarantine) -> Result<Arc<ObjectStore>, StoreError> {
        if fault::is_on("no-quarantine") {
            return ObjectStore::open(
                &self.repository.objects_dir(),
                self.snapshot.hash(),
                &[],
                Some(&self.snapshot.objects),
                self.max_object_bytes(),
            )
            .map(Arc::new);
        }
        ObjectStore::open(
            &self.repository.objects_dir(),
            self.snapshot.hash(),
            &[quarantine.folder().to_owned()],
            Some(&self.snapshot.objects),
            self.max_object_bytes(),
        )
        .map(Arc::new)
    }

    fn max_object_bytes(&self) -> usize {
        usize::try_from(self.options.limits.max_in_memory_bytes).unwrap_or(usize::MAX)
    }

    /// Refuses the commands whose new values are not complete here. Returns what the repository's
    /// shallow boundary must take over for the others.
    pub(super) fn check_connectivity(
        &self,
        commands: &mut [Command],
        pushed: &Pushed,
    ) -> Result<Vec<ObjectId>, Stopped> {
        let snapshot = &self.snapshot;
        let is_open = |command: &Command| !command.is_refused() && !command.update.is_delete();
        let all: Vec<ObjectId> = commands
            .iter()
            .filter(|command| is_open(command))
            .map(|command| command.update.new)
            .collect();
        if let Some(pack) = pushed.pack.as_ref().filter(|_| pushed.is_self_contained)
            && all.iter().all(|tip| pushed.objects.is_in_pack_of(&pack.folder, tip))
        {
            return Ok(Vec::new());
        }
        let mut tips: HashSet<ObjectId> = alternate_tips(&snapshot.objects).into_iter().collect();
        for known in snapshot.refs.all() {
            tips.insert(known.target);
            tips.extend(known.peeled);
        }
        if let Head::Detached(id) = snapshot.refs.head() {
            tips.insert(*id);
        }
        let quarantine = pushed.pack.as_ref().map(|pack| (&*pack.folder, &*pack.kinds));
        let ground = Ground {
            objects: &pushed.objects,
            quarantine,
            tips,
            own_shallow: &snapshot.shallow,
            client_shallow: &self.commands.shallow,
        };
        let mut connectivity = Connectivity::new(&ground);
        let mut tick = || self.tick();
        match connectivity.check(&all, &mut tick) {
            Ok(boundary) if boundary.is_empty() => {
                if connectivity.lacks_empty_tree() {
                    self.add_empty_tree(commands, pushed);
                }
                return Ok(Vec::new());
            }
            Err(ConnectivityError::Stopped(stopped)) => return Err(stopped),
            _ => {}
        }
        // Something is missing, or only beyond a shallow boundary: one by one.
        let is_shallow_allowed = snapshot.config.shallow_update == Some(true);
        let mut connectivity = Connectivity::new(&ground);
        let mut taken_over = Vec::new();
        for command in commands.iter_mut().filter(|command| is_open(command)) {
            match connectivity.check(&[command.update.new], &mut tick) {
                Ok(boundary) if boundary.is_empty() => {}
                Ok(boundary) if is_shallow_allowed => taken_over.extend(boundary),
                Ok(_) => {
                    command.refuse("shallow update not allowed");
                    // What it proved stands on a boundary that is not taken over.
                    connectivity.forget_last();
                }
                Err(ConnectivityError::Stopped(stopped)) => return Err(stopped),
                Err(error) => {
                    self.say(&format!("error: {} cannot be updated: {error}", command.update.name));
                    command.refuse("missing necessary objects");
                }
            }
        }
        if connectivity.lacks_empty_tree() {
            self.add_empty_tree(commands, pushed);
        }
        Ok(taken_over)
    }

    fn add_empty_tree(&self, commands: &mut [Command], pushed: &Pushed) {
        if let Err(error) = pushed.quarantine.add_empty_tree(self.snapshot.hash()) {
            tracing::error!(repository = %self.repository.path().display(), %error, "the empty tree cannot be stored");
            commands
                .iter_mut()
                .for_each(|command| command.refuse("missing necessary objects"));
        }
    }
}

/// Reads an unwanted pack away, at most `max_bytes` of it, so that the client comes to read why it is unwanted.
pub(super) fn drain(
    input: &mut dyn Read,
    max_bytes: u64,
    tick: &mut dyn FnMut() -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut buffer = vec![0; DRAIN_BUFFER_BYTES];
    let mut left = max_bytes;
    while left > 0 {
        tick()?;
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match input.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(read) => left = left.saturating_sub(read as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody is there to be told.
            Err(_) => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_an_unwanted_pack_is_read_than_the_limit_says() {
        for (max_bytes, rest_bytes) in [
            (0, 1 << 20),
            (10, (1 << 20) - 10),
            (100_000, (1 << 20) - 100_000),
            (1 << 30, 0),
        ] {
            let mut input = &vec![0; 1 << 20][..];
            drain(&mut input, max_bytes, &mut || Ok(())).expect("nobody stops it");
            assert_eq!(input.len(), rest_bytes, "{max_bytes}");
        }
    }
}
