//! The commands, as an administrator types them, judged by what the program prints and returns.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A data folder, made as a first start makes it but with nobody in it, and the program to use on it.
struct Auxin {
    folder: TempDir,
}

impl Auxin {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        auxin::data_folder::DataFolder::create(&folder.path().join("data")).expect("a data folder");
        Self { folder }
    }

    fn with_people(names: &[&str]) -> Self {
        let this = Self::new();
        for name in names {
            this.ok_with_input(&["user", "add", name, "--password-stdin"], "sings in tune\n");
        }
        this
    }

    fn run(&self, args: &[&str], input: &str, env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auxin"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AUXIN_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(args)
            .envs(env.iter().copied())
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that is refused may be over before it reads.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    #[track_caller]
    fn ok_with_input(&self, args: &[&str], input: &str) -> String {
        let out = self.run(args, input, &[]);
        assert!(
            out.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).expect("text")
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.ok_with_input(args, "")
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.ok(&args)).expect("JSON")
    }

    /// The refusal: exit code 1, nothing on standard output, one sentence on standard error.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let out = self.run(args, "", &[]);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty(), "{args:?}: {out:?}");
        String::from_utf8(out.stderr).expect("text")
    }
}

/// The keys of an object, in the order of the alphabet.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

fn git(folder: &Path, args: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=Anna", "-c", "user.email=anna@example.org"])
        .args(args)
        .current_dir(folder)
        .output()
        .expect("git is installed");
    assert!(done.status.success(), "{args:?}: {done:?}");
}

#[test]
fn people_are_added_listed_disabled_and_removed() {
    let auxin = Auxin::with_people(&["anna", "ben"]);

    auxin.ok(&["user", "disable", "ben"]);
    let people = auxin.json(&["user", "list"]);
    assert_eq!(people.as_array().map(Vec::len), Some(2));
    assert_eq!(keys(&people[1]), ["admin", "created_at", "disabled", "id", "name"]);
    assert_eq!(people[1]["name"], "ben");
    assert_eq!(people[1]["disabled"], true);

    auxin.ok(&["user", "enable", "ben"]);
    assert_eq!(auxin.json(&["user", "list"])[1]["disabled"], false);
    auxin.ok(&["user", "remove", "ben"]);
    assert_eq!(auxin.json(&["user", "list"]).as_array().map(Vec::len), Some(1));
    assert!(auxin.refused(&["user", "disable", "ben"]).contains("no user ben"));
}

#[test]
fn an_empty_list_is_a_sentence_for_people_and_an_empty_array_for_programs() {
    let auxin = Auxin::new();
    for list in [["user", "list"], ["repo", "list"], ["token", "list"]] {
        assert!(auxin.ok(&list).starts_with("There are no "), "{list:?}");
        assert_eq!(auxin.json(&list), Value::Array(Vec::new()), "{list:?}");
    }
}

#[test]
fn a_person_who_owns_repositories_is_removed_only_with_an_heir() {
    let auxin = Auxin::with_people(&["anna", "ben"]);
    auxin.ok(&["repo", "create", "anna/song"]);

    let refusal = auxin.refused(&["user", "remove", "anna"]);
    assert!(
        refusal.contains("anna/song") && refusal.contains("--transfer-to"),
        "{refusal}"
    );

    let removed = auxin.json(&["user", "remove", "anna", "--transfer-to", "ben"]);
    assert_eq!(removed["transferred_repos"], 1);
    assert_eq!(auxin.json(&["repo", "list"])[0]["address"], "ben/song");
}

#[test]
fn a_token_is_shown_once_and_listed_without_its_secret() {
    let auxin = Auxin::with_people(&["anna"]);

    let made = auxin.json(&[
        "token",
        "create",
        "anna",
        "--scope",
        "write",
        "--expires",
        "30",
        "--label",
        "laptop",
    ]);
    let secret = made["token"].as_str().expect("the token");
    let listed = auxin.ok(&["token", "list", "--json"]);

    assert!(secret.starts_with("auxin_"), "{secret}");
    assert!(!listed.contains(secret) && listed.contains("laptop"), "{listed}");
    auxin.ok(&["token", "revoke", made["id"].as_str().expect("an id")]);
    assert!(auxin.json(&["token", "list", "anna"])[0]["revoked_at"].is_string());
    assert!(auxin.refused(&["token", "revoke", "laptop"]).contains("identifier"));
}

