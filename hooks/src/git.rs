//! Asks the installed Git for settings and folders.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where Git usually lies when it is not in `PATH`: what a window system starts often has none.
const PLACES: [&str; 5] = [
    "/usr/bin/git",
    "/usr/local/bin/git",
    "/opt/homebrew/bin/git",
    "C:\\Program Files\\Git\\cmd\\git.exe",
    "C:\\Program Files (x86)\\Git\\cmd\\git.exe",
];

/// Why Git did not answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is none.
    #[error("Git was not found in PATH or where it usually lies. Install it, then try again.")]
    Absent,
    /// It could not be run.
    #[error("Git cannot be run: {0}.")]
    Io(#[from] io::Error),
    /// It refused.
    #[error("`git {command}` failed: {said}")]
    Failed {
        /// Its arguments.
        command: String,
        /// What it printed.
        said: String,
    },
}

/// Runs git in the current folder.
///
/// # Errors
/// [`GitError::Absent`] or [`GitError::Io`]; that it failed is in the output.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Result<Output, GitError> {
    let from_git = std::env::var_os("GIT_EXEC_PATH").map(|folder| Path::new(&folder).join("git"));
    let places = [PathBuf::from("git")].into_iter().chain(from_git);
    for program in places.chain(PLACES.iter().map(PathBuf::from)) {
        let ran = Command::new(program).args(args).stdin(Stdio::null()).output();
        match ran {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            ran => return Ok(ran?),
        }
    }
    Err(GitError::Absent)
}

/// Runs git in the current folder with something on its standard input. What it asks a person goes to the terminal.
///
/// # Errors
/// [`GitError::Absent`] or [`GitError::Io`]; that it failed is in the output.
pub fn run_with_input<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Result<Output, GitError> {
    let from_git = std::env::var_os("GIT_EXEC_PATH").map(|folder| Path::new(&folder).join("git"));
    let places = [PathBuf::from("git")].into_iter().chain(from_git);
    for program in places.chain(PLACES.iter().map(PathBuf::from)) {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(mut child) => {
                if let Some(mut pipe) = child.stdin.take() {
                    // Short, and a git that does not read it tells why by its status.
                    let _ = pipe.write_all(input);
                }
                return Ok(child.wait_with_output()?);
            }
        }
    }
    Err(GitError::Absent)
}

/// What git prints, without the line ending.
///
/// # Errors
/// [`GitError`]
pub fn ask<S: AsRef<OsStr>>(args: &[S]) -> Result<String, GitError> {
    let output = run(args)?;
    if !output.status.success() {
        return Err(failed(args, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The values that `git config` with these arguments prints, with their keys; none if nothing is set.
///
/// # Errors
/// [`GitError`]
pub fn settings(args: &[&str]) -> Result<Vec<(String, String)>, GitError> {
    let args = [&["config", "-z"], args].concat();
    let output = run(&args)?;
    match output.status.code() {
        Some(0) => {}
        Some(1) if output.stderr.is_empty() => return Ok(Vec::new()),
        _ => return Err(failed(&args, &output)),
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let entries = text.split('\0').filter(|entry| !entry.is_empty());
    Ok(entries
        .map(|entry| match entry.split_once('\n') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            // A key without a value is true.
            None => (entry.to_owned(), "true".to_owned()),
        })
        .collect())
}

pub(crate) fn failed<S: AsRef<OsStr>>(args: &[S], output: &Output) -> GitError {
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    GitError::Failed {
        command: words.join(" "),
        said: if said.is_empty() {
            output.status.to_string()
        } else {
            said
        },
    }
}
