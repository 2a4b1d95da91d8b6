//! Object filters of partial clones (git: `rev-list --filter`): which objects a client leaves out.

use std::collections::{HashMap, HashSet};

use bstr::ByteSlice;
use gix::hash::ObjectId;

use super::object_store::{ObjectKind, ObjectStore, Pos, StoreError};
use super::walk::{Bits, WalkError, Walker, tree_entries};
use super::work::Tick;
use crate::config::GitSettings;

/// Comparisons of an entry with a pattern between two calls of the tick.
const MATCHES_PER_TICK: usize = 1 << 12;

/// Memory for which folders were walked at which path, in bytes. A few small objects may make up a
/// tree of billions of paths; beyond this what was walked is forgotten, and walked again if it is met
/// again, until the processor time of the request is used up.
const MAX_WALKED_BYTES: usize = 64 << 20;

/// Memory for one walked folder beside its path, about, in bytes.
const WALKED_ENTRY_BYTES: usize = 64;

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

/// A filter made ready for one walk.
enum Rule {
    BlobNone,
    BlobLimit(u64),
    TreeDepth(u64),
    ObjectType(ObjectKind),
    Sparse(Patterns),
}

/// The patterns of a sparse checkout.
struct Patterns(Vec<gix::glob::Pattern>);

impl Patterns {
    fn parse(content: &[u8]) -> Self {
        Self(
            pattern_lines(content)
                .filter_map(|line| gix::glob::Pattern::from_bytes(line.trim_end_with(|end| end == ' ').as_bytes()))
                .collect(),
        )
    }

    /// What the last matching pattern says of this path; `None` if none matches.
    fn matches(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        let basename = path.rfind_byte(b'/').map(|at| at + 1);
        self.0
            .iter()
            .rev()
            .find(|pattern| {
                pattern.matches_repo_relative_path(
                    path.as_bstr(),
                    basename,
                    Some(is_dir),
                    gix::glob::pattern::Case::Sensitive,
                    gix::glob::wildmatch::Mode::NO_MATCH_SLASH_LITERAL,
                )
            })
            .map(|pattern| !pattern.is_negative())
    }
}

/// The lines of a list of patterns that are patterns.
fn pattern_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .lines()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// Where a tree lies: what decides about the objects in it.
#[derive(Clone)]
struct Place {
    tree: Pos,
    /// Levels that what is in it lies below the commit's root; below a tree that was wanted by id git
    /// does not count that tree.
    inner_depth: u64,
    path: Vec<u8>,
    /// What the patterns of each sparse rule say of the folder itself.
    included: Vec<bool>,
}

/// Walks trees and keeps only what a filter lets through.
pub(super) struct FilteredTrees {
    rules: Vec<Rule>,
    has_paths: bool,
    has_depth: bool,
    /// Comparisons that one entry costs.
    matches_per_entry: usize,
    matches_since_tick: usize,
    /// Trees that were walked, by position and (if paths decide) path, with the least depth.
    walked: HashMap<(u32, Vec<u8>), u64>,
    walked_bytes: usize,
    max_walked_bytes: usize,
}

impl FilteredTrees {
    /// Makes `filter` ready; reads the patterns of `sparse:oid`.
    pub fn new(filter: &Filter, walker: &mut Walker<'_>) -> Result<Self, WalkError> {
        let mut rules = Vec::new();
        collect_rules(filter, walker, &mut rules, &mut HashSet::new())?;
        let patterns = rules.iter().map(|rule| match rule {
            Rule::Sparse(Patterns(patterns)) => patterns.len(),
            _ => 0,
        });
        Ok(Self {
            matches_per_entry: 1 + patterns.sum::<usize>(),
            matches_since_tick: 0,
            has_paths: rules.iter().any(|rule| matches!(rule, Rule::Sparse(_))),
            has_depth: rules.iter().any(|rule| matches!(rule, Rule::TreeDepth(_))),
            rules,
            walked: HashMap::new(),
            walked_bytes: 0,
            max_walked_bytes: MAX_WALKED_BYTES,
        })
    }

