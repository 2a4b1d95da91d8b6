//! The server stops at a named point, as if the power had failed, and is started again.

use std::path::Path;

use crate::support::repositories::{self, on_disk};
use crate::support::{Person, Request, TestServer, WorkTree};

/// One kind of push, on top of `main` and five branches that are there.
struct Kind {
    name: &'static str,
    what: &'static [&'static str],
    atomic: bool,
    new_branches: usize,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "one ref",
        what: &["main"],
        atomic: false,
        new_branches: 0,
    },
    Kind {
        name: "several refs",
        what: &["main", "a", "b", "c"],
        atomic: false,
        new_branches: 0,
    },
    Kind {
        name: "several refs at once",
        what: &["--atomic", "main", "a", "b", "c"],
        atomic: true,
        new_branches: 0,
    },
    Kind {
        name: "a deletion",
        what: &[":d", ":e"],
        atomic: false,
        new_branches: 0,
    },
    Kind {
        name: "all sorts at once",
        what: &["--atomic", "main", "a:fresh", ":e"],
        atomic: true,
        new_branches: 0,
    },
    Kind {
        name: "very many refs",
        what: &["--atomic", "refs/heads/*:refs/heads/*"],
        atomic: true,
        new_branches: 2000,
    },
];

struct Song {
    server: TestServer,
    tree: WorkTree,
    #[allow(dead_code, reason = "keeps the home folder")]
    anna: Person,
}

/// `main` and branches `a` to `e` are pushed and acknowledged; then each gets one commit more.
fn song(kind: &Kind) -> Song {
    let server = TestServer::start();
    let anna = server.user("anna");
    let tree = anna.new_project("song");
    tree.write("Song.txt", "la").commit("First take");
    for branch in ["a", "b", "c", "d", "e"] {
        tree.git(&["branch", branch]).assert_ok();
    }
    tree.push("anna/song", &["--all"]).assert_ok();
    tree.write("Song.txt", "la la").commit("Second take");
    for branch in ["a", "b", "c"] {
        tree.git(&["branch", "--force", branch, "main"]).assert_ok();
    }
    if kind.new_branches > 0 {
        let tip = tree.id("main");
        let updates: String = (0..kind.new_branches)
            .map(|number| format!("create refs/heads/take/{number} {tip}\n"))
            .collect();
        tree.git_with_input(&["update-ref", "--stdin"], updates.as_bytes())
            .assert_ok();
    }
    Song { server, tree, anna }
}

/// Name and id of every ref.
fn refs(bare: &Path) -> Vec<(String, String)> {
    repositories::refs(bare)
        .iter()
        .map(|line| {
            let (id, name) = line.split_once(' ').expect("id and name");
            (name.to_owned(), id.to_owned())
        })
        .collect()
}

/// What the refs would be if the push had been done.
fn refs_after(before: &[(String, String)], song: &WorkTree, kind: &Kind) -> Vec<(String, String)> {
    let mut after: std::collections::BTreeMap<String, String> = before.iter().cloned().collect();
    for word in kind.what.iter().filter(|word| !word.starts_with('-')) {
        let full = |name: &str| format!("refs/heads/{name}");
        match word.split_once(':') {
            Some(("", name)) => {
                after.remove(&full(name));
            }
            Some(("refs/heads/*", _)) => after.extend(refs(&song.folder.join(".git"))),
            Some((from, to)) => {
                after.insert(full(to), song.id(&full(from)));
            }
            None => {
                after.insert(full(word), song.id(&full(word)));
            }
        }
    }
    after.into_iter().collect()
}

/// Stops the server at `point` in a push of this kind and starts it again with the safeguards in
/// `switched_off`. `Ok(false)`: the point was not on its way; an error is a broken promise.
fn crash_at(point: &str, kind: &Kind, switched_off: &str) -> Result<bool, String> {
    let mut song = song(kind);
    let bare = song.server.folder_of("anna/song");
    song.server.stop();
    song.server.start_again_with("AUXIN_FAULT", point);
    let before = refs(&bare);
    let after = refs_after(&before, &song.tree, kind);

    let push = song.tree.push("anna/song", kind.what);

    if push.ok() && song.server.is_running() {
        assert_eq!(refs(&bare), after, "{point}, {}", kind.name);
        return Ok(false);
    }
    song.server.wait_for_end();
    let acknowledged = push.ok();
    // As it lies there, before anything tidies up.
    repositories::assert_sound(&bare);

    song.server.start_again_with("AUXIN_FAULT", switched_off);

    let now = refs(&bare);
    let told = format!("{point}, {}: {now:?}", kind.name);
    if acknowledged && now != after {
        return Err(format!("acknowledged and lost: {told}"));
    }
    if kind.atomic && now != before && now != after {
        return Err(format!("neither all nor none: {told}"));
    }
    for (name, id) in &now {
        let known = before.contains(&(name.clone(), id.clone())) || after.contains(&(name.clone(), id.clone()));
        if !known {
            return Err(format!("{name} is neither old nor new: {told}"));
        }
    }
    for (name, _) in &before {
        let may_go = !after.iter().any(|(kept, _)| kept == name);
        if !may_go && !now.iter().any(|(kept, _)| kept == name) {
            return Err(format!("{name} is gone: {told}"));
        }
    }
    repositories::assert_sound(&bare);
    check_tidy(&song.server, "anna/song")?;
    // Whoever lost the connection tries again.
    if now != after {
        song.tree.push("anna/song", kind.what).assert_ok();
    }
    assert_eq!(refs(&bare), after, "after a second try: {told}");
    repositories::assert_sound(&bare);
    on_disk(&bare, &["pack-refs", "--all"]).assert_ok();
    Ok(true)
}

