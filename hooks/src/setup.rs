//! `git auxin install` and `git auxin status`: the transfer agent in Git's settings.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::git::{self, GitError};

/// The name of the transfer, for which a server and `git lfs` agree on this program.
pub const TRANSFER: &str = "auxin";
const SECTION: &str = "lfs.customtransfer.auxin";
/// Settings besides the path, with their values.
const FIXED: [(&str, &str); 3] = [("args", "transfer"), ("concurrent", "true"), ("direction", "both")];

/// Which of Git's files are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those of this person.
    #[default]
    Global,
    /// Those of this repository.
    Local,
    /// Those of this machine.
    System,
}

impl Scope {
    const fn flag(self) -> &'static str {
        match self {
            Self::Global => "--global",
            Self::Local => "--local",
            Self::System => "--system",
        }
    }
}

/// Why nothing was set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Git did not do it.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A path that holds only in some folders.
    #[error("{} is no absolute path. Git starts the program from any folder, so name it from the root on.", .0.display())]
    Relative(PathBuf),
    /// A path that Git's settings cannot hold.
    #[error("{} is no text, and Git's settings hold only text. Move the program elsewhere.", .0.display())]
    NotText(PathBuf),
    /// The system does not tell where this program lies.
    #[error("The system does not tell where this program lies: {0}. Name it with --path.")]
    OwnPath(std::io::Error),
}

/// What [`install`] did, as `key = value` of what changed; empty if all was there.
///
/// # Errors
/// [`SetupError`]
pub fn install(scope: Scope, path: Option<&Path>) -> Result<Vec<String>, SetupError> {
    let own = match path {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().map_err(SetupError::OwnPath)?,
    };
    if !own.is_absolute() {
        return Err(SetupError::Relative(own));
    }
    let Some(text) = own.to_str() else {
        return Err(SetupError::NotText(own));
    };
    let mut changed = Vec::new();
    for (name, value) in [("path", text)].into_iter().chain(FIXED) {
        let key = format!("{SECTION}.{name}");
        let before = git::settings(&[scope.flag(), "--get-all", &key])?;
        // Of `--get-all`, entries are values alone.
        if before.len() == 1 && before[0].0 == value {
            continue;
        }
        git::ask(&["config", scope.flag(), "--replace-all", &key, value])?;
        changed.push(format!("{key} = {value}"));
    }
    Ok(changed)
}

/// Takes the settings out again; tells whether there were any.
///
/// # Errors
/// [`SetupError`]
pub fn uninstall(scope: Scope) -> Result<bool, SetupError> {
    let pattern = format!("^{}\\.", SECTION.replace('.', "\\."));
    if git::settings(&[scope.flag(), "--get-regexp", &pattern])?.is_empty() {
        return Ok(false);
    }
    git::ask(&["config", scope.flag(), "--remove-section", SECTION])?;
    Ok(true)
}

/// Lets `git diff` show files of Logic projects in the current repository as [`crate::textconv`] tells them; whether
/// that is new. Another program that somebody set stays.
///
/// # Errors
/// [`SetupError`]
pub fn install_diff() -> Result<bool, SetupError> {
    let key = "diff.auxin.textconv";
    if !git::settings(&["--get-all", key])?.is_empty() {
        return Ok(false);
    }
    git::ask(&["config", "--local", key, "git auxin textconv"])?;
    Ok(true)
}

/// One line of `git auxin status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub subject: &'static str,
    /// A sentence.
    pub text: String,
    /// Whether something has to be done.
    pub is_problem: bool,
}

/// What stands in the way of transfers from here, and what does not.
///
/// # Errors
/// [`SetupError`] if Git cannot be asked.
pub fn status() -> Result<Vec<Finding>, SetupError> {
    Ok(vec![git_lfs()?, agent()?])
}

fn git_lfs() -> Result<Finding, SetupError> {
    let output = git::run(&["lfs", "version"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said
        .split_whitespace()
        .next()
        .and_then(|word| word.strip_prefix("git-lfs/"));
    let filter = git::settings(&["--get", "filter.lfs.process"])?;
    let (text, is_problem) = match version.filter(|_| output.status.success()) {
        None => (
            "is not installed. Install it (https://git-lfs.com), then run `git lfs install`.".to_owned(),
            true,
        ),
        Some(version) if filter.is_empty() => (
            format!("{version}, but not set up for you. Run `git lfs install`."),
            true,
        ),
        Some(version) => (version.to_owned(), false),
    };
    Ok(Finding {
        subject: "Git LFS",
        text,
        is_problem,
    })
}

fn agent() -> Result<Finding, SetupError> {
    let key = format!("{SECTION}.path");
    let path = git::settings(&["--get", &key])?.pop().map(|(value, _)| value);
    let mut odd = Vec::new();
    for (name, value) in FIXED {
        let key = format!("{SECTION}.{name}");
        let is = git::settings(&["--get", &key])?.pop().map(|(value, _)| value);
        if is.as_deref() != Some(value) {
            odd.push(format!("{key} is {}, not {value}", is.as_deref().unwrap_or("not set")));
        }
    }
    let own = std::env::current_exe().ok();
    let (text, is_problem) = match path {
        None => (
            "not set up: large files travel whole. Run `git auxin install`.".to_owned(),
            true,
        ),
        Some(path) if !Path::new(&path).is_file() => (
            format!("{path} is not there any more, so pushes of large files fail. Run `git auxin install`."),
            true,
        ),
        Some(_) if !odd.is_empty() => (format!("{}. Run `git auxin install`.", odd.join("; ")), true),
        Some(path) if own.is_some_and(|own| !is_same(&own, Path::new(&path))) => (
            format!("{path}, which is another program than this one. `git auxin install` names this one."),
            false,
        ),
        Some(path) => (path, false),
    };
    Ok(Finding {
        subject: "Chunked transfer",
        text,
        is_problem,
    })
}

fn is_same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}
