//! Searches for new deltas: each object is compared with a window of those that are most like it.
//!
//! As git does it: objects of one kind are sorted by a hash of their path and by size, so that versions
//! of one file stand together, the largest first; each is compared with those before it. A new delta is
//! taken where it is smaller than what is stored.

use std::collections::{HashMap, HashSet, VecDeque};

use super::MaintenanceError;
use super::pack_writer::{NewDelta, StoredBase, deflate, stored_base};
use crate::config::MaintenanceSettings;
use crate::git::delta::{DeltaIndex, encode};
use crate::git::object_store::{ObjectStore, Pos, Reader, StoreError};
use crate::git::walk::Bits;
use crate::git::work::{Stopped, Tick};

/// Memory for decoded delta bases, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Smaller objects are not worth a delta, in bytes.
const MIN_BYTES: u64 = 50;
/// Larger ones are not compared, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// What a delta must save at least beside half of the object, in bytes.
const MIN_SAVED_BYTES: u64 = 20;
/// An object is not made from one that is so many times larger.
const MAX_RATIO: u64 = 32;
/// Longest chain that is followed to tell that it closes no circle.
const MAX_CHAIN: usize = 10_000;

/// Which objects deltas are searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All.
    All,
    /// Those whose stored delta is against an object that goes into another pack.
    Cut,
}

/// One object that is compared.
#[derive(Clone, Copy)]
struct Candidate {
    position: Pos,
    name_hash: u32,
    size: u64,
    is_target: bool,
}

/// An object of the window.
struct Slot {
    position: Pos,
    size: u64,
    index: DeltaIndex<Vec<u8>>,
}

impl Slot {
    fn bytes(&self) -> u64 {
        self.size + self.index.index_bytes() as u64
    }
}

/// Finds deltas for objects of `set`, against objects of `set`. `kinds` are its objects kind by kind, each
/// newest first.
///
/// # Errors
/// [`MaintenanceError`]
pub(super) fn search_deltas(
    store: &ObjectStore,
    set: &Bits,
    kinds: [&Vec<Pos>; 4],
    name_hashes: &[u32],
    which: Which,
    settings: &MaintenanceSettings,
    tick: Tick<'_>,
) -> Result<HashMap<Pos, NewDelta>, MaintenanceError> {
    let mut search = Search {
        store,
        set,
        settings,
        reader: store.reader(CACHE_BYTES),
        found: HashMap::new(),
        kept_bytes: 0,
    };
    for positions in kinds {
        let candidates = search.candidates(positions, name_hashes, which, tick)?;
        search.compare(&candidates, tick)?;
    }
    Ok(search.found)
}

struct Search<'s> {
    store: &'s ObjectStore,
    set: &'s Bits,
    settings: &'s MaintenanceSettings,
    reader: Reader<'s>,
    found: HashMap<Pos, NewDelta>,
    /// Memory for the deltas found, in bytes.
    kept_bytes: u64,
}

