//! Repositories that are not like others.

use std::os::unix::ffi::OsStrExt;

use crate::support::repositories::{self, Import, on_disk, on_disk_with_input};
use crate::support::wire::{self, V2};
use crate::support::{GitProgram, Person, Request, TestServer, noise};

fn server() -> (TestServer, Person) {
    let server = TestServer::start();
    let anna = server.user("anna");
    (server, anna)
}

/// Clones as a mirror with every stock git and protocol version; each must equal the original.
fn assert_cloned_whole_by_everyone(server: &TestServer, anna: &Person, address: &str) {
    let bare = server.folder_of(address);
    for git in GitProgram::all() {
        for version in ["0", "1", "2"] {
            let anna = anna.with_git(&git);
            let url = anna.url(address);
            let config = format!("protocol.version={version}");
            anna.git(&["-c", &config, "clone", "--quiet", "--mirror", &url, "copy"])
                .assert_ok();
            let copy = anna.home().join("copy");
            assert_eq!(repositories::refs(&copy), repositories::refs(&bare));
            repositories::assert_sound(&copy);
        }
    }
}

#[test]
fn an_empty_repository_is_cloned_with_its_first_branch_and_filled() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    on_disk(&bare, &["symbolic-ref", "HEAD", "refs/heads/takes"]).assert_ok();
    for git in GitProgram::all() {
        for version in ["0", "2"] {
            let anna = anna.with_git(&git);
            let url = anna.url("anna/song");
            let config = format!("protocol.version={version}");
            anna.git(&["-c", &config, "clone", "--quiet", &url, "copy"]).assert_ok();
            if version == "2" {
                let copy = anna.project("copy");
                assert_eq!(copy.ask(&["symbolic-ref", "HEAD"]), "refs/heads/takes");
            }
        }
    }
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("Song.txt", "la").commit("First take");
    copy.git(&["push", "origin", "HEAD"]).assert_ok();
    assert_eq!(repositories::id(&bare, "refs/heads/takes"), copy.id("HEAD"));
}

#[test]
fn a_detached_head_is_cloned() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 5);
    on_disk(&bare, &["update-ref", "--no-deref", "HEAD", "main~2"]).assert_ok();

    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");
    let copy = anna.clone_repo("anna/song", "copy", &[]);

    assert_eq!(copy.id("HEAD"), repositories::id(&bare, "main~2"));
    copy.git(&["symbolic-ref", "--quiet", "HEAD"]).assert_failed();
}

#[test]
fn a_head_that_names_a_missing_branch_hides_nothing() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    on_disk(&bare, &["symbolic-ref", "HEAD", "refs/heads/gone"]).assert_ok();

    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");
}

#[test]
fn a_repository_with_nothing_but_tags_is_cloned() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    on_disk(&bare, &["tag", "-a", "-m", "Mix", "mix-1", "main"]).assert_ok();
    on_disk(&bare, &["tag", "rough", "main~1"]).assert_ok();
    on_disk(&bare, &["tag", "-a", "-m", "Of a tag", "mix-1-final", "mix-1"]).assert_ok();
    on_disk(&bare, &["update-ref", "-d", "refs/heads/main"]).assert_ok();

    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");
}

#[test]
fn refs_to_files_and_folders_are_cloned() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    let blob = on_disk_with_input(&bare, &["hash-object", "-w", "--stdin"], b"lonely")
        .assert_ok()
        .out();
    on_disk(&bare, &["update-ref", "refs/notes/blob", &blob]).assert_ok();
    on_disk(&bare, &["update-ref", "refs/notes/tree", "main^{tree}"]).assert_ok();
    on_disk(&bare, &["tag", "-a", "-m", "A file", "file", &blob]).assert_ok();

    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");
}

#[test]
fn a_hundred_thousand_refs_are_listed_fetched_and_pushed_one_at_a_time() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    let tip = repositories::id(&bare, "main");
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    packed.push_str(&format!("{tip} refs/heads/main\n"));
    for number in 0..100_000 {
        packed.push_str(&format!("{tip} refs/pull/{number:06}/head\n"));
    }
    std::fs::write(bare.join("packed-refs"), packed).expect("a file");
    drop(std::fs::remove_file(bare.join("refs/heads/main")));

    let listed = anna.git(&["ls-remote", &anna.url("anna/song")]).assert_ok().out();
    assert_eq!(listed.lines().count(), 100_002);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    let written = std::fs::metadata(bare.join("packed-refs")).expect("a file").modified();
    copy.write("more.txt", "more").commit("More");
    copy.push("anna/song", &["main"]).assert_ok();

    let now = std::fs::metadata(bare.join("packed-refs")).expect("a file").modified();
    assert_eq!(
        now.expect("a time"),
        written.expect("a time"),
        "all refs were rewritten"
    );
    assert_eq!(repositories::id(&bare, "refs/heads/main"), copy.id("main"));
    copy.push("anna/song", &[":refs/pull/000007/head"]).assert_ok();
    on_disk(&bare, &["rev-parse", "--verify", "refs/pull/000007/head"]).assert_failed();
    // Only what is asked for is listed.
    let body = V2::ls_refs().arg("ref-prefix refs/heads/").bytes();
    let answer = server.send(Request::upload_pack("anna/song", 2, body).by(&anna));
    assert_eq!(wire::parse_refs(&answer.body).expect("pkt-lines").len(), 1);
}

