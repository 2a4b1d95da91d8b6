//! Answers that were made already: lists of refs, decided packs, and packs that several clients ask for.
//!
//! Every key begins with the number of a snapshot, and whatever changes refs, objects or
//! configuration makes a new snapshot: what is remembered of an old one cannot be found any more and
//! goes as others come. All callers who may read a repository see the same of it, so the caller is no
//! part of the key.
//!
//! Requests that are the same and come at the same time are decided once; the others wait for it. From
//! the second time on such a pack is written to a file that has no name any more (so nothing stays
//! behind whatever happens) and is sent from there, already while it grows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bstr::BString;
use moka::sync::Cache;

use super::Protocol;
use crate::git::emit::{EmitError, PackStats};
use crate::git::plan::{Decided, PackPlan, PackRequest, plan};
use crate::git::snapshot::Snapshot;
use crate::git::walk::WalkError;
use crate::git::work::{Stopped, Tick};

/// Answers that nobody asks for any more are dropped after this time.
const IDLE: Duration = Duration::from_secs(120);
/// A list of refs shorter than this is as quickly made as found, in bytes.
const LEAST_LISTING_BYTES: usize = 4 << 10;
/// Prefixes of a list of refs up to which it is remembered.
const MAX_PREFIXES: usize = 64;
/// Wants and haves of a request up to which it is remembered.
const MAX_REQUEST_IDS: usize = 1 << 16;
/// Packs up to this length are remembered in memory, in bytes.
const MAX_PACK_IN_MEMORY_BYTES: usize = 128 << 10;
/// Packs up to this many objects are remembered in memory, if they are short.
const MAX_OBJECTS_IN_MEMORY: u32 = 1024;
/// Packs of fewer objects are not worth a file.
const LEAST_SPOOLED_OBJECTS: u32 = 64;
/// What is read of a file at once, in bytes.
const READ_BYTES: usize = 256 << 10;
/// Who waits for another request looks this often whether its own client is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Files of packs in the making at once.
const MAX_SPOOLS_GROWING: u32 = 2;

/// How much is remembered, and where.
#[derive(Clone, Debug)]
pub struct AnswerLimits {
    /// Memory for lists of refs, and the same again for decided packs, in bytes.
    pub memory_bytes: u64,
    /// Disk space for packs, in bytes; 0 keeps none.
    pub disk_bytes: u64,
    /// Where these files are.
    pub folder: PathBuf,
}

/// What was answered, of all repositories of a server.
pub struct Answers {
    listings: Cache<ListingKey, Arc<Listing>>,
    packs: Cache<PackKey, Arc<Remembered>>,
    deciding: Mutex<HashMap<PackKey, Arc<Deciding>>>,
    disk: Arc<Disk>,
}

/// Which list of refs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::git) struct ListingKey {
    /// See [`Snapshot::number`].
    pub snapshot: u64,
    pub what: ListingKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::git) enum ListingKind {
    /// The answer to `GET info/refs`.
    Advertisement(Protocol),
    /// The answer to `ls-refs`.
    LsRefs {
        prefixes: Vec<BString>,
        peel: bool,
        symrefs: bool,
        unborn: bool,
    },
}

