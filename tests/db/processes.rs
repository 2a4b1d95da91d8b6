//! Several processes on one file, as a command beside a running server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use auxin::db::{By, Clock, Db, InsertUser, RemoveUser};

use crate::insert_user;

/// Tells the test below that it is a child, and which file to write to.
const CHILD: &str = "AUXIN_TEST_DATABASE";

const CHILDREN: usize = 3;
const WRITERS: usize = 8;
const USERS_PER_WRITER: usize = 15;

async fn write_users(path: PathBuf, process: String) {
    let db = Db::open(&path, Clock::system()).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let (db, process) = (db.clone(), process.clone());
        async move {
            for n in 0..USERS_PER_WRITER {
                let name = format!("{process}-{writer}-{n}");
                assert!(matches!(insert_user(&db, &name).await, InsertUser::Done(_)));
                // read-then-write in one operation: what a deferred transaction would fail at
                let row = db.user_by_name(&name.parse().unwrap()).await.unwrap().unwrap();
                assert!(db.set_password(row.id, "$x$".into(), By::Command).await.unwrap());
            }
        }
    });
    futures::future::join_all(writers).await;
    db.close().await;
}

/// Does nothing by itself: the test below starts it as further processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    write_users(path.into(), format!("c{}", std::process::id())).await;
}

fn start_child(path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child_that_writes", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_write_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");

    // also the making of the file is a race
    let mut children: Vec<_> = (0..CHILDREN).map(|_| start_child(&path)).collect();
    write_users(path.clone(), "parent".into()).await;
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }

    let db = Db::open(&path, Clock::system()).await.unwrap();
    let users = db.list_users(None, 100_000).await.unwrap();
    assert_eq!(users.len(), (CHILDREN + 1) * WRITERS * USERS_PER_WRITER);
    assert!(users.iter().all(|user| user.auth_version == 2));
    assert_eq!(
        db.recent_audit(100_000).await.unwrap().len(),
        users.len() * 2,
        "every change is noted"
    );
}

#[tokio::test]
async fn a_change_by_another_process_is_seen_by_the_next_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    let server = Db::open(&path, Clock::system()).await.unwrap();
    let command = Db::open(&path, Clock::system()).await.unwrap();
    let InsertUser::Done(anna) = insert_user(&server, "anna").await else {
        panic!("not stored");
    };
    for is_disabled in [true, false, true] {
        command.set_disabled(anna.id, is_disabled, By::Command).await.unwrap();
        let row = server.user_by_id(anna.id).await.unwrap().unwrap();
        assert_eq!(row.is_disabled, is_disabled);
    }
    let removed = command.remove_user(anna.id, None, By::Command).await.unwrap();
    assert_eq!(removed, RemoveUser::Done { transferred: 0 });
    assert!(server.user_by_id(anna.id).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_survives_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auxin.db");
    let db = Db::open(&path, Clock::system()).await.unwrap();
    let mut child = start_child(&path);

    // Wait until the child has had answers, then kill it in the middle of its work.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let seen = loop {
        let users = db.list_users(None, 100_000).await.unwrap();
        if users.len() >= 10 || child.try_wait().unwrap().is_some() {
            break users;
        }
        assert!(std::time::Instant::now() < deadline, "the child wrote nothing");
        tokio::task::yield_now().await;
    };
    child.kill().unwrap();
    child.wait().unwrap();

    let after = db.list_users(None, 100_000).await.unwrap();
    assert!(seen.iter().all(|row| after.iter().any(|other| other.id == row.id)));
    db.check().await.unwrap();
    insert_user(&db, "anna").await;
}
