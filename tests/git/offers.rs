//! What clients may ask for beyond refs and packs: sizes, bundles, packs from elsewhere.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use auxin::git::ObjectId;
use auxin::git::bundle;
use auxin::git::upload_pack::Protocol;

use crate::fetch_host::Host;
use crate::fetch_support::{Answer, Repo, line, run_git, text, v2, v2_fetch};

fn object_info(arguments: &[&str]) -> Vec<u8> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    v2("object-info", &arguments)
}

fn bundle_uri() -> Vec<u8> {
    v2("bundle-uri", &[])
}

#[test]
fn the_capabilities_are_those_of_stock_git_with_everything_switched_on() {
    let repo = Repo::linear(2);
    let entry = format!("{} {} https://x/y.pack", repo.id("main:own1.txt"), "2".repeat(40));
    for (key, value) in [
        ("uploadpack.allowRefInWant", "true"),
        ("uploadpack.allowSidebandAll", "true"),
        ("uploadpack.advertiseBundleURIs", "true"),
        ("uploadpack.blobPackfileUri", &entry),
        ("transfer.advertiseObjectInfo", "true"),
    ] {
        repo.git(&["config", key, value]);
    }
    let strip = |bytes: Vec<u8>| -> Vec<String> {
        let lines = text(&bytes).into_iter();
        lines.filter(|line| !line.starts_with("agent=")).collect()
    };
    assert_eq!(
        strip(repo.advertise(Protocol::V2)),
        strip(repo.reference_advertisement(Protocol::V2))
    );
}

#[test]
fn sizes_of_objects_are_told_as_stock_git_tells_them() {
    let repo = Repo::linear(5);
    repo.git(&["tag", "-a", "-m", "x", "v1"]);
    repo.git(&["repack", "-adq"]);
    repo.git(&["config", "transfer.advertiseObjectInfo", "true"]);
    let mut oids = vec![format!("oid {}", "1".repeat(40))];
    for name in [
        "main",
        "main~2",
        "main^{tree}",
        "main:own3.txt",
        "v1",
        "main~4:own1.txt",
    ] {
        oids.push(format!("oid {}", repo.id(name)));
    }
    let oids: Vec<&str> = oids.iter().map(String::as_str).collect();
    for arguments in [
        [&["size"], oids.as_slice()].concat(),
        oids.clone(),
        [oids.as_slice(), &["size"]].concat(),
        vec!["size"],
        vec![],
        [&["size", "type"], oids.as_slice()].concat(),
    ] {
        let body = object_info(&arguments);
        assert_eq!(
            text(&repo.serve(Protocol::V2, &body)),
            text(&repo.reference(Protocol::V2, &body)),
            "{arguments:?}"
        );
    }
}

#[test]
fn sizes_of_objects_that_only_hidden_refs_reach_are_not_told() {
    let mut repo = Repo::linear(3);
    repo.settings.advertise_object_info = true;
    repo.git(&["update-ref", "refs/hidden/x", "main"]);
    repo.git(&["update-ref", "refs/heads/main", "main~1"]);
    repo.git(&["config", "transfer.hideRefs", "refs/hidden"]);
    let (hidden, shown) = (repo.id("refs/hidden/x:own3.txt"), repo.id("main:own2.txt"));
    let body = object_info(&["size", &format!("oid {hidden}"), &format!("oid {shown}")]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["size", &format!("{hidden} "), &format!("{shown} 6"), "0000"]
    );
    repo.settings.allow_reachable_wants = false;
    assert_eq!(text(&repo.serve(Protocol::V2, &body))[2], format!("{shown} "));
}

#[test]
fn what_is_not_offered_is_no_command() {
    let mut repo = Repo::linear(3);
    for (body, name) in [(object_info(&["size"]), "object-info"), (bundle_uri(), "bundle-uri")] {
        assert_eq!(
            text(&repo.serve(Protocol::V2, &body)),
            [format!("ERR invalid command '{name}'")]
        );
    }
    repo.settings.advertise_object_info = true;
    repo.settings.bundle_uri = true;
    repo.settings.max_wants = 2;
    let oid = format!("oid {}", repo.id("main"));
    assert_eq!(
        text(&repo.serve(Protocol::V2, &object_info(&[&oid, &oid, &oid]))),
        ["ERR the request has more than 2 'oid' lines, which is this server's limit"]
    );
    let body = [
        line("command=bundle-uri"),
        b"0001".to_vec(),
        line("x"),
        b"0000".to_vec(),
    ]
    .concat();
    assert_eq!(
        text(&repo.serve(Protocol::V2, &body)),
        ["ERR bundle-uri: unexpected argument: 'x'"]
    );
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), ["0000"]);
}

