//! The server is killed while many push, at moments nobody chose.

use std::sync::Mutex;
use std::sync::mpsc;

use crate::support::repositories;
use crate::support::{Person, TestServer, WorkTree, noise};

const PEOPLE: [&str; 3] = ["anna", "ben", "cleo"];

/// Pushes one commit after the other until the server is gone; notes what was acknowledged.
fn push_until_the_end(
    tree: &WorkTree,
    branch: &str,
    seed: u64,
    acknowledged: &Mutex<Vec<(String, String)>>,
    told: &mpsc::Sender<()>,
) {
    for number in 0.. {
        let take = noise(seed * 1000 + number, 30_000);
        tree.write("take.wav", take).commit("Take");
        let id = tree.id("HEAD");
        if !tree.push("band/song", &[&format!("HEAD:refs/heads/{branch}")]).ok() {
            return;
        }
        acknowledged.lock().expect("not poisoned").push((branch.to_owned(), id));
        // Nobody listens any more once the server was killed.
        told.send(()).ok();
    }
}

#[test]
fn every_acknowledged_push_is_there_after_the_server_was_killed_at_any_moment() {
    let mut server = TestServer::start();
    server.user("band");
    let bare = server.repo("band/song");
    let people: Vec<Person> = PEOPLE.iter().map(|name| server.user(name)).collect();
    for name in PEOPLE {
        server.auxin(&["member", "add", "band/song", name, "write"]).assert_ok();
    }
    let trees: Vec<WorkTree> = people.iter().map(|person| person.new_project("song")).collect();
    let acknowledged = Mutex::new(Vec::new());
    for (round, pushes_before_the_end) in [4, 7, 11, 5].into_iter().enumerate() {
        let (told, pushes) = mpsc::channel();
        std::thread::scope(|scope| {
            for (number, tree) in trees.iter().enumerate() {
                let (acknowledged, told) = (&acknowledged, told.clone());
                let seed = (round * 10 + number) as u64;
                scope.spawn(move || push_until_the_end(tree, PEOPLE[number], seed, acknowledged, &told));
            }
            drop(told);
            for _ in 0..pushes_before_the_end {
                pushes.recv().expect("people push");
            }
            server.kill();
        });
        repositories::assert_sound(&bare);

        server.start_again();

        check_nothing_is_lost(&bare, &acknowledged.lock().expect("not poisoned")).expect("all is there");
        assert!(server.quarantines("band/song").is_empty());
        repositories::assert_sound(&bare);
    }
    let copy = people[0].clone_repo("band/song", "copy", &[]);
    copy.assert_sound();

    // What the check would see if the last push of somebody had been lost.
    let (branch, id) = acknowledged
        .lock()
        .expect("not poisoned")
        .last()
        .cloned()
        .expect("somebody pushed");
    repositories::on_disk(
        &bare,
        &["update-ref", &format!("refs/heads/{branch}"), &format!("{id}~1")],
    )
    .assert_ok();
    check_nothing_is_lost(&bare, &acknowledged.lock().expect("not poisoned")).expect_err("the check sees nothing");
}

/// Every branch reaches what was acknowledged on it.
fn check_nothing_is_lost(bare: &std::path::Path, acknowledged: &[(String, String)]) -> Result<(), String> {
    for (branch, id) in acknowledged {
        let reached = repositories::on_disk(bare, &["merge-base", "--is-ancestor", id, branch]);
        if !reached.ok() {
            return Err(format!("{id} on {branch} was acknowledged and is gone: {reached:?}"));
        }
    }
    Ok(())
}

#[test]
fn an_account_that_was_acknowledged_is_there_after_a_kill() {
    let mut server = TestServer::start();
    let anna = server.user("anna");
    server.repo("anna/song");
    server.kill();

    server.start_again();

    anna.clone_repo("anna/song", "copy", &[]);
}
