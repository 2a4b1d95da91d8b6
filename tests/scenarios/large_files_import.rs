//! Repositories with large files are imported, from whatever server they come.

use std::path::{Path, PathBuf};

use crate::support::{KIB, Person, TestServer, WorkTree, noise};

/// A song on a server, with two versions of one take, a file of an older version, and a branch.
fn song(server: &TestServer) -> (Person, WorkTree) {
    let anna = server.user("anna");
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n")
        .write("vox.wav", noise(1, 300 * KIB))
        .write("old.wav", noise(2, 20 * KIB))
        .commit("First take");
    song.write("vox.wav", noise(3, 300 * KIB));
    std::fs::remove_file(song.folder.join("old.wav")).expect("removed");
    song.commit("Second take");
    song.git(&["checkout", "-q", "-b", "idea"]).assert_ok();
    song.write("Stems/bass.wav", noise(4, 50 * KIB)).commit("Bass");
    song.push("anna/song", &["--all"]).assert_ok();
    (anna, song)
}

/// Everything of a repository, got with stock git and git-lfs.
fn mirror(person: &Person) -> PathBuf {
    let mirror = person.clone_repo("anna/song", "mirror.git", &["--mirror"]).folder;
    person.git_in(&mirror, &["lfs", "fetch", "--all", "origin"]).assert_ok();
    mirror
}

fn object(mirror: &Path, oid: &str) -> PathBuf {
    mirror.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
}

fn oid(tree: &WorkTree, name: &str) -> String {
    let pointer = tree.ask(&["cat-file", "blob", name]);
    let (_, rest) = pointer.split_once("sha256:").expect("a pointer");
    rest[..64].to_owned()
}

#[test]
fn what_another_server_has_comes_along_whole_with_every_version() {
    let (old, new) = (TestServer::start(), TestServer::start());
    let (anna, song) = song(&old);
    let mirror = mirror(&anna);
    let there = new.user("anna");
    let from = mirror.display().to_string();

    let told = new.auxin(&["repo", "import", "anna/song", &from, "--visibility", "internal"]);

    told.assert_ok().assert_said("4 large files came along: 686080 bytes.");
    assert!(!told.out().contains("did not:"), "{told:?}");
    let shown = new.auxin(&["repo", "show", "anna/song", "--json"]).assert_ok().json();
    assert_eq!(
        (&shown["visibility"], &shown["archived"]),
        (&"internal".into(), &false.into())
    );
    new.auxin(&["repo", "fsck", "anna/song"]).assert_ok();
    drop(old);
    there.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let copy = there.clone_repo("anna/song", "copy", &[]);
    copy.git(&["lfs", "fetch", "--all"]).assert_ok();
    copy.git(&["lfs", "fsck"]).assert_ok();
    copy.git(&["checkout", "-q", "origin/idea"]).assert_ok();
    let read = |tree: &WorkTree, path: &str| std::fs::read(tree.folder.join(path)).expect("readable");
    for path in ["vox.wav", "Stems/bass.wav"] {
        assert!(read(&copy, path) == read(&song, path), "{path}");
    }
    copy.git(&["checkout", "-q", "origin/main~1"]).assert_ok();
    assert!(read(&copy, "old.wav") == noise(2, 20 * KIB));
    // It is a repository as any other.
    copy.git(&["checkout", "-q", "main"]).assert_ok();
    copy.write("vox.wav", noise(5, KIB)).commit("Third take");
    copy.push("anna/song", &["main"]).assert_ok();
}

#[test]
fn what_is_missing_or_damaged_is_told_by_path_and_can_be_pushed_later() {
    let (old, new) = (TestServer::start(), TestServer::start());
    let (anna, song) = song(&old);
    let mirror = mirror(&anna);
    let (vox, bass, older) = (
        oid(&song, "main:vox.wav"),
        oid(&song, "idea:Stems/bass.wav"),
        oid(&song, "main~1:old.wav"),
    );
    std::fs::remove_file(object(&mirror, &vox)).expect("removed");
    std::fs::remove_file(object(&mirror, &older)).expect("removed");
    // As long, and another one.
    let damaged = object(&mirror, &bass);
    drop(std::fs::remove_file(&damaged));
    std::fs::write(&damaged, noise(9, 50 * KIB)).expect("written");
    let there = new.user("anna");
    let from = mirror.display().to_string();

    let told = new
        .auxin(&["repo", "import", "anna/song", &from, "--json"])
        .assert_ok()
        .json();

    assert_eq!(
        (&told["large_files"], &told["missing_large_files"]),
        (&1.into(), &3.into()),
        "{told}"
    );
    let missing = |oid: &str| {
        let all = told["missing"].as_array().expect("a list");
        all.iter().find(|file| file["oid"] == oid).expect("it is told").clone()
    };
    assert_eq!(missing(&vox)["path"], "vox.wav");
    assert_eq!(missing(&vox)["why"], "it is not there");
    assert!(missing(&older)["path"].is_null(), "{told}");
    let why = missing(&bass)["why"].as_str().expect("a sentence").to_owned();
    assert!(why.contains("is damaged"), "{why}");
    assert_eq!(missing(&bass)["path"], "Stems/bass.wav");
    // Whoever has them brings them.
    let person = Person::new(
        new.url(),
        &there.name,
        &there.password,
        crate::support::GitProgram::first(),
    );
    person.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let tree = WorkTree {
        person,
        folder: song.folder.clone(),
    };
    tree.git(&["lfs", "push", "--all", &there.url("anna/song")]).assert_ok();
    let copy = tree.person.clone_repo("anna/song", "copy", &[]);
    copy.git(&["lfs", "fetch", "--all"]).assert_ok();
    copy.git(&["lfs", "fsck"]).assert_ok();
}

#[test]
fn large_files_may_lie_elsewhere_and_an_import_that_fails_leaves_nothing() {
    let server = TestServer::start();
    let (anna, song) = song(&server);
    let mirror = mirror(&anna);
    let elsewhere = anna.home().join("store");
    std::fs::rename(mirror.join("lfs/objects"), &elsewhere).expect("moved");
    let (from, store) = (mirror.display().to_string(), elsewhere.display().to_string());
    let blob = song.id("main:.gitattributes");

    let import = ["repo", "import", "anna/again", &from, "--large-files", &store];
    server
        .auxin(&import)
        .assert_ok()
        .assert_said("4 large files came along");
    // From a working copy, too.
    let tree = song.folder.display().to_string();
    server
        .auxin(&["repo", "import", "anna/tree", &tree])
        .assert_ok()
        .assert_said("4 large files came along");

    // Its history is not whole.
    let packs = mirror.join("objects/pack");
    let aside = anna.home().join("packs");
    std::fs::rename(&packs, &aside).expect("moved");
    for entry in std::fs::read_dir(&aside).expect("packs").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "pack") {
            let pack = std::fs::read(entry.path()).expect("a pack");
            let project = WorkTree {
                person: anna.clone(),
                folder: mirror.clone(),
            };
            project.git_with_input(&["unpack-objects", "-q"], &pack).assert_ok();
        }
    }
    let file = mirror.join("objects").join(&blob[..2]).join(&blob[2..]);
    std::fs::remove_file(file).expect("removed");
    let import = ["repo", "import", "anna/half", &from, "--large-files", &store];
    server.auxin(&import).assert_refused_with("not whole");
    server
        .auxin(&["repo", "show", "anna/half"])
        .assert_refused_with("no repository");
}
