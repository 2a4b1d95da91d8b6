//! A server of one's own: the built program, in an empty data folder, on a free port.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::git::{GitProgram, Person};
use super::http::{Answer, Request};
use super::process;
use super::run::{Outcome, run_with_input};

/// Name of the administrator that every test server starts with.
pub const ADMIN: &str = "admin";
/// Its password.
pub const ADMIN_PASSWORD: &str = "the admin sings bass";

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Lines of the server's output that a failed test shows.
const SHOWN_LINES: usize = 60;
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_auxin"))
}

/// A command line of the program in a clean environment.
pub fn auxin_command(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUXIN_") {
            command.env_remove(name);
        }
    }
    command.args(args).arg("--data").arg(data);
    command
}

/// How a server is to be started.
#[derive(Default)]
pub struct Prepare {
    env: Vec<(String, String)>,
    data: Option<PathBuf>,
    flags: Vec<String>,
    listen: Option<String>,
    without_admin: bool,
    wrapper: Vec<String>,
}

impl Prepare {
    /// Sets one setting, such as `git.max_wants`.
    pub fn setting(self, key: &str, value: impl ToString) -> Self {
        let name = format!("AUXIN_{}", key.replace('.', "__").to_uppercase());
        self.env(&name, value)
    }

    /// Sets one variable of the environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a flag to `serve`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Uses this data folder, which then outlives the server.
    pub fn data(mut self, data: &Path) -> Self {
        self.data = Some(data.to_owned());
        self
    }

    /// Gives no administrator by the environment.
    pub fn without_admin(mut self) -> Self {
        self.without_admin = true;
        self
    }

    /// Runs the server under another program that leaves it its process number, such as
    /// `strace -D -f -o FILE`.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub fn start(self) -> TestServer {
        let (folder, data) = match &self.data {
            Some(data) => (None, data.clone()),
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("auxin-test-")
                    .tempdir()
                    .expect("a folder for temporary files");
                let data = folder.path().join("data");
                (Some(folder), data)
            }
        };
        let mut server = TestServer {
            prepare: self,
            folder,
            data,
            process: None,
            output: Arc::default(),
            url: String::new(),
        };
        server.launch();
        server
    }
}

/// What the server printed, line by line.
#[derive(Default)]
pub struct Printed {
    lines: Mutex<(Vec<String>, usize)>,
    more: Condvar,
}

impl Printed {
    fn follow(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let printed = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                printed.lines.lock().expect("not poisoned").0.push(line);
                printed.more.notify_all();
            }
            printed.lines.lock().expect("not poisoned").1 += 1;
            printed.more.notify_all();
        });
    }

    /// Everything printed so far.
    pub fn text(&self) -> String {
        self.lines.lock().expect("not poisoned").0.join("\n")
    }

    /// Waits for a line in which `find` finds something. `None`: the deadline passed, or both
    /// streams ended without it.
    pub fn wait_for<T>(&self, deadline: Duration, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut seen = 0;
        let mut lines = self.lines.lock().expect("not poisoned");
        loop {
            while seen < lines.0.len() {
                if let Some(found) = find(&lines.0[seen]) {
                    return Some(found);
                }
                seen += 1;
            }
            let left = end.checked_duration_since(Instant::now())?;
            if lines.1 == 2 {
                return None;
            }
            lines = self.more.wait_timeout(lines, left).expect("not poisoned").0;
        }
    }
}

/// A running server.
pub struct TestServer {
    prepare: Prepare,
    folder: Option<TempDir>,
    data: PathBuf,
    process: Option<Child>,
    output: Arc<Printed>,
    url: String,
}

impl TestServer {
    /// Starts a server with default settings and an administrator.
    #[track_caller]
    pub fn start() -> Self {
        Prepare::default().start()
    }

    /// Describes a server before it is started.
    pub fn prepare() -> Prepare {
        Prepare::default()
    }

