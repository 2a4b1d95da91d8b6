use super::*;
use crate::config::{AuthSettings, RepoSettings};
use crate::db::By;
use crate::service::testing::{World, address};
use crate::service::tokens::TokenRequest;

mod unchanged;

const PASSWORD: &str = "correct horse";

async fn world() -> World {
    let world = World::with(settings(), RepoSettings::default()).await;
    add(&world, "anna").await;
    world
}

fn settings() -> AuthSettings {
    AuthSettings {
        throttle_after_failures: 3,
        ..AuthSettings::default()
    }
}

async fn add(world: &World, name: &str) {
    let (name, password) = (name.parse().unwrap(), Secret::new(PASSWORD));
    world.accounts.add(name, &password, false, By::Command).await.unwrap();
}

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic {
        user: user.into(),
        password: Secret::new(password),
    }
}

async fn sign_in(world: &World, credentials: Credentials) -> Result<SignedIn, SignInError> {
    from(world, credentials, 1).await
}

async fn from(world: &World, credentials: Credentials, last: u8) -> Result<SignedIn, SignInError> {
    match world.accounts.sign_in(credentials, address(last)).await? {
        Caller::User(user) => Ok(user),
        Caller::Anonymous => panic!("nobody signed in"),
    }
}

async fn token(world: &World, owner: &str, days: Option<u32>) -> (TokenId, String) {
    let request = TokenRequest {
        owner: owner.parse().unwrap(),
        label: String::new(),
        scope: Scope::Write,
        repo: None,
        lifetime_days: days,
    };
    let made = world.tokens.create(request, By::Command).await.unwrap();
    (made.info.id, made.secret.expose().to_owned())
}

#[tokio::test]
async fn who_says_nothing_is_anonymous() {
    let world = world().await;
    let caller = world.accounts.sign_in(Credentials::None, address(1)).await.unwrap();
    assert_eq!(caller, Caller::Anonymous);
}

