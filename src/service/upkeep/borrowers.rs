//! Which repositories of this server borrow objects from one of them.

use std::path::{Path, PathBuf};

use crate::db::RepoRow;
use crate::git::object_store::borrows_from;
use crate::names::RepoAddress;
use crate::service::repos::{RepoError, Repos};

/// Repositories that are listed at once.
const REPOS_PER_READ: u32 = 1000;

/// The addresses of repositories that have `repo` among their alternates. Those outside this server
/// cannot be known.
pub(super) async fn of(repos: &Repos, repo: &RepoRow) -> Result<Vec<String>, RepoError> {
    let objects = repos.path(repo).join("objects");
    let mut found = Vec::new();
    let mut after: Option<RepoAddress> = None;
    loop {
        let rows = repos.list(None, after.as_ref(), REPOS_PER_READ).await?;
        let Some(last) = rows.last() else {
            return Ok(found);
        };
        after = Some(last.address.clone());
        let others: Vec<(String, PathBuf)> = rows
            .iter()
            .filter(|other| other.id != repo.id)
            .map(|other| (other.address.to_string(), repos.path(other).join("objects")))
            .collect();
        let lender = objects.clone();
        let borrowing = tokio::task::spawn_blocking(move || borrowing(&others, &lender)).await;
        found.extend(borrowing.map_err(|ended| RepoError::Unreadable {
            repo: repo.address.clone(),
            cause: ended.to_string(),
        })?);
    }
}

fn borrowing(others: &[(String, PathBuf)], lender: &Path) -> Vec<String> {
    let borrows = |objects: &Path| {
        // A list that cannot be read may name anything.
        borrows_from(objects, lender).unwrap_or(true)
    };
    others
        .iter()
        .filter(|(_, objects)| borrows(objects))
        .map(|(address, _)| address.clone())
        .collect()
}
