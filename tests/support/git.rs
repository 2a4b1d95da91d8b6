//! People at their computers: a stock git, a home folder of their own, a kept password.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;

use super::run::{Outcome, run, run_with_input};

/// A stock git program on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitProgram {
    /// Path of the program.
    pub path: PathBuf,
    /// What `git version` says, such as `2.47.3`.
    pub version: String,
}

impl GitProgram {
    /// Every stock git on the machine, the newest first; programs of one version count once.
    pub fn all() -> Vec<Self> {
        static ALL: OnceLock<Vec<GitProgram>> = OnceLock::new();
        ALL.get_or_init(Self::find).clone()
    }

    fn find() -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for path in ["/usr/local/bin/git", "/usr/bin/git"] {
            let path = PathBuf::from(path);
            if !path.exists() {
                continue;
            }
            let said = run(Command::new(&path).arg("version")).out();
            let version = said.split_whitespace().nth(2).unwrap_or("?").to_owned();
            if found.iter().all(|known| known.version != version) {
                found.push(Self { path, version });
            }
        }
        assert!(!found.is_empty(), "no stock git on this machine");
        found
    }

    /// The newest stock git.
    pub fn first() -> Self {
        Self::all().remove(0)
    }

    /// A command of this git that no configuration of the machine reaches.
    pub fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_DATE", "1700000000 +0100")
            .env("GIT_COMMITTER_DATE", "1700000000 +0100")
            .env("LC_ALL", "C")
            .env_remove("LLVM_PROFILE_FILE");
        command
    }
}

/// Someone who uses Git: a name, a password that Git keeps, a folder for their projects.
#[derive(Clone)]
pub struct Person {
    /// Account name; empty for someone without an account.
    pub name: String,
    /// Password.
    pub password: String,
    server_url: String,
    git: GitProgram,
    home: Arc<TempDir>,
}

impl Person {
    /// Someone at a new computer who has told Git their password for `server_url`.
    pub fn new(server_url: &str, name: &str, password: &str, git: GitProgram) -> Self {
        let home = tempfile::Builder::new()
            .prefix("auxin-home-")
            .tempdir()
            .expect("a folder for temporary files");
        let shown = if name.is_empty() { "stranger" } else { name };
        let config = format!(
            "[user]\n\tname = {shown}\n\temail = {shown}@example.org\n\
             [init]\n\tdefaultBranch = main\n\
             [credential]\n\thelper = store\n\
             [gc]\n\tauto = 0\n\
             [maintenance]\n\tauto = false\n\
             [core]\n\tfsync = none\n\
             [advice]\n\tdetachedHead = false\n"
        );
        std::fs::write(home.path().join(".gitconfig"), config).expect("a file can be written");
        let person = Self {
            name: name.to_owned(),
            password: password.to_owned(),
            server_url: server_url.to_owned(),
            git,
            home: Arc::new(home),
        };
        if !name.is_empty() {
            person.keep_password(password);
        }
        person
    }

    /// The same person at another computer, with another git.
    pub fn with_git(&self, git: &GitProgram) -> Self {
        Self::new(&self.server_url, &self.name, &self.password, git.clone())
    }

    /// Lets Git's credential store remember `password` for the server.
    pub fn keep_password(&self, password: &str) {
        std::fs::write(
            self.home.path().join(".git-credentials"),
            format!("{}\n", self.url_with(password, "")),
        )
        .expect("a file can be written");
    }

    /// What Git's credential store remembers.
    pub fn kept_passwords(&self) -> String {
        std::fs::read_to_string(self.home.path().join(".git-credentials")).unwrap_or_default()
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The address of a repository, without a password.
    pub fn url(&self, address: &str) -> String {
        format!("{}/{address}.git", self.server_url)
    }

    /// The address of a repository with name and password inside, for clients that know no helper.
    pub fn url_with_password(&self, address: &str) -> String {
        self.url_with(&self.password, &format!("/{address}.git"))
    }

    fn url_with(&self, password: &str, path: &str) -> String {
        let (scheme, host) = self.server_url.split_once("://").expect("a full address");
        let escape =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        format!("{scheme}://{}:{}@{host}{path}", escape(&self.name), escape(password))
    }

    /// Runs git in the home folder.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> Outcome {
        self.git_in(self.home.path(), args)
    }

    /// Runs git in `folder`.
    #[track_caller]
    pub fn git_in(&self, folder: &Path, args: &[&str]) -> Outcome {
        run(&mut self.command_in(folder, args))
    }

    /// A git command of this person that is not started yet.
    pub fn command_in(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = self.git.command(self.home.path());
        command.current_dir(folder).args(args);
        command
    }

    /// Starts a new project in a folder of this name.
    #[track_caller]
    pub fn new_project(&self, folder: &str) -> WorkTree {
        self.git(&["init", "--quiet", folder]).assert_ok();
        self.project(folder)
    }

    /// A project that lies in the home folder already.
    pub fn project(&self, folder: &str) -> WorkTree {
        WorkTree {
            person: self.clone(),
            folder: self.home.path().join(folder),
        }
    }

    /// Clones `owner/name` into `folder`, with more options if wanted.
    #[track_caller]
    pub fn try_clone(&self, address: &str, folder: &str, options: &[&str]) -> Outcome {
        let url = self.url(address);
        let mut args = vec!["clone", "--quiet"];
        args.extend_from_slice(options);
        args.extend_from_slice(&[&url, folder]);
        self.git(&args)
    }

    /// Clones `owner/name`; must succeed.
    #[track_caller]
    pub fn clone_repo(&self, address: &str, folder: &str, options: &[&str]) -> WorkTree {
        self.try_clone(address, folder, options).assert_ok();
        self.project(folder)
    }
}

/// A project folder of one person.
pub struct WorkTree {
    /// Whose it is.
    pub person: Person,
    /// Where it is.
    pub folder: PathBuf,
}

impl WorkTree {
    /// Runs git in the project.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> Outcome {
        self.person.git_in(&self.folder, args)
    }

    /// Runs git in the project with something on its standard input.
    #[track_caller]
    pub fn git_with_input(&self, args: &[&str], input: &[u8]) -> Outcome {
        run_with_input(&mut self.person.command_in(&self.folder, args), input)
    }

    /// What git prints in the project; must succeed.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        self.git(args).assert_ok().out()
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a path with a parent")).expect("a folder can be made");
        std::fs::write(path, content).expect("a file can be written");
        self
    }

    /// Commits everything in the folder.
    #[track_caller]
    pub fn commit(&self, message: &str) -> &Self {
        self.git(&["add", "--all"]).assert_ok();
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message])
            .assert_ok();
        self
    }

    /// Pushes `what` (refspecs and options) to `owner/name`.
    #[track_caller]
    pub fn push(&self, address: &str, what: &[&str]) -> Outcome {
        let url = self.person.url(address);
        let (options, specs): (Vec<&str>, Vec<&str>) = what.iter().partition(|word| word.starts_with('-'));
        let mut args = vec!["push"];
        args.extend(options);
        args.push(&url);
        args.extend(specs);
        self.git(&args)
    }

    /// The id that a name stands for here.
    #[track_caller]
    pub fn id(&self, name: &str) -> String {
        self.ask(&["rev-parse", "--verify", name])
    }

    /// Whether git finds nothing wrong with the project.
    #[track_caller]
    pub fn assert_sound(&self) -> &Self {
        self.git(&["fsck", "--strict", "--no-dangling"]).assert_ok();
        self
    }
}