#[tokio::test]
async fn name_and_password_sign_in_whatever_the_case_of_the_name() {
    let world = world().await;
    let user = sign_in(&world, basic("ANNA", PASSWORD)).await.unwrap();
    assert_eq!(user.name.as_str(), "anna");
    assert_eq!(user.token, None);
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_get_the_same_answer() {
    let world = world().await;
    let mut answers = Vec::new();
    for (user, password) in [
        ("anna", "wrong horse"),
        ("nobody-here", PASSWORD),
        ("no name at all", PASSWORD),
        ("", ""),
        ("anna", ""),
        ("anna", "auxin_looks like a token"),
    ] {
        let error = sign_in(&world, basic(user, password)).await.unwrap_err();
        assert!(matches!(error, SignInError::Wrong), "{user}: {error:?}");
        answers.push(error.to_string());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn a_password_that_nobody_can_have_is_refused_without_hashing() {
    let world = world().await;
    let error = sign_in(&world, basic("anna", &"x".repeat(1 << 20))).await.unwrap_err();
    assert!(matches!(error, SignInError::Wrong));
}

#[tokio::test]
async fn a_changed_password_counts_at_once_even_while_the_old_one_is_remembered() {
    let world = world().await;
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();

    // as another process would: through services of its own on the same file
    let other_db = crate::db::Db::open(&world.folder.path().join("auxin.db"), crate::db::Clock::system())
        .await
        .unwrap();
    let other = Accounts::new(other_db, &settings());
    let (name, new) = ("anna".parse().unwrap(), Secret::new("another horse"));
    other.passwd(&name, &new, By::Command).await.unwrap();

    let old = sign_in(&world, basic("anna", PASSWORD)).await;
    assert!(matches!(old, Err(SignInError::Wrong)), "{old:?}");
    sign_in(&world, basic("anna", "another horse")).await.unwrap();
}

#[tokio::test]
async fn a_disabled_account_is_out_at_once_and_told_so_only_with_the_right_password() {
    let world = world().await;
    let (_, token) = token(&world, "anna", None).await;
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
    let name = "anna".parse().unwrap();

    world.accounts.disable(&name, By::Command).await.unwrap();

    let refused = sign_in(&world, basic("anna", PASSWORD)).await;
    assert!(matches!(refused, Err(SignInError::Disabled(_))), "{refused:?}");
    let refused = sign_in(&world, basic("anna", &token)).await;
    assert!(matches!(refused, Err(SignInError::Disabled(_))), "{refused:?}");
    let wrong = sign_in(&world, basic("anna", "wrong horse")).await;
    assert!(matches!(wrong, Err(SignInError::Wrong)), "{wrong:?}");
    world.accounts.enable(&name, By::Command).await.unwrap();
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_removed_person_is_out_and_a_new_one_of_the_same_name_has_nothing_of_the_old() {
    let world = world().await;
    let (_, token) = token(&world, "anna", None).await;
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
    let name = "anna".parse().unwrap();
    world.accounts.remove(&name, None, By::Command).await.unwrap();

    let gone = sign_in(&world, basic("anna", PASSWORD)).await;
    assert!(matches!(gone, Err(SignInError::Wrong)), "{gone:?}");
    let new = Secret::new("another horse");
    world.accounts.add(name, &new, false, By::Command).await.unwrap();

    let old = sign_in(&world, basic("anna", PASSWORD)).await;
    assert!(matches!(old, Err(SignInError::Wrong)), "{old:?}");
    let old = sign_in(&world, basic("anna", &token)).await;
    assert!(matches!(old, Err(SignInError::WrongToken)), "{old:?}");
}

#[tokio::test]
async fn a_token_signs_in_as_password_as_user_name_and_as_bearer() {
    let world = world().await;
    let (id, token) = token(&world, "anna", None).await;
    for credentials in [
        basic("anna", &token),
        basic("", &token),
        basic("x-access-token", &token),
        basic("somebody-unknown", &token),
        basic(&token, ""),
        Credentials::Bearer(Secret::new(token.clone())),
    ] {
        let shown = format!("{credentials:?}");
        let user = sign_in(&world, credentials).await.unwrap();
        assert_eq!(user.name.as_str(), "anna", "{shown}");
        assert_eq!(user.token.unwrap().id, id, "{shown}");
    }
}

#[tokio::test]
async fn the_name_beside_a_token_counts_for_nothing_even_if_somebody_has_it() {
    let world = world().await;
    add(&world, "ci-robot").await; // what a program may put there, too
    let (_, token) = token(&world, "anna", None).await;
    let user = sign_in(&world, basic("CI-Robot", &token)).await.unwrap();
    assert_eq!(user.name.as_str(), "anna");
}

#[tokio::test]
async fn unknown_revoked_and_expired_tokens_are_refused_each_with_its_own_sentence() {
    let world = world().await;
    let unknown = TokenSecret::random().into_secret();
    let error = sign_in(&world, Credentials::Bearer(unknown)).await.unwrap_err();
    assert!(matches!(error, SignInError::WrongToken), "{error:?}");
    let error = sign_in(&world, Credentials::Bearer(Secret::new("nonsense")))
        .await
        .unwrap_err();
    assert!(matches!(error, SignInError::WrongToken), "{error:?}");

    let (id, revoked) = token(&world, "anna", None).await;
    world.tokens.revoke(id, By::Command).await.unwrap();
    let error = sign_in(&world, basic("anna", &revoked)).await.unwrap_err();
    assert!(matches!(error, SignInError::TokenRevoked { .. }), "{error:?}");

    let (_, short) = token(&world, "anna", Some(1)).await;
    sign_in(&world, basic("anna", &short)).await.unwrap();
    world.hands.advance_secs(24 * 3600);
    let error = sign_in(&world, basic("anna", &short)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "This access token expired on 2026-11-21. Ask the administrator of this server for a new one (auxin token create anna --scope write)."
    );
}

#[tokio::test]
async fn a_program_with_an_old_token_hears_why_however_often_it_tries() {
    let world = world().await;
    let (id, revoked) = token(&world, "anna", None).await;
    world.tokens.revoke(id, By::Command).await.unwrap();
    let (_, short) = token(&world, "anna", Some(1)).await;
    world.hands.advance_secs(24 * 3600);
    for _ in 0..50 {
        let error = sign_in(&world, basic("anna", &revoked)).await.unwrap_err();
        assert!(matches!(error, SignInError::TokenRevoked { .. }), "{error:?}");
        let error = sign_in(&world, basic("anna", &short)).await.unwrap_err();
        assert!(matches!(error, SignInError::TokenExpired { .. }), "{error:?}");
    }
    let unknown = TokenSecret::random().into_secret();
    let mut last = None;
    for _ in 0..50 {
        last = Some(sign_in(&world, Credentials::Bearer(unknown.clone())).await.unwrap_err());
    }
    assert!(matches!(last, Some(SignInError::Throttled { .. })), "{last:?}");
}

#[tokio::test]
async fn the_last_use_of_a_token_is_noted_at_most_once_in_the_time_of_the_setting() {
    let world = world().await;
    let (_, token) = token(&world, "anna", None).await;
    let last_use = async || {
        world.db.check().await.unwrap(); // behind whatever is queued
        world.tokens.list(None).await.unwrap()[0].last_used_at_us
    };
    assert_eq!(last_use().await, None);

    sign_in(&world, basic("anna", &token)).await.unwrap();
    let first = last_use().await.unwrap();
    world.hands.advance_secs(59);
    let commits = world.db.commit_count();
    sign_in(&world, basic("anna", &token)).await.unwrap();
    assert_eq!(world.db.commit_count(), commits);
    assert_eq!(last_use().await, Some(first));

    world.hands.advance_secs(1);
    sign_in(&world, basic("anna", &token)).await.unwrap();
    assert_eq!(last_use().await, Some(first + 60_000_000));
}

#[tokio::test]
async fn a_remembered_password_and_a_token_are_checked_without_hashing() {
    let world = world().await;
    let (_, token) = token(&world, "anna", None).await;
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();

    // With every turn taken, whoever needs one waits for ever.
    let mut turns = Vec::new();
    for _ in 0..settings().hash_parallelism {
        turns.push(world.accounts.inner.passwords.turn(None).await.unwrap());
    }
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
    sign_in(&world, basic("anna", &token)).await.unwrap();
}

#[tokio::test]
async fn failures_slow_the_account_at_that_address_and_nobody_else() {
    let world = world().await;
    add(&world, "ben").await;
    for _ in 0..3 {
        let error = sign_in(&world, basic("anna", "wrong horse")).await.unwrap_err();
        assert!(matches!(error, SignInError::Wrong), "{error:?}");
    }

    for password in ["wrong horse", PASSWORD] {
        let error = sign_in(&world, basic("ANNA", password)).await.unwrap_err();
        assert!(
            matches!(error, SignInError::Throttled { retry_after_secs: 1 }),
            "{error:?}"
        );
    }
    from(&world, basic("anna", PASSWORD), 2).await.unwrap();
    sign_in(&world, basic("ben", PASSWORD)).await.unwrap();

    world.hands.advance_secs(1);
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
    // the success has cleared it: the next failures are free again
    for _ in 0..2 {
        let error = sign_in(&world, basic("anna", "wrong horse")).await.unwrap_err();
        assert!(matches!(error, SignInError::Wrong), "{error:?}");
    }
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_remembered_password_cannot_be_guessed_faster_than_another() {
    let world = world().await;
    sign_in(&world, basic("anna", PASSWORD)).await.unwrap();
    for _ in 0..3 {
        sign_in(&world, basic("anna", "wrong horse")).await.unwrap_err();
    }
    let error = sign_in(&world, basic("anna", PASSWORD)).await.unwrap_err();
    assert!(matches!(error, SignInError::Throttled { .. }), "{error:?}");
}

#[tokio::test]
async fn failures_of_unknown_names_are_slowed_in_the_same_way() {
    let world = world().await;
    for _ in 0..3 {
        sign_in(&world, basic("carl", PASSWORD)).await.unwrap_err();
    }
    let error = sign_in(&world, basic("carl", PASSWORD)).await.unwrap_err();
    assert!(matches!(error, SignInError::Throttled { .. }), "{error:?}");
}

#[tokio::test]
async fn wrong_passwords_do_not_slow_a_token_of_the_same_person() {
    let world = world().await;
    let (_, token) = token(&world, "anna", None).await;
    for _ in 0..4 {
        sign_in(&world, basic("anna", "wrong horse")).await.unwrap_err();
    }
    sign_in(&world, basic("anna", &token)).await.unwrap();
}

#[tokio::test]
async fn many_requests_at_once_with_a_right_password_all_sign_in() {
    let world = world().await;
    let requests = (0..50).map(|_| sign_in(&world, basic("anna", PASSWORD)));
    for answer in futures::future::join_all(requests).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn no_secret_shows_in_debug_output() {
    let shown = format!(
        "{:?} {:?}",
        basic("anna", PASSWORD),
        Credentials::Bearer(Secret::new(PASSWORD))
    );
    assert!(!shown.contains(PASSWORD), "{shown}");
}
