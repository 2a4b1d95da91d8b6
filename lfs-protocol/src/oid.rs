//! The name of a Git LFS object.

use std::fmt;
use std::str::FromStr;

/// The name of a Git LFS object: the SHA-256 of its bytes, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; Oid::BYTES]);

/// Text that is not an [`Oid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object id is 64 lower-case hexadecimal digits")]
pub struct BadOid;

impl Oid {
    /// Length of the hash, in bytes.
    pub const BYTES: usize = 32;
    /// Length of the text, in digits.
    pub const HEX_DIGITS: usize = 2 * Self::BYTES;

    /// The id of the object that has no bytes.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
        0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// Takes a finished SHA-256.
    pub const fn from_sha256(hash: [u8; Self::BYTES]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Reads the 64 digits.
    ///
    /// # Errors
    /// [`BadOid`] for any other length or digit. Capitals are refused as git-lfs refuses them:
    /// one object must not have two names.
    pub fn parse(text: &str) -> Result<Self, BadOid> {
        let digits: &[u8; Self::HEX_DIGITS] = text.as_bytes().try_into().map_err(|_| BadOid)?;
        let mut hash = [0; Self::BYTES];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }

    /// The first 10 digits, for messages.
    pub fn short(&self) -> String {
        self.to_string()[..10].to_owned()
    }
}

fn digit(digit: u8) -> Result<u8, BadOid> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(BadOid),
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

impl FromStr for Oid {
    type Err = BadOid;
    fn from_str(text: &str) -> Result<Self, BadOid> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_object_has_its_known_name() {
        assert_eq!(
            Oid::EMPTY.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Oid::EMPTY.short(), "e3b0c44298");
    }

    #[test]
    fn only_64_lower_case_digits_are_an_id() {
        let good = "a".repeat(64);
        assert!(Oid::parse(&good).is_ok());
        for bad in [
            String::new(),
            "a".repeat(63),
            "a".repeat(65),
            "A".repeat(64),
            "g".repeat(64),
            format!("{}\n", "a".repeat(63)),
            "é".repeat(32),
        ] {
            assert_eq!(Oid::parse(&bad), Err(BadOid), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_hash_is_read_back_from_its_text(hash: [u8; 32]) {
            let oid = Oid::from_sha256(hash);
            prop_assert_eq!(oid.to_string().parse(), Ok(oid));
            prop_assert_eq!(oid.as_bytes(), &hash);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,70}") {
            let _ = Oid::parse(&text);
        }
    }
}
