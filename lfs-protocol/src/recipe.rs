//! Recipes: the chunks that make one object.
//!
//! ```text
//! "AUXRECP" 1          magic and version, 8 bytes
//! oid                  32 bytes
//! size                 u64, in bytes
//! chunking             u8, see Chunking::version; then three zero bytes
//! count                u32
//! count × (chunk id 32 · raw bytes u32)
//! ```
//!
//! All numbers are little-endian.

use crate::{ChunkId, Chunking, Oid};

/// The beginning of every recipe.
pub const MAGIC: [u8; 8] = *b"AUXRECP\x01";
/// Most chunks in a recipe: an object of about 60 GB.
pub const MAX_CHUNKS: usize = 2 << 20;

/// Length of what stands before the entries, in bytes.
pub const HEAD_BYTES: usize = 8 + 32 + 8 + 4 + 4;
/// Length of an entry, in bytes.
pub const ENTRY_BYTES: usize = 32 + 4;

/// Largest recipe, in bytes.
pub const MAX_BYTES: usize = HEAD_BYTES + MAX_CHUNKS * ENTRY_BYTES;

/// The chunks that make one object, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The object.
    pub oid: Oid,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// How it was cut.
    pub chunking: Chunking,
    /// Its chunks with their lengths in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// Why bytes are no recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// They do not begin as one.
    #[error("it is no recipe of a version that is known here")]
    NotARecipe,
    /// Its length does not fit the number of its chunks.
    #[error("its length does not fit the number of its chunks")]
    Length,
    /// More chunks than a recipe may have.
    #[error("it has {0} chunks, more than a recipe may have")]
    TooMany(u32),
    /// A way of cutting that is not known.
    #[error("it was cut in a way that is not known here")]
    Chunking,
    /// A chunk is empty, or larger than chunks are.
    #[error("chunk {0} has a length that no chunk has")]
    Chunk(usize),
    /// The chunks together are not as long as the object.
    #[error("its chunks together are not as long as the object")]
    Size,
}

impl Recipe {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.chunks.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.oid.as_bytes());
        bytes.extend_from_slice(&self.size_bytes.to_le_bytes());
        bytes.extend_from_slice(&[self.chunking.version(), 0, 0, 0]);
        bytes.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        for (id, raw_bytes) in &self.chunks {
            bytes.extend_from_slice(id.as_bytes());
            bytes.extend_from_slice(&raw_bytes.to_le_bytes());
        }
        bytes
    }

    /// Reads a recipe. What it says about lengths is consistent then; that the chunks make the object is for
    /// whoever has them to see.
    ///
    /// # Errors
    /// [`RecipeError`]
    pub fn parse(bytes: &[u8]) -> Result<Self, RecipeError> {
        let (head, entries) = Head::split(bytes)?;
        if entries.len() != head.count as usize * ENTRY_BYTES {
            return Err(RecipeError::Length);
        }
        let mut chunks = Vec::with_capacity(head.count as usize);
        let mut sum = 0;
        for (number, entry) in entries.chunks_exact(ENTRY_BYTES).enumerate() {
            let (id, raw_bytes) = head.entry(number, entry)?;
            sum += u64::from(raw_bytes);
            chunks.push((id, raw_bytes));
        }
        if sum != head.size_bytes {
            return Err(RecipeError::Size);
        }
        Ok(Self {
            oid: head.oid,
            size_bytes: head.size_bytes,
            chunking: head.chunking,
            chunks,
        })
    }
}

/// What stands before the entries: for those who read a recipe piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The object.
    pub oid: Oid,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// How it was cut.
    pub chunking: Chunking,
    /// Number of its chunks, at most [`MAX_CHUNKS`].
    pub count: u32,
}

impl Head {
    /// Reads the first [`HEAD_BYTES`] of a recipe.
    ///
    /// # Errors
    /// [`RecipeError`]
    pub fn parse(bytes: &[u8]) -> Result<Self, RecipeError> {
        Ok(Self::split(bytes)?.0)
    }

    /// Length of the whole recipe, in bytes.
    pub const fn recipe_bytes(&self) -> usize {
        HEAD_BYTES + self.count as usize * ENTRY_BYTES
    }

