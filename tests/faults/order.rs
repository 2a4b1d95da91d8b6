//! In which order files are synced and renamed, as the operating system saw it.

use std::path::Path;
use std::time::Duration;

use crate::support::repositories::{self, on_disk};
use crate::support::{TestServer, WorkTree, noise, process};

/// One thing that the server asked of the operating system.
#[derive(Debug)]
struct Call {
    name: String,
    line: String,
}

/// Runs `before` and then `push` on a server under strace; gives the calls of `push`.
fn trace_of(fault: &str, before: &dyn Fn(&TestServer, &WorkTree), push: &dyn Fn(&WorkTree)) -> Vec<Call> {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let path = trace.display().to_string();
    let mut server = TestServer::prepare()
        .env("AUXIN_FAULT", fault)
        .under(&[
            "strace",
            "-D",
            "-f",
            "-q",
            "-y",
            "-s",
            "4096",
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write,writev,sendto,sendmsg",
            "-o",
            &path,
        ])
        .start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    before(&server, &song);
    let begun = lines(&trace).len();

    push(&song);

    server.stop();
    process::wait_until("the trace is whole", Duration::from_secs(20), || {
        lines(&trace).last().is_some_and(|line| line.contains("+++ exited"))
    });
    calls(&lines(&trace)[begun..])
}

/// A new commit to an existing repository.
fn trace_of_a_push(fault: &str) -> Vec<Call> {
    trace_of(
        fault,
        &|_, song| {
            song.push("anna/song", &["main"]).assert_ok();
            song.write("take.wav", noise(3, 20_000)).commit("Second take");
        },
        &|song| {
            song.push("anna/song", &["main"]).assert_ok();
        },
    )
}

fn lines(trace: &Path) -> Vec<String> {
    let bytes = std::fs::read(trace).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// Calls in the order in which they ended; those that were interrupted are put together.
fn calls(lines: &[String]) -> Vec<Call> {
    let mut begun: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
    let mut found = Vec::new();
    for line in lines {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        let whole = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(pid, start.to_owned());
            continue;
        } else if let Some((_, end)) = rest.split_once("resumed>") {
            format!("{}{end}", begun.remove(pid).unwrap_or_default())
        } else {
            rest.to_owned()
        };
        if let Some((name, _)) = whole.split_once('(') {
            found.push(Call {
                name: name.to_owned(),
                line: whole.clone(),
            });
        }
    }
    found
}

impl Call {
    fn is_sync_of(&self, words: &[&str]) -> bool {
        ["fsync", "fdatasync"].contains(&self.name.as_str()) && words.iter().all(|word| self.line.contains(word))
    }

    fn is_rename_to(&self, end: &str) -> bool {
        (self.name.starts_with("rename") || self.name.starts_with("link"))
            && self
                .line
                .rsplit_once('"')
                .and_then(|(before, _)| before.rsplit_once('"'))
                .is_some_and(|(_, target)| target.ends_with(end))
    }
}

/// Pack, index, folder, row, ref, folder, row, answer: each on the disk before the next.
fn check_order(calls: &[Call]) -> Result<(), String> {
    let mut at = 0;
    let mut next = |what: &str, is: &dyn Fn(&Call) -> bool| -> Result<usize, String> {
        match calls[at..].iter().position(is) {
            Some(found) => {
                at += found + 1;
                Ok(at - 1)
            }
            None => Err(format!("{what} is missing after call {at}:\n{}", shown(calls))),
        }
    };
    let pack_sync = next("sync of the pack", &|call| call.is_sync_of(&["incoming", ".pack>"]))?;
    let pack = next("rename of the pack", &|call| call.is_rename_to(".pack"))?;
    let index = next("rename of the index", &|call| call.is_rename_to(".idx"))?;
    next("sync of the folder of packs", &|call| {
        call.is_sync_of(&["objects/pack>"])
    })?;
    next("sync of the push row", &|call| call.is_sync_of(&["auxin.db"]))?;
    next("sync of the new ref", &|call| call.is_sync_of(&["refs/heads/main"]))?;
    next("rename of the ref", &|call| call.is_rename_to("refs/heads/main"))?;
    next("sync of the folder of the ref", &|call| {
        call.is_sync_of(&["refs/heads>"])
    })?;
    next("sync of the closed row", &|call| call.is_sync_of(&["auxin.db"]))?;
    next("the answer", &|call| call.line.contains("unpack ok"))?;
    let index_sync = calls
        .iter()
        .position(|call| call.is_sync_of(&["incoming", ".idx>"]))
        .ok_or("sync of the index is missing")?;
    if index_sync > index || pack_sync > pack {
        return Err("a file got its name before its content was on the disk".into());
    }
    Ok(())
}

