//! After a checkout or merge Git gives each file it writes the present time, and Logic then draws the overviews of all
//! of them anew. Sound gets the time of the commit that last changed the sound instead.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::sounds::Sounds;
use super::{Change, HookError, changes, is_null};
use crate::audio::is_audio_path;
use crate::git::{self, GitError};
use crate::status::pointers;

/// Most files that are looked at; the rest keeps the time of the checkout.
const MAX_FILES: usize = 20_000;
/// Most commits that are looked at.
const MAX_COMMITS: &str = "--max-count=50000";

/// A commit's time in seconds since 1970, and what it changed.
type Commit = (u64, Vec<Change>);

/// Gives the sound that differs between two versions its time.
pub(super) fn restore(before: &str, after: &str) -> Result<Vec<String>, HookError> {
    let mut changed = written(before, after)?;
    changed.retain(|change| !is_null(&change.after) && is_audio_path(&change.path));
    changed.truncate(MAX_FILES);
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let top = git::ask(&["rev-parse", "--show-toplevel"])?;
    let since = changed_since(&top)?;
    changed.retain(|change| !since.contains(&change.path));
    let paths: Vec<&str> = changed.iter().map(|change| change.path.as_str()).collect();
    let commits = history(&top, after, &paths)?;
    let times = times(&changed, &commits)?;
    let mut done = 0;
    for (path, at) in times {
        done += u64::from(set(&Path::new(&top).join(path), at));
    }
    if done > 0 {
        // Git compares times to know what changed; now it looks once, and not at every status.
        git::run_quietly(&["-C", &top, "update-index", "-q", "--refresh"], b"")?;
    }
    Ok(Vec::new())
}

/// What a checkout from one version to another wrote; `before` is zeros for a clone.
fn written(before: &str, after: &str) -> Result<Vec<Change>, GitError> {
    let empty;
    let before = match is_null(before) {
        true => {
            empty = git::ask(&["hash-object", "-t", "tree", "--stdin"])?;
            &empty
        }
        false => before,
    };
    let args = [
        "diff-tree",
        "-r",
        "-z",
        "--raw",
        "--no-renames",
        "--no-abbrev",
        before,
        after,
    ];
    let output = git::run_quietly(&args, b"")?;
    if !output.status.success() {
        return Err(git::failed(&args, &output));
    }
    Ok(changes(&String::from_utf8_lossy(&output.stdout)))
}

/// What was changed in the folder since, as far as times tell.
fn changed_since(top: &str) -> Result<HashSet<String>, GitError> {
    let args = ["-C", top, "diff-files", "--name-only", "-z"];
    let output = git::run_quietly(&args, b"")?;
    if !output.status.success() {
        return Err(git::failed(&args, &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split('\0').map(str::to_owned).collect())
}

/// The commits that changed these files, newest first.
fn history(top: &str, tip: &str, paths: &[&str]) -> Result<Vec<Commit>, GitError> {
    let mut args = vec![
        "-C",
        top,
        "--literal-pathspecs",
        "log",
        "-z",
        "--raw",
        "--no-renames",
        "--no-abbrev",
    ];
    args.extend(["--format=%x00%x00%ct", MAX_COMMITS, tip, "--"]);
    // Few are named, so that Git can leave out commits; many would not fit into a command.
    if paths.len() <= 100 {
        args.extend(paths);
    }
    let output = git::run_quietly(&args, b"")?;
    if !output.status.success() {
        return Err(git::failed(&args, &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted: HashSet<&str> = paths.iter().copied().collect();
    let commit = |part: &str| {
        let part = part.trim_start_matches('\0');
        let (time, raw) = part.split_once('\0').unwrap_or((part, ""));
        let mut changed = changes(raw);
        changed.retain(|change| wanted.contains(change.path.as_str()));
        Some((time.trim().parse().ok()?, changed))
    };
    Ok(text.split("\0\0").filter_map(commit).collect())
}

/// When the sound of each file last changed, in seconds since 1970.
fn times(files: &[Change], commits: &[Commit]) -> Result<Vec<(String, u64)>, HookError> {
    let blobs: HashSet<&str> = commits
        .iter()
        .flat_map(|(_, changed)| changed)
        .flat_map(|change| [change.before.as_str(), change.after.as_str()])
        .filter(|blob| !is_null(blob))
        .collect();
    let pointers = pointers(blobs.into_iter())?;
    let mut sounds = Sounds::open()?;
    let mut open: HashMap<&str, Option<u64>> = files.iter().map(|file| (file.path.as_str(), None)).collect();
    let mut done = Vec::new();
    for (time, changed) in commits {
        for change in changed {
            let Some(since) = open.get_mut(change.path.as_str()) else {
                continue;
            };
            // The newest commit that is not known to have left the sound as it was.
            *since = Some(*time);
            let (before, after) = (pointers.get(&change.before), pointers.get(&change.after));
            let is_same = match (before, after) {
                (Some(&before), Some(&after)) => sounds.are_equal(before, after),
                _ => false,
            };
            if !is_same {
                open.remove(change.path.as_str());
                done.push((change.path.clone(), *time));
            }
        }
        if open.is_empty() {
            break;
        }
    }
    // Of a shallow clone the oldest that is there.
    done.extend(
        open.into_iter()
            .filter_map(|(path, since)| Some((path.to_owned(), since?))),
    );
    Ok(done)
}

/// Tells whether the time is another one now.
fn set(path: &Path, at_secs: u64) -> bool {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at_secs);
    let is_file = path
        .symlink_metadata()
        .is_ok_and(|data| data.is_file() && data.modified().ok() != Some(at));
    let open = || {
        if cfg!(windows) {
            File::options().write(true).open(path)
        } else {
            // Locked files are read-only, and their time can be set all the same.
            File::open(path)
        }
    };
    is_file && open().is_ok_and(|file| file.set_modified(at).is_ok())
}
