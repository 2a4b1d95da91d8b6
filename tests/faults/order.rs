//! In which order files are synced and renamed, as the operating system saw it.

use std::path::Path;
use std::time::Duration;

use crate::support::{TestServer, noise, process};

/// One thing that the server asked of the operating system.
#[derive(Debug)]
struct Call {
    name: String,
    line: String,
}

/// Pushes a new commit to an existing repository under strace; gives the calls of that push.
fn trace_of_a_push(fault: &str) -> Vec<Call> {
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
    song.push("anna/song", &["main"]).assert_ok();
    let before = lines(&trace).len();

    song.write("take.wav", noise(3, 20_000)).commit("Second take");
    song.push("anna/song", &["main"]).assert_ok();

    server.stop();
    process::wait_until("the trace is whole", Duration::from_secs(20), || {
        lines(&trace).last().is_some_and(|line| line.contains("+++ exited"))
    });
    calls(&lines(&trace)[before..])
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
