//! Trees walked with a filter: what it lets through depends on where an object lies.

use std::collections::{HashMap, HashSet};

use bstr::ByteSlice;
use gix::hash::ObjectId;

use super::{Filter, pattern_lines};
use crate::git::object_store::{ObjectKind, Pos, StoreError};
use crate::git::walk::{Bits, WalkError, Walker, tree_entries};
use crate::git::work::Tick;

/// Comparisons of an entry with a pattern between two calls of the tick.
const MATCHES_PER_TICK: usize = 1 << 12;

/// Memory for which folders were walked at which path, in bytes. A few small objects may make up a
/// tree of billions of paths; beyond this what was walked is forgotten, and walked again if it is met
/// again, until the processor time of the request is used up.
const MAX_WALKED_BYTES: usize = 8 << 20;

/// Memory for one walked folder beside its path, about, in bytes.
pub(super) const WALKED_ENTRY_BYTES: usize = 192;

/// A filter made ready for one walk.
pub(super) enum Rule {
    BlobNone,
    BlobLimit(u64),
    TreeDepth(u64),
    ObjectType(ObjectKind),
    Sparse(Patterns),
}

/// The patterns of a sparse checkout.
pub(super) struct Patterns(Vec<gix::glob::Pattern>);

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
pub(in crate::git) struct FilteredTrees {
    pub(super) rules: Vec<Rule>,
    has_paths: bool,
    has_depth: bool,
    /// Comparisons that one entry costs.
    pub(super) matches_per_entry: usize,
    matches_since_tick: usize,
    /// Trees that were walked, by position and (if paths decide) path, with the least depth.
    pub(super) walked: HashMap<(u32, Vec<u8>), u64>,
    pub(super) walked_bytes: usize,
    pub(super) max_walked_bytes: usize,
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
