//! `git auxin install` and `status`, judged by the real Git.

use std::path::Path;
use std::process::{Command, Output};

fn auxin_at(program: &Path, home: &Path, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .current_dir(home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .expect("the program runs")
}

fn auxin(home: &Path, args: &[&str]) -> Output {
    auxin_at(Path::new(env!("CARGO_BIN_EXE_git-auxin")), home, args)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config(home: &Path) -> String {
    std::fs::read_to_string(home.join(".gitconfig")).unwrap_or_default()
}

#[test]
fn a_second_install_changes_nothing_and_uninstall_takes_all_of_it_out_again() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    std::fs::write(home.join(".gitconfig"), "[user]\n\tname = Anna\n").expect("written");

    let first = auxin(home, &["install"]);
    let set = config(home);
    let second = auxin(home, &["install"]);

    assert!(
        first.status.success() && second.status.success(),
        "{first:?} {second:?}"
    );
    assert!(said(&first).contains("lfs.customtransfer.auxin.path = /"), "{first:?}");
    assert!(said(&second).contains("Already"), "{second:?}");
    assert_eq!(config(home), set);
    for line in [
        env!("CARGO_BIN_EXE_git-auxin"),
        "args = transfer",
        "concurrent = true",
        "direction = both",
    ] {
        assert!(set.contains(line), "{line}: {set}");
    }
    assert!(auxin(home, &["install", "--uninstall"]).status.success());
    assert_eq!(config(home), "[user]\n\tname = Anna\n");
    assert!(said(&auxin(home, &["install", "--uninstall"])).contains("nothing"));
}

#[test]
fn packagers_name_the_program_and_a_relative_name_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();

    assert!(
        auxin(home, &["install", "--path", "/opt/auxin tools/git-auxin"])
            .status
            .success()
    );
    assert!(config(home).contains("/opt/auxin tools/git-auxin"));
    let before = config(home);
    let refused = auxin(home, &["install", "--path", "git-auxin"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("absolute"),
        "{refused:?}"
    );
    assert_eq!(config(home), before);
    for wrong in [
        &["install", "--path"][..],
        &["install", "--sing"],
        &["install", "--uninstall", "--path", "/x"],
    ] {
        assert_eq!(auxin(home, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn status_says_what_is_missing_moved_or_different() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let check = |expected: i32, words: &[&str]| {
        let status = auxin(home, &["status"]);
        assert_eq!(status.status.code(), Some(expected), "{status:?}");
        for word in words {
            assert!(said(&status).contains(word), "{word}: {status:?}");
        }
    };
    check(1, &["not set up", "git auxin install", "git lfs install"]);
    let filter = Command::new("git")
        .args(["lfs", "install", "--skip-repo"])
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", home)
        .status();
    assert!(filter.expect("git runs").success());

    let copy = home.join("git-auxin");
    std::fs::copy(env!("CARGO_BIN_EXE_git-auxin"), &copy).expect("copied");
    assert!(auxin_at(&copy, home, &["install"]).status.success());
    check(0, &["another program", "Git LFS", "."]);
    std::fs::remove_file(&copy).expect("removed");
    check(1, &["is not there any more", copy.to_str().expect("text")]);
    assert!(auxin(home, &["install"]).status.success());
    check(0, &[env!("CARGO_BIN_EXE_git-auxin")]);
}
