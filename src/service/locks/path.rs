//! Paths that can be locked, and how they compare.
//!
//! macOS and Windows take two names for one that differ in case or in how accents are put together, so a
//! lock must, too: paths compare after Unicode's NFC and full case folding. They are shown as given.

use std::borrow::Cow;

use bstr::{BStr, ByteSlice as _};
use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

/// Longest path that can be locked, in bytes: what file systems take.
pub const PATH_MAX_BYTES: usize = 4096;

/// The file of a song in which everything is (docs/metadata.md); a lock on it is one on its folder.
const PROJECT_DATA: &str = "projectdata";
/// The folder that alternatives of a song are in.
const ALTERNATIVES: &str = "alternatives";

/// A path that can be locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockPath {
    /// As it was given, without a slash at its end.
    pub given: String,
    /// What must be equal for two paths to be the same.
    pub key: String,
    /// The key of the file or folder that a lock on it is about.
    pub covers_key: String,
}

impl LockPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given = text.strip_suffix('/').unwrap_or(text);
        if given.is_empty() {
            return Err("Name the file to lock: its path from the root of the repository.".into());
        }
        if given.len() > PATH_MAX_BYTES {
            return Err(format!("A path has at most {PATH_MAX_BYTES} bytes."));
        }
        if given.contains('\0') || given.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(
                "A path begins at the root of the repository and has `/` between folders, such as Song.logicx/Media/take.wav."
                    .into(),
            );
        }
        let key = fold(given.as_bytes().as_bstr()).into_owned();
        let covers_key = covered(&key).to_owned();
        Ok(Self {
            given: given.to_owned(),
            key,
            covers_key,
        })
    }
}

/// What must be equal for two paths to be the same. Bytes that are no text stand for one another.
pub fn fold(path: &BStr) -> Cow<'_, str> {
    if path.is_ascii() {
        return match path.iter().any(u8::is_ascii_uppercase) {
            true => Cow::Owned(path.to_str_lossy().to_ascii_lowercase()),
            false => path.to_str_lossy(),
        };
    }
    // Decomposed before and after folding: Unicode, section 3.13, "canonical caseless match".
    Cow::Owned(
        path.to_str_lossy()
            .chars()
            .nfd()
            .default_case_fold()
            .nfd()
            .default_case_fold()
            .nfc()
            .collect(),
    )
}

/// What a lock on the path with this key is about: of a song's own file its folder.
fn covered(key: &str) -> &str {
    let mut from_end = key.rsplit('/');
    let is_project =
        from_end.next() == Some(PROJECT_DATA) && from_end.next().is_some() && from_end.next() == Some(ALTERNATIVES);
    match is_project {
        true => &key[..key.len() - PROJECT_DATA.len() - 1],
        false => key,
    }
}

/// A key and the keys of all folders that it lies in, the longest first.
pub fn lies_in(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| key.rfind('/').map(|at| &key[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        LockPath::parse(text).expect("a path").key
    }

    #[test]
    fn paths_that_file_systems_take_for_one_have_one_key() {
        for (one, other) in [
            ("Song.logicx/Media/Take.WAV", "song.logicx/media/take.wav"),
            // é in one and in two code points, and in capitals.
            ("caf\u{e9}", "cafe\u{301}"),
            ("CAF\u{c9}", "cafe\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            (
                "\u{3a3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c2}",
                "\u{3c3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c3}",
            ),
            // An iota that is written below.
            ("\u{1f80}", "\u{1f00}\u{3b9}"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        assert_ne!(key("a/b"), key("a:b"));
        assert_ne!(key("take 1"), key("take  1"));
    }

    #[test]
    fn a_path_is_shown_as_given_and_bad_ones_are_told() {
        assert_eq!(
            LockPath::parse("Song/Caf\u{e9}/").expect("a path").given,
            "Song/Caf\u{e9}"
        );
        for bad in [
            "",
            "/",
            "/a",
            "a//b",
            "a/../b",
            "./a",
            "a\0b",
            &"x".repeat(PATH_MAX_BYTES + 1),
        ] {
            assert!(LockPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lock_on_project_data_is_about_its_alternative() {
        let covers = |text: &str| LockPath::parse(text).expect("a path").covers_key;
        assert_eq!(
            covers("S.logicx/Alternatives/000/ProjectData"),
            "s.logicx/alternatives/000"
        );
        assert_eq!(covers("Alternatives/001/PROJECTDATA"), "alternatives/001");
        for other in [
            "ProjectData",
            "x/ProjectData",
            "Alternatives/ProjectData",
            "Alternatives/0/x/ProjectData",
        ] {
            assert_eq!(covers(other), other.to_lowercase(), "{other}");
        }
    }

    #[test]
    fn a_key_lies_in_its_folders() {
        assert_eq!(lies_in("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
    }
}
