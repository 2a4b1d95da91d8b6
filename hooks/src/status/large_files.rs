//! Large files of the current version that are not here, and those of commits that were not pushed.

use std::collections::HashMap;

use lfs_protocol::{MAX_POINTER_BYTES, Oid, Pointer};
use serde::Serialize;

use super::{StatusError, counted, size, some};
use crate::git::{self, GitError};
use crate::setup::Finding;
use crate::transfer::local::Storage;

/// Most commits that were not pushed and are looked at.
const MAX_COMMITS: u64 = 100_000;
/// No pointer is shorter.
const MIN_POINTER_BYTES: u64 = 100;

/// A file of a version.
#[derive(Debug)]
pub(super) struct File {
    pub path: String,
    pub blob: String,
    pub size_bytes: u64,
}

/// What is told of large files.
#[derive(Debug, Serialize)]
pub struct LargeFiles {
    /// In commits that no remote has.
    pub unpushed: Unpushed,
    /// Of the current version, not on this machine.
    pub missing: Missing,
}

/// Large files of commits on branches here that no remote branch known here has.
#[derive(Debug, Default, Serialize)]
pub struct Unpushed {
    /// How many commits.
    pub commits: u64,
    /// How many large files they bring.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// How many of these are not on this machine: such a push is refused.
    pub not_here: u64,
    /// Whether only the first commits were looked at, since there are very many.
    pub is_cut: bool,
}

/// Large files of the current version that are not on this machine.
#[derive(Debug, Default, Serialize)]
pub struct Missing {
    /// How many.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// How many large files the version has.
    pub of_files: u64,
    /// Whether `lfs.fetchinclude` or `lfs.fetchexclude` leaves some out by intention.
    pub is_wanted: bool,
    /// Which ones, sorted.
    pub paths: Vec<String>,
}

