//! What changed between two states of a project, in a musician's order and words (docs/metadata.md).
//!
//! Compares what was read, not bytes: Logic changes the order of its lists and rewrites overviews of audio files with
//! every save. What cannot be compared is told as that.

mod audio;
mod song;
mod words;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Alternative, Audio, Key, Project, Reference};

pub use self::audio::{AudioChanges, AudioItem, Renamed};
pub use self::song::{At, MapChange, MarkerChange, Move, RegionChanges, SongChanges};
pub use self::words::{Sentence, duration};

/// Most entries of one list that are told by name; all are counted.
const MAX_LISTED: usize = 500;
/// Sounds of a project by which it is known again under another path.
const MAX_SOUNDS: usize = 1000;

/// Entries of a list: all are counted, the first 500 are named.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed<T> {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub items: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            count: 0,
            items: Vec::new(),
        }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, item: T) {
        self.add(|| item);
    }

    /// Makes an entry only if it will be named.
    fn add(&mut self, item: impl FnOnce() -> T) {
        self.count += 1;
        if self.items.len() < MAX_LISTED {
            self.items.push(item());
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<T> FromIterator<T> for Listed<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut listed = Self::default();
        items.into_iter().for_each(|item| listed.push(item));
        listed
    }
}

/// What happened to a project or an alternative as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Something that is told of it changed.
    Changed,
    /// No structural change was seen.
    Same,
}

/// A value before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueChange {
    /// `tempo`, `key`, `meter`, `sample_rate`, `tracks`, `saved_with` …
    pub field: &'static str,
    /// Where it stands in the project.
    pub source: &'static str,
    /// `null` if it was not told.
    pub before: Value,
    /// `null` if it is not told.
    pub after: Value,
}

impl ValueChange {
    /// Whether it differs.
    pub fn is_change(&self) -> bool {
        self.before != self.after
    }
}

/// Another alternative than the one that is compared in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherAlternative {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Option<String>,
    /// What happened to it.
    pub change: Change,
}

/// What the later state needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Needs {
    /// Files of the project that are not there: audio in use, and other media.
    pub missing: Listed<String>,
    /// Names of files outside of the project.
    pub outside: Listed<String>,
}

/// What changed in a project.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// `logic-compare/1`.
    pub schema: &'static str,
    /// The path of the bundle, of the later state if there is one.
    pub path: String,
    /// The path before, if it differs.
    pub path_before: Option<String>,
    /// The project as a whole.
    pub change: Change,
    /// The alternative that is compared in full: the active one of the later state.
    pub alternative: Option<u32>,
    /// Values, those that did not change too.
    pub values: Vec<ValueChange>,
    /// Audio files; `null` if a `MetaData.plist` could not be read.
    pub audio: Option<AudioChanges>,
    /// Regions, markers, maps and plug-ins; `null` if a `ProjectData` could not be read to its end.
    pub song: Option<SongChanges>,
    /// Other alternatives.
    pub alternatives: Vec<OtherAlternative>,
    /// What the later state needs.
    pub needs: Needs,
    /// What was not compared, and why.
    pub not_compared: Vec<String>,
    /// The same in words, in a musician's order.
    pub sentences: Vec<Sentence>,
    #[serde(skip)]
    title: String,
}

/// Compares two states of a project; `None` where there is none.
pub fn compare(before: Option<&Project>, after: Option<&Project>) -> Option<Comparison> {
    let later = after.or(before)?;
    let b = after.and_then(Project::active).or_else(|| later.active());
    let a = before.and_then(|before| {
        let same = b.and_then(|b| before.alternatives.iter().find(|one| one.index == b.index));
        same.or_else(|| before.active())
    });
    let b = after.and(b);
    let mut not_compared = Vec::new();
    let (audio, song) = match (a, b) {
        (Some(a), Some(b)) => parts(a, b, &mut not_compared),
        _ => (None, None),
    };
    let values = values(before, a, after, b);
    let alternatives = match (before, after) {
        (Some(before), Some(after)) => others(before, after, b.map(|b| b.index)),
        _ => Vec::new(),
    };
    let path_before = before
        .map(|before| before.found.path.clone())
        .filter(|path| *path != later.found.path);
    let is_same = !values.iter().any(ValueChange::is_change)
        && audio.as_ref().is_none_or(AudioChanges::is_empty)
        && song.as_ref().is_none_or(SongChanges::is_empty)
        && alternatives.iter().all(|other| other.change == Change::Same)
        && path_before.is_none();
    let mut comparison = Comparison {
        schema: "logic-compare/1",
        path: later.found.path.clone(),
        path_before,
        change: match (before, after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ if is_same => Change::Same,
            _ => Change::Changed,
        },
        alternative: b.or(a).map(|one| one.index),
        values,
        audio,
        song,
        alternatives,
        needs: b.map(needs).unwrap_or_default(),
        not_compared,
        sentences: Vec::new(),
        title: later.title().to_owned(),
    };
    comparison.sentences = words::sentences(&comparison);
    Some(comparison)
}

