//! Locks of the person who asks, and those of others on what this person changed.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;

use super::{clean, some};
use crate::git::{self, GitError};
use crate::locks::{LockError, Server};
use crate::setup::Finding;

/// Most commits that were not pushed whose changes are looked at.
const MAX_COMMITS: &str = "--max-count=10000";
/// Most pages of locks that are read.
const MAX_PAGES: usize = 100;

/// What is told of locks.
#[derive(Debug, Serialize)]
pub struct Locks {
    /// Whether the server told.
    pub state: LocksState,
    /// Why it did not.
    pub message: Option<String>,
    /// Those of the person who asks.
    pub mine: Vec<Mine>,
    /// Those of others on what this person changed.
    pub in_the_way: Vec<InTheWay>,
    /// How many others there are.
    pub others: u64,
}

/// Whether the server told about locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LocksState {
    /// It did.
    Known,
    /// There is no server that could keep locks.
    NoServer,
    /// It cannot be asked.
    Unknown,
}

/// A lock of the person who asks.
#[derive(Debug, Serialize)]
pub struct Mine {
    /// The file or folder.
    pub path: String,
    /// When it was taken (RFC 3339).
    pub locked_at: String,
    /// Whether others may take it by now.
    pub is_stale: bool,
}

/// A lock of somebody else on something that was changed here.
#[derive(Debug, Serialize)]
pub struct InTheWay {
    /// The file or folder.
    pub path: String,
    /// Who holds it.
    pub holder: String,
    /// When it was taken (RFC 3339).
    pub locked_at: String,
    /// Whether it may be taken from them by now.
    pub is_stale: bool,
    /// What was changed here.
    pub changed: Vec<String>,
}

pub(super) fn look(branch: Option<&str>) -> Result<Locks, GitError> {
    let mut locks = Locks {
        state: LocksState::Known,
        message: None,
        mine: Vec::new(),
        in_the_way: Vec::new(),
        others: 0,
    };
    match Server::asking_nobody().and_then(|mut server| all(&mut server)) {
        Ok(all) => sort(&mut locks, &all, &changed()?, branch),
        Err(LockError::Git(error @ GitError::Absent)) => return Err(error),
        Err(error) => {
            locks.state = match error {
                LockError::Git(_) | LockError::Remote(_) => LocksState::NoServer,
                _ => LocksState::Unknown,
            };
            locks.message = Some(match error {
                LockError::Git(_) => "no remote is set".to_owned(),
                error => clean(&error.to_string()),
            });
        }
    }
    Ok(locks)
}

/// All locks of a repository.
pub(crate) fn all(server: &mut Server) -> Result<Vec<Value>, LockError> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let (_, mut page) = server.send("GET", &format!("locks?cursor={cursor}"), None)?;
        if let Some(locks) = page["locks"].as_array_mut() {
            all.append(locks);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    Ok(all)
}

