//! "Ready to open?": what another computer needs before a project opens there as it was saved.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Alternative, Place, Project, Reference, Status};

/// Most names of one kind in the text; the JSON has all.
const SHOWN: usize = 20;

/// What a project needs. Of its active alternative, and absent where its files do not tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    /// The path of the bundle; empty if the tree itself is one.
    pub path: String,
    /// Nothing that is known stands in the way: all of it could be read, every file that it names is in it, and all have
    /// its sample rate. Of plug-ins nobody knows whether they are there.
    pub is_ready: bool,
    /// How far it could be read.
    pub status: Status,
    /// The program of the last save, `Logic Pro 11.2.2 (6387)`; an older one may not open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_with: Option<String>,
    /// Its version alone, `11.2.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_version: Option<String>,
    /// The number of the alternative that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternative: Option<u32>,
    /// Sample rate of the project in Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<u32>,
    /// Files that belong to the project and are not there, as it names them.
    pub missing: Vec<String>,
    /// Files outside of the project.
    pub outside: Vec<OutsideFile>,
    /// Used audio files with another sample rate than the project.
    pub rate_mismatches: Vec<RateMismatch>,
    /// Plug-ins of Apple that are named in it, with their number, on whatever track.
    pub plugins: BTreeMap<String, u32>,
    /// Audio units of others, as `aumu/DiVa/UHfX`: type, subtype and maker.
    pub audio_units: Vec<String>,
    /// Plug-ins such as Melodyne are in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_ara: Option<bool>,
    /// What is not known, in sentences.
    pub not_known: Vec<String>,
}

/// A file outside of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutsideFile {
    /// Its own name; empty where that is the name of a home folder.
    pub name: String,
    /// Where it lies.
    pub place: Place,
    /// What uses it: `audio`, `sampler`, `impulse` …
    pub used_by: &'static str,
}

/// An audio file with another sample rate than its project.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateMismatch {
    /// As the project names it.
    pub path: String,
    /// Its rate in Hz.
    pub sample_rate_hz: f64,
}

/// Looks at what a project names, and whether it is there.
pub fn check(project: &Project) -> Readiness {
    let saved = project
        .information()
        .and_then(|information| information.saved_with.as_ref());
    let mut told = Readiness {
        path: project.found.path.clone(),
        is_ready: false,
        status: project.status(),
        saved_with: saved.map(|saved| saved.text.clone()),
        needs_version: saved.and_then(|saved| saved.version.clone()),
        alternative: None,
        sample_rate_hz: None,
        missing: Vec::new(),
        outside: Vec::new(),
        rate_mismatches: Vec::new(),
        plugins: BTreeMap::new(),
        audio_units: Vec::new(),
        has_ara: None,
        not_known: Vec::new(),
    };
    if saved.is_none() {
        told.not_known.push("With which version it was saved.".to_owned());
    }
    match project.active() {
        Some(active) => look(active, &mut told),
        None => told.not_known.push("Anything: there is no song in it.".to_owned()),
    }
    told.is_ready = told.status == Status::Ok
        && told.missing.is_empty()
        && told.outside.is_empty()
        && told.rate_mismatches.is_empty();
    told
}

fn look(active: &Alternative, told: &mut Readiness) {
    told.alternative = Some(active.index);
    told.sample_rate_hz = active.metadata().and_then(|list| list.sample_rate_hz);
    match active.metadata() {
        Some(list) => {
            told.has_ara = list.has_ara;
            let audio = ("audio", &list.audio_used);
            for (used_by, references) in [audio].into_iter().chain(list.external.groups()) {
                for reference in references {
                    if let Reference::Outside { place, name } = reference {
                        told.outside.push(OutsideFile {
                            name: name.clone(),
                            place: *place,
                            used_by,
                        });
                    }
                }
            }
            if list.is_cut {
                let sentence = "Files beyond the first 20,000 of a list.";
                told.not_known.push(sentence.to_owned());
            }
        }
        None => told.not_known.push(
            "Which files it uses, and its sample rate: its MetaData.plist is absent or cannot be read.".to_owned(),
        ),
    }
    let missing = active.audio.iter().filter(|audio| audio.is_used && audio.is_missing());
    let missing = missing.map(|audio| &audio.reference).chain(&active.missing_media);
    told.missing = missing
        .filter_map(|reference| match reference {
            Reference::Inside(path) => Some(path.clone()),
            Reference::Outside { .. } => None,
        })
        .collect();
    told.rate_mismatches = rate_mismatches(active);
    if let Some(song) = active.song() {
        told.plugins = song.plugins.iter().cloned().collect();
        told.audio_units.clone_from(&song.audio_units);
    }
    match active.song_status() {
        Some(Status::Ok) => {}
        Some(Status::Partial) => told
            .not_known
            .push("Whether it names more plug-ins: ProjectData could be read only in part.".to_owned()),
        Some(Status::LfsMissing) => told.not_known.push(
            "Which plug-ins it names: ProjectData is in Git LFS and not here. `git lfs pull` gets it.".to_owned(),
        ),
        Some(Status::TooLarge) => told
            .not_known
            .push("Which plug-ins it names: ProjectData is too large to be read.".to_owned()),
        Some(Status::NotLogic) | None => told
            .not_known
            .push("Which plug-ins it names: ProjectData is absent or damaged.".to_owned()),
    }
}

