//! Repositories whose object ids are SHA-256: everything that SHA-1 ones can do, and no mixing.

use std::path::Path;

use crate::support::repositories::{self, Import};
use crate::support::wire::{self, V0, V2};
use crate::support::{GitProgram, Outcome, Person, Request, TestServer, WorkTree, noise};

const DIGITS: usize = 64;

fn new_project(person: &Person, folder: &str, format: &str) -> WorkTree {
    person
        .git(&["init", "--quiet", "--object-format", format, folder])
        .assert_ok();
    person.project(folder)
}

/// A project with a few commits, a side branch and an annotated tag.
fn song(person: &Person) -> WorkTree {
    let song = new_project(person, "song", "sha256");
    song.write("Song.txt", "la la la".repeat(400)).commit("First take");
    song.git(&["tag", "-a", "-m", "Mix 1", "mix-1"]).assert_ok();
    song.git(&["branch", "solo"]).assert_ok();
    song.write("Audio Files/vox.wav", noise(1, 4000)).commit("Second take");
    song
}

/// A server with a repository of twelve commits.
fn server_with_a_song() -> (TestServer, Person, std::path::PathBuf) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let bare = server.repo_as("anna/song", "sha256");
    let mut import = Import::default();
    let mut marks: Vec<usize> = Vec::new();
    for number in 0..12 {
        let take = noise(number, 500 + 300 * number as usize);
        let text = format!("take {number}\n");
        let parents: Vec<usize> = marks.last().copied().into_iter().collect();
        marks.push(import.commit(
            "refs/heads/main",
            &parents,
            &[("Audio Files/vox.wav", &take), ("Notes/song.txt", text.as_bytes())],
        ));
    }
    import.tag("mix-1", marks[5]);
    import.write_to(&bare);
    (server, anna, bare)
}

/// Runs `work` for every stock git and for protocol versions 0, 1 and 2.
fn for_every_client(person: &Person, mut work: impl FnMut(&Person)) {
    for git in GitProgram::all() {
        for version in ["0", "1", "2"] {
            let person = person.with_git(&git);
            person
                .git(&["config", "--global", "protocol.version", version])
                .assert_ok();
            work(&person);
        }
    }
}

fn is_older_than_2_41(version: &str) -> bool {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.find_map(|number| number.parse::<u32>().ok());
    (next(), next()) < (Some(2), Some(41))
}

fn format_of(tree: &WorkTree) -> String {
    tree.ask(&["rev-parse", "--show-object-format"])
}

fn packs(bare: &Path) -> usize {
    std::fs::read_dir(bare.join("objects/pack"))
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"))
        .count()
}

/// Counts commits and blobs that are here.
fn objects(tree: &WorkTree) -> usize {
    repositories::objects(&tree.folder.join(".git")).len()
}

#[test]
fn a_push_makes_a_repository_of_the_format_it_comes_with() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);

    song.push("anna/song", &["main", "solo", "mix-1"]).assert_ok();

    let bare = server.folder_of("anna/song");
    assert_eq!(
        repositories::ask(&bare, &["rev-parse", "--show-object-format"]),
        "sha256"
    );
    assert_eq!(repositories::id(&bare, "main"), song.id("main"));
    assert_eq!(song.id("main").len(), DIGITS);
    repositories::assert_sound(&bare);
    let other = new_project(&anna, "other", "sha1");
    other.write("Song.txt", "la").commit("First take");
    other.push("anna/other", &["main"]).assert_ok();
    let bare = server.folder_of("anna/other");
    assert_eq!(repositories::ask(&bare, &["rev-parse", "--show-object-format"]), "sha1");
}

#[test]
fn of_a_missing_repository_only_stock_git_hears_that_it_may_be_of_either_format() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let offered = |agent: &str| {
        let refs = Request::receive_refs("anna/song").by(&anna).header("User-Agent", agent);
        let mut words = wire::v0_capabilities(&server.send(refs).body);
        words.retain(|word| word.starts_with("object-format="));
        words
    };

    assert_eq!(offered("git/2.47.3"), ["object-format=sha1", "object-format=sha256"]);
    assert_eq!(offered("JGit/6.10"), ["object-format=sha1"]);
    assert!(!server.folder_of("anna/song").exists());
}

