//! What a note says of a project: the entries of `auto.projects` in the schema `logic-note/1` (docs/metadata.md).

use serde::{Deserialize, Serialize};

use super::{Alternative, FileFacts, Key, Kind, Layout, Project, Reference, Status};

/// Most warnings of one project.
const MAX_WARNINGS: usize = 50;
/// Most names of markers of one alternative, and most names of plug-ins.
const MAX_NAMES: usize = 200;

/// A project. Absent values are left out as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// The path of the bundle; empty if the tree itself is one.
    pub path: String,
    /// By its ending.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<Kind>,
    /// How it is saved.
    pub layout: Layout,
    /// The Git tree of [`super::Found::content_folder`], which the reader does not know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tree: Option<String>,
    /// How far its active alternative could be read.
    pub status: Status,
    /// `Logic Pro 11.2.2 (6387)`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub saved_with: Option<String>,
    /// `Logic Pro`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<String>,
    /// `11.2.2`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_version: Option<String>,
    /// `6387`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_build: Option<String>,
    /// Version of the bundle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bundle_version: Option<f64>,
    /// What `ProjectInformation.plist` says of the folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub has_project_folder: Option<bool>,
    /// Bits without a known meaning.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asset_flags: Option<i64>,
    /// The alternative that was open last, else the first one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_alternative: Option<u32>,
    /// By number.
    #[serde(default)]
    pub alternatives: Vec<AlternativeRecord>,
    /// What may stand in the way of whoever opens it, of the active alternative.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<Warning>,
    /// Something was left out because it was too much.
    #[serde(rename = "cut", skip_serializing_if = "std::ops::Not::not", default)]
    pub is_cut: bool,
}

/// An alternative of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlternativeRecord {
    /// Its number.
    pub index: u32,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Version of `MetaData.plist`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metadata_version: Option<i64>,
    /// Version word of `ProjectData`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub project_data_version: Option<u16>,
    /// Tempo at the start in beats per minute, four decimals.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bpm: Option<f64>,
    /// The tempo is 120, with which every project begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bpm_default: Option<bool>,
    /// Changes of tempo after the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tempo_changes: Option<usize>,
    /// Slowest tempo in beats per minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bpm_min: Option<f64>,
    /// Fastest tempo in beats per minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bpm_max: Option<f64>,
    /// Key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<Key>,
    /// First meter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_signature: Option<(u32, u32)>,
    /// Changes of meter after the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub meter_changes: Option<usize>,
    /// Sample rate in Hz.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sample_rate: Option<u32>,
    /// A number without a known table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub frame_rate_index: Option<i64>,
    /// The ruler shows time, not bars.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timecode_based: Option<bool>,
    /// A number without a known table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub surround_format_index: Option<i64>,
    /// A number without a known table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub surround_mode_index: Option<i64>,
    /// Tracks, as `MetaData.plist` counts them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracks: Option<u32>,
    /// Audio regions, placed or not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub regions: Option<usize>,
    /// Names of markers by position; empty where the name is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub markers: Option<Vec<String>>,
    /// From bar 1 to the end of the last audio region on a track, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length_seconds: Option<f64>,
    /// Plug-ins such as Melodyne are in use.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub has_ara: Option<bool>,
    /// Live Loops are in use.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub has_live_loops: Option<bool>,
    /// Audio files; absent without `MetaData.plist`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audio: Option<AudioCounts>,
    /// Files of instruments and effects, and movies; absent without `MetaData.plist`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub external: Option<ExternalCounts>,
    /// Plug-ins that are named in it; absent without a whole `ProjectData`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugins: Option<Plugins>,
    /// The file `ProjectData`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub project_data: Option<FileRecord>,
    /// The picture of its window.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window_image: Option<FileRecord>,
}

/// Audio files of an alternative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AudioCounts {
    /// That regions use.
    pub used: usize,
    /// That were recorded and are not used.
    pub unused: usize,
    /// Length of those in use that are there, in bytes.
    pub bytes: u64,
    /// Length of those in use whose length is known, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<f64>,
    /// In use, of the project, and not there.
    pub missing: usize,
    /// In use and outside of the project.
    pub outside: usize,
}

/// Numbers of other files that an alternative names, in the project and outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalCounts {
    /// Of the Sampler.
    pub sampler: usize,
    /// Of the Quick Sampler.
    pub quicksampler: usize,
    /// Of Ultrabeat.
    pub ultrabeat: usize,
    /// Of Alchemy.
    pub alchemy: usize,
    /// Impulse responses.
    pub impulse: usize,
    /// Of Playback.
    pub playback: usize,
    /// Movies.
    pub video: usize,
}

/// Plug-ins, on whatever track.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugins {
    /// Apple's, by name.
    pub apple: Vec<String>,
    /// Others, as `aumu/DiVa/UHfX`.
    pub audio_units: Vec<String>,
}

/// A file of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name by content: `sha256:…` of a large file, `git:…` of another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oid: Option<String>,
    /// Its length in bytes.
    pub bytes: u64,
    /// How far it could be read, where it is read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<Status>,
}

