//! Members of repositories.

use crate::db::{By, Db, DbError, MemberRow, RepoRow, Role, UserRow};
use crate::names::{OwnerName, RepoAddress};

/// Most members of one repository.
pub const MEMBERS_MAX: u32 = 10_000;

/// Why nothing was changed; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// There is no such repository.
    #[error("there is no repository {0}; `auxin repo list` shows all")]
    NoRepo(RepoAddress),
    /// Nobody has the name.
    #[error("there is no user {0}; `auxin user list` shows all")]
    NoUser(OwnerName),
    /// The owner has every right already.
    #[error("{0} owns {1} and may do everything there already; nothing to do")]
    IsOwner(OwnerName, RepoAddress),
    /// A member is not an owner.
    #[error("a member has the role read, write or admin; nobody is made an owner this way")]
    OwnerRole,
    /// There is no such member.
    #[error("{0} is not a member of {1}; `auxin member list {1}` shows all")]
    NotMember(OwnerName, RepoAddress),
    /// The repository has too many.
    #[error("{0} has {MEMBERS_MAX} members, which is the limit; remove somebody, or make the repository internal")]
    TooMany(RepoAddress),
    /// Never shown to a client.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Members. Cloning shares everything.
#[derive(Clone)]
pub struct Members {
    db: Db,
}

impl Members {
    /// On the members in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Makes a person a member, or changes their role; counts with their next request.
    ///
    /// # Errors
    /// Every [`MemberError`] but [`MemberError::NotMember`].
    pub async fn add(&self, repo: &RepoAddress, user: &OwnerName, role: Role, by: By) -> Result<(), MemberError> {
        if role == Role::Owner {
            return Err(MemberError::OwnerRole);
        }
        let (repo, user) = (self.repo(repo).await?, self.user(user).await?);
        if user.id == repo.owner_id {
            return Err(MemberError::IsOwner(user.name, repo.address));
        }
        let members = self.db.list_members(repo.id, None, MEMBERS_MAX).await?;
        let is_member = members.iter().any(|member| member.user_id == user.id);
        if !is_member && members.len() as u64 >= u64::from(MEMBERS_MAX) {
            return Err(MemberError::TooMany(repo.address));
        }
        if !self.db.set_member(repo.id, user.id, role, by).await? {
            return Err(MemberError::NoRepo(repo.address)); // gone in the meantime
        }
        Ok(())
    }

    /// Ends a membership; counts with their next request.
    ///
    /// # Errors
    /// [`MemberError::NoRepo`], [`MemberError::NoUser`], [`MemberError::NotMember`].
    pub async fn remove(&self, repo: &RepoAddress, user: &OwnerName, by: By) -> Result<(), MemberError> {
        let (repo, user) = (self.repo(repo).await?, self.user(user).await?);
        if !self.db.remove_member(repo.id, user.id, by).await? {
            return Err(MemberError::NotMember(user.name, repo.address));
        }
        Ok(())
    }

    /// The members by name, without the owner.
    ///
    /// # Errors
    /// [`MemberError::NoRepo`].
    pub async fn list(&self, repo: &RepoAddress) -> Result<Vec<MemberRow>, MemberError> {
        let repo = self.repo(repo).await?;
        Ok(self.db.list_members(repo.id, None, MEMBERS_MAX).await?)
    }

    async fn repo(&self, address: &RepoAddress) -> Result<RepoRow, MemberError> {
        let found = self.db.find_repo(address, None).await?;
        found
            .map(|found| found.repo)
            .ok_or_else(|| MemberError::NoRepo(address.clone()))
    }

    async fn user(&self, name: &OwnerName) -> Result<UserRow, MemberError> {
        let row = self.db.user_by_name(name).await?;
        row.ok_or_else(|| MemberError::NoUser(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Visibility;
    use crate::service::testing::World;

    #[tokio::test]
    async fn a_member_is_added_changed_listed_and_removed() {
        let world = World::new().await;
        world.user("anna").await;
        world.user("ben").await;
        let (song, ben) = ("anna/song".parse().unwrap(), "ben".parse().unwrap());
        world.repo("anna/song", Visibility::Private).await;

        world.members.add(&song, &ben, Role::Read, By::Command).await.unwrap();
        world.members.add(&song, &ben, Role::Write, By::Command).await.unwrap();
        let listed = world.members.list(&song).await.unwrap();
        assert_eq!((listed.len(), listed[0].role), (1, Role::Write));
        world.members.remove(&song, &ben, By::Command).await.unwrap();

        assert!(world.members.list(&song).await.unwrap().is_empty());
        let again = world.members.remove(&song, &ben, By::Command).await;
        assert!(matches!(again, Err(MemberError::NotMember(..))));
        let actions: Vec<_> = world
            .db
            .recent_audit(3)
            .await
            .unwrap()
            .into_iter()
            .map(|row| format!("{} {} {}: {}", row.actor, row.action, row.subject, row.detail))
            .collect();
        assert_eq!(
            actions,
            [
                "command member.remove anna/song: ben",
                "command member.add anna/song: ben write",
                "command member.add anna/song: ben read",
            ]
        );
    }

    #[tokio::test]
    async fn nobody_becomes_an_owner_and_the_owner_no_member() {
        let world = World::new().await;
        world.user("anna").await;
        world.user("ben").await;
        world.repo("anna/song", Visibility::Private).await;
        let song = "anna/song".parse().unwrap();
        let add = |user: &str, role| {
            let user: OwnerName = user.parse().unwrap();
            let (members, song) = (&world.members, &song);
            async move { members.add(song, &user, role, By::Command).await }
        };

        assert!(matches!(add("ben", Role::Owner).await, Err(MemberError::OwnerRole)));
        assert!(matches!(add("Anna", Role::Read).await, Err(MemberError::IsOwner(..))));
        assert!(matches!(add("carl", Role::Read).await, Err(MemberError::NoUser(_))));
        let other = "anna/other".parse().unwrap();
        assert!(matches!(world.members.list(&other).await, Err(MemberError::NoRepo(_))));
    }
}