#[test]
fn a_refused_first_push_leaves_nothing_and_hears_why() {
    let server = TestServer::start();
    let (anna, _ben) = (server.user("anna"), server.user("ben"));
    let song = song(&anna);

    let push = song.push("ben/song", &["main"]);

    push.assert_failed();
    let said = push.remote_lines().join("\n");
    assert!(said.contains("anna/"), "names no way out: {said:?}\n{push:?}");
    assert!(!server.folder_of("ben/song").exists());
}

#[test]
fn the_command_and_the_setting_choose_the_format_of_an_empty_repository() {
    let server = TestServer::prepare().start();
    server.user("anna");
    let format = |address: &str| repositories::object_format(&server.folder_of(address));
    server.repo("anna/plain");
    assert_eq!(format("anna/plain"), "sha1");
    let settings = server.data().join("auxin.toml");
    std::fs::write(&settings, "[repo]\ndefault_object_format = \"sha256\"\n").expect("writable");

    server.repo("anna/by-setting");
    server.repo_as("anna/by-command", "sha1");
    let bad = server.auxin(&["repo", "create", "anna/bad", "--object-format", "md5"]);

    assert_eq!(format("anna/by-setting"), "sha256");
    assert_eq!(format("anna/by-command"), "sha1");
    bad.assert_refused_with("sha1, sha256");
}

#[test]
fn the_clone_of_an_empty_repository_has_its_format() {
    let server = TestServer::start();
    let anna = server.user("anna");
    server.repo_as("anna/empty", "sha256");
    let mut number = 0;
    for_every_client(&anna, |anna| {
        let copy = anna.clone_repo("anna/empty", "copy", &[]);
        if is_older_than_2_41(&anna.git(&["version"]).out()) {
            // It does not look at the format of an empty repository, whatever the server says.
            return;
        }
        assert_eq!(format_of(&copy), "sha256");

        copy.write("Song.txt", "la").commit("First take");
        let branch = format!("HEAD:refs/heads/take-{number}");
        copy.push("anna/empty", &[&branch]).assert_ok();
        number += 1;
        server.auxin(&["repo", "delete", "anna/empty", "--yes"]).assert_ok();
        server.repo_as("anna/empty", "sha256");
    });
    assert!(number > 0);
}

#[test]
fn every_client_clones_fetches_and_pushes() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    song.push("anna/song", &["main", "solo", "mix-1"]).assert_ok();
    let bare = server.folder_of("anna/song");
    for_every_client(&anna, |anna| {
        let copy = anna.clone_repo("anna/song", "copy", &[]);
        assert_eq!(format_of(&copy), "sha256");
        assert_eq!(copy.id("HEAD"), repositories::id(&bare, "main"));
        assert_eq!(copy.id("mix-1^{commit}"), song.id("mix-1^{commit}"));
        copy.assert_sound();

        // A thin pack: what it builds on stays at home.
        copy.write("Song.txt", "la la la".repeat(400) + "la").commit("One more");
        copy.push("anna/song", &["main"]).assert_ok();
        song.git(&["pull", "--quiet", "--ff-only", &anna.url("anna/song"), "main"])
            .assert_ok();
        assert_eq!(song.id("HEAD"), copy.id("HEAD"));
    });
    song.assert_sound();
    repositories::assert_sound(&bare);
}

#[test]
fn refs_are_forced_deleted_and_moved_together_or_not_at_all() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    song.push("anna/song", &["main", "solo", "mix-1"]).assert_ok();
    let bare = server.folder_of("anna/song");
    repositories::on_disk(&bare, &["pack-refs", "--all"]).assert_ok();

    song.git(&["reset", "--quiet", "--hard", "HEAD~1"]).assert_ok();
    song.write("Song.txt", "another way").commit("Second take, again");
    song.push("anna/song", &["main"]).assert_failed();
    song.push("anna/song", &["--force", "main"]).assert_ok();
    assert_eq!(repositories::id(&bare, "main"), song.id("main"));
    let before = repositories::refs(&bare);
    song.write("Song.txt", "third").commit("Third take");
    repositories::on_disk(&bare, &["config", "receive.denyDeletes", "true"]).assert_ok();
    song.push("anna/song", &["--atomic", "main", ":solo"]).assert_failed();
    assert_eq!(repositories::refs(&bare), before);
    repositories::on_disk(&bare, &["config", "receive.denyDeletes", "false"]).assert_ok();
    song.push("anna/song", &["--atomic", "main", ":solo", ":mix-1"])
        .assert_ok();

    let refs = repositories::refs(&bare);
    assert_eq!(refs, [format!("{} refs/heads/main", song.id("main"))]);
    repositories::assert_sound(&bare);
}

