//! Regions, placements, markers, maps and plug-ins of two states.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Listed;
use crate::logic::{ProjectData, Region, TICKS_PER_QUARTER};

/// A place in a song.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct At {
    /// From 1 on; 0 and below before the beginning.
    pub bar: i64,
    /// From 1 on, with fractions: a beat is the lower number of the meter.
    pub beat: f64,
}

impl At {
    fn of(song: &ProjectData, tick: i64) -> Self {
        let (bar, within) = song.bar_at(tick);
        let beat = 1.0 + within as f64 / beat_ticks_at(song, tick) as f64;
        Self {
            bar,
            beat: (beat * 1000.0).round() / 1000.0,
        }
    }
}

/// Length of a beat at a position, in ticks.
fn beat_ticks_at(song: &ProjectData, tick: i64) -> i64 {
    let begun = song.meter.iter().take_while(|meter| meter.tick <= tick).last();
    let lower = begun.or(song.meter.first()).map_or(4, |meter| meter.signature.1);
    (TICKS_PER_QUARTER * 4 / i64::from(lower.max(1))).max(1)
}

/// A region on a track that lies elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    /// The name of the region.
    pub region: String,
    /// The number of the track, before and after.
    pub track: (u8, u8),
    /// Where it lay.
    pub before: At,
    /// Where it lies.
    pub after: At,
}

/// A marker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MarkerChange {
    /// Its name; empty if it is not known.
    pub name: String,
    /// Its name before, if it has another one.
    pub name_before: Option<String>,
    /// Where it stands; of one that is gone, where it stood.
    pub at: At,
    /// Where it stood, if it was moved.
    pub before: Option<At>,
}

/// A change of tempo or meter after the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapChange {
    /// `118` or `7/8` before; `null` if it is new.
    pub before: Option<String>,
    /// After; `null` if it is gone.
    pub after: Option<String>,
    /// Where.
    pub at: At,
}

/// What happened to audio regions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionChanges {
    /// Names of new ones.
    pub added: Listed<String>,
    /// Names of those that are gone.
    pub removed: Listed<String>,
    /// Names of those with another length.
    pub resized: Listed<String>,
    /// Names before and after; a region is known again by its UUID.
    pub renamed: Listed<(String, String)>,
    /// Those that lie elsewhere.
    pub moved: Listed<Move>,
    /// MIDI regions and folders that lie on tracks now and did not before, by track and position.
    pub sequences_added: usize,
    /// MIDI regions and folders that are gone from where they lay.
    pub sequences_removed: usize,
    /// New places of regions on tracks.
    pub placed: usize,
    /// Places on tracks that are empty now.
    pub taken_off: usize,
}

/// What changed in the song itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SongChanges {
    /// Audio regions.
    pub regions: RegionChanges,
    /// New markers.
    pub markers_added: Listed<MarkerChange>,
    /// Markers that are gone.
    pub markers_removed: Listed<MarkerChange>,
    /// Markers with another name or elsewhere.
    pub markers_changed: Listed<MarkerChange>,
    /// Tempo after the start.
    pub tempo_map: Listed<MapChange>,
    /// Meter after the start.
    pub meter_map: Listed<MapChange>,
    /// Plug-ins that are named now and were not before, Apple's and others.
    pub plug_ins_added: Listed<String>,
    /// Plug-ins that are not named any more.
    pub plug_ins_removed: Listed<String>,
    /// Plug-ins of Apple whose number changed, with both numbers.
    pub plug_ins_counted: Listed<(String, u32, u32)>,
}

