//! What commits say, which of them are new, and the trees of their folders.

use std::collections::HashMap;

use gix::ObjectId;

use super::object_store::{ObjectKind, Pos, Reader, StoreError};
use super::snapshot::Snapshot;
use super::walk::{WalkError, Walker, tree_entries};
use super::work::Tick;

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitText {
    /// Its root folder.
    pub tree: ObjectId,
    /// Its parents, the first one first.
    pub parents: Vec<ObjectId>,
    /// Name of its author.
    pub author: String,
    /// When it was committed, in seconds since 1970.
    pub committed_at_secs: i64,
    /// Its message.
    pub message: String,
}

/// What a commit says; `None` if there is no such commit.
///
/// # Errors
/// [`StoreError`] if it is damaged.
pub fn commit_text(reader: &mut Reader<'_>, id: &ObjectId) -> Result<Option<CommitText>, StoreError> {
    let Some(info) = reader.commit(id)? else {
        return Ok(None);
    };
    let mut buffer = Vec::new();
    let Some(object) = reader.read(id, &mut buffer)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(object.data);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let author = head
        .lines()
        .find_map(|line| line.strip_prefix("author "))
        .unwrap_or_default();
    let author = author.split(" <").next().unwrap_or_default();
    Ok(Some(CommitText {
        tree: info.tree,
        parents: info.parents,
        author: author.to_owned(),
        committed_at_secs: info.committed_at_secs,
        message: message.to_owned(),
    }))
}

/// Commits that `tips` reach and `known` do not, parents before children. Ids that are no commits, or lead to none,
/// are passed over.
///
/// # Errors
/// [`WalkError`]
pub fn new_commits(
    snapshot: &Snapshot,
    tips: &[ObjectId],
    known: &[ObjectId],
    tick: Tick<'_>,
) -> Result<Vec<ObjectId>, WalkError> {
    let objects = &snapshot.objects;
    let mut walker = Walker::new(objects, &snapshot.shallow, CACHE_BYTES);
    let commits = |walker: &mut Walker<'_>, ids: &[ObjectId]| -> Result<Vec<Pos>, StoreError> {
        let mut found = Vec::new();
        for id in ids {
            if let Some((id, ObjectKind::Commit)) = walker.reader().peel(id)? {
                found.extend(objects.position(&id));
            }
        }
        Ok(found)
    };
    let (wants, haves) = (commits(&mut walker, tips)?, commits(&mut walker, known)?);
    let found = walker.limit(&wants, &haves, tick)?;
    // Parents before children, by an explicit stack: history may be deep.
    let numbers: HashMap<ObjectId, usize> = found
        .commits
        .iter()
        .enumerate()
        .map(|(n, (at, _))| (objects.id(*at), n))
        .collect();
    let mut state = vec![0_u8; found.commits.len()];
    let mut sorted = Vec::with_capacity(found.commits.len());
    let mut stack: Vec<usize> = (0..found.commits.len()).collect();
    while let Some(&number) = stack.last() {
        if state[number] > 0 {
            if state[number] == 1 {
                state[number] = 2;
                sorted.push(objects.id(found.commits[number].0));
            }
            stack.pop();
            continue;
        }
        tick()?;
        state[number] = 1;
        if let Some(commit) = walker.reader().commit_at(found.commits[number].0)? {
            let parents = commit.parents.iter().filter_map(|parent| numbers.get(parent).copied());
            stack.extend(parents.filter(|&parent| state[parent] == 0));
        }
    }
    Ok(sorted)
}

/// The tree of the folder at `path` below `root`, the root itself for an empty path; `None` if there is none.
///
/// # Errors
/// [`StoreError`]
pub fn folder_tree(reader: &mut Reader<'_>, root: &ObjectId, path: &str) -> Result<Option<ObjectId>, StoreError> {
    let mut tree = *root;
    let mut buffer = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let Some(object) = reader.read(&tree, &mut buffer)? else {
            return Ok(None);
        };
        let mut entries = tree_entries(object.data, tree.as_bytes().len()).map_while(Result::ok);
        match entries.find(|entry| entry.is_tree() && entry.name == name.as_bytes()) {
            Some(entry) => tree = entry.id.to_owned(),
            None => return Ok(None),
        }
    }
    Ok(Some(tree))
}