/// Audio and song of an alternative, and why one of them is not compared.
fn parts(
    a: &Alternative,
    b: &Alternative,
    not_compared: &mut Vec<String>,
) -> (Option<AudioChanges>, Option<SongChanges>) {
    let audio = match (a.metadata(), b.metadata()) {
        (Some(_), Some(_)) => Some(audio::changes(&a.audio, &b.audio)),
        _ => {
            not_compared.push("audio files: MetaData.plist could not be read on both sides".to_owned());
            None
        }
    };
    if let Some(unknown) = audio.as_ref().map(|audio| audio.bytes_changed.count).filter(|&n| n > 0) {
        let files = if unknown == 1 { "file" } else { "files" };
        not_compared.push(format!(
            "the sound of {unknown} changed {files}: it was not read on both sides"
        ));
    }
    let song = match (a.whole_song(), b.whole_song()) {
        (Some(a), Some(b)) => Some(song::changes(a, b, not_compared)),
        _ => {
            not_compared.push(
                "regions, markers, tempo map and plug-ins: ProjectData could not be read to its end on both sides"
                    .to_owned(),
            );
            None
        }
    };
    (audio, song)
}

fn others(before: &Project, after: &Project, compared: Option<u32>) -> Vec<OtherAlternative> {
    let mut all: Vec<u32> = [before, after]
        .iter()
        .flat_map(|project| project.alternatives.iter().map(|one| one.index))
        .collect();
    all.sort_unstable();
    all.dedup();
    let at = |project: &'_ Project, index: u32| project.alternatives.iter().position(|one| one.index == index);
    all.into_iter()
        .filter(|&index| Some(index) != compared)
        .map(|index| {
            let a = at(before, index).map(|at| &before.alternatives[at]);
            let b = at(after, index).map(|at| &after.alternatives[at]);
            let change = match (a, b) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                (Some(a), Some(b)) if is_same(before, a, after, b) => Change::Same,
                _ => Change::Changed,
            };
            let name = b.or(a).and_then(|one| one.name.clone());
            OtherAlternative { index, name, change }
        })
        .collect()
}

fn is_same(before: &Project, a: &Alternative, after: &Project, b: &Alternative) -> bool {
    let mut not_compared = Vec::new();
    let (audio, song) = parts(a, b, &mut not_compared);
    // What could not be read on both sides is compared by its bytes.
    let is_same_file = || a.song_file.as_ref().map(|file| &file.oid) == b.song_file.as_ref().map(|file| &file.oid);
    // Values of the whole project do not count.
    let changed = values(Some(before), Some(a), Some(after), Some(b));
    let is_changed = changed
        .iter()
        .any(|value| value.is_change() && !matches!(value.field, "saved_with" | "layout"));
    !is_changed && audio.is_none_or(|audio| audio.is_empty()) && song.map_or_else(is_same_file, |song| song.is_empty())
}

fn key_text(key: &Key) -> String {
    match key.is_default {
        true => format!("{} (default)", key.name()),
        false => key.name(),
    }
}

/// The values of both sides; those that neither side tells are left out.
fn values(
    before: Option<&Project>,
    a: Option<&Alternative>,
    after: Option<&Project>,
    b: Option<&Alternative>,
) -> Vec<ValueChange> {
    type OfAlternative = (&'static str, &'static str, fn(&Alternative) -> Value);
    type OfProject = (&'static str, &'static str, fn(&Project) -> Value);
    let of_alternative: [OfAlternative; 13] = [
        ("tempo", "BeatsPerMinute", |one| json!(one.bpm())),
        ("key", "SongKey", |one| {
            json!(one.metadata().and_then(|metadata| metadata.key.as_ref()).map(key_text))
        }),
        ("meter", "SongSignatureNumerator", |one| {
            json!(one.time_signature().map(|(upper, lower)| format!("{upper}/{lower}")))
        }),
        ("tracks", "NumberOfTracks", |one| {
            json!(one.metadata().and_then(|metadata| metadata.tracks))
        }),
        ("sample_rate", "SampleRate", |one| json!(one.sample_rate_hz())),
        ("name", "VariantNames", |one| json!(one.name)),
        ("timecode_based", "isTimeCodeBased", |one| {
            json!(one.metadata().and_then(|metadata| metadata.is_timecode_based))
        }),
        ("frame_rate_index", "FrameRateIndex", |one| {
            json!(one.metadata().and_then(|metadata| metadata.frame_rate_index))
        }),
        ("surround_format_index", "SurroundFormatIndex", |one| {
            json!(one.metadata().and_then(|metadata| metadata.surround_format_index))
        }),
        ("surround_mode_index", "SurroundModeIndex", |one| {
            json!(one.metadata().and_then(|metadata| metadata.surround_mode_index))
        }),
        ("ara_plug_ins", "HasARAPlugins", |one| {
            json!(one.metadata().and_then(|metadata| metadata.has_ara))
        }),
        ("live_loops", "HasGrid", |one| {
            json!(one.metadata().and_then(|metadata| metadata.has_live_loops))
        }),
        ("movies", "VideoFiles", |one| {
            let movies = one.metadata().map(|metadata| &metadata.external.video);
            json!(movies.map(|movies| movies.iter().map(Reference::name).collect::<Vec<_>>()))
        }),
    ];
    let of_project: [OfProject; 2] = [
        ("saved_with", "LastSavedFrom", |project| {
            let information = project.information();
            json!(
                information
                    .and_then(|information| information.saved_with.as_ref())
                    .map(|saved| &saved.text)
            )
        }),
        ("layout", "HasProjectFolder", |project| json!(project.layout)),
    ];
    let alternatives = of_alternative.into_iter().map(|(field, source, read)| ValueChange {
        field,
        source,
        before: a.map_or(Value::Null, read),
        after: b.map_or(Value::Null, read),
    });
    let projects = of_project.into_iter().map(|(field, source, read)| ValueChange {
        field,
        source,
        before: before.map_or(Value::Null, read),
        after: after.map_or(Value::Null, read),
    });
    alternatives
        .chain(projects)
        .filter(|value| !(value.before.is_null() && value.after.is_null()))
        .collect()
}

