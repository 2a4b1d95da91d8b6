//! Writes the index (`.idx`, version 2) and the reverse index (`.rev`, see [`rev`]) of a pack.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gix::ObjectId;
use gix::hash::Kind;

use super::{Entry, IndexError, IndexedPack, Received};
use crate::git::summed::SummedWriter;
use crate::git::work::{Stopped, Tick};
use crate::git::{fault, rev};

/// Magic and version of an index.
const INDEX_HEAD: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];

/// Offsets from here on take 64 bits.
const LARGE_OFFSET: u64 = 1 << 31;

/// Mode of everything in a pack folder: never written again.
const READ_ONLY: u32 = 0o444;

/// Positions of `entries` sorted by id. An object that is there twice is an error.
pub(super) fn sorted_by_id(entries: &[Entry], tick: Tick<'_>) -> Result<Vec<u32>, IndexError> {
    // One first byte after the other, so that there is a tick in between.
    let mut ends = [0usize; 256];
    for entry in entries {
        ends[usize::from(entry.id.first_byte())] += 1;
    }
    let mut end = 0;
    for count in &mut ends {
        end += *count;
        *count = end;
    }
    let mut starts = ends;
    let mut order = vec![0u32; entries.len()];
    for (n, entry) in entries.iter().enumerate().rev() {
        let at = &mut starts[usize::from(entry.id.first_byte())];
        *at -= 1;
        order[*at] = n as u32;
    }
    for (start, end) in starts.into_iter().zip(ends) {
        tick()?;
        order[start..end].sort_unstable_by_key(|&n| entries[n as usize].id);
    }
    for pair in order.windows(2) {
        if entries[pair[0] as usize].id == entries[pair[1] as usize].id {
            return Err(IndexError::Duplicate(entries[pair[0] as usize].id));
        }
    }
    Ok(order)
}

/// Writes both indexes, makes all three files read-only and gives them their names.
pub(super) fn finish(
    received: Received,
    folder: &Path,
    hash: Kind,
    order: &[u32],
    completed: u32,
    tick: Tick<'_>,
) -> Result<IndexedPack, IndexError> {
    let pack = IndexedPack {
        checksum: received.checksum,
        folder: folder.to_owned(),
        objects: received.entries.len() as u32,
        completed,
        bytes: received.end + hash.len_in_bytes() as u64,
        kinds: received.entries.iter().filter_map(|entry| entry.kind).collect(),
    };
    let mut write = || -> io::Result<()> {
        std::fs::rename(&received.path, pack.file("pack"))?;
        received.file.set_permissions(Permissions::from_mode(READ_ONLY))?;
        fault::point("after-pack-written");
        write_file(&pack.file("idx"), hash, tick, |out| {
            write_index(out, &received.entries, order, &pack.checksum)
        })?;
        write_file(&pack.file("rev"), hash, tick, |out| {
            write_reverse_index(out, order, &pack.checksum)
        })?;
        fault::point("after-idx-written");
        Ok(())
    };
    write().map_err(told).map(|()| pack)
}

/// What a failed write means: the work may have been stopped in it.
fn told(error: io::Error) -> IndexError {
    match error.downcast::<Stopped>() {
        Ok(stopped) => stopped.into(),
        Err(error) => IndexError::Write(error),
    }
}

/// One entry of a pack that this server wrote itself.
pub(in crate::git) struct WrittenEntry {
    /// The object.
    pub id: ObjectId,
    /// Where its entry begins, in bytes.
    pub offset: u64,
    /// CRC-32 over the entry.
    pub crc32: u32,
}

/// Writes both indexes of a pack that this server wrote itself, in pack order, and so knows all about.
pub(in crate::git) fn index_written(
    folder: &Path,
    hash: Kind,
    checksum: &ObjectId,
    written: &[WrittenEntry],
    tick: Tick<'_>,
) -> Result<(), IndexError> {
    let entries: Vec<Entry> = written
        .iter()
        .map(|entry| Entry {
            offset: entry.offset,
            size: 0,
            id: entry.id,
            crc32: entry.crc32,
            kept: None,
            head_len: 0,
            kind: None,
            is_delta: false,
        })
        .collect();
    let order = sorted_by_id(&entries, tick)?;
    let file = |extension: &str| folder.join(format!("pack-{checksum}.{extension}"));
    let mut write = || {
        write_file(&file("idx"), hash, tick, |out| {
            write_index(out, &entries, &order, checksum)
        })?;
        write_file(&file("rev"), hash, tick, |out| {
            write_reverse_index(out, &order, checksum)
        })
    };
    write().map_err(told)
}

