//! What a push does to locked paths.

use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::{BStr, BString};

use super::{day_and_time, fold, lies_in, span};
use crate::db::{LockRow, LockRules};
use crate::git::ObjectId;
use crate::git::object_store::ObjectStore;
use crate::git::push_changes::{Change, ChangeLimits, ChangeVisitor, NewCommit, PushChanges, PushChangesError};
use crate::git::receive_pack::RefUpdate;
use crate::git::snapshot::Snapshot;
use crate::git::work::Tick;
use crate::ids::{LockId, UserId};

/// Further locked paths that one refusal names.
const NAMED_MAX: usize = 3;

/// The locks that matter for one push.
pub(in crate::service) struct Guard {
    locks: Vec<LockRow>,
    pusher: UserId,
    /// Locks by what they are about.
    by_cover: HashMap<String, Vec<usize>>,
    /// Folders that something locked lies in.
    above: HashSet<String>,
}

/// What a push does to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::service) struct Findings {
    /// For each update why it is refused.
    pub verdicts: Vec<Option<String>>,
    /// Locks of the pusher on what each update changes.
    pub own: Vec<Vec<LockId>>,
}

/// Where one lock is met.
#[derive(Default)]
struct Met {
    commits: HashSet<ObjectId>,
    path: BString,
}

struct Visitor<'g> {
    guard: &'g Guard,
    met: BTreeMap<usize, Met>,
}

impl Guard {
    /// `locks` are those of the repository that matter: of others, and the pusher's own if it is to be known which
    /// of them the push is about.
    pub(in crate::service) fn new(locks: Vec<LockRow>, pusher: UserId) -> Self {
        let mut by_cover: HashMap<String, Vec<usize>> = HashMap::new();
        let mut above = HashSet::new();
        for (number, lock) in locks.iter().enumerate() {
            by_cover.entry(lock.covers_key.clone()).or_default().push(number);
            above.extend(lies_in(&lock.covers_key).skip(1).map(str::to_owned));
        }
        Self {
            locks,
            pusher,
            by_cover,
            above,
        }
    }

    /// Whether a push cannot meet a lock.
    pub(in crate::service) fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// Locks that are about the path with this key.
    fn about<'g>(&'g self, key: &'g str) -> impl Iterator<Item = usize> + 'g {
        lies_in(key)
            .filter_map(|part| self.by_cover.get(part))
            .flatten()
            .copied()
    }

    /// Looks at what `updates` change.
    ///
    /// # Errors
    /// [`PushChangesError`]
    pub(in crate::service) fn look(
        &self,
        before: &Snapshot,
        objects: &ObjectStore,
        updates: &[RefUpdate],
        rules: &LockRules,
        (limits, now_us): (ChangeLimits, i64),
        tick: Tick<'_>,
    ) -> Result<Findings, PushChangesError> {
        let mut changes = PushChanges::read(before, objects, updates, limits, tick)?;
        let mut new = Visitor {
            guard: self,
            met: BTreeMap::new(),
        };
        changes.visit(&mut new, tick)?;
        // For each update the locks that it meets, with the path.
        let mut by_update: Vec<BTreeMap<usize, BString>> = vec![BTreeMap::new(); updates.len()];
        for (number, met) in new.met {
            let leads = changes.updates_with(updates, &met.commits)?;
            for (found, _) in by_update.iter_mut().zip(leads).filter(|(_, leads)| *leads) {
                found.insert(number, met.path.clone());
            }
        }
        for (found, update) in by_update.iter_mut().zip(updates) {
            let mut lost = Visitor {
                guard: self,
                met: BTreeMap::new(),
            };
            changes.moved(update, &mut lost, tick)?;
            found.extend(lost.met.into_iter().map(|(number, met)| (number, met.path)));
        }
        let mut findings = Findings::default();
        for (mut found, update) in by_update.into_iter().zip(updates) {
            found.retain(|number, _| {
                let branch = self.locks[*number].branch.as_ref();
                branch.is_none_or(|branch| update.name == branch.as_bytes())
            });
            let is_own = |number: &usize| self.locks[*number].holder == self.pusher;
            let own = found.keys().filter(|number| is_own(number));
            findings.own.push(own.map(|number| self.locks[*number].id).collect());
            found.retain(|number, _| !is_own(number));
            let foreign: Vec<_> = found
                .iter()
                .map(|(number, path)| (&self.locks[*number], path))
                .collect();
            findings.verdicts.push(refusal(&foreign, rules, now_us));
        }
        Ok(findings)
    }
}

impl ChangeVisitor for Visitor<'_> {
    fn enters(&mut self, folder: &BStr) -> bool {
        let key = fold(folder);
        self.guard.above.contains(key.as_ref()) || self.guard.about(&key).next().is_some()
    }

    fn change(&mut self, commit: &NewCommit, change: &Change<'_>) {
        let key = fold(change.path);
        for number in self.guard.about(&key) {
            let met = self.met.entry(number).or_default();
            if met.commits.is_empty() {
                met.path = change.path.to_owned();
            }
            met.commits.insert(commit.id);
        }
    }
}

/// The sentence for the one who pushes; nothing if no lock of somebody else is met.
fn refusal(met: &[(&LockRow, &BString)], rules: &LockRules, now_us: i64) -> Option<String> {
    let ((lock, path), others) = met.split_first()?;
    let holder = &lock.holder_name;
    let what_now = match rules.is_stale(lock, now_us) {
        true => format!(
            "nobody has worked with it for {}, so you may release it: git lfs unlock --force --id {}",
            span(rules.stale_after_secs),
            lock.id
        ),
        false => format!("ask {holder} to release it, or push without changing it"),
    };
    let mut sentence = format!(
        "{path} has been locked by {holder} since {}{}: {what_now}",
        day_and_time(lock.locked_at_us),
        match (&lock.machine, &lock.reason) {
            (None, None) => String::new(),
            (machine, reason) => {
                let parts: Vec<&str> = [machine, reason].into_iter().flatten().map(String::as_str).collect();
                format!(" ({})", parts.join(", "))
            }
        }
    );
    if !others.is_empty() {
        let named: Vec<String> = others
            .iter()
            .take(NAMED_MAX)
            .map(|(lock, path)| format!("{path} ({})", lock.holder_name))
            .collect();
        sentence.push_str(&format!("; locked, too: {}", named.join(", ")));
        if others.len() > named.len() {
            sentence.push_str(&format!(" and {} more", others.len() - named.len()));
        }
    }
    // It goes into one line of a report.
    Some(
        sentence
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect(),
    )
}
