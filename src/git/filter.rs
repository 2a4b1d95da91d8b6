//! Object filters of partial clones (git: `rev-list --filter`): which objects a client leaves out.

mod trees;

use bstr::ByteSlice;
use gix::hash::ObjectId;

use super::object_store::{ObjectKind, ObjectStore, StoreError};
use crate::config::GitSettings;

pub(super) use self::trees::FilteredTrees;

/// Which objects a client leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filter {
    /// None.
    #[default]
    None,
    /// `blob:none`: all blobs.
    BlobNone,
    /// `blob:limit=N`: blobs of N bytes and more.
    BlobLimit(u64),
    /// `tree:N`: trees and blobs N or more levels below a commit's root; the root is level 0.
    TreeDepth(u64),
    /// `object:type=T`: everything of another kind.
    ObjectType(ObjectKind),
    /// `sparse:oid=ID`: blobs whose path the patterns in that blob do not include.
    SparseOid(ObjectId),
    /// `sparse:oid=NAME`: the same, the blob named as in `main:folder/file`; must be resolved to
    /// [`Filter::SparseOid`] before objects are looked for.
    SparseName(String),
    /// `combine:A+B`: what any of them leaves out.
    Combine(Vec<Filter>),
}

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// Not a filter this server knows.
    #[error("filter '{0}' not supported")]
    Unsupported(String),
    /// Known, but its value is not.
    #[error("invalid filter-spec '{0}'")]
    Invalid(String),
    /// Nested too deeply or too long.
    #[error("the filter is too long or too deeply nested")]
    TooLarge,
    /// More filters in one than may be.
    #[error("the filter has more than {limit} parts (git.max_filter_parts)")]
    TooManyParts {
        /// The limit.
        limit: usize,
    },
    /// Larger lists of patterns than may be.
    #[error(
        "the patterns of the filter have more than {limit_bytes} bytes (git.max_pattern_bytes) or {limit} lines \
         (git.max_patterns)"
    )]
    TooManyPatterns {
        /// The limit of all lists together, in bytes.
        limit_bytes: u64,
        /// The limit of all lists together, in patterns.
        limit: usize,
    },
}

/// What a filter may cost.
#[derive(Clone, Copy, Debug)]
pub struct FilterLimits {
    /// Nesting of `combine:`.
    pub max_depth: usize,
    /// Length of the text, in bytes.
    pub max_bytes: usize,
    /// Filters within filters, in all.
    pub max_parts: usize,
    /// Lists of patterns of all `sparse:oid` together, in bytes.
    pub max_pattern_bytes: u64,
    /// Patterns in them.
    pub max_patterns: usize,
}

impl From<&GitSettings> for FilterLimits {
    fn from(settings: &GitSettings) -> Self {
        Self {
            max_depth: settings.max_filter_depth,
            max_bytes: settings.max_filter_bytes,
            max_parts: settings.max_filter_parts,
            max_pattern_bytes: settings.max_pattern_bytes,
            max_patterns: settings.max_patterns,
        }
    }
}

impl Filter {
    /// Parses a filter as it stands in a request.
    ///
    /// # Errors
    /// [`BadFilter`]
    pub fn parse(text: &str, limits: FilterLimits) -> Result<Self, BadFilter> {
        if text.len() > limits.max_bytes {
            return Err(BadFilter::TooLarge);
        }
        let filter = Self::parse_part(text, limits.max_depth)?;
        if filter.parts() > limits.max_parts {
            return Err(BadFilter::TooManyParts {
                limit: limits.max_parts,
            });
        }
        Ok(filter)
    }

    /// How many filters it is, in all its parts.
    fn parts(&self) -> usize {
        match self {
            Self::Combine(parts) => parts.iter().map(Self::parts).sum(),
            _ => 1,
        }
    }

