//! What people say beside notes: in messages of commits and in options of pushes, and what stays said.

use serde_json::Value;

use super::{Note, NoteError, Said, SaidValue, Via, check_value};

/// What stays said until the project says something else.
const INHERITED: [&str; 3] = ["bpm", "key", "time_signature"];
/// The prefix of push options that say something.
const OPTION_PREFIX: &str = "logic.";

/// What the last paragraph of a commit's message says: `BPM: 126`, `Key: A minor`, `Sample Rate: 48 kHz`,
/// `Tags: mix, wip`, `Stage: mixing`, in any case. Lines that say something else are passed over.
pub fn from_message(message: &str, by: &str, at: &str) -> Said {
    let mut said = Said::default();
    let paragraph = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
    for line in paragraph.lines() {
        let Some((name, text)) = line.split_once(':') else {
            continue;
        };
        let text = text.trim();
        let (field, value) = match name.trim().to_ascii_lowercase().as_str() {
            "bpm" => ("bpm", number(text)),
            "sample rate" | "sample-rate" | "samplerate" => ("sample_rate", rate(text)),
            "key" => ("key", text.into()),
            "time signature" | "time-signature" => ("time_signature", text.into()),
            "tags" | "tag" => ("tags", words(text)),
            "stage" => ("stage", text.into()),
            _ => continue,
        };
        if let Ok(value) = check_value(field, &value) {
            let more = one(field, value, by, at, Via::Trailer);
            said.join(more);
        }
    }
    said
}

/// What the options of a push say: `logic.tag=mix`, `logic.bpm=126` and the like. Options without the prefix `logic.`
/// are somebody else's.
///
/// # Errors
/// [`NoteError::BadValue`]
pub fn from_push_options<'o>(options: impl Iterator<Item = &'o str>, by: &str, at: &str) -> Result<Said, NoteError> {
    let mut said = Said::default();
    for option in options.filter_map(|option| option.strip_prefix(OPTION_PREFIX)) {
        let (name, text) = option.split_once('=').unwrap_or((option, ""));
        let (field, value) = match name {
            "bpm" => ("bpm", number(text)),
            "sample_rate" => ("sample_rate", rate(text)),
            "tag" | "tags" => ("tags", words(text)),
            "rating" => ("rating", text.parse::<u64>().map_or(Value::Null, Value::from)),
            "key" | "time_signature" | "stage" | "title" | "comment" => (name, text.into()),
            _ => {
                return Err(NoteError::BadValue {
                    field: format!("{OPTION_PREFIX}{name}"),
                    expected: "there is no such option; there are logic.tag, logic.bpm, logic.key, logic.sample_rate, \
                               logic.time_signature, logic.stage, logic.title, logic.rating and logic.comment"
                        .to_owned(),
                });
            }
        };
        said.join(one(field, check_value(field, &value)?, by, at, Via::PushOption));
    }
    Ok(said)
}

/// Adds to the note of a commit what was said of its first parent and still holds: tempo, key and meter, as long as the
/// project says of them what it said before.
pub fn inherited(note: &mut Note, parent: &Note) {
    let (now, before) = (note.extracted(), parent.extracted());
    for field in INHERITED {
        if note.said.get(field).is_none()
            && now.get(field) == before.get(field)
            && let Some(said) = parent.said.get(field)
        {
            note.said.say(
                field,
                SaidValue {
                    via: Via::Inherited,
                    ..said.clone()
                },
            );
        }
    }
}

fn one(field: &str, value: Value, by: &str, at: &str, via: Via) -> Said {
    let mut said = Said::default();
    let (by, at) = (by.to_owned(), at.to_owned());
    said.say(field, SaidValue { value, by, at, via });
    said
}

fn number(text: &str) -> Value {
    let text = text
        .trim()
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim_end();
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// `48000`, `48000 Hz`, `48 kHz` or `44.1k`.
fn rate(text: &str) -> Value {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix("hz").unwrap_or(&text).trim_end();
    let (text, unit) = match text.strip_suffix('k') {
        Some(text) => (text.trim_end(), 1000.0),
        None => (text, 1.0),
    };
    // 44.1 kHz is 44,100 Hz, whatever a binary number makes of it.
    text.parse::<f64>()
        .map_or(Value::Null, |rate| Value::from((rate * unit).round()))
}

fn words(text: &str) -> Value {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(Value::from).collect()
}
