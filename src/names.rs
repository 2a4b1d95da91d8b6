//! Names of people and repositories: one parser, so that a name means the same in an address, in
//! the database and on every file system.
//!
//! A name is at most [`OWNER_NAME_MAX_BYTES`] or [`REPO_NAME_MAX_BYTES`] long and made of ASCII
//! letters, digits, `-`, `_` and `.`. Case is kept for display and ignored for comparison: `Anna`
//! and `anna` are one person. What a folder, a URL or git itself would misread is refused.
//!
//! Values of these types can only be built valid; nobody below checks again.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Longest name of a person, in bytes.
pub const OWNER_NAME_MAX_BYTES: usize = 64;

/// Longest name of a repository, in bytes.
pub const REPO_NAME_MAX_BYTES: usize = 100;

/// Longest piece of a refused name that an error repeats, in characters.
const SHOWN_MAX_CHARS: usize = 60;

/// Names that no person can have, because an address or a tool means something else by them.
///
/// The first group are paths of the server itself; the second are the user names that tools put
/// beside an access token when only the token counts, so that no account shadows them. Extend the
/// list knowingly: an account that has the name already could no longer be reached.
pub const RESERVED_OWNER_NAMES: &[&str] = &[
    "-",
    "api",
    "assets",
    "events",
    "explore",
    "favicon.ico",
    "health",
    "healthz",
    "help",
    "info",
    "lfs",
    "livez",
    "login",
    "logout",
    "metrics",
    "new",
    "objects",
    "openapi.json",
    "readyz",
    "robots.txt",
    "search",
    "settings",
    "static",
    "well-known",
    // beside a token
    "anonymous",
    "git",
    "gitlab-ci-token",
    "nobody",
    "oauth2",
    "token",
    "x-access-token",
    "x-oauth-basic",
    "x-token-auth",
];

/// Endings that git or the server give a meaning of their own.
const REFUSED_ENDINGS: &[&str] = &[".git", ".lock", ".atom"];

/// What a refused name was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The name of a person.
    Owner,
    /// The name of a repository.
    Repo,
}

impl NameKind {
    fn max_bytes(self) -> usize {
        match self {
            Self::Owner => OWNER_NAME_MAX_BYTES,
            Self::Repo => REPO_NAME_MAX_BYTES,
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "user name",
            Self::Repo => "repository name",
        })
    }
}

/// A name or an address that cannot be one; the message is a sentence for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// There is nothing.
    #[error("the {0} is empty; give at least one letter or digit")]
    Empty(NameKind),
    /// Longer than the limit.
    #[error("the {kind} is {bytes} characters long; at most {max_bytes} are allowed")]
    TooLong {
        /// What it was meant to be.
        kind: NameKind,
        /// Its length, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// A character that is not allowed.
    #[error("the {kind} `{shown}` contains {found:?}; use letters a-z, digits, `-`, `_` and `.`")]
    BadCharacter {
        /// What it was meant to be.
        kind: NameKind,
        /// The name, shortened and escaped.
        shown: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// Begins with `.` or `-`.
    #[error("the {kind} `{shown}` begins with `.` or `-`; begin with a letter, a digit or `_`")]
    BadStart {
        /// What it was meant to be.
        kind: NameKind,
        /// The name.
        shown: String,
    },
    /// Ends with `.`, which Windows drops.
    #[error("the {kind} `{shown}` ends with `.`; end with a letter, a digit, `-` or `_`")]
    BadEnd {
        /// What it was meant to be.
        kind: NameKind,
        /// The name.
        shown: String,
    },
    /// Two dots in a row.
    #[error("the {kind} `{shown}` contains `..`; use single dots")]
    DoubleDot {
        /// What it was meant to be.
        kind: NameKind,
        /// The name.
        shown: String,
    },
    /// Ends in something that git or the server read as their own.
    #[error("the {kind} `{shown}` ends with `{ending}`, which has a meaning of its own; leave the ending off")]
    BadEnding {
        /// What it was meant to be.
        kind: NameKind,
        /// The name.
        shown: String,
        /// The ending.
        ending: &'static str,
    },
    /// A device on Windows, where no folder can have this name.
    #[error("the {kind} `{shown}` is a device name on Windows; choose another name")]
    Device {
        /// What it was meant to be.
        kind: NameKind,
        /// The name.
        shown: String,
    },
    /// On [`RESERVED_OWNER_NAMES`].
    #[error("the user name `{shown}` is reserved for the server; choose another name")]
    Reserved {
        /// The name.
        shown: String,
    },
    /// Not of the form `OWNER/NAME`.
    #[error("`{shown}` is not the address of a repository; write OWNER/NAME, such as anna/song")]
    BadAddress {
        /// What was given, shortened and escaped.
        shown: String,
    },
}

/// The name of a person and of the space their repositories live in.
#[derive(Clone)]
pub struct OwnerName(String);

/// The name of a repository within its owner's space.
#[derive(Clone)]
pub struct RepoName(String);

macro_rules! name_type {
    ($type:ident) => {
        impl $type {
            /// A name that was valid when it was stored, taken back as it is.
            ///
            /// Rules may get stricter from one release to the next; what exists must stay reachable.
            pub(crate) fn stored(text: String) -> Self {
                Self(text)
            }

            /// The name as its owner wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name with case folded: what must be unique and what look-ups compare.
            pub fn key(&self) -> String {
                self.0.to_ascii_lowercase()
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $type {}

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                for byte in self.0.bytes() {
                    state.write_u8(byte.to_ascii_lowercase());
                }
                state.write_u8(0xff);
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text)
            }
        }
    };
}

