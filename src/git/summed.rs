//! Files that end with a checksum of everything before it: what lies beside packs (`.idx`, `.rev`,
//! `.bitmap`, multi-pack-index), written and read from front to back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use gix::ObjectId;
use gix::hash::Kind;

use super::checksum::Checksum;

/// Bytes gathered before they are hashed and passed on: the hash is slow on small pieces.
const PIECE_BYTES: usize = 64 << 10;

/// Writes such a file.
pub(in crate::git) struct SummedWriter<W> {
    inner: W,
    hash: Checksum,
    buffer: Vec<u8>,
    passed_on_bytes: u64,
}

impl<W: Write> SummedWriter<W> {
    pub fn new(inner: W, hash: Kind) -> Self {
        Self {
            inner,
            hash: Checksum::new(hash),
            buffer: Vec::with_capacity(PIECE_BYTES),
            passed_on_bytes: 0,
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.passed_on_bytes + self.buffer.len() as u64
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > PIECE_BYTES {
            self.pass_on()?;
        }
        if bytes.len() > PIECE_BYTES {
            self.hash.update(bytes);
            self.passed_on_bytes += bytes.len() as u64;
            return self.inner.write_all(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes a number, most significant byte first, as every number here.
    pub fn u32(&mut self, number: u32) -> io::Result<()> {
        self.bytes(&number.to_be_bytes())
    }

    pub fn u64(&mut self, number: u64) -> io::Result<()> {
        self.bytes(&number.to_be_bytes())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.passed_on_bytes += self.buffer.len() as u64;
        self.inner.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the checksum and tells it.
    pub fn finish(mut self) -> io::Result<(W, ObjectId)> {
        self.pass_on()?;
        let checksum = self.hash.finish();
        self.inner.write_all(checksum.as_slice())?;
        self.inner.flush()?;
        Ok((self.inner, checksum))
    }
}

impl<W: Write> Write for SummedWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.bytes(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.inner.flush()
    }
}

/// Reads such a file once. Nothing is allocated by what the file states.
pub(in crate::git) struct SummedReader {
    file: File,
    hash: Checksum,
    kind: Kind,
    buffer: Vec<u8>,
    /// What of `buffer` was not handed out yet.
    unread: std::ops::Range<usize>,
    /// Bytes before the checksum that are not in `buffer` yet.
    left_bytes: u64,
    end: u64,
}

impl SummedReader {
    /// Opens a file whose checksum is made by `kind`.
    pub fn open(path: &Path, kind: Kind) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let end = len
            .checked_sub(kind.len_in_bytes() as u64)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self {
            file,
            hash: Checksum::new(kind),
            kind,
            buffer: vec![0; PIECE_BYTES],
            unread: 0..0,
            left_bytes: end,
            end,
        })
    }

    /// Where the checksum starts, in bytes from the start of the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// What was read so far, in bytes from the start of the file.
    pub fn at(&self) -> u64 {
        self.end - self.left()
    }

    /// Bytes before the checksum that were not read yet.
    pub fn left(&self) -> u64 {
        self.left_bytes + self.unread.len() as u64
    }

    fn fill(&mut self) -> io::Result<()> {
        let len = self.left_bytes.min(PIECE_BYTES as u64) as usize;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact(&mut self.buffer[..len])?;
        self.hash.update(&self.buffer[..len]);
        self.left_bytes -= len as u64;
        self.unread = 0..len;
        Ok(())
    }

    pub fn exact(&mut self, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            if self.unread.is_empty() {
                self.fill()?;
            }
            let len = out.len().min(self.unread.len());
            let (now, later) = out.split_at_mut(len);
            now.copy_from_slice(&self.buffer[self.unread.start..][..len]);
            self.unread.start += len;
            out = later;
        }
        Ok(())
    }

    pub fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            if self.unread.is_empty() {
                self.fill()?;
            }
            let len = bytes.min(self.unread.len() as u64);
            self.unread.start += len as usize;
            bytes -= len;
        }
        Ok(())
    }

    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads an id of the kind that the checksum has.
    pub fn id(&mut self) -> io::Result<ObjectId> {
        let mut id = self.kind.null();
        self.exact(id.as_mut_slice())?;
        Ok(id)
    }

    /// Reads what is left; the checksum, if it is that of the file's content, and the file.
    pub fn finish(mut self) -> io::Result<Option<(ObjectId, File)>> {
        self.skip(self.left())?;
        let mut stored = self.kind.null();
        self.file.read_exact(stored.as_mut_slice())?;
        let found = self.hash.finish();
        Ok((found == stored).then_some((stored, self.file)))
    }
}
