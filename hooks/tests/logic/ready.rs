//! "Ready to open?"

use git_auxin::logic::{Project, Status, check};
use serde_json::json;

use crate::logic_files::*;
use crate::project_data_files::*;
use crate::tree::*;

const SAVED: &str = "Logic Pro 11.2.2 (6387)";

fn only(tree: &mut Tree) -> Project {
    tree.projects().remove(0)
}

/// A project that needs everything.
fn demanding() -> Tree {
    let mut tree = Tree::default();
    let used = [
        "Audio Files/a.wav",
        "Audio Files/b.wav",
        "Audio Files/c.wav",
        "Audio Files/gone.wav",
        "/Users/secretive/kick.wav",
    ];
    let mut facts = list(120.0, ("C", "major"), &used, &["Audio Files/also gone.wav"]);
    facts.push(("SamplerInstrumentsFiles", texts(&["/Library/Sampler/Piano.exs"])));
    facts.push(("ImpulsResponsesFiles", texts(&["Impulse Responses/hall.SDIR"])));
    facts.push(("HasARAPlugins", Plist::Bool(true)));
    let records = [
        audio_file("b.wav", b"EVAW", 10, 44_100),
        audio_file("c.wav", b"EVAW", 10, 44_100),
        audio_file("c.wav", b"EVAW", 10, 48_000),
        channel(&["Channel EQ", "Compressor", "Channel EQ"]),
    ];
    tree.project("Songs/Hook.logicx", &facts, &records, SAVED);
    let audio = "Songs/Hook.logicx/Media/Audio Files";
    tree.sound(&format!("{audio}/a.wav"), "1", "s1", 1.0, 96_000.0);
    tree.put(&format!("{audio}/b.wav"), vec![0; 4]);
    tree.put(&format!("{audio}/c.wav"), vec![0; 4]);
    tree
}

#[test]
fn everything_that_another_computer_needs_is_told() {
    let told = check(&only(&mut demanding()));

    let json = serde_json::to_value(&told).expect("JSON");
    assert_eq!(
        json,
        json!({
            "path": "Songs/Hook.logicx", "is_ready": false, "status": "ok",
            "saved_with": SAVED, "needs_version": "11.2.2", "alternative": 0, "sample_rate_hz": 48_000,
            "missing": ["Audio Files/gone.wav", "Impulse Responses/hall.SDIR"],
            "outside": [
                {"name": "kick.wav", "place": "home", "used_by": "audio"},
                {"name": "Piano.exs", "place": "library", "used_by": "sampler"},
            ],
            // Of two files with one name nobody knows which one has which rate.
            "rate_mismatches": [
                {"path": "Audio Files/a.wav", "sample_rate_hz": 96_000.0},
                {"path": "Audio Files/b.wav", "sample_rate_hz": 44_100.0},
            ],
            "plugins": {"Channel EQ": 2, "Compressor": 1}, "audio_units": ["aumu/DiVa/UHfX"], "has_ara": true,
            "not_known": [],
        })
    );
    let text = told.text();
    for line in [
        "Hook.logicx: not ready to open everywhere",
        "  saved with Logic Pro 11.2.2 (6387); an older version may not open it",
        "  missing in the project: 2 files",
        "    Audio Files/gone.wav",
        "  outside of the project, so perhaps not on another computer: 2 files",
        "    kick.wav (audio, in a home folder)",
        "    Piano.exs (sampler, in /Library)",
        "  another sample rate than the project's 48 kHz: 2 files",
        "    Audio Files/b.wav (44.1 kHz)",
        "  plug-ins of Apple that it names: Channel EQ ×2, Compressor",
        "  plug-ins of others that it names (type/plug-in/maker): aumu/DiVa/UHfX",
        "  uses plug-ins with ARA, such as Melodyne",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(!text.contains("secretive"));
}

#[test]
fn a_project_with_all_its_files_is_ready_and_one_that_cannot_be_read_is_not() {
    let mut tree = Tree::default();
    let facts = list(120.0, ("C", "major"), &["Audio Files/a.wav"], &["Audio Files/gone.wav"]);
    tree.project("a.logicx", &facts, &[channel(&[])], SAVED);
    tree.sound("a.logicx/Media/Audio Files/a.wav", "1", "s1", 1.0, 48_000.0);
    let told = check(&only(&mut tree));
    assert!(told.is_ready, "{told:?}");
    assert!(told.text().starts_with("a.logicx: ready to open\n"));

    let song = "a.logicx/Alternatives/000/ProjectData".to_owned();
    tree.files.insert(song.clone(), None);
    let told = check(&only(&mut tree));
    assert_eq!((told.is_ready, told.status), (false, Status::LfsMissing));
    assert!(told.text().contains("`git lfs pull` gets it"));
    tree.put(&song, b"rubbish".to_vec());
    assert!(!check(&only(&mut tree)).is_ready);

    let mut empty = Tree::default();
    empty.put("b.logicx/x", Vec::new());
    let told = check(&only(&mut empty));
    assert_eq!((told.is_ready, told.status), (false, Status::NotLogic));
    assert!(told.text().starts_with("b.logicx: no project that can be read"));
}
