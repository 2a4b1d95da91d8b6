//! Chunk packs: many frames in one immutable object, with an index at its end.
//!
//! ```text
//! "AUXPACK" 1                      magic and version, 8 bytes
//! payload payload …                frames back to back, in the order in which they were added
//! fan-out                          256 × u32: rows whose name begins with at most this byte
//! rows                             48 bytes each, sorted by name
//!     name 32 · offset u32 · stored bytes u32 · raw bytes u32 · kind u8 (0 chunk, 1 recipe) · codec u8 · 0 u16
//! SHA-256                          of everything before it, 32 bytes
//! index bytes u32                  length of fan-out and rows
//! "XPCK"                           4 bytes
//! ```
//!
//! All numbers are little-endian. Two reads find anything: the last [`TRAILER_BYTES`], then the index.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::codec::{Codec, DecodeError};

/// The beginning of every chunk pack.
pub const MAGIC: [u8; 8] = *b"AUXPACK\x01";
/// Largest chunk pack, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// A pack is sealed when it has reached this size, in bytes.
pub const TARGET_BYTES: u64 = 32 << 20;
/// Most frames in one pack.
pub const MAX_FRAMES: usize = 1 << 18;
/// Length of what follows the index, in bytes.
pub const TRAILER_BYTES: usize = 32 + 4 + 4;

const END: [u8; 4] = *b"XPCK";
const FAN_OUT_BYTES: usize = 256 * 4;
const ROW_BYTES: usize = 48;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A chunk of a file; its name is the SHA-256 of its bytes.
    Chunk = 0,
    /// A recipe; its name is that of the object it makes.
    Recipe = 1,
}

/// Where one frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of what it holds.
    pub name: [u8; 32],
    /// What it holds.
    pub kind: Kind,
    /// How it is stored.
    pub codec: Codec,
    /// Where its payload begins in the pack, in bytes.
    pub offset: u32,
    /// Length of the payload, in bytes.
    pub stored_bytes: u32,
    /// Length of what it holds, in bytes.
    pub raw_bytes: u32,
}

/// A finished pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its frames, in the order in which they were added.
    pub rows: Vec<Row>,
    /// Its length, in bytes.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub sha256: [u8; 32],
}

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It does not end as a chunk pack does.
    #[error("it is no chunk pack")]
    NotAPack,
    /// Larger than a pack may be.
    #[error("it has {0} bytes, more than a chunk pack may have")]
    TooLarge(u64),
    /// Its index contradicts itself or the pack.
    #[error("its index is damaged: {0}")]
    Index(&'static str),
    /// A codec that is not known.
    #[error(transparent)]
    Codec(#[from] DecodeError),
}

/// Writes a pack.
pub struct PackWriter<W> {
    out: W,
    hash: Sha256,
    whole: Sha256,
    bytes: u64,
    rows: Vec<Row>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack.
    ///
    /// # Errors
    /// The output's.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self {
            out,
            hash: Sha256::new(),
            whole: Sha256::new(),
            bytes: 0,
            rows: Vec::new(),
        };
        writer.write(&MAGIC)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        self.whole.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Length so far, in bytes, with the index that it would need.
    pub fn bytes(&self) -> u64 {
        self.bytes + (FAN_OUT_BYTES + self.rows.len() * ROW_BYTES + TRAILER_BYTES) as u64
    }

    /// Number of frames so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it should be sealed before a frame of this many bytes is added.
    pub fn is_full_for(&self, payload_bytes: usize) -> bool {
        !self.is_empty()
            && (self.bytes() + (payload_bytes + ROW_BYTES) as u64 > TARGET_BYTES || self.len() >= MAX_FRAMES)
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// The output's; [`io::ErrorKind::FileTooLarge`] if the pack would become larger than one may be.
    pub fn add(
        &mut self,
        name: [u8; 32],
        kind: Kind,
        codec: Codec,
        raw_bytes: usize,
        payload: &[u8],
    ) -> io::Result<Row> {
        let after = self.bytes() + (payload.len() + ROW_BYTES) as u64;
        let (Ok(offset), Ok(stored_bytes), Ok(raw_bytes)) = (
            u32::try_from(self.bytes),
            u32::try_from(payload.len()),
            u32::try_from(raw_bytes),
        ) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if after > MAX_BYTES || self.rows.len() >= MAX_FRAMES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.write(payload)?;
        let row = Row {
            name,
            kind,
            codec,
            offset,
            stored_bytes,
            raw_bytes,
        };
        self.rows.push(row);
        Ok(row)
    }

    /// Gives up and hands the output back.
    pub fn into_output(self) -> W {
        self.out
    }

    /// Writes the index and ends the pack.
    ///
    /// # Errors
    /// The output's.
    pub fn seal(mut self) -> io::Result<(W, Sealed)> {
        let index = index_bytes(&self.rows);
        self.write(&index)?;
        let checksum: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        self.write(&checksum)?;
        self.write(&(index.len() as u32).to_le_bytes())?;
        self.write(&END)?;
        let sealed = Sealed {
            rows: self.rows,
            bytes: self.bytes,
            sha256: self.whole.finalize().into(),
        };
        Ok((self.out, sealed))
    }
}

fn index_bytes(rows: &[Row]) -> Vec<u8> {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| (row.name, row.kind));
    let mut fan_out = [0_u32; 256];
    for row in &sorted {
        fan_out[row.name[0] as usize] += 1;
    }
    let mut index = Vec::with_capacity(FAN_OUT_BYTES + rows.len() * ROW_BYTES);
    let mut sum = 0_u32;
    for count in fan_out {
        sum += count;
        index.extend_from_slice(&sum.to_le_bytes());
    }
    for row in sorted {
        index.extend_from_slice(&row.name);
        index.extend_from_slice(&row.offset.to_le_bytes());
        index.extend_from_slice(&row.stored_bytes.to_le_bytes());
        index.extend_from_slice(&row.raw_bytes.to_le_bytes());
        index.extend_from_slice(&[row.kind as u8, row.codec.tag(), 0, 0]);
    }
    index
}

