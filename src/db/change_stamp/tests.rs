use std::collections::HashSet;

use tempfile::TempDir;

use super::super::{By, Clock, Db, NewUser};
use super::*;

/// A database with one commit in its log, opened twice as two processes would.
async fn two() -> (TempDir, Db, Db) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    let one = Db::open(&path, Clock::system()).await.unwrap();
    let other = Db::open(&path, Clock::system()).await.unwrap();
    (folder, one, other)
}

async fn add(db: &Db, name: &str) {
    let new = NewUser {
        name: name.parse().unwrap(),
        password_hash: "none".into(),
        is_site_admin: false,
    };
    db.insert_user(new, By::Command).await.unwrap();
}

/// Through a connection of its own, which is closed again.
async fn run(folder: &TempDir, sql: &'static str) {
    let mut conn = open::write_options(&folder.path().join("auxin.db"))
        .connect()
        .await
        .unwrap();
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

fn headers(change: impl Fn(&mut [u8])) -> [u8; 96] {
    let mut header = [7; HEADER_BYTES];
    header[..4].copy_from_slice(&HEADER_VERSION.to_ne_bytes());
    header[IS_INIT_AT] = 1;
    change(&mut header);
    let mut both = [0; 96];
    both[..48].copy_from_slice(&header);
    both[48..].copy_from_slice(&header);
    both
}

#[test]
fn only_a_finished_header_of_a_log_with_salts_gives_a_stamp() {
    assert!(ChangeStamp::from_headers(&headers(|_| {})).is_some());
    for at in 0..96 {
        let mut half_written = headers(|_| {});
        half_written[at] ^= 1;
        assert_eq!(ChangeStamp::from_headers(&half_written), None, "byte {at}");
    }
    let empty_log = headers(|header| header[SALTS].fill(0));
    assert_eq!(ChangeStamp::from_headers(&empty_log), None);
    let other_version = headers(|header| header[0] ^= 1);
    assert_eq!(ChangeStamp::from_headers(&other_version), None);
    let not_filled_in = headers(|header| header[IS_INIT_AT] = 0);
    assert_eq!(ChangeStamp::from_headers(&not_filled_in), None);
}

#[tokio::test]
async fn a_stamp_stays_while_nobody_writes_and_is_the_same_for_all() {
    let (_folder, one, other) = two().await;
    let stamp = one.change_stamp().await.unwrap();
    for _ in 0..20 {
        one.has_users().await.unwrap();
        other.has_users().await.unwrap();
        other.check().await.unwrap(); // an empty transaction
        assert_eq!(one.change_stamp().await, Some(stamp));
        assert_eq!(other.change_stamp().await, Some(stamp));
    }
}

#[tokio::test]
async fn every_commit_of_anybody_gives_a_stamp_that_was_never_there_before() {
    let (folder, one, other) = two().await;
    let mut seen = HashSet::new();
    for n in 0..60 {
        add(if n % 2 == 0 { &one } else { &other }, &format!("user-{n}")).await;
        let stamp = one.change_stamp().await.unwrap();
        assert!(seen.insert(stamp), "commit {n}: {stamp:?}");
        assert_eq!(other.change_stamp().await, Some(stamp));
        // The log is emptied, cut and begun anew in between, as SQLite does it now and then.
        match n % 9 {
            2 => run(&folder, "PRAGMA wal_checkpoint(PASSIVE)").await,
            5 => run(&folder, "PRAGMA wal_checkpoint(RESTART)").await,
            8 => run(&folder, "PRAGMA wal_checkpoint(TRUNCATE)").await,
            _ => continue,
        }
        // What these leave behind may be a new stamp or an old one, but nothing was changed since.
        if let Some(now) = one.change_stamp().await {
            assert!(now == stamp || seen.insert(now), "after {n}: {now:?}");
        }
    }
    run(&folder, "VACUUM").await;
    assert!(seen.insert(one.change_stamp().await.unwrap()));
}

#[tokio::test]
async fn what_another_process_commits_changes_the_stamp() {
    let (folder, one, _other) = two().await;
    let before = one.change_stamp().await.unwrap();
    let program = "import sqlite3, sys\n\
                   db = sqlite3.connect(sys.argv[1])\n\
                   db.execute(\"INSERT INTO meta (key, value) VALUES ('song', 'x')\")\n\
                   db.commit()\n\
                   db.close()";
    let done = tokio::process::Command::new("python3")
        .args(["-c", program])
        .arg(folder.path().join("auxin.db"))
        .status()
        .await
        .unwrap();
    assert!(done.success());
    let after = one.change_stamp().await.unwrap();
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_log_that_is_empty_after_a_restart_soon_gives_stamps_again() {
    let (folder, one, other) = two().await;
    one.close().await;
    other.close().await;
    assert!(!folder.path().join("auxin.db-wal").exists());

    let again = Db::open(&folder.path().join("auxin.db"), Clock::system())
        .await
        .unwrap();
    assert_eq!(again.change_stamp().await, None);
    again.check().await.unwrap(); // behind what was queued

    assert!(again.change_stamp().await.is_some());
}

#[tokio::test]
async fn there_is_no_stamp_after_close_or_once_the_file_is_gone() {
    let (folder, one, other) = two().await;
    assert!(one.change_stamp().await.is_some());
    assert!(other.change_stamp().await.is_some());
    one.close().await;
    assert_eq!(one.change_stamp().await, None);

    let file = folder.path().join("auxin.db-shm");
    let aside = folder.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    assert_eq!(other.change_stamp().await, None);
    std::fs::copy(&aside, &file).unwrap();
    assert_eq!(other.change_stamp().await, None, "a copy of the same content");
    std::fs::rename(&aside, &file).unwrap();
    assert!(other.change_stamp().await.is_some());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn watching_takes_no_lock_of_sqlite_away() {
    use std::os::unix::fs::MetadataExt;
    let (folder, one, other) = two().await;
    let file = folder.path().join("auxin.db-shm");
    let inode = std::fs::metadata(&file).unwrap().ino();
    let is_locked = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.contains(&format!(":{inode} 128 128"))
    };
    for db in [&one, &other] {
        assert!(db.change_stamp().await.is_some());
    }
    assert!(is_locked());
    one.close().await;
    drop(one);
    assert!(is_locked());
    // The negative control: this is what a handle that is closed would do.
    drop(File::open(&file).unwrap());
    assert!(!is_locked());
    drop(other);
}