#[test]
fn a_repositorys_own_bundle_keys_are_told_as_stock_git_tells_them() {
    let repo = Repo::linear(2);
    for (key, value) in [
        ("uploadpack.advertiseBundleURIs", "true"),
        ("bundle.version", "1"),
        ("bundle.mode", "all"),
        ("bundle.Weekly.uri", "https://cdn.example.org/weekly.bundle"),
        ("bundle.Weekly.creationToken", "7"),
    ] {
        repo.git(&["config", key, value]);
    }
    let ours = repo.serve(Protocol::V2, &bundle_uri());
    assert_eq!(ours, repo.reference(Protocol::V2, &bundle_uri()));
    assert_eq!(text(&ours).len(), 5);
}

fn make(repo: &Repo) -> Option<bundle::MadeBundle> {
    bundle::make(&repo.open(), &bundle::folder(&repo.path), &mut || Ok(())).expect("made")
}

fn bundle_file(repo: &Repo, made: &bundle::MadeBundle) -> PathBuf {
    bundle::folder(&repo.path).join(&made.name)
}

/// Objects that a repository's refs reach, or these.
fn reached(path: &Path, arguments: &[&str]) -> BTreeSet<String> {
    let (ok, out, errors) = run_git(path, &[&["rev-list", "--objects"], arguments].concat(), b"");
    assert!(ok, "{errors}");
    let listed = String::from_utf8_lossy(&out).into_owned();
    listed.lines().map(|line| line[..40].to_owned()).collect()
}

#[test]
fn a_bundle_holds_what_the_visible_refs_reach_and_nothing_else() {
    for seed in 701..706 {
        let repo = Repo::random(seed);
        let hidden = repo.commits.last().expect("some").clone();
        repo.git(&["update-ref", "refs/hidden/x", &hidden]);
        repo.git(&["config", "transfer.hideRefs", "refs/hidden"]);
        let made = make(&repo).expect("there are refs");
        let file = bundle_file(&repo, &made);
        let file = file.to_str().expect("text");
        assert!(made.is_new);

        repo.git(&["bundle", "verify", "-q", file]);
        let mirror = repo.beside("mirror");
        repo.git(&["clone", "-q", "--mirror", file, mirror.to_str().expect("text")]);

        let shown = "--format=%(objectname) %(refname)";
        let heads = repo.git(&["for-each-ref", shown, "refs/heads", "refs/tags"]);
        let (_, cloned, _) = run_git(&mirror, &["for-each-ref", shown], b"");
        assert_eq!(String::from_utf8_lossy(&cloned), heads, "seed {seed}");
        assert_eq!(
            reached(&mirror, &["--all"]),
            reached(&repo.path, &["--branches", "--tags"])
        );
        let (_, all, _) = run_git(&mirror, &["cat-file", "--batch-all-objects", "--batch-check"], b"");
        let all = String::from_utf8_lossy(&all).lines().count();
        assert_eq!(all, reached(&repo.path, &["--branches", "--tags"]).len(), "seed {seed}");
    }
}

#[test]
fn a_bundle_is_made_anew_only_if_refs_moved_and_two_are_kept() {
    let repo = Repo::linear(6);
    let first = make(&repo).expect("made");
    let again = make(&repo).expect("still there");
    assert_eq!((&again.name, again.is_new), (&first.name, false));
    assert_eq!(again.len_bytes, first.len_bytes);
    let folder = bundle::folder(&repo.path);
    std::fs::write(folder.join(".new-left"), "a killed process").expect("written");

    let mut names = vec![first.name];
    for back in 1..4 {
        repo.git(&["update-ref", "refs/heads/x", &format!("main~{back}")]);
        let made = make(&repo).expect("made");
        assert!(made.is_new && made.name > *names.last().expect("one"));
        names.push(made.name);
    }

    let entries = std::fs::read_dir(&folder).expect("a folder");
    let mut left: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, [&names[2], &names[3], "lock"]);
    bundle::remove_all(&folder).expect("removed");
    assert_eq!(bundle::newest(&folder).expect("readable"), None);
}