#[test]
fn a_repository_is_made_shown_renamed_and_deleted() {
    let auxin = Auxin::with_people(&["anna"]);

    auxin.ok(&["repo", "create", "anna/song", "--visibility", "internal"]);
    assert!(auxin.refused(&["repo", "create", "anna/Song"]).contains("already"));
    auxin.ok(&["repo", "rename", "anna/song", "anna/tune"]);
    let again = auxin.ok(&["repo", "rename", "anna/tune", "anna/tune.git"]);
    assert_eq!(again, "anna/tune is called that already.\n");
    auxin.ok(&["repo", "archive", "anna/tune"]);
    auxin.ok(&["repo", "visibility", "anna/tune", "public"]);
    auxin.ok(&["repo", "set-default-branch", "anna/tune", "mix"]);

    let shown = auxin.json(&["repo", "show", "anna/tune"]);
    assert_eq!(shown["address"], "anna/tune");
    assert_eq!(shown["visibility"], "public");
    assert_eq!(shown["archived"], true);
    assert_eq!(shown["default_branch"], "mix");
    assert_eq!(shown["object_format"], "sha1");
    assert_eq!(shown["old_addresses"][0], "anna/song");
    assert_eq!(shown["clone_url"], "http://127.0.0.1:8420/anna/tune.git");

    let refusal = auxin.refused(&["repo", "delete", "anna/tune"]);
    assert!(refusal.contains("--yes"), "{refusal}");
    assert_eq!(auxin.json(&["repo", "list"]).as_array().map(Vec::len), Some(1));
    auxin.ok(&["repo", "delete", "anna/tune", "--yes"]);
    assert!(
        auxin
            .refused(&["repo", "show", "anna/tune"])
            .contains("no repository anna/tune")
    );
}

#[test]
fn links_are_made_from_the_public_address() {
    let auxin = Auxin::with_people(&["anna"]);
    let env = [("AUXIN_SERVER__PUBLIC_URL", "https://git.example.org/")];

    let out = auxin.run(&["repo", "create", "anna/song"], "", &env);

    let said = String::from_utf8(out.stdout).expect("text");
    assert!(
        said.contains("git push https://git.example.org/anna/song.git main"),
        "{said}"
    );
}

#[test]
fn a_repository_that_exists_is_imported_whole_and_an_adopted_one_moves() {
    let auxin = Auxin::with_people(&["anna"]);
    let work = auxin.folder.path().join("work");
    std::fs::create_dir(&work).expect("a folder");
    git(&work, &["init", "-q", "-b", "mix"]);
    std::fs::write(work.join("Song.txt"), "la la la").expect("a file");
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "First take"]);
    git(auxin.folder.path(), &["clone", "-q", "--bare", "work", "old.git"]);

    let imported = auxin.ok(&["repo", "import", "anna/copy", "work"]);
    let adopted = auxin.ok(&["repo", "adopt", "anna/moved", "old.git"]);

    assert!(
        imported.contains("Its hooks and configuration did not come along"),
        "{imported}"
    );
    assert!(!adopted.contains("did not come along"), "{adopted}");
    assert!(work.join("Song.txt").is_file());
    assert!(!auxin.folder.path().join("old.git").exists());
    for name in ["anna/copy", "anna/moved"] {
        let shown = auxin.json(&["repo", "show", name]);
        assert_eq!(shown["default_branch"], "mix", "{name}");
        assert_eq!(shown["hooks_trusted"], false, "{name}");
        auxin.ok(&["repo", "fsck", name]);
        let path = shown["path"].as_str().expect("a path").to_owned();
        git(Path::new(&path), &["cat-file", "-e", "mix:Song.txt"]);
    }
    assert!(auxin.ok(&["repo", "repack", "anna/copy"]).contains(" in 1 pack now"));
    auxin.ok(&["repo", "trust-hooks", "anna/moved"]);
    assert_eq!(auxin.json(&["repo", "show", "anna/moved"])["hooks_trusted"], true);
}

