//! Names of chunks, and where files are cut.

use std::fmt;

use fastcdc::v2020::{Normalization, select_masks};
use sha2::{Digest, Sha256};

/// The name of a chunk: the SHA-256 of its bytes, before any compression.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; ChunkId::BYTES]);

impl ChunkId {
    /// Length of the hash, in bytes.
    pub const BYTES: usize = 32;

    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes a finished SHA-256.
    pub const fn from_sha256(hash: [u8; Self::BYTES]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

/// How a file is cut: FastCDC (2020, normalization level 1, the gear table of the crate `fastcdc`) with these
/// sizes. The numbers are part of the format and never change under one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chunking {
    /// Version 1: sound, pictures and every large file. 8, 32 and 128 KiB.
    Media,
    /// Version 2: small files of other kinds, such as Logic's `ProjectData`. 1, 4 and 16 KiB.
    Other,
}

/// From this size on a file that looks like media is cut as such, in bytes.
const MEDIA_FROM_BYTES: u64 = 1 << 20;
/// From this size on any file is cut as media: more chunks would cost more than they save, in bytes.
const LARGE_FROM_BYTES: u64 = 8 << 20;
/// How files begin that hold sound or pictures, with the place of the mark.
const MEDIA_MARKS: [(usize, &[u8]); 15] = [
    (0, b"RIFF"),
    (0, b"RF64"),
    (0, b"BW64"),
    (0, b"FORM"),
    (0, b"caff"),
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"ID3"),
    (0, b"wvpk"),
    (0, b"MAC "),
    (0, b"riff"),
    (0, b"\xff\xfb"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"\x89PNG"),
    (4, b"ftyp"),
];

impl Chunking {
    /// How a file of this size is cut that begins with `head` (its first [`crate::HEAD_BYTES`], or all of it).
    pub fn of(size_bytes: u64, head: &[u8]) -> Self {
        let is_media = || {
            let mut marks = MEDIA_MARKS.iter();
            marks.any(|(at, mark)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark)))
        };
        if size_bytes > LARGE_FROM_BYTES || (size_bytes > MEDIA_FROM_BYTES && is_media()) {
            Self::Media
        } else {
            Self::Other
        }
    }

    /// Its number in formats.
    pub const fn version(self) -> u8 {
        match self {
            Self::Media => 1,
            Self::Other => 2,
        }
    }

    /// The one of this number, if it is known.
    pub const fn from_version(version: u8) -> Option<Self> {
        match version {
            1 => Some(Self::Media),
            2 => Some(Self::Other),
            _ => None,
        }
    }

    /// Least size of a chunk, in bytes. Only the last one before the end or a forced cut may be smaller.
    pub const fn min_bytes(self) -> usize {
        self.average_bytes() / 4
    }

    /// About the mean size of a chunk, in bytes.
    pub const fn average_bytes(self) -> usize {
        match self {
            Self::Media => 32 << 10,
            Self::Other => 4 << 10,
        }
    }

    /// Largest size of a chunk, in bytes.
    pub const fn max_bytes(self) -> usize {
        self.average_bytes() * 4
    }

    /// Length of the first chunk of `source`, which holds [`Chunking::max_bytes`] or all that is left.
    pub(crate) fn first_cut(self, source: &[u8]) -> usize {
        let (mask_s, mask_l) = select_masks(self.average_bytes(), Normalization::Level1);
        let (_, len) = fastcdc::v2020::cut(
            source,
            self.min_bytes(),
            self.average_bytes(),
            self.max_bytes(),
            mask_s,
            mask_l,
            mask_s << 1,
            mask_l << 1,
        );
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_and_sound_are_cut_coarsely_and_small_ones_finely() {
        const MIB: u64 = 1 << 20;
        for (size, head, expected) in [
            (2 * MIB, &b"RIFF\0\0\0\0WAVE"[..], Chunking::Media),
            (2 * MIB, b"\0\0\0\x20ftypM4A ", Chunking::Media),
            (MIB, b"RIFF\0\0\0\0WAVE", Chunking::Other),
            (2 * MIB, b"\x23\x47\xc0\xab", Chunking::Other),
            (9 * MIB, b"\x23\x47\xc0\xab", Chunking::Media),
            (0, b"", Chunking::Other),
        ] {
            assert_eq!(Chunking::of(size, head), expected, "{size} {head:?}");
        }
    }

    #[test]
    fn numbers_in_formats_do_not_change() {
        for chunking in [Chunking::Media, Chunking::Other] {
            assert_eq!(Chunking::from_version(chunking.version()), Some(chunking));
        }
        assert_eq!((Chunking::Media.version(), Chunking::Other.version()), (1, 2));
        assert_eq!(Chunking::from_version(0), None);
        assert_eq!(Chunking::from_version(3), None);
    }
}
