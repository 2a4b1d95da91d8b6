use std::process::Command;

use super::*;
use crate::db::{Clock, NewPush, RefChange};
use crate::ids::{GitId, RepoId};
use crate::service::testing::{World, signed_in};
use crate::service::{Access, Caller, Right, SignedIn};

struct Place {
    world: World,
    repos: Repos,
    anna: UserRow,
}

async fn place() -> Place {
    let world = World::new().await;
    std::fs::create_dir(world.folder.path().join("repos")).unwrap();
    let anna = world.user("Anna").await;
    Place {
        repos: Repos::new(
            world.db.clone(),
            &world.folder.path().join("repos"),
            &RepoSettings::default(),
        ),
        anna,
        world,
    }
}

impl Place {
    fn dir(&self, dir: &str) -> PathBuf {
        self.world.folder.path().join("repos").join(dir)
    }

    fn person(&self) -> SignedIn {
        match signed_in(&self.anna) {
            Caller::User(user) => user,
            Caller::Anonymous => unreachable!("a person is signed in"),
        }
    }

    async fn create(&self, address: &str) -> Result<RepoRow, RepoError> {
        self.repos
            .create(&at(address), Visibility::Private, None, By::Command)
            .await
    }

    /// Everything below `repos/` but the folders of owners, sorted.
    fn folders(&self) -> Vec<String> {
        let mut found = Vec::new();
        for owner in std::fs::read_dir(self.dir("")).unwrap() {
            let owner = owner.unwrap();
            let name = owner.file_name().into_string().unwrap();
            if name.starts_with('.') {
                found.push(name);
                continue;
            }
            for repo in std::fs::read_dir(owner.path()).unwrap() {
                found.push(format!("{name}/{}", repo.unwrap().file_name().into_string().unwrap()));
            }
        }
        found.sort();
        found
    }
}

fn at(text: &str) -> RepoAddress {
    text.parse().unwrap()
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Anna", "-c", "user.email=anna@example.org"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A bare repository outside, with one commit on `trunk`.
fn bare_outside(place: &Place) -> PathBuf {
    let outside = place.world.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    git(&outside, &["init", "-q", "--bare", "-b", "trunk", "old.git"]);
    git(&outside, &["clone", "-q", "old.git", "work"]);
    let work = outside.join("work");
    git(&work, &["commit", "-qm", "one", "--allow-empty"]);
    git(&work, &["push", "-q", "origin", "HEAD:trunk"]);
    outside.join("old.git")
}

#[tokio::test]
async fn a_new_repository_lies_in_a_folder_of_its_name_and_stock_git_accepts_it() {
    let place = place().await;
    let row = place.create("anna/Blue.Song").await.unwrap();

    assert_eq!(row.address.to_string(), "Anna/Blue.Song");
    assert_eq!(row.dir, "anna/blue.song.git");
    git(&place.repos.path(&row), &["fsck", "--strict"]);
    assert_eq!(place.repos.default_branch(&row.address).await.unwrap().unwrap(), "main");
    assert_eq!(place.folders(), ["anna/blue.song.git"]);
}

#[tokio::test]
async fn a_name_is_free_or_taken_whatever_its_case_and_a_refusal_leaves_nothing() {
    let place = place().await;
    place.create("anna/song").await.unwrap();

    assert!(matches!(place.create("anna/SONG").await, Err(RepoError::NameTaken(_))));
    assert!(matches!(place.create("carl/song").await, Err(RepoError::NoOwner(_))));
    assert_eq!(place.folders(), ["anna/song.git"]);
}

#[tokio::test]
async fn two_pushes_at_once_go_into_one_repository() {
    let place = place().await;
    // also from another process, with connections of its own
    let other_db = Db::open(&place.world.folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();
    let other = Repos::new(other_db, &place.dir(""), &RepoSettings::default());
    let (person, address) = (place.person(), at("anna/song"));

    let pushes = (0..8).map(|n| {
        let repos = if n % 2 == 0 { &place.repos } else { &other };
        repos.create_for_push(RepoId::new(), &person, &address, ObjectFormat::Sha1)
    });
    let made = futures::future::join_all(pushes).await;

    let made: Vec<MadeRepo> = made.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|made| made.is_new).count(), 1);
    assert!(made.iter().all(|other| other.repo.id == made[0].repo.id));
    let folders = place.folders();
    assert_eq!(folders.len(), 1, "{folders:?}");
    assert!(made[0].repo.path.join("HEAD").is_file());
}

