//! A whole project: its lists, its song and its audio files, of all alternatives.

use std::collections::BTreeMap;

use super::find::joined;
use super::{
    Content, FileFacts, Found, Information, Layout, Limits, MetaData, ProjectData, Reference, Source, Status, composed,
    find,
};

/// The files of a tree, by whatever spelling of their paths.
#[derive(Clone, Debug, Default)]
pub struct TreePaths {
    /// By path in NFC, the path as the tree spells it.
    spelled: BTreeMap<String, String>,
}

impl TreePaths {
    /// Of all paths of a tree.
    pub fn new(paths: Vec<String>) -> Self {
        Self {
            spelled: paths.into_iter().map(|path| (composed(&path), path)).collect(),
        }
    }

    /// A file as the tree spells it; `path` is in NFC.
    pub fn file(&self, path: &str) -> Option<&str> {
        self.spelled.get(path).map(String::as_str)
    }

    /// Whether there is a file at the path, or a folder with files; `path` is in NFC.
    pub fn has(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let next = self.spelled.range(below.clone()..).next();
        self.spelled.contains_key(path) || next.is_some_and(|(next, _)| next.starts_with(&below))
    }
}

/// A project with all that is told of it.
#[derive(Clone, Debug)]
pub struct Project {
    /// Where it lies.
    pub found: Found,
    /// How it is saved, as it says itself.
    pub layout: Layout,
    /// What it says of the whole bundle, or why that cannot be read; `None` if there is no such file.
    pub information: Option<Result<Information, Status>>,
    /// Its alternatives, by number.
    pub alternatives: Vec<Alternative>,
}

/// An alternative of a project.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Option<String>,
    /// `MetaData.plist`, or why it cannot be read; `None` if there is no such file.
    pub metadata: Option<Result<MetaData, Status>>,
    /// `ProjectData`, or why it cannot be read; `None` if there is no such file.
    pub song: Option<Result<ProjectData, Status>>,
    /// The file `ProjectData`.
    pub song_file: Option<FileFacts>,
    /// The picture of its window.
    pub window_image: Option<FileFacts>,
    /// Its audio files, by reference.
    pub audio: Vec<Audio>,
    /// Other files of the project that it names and that are not there, by reference.
    pub missing_media: Vec<Reference>,
}

/// An audio file that an alternative names.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// As it names it.
    pub reference: Reference,
    /// Regions use it.
    pub is_used: bool,
    /// What it is; `None` if it is not there, or lies outside of the project.
    pub file: Option<FileFacts>,
}

impl Audio {
    /// It belongs to the project, and is not there.
    pub fn is_missing(&self) -> bool {
        self.file.is_none() && !self.is_outside()
    }

    /// It lies outside of the project.
    pub fn is_outside(&self) -> bool {
        matches!(self.reference, Reference::Outside { .. })
    }
}

impl Alternative {
    /// Its `MetaData.plist`, if it could be read.
    pub fn metadata(&self) -> Option<&MetaData> {
        self.metadata.as_ref()?.as_ref().ok()
    }

    /// Its `ProjectData`, if it could be read.
    pub fn song(&self) -> Option<&ProjectData> {
        self.song.as_ref()?.as_ref().ok()
    }

    /// Its `ProjectData`, if it could be read to the end: then its lists are whole.
    pub fn whole_song(&self) -> Option<&ProjectData> {
        self.song().filter(|song| song.status == Status::Ok && !song.is_cut)
    }

    /// How far `ProjectData` could be read; `None` if there is no such file.
    pub fn song_status(&self) -> Option<Status> {
        Some(match self.song.as_ref()? {
            Ok(song) => song.status,
            Err(status) => *status,
        })
    }

    /// Tempo at the start in beats per minute.
    pub fn bpm(&self) -> Option<f64> {
        let first = || self.song()?.tempo.first().map(|tempo| tempo.bpm);
        self.metadata().and_then(|metadata| metadata.bpm).or_else(first)
    }

