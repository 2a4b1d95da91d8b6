//! Fetch requests by hand: what is listed, what is refused, and how it is said.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auxin::git::ObjectId;
use auxin::git::pkt_line::Sideband;
use auxin::git::plan::PackRequest;
use auxin::git::upload_pack::response::{PackAnswer, send_pack};
use auxin::git::upload_pack::{self, Protocol, UploadError, UploadOptions};
use auxin::git::work::{Stopped, Work};

use crate::fetch_support::{Answer, Random, Repo, line, packets, run_git, text, v2, v2_fetch};

fn ls_refs(arguments: &[&str]) -> Vec<u8> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    v2("ls-refs", &arguments)
}

fn oid(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).expect("an id")
}

/// Lines of a v0 advertisement without the capabilities.
fn advertised(bytes: &[u8]) -> Vec<String> {
    text(bytes)
        .into_iter()
        .map(|line| line.split('\0').next().expect("one part").to_owned())
        .collect()
}

fn capabilities(bytes: &[u8]) -> String {
    let lines = text(bytes);
    let line = lines.iter().find(|line| line.contains('\0')).expect("capabilities");
    line.split('\0').nth(1).expect("after the NUL").to_owned()
}

#[test]
fn the_list_of_refs_is_that_of_stock_git() {
    for seed in 401..413 {
        let repo = Repo::random(seed);
        repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/b9"]);
        if seed % 3 == 0 {
            repo.git(&["pack-refs", "--all"]);
        }
        let mut random = Random::new(seed);
        for _ in 0..8 {
            let mut arguments = Vec::new();
            for (argument, times) in [
                ("peel", 2),
                ("symrefs", 2),
                ("unborn", 2),
                ("ref-prefix refs/heads/", 3),
                ("ref-prefix refs/heads/b1", 3),
                ("ref-prefix HEAD", 3),
                ("ref-prefix refs/tags/", 3),
                ("ref-prefix nothing", 4),
                ("ref-prefix ", 9),
            ] {
                if random.once_in(times) {
                    arguments.push(argument);
                }
            }
            let body = ls_refs(&arguments);
            assert_eq!(
                text(&repo.serve(Protocol::V2, &body)),
                text(&repo.reference(Protocol::V2, &body)),
                "seed {seed} {arguments:?}"
            );
        }
    }
}

#[test]
fn the_advertisement_lists_what_stock_git_lists() {
    for seed in 421..427 {
        let repo = Repo::random(seed);
        for protocol in [Protocol::V0, Protocol::V1] {
            let ours = advertised(&repo.advertise(protocol));
            assert_eq!(ours[..2], ["# service=git-upload-pack", "0000"]);
            assert_eq!(ours[2..], advertised(&repo.reference_advertisement(protocol)));
        }
    }
}

#[test]
fn the_advertisement_of_an_empty_repository_names_the_capabilities() {
    let repo = Repo::empty();

    let ours = repo.advertise(Protocol::V0);

    let expected = format!("{} capabilities^{{}}", "0".repeat(40));
    assert_eq!(advertised(&ours)[2], expected);
    assert!(!capabilities(&ours).contains("symref="));
    assert!(capabilities(&ours).contains("object-format=sha1"));
}

#[test]
fn v0_capabilities_hold_all_that_stock_git_offers() {
    let repo = Repo::linear(2);
    let ours = capabilities(&repo.advertise(Protocol::V0));
    let theirs = capabilities(&repo.reference_advertisement(Protocol::V0));
    for capability in theirs.split(' ').filter(|name| !name.starts_with("agent=")) {
        assert!(ours.split(' ').any(|ours| ours == capability), "{capability}: {ours}");
    }
    assert!(ours.contains(" allow-reachable-sha1-in-want "));
    assert!(ours.contains(" symref=HEAD:refs/heads/main "));
}

