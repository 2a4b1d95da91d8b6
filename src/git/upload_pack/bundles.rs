//! `bundle-uri`: where a client finds a bundle to begin with.
//!
//! The keys of a repository's own config are told as they are, as git tells them. Where there are
//! none, the bundle that this server made is told, as long as the client may have all that is in
//! it: one that holds what no visible ref reaches any more is not spoken of, nor served.

use std::io::Write;

use super::wants::Access;
use super::{UploadError, UploadOptions};
use crate::git::bundle::{self, StoredBundle};
use crate::git::pkt_line::PktWriter;
use crate::git::snapshot::Repository;

/// Writes the lines of the answer, as in git without line feeds.
///
/// # Errors
/// [`UploadError`] if history cannot be walked or the output failed.
pub(super) fn write<W: Write>(
    repository: &Repository,
    options: &UploadOptions<'_>,
    out: &mut PktWriter<W>,
) -> Result<(), UploadError> {
    let lines = &repository.snapshot()?.config.bundle_lines;
    for line in lines {
        out.line(&[line])?;
    }
    if lines.is_empty()
        && let Some(base) = options.bundle_base
        && let Some(stored) = newest(repository)
        && may_have_bundle(repository, options, &stored)?
    {
        out.line(&[b"bundle.version=1"])?;
        out.line(&[b"bundle.mode=all"])?;
        let name = stored.name.as_bytes();
        out.line(&[b"bundle.auxin.uri=", base.as_bytes(), b"/", name])?;
    }
    out.flush()?;
    Ok(())
}

/// Whether a client may have everything in a bundle: what its refs named is reached by visible refs
/// now, or was within the grace time.
///
/// # Errors
/// [`UploadError`] if history cannot be walked.
pub fn may_have_bundle(
    repository: &Repository,
    options: &UploadOptions<'_>,
    stored: &StoredBundle,
) -> Result<bool, UploadError> {
    let mut access = Access::new(repository, options)?;
    let unknown = access.unknown(repository, &stored.tips, true, &mut || options.work.check())?;
    Ok(unknown.is_empty())
}

/// The newest bundle; a damaged one only costs a slower clone.
fn newest(repository: &Repository) -> Option<StoredBundle> {
    match bundle::newest(&bundle::folder(repository.path())) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(repository = %repository.path().display(), %error, "a bundle cannot be read; clones go without it");
            None
        }
    }
}
