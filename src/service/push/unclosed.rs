//! Pushes that are done and whose rows could not be closed.
//!
//! A start settles open rows by what the refs say, and finishes atomic pushes that had begun. That is
//! right only as long as nothing moved the refs again: so a later push into the same repository closes
//! such rows first, or is refused.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::db::{Db, DbError};
use crate::ids::{PushId, RepoId};

/// One push that is done.
struct Done {
    repo: RepoId,
    push: PushId,
    /// For each of its refs whether it moved.
    applied: Vec<bool>,
}

/// The rows of this run that are still open though their pushes are done.
#[derive(Default)]
pub(super) struct Unclosed(Mutex<Vec<Done>>);

impl Unclosed {
    fn lock(&self) -> MutexGuard<'_, Vec<Done>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a push whose row could not be closed.
    pub(super) fn add(&self, repo: RepoId, push: PushId, applied: Vec<bool>) {
        self.lock().push(Done { repo, push, applied });
    }

    /// Closes what is open of one repository. May block.
    ///
    /// # Errors
    /// [`DbError`]; then they stay open, and nothing may be pushed.
    pub(super) fn close(&self, handle: &Handle, db: &Db, repo: RepoId) -> Result<(), DbError> {
        loop {
            let next = self
                .lock()
                .iter()
                .find(|done| done.repo == repo)
                .map(|done| (done.push, done.applied.clone()));
            let Some((push, applied)) = next else {
                return Ok(());
            };
            let outcome = handle.block_on(db.finish_push(push, applied))?;
            tracing::info!(push.id = %push, ?outcome, "A push that had stayed open is closed");
            self.lock().retain(|done| done.push != push);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{BeginPush, NewPush, RefChange};
    use crate::ids::GitId;
    use crate::service::Visibility;
    use crate::service::testing::World;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_stayed_open_is_closed_before_the_next_push_into_its_repository() {
        let world = World::new().await;
        let anna = world.user("anna").await;
        let repo = world.repo("anna/song", Visibility::Private).await.id;
        let push = NewPush {
            repo,
            user: anna.id,
            pusher: anna.name.clone(),
            token: None,
            address: "192.0.2.1".into(),
            atomic: true,
            options: Vec::new(),
            locks_version: None,
            releases: Vec::new(),
        };
        let change = RefChange {
            name: b"refs/heads/main".to_vec(),
            old: None,
            new: GitId::from_bytes(&[1; 20]).unwrap(),
        };
        let BeginPush::Begun(id) = world.db.begin_push(push, vec![change]).await.unwrap() else {
            panic!("the repository is there");
        };
        let unclosed = Unclosed::default();
        unclosed.add(repo, id, vec![true]);
        let (handle, db) = (Handle::current(), world.db.clone());

        tokio::task::spawn_blocking(move || {
            unclosed.close(&handle, &db, RepoId::new()).unwrap();
            assert_eq!(unclosed.lock().len(), 1, "of another repository");
            unclosed.close(&handle, &db, repo).unwrap();
            assert!(unclosed.lock().is_empty());
        })
        .await
        .unwrap();

        assert!(world.db.open_pushes(None).await.unwrap().is_empty());
    }
}
