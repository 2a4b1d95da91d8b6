//! Identifiers: of people, repositories, tokens and pushes, and git's object ids as bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// Text or bytes that are not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier; copy it as a list command prints it")]
pub struct BadId;

macro_rules! id_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// A UUID of version 7 (RFC 9562): 16 bytes, in the order of their making.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Uuid);

        impl $type {
            /// A new identifier; never the same twice, not even in other processes.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Takes the bytes back.
            ///
            /// # Errors
            /// [`BadId`] unless there are 16.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadId> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| BadId)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl FromStr for $type {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Uuid::try_parse(text).map(Self).map_err(|_| BadId)
            }
        }
    };
}

id_type!(
    /// A person.
    UserId
);
id_type!(
    /// A repository.
    RepoId
);
id_type!(
    /// An access token (not its secret).
    TokenId
);
id_type!(
    /// A lock.
    LockId
);
id_type!(
    /// A push, or a change that was found on disk.
    PushId
);

/// A git object id as it is stored: 20 bytes (SHA-1) or 32 (SHA-256), never the null id.
///
/// Where a ref may be absent, as before its first push, the type is `Option<GitId>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitId {
    bytes: [u8; 32],
    len: u8,
}

impl GitId {
    /// Takes the bytes of an object id; the null id, git's word for "absent", is `None`.
    ///
    /// # Errors
    /// [`BadId`] unless there are 20 or 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Option<Self>, BadId> {
        if bytes.len() != 20 && bytes.len() != 32 {
            return Err(BadId);
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut id = Self {
            bytes: [0; 32],
            len: bytes.len() as u8,
        };
        id.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(id))
    }

    /// The 20 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_from_text_and_bytes_and_rise_with_time() {
        let (first, second) = (RepoId::new(), RepoId::new());
        assert!(first < second);
        assert_eq!(first.to_string().parse::<RepoId>().unwrap(), first);
        assert_eq!(RepoId::from_bytes(first.as_bytes()).unwrap(), first);
        assert!(RepoId::from_bytes(&[1; 15]).is_err());
        assert!("song".parse::<RepoId>().is_err());
    }

    #[test]
    fn the_null_id_is_absence() {
        assert_eq!(GitId::from_bytes(&[0; 20]).unwrap(), None);
        assert_eq!(GitId::from_bytes(&[0; 32]).unwrap(), None);
        assert!(GitId::from_bytes(&[1; 21]).is_err());
        let id = GitId::from_bytes(&[0xab; 20]).unwrap().unwrap();
        assert_eq!(id.to_string(), "ab".repeat(20));
        assert_eq!(id.as_bytes(), &[0xab; 20]);
    }
}
