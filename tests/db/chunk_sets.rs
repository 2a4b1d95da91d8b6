//! The chunk set of a repository at its largest.

use std::time::{Duration, Instant};

use auxin::db::{Hash, Holder};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::Place;

/// Chunks of the repository: about 300 GB of sound.
const STORED: i64 = 10_000_000;
/// Chunks that a client asks about: about 8 GB.
const ASKED: usize = 260_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: makes ten million rows; its command is in docs/benchmarks.md"]
async fn what_is_missing_of_very_many_chunks_is_told_in_two_seconds() {
    let place = Place::new().await;
    place.user("anna").await;
    let repo = place.repo("anna/song").await;
    let path = place.folder.path().join("auxin.db");
    let mut conn = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
        .await
        .expect("opened");
    sqlx::query(
        "INSERT INTO lfs_repo_chunks (repo_id, chunk, uses)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
         SELECT $1, randomblob(32) AS chunk, 1 FROM n ORDER BY chunk",
    )
    .bind(repo.id.as_bytes().as_slice())
    .bind(STORED)
    .execute(&mut conn)
    .await
    .expect("ten million rows");
    let every = STORED / (ASKED as i64 / 2);
    let rows = sqlx::query("SELECT chunk FROM lfs_repo_chunks WHERE abs(random()) % $1 = 0 LIMIT $2")
        .bind(every)
        .bind(ASKED as i64 / 2)
        .fetch_all(&mut conn)
        .await
        .expect("some of them");
    let stored = rows
        .iter()
        .map(|row| row.get::<Vec<u8>, _>(0).try_into().expect("32 bytes"));
    let mut asked: Vec<Hash> = stored.collect();
    let known = asked.len();
    asked.extend((known..ASKED).map(|number| {
        let mut hash = *lfs_protocol::ChunkId::of(&number.to_le_bytes()).as_bytes();
        hash[31] ^= 1;
        hash
    }));
    let holder = Holder {
        repo: repo.id,
        user: repo.owner_id,
        with: Vec::new(),
    };

    let begin = Instant::now();
    asked.sort_unstable();
    let missing = place.db.missing_chunks(&holder, &asked).await.expect("an answer");
    let took = begin.elapsed();

    println!("{ASKED} ids against {STORED} rows: {took:.2?}");
    assert_eq!(missing.len(), ASKED - known);
    assert!(took < Duration::from_secs(2), "{took:?}");
}
