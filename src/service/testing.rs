//! A small server without the network, for the tests of this layer.

use std::net::IpAddr;

use tempfile::TempDir;

use super::{Access, Accounts, By, Caller, Members, Role, SignedIn, Tokens, Visibility};
use crate::config::{AuthSettings, RepoSettings};
use crate::db::{Clock, Db, InsertRepo, InsertUser, ManualClock, NewRepo, NewUser, RepoRow, UserRow};
use crate::ids::RepoId;
use crate::names::RepoAddress;

/// 2026-11-20, in microseconds since 1970.
pub const START_US: i64 = 1_795_132_800_000_000;

pub struct World {
    pub folder: TempDir,
    pub db: Db,
    pub hands: ManualClock,
    pub accounts: Accounts,
    pub tokens: Tokens,
    pub members: Members,
    pub access: Access,
}

impl World {
    pub async fn new() -> Self {
        Self::with(AuthSettings::default(), RepoSettings::default()).await
    }

    pub async fn with(auth: AuthSettings, repo: RepoSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual(START_US);
        let db = Db::open(&folder.path().join("auxin.db"), clock).await.unwrap();
        Self {
            accounts: Accounts::new(db.clone(), &auth),
            tokens: Tokens::new(db.clone()),
            members: Members::new(db.clone()),
            access: Access::new(
                db.clone(),
                folder.path().join("repos"),
                "http://git.example.org/",
                &repo,
            ),
            folder,
            db,
            hands,
        }
    }

    /// A person who cannot sign in with a password, made without the cost of a hash.
    pub async fn user(&self, name: &str) -> UserRow {
        let new = NewUser {
            name: name.parse().unwrap(),
            password_hash: "none".into(),
            is_site_admin: false,
        };
        match self.db.insert_user(new, By::Command).await.unwrap() {
            InsertUser::Done(row) => row,
            InsertUser::NameTaken => panic!("{name} is taken"),
        }
    }

    /// A repository's row, without a folder; its owner exists.
    pub async fn repo(&self, address: &str, visibility: Visibility) -> RepoRow {
        let address: RepoAddress = address.parse().unwrap();
        let owner = self.db.user_by_name(&address.owner).await.unwrap().unwrap();
        let new = NewRepo {
            id: RepoId::new(),
            owner_id: owner.id,
            dir: format!("{}.git", address).to_lowercase(),
            name: address.name,
            visibility,
        };
        match self.db.insert_repo(new, By::Command).await.unwrap() {
            InsertRepo::Done(row) => row,
            other => panic!("{other:?}"),
        }
    }

    pub async fn member(&self, repo: &str, user: &str, role: Role) {
        let (repo, user) = (repo.parse().unwrap(), user.parse().unwrap());
        self.members.add(&repo, &user, role, By::Command).await.unwrap();
    }
}

/// A person who has signed in with their password.
pub fn signed_in(user: &UserRow) -> Caller {
    Caller::User(SignedIn {
        id: user.id,
        name: user.name.clone(),
        is_site_admin: user.is_site_admin,
        token: None,
    })
}

pub fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}