/// What a project needs that is not in it.
pub(super) fn needs(one: &Alternative) -> Needs {
    let used = || one.audio.iter().filter(|audio| audio.is_used);
    let missing = used().filter(|audio| audio.is_missing()).map(|audio| &audio.reference);
    let groups = one.metadata().map(|metadata| metadata.external.groups());
    let media = groups.iter().flatten().flat_map(|(_, references)| references.iter());
    let outside = used().map(|audio| &audio.reference).chain(media);
    Needs {
        missing: missing.chain(&one.missing_media).map(told).collect(),
        outside: outside
            .filter(|reference| matches!(reference, Reference::Outside { .. }))
            .map(told)
            .collect(),
    }
}

/// The path in the project; of a file outside, its name and the kind of place.
fn told(reference: &Reference) -> String {
    match reference {
        Reference::Inside(path) => path.clone(),
        Reference::Outside { place, name } if name.is_empty() => place.to_string(),
        Reference::Outside { place, name } => format!("{name} ({place})"),
    }
}

/// Pairs projects of two states: first by path, then the rest by likeness of their audio files. Positions in the two
/// lists; a project without a partner stands alone.
pub fn pair(before: &[Project], after: &[Project]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut pairs = Vec::new();
    let mut old: Vec<usize> = (0..before.len()).collect();
    let mut new: Vec<usize> = Vec::new();
    for (b, project) in after.iter().enumerate() {
        match old.iter().position(|&a| before[a].found.path == project.found.path) {
            Some(at) => pairs.push((Some(old.remove(at)), Some(b))),
            None => new.push(b),
        }
    }
    // A song that was moved keeps most of its audio.
    let mut likes: Vec<(usize, usize, usize)> = Vec::new();
    let others: Vec<_> = new.iter().map(|&b| (b, likeness(&after[b]))).collect();
    for &a in &old {
        let (names, songs) = likeness(&before[a]);
        for (b, (other_names, other_songs)) in &others {
            let common = names.intersection(other_names).count();
            let is_same_song = songs.iter().any(|oid| other_songs.contains(oid));
            if is_same_song || (common > 0 && common * 2 >= names.len().max(other_names.len())) {
                likes.push((common + usize::from(is_same_song) * 1_000_000, a, *b));
            }
        }
    }
    likes.sort_by(|x, y| y.0.cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    for (_, a, b) in likes {
        if old.contains(&a) && new.contains(&b) {
            pairs.push((Some(a), Some(b)));
            old.retain(|&one| one != a);
            new.retain(|&one| one != b);
        }
    }
    pairs.extend(old.into_iter().map(|a| (Some(a), None)));
    pairs.extend(new.into_iter().map(|b| (None, Some(b))));
    let path = |&(a, b): &(Option<usize>, Option<usize>)| match (a, b) {
        (_, Some(b)) => after[b].found.path.clone(),
        (Some(a), _) => before[a].found.path.clone(),
        (None, None) => String::new(),
    };
    pairs.sort_by_key(path);
    pairs
}

/// The sounds of a project, and its songs, by content.
fn likeness(project: &Project) -> (BTreeSet<String>, Vec<&String>) {
    let audio = project.alternatives.iter().flat_map(|one| &one.audio);
    let sound = |audio: &Audio| match &audio.file {
        Some(file) => file.sound.clone().or_else(|| file.oid.clone()),
        None => None,
    };
    let songs = project
        .alternatives
        .iter()
        .filter_map(|one| one.song_file.as_ref()?.oid.as_ref());
    (audio.filter_map(sound).take(MAX_SOUNDS).collect(), songs.collect())
}