    /// First meter.
    pub fn time_signature(&self) -> Option<(u32, u32)> {
        let first = || self.song()?.meter.first().map(|meter| meter.signature);
        self.metadata()
            .and_then(|metadata| metadata.time_signature)
            .or_else(first)
    }

    /// Sample rate in Hz: that of the project, else the one that most of its audio files have.
    pub fn sample_rate_hz(&self) -> Option<u32> {
        self.metadata()
            .and_then(|metadata| metadata.sample_rate_hz)
            .or_else(|| {
                let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
                for rate in self
                    .audio
                    .iter()
                    .filter_map(|audio| audio.file.as_ref()?.sample_rate_hz)
                {
                    if rate.fract() == 0.0 && (1.0..=1e7).contains(&rate) {
                        *counts.entry(rate as u32).or_default() += 1;
                    }
                }
                counts.into_iter().max_by_key(|&(_, count)| count).map(|(rate, _)| rate)
            })
    }

    /// Where the last audio region on a track ends, in seconds from bar 1; `None` where that is not known of each region.
    pub fn audio_end_seconds(&self) -> Option<f64> {
        let song = self.whole_song()?;
        let rate = self.sample_rate_hz()?;
        let is_known = |rate_of: Option<u32>| rate_of.is_none_or(|of| of == rate);
        if !song
            .files
            .iter()
            .all(|file| is_known(file.format.map(|format| format.sample_rate_hz)))
        {
            return None;
        }
        let frames: BTreeMap<u32, u32> = song.regions.iter().map(|region| (region.id, region.frames)).collect();
        let clock = song.clock()?;
        let mut end = None;
        for placement in &song.placements {
            let frames = frames.get(&placement.region?)?;
            let at = clock.seconds_at(placement.tick) + f64::from(*frames) / f64::from(rate);
            end = Some(end.map_or(at, |end: f64| end.max(at)));
        }
        end
    }

    /// How far it could be read as a whole.
    fn status(&self) -> Status {
        let metadata = self.metadata.as_ref().map(|read| match read {
            Ok(_) => Status::Ok,
            Err(status) => *status,
        });
        let parts: Vec<Status> = [metadata, self.song_status()].into_iter().flatten().collect();
        worst(&parts)
    }
}

/// The worst of several parts; one that is not Logic's makes the whole partial if another one is.
fn worst(parts: &[Status]) -> Status {
    let is_logic = parts
        .iter()
        .any(|status| matches!(status, Status::Ok | Status::Partial));
    let told = |&status: &Status| match status {
        Status::NotLogic if is_logic => Status::Partial,
        status => status,
    };
    parts.iter().map(told).max().unwrap_or(Status::NotLogic)
}

impl Project {
    /// What it says of the bundle, if that could be read.
    pub fn information(&self) -> Option<&Information> {
        self.information.as_ref()?.as_ref().ok()
    }

    /// The alternative that was open last: the one that it names, else its first one.
    pub fn active(&self) -> Option<&Alternative> {
        let named = self
            .information()
            .and_then(|information| information.active_alternative);
        let at = |index: u32| self.alternatives.iter().find(|one| one.index == index);
        named.and_then(at).or_else(|| self.alternatives.first())
    }

    /// How far it could be read, by its active alternative.
    pub fn status(&self) -> Status {
        let Some(active) = self.active() else {
            return Status::NotLogic;
        };
        match self.information {
            Some(Err(Status::NotLogic)) if active.status() == Status::Ok => Status::Partial,
            Some(Err(status)) if status != Status::NotLogic => active.status().max(status),
            _ => active.status(),
        }
    }

    /// Its name as people see it: of the bundle, else `project`.
    pub fn title(&self) -> &str {
        let path = self.found.path.as_str();
        match path.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => "project",
        }
    }
}

