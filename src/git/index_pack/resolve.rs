//! Second pass: deltas are worked off, base by base, without recursion and in bounded memory.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use gix::ObjectId;
use gix::hash::Kind;
use gix::zlib::Decompress;

use super::make::{Want, content_id, index_error};
use super::{BadEntry, FindBase, IndexError, IndexLimits, Received, SEEN_BLOB_MAX_BYTES, Visitor};
use crate::git::object_store::ObjectKind;
use crate::git::spill::Content;
use crate::git::work::{Stopped, Tick};

/// Bases with deltas a thread takes at once.
const ROOTS_AT_ONCE: usize = 16;

/// Steps between two calls of the tick: one object, or one look for the next.
const STEPS_PER_TICK: u32 = 64;

/// Entries looked at between two calls of the tick while nothing is made.
const LOOKS_PER_TICK: usize = 1 << 15;

/// Temporary files that one thread keeps for what deltas build on, in bytes; more are made again.
const SPILLED_CACHE_BYTES: u64 = 1 << 30;

/// How often the calling thread ticks while it waits for the other.
const WAIT_FOR_THREADS: Duration = Duration::from_millis(50);

/// One delta that became an object.
struct Resolved {
    entry: u32,
    id: ObjectId,
    kind: ObjectKind,
}

/// Works off all deltas of `received` and fills in ids and kinds. Large objects lie in files in `folder`
/// meanwhile.
///
/// Returns the bases that are not in the pack and were found by `find_base`, in the order needed.
pub(super) fn resolve<V: Visitor>(
    received: &mut Received,
    folder: &Path,
    hash: Kind,
    limits: &IndexLimits,
    find_base: FindBase<'_>,
    visitor: &mut V,
    tick: Tick<'_>,
) -> Result<Vec<ObjectId>, IndexError> {
    let deltas = received.ofs_deltas.len() + received.ref_deltas.len();
    if deltas == 0 {
        return Ok(Vec::new());
    }
    received.ofs_deltas.sort_unstable();
    tick()?;
    received.ref_deltas.sort_unstable();
    tick()?;
    let ofs_starts = ofs_starts(received, tick)?;
    let shared = Shared {
        received,
        roots: roots(received, &ofs_starts, tick)?,
        ofs_starts,
        folder,
        hash,
        limits,
        claimed: received.ref_deltas.iter().map(|_| AtomicBool::new(false)).collect(),
        next_root: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        failure: Mutex::new(None),
        inflated_bytes: AtomicU64::new(received.inflated_bytes),
        cache_bytes: limits.delta_cache_bytes / 2 / limits.threads.max(1),
    };
    let threads = if deltas < limits.deltas_for_threads {
        1
    } else {
        limits.threads.max(1)
    };
    let mut resolved = in_pack(&shared, threads, visitor, tick)?;
    let external = outside_pack(&shared, find_base, visitor, tick, &mut resolved)?;
    if resolved.len() != deltas {
        return Err(unresolved(&shared, deltas - resolved.len()));
    }
    drop(shared);
    for Resolved { entry, id, kind } in resolved {
        let entry = &mut received.entries[entry as usize];
        entry.id = id;
        entry.kind = Some(kind);
    }
    Ok(external)
}

/// Whole objects that deltas build on, in the order of the pack.
fn roots(received: &Received, ofs_starts: &[u32], tick: Tick<'_>) -> Result<Vec<u32>, Stopped> {
    let mut roots = Vec::new();
    for (index, entry) in received.entries.iter().enumerate() {
        if index % LOOKS_PER_TICK == 0 {
            tick()?;
        }
        let has_children =
            || !ofs_children(ofs_starts, index as u32).is_empty() || !ref_children(received, &entry.id).is_empty();
        if !entry.is_delta && has_children() {
            roots.push(index as u32);
        }
    }
    Ok(roots)
}

