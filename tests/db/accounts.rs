//! People, tokens, members.

use auxin::db::{By, InsertUser, NewToken, RemoveUser, Role, Scope};
use auxin::names::OwnerName;

use crate::{Place, at, insert_user};

fn token(owner: &auxin::db::UserRow, secret: u8) -> NewToken {
    NewToken {
        user_id: owner.id,
        label: "laptop".into(),
        secret_sha256: [secret; 32],
        scope: Scope::Write,
        repo_id: None,
        lifetime_secs: Some(60),
    }
}

#[tokio::test]
async fn a_name_belongs_to_one_person_whatever_its_case() {
    let place = Place::new().await;
    let anna = place.user("Anna").await;

    assert_eq!(insert_user(&place.db, "aNNA").await, InsertUser::NameTaken);
    let found = place.db.user_by_name(&"ANNA".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(found, anna);
    assert_eq!(found.name.as_str(), "Anna");
}

#[tokio::test]
async fn of_many_who_want_one_name_at_once_one_gets_it() {
    let place = Place::new().await;
    let other = place.again().await;
    let wishes = (0..20).map(|n| insert_user(if n % 2 == 0 { &place.db } else { &other }, "anna"));
    let done = futures::future::join_all(wishes).await;
    let made = done.iter().filter(|done| matches!(done, InsertUser::Done(_))).count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn every_change_of_an_account_raises_its_version() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let version = async || place.db.user_by_id(anna.id).await.unwrap().unwrap().auth_version;
    assert_eq!(version().await, 1);
    assert!(
        place
            .db
            .set_password(anna.id, "$new$".into(), By::Command)
            .await
            .unwrap()
    );
    assert_eq!(version().await, 2);
    assert!(place.db.set_disabled(anna.id, true, By::Command).await.unwrap());
    assert_eq!(version().await, 3);
    assert!(place.db.set_disabled(anna.id, false, By::Command).await.unwrap());
    assert_eq!(version().await, 4);
}

#[tokio::test]
async fn people_are_listed_in_pages_by_name() {
    let place = Place::new().await;
    for name in ["dora", "Anna", "carl", "Ben"] {
        place.user(name).await;
    }
    let mut names = Vec::new();
    let mut after: Option<OwnerName> = None;
    loop {
        let page = place.db.list_users(after.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        names.extend(page.iter().map(|row| row.name.to_string()));
    }
    assert_eq!(names, ["Anna", "Ben", "carl", "dora"]);
}

#[tokio::test]
async fn who_owns_repositories_is_not_removed_without_an_heir() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    place.repo("anna/song").await;

    let refused = place.db.remove_user(anna.id, None, By::Command).await.unwrap();

    let first = vec![at("anna/song")];
    assert_eq!(refused, RemoveUser::OwnsRepos { first, total: 1 });
    assert!(place.db.user_by_id(anna.id).await.unwrap().is_some());
}

#[tokio::test]
async fn an_heir_gets_everything_and_the_old_addresses_keep_answering() {
    let place = Place::new().await;
    let (anna, ben) = (place.user("anna").await, place.user("ben").await);
    let song = place.repo("anna/song").await;
    place
        .db
        .set_member(song.id, ben.id, Role::Read, By::Command)
        .await
        .unwrap();

    let removed = place.db.remove_user(anna.id, Some(ben.id), By::Command).await.unwrap();

    assert_eq!(removed, RemoveUser::Done { transferred: 1 });
    let found = place
        .db
        .find_repo(&at("ben/song"), Some(ben.id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.repo.id, found.role), (song.id, Some(Role::Owner)));
    assert_eq!(found.repo.dir, song.dir);
    let old = place.db.find_repo(&at("anna/song"), None).await.unwrap().unwrap();
    assert_eq!(old.renamed_from, Some(at("anna/song")));
    assert!(place.db.list_members(song.id, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_heir_with_a_repository_of_the_same_name_gets_nothing_at_all() {
    let place = Place::new().await;
    let (anna, ben) = (place.user("anna").await, place.user("ben").await);
    for address in ["anna/song", "anna/tune", "ben/SONG"] {
        place.repo(address).await;
    }

    let refused = place.db.remove_user(anna.id, Some(ben.id), By::Command).await.unwrap();

    assert_eq!(refused, RemoveUser::NamesTaken(vec!["song".parse().unwrap()]));
    assert_eq!(place.db.list_repos(Some(anna.id), None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_person_goes_with_tokens_and_memberships() {
    let place = Place::new().await;
    let (_, ben) = (place.user("anna").await, place.user("ben").await);
    let song = place.repo("anna/song").await;
    place
        .db
        .insert_token(token(&ben, 1), By::Command)
        .await
        .unwrap()
        .unwrap();
    place
        .db
        .set_member(song.id, ben.id, Role::Write, By::Command)
        .await
        .unwrap();

    let removed = place.db.remove_user(ben.id, None, By::Command).await.unwrap();

    assert_eq!(removed, RemoveUser::Done { transferred: 0 });
    assert!(place.db.token_by_secret(&[1; 32]).await.unwrap().is_none());
    assert!(place.db.list_members(song.id, None, 10).await.unwrap().is_empty());
    let again = place.db.remove_user(ben.id, None, By::Command).await.unwrap();
    assert_eq!(again, RemoveUser::Gone);
}

#[tokio::test]
async fn a_token_is_found_by_its_hash_with_its_owner_and_expiry() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let made = place
        .db
        .insert_token(token(&anna, 7), By::Command)
        .await
        .unwrap()
        .unwrap();

    let (found, owner) = place.db.token_by_secret(&[7; 32]).await.unwrap().unwrap();

    assert_eq!((found.clone(), owner), (made, anna));
    assert_eq!(found.expires_at_us, Some(61_000_000));
    assert!(place.db.token_by_secret(&[8; 32]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_for_somebody_or_something_that_is_gone_is_not_made() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let mut wanted = token(&anna, 1);
    wanted.repo_id = Some(auxin::ids::RepoId::new());
    assert!(place.db.insert_token(wanted, By::Command).await.unwrap().is_none());
    place.db.remove_user(anna.id, None, By::Command).await.unwrap();
    let wanted = token(&anna, 2);
    assert!(place.db.insert_token(wanted, By::Command).await.unwrap().is_none());
}

#[tokio::test]
async fn the_use_of_a_token_is_noted_again_only_after_a_while() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let made = place
        .db
        .insert_token(token(&anna, 1), By::Command)
        .await
        .unwrap()
        .unwrap();
    let note = async || {
        place.db.note_token_use(made.id, 60).unwrap();
        place.db.check().await.unwrap(); // behind it in the queue
        let (row, _) = place.db.token_by_secret(&[1; 32]).await.unwrap().unwrap();
        row.last_used_at_us
    };
    assert_eq!(note().await, Some(1_000_000));
    place.hands.advance_secs(59);
    assert_eq!(note().await, Some(1_000_000));
    place.hands.advance_secs(1);
    assert_eq!(note().await, Some(61_000_000));
}

#[tokio::test]
async fn changes_of_accounts_and_rights_are_noted_with_who_made_them() {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let by = By::User("root".parse().unwrap());
    place.db.set_disabled(anna.id, true, by).await.unwrap();
    let noted = place.db.recent_audit(10).await.unwrap();
    let noted: Vec<String> = noted
        .iter()
        .map(|row| format!("{}: {} {}", row.actor, row.action, row.subject))
        .collect();
    assert_eq!(noted, ["user root: user.disable anna", "command: user.add anna"]);
}