#[test]
fn v2_capabilities_hold_all_that_stock_git_offers() {
    let repo = Repo::linear(2);
    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let strip = |bytes: Vec<u8>| -> Vec<String> {
        text(&bytes)
            .into_iter()
            // Older ones offer `object-info` unasked.
            .filter(|line| !line.starts_with("agent=") && line != "object-info")
            .collect()
    };
    assert_eq!(
        strip(repo.advertise(Protocol::V2)),
        strip(repo.reference_advertisement(Protocol::V2))
    );
}

#[test]
fn a_repository_may_offer_less_but_not_more() {
    let mut repo = Repo::linear(2);
    repo.git(&["config", "uploadpack.allowFilter", "false"]);
    repo.git(&["config", "uploadpack.allowReachableSHA1InWant", "false"]);
    let less = capabilities(&repo.advertise(Protocol::V0));
    assert!(!less.contains("filter") && !less.contains("sha1-in-want"), "{less}");

    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    repo.settings.allow_filter = false;
    repo.settings.allow_reachable_wants = false;
    let still_less = capabilities(&repo.advertise(Protocol::V0));
    assert!(
        !still_less.contains("filter") && !still_less.contains("sha1-in-want"),
        "{still_less}"
    );
}

#[test]
fn a_request_for_nothing_is_answered_by_nothing() {
    let repo = Repo::linear(2);
    for protocol in [Protocol::V0, Protocol::V1, Protocol::V2] {
        for body in [&b"0000"[..], b""] {
            let (answer, result) = repo.try_serve(protocol, body);
            assert_eq!(answer, b"");
            assert!(result.is_ok());
        }
    }
    assert_eq!(repo.serve(Protocol::V2, &v2_fetch(&["done"])), b"");
}

#[test]
fn a_request_that_makes_no_sense_is_answered_by_a_sentence() {
    let repo = Repo::linear(2);
    let unknown_command = v2("cherry-pick", &[]);
    let unknown_argument = v2_fetch(&["want-everything"]);
    let no_flush = [line("command=ls-refs"), b"0001".to_vec(), line("peel")].concat();
    let two_commands = [line("command=ls-refs"), line("command=fetch"), b"0000".to_vec()].concat();
    let bad_id = v2_fetch(&["want 123"]);
    let sha256 = [line("command=fetch"), line("object-format=sha256"), b"0000".to_vec()].concat();
    let delim = [line("command=ls-refs"), b"00010001".to_vec()].concat();
    for (body, expected) in [
        (&unknown_command[..], "ERR invalid command 'cherry-pick'"),
        (&unknown_argument, "ERR unexpected line: 'want-everything'"),
        (
            &no_flush,
            "ERR protocol error: the request ended in the middle of a line",
        ),
        (&two_commands, "ERR protocol error: a request has one command only"),
        (
            &bad_id,
            "ERR protocol error: expected an object id after 'want', not '123'",
        ),
        (&sha256, "ERR mismatched object format: server sha1; client sha256"),
        (&delim, "ERR expected flush after the arguments"),
        (b"zzzz", "ERR protocol error: bad line length 'zzzz'"),
        (b"0003", "ERR protocol error: bad line length '0003'"),
        (b"0009capX\n0000", "ERR unknown capability 'capX'"),
    ] {
        let (answer, result) = repo.try_serve(Protocol::V2, body);
        assert_eq!(text(&answer), [expected]);
        assert!(result.is_err_and(|error| error.is_client_fault()));
    }
    for (body, expected) in [
        (&line("deepen 0")[..], "ERR Invalid deepen: deepen 0"),
        (
            &line("have 1234"),
            "ERR protocol error: expected to get a want, not 'have 1234'",
        ),
        (
            &[line(&format!("want {}", repo.id("main"))), line("filter blob:none")].concat(),
            "ERR protocol error: the filter capability was not asked for",
        ),
    ] {
        assert_eq!(text(&repo.serve(Protocol::V0, body)), [expected]);
    }
}