    fn parse_part(text: &str, max_depth: usize) -> Result<Self, BadFilter> {
        let invalid = || BadFilter::Invalid(text.to_owned());
        if text == "blob:none" {
            return Ok(Self::BlobNone);
        }
        if let Some(limit) = text.strip_prefix("blob:limit=") {
            return parse_size(limit).map(Self::BlobLimit).ok_or_else(invalid);
        }
        if let Some(depth) = text.strip_prefix("tree:") {
            return depth.parse().map(Self::TreeDepth).map_err(|_| invalid());
        }
        if let Some(kind) = text.strip_prefix("object:type=") {
            return Ok(Self::ObjectType(match kind {
                "commit" => ObjectKind::Commit,
                "tree" => ObjectKind::Tree,
                "blob" => ObjectKind::Blob,
                "tag" => ObjectKind::Tag,
                _ => return Err(invalid()),
            }));
        }
        if let Some(id) = text.strip_prefix("sparse:oid=") {
            return match ObjectId::from_hex(id.as_bytes()) {
                Ok(id) => Ok(Self::SparseOid(id)),
                Err(_) if id.is_empty() => Err(invalid()),
                Err(_) => Ok(Self::SparseName(id.to_owned())),
            };
        }
        if let Some(parts) = text.strip_prefix("combine:") {
            if max_depth == 0 {
                return Err(BadFilter::TooLarge);
            }
            return parts
                .split('+')
                .map(|part| {
                    let part = percent_encoding::percent_decode_str(part)
                        .decode_utf8()
                        .map_err(|_| invalid())?;
                    Self::parse_part(&part, max_depth - 1)
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Self::Combine);
        }
        Err(BadFilter::Unsupported(text.to_owned()))
    }

    /// The name of the filter's kind as `uploadpackfilter.<name>.allow` has it; for `combine`, that
    /// word and then the parts' names.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::None => Vec::new(),
            Self::BlobNone => vec!["blob:none"],
            Self::BlobLimit(_) => vec!["blob:limit"],
            Self::TreeDepth(_) => vec!["tree"],
            Self::ObjectType(_) => vec!["object:type"],
            Self::SparseOid(_) | Self::SparseName(_) => vec!["sparse:oid"],
            Self::Combine(parts) => std::iter::once("combine")
                .chain(parts.iter().flat_map(Self::names))
                .collect(),
        }
    }

    /// The filter with every name of a blob replaced by what `find` makes of it.
    ///
    /// # Errors
    /// The first error of `find`.
    pub fn resolve<E>(self, find: &mut dyn FnMut(&str) -> Result<ObjectId, E>) -> Result<Self, E> {
        Ok(match self {
            Self::SparseName(name) => Self::SparseOid(find(&name)?),
            Self::Combine(parts) => {
                let parts = parts.into_iter().map(|part| part.resolve(find));
                Self::Combine(parts.collect::<Result<_, E>>()?)
            }
            other => other,
        })
    }

    /// Ids of the blobs that hold patterns, each once; a client must be allowed to read them.
    pub fn pattern_blobs(&self) -> Vec<ObjectId> {
        let mut blobs = match self {
            Self::SparseOid(id) => vec![*id],
            Self::Combine(parts) => parts.iter().flat_map(Self::pattern_blobs).collect(),
            _ => Vec::new(),
        };
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    /// Whether all lists of patterns together are small enough to be used. Objects that are missing or no
    /// blobs are left to those who use them.
    ///
    /// # Errors
    /// [`BadFilter::TooManyPatterns`] in the first place; in the second, an object is damaged.
    pub fn check_patterns(
        &self,
        objects: &ObjectStore,
        limits: FilterLimits,
    ) -> Result<Result<(), BadFilter>, StoreError> {
        let mut reader = objects.reader(0);
        let mut buffer = Vec::new();
        let (mut bytes, mut patterns) = (0, 0);
        for id in self.pattern_blobs() {
            let Some((ObjectKind::Blob, size)) = reader.header(&id)? else {
                continue;
            };
            bytes += size;
            if bytes <= limits.max_pattern_bytes
                && let Some(blob) = reader.read(&id, &mut buffer)?
            {
                patterns += pattern_lines(blob.data).count();
            }
            if bytes > limits.max_pattern_bytes || patterns > limits.max_patterns {
                return Ok(Err(BadFilter::TooManyPatterns {
                    limit_bytes: limits.max_pattern_bytes,
                    limit: limits.max_patterns,
                }));
            }
        }
        Ok(Ok(()))
    }
}

/// A number with git's binary units `k`, `m`, `g`.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

/// The lines of a list of patterns that are patterns.
fn pattern_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .lines()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

#[cfg(test)]
mod tests;
