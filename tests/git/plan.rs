//! Packs that Auxin plans and sends, judged by stock git.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use auxin::config::GitSettings;
use auxin::git::ObjectId;
use auxin::git::filter::{Filter, FilterLimits};
use auxin::git::plan::{PackRequest, plan};
use auxin::git::snapshot::Repository;
use tempfile::TempDir;

pub struct TestRepo {
    _folder: TempDir,
    pub path: PathBuf,
}

pub fn git_in(path: &Path, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>) {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("git ends");
    writer.join().expect("input is written");
    if !output.status.success() {
        eprintln!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (output.status.success(), output.stdout)
}

impl TestRepo {
    /// Forty commits on two lines that are merged now and then, with folders, tags and a tag of a tag.
    pub fn with_history() -> Self {
        Self::with_history_in("sha1")
    }

    /// The same with ids of this object format.
    pub fn with_history_in(format: &str) -> Self {
        let folder = TempDir::new().expect("temporary folder");
        let path = folder.path().join("song.git");
        let repo = Self { _folder: folder, path };
        std::fs::create_dir(&repo.path).expect("folder");
        let object_format = format!("--object-format={format}");
        repo.git(&["init", "-q", "--bare", "-b", "main", &object_format]);
        let id_len = if format == "sha256" { 64 } else { 40 };
        let mut stream = String::new();
        for number in 1..=40 {
            let branch = if number % 3 == 0 { "side" } else { "main" };
            stream += &format!("commit refs/heads/{branch}\nmark :{number}\n");
            stream += &format!(
                "committer A <a@example.org> {} +0000\ndata 2\nc\n",
                1_700_000_000 + number * 60
            );
            if number == 3 {
                stream += "from :2\n";
            }
            if number % 10 == 0 {
                stream += &format!(
                    "merge :{}\n",
                    number
                        - if (number - 1) % 3 == 0 {
                            1
                        } else if (number - 2) % 3 == 0 {
                            2
                        } else {
                            3
                        }
                );
            }
            for file in 0..4 {
                let content = format!(
                    "{}line {number}\n",
                    "the same long text again and again\n".repeat(50 + number * file)
                );
                stream += &format!(
                    "M 100644 inline take {file}/deep/f{}.txt\ndata {}\n{content}\n",
                    number % 7,
                    content.len()
                );
            }
            stream += &format!("M 100644 inline own{number}.txt\ndata 6\nown{:03}\n", number);
            stream += &format!("M 160000 {:0id_len$x} sub\n\n", 0x1234);
            if number % 8 == 0 {
                stream +=
                    &format!("tag v{number}\nfrom :{number}\ntagger A <a@example.org> 1700000000 +0000\ndata 1\nt\n");
            }
        }
        let (ok, _) = git_in(&repo.path, &["fast-import", "--quiet"], stream.as_bytes());
        assert!(ok);
        repo.git(&[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "tag",
            "-a",
            "-m",
            "x",
            "tagtag",
            "v16",
        ]);
        repo
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let (ok, out) = git_in(&self.path, arguments, b"");
        assert!(ok, "git {arguments:?}");
        String::from_utf8(out).expect("text")
    }

    pub fn all_objects(&self) -> BTreeSet<String> {
        all_objects(&self.path)
    }

    pub fn id(&self, name: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", name]).trim().as_bytes()).expect("an id")
    }

    pub fn objects(&self, arguments: &[&str]) -> BTreeSet<String> {
        let mut all = vec!["rev-list", "--objects", "--no-object-names"];
        all.extend(arguments);
        self.git(&all).lines().map(str::to_owned).collect()
    }

    pub fn pack(&self, request: &PackRequest) -> Vec<u8> {
        let repository = Repository::open(&self.path, false).expect("opens");
        let snapshot = repository.snapshot().expect("reads");
        let mut pack = Vec::new();
        let plan = plan(&snapshot, request, &mut || Ok(())).expect("plans");
        let count = plan.object_count();
        let stats = plan.write_to(&mut pack, &mut || Ok(())).expect("writes");
        assert_eq!((stats.objects, stats.bytes), (count, pack.len() as u64));
        pack
    }
}

/// Ids of the objects in a pack that stands alone, as stock git reads them.
pub fn contents(pack: &[u8]) -> BTreeSet<String> {
    contents_in(pack, "sha1")
}

/// The same for a pack whose ids are of this object format.
pub fn contents_in(pack: &[u8], format: &str) -> BTreeSet<String> {
    let folder = TempDir::new().expect("temporary folder");
    let object_format = format!("--object-format={format}");
    assert!(git_in(folder.path(), &["init", "-q", "--bare", &object_format, "."], b"").0);
    let (ok, _) = git_in(
        folder.path(),
        &["index-pack", "--stdin", "--strict=missingEmail=ignore"],
        pack,
    );
    assert!(ok, "index-pack accepts the pack");
    all_objects(folder.path())
}

pub fn all_objects(path: &Path) -> BTreeSet<String> {
    let (ok, list) = git_in(
        path,
        &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"],
        b"",
    );
    assert!(ok);
    String::from_utf8(list)
        .expect("text")
        .lines()
        .map(str::to_owned)
        .collect()
}

fn clone_request(repo: &TestRepo) -> PackRequest {
    PackRequest {
        wants: vec![repo.id("main"), repo.id("side"), repo.id("v8"), repo.id("tagtag")],
        ofs_delta: true,
        ..PackRequest::default()
    }
}

#[test]
fn a_clone_holds_exactly_what_git_would_send_however_the_objects_are_stored() {
    for layout in ["loose", "packs", "one pack", "pack and loose", "duplicates"] {
        let repo = TestRepo::with_history();
        match layout {
            "loose" => {
                let packs: Vec<PathBuf> = std::fs::read_dir(repo.path.join("objects/pack"))
                    .expect("lists")
                    .map(|entry| entry.expect("entry").path())
                    .collect();
                let moved = repo.path.join("moved");
                std::fs::create_dir(&moved).expect("folder");
                for file in &packs {
                    std::fs::rename(file, moved.join(file.file_name().expect("name"))).expect("moves");
                }
                for file in std::fs::read_dir(&moved).expect("lists") {
                    let path = file.expect("entry").path();
                    if path.extension().is_some_and(|extension| extension == "pack") {
                        let pack = std::fs::read(path).expect("reads");
                        assert!(git_in(&repo.path, &["unpack-objects", "-q"], &pack).0);
                    }
                }
            }
            "packs" => {
                for tip in ["main~8", "side~3", "main~2", "side", "main"] {
                    let (ok, _) = git_in(
                        &repo.path,
                        &["pack-objects", "-q", "--revs", "objects/pack/pack"],
                        tip.as_bytes(),
                    );
                    assert!(ok);
                }
            }
            "one pack" => drop(repo.git(&["repack", "-adfq"])),
            "pack and loose" => {
                repo.git(&["repack", "-adfq"]);
                repo.git(&[
                    "-c",
                    "user.name=a",
                    "-c",
                    "user.email=a@example.org",
                    "commit-tree",
                    "-m",
                    "x",
                    "main^{tree}",
                ]);
            }
            _ => {
                repo.git(&["repack", "-adfq"]);
                for tips in ["main\nside\nv8", "side", "main\n^main~20"] {
                    let (ok, _) = git_in(
                        &repo.path,
                        &["pack-objects", "-q", "--revs", "--window=50", "objects/pack/pack"],
                        tips.as_bytes(),
                    );
                    assert!(ok);
                }
            }
        }
        let expected = repo.objects(&["main", "side", "v8", "tagtag"]);
        for ofs_delta in [true, false] {
            let request = PackRequest {
                ofs_delta,
                ..clone_request(&repo)
            };
            assert_eq!(
                contents(&repo.pack(&request)),
                expected,
                "{layout}, ofs_delta {ofs_delta}"
            );
        }
    }
}

#[test]
fn a_fetch_brings_what_the_client_lacks_and_thin_packs_can_be_completed() {
    let repo = TestRepo::with_history();
    repo.git(&["repack", "-adfq"]);
    for (want, have) in [
        ("main", "main~1"),
        ("main", "side"),
        ("side", "main~12"),
        ("tagtag", "v8"),
        ("main", "main"),
    ] {
        for (thin, ofs_delta) in [(true, true), (false, true), (true, false), (false, false)] {
            let client = TempDir::new().expect("temporary folder");
            assert!(git_in(client.path(), &["init", "-q", "--bare", "."], b"").0);
            let base = repo.pack(&PackRequest {
                wants: vec![repo.id(have)],
                ofs_delta: true,
                ..PackRequest::default()
            });
            assert!(git_in(client.path(), &["index-pack", "--stdin"], &base).0);
            let pack = repo.pack(&PackRequest {
                wants: vec![repo.id(want)],
                haves: vec![repo.id(have)],
                thin,
                ofs_delta,
                ..PackRequest::default()
            });

            let complete: &[&str] = if thin {
                &["index-pack", "--stdin", "--fix-thin"]
            } else {
                &["index-pack", "--stdin"]
            };
            let (ok, _) = git_in(client.path(), complete, &pack);

            assert!(ok, "{want} from {have}, thin {thin}");
            let (ok, _) = git_in(
                client.path(),
                &["rev-list", "--objects", "--quiet", &repo.id(want).to_string()],
                b"",
            );
            assert!(ok, "{want} is complete");
        }
    }
}

#[test]
fn a_small_fetch_is_hardly_longer_than_that_of_git() {
    // Stored whole, stored as deltas against what is newer, and stored loose.
    for repack in [
        &["repack", "-adfq", "--window=0"][..],
        &["repack", "-adfq"],
        &["count-objects"],
    ] {
        let repo = TestRepo::with_history();
        repo.git(repack);
        for (want, have) in [
            ("main", "main~1"),
            ("main~1", "main~2"),
            ("main", "main~6"),
            ("side", "side~2"),
        ] {
            let ours = repo.pack(&PackRequest {
                wants: vec![repo.id(want)],
                haves: vec![repo.id(have)],
                thin: true,
                ofs_delta: true,
                ..PackRequest::default()
            });
            let (ok, theirs) = git_in(
                &repo.path,
                &[
                    "pack-objects",
                    "-q",
                    "--revs",
                    "--thin",
                    "--stdout",
                    "--delta-base-offset",
                ],
                format!("{want}\n^{have}\n").as_bytes(),
            );
            assert!(ok);

            let (ours, theirs) = (ours.len(), theirs.len());
            assert!(
                ours * 100 <= theirs * 108,
                "{repack:?} {have}..{want}: {ours} bytes, git {theirs}"
            );
        }
    }
}

#[test]
fn filters_leave_out_what_git_leaves_out() {
    let repo = TestRepo::with_history();
    repo.git(&["repack", "-adfq"]);
    let (ok, out) = git_in(
        &repo.path,
        &["hash-object", "-w", "--stdin"],
        b"/take 1/\n!/take 1/deep/f3.txt\n/own*\n",
    );
    assert!(ok);
    let sparse = format!("sparse:oid={}", String::from_utf8(out).expect("text").trim());
    for filter in [
        "blob:none",
        "blob:limit=2k",
        "blob:limit=0",
        "tree:0",
        "tree:1",
        "tree:2",
        "tree:3",
        "object:type=blob",
        "object:type=tree",
        "object:type=commit",
        "object:type=tag",
        "combine:blob:limit=3k+tree:3",
        sparse.as_str(),
    ] {
        let request = PackRequest {
            filter: Filter::parse(filter, FilterLimits::from(&GitSettings::default())).expect("a filter"),
            ..clone_request(&repo)
        };
        let expected = repo.objects(&[&format!("--filter={filter}"), "main", "side", "v8", "tagtag"]);

        let sent = contents_loosely(&repo.pack(&request));
        let differing: Vec<_> = sent.symmetric_difference(&expected).collect();
        assert!(differing.is_empty(), "{filter}: {differing:?}");
    }
}

/// Like [`contents`] for packs that are not closed.
pub fn contents_loosely(pack: &[u8]) -> BTreeSet<String> {
    let folder = TempDir::new().expect("temporary folder");
    assert!(git_in(folder.path(), &["init", "-q", "--bare", "."], b"").0);
    assert!(git_in(folder.path(), &["index-pack", "--stdin"], pack).0);
    all_objects(folder.path())
}

#[test]
fn tags_go_along_with_what_they_name() {
    let repo = TestRepo::with_history();
    let request = PackRequest {
        wants: vec![repo.id("main")],
        include_tag: true,
        ofs_delta: true,
        ..PackRequest::default()
    };

    let sent = contents(&repo.pack(&request));

    for tag in ["v8", "v16", "v32", "v40", "tagtag"] {
        assert!(sent.contains(&repo.id(tag).to_string()), "{tag}");
    }
}

#[test]
fn a_repository_that_stock_git_repacks_is_still_served() {
    let repo = TestRepo::with_history();
    let repository = Repository::open(&repo.path, false).expect("opens");
    let before = repository.snapshot().expect("reads");
    repo.git(&["repack", "-adfq"]);
    repo.git(&["pack-refs", "--all"]);
    repo.git(&["update-ref", "refs/heads/new", "main~3"]);
    let request = clone_request(&repo);

    for snapshot in [before, repository.snapshot().expect("reads again")] {
        let mut pack = Vec::new();
        plan(&snapshot, &request, &mut || Ok(()))
            .expect("plans")
            .write_to(&mut pack, &mut || Ok(()))
            .expect("writes");
        assert_eq!(contents(&pack), repo.objects(&["main", "side", "v8", "tagtag"]));
    }
    let names: Vec<String> = repository
        .snapshot()
        .expect("reads")
        .refs
        .all()
        .iter()
        .map(|known| known.name.to_string())
        .collect();
    assert_eq!(
        names.join("\n"),
        repo.git(&["for-each-ref", "--format=%(refname)"]).trim()
    );
}

#[test]
fn a_large_loose_file_is_sent_whole() {
    let repo = TestRepo::with_history();
    let content: Vec<u8> = (0..20_000_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let (ok, out) = git_in(
        &repo.path,
        &["-c", "core.bigFileThreshold=1g", "hash-object", "-w", "--stdin"],
        &content,
    );
    assert!(ok);
    let id = ObjectId::from_hex(out.trim_ascii()).expect("an id");

    let pack = repo.pack(&PackRequest {
        wants: vec![id],
        ..PackRequest::default()
    });

    assert_eq!(contents(&pack), BTreeSet::from([id.to_string()]));
}
