//! Makes the bitmap of the clone pack: what each tip and some commits in between reach.
//!
//! Commits are worked off oldest first, so that what one reaches begins with what its nearest older
//! ones reach; only the commits in between and their trees are walked. Sets that are kept for that are
//! compressed, and the oldest are let go when they take too much memory: then more is walked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gix::ObjectId;

use super::MaintenanceError;
use crate::git::bitmap::ewah::{Encoder, or_into};
use crate::git::bitmap::{BitmapHead, BitmapWriter, type_bits};
use crate::git::object_store::{ObjectKind, ObjectStore, Pos, StoreError};
use crate::git::walk::{Bits, Tip, WalkError, Walker};
use crate::git::work::Tick;

/// Memory for decoded delta bases, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Memory for what commits before reach, in bytes.
const REACH_BYTES: usize = 256 << 20;
/// Most tips with a bitmap of their own; branches and the newest others come first.
const MAX_TIPS: usize = 8192;
/// Most further commits with one.
const MAX_SPACED: usize = 4096;
/// Distance of such commits on a line of first parents near its tip, and how far that is, in commits.
const NEAR: (usize, usize) = (100, 10_000);
/// Distance further back.
const FAR: usize = 500;
/// Distance in the list of all commits by date, whichever line they are on.
const ANYWHERE: usize = 1000;
/// Lines of first parents that are followed.
const MAX_LINES: usize = 64;
/// What stands before and after the compressed words of an encoded bitmap, in bytes.
const FRAME: (usize, usize) = (8, 4);
/// Mode of everything in a pack folder: never written again.
const READ_ONLY: u32 = 0o444;

/// A pack that is a whole history, and what is known of it.
pub(super) struct ClonePack<'a> {
    /// A view of this pack and nothing else.
    pub store: &'a ObjectStore,
    /// What refs name, the most important first.
    pub tips: &'a [ObjectId],
    /// Kind of each object, in pack order.
    pub kinds: &'a [ObjectKind],
    /// Git's hash of a path of each object, in pack order; 0 for none.
    pub name_hashes: &'a [u32],
}

/// One commit of the pack.
struct Commit {
    tree: ObjectId,
    /// As numbers of commits.
    parents: Vec<u32>,
}

/// All commits of the pack, in pack order: newest first, more or less.
struct Commits {
    positions: Vec<Pos>,
    commits: Vec<Commit>,
    number_of: HashMap<u32, u32>,
}

impl Commits {
    fn read(pack: &ClonePack<'_>, walker: &mut Walker<'_>, tick: Tick<'_>) -> Result<Self, MaintenanceError> {
        let positions: Vec<Pos> = (0..)
            .zip(pack.kinds)
            .filter(|(_, kind)| **kind == ObjectKind::Commit)
            .map(|(position, _)| Pos(position))
            .collect();
        let number_of: HashMap<u32, u32> = (0..)
            .zip(&positions)
            .map(|(number, position)| (position.0, number))
            .collect();
        let mut commits = Vec::with_capacity(positions.len());
        for position in &positions {
            tick()?;
            let damaged = || StoreError::damaged(pack.store.id(*position), "a commit was expected here");
            let info = walker.reader().commit_at(*position)?.ok_or_else(damaged)?;
            let parents = info.parents.iter().map(|parent| {
                let position = pack.store.position(parent).ok_or(WalkError::Missing(*parent))?;
                Ok(number_of.get(&position.0).copied().ok_or_else(damaged)?)
            });
            commits.push(Commit {
                tree: info.tree,
                parents: parents.collect::<Result<_, MaintenanceError>>()?,
            });
        }
        Ok(Self {
            positions,
            commits,
            number_of,
        })
    }

    /// The commits that get a bitmap, as numbers, oldest first.
    fn select(&self, tips: &[u32]) -> Vec<u32> {
        let mut selected: BTreeSet<u32> = tips.iter().copied().take(MAX_TIPS).collect();
        let own_tips = selected.len();
        let mut is_on_line = vec![false; self.commits.len()];
        for tip in tips.iter().take(MAX_LINES) {
            let (mut next, mut distance) = (Some(*tip), 0_usize);
            while let Some(number) = next {
                // Another line went on from here.
                if std::mem::replace(&mut is_on_line[number as usize], true) {
                    break;
                }
                let every = if distance < NEAR.1 { NEAR.0 } else { FAR };
                if distance.is_multiple_of(every) && selected.len() < own_tips + MAX_SPACED {
                    selected.insert(number);
                }
                distance += 1;
                next = self.commits[number as usize].parents.first().copied();
            }
        }
        let anywhere = (0..self.commits.len() as u32).step_by(ANYWHERE);
        selected.extend(anywhere.take(MAX_SPACED));
        // Pack order is newest first.
        selected.into_iter().rev().collect()
    }
}