/// Where the deltas on each entry begin in `ofs_deltas`, which are sorted; then where they end.
fn ofs_starts(received: &Received, tick: Tick<'_>) -> Result<Vec<u32>, Stopped> {
    let mut starts = vec![0; received.entries.len() + 1];
    for deltas in received.ofs_deltas.chunks(LOOKS_PER_TICK) {
        tick()?;
        for (base, _) in deltas {
            starts[*base as usize + 1] += 1;
        }
    }
    let mut before = 0;
    for starts in starts.chunks_mut(LOOKS_PER_TICK) {
        tick()?;
        for start in starts {
            before += *start;
            *start = before;
        }
    }
    Ok(starts)
}

/// Deltas on the entry `base`, as a range of `ofs_deltas`.
fn ofs_children(ofs_starts: &[u32], base: u32) -> Range<usize> {
    let base = base as usize;
    ofs_starts[base] as usize..ofs_starts[base + 1] as usize
}

/// Deltas on the object `base`, as a range of `ref_deltas`.
fn ref_children(received: &Received, base: &ObjectId) -> Range<usize> {
    let deltas = &received.ref_deltas;
    let start = deltas.partition_point(|(of, _)| of < base);
    start..start + deltas[start..].partition_point(|(of, _)| of == base)
}

/// What all threads see.
pub(super) struct Shared<'a> {
    pub(super) received: &'a Received,
    /// Where large objects lie meanwhile.
    pub(super) folder: &'a Path,
    pub(super) hash: Kind,
    pub(super) limits: &'a IndexLimits,
    /// For each of `ref_deltas` whether someone works on it.
    claimed: Vec<AtomicBool>,
    roots: Vec<u32>,
    /// See [`ofs_starts`].
    ofs_starts: Vec<u32>,
    next_root: AtomicUsize,
    stop: AtomicBool,
    /// What went wrong first.
    failure: Mutex<Option<IndexError>>,
    /// Size of all entries and of what deltas made so far, in bytes.
    inflated_bytes: AtomicU64,
    /// Memory for objects that deltas build on, per thread, in bytes.
    cache_bytes: usize,
}

impl Shared<'_> {
    /// Stops all threads. The first reason counts: the others only follow.
    fn fail(&self, error: IndexError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn check_stop(&self) -> Result<(), Stopped> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        Ok(())
    }

    /// Counts what a delta is about to make.
    pub(super) fn count_inflated(&self, size_bytes: u64) -> Result<(), IndexError> {
        let before = self.inflated_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        self.limits.check_inflated(before.saturating_add(size_bytes))
    }

    /// The deltas on the object `base`, once: however often a pack makes the same object, what builds
    /// on it is done a single time.
    fn claim(&self, base: &ObjectId) -> Range<usize> {
        let found = ref_children(self.received, base);
        match self.claimed[found.clone()].split_first() {
            Some((first, rest)) if !first.swap(true, Ordering::Relaxed) => {
                rest.iter().for_each(|claim| claim.store(true, Ordering::Relaxed));
                found
            }
            _ => 0..0,
        }
    }
}