#[test]
fn an_import_obeys_the_limits_of_the_settings() {
    let auxin = Auxin::with_people(&["anna"]);
    let work = auxin.folder.path().join("work");
    std::fs::create_dir(&work).expect("a folder");
    git(&work, &["init", "-q", "-b", "main"]);
    std::fs::write(work.join("take.wav"), "la".repeat(1000)).expect("a file");
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "First take"]);

    let import = ["repo", "import", "anna/song", "work"];
    let refused = auxin.run(&import, "", &[("AUXIN_GIT__MAX_OBJECT_BYTES", "1999")]);

    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said.contains("1999"), "{said}");
    assert!(auxin.refused(&["repo", "show", "anna/song"]).contains("no repository"));
    auxin.ok(&import);
}

#[test]
fn damage_is_found_and_told_by_the_exit_code() {
    let auxin = Auxin::with_people(&["anna"]);
    let work = auxin.folder.path().join("work");
    std::fs::create_dir(&work).expect("a folder");
    git(&work, &["init", "-q", "-b", "main"]);
    std::fs::write(work.join("Song.txt"), "la la la").expect("a file");
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "First take"]);
    auxin.ok(&["repo", "import", "anna/song", "work"]);
    let repo = auxin.json(&["repo", "show", "anna/song"])["path"]
        .as_str()
        .expect("a path")
        .to_owned();
    auxin.ok(&["repo", "repack", "anna/song"]);
    let packs = Path::new(&repo).join("objects/pack");
    let pack = std::fs::read_dir(&packs)
        .expect("packs")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|ending| ending == "pack"))
        .expect("one pack");
    let bytes = std::fs::read(&pack).expect("read");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 0x55;
    std::fs::remove_file(&pack).expect("packs are read-only");
    std::fs::write(&pack, damaged).expect("written");

    let out = auxin.run(&["repo", "fsck", "anna/song"], "", &[]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");

    // Something to do, and half of what it takes to do it.
    std::fs::write(&pack, &bytes).expect("written");
    std::fs::write(work.join("Song.txt"), "la la").expect("a file");
    git(&work, &["commit", "-qam", "Second take"]);
    git(&work, &["push", "-q", &repo, "main"]);
    std::fs::write(&pack, &bytes[..40]).expect("written");
    let out = auxin.run(&["repo", "repack", "anna/song"], "", &[]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(!out.stderr.is_empty(), "{out:?}");
}

#[test]
fn members_and_protected_branches_are_kept_per_repository() {
    let auxin = Auxin::with_people(&["anna", "ben"]);
    auxin.ok(&["repo", "create", "anna/song"]);

    auxin.ok(&["member", "add", "anna/song", "ben", "write"]);
    auxin.ok(&["branch", "protect", "anna/song", "release/*", "--allow-delete"]);
    assert_eq!(auxin.json(&["member", "list", "anna/song"])[0]["role"], "write");
    let rule = &auxin.json(&["branch", "list", "anna/song"])[0];
    assert_eq!(rule["pattern"], "release/*");
    assert_eq!(
        (&rule["allow_force"], &rule["allow_delete"]),
        (&Value::Bool(false), &Value::Bool(true))
    );

    auxin.ok(&["member", "remove", "anna/song", "ben"]);
    auxin.ok(&["branch", "unprotect", "anna/song", "release/*"]);
    assert!(
        auxin
            .ok(&["member", "list", "anna/song"])
            .starts_with("Nobody but the owner")
    );
    assert!(
        auxin
            .ok(&["branch", "list", "anna/song"])
            .starts_with("No branch is protected")
    );
}

#[test]
fn what_cannot_be_understood_is_refused_before_anything_happens() {
    let auxin = Auxin::new();
    for args in [
        &["user", "add", "../x"][..],
        &["repo", "create", "song"],
        &["repo", "create", "anna/song", "--visibility", "secret"],
        &["token", "create", "anna"],
        &["token", "create", "anna", "--scope", "read", "--expires", "0"],
        &["member", "add", "anna/song", "ben", "owner"],
        &["sing"],
    ] {
        let out = auxin.run(args, "", &[]);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_setting_stops_every_command_but_the_one_that_shows_how_it_is_done() {
    let auxin = Auxin::new();
    let env = [("AUXIN_LOG__LEVEL", "lowd")];

    let list = auxin.run(&["user", "list"], "", &env);
    let check = auxin.run(&["config", "check", "--json"], "", &env);
    let template = auxin.run(&["config", "template"], "", &env);
    let in_json = auxin.run(&["config", "template", "--json"], "", &env);

    assert_eq!(list.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&list.stderr).contains("AUXIN_LOG__LEVEL: log.level:"));
    assert_eq!(check.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&check.stdout).expect("JSON");
    assert_eq!(found["mistakes"][0]["key"], "log.level");
    assert!(template.status.success());
    let in_json: Value = serde_json::from_slice(&in_json.stdout).expect("JSON");
    assert_eq!(in_json["template"], String::from_utf8_lossy(&template.stdout).as_ref());
}

#[test]
fn a_certificate_that_cannot_be_used_stops_a_start_before_it_promises_anything() {
    let auxin = Auxin::new();
    let empty = auxin.folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").expect("a file");
    let data = auxin.folder.path().join("data");
    std::fs::remove_dir_all(&data).expect("a folder");

    for (cert, wrong) in [
        (empty.as_path(), "empty.pem"),
        (Path::new("missing.pem"), "missing.pem"),
    ] {
        let cert = cert.display().to_string();
        let env = [
            ("AUXIN_SERVER__TLS_CERT_FILE", cert.as_str()),
            ("AUXIN_SERVER__TLS_KEY_FILE", cert.as_str()),
        ];
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["config", "check"]] {
            let refused = auxin.run(command, "", &env);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(1), "{command:?} {cert}: {refused:?}");
            assert!(refused.stdout.is_empty(), "{command:?} {cert}: {refused:?}");
            assert!(said.contains(wrong) && said.contains("tls_cert_file"), "{said}");
            assert!(!data.exists(), "{command:?} {cert} left a data folder");
        }
        let in_json = auxin.run(&["config", "check", "--json"], "", &env);
        assert_eq!(in_json.status.code(), Some(1), "{in_json:?}");
        let found: Value = serde_json::from_slice(&in_json.stdout).expect("JSON");
        assert_eq!(found["mistakes"][0]["key"], "server.tls_cert_file");
        assert!(
            found["mistakes"][0]["problem"]
                .as_str()
                .is_some_and(|said| said.contains(wrong)),
            "{found}"
        );
    }
}

