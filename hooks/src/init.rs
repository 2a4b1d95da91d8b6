//! `git auxin init`: adds what a Logic project needs to `.gitattributes` and `.gitignore`.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::patterns::{ATTRIBUTES, Group, IGNORED, folded};

/// Largest `.gitattributes` or `.gitignore` that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why nothing was changed.
#[derive(Debug)]
pub enum InitError {
    /// No folder from here upwards is a Git repository.
    NoRepository(PathBuf),
    /// The file is a link, which Git does not follow either, or larger than 1 MiB.
    NotAFile(PathBuf),
    /// The operating system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRepository(from) => write!(
                f,
                "There is no Git repository at {}. Make one with `git init -b main`, then try again.",
                from.display()
            ),
            Self::NotAFile(path) => write!(
                f,
                "{} is not an ordinary file of at most 1 MiB. Replace it by one, then try again.",
                path.display()
            ),
            Self::Io(path, cause) => write!(f, "{} cannot be used: {cause}.", path.display()),
        }
    }
}

impl std::error::Error for InitError {}

/// What was added to one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Added {
    /// `.gitattributes` or `.gitignore`.
    pub file: &'static str,
    /// The patterns that were added.
    pub patterns: Vec<&'static str>,
    /// The patterns that were there before, in whatever spelling.
    pub kept: Vec<&'static str>,
}

/// What [`init`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// The top of the repository.
    pub root: PathBuf,
    /// Per file.
    pub files: Vec<Added>,
    /// Sentences about lines that do not do what they seem to do.
    pub warnings: Vec<String>,
}

/// Adds to the repository around `from` whatever patterns its `.gitattributes` and `.gitignore` do
/// not have yet. Lines that are there stay as they are, and a pattern that already has a line of
/// its own is left to it; so a second call changes nothing.
///
/// # Errors
/// [`InitError`], and then neither file was changed, unless writing itself failed.
pub fn init(from: &Path) -> Result<Report, InitError> {
    let root = find_root(from)?;
    let files = [(".gitattributes", ATTRIBUTES), (".gitignore", IGNORED)];
    // Both are read before either is written, so that a refusal changes nothing.
    let mut before = Vec::new();
    for (file, _) in files {
        before.push(read(&root.join(file))?);
    }

    let mut report = Report {
        root: root.clone(),
        files: Vec::new(),
        warnings: warnings(&before[0]),
    };
    for ((file, groups), text) in files.into_iter().zip(&before) {
        let (block, added) = missing(file, groups, text);
        if !block.is_empty() {
            let path = root.join(file);
            append(&path, text, &block).map_err(|cause| InitError::Io(path, cause))?;
        }
        report.files.push(added);
    }
    Ok(report)
}

/// The nearest folder upwards that holds `.git` (a folder, or a file in a linked worktree).
fn find_root(from: &Path) -> Result<PathBuf, InitError> {
    let start = fs::canonicalize(from).map_err(|cause| InitError::Io(from.to_owned(), cause))?;
    start
        .ancestors()
        .find(|folder| folder.join(".git").exists())
        .map(Path::to_owned)
        .ok_or(InitError::NoRepository(start.clone()))
}

fn read(path: &Path) -> Result<String, InitError> {
    let failed = |cause| InitError::Io(path.to_owned(), cause);
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(cause) => return Err(failed(cause)),
        Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE_BYTES => {
            return Err(InitError::NotAFile(path.to_owned()));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(failed)?;
    // Only looked at; what is written is appended, so other encodings stay as they are.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines that `text` lacks, as a block with its comments.
fn missing(file: &'static str, groups: &[Group], text: &str) -> (String, Added) {
    let known: HashSet<String> = text.lines().filter_map(pattern_of(file)).collect();
    let mut added = Added {
        file,
        patterns: Vec::new(),
        kept: Vec::new(),
    };
    let mut block = String::new();
    for group in groups {
        let (kept, new): (Vec<_>, Vec<_>) = group
            .lines
            .iter()
            .partition(|(pattern, _)| known.contains(&folded(pattern)));
        added.kept.extend(kept.iter().map(|(pattern, _)| *pattern));
        if new.is_empty() {
            continue;
        }
        let comment = format!("# {}", group.comment);
        if !text.lines().any(|line| line.trim_end() == comment) {
            block.push_str(&comment);
            block.push('\n');
        }
        for (pattern, rest) in new {
            added.patterns.push(pattern);
            block.push_str(format!("{pattern:<24} {rest}").trim_end());
            block.push('\n');
        }
    }
    (block, added)
}

/// Reads the pattern of a line, folded; none for comments and empty lines.
fn pattern_of(file: &str) -> impl Fn(&str) -> Option<String> {
    let spaces_end_it = file == ".gitattributes";
    move |line| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let pattern = if spaces_end_it {
            line.split_whitespace().next()?
        } else {
            // `!pattern` is someone's decision about the same files.
            line.trim_start_matches('!')
        };
        Some(folded(pattern))
    }
}

fn append(path: &Path, before: &str, block: &str) -> io::Result<()> {
    let mut text = String::new();
    if !before.is_empty() {
        if !before.ends_with('\n') {
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str(block);
    if before.contains("\r\n") {
        text = text.replace('\n', "\r\n");
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn warnings(attributes: &str) -> Vec<String> {
    let mut lines = attributes.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let song = lines.rfind(|line| line.split_whitespace().next() == Some("ProjectData"));
    let no_diff = song.filter(|line| !line.contains("diff=auxin")).map(|_| {
        "`ProjectData` has a line of its own in .gitattributes. With `diff=auxin` in it, `git diff` would show what changed in the song.".to_owned()
    });
    let without_effect = attributes
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && line.contains("filter=lfs"))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|pattern| folded(pattern).ends_with(".logicx"))
        .map(|pattern| {
            format!(
                "`{pattern}` in .gitattributes has no effect: a Logic project is a folder, and Git LFS works on files. You may delete that line."
            )
        });
    without_effect.chain(no_diff).collect()
}
