//! Puts everything in order: the clone pack, a pack of what only other refs reach, a pack of what
//! nothing reaches, and what helps to find objects in them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix::ObjectId;

use super::bitmaps::{ClonePack, write_bitmap};
use super::deltas::{Which, search_deltas};
use super::order::{Absent, Collector, Ordered};
use super::own::{Own, OwnPack, Role};
use super::pack_writer::{WrittenPack, write_pack};
use super::prune::{Before, Judgement, is_wanted_again, judge};
use super::roots::{Roots, forbids_pruning};
use super::state::State;
use super::survey::{Survey, now_secs};
use super::{
    MaintenanceError, MaintenanceOptions, MaintenanceReport, PruneGuard, check_disk, counted, cruft, grace, indexes,
    remove,
};
use crate::git::durable;
use crate::git::fault;
use crate::git::object_store::{ObjectKind, ObjectStore, Pos};
use crate::git::quarantine::Quarantine;
use crate::git::refs::Head;
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::walk::Bits;
use crate::git::work::Tick;

/// How long pushes may hold pruning off before it is left for the next time.
const PRUNE_PATIENCE: Duration = Duration::from_secs(10);
/// Decoded objects larger than this are refused, as elsewhere.
const MAX_OBJECT_BYTES: usize = 1 << 30;

/// Objects that go into one pack.
struct Group {
    order: Ordered,
    set: Bits,
}

impl Group {
    /// Those of `order` that `keep` holds.
    fn new(objects: &ObjectStore, mut order: Ordered, keep: &Bits) -> Self {
        order.retain(keep);
        let mut set = Bits::new(objects.len());
        order.iter().for_each(|position| {
            set.set(position);
        });
        Self { order, set }
    }
}

/// Everything about one arrangement.
struct Arrangement<'a> {
    repository: &'a Repository,
    options: &'a MaintenanceOptions<'a>,
    snapshot: &'a Snapshot,
    objects: &'a ObjectStore,
    objects_dir: PathBuf,
    own: &'a Own,
    clone: Group,
    other: Group,
    unreachable: Bits,
    judgement: Judgement,
    name_hashes: Vec<u32>,
    /// Nothing that the clone pack needs lies in another repository.
    is_self_contained: bool,
    visible_digest: String,
}

/// Puts everything in order.
///
/// # Errors
/// [`MaintenanceError`]
pub(super) fn arrange(
    repository: &Repository,
    options: &MaintenanceOptions<'_>,
    survey: &Survey,
    report: &mut MaintenanceReport,
    tick: Tick<'_>,
) -> Result<(), MaintenanceError> {
    let git_dir = repository.path();
    let objects_dir = repository.objects_dir();
    let snapshot = repository.reload()?;
    let objects = &*snapshot.objects;
    let own = Own::find(objects, &objects_dir);
    let roots = Roots::of(&snapshot, git_dir, options.keep).map_err(in_place(git_dir))?;
    let mut collector = Collector::new(objects, &snapshot.shallow);
    let clone = collector.collect(&roots.visible, Absent::Fails, tick)?;
    let mut other = collector.collect(&roots.hidden, Absent::Fails, tick)?;
    other.append(collector.collect(&roots.remembered, Absent::Skipped, tick)?);
    let reached = collector.found.clone();

    let mut local = own.objects_of(objects, |_| true);
    own.add_loose(objects, &mut local);
    let kept = own.objects_of(objects, |pack| !pack.is_movable());
    let mut unreachable = own.objects_of(objects, OwnPack::is_movable);
    own.add_loose(objects, &mut unreachable);
    unreachable.remove(&reached);
    unreachable.remove(&kept);
    let forbidden = forbids_pruning(git_dir, &snapshot, options.borrowers);
    let grace = forbidden.is_none().then(|| grace(options.settings));
    let judgement = judge(objects, &own, &unreachable, &mut collector, grace, tick)?;
    let name_hashes = std::mem::take(&mut collector.name_hashes);
    drop(collector);

    let reached_count = clone.len();
    let clone = Group::new(objects, clone, &local);
    let mut movable = local.clone();
    movable.remove(&kept);
    let other = Group::new(objects, other, &movable);
    let arrangement = Arrangement {
        repository,
        options,
        snapshot: &snapshot,
        objects,
        objects_dir,
        own: &own,
        is_self_contained: clone.order.len() == reached_count && snapshot.shallow.is_empty(),
        clone,
        other,
        unreachable,
        judgement,
        name_hashes,
        visible_digest: roots.visible_digest(snapshot.hash()),
    };
    if let Some(why) = forbidden {
        report.left("unreachable", format!("nothing is pruned: {why}"));
    }
    let before = Before {
        objects,
        reached: &reached,
        doomed: &arrangement.judgement.doomed,
        tips: snapshot.all_tips(),
    };
    arrangement.carry_out(survey, &before, report, tick)
}