#[test]
fn no_password_is_taken_from_anywhere_but_where_it_was_said_to_be() {
    let auxin = Auxin::new();

    let asked = auxin.run(&["user", "add", "anna"], "sings in tune\n", &[]);
    let short = auxin.run(&["user", "add", "anna", "--password-stdin"], "short\n", &[]);
    let empty = auxin.run(&["user", "add", "anna", "--password-stdin"], "", &[]);

    assert!(String::from_utf8_lossy(&asked.stderr).contains("--password-stdin"));
    assert!(String::from_utf8_lossy(&short.stderr).contains("too short"));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("empty"));
    assert_eq!(auxin.json(&["user", "list"]), Value::Array(Vec::new()));
}

#[test]
fn commands_need_a_data_folder_and_make_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = Command::new(env!("CARGO_BIN_EXE_auxin"))
        .args(["user", "list"])
        .env_remove("AUXIN_DATA")
        .current_dir(folder.path())
        .output()
        .expect("the program runs");

    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("auxin serve"), "{out:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
}

/// A server that was started, and the first screen it showed as JSON.
struct Serving {
    process: std::process::Child,
    ready: Value,
    data: PathBuf,
}

impl Serving {
    fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, env: &[(&str, &Path)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_auxin"))
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--data"])
            .arg(data)
            .env_remove("AUXIN_ADMIN_USER")
            .env_remove("AUXIN_ADMIN_PASSWORD")
            .env_remove("AUXIN_ADMIN_PASSWORD_FILE")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let screen = process.stdout.take().expect("a pipe");
        let mut values = serde_json::Deserializer::from_reader(screen).into_iter::<Value>();
        let ready = values.next().expect("a screen").expect("JSON");
        let data = data.to_owned();
        Self { process, ready, data }
    }