/// What commits before reach, by their numbers.
#[derive(Default)]
struct Reaches {
    by_number: HashMap<u32, Vec<u8>>,
    /// In the order in which they came.
    order: BTreeMap<usize, u32>,
    next: usize,
    bytes: usize,
    encoder: Encoder,
}

impl Reaches {
    fn keep(&mut self, number: u32, words: &[u64]) {
        self.encoder.encode(words.iter().copied(), usize::MAX);
        let mut framed = Vec::new();
        self.encoder.append_to(&mut framed);
        let compressed = framed[FRAME.0..framed.len() - FRAME.1].to_vec();
        self.bytes += compressed.len();
        self.by_number.insert(number, compressed);
        self.order.insert(self.next, number);
        self.next += 1;
        while self.bytes > REACH_BYTES
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.bytes -= self.by_number.remove(&oldest).map_or(0, |gone| gone.len());
        }
    }
}

/// Writes the bitmap of a clone pack to `path`, which must not exist; gives the number of commits in it.
///
/// # Errors
/// [`MaintenanceError`]
pub(super) fn write_bitmap(pack: &ClonePack<'_>, path: &Path, tick: Tick<'_>) -> Result<usize, MaintenanceError> {
    let fail = |source| MaintenanceError::Io {
        path: path.to_owned(),
        source,
    };
    let store = pack.store;
    let stored = &store.packs()[0];
    let count = stored.object_count();
    let mut walker = Walker::new(store, &[], CACHE_BYTES);
    let commits = Commits::read(pack, &mut walker, tick)?;
    let mut tips = Vec::with_capacity(pack.tips.len());
    for tip in pack.tips {
        if let Tip::Commit(position) = walker.tip(tip, |_| {})? {
            tips.extend(commits.number_of.get(&position.0));
        }
    }
    let selected = commits.select(&tips);

    let types = type_bits(count, pack.kinds.iter().copied());
    let mut name_hashes = vec![0; count as usize];
    for (order, hash) in (0..).zip(pack.name_hashes) {
        name_hashes[stored.index_at_order(order) as usize] = *hash;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(fail)?;
    let owner = stored.checksum();
    let head = BitmapHead {
        owner: &owner,
        object_count: count,
        entry_count: selected.len() as u32,
        types: &types,
        name_hashes: Some(&name_hashes),
    };
    let mut writer = BitmapWriter::start(BufWriter::with_capacity(128 << 10, file), head)?;
    let mut reaches = Reaches::default();
    let nothing = Bits::new(count);
    for number in &selected {
        let words = reach(&commits, *number, &reaches, &nothing, &mut walker, tick)?;
        reaches.keep(*number, &words);
        let position = commits.positions[*number as usize];
        writer.add(stored.index_at_order(position.0), words)?;
    }
    let mut out = writer.finish()?;
    out.flush().map_err(fail)?;
    let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
    file.set_permissions(fs::Permissions::from_mode(READ_ONLY))
        .map_err(fail)?;
    Ok(selected.len())
}

/// The objects that a commit reaches, itself included.
fn reach(
    commits: &Commits,
    number: u32,
    before: &Reaches,
    nothing: &Bits,
    walker: &mut Walker<'_>,
    tick: Tick<'_>,
) -> Result<Vec<u64>, MaintenanceError> {
    let count = walker.reader().store().len();
    let mut bits = Bits::new(count);
    let mut walked = Vec::new();
    let mut stack = vec![number];
    while let Some(number) = stack.pop() {
        tick()?;
        if !bits.set(commits.positions[number as usize]) {
            continue;
        }
        if let Some(known) = before.by_number.get(&number) {
            or_into(known, bits.words_mut(), count)
                .map_err(|error| StoreError::damaged("a bitmap in memory", error))?;
            continue;
        }
        let commit = &commits.commits[number as usize];
        walked.push(commit.tree);
        stack.extend(
            commit
                .parents
                .iter()
                .filter(|parent| !bits.has(commits.positions[**parent as usize])),
        );
    }
    walker.forget_seen();
    for tree in walked {
        walker.add_tree(&tree, &mut bits, nothing, true, tick)?;
    }
    Ok(bits.into_words())
}