    /// Reads the entry of this number: [`ENTRY_BYTES`].
    ///
    /// # Errors
    /// [`RecipeError::Chunk`], [`RecipeError::Length`]
    pub fn entry(&self, number: usize, entry: &[u8]) -> Result<(ChunkId, u32), RecipeError> {
        let (id, raw) = entry.split_first_chunk::<32>().ok_or(RecipeError::Length)?;
        let raw_bytes = u32::from_le_bytes(raw.try_into().map_err(|_| RecipeError::Length)?);
        if raw_bytes == 0 || raw_bytes as usize > self.chunking.max_bytes() {
            return Err(RecipeError::Chunk(number));
        }
        Ok((ChunkId::from_sha256(*id), raw_bytes))
    }

    fn split(bytes: &[u8]) -> Result<(Self, &[u8]), RecipeError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(RecipeError::NotARecipe)?;
        if *magic != MAGIC {
            return Err(RecipeError::NotARecipe);
        }
        let (oid, rest) = rest.split_first_chunk::<32>().ok_or(RecipeError::Length)?;
        let (size, rest) = rest.split_first_chunk::<8>().ok_or(RecipeError::Length)?;
        let (chunking, rest) = rest.split_first_chunk::<4>().ok_or(RecipeError::Length)?;
        let (count, entries) = rest.split_first_chunk::<4>().ok_or(RecipeError::Length)?;
        let chunking = match chunking {
            [version, 0, 0, 0] => Chunking::from_version(*version).ok_or(RecipeError::Chunking)?,
            _ => return Err(RecipeError::Chunking),
        };
        let count = u32::from_le_bytes(*count);
        if count as usize > MAX_CHUNKS {
            return Err(RecipeError::TooMany(count));
        }
        let head = Self {
            oid: Oid::from_sha256(*oid),
            size_bytes: u64::from_le_bytes(*size),
            chunking,
            count,
        };
        Ok((head, entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            oid: Oid::from_sha256([1; 32]),
            size_bytes: 300,
            chunking: Chunking::Other,
            chunks: vec![
                (ChunkId::from_sha256([2; 32]), 100),
                (ChunkId::from_sha256([3; 32]), 200),
            ],
        }
    }

    #[test]
    fn a_recipe_is_read_back_and_has_the_bytes_of_the_format() {
        let bytes = recipe().to_bytes();
        assert_eq!(Recipe::parse(&bytes), Ok(recipe()));
        assert_eq!(bytes.len(), 56 + 2 * 36);
        assert_eq!(&bytes[..10], b"AUXRECP\x01\x01\x01");
        assert_eq!(bytes[40..56], [44, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[88..92], [100, 0, 0, 0]);
    }

    #[test]
    fn an_object_without_bytes_has_no_chunks() {
        let empty = Recipe {
            oid: Oid::EMPTY,
            size_bytes: 0,
            chunking: Chunking::Other,
            chunks: Vec::new(),
        };
        assert_eq!(Recipe::parse(&empty.to_bytes()), Ok(empty));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = recipe().to_bytes();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            Recipe::parse(&bytes).expect_err("refused")
        };
        assert_eq!(with(7, &[2]), RecipeError::NotARecipe);
        assert_eq!(with(40, &[45]), RecipeError::Size);
        assert_eq!(with(48, &[9]), RecipeError::Chunking);
        assert_eq!(with(49, &[1]), RecipeError::Chunking);
        assert_eq!(with(52, &[3]), RecipeError::Length);
        assert_eq!(with(52, &[0, 0, 0, 1]), RecipeError::TooMany(1 << 24));
        assert_eq!(with(88, &[0, 0]), RecipeError::Chunk(0));
        assert_eq!(with(124, &[0, 0x80]), RecipeError::Chunk(1));
        assert_eq!(Recipe::parse(&good[..good.len() - 1]), Err(RecipeError::Length));
        assert_eq!(Recipe::parse(b""), Err(RecipeError::NotARecipe));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Recipe::parse(&bytes);
            let _ = Recipe::parse(&[&MAGIC[..], &bytes].concat());
        }
    }
}