    /// As a power cut ends it, but after it has noted that the screen was shown.
    fn kill(mut self) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
        while self.data.join("secrets/first-administrator").exists() {
            assert!(Instant::now() < end, "the password is never forgotten");
            std::thread::yield_now();
        }
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        self.ready
    }
}

#[test]
fn a_password_that_was_made_but_never_shown_is_shown_by_the_next_start_and_never_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let first = Serving::start(&data).kill();
    let password = first["administrator"]["password"].as_str().expect("made up");
    // As a start leaves it that ends after the account was made and before the screen was shown.
    std::fs::write(data.join("secrets/first-administrator"), format!("admin\n{password}\n")).expect("written");

    let second = Serving::start(&data).kill();
    let third = Serving::start(&data).kill();

    assert_eq!(second["administrator"]["password"], password);
    assert_eq!(third["administrator"], Value::Null);
}

#[test]
fn a_password_that_was_printed_to_nobody_is_shown_by_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut process = Command::new(env!("CARGO_BIN_EXE_auxin"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .env_remove("AUXIN_ADMIN_USER")
        .env_remove("AUXIN_ADMIN_PASSWORD")
        .env_remove("AUXIN_ADMIN_PASSWORD_FILE")
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let log = std::io::BufReader::new(process.stderr.take().expect("a pipe"));
    // Said after the screen: by now the server would have forgotten the password.
    let is_ready = log
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("Listening on"));
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert!(is_ready);

    let next = Serving::start(&data).kill();

    assert_eq!(next["administrator"]["name"], "admin");
    assert!(next["administrator"]["password"].is_string(), "{next}");
}

#[test]
fn a_later_start_does_not_need_the_password_file_of_the_first_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let gone = folder.path().join("password");
    std::fs::write(&gone, "sings in tune\n").expect("a file");
    let start = || Serving::start_with(&data, &[("AUXIN_ADMIN_PASSWORD_FILE", &gone)]);

    start().kill();
    std::fs::remove_file(&gone).expect("a file");

    assert!(start().kill()["address"].is_string());
}

#[test]
fn a_start_that_ended_before_the_account_was_made_starts_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    auxin::data_folder::DataFolder::create(&data).expect("made");
    std::fs::write(data.join("secrets/first-administrator"), "admin\nnever used at all\n").expect("written");
    std::fs::write(data.join("secrets/signing-key.new"), "half").expect("written");

    let first = Serving::start(&data).kill();

    let password = first["administrator"]["password"].as_str().expect("made up");
    assert_ne!(password, "never used at all");
    assert!(!data.join("secrets/first-administrator").exists());
}

#[test]
fn commands_name_the_address_of_the_running_server() {
    let auxin = Auxin::with_people(&["anna"]);
    let serving = Serving::start(&auxin.folder.path().join("data"));
    let address = serving.ready["address"].as_str().expect("an address").to_owned();

    let made = auxin.json(&["repo", "create", "anna/song"]);
    serving.kill();

    assert_eq!(made["clone_url"], format!("{address}/anna/song.git"));
}

#[test]
fn an_address_that_is_taken_is_named_with_the_way_out() {
    let auxin = Auxin::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();

    let refusal = auxin.refused(&["serve", "--listen", &address]);

    assert!(refusal.contains(&address) && refusal.contains("--listen"), "{refusal}");
    assert_eq!(auxin.json(&["user", "list"]), Value::Array(Vec::new()));
}

#[test]
fn completions_are_printed_for_every_shell() {
    let auxin = Auxin::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(auxin.ok(&["completions", shell]).contains("auxin"), "{shell}");
    }
}
