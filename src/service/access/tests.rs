use super::*;
use crate::db::{By, UserRow};
use crate::ids::TokenId;
use crate::service::testing::{World, signed_in};
use crate::service::{Role, TokenGrant, Visibility};

async fn world() -> (World, UserRow, UserRow) {
    let world = World::new().await;
    let (anna, ben) = (world.user("anna").await, world.user("ben").await);
    for (name, visibility) in [
        ("public", Visibility::Public),
        ("internal", Visibility::Internal),
        ("private", Visibility::Private),
    ] {
        world.repo(&format!("anna/{name}"), visibility).await;
    }
    (world, anna, ben)
}

fn at(text: &str) -> RepoAddress {
    text.parse().unwrap()
}

fn with_token(user: &UserRow, scope: Scope, repo: Option<RepoId>) -> Caller {
    let Caller::User(mut signed) = signed_in(user) else {
        unreachable!("a person is signed in")
    };
    let id = TokenId::new();
    signed.token = Some(TokenGrant { id, scope, repo });
    Caller::User(signed)
}

/// The answer without what a client cannot see.
fn told(answer: Result<Opened, AccessError>) -> String {
    match answer {
        Ok(opened) => format!("200 {}", opened.address),
        Err(AccessError::SignInNeeded) => "401".into(),
        Err(AccessError::NotFound(sentence)) => format!("404 {sentence}"),
        Err(AccessError::Forbidden(sentence)) => format!("403 {sentence}"),
        Err(AccessError::Db(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_nameless_caller_reads_what_is_public_and_is_asked_to_sign_in_for_all_else() {
    let (world, ..) = world().await;
    let open = async |address: &str, right| told(world.access.open(&Caller::Anonymous, &at(address), right).await);
    assert_eq!(open("anna/public", Right::Read).await, "200 anna/public");
    for address in ["anna/internal", "anna/private", "anna/missing", "carl/missing"] {
        assert_eq!(open(address, Right::Read).await, "401", "{address}");
    }
    for address in ["anna/public", "anna/private", "anna/missing"] {
        assert_eq!(open(address, Right::Write).await, "401", "{address}");
    }
    let bad = "anna/..".parse::<RepoAddress>().unwrap_err();
    assert!(matches!(
        world.access.bad_address(&Caller::Anonymous, &bad),
        AccessError::SignInNeeded
    ));
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_private_repository_from_one_that_does_not_exist() {
    let (world, _, ben) = world().await;
    let ben = signed_in(&ben);
    for right in Right::ALL {
        let hidden = told(world.access.open(&ben, &at("anna/private"), right).await);
        let missing = told(world.access.open(&ben, &at("anna/missing"), right).await);
        assert!(hidden.starts_with("404 "), "{hidden}");
        assert_eq!(hidden.replace("private", "missing"), missing);
    }
    let hidden = world.access.open_for_push(&ben, &at("anna/private")).await.unwrap_err();
    let missing = world.access.open_for_push(&ben, &at("anna/missing")).await.unwrap_err();
    let nobody = world.access.open_for_push(&ben, &at("carl/missing")).await.unwrap_err();
    assert_eq!(hidden.to_string().replace("private", "missing"), missing.to_string());
    assert_eq!(nobody.to_string().replace("carl", "anna"), missing.to_string());
    assert_eq!(
        missing.to_string(),
        "There is no repository anna/missing here that you can see. Pushing creates repositories \
         only in your own space: git push http://git.example.org/ben/missing.git main. Or ask anna \
         and the administrator of this server for the repository and the right to push (auxin repo create anna/missing)."
    );
}

#[tokio::test]
async fn a_reader_who_pushes_is_told_whom_to_ask() {
    let (world, _, ben) = world().await;
    let answer = told(
        world
            .access
            .open(&signed_in(&ben), &at("anna/internal"), Right::Write)
            .await,
    );
    assert_eq!(
        answer,
        "403 You may read anna/internal but not push to it. If anna agrees, ask the administrator of this server to run: \
         auxin member add anna/internal ben write"
    );
}

#[tokio::test]
async fn a_member_gets_what_the_role_allows_with_the_next_request() {
    let (world, _, ben) = world().await;
    let ben = signed_in(&ben);
    let open = async |right| told(world.access.open(&ben, &at("anna/private"), right).await);
    assert!(open(Right::Read).await.starts_with("404"));
    world.member("anna/private", "ben", Role::Read).await;
    assert_eq!(open(Right::Read).await, "200 anna/private");
    assert!(open(Right::Write).await.starts_with("403"));
    world.member("anna/private", "ben", Role::Write).await;
    assert_eq!(open(Right::Write).await, "200 anna/private");
    assert!(open(Right::Admin).await.starts_with("403"));
    world.member("anna/private", "ben", Role::Admin).await;
    assert_eq!(open(Right::Admin).await, "200 anna/private");
    assert!(open(Right::Own).await.starts_with("403"));
}

#[tokio::test]
async fn an_opened_repository_carries_its_folder_role_and_rules() {
    let (world, anna, _) = world().await;
    let rule = ProtectedBranch {
        pattern: "main".into(),
        no_force: true,
        no_delete: true,
    };
    let protection = crate::service::Protection::new(world.db.clone());
    protection
        .set(&at("anna/private"), rule.clone(), By::Command)
        .await
        .unwrap();

    let opened = world
        .access
        .open(&signed_in(&anna), &at("ANNA/Private"), Right::Write)
        .await
        .unwrap();

    assert_eq!(opened.path, world.folder.path().join("repos/anna/private.git"));
    assert_eq!(opened.role, Some(Role::Owner));
    assert_eq!(opened.protected, [rule]);
    assert_eq!(opened.renamed_from, None);
}

#[tokio::test]
async fn an_archived_repository_is_read_but_not_pushed_to_even_by_its_owner() {
    let (world, anna, _) = world().await;
    let anna = signed_in(&anna);
    let id = world
        .access
        .open(&anna, &at("anna/private"), Right::Read)
        .await
        .unwrap()
        .id;
    world.db.set_archived(id, true, By::Command).await.unwrap();

    assert!(
        world
            .access
            .open(&anna, &at("anna/private"), Right::Read)
            .await
            .unwrap()
            .archived
    );
    let answer = told(world.access.open(&anna, &at("anna/private"), Right::Write).await);
    assert_eq!(
        answer,
        "403 anna/private is archived: it can be read, but nobody can push to it. Push to another \
         repository, or ask anna and the administrator of this server to run: auxin repo unarchive anna/private"
    );
}

#[tokio::test]
async fn a_token_with_too_small_a_scope_is_told_which_one_to_create() {
    let (world, anna, _) = world().await;
    let caller = with_token(&anna, Scope::Read, None);
    assert_eq!(
        told(world.access.open(&caller, &at("anna/private"), Right::Read).await),
        "200 anna/private"
    );
    let existing = told(world.access.open(&caller, &at("anna/private"), Right::Write).await);
    let creating = world.access.open_for_push(&caller, &at("anna/new")).await.unwrap_err();
    assert_eq!(existing, format!("403 {creating}"));
    assert_eq!(
        creating.to_string(),
        "Your access token has the scope read, which does not allow pushing. Use your password, or \
         ask the administrator of this server for one that does: auxin token create anna --scope write"
    );
}

#[tokio::test]
async fn a_token_for_one_repository_shows_nothing_of_the_others() {
    let (world, anna, _) = world().await;
    let id = world
        .access
        .open(&signed_in(&anna), &at("anna/internal"), Right::Read)
        .await
        .unwrap()
        .id;
    let caller = with_token(&anna, Scope::Admin, Some(id));

    assert!(matches!(
        world.access.open_for_push(&caller, &at("anna/internal")).await,
        Ok(PushTarget::Existing(_))
    ));
    assert_eq!(
        told(world.access.open(&caller, &at("anna/public"), Right::Read).await),
        "200 anna/public"
    );
    let refused = told(world.access.open(&caller, &at("anna/public"), Right::Write).await);
    assert!(
        refused.starts_with("403") && refused.contains("--repo anna/public"),
        "{refused}"
    );
    let hidden = told(world.access.open(&caller, &at("anna/private"), Right::Read).await);
    let missing = told(world.access.open(&caller, &at("anna/missing"), Right::Read).await);
    assert_eq!(hidden.replace("private", "missing"), missing);
    let hidden = world
        .access
        .open_for_push(&caller, &at("anna/private"))
        .await
        .unwrap_err();
    let missing = world
        .access
        .open_for_push(&caller, &at("anna/missing"))
        .await
        .unwrap_err();
    assert_eq!(hidden.to_string().replace("private", "missing"), missing.to_string());
}

#[tokio::test]
async fn a_push_may_create_in_ones_own_space_only_and_only_if_the_setting_allows() {
    let (world, anna, ben) = world().await;
    let target = world
        .access
        .open_for_push(&signed_in(&ben), &at("Ben/song"))
        .await
        .unwrap();
    assert!(matches!(target, PushTarget::Creatable(address) if address == at("ben/song")));
    let nameless = world.access.open_for_push(&Caller::Anonymous, &at("ben/song")).await;
    assert!(matches!(nameless, Err(AccessError::SignInNeeded)));

    let off = RepoSettings {
        create_on_push: false,
        ..RepoSettings::default()
    };
    let access = Access::new(world.db.clone(), "repos".into(), "http://host", &off);
    let refused = access
        .open_for_push(&signed_in(&anna), &at("anna/song"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "There is no repository anna/song here, and pushing creates none on this server (setting \
         repo.create_on_push). Ask the administrator of this server to run: auxin repo create anna/song"
    );
    let refused = access
        .open_for_push(&signed_in(&ben), &at("anna/song"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("ask anna"), "{refused}");
    assert!(!refused.to_string().contains("git push"), "{refused}");
}

#[tokio::test]
async fn who_misses_a_repository_of_their_own_hears_how_to_make_it_and_not_to_ask_themselves() {
    let (world, anna, _) = world().await;
    let missing = told(
        world
            .access
            .open(&signed_in(&anna), &at("anna/missing"), Right::Read)
            .await,
    );
    assert!(missing.contains("make it with a push: git push http"), "{missing}");
    assert!(!missing.contains("ask anna"), "{missing}");

    let off = RepoSettings {
        create_on_push: false,
        ..RepoSettings::default()
    };
    let access = Access::new(world.db.clone(), "repos".into(), "http://host", &off);
    let missing = told(access.open(&signed_in(&anna), &at("anna/missing"), Right::Read).await);
    assert!(missing.contains("auxin repo create anna/missing"), "{missing}");
}

#[tokio::test]
async fn a_renamed_repository_answers_at_its_old_address_until_the_name_is_used_again() {
    let (world, anna, ben) = world().await;
    let (anna, ben) = (signed_in(&anna), signed_in(&ben));
    let id = world
        .access
        .open(&anna, &at("anna/private"), Right::Read)
        .await
        .unwrap()
        .id;
    world
        .db
        .rename_repo(id, "renamed".parse().unwrap(), By::Command)
        .await
        .unwrap();

    let opened = world
        .access
        .open(&anna, &at("Anna/Private"), Right::Write)
        .await
        .unwrap();
    assert_eq!((opened.id, opened.address.to_string()), (id, "anna/renamed".into()));
    assert_eq!(opened.renamed_from, Some(at("anna/private")));
    // a stranger learns nothing at the old address either
    let old = told(world.access.open(&ben, &at("anna/private"), Right::Read).await);
    let never = told(world.access.open(&ben, &at("anna/missing"), Right::Read).await);
    assert_eq!(old.replace("private", "missing"), never);

    let new = crate::db::NewRepo {
        id: RepoId::new(),
        owner_id: anna.signed_in().unwrap().id,
        name: "private".parse().unwrap(),
        dir: "anna/private~2.git".into(),
        visibility: Visibility::Private,
    };
    world.db.insert_repo(new, By::Command).await.unwrap();
    let opened = world
        .access
        .open(&anna, &at("anna/private"), Right::Read)
        .await
        .unwrap();
    assert_ne!(opened.id, id);
    assert_eq!(opened.renamed_from, None);
}

#[tokio::test]
async fn a_name_that_is_none_behaves_as_missing_and_says_what_is_wrong() {
    let (world, anna, _) = world().await;
    let bad = "anna/söng".parse::<RepoAddress>().unwrap_err();
    let AccessError::NotFound(sentence) = world.access.bad_address(&signed_in(&anna), &bad) else {
        panic!("not as missing");
    };
    assert!(sentence.contains("use letters a-z"), "{sentence}");
}

#[tokio::test]
async fn a_site_administrator_may_do_everything_but_push_into_an_archive() {
    let (world, ..) = world().await;
    let mut root = world.user("root").await;
    root.is_site_admin = true;
    let root = signed_in(&root);
    for right in Right::ALL {
        let opened = world.access.open(&root, &at("anna/private"), right).await.unwrap();
        assert_eq!(opened.role, Some(Role::Owner));
    }
}
