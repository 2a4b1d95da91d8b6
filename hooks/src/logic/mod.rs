//! What a Logic Pro or GarageBand project is, read from its files: where projects lie in a tree, and what their
//! property lists and `ProjectData` say.
//!
//! Reads bytes that a [`Source`] hands out and never a path by itself, so that Git trees and folders are read alike.
//! Nothing is guessed: what a file does not say is absent, and numbers without a known meaning are told as they are.
//! Names of home folders and bookmarks never leave this module. docs/metadata.md says where each value comes from.

pub mod compare;
mod find;
mod information;
mod metadata;
mod names;
mod plist;
mod project;
mod project_data;
mod ready;
mod record;
mod rtf;
mod source;

pub use self::find::{Found, Kind, Layout, find};
pub use self::information::{Information, SavedWith};
pub use self::metadata::{External, Key, MetaData, Mode};
pub use self::names::{Place, Reference, composed};
pub use self::project::{Alternative, Audio, Project, TreePaths, read_project, read_projects};
pub use self::project_data::{
    AudioFile, AudioFormat, Clock, Marker, Meter, Placement, ProjectData, Region, TICKS_PER_QUARTER, Tempo,
};
pub use self::ready::{OutsideFile, RateMismatch, Readiness, check};
pub use self::record::{
    AlternativeRecord, AudioCounts, ExternalCounts, FileRecord, Plugins, ProjectRecord, Top, Warning, fit,
};
pub use self::source::{Content, FileFacts, Source};

use serde::{Deserialize, Serialize};

/// Version of this reader. What another one found is read again.
pub const READER_VERSION: u32 = 1;

/// How far a reader got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// To the end.
    #[default]
    Ok,
    /// A part is damaged or of a form that is not known; what was read before it counts.
    Partial,
    /// Larger than the limit; nothing was read.
    TooLarge,
    /// The large file behind a pointer is not there.
    LfsMissing,
    /// Not what Logic writes.
    NotLogic,
}

/// What is read at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A property list, in bytes.
    pub plist_bytes: u64,
    /// `ProjectData`, in bytes.
    pub project_data_bytes: u64,
    /// Entries of one list in a project.
    pub list_entries: usize,
    /// Projects of one tree.
    pub projects: usize,
    /// Alternatives of one project.
    pub alternatives: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            plist_bytes: 4 << 20,
            project_data_bytes: 64 << 20,
            list_entries: 20_000,
            projects: 200,
            alternatives: 64,
        }
    }
}
