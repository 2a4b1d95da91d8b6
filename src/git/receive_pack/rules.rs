//! Git's own rules about ref updates, and what a repository's config adds to them.

use std::collections::HashMap;

use bstr::{BString, ByteSlice};

use super::serve::{Command, Stage};
use crate::git::object_store::{ObjectKind, ObjectStore, Reader};
use crate::git::refs::{Head, Refs};
use crate::git::repo_config::{Deny, RepoConfig};
use crate::git::snapshot::Snapshot;
use crate::git::walk::{WalkError, Walker};
use crate::git::work::Tick;

/// Memory for delta bases while history is walked, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Refuses names that are no ref names, hidden ones, and refs that are named twice.
pub(super) fn check_names(commands: &mut [Command], config: &RepoConfig, max_name_bytes: usize) -> Vec<String> {
    let mut messages = Vec::new();
    let mut counts: HashMap<BString, usize> = HashMap::new();
    for command in commands.iter() {
        *counts.entry(command.update.name.clone()).or_default() += 1;
    }
    for command in commands {
        let name = &command.update.name;
        if name.len() > max_name_bytes {
            command.refuse(format!("the ref name is longer than {max_name_bytes} bytes"));
        } else if !is_pushable_name(name, command.update.is_delete()) {
            messages.push(format!("error: refusing to update funny ref '{name}' remotely"));
            command.refuse("funny refname");
        } else if config.hidden_from_receive(name) {
            let what = if command.update.is_delete() {
                "deleting"
            } else {
                "updating"
            };
            command.refuse(format!("deny {what} a hidden ref"));
        } else if counts[name] > 1 {
            messages.push(format!("error: multiple updates for ref '{name}' not allowed"));
            command.refuse("multiple updates for this ref");
        }
    }
    messages
}

/// Below `refs/`, well-formed, and not directly in `refs` unless it goes.
fn is_pushable_name(name: &BString, is_delete: bool) -> bool {
    let Some(rest) = name.strip_prefix(b"refs/") else {
        return false;
    };
    gix::validate::reference::name(name.as_bstr()).is_ok() && (is_delete || rest.contains(&b'/'))
}

/// Of a symbolic ref and the ref it names both pushed: once is enough, and they must agree.
pub(super) fn check_aliases(commands: &mut [Command], refs: &Refs) -> Vec<String> {
    let mut messages = Vec::new();
    let numbers: HashMap<BString, usize> = commands
        .iter()
        .enumerate()
        .map(|(n, command)| (command.update.name.clone(), n))
        .collect();
    for n in 0..commands.len() {
        let symref = refs
            .find(commands[n].update.name.as_bstr())
            .and_then(|known| known.symref.as_ref());
        let Some(&target) = symref.and_then(|target| numbers.get(target)) else {
            continue;
        };
        if commands[n].is_refused() || target == n {
            continue;
        }
        let (alias, real) = (&commands[n].update, &commands[target].update);
        if (alias.old, alias.new) == (real.old, real.new) {
            commands[n].is_done = true;
            continue;
        }
        messages.push(format!(
            "error: refusing inconsistent update between symref '{}' and its target '{}'",
            alias.name, real.name
        ));
        commands[n].refuse("inconsistent aliased update");
        commands[target].refuse("inconsistent aliased update");
    }
    messages
}

/// Refuses new values that a branch cannot have, and what the repository's config forbids.
///
/// # Errors
/// History is damaged or the work is stopped.
pub(super) fn check_values(
    commands: &mut [Command],
    snapshot: &Snapshot,
    objects: &ObjectStore,
    tick: Tick<'_>,
) -> Result<Vec<String>, WalkError> {
    let mut messages = Vec::new();
    let mut reader = objects.reader(CACHE_BYTES);
    let config = &snapshot.config;
    let is_own = |command: &&mut Command| !command.is_refused() && command.stage == Stage::Own;
    for command in commands.iter_mut().filter(is_own) {
        tick()?;
        let (name, new) = (command.update.name.clone(), command.update.new);
        let is_branch = name.starts_with(b"refs/heads/");
        if command.update.is_delete() {
            check_deletion(command, snapshot, is_branch, &mut messages);
            continue;
        }
        match reader.header(&new)? {
            None => command.refuse("bad pack"),
            Some((kind, _)) if is_branch && kind != ObjectKind::Commit => {
                messages.push(format!(
                    "error: cannot update ref '{name}': trying to write non-commit object {new} to branch '{name}'"
                ));
                command.refuse("invalid new value provided");
            }
            Some(_) => {}
        }
        let denies = config.deny_non_fast_forwards == Some(true) && is_branch && !command.update.old.is_null();
        if command.is_refused() || !denies {
            continue;
        }
        match is_fast_forward(command, snapshot, objects, &mut reader, tick)? {
            Some(true) => {}
            Some(false) => {
                messages.push(format!(
                    "error: denying non-fast-forward {name} (you should pull first)"
                ));
                command.refuse("non-fast-forward");
            }
            None => {
                messages.push(format!("error: bad sha1 objects for {name}"));
                command.refuse("bad ref");
            }
        }
    }
    Ok(messages)
}