/// What the last bytes of a pack tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// SHA-256 of everything before the checksum.
    pub checksum: [u8; 32],
    /// Where the index begins, in bytes.
    pub index_offset: u64,
    /// Length of the index, in bytes.
    pub index_bytes: usize,
}

impl Trailer {
    /// Reads the last [`TRAILER_BYTES`] of a pack of `pack_bytes`.
    ///
    /// # Errors
    /// [`PackError`] if they cannot be those of a chunk pack.
    pub fn parse(last: &[u8], pack_bytes: u64) -> Result<Self, PackError> {
        if pack_bytes > MAX_BYTES {
            return Err(PackError::TooLarge(pack_bytes));
        }
        let last: &[u8; TRAILER_BYTES] = last.try_into().map_err(|_| PackError::NotAPack)?;
        let (checksum, rest) = last.split_first_chunk::<32>().ok_or(PackError::NotAPack)?;
        let (index_bytes, end) = rest.split_first_chunk::<4>().ok_or(PackError::NotAPack)?;
        if end != END {
            return Err(PackError::NotAPack);
        }
        let index_bytes = u32::from_le_bytes(*index_bytes) as usize;
        let is_shape = index_bytes >= FAN_OUT_BYTES
            && (index_bytes - FAN_OUT_BYTES).is_multiple_of(ROW_BYTES)
            && (index_bytes - FAN_OUT_BYTES) / ROW_BYTES <= MAX_FRAMES;
        let index_offset = pack_bytes.checked_sub((TRAILER_BYTES + index_bytes) as u64);
        match index_offset.filter(|&offset| is_shape && offset >= MAGIC.len() as u64) {
            Some(index_offset) => Ok(Self {
                checksum: *checksum,
                index_offset,
                index_bytes,
            }),
            None => Err(PackError::Index("its length does not fit")),
        }
    }
}

