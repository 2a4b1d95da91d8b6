//! What changed between two states of a project.

use git_auxin::logic::Project;
use git_auxin::logic::compare::{Change, Comparison, compare, duration, pair};
use proptest::prelude::*;

use crate::logic_files::*;
use crate::project_data_files::*;
use crate::samples;
use crate::tree::*;

const OLD: &str = "Logic Pro 11.1.0 (6300)";
const NEW: &str = "Logic Pro 11.2.2 (6387)";
const PATH: &str = "Songs/Hook.logicx";

fn sound(tree: &mut Tree, name: &str, oid: &str, sound: &str, seconds: f64) {
    tree.sound(
        &format!("{PATH}/Media/Audio Files/{name}"),
        oid,
        sound,
        seconds,
        48_000.0,
    );
}

fn before() -> Tree {
    let mut tree = Tree::default();
    let used = [
        "Audio Files/a.wav",
        "Audio Files/b.wav",
        "Audio Files/c.wav",
        "Audio Files/d.wav",
    ];
    let facts = list(120.0, ("C", "major"), &used, &["Audio Files/e.wav"]);
    let records = [
        tempos(&[(0, 120.0)]),
        meters(&[(0, 4, 2)]),
        markers(&[(0, "Intro"), (3840, "Verse"), (7680, "Old")]),
        region(0, "a", 100),
        region(4, "b", 100),
        lasting_region(8, "c", 100, 3),
        region(12, "d", 77),
        placements(&[(1, 0, 0), (2, 3840, 4), (3, 61_440, 8), (4, 0, 12)]),
        channel(&["Compressor", "Space D"]),
    ];
    tree.project(PATH, &facts, &records, OLD);
    for (name, oid, of, seconds) in [
        ("a.wav", "a1", "sa", 3.0),
        ("b.wav", "b1", "sb", 3.0),
        ("c.wav", "c1", "sc", 18.0),
        ("d.wav", "d1", "sd", 3.0),
        ("e.wav", "e1", "se", 3.0),
    ] {
        sound(&mut tree, name, oid, of, seconds);
    }
    tree
}

/// a re-indexed, b moved to unused, c gone, d renamed, e in use again with another sound; f and g new, g missing.
fn after() -> Tree {
    let mut tree = Tree::default();
    let used = [
        "Audio Files/Lead.wav",
        "Audio Files/f.wav",
        "Audio Files/g.wav",
        "Audio Files/a.wav",
        "Audio Files/e.wav",
        "/Users/secretive/kick.wav",
    ];
    let facts = list(124.0, ("A", "minor"), &used, &["Audio Files/b.wav"]);
    let records = [
        tempos(&[(0, 124.0), (245_760, 118.0)]),
        meters(&[(0, 4, 2), (30_720, 7, 3)]),
        markers(&[(0, "Opening"), (5760, "Verse"), (184_320, "Bridge")]),
        region(0, "a", 150),
        region(4, "b", 100),
        lasting_region(8, "c 2", 100, 3),
        region(16, "f", 55),
        placements(&[(1, 0, 0), (2, 4800, 4), (3, 61_440, 8), (9, 960, 16)]),
        channel(&["Compressor", "Compressor", "ChromaVerb"]),
    ];
    tree.project(PATH, &facts, &records, NEW);
    for (name, oid, of, seconds) in [
        ("a.wav", "a2", "sa", 3.0),
        ("b.wav", "b1", "sb", 3.0),
        ("Lead.wav", "d1", "sd", 3.0),
        ("e.wav", "e2", "se2", 3.0),
        ("f.wav", "f1", "sf", 130.0),
    ] {
        sound(&mut tree, name, oid, of, seconds);
    }
    tree
}

fn one(tree: &mut Tree) -> Project {
    tree.projects().remove(0)
}

fn compared(a: &mut Tree, b: &mut Tree) -> Comparison {
    compare(Some(&one(a)), Some(&one(b))).expect("two projects")
}

