//! Git clients that are not git. `./tests/run` installs them; see `tests/clients/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::{Outcome, run};

/// A client that shares no code with git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// libgit2 by its Python package.
    Pygit2,
    /// Python.
    Dulwich,
    /// JavaScript.
    IsomorphicGit,
    /// Java.
    Jgit,
    /// Go.
    GoGit,
}

impl Client {
    /// Clones `url` (with name and password inside) into `folder`; `depth` 0 is everything.
    #[track_caller]
    pub fn clone_into(self, url: &str, folder: &Path, depth: u32) -> Outcome {
        self.act("clone", url, folder, &[&depth.to_string()])
    }

    /// Fetches everything into an existing clone.
    #[track_caller]
    pub fn fetch(self, url: &str, folder: &Path) -> Outcome {
        self.act("fetch", url, folder, &[])
    }

    /// Fetches the history that a shallow clone lacks.
    #[track_caller]
    pub fn unshallow(self, url: &str, folder: &Path) -> Outcome {
        self.act("unshallow", url, folder, &[])
    }

    /// Pushes every branch and tag under its own name, by force.
    #[track_caller]
    pub fn mirror(self, url: &str, folder: &Path) -> Outcome {
        self.act("mirror", url, folder, &[])
    }

    /// Pushes `from` (a branch or tag, full name) to `to`, by force if wanted.
    #[track_caller]
    pub fn push(self, url: &str, folder: &Path, from: &str, to: &str, force: bool) -> Outcome {
        let force = if force { "force" } else { "" };
        self.act("push", url, folder, &[from, to, force])
    }

    /// Deletes a ref on the server.
    #[track_caller]
    pub fn delete(self, url: &str, folder: &Path, name: &str) -> Outcome {
        self.act("delete", url, folder, &[name])
    }

    #[track_caller]
    fn act(self, action: &str, url: &str, folder: &Path, more: &[&str]) -> Outcome {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let installed = installed();
        let mut command = match self {
            Self::Pygit2 => script(&installed.join("python/bin/python"), &scripts, "pygit2.py"),
            Self::Dulwich => script(&installed.join("python/bin/python"), &scripts, "dulwich.py"),
            Self::IsomorphicGit => {
                let mut command = script(Path::new("node"), &scripts, "isomorphic.cjs");
                command.env("NODE_PATH", installed.join("javascript/node_modules"));
                command
            }
            Self::Jgit => {
                let mut command = Command::new("java");
                command
                    .arg("-cp")
                    .arg(format!("{}:/usr/share/java/*", installed.join("java").display()))
                    .arg("JgitClient");
                command
            }
            Self::GoGit => Command::new(installed.join("go/client")),
        };
        let home = folder.parent().expect("a clone lies in a folder");
        command
            .args([action, url])
            .arg(folder)
            .args(more)
            .current_dir(home)
            .env("HOME", home)
            .env("GIT_CONFIG_NOSYSTEM", "1");
        run(&mut command)
    }
}

fn script(program: &Path, scripts: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(scripts.join(name));
    command
}

/// Where `./tests/run` puts the clients.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the folder lies in the target folder");
    let clients = target.join("clients");
    assert!(
        clients.join("installed").exists(),
        "the other Git clients are not installed: run `./tests/run --install`"
    );
    clients
}