impl Search<'_> {
    /// The objects of one kind that are compared, in the order of comparison.
    fn candidates(
        &mut self,
        positions: &[Pos],
        name_hashes: &[u32],
        which: Which,
        tick: Tick<'_>,
    ) -> Result<Vec<Candidate>, MaintenanceError> {
        let mut targets: HashSet<Pos> = HashSet::new();
        let mut names: HashSet<u32> = HashSet::new();
        let name_of = |position: &Pos| name_hashes[position.0 as usize];
        if which == Which::Cut {
            for position in positions {
                tick()?;
                let is_cut = match stored_base(self.store, *position)? {
                    StoredBase::NoDelta => false,
                    StoredBase::At(base) => !self.set.has(base),
                    StoredBase::Absent => true,
                };
                if is_cut {
                    targets.insert(*position);
                    names.insert(name_of(position));
                }
            }
        }
        let mut candidates = Vec::new();
        for position in positions {
            if which == Which::Cut && !names.contains(&name_of(position)) {
                continue;
            }
            tick()?;
            let size = self.reader.header_at(*position)?.1;
            if (MIN_BYTES..=MAX_BYTES).contains(&size) {
                candidates.push(Candidate {
                    position: *position,
                    name_hash: name_of(position),
                    size,
                    is_target: which == Which::All || targets.contains(position),
                });
            }
        }
        // Stable: of objects of one size the newest comes first.
        candidates.sort_by(|a, b| b.name_hash.cmp(&a.name_hash).then(b.size.cmp(&a.size)));
        if which == Which::Cut {
            let is_near: Vec<bool> = (0..candidates.len())
                .map(|at| {
                    let end = candidates.len().min(at + self.settings.delta_window + 1);
                    candidates[at..end].iter().any(|other| other.is_target)
                })
                .collect();
            let mut near = is_near.iter();
            candidates.retain(|_| near.next().copied().unwrap_or(false));
        }
        Ok(candidates)
    }

    fn compare(&mut self, candidates: &[Candidate], tick: Tick<'_>) -> Result<(), MaintenanceError> {
        let mut window: VecDeque<Slot> = VecDeque::new();
        let mut window_bytes = 0;
        let mut buffer = Vec::new();
        for candidate in candidates {
            tick()?;
            let object = self.reader.read_at(candidate.position, &mut buffer)?;
            let content = object.data.to_vec();
            if candidate.is_target {
                self.search_for(candidate, &content, &window, tick)?;
            }
            let slot = Slot {
                position: candidate.position,
                size: candidate.size,
                index: DeltaIndex::new(content),
            };
            window_bytes += slot.bytes();
            window.push_front(slot);
            while window.len() > self.settings.delta_window
                || (window_bytes > self.settings.delta_window_bytes && window.len() > 1)
            {
                window_bytes -= window.pop_back().map_or(0, |gone| gone.bytes());
            }
        }
        Ok(())
    }

    /// Takes the smallest delta for one object, if it is smaller than what is stored.
    fn search_for(
        &mut self,
        target: &Candidate,
        content: &[u8],
        window: &VecDeque<Slot>,
        tick: Tick<'_>,
    ) -> Result<(), MaintenanceError> {
        let max_depth = self.settings.delta_depth as usize;
        let mut best: Option<(Pos, Vec<u8>)> = None;
        for slot in window {
            tick()?;
            let Some(depth) = self
                .chain(slot.position, target.position)?
                .filter(|depth| *depth < max_depth)
            else {
                continue;
            };
            // The longer the chain, the more a delta must save, as in git.
            let most = match &best {
                Some((_, delta)) => delta.len() as u64,
                None => (target.size / 2).saturating_sub(MIN_SAVED_BYTES),
            };
            let most = most * (max_depth - depth) as u64 / max_depth as u64;
            if target.size.saturating_sub(slot.size) >= most || target.size < slot.size / MAX_RATIO {
                continue;
            }
            if let Some(delta) = encode(&slot.index, content, usize::try_from(most).unwrap_or(usize::MAX)) {
                best = Some((slot.position, delta));
            }
        }
        let Some((base, delta)) = best else {
            return Ok(());
        };
        let compressed = deflate(&delta).map_err(Stopped::Output)?;
        if self
            .stored_bytes(target.position)?
            .is_some_and(|stored| stored <= compressed.len() as u64)
        {
            return Ok(());
        }
        let bytes = compressed.len() as u64;
        let fits = self.kept_bytes + bytes <= self.settings.delta_window_bytes;
        if fits {
            self.kept_bytes += bytes;
        }
        let made = fits.then_some((compressed, delta.len() as u64));
        self.found.insert(target.position, NewDelta { base, made });
        Ok(())
    }

    /// How many deltas lead from an object to one that is stored whole; `None` if they lead over `target`.
    fn chain(&self, from: Pos, target: Pos) -> Result<Option<usize>, StoreError> {
        let mut at = from;
        for depth in 0..MAX_CHAIN {
            if at == target {
                return Ok(None);
            }
            at = match self.found.get(&at) {
                Some(delta) => delta.base,
                None => match stored_base(self.store, at)? {
                    StoredBase::At(base) if self.set.has(base) => base,
                    _ => return Ok(Some(depth)),
                },
            };
        }
        Ok(None)
    }

    /// What an object takes as it is stored, if it can be copied so.
    fn stored_bytes(&self, position: Pos) -> Result<Option<u64>, StoreError> {
        let can_be_copied = match stored_base(self.store, position)? {
            StoredBase::NoDelta => true,
            StoredBase::At(base) => self.set.has(base),
            StoredBase::Absent => false,
        };
        Ok(self
            .store
            .locate(position)
            .filter(|_| can_be_copied)
            .map(|(number, order)| {
                let offsets = &self.store.packs()[number].offsets;
                offsets[order as usize + 1] - offsets[order as usize]
            }))
    }
}
