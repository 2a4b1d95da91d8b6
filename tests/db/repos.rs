//! Repositories and their old addresses.

use auxin::db::{By, InsertRepo, NewRepo, RenameRepo, Role, Visibility};
use auxin::ids::RepoId;

use crate::{Place, at};

#[tokio::test]
async fn of_many_who_make_one_repository_at_once_one_does() {
    let place = Place::new().await;
    place.user("anna").await;
    let wishes = (0..20).map(|_| place.insert_repo("anna/song"));
    let done = futures::future::join_all(wishes).await;
    let made = done.iter().filter(|done| matches!(done, InsertRepo::Done(_))).count();
    assert_eq!(made, 1);
    assert!(
        done.iter()
            .all(|done| matches!(done, InsertRepo::Done(_) | InsertRepo::NameTaken))
    );
}

#[tokio::test]
async fn one_folder_serves_one_repository() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let song = place.repo("anna/song").await;
    let new = NewRepo {
        id: RepoId::new(),
        owner_id: anna.id,
        name: "tune".parse().unwrap(),
        dir: song.dir.clone(),
        visibility: Visibility::Private,
    };
    let refused = place.db.insert_repo(new, By::Command).await.unwrap();
    assert_eq!(refused, InsertRepo::DirTaken);
    assert!(place.db.repo_dir_in_use(&song.dir).await.unwrap());
    assert!(!place.db.repo_dir_in_use("elsewhere.git").await.unwrap());
}

#[tokio::test]
async fn a_repository_is_found_with_what_the_caller_is_to_it() {
    let place = Place::new().await;
    let (anna, ben, carl) = (
        place.user("anna").await,
        place.user("ben").await,
        place.user("carl").await,
    );
    let song = place.repo("anna/song").await;
    place
        .db
        .set_member(song.id, ben.id, Role::Admin, By::Command)
        .await
        .unwrap();
    let role = async |caller| {
        let found = place.db.find_repo(&at("Anna/SONG"), caller).await.unwrap().unwrap();
        found.role
    };
    assert_eq!(role(Some(anna.id)).await, Some(Role::Owner));
    assert_eq!(role(Some(ben.id)).await, Some(Role::Admin));
    assert_eq!(role(Some(carl.id)).await, None);
    assert_eq!(role(None).await, None);
    assert!(place.db.find_repo(&at("anna/tune"), None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_chain_of_renames_answers_at_every_old_name_until_one_is_used_again() {
    let place = Place::new().await;
    place.user("anna").await;
    let id = place.repo("anna/a").await.id;
    for name in ["b", "c", "a"] {
        let renamed = place.db.rename_repo(id, name.parse().unwrap(), By::Command).await;
        assert!(matches!(renamed.unwrap(), RenameRepo::Done(_)));
    }
    // back at its first name, which is no old one any more
    assert_eq!(place.db.old_addresses(id).await.unwrap(), [at("anna/b"), at("anna/c")]);
    let found = place.db.find_repo(&at("anna/a"), None).await.unwrap().unwrap();
    assert_eq!(found.renamed_from, None);

    let other = place.repo("anna/b").await.id;
    assert_eq!(place.db.old_addresses(id).await.unwrap(), [at("anna/c")]);
    // and a rename uses a name just as well
    place
        .db
        .rename_repo(other, "c".parse().unwrap(), By::Command)
        .await
        .unwrap();
    assert!(place.db.old_addresses(id).await.unwrap().is_empty());
    assert_eq!(place.db.old_addresses(other).await.unwrap(), [at("anna/b")]);
}

#[tokio::test]
async fn a_rename_to_a_name_in_use_changes_nothing() {
    let place = Place::new().await;
    place.user("anna").await;
    let id = place.repo("anna/a").await.id;
    place.repo("anna/b").await;
    let refused = place.db.rename_repo(id, "B".parse().unwrap(), By::Command).await;
    assert_eq!(refused.unwrap(), RenameRepo::NameTaken);
    assert_eq!(place.db.repo_by_id(id).await.unwrap().unwrap().address, at("anna/a"));
    let gone = place
        .db
        .rename_repo(RepoId::new(), "x".parse().unwrap(), By::Command)
        .await;
    assert_eq!(gone.unwrap(), RenameRepo::Gone);
}

#[tokio::test]
async fn repositories_are_listed_in_pages_by_address() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    place.user("Ben").await;
    for address in ["Ben/a", "anna/z", "anna/B", "Ben/c"] {
        place.repo(address).await;
    }
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = place.db.list_repos(None, after.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.address.clone());
        found.extend(page.iter().map(|row| row.address.to_string()));
    }
    assert_eq!(found, ["anna/B", "anna/z", "Ben/a", "Ben/c"]);
    assert_eq!(place.db.list_repos(Some(anna.id), None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_deleted_repository_takes_its_old_addresses_and_members_along() {
    let place = Place::new().await;
    place.user("anna").await;
    let ben = place.user("ben").await;
    let id = place.repo("anna/a").await.id;
    place.db.set_member(id, ben.id, Role::Read, By::Command).await.unwrap();
    place
        .db
        .rename_repo(id, "b".parse().unwrap(), By::Command)
        .await
        .unwrap();

    let row = place.db.delete_repo(id, By::Command).await.unwrap().unwrap();

    assert_eq!(row.address, at("anna/b"));
    for address in ["anna/a", "anna/b"] {
        assert!(place.db.find_repo(&at(address), None).await.unwrap().is_none());
    }
    assert!(place.db.delete_repo(id, By::Command).await.unwrap().is_none());
}