/// The files of the current version; none before the first commit.
pub(super) fn files_of_head() -> Result<Vec<File>, GitError> {
    let args = ["ls-tree", "-r", "-l", "-z", "--full-tree", "HEAD"];
    if !git::run(&["rev-parse", "--verify", "--quiet", "HEAD^{tree}"])?
        .status
        .success()
    {
        return Ok(Vec::new());
    }
    let output = git::run_quietly(&args, b"")?;
    if !output.status.success() {
        return Err(git::failed(&args, &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let file = |line: &str| {
        let (facts, path) = line.split_once('\t')?;
        let mut facts = facts.split_whitespace().skip(1);
        let is_blob = facts.next()? == "blob";
        let (blob, size) = (facts.next()?, facts.next()?);
        is_blob.then(|| File {
            path: path.to_owned(),
            blob: blob.to_owned(),
            // Of a blob that a partial clone lacks there is no size.
            size_bytes: size.parse().unwrap_or(u64::MAX),
        })
    };
    Ok(text.split('\0').filter_map(file).collect())
}

pub(super) fn look(files: &[File]) -> Result<LargeFiles, StatusError> {
    let storage = Storage::here().map_err(|failure| StatusError::LargeFiles(failure.message))?;
    Ok(LargeFiles {
        unpushed: unpushed(&storage)?,
        missing: missing(files, &storage)?,
    })
}

fn missing(files: &[File], storage: &Storage) -> Result<Missing, StatusError> {
    let small = files.iter().filter(|file| may_be_pointer(file.size_bytes));
    let pointers = pointers(small.map(|file| file.blob.as_str()))?;
    let mut missing = Missing {
        is_wanted: !git::settings(&["--get-regexp", "^lfs\\.fetch(in|ex)clude$"])?.is_empty(),
        ..Missing::default()
    };
    for file in files {
        let Some(&(oid, size_bytes)) = pointers.get(&file.blob) else {
            continue;
        };
        missing.of_files += 1;
        if !storage.has_object(oid, size_bytes) {
            missing.files += 1;
            missing.bytes += size_bytes;
            missing.paths.push(file.path.clone());
        }
    }
    missing.paths.sort();
    Ok(missing)
}

fn unpushed(storage: &Storage) -> Result<Unpushed, StatusError> {
    let has_commit = git::run(&["rev-parse", "--verify", "--quiet", "HEAD"])?
        .status
        .success();
    let mut from = vec!["--branches"];
    from.extend(has_commit.then_some("HEAD"));
    from.extend(["--not", "--remotes"]);
    let commits = git::ask(&[&["rev-list", "--count"], from.as_slice()].concat())?;
    let commits: u64 = commits.parse().unwrap_or_default();
    if commits == 0 {
        return Ok(Unpushed::default());
    }
    let most = format!("--max-count={MAX_COMMITS}");
    let filter = format!("--filter=blob:limit={MAX_POINTER_BYTES}");
    let args = ["rev-list", "--objects", "--no-object-names", &most, &filter];
    let args = [&args, from.as_slice()].concat();
    let listed = git::run_quietly(&args, b"")?;
    if !listed.status.success() {
        return Err(git::failed(&args, &listed).into());
    }
    let kinds = ["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"];
    let kinds = git::run_quietly(&kinds, &listed.stdout)?;
    let kinds = String::from_utf8_lossy(&kinds.stdout);
    let small = kinds.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (id, kind, size) = (words.next()?, words.next()?, words.next()?);
        (kind == "blob" && may_be_pointer(size.parse().ok()?)).then_some(id)
    });
    let objects: HashMap<_, _> = pointers(small)?.into_values().collect();
    Ok(Unpushed {
        commits,
        files: objects.len() as u64,
        bytes: objects.values().sum(),
        not_here: objects
            .iter()
            .filter(|(oid, bytes)| !storage.has_object(**oid, **bytes))
            .count() as u64,
        is_cut: commits > MAX_COMMITS,
    })
}

const fn may_be_pointer(size_bytes: u64) -> bool {
    size_bytes >= MIN_POINTER_BYTES && size_bytes < MAX_POINTER_BYTES as u64
}

/// Which of these small blobs are pointers, and to what.
pub(crate) fn pointers<'a>(blobs: impl Iterator<Item = &'a str>) -> Result<HashMap<String, (Oid, u64)>, GitError> {
    let wanted: String = blobs.flat_map(|blob| [blob, "\n"]).collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let args = ["cat-file", "--batch"];
    let output = git::run_quietly(&args, wanted.as_bytes())?;
    if !output.status.success() {
        return Err(git::failed(&args, &output));
    }
    let mut found = HashMap::new();
    let mut rest = output.stdout.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        // `ID blob SIZE`, or `ID missing`.
        let mut words = head.split(' ');
        let (id, size) = (words.next().unwrap_or_default(), words.nth(1));
        let Some(size) = size.and_then(|size| size.parse::<usize>().ok()) else {
            continue;
        };
        let Some(content) = rest.get(..size) else { break };
        if let Ok(parsed) = Pointer::parse(content) {
            found.insert(id.to_owned(), (parsed.pointer.oid, parsed.pointer.size_bytes));
        }
        rest = rest.get(size + 1..).unwrap_or_default();
    }
    Ok(found)
}

impl LargeFiles {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let (unpushed, missing) = (&self.unpushed, &self.missing);
        let commits = counted(unpushed.commits, "commit", "commits");
        let mut text = match (unpushed.commits, unpushed.files) {
            (0, _) => "none".to_owned(),
            (_, 0) => format!("none, but {commits} that no remote has"),
            (_, files) => format!(
                "{}, {}, in {commits} that no remote has",
                counted(files, "large file", "large files"),
                size(unpushed.bytes)
            ),
        };
        if unpushed.is_cut {
            text.push_str(&format!("; only the newest {MAX_COMMITS} were looked at"));
        }
        if unpushed.not_here > 0 {
            let are = if unpushed.not_here == 1 { "is" } else { "are" };
            text.push_str(&format!(
                "; {} of them {are} not on this computer, so a push fails. `git lfs fetch --all` may bring them.",
                unpushed.not_here
            ));
        }
        let unpushed = Finding {
            subject: "Unpushed sound",
            text,
            is_problem: unpushed.not_here > 0,
        };
        let text = match (missing.files, missing.of_files) {
            (_, 0) => "none; this version has no large files".to_owned(),
            (0, all) => format!("none of {}", counted(all, "large file", "large files")),
            (files, all) => {
                let paths = some(missing.paths.iter().map(String::as_str));
                let hint = match missing.is_wanted {
                    true => "lfs.fetchinclude and lfs.fetchexclude leave some out",
                    false => "`git lfs pull` gets them",
                };
                format!("{files} of {all} large files, {}; {hint}: {paths}", size(missing.bytes))
            }
        };
        let missing = Finding {
            subject: "Missing sound",
            text,
            is_problem: missing.files > 0 && !missing.is_wanted,
        };
        vec![unpushed, missing]
    }
}
