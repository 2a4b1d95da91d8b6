//! What maintenance remembers of a repository between two runs; its loss costs a run that could have
//! been saved.

use std::fs;
use std::io;
use std::path::Path;

/// Name of the file in the repository.
const FILE: &str = "auxin-maintenance";
/// Its name until it is written.
const UNFINISHED: &str = "auxin-maintenance.new";
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 4096;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The clone pack's name without an ending.
    pub clone_pack: Option<String>,
    /// The name of the pack of what only other refs reach, without an ending.
    pub other_pack: Option<String>,
    /// Stands for the ids that fetches were told of when the clone pack was made.
    pub visible_digest: String,
    /// When all was in order last, in seconds since 1970.
    pub finished_at_secs: u64,
}

impl State {
    /// Reads it; nothing if there is none or it makes no sense.
    pub fn read(git_dir: &Path) -> Self {
        let path = git_dir.join(FILE);
        let is_small = fs::metadata(&path).is_ok_and(|data| data.len() <= MAX_BYTES);
        let content = if is_small {
            fs::read_to_string(&path).unwrap_or_default()
        } else {
            String::new()
        };
        let mut state = Self::default();
        for (name, value) in content.lines().filter_map(|line| line.split_once(' ')) {
            match name {
                "clone-pack" => state.clone_pack = Some(value.to_owned()),
                "other-pack" => state.other_pack = Some(value.to_owned()),
                "visible" => value.clone_into(&mut state.visible_digest),
                "finished-at" => state.finished_at_secs = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        state
    }

    /// Writes it at once, but not durably: after a power cut an older one is as good.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, git_dir: &Path) -> io::Result<()> {
        let mut content = String::new();
        for (name, value) in [("clone-pack", &self.clone_pack), ("other-pack", &self.other_pack)] {
            if let Some(value) = value {
                content.push_str(&format!("{name} {value}\n"));
            }
        }
        content.push_str(&format!(
            "visible {}\nfinished-at {}\n",
            self.visible_digest, self.finished_at_secs
        ));
        let new = git_dir.join(UNFINISHED);
        fs::write(&new, content)?;
        fs::rename(new, git_dir.join(FILE))
    }

    /// Removes what a writer left that was killed.
    pub(super) fn remove_unfinished(git_dir: &Path) -> io::Result<()> {
        match fs::remove_file(git_dir.join(UNFINISHED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_rubbish_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(State::read(folder.path()), State::default());
        let state = State {
            clone_pack: Some("pack-1".to_owned()),
            other_pack: None,
            visible_digest: "abc".to_owned(),
            finished_at_secs: 7,
        };

        state.write(folder.path()).expect("writes");

        assert_eq!(State::read(folder.path()), state);
        fs::write(folder.path().join(FILE), [0xff; 100]).expect("writes");
        assert_eq!(State::read(folder.path()), State::default());
    }
}
