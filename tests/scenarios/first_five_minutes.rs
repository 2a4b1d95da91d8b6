//! A new user's first five minutes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::server::auxin_command;
use crate::support::{Person, TestServer, run};

/// The word behind `label` on the screen of a first start.
fn told(screen: &str, label: &str) -> Option<String> {
    screen.lines().find_map(|line| {
        let at = line.to_lowercase().find(label)?;
        let rest = line[at + label.len()..].trim_start_matches([':', ' ', '\t']);
        rest.split_whitespace().next().map(str::to_owned)
    })
}

/// Someone whose git asks a script for the password, as a person would type it.
fn person_who_types(server: &TestServer, password: &str) -> Person {
    let person = server.stranger();
    let script = person.home().join("askpass");
    std::fs::write(&script, format!("#!/bin/sh\necho '{password}'\n")).expect("a file");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    person
}

fn follow_the_lines(person: &Person, folder: &Path, lines: &[String]) {
    let script = format!("set -e\n{}\n", lines.join("\n"));
    let mut command = person.command_in(folder, &[]);
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(&script).current_dir(folder);
    for (name, value) in command.envs(std::iter::empty::<(&str, &str)>()).get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("GIT_ASKPASS", person.home().join("askpass"));
    run(&mut shell).assert_ok();
}

#[test]
fn the_lines_that_a_first_start_prints_work_as_they_are_printed() {
    let server = TestServer::prepare().without_admin().start();
    server.wait_for_line("git push");
    let screen = server.printed();

    let name = told(&screen, "name").expect("the screen tells a name");
    let password = told(&screen, "password").expect("the screen tells a password");
    assert!(screen.contains(server.url()), "no address:\n{screen}");
    let data = server.data().to_string_lossy().into_owned();
    assert!(screen.contains(&data), "no data folder:\n{screen}");

    let lines: Vec<String> = screen
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("git "))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "no lines to follow:\n{screen}");
    let person = person_who_types(&server, &password);
    let song = person.new_project("song");
    song.write("Song.txt", "la la la").commit("First take");
    follow_the_lines(&person, &song.folder, &lines);

    let listed = server.auxin(&["repo", "list", "--json"]).assert_ok().out();
    assert!(listed.contains("song"), "{listed}");
    let owner = server.person(&name, &password);
    let url = lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .find(|word| word.starts_with("http"))
        .expect("the lines hold an address");
    let (_, address) = url.rsplit_once('@').expect("a name in the address");
    let (_, address) = address.split_once('/').expect("a path");
    let address = address.trim_end_matches(".git");
    let copy = owner.clone_repo(address, "copy", &[]);
    assert_eq!(
        std::fs::read_to_string(copy.folder.join("Song.txt")).expect("the file came along"),
        "la la la"
    );
}

#[test]
fn a_first_start_makes_the_data_folder_and_keeps_its_secrets_to_itself() {
    let server = TestServer::start();

    for made in ["auxin.toml", "auxin.db", "secrets", "repos"] {
        assert!(server.data().join(made).exists(), "{made} is missing");
    }
    let mode = |path: &Path| {
        let permissions = std::fs::metadata(path).expect("it exists").permissions();
        permissions.mode() & 0o077
    };
    assert_eq!(mode(&server.data().join("secrets")), 0);
    for secret in std::fs::read_dir(server.data().join("secrets")).expect("a folder") {
        assert_eq!(mode(&secret.expect("an entry").path()), 0);
    }
    let written = std::fs::read_to_string(server.data().join("auxin.toml")).expect("a file");
    assert!(written.contains('#'), "no comments:\n{written}");
}

#[test]
fn the_administrator_can_come_from_the_environment_and_their_password_is_not_printed() {
    let server = TestServer::start();
    let admin = server.admin();
    let song = admin.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    song.push("admin/song", &["main"]).assert_ok();

    let screen = server.printed();
    assert!(!screen.contains(&admin.password), "{screen}");
}

#[test]
fn the_administrators_password_can_come_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "quite secret words\n").expect("a file");

    let server = TestServer::prepare()
        .without_admin()
        .env("AUXIN_ADMIN_USER", "boss")
        .env("AUXIN_ADMIN_PASSWORD_FILE", file.display())
        .start();

    let boss = server.person("boss", "quite secret words");
    let song = boss.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("boss/song", &["main"]).assert_ok();
}

#[test]
fn a_second_start_says_nothing_of_secrets_and_knows_everybody() {
    let mut server = TestServer::prepare().without_admin().start();
    server.wait_for_line("git push");
    let first = server.printed();
    let name = told(&first, "name").expect("the screen tells a name");
    let password = told(&first, "password").expect("the screen tells a password");
    assert_eq!(server.stop(), Some(0));

    server.start_again();

    let second = server.printed();
    assert!(!second.contains(&password), "{second}");
    assert!(told(&second, "password").is_none(), "{second}");
    let person = server.person(&name, &password);
    let song = person.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push(&format!("{name}/song"), &["main"]).assert_ok();
}

#[test]
fn a_second_server_on_the_same_folder_stops_and_names_the_process_that_has_it() {
    let server = TestServer::start();

    let second = server.auxin(&["serve", "--listen", "127.0.0.1:0"]);

    second.assert_failed().assert_said(&server.pid().to_string());
}

#[test]
fn the_folder_can_be_served_again_right_after_the_server_was_killed() {
    let mut server = TestServer::start();
    server.kill();

    server.start_again();

    assert!(server.is_running());
}

