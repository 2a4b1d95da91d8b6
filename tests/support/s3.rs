//! A real S3-compatible server on loopback, and a proxy before it that goes wrong on purpose.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::process::wait_until;
use super::random::Random;
use super::server::Prepare;

const ACCESS_KEY: &str = "studio-key";
const SECRET_KEY: &str = "studio-secret";
/// The bucket that every server starts with.
pub const BUCKET: &str = "studio";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with one bucket, which it keeps in memory.
pub struct S3Server {
    child: Child,
    address: SocketAddr,
}

impl S3Server {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("in the target folder");
        let program = target.join("clients/python/bin/moto_server");
        assert!(
            program.exists(),
            "the S3 server is not installed: run `./tests/run --install`"
        );
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port"])
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let server = Self { child, address };
        wait_until("the S3 server listens", PATIENCE, || {
            TcpStream::connect(address).is_ok()
        });
        server.ask(&format!("PUT /{BUCKET}"));
        server
    }

    #[track_caller]
    fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        let address = self.address;
        let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many objects have names that begin so.
    #[track_caller]
    pub fn objects(&self, prefix: &str) -> usize {
        let answer = self.ask(&format!("GET /{BUCKET}?list-type=2&prefix={prefix}"));
        answer.matches("<Key>").count()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings of a server whose large files lie in the bucket that is reached at `address`.
pub fn in_bucket(prepare: Prepare, address: SocketAddr) -> Prepare {
    prepare
        .setting("store.url", format!("s3://{BUCKET}/auxin"))
        .setting("store.endpoint", format!("http://{address}"))
        .setting("store.allow_http", true)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// What a proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Honest,
    /// Every third request goes wrong in one of all ways: a cut connection, status 500 with or without
    /// the request being carried out, a lost answer, a slow one, a deletion that arrives late.
    Faulty,
    /// Says that objects are stored, and stores nothing: no server can survive that.
    Lying,
}

/// Stands between a server and its bucket. Each connection carries one request.
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    stop: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

impl Proxy {
    /// Begins to listen before `upstream`.
    pub fn before(upstream: SocketAddr, mode: Mode, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            mode: Arc::new(Mutex::new(mode)),
            stop: Arc::default(),
            faults: Arc::default(),
        };
        let (mode, stop, faults) = (proxy.mode.clone(), proxy.stop.clone(), proxy.faults.clone());
        let random = Arc::new(Mutex::new(Random::new(seed)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (mode, random, faults) = (mode.clone(), random.clone(), faults.clone());
                std::thread::spawn(move || {
                    let mode = *mode.lock().expect("no panic");
                    let dice = random.lock().expect("no panic").next_u64();
                    // Whoever goes away ends it.
                    let _ = pass(stream, upstream, mode, dice, &faults);
                });
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does this.
    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("no panic") = mode;
    }

    /// How many requests went wrong.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(mut client: TcpStream, upstream: SocketAddr, mode: Mode, dice: u64, faults: &AtomicU64) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let body_bytes = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; body_bytes];
    let fault = match (mode, dice % 3) {
        (Mode::Faulty, 0) => (dice >> 8) % 6 + 1,
        _ => 0,
    };
    if fault != 0 {
        faults.fetch_add(1, Ordering::Relaxed);
    }
    if fault == 1 {
        // Cut in the middle of what comes in.
        client.read_exact(&mut body[..body_bytes / 2])?;
        return Ok(());
    }
    client.read_exact(&mut body)?;
    let refuse = |client: &mut TcpStream, status: &str| {
        client.write_all(
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\nETag: \"x\"\r\n\r\n").as_bytes(),
        )
    };
    let is_put = head.starts_with("put ") && !head.contains("uploadid=");
    if mode == Mode::Lying && is_put {
        return refuse(&mut client, "200 OK");
    }
    if fault == 2 {
        return refuse(&mut client, "500 Internal Server Error");
    }
    if fault == 3 && head.starts_with("delete ") {
        refuse(&mut client, "503 Slow Down")?;
        std::thread::sleep(Duration::from_millis(700));
    }
    let mut server = TcpStream::connect(upstream)?;
    let end = request.len() - 2;
    server.write_all(&request[..end])?;
    server.write_all(b"Connection: close\r\n\r\n")?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fault {
        // It was done, and nobody hears of it.
        4 => Ok(()),
        5 => refuse(&mut client, "500 Internal Server Error"),
        6 => client.write_all(&answer[..answer.len() / 2]),
        3 => {
            std::thread::sleep(Duration::from_millis(300));
            client.write_all(&answer)
        }
        _ => client.write_all(&answer),
    }
}
