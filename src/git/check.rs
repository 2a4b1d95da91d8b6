//! Checks a whole repository, as `git fsck` does: every file, every object, and that all refs are complete.

use std::sync::Arc;

use gix::hash::Kind;

use super::checksum::Checksum;
use super::fsck::{Checker, FoundBlob, Rules};
use super::index_pack::{content_id, object_id};
use super::object_store::{ObjectKind, ObjectStore, Pack, Pos, ReadError, Reader, StoreError};
use super::refs::RefFiles;
use super::snapshot::{OpenError, Repository, Snapshot};
use super::spill::{IN_MEMORY_BYTES, SpillError};
use super::walk::{Bits, WalkError, Walker};
use super::work::{Stopped, Tick};

/// Problems that are told; more are only counted.
const MAX_PROBLEMS: usize = 1000;
/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 96 << 20;
/// Piece of a file hashed at once, in bytes.
const PIECE_BYTES: u64 = 1 << 20;
/// Largest `.gitmodules` or `.gitattributes` that is read, in bytes.
const MAX_SPECIAL_BLOB_BYTES: u64 = 100 << 20;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Objects looked at.
    pub objects: u32,
    /// Refs looked at.
    pub refs: usize,
    /// What is wrong, a sentence each; at most 1,000.
    pub errors: Vec<String>,
    /// What git only warns of, a sentence each; at most 1,000.
    pub warnings: Vec<String>,
    /// All problems, told or not.
    pub error_count: usize,
}

impl CheckReport {
    fn error(&mut self, text: impl ToString) {
        self.error_count += 1;
        if self.errors.len() < MAX_PROBLEMS {
            self.errors.push(text.to_string());
        }
    }
}

/// Why a check could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The repository cannot be opened at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its refs cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Reads everything in the repository and tells what is wrong. Changes nothing.
///
/// # Errors
/// [`CheckError`] if the check itself cannot go on; damage is in the report.
pub fn check(repository: &Repository, tick: Tick<'_>) -> Result<CheckReport, CheckError> {
    let snapshot = repository.reload()?;
    let mut report = CheckReport::default();
    for pack in snapshot.objects.packs() {
        check_file_hashes(pack, &mut report, tick)?;
    }
    check_objects(&snapshot.objects, &mut report, tick)?;
    check_refs(repository, &snapshot, &mut report, tick)?;
    Ok(report)
}

/// Compares a pack's bytes with the checksum at its end, and its index likewise.
fn check_file_hashes(pack: &Pack, report: &mut CheckReport, tick: Tick<'_>) -> Result<(), CheckError> {
    let end = pack.data.pack_end() as u64;
    let format = pack.index.object_hash();
    let mut checksum = Checksum::new(format);
    let mut at = 0;
    while at < end {
        let next = end.min(at + PIECE_BYTES);
        match pack.data.entry_slice(at..next) {
            Some(piece) => checksum.update(piece),
            None => break,
        }
        tick()?;
        at = next;
    }
    if checksum.finish() != pack.data.checksum() {
        report.error(format!(
            "{}: its content does not match its checksum",
            pack.path().display()
        ));
    }
    let index_path = pack.path().with_extension("idx");
    let index = std::fs::read(&index_path).map_err(|source| StoreError::Io {
        path: index_path.clone(),
        source,
    })?;
    let body = index.len().saturating_sub(format.len_in_bytes());
    if Checksum::of(format, &index[..body]).as_slice() != &index[body..] {
        report.error(format!(
            "{}: its content does not match its checksum",
            index_path.display()
        ));
    }
    Ok(())
}