/// Works off all deltas whose bases are in the pack.
fn in_pack<V: Visitor>(
    shared: &Shared<'_>,
    threads: usize,
    visitor: &mut V,
    tick: Tick<'_>,
) -> Result<Vec<Resolved>, IndexError> {
    let mut tick = || {
        tick()?;
        shared.check_stop()
    };
    let resolved = std::thread::scope(|scope| {
        let (done, finished) = mpsc::channel::<()>();
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let mut visitor = visitor.split();
                let done = done.clone();
                scope.spawn(move || {
                    let mut clock = shared.limits.other_threads.clock();
                    let mut worker = Worker::new(shared);
                    worker.take_roots(&mut visitor, &mut || {
                        clock.note();
                        shared.check_stop()
                    });
                    clock.note();
                    drop(done);
                    (worker.resolved, visitor)
                })
            })
            .collect();
        drop(done);
        let mut worker = Worker::new(shared);
        worker.take_roots(visitor, &mut tick);
        while let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(WAIT_FOR_THREADS) {
            if let Err(stopped) = tick() {
                shared.fail(stopped.into());
            }
        }
        let mut resolved = worker.resolved;
        for other in others {
            match other.join() {
                Ok((more, seen)) => {
                    resolved.extend(more);
                    visitor.join(seen);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        resolved
    });
    let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    failure.map_or(Ok(resolved), Err)
}

/// Works off what builds on objects outside the pack, in the order of the pack: an earlier base may
/// be all that later ones need. Returns the bases used.
fn outside_pack<V: Visitor>(
    shared: &Shared<'_>,
    find_base: FindBase<'_>,
    visitor: &mut V,
    tick: Tick<'_>,
    resolved: &mut Vec<Resolved>,
) -> Result<Vec<ObjectId>, IndexError> {
    let received = shared.received;
    let mut open: Vec<usize> = (0..received.ref_deltas.len())
        .filter(|&n| !shared.claimed[n].load(Ordering::Relaxed))
        .collect();
    open.sort_unstable_by_key(|&n| received.ref_deltas[n].1);
    let mut external = Vec::new();
    let mut missing = HashSet::new();
    let mut worker = Worker::new(shared);
    for (looked_at, n) in open.into_iter().enumerate() {
        if looked_at % LOOKS_PER_TICK == 0 {
            tick()?;
        }
        let base = received.ref_deltas[n].0;
        if shared.claimed[n].load(Ordering::Relaxed) || missing.contains(&base) {
            continue;
        }
        tick()?;
        let Some((kind, content)) = find_base(&base) else {
            missing.insert(base);
            continue;
        };
        let id = content_id(shared.hash, kind, &content, tick);
        let offset = received.entries[received.ref_deltas[n].1 as usize].offset;
        if id.map_err(|error| index_error(offset, error))? != Some(base) {
            return Err(IndexError::OwnObject(base));
        }
        external.push(base);
        worker.family(Root::External(base), kind, content, visitor, tick)?;
    }
    resolved.append(&mut worker.resolved);
    Ok(external)
}

/// The error for deltas that stay without a base.
fn unresolved(shared: &Shared<'_>, count: usize) -> IndexError {
    let open = shared.received.ref_deltas.iter().zip(&shared.claimed);
    let base = open
        .filter(|(_, claimed)| !claimed.load(Ordering::Relaxed))
        .min_by_key(|((_, entry), _)| *entry)
        .map_or(ObjectId::null(shared.hash), |((base, _), _)| *base);
    IndexError::Unresolved {
        count: count as u32,
        base,
    }
}

/// Where a family of deltas begins.
#[derive(Clone, Copy)]
enum Root {
    /// At an entry of the pack; its data can be read again.
    Entry(u32),
    /// At an object outside the pack; its data stays as long as the family needs it.
    External(ObjectId),
}

/// One object on the way down a family: its data may be dropped and made again.
struct Frame {
    /// The delta that makes the object; of the root nothing.
    entry: Option<u32>,
    data: Option<Content>,
    ofs: Range<usize>,
    refs: Range<usize>,
}

/// What the frames hold.
#[derive(Default)]
struct Held {
    memory_bytes: usize,
    spilled_bytes: u64,
}

impl Held {
    fn add(&mut self, content: &Content) {
        self.memory_bytes += content.memory_bytes();
        self.spilled_bytes += content.spilled_bytes();
    }

    fn remove(&mut self, content: &Content) {
        self.memory_bytes -= content.memory_bytes();
        self.spilled_bytes -= content.spilled_bytes();
    }
}

pub(super) struct Worker<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) inflate: Decompress,
    pub(super) raw: Vec<u8>,
    pub(super) delta: Vec<u8>,
    pub(super) spare: Vec<Vec<u8>>,
    root: Root,
    stack: Vec<Frame>,
    held: Held,
    /// No frame below this one has data.
    lowest_held: usize,
    resolved: Vec<Resolved>,
    since_tick: u32,
}

/// Buffers kept for the next objects.
const SPARE_BUFFERS: usize = 8;

