//! A repository of this machine is copied with its large files: these first, then history and refs, so that whoever
//! sees the copy can get them. What is not there is told.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bstr::BString;
use lfs_protocol::Oid;
use tokio::runtime::Handle;

use super::{Inner, LargeFiles, LfsError, ingest};
use crate::db::{By, RepoRow, Visibility};
use crate::git::import;
use crate::git::work::Work;
use crate::ids::RepoId;
use crate::names::RepoAddress;
use crate::service::repos::RepoError;
use crate::service::transfer::TransferError;

/// Most large files of which is told by name that they are missing.
const MAX_TOLD: usize = 1000;

/// A repository that is copied.
#[derive(Clone, Debug)]
pub struct ImportSource {
    /// The repository.
    pub path: PathBuf,
    /// Where its large files lie; not given: where Git LFS keeps them.
    pub large_files: Option<PathBuf>,
}

/// A large file that a copy lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFile {
    /// Its name.
    pub oid: Oid,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Where it lies in the newest versions; none: in older ones only.
    pub path: Option<BString>,
    /// Why it was not taken.
    pub why: String,
}

/// What became of large files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportedFiles {
    /// How many came.
    pub files: u64,
    /// How large they are, in bytes.
    pub bytes: u64,
    /// How many did not.
    pub missing_files: u64,
    /// How large those are, in bytes.
    pub missing_bytes: u64,
    /// The first of them.
    pub missing: Vec<MissingFile>,
}

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The repository could not be made or read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A large file could not be stored.
    #[error("a large file could not be stored: {0}")]
    LargeFile(String),
}

impl LargeFiles {
    /// Copies a repository of this machine as [`crate::service::Repos::import`] does, its large files first. While
    /// they come, the copy is empty, archived and private.
    ///
    /// # Errors
    /// [`ImportError`]; nothing is left then but large files that go by themselves.
    pub async fn import(
        &self,
        source: ImportSource,
        address: &RepoAddress,
        visibility: Visibility,
        by: By,
    ) -> Result<(RepoRow, ImportedFiles), ImportError> {
        let repos = &self.inner.repos;
        let path = source.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let large = import::large_files(&path)?;
            Ok((large, import::object_format(&path)?))
        });
        let (mut large, format) = ended(read.await)?.map_err(|error| unusable(&source.path, &error))?;
        if large.needed.is_empty() {
            let row = repos.import(&source.path, address, visibility, by).await?;
            return Ok((row, ImportedFiles::default()));
        }
        if let Some(folder) = &source.large_files {
            large.folder.clone_from(folder);
        }
        let row = repos
            .create(address, Visibility::Private, Some(format), by.clone())
            .await?;
        let filled = self.fill(&row, &source.path, large, by.clone()).await;
        let files = match filled {
            Ok(files) => files,
            Err(error) => {
                if let Err(error) = repos.remove_empty(row.id).await {
                    tracing::warn!(%error, repo = %row.address, "A repository that was made in vain stays behind");
                }
                return Err(error);
            }
        };
        repos.set_visibility(&row.address, visibility, by.clone()).await?;
        repos.unarchive(&row.address, by).await?;
        Ok((repos.find(&row.address).await?, files))
    }

    async fn fill(
        &self,
        row: &RepoRow,
        source: &Path,
        large: import::LargeFiles,
        by: By,
    ) -> Result<ImportedFiles, ImportError> {
        let inner = Arc::clone(&self.inner);
        inner.repos.archive(&row.address, by).await?;
        let (id, handle) = (row.id, Handle::current());
        let target = inner.repos.path(row);
        let source = source.to_owned();
        let filled = tokio::task::spawn_blocking(move || {
            let mut files = ImportedFiles::default();
            let work = Work::new(Arc::new(AtomicBool::new(false)), None);
            for &(oid, size_bytes) in &large.needed {
                match take(&inner, &handle, id, &large.folder, (oid, size_bytes), &work)? {
                    None => {
                        files.files += 1;
                        files.bytes = files.bytes.saturating_add(size_bytes);
                    }
                    Some(why) => {
                        files.missing_files += 1;
                        files.missing_bytes = files.missing_bytes.saturating_add(size_bytes);
                        if files.missing.len() < MAX_TOLD {
                            files.missing.push(MissingFile {
                                oid,
                                size_bytes,
                                path: None,
                                why,
                            });
                        }
                    }
                }
            }
            name(&mut files.missing, &source).map_err(|error| unusable(&source, &error))?;
            let copied = import::import(&source, &target, &inner.config.git);
            let copied = copied.map_err(|error| unusable(&source, &error))?;
            tracing::info!(
                objects = copied.objects,
                refs = copied.refs,
                large_files = files.files,
                missing_large_files = files.missing_files,
                "Imported {}",
                source.display()
            );
            Ok(files)
        });
        ended(filled.await)?
    }
}

/// Takes a large file in; why not, if it is not there or not what it should be.
fn take(
    inner: &Inner,
    handle: &Handle,
    repo: RepoId,
    folder: &Path,
    (oid, size_bytes): (Oid, u64),
    work: &Work,
) -> Result<Option<String>, ImportError> {
    if let Err(error) = inner.check_on() {
        return Ok(Some(error.to_string()));
    }
    let limit_bytes = inner.config.lfs.max_object_bytes;
    if size_bytes > limit_bytes {
        let error = LfsError::TooLarge {
            size_bytes,
            limit_bytes,
        };
        return Ok(Some(error.to_string()));
    }
    let name = oid.to_string();
    let path = folder.join(&name[..2]).join(&name[2..4]).join(&name);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("it is not there".to_owned())),
        Err(error) => return Ok(Some(format!("{} cannot be read: {error}", path.display()))),
    };
    match ingest::take(inner, handle, repo, (oid, size_bytes), &mut file, work) {
        Ok(()) => Ok(None),
        Err(TransferError::Lfs(LfsError::WrongBytes { what, .. })) => {
            Ok(Some(format!("{} is damaged: {what}", path.display())))
        }
        Err(error) => Err(ImportError::LargeFile(error.to_string())),
    }
}

/// Says where missing files lie.
fn name(missing: &mut [MissingFile], source: &Path) -> Result<(), import::ImportError> {
    if missing.is_empty() {
        return Ok(());
    }
    let wanted: HashSet<Oid> = missing.iter().map(|file| file.oid).collect();
    let mut paths: HashMap<Oid, BString> = HashMap::new();
    for (oid, path) in import::large_file_paths(source, &wanted)? {
        let known = paths.entry(oid).or_insert_with(|| path.clone());
        if path < *known {
            *known = path;
        }
    }
    for file in missing {
        file.path = paths.remove(&file.oid);
    }
    Ok(())
}

fn unusable(path: &Path, error: &import::ImportError) -> RepoError {
    RepoError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn ended<T>(done: Result<T, tokio::task::JoinError>) -> Result<T, ImportError> {
    done.map_err(|error| ImportError::LargeFile(error.to_string()))
}
