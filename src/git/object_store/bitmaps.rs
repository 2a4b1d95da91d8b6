//! Stored bitmaps as sets of positions.
//!
//! The pack whose bitmap file is used comes first in the store, so that its bits are positions as
//! they are. One file is used, that of the largest pack that has one; only where no pack has one that
//! of a multi-pack-index, through a table of where each bit lies in the store.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pack::FileStamp;
use super::{ObjectKind, ObjectStore, Pack, Pos};
use crate::git::bitmap::ewah::words_for;
use crate::git::bitmap::{BitmapEntry, BitmapError, BitmapFile};
use crate::git::midx::{Midx, MidxError};
use crate::git::walk::Bits;

/// Kinds in the order of the sets.
const KINDS: [ObjectKind; 4] = [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag];

/// Why bitmaps cannot be used.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Bitmap(#[from] BitmapError),
    #[error(transparent)]
    Midx(#[from] MidxError),
}

impl OpenError {
    fn is_absent(&self) -> bool {
        match self {
            Self::Bitmap(error) => error.is_absent(),
            Self::Midx(error) => error.is_absent(),
        }
    }
}

/// A bitmap file that was found but not opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The bitmap file of a pack, or a multi-pack-index.
    path: PathBuf,
    stamp: FileStamp,
    is_of_pack: bool,
}

impl Found {
    /// The bitmap file of the pack at `pack`, if it has one.
    pub fn of_pack(pack: &Path) -> Option<Self> {
        Self::at(pack.with_extension("bitmap"), true)
    }

    /// The multi-pack-index of an object folder, which may have a bitmap file.
    pub fn of_folder(objects_dir: &Path) -> Option<Self> {
        Self::at(objects_dir.join("pack/multi-pack-index"), false)
    }

    fn at(path: PathBuf, is_of_pack: bool) -> Option<Self> {
        let stamp = FileStamp::read(&path)?;
        Some(Self {
            path,
            stamp,
            is_of_pack,
        })
    }

    /// Whether it belongs to the first pack, and is of use wherever that is the first.
    pub fn is_of_pack(&self) -> bool {
        self.is_of_pack
    }
}

/// What commits reach, as far as stored bitmaps tell.
pub struct Bitmaps {
    file: BitmapFile,
    /// Entries by the position of their commit.
    entries: HashMap<Pos, BitmapEntry>,
    /// All objects of each kind.
    kinds: [Bits; 4],
    /// Position of each bit, where that is another number.
    positions: Option<Vec<u32>>,
    /// Positions below this one may be covered.
    end: u32,
    /// A bitmap proved damaged; none is used from then on.
    is_damaged: AtomicBool,
}

impl Bitmaps {
    fn of_pack(found: &Found, pack: &Pack) -> Result<Self, BitmapError> {
        let count = pack.object_count();
        let file = BitmapFile::open(&found.path, &pack.data.checksum(), count)?;
        let mut kinds: [Bits; 4] = std::array::from_fn(|_| Bits::new(count));
        for (kind, bits) in KINDS.iter().zip(&mut kinds) {
            file.type_bits(*kind, bits.words_mut())?;
        }
        let entries = file
            .entries()
            .iter()
            .map(|entry| (Pos(pack.order_of[entry.index_position as usize]), *entry))
            .collect();
        Ok(Self {
            file,
            entries,
            kinds,
            positions: None,
            end: count,
            is_damaged: AtomicBool::new(false),
        })
    }

    /// `None` if there is no bitmap, or it tells of objects that this store does not have.
    fn of_midx(found: &Found, store: &ObjectStore) -> Result<Option<Self>, OpenError> {
        let midx = Midx::open(&found.path, store.hash)?;
        let path = midx.bitmap_path();
        if !path.exists() {
            return Ok(None);
        }
        let file = BitmapFile::open(&path, &midx.checksum(), midx.object_count())?;
        let Some(order) = midx.pack_order()? else {
            return Ok(None);
        };
        let position = |index_position: u32| store.position(midx.id(index_position));
        let positions: Option<Vec<u32>> = order
            .positions
            .iter()
            .map(|index_position| position(*index_position).map(|position| position.0))
            .collect();
        let Some(positions) = positions else {
            return Ok(None);
        };
        let mut kinds: [Bits; 4] = std::array::from_fn(|_| Bits::new(store.len()));
        for (kind, bits) in KINDS.iter().zip(&mut kinds) {
            let mut words = vec![0; words_for(file.object_count())];
            file.type_bits(*kind, &mut words)?;
            spread(&words, &positions, bits);
        }
        let entries = file
            .entries()
            .iter()
            .filter_map(|entry| position(entry.index_position).map(|position| (position, *entry)))
            .collect();
        Ok(Some(Self {
            file,
            entries,
            kinds,
            positions: Some(positions),
            end: store.len(),
            is_damaged: AtomicBool::new(false),
        }))
    }

    /// Puts everything that a commit reaches into `bits`; false if no bitmap tells.
    ///
    /// A bitmap that proves damaged is told in the log, and counts as absent.
    pub fn add(&self, commit: Pos, bits: &mut Bits) -> bool {
        let Some(entry) = self.entries.get(&commit) else {
            return false;
        };
        if self.is_damaged.load(Ordering::Relaxed) {
            return false;
        }
        let read = match &self.positions {
            None => self.file.reach(entry, bits.words_mut()),
            Some(positions) => {
                let mut words = vec![0; words_for(self.file.object_count())];
                self.file
                    .reach(entry, &mut words)
                    .map(|()| spread(&words, positions, bits))
            }
        };
        match read {
            Ok(()) => true,
            Err(error) => {
                if !self.is_damaged.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "A bitmap cannot be read; history is walked instead");
                }
                false
            }
        }
    }

    /// The kind of an object that the bitmaps know.
    pub fn kind(&self, position: Pos) -> Option<ObjectKind> {
        if position.0 >= self.end {
            return None;
        }
        let known = KINDS.iter().zip(&self.kinds);
        known
            .filter(|(_, bits)| bits.has(position))
            .map(|(kind, _)| *kind)
            .next()
    }

    /// All objects of a kind that the bitmaps know.
    pub fn kind_bits(&self, kind: ObjectKind) -> &Bits {
        let number = KINDS.iter().position(|other| *other == kind).unwrap_or_default();
        &self.kinds[number]
    }

    /// Number of commits that have a bitmap.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no commit has a bitmap.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Puts the positions of all bits in `words` into `bits`.
fn spread(words: &[u64], positions: &[u32], bits: &mut Bits) {
    for (at, word) in words.iter().enumerate() {
        let mut left = *word;
        while left != 0 {
            bits.set(Pos(positions[at * 64 + left.trailing_zeros() as usize]));
            left &= left - 1;
        }
    }
}

/// Opens what was found, or says in the log why that cannot be used.
pub(super) fn open(store: &ObjectStore, found: &Found) -> Option<Arc<Bitmaps>> {
    let opened = if found.is_of_pack {
        Bitmaps::of_pack(found, store.packs.first()?)
            .map(Some)
            .map_err(OpenError::from)
    } else {
        Bitmaps::of_midx(found, store)
    };
    match opened {
        Ok(bitmaps) => bitmaps.filter(|bitmaps| !bitmaps.is_empty()).map(Arc::new),
        // Stock git replaced it since it was found.
        Err(error) if error.is_absent() => None,
        Err(error) => {
            tracing::warn!(%error, "A bitmap file cannot be used; history is walked instead");
            None
        }
    }
}