/// A list of refs as it is sent.
pub(in crate::git) struct Listing {
    pub bytes: Vec<u8>,
    /// Refs in it.
    pub refs: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PackKey {
    snapshot: u64,
    request: Arc<PackRequest>,
}

/// A decided pack.
pub(in crate::git) struct Remembered {
    decided: Arc<Decided>,
    uses: AtomicU32,
    /// The pack itself, if it is short.
    short: OnceLock<(Vec<u8>, PackStats)>,
    spool: Mutex<Option<Arc<Spool>>>,
}

impl Answers {
    /// Nothing is remembered yet.
    pub fn new(limits: &AnswerLimits) -> Arc<Self> {
        let listing_weight = |key: &ListingKey, listing: &Arc<Listing>| {
            let prefixes = match &key.what {
                ListingKind::LsRefs { prefixes, .. } => prefixes.iter().map(|prefix| prefix.len() + 32).sum(),
                ListingKind::Advertisement(_) => 0,
            };
            clamp(listing.bytes.len() + prefixes + 256)
        };
        let pack_weight = |key: &PackKey, remembered: &Arc<Remembered>| {
            let ids = key.request.wants.len() + key.request.haves.len() + key.request.parentless.len();
            let may_be_short = remembered.decided.object_count() <= MAX_OBJECTS_IN_MEMORY;
            let short = if may_be_short { MAX_PACK_IN_MEMORY_BYTES } else { 0 };
            clamp(remembered.decided.memory_bytes() + ids * 40 + short + 512)
        };
        Arc::new(Self {
            listings: Cache::builder()
                .max_capacity(limits.memory_bytes)
                .weigher(listing_weight)
                .time_to_idle(IDLE)
                .build(),
            packs: Cache::builder()
                .max_capacity(limits.memory_bytes)
                .weigher(pack_weight)
                .time_to_idle(IDLE)
                .build(),
            deciding: Mutex::default(),
            disk: Arc::new(Disk {
                folder: limits.folder.clone(),
                max_bytes: limits.disk_bytes,
                used_bytes: AtomicU64::new(0),
                growing: AtomicU32::new(0),
            }),
        })
    }

    /// The list of refs, made by `make` (which tells how many refs are in it) unless it is remembered.
    pub(in crate::git) fn listing(
        &self,
        key: ListingKey,
        make: impl FnOnce(&mut Vec<u8>) -> io::Result<u64>,
    ) -> io::Result<Arc<Listing>> {
        if let Some(known) = self.listings.get(&key) {
            return Ok(known);
        }
        let mut bytes = Vec::new();
        let refs = make(&mut bytes)?;
        bytes.shrink_to_fit();
        let listing = Arc::new(Listing { bytes, refs });
        let is_short = matches!(&key.what, ListingKind::LsRefs { prefixes, .. } if prefixes.len() > MAX_PREFIXES)
            || listing.bytes.len() < LEAST_LISTING_BYTES;
        if !is_short {
            self.listings.insert(key, listing.clone());
        }
        Ok(listing)
    }

    /// Decides a pack, unless that was done or is being done for another request.
    pub(in crate::git) fn decide(
        &self,
        snapshot: &Snapshot,
        request: &PackRequest,
        tick: Tick<'_>,
    ) -> Result<Arc<Remembered>, WalkError> {
        if request.wants.len() + request.haves.len() > MAX_REQUEST_IDS {
            let decided = plan(snapshot, request, tick)?.into_decided();
            return Ok(Arc::new(Remembered::new(decided)));
        }
        let key = PackKey {
            snapshot: snapshot.number(),
            request: Arc::new(request.clone()),
        };
        loop {
            if let Some(known) = self.packs.get(&key) {
                known.uses.fetch_add(1, Ordering::Relaxed);
                return Ok(known);
            }
            let (deciding, is_mine) = match lock(&self.deciding).entry(key.clone()) {
                Entry::Occupied(other) => (other.get().clone(), false),
                Entry::Vacant(place) => (place.insert(Arc::default()).clone(), true),
            };
            if is_mine {
                // However this ends, those who wait learn of it.
                let turn = DecidingTurn {
                    answers: self,
                    key: &key,
                    deciding: &deciding,
                };
                let decided = plan(snapshot, request, tick)?.into_decided();
                let remembered = Arc::new(Remembered::new(decided));
                self.packs.insert(key.clone(), remembered.clone());
                turn.end(Some(remembered.clone()));
                return Ok(remembered);
            }
            if let Some(remembered) = deciding.wait(tick)? {
                remembered.uses.fetch_add(1, Ordering::Relaxed);
                return Ok(remembered);
            }
            // The other one failed or was given up: it is our turn, or that of somebody who waits too.
        }
    }