#[test]
fn very_many_refs_go_into_packed_refs() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    for number in 0..300 {
        song.git(&["tag", &format!("take-{number}")]).assert_ok();
    }

    song.push("anna/song", &["--tags", "main"]).assert_ok();

    let bare = server.folder_of("anna/song");
    assert!(bare.join("packed-refs").is_file());
    assert_eq!(repositories::refs(&bare).len(), 302);
    let listed = anna.git(&["ls-remote", &anna.url("anna/song")]).assert_ok().out();
    assert_eq!(listed.lines().count(), 304, "{listed}");
    repositories::assert_sound(&bare);
}

#[test]
fn shallow_clones_are_those_of_stock_git_and_grow() {
    let (_server, anna, bare) = server_with_a_song();
    for_every_client(&anna, |anna| {
        let copy = anna.clone_repo("anna/song", "copy", &["--depth=2", "--no-single-branch"]);
        let boundary = std::fs::read_to_string(copy.folder.join(".git/shallow")).expect("it is shallow");
        assert!(boundary.lines().all(|line| line.len() == DIGITS), "{boundary}");
        let url = format!("file://{}", bare.display());
        anna.git(&[
            "-c",
            "safe.directory=*",
            "clone",
            "--quiet",
            "--depth=2",
            "--no-single-branch",
            &url,
            "reference",
        ])
        .assert_ok();
        let reference = anna.project("reference");
        assert_eq!(objects(&copy), objects(&reference));

        copy.git(&["fetch", "--quiet", "--deepen=3"]).assert_ok();
        copy.write("new.txt", "new").commit("New");
        copy.push("anna/song", &["HEAD:refs/heads/new", "--force"]).assert_ok();
        copy.git(&["fetch", "--quiet", "--unshallow"]).assert_ok();

        copy.assert_sound();
        assert_eq!(copy.ask(&["rev-list", "--count", "origin/main"]), "12");
    });
    repositories::assert_sound(&bare);
}

#[test]
fn partial_clones_lack_what_their_filter_leaves_out_and_fetch_it_later() {
    let (_server, anna, bare) = server_with_a_song();
    let pattern = repositories::on_disk_with_input(&bare, &["hash-object", "-w", "--stdin"], b"/Notes/*\n")
        .assert_ok()
        .out();
    repositories::on_disk(&bare, &["tag", "sparse", &pattern]).assert_ok();
    let sparse = format!("sparse:oid={pattern}");
    for_every_client(&anna, |anna| {
        for (number, filter) in ["blob:none", "blob:limit=1k", "tree:1", &sparse].iter().enumerate() {
            let filter = format!("--filter={filter}");
            let copy = anna.clone_repo("anna/song", &format!("copy-{number}"), &[&filter, "--no-checkout"]);
            let missing = |copy: &WorkTree| {
                copy.ask(&["rev-list", "--objects", "--all", "--missing=print"])
                    .lines()
                    .filter(|line| line.starts_with('?'))
                    .count()
            };
            assert!(missing(&copy) > 0, "{filter}");

            let old = copy.git(&["cat-file", "blob", "main~5:Audio Files/vox.wav"]);

            assert_eq!(old.assert_ok().stdout, noise(6, 500 + 300 * 6));
            copy.git(&["checkout", "--quiet", "main"]).assert_ok();
            copy.git(&["fsck"]).assert_ok();
        }
    });
}

