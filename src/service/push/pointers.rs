//! A push may not leave pointers behind whose large files nobody has brought.

use std::collections::HashSet;

use bstr::{BString, ByteSlice as _};

use super::gate::Gate;
use crate::db::{Hash, Sight};
use crate::git::ObjectId;
use crate::git::lfs_pointers::{self, MAX_POINTERS, Unfilled};
use crate::git::push_changes::PushChangesError;
use crate::git::receive_pack::{GateError, PushRequest};
use crate::git::walk::WalkError;
use crate::service::lfs::is_for_one_repo;
use crate::service::transfer::snapshot;

/// Objects that the database is asked about at once.
const ASK_OBJECTS: usize = 20_000;
/// Paths that the sentence names.
const NAMED_PATHS: usize = 3;
/// Characters of one of them.
const PATH_MAX_CHARS: usize = 120;

impl Gate<'_> {
    /// Refuses updates whose new commits need large files that the repository does not have. What it has is
    /// held from now on.
    pub(super) fn refuse_unfilled(
        &self,
        push: &PushRequest<'_>,
        verdicts: &mut [Option<String>],
    ) -> Result<(), GateError> {
        if push.pointers.is_empty() {
            return Ok(());
        }
        if push.pointers.are_too_many() {
            return Err(GateError::new(format!(
                "this push brings more than {MAX_POINTERS} large files; push it in parts"
            )));
        }
        let missing = self.missing(push)?;
        if missing.is_empty() {
            return Ok(());
        }
        let before = snapshot(&self.repository).map_err(|error| self.failed(&error))?;
        let mut tick = || self.work.check();
        let unfilled = lfs_pointers::unfilled(&before, push.objects, push.updates, missing, &mut tick);
        let unfilled = unfilled.map_err(|error| match error {
            PushChangesError::Walk(WalkError::Stopped(stopped)) => GateError::new(stopped.to_string()),
            PushChangesError::Walk(error) => self.failed(&error),
            error => GateError::new(format!(
                "this push may need large files that are not here, and is too large to say which: {error}; \
                 run `git lfs push --all origin` (or whatever you call this remote), or push it in parts"
            )),
        })?;
        let sentence = sentence(&unfilled);
        for (verdict, _) in verdicts
            .iter_mut()
            .zip(&unfilled.updates)
            .filter(|(_, is_unfilled)| **is_unfilled)
        {
            verdict.get_or_insert_with(|| sentence.clone());
        }
        Ok(())
    }

    /// Pointers of the push without their objects.
    fn missing(&self, push: &PushRequest<'_>) -> Result<HashSet<ObjectId>, GateError> {
        let sight = Sight {
            user: self.by.id,
            is_for_one_repo: is_for_one_repo(&self.by),
        };
        let pointers: Vec<(ObjectId, Hash)> = push
            .pointers
            .iter()
            .map(|(blob, oid)| (*blob, *oid.as_bytes()))
            .collect();
        let mut missing = HashSet::new();
        for some in pointers.chunks(ASK_OBJECTS) {
            let oids = some.iter().map(|(_, oid)| *oid).collect();
            let have = self.inner.db.have_objects(self.repo.id, sight, oids);
            let have = self.handle.block_on(have).map_err(|error| self.failed(&error))?;
            missing.extend(
                some.iter()
                    .filter(|(_, oid)| !have.contains_key(oid))
                    .map(|(blob, _)| *blob),
            );
        }
        Ok(missing)
    }
}

fn sentence(unfilled: &Unfilled) -> String {
    let count = unfilled.paths.len();
    let mut named: Vec<String> = unfilled.paths.iter().take(NAMED_PATHS).map(shown).collect();
    if count > named.len() {
        named.push(format!("and {} more", count - named.len()));
    }
    let files = if count == 1 {
        "a large file is"
    } else {
        "large files are"
    };
    format!(
        "{files} not on the server: {}; run `git lfs push --all origin` (or whatever you call this remote), then push again",
        named.join(", ")
    )
}

/// A path on one line.
fn shown(path: &BString) -> String {
    let text = path.to_str_lossy();
    let mut shown: String = text
        .chars()
        .take(PATH_MAX_CHARS)
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect();
    if text.chars().nth(PATH_MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_a_few_paths_and_how_many_more_there_are() {
        let unfilled = |paths: &[&str]| Unfilled {
            paths: paths.iter().map(|path| BString::from(*path)).collect(),
            updates: vec![true],
        };
        assert!(
            sentence(&unfilled(&["a\nb.wav"])).starts_with("a large file is not on the server: a\u{fffd}b.wav; run")
        );
        let told = sentence(&unfilled(&["e.wav", "d.wav", "c.wav", "b.wav", "größe.wav"]));
        assert!(told.contains("b.wav, c.wav, d.wav, and 2 more; run"), "{told}");
        let long = sentence(&unfilled(&["x".repeat(5000).as_str()]));
        assert!(long.len() < 400, "{long}");
    }
}
