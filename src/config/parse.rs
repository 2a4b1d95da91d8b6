//! From text, variables and flags to [`Settings`], with every mistake named at once.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::Raw;
use super::text::{Lines, nearest, shortened};
use super::{KEYS, Key, SECTIONS, Settings};

/// Largest settings file, in bytes.
pub(super) const MAX_FILE_BYTES: usize = 1 << 20;
/// Mistakes that are named; a file with more is not a settings file.
pub(super) const MAX_ERRORS: usize = 100;

/// What the variables of settings begin with.
pub(super) const PREFIX: &str = "AUXIN_";
/// Short forms of variables and the setting each stands for.
const SHORT_FORMS: &[(&str, &str)] = &[("AUXIN_LISTEN", "server.listen")];

/// One flag of the command line that sets a setting.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The flag as typed, such as `--listen`.
    pub flag: &'static str,
    /// The key it sets, such as `server.listen`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the settings file; line and column count from 1, the column in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In a variable of the environment.
    Variable(String),
    /// In a flag of the command line.
    Flag(String),
}

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Where it is.
    pub place: Place,
    /// The key as it was given (`server.drain_secs`); empty when the file cannot be read as TOML there.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What is allowed, or the nearest that exists.
    pub hint: String,
}

impl SettingError {
    /// The mistake in one line, with `file` as the name of the settings file.
    pub fn in_file(&self, file: &Path) -> String {
        let place = match &self.place {
            Place::File { line, column } => format!("{}:{line}:{column}", file.display()),
            Place::Variable(name) => name.clone(),
            Place::Flag(flag) => flag.clone(),
        };
        let mut line = place;
        if !self.key.is_empty() {
            line.push_str(": ");
            line.push_str(&self.key);
        }
        line.push_str(": ");
        line.push_str(&self.problem);
        if !self.hint.is_empty() {
            line.push_str("; ");
            line.push_str(&self.hint);
        }
        line
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_file(Path::new("auxin.toml")))
    }
}

impl std::error::Error for SettingError {}

/// Makes settings of the text of a settings file, the environment and the flags, in rising order
/// over the built-in defaults.
///
/// Of the environment only variables that begin with `AUXIN_` are looked at. Never panics,
/// whatever the text.
///
/// # Errors
/// Every mistake there is (up to a hundred), in the order file, environment, flags, combinations.
pub fn parse(text: &str, env: &[(String, String)], flags: &[FlagValue]) -> Result<Settings, Vec<SettingError>> {
    let mut reading = Reading::default();
    if text.len() > MAX_FILE_BYTES {
        reading.errors.push(SettingError {
            place: Place::File { line: 1, column: 1 },
            key: String::new(),
            problem: format!("the file has {} bytes", text.len()),
            hint: format!("a settings file has at most {MAX_FILE_BYTES} bytes"),
        });
        return Err(reading.errors);
    }
    reading.file(text);
    reading.environment(env);
    for flag in flags {
        reading.flag(flag);
    }
    reading.combinations();
    reading.errors.truncate(MAX_ERRORS);
    if reading.errors.is_empty() {
        Ok(reading.settings)
    } else {
        Err(reading.errors)
    }
}

#[derive(Default)]
struct Reading {
    settings: Settings,
    /// Where each setting got its last value, by dotted key.
    places: HashMap<String, Place>,
    errors: Vec<SettingError>,
}

impl Reading {
    fn file(&mut self, text: &str) {
        let (table, syntax_errors) = DeTable::parse_recoverable(text);
        let lines = Lines::new(text);
        let mut broken_lines = Vec::new();
        for error in syntax_errors.iter().take(MAX_ERRORS) {
            let place = lines.place(error.span().unwrap_or(0..0));
            if let Place::File { line, .. } = place {
                broken_lines.push(line);
            }
            self.errors.push(SettingError {
                place,
                key: String::new(),
                problem: format!("this is not TOML: {}", one_line(error.message())),
                hint: "allowed: [section], and lines such as key = value".into(),
            });
        }

        let first = self.errors.len();
        for (name, value) in table.get_ref() {
            self.section(name, value, &lines);
        }
        // Where the text is broken, what was guessed of it makes further, useless errors.
        let mut index = 0;
        self.errors.retain(|error| {
            let keep =
                index < first || !matches!(error.place, Place::File { line, .. } if broken_lines.contains(&line));
            index += 1;
            keep
        });
        // A table lists its keys by name; people read a file from the top.
        self.errors.sort_by_key(|error| match error.place {
            Place::File { line, column } => (line, column),
            _ => (usize::MAX, 0),
        });
    }