    /// Writes a decided pack.
    pub(in crate::git) fn write(
        &self,
        snapshot: &Snapshot,
        remembered: &Remembered,
        out: &mut dyn Write,
        tick: Tick<'_>,
    ) -> Result<PackStats, EmitError> {
        if let Some((pack, stats)) = remembered.short.get() {
            out.write_all(pack).map_err(Stopped::Output)?;
            return Ok(*stats);
        }
        let plan = PackPlan::of_decided(snapshot, remembered.decided.clone());
        let is_repeated = remembered.uses.load(Ordering::Relaxed) > 1;
        let is_worth_it = remembered.decided.object_count() >= LEAST_SPOOLED_OBJECTS && !plan.is_file();
        if !is_repeated || !is_worth_it {
            let mut copy = Copying {
                out,
                copy: (remembered.decided.object_count() <= MAX_OBJECTS_IN_MEMORY).then(Vec::new),
            };
            let stats = plan.write_to(&mut copy, tick)?;
            if let Some(copy) = copy.copy.filter(|copy| !copy.is_empty()) {
                // If another request was quicker its copy is the same.
                let _ = remembered.short.set((copy, stats));
            }
            return Ok(stats);
        }
        let (spool, is_mine) = {
            let mut place = lock(&remembered.spool);
            match &*place {
                Some(spool) => (Some(spool.clone()), false),
                None => {
                    *place = self.disk.spool().map(Arc::new);
                    (place.clone(), true)
                }
            }
        };
        let Some(spool) = spool else {
            return plan.write_to(out, tick);
        };
        if is_mine {
            let growing = Growing(&spool);
            let mut writer = SpoolWriter::new(&spool);
            let filled = plan.clone().write_to(&mut writer, tick).and_then(|stats| {
                writer.flush().map_err(Stopped::Output)?;
                Ok(stats)
            });
            growing.end(filled.as_ref().ok());
            match filled {
                // The disk is full, or the pack too long for it.
                Ok(_) | Err(EmitError::Stopped(Stopped::Output(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let mut sent = 0;
        if let Some(stats) = spool.send(&mut sent, out, tick)? {
            return Ok(stats);
        }
        // The same bytes again, without those that were sent.
        plan.write_to(&mut Skipping { out, left: sent }, tick)
    }
}

fn clamp(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remembered {
    fn new(decided: Arc<Decided>) -> Self {
        Self {
            decided,
            uses: AtomicU32::new(1),
            short: OnceLock::new(),
            spool: Mutex::default(),
        }
    }

    /// How many objects will be sent.
    pub fn object_count(&self) -> u32 {
        self.decided.object_count()
    }
}

/// A pack that one request decides while others wait.
#[derive(Default)]
struct Deciding {
    /// `None` inside: it was given up.
    outcome: Mutex<Option<Option<Arc<Remembered>>>>,
    changed: Condvar,
}

impl Deciding {
    fn wait(&self, tick: Tick<'_>) -> Result<Option<Arc<Remembered>>, Stopped> {
        loop {
            {
                let outcome = lock(&self.outcome);
                let waited = self
                    .changed
                    .wait_timeout_while(outcome, LOOK_INTERVAL, |outcome| outcome.is_none());
                let (outcome, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if let Some(outcome) = &*outcome {
                    return Ok(outcome.clone());
                }
            }
            tick()?;
        }
    }
}

/// Ends a [`Deciding`] whatever happens.
struct DecidingTurn<'a> {
    answers: &'a Answers,
    key: &'a PackKey,
    deciding: &'a Deciding,
}

impl DecidingTurn<'_> {
    fn end(self, outcome: Option<Arc<Remembered>>) {
        *lock(&self.deciding.outcome) = Some(outcome);
    }
}

impl Drop for DecidingTurn<'_> {
    fn drop(&mut self) {
        lock(&self.deciding.outcome).get_or_insert(None);
        lock(&self.answers.deciding).remove(self.key);
        self.deciding.changed.notify_all();
    }
}

/// The disk space for packs.
struct Disk {
    folder: PathBuf,
    max_bytes: u64,
    used_bytes: AtomicU64,
    growing: AtomicU32,
}

impl Disk {
    /// A new file, if there is room and not too many grow already.
    fn spool(self: &Arc<Self>) -> Option<Spool> {
        if self.used_bytes.load(Ordering::Relaxed) >= self.max_bytes {
            return None;
        }
        let is_free = |growing| (growing < MAX_SPOOLS_GROWING).then_some(growing + 1);
        self.growing
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, is_free)
            .ok()?;
        let opened = nameless_file(&self.folder);
        if let Err(error) = &opened {
            tracing::warn!(folder = %self.folder.display(), %error, "A pack cannot be kept on disk");
            self.growing.fetch_sub(1, Ordering::AcqRel);
        }
        Some(Spool {
            file: opened.ok()?,
            disk: self.clone(),
            progress: Mutex::default(),
            changed: Condvar::new(),
        })
    }
}

/// A file that is gone when it is closed.
fn nameless_file(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("pack-{}", uuid::Uuid::now_v7().simple()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// A pack in a file, perhaps still growing.
struct Spool {
    file: File,
    disk: Arc<Disk>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    /// Bytes that are in the file.
    len: u64,
    /// Whether it is complete; `None` inside: it never will be.
    end: Option<Option<PackStats>>,
}

impl Spool {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let more = bytes.len() as u64;
        let used = self.disk.used_bytes.fetch_add(more, Ordering::AcqRel) + more;
        let at = lock(&self.progress).len;
        let written = if used > self.disk.max_bytes {
            Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "no more space is allowed for packs",
            ))
        } else {
            self.file.write_all_at(bytes, at)
        };
        if let Err(error) = written {
            self.disk.used_bytes.fetch_sub(more, Ordering::AcqRel);
            return Err(error);
        }
        lock(&self.progress).len += more;
        self.changed.notify_all();
        Ok(())
    }

    /// Sends the file while and after it grows; counts what was sent. `None` if it will never be complete.
    fn send(&self, sent: &mut u64, out: &mut dyn Write, tick: Tick<'_>) -> Result<Option<PackStats>, EmitError> {
        let mut buffer = Vec::new();
        loop {
            let progress = {
                let progress = lock(&self.progress);
                let waited = self.changed.wait_timeout_while(progress, LOOK_INTERVAL, |progress| {
                    progress.len == *sent && progress.end.is_none()
                });
                *waited.unwrap_or_else(PoisonError::into_inner).0
            };
            tick()?;
            let ready = progress.len - *sent;
            if ready == 0 {
                match progress.end {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            }
            buffer.resize(ready.min(READ_BYTES as u64) as usize, 0);
            if let Err(error) = self.file.read_exact_at(&mut buffer, *sent) {
                tracing::warn!(%error, "A pack that was kept on disk cannot be read back; it is made again");
                return Ok(None);
            }
            out.write_all(&buffer).map_err(Stopped::Output)?;
            *sent += buffer.len() as u64;
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let len = lock(&self.progress).len;
        self.disk.used_bytes.fetch_sub(len, Ordering::AcqRel);
    }
}

/// Ends the growth of a file whatever happens.
struct Growing<'a>(&'a Spool);

impl Growing<'_> {
    fn end(self, stats: Option<&PackStats>) {
        lock(&self.0.progress).end = Some(stats.copied());
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        lock(&self.0.progress).end.get_or_insert(None);
        self.0.disk.growing.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_all();
    }
}

/// Fills a file in large pieces.
struct SpoolWriter<'a> {
    spool: &'a Spool,
    pending: Vec<u8>,
}

impl<'a> SpoolWriter<'a> {
    fn new(spool: &'a Spool) -> Self {
        Self {
            spool,
            pending: Vec::with_capacity(READ_BYTES),
        }
    }
}

impl Write for SpoolWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() + bytes.len() > READ_BYTES {
            self.flush()?;
        }
        if bytes.len() >= READ_BYTES {
            self.spool.append(bytes)?;
        } else {
            self.pending.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.spool.append(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// Passes on, and keeps what is short.
struct Copying<'o> {
    out: &'o mut dyn Write,
    copy: Option<Vec<u8>>,
}

impl Write for Copying<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        if let Some(copy) = &mut self.copy {
            if copy.len() + written > MAX_PACK_IN_MEMORY_BYTES {
                self.copy = None;
            } else {
                copy.extend_from_slice(&bytes[..written]);
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Passes on all but the first bytes.
struct Skipping<'o> {
    out: &'o mut dyn Write,
    left: u64,
}

impl Write for Skipping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.left.min(bytes.len() as u64);
        self.left -= skipped;
        self.out.write_all(&bytes[skipped as usize..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