#[test]
fn too_much_of_anything_is_refused_with_the_limit() {
    let mut repo = Repo::linear(6);
    repo.settings.max_wants = 2;
    repo.settings.max_haves = 2;
    repo.settings.max_shallows = 2;
    repo.settings.max_filter_bytes = 20;
    repo.settings.max_filter_depth = 2;
    let lines = |word: &str| -> Vec<String> { repo.commits.iter().map(|id| format!("{word} {id}")).collect() };
    for (arguments, expected) in [
        (
            lines("want"),
            "ERR the request has more than 2 'want' lines, which is this server's limit",
        ),
        (
            lines("have"),
            "ERR the request has more than 2 'have' lines, which is this server's limit",
        ),
        (
            lines("shallow"),
            "ERR the request has more than 2 'shallow' lines, which is this server's limit",
        ),
        (
            vec![format!("filter combine:{}", "blob:none+".repeat(50))],
            "ERR the filter is longer than 20 bytes, which is this server's limit",
        ),
    ] {
        assert_eq!(text(&repo.serve(Protocol::V2, &v2("fetch", &arguments))), [expected]);
    }
    repo.settings.max_request_bytes = 100;
    let long = v2_fetch(&[&format!("want {}", repo.id("main"))]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &long)),
        ["ERR the request is larger than 100 bytes, which is this server's limit"]
    );
}

#[test]
fn more_prefixes_than_are_honoured_list_everything() {
    let mut repo = Repo::linear(2);
    repo.git(&["branch", "other"]);
    repo.settings.max_ref_prefixes = 2;

    let two = repo.serve(Protocol::V2, &ls_refs(&["ref-prefix refs/heads/m", "ref-prefix x"]));
    let three = repo.serve(
        Protocol::V2,
        &ls_refs(&["ref-prefix refs/heads/m", "ref-prefix x", "ref-prefix y"]),
    );

    assert_eq!(text(&two).len(), 2);
    assert_eq!(text(&three).len(), 4);
}

#[test]
fn what_does_not_exist_is_refused_in_the_words_clients_know() {
    let repo = Repo::linear(2);
    let nowhere = "1".repeat(40);
    let expected = [format!("ERR upload-pack: not our ref {nowhere}")];

    let v2_answer = repo.serve(Protocol::V2, &v2_fetch(&[&format!("want {nowhere}"), "done"]));
    let v0_body = [line(&format!("want {nowhere}")), b"0000".to_vec(), line("done")].concat();

    assert_eq!(text(&v2_answer), expected);
    assert_eq!(text(&repo.serve(Protocol::V0, &v0_body)), expected);
}

/// `main` at the fifth of ten commits, the tenth on a hidden ref.
fn with_hidden_ref() -> Repo {
    let repo = Repo::linear(10);
    repo.git(&["update-ref", "refs/secret/plan", "refs/heads/main"]);
    repo.git(&["update-ref", "refs/heads/main", &repo.commits[4]]);
    repo.git(&["config", "transfer.hideRefs", "refs/secret"]);
    repo
}

#[test]
fn hidden_refs_are_neither_listed_nor_served_nor_acknowledged() {
    let repo = with_hidden_ref();
    let (hidden, hidden_parent) = (repo.commits[9].clone(), repo.commits[8].clone());
    let blob = repo.id(&format!("{hidden}:own10.txt"));

    let listed = String::from_utf8_lossy(&repo.serve(Protocol::V2, &ls_refs(&[]))).into_owned();
    assert!(!listed.contains("secret") && !listed.contains(&hidden));
    let listed = String::from_utf8_lossy(&repo.advertise(Protocol::V0)).into_owned();
    assert!(!listed.contains("secret") && !listed.contains(&hidden));
    for wanted in [&hidden, &hidden_parent, &blob] {
        let body = v2_fetch(&[&format!("want {wanted}"), "done"]);
        assert_eq!(
            text(&repo.serve(Protocol::V2, &body)),
            [format!("ERR upload-pack: not our ref {wanted}")]
        );
        let body = [line(&format!("want {wanted}")), b"0000".to_vec(), line("done")].concat();
        assert_eq!(
            text(&repo.serve(Protocol::V0, &body)),
            [format!("ERR upload-pack: not our ref {wanted}")]
        );
    }
    let main = repo.id("main");
    let body = v2_fetch(&[
        &format!("want {main}"),
        &format!("have {hidden}"),
        &format!("have {hidden_parent}"),
    ]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["acknowledgments", "NAK", "0000"]
    );
    let body = v2_fetch(&[&format!("want {main}"), "deepen-not refs/secret/plan", "done"]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["ERR deepen-not is not a ref: refs/secret/plan"]
    );
}

