//! Projects that Logic Pro 11.2.2 saved. They lie beside the repository, not in it.

use std::path::{Path, PathBuf};

use git_auxin::logic::{Information, Limits, MetaData, Reference};

/// The folder of a sample; `None`, and a line about it, where there are none.
pub fn sample(name: &str) -> Option<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples/logic");
    // Working copies may lie one folder deeper.
    let folder = [
        top,
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples/logic"),
    ]
    .into_iter()
    .map(|top| top.join(format!("logic-11.2.2-{name}")))
    .find(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("SKIPPED: there is no sample {name} in ../shared/samples/logic");
    }
    folder
}

pub fn read(name: &str, file: &str) -> Option<Vec<u8>> {
    Some(std::fs::read(sample(name)?.join(file)).expect("a sample can be read"))
}

fn metadata(name: &str) -> Option<MetaData> {
    let bytes = read(name, "MetaData.plist")?;
    Some(MetaData::read(&bytes, &Limits::default()).expect("a list"))
}

#[test]
fn lists_of_saved_projects_say_what_is_known_of_them() {
    let Some(first) = metadata("F0_baseline") else { return };
    assert_eq!(first.bpm, Some(120.0));
    assert_eq!(first.sample_rate_hz, Some(44_100));
    assert_eq!(first.time_signature, Some((4, 4)));
    assert_eq!(first.tracks, Some(1));
    let key = first.key.clone().expect("a key");
    assert_eq!(
        (key.name().as_str(), key.fifths, key.is_default),
        ("C major", Some(0), true)
    );
    assert_eq!(first.surround_format_index, Some(5));
    assert_eq!(first.has_ara, Some(false));
    assert!(first.audio_used.is_empty() && !first.is_cut);

    let faster = metadata("F1_tempo").expect("samples are there");
    assert_eq!(
        faster,
        MetaData {
            bpm: Some(137.5),
            ..first.clone()
        }
    );
    let other_rate = metadata("F16_sr48").expect("samples are there");
    assert_eq!(
        other_rate,
        MetaData {
            sample_rate_hz: Some(48_000),
            ..first
        }
    );
    let three = metadata("F21_multitrack_regions").expect("samples are there");
    let used: Vec<_> = three.audio_used.iter().map(Reference::name).collect();
    assert_eq!(used, ["047.wav", "048.wav", "049.wav"]);
    assert_eq!(three.tracks, Some(3));

    let bytes = read("F1_tempo", "ProjectInformation.plist").expect("samples are there");
    let information = Information::read(&bytes, &Limits::default()).expect("a list");
    let saved = information.saved_with.clone().expect("told");
    assert_eq!(saved.text, "Logic Pro 11.2.2 (6387)");
    assert_eq!(
        (saved.app.as_deref(), saved.version.as_deref()),
        (Some("Logic Pro"), Some("11.2.2"))
    );
    assert_eq!(information.has_project_folder, Some(false));
    assert_eq!(information.bundle_version, Some(2.0));
    assert_eq!(information.alternative_name(0, Some("Song")).as_deref(), Some("Song"));
    assert_eq!(information.alternative_name(1, Some("Song")), None);
}