/// By the files themselves, else by what the song notes of a file with that name, if it has one alone.
fn rate_mismatches(active: &Alternative) -> Vec<RateMismatch> {
    let Some(rate) = active.metadata().and_then(|list| list.sample_rate_hz) else {
        return Vec::new();
    };
    let mut noted: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    for file in active.song().map(|song| song.files.as_slice()).unwrap_or_default() {
        let rate = file.format.map(|format| format.sample_rate_hz);
        noted
            .entry(&file.name)
            .and_modify(|noted| *noted = None)
            .or_insert(rate);
    }
    let own_rate = |audio: &super::Audio| {
        let noted = noted.get(audio.reference.name()).copied().flatten();
        audio.file.as_ref()?.sample_rate_hz.or(noted.map(f64::from))
    };
    let used = active.audio.iter().filter(|audio| audio.is_used);
    used.filter_map(|audio| {
        let Reference::Inside(path) = &audio.reference else {
            return None;
        };
        let sample_rate_hz = own_rate(audio).filter(|&own| own != f64::from(rate))?;
        Some(RateMismatch {
            path: path.clone(),
            sample_rate_hz,
        })
    })
    .collect()
}

/// A rate for people: `44.1 kHz`.
fn khz(rate_hz: f64) -> String {
    format!("{} kHz", rate_hz / 1000.0)
}

fn files(number: usize) -> String {
    match number {
        1 => "1 file".to_owned(),
        number => format!("{number} files"),
    }
}

impl Readiness {
    /// In lines for people.
    pub fn text(&self) -> String {
        let name = match self.path.rsplit('/').next() {
            Some("") | None => "The project",
            Some(name) => name,
        };
        let verdict = match (self.is_ready, self.status) {
            (true, _) => "ready to open",
            (false, Status::NotLogic) => "no project that can be read",
            (false, _) => "not ready to open everywhere",
        };
        let mut lines = vec![format!("{name}: {verdict}")];
        if let Some(saved) = &self.saved_with {
            lines.push(format!("  saved with {saved}; an older version may not open it"));
        }
        let mut list = |title: String, names: Vec<String>| {
            if names.is_empty() {
                return;
            }
            lines.push(format!("  {title}"));
            lines.extend(names.iter().take(SHOWN).map(|name| format!("    {name}")));
            if names.len() > SHOWN {
                lines.push(format!("    and {} more", names.len() - SHOWN));
            }
        };
        list(
            format!("missing in the project: {}", files(self.missing.len())),
            self.missing.clone(),
        );
        let outside = self.outside.iter().map(|file| {
            let name = if file.name.is_empty() { "a folder" } else { &file.name };
            format!("{name} ({}, in {})", file.used_by, file.place)
        });
        list(
            format!(
                "outside of the project, so perhaps not on another computer: {}",
                files(self.outside.len())
            ),
            outside.collect(),
        );
        let rate = self.sample_rate_hz.map(|rate| khz(f64::from(rate))).unwrap_or_default();
        let other = self.rate_mismatches.iter();
        let other = other.map(|file| format!("{} ({})", file.path, khz(file.sample_rate_hz)));
        list(
            format!(
                "another sample rate than the project's {rate}: {}",
                files(self.rate_mismatches.len())
            ),
            other.collect(),
        );
        let plugins = self.plugins.iter().map(|(name, &number)| match number {
            1 => name.clone(),
            number => format!("{name} ×{number}"),
        });
        let plugins: Vec<String> = plugins.collect();
        if !plugins.is_empty() {
            lines.push(format!("  plug-ins of Apple that it names: {}", plugins.join(", ")));
        }
        if !self.audio_units.is_empty() {
            let units = self.audio_units.join(", ");
            lines.push(format!(
                "  plug-ins of others that it names (type/plug-in/maker): {units}"
            ));
        }
        if self.has_ara == Some(true) {
            lines.push("  uses plug-ins with ARA, such as Melodyne".to_owned());
        }
        lines.extend(self.not_known.iter().map(|what| format!("  not known: {what}")));
        lines.join("\n")
    }
}