impl SongChanges {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn changes(a: &ProjectData, b: &ProjectData, not_compared: &mut Vec<String>) -> SongChanges {
    let mut changes = SongChanges::default();
    regions(&mut changes.regions, a, b);
    let unnamed: BTreeSet<(u8, i64)> = unnamed(a).chain(unnamed(b)).collect();
    let (known_a, other_a) = places(a, &unnamed);
    let (known_b, other_b) = places(b, &unnamed);
    placements(&mut changes.regions, (a, known_a), (b, known_b));
    if !unnamed.is_empty() {
        let (more, fewer) = counts(&other_a, &other_b);
        changes.regions.placed += more;
        changes.regions.taken_off += fewer;
        let places = if unnamed.len() == 1 { "place" } else { "places" };
        not_compared.push(format!(
            "which regions lie at {} {places}: the song does not tell clearly",
            unnamed.len()
        ));
    }
    sequences(&mut changes.regions, a, b);
    markers(&mut changes, a, b);
    let tempo = |song: &ProjectData| -> BTreeMap<i64, String> {
        let tempo = song.tempo.iter().filter(|tempo| tempo.tick > 0);
        tempo.map(|tempo| (tempo.tick, tempo.bpm.to_string())).collect()
    };
    let meter = |song: &ProjectData| -> BTreeMap<i64, String> {
        let meter = song.meter.iter().filter(|meter| meter.tick > 0);
        meter
            .map(|meter| (meter.tick, format!("{}/{}", meter.signature.0, meter.signature.1)))
            .collect()
    };
    changes.tempo_map = map((a, tempo(a)), (b, tempo(b)));
    changes.meter_map = map((a, meter(a)), (b, meter(b)));
    plug_ins(&mut changes, a, b);
    changes
}

fn regions(changes: &mut RegionChanges, a: &ProjectData, b: &ProjectData) {
    // Logic keeps the UUID of a region over saves.
    let by_uuid = |song: &'_ ProjectData| -> BTreeMap<[u8; 16], usize> {
        let regions = song.regions.iter().enumerate();
        regions.filter_map(|(at, region)| Some((region.uuid?, at))).collect()
    };
    let (old, new) = (by_uuid(a), by_uuid(b));
    let (mut old_known, mut new_known) = (BTreeSet::new(), BTreeSet::new());
    for (uuid, &at) in &new {
        let Some(&before) = old.get(uuid) else { continue };
        old_known.insert(before);
        new_known.insert(at);
        pair_of(changes, &a.regions[before], &b.regions[at]);
    }
    let rest = |all: &'_ [Region], known: &BTreeSet<usize>| -> Vec<usize> {
        (0..all.len()).filter(|at| !known.contains(at)).collect()
    };
    // Others are the same if name and length are, and resized if the name is, however many there are.
    let mut left: BTreeMap<(&str, u32), Vec<&Region>> = BTreeMap::new();
    for at in rest(&a.regions, &old_known) {
        let region = &a.regions[at];
        left.entry((&region.name, region.frames)).or_default().push(region);
    }
    let mut fresh: Vec<&Region> = Vec::new();
    for at in rest(&b.regions, &new_known) {
        let region = &b.regions[at];
        let same = left.get_mut(&(region.name.as_str(), region.frames));
        if same.and_then(Vec::pop).is_none() {
            fresh.push(region);
        }
    }
    let mut by_name: BTreeMap<&str, Vec<&Region>> = BTreeMap::new();
    for region in left.into_values().flatten() {
        by_name.entry(&region.name).or_default().push(region);
    }
    for region in fresh {
        match by_name.get_mut(region.name.as_str()).and_then(Vec::pop) {
            Some(before) => pair_of(changes, before, region),
            None => changes.added.push(region.name.clone()),
        }
    }
    for region in by_name.into_values().flatten() {
        changes.removed.push(region.name.clone());
    }
}

/// A region before and after.
fn pair_of(changes: &mut RegionChanges, before: &Region, after: &Region) {
    if before.name != after.name {
        changes.renamed.push((before.name.clone(), after.name.clone()));
    }
    if before.frames != after.frames {
        changes.resized.push(after.name.clone());
    }
}

