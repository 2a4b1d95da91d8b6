//! Packs written by hand, right ones and wrong ones.

use std::io::Write;

use sha1::{Digest, Sha1};

/// Kinds of entries as the pack format numbers them.
pub const COMMIT: u8 = 1;
/// A folder.
pub const TREE: u8 = 2;
/// A file.
pub const BLOB: u8 = 3;
/// A delta against an entry some bytes before.
pub const OFS_DELTA: u8 = 6;
/// A delta against an object by its id.
pub const REF_DELTA: u8 = 7;

/// A pack that is being written.
pub struct Pack {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for Pack {
    fn default() -> Self {
        Self {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            count: 0,
        }
    }
}

impl Pack {
    /// Where the next entry will lie.
    pub fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Adds a whole object and gives where it lies.
    pub fn object(&mut self, kind: u8, content: &[u8]) -> u64 {
        self.raw(kind, content.len() as u64, &[], &deflate(content))
    }

    /// Adds a delta against the entry at `base`.
    pub fn delta_at(&mut self, base: u64, delta: &[u8]) -> u64 {
        let distance = offset(self.position() - base);
        self.raw(OFS_DELTA, delta.len() as u64, &distance, &deflate(delta))
    }

    /// Adds a delta against the object with this id.
    pub fn delta_of(&mut self, base: &[u8; 20], delta: &[u8]) -> u64 {
        self.raw(REF_DELTA, delta.len() as u64, base, &deflate(delta))
    }

    /// Adds an entry of any content: what its head says of the size, what names its base, and the
    /// compressed bytes.
    pub fn raw(&mut self, kind: u8, size: u64, base: &[u8], compressed: &[u8]) -> u64 {
        let at = self.position();
        let mut first = (kind << 4) | (size & 0x0f) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.bytes.push(first | 0x80);
            first = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(first);
        self.bytes.extend_from_slice(base);
        self.bytes.extend_from_slice(compressed);
        self.count += 1;
        at
    }

    /// The whole pack.
    pub fn finish(self) -> Vec<u8> {
        let count = self.count;
        self.finish_with_count(count)
    }

    /// The whole pack, with a head that says `count` objects.
    pub fn finish_with_count(mut self, count: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        let trailer = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&trailer);
        self.bytes
    }
}

/// How a distance to a delta's base is written.
pub fn offset(mut distance: u64) -> Vec<u8> {
    let mut bytes = vec![(distance & 0x7f) as u8];
    distance >>= 7;
    while distance > 0 {
        distance -= 1;
        bytes.push(0x80 | (distance & 0x7f) as u8);
        distance >>= 7;
    }
    bytes.reverse();
    bytes
}

/// Compresses as objects are compressed.
pub fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// Zeros compressed, `size` of them, without ever holding them.
pub fn deflate_zeros(size: u64) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = [0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        encoder.write_all(&zeros[..piece as usize]).expect("writing to memory");
        left -= piece;
    }
    encoder.finish().expect("writing to memory")
}

/// The head of a delta: the size of its base and of its result.
pub fn delta_head(base_size: u64, result_size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut size in [base_size, result_size] {
        while size >= 0x80 {
            bytes.push(0x80 | (size & 0x7f) as u8);
            size >>= 7;
        }
        bytes.push(size as u8);
    }
    bytes
}

/// A delta that inserts `content` (up to 127 bytes) and takes nothing from its base.
pub fn insert(base_size: u64, content: &[u8]) -> Vec<u8> {
    assert!((1..128).contains(&content.len()), "one instruction");
    let mut delta = delta_head(base_size, content.len() as u64);
    delta.push(content.len() as u8);
    delta.extend_from_slice(content);
    delta
}

/// The id of an object.
pub fn id(kind: &str, content: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(format!("{kind} {}\0", content.len()));
    hash.update(content);
    hash.finalize().into()
}

/// An id as text.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tree of these entries: mode, name, id.
pub fn tree(entries: &[(&str, &[u8], [u8; 20])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(mode.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(id);
    }
    bytes
}

/// A commit of this tree.
pub fn commit(tree: &[u8; 20]) -> Vec<u8> {
    format!(
        "tree {}\nauthor Eve <eve@example.org> 1700000000 +0000\n\
         committer Eve <eve@example.org> 1700000000 +0000\n\nA take\n",
        hex(tree)
    )
    .into_bytes()
}
