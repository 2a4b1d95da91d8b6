//! The note for people, in three to six lines.

use serde_json::Value;

use super::Note;

/// Projects that are named.
const PROJECTS_MAX: usize = 3;

/// What a note says, in lines that `git log --notes=logic-summary` shows; empty if it says nothing.
pub fn summary(note: &Note) -> String {
    let meant = note.meant();
    let mut lines = Vec::new();
    let text = |name: &str| meant.get(name).and_then(Value::as_str);
    let mut facts = Vec::new();
    facts.extend(meant.get("bpm").and_then(Value::as_f64).map(|bpm| format!("{bpm} BPM")));
    facts.extend(text("key").map(str::to_owned));
    facts.extend(text("time_signature").map(str::to_owned));
    facts.extend(
        meant
            .get("sample_rate")
            .and_then(Value::as_f64)
            .map(|rate| format!("{} kHz", rate / 1000.0)),
    );
    let projects = note.auto.as_ref().and_then(|auto| auto["projects"].as_array());
    let projects = projects.map(Vec::as_slice).unwrap_or_default();
    let primary = note.auto.as_ref().map_or(&Value::Null, |auto| &auto["primary"]);
    let primary = projects.iter().find(|project| project["path"] == *primary);
    let active = primary.and_then(|project| {
        let alternatives = project["alternatives"].as_array()?;
        let is_active = |alternative: &&Value| alternative["index"] == project["active_alternative"];
        alternatives.iter().find(is_active).or_else(|| alternatives.first())
    });
    facts.extend(
        active
            .and_then(|active| active["tracks"].as_u64())
            .map(|tracks| match tracks {
                1 => "1 track".to_owned(),
                tracks => format!("{tracks} tracks"),
            }),
    );
    facts.extend(active.and_then(|active| active["length_seconds"].as_f64()).map(length));
    if !facts.is_empty() {
        lines.push(facts.join(" · "));
    }
    lines.extend(text("title").map(|title| format!("Title: {title}")));
    let tags: Vec<&str> = meant
        .get("tags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !tags.is_empty() || text("stage").is_some() {
        let stage = text("stage").map(|stage| format!("Stage: {stage}"));
        let tags = (!tags.is_empty()).then(|| format!("Tags: {}", tags.join(", ")));
        lines.push(stage.into_iter().chain(tags).collect::<Vec<_>>().join(" · "));
    }
    if let Some(primary) = primary {
        let path = primary["path"].as_str().unwrap_or_default();
        let program = primary["saved_with"]
            .as_str()
            .map(|program| format!(", saved with {program}"));
        lines.push(format!("{path}{}", program.unwrap_or_default()));
    }
    let others = projects.len().saturating_sub(1);
    if others > 0 {
        let names = projects.iter().filter_map(|project| project["path"].as_str());
        let main = primary.and_then(|project| project["path"].as_str());
        let names: Vec<&str> = names.filter(|name| Some(*name) != main).take(PROJECTS_MAX).collect();
        let rest = others.saturating_sub(names.len());
        let more = if rest > 0 {
            format!(" and {rest} more")
        } else {
            String::new()
        };
        lines.push(format!("Other projects: {}{more}", names.join(", ")));
    }
    let missing = note
        .warnings
        .iter()
        .filter(|warning| warning["code"] == "audio_missing")
        .count();
    if missing > 0 {
        lines.push(format!("{missing} of its audio files are not in this commit"));
    }
    let mut summary = lines.join("\n");
    if !summary.is_empty() {
        summary.push('\n');
    }
    summary
}

fn length(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float is bounded by the conversion"
    )]
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
