//! A server in this process, raw requests to it, and stock git.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use auxin::app::App;
use auxin::config::Settings;
use auxin::data_folder::DataFolder;
use auxin::db::{BeginPush, By, InsertRepo, NewPush, NewRepo, RefChange, Visibility};
use auxin::ids::RepoId;
use auxin::names::RepoAddress;
use auxin::service::Secret;
use base64::Engine as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Nothing that a test waits for takes longer, unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Everybody's password.
pub const PASSWORD: &str = "a long: pass@word";

/// The `Authorization` header of somebody.
pub fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {pair}")
}

/// A running server with its data in a folder that goes with it.
pub struct Server {
    pub address: SocketAddr,
    pub app: App,
    folder: TempDir,
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a server whose settings `change` has seen.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        Self::on(TempDir::new().expect("a folder"), settings)
    }

    fn on(folder: TempDir, settings: Settings) -> Self {
        let data = DataFolder::create(&folder.path().join("data")).expect("a data folder");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr().expect("bound");
                let app = App::open(settings, data).await.expect("opened");
                tell.send((address, app.clone(), Handle::current()))
                    .expect("somebody waits");
                auxin::http::serve(app, listener, stopped).await.expect("served");
            });
        });
        let (address, app, handle) = told.recv_timeout(PATIENCE).expect("the server starts");
        Self {
            address,
            app,
            folder,
            handle,
            stop,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// A folder for a test's own files.
    pub fn work(&self) -> &Path {
        self.folder.path()
    }

    pub fn repo_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("data/repos").join(format!("{name}.git"))
    }

    /// Runs something of the app's.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    /// Makes an account whose password is [`PASSWORD`].
    pub fn user(&self, name: &str, is_site_admin: bool) {
        let name = name.parse().expect("a name");
        let password = Secret::new(PASSWORD.to_owned());
        let added = self.app.accounts.add(name, &password, is_site_admin, By::Command);
        self.run(added).expect("added");
    }

    /// Makes an empty repository of somebody's, with stock git.
    pub fn repo(&self, address: &str, visibility: Visibility) -> RepoId {
        let path = self.repo_path(address);
        std::fs::create_dir_all(&path).expect("a folder");
        git_ok(&path, &["init", "-q", "--bare", "-b", "main"]);
        let (address, dir): (RepoAddress, _) = (address.parse().expect("an address"), format!("{address}.git"));
        let row = self.run(async {
            let owner = self.app.accounts.find(&address.owner).await.expect("the owner");
            let new = NewRepo {
                id: RepoId::new(),
                owner_id: owner.id,
                name: address.name,
                dir,
                visibility,
            };
            self.app.db.insert_repo(new, By::Command).await.expect("stored")
        });
        match row {
            InsertRepo::Done(row) => row.id,
            other => panic!("{other:?}"),
        }
    }

    /// Stops, and starts again on the same data.
    pub fn restart(mut self) -> Self {
        self.stop.cancel();
        self.wait();
        let folder = std::mem::replace(&mut self.folder, TempDir::new().expect("a folder"));
        Self::on(folder, (*self.app.config).clone())
    }

    /// Stores a push of anna's as one whose refs may or may not have moved.
    pub fn begin_open_push(&self, repo: RepoId, refs: Vec<RefChange>) {
        let begun = self.run(async {
            let anna = self
                .app
                .accounts
                .find(&"anna".parse().expect("a name"))
                .await
                .expect("anna");
            let push = NewPush {
                repo,
                user: anna.id,
                pusher: anna.name,
                token: None,
                address: "192.0.2.1".into(),
                atomic: false,
                options: Vec::new(),
                locks_version: None,
                releases: Vec::new(),
            };
            self.app.db.begin_push(push, refs).await.expect("stored")
        });
        assert!(matches!(begun, BeginPush::Begun(_)), "{begun:?}");
    }

    /// Begins to stop, without waiting.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until `is_so`, and fails with `what` if that takes too long.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = std::time::Instant::now() + PATIENCE;
        while !is_so() {
            assert!(std::time::Instant::now() < end, "never: {what}");
            std::thread::yield_now();
        }
    }

    /// Waits for the end of a server that was told to stop.
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends well");
        }
    }

    /// Sends `bytes` as they are and returns the open connection.
    pub fn send(&self, bytes: &[u8]) -> Raw {
        let mut raw = self.connect();
        raw.write(bytes);
        raw
    }

    pub fn connect(&self) -> Raw {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Raw(stream)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, head: &str, body: &[u8]) -> Answer {
        let head = format!("{}\r\nHost: x\r\nConnection: close\r\n\r\n", head.replace('\n', "\r\n"));
        self.send(&[head.as_bytes(), body].concat()).answer()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1"), b"")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.wait();
    }
}

/// A connection as plain bytes.
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server takes bytes");
    }

    /// Everything until the server closes, as one answer.
    pub fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = self.0.read_to_end(&mut bytes);
        Answer::parse(&bytes)
    }

    /// The next answer head; its body stays in the connection, except for what `max` reads at once.
    pub fn head(&mut self) -> Answer {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => break,
            }
        }
        Answer::parse(&bytes)
    }

    /// Everything until the server closes.
    pub fn rest(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the server closes without another byte.
    pub fn closes(self) -> bool {
        self.rest().is_empty()
    }
}

/// An HTTP/1.1 answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = match end {
            Some(end) => (&bytes[..end], &bytes[end + 4..]),
            None => (bytes, &b""[..]),
        };
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status: status.and_then(|status| status.parse().ok()).unwrap_or(0),
            headers,
            body: body.to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(body);
        }
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    whole
}

/// Runs git, without anybody's configuration.
pub fn git(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Anna")
        .env("GIT_AUTHOR_EMAIL", "anna@example.org")
        .env("GIT_COMMITTER_NAME", "Anna")
        .env("GIT_COMMITTER_EMAIL", "anna@example.org");
    command.output().expect("git is installed")
}

/// Runs git and wants it to succeed; its standard output.
pub fn git_ok(folder: &Path, args: &[&str]) -> String {
    let output = git(folder, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A public repository anna/song with one commit; anna's password is [`PASSWORD`].
pub fn with_song(server: &Server) {
    server.user("anna", false);
    server.repo("anna/song", Visibility::Public);
    let work = server.work().join("work");
    std::fs::create_dir(&work).expect("a folder");
    git_ok(&work, &["init", "-q", "-b", "main"]);
    std::fs::write(work.join("song.txt"), "la la la").expect("written");
    git_ok(&work, &["add", "."]);
    git_ok(&work, &["commit", "-q", "-m", "First take"]);
    let bare = server.repo_path("anna/song");
    git_ok(&work, &["push", "-q", bare.to_str().expect("utf-8"), "main"]);
}

/// Bytes that do not compress, the same each time.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .collect()
}
