//! What the current repository needs besides programs: hooks and attributes.

use std::path::{Path, PathBuf};

use lfs_protocol::MAX_POINTER_BYTES;

use super::large_files::File;
use super::{counted, size, some};
use crate::audio::is_audio_path;
use crate::git::{self, GitError};
use crate::setup::Finding;

/// Most songs whose attributes are asked for.
const MAX_SONGS: usize = 1000;
/// Largest hook that is read, in bytes.
const MAX_HOOK_BYTES: u64 = 1 << 20;

/// Whether there is a folder with files under version control here.
pub(super) fn is_here() -> Result<bool, GitError> {
    let output = git::run(&["rev-parse", "--is-inside-work-tree"])?;
    Ok(output.status.success() && output.stdout.starts_with(b"true"))
}

/// The current branch, as a full ref name.
pub(super) fn branch() -> Result<Option<String>, GitError> {
    let output = git::run(&["symbolic-ref", "--quiet", "HEAD"])?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(name))
}

pub(super) fn setup(files: &[File]) -> Result<Vec<Finding>, GitError> {
    let mut findings = vec![push_hook()?];
    findings.extend(songs(files)?);
    findings.extend(plain_sound(files));
    Ok(findings)
}

/// Git LFS sends large files from a hook.
fn push_hook() -> Result<Finding, GitError> {
    let hook = PathBuf::from(git::ask(&["rev-parse", "--git-path", "hooks/pre-push"])?);
    let runs_git_lfs = |text: String| text.contains("git lfs") || text.contains("git-lfs");
    let (text, is_problem) = match text_of(&hook).map(runs_git_lfs) {
        None => (
            "pre-push is absent here, so a push leaves sound behind. Run `git lfs install`.".to_owned(),
            true,
        ),
        Some(false) => (
            "pre-push here does not run Git LFS, so a push leaves sound behind. `git lfs update --manual` tells what to add to it.".to_owned(),
            true,
        ),
        Some(true) if !is_executable(&hook) => (
            format!(
                "pre-push may not be run, so a push leaves sound behind. Run `chmod +x {}`.",
                hook.display()
            ),
            true,
        ),
        Some(true) => ("pre-push runs Git LFS".to_owned(), false),
    };
    Ok(Finding {
        subject: "Hooks",
        text,
        is_problem,
    })
}

fn text_of(path: &Path) -> Option<String> {
    let length = path.metadata().ok()?.len();
    let bytes = (length <= MAX_HOOK_BYTES).then(|| std::fs::read(path).ok())??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether Git would run it; where files have no such mark, it does.
fn is_executable(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
    }
    #[cfg(not(unix))]
    {
        path.is_file()
    }
}

/// Songs that are merged by lines, or that two people can change at a time.
fn songs(files: &[File]) -> Result<Option<Finding>, GitError> {
    let is_song = |file: &&File| file.path.rsplit('/').next() == Some("ProjectData");
    let songs: Vec<_> = files.iter().filter(is_song).take(MAX_SONGS).collect();
    if songs.is_empty() {
        return Ok(None);
    }
    let asked: String = songs.iter().map(|song| format!("{}\0", song.path)).collect();
    let args = ["check-attr", "-z", "--stdin", "filter", "lockable"];
    // Paths are from the top of the repository.
    let top = git::ask(&["rev-parse", "--show-toplevel"])?;
    let args = [&["-C", &top], args.as_slice()].concat();
    let output = git::run_quietly(&args, asked.as_bytes())?;
    if !output.status.success() {
        return Err(git::failed(&args, &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<_> = text.split('\0').collect();
    let bad = |attribute: &str, good: &str| -> Vec<String> {
        fields
            .chunks_exact(3)
            .filter(|entry| entry[1] == attribute && entry[2] != good)
            .map(|entry| entry[0].to_owned())
            .collect()
    };
    let (whole, open) = (bad("filter", "lfs"), bad("lockable", "set"));
    let (text, is_problem) = match (whole.as_slice(), open.as_slice()) {
        ([], []) => ("in Git LFS and lockable".to_owned(), false),
        ([], open) => (
            format!(
                "not lockable: {}. Run `git auxin init`.",
                some(open.iter().map(String::as_str))
            ),
            true,
        ),
        (whole, _) => (
            format!(
                "not in Git LFS: {}. Run `git auxin init`.",
                some(whole.iter().map(String::as_str))
            ),
            true,
        ),
    };
    Ok(Some(Finding {
        subject: "Songs",
        text,
        is_problem,
    }))
}

/// Sound that Git itself keeps: each version whole, and in every clone.
fn plain_sound(files: &[File]) -> Option<Finding> {
    let is_plain = |file: &&File| is_audio_path(&file.path) && file.size_bytes >= MAX_POINTER_BYTES as u64;
    let plain: Vec<_> = files
        .iter()
        .filter(is_plain)
        .filter(|file| file.size_bytes != u64::MAX)
        .collect();
    let bytes = plain.iter().map(|file| file.size_bytes).sum();
    (!plain.is_empty()).then(|| Finding {
        subject: "Sound",
        text: format!(
            "{}, {}, not in Git LFS but in git itself: {}. Run `git auxin init`, then `git lfs migrate import`.",
            counted(plain.len() as u64, "file", "files"),
            size(bytes),
            some(plain.iter().map(|file| file.path.as_str()))
        ),
        is_problem: true,
    })
}
