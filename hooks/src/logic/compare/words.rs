//! A comparison in words.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::{At, AudioChanges, Change, Comparison, Listed, SongChanges, ValueChange};

/// Entries of one list that a sentence names.
const NAMED: usize = 4;
const NOTHING: &str = "no structural change seen (fader and plug-in moves are not visible in this format)";

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// Where in the project it stands.
    pub source: &'static str,
    /// In words.
    pub text: String,
}

/// `18 s`, `2 m 10 s`, `1 h 2 m`.
pub fn duration(seconds: f64) -> String {
    // What rounds up to the next unit is told in it.
    match seconds {
        s if s < 1.0 => format!("{s:.1} s"),
        s if s < 59.5 => format!("{s:.0} s"),
        s if s < 3599.5 => {
            let whole = s.round() as u64;
            format!("{} m {} s", whole / 60, whole % 60)
        }
        s => {
            let minutes = (s / 60.0).round() as u64;
            format!("{} h {} m", minutes / 60, minutes % 60)
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `1 file`, `3 files`.
fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The first of a list, and how many more there are.
fn named<T>(list: &Listed<T>, text: impl Fn(&T) -> String) -> String {
    let mut all: Vec<String> = list.items.iter().take(NAMED).map(text).collect();
    if list.count > all.len() {
        all.push(format!("{} more", list.count - all.len()));
    }
    all.join(", ")
}

fn place(at: &At) -> String {
    match at.beat {
        1.0 => format!("bar {}", at.bar),
        beat => format!("bar {} beat {beat}", at.bar),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not told".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        // 124.0 is 124 in music.
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |number| number.to_string()),
        Value::Array(names) => match names.len() {
            0 => "none".to_owned(),
            _ => names.iter().map(shown).collect::<Vec<_>>().join(", "),
        },
        Value::Object(_) => value.to_string(),
    }
}

fn value_text(value: &ValueChange) -> String {
    let (before, after) = (shown(&value.before), shown(&value.after));
    let name = value.field.replace('_', " ");
    let unit = if value.field == "sample_rate" { " Hz" } else { "" };
    match (&value.before, &value.after) {
        (Value::Null, _) => format!("{name} {after}{unit}"),
        (before, after) if before == after => format!("{name} unchanged {}{unit}", shown(after)),
        _ => format!("{name} {before} → {after}{unit}"),
    }
}

/// Values that are told also if they did not change.
const ALWAYS: [&str; 3] = ["tempo", "key", "meter"];

pub(super) fn sentences(comparison: &Comparison) -> Vec<Sentence> {
    let mut all = Vec::new();
    let mut say = |source, text: String| all.push(Sentence { source, text });
    match comparison.change {
        Change::Same => say("ProjectData", NOTHING.to_owned()),
        Change::Removed => say("tree", "the project is gone".to_owned()),
        Change::Added => say("tree", "a new project".to_owned()),
        Change::Changed => {}
    }
    if let Some(before) = &comparison.path_before {
        let before = if before.is_empty() { "the top folder" } else { before };
        say("tree", format!("was {before} before"));
    }
    if matches!(comparison.change, Change::Changed | Change::Added) {
        for value in &comparison.values {
            if value.is_change() || ALWAYS.contains(&value.field) {
                say(value.source, value_text(value));
            }
        }
    }
    if let Some(audio) = &comparison.audio {
        audio_sentences(audio, &mut say);
    }
    if let Some(song) = &comparison.song {
        song_sentences(song, &mut say);
    }
    let needs = &comparison.needs;
    let mut parts = Vec::new();
    if !needs.outside.is_empty() {
        let number = count(needs.outside.count, "file", "files");
        parts.push(format!(
            "{number} outside the project ({})",
            named(&needs.outside, Clone::clone)
        ));
    }
    if !needs.missing.is_empty() {
        parts.push(format!(
            "{} missing ({})",
            needs.missing.count,
            named(&needs.missing, Clone::clone)
        ));
    }
    if !parts.is_empty() {
        say("AudioFiles", format!("needs now: {}", parts.join(", ")));
    }
    for other in &comparison.alternatives {
        let name = other
            .name
            .as_ref()
            .map_or_else(String::new, |name| format!(" “{name}”"));
        let what = match other.change {
            Change::Added => "is new",
            Change::Removed => "is gone",
            Change::Changed => "changed",
            Change::Same => "no structural change seen",
        };
        say("Alternatives", format!("alternative {:03}{name}: {what}", other.index));
    }
    for what in &comparison.not_compared {
        say("not compared", format!("not compared: {what}"));
    }
    all
}

fn audio_sentences(audio: &AudioChanges, say: &mut impl FnMut(&'static str, String)) {
    let mut parts = Vec::new();
    if !audio.added.is_empty() {
        let mut facts = Vec::new();
        if audio.added_seconds > 0.0 {
            facts.push(duration(audio.added_seconds));
        }
        if audio.added_bytes > 0 {
            facts.push(size(audio.added_bytes));
        }
        parts.push(with(
            format!("{} added", count(audio.added.count, "audio file", "audio files")),
            &facts,
        ));
    }
    if !audio.removed.is_empty() {
        let facts: Vec<_> = Some(audio.removed_seconds)
            .filter(|s| *s > 0.0)
            .map(duration)
            .into_iter()
            .collect();
        parts.push(with(format!("{} removed", audio.removed.count), &facts));
    }
    for (list, what) in [
        (audio.renamed.count, "renamed"),
        (audio.moved_to_unused.count, "moved to unused"),
        (audio.moved_to_used.count, "in use again"),
    ] {
        if list > 0 {
            parts.push(format!("{list} {what}"));
        }
    }
    if !parts.is_empty() {
        let first = parts.remove(0);
        let first = match audio.added.is_empty() {
            true => format!("audio files: {first}"),
            false => first,
        };
        say("AudioFiles", [vec![first], parts].concat().join(", "));
    }
    let files = |n| count(n, "file", "files");
    if !audio.sound_changed.is_empty() {
        let names = named(&audio.sound_changed, |item| item.path.clone());
        say(
            "sound",
            format!("{} with another sound: {names}", files(audio.sound_changed.count)),
        );
    }
    if !audio.reindexed.is_empty() {
        say(
            "sound",
            format!("{} re-indexed by Logic: sound unchanged", files(audio.reindexed.count)),
        );
    }
    if !audio.lost.is_empty() {
        let names = named(&audio.lost, Clone::clone);
        say(
            "tree",
            format!("{} missing that were there: {names}", files(audio.lost.count)),
        );
    }
    if !audio.found.is_empty() {
        say(
            "tree",
            format!("{} there again that were missing", files(audio.found.count)),
        );
    }
}

fn with(text: String, facts: &[String]) -> String {
    match facts {
        [] => text,
        facts => format!("{text} ({})", facts.join(", ")),
    }
}

fn song_sentences(song: &SongChanges, say: &mut impl FnMut(&'static str, String)) {
    let regions = &song.regions;
    let counts = [
        (regions.added.count, "new"),
        (regions.removed.count, "removed"),
        (regions.renamed.count, "renamed"),
        (regions.resized.count, "resized"),
    ];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if !counts.is_empty() {
        say("AuRg", format!("regions: {}", counts.join(", ")));
    }
    let mut parts = Vec::new();
    if !regions.moved.is_empty() {
        let moved = named(&regions.moved, |one| {
            let (before, after) = (place(&one.before), place(&one.after));
            match one.track {
                (old, new) if old == new => format!("{} on track {new}: {before} → {after}", one.region),
                (old, new) => format!("{}: track {old} {before} → track {new} {after}", one.region),
            }
        });
        parts.push(format!("{} moved ({moved})", regions.moved.count));
    }
    if regions.placed > 0 {
        parts.push(format!("{} new", regions.placed));
    }
    if regions.taken_off > 0 {
        parts.push(format!("{} taken off", regions.taken_off));
    }
    if !parts.is_empty() {
        say("EvSq", format!("placements: {}", parts.join(", ")));
    }
    let (more, less) = (regions.sequences_added, regions.sequences_removed);
    if more + less > 0 {
        let parts: Vec<_> = [(more, "new"), (less, "gone")]
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        say(
            "EvSq",
            format!("places of MIDI regions and folders: {}", parts.join(", ")),
        );
    }
    let quoted = |name: &str| match name {
        "" => "one without a name".to_owned(),
        name => format!("“{name}”"),
    };
    let mut parts = Vec::new();
    if !song.markers_added.is_empty() {
        let list = named(&song.markers_added, |one| {
            format!("+ {} at {}", quoted(&one.name), place(&one.at))
        });
        parts.push(list);
    }
    if !song.markers_removed.is_empty() {
        parts.push(named(&song.markers_removed, |one| {
            format!("− {} at {}", quoted(&one.name), place(&one.at))
        }));
    }
    if !song.markers_changed.is_empty() {
        parts.push(named(&song.markers_changed, |one| {
            match (&one.before, &one.name_before) {
                (Some(before), _) => format!("{} {} → {}", quoted(&one.name), place(before), place(&one.at)),
                (None, before) => {
                    let before = before.as_deref().unwrap_or_default();
                    format!("{} is now {} at {}", quoted(before), quoted(&one.name), place(&one.at))
                }
            }
        }));
    }
    if !parts.is_empty() {
        say("TxSq", format!("markers: {}", parts.join(", ")));
    }
    for (map, what) in [(&song.tempo_map, "tempo map"), (&song.meter_map, "meter map")] {
        if !map.is_empty() {
            let list = named(map, |one| match (&one.before, &one.after) {
                (Some(before), Some(after)) => format!("{before} → {after} at {}", place(&one.at)),
                (None, Some(after)) => format!("+ {after} at {}", place(&one.at)),
                (before, None) => format!("− {} at {}", before.as_deref().unwrap_or_default(), place(&one.at)),
            });
            say("EvSq", format!("{what}: {list}"));
        }
    }
    let mut parts = Vec::new();
    if !song.plug_ins_added.is_empty() {
        parts.push(named(&song.plug_ins_added, |name| format!("+ {name}")));
    }
    if !song.plug_ins_removed.is_empty() {
        parts.push(named(&song.plug_ins_removed, |name| format!("− {name}")));
    }
    if !song.plug_ins_counted.is_empty() {
        parts.push(named(&song.plug_ins_counted, |(name, a, b)| {
            format!("{name} {a} → {b}")
        }));
    }
    if !parts.is_empty() {
        say("AuCU", format!("plug-ins named in the project: {}", parts.join(", ")));
    }
}

impl Comparison {
    /// The name of the bundle.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Lines for people: the name of the project, then a sentence on each line.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for sentence in &self.sentences {
            let _ = writeln!(text, "  {}", sentence.text);
        }
        text
    }

    /// One line: `BPM 120→124, key→A minor, +3 audio (2m10s), −1`.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        match self.change {
            Change::Added => parts.push("new project".to_owned()),
            Change::Removed => return "project removed".to_owned(),
            Change::Same => {
                let reindexed = self.audio.as_ref().map_or(0, |audio| audio.reindexed.count);
                return match reindexed {
                    0 => NOTHING.to_owned(),
                    n => format!("{NOTHING}, {n} re-indexed"),
                };
            }
            Change::Changed => {}
        }
        for value in self.values.iter().filter(|value| value.is_change()) {
            let (before, after) = (shown(&value.before), shown(&value.after));
            match value.field {
                "tempo" if value.before.is_null() => parts.push(format!("BPM {after}")),
                "tempo" => parts.push(format!("BPM {before}→{after}")),
                "key" => parts.push(format!("key→{after}")),
                "meter" => parts.push(format!("meter→{after}")),
                "tracks" if value.before.is_null() => parts.push(format!("{after} tracks")),
                "tracks" => parts.push(format!("tracks {before}→{after}")),
                "sample_rate" => parts.push(format!("rate→{after}")),
                _ => {}
            }
        }
        if let Some(audio) = &self.audio {
            if !audio.added.is_empty() {
                let seconds = duration(audio.added_seconds).replace(' ', "");
                let seconds = if audio.added_seconds > 0.0 {
                    format!(" ({seconds})")
                } else {
                    String::new()
                };
                parts.push(format!("+{} audio{seconds}", audio.added.count));
            }
            if !audio.removed.is_empty() {
                let what = if audio.added.is_empty() { " audio" } else { "" };
                parts.push(format!("−{}{what}", audio.removed.count));
            }
            for (n, what) in [
                (audio.renamed.count, "renamed"),
                (audio.sound_changed.count, "with another sound"),
                (audio.reindexed.count, "re-indexed"),
            ] {
                if n > 0 {
                    parts.push(format!("{n} {what}"));
                }
            }
        }
        if let Some(song) = &self.song {
            let regions = &song.regions;
            let n = regions.added.count + regions.removed.count + regions.renamed.count + regions.resized.count;
            for (n, one, many) in [
                (n, "region", "regions"),
                (
                    regions.moved.count
                        + regions.placed
                        + regions.taken_off
                        + regions.sequences_added
                        + regions.sequences_removed,
                    "placement",
                    "placements",
                ),
                (
                    song.markers_added.count + song.markers_removed.count + song.markers_changed.count,
                    "marker",
                    "markers",
                ),
                (song.tempo_map.count, "tempo change", "tempo changes"),
                (song.meter_map.count, "meter change", "meter changes"),
                (
                    song.plug_ins_added.count + song.plug_ins_removed.count + song.plug_ins_counted.count,
                    "plug-in",
                    "plug-ins",
                ),
            ] {
                if n > 0 {
                    parts.push(count(n, one, many));
                }
            }
        }
        if !self.needs.missing.is_empty() {
            parts.push(format!("{} missing", self.needs.missing.count));
        }
        if parts.is_empty() {
            parts.push("changed".to_owned());
        }
        parts.join(", ")
    }
}