    #[track_caller]
    fn launch(&mut self) {
        let listen = self.prepare.listen.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let mut serve = auxin_command(&self.data, &["serve", "--listen", &listen]);
        serve.args(&self.prepare.flags);
        let mut command = match self.prepare.wrapper.split_first() {
            None => serve,
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program()).args(serve.get_args());
                command
            }
        };
        if !self.prepare.without_admin {
            command.env("AUXIN_ADMIN_USER", ADMIN);
            command.env("AUXIN_ADMIN_PASSWORD", ADMIN_PASSWORD);
        }
        for (name, value) in &self.prepare.env {
            command.env(name, value);
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server program can be started");
        self.output = Arc::default();
        self.output.follow(process.stdout.take().expect("stdout is a pipe"));
        self.output.follow(process.stderr.take().expect("stderr is a pipe"));
        self.process = Some(process);

        let Some(url) = self.output.wait_for(START_DEADLINE, address_in) else {
            panic!("the server told no address:\n{}", self.output.text());
        };
        let is_tls = self.prepare.env.iter().any(|(name, _)| name.contains("TLS_CERT_FILE"));
        self.url = match is_tls {
            true => url.replace("http://", "https://"),
            false => url,
        };
        let address = self.address();
        // With TLS there is no plain answer; the connection alone must do.
        let is_plain = self.url.starts_with("http://");
        process::wait_until("the server answers", START_DEADLINE, || {
            std::net::TcpStream::connect(&address).is_ok()
                && (!is_plain || Request::get("/livez").send(&self.url).status == 200)
        });
        // From now on the same port, so that addresses stay good over a restart.
        self.prepare.listen = Some(address);
    }

    /// The address of the server, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub fn address(&self) -> String {
        let (_, address) = self.url.split_once("://").expect("a full address");
        address.to_owned()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let address = self.address();
        let (_, port) = address.rsplit_once(':').expect("an address with a port");
        port.parse().expect("a port is a number")
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder beside the data folder for whatever a test needs on disk.
    pub fn scratch(&self) -> PathBuf {
        let folder = self.folder.as_ref().expect("the server has its own folder");
        let scratch = folder.path().join("scratch");
        std::fs::create_dir_all(&scratch).expect("a folder can be made");
        scratch
    }

    /// What the server printed since its last start.
    pub fn printed(&self) -> String {
        self.output.text()
    }

    /// Waits until the server printed a line with `words`.
    #[track_caller]
    pub fn wait_for_line(&self, words: &str) {
        let found = self
            .output
            .wait_for(START_DEADLINE, |line| line.contains(words).then_some(()));
        assert!(
            found.is_some(),
            "the server never printed {words:?}:\n{}",
            self.output.text()
        );
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        match &mut self.process {
            Some(process) => matches!(process.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Pulls the plug: SIGKILL, nothing is written any more.
    pub fn kill(&mut self) {
        signal(self.pid(), "KILL");
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            process.wait().expect("the server can be waited for");
        }
    }

    /// Waits until the process has ended by itself, and gives its exit code.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("the server runs");
        let mut status = None;
        process::wait_until("the server ends", STOP_DEADLINE, || {
            status = process.try_wait().expect("the server can be waited for");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Asks the server to end: SIGTERM, which lets transfers finish.
    pub fn ask_to_end(&self) {
        signal(self.pid(), "TERM");
    }

    /// Ends the server as an administrator would, and waits for it.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.ask_to_end();
        self.wait_for_end()
    }

    /// Starts the server again on the same data folder and port.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server still runs");
        self.launch();
    }

    /// Starts the server again with one more variable in its environment (the value "" removes it).
    #[track_caller]
    pub fn start_again_with(&mut self, name: &str, value: &str) {
        self.prepare.env.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.prepare.env.push((name.to_owned(), value.to_owned()));
        }
        self.start_again();
    }

    /// Runs a command of the program beside the server.
    #[track_caller]
    pub fn auxin(&self, args: &[&str]) -> Outcome {
        self.auxin_with_input(args, b"")
    }

    /// The same with something on standard input.
    #[track_caller]
    pub fn auxin_with_input(&self, args: &[&str], input: &[u8]) -> Outcome {
        run_with_input(&mut auxin_command(&self.data, args), input)
    }

    /// A new person with an account and a computer of their own.
    #[track_caller]
    pub fn user(&self, name: &str) -> Person {
        let password = format!("{name} sings in tune");
        self.auxin_with_input(
            &["user", "add", name, "--password-stdin"],
            format!("{password}\n").as_bytes(),
        )
        .assert_ok();
        self.person(name, &password)
    }

    /// The administrator at a computer of their own.
    pub fn admin(&self) -> Person {
        self.person(ADMIN, ADMIN_PASSWORD)
    }

    /// Someone who claims a name and a password.
    pub fn person(&self, name: &str, password: &str) -> Person {
        Person::new(&self.url, name, password, GitProgram::first())
    }

    /// Someone without an account.
    pub fn stranger(&self) -> Person {
        Person::new(&self.url, "", "", GitProgram::first())
    }

    /// Makes an empty repository, `owner/name`, and gives its folder on the server.
    #[track_caller]
    pub fn repo(&self, address: &str) -> PathBuf {
        self.auxin(&["repo", "create", address]).assert_ok();
        self.folder_of(address)
    }

    /// Makes an empty repository of this object format, and gives its folder on the server.
    #[track_caller]
    pub fn repo_as(&self, address: &str, format: &str) -> PathBuf {
        self.auxin(&["repo", "create", address, "--object-format", format])
            .assert_ok();
        self.folder_of(address)
    }

    /// Makes a public repository, and gives its folder on the server.
    #[track_caller]
    pub fn public_repo(&self, address: &str) -> PathBuf {
        let folder = self.repo(address);
        self.auxin(&["repo", "visibility", address, "public"]).assert_ok();
        folder
    }

    /// Where a repository lies on the server's disk: under its name, or with a mark behind it if
    /// that place was taken for a moment.
    pub fn folder_of(&self, address: &str) -> PathBuf {
        let repos = self.data.join("repos");
        let plain = repos.join(format!("{address}.git"));
        if plain.exists() {
            return plain;
        }
        let Some((owner, name)) = address.split_once('/') else {
            return plain;
        };
        let marked = std::fs::read_dir(repos.join(owner))
            .into_iter()
            .flatten()
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}~")));
        marked.map_or(plain, |entry| entry.path())
    }

    /// The address of a repository for a client.
    pub fn repo_url(&self, address: &str) -> String {
        format!("{}/{address}.git", self.url)
    }

    /// Sends one request by hand.
    #[track_caller]
    pub fn send(&self, request: Request) -> Answer {
        request.send(&self.url)
    }

    /// Memory of the server that is not mapped from files, in bytes.
    pub fn rss_anon_bytes(&self) -> u64 {
        process::rss_anon_bytes(self.pid()).expect("the server runs")
    }

    /// Folders that pushes in flight keep their objects in.
    pub fn quarantines(&self, address: &str) -> Vec<PathBuf> {
        let objects = self.folder_of(address).join("objects");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(objects).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let fan_out = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !fan_out && name != "pack" && name != "info" {
                found.push(entry.path());
            }
        }
        found
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.output.text();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("-- the server printed at last\n{}", lines[last..].join("\n"));
        }
        let Some(mut process) = self.process.take() else {
            return;
        };
        if std::env::var_os("LLVM_PROFILE_FILE").is_some() {
            // Coverage is written at a regular end only.
            signal(process.id(), "TERM");
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end && matches!(process.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        drop(process.kill());
        drop(process.wait());
    }
}

/// Sends a signal by its name, such as `TERM`.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
    drop(sent);
}

/// The address with a real port that a printed line tells, if it tells one.
fn address_in(line: &str) -> Option<String> {
    for host in ["127.0.0.1:", "[::1]:"] {
        for (at, _) in line.match_indices(host) {
            let digits: String = line[at + host.len()..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            match digits.parse::<u16>() {
                Ok(port) if port != 0 => {
                    return Some(format!("http://{host}{port}"));
                }
                _ => {}
            }
        }
    }
    None
}
