//! Right inputs to begin with.

use std::path::Path;

use crate::support::pack::{self, BLOB, COMMIT, Pack, TREE};
use crate::support::repositories::{self, on_disk, on_disk_with_input};
use crate::support::wire::{self, V0, V2};

/// A small repository: ten commits, tags of both kinds, one pack.
pub fn repository(bare: &Path) {
    repository_as(bare, "sha1");
}

/// The same of this object format.
pub fn repository_as(bare: &Path, format: &str) {
    repositories::init_as(bare, format);
    repositories::straight_history(bare, 10);
    repositories::on_disk(bare, &["tag", "-a", "-m", "Mix", "mix-1", "main"]).assert_ok();
    repositories::on_disk(bare, &["tag", "rough", "main~3"]).assert_ok();
    repositories::on_disk(bare, &["repack", "-adq"]).assert_ok();
    for (key, value) in [
        ("uploadpack.allowFilter", "true"),
        ("uploadpack.allowRefInWant", "true"),
        ("transfer.advertiseObjectInfo", "true"),
        ("uploadpack.advertiseBundleURIs", "true"),
        ("bundle.version", "1"),
    ] {
        repositories::on_disk(bare, &["config", key, value]).assert_ok();
    }
}

/// Requests of all versions; the first byte is the version.
pub fn fetches(bare: &Path) -> Vec<Vec<u8>> {
    let format = repositories::object_format(bare);
    let id = |name: &str| repositories::id(bare, name);
    let (tip, old, tag) = (id("main"), id("main~5"), id("mix-1"));
    let v2 = [
        V2::ls_refs(),
        V2::ls_refs()
            .arg("peel")
            .arg("symrefs")
            .arg("unborn")
            .arg("ref-prefix refs/heads/"),
        V2::fetch().arg(format!("want {tip}")).arg("done"),
        V2::fetch()
            .arg("thin-pack")
            .arg("ofs-delta")
            .arg("include-tag")
            .arg(format!("want {tip}"))
            .arg(format!("have {old}")),
        V2::fetch()
            .arg(format!("want {tag}"))
            .arg(format!("shallow {old}"))
            .arg("deepen 3")
            .arg("deepen-relative")
            .arg("done"),
        V2::fetch()
            .arg(format!("want {tip}"))
            .arg("deepen-since 1700000000")
            .arg("deepen-not refs/tags/rough")
            .arg("done"),
        V2::fetch()
            .arg(format!("want {tip}"))
            .arg("filter combine:blob:limit=1k+tree:2")
            .arg("done"),
        V2::fetch()
            .capability("server-option=x")
            .arg("sideband-all")
            .arg("want-ref refs/heads/main")
            .arg("wait-for-done")
            .arg(format!("have {old}")),
        V2::fetch()
            .arg(format!("want {tip}"))
            .arg("packfile-uris http,https")
            .arg("done"),
    ];
    let v0 = |capabilities: &str| V0 {
        capabilities: format!("{capabilities} object-format={format}"),
        wants: vec![tip.clone(), tag.clone()],
        haves: vec![old.clone()],
        done: true,
        ..V0::default()
    };
    let mut shallow = v0("side-band-64k shallow deepen-relative filter");
    shallow.shallows = vec![old.clone()];
    shallow.deepen = vec!["deepen 2".into()];
    shallow.filter = Some("blob:none".into());
    let mut open = v0("multi_ack_detailed no-done side-band ofs-delta thin-pack");
    open.done = false;
    let old_requests = [v0(""), v0("multi_ack side-band-64k include-tag"), shallow, open];
    let sizes = [
        wire::line("command=object-info"),
        wire::line(&format!("object-format={format}")),
        b"0001".to_vec(),
        wire::line("size"),
        wire::line("type"),
        wire::line(&format!("oid {tip}")),
        wire::line(&format!("oid {tag}")),
        b"0000".to_vec(),
    ];
    let bundles = [wire::line("command=bundle-uri"), b"0000".to_vec()];
    let mut v2 = v2.map(|request| request.object_format(format).bytes()).to_vec();
    v2.extend([sizes.concat(), bundles.concat()]);
    let mut all: Vec<Vec<u8>> = v2.iter().map(|body| [b"\x02", body.as_slice()].concat()).collect();
    all.extend(
        old_requests
            .iter()
            .map(|request| [b"\x00".to_vec(), request.bytes()].concat()),
    );
    all.push(b"\x010000".to_vec());
    all
}

/// Lists of commands; the first byte chooses the object format.
pub fn pushes() -> Vec<Vec<u8>> {
    let mut all = pushes_as(0, "sha1", 40);
    all.extend(pushes_as(1, "sha256", 64));
    all
}

