//! Asks the installed Git for settings and folders.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

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

/// What keeps Git from asking a person, and from fetching what it lacks.
const QUIET: [(&str, &str); 4] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("GCM_INTERACTIVE", "never"),
    ("GIT_NO_LAZY_FETCH", "1"),
];

/// Runs git in the current folder.
///
/// # Errors
/// [`GitError::Absent`] or [`GitError::Io`]; that it failed is in the output.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Result<Output, GitError> {
    first_that_is_there(|git| git.args(args).stdin(Stdio::null()).output())
}

/// Runs git in the current folder with something on its standard input. What it asks a person goes to the terminal.
///
/// # Errors
/// [`GitError::Absent`] or [`GitError::Io`]; that it failed is in the output.
pub fn run_with_input<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Result<Output, GitError> {
    first_that_is_there(|git| piped(git.args(args), input))
}

/// As [`run_with_input`], but it asks nobody anything, neither a person nor a server.
///
/// # Errors
/// [`GitError::Absent`] or [`GitError::Io`]; that it failed is in the output.
pub fn run_quietly<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Result<Output, GitError> {
    first_that_is_there(|git| piped(git.args(args).envs(QUIET).stderr(Stdio::piped()), input))
}

/// Starts git in the current folder, with pipes to its standard input and from its output. It asks nobody anything.
///
/// # Errors
/// [`GitError::Absent`] or [`GitError::Io`]
pub(crate) fn start<S: AsRef<OsStr>>(args: &[S]) -> Result<Child, GitError> {
    let pipes = |git: &mut Command| {
        let git = git.args(args).envs(QUIET).stderr(Stdio::null());
        git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    };
    first_that_is_there(pipes)
}

fn first_that_is_there<T>(run: impl Fn(&mut Command) -> io::Result<T>) -> Result<T, GitError> {
    let from_git = std::env::var_os("GIT_EXEC_PATH").map(|folder| Path::new(&folder).join("git"));
    let places = [PathBuf::from("git")].into_iter().chain(from_git);
    for program in places.chain(PLACES.iter().map(PathBuf::from)) {
        match run(&mut Command::new(program)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            ran => return Ok(ran?),
        }
    }
    Err(GitError::Absent)
}

/// Writes and reads at the same time: what git prints meanwhile may be more than a pipe holds.
fn piped(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut pipe) = pipe {
                // A git that does not read it tells why by its status.
                let _ = pipe.write_all(input);
            }
        });
        child.wait_with_output()
    })
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
