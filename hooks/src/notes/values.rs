//! What people may say, and in which form.

use serde_json::{Number, Value};

use super::NoteError;

/// Most tags of one commit.
pub const TAGS_MAX: usize = 32;
/// Longest tag, in characters.
const TAG_CHARS_MAX: usize = 40;
/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// Longest comment, in characters.
const COMMENT_CHARS_MAX: usize = 2000;
/// Longest value that is not known here, as JSON, in bytes.
const OTHER_BYTES_MAX: usize = 512;
/// Longest name of one, in bytes.
const OTHER_NAME_BYTES_MAX: usize = 40;

/// What people say something about. Others stand under `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Beats per minute, up to four decimals.
    Bpm,
    /// In Hz.
    SampleRate,
    /// Such as `A minor`.
    Key,
    /// Such as `4/4`.
    TimeSignature,
    /// Words in lower case, each once, sorted.
    Tags,
    /// The name of the song.
    Title,
    /// Such as `mixing`.
    Stage,
    /// From 1 to 5.
    Rating,
    /// Free text.
    Comment,
}

impl Field {
    /// Every field with its name in a note.
    pub const ALL: [(&'static str, Self); 9] = [
        ("bpm", Self::Bpm),
        ("sample_rate", Self::SampleRate),
        ("key", Self::Key),
        ("time_signature", Self::TimeSignature),
        ("tags", Self::Tags),
        ("title", Self::Title),
        ("stage", Self::Stage),
        ("rating", Self::Rating),
        ("comment", Self::Comment),
    ];

    /// The field of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, field)| field)
    }
}

/// A value in the form that is stored. `name` is a field's, or `x.` and a name of one's own.
///
/// # Errors
/// [`NoteError::BadValue`] says what it may be.
pub fn check_value(name: &str, value: &Value) -> Result<Value, NoteError> {
    let bad = |expected: String| NoteError::BadValue {
        field: name.to_owned(),
        expected,
    };
    let Some(field) = Field::named(name) else {
        return other(name, value).map_err(bad);
    };
    let found = match field {
        Field::Bpm => bpm(value),
        Field::SampleRate => sample_rate(value),
        Field::Key => value.as_str().and_then(key).map(Value::from),
        Field::TimeSignature => value.as_str().and_then(meter).map(Value::from),
        Field::Tags => tags(value),
        Field::Title => text(value, TITLE_CHARS_MAX),
        Field::Stage => text(value, TAG_CHARS_MAX),
        Field::Comment => text(value, COMMENT_CHARS_MAX),
        Field::Rating => value.as_u64().filter(|stars| (1..=5).contains(stars)).map(Value::from),
    };
    found.ok_or_else(|| {
        bad(match field {
            Field::Bpm => "a number of beats per minute from 1 to 1000, such as 126 or 92.5".to_owned(),
            Field::SampleRate => "a whole number of Hz from 8000 to 768000, such as 48000".to_owned(),
            Field::Key => "a tonic and a mode, such as \"A minor\", \"F# minor\" or \"Bb major\"".to_owned(),
            Field::TimeSignature => "beats and their unit, such as \"4/4\" or \"6/8\"".to_owned(),
            Field::Tags => {
                format!("a list of at most {TAGS_MAX} words of at most {TAG_CHARS_MAX} characters, such as [\"mix\",\"wip\"]")
            }
            Field::Rating => "a whole number from 1 to 5".to_owned(),
            Field::Title => format!("text of at most {TITLE_CHARS_MAX} characters"),
            Field::Stage => format!("text of at most {TAG_CHARS_MAX} characters"),
            Field::Comment => format!("text of at most {COMMENT_CHARS_MAX} characters"),
        })
    })
}

fn bpm(value: &Value) -> Option<Value> {
    let bpm = value.as_f64().filter(|bpm| (1.0..=1000.0).contains(bpm))?;
    Number::from_f64((bpm * 10_000.0).round() / 10_000.0).map(Value::from)
}

fn sample_rate(value: &Value) -> Option<Value> {
    let rate = value
        .as_f64()
        .filter(|rate| rate.fract() == 0.0 && (8000.0..=768_000.0).contains(rate))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within range"
    )]
    Some(Value::from(rate as u64))
}

/// `A minor` from it, `a min`, `Am` and the like.
fn key(text: &str) -> Option<String> {
    let text = text.trim();
    let tonic = text.chars().next()?.to_ascii_uppercase();
    if !('A'..='G').contains(&tonic) {
        return None;
    }
    let rest = &text[1..];
    let (sign, rest) = match rest.chars().next() {
        Some('#' | '♯') => ("#", rest.trim_start_matches(['#', '♯'])),
        // B alone is a tonic, and so is the b of "bb".
        Some('b' | '♭') => ("b", &rest[rest.chars().next().map_or(0, char::len_utf8)..]),
        _ => ("", rest),
    };
    let mode = match rest.trim() {
        "m" => "minor",
        "" | "M" => "major",
        word => match word.to_ascii_lowercase().as_str() {
            "minor" | "min" => "minor",
            "major" | "maj" => "major",
            _ => return None,
        },
    };
    ('A'..='G').contains(&tonic).then(|| format!("{tonic}{sign} {mode}"))
}

fn meter(text: &str) -> Option<String> {
    let (beats, unit) = text.trim().split_once('/')?;
    let (beats, unit) = (beats.trim().parse::<u32>().ok()?, unit.trim().parse::<u32>().ok()?);
    ((1..=99).contains(&beats) && unit.is_power_of_two() && unit <= 64).then(|| format!("{beats}/{unit}"))
}

fn tags(value: &Value) -> Option<Value> {
    let mut tags = Vec::new();
    for tag in value.as_array()? {
        let tag = tag.as_str()?.trim().to_lowercase();
        let is_word = !tag.is_empty() && tag.chars().count() <= TAG_CHARS_MAX;
        if !is_word || tag.chars().any(|c| c.is_control() || c == ',') {
            return None;
        }
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    (tags.len() <= TAGS_MAX).then(|| tags.into())
}

fn text(value: &Value, chars_max: usize) -> Option<Value> {
    let text = value.as_str()?.trim();
    let is_clean = !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    (!text.is_empty() && is_clean && text.chars().count() <= chars_max).then(|| text.into())
}

fn other(name: &str, value: &Value) -> Result<Value, String> {
    let own = name.strip_prefix("x.").unwrap_or(name);
    if own.is_empty() || own.len() > OTHER_NAME_BYTES_MAX {
        return Err(format!("a name has from 1 to {OTHER_NAME_BYTES_MAX} bytes"));
    }
    if value.to_string().len() > OTHER_BYTES_MAX {
        return Err(format!(
            "a value of one's own has at most {OTHER_BYTES_MAX} bytes of JSON"
        ));
    }
    Ok(value.clone())
}