fn pushes_as(first: u8, format: &str, digits: usize) -> Vec<Vec<u8>> {
    let [none, one, two] = ["0", "1", "2"].map(|digit| digit.repeat(digits));
    let some = format!("report-status object-format={format}");
    let all =
        format!("report-status-v2 side-band-64k atomic push-options quiet object-format={format} agent=x session-id=y");
    [
        b"0000".to_vec(),
        wire::push(&[wire::command(&none, &one, "refs/heads/main")], &some, &[], b"PACK"),
        wire::push(
            &[
                wire::command(&one, &none, "refs/heads/old"),
                wire::command(&one, &two, "refs/heads/main"),
            ],
            &all,
            &["mood=blue", "ci.skip"],
            b"PACK",
        ),
        [
            wire::line(&format!("shallow {one}")),
            wire::push(&[wire::command(&none, &two, "refs/tags/x")], &some, &[], b""),
        ]
        .concat(),
        [
            wire::data(format!("push-cert\0 report-status push-options object-format={format}\n").as_bytes()),
            wire::line("certificate version 0.1"),
            wire::line("pusher Ada <ada@example.org> 1700000000 +0100"),
            wire::line("nonce 1700000000-0a1b"),
            wire::line("push-option mood=blue"),
            wire::line(""),
            wire::line(&format!("{one} {two} refs/heads/main")),
            wire::line("-----BEGIN SSH SIGNATURE-----"),
            wire::line("AAAA"),
            wire::line("-----END SSH SIGNATURE-----"),
            wire::line("push-cert-end"),
            b"0000".to_vec(),
            wire::line("mood=blue"),
            b"0000PACK".to_vec(),
        ]
        .concat(),
    ]
    .into_iter()
    .map(|body| [vec![first], body].concat())
    .collect()
}

/// Packs: made by hand, and by git with deltas of both kinds.
pub fn packs(bare: &Path) -> Vec<Vec<u8>> {
    let blob = b"la la la".to_vec();
    let tree = pack::tree(&[("100644", b"take", pack::id("blob", &blob))]);
    let commit = pack::commit(&pack::id("tree", &tree));
    let mut small = Pack::default();
    small.object(COMMIT, &commit);
    small.object(TREE, &tree);
    let base = small.object(BLOB, &blob);
    let next = small.delta_at(base, &pack::insert(8, b"another verse"));
    small.delta_at(next, &pack::insert(13, b"and another"));
    small.delta_of(&pack::id("blob", &blob), &pack::insert(8, b"a chorus"));
    let mut all = vec![small.finish(), Pack::default().finish()];
    all.extend(made_by_git(bare));
    all
}

/// Packs as git makes them, with deltas of both kinds.
pub fn made_by_git(bare: &Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for args in [
        &["pack-objects", "--stdout", "--revs", "-q", "--delta-base-offset"][..],
        &["pack-objects", "--stdout", "--revs", "-q"],
        &["pack-objects", "--stdout", "--revs", "-q", "--thin"],
    ] {
        for revs in ["main\n", "main\n--not\nmain~4\n"] {
            all.push(
                on_disk_with_input(bare, args, revs.as_bytes())
                    .assert_ok()
                    .stdout
                    .clone(),
            );
        }
    }
    all
}

/// Content of the files in the pack folder of `bare` whose name has this in it.
fn beside_packs(bare: &Path, name: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(bare.join("objects/pack")).expect("lists");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = paths.filter(|path| path.to_string_lossy().contains(name)).collect();
    found.sort();
    found.iter().map(|path| std::fs::read(path).expect("reads")).collect()
}

/// Runs git on a copy of `bare`, whose objects are the same, and gives the files it leaves.
fn after(bare: &Path, commands: &[&[&str]], name: &str) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let copy = folder.path().join("copy.git");
    let from = bare.to_str().expect("text");
    let to = copy.to_str().expect("text");
    on_disk(bare, &["clone", "--quiet", "--mirror", "--no-local", from, to]).assert_ok();
    for command in commands {
        on_disk(&copy, command).assert_ok();
    }
    beside_packs(&copy, name)
}

/// Bitmaps of packs with all extensions, and of a multi-pack-index.
pub fn bitmaps(bare: &Path) -> Vec<Vec<u8>> {
    let all = [
        "-c",
        "pack.writeBitmapLookupTable=true",
        "-c",
        "bitmapPseudoMerge.all.pattern=refs/",
        "-c",
        "bitmapPseudoMerge.all.threshold=now",
        "-c",
        "bitmapPseudoMerge.all.stableThreshold=now",
        "repack",
        "-adbq",
    ];
    let plain = ["-c", "pack.writeBitmapHashCache=false", "repack", "-adbq"];
    let midx = ["multi-pack-index", "write", "--bitmap"];
    [&all[..], &plain, &midx]
        .iter()
        .flat_map(|command| after(bare, &[command], ".bitmap"))
        .collect()
}