#[tokio::test]
async fn a_repository_made_for_a_push_is_private_and_opened_for_its_owner() {
    let place = place().await;
    let id = RepoId::new();
    let made = place
        .repos
        .create_for_push(id, &place.person(), &at("anna/song"), ObjectFormat::Sha1)
        .await
        .unwrap();
    assert!(made.is_new);
    assert_eq!((made.repo.id, made.repo.visibility), (id, Visibility::Private));
    assert_eq!(made.repo.role, Some(crate::db::Role::Owner));
}

#[tokio::test]
async fn a_repository_that_a_push_made_is_removed_only_while_nothing_got_into_it() {
    let place = place().await;
    let (person, address) = (place.person(), at("anna/song"));
    let made = place
        .repos
        .create_for_push(RepoId::new(), &person, &address, ObjectFormat::Sha1)
        .await
        .unwrap();
    place.repos.remove_empty(made.repo.id).await.unwrap();
    assert!(place.folders().is_empty());

    let made = place
        .repos
        .create_for_push(RepoId::new(), &person, &address, ObjectFormat::Sha1)
        .await
        .unwrap();
    let push = NewPush {
        repo: made.repo.id,
        user: place.anna.id,
        pusher: place.anna.name.clone(),
        token: None,
        address: "192.0.2.1".into(),
        atomic: false,
        options: Vec::new(),
        locks_version: None,
        releases: Vec::new(),
    };
    let change = RefChange {
        name: b"refs/heads/main".to_vec(),
        old: None,
        new: GitId::from_bytes(&[1; 20]).unwrap(),
    };
    place.world.db.begin_push(push, vec![change]).await.unwrap();
    place.repos.remove_empty(made.repo.id).await.unwrap();
    assert_eq!(place.folders(), ["anna/song.git"]);
}

#[tokio::test]
async fn a_rename_moves_no_folder_and_a_new_repository_of_the_old_name_gets_another() {
    let place = place().await;
    let song = place.create("anna/song").await.unwrap();

    let renamed = place
        .repos
        .rename(&at("anna/song"), "tune".parse().unwrap(), By::Command)
        .await
        .unwrap();
    assert_eq!(renamed.dir, song.dir);
    assert_eq!(place.repos.find(&at("anna/song")).await.unwrap().id, song.id);
    let details = place.repos.show(&at("anna/tune")).await.unwrap();
    assert_eq!(details.old_addresses, [at("anna/song")]);

    let fresh = place.create("anna/song").await.unwrap();
    assert_ne!(fresh.dir, song.dir);
    assert!(fresh.dir.starts_with("anna/song~"), "{}", fresh.dir);
    assert_eq!(place.repos.find(&at("anna/song")).await.unwrap().id, fresh.id);
    assert!(
        place
            .repos
            .show(&at("anna/tune"))
            .await
            .unwrap()
            .old_addresses
            .is_empty()
    );
    let taken = place
        .repos
        .rename(&at("anna/tune"), "Song".parse().unwrap(), By::Command)
        .await;
    assert!(matches!(taken, Err(RepoError::NameTaken(_))));
}

#[tokio::test]
async fn a_rename_that_only_changes_case_keeps_everything_and_leaves_no_old_address() {
    let place = place().await;
    place.create("anna/song").await.unwrap();
    let renamed = place
        .repos
        .rename(&at("anna/song"), "Song".parse().unwrap(), By::Command)
        .await
        .unwrap();
    assert_eq!(renamed.address.to_string(), "Anna/Song");
    assert!(
        place
            .repos
            .show(&at("anna/song"))
            .await
            .unwrap()
            .old_addresses
            .is_empty()
    );
}

#[tokio::test]
async fn what_changes_a_repository_wants_its_address_of_today() {
    let place = place().await;
    place.create("anna/song").await.unwrap();
    let (song, tune) = (at("anna/song"), "tune".parse().unwrap());
    place.repos.rename(&song, tune, By::Command).await.unwrap();

    let refused = place.repos.delete(&at("anna/song"), By::Command).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "anna/song is called Anna/tune now; use that address"
    );
    assert!(place.repos.find(&at("anna/tune")).await.is_ok());
}

