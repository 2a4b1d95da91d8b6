//! Upgrades and grouping; what can be seen from outside is tested in `tests/db`.

use std::path::{Path, PathBuf};

use sqlx::Row;
use sqlx::migrate::Migration;

use super::*;

fn migrations_up_to(version: i64) -> Vec<Migration> {
    let mut all = open::migrations();
    let first_made_up = all.len() as i64 + 1;
    for made_up in first_made_up..=version {
        let text: &'static str = match made_up - first_made_up {
            0 => "CREATE TABLE songs (id INTEGER PRIMARY KEY) STRICT;",
            1 => "ALTER TABLE songs ADD COLUMN tempo INTEGER;",
            2 => "CREATE INDEX songs_by_tempo ON songs (tempo);",
            3 => "CREATE TABLE takes (id INTEGER PRIMARY KEY) STRICT;",
            _ => "CREATE TABLE songs (broken",
        };
        all.push(open::migration(made_up, "made up", text));
    }
    all
}

fn current() -> i64 {
    open::migrations().len() as i64
}

async fn open_at(path: &Path, version: i64) -> Result<Db, DbError> {
    let (clock, _) = Clock::manual(version * US_PER_SEC);
    Db::open_with(path, clock, migrations_up_to(version), &|| false).await
}

fn copies(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".before-"))
        .collect();
    found.sort();
    found
}

fn anna() -> NewUser {
    NewUser {
        name: "anna".parse().unwrap(),
        password_hash: "$argon2id$".into(),
        is_site_admin: false,
    }
}

#[tokio::test]
async fn a_new_database_is_made_without_a_copy_and_opened_again_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");

    let db = Db::open(&path, Clock::system()).await.unwrap();
    let id = db.instance_id().to_owned();
    db.close().await;
    let again = Db::open(&path, Clock::system()).await.unwrap();

    assert_eq!(again.instance_id(), id);
    assert!(copies(folder.path()).is_empty());
}

#[tokio::test]
async fn a_database_that_an_older_program_is_using_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    let open_beside = async |version: i64, is_in_use: bool| {
        Db::open_with(&path, Clock::system(), migrations_up_to(version), &|| is_in_use).await
    };
    open_beside(current(), true).await.unwrap().close().await;

    let refused = open_beside(current() + 1, true).await;

    let Err(DbError::Older { .. }) = refused else {
        panic!("it was changed");
    };
    assert!(copies(folder.path()).is_empty());
    // The older program still takes it for its own.
    open_beside(current(), true).await.unwrap().close().await;
    open_beside(current() + 1, false).await.unwrap().close().await;
    assert!(matches!(
        open_beside(current(), false).await,
        Err(DbError::Newer { .. })
    ));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_servers_user_can_read_the_database_and_its_copies() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");

    open_at(&path, current()).await.unwrap().close().await;
    open_at(&path, current() + 1).await.unwrap().close().await;

    for file in [path, copies(folder.path()).remove(0)] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn an_upgrade_copies_the_database_as_it_was_and_keeps_the_last_three_copies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    let db = open_at(&path, current()).await.unwrap();
    db.insert_user(anna(), By::Command).await.unwrap();
    db.close().await;

    for version in current() + 1..=current() + 4 {
        open_at(&path, version).await.unwrap().close().await;
    }

    let copies = copies(folder.path());
    assert_eq!(copies.len(), COPIES_KEPT);
    let name = copies[0].file_name().unwrap().to_str().unwrap().to_owned();
    let expected = format!("auxin.db.before-{:04}-", current() + 2);
    assert!(name.starts_with(&expected), "{name}");
    // the copy is a whole database of the version before
    let db = open_at(&copies[0], current() + 1).await.unwrap();
    assert!(db.has_users().await.unwrap());
    assert_eq!(copies.len(), COPIES_KEPT);
}

#[tokio::test]
async fn a_newer_database_stops_the_program_with_a_sentence_and_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    open_at(&path, current() + 1).await.unwrap().close().await;

    let error = Db::open(&path, Clock::system()).await.unwrap_err();

    assert!(matches!(error, DbError::Newer { .. }), "{error:?}");
    assert!(error.to_string().contains("start the newer program"), "{error}");
    open_at(&path, current() + 1).await.unwrap();
    assert!(copies(folder.path()).is_empty());
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_the_database_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    let db = open_at(&path, current()).await.unwrap();
    db.insert_user(anna(), By::Command).await.unwrap();
    db.close().await;

    let mut broken = migrations_up_to(current());
    broken.push(open::migration(current() + 1, "broken", "CREATE TABLE songs (broken"));
    let error = Db::open_with(&path, Clock::system(), broken, &|| false)
        .await
        .unwrap_err();

    assert!(matches!(error, DbError::Upgrade { .. }), "{error:?}");
    assert!(open_at(&path, current()).await.unwrap().has_users().await.unwrap());
}