#[test]
fn nothing_is_bundled_where_nothing_is_to_be_seen_or_history_is_cut() {
    let repo = Repo::empty();
    assert_eq!(make(&repo), None);
    let repo = Repo::linear(3);
    std::fs::write(repo.path.join("shallow"), format!("{}\n", repo.commits[1])).expect("written");
    assert_eq!(make(&repo), None);
    assert!(!bundle::folder(&repo.path).exists());
}

#[test]
fn a_bundle_is_told_of_while_all_in_it_may_be_fetched() {
    let mut repo = Repo::linear(4);
    repo.settings.bundle_uri = true;
    repo.bundle_base = Some("../../-/bundles/anna/song".into());
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), ["0000"]);
    repo.git(&["update-ref", "refs/heads/x", "main"]);
    repo.git(&["update-ref", "refs/heads/main", "main~1"]);
    let made = make(&repo).expect("made");
    let told = [
        "bundle.version=1".to_owned(),
        "bundle.mode=all".to_owned(),
        format!("bundle.auxin.uri=../../-/bundles/anna/song/{}", made.name),
        "0000".to_owned(),
    ];
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), told);

    // What was deleted a moment ago may still be fetched, what was hidden may not.
    let gone = ObjectId::from_hex(repo.id("x").as_bytes()).expect("an id");
    repo.git(&["update-ref", "-d", "refs/heads/x"]);
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), ["0000"]);
    repo.grace_tips = vec![gone];
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), told);
    // A new commit only makes it a little old.
    repo.grace_tips = Vec::new();
    repo.git(&["update-ref", "refs/heads/main", &gone.to_string()]);
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), told);
    repo.git(&["config", "transfer.hideRefs", "refs/heads/main"]);
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), ["0000"]);
    repo.git(&["config", "--unset", "transfer.hideRefs"]);
    std::fs::write(bundle_file(&repo, &made), "damaged").expect("written");
    assert_eq!(text(&repo.serve(Protocol::V2, &bundle_uri())), ["0000"]);
}

/// A pack of one object in a folder of its own; its hash.
fn pack_of(repo: &Repo, folder: &Path, id: &str) -> String {
    std::fs::create_dir_all(folder).expect("a folder");
    let base = folder.join("pack").to_str().expect("text").to_owned();
    let (ok, out, errors) = run_git(&repo.path, &["pack-objects", "-q", &base], format!("{id}\n").as_bytes());
    assert!(ok, "{errors}");
    String::from_utf8_lossy(&out).trim().to_owned()
}

/// Serves the files of a folder; gives its address.
fn file_host(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let name = first
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned();
            let answer = match std::fs::read(folder.join(name)) {
                Ok(bytes) => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                        bytes.len()
                    );
                    [head.into_bytes(), bytes].concat()
                }
                Err(_) => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
            };
            let _ = stream.write_all(&answer);
        }
    });
    url
}

