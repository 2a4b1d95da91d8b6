//! Whole projects, and what a note says of them.

use git_auxin::logic::{Layout, ProjectRecord, Status, fit};
use proptest::prelude::*;

use crate::logic_files::*;
use crate::project_data_files::*;
use crate::samples;
use crate::tree::*;

const SAVED: &str = "Logic Pro 11.2.2 (6387)";

fn hook() -> Tree {
    let mut tree = Tree::default();
    let mut facts = list(
        124.0,
        ("A", "minor"),
        &[
            "Audio Files/Gitarre e\u{301}.aif",
            "Audio Files/gone.wav",
            "/Users/secretive/kick.wav",
            "Audio Files/old.wav",
        ],
        &["Audio Files/spare.wav", "Audio Files/old.wav"],
    );
    facts.push((
        "ImpulsResponsesFiles",
        texts(&["Impulse Responses/a.SDIR", "/Library/b.SDIR"]),
    ));
    facts.push(("SamplerInstrumentsFiles", texts(&["Sampler/Sampler Files"])));
    let records = [
        tempos(&[(0, 124.0), (7680, 62.0)]),
        meters(&[(0, 4, 2)]),
        markers(&[(0, "Intro"), (3840, "Verse")]),
        region(0, "a", 48_000),
        region(4, "b", 96_000),
        placements(&[(1, 0, 4), (2, 9600, 0)]),
        channel(&["Compressor"]),
    ];
    tree.project("Songs/Hook.logicx", &facts, &records, SAVED);
    let media = "Songs/Hook.logicx/Media";
    tree.sound(
        &format!("{media}/Audio Files/Gitarre \u{e9}.aif"),
        "1",
        "s1",
        1.5,
        48_000.0,
    );
    tree.sound(&format!("{media}/Audio Files/old.wav"), "2", "s2", 2.25, 44_100.0);
    tree.sound(&format!("{media}/Audio Files/spare.wav"), "3", "s3", 9.0, 44_100.0);
    tree.put(&format!("{media}/Sampler/Sampler Files/x.exs"), vec![1]);
    tree.put("Songs/Hook.logicx/Alternatives/000/WindowImage.jpg", vec![0; 77]);
    tree
}

fn only(tree: &mut Tree) -> ProjectRecord {
    let projects = tree.projects();
    assert_eq!(projects.len(), 1);
    projects[0].record()
}

#[test]
fn a_note_says_of_a_project_what_its_files_say_and_comes_back_from_json() {
    let record = only(&mut hook());
    let json = serde_json::to_value(&record).expect("JSON");
    let expected = serde_json::json!({
        "path": "Songs/Hook.logicx", "kind": "logic", "layout": "package", "status": "ok",
        "saved_with": SAVED, "app": "Logic Pro", "app_version": "11.2.2", "app_build": "6387",
        "active_alternative": 0,
        "alternatives": [{
            "index": 0, "name": "Hook", "metadata_version": 3, "project_data_version": 0x09cf,
            "bpm": 124.0, "bpm_default": false, "tempo_changes": 1, "bpm_min": 62.0, "bpm_max": 124.0,
            "key": {"tonic": "A", "mode": "minor", "default": false},
            "time_signature": [4, 4], "meter_changes": 0, "sample_rate": 48_000, "tracks": 24,
            "regions": 2, "markers": ["Intro", "Verse"],
            // 8 quarters at 124 and 2 at 62, then one second of 48,000 frames.
            "length_seconds": 6.806,
            "audio": {"used": 4, "unused": 1, "bytes": 2000, "seconds": 3.75, "missing": 1, "outside": 1},
            "external": {"sampler": 1, "quicksampler": 0, "ultrabeat": 0, "alchemy": 0, "impulse": 2, "playback": 0, "video": 0},
            "plugins": {"apple": ["Compressor"], "audio_units": ["aumu/DiVa/UHfX"]},
            "project_data": {"bytes": json["alternatives"][0]["project_data"]["bytes"], "status": "ok"},
            "window_image": {"bytes": 77},
        }],
        "warnings": [
            {"code": "audio_missing", "path": "Audio Files/gone.wav"},
            {"code": "audio_outside", "path": "kick.wav"},
            {"code": "media_missing", "path": "Impulse Responses/a.SDIR"},
            {"code": "rate_mismatch", "path": "Audio Files/old.wav"},
        ],
    });
    assert_eq!(json, expected);
    assert!(!json.to_string().contains("secretive"));
    assert_eq!(serde_json::from_value::<ProjectRecord>(json).expect("a record"), record);
    assert!(record.is_final());
    assert_eq!(record.line(), "Hook.logicx: 124 BPM, A minor, 4/4, 48 kHz, 24 tracks");
}