#[test]
fn a_comparison_says_in_a_musicians_order_what_changed() {
    let found = compared(&mut before(), &mut after());
    assert_eq!(found.change, Change::Changed);
    let expected = "\
Hook.logicx
  tempo 120 → 124
  key C major (default) → A minor
  meter unchanged 4/4
  saved with Logic Pro 11.1.0 (6300) → Logic Pro 11.2.2 (6387)
  3 audio files added (2 m 10 s, 1 kB), 1 removed (18 s), 1 renamed, 1 moved to unused, 1 in use again
  1 file with another sound: Audio Files/e.wav
  1 file re-indexed by Logic: sound unchanged
  regions: 1 new, 1 removed, 1 renamed, 1 resized
  placements: 1 moved (b on track 2: bar 2 → bar 2 beat 2), 1 new, 1 taken off
  markers: + “Bridge” at bar 54 beat 6, − “Old” at bar 3, “Verse” bar 2 → bar 2 beat 3, “Intro” is now “Opening” at bar 1
  tempo map: + 118 at bar 73
  meter map: + 7/8 at bar 9
  plug-ins named in the project: + ChromaVerb, − Space D, Compressor 1 → 2
  needs now: 1 file outside the project (kick.wav (a home folder)), 1 missing (Audio Files/g.wav)
";
    assert_eq!(found.text(), expected);
    assert_eq!(
        found.line(),
        "BPM 120→124, key→A minor, +3 audio (2m10s), −1, 1 renamed, 1 with another sound, 1 re-indexed, 4 regions, \
         3 placements, 4 markers, 1 tempo change, 1 meter change, 3 plug-ins, 1 missing"
    );
    let json = serde_json::to_value(&found).expect("JSON");
    assert_eq!(json["schema"], "logic-compare/1");
    assert_eq!(json["values"][0]["before"], 120.0);
    assert_eq!(json["values"][0]["source"], "BeatsPerMinute");
    assert_eq!(json["audio"]["added"]["count"], 3);
    assert_eq!(json["song"]["tempo_map"]["items"][0]["at"]["bar"], 73);
    assert!(!json.to_string().contains("secretive"));
}

#[test]
fn what_logic_rewrites_with_every_save_is_no_change() {
    let mut again = before();
    // Other order and spelling of lists, another overview; nothing in the song.
    let used = [
        "Audio Files/d.wav",
        "./Audio Files/c.wav",
        "Audio Files/b.wav",
        "Audio Files/a.wav",
    ];
    let facts = list(120.0, ("C", "major"), &used, &["Audio Files/e.wav"]);
    again.put(
        &format!("{PATH}/Alternatives/000/MetaData.plist"),
        binary(&dict(&facts)),
    );
    sound(&mut again, "a.wav", "a9", "sa", 3.0);
    let found = compared(&mut before(), &mut again);
    assert_eq!(found.change, Change::Same);
    assert_eq!(
        found.text(),
        "Hook.logicx\n  no structural change seen (fader and plug-in moves are not visible in this format)\n  \
         1 file re-indexed by Logic: sound unchanged\n"
    );
    assert!(found.line().starts_with("no structural change seen"));
    assert!(found.line().ends_with(", 1 re-indexed"));
}

#[test]
fn what_cannot_be_compared_is_told() {
    let mut b = before();
    b.files.insert(format!("{PATH}/Alternatives/000/ProjectData"), None);
    b.facts
        .get_mut(&format!("{PATH}/Media/Audio Files/a.wav"))
        .expect("there")
        .sound = None;
    b.facts
        .get_mut(&format!("{PATH}/Media/Audio Files/a.wav"))
        .expect("there")
        .oid = Some("sha256:other".to_owned());
    let found = compared(&mut before(), &mut b);
    assert_eq!(found.song, None);
    assert_eq!(
        found.not_compared,
        [
            "the sound of 1 changed file: it was not read on both sides",
            "regions, markers, tempo map and plug-ins: ProjectData could not be read to its end on both sides",
        ]
    );
    assert!(found.text().contains("  not compared: regions, markers"));
    assert_eq!(found.change, Change::Changed, "bytes of a file changed");
}