#[test]
fn a_head_that_names_a_hidden_branch_tells_nothing() {
    let repo = with_hidden_ref();
    repo.git(&["symbolic-ref", "HEAD", "refs/secret/plan"]);
    repo.git(&["symbolic-ref", "refs/heads/alias", "refs/secret/plan"]);

    let list = text(&repo.serve(Protocol::V2, &ls_refs(&["symrefs", "unborn"])));
    let advertisement = repo.advertise(Protocol::V0);

    assert_eq!(list, [format!("{} refs/heads/main", repo.commits[4]), "0000".into()]);
    assert_eq!(advertised(&advertisement).len(), 4);
    assert!(!capabilities(&advertisement).contains("symref"));

    repo.git(&["symbolic-ref", "HEAD", "refs/secret/not-born"]);
    let list = text(&repo.serve(Protocol::V2, &ls_refs(&["symrefs", "unborn"])));
    assert_eq!(list.len(), 2);
}

#[test]
fn what_refs_reached_until_lately_is_still_served() {
    let mut repo = Repo::linear(10);
    let (old_tip, old_parent) = (repo.commits[9].clone(), repo.commits[7].clone());
    repo.git(&["update-ref", "refs/heads/main", &repo.commits[2]]);
    let bodies = [&old_tip, &old_parent].map(|id| v2_fetch(&[&format!("want {id}"), "done"]));

    for body in &bodies {
        let answer = Answer::of_v2(&repo.serve(Protocol::V2, body));
        assert!(
            answer.lines[0].starts_with("ERR upload-pack: not our ref"),
            "{answer:?}"
        );
    }
    repo.grace_tips = vec![oid(&old_tip)];
    for body in &bodies {
        assert!(Answer::of_v2(&repo.serve(Protocol::V2, body)).pack.is_some());
    }
    let body = v2_fetch(&[&format!("want {}", repo.id("main")), &format!("have {old_parent}")]);
    let answer = Answer::of_v2(&repo.serve(Protocol::V2, &body));
    assert_eq!(answer.lines[1], format!("ACK {old_parent}"));
}

#[test]
fn without_reachable_wants_only_tips_are_served() {
    let mut repo = Repo::linear(10);
    repo.settings.allow_reachable_wants = false;
    repo.grace_tips = vec![oid(&repo.commits[6])];
    for (index, is_served) in [(9, true), (6, true), (5, false)] {
        let id = &repo.commits[index];
        let answer = Answer::of_v2(&repo.serve(Protocol::V2, &v2_fetch(&[&format!("want {id}"), "done"])));
        assert_eq!(answer.pack.is_some(), is_served, "{index}");
    }
}

#[test]
fn blobs_and_trees_are_served_by_id() {
    let repo = Repo::linear(3);
    for name in ["main:own1.txt", "main~1:own2.txt", "main^{tree}", "main~2^{tree}"] {
        let id = repo.id(name);
        let answer = Answer::of_v2(&repo.serve(
            Protocol::V2,
            &v2_fetch(&[&format!("want {id}"), "filter blob:none", "no-progress", "done"]),
        ));
        let pack = answer.pack.expect("a pack");
        let (ok, _, errors) = run_git(&repo.path, &["unpack-objects", "-n"], &pack);
        assert!(ok, "{name}: {errors}");
    }
}

