//! Audio files of two states.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Listed, told};
use crate::logic::{Audio, FileFacts, Reference};

/// An audio file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AudioItem {
    /// Its path in the project; of a file outside, its name and the kind of place.
    pub path: String,
    /// Its length in seconds.
    pub seconds: Option<f64>,
    /// Its length in bytes.
    pub bytes: Option<u64>,
}

/// A file under another name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Renamed {
    /// The path before.
    pub before: String,
    /// The path after.
    pub after: String,
}

/// What happened to audio files.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AudioChanges {
    /// New ones, in use or not.
    pub added: Listed<AudioItem>,
    /// Ones that are not named any more.
    pub removed: Listed<AudioItem>,
    /// The same sound under another name.
    pub renamed: Listed<Renamed>,
    /// Not in use any more.
    pub moved_to_unused: Listed<String>,
    /// In use again.
    pub moved_to_used: Listed<String>,
    /// Rewritten by Logic: the sound is the same.
    pub reindexed: Listed<String>,
    /// Under the same name, another sound.
    pub sound_changed: Listed<AudioItem>,
    /// Other bytes; the sound of one side is not known.
    pub bytes_changed: Listed<String>,
    /// Was there and is missing now.
    pub lost: Listed<String>,
    /// Was missing and is there now.
    pub found: Listed<String>,
    /// Seconds of what was added, where they are known.
    pub added_seconds: f64,
    /// Bytes of what was added.
    pub added_bytes: u64,
    /// Seconds of what was removed, where they are known.
    pub removed_seconds: f64,
}

impl AudioChanges {
    /// Nothing happened but that Logic wrote its overviews anew.
    pub fn is_empty(&self) -> bool {
        let reindexed = self.reindexed.clone();
        *self
            == Self {
                reindexed,
                ..Self::default()
            }
    }
}

fn item(audio: &Audio) -> AudioItem {
    AudioItem {
        path: told(&audio.reference),
        seconds: audio.file.as_ref().and_then(|file| file.seconds),
        bytes: audio.file.as_ref().map(|file| file.bytes),
    }
}

/// What two files of one name have in common.
enum Likeness {
    Bytes,
    Sound,
    Nothing,
    Unknown,
}

fn likeness(a: &FileFacts, b: &FileFacts) -> Likeness {
    if a.oid.is_some() && a.oid == b.oid {
        return Likeness::Bytes;
    }
    match (&a.sound, &b.sound) {
        (Some(a), Some(b)) if a == b => Likeness::Sound,
        (Some(_), Some(_)) => Likeness::Nothing,
        _ => Likeness::Unknown,
    }
}

/// A name of the sound, or of the bytes where the sound is not known.
fn identity(audio: &Audio) -> Option<&String> {
    let file = audio.file.as_ref()?;
    file.sound.as_ref().or(file.oid.as_ref())
}

pub(super) fn changes(before: &[Audio], after: &[Audio]) -> AudioChanges {
    let mut changes = AudioChanges::default();
    let by_reference = |all: &'_ [Audio]| -> BTreeMap<Reference, usize> {
        all.iter()
            .enumerate()
            .map(|(at, audio)| (audio.reference.clone(), at))
            .collect()
    };
    let (old, new) = (by_reference(before), by_reference(after));
    for (reference, &b) in &new {
        if let Some(&a) = old.get(reference) {
            kept(&mut changes, &before[a], &after[b]);
        }
    }
    let gone = || before.iter().filter(|audio| !new.contains_key(&audio.reference));
    let mut by_identity: BTreeMap<&String, Vec<&Audio>> = BTreeMap::new();
    for audio in gone() {
        if let Some(identity) = identity(audio) {
            by_identity.entry(identity).or_default().push(audio);
        }
    }
    let mut renamed: BTreeSet<&Reference> = BTreeSet::new();
    for audio in after.iter().filter(|audio| !old.contains_key(&audio.reference)) {
        let same = identity(audio).and_then(|of| by_identity.get_mut(of)?.pop());
        if let Some(gone) = same {
            renamed.insert(&gone.reference);
            changes.renamed.push(Renamed {
                before: told(&gone.reference),
                after: told(&audio.reference),
            });
            used(&mut changes, gone, audio);
            continue;
        }
        let item = item(audio);
        changes.added_seconds += item.seconds.unwrap_or_default();
        changes.added_bytes = changes.added_bytes.saturating_add(item.bytes.unwrap_or_default());
        changes.added.push(item);
    }
    for audio in gone().filter(|audio| !renamed.contains(&audio.reference)) {
        let item = item(audio);
        changes.removed_seconds += item.seconds.unwrap_or_default();
        changes.removed.push(item);
    }
    changes
}

fn used(changes: &mut AudioChanges, a: &Audio, b: &Audio) {
    match (a.is_used, b.is_used) {
        (true, false) => changes.moved_to_unused.push(told(&b.reference)),
        (false, true) => changes.moved_to_used.push(told(&b.reference)),
        _ => {}
    }
}

/// A file that both states name.
fn kept(changes: &mut AudioChanges, a: &Audio, b: &Audio) {
    used(changes, a, b);
    match (&a.file, &b.file) {
        (Some(a), Some(of)) => match likeness(a, of) {
            Likeness::Bytes => {}
            Likeness::Sound => changes.reindexed.push(told(&b.reference)),
            Likeness::Nothing => changes.sound_changed.push(item(b)),
            Likeness::Unknown => changes.bytes_changed.push(told(&b.reference)),
        },
        (Some(_), None) => changes.lost.push(told(&b.reference)),
        (None, Some(_)) => changes.found.push(told(&b.reference)),
        (None, None) => {}
    }
}