    /// Whether an object that stands outside of trees (a commit or a tag) goes along.
    pub fn keeps(&self, kind: ObjectKind) -> bool {
        self.rules.iter().all(|rule| match rule {
            Rule::ObjectType(wanted) => *wanted == kind,
            _ => true,
        })
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether an object's kind and size decide, wherever it lies.
    pub fn goes_by_object(&self) -> bool {
        !self.has_paths && !self.has_depth
    }

    /// Takes everything out of `bits` that does not pass by its kind or its size.
    pub fn keep_passing(&self, walker: &mut Walker<'_>, bits: &mut Bits, tick: Tick<'_>) -> Result<(), WalkError> {
        let store = walker.reader().store();
        let kinds = [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag];
        let passes = |kind| {
            let is_none = |rule: &Rule| matches!(rule, Rule::BlobNone);
            self.keeps(kind) && !(kind == ObjectKind::Blob && self.rules.iter().any(is_none))
        };
        if let Some(bitmaps) = walker.bitmaps() {
            for kind in kinds.into_iter().filter(|kind| !passes(*kind)) {
                bits.remove(bitmaps.kind_bits(kind));
            }
        }
        let has_size = self.rules.iter().any(|rule| matches!(rule, Rule::BlobLimit(_)));
        let mut dropped = Bits::new(store.len());
        for position in bits.range(0, store.len()) {
            let is_kind_known = walker.bitmaps().is_some_and(|bitmaps| bitmaps.kind(position).is_some());
            if is_kind_known && !has_size {
                continue;
            }
            walker.step(tick)?;
            let kind = walker.kind(position)?;
            if !passes(kind) || (kind == ObjectKind::Blob && !self.is_small_enough(walker, position)?) {
                dropped.set(position);
            }
        }
        bits.remove(&dropped);
        Ok(())
    }

    /// Puts what passes of a commit's tree, or of a tree wanted by id (`is_wanted`: it goes along
    /// itself whatever the filter says), into `bits`, except what is in `without`.
    pub fn add_tree(
        &mut self,
        walker: &mut Walker<'_>,
        root: ObjectId,
        is_wanted: bool,
        bits: &mut Bits,
        without: &Bits,
        tick: Tick<'_>,
    ) -> Result<(), WalkError> {
        let store = walker.reader().store();
        let root = store.position(&root).ok_or(WalkError::Missing(root))?;
        if without.has(root) && !is_wanted {
            return Ok(());
        }
        let sparse_rules = self.rules.iter().filter(|rule| matches!(rule, Rule::Sparse(_))).count();
        if is_wanted || self.keeps_tree(0) {
            bits.set(root);
        }
        let mut stack = vec![Place {
            tree: root,
            inner_depth: u64::from(!is_wanted),
            path: Vec::new(),
            included: vec![false; sparse_rules],
        }];
        let mut buffer = Vec::new();
        while let Some(place) = stack.pop() {
            walker.step(tick)?;
            if !self.opens(place.inner_depth) || !self.is_news(&place) {
                continue;
            }
            let object = walker.reader().read_at(place.tree, &mut buffer)?;
            if object.kind != ObjectKind::Tree {
                return Err(StoreError::damaged(store.id(place.tree), "a tree was expected here").into());
            }
            for entry in tree_entries(object.data, store.hash().len_in_bytes()) {
                let entry =
                    entry.map_err(|()| StoreError::damaged(store.id(place.tree), "it is not a well-formed tree"))?;
                self.matches_since_tick += self.matches_per_entry;
                if self.matches_since_tick >= MATCHES_PER_TICK {
                    self.matches_since_tick = 0;
                    tick()?;
                }
                if entry.is_commit() {
                    continue;
                }
                let path = if self.has_paths {
                    join(&place.path, entry.name)
                } else {
                    Vec::new()
                };
                let included = self.included(&path, entry.is_tree(), &place.included);
                if entry.is_tree() {
                    let Some(tree) = store.position(entry.id) else {
                        return Err(WalkError::Missing(entry.id.to_owned()));
                    };
                    if without.has(tree) {
                        continue;
                    }
                    if self.keeps_tree(place.inner_depth) {
                        bits.set(tree);
                    }
                    stack.push(Place {
                        tree,
                        inner_depth: place.inner_depth + 1,
                        path,
                        included,
                    });
                } else if self.may_keep_blob(place.inner_depth, &included) {
                    let Some(blob) = store.position(entry.id) else {
                        return Err(WalkError::Missing(entry.id.to_owned()));
                    };
                    if !without.has(blob) && !bits.has(blob) && self.is_small_enough(walker, blob)? {
                        bits.set(blob);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a tree was not walked yet, or only deeper down where more of it was left out.
    fn is_news(&mut self, place: &Place) -> bool {
        let depth = if self.has_depth { place.inner_depth } else { 0 };
        let key = (place.tree.0, place.path.clone());
        if let Some(least) = self.walked.get_mut(&key) {
            let is_news = depth < *least;
            *least = depth.min(*least);
            return is_news;
        }
        self.walked_bytes += WALKED_ENTRY_BYTES + place.path.len();
        if self.has_paths && self.walked_bytes > self.max_walked_bytes {
            self.walked.clear();
            self.walked_bytes = WALKED_ENTRY_BYTES + place.path.len();
        }
        self.walked.insert(key, depth);
        true
    }

    /// Whether anything at this depth can pass.
    fn opens(&self, depth: u64) -> bool {
        self.rules.iter().all(|rule| match rule {
            Rule::TreeDepth(limit) => depth < *limit,
            Rule::ObjectType(kind) => matches!(kind, ObjectKind::Tree | ObjectKind::Blob),
            _ => true,
        })
    }

    fn keeps_tree(&self, depth: u64) -> bool {
        self.keeps(ObjectKind::Tree)
            && self.rules.iter().all(|rule| match rule {
                Rule::TreeDepth(limit) => depth < *limit,
                _ => true,
            })
    }

    fn may_keep_blob(&self, depth: u64, included: &[bool]) -> bool {
        self.keeps(ObjectKind::Blob)
            && included.iter().all(|is_included| *is_included)
            && self.rules.iter().all(|rule| match rule {
                Rule::BlobNone => false,
                Rule::TreeDepth(limit) => depth < *limit,
                _ => true,
            })
    }

    fn is_small_enough(&self, walker: &mut Walker<'_>, blob: Pos) -> Result<bool, StoreError> {
        for rule in &self.rules {
            if let Rule::BlobLimit(limit) = rule
                && walker.reader().header_at(blob)?.1 >= *limit
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What each sparse rule says of a path; where no pattern matches, the folder's answer counts.
    fn included(&self, path: &[u8], is_dir: bool, parent: &[bool]) -> Vec<bool> {
        self.rules
            .iter()
            .filter_map(|rule| match rule {
                Rule::Sparse(patterns) => Some(patterns),
                _ => None,
            })
            .zip(parent)
            .map(|(patterns, parent)| patterns.matches(path, is_dir).unwrap_or(*parent))
            .collect()
    }
}

/// Of `seen` lists of patterns there is a rule already. That they are small is for [`Filter::check_patterns`] to see.
fn collect_rules(
    filter: &Filter,
    walker: &mut Walker<'_>,
    rules: &mut Vec<Rule>,
    seen: &mut HashSet<ObjectId>,
) -> Result<(), WalkError> {
    match filter {
        Filter::None => {}
        Filter::BlobNone => rules.push(Rule::BlobNone),
        Filter::BlobLimit(limit) => rules.push(Rule::BlobLimit(*limit)),
        Filter::TreeDepth(limit) => rules.push(Rule::TreeDepth(*limit)),
        Filter::ObjectType(kind) => rules.push(Rule::ObjectType(*kind)),
        Filter::SparseName(name) => {
            return Err(StoreError::damaged(name, "the name of a sparse filter was not resolved").into());
        }
        Filter::SparseOid(id) if !seen.insert(*id) => {}
        Filter::SparseOid(id) => match walker.reader().header(id)? {
            Some((ObjectKind::Blob, _)) => {
                let mut buffer = Vec::new();
                let blob = walker.reader().read(id, &mut buffer)?.ok_or(WalkError::Missing(*id))?;
                rules.push(Rule::Sparse(Patterns::parse(blob.data)));
            }
            Some(_) => {
                return Err(StoreError::damaged(id, "it holds no patterns that a sparse filter can use").into());
            }
            None => return Err(WalkError::Missing(*id)),
        },
        Filter::Combine(parts) => {
            for part in parts {
                collect_rules(part, walker, rules, seen)?;
            }
        }
    }
    Ok(())
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_owned();
    }
    [folder, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FilterLimits = FilterLimits {
        max_depth: 4,
        max_bytes: 1000,
        max_parts: 10,
        max_pattern_bytes: 1000,
        max_patterns: 100,
    };

    fn parse(text: &str) -> Result<Filter, BadFilter> {
        Filter::parse(text, LIMITS)
    }

    #[test]
    fn every_filter_of_git_is_understood() {
        let id = "1".repeat(40);
        for (text, filter) in [
            ("blob:none", Filter::BlobNone),
            ("blob:limit=2k", Filter::BlobLimit(2048)),
            ("blob:limit=0", Filter::BlobLimit(0)),
            ("tree:0", Filter::TreeDepth(0)),
            ("object:type=tag", Filter::ObjectType(ObjectKind::Tag)),
            (
                "combine:blob:none+tree%3A3",
                Filter::Combine(vec![Filter::BlobNone, Filter::TreeDepth(3)]),
            ),
        ] {
            assert_eq!(parse(text), Ok(filter), "{text}");
        }
        assert!(matches!(parse(&format!("sparse:oid={id}")), Ok(Filter::SparseOid(_))));
        let by_name = parse("combine:sparse:oid=main:a%2Bb+tree:1").and_then(|filter| {
            filter.resolve(&mut |name| ObjectId::from_hex(id.as_bytes()).map_err(|_| BadFilter::Invalid(name.into())))
        });
        assert!(matches!(by_name, Ok(Filter::Combine(parts)) if matches!(parts[0], Filter::SparseOid(_))));
    }

    fn git(folder: &std::path::Path, arguments: &[&str], input: &str) -> String {
        use std::io::Write;
        let mut child = std::process::Command::new("git")
            .current_dir(folder)
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("git starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("takes input");
        let output = child.wait_with_output().expect("git ends");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("hex").trim().to_owned()
    }

    #[test]
    fn a_tree_with_more_paths_than_can_be_remembered_takes_no_more_memory_for_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        git(folder.path(), &["init", "-q", "--bare", "."], "");
        let patterns = git(
            folder.path(),
            &["hash-object", "-w", "--stdin"],
            "nothing\n/a/b/c/d/e/file\n",
        );
        let mut below = format!("100644 blob {patterns}\tfile\n");
        let mut root = String::new();
        for _ in 0..6 {
            root = git(folder.path(), &["mktree"], &below);
            below = ["a", "b", "c", "d", "e"]
                .map(|name| format!("040000 tree {root}\t{name}\n"))
                .concat();
        }
        let id = |text: &str| ObjectId::from_hex(text.as_bytes()).expect("an id");
        let hash = gix::hash::Kind::Sha1;
        let store =
            super::super::object_store::ObjectStore::open(&folder.path().join("objects"), hash, &[], None, 1 << 20)
                .expect("opens");
        let mut walker = Walker::new(&store, &[], 1 << 20);
        let mut trees = FilteredTrees::new(&Filter::SparseOid(id(&patterns)), &mut walker).expect("readable");
        trees.max_walked_bytes = 10_000;
        let (mut bits, nothing) = (Bits::new(store.len()), Bits::new(store.len()));

        trees
            .add_tree(&mut walker, id(&root), false, &mut bits, &nothing, &mut || Ok(()))
            .expect("walks");

        assert!(
            trees.walked.len() <= 10_000 / WALKED_ENTRY_BYTES,
            "{}",
            trees.walked.len()
        );
        assert_eq!(bits.count(), 7, "six folders and the file that one path includes");
    }

    #[test]
    fn a_filter_that_is_not_known_is_named_in_the_refusal() {
        let refusal = parse("sparse:path=x").map_err(|bad| bad.to_string());

        assert_eq!(refusal, Err("filter 'sparse:path=x' not supported".to_owned()));
    }

    #[test]
    fn deeply_nested_filters_are_refused() {
        let mut text = "blob:none".to_owned();
        for _ in 0..6 {
            text = format!(
                "combine:{}",
                percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC)
            );
        }

        assert_eq!(parse(&text), Err(BadFilter::TooLarge));
    }

    #[test]
    fn filters_of_more_parts_than_allowed_are_refused_however_they_are_nested() {
        let flat = |count: usize| format!("combine:{}", vec!["tree:1"; count].join("+"));
        assert!(parse(&flat(10)).is_ok());
        assert_eq!(parse(&flat(11)), Err(BadFilter::TooManyParts { limit: 10 }));
        let half = percent_encoding::utf8_percent_encode(&flat(6), percent_encoding::NON_ALPHANUMERIC).to_string();
        assert_eq!(
            parse(&format!("combine:{half}+{half}")),
            Err(BadFilter::TooManyParts { limit: 10 })
        );
    }

    /// A bare repository with one folder of `entries` files and folders, and a blob of `patterns`.
    fn wide(entries: usize, patterns: &str) -> (tempfile::TempDir, ObjectStore, ObjectId, ObjectId) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        git(folder.path(), &["init", "-q", "--bare", "."], "");
        let patterns = git(folder.path(), &["hash-object", "-w", "--stdin"], patterns);
        let mut listing = String::new();
        for number in 0..entries {
            listing.push_str(&format!("100644 blob {patterns}\tfile-{number}\n"));
        }
        let root = git(folder.path(), &["mktree"], &listing);
        let hash = gix::hash::Kind::Sha1;
        let store = ObjectStore::open(&folder.path().join("objects"), hash, &[], None, 64 << 20).expect("opens");
        let id = |text: &str| ObjectId::from_hex(text.as_bytes()).expect("an id");
        (folder, store, id(&root), id(&patterns))
    }

    #[test]
    fn the_comparisons_of_one_wide_folder_with_many_patterns_tick() {
        let patterns: String = (0..500).map(|number| format!("/nothing-{number}\n")).collect();
        let (_folder, store, root, blob) = wide(1000, &patterns);
        for (filter, least_ticks) in [(Filter::SparseOid(blob), 100), (Filter::TreeDepth(2), 0)] {
            let mut walker = Walker::new(&store, &[], 1 << 20);
            let mut trees = FilteredTrees::new(&filter, &mut walker).expect("readable");
            let (mut bits, nothing) = (Bits::new(store.len()), Bits::new(store.len()));
            let mut ticks = 0;

            trees
                .add_tree(&mut walker, root, false, &mut bits, &nothing, &mut || {
                    ticks += 1;
                    Ok(())
                })
                .expect("walks");

            assert!(ticks >= least_ticks, "{filter:?}: {ticks}");
        }
    }

    #[test]
    fn a_list_of_patterns_that_is_named_often_is_kept_once() {
        let (_folder, store, _, blob) = wide(1, "/a\n/b\n");
        let filter = Filter::Combine(vec![Filter::SparseOid(blob); 50]);
        let mut walker = Walker::new(&store, &[], 1 << 20);

        let trees = FilteredTrees::new(&filter, &mut walker).expect("readable");

        assert_eq!((trees.rules.len(), trees.matches_per_entry), (1, 3));
    }

    #[test]
    fn lists_of_patterns_are_bounded_in_bytes_and_number() {
        let many = "a\n".repeat(LIMITS.max_patterns + 1);
        let long = "#".repeat(LIMITS.max_pattern_bytes as usize + 1);
        for content in [many, long] {
            let (_folder, store, _, blob) = wide(1, &content);
            let checked = Filter::SparseOid(blob)
                .check_patterns(&store, LIMITS)
                .expect("readable");
            assert!(matches!(checked, Err(BadFilter::TooManyPatterns { .. })));
        }
        let (_folder, store, _, blob) = wide(1, "/a\n");
        assert_eq!(
            Filter::SparseOid(blob)
                .check_patterns(&store, LIMITS)
                .expect("readable"),
            Ok(())
        );
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        assert!(parse("blob:limit=99999999999999999999").is_err());
        assert!(parse("blob:limit=18446744073709551615g").is_err());
        assert!(parse("blob:limit=k").is_err());
    }
}