/// Paths that differ from what the server has: in the folder, and in commits that were not pushed.
fn changed() -> Result<BTreeSet<String>, GitError> {
    let folder = [
        "status",
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=all",
    ];
    let output = git::run_quietly(&folder, b"")?;
    if !output.status.success() {
        return Err(git::failed(&folder, &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut paths: BTreeSet<String> = text
        .split('\0')
        .filter_map(|line| line.get(3..))
        .map(str::to_owned)
        .collect();
    let args = [
        "log",
        "--format=",
        "--name-only",
        "-z",
        "--no-renames",
        MAX_COMMITS,
        "HEAD",
        "--not",
        "--remotes",
    ];
    let output = git::run_quietly(&args, b"")?;
    // Before the first commit there is nothing to list.
    if output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.split('\0').map(str::trim_start).filter(|path| !path.is_empty());
        paths.extend(names.map(str::to_owned));
    }
    Ok(paths)
}

fn sort(locks: &mut Locks, all: &[Value], changed: &BTreeSet<String>, branch: Option<&str>) {
    locks.in_the_way = in_the_way(all, changed, branch);
    let (mine, others): (Vec<_>, Vec<_>) = all.iter().partition(|lock| is_mine(lock));
    locks.others = (others.len() - locks.in_the_way.len()) as u64;
    locks.mine = mine
        .into_iter()
        .map(|lock| Mine {
            path: text(&lock["path"]),
            locked_at: text(&lock["locked_at"]),
            is_stale: lock["is_stale"] == true,
        })
        .collect();
}

fn is_mine(lock: &Value) -> bool {
    lock["is_mine"] == true
}

fn text(value: &Value) -> String {
    clean(value.as_str().unwrap_or("?"))
}

/// Locks of others on what was changed; `branch` is where it is to go, as a full ref name.
pub(crate) fn in_the_way(locks: &[Value], changed: &BTreeSet<String>, branch: Option<&str>) -> Vec<InTheWay> {
    let changed: Vec<_> = changed.iter().map(|path| (folded(path), path)).collect();
    let is_about = |lock: &&Value| lock["branch"].as_str().is_none_or(|only| Some(only) == branch);
    let others = locks.iter().filter(|lock| !is_mine(lock)).filter(is_about);
    others
        .filter_map(|lock| {
            let path = text(&lock["path"]);
            let covers = covered(&path);
            let under = changed.iter().filter(|(key, _)| lies_in(key, &covers));
            let changed: Vec<_> = under.map(|(_, path)| (*path).clone()).collect();
            (!changed.is_empty()).then(|| InTheWay {
                holder: text(&lock["holder"]),
                locked_at: text(&lock["locked_at"]),
                is_stale: lock["is_stale"] == true,
                path,
                changed,
            })
        })
        .collect()
}

/// As paths compare on macOS and Windows. The server decides; this is for what is told beforehand.
fn folded(path: &str) -> String {
    path.nfd().flat_map(char::to_lowercase).nfc().collect()
}

/// What a lock on this path is about: of a song's own file its folder.
fn covered(path: &str) -> String {
    let key = folded(path);
    match key.rsplit('/').collect::<Vec<_>>().as_slice() {
        ["projectdata", number, "alternatives", ..] if !number.is_empty() => {
            key[..key.len() - "/projectdata".len()].to_owned()
        }
        _ => key,
    }
}

fn lies_in(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Locks {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let message = self.message.clone().unwrap_or_default();
        let text = match (self.state, self.mine.len(), self.others) {
            (LocksState::NoServer, ..) => format!("nobody keeps them: {message}"),
            (LocksState::Unknown, ..) => format!("not known: {message}"),
            (_, 0, 0) => "none of yours".to_owned(),
            (_, 0, others) => format!("none of yours, {others} of others elsewhere"),
            (_, number, _) => {
                let paths = some(self.mine.iter().map(|lock| lock.path.as_str()));
                format!("{number} of yours: {paths}")
            }
        };
        let mut findings = vec![Finding {
            subject: "Locks",
            text,
            is_problem: self.state == LocksState::Unknown,
        }];
        for lock in &self.in_the_way {
            let stale = match lock.is_stale {
                true => ", and idle for long (`git auxin steal`)",
                false => " (`git auxin ask`)",
            };
            findings.push(Finding {
                subject: "Locked",
                text: format!(
                    "{} by {} since {}{stale}; you changed {}",
                    lock.path,
                    lock.holder,
                    lock.locked_at,
                    some(lock.changed.iter().map(String::as_str))
                ),
                is_problem: true,
            });
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lock_is_about_is_known_as_the_server_knows_it() {
        let is_under = |path: &str, lock: &str| lies_in(&folded(path), &covered(lock));
        assert!(is_under(
            "S.logicx/Alternatives/000/WindowImage.jpg",
            "s.logicx/alternatives/000/ProjectData"
        ));
        assert!(is_under("Stems/caf\u{e9}.wav", "stems"));
        assert!(is_under("CAF\u{c9}.wav", "cafe\u{301}.WAV"));
        assert!(!is_under("Stems2/a.wav", "Stems"));
        assert!(!is_under("x/MetaData.plist", "x/ProjectData"));
    }
}
