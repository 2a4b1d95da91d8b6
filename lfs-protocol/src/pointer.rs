//! The small text that git stores in place of a large file (Git LFS pointer format, version 1).
//!
//! ```text
//! version https://git-lfs.github.com/spec/v1
//! oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
//! size 12345
//! ```
//!
//! Lines are `{key} {value}\n`; `version` comes first, further keys follow in alphabetical order.
//! Extensions are keys `ext-{priority}-{name}` and so come between `version` and `oid`. The file
//! that has no bytes is its own pointer. What clients wrote in the past differs a little (older
//! addresses of the format, carriage returns, a missing last newline); such a pointer is read,
//! and [`Parsed::canonical`] says that it would be written otherwise today.

use std::fmt;

use super::Oid;

/// A pointer is shorter than this, in bytes; a file that is not has real content.
pub const MAX_POINTER_BYTES: usize = 1024;

const VERSION: &str = "https://git-lfs.github.com/spec/v1";
/// Addresses of the same format before it had its present name.
const OLD_VERSIONS: &[&str] = &["http://git-media.io/v/2", "https://hawser.github.com/spec/v1"];
const OID_KIND: &str = "sha256:";

/// What stands in git in place of a large file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The object that holds the bytes.
    pub oid: Oid,
    /// How many bytes those are; at most `i64::MAX`, as clients count.
    pub size_bytes: u64,
    /// Filters that were applied on the way in, in the order of their priority.
    pub extensions: Vec<Extension>,
}

/// One `ext-{priority}-{name}` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// 0 to 9; unique in a pointer.
    pub priority: u8,
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// SHA-256 of what this filter was given.
    pub oid: Oid,
}

/// A pointer as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub pointer: Pointer,
    /// Whether it is written exactly as clients write pointers today.
    pub canonical: bool,
}

/// Why bytes are not a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPointer {
    /// The bytes do not look like a pointer at all: an ordinary file.
    #[error("this is a file, not a Git LFS pointer")]
    NotAPointer,
    /// The `oid` line is not `oid sha256:` and 64 digits.
    #[error("the Git LFS pointer has no valid `oid sha256:…` line")]
    Oid,
    /// The `size` line is not a number of bytes.
    #[error("the Git LFS pointer has no valid `size` line")]
    Size,
    /// An `ext-…` line is malformed, or two have one priority.
    #[error("an extension line of the Git LFS pointer is malformed")]
    Extension,
    /// Lines are missing, unknown, twice there, or in another order than the format says.
    #[error("the lines of the Git LFS pointer are not version, extensions, oid, size in this order")]
    Lines,
}

impl Pointer {
    /// A pointer to an object, without extensions.
    pub fn new(oid: Oid, size_bytes: u64) -> Self {
        Self {
            oid,
            size_bytes,
            extensions: Vec::new(),
        }
    }

    /// Reads the bytes of a file as a pointer. Looks at nothing beyond [`MAX_POINTER_BYTES`].
    ///
    /// # Errors
    /// [`BadPointer::NotAPointer`] for what is an ordinary file; the other variants for a file that
    /// begins as a pointer does and then is none.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, BadPointer> {
        if bytes.is_empty() {
            return Ok(Parsed {
                pointer: Self::new(Oid::EMPTY, 0),
                canonical: true,
            });
        }
        if bytes.len() >= MAX_POINTER_BYTES {
            return Err(BadPointer::NotAPointer);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BadPointer::NotAPointer)?;
        let mut lines = text
            .trim_end_matches(['\r', '\n'])
            .lines()
            .map(|line| line.split_once(' '));
        let version = match lines.next() {
            Some(Some(("version", version))) => version,
            _ => return Err(BadPointer::NotAPointer),
        };
        if version != VERSION && !OLD_VERSIONS.contains(&version) {
            return Err(BadPointer::NotAPointer);
        }

        let mut extensions: Vec<Extension> = Vec::new();
        let mut line = lines.next();
        while let Some(Some((key, value))) = line
            && let Some(key) = key.strip_prefix("ext-")
        {
            let extension = Extension::parse(key, value).ok_or(BadPointer::Extension)?;
            if extensions
                .last()
                .is_some_and(|before| before.priority >= extension.priority)
            {
                return Err(BadPointer::Extension);
            }
            extensions.push(extension);
            line = lines.next();
        }
        let Some(Some(("oid", oid))) = line else {
            return Err(BadPointer::Lines);
        };
        let Some(Some(("size", size))) = lines.next() else {
            return Err(BadPointer::Lines);
        };
        if lines.next().is_some() {
            return Err(BadPointer::Lines);
        }
        let pointer = Self {
            oid: oid_value(oid).ok_or(BadPointer::Oid)?,
            size_bytes: size_value(size).ok_or(BadPointer::Size)?,
            extensions,
        };
        let canonical = pointer.to_string().as_bytes() == bytes;
        Ok(Parsed { pointer, canonical })
    }
}

impl Extension {
    /// `key` without `ext-`.
    fn parse(key: &str, value: &str) -> Option<Self> {
        let (priority, name) = key.split_once('-')?;
        let digit = priority.parse::<u8>().ok().filter(|_| priority.len() == 1)?;
        let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        Some(Self {
            priority: digit,
            name: named.then(|| name.to_owned())?,
            oid: oid_value(value)?,
        })
    }
}

fn oid_value(value: &str) -> Option<Oid> {
    Oid::parse(value.strip_prefix(OID_KIND)?).ok()
}

fn size_value(value: &str) -> Option<u64> {
    // Only digits: `parse` alone would take `+5`.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let size: i64 = value.parse().ok().filter(|_| digits)?;
    u64::try_from(size).ok()
}

