//! What a commit says in a musician's words: one note per commit, one line of JSON (`logic-note/1`, docs/metadata.md).
//!
//! `auto` is what was read from the project, `user` is what people said; the top level is what is meant, computed from
//! both. Notes that two people changed are joined by Git into two lines; [`Note::fold`] makes one of them again, the
//! same one in any order.

mod json;
mod pushed;
mod said;
mod sources;
mod summary;
mod values;

use serde_json::{Map, Value};

pub use self::json::canonical;
pub use self::pushed::said_by_push;
pub use self::said::{Said, SaidValue, Via};
pub use self::sources::{from_message, from_push_options, inherited};
pub use self::summary::summary;
pub use self::values::{Field, check_value};

/// The form of notes that is written here.
pub const SCHEMA: &str = "logic-note/1";

/// A note is at most this long, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// What stands at the top level and is not something that people say.
const OWN_FIELDS: [&str; 6] = ["schema", "user", "auto", "bounces", "warnings", "x"];

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is too long.
    #[error("a note has at most {NOTE_BYTES_MAX} bytes, and this one has {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It is not text.
    #[error("a note is UTF-8, and this one is not")]
    NotText,
    /// A line is not an object of JSON.
    #[error("each line of a note is one object of JSON, such as {{\"bpm\":126}}; line {line} is not: {reason}")]
    NotJson {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is not one.
    #[error("{field}: {expected}")]
    BadValue {
        /// What it is for.
        field: String,
        /// What it may be.
        expected: String,
    },
}

/// The note of one commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    /// What people said.
    pub said: Said,
    /// What was read from the projects of the commit.
    pub auto: Option<Value>,
    /// Mixes that lie in the tree.
    pub bounces: Vec<Value>,
    /// What is missing or does not go together, without what [`Note::to_line`] finds itself.
    pub warnings: Vec<Value>,
}

impl Note {
    /// Reads a note, of one line or of several that Git has joined.
    ///
    /// # Errors
    /// [`NoteError`]
    pub fn fold(bytes: &[u8]) -> Result<Self, NoteError> {
        let mut note = Self::default();
        let mut newest: Option<(String, Map<String, Value>)> = None;
        for line in lines(bytes)? {
            note.said.join(Said::of_line(&line));
            let auto = line.get("auto").filter(|auto| auto.is_object());
            // The same one wins in any order: the newest reader's newest look, then any fixed one.
            let rank = auto.map(|auto| {
                let word = |name: &str| auto[name].as_str().unwrap_or_default().to_owned();
                format!("{:>8} {} {}", word("extractor"), word("at"), canonical(auto))
            });
            if let Some(rank) = rank
                && newest.as_ref().is_none_or(|(best, _)| *best < rank)
            {
                newest = Some((rank, line));
            }
        }
        if let Some((_, mut line)) = newest {
            note.auto = line.remove("auto");
            let mut list = |name: &str| match line.remove(name) {
                Some(Value::Array(list)) => list,
                _ => Vec::new(),
            };
            note.bounces = list("bounces");
            note.warnings = list("warnings");
            note.warnings
                .retain(|warning| warning["code"] != "differs_from_project");
        }
        Ok(note)
    }

    /// What the project says of itself, under the names of the top level.
    pub fn extracted(&self) -> Map<String, Value> {
        self.auto.as_ref().map(extracted).unwrap_or_default()
    }

    /// What is meant: what people said over what the project says.
    pub fn meant(&self) -> Map<String, Value> {
        let mut meant = self.extracted();
        self.said.lay_over(&mut meant);
        meant
    }

    /// The line, with sorted names and without a line feed.
    pub fn to_line(&self) -> String {
        let extracted = self.extracted();
        let mut warnings = self.warnings.clone();
        for (field, said) in self.said.fields() {
            if let Some(found) = extracted.get(field)
                && *found != said.value
            {
                warnings.push(serde_json::json!({"code": "differs_from_project", "field": field, "project": found}));
            }
        }
        let mut line = self.meant();
        let mut put = |name: &str, value: Value| {
            line.insert(name.to_owned(), value);
        };
        put("schema", SCHEMA.into());
        if !self.said.is_empty() {
            put("user", self.said.to_json());
        }
        if let Some(auto) = &self.auto {
            put("auto", auto.clone());
        }
        if !self.bounces.is_empty() {
            put("bounces", self.bounces.clone().into());
        }
        if !warnings.is_empty() {
            put("warnings", warnings.into());
        }
        canonical(&line.into())
    }
}

/// The objects of a note.
fn lines(bytes: &[u8]) -> Result<Vec<Map<String, Value>>, NoteError> {
    if bytes.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong { bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let failed = |reason: String| NoteError::NotJson {
            line: number + 1,
            reason,
        };
        match serde_json::from_str(line).map_err(|error| failed(error.to_string()))? {
            Value::Object(object) => found.push(object),
            _ => return Err(failed("it is another kind of value".to_owned())),
        }
    }
    Ok(found)
}

/// What the active alternative of the primary project says, under the names of the top level.
fn extracted(auto: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    let projects = auto["projects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(project) = projects.iter().find(|project| project["path"] == auto["primary"]) else {
        return found;
    };
    let alternatives = project["alternatives"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let is_active = |alternative: &&Value| alternative["index"] == project["active_alternative"];
    let Some(alternative) = alternatives.iter().find(is_active).or_else(|| alternatives.first()) else {
        return found;
    };
    for name in ["bpm", "sample_rate"] {
        if alternative[name].is_number() {
            found.insert(name.to_owned(), alternative[name].clone());
        }
    }
    let key = &alternative["key"];
    if let (Some(tonic), Some(mode)) = (key["tonic"].as_str(), key["mode"].as_str())
        && key["default"] != true
    {
        found.insert("key".to_owned(), format!("{tonic} {mode}").into());
    }
    let meter = &alternative["time_signature"];
    if let (Some(beats), Some(unit)) = (meter[0].as_u64(), meter[1].as_u64()) {
        found.insert("time_signature".to_owned(), format!("{beats}/{unit}").into());
    }
    found
}
