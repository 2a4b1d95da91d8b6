//! Rows of locks, with a clock that is moved by hand.

use auxin::db::{
    ActOnLock, BeginPush, By, LockAct, LockFilter, LockRow, LockRulesChange, NewLock, NewPush, Reach, ReleaseLock,
    RepoRow, TakeLock, UserRow,
};

use crate::Place;

fn new(repo: &RepoRow, holder: &UserRow, path: &str) -> NewLock {
    NewLock {
        repo: repo.id,
        path: path.into(),
        path_key: path.to_lowercase(),
        covers_key: path.to_lowercase(),
        lies_in: vec![path.to_lowercase()],
        branch: Some("refs/heads/main".into()),
        holder: holder.id,
        holder_name: holder.name.clone(),
        reason: None,
        machine: None,
        is_kept: false,
    }
}

async fn take(place: &Place, new: NewLock) -> LockRow {
    match place.db.take_lock(new, 100).await.unwrap() {
        TakeLock::Taken(lock) => lock,
        other => panic!("{other:?}"),
    }
}

async fn set(place: &Place, repo: &RepoRow, change: LockRulesChange) {
    let set = place.db.set_lock_rules(repo.id, change, By::Command).await.unwrap();
    assert!(set.is_some());
}

async fn paths(place: &Place, repo: &RepoRow) -> Vec<String> {
    let filter = LockFilter {
        limit: 100,
        ..LockFilter::default()
    };
    let locks = place.db.list_locks(repo.id, &filter).await.unwrap();
    locks.into_iter().map(|lock| lock.path).collect()
}

async fn place() -> (Place, UserRow, UserRow, RepoRow) {
    let place = Place::new().await;
    let (anna, ben) = (place.user("anna").await, place.user("ben").await);
    let song = place.repo("anna/song").await;
    (place, anna, ben, song)
}

fn push(repo: &RepoRow, user: &UserRow, locks_version: i64) -> NewPush {
    NewPush {
        repo: repo.id,
        user: user.id,
        pusher: user.name.clone(),
        token: None,
        address: "192.0.2.1".into(),
        atomic: false,
        options: Vec::new(),
        locks_version: Some(locks_version),
        releases: Vec::new(),
    }
}

#[tokio::test]
async fn a_lock_goes_when_its_time_is_over_and_the_next_one_gets_it() {
    let (place, anna, ben, song) = place().await;
    set(
        &place,
        &song,
        LockRulesChange {
            expire_after_secs: Some(60),
            ..LockRulesChange::default()
        },
    )
    .await;
    let lock = take(&place, new(&song, &anna, "a")).await;
    take(&place, new(&song, &anna, "b")).await;
    place.hands.advance_secs(59);
    let by = (anna.id, By::User(anna.name.clone()));
    let touched = place
        .db
        .act_on_lock(song.id, lock.id, by, Reach::Own, LockAct::Touch)
        .await;
    assert!(matches!(touched, Ok(ActOnLock::Done(_))), "{touched:?}");

    place.hands.advance_secs(1);

    assert_eq!(paths(&place, &song).await, ["a"]);
    take(&place, new(&song, &ben, "B")).await;
    let gone = place.db.take_lock(new(&song, &ben, "A"), 100).await.unwrap();
    assert!(matches!(gone, TakeLock::Held(held) if held.id == lock.id));
    // A push of the holder is as good as a heartbeat, and brings none back that is gone.
    place.hands.advance_secs(58);
    let version = place.db.push_locks(song.id, ben.id).await.unwrap().version;
    let begun = place
        .db
        .begin_push(push(&song, &anna, version), Vec::new())
        .await
        .unwrap();
    assert!(matches!(begun, BeginPush::Begun(_)));
    place.hands.advance_secs(59);
    assert_eq!(paths(&place, &song).await, ["a"]);
    place.hands.advance_secs(1);
    let version = place.db.push_locks(song.id, ben.id).await.unwrap().version;
    place
        .db
        .begin_push(push(&song, &anna, version), Vec::new())
        .await
        .unwrap();
    assert!(paths(&place, &song).await.is_empty());
}

#[tokio::test]
async fn a_stale_lock_is_released_and_stolen_by_any_writer_and_a_fresh_one_is_not() {
    let (place, anna, ben, song) = place().await;
    let lock = take(&place, new(&song, &anna, "a")).await;
    let by_ben = || By::User(ben.name.clone());
    let steal = || LockAct::Steal {
        by_name: ben.name.clone(),
        reason: Some("solo".into()),
        machine: None,
    };
    place.hands.advance_secs(12 * 3600 - 1);
    let act = place
        .db
        .act_on_lock(song.id, lock.id, (ben.id, by_ben()), Reach::Stale, steal())
        .await;
    assert!(matches!(act, Ok(ActOnLock::Foreign(_))), "{act:?}");
    let released = place
        .db
        .release_lock(song.id, lock.id, ben.id, Reach::Stale, by_ben())
        .await;
    assert!(matches!(released, Ok(ReleaseLock::Foreign(_))), "{released:?}");
    place.hands.advance_secs(1);

    let act = place
        .db
        .act_on_lock(song.id, lock.id, (ben.id, by_ben()), Reach::Stale, steal())
        .await
        .unwrap();

    let ActOnLock::Done(done) = act else { panic!("{act:?}") };
    assert_eq!((done.0.holder, done.1.holder), (anna.id, ben.id));
    assert_eq!(done.1.reason.as_deref(), Some("solo"));
    // Its former holder cannot release it by mistake.
    let released = place
        .db
        .release_lock(song.id, lock.id, anna.id, Reach::Own, By::Command)
        .await
        .unwrap();
    assert_eq!(released, ReleaseLock::Gone);
}

#[tokio::test]
async fn a_push_that_looked_before_a_lock_was_taken_is_not_begun() {
    let (place, anna, ben, song) = place().await;
    let before = place.db.push_locks(song.id, ben.id).await.unwrap();
    assert_eq!((before.version, before.locks.len()), (0, 0));
    take(&place, new(&song, &anna, "a")).await;

    let begun = place
        .db
        .begin_push(push(&song, &ben, before.version), Vec::new())
        .await
        .unwrap();
    assert_eq!(begun, BeginPush::LocksChanged);

    let now = place.db.push_locks(song.id, ben.id).await.unwrap();
    assert_eq!(now.locks.len(), 1);
    assert_eq!(place.db.push_locks(song.id, anna.id).await.unwrap().locks, []);
    let begun = place
        .db
        .begin_push(push(&song, &ben, now.version), Vec::new())
        .await
        .unwrap();
    assert!(matches!(begun, BeginPush::Begun(_)));
}

#[tokio::test]
async fn where_locks_are_per_branch_each_branch_has_its_own() {
    let (place, anna, ben, song) = place().await;
    set(
        &place,
        &song,
        LockRulesChange {
            per_branch: Some(true),
            ..LockRulesChange::default()
        },
    )
    .await;
    let on = |holder: &UserRow, branch: Option<&str>| NewLock {
        branch: branch.map(str::to_owned),
        ..new(&song, holder, "a")
    };
    let lock = take(&place, on(&anna, Some("refs/heads/main"))).await;
    assert_eq!(lock.branch.as_deref(), Some("refs/heads/main"));
    take(&place, on(&ben, Some("refs/heads/side"))).await;
    for branch in [Some("refs/heads/main"), None] {
        let held = place.db.take_lock(on(&ben, branch), 100).await.unwrap();
        assert!(matches!(held, TakeLock::Held(_)), "{branch:?} {held:?}");
    }
}