/// What may stand in the way of whoever opens a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `audio_missing`, `audio_outside`, `media_missing` or `rate_mismatch`.
    pub code: String,
    /// The file: a path in the project, or the name of one outside.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
}

/// The values that stand first: of the active alternative.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Beats per minute.
    pub bpm: Option<f64>,
    /// Hz.
    pub sample_rate: Option<u32>,
    /// `A minor`; none for C major that nobody chose.
    pub key: Option<String>,
    /// `4/4`.
    pub time_signature: Option<String>,
}

impl Project {
    /// What a note says of it.
    pub fn record(&self) -> ProjectRecord {
        let information = self.information();
        let saved = information.and_then(|information| information.saved_with.as_ref());
        let active = self.active();
        let mut warnings = active.map(warnings).unwrap_or_default();
        let mut is_cut = self.found.is_cut || warnings.len() > MAX_WARNINGS;
        warnings.truncate(MAX_WARNINGS);
        for one in &self.alternatives {
            is_cut |= one.metadata().is_some_and(|metadata| metadata.is_cut);
            is_cut |= one.song().is_some_and(|song| {
                let lens = [song.markers.len(), song.plugins.len(), song.audio_units.len()];
                song.is_cut || lens.iter().any(|&len| len > MAX_NAMES)
            });
        }
        ProjectRecord {
            path: self.found.path.clone(),
            kind: self.found.kind,
            layout: self.layout,
            tree: None,
            status: self.status(),
            saved_with: saved.map(|saved| saved.text.clone()),
            app: saved.and_then(|saved| saved.app.clone()),
            app_version: saved.and_then(|saved| saved.version.clone()),
            app_build: saved.and_then(|saved| saved.build.clone()),
            bundle_version: information.and_then(|information| information.bundle_version),
            has_project_folder: information.and_then(|information| information.has_project_folder),
            asset_flags: information.and_then(|information| information.asset_flags),
            active_alternative: active.map(|active| active.index),
            alternatives: self.alternatives.iter().map(alternative).collect(),
            warnings,
            is_cut,
        }
    }
}

fn alternative(one: &Alternative) -> AlternativeRecord {
    let metadata = one.metadata();
    let song = one.whole_song();
    let bpms = || {
        song.into_iter()
            .flat_map(|song| song.tempo.iter().map(|tempo| tempo.bpm))
    };
    let changes = |len: usize| len.saturating_sub(1);
    let file = |facts: &FileFacts, status| FileRecord {
        oid: facts.oid.clone(),
        bytes: facts.bytes,
        status,
    };
    AlternativeRecord {
        index: one.index,
        name: one.name.clone(),
        metadata_version: metadata.and_then(|metadata| metadata.version),
        project_data_version: one.song().map(|song| song.version),
        bpm: one.bpm(),
        bpm_default: one.bpm().map(|bpm| bpm == 120.0),
        tempo_changes: song.map(|song| changes(song.tempo.len())),
        bpm_min: bpms().reduce(f64::min),
        bpm_max: bpms().reduce(f64::max),
        key: metadata.and_then(|metadata| metadata.key.clone()),
        time_signature: one.time_signature(),
        meter_changes: song.map(|song| changes(song.meter.len())),
        sample_rate: one.sample_rate_hz(),
        frame_rate_index: metadata.and_then(|metadata| metadata.frame_rate_index),
        timecode_based: metadata.and_then(|metadata| metadata.is_timecode_based),
        surround_format_index: metadata.and_then(|metadata| metadata.surround_format_index),
        surround_mode_index: metadata.and_then(|metadata| metadata.surround_mode_index),
        tracks: metadata.and_then(|metadata| metadata.tracks),
        regions: song.map(|song| song.regions.len()),
        markers: song.map(|song| {
            let names = song.markers.iter().take(MAX_NAMES);
            names.map(|marker| marker.name.clone().unwrap_or_default()).collect()
        }),
        length_seconds: one.audio_end_seconds().map(milliseconds),
        has_ara: metadata.and_then(|metadata| metadata.has_ara),
        has_live_loops: metadata.and_then(|metadata| metadata.has_live_loops),
        audio: metadata.map(|_| audio_counts(one)),
        external: metadata.map(|metadata| {
            let external = &metadata.external;
            ExternalCounts {
                sampler: external.sampler.len(),
                quicksampler: external.quicksampler.len(),
                ultrabeat: external.ultrabeat.len(),
                alchemy: external.alchemy.len(),
                impulse: external.impulse.len(),
                playback: external.playback.len(),
                video: external.video.len(),
            }
        }),
        plugins: song.map(|song| Plugins {
            apple: song
                .plugins
                .iter()
                .take(MAX_NAMES)
                .map(|(name, _)| name.clone())
                .collect(),
            audio_units: song.audio_units.iter().take(MAX_NAMES).cloned().collect(),
        }),
        project_data: one.song_file.as_ref().map(|facts| file(facts, one.song_status())),
        window_image: one.window_image.as_ref().map(|facts| file(facts, None)),
    }
}

