//! What a push believes in: old values that must still be true, and names that must be free.

use std::collections::BTreeSet;

use bstr::{BString, ByteSlice};

use super::RefUpdate;
use super::serve::{Command, Session};
use crate::git::ref_transaction::{RefError, above, collision, compare};

impl Session<'_> {
    /// A deletion of what does not exist is a success without an effect; one of a ref that cannot be
    /// told of, because it is broken, takes it as it is.
    pub(super) fn check_missing(&self, commands: &mut [Command]) {
        let objects = &self.snapshot.objects;
        let is_missing = |command: &&mut Command| {
            command.update.is_delete() && !objects.contains(&command.update.old) && command.is_own()
        };
        let missing: Vec<&mut Command> = commands.iter_mut().filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        let values = self.with_refs(objects, |store| {
            store.values(missing.iter().map(|command| &command.update))
        });
        for (command, value) in missing.into_iter().zip(values) {
            match value {
                Some(value) if value.is_null() => {
                    self.say("warning: deleting a non-existent ref");
                    if self.in_its_way(&command.update.name, &BTreeSet::new()).is_some() {
                        command.refuse("refname conflict");
                    }
                    command.is_done = true;
                }
                Some(value) if command.update.old.is_null() || !objects.contains(&value) => {
                    self.say("warning: allowing deletion of corrupt ref");
                    command.update.old = value;
                }
                // It is compared like any other.
                _ => {}
            }
        }
    }

    /// Refuses what believes in an old value that is no longer true, and names that cannot be, while
    /// nothing has moved in yet, so that nothing stays of it. What counts is compared again under the
    /// locks.
    pub(super) fn check_old_values(&self, commands: &mut [Command]) {
        let is_atomic = self.commands.capabilities.atomic;
        let mut open: Vec<&mut Command> = commands.iter_mut().filter(|command| command.is_own()).collect();
        let objects = &self.snapshot.objects;
        let values = self.with_refs(objects, |store| {
            store.values(open.iter().map(|command| &command.update))
        });
        let names: BTreeSet<BString> = open.iter().map(|command| command.update.name.clone()).collect();
        // Outside an atomic push deletions come first and make room.
        let goes = |command: &&Command| !is_atomic && command.update.is_delete();
        let going: BTreeSet<BString> = open
            .iter()
            .map(|command| &**command)
            .filter(goes)
            .map(|command| command.update.name.clone())
            .collect();
        let mut is_broken = false;
        for (command, value) in open.iter_mut().zip(values) {
            let RefUpdate { name, old, .. } = &command.update;
            let compared = value.map_or(Ok(()), |value| compare(name, value, *old));
            let is_new = old.is_null() && !command.update.is_delete();
            let checked = compared.and_then(|()| match self.in_its_way(name, &going).filter(|_| is_new) {
                Some(other) => Err(RefError::NameConflict {
                    name: name.clone(),
                    other,
                }),
                // Where one of the two can be made, the locks decide which.
                None => match collision(name, &names).filter(|_| is_atomic) {
                    Some(other) => Err(RefError::NamesCollide {
                        name: name.clone(),
                        other,
                    }),
                    None => Ok(()),
                },
            });
            if let Err(error) = checked {
                self.say(&format!("error: {error}"));
                is_broken = true;
                if is_atomic {
                    break;
                }
                command.refuse(error.reason());
            }
        }
        if is_broken && is_atomic {
            commands
                .iter_mut()
                .filter(|command| command.is_open())
                .for_each(|command| command.refuse("atomic transaction failed"));
        }
    }

    /// A ref below `name`, or one above it, with which it cannot exist, unless it is `going`.
    fn in_its_way(&self, name: &BString, going: &BTreeSet<BString>) -> Option<BString> {
        let refs = &self.snapshot.refs;
        let folder = [name.as_slice(), b"/"].concat();
        let below = refs.with_prefix(&folder).iter();
        let above = above(name.as_bstr()).filter_map(|above| refs.find(above));
        let mut found = below.chain(above).map(|known| &known.name);
        found.find(|name| !going.contains(*name)).cloned()
    }
}
