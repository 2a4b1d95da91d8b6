//! What is in a commit as music: what changed in its projects.

mod source;

use std::collections::BTreeMap;

use git_auxin::logic::compare::{Comparison, compare, pair};
use git_auxin::logic::{Found, Limits, Project, TreePaths, find, read_project};
use serde::Serialize;
use tokio::runtime::Handle;

pub(in crate::service) use self::source::CommitSource;
use crate::git::ObjectId;
use crate::git::commit_files::{commit_named, files};
use crate::git::snapshot::Snapshot;
use crate::git::work::Work;
use crate::service::access::Opened;
use crate::service::lfs::LargeFiles;
use crate::service::transfer::{Answer, CallerKey, Errors, Kind, Transfer, TransferError};

/// Most files of a commit in which projects are looked for.
const MAX_FILES: usize = 500_000;

/// How a comparison is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As JSON.
    #[default]
    Json,
    /// As lines for people.
    Text,
    /// As one line for each project.
    Compact,
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct CompareQuery {
    /// Branch, tag or commit of the earlier state.
    pub before: String,
    /// Of the later state.
    pub after: String,
    /// The path of one project, before or after; all that changed if absent.
    pub project: Option<String>,
    /// How it is told.
    pub format: Format,
}

/// Why nothing is compared.
#[derive(Debug, thiserror::Error)]
pub enum MusicError {
    /// There is no such commit for this caller.
    #[error("There is no branch, tag or commit {0} here. Write a branch, a tag, or the whole id of a commit.")]
    NoCommit(String),
    /// There is no such project in either commit.
    #[error("There is no project {0} in either of the two commits.")]
    NoProject(String),
    /// Too many files.
    #[error("The commit {0} has more than {MAX_FILES} files, which is as many as are looked at.")]
    TooManyFiles(String),
    /// The repository cannot be read.
    #[error("a commit cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads projects in repositories. Cheap to clone.
#[derive(Clone)]
pub struct Music {
    transfer: Transfer,
    large_files: LargeFiles,
}

/// The answer as JSON.
#[derive(Serialize)]
struct Compared<'a> {
    before: End<'a>,
    after: End<'a>,
    /// Those with changed files, or the one that was asked for.
    projects: Vec<Comparison>,
}

#[derive(Serialize)]
struct End<'a> {
    name: &'a str,
    commit: String,
}

/// One side of a comparison.
struct Side {
    commit: ObjectId,
    files: BTreeMap<String, ObjectId>,
    found: Vec<Found>,
}

impl Music {
    /// Reads repositories and large files of these.
    pub fn new(transfer: Transfer, large_files: LargeFiles) -> Self {
        Self { transfer, large_files }
    }

    /// What changed in the projects of a repository between two commits.
    ///
    /// # Errors
    /// [`TransferError::Music`] and those of every transfer.
    pub async fn compare(&self, caller: CallerKey, repo: Opened, query: CompareQuery) -> Result<Answer, TransferError> {
        let admitted = self.transfer.admit(caller)?;
        let this = self.clone();
        let handle = Handle::current();
        self.transfer
            .run(Kind::LargeFile, Errors::BreakOff, admitted, None, move |tools| {
                let text = this.compared(&handle, &repo, &query, tools.work)?;
                tools.output.write_all(text.as_bytes()).map_err(TransferError::Answer)
            })
            .await
    }

    fn compared(
        &self,
        handle: &Handle,
        repo: &Opened,
        query: &CompareQuery,
        work: &Work,
    ) -> Result<String, TransferError> {
        let repository = self.transfer.open(&repo.path, repo.trust_hooks)?;
        let snapshot = repository.snapshot().map_err(unreadable)?;
        let before = side(&snapshot, &query.before, work)?;
        let after = side(&snapshot, &query.after, work)?;
        let is_wanted = |found: &&Found| match &query.project {
            Some(path) => *path == found.path,
            None => true,
        };
        // A project whose files are the same need not be read, unless it is asked for.
        let is_same = |found: &Found, other: &Side| {
            let both = [&before, &after].map(|side| below(&side.files, found.content_folder()));
            let is_there = other.found.iter().any(|one| one.path == found.path);
            query.project.is_none() && is_there && both[0].iter().eq(both[1].iter())
        };
        let mut source = CommitSource::new(handle, &self.large_files, &snapshot, repo.id, work);
        let mut read = |side: &Side, other: &Side| -> Result<Vec<Project>, TransferError> {
            source.turn_to(&side.files);
            let paths = TreePaths::new(side.files.keys().cloned().collect());
            let changed = side.found.iter().filter(|found| !is_same(found, other));
            changed
                .map(|found| read_project(&mut source, &paths, found, &Limits::default()))
                .collect()
        };
        let (old, new) = (read(&before, &after)?, read(&after, &before)?);
        let mut projects = Vec::new();
        for (a, b) in pair(&old, &new) {
            let (a, b) = (a.map(|at| &old[at]), b.map(|at| &new[at]));
            if ![a, b].into_iter().flatten().any(|one| is_wanted(&&one.found)) {
                continue;
            }
            projects.extend(compare(a, b));
        }
        if let (Some(path), true) = (&query.project, projects.is_empty()) {
            return Err(MusicError::NoProject(path.escape_debug().to_string()).into());
        }
        Ok(match query.format {
            Format::Text => projects.iter().map(Comparison::text).collect(),
            Format::Compact => projects
                .iter()
                .map(|one| format!("{}: {}\n", one.title(), one.line()))
                .collect(),
            Format::Json => {
                let end = |name, side: &Side| End {
                    name,
                    commit: side.commit.to_string(),
                };
                let compared = Compared {
                    before: end(&query.before, &before),
                    after: end(&query.after, &after),
                    projects,
                };
                serde_json::to_string(&compared).map_err(unreadable)?
            }
        })
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> MusicError {
    MusicError::Unreadable(Box::new(error))
}

fn side(snapshot: &Snapshot, name: &str, work: &Work) -> Result<Side, TransferError> {
    let mut tick = || work.check();
    let shown = || name.escape_debug().to_string();
    let commit = commit_named(snapshot, name, &mut tick).map_err(unreadable)?;
    let commit = commit.ok_or_else(|| MusicError::NoCommit(shown()))?;
    let files = files(snapshot, &commit, MAX_FILES, &mut tick).map_err(unreadable)?;
    let files = files.ok_or_else(|| MusicError::TooManyFiles(shown()))?;
    let found = find(files.keys().map(String::as_str), &Limits::default());
    Ok(Side { commit, files, found })
}

/// The files below a folder.
fn below<'a>(files: &'a BTreeMap<String, ObjectId>, folder: &str) -> Vec<(&'a String, &'a ObjectId)> {
    let start = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    files
        .range(start.clone()..)
        .take_while(|(path, _)| path.starts_with(&start))
        .collect()
}
