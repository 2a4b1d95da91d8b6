//! The database as its users see it: every operation, every race, more than one process.

mod accounts;
mod chunk_sets;
mod locks;
mod processes;
mod pushes;
mod repos;

use auxin::db::{By, Clock, Db, InsertRepo, InsertUser, ManualClock, NewRepo, NewUser, RepoRow, UserRow, Visibility};
use auxin::ids::RepoId;
use auxin::names::RepoAddress;
use tempfile::TempDir;

/// A database with a clock that stands at one second after 1970.
struct Place {
    folder: TempDir,
    db: Db,
    hands: ManualClock,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual(1_000_000);
        let db = Db::open(&folder.path().join("auxin.db"), clock).await.unwrap();
        Self { folder, db, hands }
    }

    /// The same file, opened once more, as another process would.
    async fn again(&self) -> Db {
        let path = self.folder.path().join("auxin.db");
        Db::open(&path, Clock::system()).await.unwrap()
    }

    async fn user(&self, name: &str) -> UserRow {
        match insert_user(&self.db, name).await {
            InsertUser::Done(row) => row,
            InsertUser::NameTaken => panic!("{name} is taken"),
        }
    }

    async fn repo(&self, address: &str) -> RepoRow {
        match self.insert_repo(address).await {
            InsertRepo::Done(row) => row,
            other => panic!("{other:?}"),
        }
    }

    async fn insert_repo(&self, address: &str) -> InsertRepo {
        let address: RepoAddress = address.parse().unwrap();
        let owner = self.db.user_by_name(&address.owner).await.unwrap().unwrap();
        let id = RepoId::new();
        let new = NewRepo {
            id,
            owner_id: owner.id,
            dir: format!("{id}.git"),
            name: address.name,
            visibility: Visibility::Private,
        };
        self.db.insert_repo(new, By::Command).await.unwrap()
    }
}

async fn insert_user(db: &Db, name: &str) -> InsertUser {
    let new = NewUser {
        name: name.parse().unwrap(),
        password_hash: "$argon2id$".into(),
        is_site_admin: false,
    };
    db.insert_user(new, By::Command).await.unwrap()
}

fn at(text: &str) -> RepoAddress {
    text.parse().unwrap()
}