name_type!(OwnerName);
name_type!(RepoName);

impl OwnerName {
    /// Reads the name of a person.
    ///
    /// # Errors
    /// [`BadName`] with the first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check(text, NameKind::Owner)?;
        if RESERVED_OWNER_NAMES
            .iter()
            .any(|reserved| reserved.eq_ignore_ascii_case(text))
        {
            return Err(BadName::Reserved { shown: shown(text) });
        }
        Ok(Self(text.to_owned()))
    }
}

impl RepoName {
    /// Reads the name of a repository, without `.git`.
    ///
    /// # Errors
    /// [`BadName`] with the first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check(text, NameKind::Repo)?;
        Ok(Self(text.to_owned()))
    }
}

/// Where a repository is found: `OWNER/NAME`. Two addresses that differ only in case are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RepoAddress {
    /// Whose space it is in.
    pub owner: OwnerName,
    /// Its name there.
    pub name: RepoName,
}

impl RepoAddress {
    /// Reads `OWNER/NAME` or `OWNER/NAME.git`.
    ///
    /// # Errors
    /// [`BadName`] with the first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let Some((owner, name)) = text.split_once('/') else {
            return Err(BadName::BadAddress { shown: shown(text) });
        };
        if name.contains('/') {
            return Err(BadName::BadAddress { shown: shown(text) });
        }
        Self::from_parts(owner, name)
    }

    /// Reads the two segments of a path; `name` may end in `.git`.
    ///
    /// # Errors
    /// [`BadName`] with the first rule that is broken.
    pub fn from_parts(owner: &str, name: &str) -> Result<Self, BadName> {
        Ok(Self {
            owner: OwnerName::parse(owner)?,
            name: RepoName::parse(name.strip_suffix(".git").unwrap_or(name))?,
        })
    }
}