/// Reads a file and what it says.
fn parsed<S: Source, T>(
    source: &mut S,
    path: Option<&str>,
    max_bytes: u64,
    parse: impl FnOnce(&[u8]) -> Result<T, Status>,
) -> Result<Option<Result<T, Status>>, S::Error> {
    let content = match path {
        Some(path) => source.read(path, max_bytes)?,
        None => Content::Absent,
    };
    Ok(content.into_bytes().map(|bytes| bytes.and_then(|bytes| parse(&bytes))))
}

/// Reads a project. `paths` are those of the tree.
///
/// # Errors
/// Those of the source. What is wrong with a file of the project stands in it.
pub fn read_project<S: Source>(
    source: &mut S,
    paths: &TreePaths,
    found: &Found,
    limits: &Limits,
) -> Result<Project, S::Error> {
    let at = |path: Option<String>| path.and_then(|path| paths.file(&composed(&path)));
    let path = at(Some(found.file("Resources/ProjectInformation.plist")));
    let information = parsed(source, path, limits.plist_bytes, |bytes| {
        Information::read(bytes, limits)
    })?;
    let told = information.as_ref().and_then(|read| read.as_ref().ok());
    let layout = match told.and_then(|told| told.has_project_folder) {
        Some(true) => Layout::Folder,
        _ => found.layout,
    };
    let media = composed(&found.media_folder(layout));

    let mut alternatives = Vec::new();
    for &index in &found.alternatives {
        let file = |name: &str| at(found.alternative_file(index, name));
        let metadata = parsed(source, file("MetaData.plist"), limits.plist_bytes, |bytes| {
            MetaData::read(bytes, limits)
        })?;
        let song_path = file("ProjectData");
        let song = parsed(source, song_path, limits.project_data_bytes, |bytes| {
            ProjectData::read(bytes, limits)
        })?;
        let mut facts = |path: Option<&str>| match path {
            Some(path) => source.facts(path),
            None => Ok(None),
        };
        let (song_file, window_image) = (facts(song_path)?, facts(file("WindowImage.jpg"))?);
        let (mut audio, mut missing_media) = (Vec::new(), Vec::new());
        if let Some(Ok(metadata)) = &metadata {
            for (references, is_used) in [(&metadata.audio_used, true), (&metadata.audio_unused, false)] {
                for reference in references {
                    let path = match reference {
                        Reference::Inside(path) => paths.file(&joined(&media, path)),
                        Reference::Outside { .. } => None,
                    };
                    audio.push(Audio {
                        reference: reference.clone(),
                        is_used,
                        file: facts(path)?,
                    });
                }
            }
            for (_, references) in metadata.external.groups() {
                let is_missing = |reference: &&Reference| match reference {
                    Reference::Inside(path) => !paths.has(&joined(&media, path)),
                    Reference::Outside { .. } => false,
                };
                missing_media.extend(references.iter().filter(is_missing).cloned());
            }
            audio.sort_by(|a, b| a.reference.cmp(&b.reference).then(b.is_used.cmp(&a.is_used)));
            // A file that is in both lists is in use.
            audio.dedup_by(|b, a| a.reference == b.reference);
            missing_media.sort();
            missing_media.dedup();
        }
        alternatives.push(Alternative {
            index,
            name: told.and_then(|told| told.alternative_name(index, found.name())),
            metadata,
            song,
            song_file,
            window_image,
            audio,
            missing_media,
        });
    }
    Ok(Project {
        found: found.clone(),
        layout,
        information,
        alternatives,
    })
}

/// Reads all projects of a tree, by path.
///
/// # Errors
/// Those of the source.
pub fn read_projects<S: Source>(source: &mut S, limits: &Limits) -> Result<Vec<Project>, S::Error> {
    let paths = source.paths()?;
    let found = find(paths.iter().map(String::as_str), limits);
    let paths = TreePaths::new(paths);
    found
        .iter()
        .map(|found| read_project(source, &paths, found, limits))
        .collect()
}
