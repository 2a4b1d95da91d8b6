//! `git auxin check`, `git auxin textconv` and `git diff` with it, in repositories of the real Git.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::logic_files::*;
use crate::project_data_files::*;
use crate::tree::list;

/// A repository, and settings of nobody.
pub struct Repository {
    folder: TempDir,
}

impl Repository {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = Self { folder };
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn command(&self, program: &Path, args: &[&str]) -> Output {
        let own = Path::new(env!("CARGO_BIN_EXE_git-auxin")).parent().expect("a folder");
        let places = std::env::var_os("PATH").unwrap_or_default();
        let places = [own.to_owned()].into_iter().chain(std::env::split_paths(&places));
        Command::new(program)
            .args(args)
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(places).expect("folders"))
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ann")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ann@example.org")))
            .output()
            .expect("the program runs")
    }

    pub fn git(&self, args: &[&str]) -> String {
        let output = self.command(Path::new("git"), args);
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The exit status and what is printed.
    pub fn auxin(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(Path::new(env!("CARGO_BIN_EXE_git-auxin")), args);
        let said = [output.stdout, output.stderr].concat();
        let code = output.status.code().expect("no signal");
        (code, String::from_utf8(said).expect("text"))
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("written");
    }

    /// A pointer of Git LFS, and the file behind it if it is `here`.
    pub fn write_large(&self, path: &str, bytes: &[u8], is_here: bool) {
        use sha2::Digest as _;
        let oid: String = sha2::Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n",
            bytes.len()
        );
        self.write(path, pointer.as_bytes());
        if is_here {
            self.write(&format!(".git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]), bytes);
        }
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// Writes `Hook.logicx`.
    pub fn save(&self, bpm: f64, used: &[&str], records: &[Vec<u8>]) {
        let facts = binary(&dict(&list(bpm, ("A", "minor"), used, &[])));
        let information = xml(&dict(&[("LastSavedFrom", text("Logic Pro 11.2.2 (6387)"))]));
        self.write("Hook.logicx/Alternatives/000/MetaData.plist", &facts);
        self.write("Hook.logicx/Resources/ProjectInformation.plist", &information);
        let song = project_data(0x09cf, records);
        self.write_large("Hook.logicx/Alternatives/000/ProjectData", &song, true);
    }
}

#[test]
fn check_tells_of_the_projects_of_a_version() {
    let repository = Repository::new();
    let (code, said) = repository.auxin(&["check"]);
    assert!(code == 1 && said.contains("There is no version `HEAD` here."), "{said}");
    repository.write("notes.txt", b"");
    repository.commit("First");
    let (code, said) = repository.auxin(&["check"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "There is no Logic Pro or GarageBand project in this version.\n")
    );

    repository.save(120.0, &["Audio Files/a.wav"], &[tempos(&[(0, 120.0)])]);
    repository.commit("A song");
    repository.write_large("Hook.logicx/Media/Audio Files/a.wav", b"RIFF", false);
    repository.commit("Its sound");

    let (code, said) = repository.auxin(&["check", "HEAD~1"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("missing in the project: 1 file\n    Audio Files/a.wav"),
        "{said}"
    );
    let (code, said) = repository.auxin(&["check"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("Hook.logicx: ready to open\n"), "{said}");
    let (code, said) = repository.auxin(&["check", "main", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (code, &told[0]["needs_version"], &told[0]["status"]),
        (0, &"11.2.2".into(), &"ok".into())
    );

    fs::remove_dir_all(repository.path(".git/lfs")).expect("removed");
    let (code, said) = repository.auxin(&["check"]);
    assert!(code == 1 && said.contains("`git lfs pull` gets it"), "{said}");
    for odd in [["check", "--nonsense"], ["check", "-x"]] {
        assert_eq!(repository.auxin(&odd).0, 2);
    }
    let (code, said) = repository.auxin(&["check", "no/such"]);
    assert!(
        code == 1 && said.contains("There is no version `no/such` here."),
        "{said}"
    );
}

#[test]
fn git_diff_shows_what_changed_in_music() {
    let repository = Repository::new();
    let (code, said) = repository.auxin(&["init"]);
    assert!(
        code == 0 && said.contains("git diff: shows what Logic projects say"),
        "{said}"
    );
    // The filter of Git LFS is not part of this test: pointers are written by it.
    let attributes = fs::read_to_string(repository.path(".gitattributes")).expect("text");
    repository.write(".gitattributes", attributes.replace("filter=lfs ", "").as_bytes());
    let lead = [region(0, "Lead", 48_000), meters(&[(0, 4, 2)])];
    let before = [tempos(&[(0, 120.0)]), placements(&[(3, 7680, 0)]), lead.concat()];
    repository.save(120.0, &["Audio Files/b.wav", "Audio Files/a.wav"], &before);
    repository.commit("A song");
    let after = [
        tempos(&[(0, 124.0), (3840, 90.0)]),
        placements(&[(3, 8640, 0)]),
        lead.concat(),
        markers(&[(0, "Intro")]),
    ];
    repository.save(124.0, &["Audio Files/a.wav", "Audio Files/b.wav"], &after);
    repository.commit("Faster");

    let said = repository.git(&["log", "-p", "-1", "--format="]);
    let changes: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"))
        .collect();
    assert_eq!(
        changes,
        [
            "-tempo: 120 BPM",
            "+tempo: 124 BPM",
            "-tempo at bar 1: 120 BPM",
            "+tempo at bar 1: 124 BPM",
            "+tempo at bar 2: 90 BPM",
            "+marker at bar 1: Intro",
            "-track 3 at bar 3: Lead",
            "+track 3 at bar 3, beat 2: Lead",
        ],
        "{said}"
    );
    fs::remove_dir_all(repository.path(".git/lfs")).expect("removed");
    let said = repository.git(&["diff", "HEAD~1"]);
    assert!(said.contains("+This large file is not here: "), "{said}");
    let (code, said) = repository.auxin(&["init"]);
    assert!(
        code == 0 && !said.contains("git diff"),
        "a second time changes nothing: {said}"
    );
}

#[test]
fn a_diff_program_and_lines_that_are_there_stay() {
    let repository = Repository::new();
    repository.git(&["config", "diff.auxin.textconv", "mine"]);
    repository.write(
        ".gitattributes",
        b"ProjectData filter=lfs diff=lfs merge=lfs -text lockable\n",
    );

    let (_, said) = repository.auxin(&["init"]);

    assert!(!said.contains("git diff: shows"), "{said}");
    assert!(said.contains("With `diff=auxin` in it"), "{said}");
    assert_eq!(repository.git(&["config", "diff.auxin.textconv"]), "mine\n");
}

#[test]
fn files_that_are_not_of_logic_are_told_as_such() {
    let repository = Repository::new();
    repository.write("MetaData.plist", b"rubbish");
    let (code, said) = repository.auxin(&["textconv", "MetaData.plist"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "This is no file of Logic that can be read: 7 bytes.\n")
    );
    assert_eq!(repository.auxin(&["textconv", "absent"]).0, 1);
    let facts = [
        ("LastSavedFrom", text("GarageBand 10.4.6 (5602)")),
        ("ActiveVariant", Plist::Int(1)),
    ];
    repository.write("x_ProjectInformation.plist", &binary(&dict(&facts)));
    let (_, said) = repository.auxin(&["textconv", "x_ProjectInformation.plist"]);
    assert_eq!(said, "saved with: GarageBand 10.4.6 (5602)\nactive alternative: 1\n");
}

#[test]
fn compare_tells_what_changed_between_two_versions() {
    let repository = Repository::new();
    let sound = |samples: usize, overview: u8| {
        let data = vec![9; samples * 6];
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0data".to_vec();
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file.extend(b"LGWV\x02\0\0\0");
        file.extend([overview; 2]);
        file
    };
    let audio = |name: &str| format!("Hook.logicx/Media/Audio Files/{name}");
    repository.save(
        120.0,
        &["Audio Files/a.wav"],
        &[tempos(&[(0, 120.0)]), meters(&[(0, 4, 2)])],
    );
    repository.write_large(&audio("a.wav"), &sound(48_000, 1), true);
    repository.commit("A song");
    // Plain in Git, too; and a file that is only drawn anew.
    let used = ["Audio Files/a.wav", "Audio Files/b.wav", "Audio Files/gone.wav"];
    let records = [tempos(&[(0, 124.0)]), meters(&[(0, 4, 2)]), markers(&[(3840, "Verse")])];
    repository.save(124.0, &used, &records);
    repository.write_large(&audio("a.wav"), &sound(48_000, 2), true);
    repository.write(&audio("b.wav"), &sound(96_000, 1));
    repository.commit("Faster");

    let (code, said) = repository.auxin(&["compare", "HEAD~1"]);
    assert_eq!(code, 0, "{said}");
    let head = said.lines().next().expect("a line");
    assert!(head.ends_with("  (1 commit, Ann)") && head.contains(" → "), "{said}");
    for part in [
        "120 → 124",
        "1 file re-indexed by Logic: sound unchanged",
        "2 s, 576 kB",
        "+ “Verse” at bar 2",
        "1 missing",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let (code, line) = repository.auxin(&["compare", "HEAD~1..HEAD", "--line", "--fail-if", "missing_audio"]);
    assert!(code == 1 && line.starts_with("Hook.logicx: BPM 120→124, "), "{line}");
    let (code, json) = repository.auxin(&["compare", "--json", "HEAD~1", "HEAD"]);
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &told["commits"]), (0, &1.into()));
    assert_eq!(told["projects"][0]["audio"]["reindexed"]["count"], 1);
    let (code, same) = repository.auxin(&["compare", "HEAD", "HEAD", "--fail-if", "missing_audio"]);
    assert!(
        code == 1 && same.contains("Hook.logicx: no structural change seen"),
        "{same}"
    );

    for odd in [
        &["compare"][..],
        &["compare", "a", "b", "c"],
        &["compare", "HEAD", "--fail-if", "x"],
        &["compare", "a...b"],
    ] {
        assert_eq!(repository.auxin(odd).0, 2, "{odd:?}");
    }
    let (code, said) = repository.auxin(&["compare", "nowhere", "HEAD"]);
    assert!(
        code == 1 && said.contains("There is no version `nowhere` here."),
        "{said}"
    );
}