/// Seconds with three decimals.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn audio_counts(one: &Alternative) -> AudioCounts {
    let mut counts = AudioCounts::default();
    for audio in &one.audio {
        if !audio.is_used {
            counts.unused += 1;
            continue;
        }
        counts.used += 1;
        counts.missing += usize::from(audio.is_missing());
        counts.outside += usize::from(audio.is_outside());
        if let Some(file) = &audio.file {
            counts.bytes = counts.bytes.saturating_add(file.bytes);
            if let Some(seconds) = file.seconds {
                *counts.seconds.get_or_insert(0.0) += seconds;
            }
        }
    }
    counts.seconds = counts.seconds.map(milliseconds);
    counts
}

fn warnings(one: &Alternative) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut warn = |code: &str, reference: &Reference| {
        let path = match reference {
            Reference::Inside(path) => path,
            Reference::Outside { name, .. } => name,
        };
        all.push(Warning {
            code: code.to_owned(),
            path: Some(path.clone()).filter(|path| !path.is_empty()),
        });
    };
    let used = || one.audio.iter().filter(|audio| audio.is_used);
    used()
        .filter(|audio| audio.is_missing())
        .for_each(|audio| warn("audio_missing", &audio.reference));
    used()
        .filter(|audio| audio.is_outside())
        .for_each(|audio| warn("audio_outside", &audio.reference));
    one.missing_media
        .iter()
        .for_each(|reference| warn("media_missing", reference));
    if let Some(rate) = one.metadata().and_then(|metadata| metadata.sample_rate_hz) {
        let differs = |audio: &&super::Audio| {
            let of = audio.file.as_ref().and_then(|file| file.sample_rate_hz);
            of.is_some_and(|of| of != f64::from(rate))
        };
        used()
            .filter(differs)
            .for_each(|audio| warn("rate_mismatch", &audio.reference));
    }
    all
}

impl ProjectRecord {
    /// The record of its active alternative.
    pub fn active(&self) -> Option<&AlternativeRecord> {
        self.alternatives
            .iter()
            .find(|one| Some(one.index) == self.active_alternative)
    }

    /// The values that stand first.
    pub fn top(&self) -> Top {
        let Some(active) = self.active() else {
            return Top::default();
        };
        let key = active.key.as_ref().filter(|key| !key.is_default);
        Top {
            bpm: active.bpm,
            sample_rate: active.sample_rate,
            key: key.map(Key::name),
            time_signature: active.time_signature.map(|(upper, lower)| format!("{upper}/{lower}")),
        }
    }

    /// Whether reading it again gives the same: no large file that may still come was missing.
    pub fn is_final(&self) -> bool {
        let song = |one: &AlternativeRecord| one.project_data.as_ref().and_then(|file| file.status);
        self.status != Status::LfsMissing
            && !self.alternatives.iter().any(|one| {
                let is_unread = one.metadata_version.is_none() && one.audio.is_none();
                song(one) == Some(Status::LfsMissing) || is_unread
            })
    }

    /// One line: `Hook.logicx: 124 BPM, A minor, 4/4, 48 kHz, 24 tracks`.
    pub fn line(&self) -> String {
        let name = self.path.rsplit('/').next().filter(|name| !name.is_empty());
        let top = self.top();
        let mut parts = Vec::new();
        parts.extend(top.bpm.map(|bpm| format!("{bpm} BPM")));
        parts.extend(top.key);
        parts.extend(top.time_signature);
        parts.extend(top.sample_rate.map(kilohertz));
        let tracks = self.active().and_then(|active| active.tracks);
        parts.extend(tracks.map(|tracks| format!("{tracks} {}", if tracks == 1 { "track" } else { "tracks" })));
        if parts.is_empty() {
            let why = match self.status {
                Status::LfsMissing => "the large files are not here",
                Status::TooLarge => "too large to be read",
                _ => "cannot be read",
            };
            parts.push(why.to_owned());
        }
        format!("{}: {}", name.unwrap_or("project"), parts.join(", "))
    }
}

/// `44.1 kHz`.
pub(crate) fn kilohertz(rate_hz: u32) -> String {
    format!("{} kHz", f64::from(rate_hz) / 1000.0)
}

/// Shortens records until their JSON has at most `max_bytes` together: warnings first, then names of markers and
/// plug-ins, then alternatives that are not active, then projects from the end. Tells whether something was left out.
pub fn fit(records: &mut Vec<ProjectRecord>, max_bytes: usize) -> bool {
    let len = |records: &[ProjectRecord]| serde_json::to_vec(records).map_or(usize::MAX, |json| json.len());
    if len(records) <= max_bytes {
        return false;
    }
    let steps: [fn(&mut ProjectRecord); 3] = [
        |record| record.warnings.truncate(5),
        |record| {
            for one in &mut record.alternatives {
                (one.markers, one.plugins) = (None, None);
            }
        },
        |record| {
            let active = record.active_alternative;
            record.alternatives.retain(|one| Some(one.index) == active);
        },
    ];
    for step in steps {
        for record in records.iter_mut() {
            step(record);
            record.is_cut = true;
        }
        if len(records) <= max_bytes {
            return true;
        }
    }
    while !records.is_empty() && len(records) > max_bytes {
        records.pop();
    }
    true
}
