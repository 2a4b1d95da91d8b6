//! Behind nginx with TLS in front, and with certificates of our own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::client::{auxin, install};
use crate::support::{GitProgram, MIB, Person, TestServer, noise, process, run};

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    std::fs::create_dir_all(folder).expect("a folder");
    let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "3650", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:TRUE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert))
    .assert_ok();
    (cert, key)
}

/// A certificate for this name, signed by the authority, and its key.
fn signed_certificate(folder: &Path, name: &str, authority: &(PathBuf, PathBuf)) -> (PathBuf, PathBuf) {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let (cert, key, request, extensions) = (file("pem"), file("key"), file("csr"), file("ext"));
    let facts = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
    std::fs::write(&extensions, facts).expect("a file");
    run(Command::new("openssl")
        .args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", &format!("/CN={name}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&request))
    .assert_ok();
    run(Command::new("openssl")
        .args(["x509", "-req", "-days", "3650", "-CAcreateserial", "-in"])
        .arg(&request)
        .arg("-CA")
        .arg(&authority.0)
        .arg("-CAkey")
        .arg(&authority.1)
        .arg("-extfile")
        .arg(&extensions)
        .arg("-out")
        .arg(&cert))
    .assert_ok();
    (cert, key)
}

/// A proxy that reaches one port of this machine, whatever name is asked for; its own port.
fn tunnel_to(port: u16) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let own = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || drop(tunnel(client, port)));
        }
    });
    own
}