/// Makes a read-only file of what `content` writes, with its checksum at the end.
fn write_file(
    path: &Path,
    hash: Kind,
    tick: Tick<'_>,
    content: impl FnOnce(&mut SummedWriter<Ticking<'_>>) -> io::Result<()>,
) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut out = SummedWriter::new(Ticking { file: &file, tick }, hash);
    content(&mut out)?;
    out.finish()?;
    file.set_permissions(Permissions::from_mode(READ_ONLY))
}

/// A file that ticks at each piece that is written.
struct Ticking<'t> {
    file: &'t File,
    tick: Tick<'t>,
}

impl Write for Ticking<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (self.tick)().map_err(io::Error::other)?;
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Values gathered before they are written and hashed at once.
const VALUES_AT_ONCE: usize = 4096;

/// Writes big-endian numbers in large pieces: the hash is slow on small ones.
fn write_numbers(out: &mut impl Write, numbers: impl Iterator<Item = u32>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * VALUES_AT_ONCE);
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
        if bytes.len() == 4 * VALUES_AT_ONCE {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)
}

/// Fan-out, ids, CRCs, offsets, large offsets, checksum of the pack.
fn write_index(out: &mut impl Write, entries: &[Entry], order: &[u32], checksum: &ObjectId) -> io::Result<()> {
    let in_order = || order.iter().map(|&n| &entries[n as usize]);
    out.write_all(&INDEX_HEAD)?;
    let mut fan_out = [0u32; 256];
    for entry in in_order() {
        fan_out[usize::from(entry.id.first_byte())] += 1;
    }
    let mut sum = 0;
    write_numbers(
        out,
        fan_out.iter().map(|count| {
            sum += count;
            sum
        }),
    )?;
    let mut ids = Vec::with_capacity(VALUES_AT_ONCE * checksum.as_slice().len());
    for (n, entry) in in_order().enumerate() {
        ids.extend_from_slice(entry.id.as_slice());
        if (n + 1) % VALUES_AT_ONCE == 0 {
            out.write_all(&ids)?;
            ids.clear();
        }
    }
    out.write_all(&ids)?;
    write_numbers(out, in_order().map(|entry| entry.crc32))?;
    let mut large = Vec::new();
    write_numbers(
        out,
        in_order().map(|entry| {
            if entry.offset < LARGE_OFFSET {
                return entry.offset as u32;
            }
            large.push(entry.offset);
            LARGE_OFFSET as u32 | (large.len() - 1) as u32
        }),
    )?;
    write_numbers(
        out,
        large.iter().flat_map(|offset| [(offset >> 32) as u32, *offset as u32]),
    )?;
    out.write_all(checksum.as_slice())
}

/// Positions in the index in the order of the pack, checksum of the pack.
fn write_reverse_index(out: &mut SummedWriter<Ticking<'_>>, order: &[u32], checksum: &ObjectId) -> io::Result<()> {
    let mut position_in_index = vec![0u32; order.len()];
    for (position, &entry) in order.iter().enumerate() {
        position_in_index[entry as usize] = position as u32;
    }
    rev::write_content(out, position_in_index, checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::object_store::ObjectKind;

    fn entry(offset: u64, first_byte: u8) -> Entry {
        let mut id = ObjectId::null(Kind::Sha1);
        id.as_mut_slice()[0] = first_byte;
        Entry {
            offset,
            size: 0,
            id,
            crc32: 7,
            kept: None,
            head_len: 1,
            kind: Some(ObjectKind::Blob),
            is_delta: false,
        }
    }

    #[test]
    fn offsets_of_two_gibibytes_and_more_take_64_bits_in_the_index() {
        let entries = [entry(12, 3), entry(5 << 30, 1), entry(LARGE_OFFSET, 2)];
        let order = sorted_by_id(&entries, &mut || Ok(())).expect("no duplicates");
        let mut index = Vec::new();

        write_index(&mut index, &entries, &order, &ObjectId::null(Kind::Sha1)).expect("writes to memory");

        let offsets = &index[8 + 1024 + 3 * 24..][..12 + 16];
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(offsets[..12], [0x80, 0, 0, 0, 0x80, 0, 0, 1, 0, 0, 0, 12]);
        assert_eq!(offsets[12..], [0, 0, 0, 1, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0]);
    }

    #[test]
    fn an_object_that_is_in_the_pack_twice_is_an_error() {
        assert!(matches!(
            sorted_by_id(&[entry(12, 3), entry(40, 3)], &mut || Ok(())),
            Err(IndexError::Duplicate(_))
        ));
    }
}
