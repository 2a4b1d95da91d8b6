//! Files of Logic projects, which come from whoever pushes.

use git_auxin::logic::compare::{Change, compare};
use git_auxin::logic::{
    Information, Limits, MetaData, Project, ProjectData, ProjectRecord, check, find, fit, read_projects,
};

use super::logic_files::{Plist, binary, dict, text, texts, xml};
use super::project_data_files::{
    audio_file, channel, lasting_region, markers, meters, placements, project_data, tempos,
};
use super::targets::Target;
use super::tree::{Tree, list};

/// The name of a home folder, which must never be told; as long as nothing in a name is changed.
const SECRET: &str = "/Users/secretive/";

const PLACE: &str = "Hook.logicx/Alternatives/000";

fn facts() -> Plist {
    let used = ["Audio Files/a.wav", "/Users/secretive/Loops/b.caf"];
    let mut all = list(124.5, ("A", "minor"), &used, &["Audio Files/é.wav"]);
    all.push(("SamplerInstrumentsFiles", texts(&["/Library/Piano.exs"])));
    dict(&all)
}

fn about() -> Plist {
    dict(&[
        ("LastSavedFrom", text("Logic Pro 11.2.2 (6387)")),
        ("VariantNamesV2", dict(&[("0", text("{PROJECT_NAME}"))])),
        ("ExternalRecordPath", Plist::Data(b"book/Users/secretive/".to_vec())),
        ("HasProjectFolder", Plist::Bool(true)),
    ])
}

fn songs() -> Vec<Vec<u8>> {
    let records = [
        tempos(&[(0, 118.25), (7680, 64.0)]),
        meters(&[(0, 6, 3), (2880, 7, 2)]),
        markers(&[(0, "Intro \\'e9"), (3840, "\\uc0\\u35486 /Users/secretive/y")]),
        lasting_region(0, "Lead", 48_000, 1),
        audio_file("a.wav", b"EVAW", 48_000, 44_100),
        placements(&[(1, 960, 0), (2, 3840, 4)]),
        channel(&["Channel EQ", "Compressor"]),
    ];
    vec![project_data(0x09cf, &records), project_data(0x06d6, &records[..2])]
}

/// Property lists, binary and XML.
pub fn property_list() -> Target {
    Target {
        name: "property-list",
        corpus: || {
            let all = [facts(), about(), dict(&[("AudioFiles", Plist::Array(vec![facts()]))])];
            all.iter().flat_map(|one| [binary(one), xml(one)]).collect()
        },
        run: Box::new(|input| {
            let limits = Limits::default();
            if let Ok(list) = MetaData::read(input, &limits) {
                assert!(list.bpm.is_none_or(|bpm| (1.0..=1000.0).contains(&bpm)));
                assert!(list.audio_used.len() <= limits.list_entries);
                assert!(!format!("{list:?}").contains(SECRET));
            }
            if let Ok(about) = Information::read(input, &limits) {
                assert!(about.names().count() <= 2 * limits.alternatives);
                assert!(!format!("{about:?}").contains(SECRET));
            }
        }),
    }
}

/// The song itself.
pub fn song() -> Target {
    Target {
        name: "project-data",
        corpus: songs,
        run: Box::new(|input| {
            let limits = Limits::default();
            let Ok(song) = ProjectData::read(input, &limits) else {
                return;
            };
            assert!(song.tempo.iter().all(|tempo| (1.0..=1000.0).contains(&tempo.bpm)));
            assert!(song.tempo.is_sorted_by_key(|tempo| tempo.tick) && song.meter.is_sorted_by_key(|meter| meter.tick));
            for placed in song.placements.iter().chain(&song.sequences) {
                song.place(placed.tick);
            }
            assert!(!format!("{song:?}").contains(SECRET));
        }),
    }
}

fn projects(song: Vec<u8>, list: Vec<u8>) -> Vec<Project> {
    let mut tree = Tree::default();
    tree.put(&format!("{PLACE}/ProjectData"), song);
    tree.put(&format!("{PLACE}/MetaData.plist"), list);
    tree.put("Hook.logicx/Resources/ProjectInformation.plist", binary(&about()));
    tree.sound("Audio Files/a.wav", "1", "s1", 1.5, 44_100.0);
    read_projects(&mut tree, &Limits::default()).expect("memory can be read")
}

/// A whole project with such a song, or such a list: its record, the comparison with another one, what it needs.
pub fn project() -> Target {
    Target {
        name: "logic-project",
        corpus: || [songs(), vec![binary(&facts())]].concat(),
        run: Box::new(|input| {
            let good = projects(songs().remove(0), binary(&facts()));
            let odd = match ProjectData::read(input, &Limits::default()) {
                Ok(_) => projects(input.to_vec(), binary(&facts())),
                Err(_) => projects(songs().remove(0), input.to_vec()),
            };
            let (good, odd) = (&good[0], &odd[0]);
            let record = odd.record();
            let json = serde_json::to_vec(&record).expect("JSON");
            let again: ProjectRecord = serde_json::from_slice(&json).expect("a record");
            assert_eq!(serde_json::to_vec(&again).expect("JSON"), json, "it comes back");
            assert!(!String::from_utf8_lossy(&json).contains(SECRET));
            let mut cut = vec![record];
            fit(&mut cut, json.len() / 2);
            assert!(cut.is_empty() || serde_json::to_vec(&cut).expect("JSON").len() <= json.len() / 2);
            for (a, b) in [(good, odd), (odd, good)] {
                let told = compare(Some(a), Some(b)).expect("there are two");
                assert!(!told.text().contains(SECRET) && !told.line().is_empty());
            }
            let same = compare(Some(odd), Some(odd)).expect("there are two");
            assert_eq!(same.change, Change::Same, "with itself");
            let needs = check(odd);
            assert!(!needs.text().contains(SECRET));
            serde_json::to_vec(&needs).expect("JSON");
        }),
    }
}

/// Paths of a tree, one a line: what is found lies in it, and nothing within another one.
pub fn paths() -> Target {
    Target {
        name: "project-paths",
        corpus: || {
            vec![
                b"A.logicx/Alternatives/000/ProjectData\nB/.musicapps-project-folder\nB/b.logicx/Alternatives/1/MetaData.plist".to_vec(),
                b"Alternatives/000/ProjectData\nAlternatives/4294967295/MetaData.plist\nx.band/y".to_vec(),
            ]
        },
        run: Box::new(|input| {
            let text = String::from_utf8_lossy(input);
            let limits = Limits::default();
            let found = find(text.lines(), &limits);
            assert!(found.len() <= limits.projects);
            for one in &found {
                assert!(one.alternatives.len() <= limits.alternatives);
                assert!(
                    text.lines().any(|path| path.starts_with(&one.path)),
                    "it is in the tree"
                );
                let inside = format!("{}/", one.path);
                assert!(
                    !found.iter().any(|other| other.path.starts_with(&inside)),
                    "none within another"
                );
            }
        }),
    }
}