impl Serialize for RepoAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for RepoAddress {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

impl fmt::Display for RepoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl fmt::Debug for RepoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The rules that both kinds of name share.
fn check(text: &str, kind: NameKind) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty(kind));
    }
    if text.len() > kind.max_bytes() {
        return Err(BadName::TooLong {
            kind,
            bytes: text.len(),
            max_bytes: kind.max_bytes(),
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(found) = text.chars().find(|c| !allowed(*c)) {
        return Err(BadName::BadCharacter {
            kind,
            shown: shown(text),
            found,
        });
    }
    // From here on the text is ASCII of bounded length and safe to repeat as it is.
    let shown = text.to_owned();
    if text.starts_with(['.', '-']) {
        return Err(BadName::BadStart { kind, shown });
    }
    if text.ends_with('.') {
        return Err(BadName::BadEnd { kind, shown });
    }
    if text.contains("..") {
        return Err(BadName::DoubleDot { kind, shown });
    }
    let folded = text.to_ascii_lowercase();
    if let Some(ending) = REFUSED_ENDINGS.iter().find(|e| folded.ends_with(**e)) {
        return Err(BadName::BadEnding { kind, shown, ending });
    }
    if is_windows_device(&folded) {
        return Err(BadName::Device { kind, shown });
    }
    Ok(())
}

/// Whether Windows opens a device for this name; an extension does not help (`nul.wav` is `NUL`).
fn is_windows_device(folded: &str) -> bool {
    let stem = folded.split('.').next().unwrap_or(folded);
    match stem {
        "con" | "prn" | "aux" | "nul" => true,
        _ => {
            stem.len() == 4
                && (stem.starts_with("com") || stem.starts_with("lpt"))
                && stem.ends_with(|c: char| c.is_ascii_digit())
        }
    }
}

/// What was typed, safe for a terminal and for a log line: control characters escaped, cut short.
fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN_MAX_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_keep_their_case_and_compare_without_it() {
        let address = RepoAddress::parse("Anna/Blue-Song_2.final").unwrap();
        assert_eq!(address.to_string(), "Anna/Blue-Song_2.final");
        assert_eq!(address, RepoAddress::parse("anna/BLUE-song_2.FINAL").unwrap());
        assert_eq!(address.owner.key(), "anna");
        assert_eq!(address.name.key(), "blue-song_2.final");
    }

    #[test]
    fn an_address_may_end_in_dot_git_once() {
        assert_eq!(
            RepoAddress::parse("anna/song.git").unwrap(),
            RepoAddress::parse("anna/song").unwrap()
        );
        assert!(matches!(
            RepoAddress::parse("anna/song.git.git"),
            Err(BadName::BadEnding { ending: ".git", .. })
        ));
        assert!(RepoAddress::parse("anna/.git").is_err());
    }

    #[test]
    fn what_a_file_system_a_url_or_git_would_misread_is_refused() {
        for name in [
            "",
            ".",
            "..",
            ".song",
            "-song",
            "song.",
            "a..b",
            "song.lock",
            "SONG.LOCK",
            "song.atom",
            "song.Git",
            "con",
            "NUL",
            "aux.wav",
            "com1",
            "Lpt9.txt",
            "a b",
            "a/b",
            "a\\b",
            "söng",
            "a\0b",
            "a\nb",
            "a%2fb",
            "a:b",
            "~a",
            "a@b",
            "a#b",
            "a?b",
            "*",
        ] {
            assert!(RepoName::parse(name).is_err(), "{name:?}");
            assert!(OwnerName::parse(name).is_err(), "{name:?}");
        }
        for name in [
            "a", "0", "_", "_x", "a-", "a_", "com", "com10", "console", "auxin", "nully",
        ] {
            assert!(RepoName::parse(name).is_ok(), "{name:?}");
        }
        for address in ["", "anna", "anna/", "/song", "anna/song/x", "anna//song", "/anna/song"] {
            assert!(RepoAddress::parse(address).is_err(), "{address:?}");
        }
    }

    #[test]
    fn the_longest_name_is_allowed_and_one_more_is_not() {
        assert!(OwnerName::parse(&"a".repeat(OWNER_NAME_MAX_BYTES)).is_ok());
        assert!(OwnerName::parse(&"a".repeat(OWNER_NAME_MAX_BYTES + 1)).is_err());
        assert!(RepoName::parse(&"a".repeat(REPO_NAME_MAX_BYTES)).is_ok());
        assert!(RepoName::parse(&"a".repeat(REPO_NAME_MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn reserved_names_are_refused_for_people_in_any_case_but_not_for_repositories() {
        for name in RESERVED_OWNER_NAMES {
            assert!(OwnerName::parse(name).is_err(), "{name}");
            assert!(OwnerName::parse(&name.to_uppercase()).is_err(), "{name}");
        }
        assert!(RepoName::parse("api").is_ok());
        assert!(RepoName::parse("health").is_ok());
    }

    #[test]
    fn a_refusal_names_the_rule_and_shows_hostile_input_harmlessly() {
        let error = RepoName::parse("a\u{1b}[2J").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
        assert!(error.contains("use letters a-z"), "{error}");
        let error = RepoAddress::parse(&"\u{7}".repeat(100_000)).unwrap_err().to_string();
        assert!(error.len() < 1000, "{}", error.len());
    }

    proptest! {
        #[test]
        fn whatever_parses_is_one_plain_folder_name(text in "\\PC{0,120}|[a-zA-Z0-9._-]{1,110}") {
            if let Ok(name) = RepoName::parse(&text) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
                prop_assert!(name.as_str().is_ascii());
                prop_assert!(name.as_str().len() <= REPO_NAME_MAX_BYTES);
                prop_assert!(!name.as_str().contains(".."));
                prop_assert_eq!(name.as_str(), text.as_str());
            }
        }

        #[test]
        fn an_address_reads_back_as_itself_with_and_without_dot_git(
            owner in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", name in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}"
        ) {
            if let Ok(address) = RepoAddress::parse(&format!("{owner}/{name}")) {
                let again = RepoAddress::parse(&address.to_string()).unwrap();
                prop_assert_eq!(&again, &address);
                prop_assert_eq!(again.to_string(), address.to_string());
                prop_assert_eq!(&RepoAddress::parse(&format!("{address}.git")).unwrap(), &address);
                prop_assert_eq!(
                    RepoAddress::parse(&address.to_string().to_ascii_uppercase()).unwrap().name.key(),
                    address.name.key()
                );
            }
        }

        #[test]
        fn no_input_makes_the_parser_panic(text in any::<String>()) {
            if let Err(error) = RepoAddress::parse(&text) {
                let message = error.to_string();
                prop_assert!(!message.chars().any(|c| c.is_control()));
            }
        }
    }
}
