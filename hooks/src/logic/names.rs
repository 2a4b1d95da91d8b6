//! Names and texts of a project, without what is nobody's business.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// Longest text that is told, in characters.
const MAX_TEXT_CHARS: usize = 240;
/// Longest path within a project, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// A text as it is told: in NFC, without control characters, cut after 240 characters, and with no name of a home
/// folder.
pub(super) fn told(text: &str) -> String {
    let text: String = text
        .nfc()
        .filter(|char| !char.is_control())
        .take(MAX_TEXT_CHARS)
        .collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((at, len)) = home_folder(rest) {
        let (before, home) = rest.split_at(at);
        out.push_str(before);
        out.push_str(&home[..len]);
        out.push('…');
        // The name goes up to the next separator, spaces and all: rather too much than a part of it.
        let name = &home[len..];
        rest = &name[name.find(['/', ':']).unwrap_or(name.len())..];
    }
    out.push_str(rest);
    out.trim().to_owned()
}

/// Where a home folder is named, and the length of what stands before the name.
fn home_folder(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    ["/users/", ":users:", "/home/"]
        .iter()
        .filter_map(|place| Some((lower.find(place)?, place.len())))
        .min()
}

/// A path in the form in which two spellings of it are equal: macOS stores names decomposed, Git composed.
pub fn composed(path: &str) -> String {
    path.nfc().collect()
}

/// Where a file lies that a project names but does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// `/Library`, for everyone on that machine: loops, instruments, impulse responses of Apple and others.
    Library,
    /// In someone's home folder.
    Home,
    /// On another disk.
    Volume,
    /// Elsewhere.
    Elsewhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Library => "/Library",
            Self::Home => "a home folder",
            Self::Volume => "another disk",
            Self::Elsewhere => "another folder",
        })
    }
}

/// A file that a project names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// One of the project, as `Audio Files/Gtr#01.aif`: relative to its media folder, in NFC.
    Inside(String),
    /// Another one, by its own name alone.
    Outside {
        /// Where it lies.
        place: Place,
        /// The last part of its path; empty if that is the name of a home folder.
        name: String,
    },
}

impl Reference {
    /// Reads a path as Logic writes it.
    pub fn parse(path: &str) -> Self {
        let path = path.strip_prefix("file://").unwrap_or(path);
        let lower = path.to_lowercase();
        // The old form with colons: `Macintosh HD:Users:ann:Music:x.aif`.
        let is_old = lower.contains(":users:") || (!path.contains('/') && lower.starts_with("macintosh hd:"));
        let separators: &[char] = if is_old { &[':', '/'] } else { &['/'] };
        let parts: Vec<&str> = path
            .split(separators)
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        let first = parts.first().copied().unwrap_or_default();
        let is_users = |part: &str| part.eq_ignore_ascii_case("users") || part.eq_ignore_ascii_case("home");
        let is_absolute = is_old || path.starts_with(['/', '~']) || is_users(first);
        let home = parts.iter().position(|part| is_users(part));
        if !is_absolute && home.is_none() && !parts.contains(&"..") && !parts.is_empty() {
            let path = composed(&parts.join("/"));
            if path.len() <= MAX_PATH_BYTES && !path.contains(char::is_control) {
                return Self::Inside(path);
            }
        }
        // Within the home folder, its name and what stands before do not count.
        let (place, named) = match home {
            Some(at) => (Place::Home, parts.get(at + 2..).unwrap_or_default()),
            None if first.starts_with('~') => (Place::Home, parts.get(1..).unwrap_or_default()),
            None if first == "Library" => (Place::Library, &parts[..]),
            None if first == "Volumes" => (Place::Volume, &parts[..]),
            None => (Place::Elsewhere, &parts[..]),
        };
        Self::Outside {
            place,
            name: told(named.last().copied().unwrap_or_default()),
        }
    }

    /// Its own name, without folders.
    pub fn name(&self) -> &str {
        match self {
            Self::Inside(path) => path.rsplit('/').next().unwrap_or(path),
            Self::Outside { name, .. } => name,
        }
    }
}