/// Places of MIDI regions and folders.
fn sequences(changes: &mut RegionChanges, a: &ProjectData, b: &ProjectData) {
    let places = |song: &ProjectData| -> Vec<(u8, i64)> {
        let placed = song.sequences.iter();
        placed.map(|placed| (placed.track, placed.tick)).collect()
    };
    let (more, fewer) = counts(&places(a), &places(b));
    changes.sequences_added += more;
    changes.sequences_removed += fewer;
}

/// How many there are more, and how many fewer, at places where the numbers differ.
fn counts(old: &[(u8, i64)], new: &[(u8, i64)]) -> (usize, usize) {
    let mut places: BTreeMap<(u8, i64), i64> = BTreeMap::new();
    new.iter().for_each(|place| *places.entry(*place).or_default() += 1);
    old.iter().for_each(|place| *places.entry(*place).or_default() -= 1);
    let (mut more, mut fewer) = (0, 0);
    for count in places.into_values() {
        let number = usize::try_from(count.abs()).unwrap_or(usize::MAX);
        if count > 0 { more += number } else { fewer += number }
    }
    (more, fewer)
}

/// Places on tracks with a region of which it is not known which one it is.
fn unnamed(song: &ProjectData) -> impl Iterator<Item = (u8, i64)> {
    let unnamed = song.placements.iter().filter(|placed| placed.region.is_none());
    unnamed.map(|placed| (placed.track, placed.tick))
}

/// Track and position.
type Place = (u8, i64);
/// Track, position, and the id of a region.
type Named = (u8, i64, u32);

/// Track, position and id of each region on a track, except for those at `unnamed` places: of these, the place alone.
fn places(song: &ProjectData, unnamed: &BTreeSet<Place>) -> (Vec<Named>, Vec<Place>) {
    let ids: BTreeSet<u32> = song.regions.iter().map(|region| region.id).collect();
    let (mut known, mut other) = (Vec::new(), Vec::new());
    for placed in &song.placements {
        let place = (placed.track, placed.tick);
        match placed.region.filter(|id| ids.contains(id) && !unnamed.contains(&place)) {
            Some(id) => known.push((placed.track, placed.tick, id)),
            None => other.push(place),
        }
    }
    (known, other)
}

type Places<'a> = (&'a ProjectData, Vec<Named>);

fn placements(changes: &mut RegionChanges, (a, old): Places<'_>, (b, new): Places<'_>) {
    let names = |song: &ProjectData| -> BTreeMap<u32, String> {
        let regions = song.regions.iter();
        regions.map(|region| (region.id, region.name.clone())).collect()
    };
    let (old_names, mut new_names) = (names(a), names(b));
    // A region that was only renamed lies where it lay.
    let renamed: BTreeMap<&String, &String> = changes.renamed.items.iter().map(|(old, new)| (new, old)).collect();
    for name in new_names.values_mut() {
        if let Some(&old) = renamed.get(&*name) {
            name.clone_from(old);
        }
    }
    let mut gone: BTreeMap<(&str, u8, i64), usize> = BTreeMap::new();
    for (track, tick, id) in &old {
        *gone.entry((&old_names[id], *track, *tick)).or_default() += 1;
    }
    let mut fresh: Vec<(&str, u8, i64)> = Vec::new();
    for (track, tick, id) in &new {
        let place = (new_names[id].as_str(), *track, *tick);
        match gone.get_mut(&place).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => fresh.push(place),
        }
    }
    // By region and track in the order of time, then by region alone.
    let mut left: BTreeMap<&str, Vec<(u8, i64)>> = BTreeMap::new();
    for ((name, track, tick), count) in gone {
        let list = left.entry(name).or_default();
        list.extend(std::iter::repeat_n((track, tick), count));
    }
    for is_same_track in [true, false] {
        fresh.retain(|&(name, track, tick)| {
            let places = left.entry(name).or_default();
            let at = match is_same_track {
                true => places.iter().position(|&(of, _)| of == track),
                false => (!places.is_empty()).then_some(0),
            };
            let Some(at) = at else { return true };
            let (old_track, old_tick) = places.remove(at);
            changes.moved.add(|| Move {
                region: name.to_owned(),
                track: (old_track, track),
                before: At::of(a, old_tick),
                after: At::of(b, tick),
            });
            false
        });
    }
    changes.placed = fresh.len();
    changes.taken_off = left.values().map(Vec::len).sum();
}