#[test]
fn filters_the_repository_forbids_are_refused_by_name() {
    let repo = Repo::linear(3);
    let main = repo.id("main");
    let ask = |filter: &str| -> String {
        let body = v2_fetch(&[&format!("want {main}"), &format!("filter {filter}"), "done"]);
        Answer::of_v2(&repo.serve(Protocol::V2, &body)).lines[0].clone()
    };
    assert_eq!(ask("blob:size=5"), "ERR filter 'blob:size=5' not supported");
    assert_eq!(ask("tree:2"), "packfile");

    repo.git(&["config", "uploadpackfilter.tree.allow", "false"]);
    assert_eq!(ask("tree:2"), "ERR filter 'tree' not supported");
    assert_eq!(ask("combine:blob:none+tree:1"), "ERR filter 'tree' not supported");

    repo.git(&["config", "uploadpackfilter.tree.allow", "true"]);
    repo.git(&["config", "uploadpackfilter.tree.maxDepth", "3"]);
    assert_eq!(ask("tree:4"), "ERR tree filter allows max depth 3, but got 4");
    assert_eq!(ask("tree:3"), "packfile");

    repo.git(&["config", "uploadpack.allowFilter", "false"]);
    assert_eq!(ask("blob:none"), "ERR filter 'blob:none' not supported");
}

#[test]
fn a_sparse_filter_may_not_name_a_hidden_blob() {
    let repo = with_hidden_ref();
    let hidden = repo.id(&format!("{}:own10.txt", repo.commits[9]));
    let body = v2_fetch(&[
        &format!("want {}", repo.id("main")),
        &format!("filter sparse:oid={hidden}"),
        "done",
    ]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        [format!("ERR upload-pack: not our ref {hidden}")]
    );
}

#[test]
fn a_sparse_filter_may_name_its_blob_by_branch_and_path() {
    let repo = Repo::linear(3);
    let write = |arguments: &[&str], input: &str| {
        let (ok, out, errors) = crate::fetch_support::run_git(&repo.path, arguments, input.as_bytes());
        assert!(ok, "{errors}");
        String::from_utf8(out).expect("hex").trim().to_owned()
    };
    let patterns = write(&["hash-object", "-w", "--stdin"], "/kept\n");
    let folder = write(&["mktree"], &format!("100644 blob {patterns}\tpatterns\n"));
    let files: String = ["dropped", "kept"]
        .map(|name| {
            format!(
                "100644 blob {}\t{name}\n",
                write(&["hash-object", "-w", "--stdin"], name)
            )
        })
        .concat();
    let root = write(&["mktree"], &format!("040000 tree {folder}\tconf\n{files}"));
    let tip = write(&["commit-tree", "-m", "c", &root], "");
    repo.git(&["update-ref", "refs/heads/sparse", &tip]);
    let want = format!("want {tip}");
    let ask = |name: &str| v2_fetch(&[&want, &format!("filter {name}"), "no-progress", "done"]);

    for name in [
        "sparse:oid=sparse:conf/patterns",
        "sparse:oid=refs/heads/sparse:conf/patterns",
        &format!("sparse:oid={tip}:conf/patterns"),
        "combine:sparse:oid=sparse%3Aconf/patterns+blob:limit=1k",
    ] {
        let by_id = repo.serve(Protocol::V2, &ask(&format!("sparse:oid={patterns}")));
        let by_name = repo.serve(Protocol::V2, &ask(name));
        assert_eq!(by_name, by_id, "{name}");
    }
    let hidden = with_hidden_ref();
    let elsewhere = format!("{}:own10.txt", hidden.commits[9]);
    for name in ["none:conf", "main:none", "main:", &elsewhere] {
        let want = format!("want {}", hidden.id("main"));
        let body = v2_fetch(&[&want, &format!("filter sparse:oid={name}"), "done"]);
        assert_eq!(
            text(&hidden.serve(Protocol::V2, &body)),
            [format!("ERR unable to access sparse blob in '{name}'")]
        );
    }
}

