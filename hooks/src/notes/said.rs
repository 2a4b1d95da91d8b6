//! What people said of a commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::values::TAGS_MAX;
use super::{canonical, check_value};

/// Most values of one's own (`x`) of one commit.
const OTHERS_MAX: usize = 16;

/// The way by which something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Of the commit before, whose project says the same.
    Inherited,
    /// A line at the end of the commit's message.
    Trailer,
    /// `git push -o`.
    PushOption,
    /// A note that was pushed.
    Note,
    /// The REST API.
    Api,
    /// The page.
    Web,
}

/// One value, and who said it when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaidValue {
    /// In the form of [`check_value`].
    pub value: Value,
    /// The name of an account, or what a commit calls its author.
    pub by: String,
    /// When, as `2026-11-20T10:02:11Z`.
    pub at: String,
    /// How.
    pub via: Via,
}

impl SaidValue {
    /// Of two values the greater one is meant: the one that was said last, then any fixed one.
    fn rank(&self) -> (&str, &str, Via, String) {
        (&self.at, &self.by, self.via, canonical(&self.value))
    }
}

/// Everything that people said, by field; values of one's own are called `x.` and a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said(BTreeMap<String, SaidValue>);

impl Said {
    /// The fields with their values, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &SaidValue)> {
        self.0.iter().map(|(name, said)| (name.as_str(), said))
    }

    /// What is said of a field.
    pub fn get(&self, field: &str) -> Option<&SaidValue> {
        self.0.get(field)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says something, in place of what was said.
    pub fn say(&mut self, field: &str, said: SaidValue) {
        self.0.insert(field.to_owned(), said);
        self.cut();
    }

    /// Takes something back.
    pub fn take_back(&mut self, field: &str) {
        self.0.remove(field);
    }

    /// Joins what somebody else said: of each field what was said last, tags united. Any order gives the same.
    pub fn join(&mut self, other: Self) {
        for (field, theirs) in other.0 {
            match self.0.get_mut(&field) {
                None => {
                    self.0.insert(field, theirs);
                }
                Some(mine) => {
                    let united = (field == "tags").then(|| united(&mine.value, &theirs.value));
                    if mine.rank() < theirs.rank() {
                        *mine = theirs;
                    }
                    if let Some(united) = united {
                        mine.value = united;
                    }
                }
            }
        }
        self.cut();
    }

    /// Values of one's own beyond the limit go, the last ones by name.
    fn cut(&mut self) {
        let others = self.0.keys().filter(|name| name.starts_with("x."));
        let beyond: Vec<String> = others.skip(OTHERS_MAX).cloned().collect();
        for name in beyond {
            self.0.remove(&name);
        }
    }

    /// What stands under `user` in a line, as far as it is readable.
    pub(super) fn of_line(line: &Map<String, Value>) -> Self {
        let mut said = Self::default();
        let user = line.get("user").and_then(Value::as_object);
        for (field, value) in user.into_iter().flatten() {
            let read = SaidValue::deserialize(value).ok();
            if let Some(mut found) = read.filter(|found| is_time(&found.at))
                && let Ok(value) = check_value(field, &found.value)
            {
                found.value = value;
                said.0.insert(field.clone(), found);
            }
        }
        said.cut();
        said
    }

    /// As it stands under `user`.
    pub(super) fn to_json(&self) -> Value {
        let field = |(name, said): (&String, &SaidValue)| {
            let SaidValue { value, by, at, via } = said;
            (
                name.clone(),
                serde_json::json!({"value": value, "by": by, "at": at, "via": via}),
            )
        };
        Value::Object(self.0.iter().map(field).collect())
    }

    /// Puts what is said in place of what a project says.
    pub(super) fn lay_over(&self, top: &mut Map<String, Value>) {
        let mut others = Map::new();
        for (field, said) in &self.0 {
            match field.strip_prefix("x.") {
                Some(name) => others.insert(name.to_owned(), said.value.clone()),
                None => top.insert(field.clone(), said.value.clone()),
            };
        }
        if !others.is_empty() {
            top.insert("x".to_owned(), others.into());
        }
    }
}

/// Whether this is a time in the only form that is compared.
pub(super) fn is_time(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00Z";
    text.len() == form.len()
        && std::iter::zip(text.bytes(), form).all(|(byte, &form)| match form {
            b'0' => byte.is_ascii_digit(),
            mark => byte == mark,
        })
}

fn united(a: &Value, b: &Value) -> Value {
    let words = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut tags: Vec<String> = words(a)
        .into_iter()
        .chain(words(b))
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .collect();
    tags.sort();
    tags.dedup();
    tags.truncate(TAGS_MAX);
    tags.into()
}
