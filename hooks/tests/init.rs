//! `git auxin init` as a musician runs it, judged by the real Git.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn git(folder: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", folder)
        .output()
        .expect("git is installed")
}

fn repository() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(git(folder.path(), &["init", "-q", "-b", "main"]).status.success());
    folder
}

fn auxin(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_git-auxin"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("the program runs")
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).expect("the file is there")
}

fn attribute(folder: &Path, name: &str, path: &str) -> String {
    let out = git(folder, &["check-attr", name, "--", path]);
    let line = String::from_utf8(out.stdout).expect("text");
    line.trim_end().rsplit(": ").next().expect("a value").to_owned()
}

#[test]
fn audio_and_the_song_go_to_lfs_whatever_the_capitals_and_small_files_do_not() {
    let repo = repository();

    let out = auxin(repo.path(), &["init"]);

    assert!(out.status.success());
    for large in [
        "Song.logicx/Media/Audio Files/vox.wav",
        "Song.logicx/Media/Audio Files/VOX 2.WAV",
        "bounce.Aif",
        "loop.caf",
        "mix.flac",
        "Song.logicx/Alternatives/000/ProjectData",
        "Song.logicx/Alternatives/000/WindowImage.jpg",
    ] {
        assert_eq!(attribute(repo.path(), "filter", large), "lfs", "{large}");
        assert_eq!(attribute(repo.path(), "text", large), "unset", "{large}");
    }
    assert_eq!(
        attribute(repo.path(), "lockable", "Song.logicx/Alternatives/000/ProjectData"),
        "set"
    );
    for small in ["Song.logicx/Alternatives/000/MetaData.plist", "lyrics.txt"] {
        assert_eq!(attribute(repo.path(), "filter", small), "unspecified", "{small}");
    }
}

#[test]
fn what_logic_makes_again_by_itself_is_ignored() {
    let repo = repository();

    auxin(repo.path(), &["init"]);

    for ignored in [
        "Song.logicx/Alternatives/000/Undo Data.nosync",
        "Song.logicx/Alternatives/000/Autosave/ProjectData",
        "Song.logicx/Alternatives/000/Project File Backups/00/ProjectData",
        "Song.logicx/Media/Freeze Files/a.wav",
        ".DS_Store",
    ] {
        assert!(
            git(repo.path(), &["check-ignore", "-q", ignored]).status.success(),
            "{ignored}"
        );
    }
    let song = "Song.logicx/Alternatives/000/ProjectData";
    assert!(!git(repo.path(), &["check-ignore", "-q", song]).status.success());
}

#[test]
fn a_second_time_changes_nothing() {
    let repo = repository();
    auxin(repo.path(), &["init"]);
    let before = (read(repo.path(), ".gitattributes"), read(repo.path(), ".gitignore"));

    let out = auxin(repo.path(), &["init"]);

    assert!(!String::from_utf8_lossy(&out.stdout).contains("Hook"), "{out:?}");
    assert!(read(repo.path(), ".git/hooks/pre-commit").contains("hook pre-commit"));
    assert!(out.status.success());
    assert_eq!(
        (read(repo.path(), ".gitattributes"), read(repo.path(), ".gitignore")),
        before
    );
    assert!(String::from_utf8_lossy(&out.stdout).contains("nothing to add"));
}

#[test]
fn lines_that_are_there_stay_and_keep_their_say() {
    let repo = repository();
    let mine = "# mine\r\n*.wav -filter\r\n*.logicx filter=lfs";
    fs::write(repo.path().join(".gitattributes"), mine).expect("written");
    fs::write(repo.path().join(".gitignore"), "!Autosave/\nbuild").expect("written");

    let out = auxin(repo.path(), &["init"]);

    assert!(out.status.success());
    let attributes = read(repo.path(), ".gitattributes");
    assert!(attributes.starts_with(mine));
    assert!(!attributes.replace("\r\n", "").contains('\n'), "one kind of line end");
    assert_eq!(attribute(repo.path(), "filter", "vox.wav"), "unset");
    assert_eq!(attribute(repo.path(), "filter", "vox.aif"), "lfs");
    let ignored = read(repo.path(), ".gitignore");
    assert!(ignored.starts_with("!Autosave/\nbuild\n"));
    assert_eq!(ignored.matches("Autosave").count(), 1);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("`*.logicx` in .gitattributes has no effect"), "{said}");
}

#[test]
fn it_finds_the_top_of_the_repository_from_within() {
    let repo = repository();
    let inside = repo.path().join("Song.logicx/Media");
    fs::create_dir_all(&inside).expect("created");

    assert!(auxin(&inside, &["init"]).status.success());

    assert!(repo.path().join(".gitattributes").is_file());
    assert!(!inside.join(".gitattributes").exists());
}

#[test]
fn outside_a_repository_it_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");

    let out = auxin(folder.path(), &["init"]);

    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("git init -b main"), "{said}");
    assert!(!folder.path().join(".gitattributes").exists());
}

#[test]
fn a_link_in_place_of_a_file_is_refused_and_nothing_is_written() {
    let repo = repository();
    let elsewhere = repo.path().join("elsewhere");
    fs::write(&elsewhere, "").expect("written");
    std::os::unix::fs::symlink(&elsewhere, repo.path().join(".gitignore")).expect("linked");

    let out = auxin(repo.path(), &["init"]);

    assert_eq!(out.status.code(), Some(1));
    assert_eq!(fs::read(&elsewhere).expect("read"), b"");
    assert!(!repo.path().join(".gitattributes").exists());
}

#[test]
fn it_says_its_version_and_how_it_is_used() {
    let folder = tempfile::tempdir().expect("a folder");

    let version = auxin(folder.path(), &["--version"]);
    let wrong = auxin(folder.path(), &["inti"]);

    assert!(String::from_utf8_lossy(&version.stdout).starts_with("git-auxin "));
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("init [FOLDER]"));
}
