//! `ProjectData`, of saved projects and of small ones made here.

use git_auxin::logic::{Limits, ProjectData, Status};
use proptest::prelude::*;

use crate::project_data_files::*;
use crate::samples;

fn read(bytes: &[u8]) -> ProjectData {
    ProjectData::read(bytes, &Limits::default()).expect("a ProjectData")
}

fn sample(name: &str) -> Option<ProjectData> {
    let found = read(&samples::read(name, "ProjectData")?);
    assert_eq!((found.status, found.version), (Status::Ok, 0x09cf));
    Some(found)
}

fn tempo(found: &ProjectData) -> Vec<(i64, f64)> {
    found.tempo.iter().map(|tempo| (tempo.tick, tempo.bpm)).collect()
}

fn meter(found: &ProjectData) -> Vec<(i64, (u32, u32))> {
    found.meter.iter().map(|meter| (meter.tick, meter.signature)).collect()
}

#[test]
fn saved_projects_give_the_tempo_map_the_meter_map_and_the_markers_that_were_put_in() {
    let Some(first) = sample("F0_baseline") else { return };
    assert_eq!(tempo(&first), [(0, 120.0)]);
    assert_eq!(meter(&first), [(0, (4, 4))]);
    assert!(first.markers.is_empty() && first.placements.is_empty() && first.regions.is_empty());

    let sample = |name| sample(name).expect("samples are there");
    assert_eq!(tempo(&sample("F1_tempo")), [(0, 137.5)]);

    let mapped = sample("F2_tempomap");
    assert_eq!(tempo(&mapped), [(0, 120.0), (4 * 3840, 90.0)]);
    assert_eq!(mapped.bar_at(mapped.tempo[1].tick), (5, 0));

    let meters = sample("F10_sigs");
    let bars: Vec<_> = meters
        .meter
        .iter()
        .map(|meter| (meters.bar_at(meter.tick), meter.signature))
        .collect();
    assert_eq!(
        bars,
        [((1, 0), (4, 4)), ((2, 0), (5, 8)), ((4, 0), (9, 16)), ((6, 0), (11, 2))]
    );

    let marked = sample("F11_markers");
    let markers: Vec<_> = marked
        .markers
        .iter()
        .map(|marker| (marked.bar_at(marker.tick).0, marker.name.as_deref().expect("a name")))
        .collect();
    assert_eq!(markers, [(2, "MARKERONE"), (4, "MARKERTWO"), (6, "MARKERTHREE")]);
}

#[test]
fn a_saved_project_gives_its_regions_files_and_placements() {
    let Some(found) = sample("F21_multitrack_regions") else {
        return;
    };
    let regions: Vec<_> = found
        .regions
        .iter()
        .map(|region| (region.name.as_str(), region.frames))
        .collect();
    assert_eq!(regions, [("047", 9546), ("048", 9546), ("049", 11_150)]);
    let files: Vec<_> = found
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.format.expect("a format")))
        .collect();
    assert_eq!(
        files.iter().map(|file| file.0).collect::<Vec<_>>(),
        ["047.wav", "048.wav", "049.wav"]
    );
    let format = files[2].1;
    assert_eq!(
        (format.frames, format.sample_rate_hz, format.channels, format.bits),
        (11_150, 44_100, 2, 24)
    );
    let placed: Vec<_> = found
        .placements
        .iter()
        .map(|placed| {
            let region = found.region(placed.region.expect("a link")).expect("a region");
            (placed.track, found.bar_at(placed.tick), region.name.as_str())
        })
        .collect();
    assert_eq!(placed, [(1, (1, 0), "047"), (2, (1, 0), "048"), (3, (1, 0), "049")]);
    assert_eq!(found.plugins, [("Klopfgeist".to_owned(), 1)]);
    assert!(found.audio_units.is_empty());
}

fn song() -> Vec<Vec<u8>> {
    vec![
        tempos(&[(0, 118.25), (7680, 64.0)]),
        tempos(&[(0, 200.0)]),
        meters(&[(0, 6, 3), (2880, 7, 2)]),
        markers(&[(0, "Intro \\'e9"), (3840, "\\uc0\\u35486 \\{x\\} /Users/secretive/y")]),
        lasting_region(0, "Gesang 歌", 48_000, 1),
        lasting_region(4, "/Users/secretive/a", 9, 2),
        lasting_region(8, "old", 9, 0),
        lasting_region(8, "another with this id", 9, 3),
        audio_file("Gesang é.aif", b"FFIA", 48_000, 48_000),
        audio_file("b.caf", b"ffac", 7, 7),
        placements(&[(2, 3840, 0), (1, 960, 4), (3, 0, 8), (4, 0, 12)]),
        placements_in(8, &[(1, 0, 0)]),
        channel(&["Channel EQ", "Compressor", "Channel EQ"]),
    ]
}