    fn section(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) {
        let place = lines.place(name.span());
        let section = name.get_ref().as_ref();
        let Some((section, _)) = SECTIONS.iter().find(|(known, _)| *known == section) else {
            self.push(place, section, "there is no such section", {
                // A key without its section is the likeliest mistake.
                match KEYS.iter().find(|key| key.name == section) {
                    Some(key) => format!("it belongs into [{}]", key.section),
                    None => format!(
                        "the nearest is [{}]",
                        nearest(section, SECTIONS.iter().map(|(known, _)| (*known).to_owned()))
                    ),
                }
            });
            return;
        };
        let DeValue::Table(table) = value.get_ref() else {
            self.push(
                place,
                section,
                "this is a section, not a value",
                format!("write [{section}] and its keys below"),
            );
            return;
        };
        for (name, value) in table {
            if self.errors.len() >= MAX_ERRORS {
                return;
            }
            let place = lines.place(name.span());
            match find(section, name.get_ref()) {
                Some(key) => self.set(key, &Raw::Toml(value.get_ref()), place),
                None => self.unknown(place, &format!("{section}.{}", name.get_ref())),
            }
        }
    }

    fn environment(&mut self, env: &[(String, String)]) {
        let mut sorted: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        sorted.sort();
        for (name, value) in sorted {
            let place = Place::Variable(name.clone());
            if let Some((_, dotted)) = SHORT_FORMS.iter().find(|(short, _)| short == name) {
                let key = KEYS.iter().find(|key| key.dotted() == *dotted);
                let twin = key.and_then(|key| env.iter().find(|(long, _)| *long == key.variable()));
                match (key, twin) {
                    (_, Some((long, other))) if other.trim() != value.trim() => self.push(
                        place,
                        dotted,
                        &format!("{long} says something else"),
                        "set one of the two".into(),
                    ),
                    (Some(key), _) => self.set(key, &Raw::Text(value), place),
                    (None, _) => {}
                }
            } else if let Some(key) = KEYS.iter().find(|key| key.variable() == *name) {
                self.set(key, &Raw::Text(value), place);
            } else if name.contains("__") {
                self.push(place, "", "there is no such setting", {
                    let nearest = nearest(name, KEYS.iter().map(Key::variable));
                    format!("the nearest is {nearest}")
                });
            } else if let Some(key) = KEYS.iter().find(|key| key.variable().replace("__", "_") == *name) {
                // With one underscore it would be passed over in silence.
                self.push(
                    place,
                    "",
                    "there is no such setting",
                    format!("with two underscores it is {}", key.variable()),
                );
            }
        }
    }

    fn flag(&mut self, flag: &FlagValue) {
        let place = Place::Flag(flag.flag.to_owned());
        match KEYS.iter().find(|key| key.dotted() == flag.key) {
            Some(key) => self.set(key, &Raw::Text(&flag.value), place),
            None => self.unknown(place, flag.key),
        }
    }

    /// What no single value can get wrong.
    fn combinations(&mut self) {
        let server = &self.settings.server;
        let (given, missing) = match (&server.tls_cert_file, &server.tls_key_file) {
            (Some(_), None) => ("server.tls_cert_file", "server.tls_key_file"),
            (None, Some(_)) => ("server.tls_key_file", "server.tls_cert_file"),
            _ => return,
        };
        let place = self.places.get(given).cloned();
        // A value that was refused is already named; it would only be named again here.
        if self.errors.iter().any(|error| error.key == missing) {
            return;
        }
        if let Some(place) = place {
            self.push(
                place,
                given,
                &format!("{missing} is not set"),
                "set both for TLS, or neither".into(),
            );
        }
    }

    fn set(&mut self, key: &Key, raw: &Raw<'_>, place: Place) {
        match (key.set)(&mut self.settings, raw) {
            Ok(()) => {
                self.places.insert(key.dotted(), place);
            }
            Err(_) => self.push(
                place,
                &key.dotted(),
                &format!("{} is not allowed", shown(raw)),
                format!("allowed: {}", key.allowed()),
            ),
        }
    }

    fn unknown(&mut self, place: Place, dotted: &str) {
        let (_, name) = dotted.split_once('.').unwrap_or(("", dotted));
        // The right name in the wrong section is nearer than any other spelling.
        let nearest = KEYS
            .iter()
            .find(|key| key.name == name)
            .map(Key::dotted)
            .unwrap_or_else(|| nearest(dotted, KEYS.iter().map(Key::dotted)));
        self.push(
            place,
            dotted,
            "there is no such setting",
            format!("the nearest is {nearest}"),
        );
    }

    fn push(&mut self, place: Place, key: &str, problem: &str, hint: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(SettingError {
                place,
                key: shortened(key),
                problem: problem.to_owned(),
                hint,
            });
        }
    }
}

fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

fn shown(raw: &Raw<'_>) -> String {
    match raw {
        Raw::Text(text) => format!("{:?}", shortened(text)),
        Raw::Toml(value) => match value {
            DeValue::String(text) => format!("{:?}", shortened(text)),
            DeValue::Integer(number) => shortened(&number.to_string()),
            DeValue::Float(number) => shortened(&number.to_string()),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) => "a date".into(),
            DeValue::Array(_) => "this list".into(),
            DeValue::Table(_) => "a table".into(),
        },
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
