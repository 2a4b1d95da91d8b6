//! The bytes of one file of a commit-graph (gitformat-commit-graph, version 1).

use std::io::{self, Write};

use gix::hash::{Hasher, Kind, ObjectId};

use super::layer::{CHUNK_ENTRY_BYTES, GENERATION_DATA, GENERATION_OVERFLOW, HEADER_BYTES, OVERFLOW_MARK};

/// Stands where there is no parent.
const NO_PARENT: u32 = 0x7000_0000;
/// Marks the second parent as the number of an entry in the list of further parents, and the last
/// entry there.
const MANY_PARENTS: u32 = 0x8000_0000;
/// Bits of a commit date that are stored.
const DATE_BITS: u64 = 0x3_ffff_ffff;

/// The commits of one file, sorted by id.
pub(super) struct Table<'a> {
    pub hash: Kind,
    /// Checksums of the layers below, lowest first.
    pub below: &'a [ObjectId],
    /// Ids, one after the other.
    pub ids: Vec<u8>,
    /// Root trees, one after the other.
    pub trees: Vec<u8>,
    /// Numbers of all parents, in the order of the commits.
    pub parents: Vec<u32>,
    /// Where each commit's parents end.
    pub parent_ends: Vec<usize>,
    /// Commit dates as they are stored, see [`stored_date`].
    pub dates: Vec<u64>,
    pub levels: Vec<u32>,
    pub corrected_dates: Vec<u64>,
}

/// What a file keeps of a commit date.
pub(super) fn stored_date(committed_at_secs: i64) -> u64 {
    committed_at_secs as u64 & DATE_BITS
}

/// Hashes what it passes on.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl Table<'_> {
    fn len(&self) -> usize {
        self.dates.len()
    }

    fn parents(&self, at: usize) -> &[u32] {
        let start = if at == 0 { 0 } else { self.parent_ends[at - 1] };
        &self.parents[start..self.parent_ends[at]]
    }

    fn distance(&self, at: usize) -> u64 {
        self.corrected_dates[at].saturating_sub(self.dates[at])
    }

    /// Writes the file and returns its checksum.
    pub fn encode(&self, out: impl Write) -> io::Result<ObjectId> {
        let hash_len = self.hash.len_in_bytes();
        let further = |at: usize| match self.parents(at).len() {
            0..=2 => 0,
            count => count - 1,
        };
        let further_count: usize = (0..self.len()).map(further).sum();
        let overflow_count = (0..self.len())
            .filter(|at| self.distance(*at) >= u64::from(OVERFLOW_MARK))
            .count();
        let chunks: Vec<([u8; 4], usize)> = [
            (*b"OIDF", 256 * 4),
            (*b"OIDL", self.ids.len()),
            (*b"CDAT", self.len() * (hash_len + 16)),
            (GENERATION_DATA, self.len() * 4),
            (GENERATION_OVERFLOW, overflow_count * 8),
            (*b"EDGE", further_count * 4),
            (*b"BASE", self.below.len() * hash_len),
        ]
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .collect();

        let mut out = Hashed {
            inner: out,
            hasher: gix::hash::hasher(self.hash),
        };
        let number_of_hash = if hash_len == 20 { 1 } else { 2 };
        let count = |count: usize| u8::try_from(count).map_err(io::Error::other);
        out.put(b"CGPH")?;
        out.put(&[1, number_of_hash, count(chunks.len())?, count(self.below.len())?])?;
        let mut offset = HEADER_BYTES + (chunks.len() + 1) * CHUNK_ENTRY_BYTES;
        for (name, len) in chunks.iter().copied().chain([([0; 4], 0)]) {
            out.put(&name)?;
            out.put(&(offset as u64).to_be_bytes())?;
            offset += len;
        }
        self.put_ids(&mut out)?;
        self.put_commits(&mut out)?;
        self.put_corrected_dates(&mut out)?;
        self.put_further_parents(&mut out)?;
        for checksum in self.below {
            out.put(checksum.as_bytes())?;
        }
        let checksum = out.hasher.try_finalize().map_err(io::Error::other)?;
        out.inner.write_all(checksum.as_bytes())?;
        out.inner.flush()?;
        Ok(checksum)
    }

    fn put_ids(&self, out: &mut Hashed<impl Write>) -> io::Result<()> {
        let mut up_to = [0_u32; 256];
        for id in self.ids.chunks_exact(self.hash.len_in_bytes()) {
            up_to[usize::from(id[0])] += 1;
        }
        let mut all = 0;
        for count in up_to {
            all += count;
            out.put(&all.to_be_bytes())?;
        }
        out.put(&self.ids)
    }

    fn put_commits(&self, out: &mut Hashed<impl Write>) -> io::Result<()> {
        let mut next_further = 0_u32;
        for (at, tree) in self.trees.chunks_exact(self.hash.len_in_bytes()).enumerate() {
            let (first, second) = match self.parents(at) {
                [] => (NO_PARENT, NO_PARENT),
                [first] => (*first, NO_PARENT),
                [first, second] => (*first, *second),
                [first, rest @ ..] => {
                    let entry = next_further;
                    next_further += rest.len() as u32;
                    (*first, MANY_PARENTS | entry)
                }
            };
            out.put(tree)?;
            out.put(&first.to_be_bytes())?;
            out.put(&second.to_be_bytes())?;
            let level_and_date = u64::from(self.levels[at]) << 34 | self.dates[at];
            out.put(&level_and_date.to_be_bytes())?;
        }
        Ok(())
    }

    fn put_corrected_dates(&self, out: &mut Hashed<impl Write>) -> io::Result<()> {
        let mut overflow = Vec::new();
        for at in 0..self.len() {
            let distance = self.distance(at);
            let stored = u32::try_from(distance)
                .ok()
                .filter(|distance| *distance < OVERFLOW_MARK)
                .unwrap_or_else(|| {
                    overflow.push(distance);
                    OVERFLOW_MARK | (overflow.len() - 1) as u32
                });
            out.put(&stored.to_be_bytes())?;
        }
        for distance in overflow {
            out.put(&distance.to_be_bytes())?;
        }
        Ok(())
    }

    fn put_further_parents(&self, out: &mut Hashed<impl Write>) -> io::Result<()> {
        for at in 0..self.len() {
            let [_, rest @ .., last] = self.parents(at) else {
                continue;
            };
            if rest.is_empty() {
                continue;
            }
            for parent in rest {
                out.put(&parent.to_be_bytes())?;
            }
            out.put(&(MANY_PARENTS | last).to_be_bytes())?;
        }
        Ok(())
    }
}
