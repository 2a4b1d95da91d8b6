//! Objects that are too large to be held in memory, and what deltas make of them.
//!
//! Up to [`IN_MEMORY_BYTES`] content is a vector; beyond that it lies in a file without a name, which is
//! gone when nobody holds it open, whatever happens to the process. Deltas are run as a stream: neither
//! they nor what they make are ever whole in memory.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::index_pack::entry::DeltaError;
use super::work::{Stopped, Tick};

/// Content up to this size is held in memory, in bytes.
pub const IN_MEMORY_BYTES: u64 = 8 << 20;

/// How the files are named for the moment in which they have a name; `git prune` removes what a crash
/// in that moment leaves.
const PREFIX: &str = "tmp_auxin_";

/// Piece that is read, made or written at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Piece of a file that is read when a delta copies less, in bytes: most copies follow each other.
const WINDOW_BYTES: usize = 16 << 10;

/// Why large content could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The delta's instructions are wrong.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// Compressed data is damaged, or longer or shorter than stated.
    #[error("its compressed data is damaged")]
    Inflate,
    /// The disk failed.
    #[error("large content could not be kept in a temporary file")]
    Disk(#[source] io::Error),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The content of one object.
pub enum Content {
    /// Small.
    Memory(Vec<u8>),
    /// Large: in a file without a name.
    File(SpilledFile),
}

/// A file without a name, and the piece of it that was read last.
pub struct SpilledFile {
    file: File,
    len: u64,
    window: RefCell<Window>,
}

#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Content {
    /// Its length, in bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Memory(data) => data.len() as u64,
            Self::File(spilled) => spilled.len,
        }
    }

    /// How much of it is in memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Memory(data) => data.len(),
            Self::File(_) => WINDOW_BYTES,
        }
    }

    /// How much of it is in a file, in bytes.
    pub fn spilled_bytes(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::File(spilled) => spilled.len,
        }
    }

    /// Takes over what `input` gives: exactly `size` bytes, neither more nor less.
    ///
    /// # Errors
    /// [`SpillError`]
    pub fn inflated(input: &mut dyn Read, size: u64, folder: &Path, tick: Tick<'_>) -> Result<Self, SpillError> {
        let mut writer = ContentWriter::new(size, folder)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = input.read(&mut piece).map_err(of_compressed)?;
            if read == 0 {
                break;
            }
            tick()?;
            if writer.len_bytes() + read as u64 > size {
                return Err(SpillError::Inflate);
            }
            writer.write(&piece[..read])?;
        }
        if writer.len_bytes() == size {
            Ok(writer.finish())
        } else {
            Err(SpillError::Inflate)
        }
    }

    /// The same, in a file in `folder` if it is large and still in memory.
    ///
    /// # Errors
    /// [`SpillError::Disk`]
    pub fn settled(self, folder: &Path) -> Result<Self, SpillError> {
        match self {
            Self::Memory(data) if data.len() as u64 > IN_MEMORY_BYTES => {
                let mut writer = ContentWriter::new(data.len() as u64, folder)?;
                writer.write(&data)?;
                Ok(writer.finish())
            }
            other => Ok(other),
        }
    }

    /// Hands all of it to `out`, piece by piece.
    ///
    /// # Errors
    /// [`SpillError::Disk`], and those of `out`.
    pub fn each_piece(&self, out: &mut dyn FnMut(&[u8]) -> Result<(), SpillError>) -> Result<(), SpillError> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.len_bytes() {
            let len = piece
                .len()
                .min(usize::try_from(self.len_bytes() - at).unwrap_or(usize::MAX));
            match self {
                Self::Memory(data) => out(&data[at as usize..at as usize + len])?,
                Self::File(spilled) => {
                    spilled
                        .file
                        .read_exact_at(&mut piece[..len], at)
                        .map_err(SpillError::Disk)?;
                    out(&piece[..len])?;
                }
            }
            at += len as u64;
        }
        Ok(())
    }

    /// Appends `offset..offset + len` to `out`.
    fn copy_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), SpillError> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len_bytes());
        if end.is_none() {
            return Err(DeltaError::CopyOutOfBounds.into());
        }
        match self {
            Self::Memory(data) => out.extend_from_slice(&data[offset as usize..offset as usize + len]),
            Self::File(spilled) => spilled.copy_to(offset, len, out).map_err(SpillError::Disk)?,
        }
        Ok(())
    }
}

impl SpilledFile {
    fn copy_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if len >= WINDOW_BYTES {
            let start = out.len();
            out.resize(start + len, 0);
            return self.file.read_exact_at(&mut out[start..], offset);
        }
        let mut window = self.window.borrow_mut();
        let end = offset + len as u64;
        if offset < window.start || end > window.start + window.bytes.len() as u64 {
            let room = WINDOW_BYTES.min(usize::try_from(self.len - offset).unwrap_or(usize::MAX));
            window.bytes.resize(room, 0);
            // Nothing of it counts if the reading fails.
            window.start = u64::MAX - WINDOW_BYTES as u64;
            self.file.read_exact_at(&mut window.bytes, offset)?;
            window.start = offset;
        }
        let start = (offset - window.start) as usize;
        out.extend_from_slice(&window.bytes[start..start + len]);
        Ok(())
    }
}

