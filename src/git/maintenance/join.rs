//! Joins small packs and loose objects, so that their number stays small whatever is pushed.
//!
//! As git's geometric repack does: of the packs that are left each is at least twice as large as all
//! smaller ones together, so an object is copied only as often as sizes double.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::own::{Own, OwnPack, Role, canonical};
use super::pack_writer::write_pack;
use super::survey::Survey;
use super::{MaintenanceError, MaintenanceOptions, MaintenanceReport, check_disk, counted, indexes, remove};
use crate::git::fault;
use crate::git::object_store::ObjectStore;
use crate::git::quarantine::Quarantine;
use crate::git::snapshot::Repository;
use crate::git::walk::Bits;
use crate::git::work::Tick;

/// How much larger a pack must be than all smaller ones together to stay as it is.
const FACTOR: u64 = 2;

/// How many of these packs, which are sorted by their number of objects, smallest first, are joined.
fn split(counts: &[u64], loose: u64) -> usize {
    // Down from the largest, as long as each is large beside the next smaller one.
    let mut split = counts.len();
    while split > 0 {
        let smaller = if split == 1 { loose } else { counts[split - 2] };
        if counts[split - 1] < FACTOR.saturating_mul(smaller) {
            break;
        }
        split -= 1;
    }
    // What is joined may have become too large for the next ones to stay.
    let mut sum = loose + counts[..split].iter().sum::<u64>();
    while split < counts.len() && counts[split] < FACTOR.saturating_mul(sum) {
        sum += counts[split];
        split += 1;
    }
    split
}

/// Joins what is to be joined.
///
/// # Errors
/// [`MaintenanceError`]
pub(super) fn join(
    repository: &Repository,
    options: &MaintenanceOptions<'_>,
    survey: &Survey,
    report: &mut MaintenanceReport,
    tick: Tick<'_>,
) -> Result<(), MaintenanceError> {
    let objects_dir = repository.objects_dir();
    let snapshot = repository.reload()?;
    let objects = &*snapshot.objects;
    let own = Own::find(objects, &objects_dir);
    let settled: HashSet<&str> = [survey.state.clone_pack.as_deref(), survey.state.other_pack.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    let mut plain: Vec<&OwnPack> = own
        .packs
        .iter()
        .filter(|pack| pack.role == Role::Plain && !settled.contains(pack.stem().as_str()))
        .collect();
    plain.sort_by_key(|pack| pack.objects);
    let counts: Vec<u64> = plain.iter().map(|pack| u64::from(pack.objects)).collect();
    let joined = &plain[..split(&counts, own.loose.len() as u64)];
    if joined.len() < 2 && own.loose.is_empty() {
        report.left("packs", "the packs are few and of very different sizes");
        return Ok(());
    }
    let numbers: HashSet<usize> = joined.iter().map(|pack| pack.number).collect();
    let bytes: u64 = survey
        .packs
        .iter()
        .filter(|pack| joined.iter().any(|other| other.path == pack.path))
        .map(|pack| pack.bytes)
        .sum();
    check_disk(&objects_dir, bytes + survey.loose_bytes, options.settings)?;
    let set = objects_to_write(objects, &own, &numbers);

    let in_place = |path: &Path| {
        let path = path.to_owned();
        move |source| MaintenanceError::Io { path, source }
    };
    let mut stem = None;
    if set.count() > 0 {
        let quarantine = Quarantine::for_maintenance(&objects_dir).map_err(in_place(&objects_dir))?;
        let order = set.range(0, objects.len());
        let pack = write_pack(objects, &set, order, &HashMap::new(), &quarantine.pack_folder(), tick)?;
        stem = Some(pack.stem());
        quarantine.migrate().map_err(in_place(&objects_dir))?;
        fault::point("maintenance-packs-moved");
    }
    let is_going = |path: &Path| {
        joined.iter().any(|pack| pack.path == path)
            && path.file_stem().and_then(|name| name.to_str()) != stem.as_deref()
    };
    let now = repository.reload()?;
    indexes::write_multi_pack_index(&objects_dir, &now.objects, survey.state.clone_pack.as_deref(), is_going)?;
    remove::remove_replaced(&objects_dir, objects, &own, |pack| is_going(&pack.path))?;
    repository.reload()?;
    report.did(
        "packs",
        format!(
            "{} and {} joined, {} in all",
            counted(joined.len(), "pack"),
            counted(own.loose.len(), "loose object"),
            counted(set.count() as usize, "object")
        ),
    );
    Ok(())
}

/// The objects of these packs and the loose ones, without those that another pack of ours has which
/// stays. Packs of unreachable objects do not count: from them objects are pruned by their age.
fn objects_to_write(objects: &ObjectStore, own: &Own, joined: &HashSet<usize>) -> Bits {
    let stays = own.objects_of(objects, |pack| {
        !joined.contains(&pack.number) && pack.role == Role::Plain
    });
    let mut set = own.objects_of(objects, |pack| joined.contains(&pack.number));
    for position in &own.loose {
        set.set(canonical(objects, *position));
    }
    set.remove(&stays);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_that_double_in_size_stay_as_they_are() {
        assert_eq!(split(&[1, 2, 4, 8], 0), 0);
        assert_eq!(split(&[10, 100, 1000], 3), 0);
    }

    #[test]
    fn small_packs_are_joined_and_large_ones_stay() {
        assert_eq!(split(&[3, 3, 3, 3, 1000], 0), 4);
        assert_eq!(split(&[1, 1, 1, 1, 1, 1, 1, 1], 0), 8);
    }

    #[test]
    fn what_became_too_large_by_joining_takes_the_next_pack_in() {
        // 5 + 5 make 10, so that 15 is no longer twice as large.
        assert_eq!(split(&[5, 5, 15, 1000], 0), 3);
    }

    #[test]
    fn loose_objects_count_as_the_smallest_pack() {
        assert_eq!(split(&[100], 80), 1);
        assert_eq!(split(&[], 80), 0);
        assert_eq!(split(&[1000], 80), 0);
    }
}
