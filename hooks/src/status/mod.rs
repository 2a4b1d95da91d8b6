//! `git auxin status`: locks, sound that was not pushed, sound that is not here, and what is not set up, in one
//! screen or as JSON. It changes nothing and asks nobody for a password.

mod large_files;
mod locks;
mod repository;

use serde::Serialize;

pub(crate) use self::large_files::pointers;
pub use self::large_files::{LargeFiles, Missing, Unpushed};
pub use self::locks::{InTheWay, Locks, LocksState, Mine};
pub(crate) use self::locks::{all as all_locks, in_the_way};
use crate::git::GitError;
use crate::setup::{self, Finding, SetupError};

/// Longest list on the screen; all of it is in the JSON.
const SHOWN: usize = 5;

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Git did not help.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Nor did it tell about its settings.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The folder of Git LFS cannot be used.
    #[error("{0}")]
    LargeFiles(String),
}

/// Everything that is told.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Programs, hooks and attributes.
    pub setup: Vec<Finding>,
    /// What is in the current repository; nothing outside of one.
    pub repository: Option<Repository>,
}

/// What is told of a repository.
#[derive(Debug, Serialize)]
pub struct Repository {
    /// The current branch, as a full ref name.
    pub branch: Option<String>,
    /// Who works on what.
    pub locks: Locks,
    /// Large files.
    pub large_files: LargeFiles,
}

/// Looks at everything.
///
/// # Errors
/// [`StatusError`]; that the server cannot be asked is none, but is told.
pub fn status() -> Result<Status, StatusError> {
    let mut setup = setup::status()?;
    if !repository::is_here()? {
        return Ok(Status {
            setup,
            repository: None,
        });
    }
    let files = large_files::files_of_head()?;
    setup.extend(repository::setup(&files)?);
    let branch = repository::branch()?;
    // First, since to look for changes can make Git LFS take large files from the folder again.
    let large_files = large_files::look(&files)?;
    Ok(Status {
        setup,
        repository: Some(Repository {
            locks: locks::look(branch.as_deref())?,
            large_files,
            branch,
        }),
    })
}

impl Status {
    /// Whether something has to be done.
    pub fn has_problem(&self) -> bool {
        self.findings().iter().any(|finding| finding.is_problem)
    }

    /// As lines for a terminal.
    pub fn lines(&self) -> Vec<String> {
        let shown = |finding: &Finding| {
            let mark = if finding.is_problem { "!" } else { " " };
            format!("{mark} {:<17} {}", finding.subject, finding.text)
        };
        self.findings().iter().map(shown).collect()
    }

    fn findings(&self) -> Vec<Finding> {
        let mut all = self.setup.clone();
        if let Some(repository) = &self.repository {
            all.extend(repository.locks.findings());
            all.extend(repository.large_files.findings());
        }
        all
    }
}

/// The first few of many.
pub(crate) fn some<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let mut text = all.take(SHOWN).map(clean).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Text of a path or the server, safe for a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// `1 file`, `3 files`.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A size for people: `1.4 MB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_say_them() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (999_960, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000, "5.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
        assert_eq!(some(["a", "b\u{1b}[1m"].into_iter()), "a, b[1m");
        assert_eq!(some(["a"; 7].into_iter()), "a, a, a, a, a and 2 more");
    }
}
