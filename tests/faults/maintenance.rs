//! Maintenance is stopped at every step, and meets pushes that rely on what it would prune.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::crash::points_in_source;
use crate::support::repositories::{self, on_disk, on_disk_with_input};
use crate::support::server::auxin_command;
use crate::support::wire;
use crate::support::{Outcome, Person, Request, TestServer, process, run};

/// A pack without objects.
const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

/// Every point at which maintenance can be stopped.
const POINTS: [&str; 9] = [
    "maintenance-bitmap-written",
    "maintenance-index-removed",
    "maintenance-loose-ref-removed",
    "maintenance-loose-removed",
    "maintenance-multi-pack-index-written",
    "maintenance-pack-written",
    "maintenance-packs-moved",
    "maintenance-refs-packed",
    "maintenance-removed-first",
];

/// Runs `auxin repo maintain` beside the server, with faults.
pub fn maintain(server: &TestServer, fault: &str, grace_days: u32) -> Outcome {
    run(&mut maintain_command(server, fault, grace_days))
}

fn maintain_command(server: &TestServer, fault: &str, grace_days: u32) -> Command {
    let mut command = auxin_command(server.data(), &["repo", "maintain", "anna/song"]);
    command
        .env("AUXIN_FAULT", fault)
        .env("AUXIN_MAINTENANCE__GRACE_DAYS", grace_days.to_string())
        .env("AUXIN_MAINTENANCE__MIN_FREE_BYTES", "0");
    command
}

/// Whatever should not be there when nothing runs.
pub fn leftovers(bare: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![bare.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_permanent = ["auxin-maintenance.lock", "auxin-prune.lock"].contains(&name.as_str());
            let is_half = name.starts_with("pack-") && !name.ends_with(".idx") && !path.with_extension("idx").exists();
            // What begins so stock git leaves behind when it fails.
            let is_temporary = (name.contains("tmp") && !name.starts_with(".tmp-"))
                || name.starts_with("incoming-")
                || name.contains("new");
            if is_half || is_temporary || (name.ends_with(".lock") && !is_permanent) || name == "gc.pid" {
                found.push(path.clone());
            }
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

/// Runs maintenance, after which nothing may be left over.
pub fn maintain_tidily(server: &TestServer, bare: &Path) {
    maintain(server, "", 14).assert_ok();
    assert_eq!(leftovers(bare), Vec::<PathBuf>::new());
}

/// A repository with packs, loose objects, loose refs and unreachable objects, all of it due.
fn song(point: &str) -> (TestServer, PathBuf) {
    let server = TestServer::prepare().setting("maintenance.enabled", false).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 20);
    maintain(&server, "", 14).assert_ok();
    if point == "maintenance-bitmap-written" {
        // The clone pack stays, and only its bitmap is made anew.
        on_disk(&bare, &["update-ref", "refs/heads/older", "main~5"]).assert_ok();
        return (server, bare);
    }
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    for number in 0..4 {
        copy.write("more.txt", number.to_string()).commit("More");
        copy.push("anna/song", &["main"]).assert_ok();
    }
    for number in 0..5 {
        let text = format!("nobody names {number}");
        on_disk_with_input(&bare, &["hash-object", "-w", "--stdin"], text.as_bytes()).assert_ok();
    }
    let tip = repositories::id(&bare, "main");
    let updates: String = (0..80)
        .map(|number| format!("create refs/heads/take/{number} {tip}\n"))
        .collect();
    on_disk_with_input(&bare, &["update-ref", "--stdin"], updates.as_bytes()).assert_ok();
    (server, bare)
}

/// Stops maintenance at `fault`'s point; tells what is lost.
fn stop_at(fault: &str, point: &str) -> Result<(), String> {
    let (server, bare) = song(point);
    let (objects, refs) = (repositories::objects(&bare), repositories::refs(&bare));

    let stopped = maintain(&server, fault, 14);

    assert_eq!(stopped.code, None, "{point} was not reached: {stopped:?}");
    let here = repositories::objects(&bare);
    let lost = objects.iter().filter(|id| here.binary_search(id).is_err()).count();
    if lost > 0 {
        return Err(format!("{lost} objects are lost"));
    }
    assert_eq!(repositories::refs(&bare), refs);
    repositories::assert_sound(&bare);

    // Whoever comes next finds it as if nothing had been.
    let copy = server
        .person("anna", "anna sings in tune")
        .clone_repo("anna/song", "after", &[]);
    copy.write("again.txt", "again").commit("Again");
    copy.push("anna/song", &["main"]).assert_ok();
    maintain_tidily(&server, &bare);
    let here = repositories::objects(&bare);
    assert!(objects.iter().all(|id| here.binary_search(id).is_ok()));
    repositories::assert_sound(&bare);
    Ok(())
}

macro_rules! points {
    ($($test:ident: $point:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            assert!(POINTS.contains(&$point));
            stop_at($point, $point).expect("nothing is lost");
        })*
    };
}