#[test]
fn the_commands_of_the_administrator_work() {
    let (server, anna, bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    for number in 0..4 {
        copy.write("Song.txt", format!("take {number}")).commit("More");
        copy.push("anna/song", &["main"]).assert_ok();
    }
    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    assert!(packs(&bare) > 1);

    server.auxin(&["repo", "repack", "anna/song"]).assert_ok();

    assert_eq!(packs(&bare), 1);
    repositories::assert_sound(&bare);
    server.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    anna.clone_repo("anna/song", "again", &[]).assert_sound();
    let pack = std::fs::read_dir(bare.join("objects/pack"))
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .expect("a pack");
    let mut bytes = std::fs::read(&pack).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::remove_file(&pack).expect("it can go");
    std::fs::write(&pack, bytes).expect("writable");
    server.auxin(&["repo", "fsck", "anna/song"]).assert_failed();
}

#[test]
fn what_stock_git_does_on_disk_is_served() {
    let (_server, anna, bare) = server_with_a_song();
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    for args in [
        &["repack", "-adfbq"][..],
        &["commit-graph", "write", "--reachable"],
        &["multi-pack-index", "write"],
        &["pack-refs", "--all"],
    ] {
        repositories::on_disk(&bare, args).assert_ok();
        anna.git(&["ls-remote", &anna.url("anna/song")]).assert_ok();
        let again = anna.clone_repo("anna/song", "again", &[]);
        assert_eq!(again.id("HEAD"), copy.id("HEAD"));
        again.assert_sound();
        std::fs::remove_dir_all(&again.folder).expect("it can go");
    }
    copy.write("Song.txt", "new").commit("New");
    copy.push("anna/song", &["main"]).assert_ok();
    repositories::assert_sound(&bare);
}

#[test]
fn repositories_are_adopted_and_imported_in_their_own_format() {
    let server = TestServer::start();
    let anna = server.user("anna");
    let song = song(&anna);
    let outside = server.scratch().join("outside.git");
    anna.git(&["clone", "--quiet", "--bare", "song", &outside.display().to_string()])
        .assert_ok();
    let work = song.folder.display().to_string();

    server.auxin(&["repo", "import", "anna/working", &work]).assert_ok();
    server
        .auxin(&["repo", "import", "anna/bare", &outside.display().to_string()])
        .assert_ok();
    server
        .auxin(&["repo", "adopt", "anna/adopted", &outside.display().to_string()])
        .assert_ok();

    for (number, address) in ["anna/working", "anna/bare", "anna/adopted"].iter().enumerate() {
        let bare = server.folder_of(address);
        repositories::assert_sound(&bare);
        assert_eq!(
            repositories::ask(&bare, &["rev-parse", "--show-object-format"]),
            "sha256"
        );
        let copy = anna.clone_repo(address, &format!("copy-{number}"), &[]);
        assert_eq!(copy.id("HEAD"), song.id("main"));
        assert_eq!(copy.id("mix-1"), song.id("mix-1"));
        copy.write("new.txt", "new").commit("New");
        copy.push(address, &["main"]).assert_ok();
    }
}

#[test]
fn stock_git_hears_in_words_that_formats_do_not_mix() {
    let server = TestServer::start();
    let anna = server.user("anna");
    for (mine, theirs) in [("sha1", "sha256"), ("sha256", "sha1")] {
        let project = new_project(&anna, mine, mine);
        project.write("Song.txt", "la").commit("First take");
        let address = format!("anna/of-{theirs}");
        let bare = server.repo_as(&address, theirs);

        let says = |outcome: &Outcome, words: &[&str]| {
            outcome.assert_failed();
            let said = outcome.err();
            assert!(words.iter().any(|word| said.contains(word)), "{outcome:?}");
        };
        says(&project.push(&address, &["main"]), &["hash algorithm", "object format"]);
        assert_eq!(repositories::refs(&bare), [""; 0]);
        repositories::straight_history(&bare, 2);
        says(
            &project.push(&address, &["main:other"]),
            &["hash algorithm", "object format"],
        );
        for version in ["0", "2"] {
            let protocol = format!("protocol.version={version}");
            let fetch = project.git(&["-c", &protocol, "fetch", &anna.url(&address)]);
            says(&fetch, &["mismatched algorithms", "object format", "hash algorithm"]);
        }
        assert_eq!(repositories::refs(&bare).len(), 1);
    }
}

#[test]
fn requests_in_another_format_are_refused_with_a_sentence() {
    let (server, anna, bare) = server_with_a_song();
    let plain = server.repo("anna/plain");
    repositories::straight_history(&plain, 2);
    for (address, bare, theirs, mine) in [
        ("anna/song", &bare, "sha256", "sha1"),
        ("anna/plain", &plain, "sha1", "sha256"),
    ] {
        let sentence = format!("mismatched object format: server {theirs}; client {mine}");
        let tip = repositories::id(bare, "main");
        let request = V2::fetch().object_format(mine).arg(format!("want {tip}")).arg("done");
        let v2 = server.send(Request::upload_pack(address, 2, request.bytes()).by(&anna));
        assert!(v2.text().contains(&sentence), "{v2:?}");
        let digits = if mine == "sha1" { 40 } else { DIGITS };
        let [none, one] = ["0", "1"].map(|digit| digit.repeat(digits));
        for (words, want) in [(format!("object-format={mine}"), &tip), ("ofs-delta".to_owned(), &one)] {
            let request = V0 {
                capabilities: format!("side-band-64k {words}"),
                wants: vec![want.clone()],
                done: true,
                ..V0::default()
            };
            let v0 = server.send(Request::upload_pack(address, 0, request.bytes()).by(&anna));
            assert!(v0.text().contains(&sentence), "{v0:?}");
        }
        let command = wire::command(&none, &one, "refs/heads/new");
        let body = wire::push(&[command], &format!("report-status object-format={mine}"), &[], b"");
        let push = server.send(Request::receive_pack(address, body).by(&anna));
        let sentence = format!("unsupported object format '{mine}': this repository is {theirs}");
        assert!(push.text().contains(&sentence), "{push:?}");
    }
    // Who says nothing means SHA-1.
    let one = "1".repeat(40);
    let body = wire::push(
        &[wire::command(&"0".repeat(40), &one, "refs/heads/new")],
        "report-status",
        &[],
        b"",
    );
    let push = server.send(Request::receive_pack("anna/song", body).by(&anna));
    assert!(push.text().contains("unsupported object format 'sha1'"), "{push:?}");
    // Ids of the wrong length behind the right words.
    let request = V2::fetch()
        .object_format("sha256")
        .arg(format!("want {one}"))
        .arg("done");
    let short = server.send(Request::upload_pack("anna/song", 2, request.bytes()).by(&anna));
    assert!(short.text().contains("not our ref"), "{short:?}");
    repositories::assert_sound(&bare);
}

#[test]
fn hooks_are_told_ids_of_64_digits() {
    use std::os::unix::fs::PermissionsExt;

    let (server, anna, bare) = server_with_a_song();
    server.auxin(&["repo", "trust-hooks", "anna/song"]).assert_ok();
    let hook = bare.join("hooks/update");
    let log = bare.join("log");
    let script = format!(
        "#!/bin/sh\necho \"$1 $2 $3\" >>'{}'\ngit cat-file -e \"$3\"\n",
        log.display()
    );
    std::fs::write(&hook, script).expect("writable");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    copy.write("new.txt", "new").commit("New");

    copy.push("anna/song", &["main:new"]).assert_ok();

    let told = std::fs::read_to_string(log).expect("the hook ran");
    let zeros = "0".repeat(DIGITS);
    assert_eq!(told, format!("refs/heads/new {zeros} {}\n", copy.id("main")));
}

#[test]
fn a_damaged_object_is_refused_and_nothing_stays() {
    let (server, anna, bare) = server_with_a_song();
    let before = repositories::objects(&bare);
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    // A folder that holds itself a `.git`.
    let blob = copy.ask(&["rev-parse", "HEAD:Notes/song.txt"]);
    let tree = copy.git_with_input(&["mktree"], format!("100644 blob {blob}\t.git\n").as_bytes());
    let tree = tree.assert_ok().out();
    let commit = copy.ask(&["commit-tree", "-m", "Trick", "-p", "HEAD", &tree]);

    let push = copy.push("anna/song", &[&format!("{commit}:refs/heads/trick")]);

    push.assert_failed();
    assert!(push.err().contains("hasDotgit"), "{push:?}");
    assert_eq!(repositories::objects(&bare), before);
    assert!(server.quarantines("anna/song").is_empty());
}
