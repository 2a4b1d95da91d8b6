//! Second pass: deltas are worked off, base by base, without recursion and in bounded memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use gix::ObjectId;
use gix::hash::Kind;
use gix::zlib::{Decompress, FlushDecompress, Status};

use super::entry::{apply_delta, delta_sizes, each_delta_piece};
use super::{BadEntry, FindBase, IndexError, IndexLimits, Received, Visitor, object_hasher, object_id};
use crate::git::object_store::ObjectKind;
use crate::git::work::Tick;

/// With fewer deltas than this one thread does them all.
const DELTAS_FOR_THREADS: usize = 4096;

/// Bases with deltas a thread takes at once.
const ROOTS_AT_ONCE: usize = 16;

/// Results larger than this that nothing builds on are hashed piece by piece, in bytes.
const STREAMED_RESULT_BYTES: u64 = 1 << 20;

/// How often the calling thread ticks while it waits for the other.
const WAIT_FOR_THREADS: Duration = Duration::from_millis(50);

/// One delta that became an object.
struct Resolved {
    entry: u32,
    id: ObjectId,
    kind: ObjectKind,
}

/// Works off all deltas of `received` and fills in ids and kinds.
///
/// Returns the bases that are not in the pack and were found by `find_base`, in the order needed.
pub(super) fn resolve<V: Visitor>(
    received: &mut Received,
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
    received.ref_deltas.sort_unstable();
    let shared = Shared {
        received,
        hash,
        limits,
        claimed: received.ref_deltas.iter().map(|_| AtomicBool::new(false)).collect(),
        roots: roots(received),
        next_root: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        cache_bytes: limits.delta_cache_bytes / 2 / limits.threads.max(1),
    };
    let threads = if deltas < DELTAS_FOR_THREADS {
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
fn roots(received: &Received) -> Vec<u32> {
    let entries = received.entries.iter().enumerate();
    entries
        .filter(|(_, entry)| !entry.is_delta)
        .map(|(index, entry)| (index as u32, entry))
        .filter(|(index, entry)| {
            !ofs_children(received, *index).is_empty() || !ref_children(received, &entry.id).is_empty()
        })
        .map(|(index, _)| index)
        .collect()
}

/// Deltas on the entry `base`, as a range of `ofs_deltas`.
fn ofs_children(received: &Received, base: u32) -> std::ops::Range<usize> {
    let deltas = &received.ofs_deltas;
    let start = deltas.partition_point(|&(of, _)| of < base);
    let len = deltas[start..].iter().take_while(|&&(of, _)| of == base).count();
    start..start + len
}

/// Deltas on the object `base`, as a range of `ref_deltas`.
fn ref_children(received: &Received, base: &ObjectId) -> std::ops::Range<usize> {
    let deltas = &received.ref_deltas;
    let start = deltas.partition_point(|(of, _)| of < base);
    let len = deltas[start..].iter().take_while(|(of, _)| of == base).count();
    start..start + len
}

/// What all threads see.
struct Shared<'a> {
    received: &'a Received,
    hash: Kind,
    limits: &'a IndexLimits,
    /// For each of `ref_deltas` whether someone works on it: each is done once, whatever the pack.
    claimed: Vec<AtomicBool>,
    roots: Vec<u32>,
    next_root: AtomicUsize,
    stop: AtomicBool,
    /// Memory for objects that deltas build on, per thread, in bytes.
    cache_bytes: usize,
}

/// Works off all deltas whose bases are in the pack.
fn in_pack<V: Visitor>(
    shared: &Shared<'_>,
    threads: usize,
    visitor: &mut V,
    tick: Tick<'_>,
) -> Result<Vec<Resolved>, IndexError> {
    if threads < 2 {
        let mut worker = Worker::new(shared);
        worker.take_roots(visitor, tick)?;
        return Ok(worker.resolved);
    }
    std::thread::scope(|scope| {
        let (done, finished) = mpsc::channel::<()>();
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let mut visitor = visitor.split();
                let done = done.clone();
                scope.spawn(move || {
                    let mut worker = Worker::new(shared);
                    let result = worker.take_roots(&mut visitor, &mut || Ok(()));
                    drop(done);
                    result.map(|()| (worker.resolved, visitor))
                })
            })
            .collect();
        drop(done);
        let mut worker = Worker::new(shared);
        let mut result = worker.take_roots(visitor, tick);
        while let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(WAIT_FOR_THREADS) {
            if result.is_ok() {
                result = tick().map_err(IndexError::from);
            }
            if result.is_err() {
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
        let mut resolved = worker.resolved;
        for other in others {
            match other.join() {
                Ok(Ok((more, seen))) => {
                    resolved.extend(more);
                    visitor.join(seen);
                }
                Ok(Err(error)) => result = result.and(Err(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result.map(|()| resolved)
    })
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
    let mut worker = Worker::new(shared);
    for n in open {
        if shared.claimed[n].load(Ordering::Relaxed) {
            continue;
        }
        tick()?;
        let base = received.ref_deltas[n].0;
        let Some((kind, data)) = find_base(&base) else {
            continue;
        };
        if object_id(shared.hash, kind, &data) != Some(base) {
            return Err(IndexError::OwnObject(base));
        }
        external.push(base);
        worker.family(Root::External(base), kind, data, visitor, tick)?;
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
    data: Option<Vec<u8>>,
    ofs: std::ops::Range<usize>,
    refs: std::ops::Range<usize>,
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    inflate: Decompress,
    raw: Vec<u8>,
    delta: Vec<u8>,
    spare: Vec<Vec<u8>>,
    root: Root,
    stack: Vec<Frame>,
    /// Bytes of data held by the frames.
    held: usize,
    /// No frame below this one has data.
    lowest_held: usize,
    resolved: Vec<Resolved>,
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
            held: 0,
            lowest_held: 0,
            resolved: Vec::new(),
        }
    }

    /// Takes families until none is left.
    fn take_roots<V: Visitor>(&mut self, visitor: &mut V, tick: Tick<'_>) -> Result<(), IndexError> {
        let result = self.take_roots_inner(visitor, tick);
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        result
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
                let Some(kind) = shared.received.entries[root as usize].kind else {
                    continue;
                };
                let mut data = self.spare.pop().unwrap_or_default();
                self.entry_data(root, &mut data)?;
                self.family(Root::Entry(root), kind, data, visitor, tick)?;
            }
        }
    }

    /// Works off everything that builds on one object.
    fn family<V: Visitor>(
        &mut self,
        root: Root,
        kind: ObjectKind,
        data: Vec<u8>,
        visitor: &mut V,
        tick: Tick<'_>,
    ) -> Result<(), IndexError> {
        let received = self.shared.received;
        let (ofs, refs) = match root {
            Root::Entry(index) => (
                ofs_children(received, index),
                ref_children(received, &received.entries[index as usize].id),
            ),
            Root::External(id) => (0..0, ref_children(received, &id)),
        };
        self.root = root;
        self.held = data.len();
        self.lowest_held = 0;
        self.stack.clear();
        self.stack.push(Frame {
            entry: None,
            data: Some(data),
            ofs,
            refs,
        });
        let mut since_tick = 0;
        while let Some(top) = self.stack.last_mut() {
            let child = match (top.ofs.next(), &mut top.refs) {
                (Some(n), _) => Some(received.ofs_deltas[n].1),
                (None, refs) => refs
                    .find(|&n| !self.shared.claimed[n].swap(true, Ordering::Relaxed))
                    .map(|n| received.ref_deltas[n].1),
            };
            let Some(child) = child else {
                self.pop();
                continue;
            };
            since_tick += 1;
            if since_tick % 64 == 0 {
                tick()?;
                if self.shared.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            self.child(kind, child, visitor, tick)?;
        }
        Ok(())
    }

    /// Leaves the topmost object of the stack.
    fn pop(&mut self) {
        if let Some(data) = self.stack.pop().and_then(|frame| frame.data) {
            self.held -= data.len();
            self.recycle(data);
        }
        self.lowest_held = self.lowest_held.min(self.stack.len());
    }

    fn recycle(&mut self, data: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && data.capacity() <= SPARE_BUFFER_MAX_BYTES {
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
        let offset = received.entries[child as usize].offset;
        let bad = |what| IndexError::BadEntry { offset, what };
        if self.stack.len() > shared.limits.max_delta_depth as usize {
            return Err(bad(BadEntry::TooDeep {
                limit: shared.limits.max_delta_depth,
            }));
        }
        self.hold_top(tick)?;
        let mut delta = std::mem::take(&mut self.delta);
        self.entry_data(child, &mut delta)?;
        let base = self
            .stack
            .last()
            .and_then(|top| top.data.as_deref())
            .unwrap_or_default();
        let size = delta_sizes(&delta).map_err(|error| bad(error.into()))?.result;
        self.check_result_size(size)?;
        let ofs = ofs_children(received, child);
        let (id, data) = if kind == ObjectKind::Blob && ofs.is_empty() && size > STREAMED_RESULT_BYTES {
            let mut hasher = object_hasher(shared.hash, kind, size);
            each_delta_piece(base, &delta, |piece| hasher.update(piece)).map_err(|error| bad(error.into()))?;
            let id = hasher.try_finalize().map_err(|_| bad(BadEntry::Collision))?;
            (id, None)
        } else {
            let mut data = self.spare.pop().unwrap_or_default();
            apply_delta(base, &delta, &mut data).map_err(|error| bad(error.into()))?;
            let id = object_id(shared.hash, kind, &data).ok_or_else(|| bad(BadEntry::Collision))?;
            (id, Some(data))
        };
        self.delta = delta;
        if let (Some(data), true) = (&data, kind != ObjectKind::Blob) {
            visitor.visit(&id, kind, data);
        }
        self.resolved.push(Resolved { entry: child, id, kind });
        self.drop_top_if_done();
        let refs = ref_children(received, &id);
        if ofs.is_empty() && refs.is_empty() {
            if let Some(data) = data {
                self.recycle(data);
            }
        } else {
            self.held += data.as_ref().map_or(0, Vec::len);
            self.stack.push(Frame {
                entry: Some(child),
                data,
                ofs,
                refs,
            });
            self.shrink();
        }
        Ok(())
    }

    /// Deltas are the one way to make much of little: what they make must fit the limits.
    fn check_result_size(&self, size: u64) -> Result<(), IndexError> {
        let limits = self.shared.limits;
        if size > limits.max_object_bytes {
            return Err(IndexError::ObjectTooLarge {
                size_bytes: size,
                limit_bytes: limits.max_object_bytes,
            });
        }
        if size > limits.max_in_memory_bytes {
            return Err(IndexError::TooLargeForMemory {
                size_bytes: size,
                limit_bytes: limits.max_in_memory_bytes,
            });
        }
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
            self.held -= data.len();
            self.recycle(data);
        }
    }

    /// Whether the data of this frame could not be made again.
    fn is_pinned(&self, frame: usize) -> bool {
        frame == 0 && matches!(self.root, Root::External(_))
    }

    /// Drops data from the bottom of the stack, which is needed last, until the cache fits its limit.
    fn shrink(&mut self) {
        let top = self.stack.len() - 1;
        while self.held > self.shared.cache_bytes && self.lowest_held < top {
            let pinned = self.is_pinned(self.lowest_held);
            if let Some(data) = self.stack[self.lowest_held].data.take_if(|_| !pinned) {
                self.held -= data.len();
            }
            self.lowest_held += 1;
        }
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
            (None, Root::Entry(index)) => {
                let mut data = Vec::new();
                self.entry_data(index, &mut data)?;
                (Some(data), 1)
            }
            (None, Root::External(id)) => return Err(IndexError::OwnObject(id)),
        };
        for n in next..=top {
            tick()?;
            let Some(entry) = self.stack[n].entry else {
                continue;
            };
            let offset = self.shared.received.entries[entry as usize].offset;
            let mut delta = std::mem::take(&mut self.delta);
            self.entry_data(entry, &mut delta)?;
            let base = data
                .as_deref()
                .or(self.stack[n - 1].data.as_deref())
                .unwrap_or_default();
            let mut made = self.spare.pop().unwrap_or_default();
            apply_delta(base, &delta, &mut made).map_err(|error| IndexError::BadEntry {
                offset,
                what: error.into(),
            })?;
            self.delta = delta;
            if let Some(spent) = data.replace(made) {
                self.recycle(spent);
            }
        }
        self.held += data.as_ref().map_or(0, Vec::len);
        self.stack[top].data = data;
        self.lowest_held = self.lowest_held.min(top);
        self.shrink();
        Ok(())
    }

    /// The inflated data of one entry: kept from the first pass, or read again.
    fn entry_data(&mut self, index: u32, data: &mut Vec<u8>) -> Result<(), IndexError> {
        let received = self.shared.received;
        let entry = &received.entries[index as usize];
        data.clear();
        if let Some(at) = entry.kept {
            data.extend_from_slice(received.kept.get(at, entry.size as usize));
            return Ok(());
        }
        let limit_bytes = self.shared.limits.max_in_memory_bytes;
        if entry.size > limit_bytes {
            return Err(IndexError::TooLargeForMemory {
                size_bytes: entry.size,
                limit_bytes,
            });
        }
        let from = entry.offset + u64::from(entry.head_len);
        let to = received.end_of(index as usize);
        data.resize(entry.size as usize, 0);
        inflate_again(&received.file, from, to, &mut self.inflate, &mut self.raw, data)
            .map_err(|what| what.into_error(entry.offset))
    }
}

/// Compressed bytes read at once in the second pass.
const READ_AGAIN_BYTES: u64 = 256 << 10;

/// Why an entry that was sound in the first pass cannot be read in the second.
enum ReadAgain {
    Io(std::io::Error),
    Damaged,
}

impl ReadAgain {
    fn into_error(self, offset: u64) -> IndexError {
        match self {
            Self::Io(error) => IndexError::Write(error),
            Self::Damaged => IndexError::BadEntry {
                offset,
                what: BadEntry::Inflate,
            },
        }
    }
}

/// Inflates what lies at `from..to` of the pack into exactly `data`.
fn inflate_again(
    file: &File,
    mut from: u64,
    to: u64,
    inflate: &mut Decompress,
    raw: &mut Vec<u8>,
    data: &mut [u8],
) -> Result<(), ReadAgain> {
    inflate.reset();
    let mut made = 0usize;
    while from < to {
        raw.resize((to - from).min(READ_AGAIN_BYTES) as usize, 0);
        file.read_exact_at(raw, from).map_err(ReadAgain::Io)?;
        from += raw.len() as u64;
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(rest, &mut data[made..], FlushDecompress::None)
                .map_err(|_| ReadAgain::Damaged)?;
            let used = (inflate.total_in() - in_before) as usize;
            let written = (inflate.total_out() - out_before) as usize;
            rest = &rest[used..];
            made += written;
            if status == Status::StreamEnd {
                return if made == data.len() {
                    Ok(())
                } else {
                    Err(ReadAgain::Damaged)
                };
            }
            if used == 0 && written == 0 {
                return Err(ReadAgain::Damaged);
            }
        }
    }
    Err(ReadAgain::Damaged)
}