/// Reads the index of a pack whose [`Trailer`] was read. Rows come sorted by name.
///
/// # Errors
/// [`PackError`] if it is not one that [`PackWriter`] writes.
pub fn parse_index(index: &[u8], trailer: &Trailer) -> Result<Vec<Row>, PackError> {
    if index.len() != trailer.index_bytes || index.len() < FAN_OUT_BYTES {
        return Err(PackError::Index("its length does not fit"));
    }
    let (fan_out, table) = index.split_at(FAN_OUT_BYTES);
    let number = |bytes: &[u8], at: usize| {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_le_bytes).unwrap_or_default()
    };
    let mut rows: Vec<Row> = Vec::with_capacity(table.len() / ROW_BYTES);
    for bytes in table.chunks_exact(ROW_BYTES) {
        let Some((name, rest)) = bytes.split_first_chunk::<32>() else {
            return Err(PackError::Index("a row is cut off"));
        };
        let kind = match rest[12] {
            0 => Kind::Chunk,
            1 => Kind::Recipe,
            _ => return Err(PackError::Index("a row is of no known kind")),
        };
        let row = Row {
            name: *name,
            kind,
            codec: Codec::from_tag(rest[13])?,
            offset: number(rest, 0),
            stored_bytes: number(rest, 4),
            raw_bytes: number(rest, 8),
        };
        let end = u64::from(row.offset) + u64::from(row.stored_bytes);
        if (row.offset as usize) < MAGIC.len() || end > trailer.index_offset || rest[14..] != [0, 0] {
            return Err(PackError::Index("a row lies outside of the pack"));
        }
        if rows
            .last()
            .is_some_and(|before| (before.name, before.kind) >= (row.name, row.kind))
        {
            return Err(PackError::Index("its rows are not sorted"));
        }
        rows.push(row);
    }
    let mut expected = 0;
    let mut rest = rows.iter().peekable();
    for first in 0..=255_u8 {
        while rest.next_if(|row| row.name[0] == first).is_some() {
            expected += 1;
        }
        if number(fan_out, usize::from(first) * 4) != expected {
            return Err(PackError::Index("its fan-out does not fit its rows"));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(frames: &[(&[u8], Kind)]) -> (Vec<u8>, Sealed) {
        let mut writer = PackWriter::new(Vec::new()).expect("memory");
        for (payload, kind) in frames {
            let name = Sha256::digest(payload).into();
            writer
                .add(name, *kind, Codec::Raw, payload.len(), payload)
                .expect("fits");
        }
        writer.seal().expect("memory")
    }

    fn read(bytes: &[u8]) -> Result<Vec<Row>, PackError> {
        let last = &bytes[bytes.len().saturating_sub(TRAILER_BYTES)..];
        let trailer = Trailer::parse(last, bytes.len() as u64)?;
        let index = &bytes[trailer.index_offset as usize..][..trailer.index_bytes];
        parse_index(index, &trailer)
    }

    #[test]
    fn the_frames_of_a_pack_are_found_by_its_index() {
        let (bytes, sealed) = pack(&[
            (b"one", Kind::Chunk),
            (b"recipe", Kind::Recipe),
            (b"three", Kind::Chunk),
        ]);
        let mut rows = read(&bytes).expect("an index");
        rows.sort_by_key(|row| row.offset);
        assert_eq!(rows, sealed.rows);
        assert_eq!(sealed.bytes, bytes.len() as u64);
        assert_eq!(sealed.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let found: Vec<&[u8]> = rows
            .iter()
            .map(|row| &bytes[row.offset as usize..][..row.stored_bytes as usize])
            .collect();
        assert_eq!(found, [&b"one"[..], b"recipe", b"three"]);
    }

    #[test]
    fn the_bytes_of_a_pack_are_those_of_the_format() {
        let (bytes, _) = pack(&[(b"abc", Kind::Chunk)]);
        assert_eq!(&bytes[..11], b"AUXPACK\x01abc");
        let index = 11;
        assert_eq!(&bytes[index + 0xb9 * 4..index + 0xbb * 4], [0, 0, 0, 0, 1, 0, 0, 0]);
        let row = &bytes[index + 1024..][..48];
        assert_eq!(row[..2], [0xba, 0x78]);
        assert_eq!(row[32..], [8, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[bytes.len() - 8..], [48, 4, 0, 0, b'X', b'P', b'C', b'K']);
        assert_eq!(bytes.len(), 11 + 1024 + 48 + TRAILER_BYTES);
    }

    #[test]
    fn a_pack_ends_before_it_becomes_too_large() {
        let mut writer = PackWriter::new(io::sink()).expect("nowhere");
        let frame = vec![0; 1 << 20];
        while !writer.is_full_for(frame.len()) {
            let name = ChunkName::next(&writer);
            writer
                .add(name, Kind::Chunk, Codec::Raw, frame.len(), &frame)
                .expect("fits");
        }
        assert_eq!(writer.len(), 31);
        let too_large = vec![0; MAX_BYTES as usize];
        let refused = writer
            .add([255; 32], Kind::Chunk, Codec::Raw, 1, &too_large)
            .expect_err("too large");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }

    struct ChunkName;

    impl ChunkName {
        fn next<W: Write>(writer: &PackWriter<W>) -> [u8; 32] {
            [writer.len() as u8; 32]
        }
    }

    #[test]
    fn damage_in_the_index_is_noticed() {
        let (bytes, _) = pack(&[(b"one", Kind::Chunk), (b"three", Kind::Chunk)]);
        for (at, what) in [
            (bytes.len() - 1, "no chunk pack"),
            (bytes.len() - 8, "length does not fit"),
            (bytes.len() - TRAILER_BYTES - 48, "damaged"),
            (bytes.len() - TRAILER_BYTES - 96 + 35, "outside"),
            (bytes.len() - TRAILER_BYTES - 96 + 44, "kind"),
            (bytes.len() - TRAILER_BYTES - 96 - 1, "fan-out"),
        ] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let error = read(&damaged).expect_err("damaged").to_string();
            assert!(error.contains(what), "{at}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_end_of_a_pack_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4000), len in any::<u16>()) {
            let (whole, _) = pack(&[(b"one", Kind::Chunk)]);
            let mut mixed = whole;
            let at = usize::from(len) % mixed.len();
            for (byte, other) in mixed[at..].iter_mut().zip(&bytes) {
                *byte ^= other;
            }
            let _ = read(&mixed);
            let _ = read(&bytes);
        }
    }
}