/// Takes the content of one object of a known size, piece by piece.
pub struct ContentWriter {
    data: Vec<u8>,
    file: Option<File>,
    written: u64,
}

impl ContentWriter {
    /// For content of at most `size` bytes; a large one goes to a file in `folder`.
    ///
    /// # Errors
    /// [`SpillError::Disk`]
    pub fn new(size: u64, folder: &Path) -> Result<Self, SpillError> {
        let is_large = size > IN_MEMORY_BYTES;
        let file = is_large
            .then(|| nameless_file(folder))
            .transpose()
            .map_err(SpillError::Disk)?;
        Ok(Self {
            data: Vec::with_capacity(if is_large { PIECE_BYTES } else { size as usize }),
            file,
            written: 0,
        })
    }

    /// What was taken so far, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.written
    }

    /// Takes one piece.
    ///
    /// # Errors
    /// [`SpillError::Disk`]
    pub fn write(&mut self, piece: &[u8]) -> Result<(), SpillError> {
        match &mut self.file {
            None => self.data.extend_from_slice(piece),
            Some(file) => file.write_all(piece).map_err(SpillError::Disk)?,
        }
        self.written += piece.len() as u64;
        Ok(())
    }

    /// The content.
    pub fn finish(self) -> Content {
        match self.file {
            None => Content::Memory(self.data),
            Some(file) => Content::File(SpilledFile {
                file,
                len: self.written,
                window: RefCell::default(),
            }),
        }
    }
}

/// A file that has lost its name already.
fn nameless_file(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// What an error means that came out of a decompressor.
fn of_compressed(error: io::Error) -> SpillError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => SpillError::Inflate,
        _ => SpillError::Disk(error),
    }
}