fn check_deletion(command: &mut Command, snapshot: &Snapshot, is_branch: bool, messages: &mut Vec<String>) {
    let name = command.update.name.clone();
    if snapshot.config.deny_deletes == Some(true) && is_branch {
        messages.push(format!("error: denying ref deletion for {name}"));
        command.refuse("deletion prohibited");
        return;
    }
    let is_current = matches!(snapshot.refs.head(), Head::Symbolic { branch, .. } if *branch == name);
    if !is_current || command.update.old.is_null() {
        return;
    }
    match snapshot.config.deny_delete_current {
        Some(Deny::Ignore) => {}
        Some(Deny::Warn) => messages.push("warning: deleting the current branch".into()),
        Some(Deny::Refuse) | None => {
            messages.push(format!("error: refusing to delete the current branch: {name}"));
            messages.push("Clones begin at this branch. Make another one the default first.".into());
            command.refuse("deletion of the current branch prohibited");
        }
    }
}

/// Whether the new commit has the old one among its ancestors; `None` if they are no commits here.
fn is_fast_forward(
    command: &Command,
    snapshot: &Snapshot,
    objects: &ObjectStore,
    reader: &mut Reader<'_>,
    tick: Tick<'_>,
) -> Result<Option<bool>, WalkError> {
    let (old, new) = (command.update.old, command.update.new);
    let is_commit = |kind: Option<(ObjectKind, u64)>| kind.is_some_and(|(kind, _)| kind == ObjectKind::Commit);
    if !is_commit(reader.header(&old)?) || !is_commit(reader.header(&new)?) {
        return Ok(None);
    }
    let (Some(old), Some(new)) = (objects.position(&old), objects.position(&new)) else {
        return Ok(None);
    };
    let limited = Walker::new(objects, &snapshot.shallow, CACHE_BYTES).limit(&[old], &[new], tick)?;
    Ok(Some(!limited.commits.iter().any(|(position, _)| *position == old)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_stock_git_judges_them() {
        for name in [
            "refs/heads/main",
            "refs/heads/a/b",
            "refs/heads/-x",
            "refs/heads/HEAD",
            "refs/heads/größe",
            "refs/heads/a@b",
            "refs/heads/@",
            "refs/x/y",
            "refs/heads/a.lockx",
            "refs/stash",
            "refs/",
            "refs/heads/",
            "refs//heads/a",
            "refs/heads/a..b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a.lock/b",
            "refs/heads/a.",
            "refs/heads/a./b",
            "refs/heads/a@{b",
            "refs/heads/a b",
            "refs/heads/a~b",
            "refs/heads/a^b",
            "refs/heads/a:b",
            "refs/heads/a?b",
            "refs/heads/a*b",
            "refs/heads/a[b",
            "refs/heads/a\\b",
            "refs/heads/a\u{7f}b",
            "refs/heads/a\tb",
        ] {
            // Git looks at what follows `refs/`, which must have two parts.
            let output = std::process::Command::new("git")
                .args(["check-ref-format", name.strip_prefix("refs/").expect("all do")])
                .output()
                .expect("git runs");
            assert_eq!(is_pushable_name(&name.into(), false), output.status.success(), "{name}");
        }
        assert!(is_pushable_name(&"refs/stash".into(), true));
        assert!(!is_pushable_name(&"HEAD".into(), true));
        assert!(!is_pushable_name(&"refs/heads/../../config".into(), true));
    }
}