#[test]
fn what_stands_in_a_project_is_told_in_musical_units() {
    let found = read(&project_data(0x09d0, &song()));

    assert_eq!(found.status, Status::Ok);
    assert_eq!(
        tempo(&found),
        [(0, 118.25), (7680, 64.0)],
        "further sets of tempos do not count"
    );
    assert_eq!(meter(&found), [(0, (6, 8)), (2880, (7, 4))]);
    assert_eq!(found.bar_at(2880 + 6720 + 5), (3, 5));
    assert_eq!(found.bar_at(-1), (0, 2879));
    let names: Vec<_> = found.markers.iter().map(|marker| marker.name.as_deref()).collect();
    assert_eq!(names, [Some("Intro é"), Some("語{x} /Users/…/y")]);
    assert_eq!(found.regions[0].name, "Gesang 歌");
    assert_eq!(found.files[0].format.expect("AIFF").frames, 48_000);
    assert_eq!(found.files[1].format, None);
    let placed: Vec<_> = found
        .placements
        .iter()
        .map(|one| (one.track, one.tick, one.region))
        .collect();
    assert_eq!(
        placed,
        [(1, 960, Some(4)), (2, 3840, Some(0)), (3, 0, None), (4, 0, None)],
        "an id of two regions, or of none, says nothing; takes in folders lie on no track"
    );
    let notes: Vec<_> = found.sequences.iter().map(|one| (one.track, one.tick)).collect();
    assert_eq!(notes, [(1, 0)]);
    assert_eq!(found.regions[0].uuid, Some([1; 16]));
    assert_eq!(found.regions[2].uuid, None, "zeros are none");
    assert_eq!(
        found.plugins,
        [("Channel EQ".to_owned(), 2), ("Compressor".to_owned(), 1)]
    );
    assert_eq!(found.audio_units, ["aumu/DiVa/UHfX"]);
}

#[test]
fn a_damaged_file_is_told_as_partial_and_an_unknown_one_gives_nothing() {
    let whole = project_data(0x09cf, &song());
    let cut = read(&whole[..whole.len() - 1]);
    assert_eq!((cut.status, cut.tempo.len()), (Status::Partial, 2));
    let mut long = whole.clone();
    long[24 + 28..24 + 32].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        read(&long),
        ProjectData {
            status: Status::Partial,
            version: 0x09cf,
            ..ProjectData::default()
        }
    );
    let mut unknown = project_data(0x0fff, &song());
    assert_eq!(read(&unknown).tempo.len(), 2, "the walk was clean");
    unknown.push(0);
    assert_eq!(
        read(&unknown),
        ProjectData {
            status: Status::Partial,
            version: 0x0fff,
            ..ProjectData::default()
        }
    );

    // What is not of the form that is known: a tempo of 0, a list without an end, a region of another form.
    let mut slow = tempos(&[(0, 120.0), (960, 0.0)]);
    let read_one = |record: &[u8]| read(&project_data(0x09cf, &[record.to_vec(), tempos(&[(0, 77.0)])]));
    assert_eq!(
        (read_one(&slow).status, tempo(&read_one(&slow))),
        (Status::Partial, vec![(0, 120.0)])
    );
    let end = slow.len() - 16;
    slow[36 + 32 + 16..][..4].copy_from_slice(&1_000_000_u32.to_le_bytes());
    assert_eq!(read_one(&slow).status, Status::Ok);
    slow[end..end + 4].fill(0);
    assert_eq!(read_one(&slow).status, Status::Ok, "so ended old files");
    slow[end] = 0xf0;
    assert_eq!(read_one(&slow).status, Status::Partial, "no last event");
    let mut placed = placements(&[(1, 0, 0)]);
    let end = placed.len() - 16;
    placed[end - 3 * 16 + 7] = 0x8b;
    assert_eq!(read_one(&placed).status, Status::Partial);
    assert_eq!(read_one(&placements(&[(1, 0, 0)])).status, Status::Ok);

    let limits = Limits {
        project_data_bytes: 100,
        ..Limits::default()
    };
    assert_eq!(ProjectData::read(&whole, &limits), Err(Status::TooLarge));
    assert_eq!(
        ProjectData::read(b"version https://git-lfs", &Limits::default()),
        Err(Status::NotLogic)
    );
    assert_eq!(
        ProjectData::read(&whole[..23], &Limits::default()),
        Err(Status::NotLogic)
    );
    let limits = Limits {
        list_entries: 1,
        ..Limits::default()
    };
    let short = ProjectData::read(&whole, &limits).expect("a ProjectData");
    assert_eq!((short.tempo.len(), short.regions.len(), short.is_cut), (1, 1, true));
}

#[test]
fn a_list_that_is_not_of_the_known_form_ends_there_and_is_told_as_partial() {
    for list in [tempos(&[(0, 100.0), (960, 0.5)]), meters(&[(0, 4, 2), (960, 0, 2)])] {
        let found = read(&project_data(0x09cf, &[list]));
        assert_eq!(
            (found.status, found.tempo.len() + found.meter.len()),
            (Status::Partial, 1)
        );
    }
}

#[test]
fn long_texts_and_very_many_plug_ins_are_bounded() {
    let long = "e\\u769 ".repeat(200_000);
    let found = read(&project_data(0x09cf, &[markers(&[(0, &long)])]));
    let name = found.markers[0].name.as_deref().expect("a name");
    assert_eq!(name.chars().count(), 240);
    let names: Vec<_> = (0..3000).map(|n| format!("Plug {n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let found = read(&project_data(0x09cf, &[channel(&names), channel(&names[..5])]));
    assert_eq!((found.plugins.len(), found.is_cut), (1000, true));
    assert_eq!(found.plugins[0], ("Plug 0".to_owned(), 2));
}

proptest! {
    #[test]
    fn any_change_of_a_file_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
        tick in any::<i64>(),
    ) {
        let mut bytes = project_data(0x09cf, &song());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        if let Ok(found) = ProjectData::read(&bytes, &Limits::default()) {
            found.bar_at(tick / 4);
            let told = format!("{found:?}");
            prop_assert!(!told.contains("/Users/secretive"), "{}", told);
            for tempo in &found.tempo {
                prop_assert!((1.0..=1000.0).contains(&tempo.bpm));
            }
        }
    }
}