#[test]
fn wanted_refs_are_told_after_the_boundary_and_before_the_pack() {
    let repo = Repo::linear(5);
    let body = v2_fetch(&["want-ref refs/heads/main", "deepen 2", "done"]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["ERR unexpected line: 'want-ref refs/heads/main'"]
    );

    repo.git(&["config", "uploadpack.allowRefInWant", "true"]);
    let answer = Answer::of_v2(&repo.serve(Protocol::V2, &body));
    let expected = [
        "shallow-info".to_owned(),
        format!("shallow {}", repo.commits[3]),
        "0001".to_owned(),
        "wanted-refs".to_owned(),
        format!("{} refs/heads/main", repo.commits[4]),
        "0001".to_owned(),
        "packfile".to_owned(),
    ];
    assert_eq!(answer.lines, expected);

    for (name, expected) in [
        ("refs/heads/gone", "ERR unknown ref refs/heads/gone"),
        ("main", "ERR unknown ref main"),
    ] {
        let body = v2_fetch(&[&format!("want-ref {name}"), "done"]);
        assert_eq!(text(&repo.serve(Protocol::V2, &body)), [expected]);
    }
    let twice = v2_fetch(&["want-ref refs/heads/main", "want-ref refs/heads/main", "done"]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &twice)),
        ["ERR duplicate want-ref refs/heads/main"]
    );
}

#[test]
fn with_sideband_all_every_line_is_on_band_one() {
    let repo = Repo::linear(5);
    let body = v2_fetch(&[
        "sideband-all",
        &format!("want {}", repo.id("main")),
        &format!("have {}", repo.commits[4]),
    ]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["ERR unexpected line: 'sideband-all'"]
    );

    repo.git(&["config", "uploadpack.allowSidebandAll", "true"]);
    let packets = packets(&repo.serve(Protocol::V2, &body));
    assert_eq!(packets[0], b"\x01acknowledgments\n");
    assert_eq!(packets[2], b"\x01ready\n");
    assert_eq!(packets[3], b"0001");
    assert_eq!(packets[4], b"\x01packfile\n");
}

#[test]
fn the_pack_of_v0_comes_in_the_framing_that_was_asked_for() {
    let repo = Repo::linear(40);
    let main = repo.id("main");
    let ask = |capabilities: &str| {
        let body = [
            line(&format!("want {main} {capabilities}")),
            b"0000".to_vec(),
            line("done"),
        ];
        repo.serve(Protocol::V0, &body.concat())
    };
    let is_whole = |pack: &[u8]| run_git(&repo.path, &["unpack-objects", "-n"], pack).0;

    let raw = ask("ofs-delta");
    assert!(raw.starts_with(b"0008NAK\nPACK"));
    assert!(is_whole(&raw[8..]));

    for (capabilities, most) in [
        ("side-band", 1000),
        ("side-band-64k", 65_520),
        ("side-band side-band-64k", 65_520),
    ] {
        let answer = ask(capabilities);
        let longest = packets(&answer).iter().map(Vec::len).max().expect("packets");
        assert!(longest <= most - 4, "{capabilities}: {longest}");
        let answer = Answer::of_v0(&answer);
        assert!(is_whole(&answer.pack.expect("a pack")));
        assert!(answer.progress.contains("Enumerating objects: "));
    }
    assert_eq!(Answer::of_v0(&ask("side-band-64k no-progress")).progress, "");
}

#[test]
fn keep_alives_come_before_the_first_byte_of_the_pack_and_between() {
    let repo = Repo::linear(200);
    let snapshot = repo.open().snapshot().expect("reads");
    let request = PackRequest {
        wants: vec![oid(&repo.id("main"))],
        ..PackRequest::default()
    };
    let answer = PackAnswer {
        sideband: Sideband::Large,
        shows_progress: false,
        keep_alive: Some(Duration::ZERO),
    };
    let mut out = Vec::new();

    let stats = send_pack(&snapshot, &request, answer, &Work::unlimited(), &mut out).expect("sends");

    assert!(out.starts_with(b"0005\x01"));
    let answer = Answer::of_v0(&out);
    let pack = answer.pack.expect("a pack");
    assert_eq!(pack.len() as u64, stats.bytes);
    assert!(run_git(&repo.path, &["unpack-objects", "-n"], &pack).0);
}