#[tokio::test]
async fn two_that_open_a_new_database_at_once_both_succeed() {
    // The moment in which SQLite would not wait is short.
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auxin.db");

        let (one, two) = tokio::join!(Db::open(&path, Clock::system()), Db::open(&path, Clock::system()));

        assert_eq!(one.unwrap().instance_id(), two.unwrap().instance_id());
    }
}

#[tokio::test]
async fn writes_that_wait_together_share_a_commit_and_a_failing_one_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();
    // The first operation holds the writer until all others are in the queue.
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let first = {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(move |_| {
                Box::pin(async move {
                    let _ = held.await;
                    Ok(())
                })
            })
            .await
        })
    };
    tokio::task::yield_now().await;
    let before = db.commit_count();

    let others: Vec<_> = (0..40)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move {
                db.write(move |tx| {
                    Box::pin(async move {
                        sqlx::query("INSERT INTO meta (key, value) VALUES ($1, 'x')")
                            .bind(format!("key {n}"))
                            .execute(&mut *tx.conn)
                            .await?;
                        // every tenth fails after it has written
                        if n % 10 == 0 {
                            sqlx::query("INSERT INTO meta (key, value) VALUES ($1, NULL)")
                                .bind(format!("null {n}"))
                                .execute(&mut *tx.conn)
                                .await?;
                        }
                        Ok(())
                    })
                })
                .await
            })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
    let mut failed = 0;
    for other in others {
        failed += usize::from(other.await.unwrap().is_err());
    }

    assert_eq!(failed, 4);
    let commits = db.commit_count() - before;
    assert!(commits <= 2, "{commits} commits");
    let mut conn = db.read().await.unwrap();
    let row = sqlx::query("SELECT COUNT(*) FROM meta WHERE key LIKE 'key %'")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>(0), 36);
}

#[tokio::test]
async fn nothing_is_answered_before_its_commit_succeeded() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();

    // Deferred checking makes the operation succeed and the commit fail.
    let answer = db
        .write(|tx| {
            Box::pin(async move {
                sqlx::query("PRAGMA defer_foreign_keys = ON")
                    .execute(&mut *tx.conn)
                    .await?;
                sqlx::query(
                    "INSERT INTO members (repo_id, user_id, role, added_at_us)
                     VALUES (x'00', x'00', 'read', 0)",
                )
                .execute(&mut *tx.conn)
                .await?;
                Ok(())
            })
        })
        .await;

    assert!(answer.is_err());
    // and the writer goes on with a fresh connection
    db.insert_user(anna(), By::Command).await.unwrap();
    assert!(db.has_users().await.unwrap());
}

#[tokio::test]
async fn a_connection_for_reading_refuses_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();
    let mut conn = db.read().await.unwrap();
    assert!(sqlx::query("DELETE FROM meta").execute(&mut *conn).await.is_err());
}

#[tokio::test]
async fn every_commit_is_flushed_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();
    let (journal, level, keys) = db
        .write(|tx| {
            Box::pin(async move {
                let journal = sqlx::query("PRAGMA journal_mode").fetch_one(&mut *tx.conn).await?;
                let level = sqlx::query("PRAGMA synchronous").fetch_one(&mut *tx.conn).await?;
                let keys = sqlx::query("PRAGMA foreign_keys").fetch_one(&mut *tx.conn).await?;
                Ok((
                    journal.try_get::<String, _>(0)?,
                    level.try_get::<i64, _>(0)?,
                    keys.try_get::<i64, _>(0)?,
                ))
            })
        })
        .await
        .unwrap();
    assert_eq!((journal.as_str(), level, keys), ("wal", 2, 1));
}

#[tokio::test]
async fn after_close_operations_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();
    db.check().await.unwrap();
    db.close().await;
    assert!(matches!(db.check().await, Err(DbError::Closed)));
    assert!(matches!(
        db.insert_user(anna(), By::Command).await,
        Err(DbError::Closed)
    ));
}
