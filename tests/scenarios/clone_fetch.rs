//! Clone, fetch and push with every stock git on the machine and every protocol version.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::process;
use crate::support::repositories::{self, Import};
use crate::support::wire::{self, V0, V2};
use crate::support::{GitProgram, MIB, Person, Request, TestServer, WorkTree, noise};

const VERSIONS: [&str; 3] = ["0", "1", "2"];

/// A server with a repository of some history: branches, a merge, tags of both kinds.
fn server_with_a_song() -> (TestServer, Person, PathBuf) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    let mut import = Import::default();
    let mut parent = Vec::new();
    for number in 0..20_u64 {
        let take = noise(number, 2000);
        let path = format!("Audio Files/take {number}.wav");
        let text = format!("{}\n{number}\n", "la la la\n".repeat(100));
        parent = vec![import.commit(
            "refs/heads/main",
            &parent,
            &[(&path, &take), ("Song.txt", text.as_bytes())],
        )];
    }
    let side = import.commit("refs/heads/solo", &parent, &[("solo.txt", b"solo")]);
    let merge = import.commit("refs/heads/main", &[parent[0], side], &[("mix", b"mix")]);
    import.reset("refs/tags/rough", side).tag("mix-1", merge);
    import.write_to(&bare);
    (server, anna, bare)
}

/// Runs `work` for every stock git and every protocol version, each in a fresh home.
fn for_every_client(person: &Person, mut work: impl FnMut(&Person, &str)) {
    for git in GitProgram::all() {
        for version in VERSIONS {
            work(&person.with_git(&git), version);
        }
    }
}

/// The same person at one computer for each stock git.
fn computers(person: &Person) -> Vec<Person> {
    GitProgram::all().iter().map(|git| person.with_git(git)).collect()
}

fn config(version: &str) -> String {
    format!("protocol.version={version}")
}

#[test]
fn every_stock_git_clones_with_every_protocol_version() {
    let (_server, anna, bare) = server_with_a_song();
    let wanted = repositories::refs(&bare);
    let all = repositories::objects(&bare);
    for_every_client(&anna, |anna, version| {
        let url = anna.url("anna/song");
        anna.git(&["-c", &config(version), "clone", "--quiet", "--mirror", &url, "copy"])
            .assert_ok();

        let copy = anna.home().join("copy");
        assert_eq!(repositories::refs(&copy), wanted);
        assert_eq!(repositories::objects(&copy), all);
        repositories::assert_sound(&copy);
        let head = repositories::ask(&copy, &["symbolic-ref", "HEAD"]);
        assert_eq!(head, "refs/heads/main");
    });
}

#[test]
fn a_fetch_brings_what_is_new_and_only_that() {
    let (_server, anna, bare) = server_with_a_song();
    let copies: Vec<(WorkTree, String)> = {
        let mut copies = Vec::new();
        for_every_client(&anna, |anna, version| {
            copies.push((anna.clone_repo("anna/song", "copy", &[]), version.to_owned()));
        });
        copies
    };
    let before = repositories::objects(&bare);
    let mut import = Import::default();
    import.text(
        "commit refs/heads/main\ncommitter Ada <a@example.org> 1800000000 +0000\ndata 3\nnew\n\
         from refs/heads/main^0\nM 100644 inline new.txt\ndata 3\nnew\n\n\
         commit refs/heads/fresh\ncommitter Ada <a@example.org> 1800000001 +0000\ndata 5\nfresh\n\
         from refs/heads/solo^0\nM 100644 inline fresh.txt\ndata 5\nfresh\n\n",
    );
    import.write_to(&bare);
    let new = repositories::objects(&bare).len() - before.len();

    for (copy, version) in copies {
        let mut fetch = copy.person.command_in(
            &copy.folder,
            &["-c", &config(&version), "fetch", "--prune", "--progress", "origin"],
        );
        fetch.env("GIT_TRACE_PACKET", "0");
        let fetched = crate::support::run(&mut fetch);
        fetched.assert_ok();
        assert_eq!(copy.id("origin/main"), repositories::id(&bare, "main"));
        assert_eq!(copy.id("origin/fresh"), repositories::id(&bare, "fresh"));
        copy.assert_sound();
        let counted = copy.ask(&["rev-list", "--all", "--objects", "--count"]);
        assert_eq!(
            counted,
            repositories::ask(&bare, &["rev-list", "--all", "--objects", "--count"])
        );
        // Git unpacks small packs; what came is the difference in objects.
        let loose = copy.ask(&["count-objects"]);
        assert!(loose.starts_with(&format!("{new} objects")), "{loose}, {new} are new");
    }
}