#[test]
fn wrong_settings_are_told_all_at_once_with_place_key_and_what_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    std::fs::write(
        data.join("auxin.toml"),
        "[server]\nlisten = \"nowhere\"\n[git]\nmax_wnats = 3\n[repo]\ndefault_visibility = \"secret\"\n",
    )
    .expect("a file");

    let check = run(&mut auxin_command(&data, &["config", "check"]));

    check
        .assert_failed()
        .assert_said("auxin.toml")
        .assert_said("listen")
        .assert_said("max_wnats")
        .assert_said("default_visibility")
        .assert_said("internal");
}

#[test]
fn the_template_of_the_settings_passes_the_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    let template = run(&mut auxin_command(&data, &["config", "template"]));
    template.assert_ok().assert_said("want_grace_secs");
    std::fs::write(data.join("auxin.toml"), &template.stdout).expect("a file");

    run(&mut auxin_command(&data, &["config", "check"])).assert_ok();
}

#[test]
fn settings_rise_from_the_file_over_the_environment_to_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    // The file names an address that cannot be had; the flag that the harness gives wins.
    std::fs::write(
        data.join("auxin.toml"),
        "[server]\nlisten = \"192.0.2.1:1\"\n[repo]\ncreate_on_push = true\n",
    )
    .expect("a file");
    let server = TestServer::prepare()
        .data(&data)
        .setting("repo.create_on_push", false)
        .start();
    let admin = server.admin();
    let song = admin.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    let push = song.push("admin/song", &["main"]);

    push.assert_failed();
}

#[test]
fn asked_to_end_the_server_ends_cleanly_and_lets_a_running_clone_finish() {
    let mut server = TestServer::start();
    let admin = server.admin();
    let song = admin.new_project("song");
    song.write("mix.wav", crate::support::noise(1, 8 * crate::support::MIB))
        .commit("Mix");
    song.push("admin/song", &["main"]).assert_ok();
    let address = "admin/song";
    let body = crate::support::wire::V2::fetch()
        .arg(format!("want {}", song.id("main")))
        .arg("done")
        .bytes();
    let request = crate::support::Request::upload_pack(address, 2, body).by(&admin);
    let mut stream = request.open(server.url());
    let mut first = [0; 16];
    std::io::Read::read_exact(&mut stream, &mut first).expect("the answer begins");

    server.ask_to_end();
    let rest = crate::support::http::read_answer(std::io::Read::chain(&first[..], stream));

    assert!(rest.complete, "the clone was cut off: {rest:?}");
    let answer = crate::support::wire::parse_v2_fetch(&rest.body).expect("pkt-lines");
    assert!(answer.pack.is_some_and(|pack| pack.len() > 8 * crate::support::MIB));
    assert_eq!(server.wait_for_end(), Some(0));
}

#[test]
fn asked_to_end_the_server_gives_a_stuck_transfer_its_drain_time_and_no_more() {
    let mut server = TestServer::prepare().setting("server.drain_secs", 1).start();
    let admin = server.admin();
    server.repo("admin/song");
    // A push that never sends its pack.
    let stuck = crate::support::Request::new("POST", "/admin/song.git/git-receive-pack")
        .header("Content-Type", "application/x-git-receive-pack-request")
        .header("Content-Length", "100000")
        .by(&admin)
        .open(server.url());

    server.ask_to_end();
    let code = server.wait_for_end();

    drop(stuck);
    assert_eq!(code, Some(0));
}

#[test]
fn health_tells_strangers_little_and_administrators_much() {
    let server = TestServer::start();
    let get = |path: &str| server.send(crate::support::Request::get(path));

    get("/livez").assert_status(200);
    get("/readyz").assert_status(200);
    // From this machine itself: as much as for an administrator.
    let near = get("/health");
    near.assert_status(200);
    let near: serde_json::Value = serde_json::from_slice(&near.body).expect("JSON");
    assert_eq!(near["status"], "ok");
    for key in ["version", "node", "uptime_secs", "load", "checks"] {
        assert!(near.get(key).is_some(), "{key} is missing: {near}");
    }
    // A stranger from elsewhere, as a proxy that is believed tells.
    let server = TestServer::prepare()
        .setting("server.trusted_proxies", "127.0.0.1/32")
        .start();
    let ask = |request: crate::support::Request| {
        let answer = server.send(request.header("X-Forwarded-For", "203.0.113.9"));
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON")
    };
    let far = ask(crate::support::Request::get("/health"));
    assert_eq!(far, serde_json::json!({ "status": "ok" }));
    let admin = ask(crate::support::Request::get("/health").by(&server.admin()));
    assert!(admin["version"].is_string(), "{admin}");
}

#[test]
fn everything_that_is_logged_tells_no_password() {
    let server = TestServer::prepare().setting("log.level", "trace").start();
    let anna = server.user("anna");
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    let wrong = server.person("anna", "a wrong password");
    wrong.try_clone("anna/song", "copy", &[]).assert_failed();
    server.wait_for_line("git-receive-pack");

    let log = server.printed();

    let coded = |password: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("anna:{password}"))
    };
    for secret in [
        anna.password.clone(),
        wrong.password.clone(),
        coded(&anna.password),
        coded(&wrong.password),
    ] {
        assert!(!log.contains(&secret), "{secret:?} was logged");
    }
    assert!(log.contains("anna/song"), "{log}");
}

#[test]
fn the_log_can_be_json_with_one_line_for_each_request() {
    let server = TestServer::prepare().setting("log.format", "json").start();
    server.send(crate::support::Request::get("/livez?mark=here"));
    server.send(crate::support::Request::upload_refs("nobody/nothing", 2));
    server.wait_for_line("nobody/nothing");

    let lines: Vec<serde_json::Value> = server
        .printed()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();

    assert!(
        lines.iter().any(|line| line.to_string().contains("nobody/nothing")),
        "{lines:?}"
    );
}