#[test]
fn a_request_that_costs_too_much_is_stopped_with_a_sentence() {
    let repo = Repo::linear(300);
    let ask = |body: &[u8]| {
        let work = Work::new(Arc::default(), Some(Duration::ZERO));
        // The first look starts the clock.
        work.check().expect("in time");
        let options = UploadOptions {
            protocol: Protocol::V2,
            limits: &repo.settings,
            grace_tips: &Vec::new,
            bundle_base: None,
            seen: None,
            work: &work,
        };
        let mut out = Vec::new();
        let mut input = body;
        let result = upload_pack::serve(&repo.open(), &options, &mut input, &mut out);
        (out, result)
    };
    let (out, result) = ask(&v2_fetch(&[&format!("want {}", repo.id("main")), "done"]));
    assert!(matches!(result, Err(UploadError::Stopped(Stopped::CpuBudget { .. }))));
    assert!(text(&out)[0].contains("processor time"), "{out:?}");
}

#[test]
fn a_client_that_went_away_ends_the_work_without_a_word() {
    let repo = Repo::linear(300);
    let gone = Arc::new(AtomicBool::new(false));
    let work = Work::new(gone.clone(), None);
    let snapshot = repo.open().snapshot().expect("reads");
    let request = PackRequest {
        wants: vec![oid(&repo.id("main"))],
        ..PackRequest::default()
    };
    let answer = PackAnswer {
        sideband: Sideband::Large,
        shows_progress: true,
        keep_alive: None,
    };
    struct Leaves<'a>(&'a AtomicBool, usize);
    impl std::io::Write for Leaves<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.store(true, Ordering::Relaxed);
            self.1 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut out = Leaves(&gone, 0);

    let result = send_pack(&snapshot, &request, answer, &work, &mut out);

    assert!(
        matches!(result, Err(UploadError::Stopped(Stopped::Cancelled))),
        "{result:?}"
    );
    assert!(out.1 < 10_000, "{}", out.1);
}

#[test]
fn grace_tips_are_asked_only_when_no_ref_reaches_what_is_wanted() {
    let repo = Repo::linear(10);
    let asked = Cell::new(0);
    let grace_tips = || {
        asked.set(asked.get() + 1);
        Vec::new()
    };
    let work = Work::unlimited();
    let options = UploadOptions {
        protocol: Protocol::V2,
        limits: &repo.settings,
        grace_tips: &grace_tips,
        bundle_base: None,
        seen: None,
        work: &work,
    };
    let repository = repo.open();
    let serve = |id: &str| {
        let body = v2_fetch(&[&format!("want {id}"), &format!("have {}", repo.commits[3]), "done"]);
        let _ = upload_pack::serve(&repository, &options, &mut &body[..], &mut Vec::new());
        asked.replace(0)
    };

    assert_eq!(serve(&repo.commits[9]), 0);
    assert_eq!(serve(&repo.commits[5]), 0);
    repo.git(&["update-ref", "refs/heads/main", &repo.commits[2]]);
    assert_eq!(serve(&repo.commits[5]), 1);
}

#[test]
fn a_shallow_line_that_names_no_commit_is_refused_and_an_unknown_one_ignored() {
    let repo = Repo::linear(3);
    let main = repo.id("main");
    let ask = |shallow: &str| {
        let body = v2_fetch(&[&format!("want {main}"), &format!("shallow {shallow}"), "done"]);
        Answer::of_v2(&repo.serve(Protocol::V2, &body))
    };
    let tree = repo.id("main^{tree}");
    assert_eq!(ask(&tree).lines, [format!("ERR invalid shallow object {tree}")]);
    assert_eq!(ask(&"1".repeat(40)).lines, ["shallow-info", "0001", "packfile"]);
}