#[test]
fn objects_borrowed_from_another_repository_are_served_and_offered_to_pushers() {
    let (server, anna) = server();
    let lender = server.repo("anna/lender");
    repositories::straight_history(&lender, 10);
    let bare = server.repo("anna/song");
    std::fs::write(
        bare.join("objects/info/alternates"),
        format!("{}\n", lender.join("objects").display()),
    )
    .expect("a file");
    on_disk(
        &bare,
        &["update-ref", "refs/heads/main", &repositories::id(&lender, "main")],
    )
    .assert_ok();

    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("more.txt", "more").commit("More");
    copy.push("anna/song", &["main"]).assert_ok();
    repositories::assert_sound(&bare);
    let refs = server.send(Request::receive_refs("anna/song").by(&anna));
    assert!(refs.text().contains(" .have"), "{refs:?}");
}

#[test]
fn hidden_refs_are_not_listed_not_served_and_not_pushable() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    let mut import = Import::default();
    import.commit("refs/hidden/secret", &[], &[("secret.txt", b"secret")]);
    import.write_to(&bare);
    on_disk(&bare, &["config", "transfer.hideRefs", "refs/hidden"]).assert_ok();
    on_disk(&bare, &["config", "--add", "transfer.hideRefs", "!refs/hidden/open"]).assert_ok();
    on_disk(&bare, &["update-ref", "refs/hidden/open", "main"]).assert_ok();
    let secret = repositories::id(&bare, "refs/hidden/secret");

    for version in ["0", "1", "2"] {
        let config = format!("protocol.version={version}");
        let listed = anna
            .git(&["-c", &config, "ls-remote", &anna.url("anna/song")])
            .assert_ok()
            .out();
        assert!(!listed.contains("secret"), "{listed}");
        assert!(listed.contains("refs/hidden/open"), "{listed}");
    }
    for version in [0, 2] {
        let body = match version {
            2 => V2::fetch().arg(format!("want {secret}")).arg("done").bytes(),
            _ => wire::V0 {
                wants: vec![secret.clone()],
                capabilities: "side-band-64k".into(),
                done: true,
                ..Default::default()
            }
            .bytes(),
        };
        let answer = server.send(Request::upload_pack("anna/song", version, body).by(&anna));
        assert!(answer.text().contains(&format!("not our ref {secret}")), "{answer:?}");
    }
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    let push = copy.push("anna/song", &["main:refs/hidden/other"]);
    push.assert_refused_with("deny updating a hidden ref");
    on_disk(&bare, &["rev-parse", "--verify", "refs/hidden/other"]).assert_failed();
}

#[test]
fn a_client_cannot_find_out_with_have_lines_what_hidden_refs_hold() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    let mut import = Import::default();
    import.commit("refs/hidden/secret", &[], &[("secret.txt", b"secret")]);
    import.write_to(&bare);
    on_disk(&bare, &["config", "transfer.hideRefs", "refs/hidden"]).assert_ok();
    let secret = repositories::id(&bare, "refs/hidden/secret");
    let tip = repositories::id(&bare, "main");

    let body = V2::fetch()
        .arg(format!("want {tip}"))
        .arg(format!("have {secret}"))
        .bytes();
    let answer = server.send(Request::upload_pack("anna/song", 2, body).by(&anna));

    assert!(!answer.text().contains(&format!("ACK {secret}")), "{answer:?}");
}

#[test]
fn names_that_are_no_unicode_survive() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 2);
    let name = std::ffi::OsStr::from_bytes(b"refs/heads/\xff\xfeS\xf6ng");
    let mut command = GitProgram::first().command(&bare);
    command.current_dir(&bare).arg("update-ref").arg(name).arg("main");
    crate::support::run(&mut command).assert_ok();

    let raw = server.send(Request::upload_refs("anna/song", 0).by(&anna));
    let found = raw.body.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(found, "{raw:?}");
    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");

    let copy = anna.clone_repo("anna/song", "copy", &[]);
    let mut push = copy.person.command_in(&copy.folder, &["push", "origin"]);
    push.arg(std::ffi::OsStr::from_bytes(b"main:refs/heads/\xe9t\xe9"));
    crate::support::run(&mut push).assert_ok();
    let mut verify = GitProgram::first().command(&bare);
    verify.current_dir(&bare).args(["rev-parse", "--verify"]);
    verify.arg(std::ffi::OsStr::from_bytes(b"refs/heads/\xe9t\xe9"));
    assert_eq!(crate::support::run(&mut verify).assert_ok().out(), copy.id("main"));
}