/// Decodes every object, compares it with its id and applies git's rules to it.
fn check_objects(objects: &ObjectStore, report: &mut CheckReport, tick: Tick<'_>) -> Result<(), CheckError> {
    let mut reader = objects.reader(CACHE_BYTES);
    let mut checker = Checker::new(Arc::new(Rules::default()));
    let mut buffer = Vec::new();
    for position in (0..objects.len()).map(Pos) {
        tick()?;
        report.objects += 1;
        let id = objects.id(position);
        if let Ok((ObjectKind::Blob, size)) = reader.header_at(position)
            && size > IN_MEMORY_BYTES
        {
            check_large_blob(objects.hash(), &mut reader, position, report, tick)?;
            continue;
        }
        match reader.read_at(position, &mut buffer) {
            Ok(object) => {
                if object_id(objects.hash(), object.kind, object.data) != Some(id) {
                    report.error(format!("object {id}: its content does not match its id"));
                }
                checker.check(&id, object.kind, object.data);
            }
            Err(error) => report.error(format!("object {id}: {error}")),
        }
    }
    checker.finish(&mut |id| match reader.header(id) {
        Ok(Some((ObjectKind::Blob, size))) if size > MAX_SPECIAL_BLOB_BYTES => FoundBlob::TooLarge,
        Ok(Some((ObjectKind::Blob, _))) => match reader.read(id, &mut buffer) {
            Ok(Some(object)) => FoundBlob::Content(object.data.to_vec()),
            Ok(None) | Err(_) => FoundBlob::Missing,
        },
        Ok(Some(_)) => FoundBlob::NotABlob,
        Ok(None) | Err(_) => FoundBlob::Missing,
    });
    for problem in checker.problems() {
        if problem.is_error {
            report.error(problem);
        } else if report.warnings.len() < MAX_PROBLEMS {
            report.warnings.push(problem.to_string());
        }
    }
    Ok(())
}

/// Compares a blob that is not held in memory with its id; git has no rules for its content.
fn check_large_blob(
    hash: Kind,
    reader: &mut Reader<'_>,
    position: Pos,
    report: &mut CheckReport,
    tick: Tick<'_>,
) -> Result<(), CheckError> {
    let id = reader.store().id(position);
    let (kind, content) = match reader.content(position, tick) {
        Ok(found) => found,
        Err(ReadError::Stopped(stopped)) => return Err(stopped.into()),
        Err(ReadError::Store(error)) => {
            report.error(format!("object {id}: {error}"));
            return Ok(());
        }
    };
    match content_id(hash, kind, &content, tick) {
        Ok(found) if found == Some(id) => {}
        Ok(_) => report.error(format!("object {id}: its content does not match its id")),
        Err(SpillError::Stopped(stopped)) => return Err(stopped.into()),
        Err(error) => report.error(format!("object {id}: {error}")),
    }
    Ok(())
}

/// Checks that every ref names an object that is here, with all it reaches.
fn check_refs(
    repository: &Repository,
    snapshot: &Snapshot,
    report: &mut CheckReport,
    tick: Tick<'_>,
) -> Result<(), CheckError> {
    let mut files = RefFiles::new(repository.path(), snapshot.hash());
    files.refresh()?;
    let (_, refs) = files.collect()?;
    let objects = &*snapshot.objects;
    let mut walker = Walker::new(objects, &snapshot.shallow, CACHE_BYTES)
        .without_graph()
        .without_bitmaps();
    let mut present = Vec::new();
    for known in refs {
        report.refs += 1;
        let is_branch = known.name.starts_with(b"refs/heads/");
        match walker.reader().header(&known.target) {
            Ok(None) => {
                report.error(format!("{}: its object {} is missing", known.name, known.target));
                continue;
            }
            Ok(Some((kind, _))) if is_branch && kind != ObjectKind::Commit => {
                report.error(format!(
                    "{}: a branch must name a commit, not a {}",
                    known.name,
                    kind.as_str()
                ));
            }
            Ok(Some(_)) | Err(_) => {}
        }
        present.push(known);
    }
    let tips: Vec<_> = present.iter().map(|known| known.target).collect();
    match walker.add_closure(&tips, &mut Bits::new(objects.len()), tick) {
        Ok(()) => return Ok(()),
        Err(WalkError::Stopped(stopped)) => return Err(stopped.into()),
        // Something is missing or damaged: find out for which refs.
        Err(WalkError::Missing(_) | WalkError::Store(_)) => {}
    }
    for known in present {
        walker.forget_seen();
        match walker.add_closure(&[known.target], &mut Bits::new(objects.len()), tick) {
            Ok(()) => {}
            Err(WalkError::Stopped(stopped)) => return Err(stopped.into()),
            Err(WalkError::Missing(id)) => report.error(format!("{}: object {id} is missing", known.name)),
            Err(error @ WalkError::Store(_)) => report.error(format!("{}: {error}", known.name)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_thousand_problems_are_told_but_all_are_counted() {
        let mut report = CheckReport::default();

        for number in 0..1500 {
            report.error(format!("problem {number}"));
        }

        assert_eq!((report.errors.len(), report.error_count), (MAX_PROBLEMS, 1500));
    }
}