#[test]
fn saved_projects_become_records() {
    let mut tree = Tree::default();
    for (path, name) in [("A.logicx", "F21_multitrack_regions"), ("B.logicx", "F2_tempomap")] {
        for (file, at) in [
            ("MetaData.plist", "Alternatives/000/MetaData.plist"),
            ("ProjectData", "Alternatives/000/ProjectData"),
            ("ProjectInformation.plist", "Resources/ProjectInformation.plist"),
        ] {
            let Some(bytes) = samples::read(name, file) else { return };
            tree.put(&format!("{path}/{at}"), bytes);
        }
    }
    let all: Vec<_> = tree.projects().iter().map(git_auxin::logic::Project::record).collect();
    let [regions, tempo] = [&all[0], &all[1]].map(|record| record.active().expect("an alternative"));
    assert_eq!((all[0].status, all[1].status), (Status::Ok, Status::Ok));
    assert_eq!((regions.regions, regions.tracks), (Some(3), Some(3)));
    // The longest of three regions at bar 1 has 11,150 frames of 44,100 Hz.
    assert_eq!(regions.length_seconds, Some(0.253));
    let audio = regions.audio.expect("told");
    assert_eq!((audio.used, audio.missing), (3, 3), "the samples come without sound");
    assert_eq!(all[0].line(), "A.logicx: 120 BPM, 4/4, 44.1 kHz, 3 tracks");
    assert_eq!(
        (tempo.tempo_changes, tempo.bpm_min, tempo.bpm_max),
        (Some(1), Some(90.0), Some(120.0))
    );
    assert_eq!(all[1].top().key, None, "nobody chose C major");
}

#[test]
fn what_cannot_be_read_is_told_by_the_status_and_the_rest_still_counts() {
    let song = "Songs/Hook.logicx/Alternatives/000/ProjectData";
    let list = "Songs/Hook.logicx/Alternatives/000/MetaData.plist";
    let with = |path: &str, bytes: Option<Vec<u8>>| {
        let mut tree = hook();
        tree.files.insert(path.to_owned(), bytes);
        only(&mut tree)
    };
    let missing = with(song, None);
    assert_eq!(missing.status, Status::LfsMissing);
    assert!(!missing.is_final(), "it may still come");
    let active = missing.active().expect("one");
    assert_eq!(
        (active.bpm, active.markers.as_ref(), active.tempo_changes),
        (Some(124.0), None, None)
    );

    assert_eq!(with(song, Some(b"text".to_vec())).status, Status::Partial);
    assert_eq!(with(song, Some(vec![0; (64 << 20) + 1])).status, Status::TooLarge);
    let mut cut = hook().files[song].clone().expect("there");
    cut.pop();
    let cut = with(song, Some(cut));
    assert_eq!(
        (cut.status, cut.active().expect("one").regions),
        (Status::Partial, None)
    );
    let without = with(list, Some(b"no list".to_vec()));
    assert_eq!((without.status, without.top().bpm), (Status::Partial, Some(124.0)));
    let pointer = with(list, None);
    assert_eq!((pointer.status, pointer.is_final()), (Status::LfsMissing, false));

    let mut tree = hook();
    tree.files.insert(song.to_owned(), Some(b"text".to_vec()));
    tree.files.insert(list.to_owned(), Some(b"text".to_vec()));
    let neither = only(&mut tree);
    assert_eq!(neither.status, Status::NotLogic);
    assert_eq!(neither.line(), "Hook.logicx: cannot be read");
    let mut tree = Tree::default();
    tree.put("X.logicx/a", vec![]);
    assert_eq!(only(&mut tree).status, Status::NotLogic);
}

#[test]
fn a_project_that_is_saved_as_a_folder_has_its_audio_beside_the_bundle() {
    let mut tree = Tree::default();
    let facts = list(90.0, ("C", "major"), &["Audio Files/a.wav"], &[]);
    tree.project("Song/Song.logicx", &facts, &[], SAVED);
    tree.put("Song/.musicapps-project-folder", vec![]);
    tree.sound("Song/Audio Files/a.wav", "1", "s", 1.0, 48_000.0);
    let projects = tree.projects();
    assert_eq!(projects[0].found.content_folder(), "Song");
    let record = projects[0].record();
    assert_eq!(record.layout, Layout::Folder);
    assert_eq!(
        record.active().and_then(|one| one.audio).map(|audio| audio.missing),
        Some(0)
    );
}

#[test]
fn records_are_shortened_to_what_fits() {
    let record = only(&mut hook());
    let full = serde_json::to_vec(&[&record]).expect("JSON").len();
    let mut one = vec![record.clone()];
    assert!(!fit(&mut one, full));
    assert_eq!(one[0], record);
    for max in [full - 1, 900, 700, 400, 2] {
        let mut some = vec![record.clone(); 3];
        assert!(fit(&mut some, max));
        assert!(serde_json::to_vec(&some).expect("JSON").len() <= max);
        assert!(some.iter().all(|record| record.is_cut));
    }
}

proptest! {
    #[test]
    fn damage_anywhere_gives_a_record_without_a_home_folder(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut tree = hook();
        let paths: Vec<String> = tree.files.keys().filter(|path| !path.contains("Media")).cloned().collect();
        for (file, at, byte) in changes {
            let bytes = tree.files.get_mut(&paths[file.index(paths.len())]).expect("there").as_mut().expect("bytes");
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let record = only(&mut tree);
        let json = serde_json::to_string(&record).expect("JSON");
        prop_assert!(!json.contains("/Users/secretive"), "{}", json);
        prop_assert_eq!(serde_json::from_str::<ProjectRecord>(&json).expect("a record"), record);
    }
}
