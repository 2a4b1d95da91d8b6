//! When unreachable objects were last wanted: the file beside a pack of them (gitformat-pack: `.mtimes`).
//!
//! Git calls such a pack a cruft pack, and prunes from it by the same times.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gix::ObjectId;
use gix::hash::Kind;

use super::pack_writer::WrittenPack;
use crate::git::object_store::{Pack, StoreError};

/// Magic and version.
const HEAD: [u8; 8] = *b"MTME\0\0\0\x01";
/// Ending of the file.
pub(super) const EXTENSION: &str = "mtimes";
/// Length of magic, version and number of the hash function, in bytes.
const HEAD_BYTES: usize = 12;
/// Mode of everything in a pack folder: never written again.
const READ_ONLY: u32 = 0o444;

fn hash_number(hash: Kind) -> u32 {
    if hash == Kind::Sha1 { 1 } else { 2 }
}

/// Whether the pack holds unreachable objects only.
pub(super) fn is_cruft(pack: &Path) -> bool {
    pack.with_extension(EXTENSION).exists()
}

/// Since when each object of a pack of unreachable ones is one, in seconds since 1970.
///
/// # Errors
/// [`StoreError`] if the file cannot be read or does not belong to the pack.
pub(super) fn read(pack: &Pack) -> Result<HashMap<ObjectId, u32>, StoreError> {
    let path = pack.path().with_extension(EXTENSION);
    let content = fs::read(&path).map_err(|source| StoreError::Io {
        path: path.clone(),
        source,
    })?;
    let damaged = |detail: &str| StoreError::damaged(path.display(), detail);
    let hash = pack.index.object_hash();
    let (count, hash_len) = (pack.object_count() as usize, hash.len_in_bytes());
    if content.len() != HEAD_BYTES + 4 * count + 2 * hash_len {
        return Err(damaged("it has another number of objects than its pack"));
    }
    let (body, checksum) = content.split_at(content.len() - hash_len);
    let mut hasher = gix::hash::hasher(hash);
    hasher.update(body);
    if body[..8] != HEAD
        || body[8..HEAD_BYTES] != hash_number(hash).to_be_bytes()
        || body[body.len() - hash_len..] != *pack.data.checksum().as_slice()
        || hasher
            .try_finalize()
            .ok()
            .is_none_or(|found| found.as_slice() != checksum)
    {
        return Err(damaged("it is not what git writes, or belongs to another pack"));
    }
    let times = body[HEAD_BYTES..HEAD_BYTES + 4 * count].chunks_exact(4);
    Ok(times
        .enumerate()
        .map(|(entry, bytes)| {
            let time = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (pack.index.oid_at_index(entry as u32).to_owned(), time)
        })
        .collect())
}

/// Writes the file for a pack that was just written; `times` by id, sorted.
///
/// # Errors
/// The disk's.
pub(super) fn write(pack: &WrittenPack, hash: Kind, times: &[(ObjectId, u32)]) -> io::Result<()> {
    debug_assert!(times.is_sorted());
    let mut content = HEAD.to_vec();
    content.extend_from_slice(&hash_number(hash).to_be_bytes());
    for (_, time) in times {
        content.extend_from_slice(&time.to_be_bytes());
    }
    content.extend_from_slice(pack.checksum.as_slice());
    let mut hasher = gix::hash::hasher(hash);
    hasher.update(&content);
    let checksum = hasher.try_finalize().map_err(io::Error::other)?;
    content.extend_from_slice(checksum.as_slice());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(pack.file(EXTENSION))?;
    file.write_all(&content)?;
    file.set_permissions(fs::Permissions::from_mode(READ_ONLY))
}
