//! Repositories made from seeds, fast: everything goes through `git fast-import`.

use std::path::Path;

use super::git::GitProgram;
use super::run::{Outcome, run, run_with_input};

/// Time of the first commit of every made repository; each further one is an hour later.
pub const FIRST_COMMIT_SECS: u64 = 1_700_000_000;

/// Runs git on a bare repository, as an administrator on the server's machine would.
#[track_caller]
pub fn on_disk(bare: &Path, args: &[&str]) -> Outcome {
    on_disk_with_input(bare, args, b"")
}

/// The same with something on standard input.
#[track_caller]
pub fn on_disk_with_input(bare: &Path, args: &[&str], input: &[u8]) -> Outcome {
    let home = bare.parent().expect("a repository lies in a folder");
    let mut command = GitProgram::first().command(home);
    command
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org")
        .arg("-C")
        .arg(bare)
        .args(["-c", "core.fsync=none", "-c", "gc.auto=0"])
        .args(args);
    run_with_input(&mut command, input)
}

/// What git prints about a bare repository; must succeed.
#[track_caller]
pub fn ask(bare: &Path, args: &[&str]) -> String {
    on_disk(bare, args).assert_ok().out()
}

/// The id a name stands for in a bare repository.
#[track_caller]
pub fn id(bare: &Path, name: &str) -> String {
    ask(bare, &["rev-parse", "--verify", name])
}

/// All refs with their ids, sorted, as `id name` lines.
#[track_caller]
pub fn refs(bare: &Path) -> Vec<String> {
    ask(bare, &["for-each-ref", "--format=%(objectname) %(refname)"])
        .lines()
        .map(str::to_owned)
        .collect()
}

/// All objects in the store, sorted.
#[track_caller]
pub fn objects(bare: &Path) -> Vec<String> {
    let mut ids: Vec<String> = ask(
        bare,
        &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"],
    )
    .lines()
    .map(str::to_owned)
    .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// The object format of a bare repository, in git's word.
pub fn object_format(bare: &Path) -> &'static str {
    let config = std::fs::read_to_string(bare.join("config")).unwrap_or_default();
    if config.to_lowercase().contains("objectformat = sha256") {
        "sha256"
    } else {
        "sha1"
    }
}

/// How many digits the ids of a bare repository have.
pub fn id_digits(bare: &Path) -> usize {
    match object_format(bare) {
        "sha256" => 64,
        _ => 40,
    }
}

/// Fails the test if git finds anything wrong with a repository.
#[track_caller]
pub fn assert_sound(bare: &Path) {
    on_disk(bare, &["fsck", "--strict", "--full", "--no-dangling"]).assert_ok();
}

/// Makes an empty bare repository.
#[track_caller]
pub fn init(bare: &Path) {
    init_as(bare, "sha1");
}

/// Makes an empty bare repository of this object format.
#[track_caller]
pub fn init_as(bare: &Path, format: &str) {
    std::fs::create_dir_all(bare.parent().expect("a folder")).expect("a folder can be made");
    let home = bare.parent().expect("a repository lies in a folder");
    run(GitProgram::first()
        .command(home)
        .args(["init", "--quiet", "--bare", "-b", "main", "--object-format", format])
        .arg(bare))
    .assert_ok();
}

/// Text for `git fast-import`.
#[derive(Default)]
pub struct Import {
    stream: Vec<u8>,
    mark: usize,
    commits: u64,
}

impl Import {
    /// Adds a commit on `branch` (`refs/heads/…`) with these files changed; gives its mark.
    pub fn commit(&mut self, branch: &str, parents: &[usize], files: &[(&str, &[u8])]) -> usize {
        self.mark += 1;
        let at = FIRST_COMMIT_SECS + 3600 * self.commits;
        self.commits += 1;
        let message = format!("Take {}\n", self.commits);
        self.text(&format!(
            "commit {branch}\nmark :{}\nauthor Ada <ada@example.org> {at} +0100\n\
             committer Ada <ada@example.org> {at} +0100\ndata {}\n{message}",
            self.mark,
            message.len()
        ));
        for (number, parent) in parents.iter().enumerate() {
            let word = if number == 0 { "from" } else { "merge" };
            self.text(&format!("{word} :{parent}\n"));
        }
        for (path, content) in files {
            self.text(&format!("M 100644 inline {path}\ndata {}\n", content.len()));
            self.stream.extend_from_slice(content);
            self.text("\n");
        }
        self.text("\n");
        self.mark
    }

    /// Adds raw text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.stream.extend_from_slice(text.as_bytes());
        self
    }

    /// Points a ref at a mark.
    pub fn reset(&mut self, name: &str, mark: usize) -> &mut Self {
        self.text(&format!("reset {name}\nfrom :{mark}\n\n"))
    }

    /// Adds an annotated tag.
    pub fn tag(&mut self, name: &str, mark: usize) -> &mut Self {
        let message = format!("Mix {name}\n");
        let at = FIRST_COMMIT_SECS + 3600 * self.commits;
        self.text(&format!(
            "tag {name}\nfrom :{mark}\ntagger Ada <ada@example.org> {at} +0100\ndata {}\n{message}\n",
            message.len()
        ))
    }

    /// Writes everything into a bare repository.
    #[track_caller]
    pub fn write_to(&self, bare: &Path) {
        on_disk_with_input(
            bare,
            &["fast-import", "--quiet", "--force", "--date-format=raw"],
            &self.stream,
        )
        .assert_ok();
    }
}

/// A straight history of `count` commits on `main`, one file more and one file changed each time.
#[track_caller]
pub fn straight_history(bare: &Path, count: usize) {
    let mut import = Import::default();
    let mut parent = Vec::new();
    for number in 0..count {
        let changed = format!("Take {number}\n{}", "la ".repeat(200));
        let path = format!("Takes/{:03}.txt", number % 100);
        let mark = import.commit(
            "refs/heads/main",
            &parent,
            &[("Song.txt", changed.as_bytes()), (&path, changed.as_bytes())],
        );
        parent = vec![mark];
    }
    import.write_to(bare);
}