#[test]
fn new_gone_and_moved_projects_and_alternatives_are_told() {
    let old = one(&mut before());
    let added = compare(None, Some(&old)).expect("one");
    assert_eq!(added.change, Change::Added);
    assert_eq!(
        added.line(),
        "new project, BPM 120, key→C major (default), meter→4/4, 24 tracks, rate→48000"
    );
    let removed = compare(Some(&old), None).expect("one");
    assert_eq!(removed.text(), "Hook.logicx\n  the project is gone\n");
    assert!(compare(None, None).is_none());

    let mut moved = Tree::default();
    for (path, bytes) in before().files {
        moved.files.insert(path.replace("Songs/Hook", "Final/Hit"), bytes);
    }
    for (path, facts) in before().facts {
        moved.facts.insert(path.replace("Songs/Hook", "Final/Hit"), facts);
    }
    let list = format!("{PATH}/Alternatives/001/MetaData.plist");
    moved.put(&list.replace("Songs/Hook", "Final/Hit"), binary(&dict(&[])));
    moved.project("Other.logicx", &[], &[], NEW);
    let (a, b) = (vec![old], moved.projects());
    let pairs = pair(&a, &b);
    assert_eq!(pairs, [(Some(0), Some(0)), (None, Some(1))]);
    let found = compare(Some(&a[0]), Some(&b[0])).expect("two");
    assert_eq!(found.path_before.as_deref(), Some(PATH));
    assert!(found.text().starts_with("Hit.logicx\n  was Songs/Hook.logicx before\n"));
    assert!(found.text().contains("  alternative 001: is new\n"));
}

#[test]
fn saved_projects_differ_in_what_was_done_to_them() {
    let project = |name: &str| {
        let mut tree = Tree::default();
        tree.put(
            "S.logicx/Alternatives/000/ProjectData",
            samples::read(name, "ProjectData")?,
        );
        tree.put(
            "S.logicx/Alternatives/000/MetaData.plist",
            samples::read(name, "MetaData.plist")?,
        );
        Some(one(&mut tree))
    };
    let Some(first) = project("F0_baseline") else { return };
    let to = |name: &str| {
        let other = project(name).expect("samples are there");
        compare(Some(&first), Some(&other)).expect("two").text()
    };
    assert!(to("F0_baseline").contains("no structural change seen"));
    assert!(to("F1_tempo").contains("  tempo 120 → 137.5\n"));
    assert!(
        to("F2_tempomap").contains("  tempo map: + 90 at bar 5\n"),
        "{}",
        to("F2_tempomap")
    );
    let meters = to("F10_sigs");
    assert!(
        meters.contains("  meter map: + 5/8 at bar 2, + 9/16 at bar 4, + 11/2 at bar 6\n"),
        "{meters}"
    );
    let marked = to("F11_markers");
    assert!(marked.contains("  markers: + “MARKERONE” at bar 2, "), "{marked}");
    assert!(to("F16_sr48").contains("  sample rate 44100 → 48000 Hz\n"));
    let regions = to("F21_multitrack_regions");
    assert!(regions.contains("  tracks 1 → 3\n"), "{regions}");
    assert!(regions.contains("  regions: 3 new\n"), "{regions}");
    assert!(regions.contains("  placements: 3 new\n"), "{regions}");
}

