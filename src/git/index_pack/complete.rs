//! Thin packs: the bases that the sender left out are appended, as git does.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind;

use super::entry::whole_entry_head;
use super::make::index_error;
use super::{Entry, FindBase, IndexError, Received};
use crate::git::checksum::Checksum;
use crate::git::spill::SpillError;
use crate::git::work::Tick;

/// Bytes read at once while the checksum is made anew.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Where the count stands in the header of a pack, in bytes.
const COUNT_AT: u64 = 8;

/// Appends those of `bases` that are not in the pack, corrects its count and checksum, and returns
/// how many were appended. `order` are the entries sorted by id.
pub(super) fn append_bases(
    received: &mut Received,
    hash: Kind,
    order: &[u32],
    bases: &[ObjectId],
    find_base: FindBase<'_>,
    tick: Tick<'_>,
) -> Result<u32, IndexError> {
    // A base that we have may also have come as a delta on another base: once is enough.
    let missing: Vec<ObjectId> = bases
        .iter()
        .filter(|base| {
            order
                .binary_search_by(|&n| received.entries[n as usize].id.cmp(base))
                .is_err()
        })
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(0);
    }
    received
        .file
        .seek(SeekFrom::Start(received.end))
        .map_err(IndexError::Write)?;
    for base in &missing {
        tick()?;
        let (kind, content) = find_base(base).ok_or(IndexError::OwnObject(*base))?;
        let mut counted = Counted {
            file: BufWriter::new(&received.file),
            written: 0,
            crc32: flate2::Crc::new(),
        };
        let head = whole_entry_head(kind, content.len_bytes());
        counted.write_all(&head).map_err(IndexError::Write)?;
        let mut deflate = ZlibEncoder::new(&mut counted, Compression::default());
        let copied = content.each_piece(&mut |piece| {
            tick()?;
            deflate.write_all(piece).map_err(SpillError::Disk)
        });
        copied.map_err(|error| index_error(received.end, error))?;
        deflate.finish().map_err(IndexError::Write)?;
        counted.flush().map_err(IndexError::Write)?;
        received.entries.push(Entry {
            offset: received.end,
            size: content.len_bytes(),
            id: *base,
            crc32: counted.crc32.sum(),
            kept: None,
            head_len: head.len() as u8,
            kind: Some(kind),
            is_delta: false,
        });
        received.end += counted.written;
    }
    received.checksum = new_checksum(
        &mut received.file,
        received.entries.len() as u32,
        received.end,
        hash,
        tick,
    )?;
    Ok(missing.len() as u32)
}

/// Counts and sums what is appended.
struct Counted<'a> {
    file: BufWriter<&'a File>,
    written: u64,
    crc32: flate2::Crc,
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(data)?;
        self.crc32.update(&data[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes the new count, hashes the pack up to `end` and puts the checksum there.
fn new_checksum(file: &mut File, count: u32, end: u64, hash: Kind, tick: Tick<'_>) -> Result<ObjectId, IndexError> {
    file.seek(SeekFrom::Start(COUNT_AT)).map_err(IndexError::Write)?;
    file.write_all(&count.to_be_bytes()).map_err(IndexError::Write)?;
    file.rewind().map_err(IndexError::Write)?;
    let mut checksum = Checksum::new(hash);
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut left = end;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        tick()?;
        file.read_exact(&mut buffer[..want]).map_err(IndexError::Write)?;
        checksum.update(&buffer[..want]);
        left -= want as u64;
    }
    let checksum = checksum.finish();
    file.write_all(checksum.as_slice()).map_err(IndexError::Write)?;
    file.set_len(end + hash.len_in_bytes() as u64)
        .map_err(IndexError::Write)?;
    Ok(checksum)
}