fn shown(calls: &[Call]) -> String {
    let lines: Vec<String> = calls
        .iter()
        .filter(|call| !call.name.starts_with("write") && !call.name.starts_with("send"))
        .map(|call| call.line.chars().take(200).collect())
        .collect();
    lines.join("\n")
}

#[test]
fn everything_is_on_the_disk_before_what_points_to_it_and_before_the_answer() {
    let calls = trace_of_a_push("");
    if let Err(error) = check_order(&calls) {
        panic!("{error}");
    }
}

#[test]
fn without_fsync_the_check_of_the_order_fails() {
    check_order(&trace_of_a_push("no-fsync")).expect_err("the check sees nothing");
}

type Is<'a> = &'a dyn Fn(&Call) -> bool;

/// The steps come one after the other; others may lie between.
fn check_steps(calls: &[Call], steps: &[(&str, Is<'_>)]) -> Result<(), String> {
    let mut at = 0;
    for (what, is) in steps {
        match calls[at..].iter().position(is) {
            Some(found) => at += found + 1,
            None => return Err(format!("{what} is missing after call {at}:\n{}", shown(calls))),
        }
    }
    Ok(())
}

fn row(call: &Call) -> bool {
    call.is_sync_of(&["auxin.db"])
}

fn answer(call: &Call) -> bool {
    call.line.contains("unpack ok")
}

/// An atomic push of several refs: all locks on the disk before the first ref moves.
fn check_atomic(fault: &str) -> Result<(), String> {
    let before = |_: &TestServer, song: &WorkTree| {
        song.push("anna/song", &["main"]).assert_ok();
        song.write("take.wav", noise(4, 20_000)).commit("Second take");
    };
    let calls = trace_of(fault, &before, &|song| {
        song.push("anna/song", &["--atomic", "main", "main:a", "main:b"])
            .assert_ok();
    });
    let renames = |end: &'static str| move |call: &Call| call.is_rename_to(end);
    for name in ["refs/heads/a", "refs/heads/b", "refs/heads/main"] {
        check_steps(
            &calls,
            &[
                ("the row", &row),
                ("sync of the ref", &|call| call.is_sync_of(&[&format!("{name}.lock")])),
                ("the first rename of a ref", &|call| {
                    call.is_rename_to("refs/heads/main")
                        || call.is_rename_to("refs/heads/a")
                        || call.is_rename_to("refs/heads/b")
                }),
                ("sync of the folder", &|call| call.is_sync_of(&["refs/heads>"])),
                ("the closed row", &row),
                ("the answer", &answer),
            ],
        )?;
        check_steps(
            &calls,
            &[("rename of the ref", &renames(name)), ("the answer", &answer)],
        )?;
    }
    Ok(())
}

/// A deletion of a packed ref: the new list on the disk before it takes the place of the old one.
fn check_deletion(fault: &str) -> Result<(), String> {
    let before = |server: &TestServer, song: &WorkTree| {
        song.push("anna/song", &["main", "main:old"]).assert_ok();
        on_disk(&server.folder_of("anna/song"), &["pack-refs", "--all"]).assert_ok();
    };
    let calls = trace_of(fault, &before, &|song| {
        song.push("anna/song", &[":old"]).assert_ok();
    });
    check_steps(&calls, &packed_steps())
}

/// Very many refs: one list, on the disk before it takes its place.
fn check_many(fault: &str) -> Result<(), String> {
    let before = |_: &TestServer, song: &WorkTree| {
        song.push("anna/song", &["main"]).assert_ok();
        let tip = song.id("main");
        let updates: String = (0..400)
            .map(|number| format!("create refs/heads/take/{number} {tip}\n"))
            .collect();
        song.git_with_input(&["update-ref", "--stdin"], updates.as_bytes())
            .assert_ok();
    };
    let calls = trace_of(fault, &before, &|song| {
        song.push("anna/song", &["--all"]).assert_ok();
    });
    check_steps(&calls, &packed_steps())
}

fn packed_steps() -> [(&'static str, Is<'static>); 6] {
    [
        ("the row", &row),
        ("sync of the new list", &|call| {
            call.is_sync_of(&["packed-refs.auxin-new"])
        }),
        ("rename of the list", &|call| call.is_rename_to("/packed-refs")),
        ("sync of the folder", &|call| call.is_sync_of(&[".git>"])),
        ("the closed row", &row),
        ("the answer", &answer),
    ]
}

/// A push that makes the repository and names another branch than usual: HEAD is on the disk, too.
fn check_head(fault: &str) -> Result<(), String> {
    let calls = trace_of(fault, &|_, _| {}, &|song| {
        song.push("anna/fresh", &["main:take"]).assert_ok();
    });
    check_steps(
        &calls,
        &[
            ("the row", &row),
            ("rename of the ref", &|call| call.is_rename_to("refs/heads/take")),
            ("sync of the new HEAD", &|call| call.is_sync_of(&["HEAD.auxin-new"])),
            ("rename of HEAD", &|call| call.is_rename_to("/HEAD")),
            ("sync of the folder", &|call| call.is_sync_of(&[".git>"])),
            ("the closed row", &row),
            ("the answer", &answer),
        ],
    )
}

/// A push that brings a shallow boundary: the boundary is on the disk before the ref that needs it.
fn check_shallow(fault: &str) -> Result<(), String> {
    let url = std::cell::OnceCell::new();
    let before = |server: &TestServer, song: &WorkTree| {
        song.write("Song.txt", "la la").commit("Second take");
        let origin = format!("file://{}", song.folder.display());
        song.git(&["clone", "--quiet", "--bare", "--depth", "1", &origin, "cut.git"])
            .assert_ok();
        let bare = server.repo("anna/song");
        on_disk(&bare, &["config", "receive.shallowUpdate", "true"]).assert_ok();
        assert!(repositories::refs(&bare).is_empty());
        url.set(server.repo_url("anna/song")).expect("set once");
    };
    let calls = trace_of(fault, &before, &|song| {
        let url = url.get().expect("set before");
        song.git(&["--git-dir", "cut.git", "push", "--quiet", url, "main"])
            .assert_ok();
    });
    check_steps(
        &calls,
        &[
            ("the row", &row),
            ("sync of the boundary", &|call| call.is_sync_of(&["shallow.auxin-new"])),
            ("rename of the boundary", &|call| call.is_rename_to("/shallow")),
            ("sync of the folder", &|call| call.is_sync_of(&[".git>"])),
            ("rename of the ref", &|call| call.is_rename_to("refs/heads/main")),
            ("the answer", &answer),
        ],
    )
}

/// What a check is called and what it does under a fault.
type Check = fn(&str) -> Result<(), String>;

const CHECKS: [(&str, Check); 5] = [
    ("atomic", check_atomic),
    ("deletion", check_deletion),
    ("very many refs", check_many),
    ("HEAD", check_head),
    ("shallow", check_shallow),
];

#[test]
fn every_kind_of_change_of_refs_is_on_the_disk_before_the_answer() {
    for (name, check) in CHECKS {
        check("").unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn without_fsync_the_check_of_every_kind_of_change_fails() {
    for (name, check) in CHECKS {
        assert!(check("no-fsync").is_err(), "{name}: the check sees nothing");
    }
}
