//! At start: what a process that died in mid-push left behind.

use std::path::Path;

use bstr::ByteSlice;

use super::lock::{lock_path, remove_marked};
use super::packed;
use super::{RefStore, RefUpdate, is_ref_name};
use crate::git::fault;

/// At start: settles a push that was under way when the process died, by what the refs say.
///
/// Locks that the dead process left on these refs are removed. Of an atomic push that had begun to
/// move refs the rest is moved, too. Returns for each update whether the ref now names its new value.
pub fn settle(store: &RefStore<'_>, updates: &[RefUpdate], atomic: bool) -> Vec<bool> {
    for update in updates.iter().filter(|update| is_ref_name(&update.name)) {
        remove_stale_lock(&store.path_of(update.name.as_bstr()), update);
    }
    let values = store.values(updates.iter());
    let is_new = |n: usize| values[n] == Some(updates[n].new);
    let is_changed = |n: usize| is_new(n) && updates[n].old != updates[n].new;
    if atomic && (0..updates.len()).any(is_changed) && !fault::is_on("no-settle") {
        let is_open = |n: &usize| !is_new(*n) && values[*n] == Some(updates[*n].old);
        let rest: Vec<RefUpdate> = (0..updates.len()).filter(is_open).map(|n| updates[n].clone()).collect();
        for (update, result) in rest.iter().zip(store.apply(&rest, false, &mut ())) {
            if let Err(error) = result {
                tracing::error!(r#ref = %update.name, %error, "an atomic push could not be finished");
            }
        }
        let values = store.values(updates.iter());
        return (0..updates.len()).map(|n| values[n] == Some(updates[n].new)).collect();
    }
    (0..updates.len()).map(is_new).collect()
}

/// Removes a lock that can only be ours: empty, or holding just what the push wanted to write.
fn remove_stale_lock(path: &Path, update: &RefUpdate) {
    let path = lock_path(path);
    if let Ok(content) = std::fs::read(&path)
        && (content.is_empty() || content == format!("{}\n", update.new).as_bytes())
    {
        let _ = std::fs::remove_file(&path);
    }
}

/// At start: removes what a dead process left beside `packed-refs`, `HEAD` and `shallow`, their locks
/// included.
pub fn sweep(git_dir: &Path) {
    let _ = std::fs::remove_file(git_dir.join(packed::NEW_FILE));
    for name in ["packed-refs", "HEAD", "shallow"] {
        remove_marked(&git_dir.join(name));
    }
}
