//! Whether database, repositories and store are as they should be. Changes nothing.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use super::{Keeping, KeepingError};
use crate::names::RepoAddress;

/// Repositories or packs that are listed at once.
const PAGE_ROWS: u32 = 1000;
/// Most problems that are told of one check.
const MAX_TOLD: usize = 20;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `database`, `disk`, `repositories`, `store`, `packs`, `damage`.
    pub check: &'static str,
    /// Nothing is wrong.
    pub ok: bool,
    /// What is wrong, or how things are, as sentences.
    pub says: Vec<String>,
}

impl Finding {
    /// `fine` is said if there are no problems.
    pub fn new(check: &'static str, mut problems: Vec<String>, fine: String) -> Self {
        let ok = problems.is_empty();
        if problems.len() > MAX_TOLD {
            let more = problems.len() - MAX_TOLD;
            problems.truncate(MAX_TOLD);
            problems.push(format!("{more} more of this kind."));
        }
        Self {
            check,
            ok,
            says: if ok { vec![fine] } else { problems },
        }
    }
}

impl Keeping {
    /// Looks at everything that can be looked at without reading what repositories and packs hold.
    ///
    /// # Errors
    /// [`KeepingError`] if a check could not be done at all.
    pub async fn examine(&self) -> Result<Vec<Finding>, KeepingError> {
        let mut findings = vec![self.database().await?];
        findings.push(self.repositories().await?);
        findings.push(self.owner_of_store().await?);
        findings.push(self.packs().await?);
        findings.push(self.damage().await?);
        Ok(findings)
    }

    async fn database(&self) -> Result<Finding, KeepingError> {
        let errors = self.inner.db.file_errors().await?;
        let problems = errors
            .into_iter()
            .map(|error| format!("The database is damaged: {error}. Restore it from a backup."));
        let fine = format!(
            "The database is whole; it is that of the server {}.",
            self.inner.db.instance_id()
        );
        Ok(Finding::new("database", problems.collect(), fine))
    }

    async fn repositories(&self) -> Result<Finding, KeepingError> {
        let (mut problems, mut count) = (Vec::new(), 0_u64);
        let mut after: Option<RepoAddress> = None;
        loop {
            let rows = self.inner.repos.list(None, after.as_ref(), PAGE_ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.address.clone());
            for row in &rows {
                count += 1;
                let path = self.inner.repos.path(row);
                if !is_repository(&path) {
                    problems.push(format!(
                        "{}: there is no repository at {}.",
                        row.address,
                        path.display()
                    ));
                }
            }
        }
        let fine = format!("All {count} repositories have their folders; `auxin repo fsck` reads them.");
        Ok(Finding::new("repositories", problems, fine))
    }

    async fn owner_of_store(&self) -> Result<Finding, KeepingError> {
        let expected = self.inner.db.instance_id();
        let problems = match self.inner.store.identity().await? {
            Some(found) if found == expected => Vec::new(),
            Some(found) => vec![format!(
                "The object store belongs to the server {found}, the database to {expected}."
            )],
            None => vec!["The object store belongs to no server yet; the next start of the server claims it.".into()],
        };
        Ok(Finding::new(
            "store",
            problems,
            "Database and object store belong together.".into(),
        ))
    }

    async fn packs(&self) -> Result<Finding, KeepingError> {
        // Rows first: what is written meanwhile has no row here, and is not missed.
        let mut rows = Vec::new();
        loop {
            let after = rows.last().map_or(0, |row: &crate::db::PackRow| row.id);
            let page = self.inner.db.pack_page(after, PAGE_ROWS).await?;
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
        let mut lengths = HashMap::new();
        let list = self.inner.store.list(|object| {
            lengths.insert(object.key.as_str().to_owned(), object.bytes);
        });
        list.await?;
        let mut problems = Vec::new();
        for row in &rows {
            match lengths.remove(&row.key) {
                Some(bytes) if bytes == row.bytes => {}
                Some(bytes) => problems.push(format!("{} has {bytes} bytes instead of {}.", row.key, row.bytes)),
                None => problems.push(format!("{} is missing in the object store.", row.key)),
            }
        }
        let rest: u64 = lengths.values().sum();
        let fine = format!(
            "All {} chunk packs are there; {} more with {rest} bytes are being written or wait for removal.",
            rows.len(),
            lengths.len()
        );
        Ok(Finding::new("packs", problems, fine))
    }

    async fn damage(&self) -> Result<Finding, KeepingError> {
        let sums = self.inner.db.store_sums().await?;
        let problems = match sums.damaged_chunk_count + sums.damaged_object_count {
            0 => Vec::new(),
            _ => vec![format!(
                "{} damaged chunks are known, and {} large files need one; `auxin repo fsck` names them. A push of such a file mends it.",
                sums.damaged_chunk_count, sums.damaged_object_count
            )],
        };
        let fine = format!(
            "No damage is known in {} large files and {} chunks; `auxin scrub` reads them.",
            sums.object_count, sums.chunk_count
        );
        Ok(Finding::new("damage", problems, fine))
    }
}

fn is_repository(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("objects").is_dir()
}