/// Nothing of a push that a crash ended lies about: no quarantine, no lock.
fn check_tidy(server: &TestServer, address: &str) -> Result<(), String> {
    let left = server.quarantines(address);
    if !left.is_empty() {
        return Err(format!("quarantines stayed: {left:?}"));
    }
    let bare = server.folder_of(address);
    let names = std::fs::read_dir(&bare).expect("a repository").flatten();
    let locks: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // Those of maintenance are files that the system locks; they stay.
        .filter(|name| {
            name.ends_with(".lock") && !["auxin-maintenance.lock", "auxin-prune.lock"].contains(&name.as_str())
        })
        .collect();
    if locks.is_empty() {
        Ok(())
    } else {
        Err(format!("locks stayed: {locks:?}"))
    }
}

/// Stops the server at `point` while a push makes a repository whose HEAD is to name another branch
/// than usual.
fn crash_in_the_first_push(point: &str, switched_off: &str) -> Result<bool, String> {
    let mut server = TestServer::start();
    let anna = server.user("anna");
    let tree = anna.new_project("song");
    tree.write("Song.txt", "la").commit("First take");
    tree.git(&["branch", "take"]).assert_ok();
    server.stop();
    server.start_again_with("AUXIN_FAULT", point);

    let push = tree.push("anna/fresh", &["take"]);

    if push.ok() && server.is_running() {
        return Ok(false);
    }
    server.wait_for_end();
    server.start_again_with("AUXIN_FAULT", switched_off);
    let shown = server.auxin(&["repo", "show", "anna/fresh"]);
    if shown.ok() {
        let bare = server.folder_of("anna/fresh");
        repositories::assert_sound(&bare);
        check_tidy(&server, "anna/fresh")?;
        let head = std::fs::read_to_string(bare.join("HEAD")).expect("readable");
        if !refs(&bare).is_empty() && head != "ref: refs/heads/take\n" {
            return Err(format!("{point}: HEAD names nothing: {head}"));
        }
    } else if push.ok() {
        return Err(format!("{point}: acknowledged and gone"));
    }
    tree.push("anna/fresh", &["take"]).assert_ok();
    let bare = server.folder_of("anna/fresh");
    assert_eq!(
        std::fs::read_to_string(bare.join("HEAD")).expect("readable"),
        "ref: refs/heads/take\n"
    );
    repositories::assert_sound(&bare);
    Ok(true)
}

/// Stops the server at `point` while a push brings a shallow boundary.
fn crash_in_a_shallow_push(point: &str, switched_off: &str) -> Result<bool, String> {
    let mut server = TestServer::start();
    let anna = server.user("anna");
    let source = server.repo("anna/source");
    repositories::straight_history(&source, 5);
    let tree = anna.clone_repo("anna/source", "cut", &["--depth", "2"]);
    let bare = server.repo("anna/song");
    on_disk(&bare, &["config", "receive.shallowUpdate", "true"]).assert_ok();
    server.stop();
    server.start_again_with("AUXIN_FAULT", point);

    let push = tree.push("anna/song", &["main"]);

    if push.ok() && server.is_running() {
        return Ok(false);
    }
    server.wait_for_end();
    server.start_again_with("AUXIN_FAULT", switched_off);
    if push.ok() && refs(&bare).is_empty() {
        return Err(format!("{point}: acknowledged and lost"));
    }
    repositories::assert_sound(&bare);
    check_tidy(&server, "anna/song")?;
    tree.push("anna/song", &["main"]).assert_ok();
    repositories::assert_sound(&bare);
    assert_eq!(
        std::fs::read_to_string(bare.join("shallow"))
            .expect("there")
            .lines()
            .count(),
        1
    );
    Ok(true)
}