/// A stretch of a file, as a stream.
pub struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl<'a> Section<'a> {
    /// The bytes from `at` up to `end`.
    pub fn new(file: &'a File, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer
            .len()
            .min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..room], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A delta that is run while it is inflated.
pub struct DeltaStream<R> {
    input: BufReader<R>,
    /// Size of the base that it was made for, in bytes.
    pub base_size: u64,
    /// Size of what it makes, in bytes.
    pub result_size: u64,
}

impl<R: Read> DeltaStream<R> {
    /// Reads the two sizes at its start. `input` gives the inflated delta.
    ///
    /// # Errors
    /// [`SpillError`]
    pub fn open(input: R) -> Result<Self, SpillError> {
        let mut delta = Self {
            input: BufReader::with_capacity(PIECE_BYTES, input),
            base_size: 0,
            result_size: 0,
        };
        delta.base_size = delta.size()?;
        delta.result_size = delta.size()?;
        Ok(delta)
    }

    fn next_byte(&mut self) -> Result<Option<u8>, SpillError> {
        let byte = self.input.fill_buf().map_err(of_compressed)?.first().copied();
        if byte.is_some() {
            self.input.consume(1);
        }
        Ok(byte)
    }

    fn byte(&mut self) -> Result<u8, SpillError> {
        self.next_byte()?.ok_or(SpillError::Delta(DeltaError::Truncated))
    }

    fn size(&mut self) -> Result<u64, SpillError> {
        let (mut size, mut shift) = (0u64, 0u32);
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift >= 64 || (bits << shift) >> shift != bits {
                return Err(DeltaError::SizeOverflow.into());
            }
            size |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(size);
            }
        }
    }

    /// One operand of a copy: its bytes are there as `bits` say, lowest first.
    fn operand(&mut self, bits: u8, bytes: u32) -> Result<u64, SpillError> {
        let mut value = 0;
        for n in (0..bytes).filter(|n| bits & (1 << n) != 0) {
            value |= u64::from(self.byte()?) << (8 * n);
        }
        Ok(value)
    }

    /// Runs it on `base` and hands what it makes to `out`, piece by piece.
    ///
    /// Nothing outside `base` is read and never more than the stated size is made.
    ///
    /// # Errors
    /// [`SpillError`], and those of `out`.
    pub fn run(
        mut self,
        base: &Content,
        tick: Tick<'_>,
        out: &mut dyn FnMut(&[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        if self.base_size != base.len_bytes() {
            return Err(SpillError::Delta(DeltaError::BaseSize {
                stated: self.base_size,
                found: base.len_bytes(),
            }));
        }
        let mut room = self.result_size;
        let mut piece = Vec::with_capacity(2 * PIECE_BYTES);
        while let Some(instruction) = self.next_byte()? {
            let before = piece.len();
            if instruction & 0x80 != 0 {
                let offset = self.operand(instruction & 0x0f, 4)?;
                let len = match self.operand((instruction >> 4) & 0x07, 3)? {
                    0 => 0x1_0000,
                    len => len as usize,
                };
                if len as u64 > room {
                    return Err(DeltaError::ResultSize.into());
                }
                base.copy_to(offset, len, &mut piece)?;
            } else if instruction != 0 {
                for _ in 0..instruction {
                    let byte = self.byte()?;
                    piece.push(byte);
                }
            } else {
                return Err(DeltaError::UnknownInstruction.into());
            }
            let made = (piece.len() - before) as u64;
            room = room.checked_sub(made).ok_or(DeltaError::ResultSize)?;
            if piece.len() >= PIECE_BYTES {
                tick()?;
                out(&piece)?;
                piece.clear();
            }
        }
        out(&piece)?;
        if room == 0 {
            Ok(())
        } else {
            Err(DeltaError::ResultSize.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::index_pack::entry::apply_delta;

    fn spilled(data: &[u8], folder: &Path) -> Content {
        let mut writer = ContentWriter::new(IN_MEMORY_BYTES + 1, folder).expect("a file");
        writer.write(data).expect("written");
        let content = writer.finish();
        assert_eq!(content.spilled_bytes(), data.len() as u64);
        content
    }

    fn run(base: &Content, delta: &[u8]) -> Result<Vec<u8>, SpillError> {
        let mut made = Vec::new();
        DeltaStream::open(delta)?.run(base, &mut || Ok(()), &mut |piece| {
            made.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(made)
    }

    #[test]
    fn what_is_spilled_has_no_name_and_reads_as_it_was_written() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data: Vec<u8> = (0..300_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();

        let content = spilled(&data, folder.path());

        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
        let mut read = Vec::new();
        content
            .each_piece(&mut |piece| {
                read.extend_from_slice(piece);
                Ok(())
            })
            .expect("readable");
        assert!(read == data);
    }

    #[test]
    fn content_that_is_longer_or_shorter_than_stated_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for size in [2, 4] {
            let content = Content::inflated(&mut &b"abc"[..], size, folder.path(), &mut || Ok(()));
            assert!(matches!(content, Err(SpillError::Inflate)));
        }
    }

    #[test]
    fn lying_deltas_are_refused_as_they_are_in_memory() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for base in [Content::Memory(b"abc".to_vec()), spilled(b"abc", folder.path())] {
            let error = |delta: &[u8]| match run(&base, delta) {
                Err(SpillError::Delta(error)) => error,
                Err(other) => panic!("{other}"),
                Ok(made) => panic!("{made:?}"),
            };
            assert_eq!(error(&[3, 4, 0x90, 4]), DeltaError::CopyOutOfBounds);
            assert_eq!(
                error(&[3, 4, 0x9f, 0xff, 0xff, 0xff, 0xff, 4]),
                DeltaError::CopyOutOfBounds
            );
            assert_eq!(error(&[4, 3, 0x90, 3]), DeltaError::BaseSize { stated: 4, found: 3 });
            assert_eq!(error(&[3, 2, 0x90, 3]), DeltaError::ResultSize);
            assert_eq!(error(&[3, 4, 0x90, 3]), DeltaError::ResultSize);
            assert_eq!(error(&[3, 4, 4, b'a']), DeltaError::Truncated);
            assert_eq!(error(&[3, 4, 0x91]), DeltaError::Truncated);
            assert_eq!(error(&[3, 4, 0]), DeltaError::UnknownInstruction);
            assert_eq!(error(&[0xff; 12]), DeltaError::SizeOverflow);
            assert_eq!(error(&[0x83]), DeltaError::Truncated);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// The two ways to run a delta make the same of it, on a base in memory and in a file.
        #[test]
        fn a_delta_makes_the_same_as_a_stream_and_in_memory(
            parts in proptest::collection::vec((0u32..70_000, 0u32..40_000, 0u8..128), 0..40),
        ) {
            let base: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            let mut instructions = Vec::new();
            let mut size = 0u64;
            for (offset, len, insert) in parts {
                if insert > 0 {
                    instructions.push(insert);
                    instructions.extend(std::iter::repeat_n(insert, usize::from(insert)));
                    size += u64::from(insert);
                }
                let len = len.min(100_000 - offset);
                instructions.push(0b1111_0111);
                instructions.extend(&offset.to_le_bytes()[..3]);
                instructions.extend(&len.to_le_bytes()[..3]);
                let copied = if len == 0 { 0x1_0000 } else { u64::from(len) };
                size += copied;
            }
            let mut delta = vec![0xa0, 0x8d, 0x06];
            let mut rest = size;
            while rest >= 0x80 {
                delta.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            delta.push(rest as u8);
            delta.extend(instructions);
            let mut expected = Vec::new();
            let in_memory = apply_delta(&base, &delta, &mut expected);
            let folder = tempfile::tempdir().expect("temporary folder");
            for base in [Content::Memory(base.clone()), spilled(&base, folder.path())] {
                match (&in_memory, run(&base, &delta)) {
                    (Ok(()), Ok(made)) => assert!(made == expected),
                    (Err(expected), Err(SpillError::Delta(found))) => assert_eq!(*expected, found),
                    (expected, Ok(_)) => panic!("made of a delta that should fail: {expected:?}"),
                    (expected, Err(found)) => panic!("{expected:?}, but {found:?}"),
                }
            }
        }
    }
}
