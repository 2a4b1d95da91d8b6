//! What keeps objects in a repository beside what fetches are told of.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bstr::ByteSlice;
use gix::ObjectId;

use crate::git::snapshot::Snapshot;

/// Files and folders of reflogs that are read; with more, nothing is pruned.
const MAX_REFLOGS: usize = 100_000;
/// Longest line of a reflog that is read, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Where walks begin.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// What fetches are told of.
    pub visible: Vec<ObjectId>,
    /// What else refs name.
    pub hidden: Vec<ObjectId>,
    /// What may be gone already: old values in reflogs, and ids that the server's records keep.
    pub remembered: Vec<ObjectId>,
}

impl Roots {
    /// Those of a snapshot; `keep` are ids of the server's own records.
    ///
    /// # Errors
    /// The disk's, while reflogs are read.
    pub fn of(snapshot: &Snapshot, git_dir: &Path, keep: &[ObjectId]) -> io::Result<Self> {
        let visible = snapshot.visible_tips();
        let is_hidden = |id: &ObjectId| visible.binary_search(id).is_err();
        let hidden = snapshot
            .all_tips()
            .into_iter()
            // A ref to an object that is not here keeps nothing, and must not keep the rest from care.
            .filter(|id| is_hidden(id) && snapshot.objects.contains(id))
            .collect();
        let mut remembered: BTreeSet<ObjectId> = keep.iter().copied().collect();
        read_reflogs(&git_dir.join("logs"), &mut remembered)?;
        Ok(Self {
            visible,
            hidden,
            remembered: remembered.into_iter().filter(|id| !id.is_null()).collect(),
        })
    }

    /// One id that stands for what fetches are told of.
    pub fn visible_digest(&self, hash: gix::hash::Kind) -> String {
        let mut hasher = gix::hash::hasher(hash);
        for id in &self.visible {
            hasher.update(id.as_slice());
        }
        hasher
            .try_finalize()
            .map_or_else(|_| String::new(), |id| id.to_string())
    }
}

/// Old and new ids of all reflogs below `folder`.
fn read_reflogs(folder: &Path, ids: &mut BTreeSet<ObjectId>) -> io::Result<()> {
    let mut open: Vec<PathBuf> = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        seen += 1;
        if seen > MAX_REFLOGS {
            return Err(io::Error::other(format!("more than {MAX_REFLOGS} reflogs")));
        }
        let is_folder = match fs::symlink_metadata(&path) {
            Ok(data) => data.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if is_folder {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
            continue;
        }
        let mut file = BufReader::new(fs::File::open(&path)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if io::Read::take(&mut file, MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            ids.extend(
                line.split_str(" ")
                    .take(2)
                    .filter_map(|word| ObjectId::from_hex(word).ok()),
            );
        }
    }
    Ok(())
}

/// Why nothing may be pruned here, a sentence; `None` if something may.
///
/// `borrowers` are repositories that have this one among their alternates.
pub(super) fn forbids_pruning(git_dir: &Path, snapshot: &Snapshot, borrowers: &[String]) -> Option<String> {
    if let [first, rest @ ..] = borrowers {
        let more = if rest.is_empty() {
            String::new()
        } else {
            format!(" and {} more", rest.len())
        };
        return Some(format!("{first}{more} borrows objects from it"));
    }
    if snapshot.config.precious_objects {
        return Some("its config says extensions.preciousObjects".to_owned());
    }
    // Their indexes and heads keep objects, too, and belong to people who work there.
    if git_dir.join("index").exists() {
        return Some("it has an index of its own".to_owned());
    }
    let has_worktrees = fs::read_dir(git_dir.join("worktrees")).is_ok_and(|mut entries| entries.next().is_some());
    has_worktrees.then(|| "it has working trees".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflogs_keep_what_they_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("logs/refs/heads");
        fs::create_dir_all(&log).expect("folders");
        let (old, new) = ("1".repeat(40), "2".repeat(40));
        fs::write(
            log.join("main"),
            format!("{old} {new} Ada <ada@example.org> 1 +0000\tpush\nnot a line\n"),
        )
        .expect("writes");

        let mut ids = BTreeSet::new();
        read_reflogs(&folder.path().join("logs"), &mut ids).expect("reads");

        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids, [old, new]);
    }
}