points! {
    stopped_after_a_bitmap_is_written_maintenance_loses_nothing: "maintenance-bitmap-written",
    stopped_after_an_index_is_removed_maintenance_loses_nothing: "maintenance-index-removed",
    stopped_after_a_loose_ref_is_removed_maintenance_loses_nothing: "maintenance-loose-ref-removed",
    stopped_after_a_loose_object_is_removed_maintenance_loses_nothing: "maintenance-loose-removed",
    stopped_after_the_multi_pack_index_is_written_maintenance_loses_nothing: "maintenance-multi-pack-index-written",
    stopped_after_a_pack_is_written_maintenance_loses_nothing: "maintenance-pack-written",
    stopped_after_packs_moved_in_maintenance_loses_nothing: "maintenance-packs-moved",
    stopped_after_refs_are_packed_maintenance_loses_nothing: "maintenance-refs-packed",
}

#[test]
fn if_old_packs_went_before_the_new_ones_the_check_would_find_the_loss() {
    let point = "maintenance-removed-first";
    stop_at(&format!("remove-first,{point}"), point).expect_err("the check sees nothing");
}

#[test]
fn every_point_of_maintenance_in_the_source_is_tested_here() {
    let in_source: Vec<String> = points_in_source()
        .into_iter()
        .filter(|name| name.starts_with("maintenance-"))
        .collect();

    assert_eq!(in_source, POINTS);
}

/// A push makes a ref for a commit that no ref reaches any more, and is held up between the check that all
/// of it is here and the ref. Meanwhile everything unreachable is pruned.
fn a_push_keeps_what_it_relies_on(fault: &str) -> Result<(), String> {
    let server = TestServer::prepare()
        .env("AUXIN_FAULT", fault)
        .setting("maintenance.enabled", false)
        .start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("gone.txt", "gone").commit("Gone");
    copy.push("anna/song", &["main:gone"]).assert_ok();
    let gone = copy.id("main");
    on_disk(&bare, &["update-ref", "-d", "refs/heads/gone"]).assert_ok();
    hold_up_pushes(&bare);
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();

    std::thread::scope(|scope| {
        let push = scope.spawn(|| push_known(&server, &anna, &gone));
        process::wait_until("the push is held up", Duration::from_secs(30), || {
            bare.join("is-held-up").exists()
        });
        // The server's records do not keep it either.
        let mut command = maintain_command(&server, fault, 0);
        run(command.env("AUXIN_GIT__WANT_GRACE_SECS", "0")).assert_ok();
        std::fs::write(bare.join("go-on"), "").expect("writes");
        push.join().expect("no panic");
    });

    if !repositories::refs(&bare).iter().any(|line| line.contains(&gone)) {
        return Err("the push was refused".to_owned());
    }
    let check = on_disk(&bare, &["fsck", "--strict", "--full", "--no-dangling"]);
    if check.ok() { Ok(()) } else { Err(check.err()) }
}

fn hold_up_pushes(bare: &Path) {
    let hook = bare.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    let folder = bare.display();
    let script = format!(
        "#!/bin/sh\ntouch '{folder}/is-held-up'\nfor n in $(seq 1 600); do [ -e '{folder}/go-on' ] && exit 0; sleep 0.05; done\nexit 1\n"
    );
    std::fs::write(&hook, script).expect("writes");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// Makes a ref for a commit that the server has already.
fn push_known(server: &TestServer, by: &Person, id: &str) {
    let command = wire::command(wire::NO_OBJECT, id, "refs/heads/back");
    let body = wire::push(&[command], "report-status", &[], EMPTY_PACK);
    server.send(Request::receive_pack("anna/song", body).by(by));
}

#[test]
fn what_a_push_relies_on_is_not_pruned_under_its_hands() {
    a_push_keeps_what_it_relies_on("").expect("the guard");
}

#[test]
fn without_the_guard_and_with_no_grace_time_the_check_finds_a_broken_ref() {
    a_push_keeps_what_it_relies_on("no-guard").expect_err("the check sees nothing");
}
