//! Clones without all of history, and how they get more of it.

use std::path::PathBuf;

use crate::support::repositories::{self, FIRST_COMMIT_SECS, Import};
use crate::support::wire::{self, V2};
use crate::support::{GitProgram, Person, Request, TestServer, WorkTree};

/// Twenty commits on `main`, a side branch off the tenth that is merged at the end.
fn server_with_a_song() -> (TestServer, Person, PathBuf) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let mut import = Import::default();
    let mut marks: Vec<usize> = Vec::new();
    for number in 0..20 {
        let text = format!("take {number}");
        let parents: Vec<usize> = marks.last().copied().into_iter().collect();
        let path = format!("takes/{number}.txt");
        marks.push(import.commit("refs/heads/main", &parents, &[(&path, text.as_bytes())]));
    }
    let side = import.commit("refs/heads/side", &[marks[9]], &[("side.txt", b"side")]);
    let merge = import.commit("refs/heads/main", &[marks[19], side], &[("mix.txt", b"mix")]);
    import.tag("mix-1", merge).reset("refs/tags/take-10", marks[9]);
    import.write_to(&bare);
    (server, anna, bare)
}

/// Runs `work` for every stock git and for protocol versions 0 and 2.
fn for_every_client(person: &Person, mut work: impl FnMut(&Person)) {
    for git in GitProgram::all() {
        for version in ["0", "2"] {
            let person = person.with_git(&git);
            person
                .git(&["config", "--global", "protocol.version", version])
                .assert_ok();
            work(&person);
        }
    }
}

fn count(copy: &WorkTree) -> usize {
    copy.ask(&["rev-list", "--count", "--branches", "--remotes"])
        .parse()
        .expect("a number")
}

/// What stock git counts with the same limits on the server's own disk.
fn boundary(copy: &WorkTree) -> Vec<String> {
    let path = copy.folder.join(".git/shallow");
    let mut lines: Vec<String> = std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// The same clone made from the disk with stock git alone.
fn by_stock_git(person: &Person, bare: &std::path::Path, options: &[&str]) -> WorkTree {
    let url = format!("file://{}", bare.display());
    let mut args = vec!["-c", "safe.directory=*", "clone", "--quiet"];
    args.extend_from_slice(options);
    args.extend_from_slice(&[&url, "reference"]);
    person.git(&args).assert_ok();
    person.project("reference")
}

#[test]
fn every_kind_of_shallow_clone_is_the_one_that_stock_git_would_give() {
    let (_server, anna, bare) = server_with_a_song();
    let since = format!("--shallow-since={}", FIRST_COMMIT_SECS + 3600 * 15);
    let shapes: [&[&str]; 6] = [
        &["--depth=1"],
        &["--depth=3", "--no-single-branch"],
        &["--depth=12"],
        &["--depth=100"],
        &[&since],
        &["--shallow-exclude=take-10"],
    ];
    for_every_client(&anna, |anna| {
        for (number, shape) in shapes.iter().enumerate() {
            let reference = by_stock_git(anna, &bare, shape);
            let copy = anna.clone_repo("anna/song", &format!("copy{number}"), shape);

            assert_eq!(boundary(&copy), boundary(&reference), "{shape:?}");
            assert_eq!(count(&copy), count(&reference), "{shape:?}");
            let objects = |tree: &WorkTree| repositories::objects(&tree.folder.join(".git"));
            assert_eq!(objects(&copy), objects(&reference), "{shape:?}");
            copy.assert_sound();
            std::fs::remove_dir_all(&reference.folder).expect("a folder");
        }
    });
}

#[test]
fn a_shallow_clone_is_deepened_step_by_step_and_made_whole() {
    let (_server, anna, bare) = server_with_a_song();
    let whole: usize = repositories::ask(&bare, &["rev-list", "--count", "--branches"])
        .parse()
        .expect("a number");
    for_every_client(&anna, |anna| {
        let copy = anna.clone_repo("anna/song", "copy", &["--depth=2", "--no-single-branch"]);
        let mut before = count(&copy);
        for step in ["--depth=5", "--deepen=4", "--depth=14", "--shallow-exclude=take-10"] {
            copy.git(&["fetch", step, "origin"]).assert_ok();
            copy.assert_sound();
            let now = count(&copy);
            assert!(now != before, "{step}: {before} then {now}");
            before = now;
        }

        copy.git(&["fetch", "--unshallow", "origin"]).assert_ok();

        assert_eq!(count(&copy), whole);
        assert!(boundary(&copy).is_empty());
        copy.assert_sound();
    });
}

#[test]
fn a_shallow_clone_fetches_new_commits_without_getting_old_ones() {
    let (_server, anna, bare) = server_with_a_song();
    for_every_client(&anna, |anna| {
        let copy = anna.clone_repo("anna/song", "copy", &["--depth=2"]);
        let before = count(&copy);
        let mut import = Import::default();
        import.text(
            "commit refs/heads/main\ncommitter Ada <a@example.org> 1800000000 +0000\ndata 3\nnew\n\
             from refs/heads/main^0\nM 100644 inline new.txt\ndata 3\nnew\n\n",
        );
        import.write_to(&bare);

        copy.git(&["fetch", "origin"]).assert_ok();

        assert_eq!(copy.id("origin/main"), repositories::id(&bare, "main"));
        assert_eq!(count(&copy), before + 1);
        copy.assert_sound();
    });
}

#[test]
fn a_shallow_clone_pushes_new_commits() {
    let (_server, anna, bare) = server_with_a_song();
    for_every_client(&anna, |anna| {
        let copy = anna.clone_repo("anna/song", "copy", &["--depth=1"]);
        copy.write("late.txt", anna.home().display().to_string()).commit("Late");

        copy.push("anna/song", &["main"]).assert_ok();

        assert_eq!(repositories::id(&bare, "main"), copy.id("main"));
        repositories::assert_sound(&bare);
    });
}

#[test]
fn a_shallow_clone_cannot_push_its_stump_into_a_repository_that_lacks_the_rest() {
    let (server, anna, _bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &["--depth=1"]);
    let other = server.repo("anna/other");

    let push = copy.push("anna/other", &["main"]);

    push.assert_failed().assert_said("shallow update not allowed");
    assert!(repositories::refs(&other).is_empty());
    assert!(!other.join("shallow").exists());
}

#[test]
fn a_boundary_in_the_future_is_refused_with_a_reason() {
    let (_server, anna, _bare) = server_with_a_song();
    for_every_client(&anna, |anna| {
        anna.try_clone("anna/song", "copy", &["--shallow-since=2100-01-01"])
            .assert_refused_with("no commits selected for shallow requests");
        drop(std::fs::remove_dir_all(anna.home().join("copy")));
        anna.try_clone("anna/song", "copy", &["--shallow-exclude=no-such-tag"])
            .assert_failed();
    });
}

#[test]
fn boundaries_that_the_server_does_not_know_are_ignored() {
    let (server, anna, bare) = server_with_a_song();
    let body = V2::fetch()
        .arg(format!("want {}", repositories::id(&bare, "main")))
        .arg("shallow 1234567890123456789012345678901234567890")
        .arg("deepen 3")
        .arg("done")
        .bytes();

    let answer = server.send(Request::upload_pack("anna/song", 2, body).by(&anna));

    let parsed = wire::parse_v2_fetch(&answer.body).expect("pkt-lines");
    assert!(parsed.pack.is_some(), "{answer:?}");
    assert!(!parsed.shallow.is_empty());
}
