//! Packs as files: one pack with its index, and how a replaced file is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gix::hash::{Kind, ObjectId, oid};
use gix_pack::{data, index};

use super::StoreError;
use crate::git::rev;

/// One pack with its index, mapped into memory.
pub struct Pack {
    pub(in crate::git) data: data::File<gix_pack::MMap>,
    pub(in crate::git) index: index::File<gix_pack::MMap>,
    /// Entry number in pack order → entry number in the index.
    pub(super) index_of: Vec<u32>,
    /// Entry number in the index → entry number in pack order.
    pub(super) order_of: Vec<u32>,
    /// Where each entry starts, in pack order, in bytes; then where the last one ends.
    pub(in crate::git) offsets: Vec<u64>,
    pub(super) stamp: FileStamp,
    pub(super) path: PathBuf,
}

/// Tells whether a file was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) struct FileStamp {
    len: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl FileStamp {
    pub(in crate::git) fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            inode: metadata.ino(),
        }
    }

    /// `None` if there is no such file.
    pub(in crate::git) fn read(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    pub(in crate::git) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }
}

impl Pack {
    pub(super) fn open(path: &Path, stamp: FileStamp, hash: Kind, max_object_bytes: usize) -> Result<Self, StoreError> {
        let index_path = path.with_extension("idx");
        // A delta in memory needs twice the largest of base and result, and the deltas of its chain;
        // what needs more is read in another way.
        let data = data::File::at(path, hash)
            .map_err(|error| StoreError::damaged(path.display(), error))?
            .with_alloc_limit_bytes(Some(max_object_bytes));
        let index =
            index::File::at(&index_path, hash).map_err(|error| StoreError::damaged(index_path.display(), error))?;
        let count = index.num_objects();
        if data.num_objects() != count || data.checksum() != index.pack_checksum() {
            return Err(StoreError::damaged(
                index_path.display(),
                "it does not belong to its pack (another number of objects or another checksum)",
            ));
        }
        let (index_of, mut offsets) = match stored_order(path, &index) {
            Some(order) => order,
            None => sorted_order(&index),
        };
        let mut order_of = vec![0; index_of.len()];
        for (order, entry) in (0..).zip(&index_of) {
            order_of[*entry as usize] = order;
        }
        let end = data.pack_end() as u64;
        if offsets.last().is_some_and(|last| *last >= end) || offsets.first().is_some_and(|first| *first < 12) {
            return Err(StoreError::damaged(
                index_path.display(),
                "an entry lies outside the pack",
            ));
        }
        offsets.push(end);
        Ok(Self {
            data,
            index,
            index_of,
            order_of,
            offsets,
            stamp,
            path: path.to_owned(),
        })
    }

    /// The checksum at its end, by which files beside it name the pack they belong to.
    pub fn checksum(&self) -> ObjectId {
        self.data.checksum()
    }

    /// Entry number in pack order, which is the bit in a bitmap, of an entry of the index.
    ///
    /// # Panics
    /// If the index has not so many.
    pub fn order_at_index(&self, index_position: u32) -> u32 {
        self.order_of[index_position as usize]
    }

    /// Entry number in the index of an entry in pack order.
    ///
    /// # Panics
    /// If the pack has not so many.
    pub fn index_at_order(&self, order: u32) -> u32 {
        self.index_of[order as usize]
    }

    /// How many objects it holds.
    pub fn object_count(&self) -> u32 {
        self.index.num_objects()
    }

    /// Tells the file that was opened from another one that took its name.
    pub(in crate::git) fn stamp(&self) -> &FileStamp {
        &self.stamp
    }

    /// The `.pack` file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Entry number, in pack order, of the entry that starts at `offset`.
    pub fn order_at_offset(&self, offset: u64) -> Option<u32> {
        let entries = &self.offsets[..self.offsets.len() - 1];
        entries
            .binary_search(&offset)
            .ok()
            .and_then(|order| u32::try_from(order).ok())
    }

    /// Id of the entry with this number in pack order.
    pub(in crate::git) fn id_at_order(&self, order: u32) -> &oid {
        self.index.oid_at_index(self.index_of[order as usize])
    }

    /// CRC-32 that the index states of the entry with this number in pack order, as it lies in the pack;
    /// `None` in an index of version 1.
    pub(in crate::git) fn crc32_at_order(&self, order: u32) -> Option<u32> {
        self.index.crc32_at_index(self.index_of[order as usize])
    }

    /// Entry number in pack order of the object with this id.
    pub(in crate::git) fn order_of_id(&self, id: &oid) -> Option<u32> {
        self.index.lookup(id).map(|entry| self.order_of[entry as usize])
    }
}

/// Entry numbers of the index in the order of the pack, and where each entry starts, in bytes.
type Order = (Vec<u32>, Vec<u64>);

/// The order as the `.rev` file tells it; `None` if there is none that can be used.
fn stored_order(path: &Path, index: &index::File<gix_pack::MMap>) -> Option<Order> {
    let path = path.with_extension("rev");
    let positions = match rev::read(&path, index.num_objects(), &index.pack_checksum()) {
        Ok(positions) => positions,
        Err(error) => {
            if !error.is_absent() {
                tracing::warn!(%error, "a reverse index is passed over; the pack is sorted instead");
            }
            return None;
        }
    };
    let offsets: Vec<u64> = positions
        .iter()
        .map(|entry| index.pack_offset_at_index(*entry))
        .collect();
    // Each entry is then there once, because there are as many as in the index.
    if !offsets.is_sorted_by(|one, next| one < next) {
        tracing::warn!(
            path = %path.display(),
            "a reverse index is not in the order of its pack and is passed over; the pack is sorted instead"
        );
        return None;
    }
    Some((positions, offsets))
}

fn sorted_order(index: &index::File<gix_pack::MMap>) -> Order {
    let mut by_offset: Vec<(u64, u32)> = (0..index.num_objects())
        .map(|entry| (index.pack_offset_at_index(entry), entry))
        .collect();
    by_offset.sort_unstable();
    by_offset.into_iter().map(|(offset, entry)| (entry, offset)).unzip()
}
