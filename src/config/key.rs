//! One setting: how its value is read, checked and shown.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use toml::de::DeValue;

use super::Settings;

/// The description of one setting. [`super::KEYS`] holds them all.
pub struct Key {
    /// The section, such as `server`.
    pub section: &'static str,
    /// The name within the section, such as `drain_secs`; ends in its unit where it has one.
    pub name: &'static str,
    /// The documentation, line by line, as it stands above the field.
    pub doc: &'static [&'static str],
    /// What kind of value it is, as a phrase ("a whole number").
    pub(super) kind: &'static str,
    /// What is allowed beyond the kind.
    pub rule: Rule,
    /// Reads a value into its field; `Err` when it is not allowed, and then nothing is changed.
    pub(super) set: fn(&mut Settings, &Raw<'_>) -> Result<(), NotAllowed>,
    /// The value as TOML source.
    pub(super) show: fn(&Settings) -> String,
}

impl Key {
    /// The key as people write it: `server.drain_secs`.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The variable that sets it: `AUXIN_SERVER__DRAIN_SECS`.
    pub fn variable(&self) -> String {
        format!("AUXIN_{}__{}", self.section, self.name).to_uppercase()
    }

    /// What is allowed, as a phrase: "a whole number from 0 to 86400".
    pub fn allowed(&self) -> String {
        match &self.rule {
            Rule::Any => self.kind.to_owned(),
            Rule::Range(low, high) => format!("{} from {low} to {high}", self.kind),
            Rule::OneOf(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                match quoted.split_last() {
                    Some((last, others)) if !others.is_empty() => {
                        format!("{} or {last}", others.join(", "))
                    }
                    _ => quoted.concat(),
                }
            }
            Rule::Text { allowed, .. } => (*allowed).to_owned(),
        }
    }

    /// The built-in value as TOML source; for a setting without one, an empty text.
    pub fn default_toml(&self) -> String {
        (self.show)(&Settings::default())
    }
}

/// What is allowed for a value beyond its type.
pub enum Rule {
    /// Every value of the type.
    Any,
    /// A number from the first to the second, both included.
    Range(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A text for which `holds` is true; `allowed` says it in words.
    Text {
        /// The rule in words.
        allowed: &'static str,
        /// The rule.
        holds: fn(&str) -> bool,
    },
}

impl Rule {
    fn holds(&self, value: &impl SettingValue) -> bool {
        match self {
            Rule::Any => true,
            Rule::Range(low, high) => value.number().is_some_and(|n| (*low..=*high).contains(&n)),
            Rule::OneOf(words) => value.text().is_some_and(|text| words.contains(&text)),
            Rule::Text { holds, .. } => value.text().is_some_and(holds),
        }
    }
}

/// A value as it was found: in the file with a type, elsewhere as text.
pub(super) enum Raw<'a> {
    Toml(&'a DeValue<'a>),
    Text(&'a str),
}

/// The value is not one that the setting may have.
#[derive(Debug)]
pub(super) struct NotAllowed;

/// Reads `raw` into `field` if type and rule allow it.
pub(super) fn set<T: SettingValue>(field: &mut T, raw: &Raw<'_>, rule: &Rule) -> Result<(), NotAllowed> {
    let value = match raw {
        Raw::Toml(value) => T::from_toml(value),
        Raw::Text(text) => T::from_text(text.trim()),
    };
    let value = value.filter(|value| rule.holds(value)).ok_or(NotAllowed)?;
    *field = value;
    Ok(())
}

/// A type that settings can have.
pub(super) trait SettingValue: Sized {
    /// The type as a phrase for people.
    const KIND: &'static str;
    /// Reads a value of the settings file.
    fn from_toml(value: &DeValue<'_>) -> Option<Self>;
    /// Reads a value of a variable or flag.
    fn from_text(text: &str) -> Option<Self>;
    /// The value as TOML source that [`SettingValue::from_toml`] reads back.
    fn to_toml(&self) -> String;
    /// The value as a number, for [`Rule::Range`].
    fn number(&self) -> Option<u64> {
        None
    }
    /// The value as text, for [`Rule::OneOf`] and [`Rule::Text`].
    fn text(&self) -> Option<&str> {
        None
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl SettingValue for bool {
    const KIND: &'static str = "true or false";
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn to_toml(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            const KIND: &'static str = "a whole number";
            fn from_toml(value: &DeValue<'_>) -> Option<Self> {
                let integer = value.as_integer()?;
                <$type>::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            fn from_text(text: &str) -> Option<Self> {
                // The file allows `1_000_000`, so a variable does too.
                text.replace('_', "").parse().ok()
            }
            fn to_toml(&self) -> String {
                self.to_string()
            }
            fn number(&self) -> Option<u64> {
                u64::try_from(*self).ok()
            }
        }
    )+};
}
whole_numbers!(u32, u64, usize);

impl SettingValue for String {
    const KIND: &'static str = "a text";
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn to_toml(&self) -> String {
        quoted(self)
    }
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl SettingValue for SocketAddr {
    const KIND: &'static str = "an address with a port, such as \"127.0.0.1:8420\", \"0.0.0.0:8420\" or \"[::1]:8420\"";
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl SettingValue for Option<PathBuf> {
    const KIND: &'static str = "the path of a file, or empty";
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
    fn from_text(text: &str) -> Option<Self> {
        if text.contains('\0') {
            return None;
        }
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    }
    fn to_toml(&self) -> String {
        quoted(&self.as_deref().unwrap_or("".as_ref()).to_string_lossy())
    }
}

impl SettingValue for Vec<ipnet::IpNet> {
    const KIND: &'static str =
        "a list of networks or addresses, such as [\"10.0.0.0/8\", \"::1\"] (in a variable: 10.0.0.0/8,::1)";
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value
            .as_array()?
            .iter()
            .map(|entry| network(entry.get_ref().as_str()?))
            .collect()
    }
    fn from_text(text: &str) -> Option<Self> {
        // As in the file, or just with commas.
        if text.starts_with('[') {
            let list = DeValue::parse(text).ok()?;
            return Self::from_toml(list.get_ref());
        }
        text.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(network)
            .collect()
    }
    fn to_toml(&self) -> String {
        let entries: Vec<_> = self.iter().map(|net| quoted(&net.to_string())).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// A network, or one address as a network of its own.
fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
}