#[test]
fn shallow_lines_find_no_hidden_commits() {
    let repo = with_hidden_ref();
    let main = repo.id("main");
    let ask = |shallow: &str, deepen: &str| {
        let body = v2_fetch(&[
            &format!("want {main}"),
            &format!("shallow {shallow}"),
            &format!("have {main}"),
            deepen,
            "no-progress",
            "done",
        ]);
        Answer::of_v2(&repo.serve(Protocol::V2, &body))
    };
    let hidden = [
        repo.commits[9].clone(),
        repo.commits[7].clone(),
        repo.id(&format!("{}:own10.txt", repo.commits[9])),
    ];
    for deepen in ["deepen 2147483647", "deepen 3", "deepen-since 5", "thin-pack"] {
        let nothing = ask(&"1".repeat(40), deepen);
        for id in &hidden {
            assert_eq!(ask(id, deepen), nothing, "{deepen}");
        }
    }
    let visible = ask(&repo.commits[2], "deepen 2147483647");
    assert_eq!(visible.lines[1], format!("unshallow {}", repo.commits[2]));
}

#[test]
fn a_future_date_selects_nothing_and_says_so() {
    let repo = Repo::linear(3);
    let body = v2_fetch(&[&format!("want {}", repo.id("main")), "deepen-since 4000000000", "done"]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["ERR no commits selected for shallow requests"]
    );
}

#[test]
fn an_object_that_appeared_a_moment_ago_is_found() {
    let repo = Repo::linear(3);
    let repository = repo.open();
    let tree = repo.id("main^{tree}");
    let commit = repo.git(&["commit-tree", "-m", "new", "-p", "main", &tree]);
    repo.git(&["update-ref", "refs/heads/main", commit.trim()]);
    let work = Work::unlimited();
    let options = UploadOptions {
        protocol: Protocol::V2,
        limits: &repo.settings,
        grace_tips: &Vec::new,
        bundle_base: None,
        seen: None,
        work: &work,
    };
    let body = v2_fetch(&[&format!("want {}", commit.trim()), "done"]);
    let mut out = Vec::new();

    upload_pack::serve(&repository, &options, &mut &body[..], &mut out).expect("is served");

    assert!(Answer::of_v2(&out).pack.is_some());
}

#[test]
fn what_a_client_tells_about_itself_is_kept_for_the_log() {
    let repo = Repo::linear(2);
    let body = [
        line("command=fetch"),
        line("agent=git/2.47.3-Linux"),
        line("server-option=fast\x1b"),
        line("session-id=abc"),
        b"0001".to_vec(),
        line(&format!("want {}", repo.id("main"))),
        line("done"),
        b"0000".to_vec(),
    ];
    let stats = repo.try_serve(Protocol::V2, &body.concat()).1.expect("is served");
    assert_eq!(stats.client.agent.as_deref(), Some("git/2.47.3-Linux"));
    assert_eq!(stats.client.server_options, ["fast?"]);
    assert_eq!(stats.client.session_id.as_deref(), Some("abc"));
    assert_eq!((stats.wants, stats.pack.is_some()), (1, true));
}

#[test]
fn an_object_read_again_from_the_cache_is_whole() {
    let repo = Repo::random(106);
    repo.git(&["repack", "-adfq"]);
    let snapshot = repo.open().snapshot().expect("reads");
    let mut reader = snapshot.objects.reader(1 << 20);
    let ids = repo.git(&["rev-list", "--objects", "--all", "--no-object-names"]);
    for id in ids.lines().map(oid) {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let first = reader
            .read(&id, &mut first)
            .expect("reads")
            .expect("is here")
            .data
            .to_vec();
        let second = reader.read(&id, &mut second).expect("reads").expect("is here").data;
        assert_eq!(first, second, "{id}");
    }
}
