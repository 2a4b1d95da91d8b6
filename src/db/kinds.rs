//! The small closed sets of words that rows hold: visibility, role and scope.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is not in the set; the message lists the set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {what}; use one of: {allowed}")]
pub struct BadKind {
    /// What was expected.
    pub what: &'static str,
    /// What was given, shortened.
    pub found: String,
    /// The set.
    pub allowed: &'static str,
}

macro_rules! word_type {
    ($type:ident, $what:literal, $allowed:literal, $($variant:ident = $word:literal),+) => {
        impl $type {
            /// The word, as in commands, settings and rows.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = BadKind;
            fn from_str(text: &str) -> Result<Self, BadKind> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(BadKind {
                        what: $what,
                        found: text.chars().take(40).flat_map(char::escape_debug).collect(),
                        allowed: $allowed,
                    }),
                }
            }
        }
    };
}

/// Who may see a repository without being its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody, signed in or not.
    Public,
    /// Everybody who is signed in.
    Internal,
    /// Its members and its owner.
    Private,
}

word_type!(
    Visibility,
    "visibility",
    "public, internal, private",
    Public = "public",
    Internal = "internal",
    Private = "private"
);

/// What a person is to a repository; a greater one may do all that a lesser one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads: clone and fetch.
    Read,
    /// Writes: push.
    Write,
    /// Manages members, protected branches, visibility and the default branch.
    Admin,
    /// Has it in their own space: renames, transfers and deletes it. Never a membership.
    Owner,
}

word_type!(
    Role,
    "role",
    "read, write, admin",
    Read = "read",
    Write = "write",
    Admin = "admin",
    Owner = "owner"
);

/// How much of its owner's rights an access token carries; a greater one carries all of a lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Everything that its owner may do.
    Admin,
}

word_type!(
    Scope,
    "scope",
    "read, write, admin",
    Read = "read",
    Write = "write",
    Admin = "admin"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_an_unknown_one_lists_the_allowed() {
        for role in [Role::Read, Role::Write, Role::Admin, Role::Owner] {
            assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        }
        let error = "secret".parse::<Visibility>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`secret` is not a visibility; use one of: public, internal, private"
        );
    }

    #[test]
    fn roles_and_scopes_are_ordered() {
        assert!(Role::Read < Role::Write && Role::Write < Role::Admin && Role::Admin < Role::Owner);
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Admin);
    }
}
