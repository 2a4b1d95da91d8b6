//! Puts the scripts in front of the hooks that are there, and takes them out again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HookError, SCRIPTS};
use crate::git;

/// What stands around a script of ours in a hook of somebody else.
const BEGIN: &str = "# auxin begin (git auxin install --hooks; everything up to the end is written anew)";
const END: &str = "# auxin end";
/// What a hook of ours alone begins with.
const HEAD: &str = "#!/bin/sh\n";
/// Largest hook that is read, in bytes.
const MAX_HOOK_BYTES: u64 = 1 << 20;
/// Programs that can run the scripts.
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "zsh", "ksh"];

/// What was done with one hook.
#[derive(Debug, PartialEq, Eq)]
pub struct Installed {
    /// Such as `pre-push`.
    pub hook: &'static str,
    /// What.
    pub state: State,
}

/// What was done with a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There was none.
    Made,
    /// It was put in front of what is there.
    Added,
    /// It was there already.
    Kept,
    /// It was taken out.
    Removed,
    /// What is there is no script of a shell, and stays alone.
    Foreign,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Made => "made",
            Self::Added => "in front of what is there",
            Self::Kept => "there already",
            Self::Removed => "taken out",
            Self::Foreign => "left as it is, for it is no script of a shell; call `git auxin hook NAME` in it with the same arguments and input",
        })
    }
}

/// Installs all of them in the current repository.
///
/// # Errors
/// [`HookError`]; nothing is changed if the folder of hooks belongs to more than this repository.
pub fn install() -> Result<Vec<Installed>, HookError> {
    let folder = folder()?;
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    each(|hook, script| {
        let path = folder.join(hook);
        let Some(before) = read(&path)? else {
            write(&path, &format!("{HEAD}{}", block(script)))?;
            return Ok(State::Made);
        };
        let Some((head, rest)) = split(&before) else {
            return Ok(State::Foreign);
        };
        let after = format!("{head}{}{}", block(script), without_block(rest));
        if after == before {
            return Ok(State::Kept);
        }
        write(&path, &after)?;
        Ok(State::Added)
    })
}

/// Takes all of them out again.
///
/// # Errors
/// [`HookError`]
pub fn uninstall() -> Result<Vec<Installed>, HookError> {
    let folder = folder()?;
    let mut done = each(|hook, _| {
        let path = folder.join(hook);
        let Some(before) = read(&path)? else {
            return Ok(State::Kept);
        };
        let Some((head, rest)) = split(&before) else {
            return Ok(State::Foreign);
        };
        let after = format!("{head}{}", without_block(rest));
        if after == before {
            return Ok(State::Kept);
        }
        if after == HEAD {
            fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        } else {
            write(&path, &after)?;
        }
        Ok(State::Removed)
    })?;
    done.retain(|installed| installed.state == State::Removed);
    Ok(done)
}

fn each(run: impl Fn(&'static str, &str) -> Result<State, HookError>) -> Result<Vec<Installed>, HookError> {
    let one = |&(hook, script): &(&'static str, &str)| {
        Ok(Installed {
            hook,
            state: run(hook, script)?,
        })
    };
    SCRIPTS.iter().map(one).collect()
}

/// The hooks of this repository, if they are its own.
fn folder() -> Result<PathBuf, HookError> {
    let folder = PathBuf::from(git::ask(&["rev-parse", "--git-path", "hooks"])?);
    let folder = std::path::absolute(&folder).map_err(|error| failed(&folder, error))?;
    // Of `--show-scope` the first entry is the scope of the one that counts.
    let set = git::settings(&["--show-scope", "--get", "core.hooksPath"])?;
    let is_shared = set
        .first()
        .is_some_and(|(scope, _)| scope != "local" && scope != "worktree");
    if is_shared {
        return Err(HookError::Stop(format!(
            "core.hooksPath is {}, a folder of hooks for more than this repository. Nothing was changed; call `git auxin hook NAME \"$@\"` in the hooks there, as hooks/scripts of the client program does.",
            folder.display()
        )));
    }
    Ok(folder)
}

fn block(script: &str) -> String {
    let (_, body) = script.split_once('\n').unwrap_or_default();
    format!("{BEGIN}\n{body}{END}\n")
}

/// The first line of a script of a shell, and the rest.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find('\n')? + 1;
    let first = text[..end].strip_prefix("#!")?;
    let is_shell = first
        .split_whitespace()
        .filter_map(|word| word.rsplit('/').next())
        .any(|program| SHELLS.contains(&program));
    is_shell.then(|| text.split_at(end))
}

fn without_block(text: &str) -> String {
    let Some(begin) = text.find(BEGIN) else {
        return text.to_owned();
    };
    let Some(end) = text[begin..].find(END) else {
        return text.to_owned();
    };
    let rest = &text[begin + end + END.len()..];
    format!("{}{}", &text[..begin], rest.strip_prefix('\n').unwrap_or(rest))
}

fn read(path: &Path) -> Result<Option<String>, HookError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
        // A link leads to what may belong to somebody else.
        Ok(data) if !data.is_file() || data.len() > MAX_HOOK_BYTES => return Ok(Some(String::new())),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(|error| failed(path, error))?;
    Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
}

/// All of it or nothing.
fn write(path: &Path, text: &str) -> Result<(), HookError> {
    let made = path.with_extension(format!("auxin-{}", std::process::id()));
    let written = (|| {
        fs::write(&made, text)?;
        // One that is switched off stays so.
        if let Ok(data) = path.metadata() {
            fs::set_permissions(&made, data.permissions())?;
        } else {
            make_executable(&made)?;
        }
        fs::rename(&made, path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&made);
        failed(path, error)
    })
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Where files have no such mark, Git runs what is there.
#[cfg(not(unix))]
fn make_executable(_: &Path) -> io::Result<()> {
    Ok(())
}

fn failed(path: &Path, error: io::Error) -> HookError {
    HookError::Io(path.display().to_string(), error)
}