fn markers(changes: &mut SongChanges, a: &ProjectData, b: &ProjectData) {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let mut old: BTreeMap<(i64, String), usize> = BTreeMap::new();
    for marker in &a.markers {
        *old.entry((marker.tick, name(&marker.name))).or_default() += 1;
    }
    let mut new = Vec::new();
    for marker in &b.markers {
        let place = (marker.tick, name(&marker.name));
        match old.get_mut(&place).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => new.push(place),
        }
    }
    // What is left, by name and by position.
    let left: Vec<(i64, String)> = old
        .into_iter()
        .flat_map(|(place, count)| std::iter::repeat_n(place, count))
        .collect();
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut by_tick: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, (tick, name)) in left.iter().enumerate() {
        if !name.is_empty() {
            by_name.entry(name).or_default().push(at);
        }
        by_tick.entry(*tick).or_default().push(at);
    }
    let mut taken = BTreeSet::new();
    let mut take = |list: Option<&Vec<usize>>| {
        let free = list?.iter().copied().find(|at| !taken.contains(at))?;
        taken.insert(free);
        Some(free)
    };
    new.retain(|(tick, name)| {
        let moved = take(by_name.get(name.as_str()));
        if let Some(at) = moved {
            changes.markers_changed.add(|| MarkerChange {
                name: name.clone(),
                name_before: None,
                at: At::of(b, *tick),
                before: Some(At::of(a, left[at].0)),
            });
        }
        moved.is_none()
    });
    for (tick, name) in new {
        match take(by_tick.get(&tick)) {
            Some(renamed) => changes.markers_changed.add(|| MarkerChange {
                name,
                name_before: Some(left[renamed].1.clone()),
                at: At::of(b, tick),
                before: None,
            }),
            None => changes.markers_added.add(|| MarkerChange {
                name,
                name_before: None,
                at: At::of(b, tick),
                before: None,
            }),
        }
    }
    for (at, (tick, name)) in left.iter().enumerate() {
        if !taken.contains(&at) {
            changes.markers_removed.add(|| MarkerChange {
                name: name.clone(),
                name_before: None,
                at: At::of(a, *tick),
                before: None,
            });
        }
    }
}

type Map<'a> = (&'a ProjectData, BTreeMap<i64, String>);

fn map((a, old): Map<'_>, (b, new): Map<'_>) -> Listed<MapChange> {
    let ticks: BTreeSet<i64> = old.keys().chain(new.keys()).copied().collect();
    let differs = ticks.into_iter().filter(|tick| old.get(tick) != new.get(tick));
    let mut changes = Listed::default();
    for tick in differs {
        let (before, after) = (old.get(&tick).cloned(), new.get(&tick).cloned());
        let song = if after.is_some() { b } else { a };
        changes.add(|| MapChange {
            before,
            after,
            at: At::of(song, tick),
        });
    }
    changes
}

fn plug_ins(changes: &mut SongChanges, a: &ProjectData, b: &ProjectData) {
    let counts = |song: &ProjectData| -> BTreeMap<String, u32> {
        let others = song.audio_units.iter().map(|unit| (unit.clone(), 1));
        song.plugins.iter().cloned().chain(others).collect()
    };
    let (old, new) = (counts(a), counts(b));
    for (name, &count) in &new {
        match old.get(name) {
            None => changes.plug_ins_added.push(name.clone()),
            Some(&before) if before != count => changes.plug_ins_counted.push((name.clone(), before, count)),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    gone.for_each(|name| changes.plug_ins_removed.push(name.clone()));
}