#[tokio::test]
async fn a_deleted_repository_is_gone_with_folder_and_rows() {
    let place = place().await;
    let row = place.create("anna/song").await.unwrap();
    let change = RefChange {
        name: b"refs/heads/main".to_vec(),
        old: None,
        new: GitId::from_bytes(&[1; 20]).unwrap(),
    };
    place.world.db.record_disk_changes(row.id, vec![change]).await.unwrap();

    place.repos.delete(&at("anna/song"), By::Command).await.unwrap();

    assert!(matches!(
        place.repos.find(&at("anna/song")).await,
        Err(RepoError::NoRepo(_))
    ));
    assert_eq!(std::fs::read_dir(place.dir("")).unwrap().count(), 0);
    assert!(
        place
            .world
            .db
            .list_pushes(row.id, None, 10)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    assert!(place.world.db.last_known_refs(row.id).await.unwrap().is_empty());
    place.create("anna/song").await.unwrap();
}

#[tokio::test]
async fn a_start_finishes_an_interrupted_deletion_and_leaves_work_under_way_alone() {
    let place = place().await;
    let row = place.create("anna/song").await.unwrap();
    let change = RefChange {
        name: b"refs/heads/main".to_vec(),
        old: None,
        new: GitId::from_bytes(&[1; 20]).unwrap(),
    };
    place.world.db.record_disk_changes(row.id, vec![change]).await.unwrap();
    // the row went, the folder was on its way, the push rows were still there
    place.world.db.delete_repo(row.id, By::Command).await.unwrap();
    std::fs::rename(place.dir("anna/song.git"), place.dir(".trash-1")).unwrap();
    std::fs::create_dir(place.dir(".new-2")).unwrap();

    place.repos.sweep().await.unwrap();

    assert_eq!(place.folders(), [".new-2"]);
    assert!(place.world.db.deleted_repos_with_pushes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_leftover_that_cannot_be_removed_does_not_keep_a_server_from_starting() {
    let place = place().await;
    std::fs::create_dir(place.dir(".trash-2")).unwrap();
    // not a folder, so that removing it as one fails for everybody
    std::fs::write(place.dir(".trash-1"), "").unwrap();

    place.repos.sweep().await.unwrap();

    assert_eq!(place.folders(), [".trash-1"]);
}

#[tokio::test]
async fn archive_visibility_and_trust_are_seen_by_the_next_request() {
    let place = place().await;
    place.create("anna/song").await.unwrap();
    let (song, by) = (at("anna/song"), By::Command);
    let access = Access::new(
        place.world.db.clone(),
        place.dir(""),
        "http://host",
        &RepoSettings::default(),
    );
    let caller = signed_in(&place.anna);

    place.repos.archive(&song, by.clone()).await.unwrap();
    assert!(access.open(&caller, &song, Right::Write).await.is_err());
    place.repos.unarchive(&song, by.clone()).await.unwrap();
    assert!(access.open(&caller, &song, Right::Write).await.is_ok());

    assert!(access.open(&Caller::Anonymous, &song, Right::Read).await.is_err());
    place
        .repos
        .set_visibility(&song, Visibility::Public, by.clone())
        .await
        .unwrap();
    let opened = access.open(&Caller::Anonymous, &song, Right::Read).await.unwrap();
    assert!(!opened.trust_hooks);
    place.repos.trust_hooks(&song, true, by).await.unwrap();
    let opened = access.open(&Caller::Anonymous, &song, Right::Read).await.unwrap();
    assert!(opened.trust_hooks);
}

#[tokio::test]
async fn an_adopted_repository_is_moved_in_and_its_hooks_are_not_trusted() {
    let place = place().await;
    let outside = bare_outside(&place);

    let row = place
        .repos
        .adopt(&outside, &at("anna/song"), Visibility::Private, By::Command)
        .await
        .unwrap();

    assert!(!outside.exists());
    assert!(!row.trust_hooks);
    assert_eq!(git(&place.repos.path(&row), &["rev-list", "--count", "trunk"]), "1");
    let again = place
        .repos
        .adopt(
            &place.repos.path(&row),
            &at("anna/other"),
            Visibility::Private,
            By::Command,
        )
        .await;
    assert!(matches!(again, Err(RepoError::AlreadyServed(_))), "{again:?}");
}

#[tokio::test]
async fn a_repository_that_was_put_into_the_folder_by_hand_is_adopted_where_it_lies() {
    let place = place().await;
    let outside = bare_outside(&place);
    std::fs::create_dir(place.dir("anna")).unwrap();
    std::fs::rename(outside, place.dir("anna/song.git")).unwrap();

    let row = place
        .repos
        .adopt(
            &place.dir("anna/song.git"),
            &at("anna/song"),
            Visibility::Private,
            By::Command,
        )
        .await
        .unwrap();

    assert_eq!(row.dir, "anna/song.git");
    assert_eq!(place.folders(), ["anna/song.git"]);
}

#[tokio::test]
async fn a_repository_that_moving_would_cut_off_from_its_objects_is_not_adopted() {
    let place = place().await;
    let outside = bare_outside(&place);
    let fork = outside.with_file_name("fork.git");
    git(
        &outside,
        &["clone", "-q", "--bare", "--shared", ".", &fork.to_string_lossy()],
    );
    let lender = outside.file_name().unwrap().to_string_lossy().into_owned();
    std::fs::write(
        fork.join("objects/info/alternates"),
        format!("../../{lender}/objects\n"),
    )
    .unwrap();
    git(&fork, &["fsck"]);

    let refused = place
        .repos
        .adopt(&fork, &at("anna/fork"), Visibility::Private, By::Command)
        .await;

    assert!(matches!(refused, Err(RepoError::Unusable { .. })), "{refused:?}");
    assert!(fork.join("HEAD").exists());
}

#[tokio::test]
async fn what_cannot_be_adopted_is_refused_and_stays_where_it_is() {
    let place = place().await;
    let outside = bare_outside(&place);
    let work = outside.with_file_name("work");
    let adopt = async |path: &Path, address: &str| {
        place
            .repos
            .adopt(path, &at(address), Visibility::Private, By::Command)
            .await
    };
    place.create("anna/taken").await.unwrap();

    for path in [
        &work,
        &work.join(".git"),
        place.world.folder.path(),
        &work.join("nothing"),
    ] {
        let refused = adopt(path, "anna/song").await;
        assert!(
            matches!(refused, Err(RepoError::Unusable { .. })),
            "{}: {refused:?}",
            path.display()
        );
    }
    assert!(matches!(
        adopt(&outside, "anna/taken").await,
        Err(RepoError::NameTaken(_))
    ));
    assert!(matches!(adopt(&outside, "carl/song").await, Err(RepoError::NoOwner(_))));
    git(&outside, &["fsck", "--strict"]);
    git(&work, &["fsck", "--strict"]);
}

#[tokio::test]
async fn an_imported_repository_is_a_copy() {
    let place = place().await;
    let outside = bare_outside(&place);
    let work = outside.with_file_name("work");

    for (source, address) in [(&outside, "anna/one"), (&work, "anna/two")] {
        let row = place
            .repos
            .import(source, &at(address), Visibility::Private, By::Command)
            .await
            .unwrap();
        assert_eq!(
            git(&place.repos.path(&row), &["rev-parse", "trunk"]),
            git(&outside, &["rev-parse", "trunk"])
        );
        let branch = place.repos.default_branch(&row.address).await.unwrap();
        assert_eq!(branch.as_deref(), Some("trunk"));
        assert_eq!(place.repos.fsck(&row.address).await.unwrap().error_count, 0);
    }
    let refused = place
        .repos
        .import(
            place.world.folder.path(),
            &at("anna/three"),
            Visibility::Private,
            By::Command,
        )
        .await;
    assert!(matches!(refused, Err(RepoError::Unusable { .. })), "{refused:?}");
    assert_eq!(place.folders(), ["anna/one.git", "anna/two.git"]);
}

#[tokio::test]
async fn the_default_branch_must_exist_unless_there_is_none_at_all() {
    let place = place().await;
    let outside = bare_outside(&place);
    place
        .repos
        .import(&outside, &at("anna/song"), Visibility::Private, By::Command)
        .await
        .unwrap();
    place.create("anna/empty").await.unwrap();
    let set =
        async |address: &str, branch: &str| place.repos.set_default_branch(&at(address), branch, By::Command).await;

    assert!(matches!(
        set("anna/song", "gone").await,
        Err(RepoError::NoBranch { .. })
    ));
    set("anna/song", "refs/heads/trunk").await.unwrap();
    set("anna/empty", "later").await.unwrap();
    assert!(matches!(
        set("anna/empty", "a..b").await,
        Err(RepoError::Unreadable { .. })
    ));
    let branch = place.repos.default_branch(&at("anna/empty")).await.unwrap();
    assert_eq!(branch.as_deref(), Some("later"));
}