/// Stops the server after the refs of a push have moved whose locks go with it. The paths that are locked after the
/// next start, which has the safeguards in `switched_off`.
fn locks_after_a_crash(switched_off: &str) -> Vec<String> {
    let Song { mut server, tree, anna } = song(&KINDS[0]);
    let rest = |server: &TestServer, method: &str, path: &str, body: serde_json::Value| {
        let request = Request::json(method, &format!("/api/v1/repos/anna/song/{path}"), &body);
        let answer = server.send(request.by(&anna));
        assert!((200..300).contains(&answer.status), "{}", answer.status);
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON")
    };
    let rules = serde_json::json!({"release_after_push": true});
    rest(&server, "PATCH", "lock-rules", rules);
    for path in ["Song.txt", "other.txt"] {
        rest(&server, "POST", "locks", serde_json::json!({ "path": path }));
    }
    server.stop();
    server.start_again_with("AUXIN_FAULT", &format!("after-refs,{switched_off}"));
    tree.push("anna/song", &["main"]);
    server.wait_for_end();
    server.start_again_with("AUXIN_FAULT", switched_off);
    let list = server.send(Request::get("/api/v1/repos/anna/song/locks").by(&anna));
    let list: serde_json::Value = serde_json::from_slice(&list.body).expect("JSON");
    let locks = list["locks"].as_array().expect("locks").iter();
    locks
        .map(|lock| lock["path"].as_str().expect("a path").to_owned())
        .collect()
}

#[test]
fn locks_that_go_with_a_push_are_gone_after_a_crash_once_its_refs_have_moved() {
    assert_eq!(locks_after_a_crash(""), ["other.txt"]);
}

#[test]
fn without_the_row_the_check_finds_the_lock_of_a_push_that_crashed() {
    assert_eq!(locks_after_a_crash("no-release-row"), ["Song.txt", "other.txt"]);
}

/// Every kind of push is stopped at `point`; at least one of them gets there.
fn crash_everything_at(point: &str) {
    let mut reached = Vec::new();
    for kind in &KINDS {
        if crash_at(point, kind, "").unwrap_or_else(|broken| panic!("{broken}")) {
            reached.push(kind.name);
        }
    }
    if crash_in_the_first_push(point, "").unwrap_or_else(|broken| panic!("{broken}")) {
        reached.push("a push that makes the repository");
    }
    if crash_in_a_shallow_push(point, "").unwrap_or_else(|broken| panic!("{broken}")) {
        reached.push("a shallow push");
    }
    println!("{point} was reached by {reached:?}");
    assert!(!reached.is_empty(), "no push ever came to {point}");
}

macro_rules! points {
    ($($test:ident: $point:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            crash_everything_at($point);
        })*

        #[test]
        fn every_point_in_the_source_is_tested_here() {
            let known = [$($point),*];
            let mut missing = Vec::new();
            for name in points_in_source() {
                // Maintenance is stopped elsewhere.
                if !name.starts_with("maintenance-") && !known.contains(&name.as_str()) {
                    missing.push(name);
                }
            }
            assert!(missing.is_empty(), "no test stops the server at {missing:?}");
        }
    };
}

points! {
    stopped_after_the_commands_a_push_is_old_or_new: "after-commands",
    stopped_after_the_pack_is_written_a_push_is_old_or_new: "after-pack-written",
    stopped_after_the_index_is_written_a_push_is_old_or_new: "after-idx-written",
    stopped_after_the_pack_is_synced_a_push_is_old_or_new: "after-pack-fsync",
    stopped_after_the_pack_is_renamed_a_push_is_old_or_new: "after-pack-rename",
    stopped_after_the_index_is_renamed_a_push_is_old_or_new: "after-idx-rename",
    stopped_after_the_row_is_written_a_push_is_old_or_new: "after-push-row",
    stopped_before_the_first_ref_a_push_is_old_or_new: "before-ref-rename",
    stopped_after_the_first_ref_a_push_is_old_or_new: "after-first-ref",
    stopped_after_all_refs_a_push_is_old_or_new: "after-refs",
    stopped_before_the_report_a_push_is_old_or_new: "before-report",
    stopped_with_head_locked_a_push_is_old_or_new: "after-head-lock",
    stopped_with_the_shallow_boundary_locked_a_push_is_old_or_new: "after-shallow-lock",
}

#[test]
fn without_settling_the_check_finds_an_atomic_push_done_by_half() {
    let atomic = KINDS
        .iter()
        .find(|kind| kind.name == "several refs at once")
        .expect("there");
    let broken = crash_at("after-first-ref", atomic, "no-settle").expect_err("the check sees nothing");
    assert!(broken.contains("neither all nor none"), "{broken}");
}

#[test]
fn without_sweeping_the_check_finds_quarantines_and_locks() {
    let quarantine = crash_at("after-pack-written", &KINDS[0], "no-sweep").expect_err("the check sees nothing");
    assert!(quarantine.contains("quarantines"), "{quarantine}");
    let head = crash_in_the_first_push("after-head-lock", "no-sweep").expect_err("the check sees nothing");
    assert!(head.contains("HEAD.lock"), "{head}");
    let shallow = crash_in_a_shallow_push("after-shallow-lock", "no-sweep").expect_err("the check sees nothing");
    assert!(shallow.contains("shallow.lock"), "{shallow}");
}

/// The points that the source names.
pub fn points_in_source() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                for (_, rest) in text
                    .match_indices("fault::point(\"")
                    .map(|(at, word)| (at, &text[at + word.len()..]))
                {
                    found.extend(rest.split('"').next().map(str::to_owned));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