#[test]
fn an_object_that_lies_elsewhere_is_left_out_only_for_clients_that_get_it_there() {
    let repo = Repo::linear(6);
    repo.git(&["repack", "-adq"]);
    let blob = repo.id("main:own5.txt");
    let hash = pack_of(&repo, &repo.beside("elsewhere"), &blob);
    let entry = format!("{blob} {hash} https://cdn.example.org/{hash}.pack");
    repo.git(&["config", "uploadpack.blobPackfileUri", &entry]);
    let want = format!("want {}", repo.id("main"));
    let old = format!("have {}", repo.id("main~1"));
    let count = |answer: &Answer| {
        let pack = answer.pack.as_ref().expect("a pack");
        u32::from_be_bytes(pack[8..12].try_into().expect("four bytes"))
    };
    let ask = |arguments: &[&str]| Answer::of_v2(&repo.serve(Protocol::V2, &v2_fetch(arguments)));
    let all = ask(&[&want, "ofs-delta", "done"]);
    assert_eq!(all.lines, ["packfile"]);

    let less = ask(&[&want, "ofs-delta", "packfile-uris http,https", "done"]);
    let told = format!("{hash} https://cdn.example.org/{hash}.pack");
    assert_eq!(less.lines, ["packfile-uris", &told, "0001", "packfile"]);
    assert_eq!(count(&less), count(&all) - 1);

    for arguments in [
        &[want.as_str(), "ofs-delta", "packfile-uris http,ftp", "done"][..],
        &[&want, &old, "ofs-delta", "packfile-uris https", "done"],
        &[&want, "filter blob:none", "ofs-delta", "packfile-uris https", "done"],
    ] {
        assert_eq!(ask(arguments).lines, ["packfile"], "{arguments:?}");
    }
    let twice = v2_fetch(&[&want, "packfile-uris http", "packfile-uris https", "done"]);
    assert_eq!(
        text(&repo.serve(Protocol::V2, &twice)),
        ["ERR multiple packfile-uris lines forbidden"]
    );
}

#[test]
fn stock_git_gets_objects_from_elsewhere_and_ends_with_a_whole_clone() {
    let repo = Repo::linear(12);
    repo.git(&["repack", "-adfq", "--depth=20"]);
    let folder = repo.beside("elsewhere");
    let url = file_host(folder.clone());
    for name in ["own3.txt", "take 1/deep/f3.txt", "own9.txt"] {
        let blob = repo.id(&format!("main:{name}"));
        let hash = pack_of(&repo, &folder, &blob);
        let entry = format!("{blob} {hash} {url}/pack-{hash}.pack");
        repo.git(&["config", "--add", "uploadpack.blobPackfileUri", &entry]);
    }
    let host = Host::start(&repo);

    let plain = host.clone(&repo, 2, "plain", &[]);
    let clone = host.clone(&repo, 2, "clone", &["-c", "fetch.uriProtocols=http,https"]);

    let packs = |path: &Path| {
        let entries = std::fs::read_dir(path.join(".git/objects/pack")).expect("a folder");
        let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("text"));
        names.filter(|name| name.ends_with(".pack")).count()
    };
    assert_eq!(packs(&plain), 1);
    assert_eq!(packs(&clone), 4, "three packs came from elsewhere");
    assert_eq!(reached(&clone, &["--all"]), reached(&plain, &["--all"]));
    for clone in [&plain, &clone] {
        let (ok, _, errors) = run_git(clone, &["fsck", "--strict"], b"");
        assert!(ok, "{errors}");
    }
}

#[test]
fn the_settings_decide_what_is_offered_where_the_repository_is_silent() {
    let mut repo = Repo::linear(2);
    let offers = |repo: &Repo| {
        let v2 = text(&repo.advertise(Protocol::V2)).join("\n");
        let v0 = String::from_utf8_lossy(&repo.advertise(Protocol::V0)).into_owned();
        [
            v2.contains(" ref-in-want"),
            v2.contains(" sideband-all"),
            v2.contains("session-id="),
            v0.contains(" session-id="),
        ]
    };
    let want_ref = v2_fetch(&["want-ref refs/heads/main", "sideband-all", "done"]);
    assert_eq!(offers(&repo), [false; 4]);
    assert!(text(&repo.serve(Protocol::V2, &want_ref))[0].starts_with("ERR unexpected line"));

    repo.settings.allow_ref_in_want = true;
    repo.settings.allow_sideband_all = true;
    repo.settings.advertise_session_id = true;
    assert_eq!(offers(&repo), [true; 4]);
    let served = String::from_utf8_lossy(&repo.serve(Protocol::V2, &want_ref)).into_owned();
    assert!(served.contains("\u{1}wanted-refs"), "{served}");

    for key in [
        "uploadpack.allowRefInWant",
        "uploadpack.allowSidebandAll",
        "transfer.advertiseSID",
    ] {
        repo.git(&["config", key, "false"]);
    }
    assert_eq!(offers(&repo), [false; 4]);
}