/// The pointer as clients write it; empty for the file that has no bytes.
impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.size_bytes == 0 {
            return Ok(());
        }
        writeln!(f, "version {VERSION}")?;
        for Extension { priority, name, oid } in &self.extensions {
            writeln!(f, "ext-{priority}-{name} {OID_KIND}{oid}")?;
        }
        writeln!(f, "oid {OID_KIND}{}", self.oid)?;
        writeln!(f, "size {}", self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn usual() -> String {
        format!("version {VERSION}\noid sha256:{OID}\nsize 12345\n")
    }

    fn pointer() -> Pointer {
        Pointer::new(OID.parse().expect("an id"), 12345)
    }

    #[test]
    fn the_example_of_the_format_is_read_and_written_byte_for_byte() {
        let parsed = Pointer::parse(usual().as_bytes()).expect("a pointer");

        assert_eq!(
            parsed,
            Parsed {
                pointer: pointer(),
                canonical: true
            }
        );
        assert_eq!(pointer().to_string(), usual());
    }

    #[test]
    fn an_empty_file_is_its_own_pointer() {
        let parsed = Pointer::parse(b"").expect("a pointer");

        assert_eq!(parsed.pointer, Pointer::new(Oid::EMPTY, 0));
        assert!(parsed.canonical);
        assert_eq!(parsed.pointer.to_string(), "");
    }

    #[test]
    fn older_ways_of_writing_a_pointer_are_read_and_called_not_canonical() {
        for old in [
            usual().replace('\n', "\r\n"),
            usual().trim_end().to_owned(),
            usual() + "\n",
            usual().replace(VERSION, "https://hawser.github.com/spec/v1"),
            usual().replace(VERSION, "http://git-media.io/v/2"),
            usual().replace("12345", "012345"),
        ] {
            let parsed = Pointer::parse(old.as_bytes()).expect("a pointer");
            assert_eq!(
                parsed,
                Parsed {
                    pointer: pointer(),
                    canonical: false
                },
                "{old:?}"
            );
        }
    }

    #[test]
    fn extensions_are_kept_in_their_order() {
        let text = usual().replace(
            "\noid",
            &format!("\next-0-foo sha256:{OID}\next-3-b-r_2 sha256:{OID}\noid"),
        );

        let parsed = Pointer::parse(text.as_bytes()).expect("a pointer");

        assert!(parsed.canonical);
        assert_eq!(parsed.pointer.extensions.len(), 2);
        assert_eq!(parsed.pointer.extensions[1].name, "b-r_2");
        assert_eq!(parsed.pointer.to_string(), text);
    }

    #[test]
    fn a_file_that_only_resembles_a_pointer_is_refused_with_the_line_that_is_wrong() {
        use BadPointer::*;
        let cases = [
            ("RIFF....WAVE".to_owned(), NotAPointer),
            ("version 1\n".to_owned(), NotAPointer),
            (usual().replace("spec/v1", "spec/v9"), NotAPointer),
            (format!("{}{}", usual(), "x".repeat(1024)), NotAPointer),
            (usual().replace("sha256:4", "sha256:G"), Oid),
            (usual().replace("sha256:", "sha1:"), Oid),
            (usual().replace("12345", "-1"), Size),
            (usual().replace("12345", "+1"), Size),
            (usual().replace("12345", ""), Size),
            (usual().replace("12345", "9223372036854775808"), Size),
            (usual().replace("size 12345\n", ""), Lines),
            (usual() + "size 12345\n", Lines),
            (usual() + "zzz 1\n", Lines),
            (format!("version {VERSION}\nsize 5\noid sha256:{OID}\n"), Lines),
            (format!("version {VERSION}"), Lines),
            (usual().replace("\noid", "\n\noid"), Lines),
            (usual().replace("\noid", "\next-x-foo sha256:1\noid"), Extension),
            (
                usual().replace("\noid", &format!("\next-10-foo sha256:{OID}\noid")),
                Extension,
            ),
            (
                usual().replace("\noid", &format!("\next-1-a sha256:{OID}\next-1-b sha256:{OID}\noid")),
                Extension,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Pointer::parse(text.as_bytes()), Err(expected), "{text:?}");
        }
        assert_eq!(Pointer::parse(b"version \xff"), Err(NotAPointer));
    }

    fn any_pointer() -> impl Strategy<Value = Pointer> {
        let extensions = prop::collection::btree_map(0u8..=9, ("[a-z][a-z0-9_-]{0,8}", any::<[u8; 32]>()), 0..4);
        (any::<[u8; 32]>(), 1..=i64::MAX as u64, extensions).prop_map(|(oid, size_bytes, extensions)| Pointer {
            oid: Oid::from_sha256(oid),
            size_bytes,
            extensions: extensions
                .into_iter()
                .map(|(priority, (name, oid))| Extension {
                    priority,
                    name,
                    oid: Oid::from_sha256(oid),
                })
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_as_canonical(pointer in any_pointer()) {
            let text = pointer.to_string();
            prop_assert_eq!(Pointer::parse(text.as_bytes()), Ok(Parsed { pointer, canonical: true }));
        }

        #[test]
        fn a_damaged_pointer_is_refused_or_read_but_never_panics(pointer in any_pointer(), at: prop::sample::Index, byte: u8) {
            let mut bytes = pointer.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(parsed) = Pointer::parse(&bytes) && parsed.canonical {
                prop_assert_eq!(parsed.pointer.to_string().into_bytes(), bytes);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
            let _ = Pointer::parse(&bytes);
        }
    }
}
