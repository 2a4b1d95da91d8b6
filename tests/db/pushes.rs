//! Push rows.

use auxin::db::{BeginPush, By, FinishPush, NewPush, PushState, RefChange, RepoRow, UserRow};
use auxin::ids::{GitId, PushId, RepoId};
use proptest::prelude::*;

use crate::Place;

fn id(n: u8) -> Option<GitId> {
    GitId::from_bytes(&[n; 20]).unwrap()
}

/// A change of one ref; 0 is absent.
fn change(name: &str, old: u8, new: u8) -> RefChange {
    RefChange {
        name: name.as_bytes().to_vec(),
        old: id(old),
        new: id(new),
    }
}

fn push(repo: &RepoRow, user: &UserRow) -> NewPush {
    NewPush {
        repo: repo.id,
        user: user.id,
        pusher: user.name.clone(),
        token: None,
        address: "192.0.2.1".into(),
        atomic: false,
        options: vec!["ci.skip".into()],
        locks_version: None,
        releases: Vec::new(),
    }
}

async fn place() -> (Place, UserRow, RepoRow) {
    let place = Place::new().await;
    let anna = place.user("anna").await;
    let song = place.repo("anna/song").await;
    (place, anna, song)
}

async fn begin(place: &Place, repo: &RepoRow, user: &UserRow, refs: Vec<RefChange>) -> PushId {
    match place.db.begin_push(push(repo, user), refs).await.unwrap() {
        BeginPush::Begun(id) => id,
        other => panic!("{other:?}"),
    }
}

async fn finish(place: &Place, push: PushId, applied: &[bool]) {
    let done = place.db.finish_push(push, applied.to_vec()).await.unwrap();
    assert_eq!(done, FinishPush::Done);
}

/// The refs that the rows say there are, as `name=byte`.
async fn known(place: &Place, repo: RepoId) -> Vec<String> {
    let refs = place.db.last_known_refs(repo).await.unwrap();
    refs.iter()
        .map(|known| {
            let name = String::from_utf8_lossy(&known.name);
            format!("{name}={}", known.id.as_bytes()[0])
        })
        .collect()
}

#[tokio::test]
async fn a_push_is_open_until_it_is_closed_and_keeps_all_it_was_given() {
    let (place, anna, song) = place().await;
    let refs = vec![change("refs/heads/main", 0, 1), change("refs/tags/v1", 2, 0)];

    let id = begin(&place, &song, &anna, refs.clone()).await;

    let open = place.db.open_pushes(None).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id, open[0].state), (id, PushState::Open));
    assert_eq!((open[0].pusher.as_deref(), open[0].user), (Some("anna"), Some(anna.id)));
    assert_eq!(open[0].options, ["ci.skip"]);
    let stored = place.db.push_refs(id, None, 10).await.unwrap();
    let stored: Vec<RefChange> = stored
        .into_iter()
        .map(|row| {
            assert_eq!(row.applied, None);
            RefChange {
                name: row.name,
                old: row.old,
                new: row.new,
            }
        })
        .collect();
    assert_eq!(stored, refs);

    place.hands.advance_secs(5);
    finish(&place, id, &[true, false]).await;
    let row = place.db.push_by_id(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.finished_at_us), (PushState::Done, Some(6_000_000)));
    assert!(place.db.open_pushes(Some(song.id)).await.unwrap().is_empty());
    let applied: Vec<_> = place.db.push_refs(id, None, 10).await.unwrap();
    assert_eq!(
        applied.iter().map(|row| row.applied).collect::<Vec<_>>(),
        [Some(true), Some(false)]
    );
}

#[tokio::test]
async fn closing_twice_wrongly_or_nothing_changes_nothing() {
    let (place, anna, song) = place().await;
    let id = begin(&place, &song, &anna, vec![change("refs/heads/main", 0, 1)]).await;
    let close = async |id, applied: &[bool]| place.db.finish_push(id, applied.to_vec()).await.unwrap();

    assert_eq!(close(id, &[true, true]).await, FinishPush::WrongCount { refs: 1 });
    assert_eq!(close(id, &[true]).await, FinishPush::Done);
    assert_eq!(close(id, &[false]).await, FinishPush::AlreadyDone);
    assert_eq!(close(PushId::new(), &[true]).await, FinishPush::Unknown);
    assert_eq!(known(&place, song.id).await, ["refs/heads/main=1"]);
}

