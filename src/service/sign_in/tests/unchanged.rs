//! Rows are used again while nothing was changed, and never after.

use super::*;
use crate::db::{Clock, Db, Role, Visibility};
use crate::ids::RepoId;
use crate::service::access::{AccessError, Right};
use crate::service::{Members, Tokens};

/// The same database, opened again as another process would.
async fn other_db(world: &World) -> Db {
    Db::open(&world.folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap()
}

/// From here on no commit changes the stamp.
async fn stick(world: &World) {
    let stamp = world.db.change_stamp().await.unwrap();
    world.accounts.inner.stuck_stamp.set(stamp).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Change {
    DisableBeforePassword,
    DisableBeforeToken,
    Password,
    Revoke,
    Remove,
}

/// Whether the very next request sees what another process has changed.
async fn is_seen(change: Change, is_stuck: bool) -> bool {
    let world = world().await;
    let (id, token) = token(&world, "anna", None).await;
    if is_stuck {
        stick(&world).await;
    }
    let credentials = match change {
        Change::DisableBeforeToken | Change::Revoke => basic("anna", &token),
        _ => basic("anna", PASSWORD),
    };
    for _ in 0..2 {
        sign_in(&world, credentials.clone()).await.unwrap();
    }

    let db = other_db(&world).await;
    let (accounts, name) = (Accounts::new(db.clone(), &settings()), "anna".parse().unwrap());
    match change {
        Change::DisableBeforePassword | Change::DisableBeforeToken => {
            accounts.disable(&name, By::Command).await.unwrap();
        }
        Change::Password => {
            let new = Secret::new("another horse");
            accounts.passwd(&name, &new, By::Command).await.unwrap();
        }
        Change::Revoke => {
            Tokens::new(db).revoke(id, By::Command).await.unwrap();
        }
        Change::Remove => {
            accounts.remove(&name, None, By::Command).await.unwrap();
        }
    }

    match (change, sign_in(&world, credentials).await) {
        (_, Ok(_)) => false,
        (Change::DisableBeforePassword | Change::DisableBeforeToken, Err(SignInError::Disabled(_)))
        | (Change::Password | Change::Remove, Err(SignInError::Wrong))
        | (Change::Revoke, Err(SignInError::TokenRevoked { .. })) => true,
        (_, Err(other)) => panic!("{change:?}: {other:?}"),
    }
}

#[tokio::test]
async fn the_very_next_request_sees_every_change_of_an_account_by_another_process() {
    for change in [
        Change::DisableBeforePassword,
        Change::DisableBeforeToken,
        Change::Password,
        Change::Revoke,
        Change::Remove,
    ] {
        assert!(is_seen(change, false).await, "{change:?}");
        // The negative control: the stamp is what does it.
        assert!(!is_seen(change, true).await, "{change:?} without a stamp");
    }
}

#[tokio::test]
async fn a_person_who_was_let_in_again_is_in_with_the_next_request() {
    let world = world().await;
    let (_, token) = token(&world, "anna", None).await;
    let other = Accounts::new(other_db(&world).await, &settings());
    let name = "anna".parse().unwrap();
    for _ in 0..5 {
        other.disable(&name, By::Command).await.unwrap();
        for secret in [PASSWORD, &token] {
            let refused = sign_in(&world, basic("anna", secret)).await;
            assert!(matches!(refused, Err(SignInError::Disabled(_))), "{refused:?}");
        }
        other.enable(&name, By::Command).await.unwrap();
        for secret in [PASSWORD, &token] {
            sign_in(&world, basic("anna", secret)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_member_who_is_added_or_removed_by_another_process_is_so_with_the_next_request() {
    let world = world().await;
    add(&world, "ben").await;
    world.repo("anna/song", Visibility::Private).await;
    let members = Members::new(other_db(&world).await);
    let (repo, ben) = ("anna/song".parse().unwrap(), "ben".parse().unwrap());
    let may_read = async || {
        let signed_in = sign_in(&world, basic("ben", PASSWORD)).await.unwrap();
        match world.access.open(&Caller::User(signed_in), &repo, Right::Read).await {
            Ok(_) => true,
            Err(AccessError::NotFound(_)) => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(!may_read().await);
    members.add(&repo, &ben, Role::Read, By::Command).await.unwrap();
    assert!(may_read().await);
    members.remove(&repo, &ben, By::Command).await.unwrap();
    assert!(!may_read().await);
}

#[tokio::test]
async fn while_nothing_changes_the_database_is_not_asked_again() {
    let world = world().await;
    add(&world, "ben").await;
    let (_, token) = token(&world, "anna", None).await;
    for secret in [PASSWORD, &token] {
        sign_in(&world, basic("anna", secret)).await.unwrap();
    }
    world.db.check().await.unwrap(); // behind the note of the token's use
    for secret in [PASSWORD, &token] {
        sign_in(&world, basic("anna", secret)).await.unwrap();
    }
    stick(&world).await;
    world.db.close().await;

    for secret in [PASSWORD, &token] {
        sign_in(&world, basic("ANNA", secret)).await.unwrap();
    }
    // Everything else is asked, and that fails now.
    for (user, password) in [("anna", "wrong horse"), ("ben", PASSWORD)] {
        let failed = sign_in(&world, basic(user, password)).await;
        assert!(matches!(failed, Err(SignInError::Failed(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_remembered_expires_all_the_same() {
    let world = world().await;
    let (_, token) = token(&world, "anna", Some(1)).await;
    sign_in(&world, basic("anna", &token)).await.unwrap();
    world.db.check().await.unwrap();
    sign_in(&world, basic("anna", &token)).await.unwrap();
    stick(&world).await;
    world.hands.advance_secs(24 * 3600);
    let expired = sign_in(&world, basic("anna", &token)).await;
    assert!(matches!(expired, Err(SignInError::TokenExpired { .. })), "{expired:?}");
}

#[tokio::test]
async fn changes_while_many_sign_in_are_each_seen_by_the_next_request() {
    let world = world().await;
    let other = other_db(&world).await;
    let (id, token) = token(&world, "anna", None).await;
    // Commits of somebody else come all the time, so that rows are read in the midst of them.
    let busy = {
        let db = other.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                db.revoke_token(crate::ids::TokenId::new(), By::Command).await.unwrap();
                db.remove_member(RepoId::new(), crate::ids::UserId::new(), By::Command)
                    .await
                    .unwrap();
                db.note_token_use(id, 0).unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let user = sign_in(&world, basic("anna", PASSWORD)).await.unwrap().id;
    for round in 0..40 {
        let is_disabled = round % 2 == 0;
        other.set_disabled(user, is_disabled, By::Command).await.unwrap();
        let asked = (0..8).map(|_| sign_in(&world, basic("anna", &token)));
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.is_err(), is_disabled, "round {round}: {answer:?}");
        }
    }
    busy.await.unwrap();
}
