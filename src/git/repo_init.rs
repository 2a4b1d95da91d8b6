//! Making a bare repository.
//!
//! It is made aside, brought to the disk and renamed into place: there is a whole one or none.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bstr::{BString, ByteSlice};
use gix::hash::Kind;

use super::durable::{sync_file, sync_folder};
use super::ref_transaction::is_ref_name;

/// How a repository's folder begins while it is made.
const PREFIX: &str = ".making-";

/// What `git init --bare` writes.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
/// What `git init --bare --object-format=sha256` writes.
const CONFIG_SHA256: &str = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = true\n\
                             [extensions]\n\tobjectformat = sha256\n";
const DESCRIPTION: &str = "Unnamed repository; edit this file 'description' to name the repository.\n";

/// Folders of a new repository.
const FOLDERS: [&str; 8] = [
    "branches",
    "hooks",
    "info",
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/heads",
];

/// The hash function that names the objects of a repository; chosen when it is made, for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectFormat {
    /// Ids of 40 digits: what every client knows.
    #[default]
    Sha1,
    /// Ids of 64 digits.
    Sha256,
}

impl ObjectFormat {
    /// Git's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The one whose ids are these.
    pub fn of(hash: Kind) -> Self {
        match hash {
            Kind::Sha256 => Self::Sha256,
            _ => Self::Sha1,
        }
    }
}

impl fmt::Display for ObjectFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ObjectFormat {
    type Err = BadObjectFormat;

    fn from_str(word: &str) -> Result<Self, BadObjectFormat> {
        match word {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            _ => Err(BadObjectFormat),
        }
    }
}

/// A word that names no object format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no object format; use one of: sha1, sha256")]
pub struct BadObjectFormat;

/// Why a repository could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The name of the first branch is no branch name.
    #[error("'{0}' cannot be the name of a branch")]
    BadBranch(String),
    /// Something is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The disk failed.
    #[error("the repository could not be made at {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Makes an empty bare repository of this format at `path` whose `HEAD` names the branch
/// `default_branch`, such as `main`. Folders above it are made as needed.
///
/// # Errors
/// [`InitError`]; then nothing was made at `path`.
pub fn init(path: &Path, default_branch: &str, format: ObjectFormat) -> Result<(), InitError> {
    let branch = BString::from(format!("refs/heads/{default_branch}"));
    if !is_ref_name(&branch) || default_branch == "HEAD" || default_branch.starts_with('-') {
        return Err(InitError::BadBranch(default_branch.to_owned()));
    }
    let fail = |source| InitError::Io {
        path: path.to_owned(),
        source,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "it has no name")));
    };
    if path.exists() {
        return Err(InitError::Exists(path.to_owned()));
    }
    make_folders_durably(parent).map_err(fail)?;
    let aside = parent.join(format!(
        "{PREFIX}{:016x}-{}",
        rand::random::<u64>(),
        name.to_string_lossy()
    ));
    let made = make(&aside, &branch, format).and_then(|()| {
        // A rename would take the place of an empty folder without a word.
        if path.exists() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        fs::rename(&aside, path)?;
        sync_folder(parent)
    });
    made.map_err(|error| {
        let _ = fs::remove_dir_all(&aside);
        match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => InitError::Exists(path.to_owned()),
            _ => fail(error),
        }
    })
}

fn make(root: &Path, branch: &BString, format: ObjectFormat) -> io::Result<()> {
    fs::create_dir(root)?;
    for folder in FOLDERS {
        fs::create_dir(root.join(folder))?;
    }
    fs::create_dir(root.join("refs/tags"))?;
    let config = match format {
        ObjectFormat::Sha1 => CONFIG,
        ObjectFormat::Sha256 => CONFIG_SHA256,
    };
    let head = [b"ref: ", branch.as_bytes(), b"\n"].concat();
    for (name, content) in [
        ("HEAD", &head[..]),
        ("config", config.as_bytes()),
        ("description", DESCRIPTION.as_bytes()),
    ] {
        let mut file = File::create_new(root.join(name))?;
        file.write_all(content)?;
        sync_file(&file)?;
    }
    for folder in FOLDERS {
        sync_folder(&root.join(folder))?;
    }
    sync_folder(root)
}

/// Makes `folder` and those above it, each known to the disk.
fn make_folders_durably(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
                return Err(error);
            };
            make_folders_durably(parent)?;
            make_folders_durably(folder)
        }
        Err(error) => Err(error),
    }
}

/// At start: removes half-made repositories that a dead process left in `parent`.
///
/// # Errors
/// The disk's.
pub fn sweep(parent: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(path: &Path, args: &[&str]) -> String {
        let output = std::process::Command::new("git")
            .arg("-C")
            .arg(path)
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    #[test]
    fn stock_git_takes_a_new_repository_for_its_own() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
            let path = folder.path().join(format!("anna/{format}.git"));

            init(&path, "main", format).expect("makes it");

            git(&path, &["fsck", "--strict"]);
            assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/main");
            assert_eq!(git(&path, &["rev-parse", "--is-bare-repository"]), "true");
            assert_eq!(git(&path, &["rev-parse", "--show-object-format"]), format.as_str());
        }
        assert_eq!(fs::read_dir(folder.path().join("anna")).expect("readable").count(), 2);
    }

    #[test]
    fn what_is_there_already_is_left_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("song.git");
        fs::create_dir(&path).expect("makes a folder");

        assert!(matches!(
            init(&path, "main", ObjectFormat::Sha1),
            Err(InitError::Exists(_))
        ));
        assert_eq!(fs::read_dir(&path).expect("readable").count(), 0);
    }

    #[test]
    fn a_bad_branch_name_makes_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for branch in ["", "a..b", "-x", "a b", "HEAD", "x.lock"] {
            assert!(
                matches!(
                    init(&folder.path().join("song.git"), branch, ObjectFormat::Sha1),
                    Err(InitError::BadBranch(_))
                ),
                "{branch}"
            );
        }
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    }

    #[test]
    fn half_made_repositories_are_removed_at_start() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join(".making-0123-song.git")).expect("makes a folder");
        init(&folder.path().join("song.git"), "main", ObjectFormat::Sha1).expect("makes it");

        sweep(folder.path()).expect("sweeps");
        sweep(&folder.path().join("missing")).expect("nothing to sweep");

        let names: Vec<_> = fs::read_dir(folder.path())
            .expect("readable")
            .map(|e| e.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["song.git"]);
    }
}