fn tunnel(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8000 {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"CONNECT studio.invalid:") {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(std::net::Shutdown::Write));
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// nginx in front of a server.
struct Nginx {
    process: Child,
    port: u16,
}

impl Nginx {
    /// At `https://127.0.0.1:PORT/`.
    fn start(folder: &Path, server: &TestServer, cert: &Path, key: &Path) -> Self {
        Self::start_at(free_port(), "/", folder, server, cert, key)
    }

    /// At `https://127.0.0.1:PORT` and `path`, which it takes off.
    fn start_at(port: u16, path: &str, folder: &Path, server: &TestServer, cert: &Path, key: &Path) -> Self {
        Self::start_with(port, path, "", folder, server, cert, key)
    }

    /// The same with one more rule.
    fn start_with(
        port: u16,
        path: &str,
        rule: &str,
        folder: &Path,
        server: &TestServer,
        cert: &Path,
        key: &Path,
    ) -> Self {
        let root = if path == "/" { "" } else { "/" };
        let at = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {at}/access.log;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen 127.0.0.1:{port} ssl http2;\n\
             ssl_certificate {}; ssl_certificate_key {};\n\
             client_max_body_size 0; {rule}\n\
             location {path} {{ proxy_pass http://{}{root};\n\
             proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https;\n\
             proxy_set_header X-Forwarded-For $remote_addr; }} }} }}\n",
            cert.display(),
            key.display(),
            server.address()
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config).expect("a file");
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(folder)
            .args(["-e", "stderr"])
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        let mut nginx = Self { process, port };
        process::wait_until("nginx answers", Duration::from_secs(20), || {
            assert!(matches!(nginx.process.try_wait(), Ok(None)), "nginx ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The same person, who reaches the server at another address with this certificate.
fn person_at(url: &str, person: &Person, cert: &Path) -> Person {
    let person = Person::new(url, &person.name, &person.password, GitProgram::first());
    trust(&person, cert);
    person
}

fn trust(person: &Person, cert: &Path) {
    let cert = cert.display().to_string();
    person.git(&["config", "--global", "http.sslCAInfo", &cert]).assert_ok();
}

#[test]
fn everything_works_behind_nginx_with_tls_in_front() {
    let server = TestServer::prepare()
        .setting("server.trusted_proxies", "[\"127.0.0.0/8\"]")
        .start();
    let (cert, key) = certificate(&server.scratch(), "proxy");
    let nginx = Nginx::start(&server.scratch(), &server, &cert, &key);
    let anna = server.user("anna");
    let anna = person_at(&format!("https://127.0.0.1:{}", nginx.port), &anna, &cert);
    let song = anna.new_project("song");
    song.write("take.wav", noise(1, 6 * MIB)).commit("First take");

    song.push("anna/song", &["main"]).assert_ok();
    for version in ["0", "2"] {
        let config = format!("protocol.version={version}");
        let into = format!("copy{version}");
        anna.git(&["-c", &config, "clone", "--quiet", &anna.url("anna/song"), &into])
            .assert_ok();
        anna.project(&into).assert_sound();
    }
    song.write("take.wav", noise(2, 100)).commit("Second take");
    song.push("anna/song", &["main"]).assert_ok();
    let wrong = Person::new(
        anna.url("").trim_end_matches("/.git"),
        "anna",
        "wrong",
        GitProgram::first(),
    );
    trust(&wrong, &cert);
    wrong
        .try_clone("anna/song", "copy", &[])
        .assert_refused_with("Authentication failed");
    let refused = song.push("nobody/song", &["main"]);
    assert!(!refused.assert_failed().remote_lines().is_empty(), "{refused:?}");
}

#[test]
fn behind_a_proxy_that_takes_a_path_off_every_link_has_that_path() {
    let port = free_port();
    let public_url = format!("https://localhost:{port}/music");
    let server = TestServer::prepare()
        .setting("server.trusted_proxies", "[\"127.0.0.0/8\"]")
        .setting("server.public_url", &public_url)
        .start();
    let (cert, key) = certificate(&server.scratch(), "proxy");
    let _nginx = Nginx::start_at(port, "/music/", &server.scratch(), &server, &cert, &key);
    let anna = person_at(&public_url, &server.user("anna"), &cert);
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");

    song.push("anna/song", &["main"]).assert_ok();
    anna.clone_repo("anna/song", "copy", &[]).assert_sound();

    let refused = song.push("bella/song", &["main"]);
    refused.assert_refused_with(&format!("git push {public_url}/anna/song.git main"));
    server.auxin(&["repo", "rename", "anna/song", "tune"]).assert_ok();
    song.write("Song.txt", "la la").commit("Second take");
    let moved = song.push("anna/song", &["main"]);
    moved
        .assert_ok()
        .assert_said(&format!("git remote set-url origin {public_url}/anna/tune.git"));
    let made = server.auxin(&["repo", "create", "anna/other", "--json"]);
    assert_eq!(
        made.assert_ok().json()["clone_url"],
        format!("{public_url}/anna/other.git")
    );
}

#[test]
fn large_files_pass_a_proxy_with_tls_at_the_public_address() {
    let port = free_port();
    let public_url = format!("https://localhost:{port}/music");
    let server = TestServer::prepare()
        .setting("server.trusted_proxies", "[\"127.0.0.0/8\"]")
        .setting("server.public_url", &public_url)
        .start();
    let (cert, key) = certificate(&server.scratch(), "proxy");
    let _nginx = Nginx::start_at(port, "/music/", &server.scratch(), &server, &cert, &key);
    let anna = person_at(&public_url, &server.user("anna"), &cert);
    anna.git(&["lfs", "install", "--skip-repo"]).assert_ok();
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    let take = noise(3, 6 * MIB);
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n")
        .write("take.wav", &take)
        .commit("First take");

    song.push("anna/song", &["main"]).assert_ok();

    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert!(std::fs::read(copy.folder.join("take.wav")).expect("readable") == take);
}

#[test]
fn the_client_program_goes_where_git_goes() {
    let port = free_port();
    let public_url = format!("https://studio.invalid:{port}");
    let server = TestServer::prepare()
        .setting("server.trusted_proxies", "[\"127.0.0.0/8\"]")
        .setting("server.public_url", &public_url)
        .start();
    let folder = server.scratch();
    let authority = certificate(&folder, "authority");
    let (cert, key) = signed_certificate(&folder, "studio.invalid", &authority);
    let rule = "if ($http_x_studio != \"yes\") { return 403; }";
    let _nginx = Nginx::start_with(port, "/", rule, &folder, &server, &cert, &key);
    let account = server.user("anna");
    let anna = Person::new(&public_url, "anna", "", GitProgram::first());
    std::fs::remove_file(anna.home().join(".git-credentials")).expect("removed");
    anna.git(&["config", "--global", "--unset", "credential.helper"])
        .assert_ok();
    install(&anna);
    let helper = format!(
        "!f() {{ echo username=anna; echo 'password={}'; }}; f",
        account.password
    );
    let proxy = format!("http://127.0.0.1:{}", tunnel_to(port));
    // All of it for this server alone.
    let settings = [
        (format!("credential.{public_url}.helper"), helper.as_str()),
        (format!("credential.{public_url}.useHttpPath"), "true"),
        (format!("http.{public_url}/.proxy"), &proxy),
        (
            format!("http.{public_url}/.sslCAInfo"),
            authority.0.to_str().expect("text"),
        ),
        (format!("http.{public_url}/.extraHeader"), "X-Studio: yes"),
    ];
    for (name, value) in &settings {
        anna.git(&["config", "--global", name, value]).assert_ok();
    }
    let song = anna.new_project("song");
    song.git(&["lfs", "install", "--local"]).assert_ok();
    let take = noise(3, 2 * MIB);
    song.write(".gitattributes", "*.wav filter=lfs diff=lfs merge=lfs -text\n")
        .write("take.wav", &take)
        .commit("First take");
    song.git(&["remote", "add", "origin", &anna.url("anna/song")])
        .assert_ok();

    song.git(&["push", "-q", "-u", "origin", "main"]).assert_ok();

    let recipes = |folder: &Path| std::fs::read_dir(folder.join(".git/lfs/auxin/recipes")).map_or(0, Iterator::count);
    assert_eq!(recipes(&song.folder), 1, "it went by the client program");
    let copy = anna.clone_repo("anna/song", "copy", &[]);
    assert!(std::fs::read(copy.folder.join("take.wav")).expect("readable") == take);
    assert_eq!(recipes(&copy.folder), 1, "it came by the client program");
    auxin(&copy, &["lock", "take.wav"]).assert_ok();
    auxin(&copy, &["locks"]).assert_ok().assert_said("take.wav\tanna");
    auxin(&copy, &["status"])
        .assert_ok()
        .assert_said("1 of yours: take.wav");

    // Each of the settings is needed, and its lack is told.
    for ((name, value), said) in settings.iter().zip([
        "Git knows no name and password",
        "",
        "cannot be reached",
        "name who has with http.sslCAInfo",
        "answered 403",
    ]) {
        anna.git(&["config", "--global", "--unset", name]).assert_ok();
        let locks = auxin(&copy, &["locks"]);
        if said.is_empty() {
            locks.assert_ok();
        } else {
            locks.assert_refused_with(said);
            auxin(&copy, &["status"]).assert_failed().assert_said(said);
        }
        anna.git(&["config", "--global", name, value]).assert_ok();
    }
    let unverified = format!("http.{public_url}/.sslVerify");
    anna.git(&["config", "--global", "--unset", &settings[3].0]).assert_ok();
    anna.git(&["config", "--global", &unverified, "false"]).assert_ok();
    auxin(&copy, &["locks"]).assert_ok();
}

#[test]
fn addresses_that_a_stranger_claims_are_believed_from_trusted_proxies_only() {
    let claims = |server: &TestServer| {
        let request = crate::support::Request::upload_refs("nobody/mark", 2).header("X-Forwarded-For", "203.0.113.77");
        server.send(request);
        server.wait_for_line("nobody/mark");
        server.printed().contains("203.0.113.77")
    };
    let trusting = TestServer::prepare()
        .setting("server.trusted_proxies", "[\"127.0.0.0/8\"]")
        .start();
    assert!(claims(&trusting), "{}", trusting.printed());
    let careful = TestServer::start();
    assert!(!claims(&careful), "{}", careful.printed());
}

#[test]
fn the_server_speaks_tls_and_http_2_itself_and_takes_a_new_certificate_while_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = certificate(folder.path(), "first");
    let server = TestServer::prepare()
        .setting("server.tls_cert_file", cert.display())
        .setting("server.tls_key_file", key.display())
        .start();
    let anna = person_at(server.url(), &server.user("anna"), &cert);
    let song = anna.new_project("song");
    song.write("take.wav", noise(1, 6 * MIB)).commit("First take");
    song.push("anna/song", &["main"]).assert_ok();
    anna.clone_repo("anna/song", "copy", &[]).assert_sound();
    let mut traced = anna.command_in(anna.home(), &["ls-remote", &anna.url("anna/song")]);
    traced.env("GIT_CURL_VERBOSE", "1");
    let traced = run(&mut traced);
    traced.assert_ok().assert_said("HTTP/2 200");

    let (second, second_key) = certificate(folder.path(), "second");
    std::fs::rename(&second_key, &key).expect("a file");
    std::fs::rename(&second, &cert).expect("a file");

    process::wait_until("the new certificate is used", Duration::from_secs(60), || {
        let seen = run(Command::new("openssl")
            .args(["s_client", "-connect", &server.address(), "-CAfile"])
            .arg(&cert));
        seen.out().contains("CN = second") || seen.out().contains("CN=second")
    });
    anna.clone_repo("anna/song", "again", &[]).assert_sound();
}