#[test]
fn lengths_are_told_as_people_say_them() {
    for (seconds, text) in [
        (0.25, "0.2 s"),
        (18.0, "18 s"),
        (59.7, "1 m 0 s"),
        (130.2, "2 m 10 s"),
        (3599.8, "1 h 0 m"),
        (3725.0, "1 h 2 m"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}

/// Regions as number, name and length, and placements of the one with this number.
fn songs() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let regions = prop::collection::vec(("[ab]", 1_u32..4), 0..6);
    let places = prop::collection::vec((1_u8..3, 0_u32..4, any::<prop::sample::Index>()), 0..6);
    let marks = prop::collection::vec((0_u32..3, "[xy]"), 0..4);
    (regions, places, marks).prop_map(|(regions, places, marks)| {
        let len = regions.len().max(1);
        let places: Vec<_> = places
            .iter()
            .map(|(track, bar, region)| (*track, bar * 3840, region.index(len) as u16 * 4))
            .collect();
        let marks: Vec<_> = marks.iter().map(|(bar, name)| (bar * 3840, name.as_str())).collect();
        let mut records = vec![tempos(&[(0, 120.0)]), markers(&marks)];
        records.extend(
            (0..)
                .zip(&regions)
                .map(|(n, (name, frames))| region(n * 4, name, *frames)),
        );
        if !regions.is_empty() {
            records.push(placements(&places));
        }
        records
    })
}

proptest! {
    #[test]
    fn counts_of_regions_and_markers_add_up_and_a_state_equals_itself(a in songs(), b in songs()) {
        let project = |records: &[Vec<u8>]| {
            let mut tree = Tree::default();
            tree.project(PATH, &list(120.0, ("C", "major"), &[], &[]), records, NEW);
            one(&mut tree)
        };
        let (a, b) = (project(&a), project(&b));
        prop_assert_eq!(compare(Some(&a), Some(&a)).expect("two").change, Change::Same);
        let found = compare(Some(&a), Some(&b)).expect("two").song.expect("both are whole");
        let len = |project: &Project, of: fn(&git_auxin::logic::ProjectData) -> usize| {
            of(project.alternatives[0].song().expect("a song")) as i64
        };
        let regions = &found.regions;
        prop_assert_eq!(
            len(&b, |song| song.regions.len()) - len(&a, |song| song.regions.len()),
            regions.added.count as i64 - regions.removed.count as i64
        );
        prop_assert_eq!(
            len(&b, |song| song.placements.len()) - len(&a, |song| song.placements.len()),
            regions.placed as i64 - regions.taken_off as i64
        );
        prop_assert_eq!(
            len(&b, |song| song.markers.len()) - len(&a, |song| song.markers.len()),
            found.markers_added.count as i64 - found.markers_removed.count as i64
        );
    }
}

#[test]
fn regions_that_the_song_does_not_name_clearly_are_counted_by_place() {
    let state = |placed: &[(u8, u32, u16)]| {
        let mut tree = Tree::default();
        let regions = [region(0, "a", 9), region(4, "twin", 9), region(4, "twin", 9)];
        let records = [
            meters(&[(0, 4, 2)]),
            tempos(&[(0, 120.0)]),
            regions.concat(),
            placements(placed),
        ];
        tree.project(PATH, &list(120.0, ("C", "major"), &[], &[]), &records, NEW);
        tree.projects().remove(0)
    };
    let told = |old: &[(u8, u32, u16)], new: &[(u8, u32, u16)]| {
        let told = compare(Some(&state(old)), Some(&state(new))).expect("there are two");
        let song = told.song.expect("it can be read");
        let regions = (song.regions.moved.count, song.regions.placed, song.regions.taken_off);
        (regions, told.not_compared)
    };
    let unclear = ["which regions lie at 2 places: the song does not tell clearly"];
    assert_eq!(
        told(&[(1, 0, 0), (2, 0, 4)], &[(1, 3840, 0), (2, 3840, 4)]),
        ((1, 1, 1), unclear.map(str::to_owned).to_vec())
    );
    // Known before and not any more: nothing is told of it.
    let (regions, not_compared) = told(&[(1, 0, 0)], &[(1, 0, 4)]);
    assert_eq!((regions, not_compared.len()), ((0, 0, 0), 1));
    assert_eq!(told(&[(1, 0, 0)], &[(1, 3840, 0)]), ((1, 0, 0), Vec::new()));
}
