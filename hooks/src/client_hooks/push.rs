//! Before a push: what somebody else has locked is told before anything travels. The server decides all the same.

use std::collections::BTreeSet;

use super::{HookError, is_null};
use crate::git;
use crate::locks::{LockError, Server};
use crate::status;

/// Most commits whose changes are looked at.
const MAX_COMMITS: &str = "--max-count=10000";

/// Checks what goes to `url`, which `remote` names; `refs` is what Git hands over, a line for each ref.
pub(super) fn check(remote: &str, url: &str, refs: &str) -> Result<Vec<String>, HookError> {
    let pushed: Vec<(&str, &str)> = refs
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, new, name, _] = words.as_slice() else {
                return None;
            };
            (!is_null(new)).then_some((*new, *name))
        })
        .collect();
    if pushed.is_empty() {
        return Ok(Vec::new());
    }
    let locks = match Server::asking_nobody_at(url).and_then(|mut server| status::all_locks(&mut server)) {
        Ok(locks) if !locks.is_empty() => locks,
        Ok(_) => return Ok(Vec::new()),
        Err(LockError::Git(error)) => return Err(error.into()),
        // Not a server with such locks, or one that the push itself will tell about.
        Err(_) => return Ok(Vec::new()),
    };
    let mut told = BTreeSet::new();
    for (new, name) in pushed {
        let changed = changed(remote, new)?;
        for lock in status::in_the_way(&locks, &changed, Some(name)) {
            told.insert(format!(
                "{} is locked by {} since {}; this push changes {}. Ask for it: git auxin ask '{}'",
                lock.path,
                lock.holder,
                lock.locked_at,
                status::some(lock.changed.iter().map(String::as_str)),
                lock.path
            ));
        }
    }
    if told.is_empty() {
        return Ok(Vec::new());
    }
    Err(HookError::Stop(told.into_iter().collect::<Vec<_>>().join("\n")))
}

/// Paths that commits change which the remote has not.
fn changed(remote: &str, new: &str) -> Result<BTreeSet<String>, HookError> {
    let known = format!("--remotes={remote}");
    let args = [
        "log",
        "--format=",
        "--name-only",
        "-z",
        "--no-renames",
        MAX_COMMITS,
        new,
        "--not",
        &known,
    ];
    let output = git::run_quietly(&args, b"")?;
    if !output.status.success() {
        return Err(git::failed(&args, &output).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.split('\0').map(str::trim_start).filter(|path| !path.is_empty());
    Ok(names.map(str::to_owned).collect())
}