#[test]
fn a_repository_repacked_by_stock_git_while_it_is_served_keeps_being_served() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 60);
    let pusher = anna.clone_repo("anna/song", "pusher", &[]);
    let repacks: [&[&str]; 5] = [
        &["repack", "-adq"],
        &["gc", "--quiet", "--prune=now"],
        &["repack", "-adq", "--write-bitmap-index"],
        &["multi-pack-index", "write"],
        &["commit-graph", "write", "--reachable"],
    ];
    for (number, repack) in repacks.into_iter().enumerate() {
        anna.clone_repo("anna/song", &format!("before-{number}"), &[])
            .assert_sound();
        on_disk(&bare, repack).assert_ok();
        anna.clone_repo("anna/song", &format!("after-{number}"), &[])
            .assert_sound();
        pusher.write("more.txt", number.to_string()).commit("More");
        pusher.push("anna/song", &["main"]).assert_ok();
        on_disk(&bare, &["pack-refs", "--all"]).assert_ok();
        let copy = anna.clone_repo("anna/song", &format!("packed-{number}"), &["--depth=3"]);
        assert_eq!(copy.id("HEAD"), pusher.id("main"));
    }
    let whole = on_disk(&bare, &["repack", "-adq"]);
    whole.assert_ok();
    std::thread::scope(|scope| {
        let cloners: Vec<_> = (0..8)
            .map(|number| {
                let anna = anna.clone();
                scope.spawn(move || {
                    anna.clone_repo("anna/song", &format!("meanwhile-{number}"), &[])
                        .assert_sound();
                })
            })
            .collect();
        for _ in 0..6 {
            on_disk(&bare, &["repack", "-adFq"]).assert_ok();
        }
        for cloner in cloners {
            cloner.join().expect("the clone is sound");
        }
    });
}

#[test]
fn our_own_repack_leaves_a_sound_repository_and_says_when_it_is_done() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 30);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    for number in 0..5 {
        copy.write("more.txt", number.to_string()).commit("More");
        copy.push("anna/song", &["main"]).assert_ok();
    }
    let before = repositories::objects(&bare);

    server.auxin(&["repo", "repack", "anna/song"]).assert_ok();

    repositories::assert_sound(&bare);
    assert_eq!(repositories::objects(&bare), before);
    let packs = std::fs::read_dir(bare.join("objects/pack"))
        .expect("a folder")
        .filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().ends_with(".pack")
        })
        .count();
    assert_eq!(packs, 1);
    anna.clone_repo("anna/song", "again", &[]).assert_sound();
    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    server.auxin(&["repo", "repack", "anna/nothing"]).assert_failed();
}

#[test]
fn a_damaged_repository_is_found_by_fsck() {
    let (server, _anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    on_disk(&bare, &["repack", "-adq"]).assert_ok();
    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    let pack = std::fs::read_dir(bare.join("objects/pack"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .expect("a pack");
    let mut bytes = std::fs::read(&pack).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::remove_file(&pack).expect("a file");
    std::fs::write(&pack, bytes).expect("a file");

    server.auxin(&["repo", "fsck", "anna/song"]).assert_failed();
}

#[test]
fn a_ref_to_a_missing_object_is_left_out_and_the_rest_is_served() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    std::fs::write(
        bare.join("refs/heads/broken"),
        "1234567890123456789012345678901234567890\n",
    )
    .expect("a file");

    let copy = anna.clone_repo("anna/song", "copy", &[]);

    assert_eq!(copy.id("HEAD"), repositories::id(&bare, "main"));
}

#[test]
fn a_shallow_repository_on_the_server_tells_its_boundary() {
    let (server, anna) = server();
    let source = server.repo("anna/source");
    repositories::straight_history(&source, 10);
    let bare = server.repo("anna/song");
    let url = format!("file://{}", source.display());
    on_disk(
        &bare,
        &[
            "-c",
            "safe.directory=*",
            "fetch",
            "--quiet",
            "--depth=3",
            &url,
            "main:main",
        ],
    )
    .assert_ok();
    for version in ["0", "2"] {
        let config = format!("protocol.version={version}");
        let copy = format!("copy{version}");
        anna.git(&["-c", &config, "clone", "--quiet", &anna.url("anna/song"), &copy])
            .assert_ok();
        let copy = anna.project(&copy);
        assert_eq!(copy.ask(&["rev-list", "--count", "HEAD"]), "3");
        copy.assert_sound();
    }
}

#[test]
fn a_repository_of_loose_objects_only_is_served_and_so_are_empty_files() {
    let (server, anna) = server();
    let bare = server.repo("anna/song");
    let local = anna.new_project("song");
    for number in 0..5 {
        local
            .write("take.wav", noise(number, 700))
            .write("empty", "")
            .commit("Take");
    }
    on_disk(&bare, &["config", "transfer.unpackLimit", "10000"]).assert_ok();
    let from = local.folder.to_string_lossy().into_owned();
    on_disk(
        &bare,
        &["-c", "safe.directory=*", "fetch", "--quiet", &from, "main:main"],
    )
    .assert_ok();
    assert!(repositories::ask(&bare, &["count-objects"]).starts_with("16 objects"));

    assert_cloned_whole_by_everyone(&server, &anna, "anna/song");
}
