//! Compare-and-swap and quarantine, each checked with the safeguard on and off.

use crate::support::repositories::{self, on_disk};
use crate::support::wire::{self, NO_OBJECT};
use crate::support::{Person, Request, TestServer, noise};

/// A pack without objects.
const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

fn server_with(fault: &str) -> (TestServer, Person) {
    let server = TestServer::prepare().env("AUXIN_FAULT", fault).start();
    let anna = server.user("anna");
    (server, anna)
}

/// A push that believes in an old id that is no longer true must not move the ref.
fn no_update_is_lost(fault: &str) -> Result<(), String> {
    let (server, anna) = server_with(fault);
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 5);
    let (seen, newer) = (repositories::id(&bare, "main~2"), repositories::id(&bare, "main"));
    let other = repositories::id(&bare, "main~1");
    let body = wire::push(
        &[wire::command(&seen, &other, "refs/heads/main")],
        "report-status",
        &[],
        EMPTY_PACK,
    );

    let answer = server.send(Request::receive_pack("anna/song", body).by(&anna));

    let now = repositories::id(&bare, "main");
    if now == newer {
        Ok(())
    } else {
        Err(format!("{newer} was lost: {answer:?}"))
    }
}

/// Many people move one ref at once: as many succeed as moves are seen, one after the other.
fn racing_pushes_are_put_in_line(fault: &str) -> Result<(), String> {
    let (server, anna) = server_with(fault);
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 2);
    let start = repositories::id(&bare, "main");
    on_disk(&bare, &["config", "core.logAllRefUpdates", "true"]).assert_ok();
    // Eight commits, each a different child of the same parent.
    let tips: Vec<String> = (0..8)
        .map(|number| {
            let message = format!("Take {number}");
            let tree = format!("{start}^{{tree}}");
            repositories::ask(&bare, &["commit-tree", "-p", &start, "-m", &message, &tree])
        })
        .collect();
    for (number, tip) in tips.iter().enumerate() {
        on_disk(&bare, &["update-ref", &format!("refs/tags/t{number}"), tip]).assert_ok();
    }
    let applied = std::thread::scope(|scope| {
        let pushes: Vec<_> = tips
            .iter()
            .map(|tip| {
                let body = wire::push(
                    &[wire::command(&start, tip, "refs/heads/main")],
                    "report-status",
                    &[],
                    EMPTY_PACK,
                );
                let (server, anna) = (&server, &anna);
                scope.spawn(move || server.send(Request::receive_pack("anna/song", body).by(anna)))
            })
            .collect();
        pushes
            .into_iter()
            .map(|push| push.join().expect("no panic"))
            .filter(|answer| answer.text().contains("ok refs/heads/main"))
            .count()
    });
    match applied {
        1 => Ok(()),
        count => Err(format!("{count} pushes replaced the same commit")),
    }
}

/// A push that is refused leaves no object and no folder.
fn a_refused_push_leaves_nothing(fault: &str) -> Result<(), String> {
    let (server, anna) = server_with(fault);
    let bare = server.repo("anna/song");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    on_disk(&bare, &["config", "receive.denyNonFastForwards", "true"]).assert_ok();
    let before = repositories::objects(&bare);
    song.git(&["checkout", "--quiet", "--orphan", "other"]).assert_ok();
    song.write("take.wav", noise(1, 50_000)).commit("Something else");

    song.push("anna/song", &["--force", "other:main"]).assert_failed();

    let after = repositories::objects(&bare);
    if after != before {
        return Err(format!("{} objects stayed", after.len() - before.len()));
    }
    match server.quarantines("anna/song").as_slice() {
        [] => Ok(()),
        left => Err(format!("folders stayed: {left:?}")),
    }
}

/// A push that breaks off in the middle of its pack leaves no object and no folder.
fn a_push_that_breaks_off_leaves_nothing(fault: &str) -> Result<(), String> {
    use std::io::Write;
    let (server, anna) = server_with(fault);
    let bare = server.repo("anna/song");
    let mut pack = crate::support::pack::Pack::default();
    for number in 0..40 {
        pack.object(crate::support::pack::BLOB, &noise(number, 50_000));
    }
    let pack = pack.finish();
    let command = wire::command(NO_OBJECT, &"1".repeat(40), "refs/heads/main");
    let body = wire::push(&[command], "report-status", &[], &pack);
    let mut stream = Request::new("POST", "/anna/song.git/git-receive-pack")
        .header("Content-Type", "application/x-git-receive-pack-request")
        .header("Content-Length", &body.len().to_string())
        .by(&anna)
        .open(server.url());
    stream
        .write_all(&body[..body.len() / 2])
        .map_err(|error| error.to_string())?;
    // The server has begun to keep it.
    crate::support::process::wait_until(
        "some of the pack is on the disk",
        std::time::Duration::from_secs(20),
        || bytes_in(&bare.join("objects")) > 100_000,
    );
    drop(stream);

    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while bytes_in(&bare.join("objects")) > 0 && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    match bytes_in(&bare.join("objects")) {
        0 => Ok(()),
        left => Err(format!("{left} bytes stayed")),
    }
}

fn bytes_in(folder: &std::path::Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(data) if data.is_dir() => sum += bytes_in(&entry.path()),
            Ok(data) => sum += data.len(),
            Err(_) => {}
        }
    }
    sum
}

#[test]
fn an_update_that_is_out_of_date_never_replaces_a_newer_one() {
    no_update_is_lost("").expect("compare-and-swap");
}

#[test]
fn without_compare_and_swap_the_check_finds_a_lost_update() {
    no_update_is_lost("no-cas").expect_err("the check sees nothing");
}

#[test]
fn of_pushes_that_race_for_one_ref_exactly_one_wins() {
    racing_pushes_are_put_in_line("").expect("compare-and-swap");
}

#[test]
fn without_compare_and_swap_the_check_finds_two_winners() {
    racing_pushes_are_put_in_line("no-cas").expect_err("the check sees nothing");
}

#[test]
fn a_push_that_is_refused_leaves_neither_objects_nor_folders() {
    a_refused_push_leaves_nothing("").expect("quarantine");
}

#[test]
fn without_quarantine_the_check_finds_what_a_refused_push_leaves() {
    a_refused_push_leaves_nothing("no-quarantine").expect_err("the check sees nothing");
}

#[test]
fn a_push_that_breaks_off_leaves_neither_objects_nor_folders() {
    a_push_that_breaks_off_leaves_nothing("").expect("quarantine");
}

#[test]
fn without_quarantine_the_check_finds_what_a_broken_push_leaves() {
    a_push_that_breaks_off_leaves_nothing("no-quarantine").expect_err("the check sees nothing");
}
