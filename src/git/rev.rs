//! The reverse index of a pack (`.rev`): which entry of the index lies where in the pack.
//!
//! Git's "gitformat-pack", section on `*.rev` files, version 1: `RIDX`, version, number of the hash
//! function, one position in the index per object in the order of the pack, the checksum of the
//! pack, the checksum of the file. Older versions of git lay the same beside a multi-pack-index.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gix::hash::oid;

use super::summed::{SummedReader, SummedWriter};

/// Magic and version.
const HEAD: [u8; 8] = *b"RIDX\0\0\0\x01";
/// Bytes before the positions: magic, version, number of the hash function.
const HEAD_BYTES: u64 = 12;

/// Why a reverse index cannot be used. Sorting the index by offset gives the same answer.
#[derive(Debug, thiserror::Error)]
pub enum RevError {
    /// The file cannot be read, or is not there.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is damaged or belongs to another pack.
    #[error("{}: cannot be used: {detail}; remove it, and it is made anew by maintenance", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
}

impl RevError {
    /// Whether there is no such file, which is no fault.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Writes a reverse index. `positions` are positions in the index, in the order of the pack;
/// `owner` is the checksum of the pack.
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(out: W, positions: impl IntoIterator<Item = u32>, owner: &oid) -> io::Result<W> {
    let mut out = SummedWriter::new(out, owner.kind());
    write_content(&mut out, positions, owner)?;
    Ok(out.finish()?.0)
}

/// Writes all of a reverse index but the checksum at its end.
pub(in crate::git) fn write_content<W: Write>(
    out: &mut SummedWriter<W>,
    positions: impl IntoIterator<Item = u32>,
    owner: &oid,
) -> io::Result<()> {
    out.bytes(&HEAD)?;
    out.u32(owner.kind() as u32)?;
    for position in positions {
        out.u32(position)?;
    }
    out.bytes(owner.as_bytes())
}

/// Reads the reverse index of the pack with checksum `owner`: positions in the index, in the order
/// of the pack.
///
/// The checksum of the file is verified, and every position is below `object_count`; that they are
/// in the order of the pack only the index can tell.
///
/// # Errors
/// [`RevError`]; ask [`RevError::is_absent`] for a file that is not there.
pub fn read(path: &Path, object_count: u32, owner: &oid) -> Result<Vec<u32>, RevError> {
    let damaged = |detail| RevError::Damaged {
        path: path.to_owned(),
        detail,
    };
    let fail = |source: io::Error| RevError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = match SummedReader::open(path, owner.kind()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged("it is cut off")),
        Err(error) => return Err(fail(error)),
    };
    // The length is settled before room is made for the positions.
    if file.end() != HEAD_BYTES + 4 * u64::from(object_count) + owner.as_bytes().len() as u64 {
        return Err(damaged("its length does not fit the number of objects"));
    }
    if file.array().map_err(fail)? != HEAD {
        return Err(damaged("it does not start like a reverse index of version 1"));
    }
    if file.u32().map_err(fail)? != owner.kind() as u32 {
        return Err(damaged("it is of another hash function"));
    }
    let mut positions = Vec::with_capacity(object_count as usize);
    for _ in 0..object_count {
        let position = file.u32().map_err(fail)?;
        if position >= object_count {
            return Err(damaged("it names an entry that the index does not have"));
        }
        positions.push(position);
    }
    if file.id().map_err(fail)?.as_ref() != owner {
        return Err(damaged("it belongs to another pack"));
    }
    if file.finish().map_err(fail)?.is_none() {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::ObjectId;
    use gix::hash::Kind;
    use proptest::prelude::*;

    fn owner(kind: Kind) -> ObjectId {
        let mut id = kind.null();
        id.as_mut_slice().fill(7);
        id
    }

    fn read_bytes(bytes: &[u8], count: u32, owner: &oid) -> Result<Vec<u32>, RevError> {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join("pack.rev");
        std::fs::write(&path, bytes).expect("writes");
        read(&path, count, owner)
    }

    #[test]
    fn what_is_written_is_read_again_with_every_hash_function() {
        for kind in Kind::all() {
            let owner = owner(*kind);
            let bytes = write(Vec::new(), [2, 0, 1], &owner).expect("writes to memory");
            assert_eq!(bytes.len(), 12 + 12 + 2 * kind.len_in_bytes());
            assert_eq!(read_bytes(&bytes, 3, &owner).expect("reads"), [2, 0, 1]);
        }
    }

    #[test]
    fn a_file_of_another_pack_or_another_number_of_objects_is_refused() {
        let owner = owner(Kind::Sha1);
        let bytes = write(Vec::new(), [2, 0, 1], &owner).expect("writes to memory");
        for (count, owner) in [(2, owner), (4, owner), (u32::MAX, owner), (3, Kind::Sha1.null())] {
            assert!(matches!(
                read_bytes(&bytes, count, &owner),
                Err(RevError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_from_a_damaged_one() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let error = read(&folder.path().join("x.rev"), 1, &owner(Kind::Sha1)).expect_err("there is none");
        assert!(error.is_absent());
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_is_an_error(at in 0_usize..64, bit in 0_u8..8, cut in any::<bool>()) {
            let owner = owner(Kind::Sha1);
            let mut bytes = write(Vec::new(), [2, 0, 1], &owner).expect("writes to memory");
            prop_assert_eq!(bytes.len(), 64);
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
            prop_assert!(read_bytes(&bytes, 3, &owner).is_err());
        }
    }
}
