//! The client program `git auxin`, built beside the server if need be.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::git::{Person, WorkTree};
use super::run::{Outcome, run};
use super::server;

/// The program.
#[track_caller]
pub fn program() -> &'static Path {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = server::program().parent().expect("a folder");
        let target = folder.parent().expect("a folder");
        run(Command::new(env!("CARGO"))
            .args([
                "build",
                "--locked",
                "--offline",
                "-q",
                "-p",
                "git-auxin",
                "--target-dir",
            ])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR")))
        .assert_ok();
        folder.join("git-auxin")
    })
}

/// Sets Git LFS and the program up for a person.
#[track_caller]
pub fn install(person: &Person) {
    person.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    run(person
        .command_in(person.home(), &["auxin", "install"])
        .env("PATH", path()))
    .assert_ok();
}

/// A search path on which the program lies.
#[track_caller]
pub fn path() -> String {
    let folder = program().parent().expect("a folder");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

/// Runs `git auxin` in a project.
#[track_caller]
pub fn auxin(tree: &WorkTree, words: &[&str]) -> Outcome {
    let args = [&["auxin"], words].concat();
    run(tree.person.command_in(&tree.folder, &args).env("PATH", path()))
}