fn in_place(path: &Path) -> impl FnOnce(io::Error) -> MaintenanceError + use<> {
    let path = path.to_owned();
    move |source| MaintenanceError::Io { path, source }
}

/// Names, without endings, of the packs that an arrangement ends with.
#[derive(Default)]
struct Final {
    clone: Option<String>,
    other: Option<String>,
    unreachable: Option<String>,
}

impl Final {
    fn has(&self, stem: &str) -> bool {
        [&self.clone, &self.other, &self.unreachable]
            .into_iter()
            .any(|name| name.as_deref() == Some(stem))
    }
}

impl Arrangement<'_> {
    fn carry_out(
        &self,
        survey: &Survey,
        before: &Before<'_>,
        report: &mut MaintenanceReport,
        tick: Tick<'_>,
    ) -> Result<(), MaintenanceError> {
        let in_order = self.what_is_in_order();
        let mut staying = self.unreachable.clone();
        staying.remove(&self.judgement.doomed);
        let writes_clone = self.clone.set.count() > 0 && (in_order.clone.is_none() || self.options.with_deltas);
        let writes_other = self.other.set.count() > 0 && in_order.other.is_none();
        let writes_unreachable = staying.count() > 0 && in_order.unreachable.is_none();
        if writes_clone || writes_other || writes_unreachable {
            check_disk(&self.objects_dir, survey.bytes(), self.options.settings)?;
        }
        let quarantine = Quarantine::for_maintenance(&self.objects_dir).map_err(in_place(&self.objects_dir))?;
        let folder = quarantine.pack_folder();
        let mut end = in_order;
        if writes_clone {
            let pack = self.write_clone_pack(&folder, tick)?;
            report.did(
                "packs",
                format!("clone pack of {} objects, {} bytes", pack.objects, pack.bytes),
            );
            if self.is_self_contained {
                let path = pack.file("bitmap");
                let commits = self.write_bitmap_beside(quarantine.folder(), &path, tick)?;
                report.did("bitmap", format!("written, with {}", counted(commits, "commit")));
            } else {
                report.left(
                    "bitmap",
                    "none: objects of other repositories or a shallow history belong to it",
                );
            }
            end.clone = Some(pack.stem());
        } else if let Some(stem) = end.clone.clone() {
            self.renew_bitmap(&stem, &survey.state, report, tick)?;
        }
        if writes_other {
            let pack = self.write_group(&self.other, &folder, tick)?;
            report.did(
                "packs",
                format!("pack of {} objects that only hidden refs reach", pack.objects),
            );
            end.other = Some(pack.stem());
        }
        let mut written = None;
        if writes_unreachable {
            let pack = self.write_unreachable(&staying, &folder, tick)?;
            end.unreachable = Some(pack.stem());
            written = Some(pack);
        }
        sync_all(&folder)?;
        let guard = self.may_prune(before, tick)?;
        let doomed = self.judgement.doomed.count();
        if doomed > 0 && guard.is_none() {
            // Whatever was to go stays, with the time it has.
            if let Some(pack) = written {
                for extension in ["idx", "rev", cruft::EXTENSION, "pack"] {
                    remove::remove(&pack.file(extension))?;
                }
            }
            end.unreachable = Some(self.write_unreachable(&self.unreachable, &folder, tick)?.stem());
            report.left(
                "unreachable",
                format!("{doomed} objects stay until the next time: pushes are under way"),
            );
        } else if doomed > 0 {
            report.did("unreachable", format!("{doomed} objects are pruned"));
            indexes::remove_commit_graph(&self.objects_dir)?;
        }
        let kept = self.unreachable.count() - if guard.is_some() { doomed } else { 0 };
        if kept > 0 {
            report.left(
                "unreachable",
                format!("{kept} objects are kept until their grace time is over"),
            );
        }
        self.replace(quarantine, &end, guard, report)?;
        self.remember(&end, report)
    }

    /// The packs that need not be made because they are there.
    fn what_is_in_order(&self) -> Final {
        let exactly = |set: &Bits, role| {
            let found = (set.count() > 0).then(|| self.own.exactly(self.objects, set, role));
            found.flatten().map(OwnPack::stem)
        };
        let judgement = &self.judgement;
        let may_stay = !judgement.has_new && judgement.doomed.count() == 0;
        Final {
            clone: exactly(&self.clone.set, Role::Plain),
            other: exactly(&self.other.set, Role::Plain),
            unreachable: may_stay
                .then(|| exactly(&self.unreachable, Role::Unreachable))
                .flatten(),
        }
    }

    fn write_clone_pack(&self, folder: &Path, tick: Tick<'_>) -> Result<WrittenPack, MaintenanceError> {
        self.write_group(&self.clone, folder, tick)
    }

    /// Writes a pack of what refs reach, with new deltas where that was asked for, or where the base of a
    /// stored one goes into another pack.
    fn write_group(&self, group: &Group, folder: &Path, tick: Tick<'_>) -> Result<WrittenPack, MaintenanceError> {
        let which = if self.options.with_deltas {
            Which::All
        } else {
            Which::Cut
        };
        let order = &group.order;
        let kinds = [&order.commits, &order.tags, &order.trees, &order.blobs];
        let deltas = search_deltas(
            self.objects,
            &group.set,
            kinds,
            &self.name_hashes,
            which,
            self.options.settings,
            tick,
        )?;
        write_pack(self.objects, &group.set, order.iter(), &deltas, folder, tick)
    }

    /// Writes the bitmap of the only pack in the object folder `folder`, which is the clone pack.
    fn write_bitmap_beside(&self, folder: &Path, path: &Path, tick: Tick<'_>) -> Result<usize, MaintenanceError> {
        let store = ObjectStore::open(folder, self.objects.hash(), &[], None, MAX_OBJECT_BYTES)?;
        let count = store.len() as usize;
        let (mut kinds, mut name_hashes) = (vec![ObjectKind::Blob; count], vec![0; count]);
        let order = &self.clone.order;
        for (positions, kind) in [
            (&order.commits, ObjectKind::Commit),
            (&order.tags, ObjectKind::Tag),
            (&order.trees, ObjectKind::Tree),
            (&order.blobs, ObjectKind::Blob),
        ] {
            for position in positions {
                if let Some(Pos(new)) = store.position(&self.objects.id(*position)) {
                    kinds[new as usize] = kind;
                    name_hashes[new as usize] = self.name_hashes[position.0 as usize];
                }
            }
        }
        let clone = ClonePack {
            store: &store,
            tips: &self.tips_by_importance(),
            kinds: &kinds,
            name_hashes: &name_hashes,
        };
        write_bitmap(&clone, path, tick)
    }

    /// What fetches are told of: the default branch, branches, then the rest.
    fn tips_by_importance(&self) -> Vec<ObjectId> {
        let refs = &self.snapshot.refs;
        let mut tips: Vec<ObjectId> = match refs.head() {
            Head::Symbolic { target, .. } => target.iter().copied().collect(),
            Head::Detached(id) => vec![*id],
        };
        let is_branch = |name: &[u8]| name.starts_with(b"refs/heads/");
        let visible = || refs.all().iter().filter(|known| self.snapshot.is_visible(&known.name));
        tips.extend(
            visible()
                .filter(|known| is_branch(&known.name))
                .map(|known| known.target),
        );
        tips.extend(
            visible()
                .filter(|known| !is_branch(&known.name))
                .map(|known| known.target),
        );
        let mut seen = HashSet::new();
        // A hidden default branch is not in the pack.
        tips.retain(|tip| {
            let is_in = self
                .objects
                .position(tip)
                .is_some_and(|position| self.clone.set.has(position));
            is_in && seen.insert(*tip)
        });
        tips
    }

    /// Writes the bitmap of a clone pack that stays, if refs have moved within it.
    fn renew_bitmap(
        &self,
        stem: &str,
        state: &State,
        report: &mut MaintenanceReport,
        tick: Tick<'_>,
    ) -> Result<(), MaintenanceError> {
        let pack_folder = self.objects_dir.join("pack");
        let target = pack_folder.join(format!("{stem}.bitmap"));
        if !self.is_self_contained || (target.exists() && state.visible_digest == self.visible_digest) {
            report.left("bitmap", "it is up to date");
            return Ok(());
        }
        // A view of this pack alone needs a folder with this pack alone.
        let quarantine = Quarantine::for_maintenance(&self.objects_dir).map_err(in_place(&self.objects_dir))?;
        for extension in ["pack", "idx"] {
            let name = format!("{stem}.{extension}");
            let from = pack_folder.join(&name);
            fs::hard_link(&from, quarantine.pack_folder().join(name)).map_err(in_place(&from))?;
        }
        let new = quarantine.folder().join("bitmap");
        let commits = self.write_bitmap_beside(quarantine.folder(), &new, tick)?;
        File::open(&new)
            .and_then(|file| durable::sync_file(&file))
            .and_then(|()| fs::rename(&new, &target))
            .and_then(|()| durable::sync_folder(&pack_folder))
            .map_err(in_place(&target))?;
        fault::point("maintenance-bitmap-written");
        report.did("bitmap", format!("written, with {}", counted(commits, "commit")));
        Ok(())
    }

    fn write_unreachable(&self, set: &Bits, folder: &Path, tick: Tick<'_>) -> Result<WrittenPack, MaintenanceError> {
        let order = set.range(0, self.objects.len());
        let pack = write_pack(self.objects, set, order, &HashMap::new(), folder, tick)?;
        let mut times: Vec<(ObjectId, u32)> = set
            .range(0, self.objects.len())
            .map(|position| {
                (
                    self.objects.id(position),
                    self.judgement.times.get(&position).copied().unwrap_or(u32::MAX),
                )
            })
            .collect();
        times.sort_unstable();
        let path = pack.file(cruft::EXTENSION);
        cruft::write(&pack, self.objects.hash(), &times).map_err(in_place(&path))?;
        sync_all(folder)?;
        Ok(pack)
    }

    /// Holds pushes off and makes sure that nothing that is to go is wanted again; `None` if nothing is to
    /// go or may go now.
    fn may_prune(&self, before: &Before<'_>, tick: Tick<'_>) -> Result<Option<PruneGuard>, MaintenanceError> {
        if self.judgement.doomed.count() == 0 {
            return Ok(None);
        }
        let Some(guard) = PruneGuard::take(self.repository.path(), PRUNE_PATIENCE, tick)? else {
            return Ok(None);
        };
        // Nothing has moved in that could be told by the guard being off: that is what it is off for.
        if fault::is_on("no-guard") {
            return Ok(Some(guard));
        }
        let now = self.repository.reload()?;
        Ok((!is_wanted_again(&now, before, tick)?).then_some(guard))
    }

    /// Moves the new packs in and removes what lies in them by now.
    fn replace(
        &self,
        quarantine: Quarantine,
        end: &Final,
        guard: Option<PruneGuard>,
        report: &mut MaintenanceReport,
    ) -> Result<(), MaintenanceError> {
        let is_going = |path: &Path| {
            let pack = self.own.packs.iter().find(|pack| pack.path == path);
            pack.is_some_and(|pack| pack.is_movable() && !end.has(&pack.stem()))
        };
        if fault::is_on("remove-first") {
            remove::remove_replaced(&self.objects_dir, self.objects, self.own, |pack| is_going(&pack.path))?;
            fault::point("maintenance-removed-first");
        }
        quarantine.migrate().map_err(in_place(&self.objects_dir))?;
        fault::point("maintenance-packs-moved");
        let is_pruning = guard.is_some();
        let write_index = |report: &mut MaintenanceReport| -> Result<(), MaintenanceError> {
            let now = self.repository.reload()?;
            let packs =
                indexes::write_multi_pack_index(&self.objects_dir, &now.objects, end.clone.as_deref(), is_going)?;
            if packs > 0 {
                report.left("multi-pack-index", format!("over {}", counted(packs, "pack")));
            }
            Ok(())
        };
        if is_pruning {
            // Pushes wait: only what must be done meanwhile. Git needs no such index.
            indexes::remove_multi_pack_index(&self.objects_dir)?;
        } else {
            write_index(report)?;
        }
        let removed = remove::remove_replaced(&self.objects_dir, self.objects, self.own, |pack| is_going(&pack.path))?;
        drop(guard);
        if is_pruning {
            write_index(report)?;
        }
        self.repository.reload()?;
        let loose = self.own.loose.len();
        if removed > 0 || loose > 0 {
            report.did(
                "packs",
                format!(
                    "{} and {} went into them",
                    counted(removed, "pack"),
                    counted(loose, "loose object")
                ),
            );
        } else if !report.steps.iter().any(|step| step.step == "packs") {
            report.left("packs", "they are in order");
        }
        Ok(())
    }

    fn remember(&self, end: &Final, report: &mut MaintenanceReport) -> Result<(), MaintenanceError> {
        let _ = &report;
        let git_dir = self.repository.path();
        let state = State {
            clone_pack: end.clone.clone(),
            other_pack: end.other.clone(),
            visible_digest: self.visible_digest.clone(),
            finished_at_secs: now_secs(),
        };
        state.write(git_dir).map_err(in_place(git_dir))
    }
}

/// Brings everything in a folder to the disk.
fn sync_all(folder: &Path) -> Result<(), MaintenanceError> {
    for entry in fs::read_dir(folder).map_err(in_place(folder))? {
        let path = entry.map_err(in_place(folder))?.path();
        File::open(&path)
            .and_then(|file| durable::sync_file(&file))
            .map_err(in_place(&path))?;
    }
    Ok(())
}
