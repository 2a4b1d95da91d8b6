//! The checksum at the end of packs and of the files beside them.
//!
//! It guards against errors of disks and lines only, so the plain hash function does; object ids are
//! made by the one that detects SHA-1 collision attacks.

use gix::ObjectId;
use gix::hash::Kind;
use sha1::Digest;

/// A checksum under way.
pub(in crate::git) enum Checksum {
    /// Of a SHA-1 repository.
    Sha1(sha1::Sha1),
    /// Of a SHA-256 repository.
    Sha256(sha2::Sha256),
}

impl Checksum {
    /// Of nothing yet, by the hash function of the repository.
    pub fn new(hash: Kind) -> Self {
        match hash {
            Kind::Sha256 => Self::Sha256(sha2::Sha256::new()),
            // gix may learn of more; `RepoConfig` lets none of them in.
            _ => Self::Sha1(sha1::Sha1::new()),
        }
    }

    /// Of all of `bytes`.
    pub fn of(hash: Kind, bytes: &[u8]) -> ObjectId {
        let mut checksum = Self::new(hash);
        checksum.update(bytes);
        checksum.finish()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    /// What stands at the end of the file.
    pub fn finish(self) -> ObjectId {
        match self {
            Self::Sha1(hash) => ObjectId::from_bytes_or_panic(&hash.finalize()),
            Self::Sha256(hash) => ObjectId::from_bytes_or_panic(&hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_own_checksum() {
        let of = |hash| Checksum::of(hash, b"la").to_string();
        assert_eq!(of(Kind::Sha1), "3efd4c0fe185135dd2c584b9698f506803cfaf81");
        assert_eq!(
            of(Kind::Sha256),
            "b737ca7ee563ae80e457bb3d1dfe64edd2b4c015a8f88b6f87d5c113b68897fd"
        );
    }
}
