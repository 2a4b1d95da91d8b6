//! What lies in a repository's own object folder, as one view of it has it.

use std::path::{Path, PathBuf};

use super::cruft;
use crate::git::object_store::{FileStamp, ObjectStore, Pos};
use crate::git::walk::Bits;

/// Files that may lie beside a pack and its index.
pub(super) const COMPANIONS: [&str; 3] = ["bitmap", "rev", "mtimes"];

/// What a pack is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Came by a push, from stock git or from joining such packs.
    Plain,
    /// Unreachable objects, each with the time since when it is one.
    Unreachable,
    /// Has a `.keep` file: it stays as it is.
    Kept,
    /// Came from the server of a partial clone: it stays as it is.
    Promisor,
}

/// The role of the pack at `path`.
pub(super) fn role(path: &Path) -> Role {
    if path.with_extension("promisor").exists() {
        Role::Promisor
    } else if path.with_extension("keep").exists() {
        Role::Kept
    } else if cruft::is_cruft(path) {
        Role::Unreachable
    } else {
        Role::Plain
    }
}

/// A pack of the repository itself.
#[derive(Clone, Debug)]
pub(super) struct OwnPack {
    /// Its number in the store.
    pub number: usize,
    pub path: PathBuf,
    pub role: Role,
    pub objects: u32,
    /// The very files that were listed; `None` if others took their names meanwhile.
    pub files: Option<Listed>,
}

/// The files of a pack, told from others of the same names: an inode alone may be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub pack: FileStamp,
    pub index: FileStamp,
}

impl Listed {
    /// The files of the pack at `path` if its pack is still the one that was opened.
    fn read(path: &Path, opened: &FileStamp) -> Option<Self> {
        // In this order: whoever puts another pack in its place does so before its index.
        let index = FileStamp::read(&path.with_extension("idx"))?;
        let pack = FileStamp::read(path)?;
        (pack == *opened).then_some(Self { pack, index })
    }
}

impl OwnPack {
    /// Its name without an ending.
    pub fn stem(&self) -> String {
        self.path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }

    /// Whether maintenance may put something else in its place.
    pub fn is_movable(&self) -> bool {
        matches!(self.role, Role::Plain | Role::Unreachable)
    }
}

/// The repository's own packs and loose objects.
pub(super) struct Own {
    pub packs: Vec<OwnPack>,
    /// Loose objects, by their own position even where a pack has them too.
    pub loose: Vec<Pos>,
}

impl Own {
    /// Those of `objects` that lie in `objects_dir`.
    pub fn find(objects: &ObjectStore, objects_dir: &Path) -> Self {
        let pack_folder = objects_dir.join("pack");
        let packs = objects
            .packs()
            .iter()
            .enumerate()
            .filter(|(_, pack)| pack.path().parent() == Some(&pack_folder))
            .map(|(number, pack)| OwnPack {
                number,
                path: pack.path().to_owned(),
                role: role(pack.path()),
                objects: pack.object_count(),
                files: Listed::read(pack.path(), pack.stamp()),
            })
            .collect();
        let has_others = !objects.alternates().is_empty();
        let loose = (objects.loose_start()..objects.len())
            .map(Pos)
            .filter(|position| !has_others || loose_path(objects_dir, objects, *position).exists())
            .collect();
        Self { packs, loose }
    }

    /// The objects of the packs that `is_meant` names, each by the one position that sets use.
    pub fn objects_of(&self, objects: &ObjectStore, is_meant: impl Fn(&OwnPack) -> bool) -> Bits {
        let mut bits = Bits::new(objects.len());
        for pack in self.packs.iter().filter(|pack| is_meant(pack)) {
            let start = objects.pack_start(pack.number);
            for position in (start..start + pack.objects).map(Pos) {
                bits.set(canonical(objects, position));
            }
        }
        bits
    }

    /// Adds the loose objects.
    pub fn add_loose(&self, objects: &ObjectStore, bits: &mut Bits) {
        for position in &self.loose {
            bits.set(canonical(objects, *position));
        }
    }

    /// The movable pack that holds just the objects of `set`.
    pub fn exactly(&self, objects: &ObjectStore, set: &Bits, role: Role) -> Option<&OwnPack> {
        let count = set.count();
        self.packs.iter().filter(|pack| pack.role == role).find(|pack| {
            let start = objects.pack_start(pack.number);
            pack.objects == count && (start..start + count).all(|position| set.has(canonical(objects, Pos(position))))
        })
    }
}

/// The one position of an object that may lie in several packs.
pub(super) fn canonical(objects: &ObjectStore, position: Pos) -> Pos {
    objects.position(&objects.id(position)).unwrap_or(position)
}

/// Where a loose object lies, if it lies here.
pub(super) fn loose_path(objects_dir: &Path, objects: &ObjectStore, position: Pos) -> PathBuf {
    let id = objects.id(position).to_string();
    objects_dir.join(&id[..2]).join(&id[2..])
}