#[tokio::test]
async fn a_push_into_an_archived_or_deleted_repository_does_not_begin() {
    let (place, anna, song) = place().await;
    place.db.set_archived(song.id, true, By::Command).await.unwrap();
    let refs = || vec![change("refs/heads/main", 0, 1)];
    let begun = place.db.begin_push(push(&song, &anna), refs()).await.unwrap();
    assert_eq!(begun, BeginPush::Archived);
    place.db.delete_repo(song.id, By::Command).await.unwrap();
    let begun = place.db.begin_push(push(&song, &anna), refs()).await.unwrap();
    assert_eq!(begun, BeginPush::RepoGone);
    assert!(place.db.list_pushes(song.id, None, 10).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn the_last_known_refs_are_what_applied_changes_left_in_whatever_order_rows_were_closed() {
    let (place, anna, song) = place().await;
    let first = begin(
        &place,
        &song,
        &anna,
        vec![change("refs/heads/a", 0, 1), change("refs/heads/b", 0, 1)],
    )
    .await;
    let second = begin(&place, &song, &anna, vec![change("refs/heads/a", 1, 2)]).await;
    let third = begin(&place, &song, &anna, vec![change("refs/heads/b", 1, 9)]).await;
    finish(&place, second, &[true]).await;
    finish(&place, third, &[false]).await;
    finish(&place, first, &[true, true]).await;
    assert_eq!(known(&place, song.id).await, ["refs/heads/a=2", "refs/heads/b=1"]);

    let deletion = begin(&place, &song, &anna, vec![change("refs/heads/a", 2, 0)]).await;
    finish(&place, deletion, &[true]).await;
    assert_eq!(known(&place, song.id).await, ["refs/heads/b=1"]);
}

#[tokio::test]
async fn ids_stay_askable_for_the_grace_time_after_their_ref_moved() {
    let (place, anna, song) = place().await;
    let ids = async |since_us| {
        let moved = place.db.moved_old_ids(song.id, since_us).await.unwrap();
        moved.iter().map(|moved| moved.old.as_bytes()[0]).collect::<Vec<_>>()
    };
    let begun = begin(&place, &song, &anna, vec![change("refs/heads/main", 0, 1)]).await;
    finish(&place, begun, &[true]).await;
    assert!(ids(0).await.is_empty(), "nothing was left by creating a ref");

    place.hands.advance_secs(10); // 11 s
    let begun = begin(
        &place,
        &song,
        &anna,
        vec![change("refs/heads/main", 1, 2), change("refs/heads/x", 7, 8)],
    )
    .await;
    assert_eq!(ids(11_000_000).await, [1, 7], "an open push may have moved them");
    place.hands.advance_secs(10); // 21 s
    finish(&place, begun, &[true, false]).await;
    assert_eq!(ids(21_000_000).await, [1], "time counts from the close");
    assert!(ids(21_000_001).await.is_empty());

    let begun = begin(&place, &song, &anna, vec![change("refs/heads/main", 2, 0)]).await;
    finish(&place, begun, &[true]).await;
    assert_eq!(ids(0).await, [2, 1], "newest first");
}

#[tokio::test]
async fn changes_on_disk_are_stored_once_whoever_notices_them() {
    let (place, anna, song) = place().await;
    let other = place.again().await;
    let changes = vec![change("refs/heads/main", 0, 1), change("refs/heads/b", 0, 1)];

    let (one, two) = tokio::join!(
        place.db.record_disk_changes(song.id, changes.clone()),
        other.record_disk_changes(song.id, changes.clone())
    );

    let stored: Vec<u64> = [one.unwrap(), two.unwrap()]
        .into_iter()
        .flatten()
        .map(|(_, count)| count)
        .collect();
    assert_eq!(stored, [2]);
    assert_eq!(known(&place, song.id).await, ["refs/heads/b=1", "refs/heads/main=1"]);
    let page = place.db.list_pushes(song.id, None, 10).await.unwrap();
    assert_eq!((page.rows.len(), page.rows[0].pusher.as_deref()), (1, None));
    assert_eq!(page.rows[0].state, PushState::Done);

    // a ref that an open push is moving is that push's to tell
    let begun = begin(&place, &song, &anna, vec![change("refs/heads/main", 1, 2)]).await;
    let seen = vec![change("refs/heads/main", 1, 2), change("refs/heads/b", 1, 3)];
    let stored = place.db.record_disk_changes(song.id, seen).await.unwrap();
    assert_eq!(stored.map(|(_, count)| count), Some(1));
    finish(&place, begun, &[true]).await;
    assert_eq!(known(&place, song.id).await, ["refs/heads/b=3", "refs/heads/main=2"]);
}

#[tokio::test]
async fn the_reflog_is_read_in_pages_newest_first() {
    let (place, anna, song) = place().await;
    let mut begun = Vec::new();
    for n in 1..=5 {
        let id = begin(&place, &song, &anna, vec![change("refs/heads/main", n - 1, n)]).await;
        finish(&place, id, &[true]).await;
        begun.insert(0, id);
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = place.db.list_pushes(song.id, before, 2).await.unwrap();
        seen.extend(page.rows.iter().map(|row| row.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, begun);
}

#[tokio::test]
async fn the_name_of_a_pusher_stays_when_the_account_goes() {
    let (place, _, song) = place().await;
    let ben = place.user("ben").await;
    let id = begin(&place, &song, &ben, vec![change("refs/heads/main", 0, 1)]).await;
    place.db.remove_user(ben.id, None, By::Command).await.unwrap();
    finish(&place, id, &[true]).await;
    let row = place.db.push_by_id(id).await.unwrap().unwrap();
    assert_eq!((row.user, row.pusher.as_deref()), (None, Some("ben")));
}

#[tokio::test]
async fn the_rows_of_a_deleted_repository_are_removed_in_steps() {
    let (place, anna, song) = place().await;
    for n in 1..=3 {
        let refs = (0..10).map(|r| change(&format!("refs/heads/{n}-{r}"), 0, n)).collect();
        let id = begin(&place, &song, &anna, refs).await;
        if n < 3 {
            finish(&place, id, &[true; 10]).await;
        }
    }
    assert_eq!(place.db.remove_pushes_of_deleted(song.id, 100).await.unwrap(), 0);
    place.db.delete_repo(song.id, By::Command).await.unwrap();
    assert_eq!(place.db.deleted_repos_with_pushes().await.unwrap(), [song.id]);
    assert!(place.db.open_pushes(None).await.unwrap().is_empty());

    let mut removed = Vec::new();
    loop {
        let count = place.db.remove_pushes_of_deleted(song.id, 12).await.unwrap();
        if count == 0 {
            break;
        }
        removed.push(count);
    }

    // 30 refs, 3 pushes, 20 known refs
    assert_eq!(removed, [12, 12, 6, 3, 12, 8]);
    assert!(place.db.deleted_repos_with_pushes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_push_of_100_000_refs_fits_into_one_row_and_is_closed_ref_by_ref() {
    let (place, anna, song) = place().await;
    const REFS: usize = 100_000;
    let refs = (0..REFS)
        .map(|n| RefChange {
            name: format!("refs/tags/take-{n:06}").into_bytes(),
            old: None,
            new: GitId::from_bytes(&[&[1; 16][..], &(n as u32).to_be_bytes()].concat()).unwrap(),
        })
        .collect();

    let id = begin(&place, &song, &anna, refs).await;
    let applied: Vec<bool> = (0..REFS).map(|n| n % 10 != 0).collect();
    finish(&place, id, &applied).await;

    assert_eq!(place.db.last_known_refs(song.id).await.unwrap().len(), REFS / 10 * 9);
    assert!(place.db.moved_old_ids(song.id, 0).await.unwrap().is_empty());
    let page = place.db.push_refs(id, Some(99_989), 100).await.unwrap();
    assert_eq!(page.len(), 10);
    assert_eq!(page[0].applied, Some(false));
    assert_eq!(page[9].name, b"refs/tags/take-099999");
    assert_eq!(page[9].applied, Some(true));
}

#[tokio::test]
async fn names_that_are_not_text_are_kept_byte_by_byte() {
    let (place, anna, song) = place().await;
    let name = b"refs/heads/\xff\xfe\x80".to_vec();
    let refs = vec![RefChange {
        name: name.clone(),
        old: None,
        new: GitId::from_bytes(&[5; 32]).unwrap(),
    }];
    let id = begin(&place, &song, &anna, refs).await;
    finish(&place, id, &[true]).await;
    let known = place.db.last_known_refs(song.id).await.unwrap();
    assert_eq!(known[0].name, name);
    assert_eq!(known[0].id.as_bytes().len(), 32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Pushes that begin one after the other and are closed in any order leave the refs as a plain
    /// map would, applied in the order of beginning.
    #[test]
    fn known_refs_follow_the_order_of_beginning(
        moves in proptest::collection::vec((0u8..3, 0u8..5, any::<bool>()), 1..12),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (place, anna, song) = place().await;
            let mut expected = std::collections::BTreeMap::new();
            let mut begun = Vec::new();
            for (name, new, applied) in moves {
                let name = format!("refs/heads/{name}");
                begun.push((begin(&place, &song, &anna, vec![change(&name, 9, new)]).await, applied));
                if applied {
                    expected.insert(name, new);
                }
            }
            let mut turn = seed;
            while !begun.is_empty() {
                turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (id, applied) = begun.remove((turn >> 33) as usize % begun.len());
                finish(&place, id, &[applied]).await;
            }
            let expected: Vec<String> = expected
                .into_iter()
                .filter(|(_, new)| *new != 0)
                .map(|(name, new)| format!("{name}={new}"))
                .collect();
            assert_eq!(known(&place, song.id).await, expected);
        });
    }
}
