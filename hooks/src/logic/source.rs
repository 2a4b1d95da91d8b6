//! Where files come from.

use serde::{Deserialize, Serialize};

use super::Status;

/// The content of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Bytes(Vec<u8>),
    /// It is larger than was asked for.
    TooLarge,
    /// A pointer of Git LFS, and the file behind it is not here.
    LfsMissing,
    /// There is no such file.
    Absent,
}

impl Content {
    /// The bytes, or why there are none; `None` if there is no such file.
    pub fn into_bytes(self) -> Option<Result<Vec<u8>, Status>> {
        match self {
            Self::Bytes(bytes) => Some(Ok(bytes)),
            Self::TooLarge => Some(Err(Status::TooLarge)),
            Self::LfsMissing => Some(Err(Status::LfsMissing)),
            Self::Absent => None,
        }
    }
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its length in bytes; of a pointer, the length of the file behind it.
    pub bytes: u64,
    /// Its name by content: `sha256:…` of a large file, `git:…` of another one.
    pub oid: Option<String>,
    /// The sound hash, in hexadecimal digits.
    pub sound: Option<String>,
    /// Length of the sound in seconds.
    pub seconds: Option<f64>,
    /// Sample rate in Hz.
    pub sample_rate_hz: Option<f64>,
}

/// A tree with projects: of a commit, or a folder. Paths are relative to it, with `/`, as the tree spells them.
pub trait Source {
    /// Why it cannot be read at all.
    type Error;

    /// The paths of all files, in any order. The source bounds their number.
    ///
    /// # Errors
    /// The source's own.
    fn paths(&mut self) -> Result<Vec<String>, Self::Error>;

    /// A file of at most `max_bytes`; through a pointer of Git LFS, the file behind it.
    ///
    /// # Errors
    /// The source's own; what is wrong with one file is a [`Content`].
    fn read(&mut self, path: &str, max_bytes: u64) -> Result<Content, Self::Error>;

    /// What is known of a file; `None` if there is none.
    ///
    /// # Errors
    /// The source's own.
    fn facts(&mut self, path: &str) -> Result<Option<FileFacts>, Self::Error>;
}