/// Largest buffer that is kept for the next objects, in bytes.
const SPARE_BUFFER_MAX_BYTES: usize = 1 << 20;

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            inflate: Decompress::new(),
            raw: Vec::new(),
            delta: Vec::new(),
            spare: Vec::new(),
            root: Root::Entry(0),
            stack: Vec::new(),
            held: Held::default(),
            lowest_held: 0,
            resolved: Vec::new(),
            since_tick: 0,
        }
    }

    /// Takes families until none is left. What goes wrong stops all threads.
    fn take_roots<V: Visitor>(&mut self, visitor: &mut V, tick: Tick<'_>) {
        if let Err(error) = self.take_roots_inner(visitor, tick) {
            self.shared.fail(error);
        }
    }

    fn take_roots_inner<V: Visitor>(&mut self, visitor: &mut V, tick: Tick<'_>) -> Result<(), IndexError> {
        let shared = self.shared;
        loop {
            let first = shared.next_root.fetch_add(ROOTS_AT_ONCE, Ordering::Relaxed);
            let Some(roots) = shared.roots.get(first..) else {
                return Ok(());
            };
            if roots.is_empty() {
                return Ok(());
            }
            for &root in roots.iter().take(ROOTS_AT_ONCE) {
                self.step(tick)?;
                let Some(kind) = shared.received.entries[root as usize].kind else {
                    continue;
                };
                let data = self.root_data(root, tick)?;
                self.family(Root::Entry(root), kind, data, visitor, tick)?;
            }
        }
    }

    /// Counts a step, over all families, and ticks now and then.
    fn step(&mut self, tick: Tick<'_>) -> Result<(), Stopped> {
        self.since_tick += 1;
        if self.since_tick >= STEPS_PER_TICK {
            self.since_tick = 0;
            tick()?;
        }
        Ok(())
    }

    /// Works off everything that builds on one object.
    fn family<V: Visitor>(
        &mut self,
        root: Root,
        kind: ObjectKind,
        data: Content,
        visitor: &mut V,
        tick: Tick<'_>,
    ) -> Result<(), IndexError> {
        let received = self.shared.received;
        let (ofs, refs) = match root {
            Root::Entry(index) => (
                ofs_children(&self.shared.ofs_starts, index),
                self.shared.claim(&received.entries[index as usize].id),
            ),
            Root::External(id) => (0..0, self.shared.claim(&id)),
        };
        self.root = root;
        self.held = Held::default();
        self.held.add(&data);
        self.lowest_held = 0;
        self.stack.clear();
        self.stack.push(Frame {
            entry: None,
            data: Some(data),
            ofs,
            refs,
        });
        while let Some(top) = self.stack.last_mut() {
            let child = match top.ofs.next() {
                Some(n) => Some(received.ofs_deltas[n].1),
                None => top.refs.next().map(|n| received.ref_deltas[n].1),
            };
            self.step(tick)?;
            match child {
                Some(child) => self.child(kind, child, visitor, tick)?,
                None => self.pop(),
            }
        }
        Ok(())
    }

    /// Leaves the topmost object of the stack.
    fn pop(&mut self) {
        if let Some(data) = self.stack.pop().and_then(|frame| frame.data) {
            self.held.remove(&data);
            self.recycle(data);
        }
        self.lowest_held = self.lowest_held.min(self.stack.len());
    }

    fn recycle(&mut self, content: Content) {
        if let Content::Memory(data) = content
            && self.spare.len() < SPARE_BUFFERS
            && data.capacity() <= SPARE_BUFFER_MAX_BYTES
        {
            self.spare.push(data);
        }
    }

    /// Makes the object of the delta `child`, whose base is on top of the stack.
    fn child<V: Visitor>(
        &mut self,
        kind: ObjectKind,
        child: u32,
        visitor: &mut V,
        tick: Tick<'_>,
    ) -> Result<(), IndexError> {
        let shared = self.shared;
        let received = shared.received;
        if self.stack.len() > shared.limits.max_delta_depth as usize {
            return Err(IndexError::BadEntry {
                offset: received.entries[child as usize].offset,
                what: BadEntry::TooDeep {
                    limit: shared.limits.max_delta_depth,
                },
            });
        }
        self.hold_top(tick)?;
        let ofs = ofs_children(&shared.ofs_starts, child);
        let want = if ofs.is_empty() { Want::Id } else { Want::Both };
        let base = self.stack.last_mut().and_then(|top| top.data.take());
        let base = base.unwrap_or(Content::Memory(Vec::new()));
        let made = self.make(&base, child, kind, want, tick)?;
        if let Some(top) = self.stack.last_mut() {
            top.data = Some(base);
        }
        let (id, mut data) = (made.id, made.content);
        match &data {
            Some(Content::Memory(data)) if kind != ObjectKind::Blob => visitor.visit(&id, kind, data),
            Some(Content::Memory(data)) if data.len() as u64 <= SEEN_BLOB_MAX_BYTES => {
                visitor.visit_small_blob(&id, data);
            }
            _ => {}
        }
        self.resolved.push(Resolved { entry: child, id, kind });
        self.drop_top_if_done();
        let refs = shared.claim(&id);
        if ofs.is_empty() && refs.is_empty() {
            if let Some(data) = data {
                self.recycle(data);
            }
            return Ok(());
        }
        if let Some(content) = data.take() {
            let content = content.settled(shared.folder).map_err(|error| self.at(child, error))?;
            self.held.add(&content);
            data = Some(content);
        }
        self.stack.push(Frame {
            entry: Some(child),
            data,
            ofs,
            refs,
        });
        self.shrink();
        Ok(())
    }

    /// Drops the data of the topmost object when no delta on it is left.
    fn drop_top_if_done(&mut self) {
        let pinned = self.is_pinned(self.stack.len().saturating_sub(1));
        let Some(top) = self.stack.last_mut() else {
            return;
        };
        let is_done = !pinned && top.ofs.is_empty() && top.refs.is_empty();
        if let Some(data) = top.data.take_if(|_| is_done) {
            self.held.remove(&data);
            self.recycle(data);
        }
    }

    /// Whether the data of this frame could not be made again.
    fn is_pinned(&self, frame: usize) -> bool {
        frame == 0 && matches!(self.root, Root::External(_))
    }

    /// Drops data from the bottom of the stack, which is needed last, until what is held fits its limits.
    fn shrink(&mut self) {
        let top = self.stack.len() - 1;
        while self.is_full() && self.lowest_held < top {
            let pinned = self.is_pinned(self.lowest_held);
            if let Some(data) = self.stack[self.lowest_held].data.take_if(|_| !pinned) {
                self.held.remove(&data);
            }
            self.lowest_held += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.held.memory_bytes > self.shared.cache_bytes || self.held.spilled_bytes > SPILLED_CACHE_BYTES
    }

    /// Makes sure that the topmost object's data is there, from the nearest one below that has it.
    fn hold_top(&mut self, tick: Tick<'_>) -> Result<(), IndexError> {
        let Some(top) = self.stack.len().checked_sub(1) else {
            return Ok(());
        };
        if self.stack[top].data.is_some() {
            return Ok(());
        }
        let from = (0..top).rev().find(|&n| self.stack[n].data.is_some());
        let (mut data, next) = match (from, self.root) {
            (Some(n), _) => (None, n + 1),
            (None, Root::Entry(index)) => (Some(self.root_data(index, tick)?), 1),
            (None, Root::External(id)) => return Err(IndexError::OwnObject(id)),
        };
        for n in next..=top {
            tick()?;
            let Some(entry) = self.stack[n].entry else {
                continue;
            };
            let made = match &data {
                Some(base) => self.make_again(base, entry, tick)?,
                None => {
                    let below = self.stack[n - 1].data.take();
                    let base = below.unwrap_or(Content::Memory(Vec::new()));
                    let made = self.make_again(&base, entry, tick)?;
                    self.stack[n - 1].data = Some(base);
                    made
                }
            };
            if let Some(spent) = data.replace(made) {
                self.recycle(spent);
            }
        }
        if let Some(data) = &data {
            self.held.add(data);
        }
        self.stack[top].data = data;
        self.lowest_held = self.lowest_held.min(top);
        self.shrink();
        Ok(())
    }
}