/// Reverse indexes of packs.
pub fn reverse_indexes(bare: &Path) -> Vec<Vec<u8>> {
    after(
        bare,
        &[&["-c", "pack.writeReverseIndex=true", "repack", "-adq"]],
        ".rev",
    )
}

/// Multi-pack-indexes with and without the order that bitmaps need.
pub fn multi_pack_indexes(bare: &Path) -> Vec<Vec<u8>> {
    let again = ["repack", "-q"];
    let tag = ["tag", "-a", "-m", "Mix", "mix-2", "main"];
    let plain = ["multi-pack-index", "write"];
    let bitmap = ["multi-pack-index", "write", "--bitmap"];
    [&[&plain[..]][..], &[&tag, &again, &bitmap]]
        .iter()
        .flat_map(|commands| after(bare, commands, "multi-pack-index"))
        .filter(|content| content.starts_with(b"MIDX"))
        .collect()
}

/// Commit-graphs: of a straight history, of merges of three, with Bloom filters, and without
/// corrected dates.
pub fn commit_graphs(bare: &Path) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let copy = folder.path().join("copy.git");
    let copy_path = copy.to_str().expect("a path of text");
    on_disk(bare, &["clone", "-q", "--mirror", ".", copy_path]).assert_ok();
    let file = copy.join("objects/info/commit-graph");
    let mut all = Vec::new();
    let mut write = |args: &[&str]| {
        on_disk(&copy, &[args, &["commit-graph", "write", "--reachable"]].concat()).assert_ok();
        all.push(std::fs::read(&file).expect("git wrote it"));
        std::fs::remove_file(&file).expect("it can go");
    };
    write(&[]);
    write(&["-c", "commitGraph.changedPaths=true"]);
    write(&["-c", "commitGraph.generationVersion=1"]);
    let merge = repositories::ask(
        &copy,
        &[
            "commit-tree",
            "-m",
            "x",
            "-p",
            "main",
            "-p",
            "main~2",
            "-p",
            "main~4",
            "main^{tree}",
        ],
    );
    on_disk(&copy, &["update-ref", "refs/heads/main", &merge]).assert_ok();
    write(&[]);
    all
}

/// Objects; the first byte chooses the kind.
pub fn objects() -> Vec<Vec<u8>> {
    let file = pack::id("blob", b"la");
    let tree = pack::tree(&[
        ("100644", b".gitmodules", file),
        ("40000", b"Audio Files", file),
        ("160000", b"plugin", file),
        ("120000", b"link", file),
    ]);
    let commit = pack::commit(&pack::id("tree", &tree));
    let tag = b"object 1111111111111111111111111111111111111111\ntype commit\ntag mix-1\n\
                tagger Ada <ada@example.org> 1700000000 +0100\n\nMix\n";
    let modules = b"[submodule \"x\"]\n\tpath = x\n\turl = https://example.org/x\n\tupdate = checkout\n";
    [(0, commit), (1, tree), (2, modules.to_vec()), (3, tag.to_vec())]
        .into_iter()
        .map(|(kind, content)| [vec![kind], content].concat())
        .collect()
}

/// Names of people and repositories.
pub fn names() -> Vec<Vec<u8>> {
    [
        "anna/song",
        "Anna-2/Song_1.0.git",
        "a/b",
        "band/x..y",
        "api/v1",
        "anna/.git",
        "CON/nul.txt",
        "sö/ng",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect()
}

/// Filters.
pub fn filters() -> Vec<Vec<u8>> {
    [
        "blob:none",
        "blob:limit=10k",
        "tree:3",
        "object:type=commit",
        "sparse:oid=1111111111111111111111111111111111111111",
        "sparse:oid=1111111111111111111111111111111111111111111111111111111111111111",
        "combine:blob:none+tree:1",
        "combine:combine%3ablob%253anone%2btree%3a1+tree:0",
    ]
    .iter()
    .map(|filter| filter.as_bytes().to_vec())
    .collect()
}

/// A repository's config.
pub fn repo_configs() -> Vec<Vec<u8>> {
    vec![
        b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tlogAllRefUpdates = always\n".to_vec(),
        b"[uploadpack]\n\tallowFilter\n\thideRefs = refs/x\n\thideRefs = !refs/x/y\n[uploadpackfilter \"tree\"]\n\tallow = true\n\tmaxDepth = 3\n".to_vec(),
        b"[receive]\n\tdenyNonFastForwards = yes\n\tmaxInputSize = 10m\n\tfsckObjects = true\n[receive \"fsck\"]\n\tbadDate = warn\n[transfer]\n\thideRefs = ^refs/z\n[include]\n\tpath = x\n".to_vec(),
        b"[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n[http]\n\tuploadpack = false\n\treceivepack = true\n[lsrefs]\n\tunborn = ignore\n".to_vec(),
    ]
}