#[test]
fn a_branch_deleted_on_the_server_is_pruned_and_a_forced_one_follows() {
    let (_server, anna, bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    repositories::on_disk(&bare, &["update-ref", "-d", "refs/heads/solo"]).assert_ok();
    repositories::on_disk(&bare, &["update-ref", "refs/heads/main", "main~3"]).assert_ok();

    copy.git(&["fetch", "--prune", "origin"]).assert_ok();

    copy.git(&["rev-parse", "--verify", "origin/solo"]).assert_failed();
    assert_eq!(copy.id("origin/main"), repositories::id(&bare, "main"));
}

#[test]
fn pushes_work_with_every_stock_git_and_version_new_forced_deleted() {
    let (_server, anna, bare) = server_with_a_song();
    for_every_client(&anna, |anna, version| {
        let copy = anna.clone_repo("anna/song", "copy", &[]);
        copy.git(&["config", "protocol.version", version]).assert_ok();
        let branch = format!("take-{version}-{}", anna.home().display().to_string().len());
        let full = format!("refs/heads/{branch}");

        copy.git(&["checkout", "--quiet", "-b", &branch]).assert_ok();
        copy.write("vox.wav", noise(11, 9000)).commit("Vox");
        copy.git(&["push", "origin", &branch]).assert_ok();
        assert_eq!(repositories::id(&bare, &full), copy.id("HEAD"));

        copy.git(&["commit", "--quiet", "--amend", "-m", "Better vox"])
            .assert_ok();
        copy.git(&["push", "origin", &branch]).assert_failed();
        copy.git(&["push", "--force", "origin", &branch]).assert_ok();
        assert_eq!(repositories::id(&bare, &full), copy.id("HEAD"));

        copy.git(&["push", "origin", "--delete", &branch]).assert_ok();
        repositories::on_disk(&bare, &["rev-parse", "--verify", &full]).assert_failed();
    });
    repositories::assert_sound(&bare);
}

#[test]
fn a_mirror_pushed_twice_is_the_same_repository_and_the_second_push_says_so() {
    let (server, anna, bare) = server_with_a_song();
    let mut mirrors = Vec::new();
    for (number, anna) in computers(&anna).iter().enumerate() {
        let copy = anna.clone_repo("anna/song", "copy", &["--mirror"]);
        let address = format!("anna/second-{number}");
        let second = server.repo(&address);

        copy.push(&address, &["--mirror"]).assert_ok();
        assert_eq!(repositories::refs(&second), repositories::refs(&bare));
        copy.push(&address, &["--mirror"])
            .assert_ok()
            .assert_said("Everything up-to-date");
        mirrors.push((copy, address, second));
    }

    repositories::on_disk(&bare, &["update-ref", "-d", "refs/heads/solo"]).assert_ok();
    repositories::on_disk(&bare, &["update-ref", "refs/heads/other", "main~1"]).assert_ok();
    for (copy, address, second) in mirrors {
        copy.git(&["remote", "update", "--prune"]).assert_ok();
        copy.push(&address, &["--mirror"]).assert_ok();
        assert_eq!(repositories::refs(&second), repositories::refs(&bare));
        repositories::assert_sound(&second);
    }
}

#[test]
fn tags_come_along_with_the_commits_they_name_and_are_pushed() {
    let (_server, anna, bare) = server_with_a_song();
    let copies: Vec<WorkTree> = computers(&anna)
        .iter()
        .map(|anna| {
            let copy = anna.clone_repo("anna/song", "copy", &["--no-tags", "--single-branch"]);
            copy.git(&["config", "--unset", "remote.origin.tagOpt"]).assert_ok();
            copy
        })
        .collect();
    repositories::on_disk(&bare, &["tag", "-a", "-m", "Mix 2", "mix-2", "refs/heads/main"]).assert_ok();
    let mut import = Import::default();
    import.text(
        "commit refs/heads/main\ncommitter Ada <a@example.org> 1800000000 +0000\ndata 3\nnew\n\
         from refs/heads/main^0\nM 100644 inline new.txt\ndata 3\nnew\n\n\
         tag mix-3\nfrom refs/heads/main\ntagger Ada <a@example.org> 1800000000 +0000\ndata 3\nmix\n",
    );
    import.write_to(&bare);

    for (number, copy) in copies.iter().enumerate() {
        copy.git(&["fetch", "origin"]).assert_ok();
        for tag in ["mix-2", "mix-3"] {
            assert_eq!(copy.id(tag), repositories::id(&bare, tag));
        }

        // And back: one of each kind.
        let (light, full) = (format!("light-{number}"), format!("full-{number}"));
        copy.git(&["tag", &light]).assert_ok();
        copy.git(&["tag", "-a", "-m", "Mix", &full]).assert_ok();
        copy.push("anna/song", &["--tags"]).assert_ok();
        for tag in [&light, &full] {
            assert_eq!(repositories::id(&bare, &format!("refs/tags/{tag}")), copy.id(tag));
        }
        assert_eq!(repositories::ask(&bare, &["cat-file", "-t", &full]), "tag");
    }
}

#[test]
fn a_fetch_that_names_400_refs_comes_compressed_and_is_understood() {
    let (_server, anna, bare) = server_with_a_song();
    let mut copies = Vec::new();
    for_every_client(&anna, |anna, version| {
        let copy = anna.clone_repo("anna/song", "copy", &[]);
        copy.git(&["config", "protocol.version", version]).assert_ok();
        copies.push(copy);
    });
    let mut import = Import::default();
    for number in 0..400 {
        let text = number.to_string();
        import.commit(&format!("refs/heads/take-{number}"), &[], &[("take", text.as_bytes())]);
    }
    import.write_to(&bare);

    for copy in copies {
        let mut fetch = copy.person.command_in(&copy.folder, &["fetch", "--quiet", "origin"]);
        fetch.env("GIT_TRACE_CURL", "1").env("GIT_TRACE_CURL_NO_DATA", "1");
        crate::support::run(&mut fetch)
            .assert_ok()
            .assert_said("Content-Encoding: gzip");
        let count = copy.ask(&["for-each-ref", "--format=x", "refs/remotes/origin/take-*"]);
        assert_eq!(count.lines().count(), 400);
        copy.assert_sound();
    }
}

#[test]
fn gzip_is_inflated_on_both_routes_under_both_of_its_names_and_in_chunks() {
    let (server, anna, bare) = server_with_a_song();
    let tip = repositories::id(&bare, "main");
    let fetch = V2::fetch().arg(format!("want {tip}")).arg("done").bytes();
    let shapes: [fn(Request) -> Request; 6] = [
        |request| request,
        |request| request.chunked(7),
        |request| request.gzip(),
        |request| request.gzip_as("x-gzip"),
        |request| request.gzip().chunked(7),
        |request| request.gzip_as("x-gzip").chunked(1),
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let request = Request::upload_pack("anna/song", 2, fetch.clone()).by(&anna);
        let answer = server.send(shape(request));
        answer.assert_status(200);
        let parsed = wire::parse_v2_fetch(&answer.body).expect("pkt-lines");
        assert!(parsed.pack.is_some(), "shape {number}: {answer:?}");

        let name = format!("refs/heads/shape-{number}");
        let push = wire::push(
            &[wire::command(wire::NO_OBJECT, &tip, &name)],
            "report-status side-band-64k",
            &[],
            super::rights::EMPTY_PACK,
        );
        let request = Request::receive_pack("anna/song", push).by(&anna);
        let answer = server.send(shape(request));
        answer.assert_status(200);
        let report = wire::parse_push(&answer.body, true).expect("pkt-lines");
        assert_eq!(report.refs, [format!("ok {name}")], "shape {number}");
    }
}

#[test]
fn bodies_of_three_megabytes_and_more_go_both_ways() {
    let (server, anna, _bare) = server_with_a_song();
    for (number, anna) in computers(&anna).iter().enumerate() {
        let address = format!("anna/big-{number}");
        let big = anna.new_project("big");
        for (seed, size) in [(1, 3 * MIB), (2, 5 * MIB)] {
            big.write("mix.wav", noise(seed, size)).commit("Mix");
            big.push(&address, &["main"]).assert_ok();
        }
        // In one piece with its length, as isomorphic-git and go-git do.
        big.write("mix.wav", noise(9, 3 * MIB)).commit("Mix");
        let buffer = ["-c", "http.postBuffer=100000000", "push"];
        let url = anna.url(&address);
        big.git(&[&buffer[..], &[&url, "main"]].concat()).assert_ok();

        let copy = anna.clone_repo(&address, "copy", &[]);
        assert_eq!(copy.id("HEAD"), big.id("HEAD"));
        copy.assert_sound();
        repositories::assert_sound(&server.folder_of(&address));
    }
}

#[test]
fn a_thousand_refs_are_pushed_and_deleted_at_once() {
    let (server, anna, _bare) = server_with_a_song();
    for (number, anna) in computers(&anna).iter().enumerate() {
        let address = format!("anna/many-{number}");
        let many = anna.new_project("many");
        many.write("Song.txt", "la").commit("First take");
        let tip = many.id("HEAD");
        // Packed, for the speed of the client.
        let takes: String = (0..1000)
            .map(|number| format!("{tip} refs/heads/take/{number:03}\n"))
            .collect();
        many.write(".git/packed-refs", takes);

        many.push(&address, &["--all"]).assert_ok();
        let bare = server.folder_of(&address);
        assert_eq!(repositories::refs(&bare).len(), 1001);

        many.write(".git/packed-refs", "");
        many.push(&address, &["--prune", "refs/heads/*:refs/heads/*"])
            .assert_ok();
        assert_eq!(repositories::refs(&bare).len(), 1);
        repositories::assert_sound(&bare);
    }
}

#[test]
fn an_atomic_push_moves_all_refs_or_none() {
    let (server, anna, bare) = server_with_a_song();
    repositories::on_disk(&bare, &["config", "receive.denyNonFastForwards", "true"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.git(&["checkout", "--quiet", "-b", "fresh", "origin/main~2"])
        .assert_ok();
    copy.write("fresh.txt", "fresh").commit("Fresh");
    let before = repositories::refs(&bare);

    let push = copy.push("anna/song", &["--atomic", "--force", "fresh:fresh", "fresh:main"]);

    push.assert_failed();
    assert_eq!(repositories::refs(&bare), before);
    assert!(
        push.err().contains("atomic") || push.err().contains("non-fast-forward"),
        "{push:?}"
    );

    let push = copy.push("anna/song", &["--force", "fresh:fresh", "fresh:main"]);
    push.assert_failed().assert_said("non-fast-forward");
    assert_eq!(repositories::id(&bare, "refs/heads/fresh"), copy.id("fresh"));

    copy.push("anna/song", &["--atomic", "fresh:one", "fresh:two"])
        .assert_ok();
    assert_eq!(repositories::id(&bare, "refs/heads/two"), copy.id("fresh"));
    drop(server);
}

#[test]
fn a_lease_that_is_out_of_date_and_a_ref_that_moved_meanwhile_are_refused() {
    let (server, anna, bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    let old = repositories::id(&bare, "main");
    repositories::on_disk(&bare, &["update-ref", "refs/heads/main", "main~1"]).assert_ok();
    copy.write("late.txt", "late").commit("Late");

    copy.push("anna/song", &["--force-with-lease=main:origin/main", "main"])
        .assert_failed();

    // By hand: the client still believes in the old id.
    let push = wire::push(
        &[wire::command(&old, &repositories::id(&bare, "solo"), "refs/heads/main")],
        "report-status",
        &[],
        super::rights::EMPTY_PACK,
    );
    let answer = server.send(Request::receive_pack("anna/song", push).by(&anna));
    answer.assert_status(200);
    let report = wire::parse_push(&answer.body, false).expect("pkt-lines");
    assert!(report.refs[0].starts_with("ng refs/heads/main "), "{report:?}");
    assert_eq!(
        repositories::id(&bare, "main"),
        repositories::id(&bare, &format!("{old}~1"))
    );
}

#[test]
fn push_options_are_taken_when_the_repository_offers_them() {
    let (_server, anna, bare) = server_with_a_song();
    repositories::on_disk(&bare, &["config", "receive.advertisePushOptions", "true"]).assert_ok();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("late.txt", "late").commit("Late");

    copy.push(
        "anna/song",
        &["--push-option=ci.skip", "--push-option=mood=blue", "main"],
    )
    .assert_ok();

    assert_eq!(repositories::id(&bare, "main"), copy.id("main"));
}

#[test]
fn any_commit_that_a_ref_reaches_can_be_fetched_by_its_id_in_every_version() {
    let (_server, anna, bare) = server_with_a_song();
    let deep = repositories::id(&bare, "main~7");
    for_every_client(&anna, |anna, version| {
        let ci = anna.new_project("ci");
        let url = anna.url("anna/song");
        ci.git(&["-c", &config(version), "fetch", "--depth=1", &url, &deep])
            .assert_ok();
        assert_eq!(ci.id("FETCH_HEAD"), deep);
        ci.git(&["checkout", "--quiet", "FETCH_HEAD"]).assert_ok();
    });
}

#[test]
fn an_object_that_is_not_there_is_refused_in_the_words_that_clients_know() {
    let (server, anna, _bare) = server_with_a_song();
    let missing = "1234567890123456789012345678901234567890";
    let v2 = V2::fetch().arg(format!("want {missing}")).arg("done").bytes();
    let v0 = V0 {
        capabilities: "side-band-64k ofs-delta agent=tests".into(),
        wants: vec![missing.into()],
        done: true,
        ..V0::default()
    };
    for (version, body) in [(2, v2), (1, v0.bytes()), (0, v0.bytes())] {
        let answer = server.send(Request::upload_pack("anna/song", version, body).by(&anna));
        answer.assert_status(200);
        let said = answer.text();
        assert!(
            said.contains(&format!("ERR upload-pack: not our ref {missing}")),
            "v{version}: {said:?}"
        );
    }
}

#[test]
fn a_force_push_between_the_two_requests_of_a_clone_breaks_nothing() {
    let (server, anna, bare) = server_with_a_song();
    let old = repositories::id(&bare, "main");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.git(&["checkout", "--quiet", "-B", "main", "origin/main~3"])
        .assert_ok();
    copy.write("again.txt", "again").commit("Again");

    copy.push("anna/song", &["--force", "main"]).assert_ok();

    for (version, body) in [
        (2, V2::fetch().arg(format!("want {old}")).arg("done").bytes()),
        (
            0,
            V0 {
                capabilities: "side-band-64k ofs-delta".into(),
                wants: vec![old.clone()],
                done: true,
                ..V0::default()
            }
            .bytes(),
        ),
    ] {
        let answer = server.send(Request::upload_pack("anna/song", version, body).by(&anna));
        let parsed = match version {
            2 => wire::parse_v2_fetch(&answer.body),
            _ => wire::parse_v0_fetch(&answer.body, true),
        }
        .expect("pkt-lines");
        assert!(parsed.pack.is_some(), "v{version}: {answer:?}");
    }
}

#[test]
fn after_the_grace_time_an_abandoned_commit_is_no_longer_served() {
    let (server, anna, bare) = {
        let server = TestServer::prepare().setting("git.want_grace_secs", 0).start();
        let anna = server.user("anna");
        let bare = server.repo("anna/song");
        repositories::straight_history(&bare, 5);
        (server, anna, bare)
    };
    let old = repositories::id(&bare, "main");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.git(&["checkout", "--quiet", "-B", "main", "origin/main~3"])
        .assert_ok();
    copy.push("anna/song", &["--force", "main"]).assert_ok();

    let body = V2::fetch().arg(format!("want {old}")).arg("done").bytes();
    let answer = server.send(Request::upload_pack("anna/song", 2, body).by(&anna));

    assert!(answer.text().contains(&format!("not our ref {old}")), "{answer:?}");
}

#[test]
fn a_clone_goes_on_while_another_person_pushes() {
    let (server, anna, bare) = server_with_a_song();
    server.user("ben");
    let pusher = anna.clone_repo("anna/song", "pusher", &[]);
    std::thread::scope(|scope| {
        let cloners: Vec<_> = (0..6)
            .map(|number| {
                let anna = anna.clone();
                scope.spawn(move || {
                    let copy = anna.clone_repo("anna/song", &format!("copy{number}"), &[]);
                    copy.assert_sound();
                })
            })
            .collect();
        for number in 0..6 {
            pusher.write("more.txt", number.to_string()).commit("More");
            pusher.push("anna/song", &["main"]).assert_ok();
        }
        for cloner in cloners {
            cloner.join().expect("the clone is sound");
        }
    });
    repositories::assert_sound(&bare);
}

#[test]
fn ref_in_want_brings_the_ref_as_it_is_now() {
    let (server, anna, bare) = server_with_a_song();
    repositories::on_disk(&bare, &["config", "uploadpack.allowRefInWant", "true"]).assert_ok();

    let body = V2::fetch().arg("want-ref refs/heads/solo").arg("done").bytes();
    let answer = server.send(Request::upload_pack("anna/song", 2, body).by(&anna));

    let parsed = wire::parse_v2_fetch(&answer.body).expect("pkt-lines");
    let solo = repositories::id(&bare, "solo");
    assert_eq!(parsed.wanted_refs, [format!("{solo} refs/heads/solo")]);
    assert!(parsed.pack.is_some());
    let body = V2::fetch().arg("want-ref refs/heads/none").arg("done").bytes();
    let answer = server.send(Request::upload_pack("anna/song", 2, body).by(&anna));
    assert!(answer.text().contains("ERR "), "{answer:?}");
}

#[test]
fn a_push_can_ask_first_what_the_server_has() {
    let (_server, anna, bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("late.txt", "late").commit("Late");

    let url = anna.url("anna/song");
    copy.git(&["-c", "push.negotiate=true", "push", &url, "main"])
        .assert_ok();
    copy.git(&["fetch", "--negotiate-only", "--negotiation-tip=main", "origin"])
        .assert_ok()
        .assert_said(&repositories::id(&bare, "main"));
}

#[test]
fn server_options_and_session_ids_are_taken() {
    let (_server, anna, _bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &[]);

    copy.git(&["-c", "transfer.advertiseSID=true", "fetch", "-o", "mood=blue", "origin"])
        .assert_ok();
    copy.git(&["ls-remote", "-o", "mood=blue", "origin"]).assert_ok();
}

#[test]
fn with_session_ids_the_log_says_which_answers_belong_to_which_client() {
    let server = TestServer::prepare().setting("git.advertise_session_id", true).start();
    let anna = server.user("anna");
    let bare = server.repo("anna/song");
    repositories::straight_history(&bare, 3);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("late.txt", "late").commit("Late");
    let ids_told = || {
        let printed = server.printed();
        let lines = printed.lines().filter(|line| line.contains("client.session_id"));
        lines.filter(|line| line.contains("git/")).count()
    };
    assert_eq!(ids_told(), 0);

    let url = anna.url("anna/song");
    anna.git(&["-c", "transfer.advertiseSID=true", "clone", &url, "other"])
        .assert_ok();
    process::wait_until("the fetch is in the log", Duration::from_secs(20), || ids_told() == 1);
    copy.git(&["-c", "transfer.advertiseSID=true", "push", "origin", "main"])
        .assert_ok();
    process::wait_until("the push is in the log", Duration::from_secs(20), || ids_told() == 2);
    server.wait_for_line("A client was told the id of this session");
}
