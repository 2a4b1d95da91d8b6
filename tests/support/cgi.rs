//! The anchor: git's own server program behind a small HTTP host.
//!
//! Tests of clients and of the harness can run against it, so that a failure tells whether the
//! server or the test is wrong: `AUXIN_TEST_PEER=git ./tests/run`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::git::GitProgram;
use super::run::run;

/// git's own server program, reachable over HTTP.
pub struct ReferenceServer {
    folder: TempDir,
    url: String,
}

impl ReferenceServer {
    /// Starts the host on a free port.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let root = folder.path().to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let root = root.clone();
                std::thread::spawn(move || drop(serve(stream, &root)));
            }
        });
        Self {
            folder,
            url: format!("http://{address}"),
        }
    }

    /// The address, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes an empty repository that may be pushed to, and gives its folder.
    pub fn repo(&self, address: &str) -> PathBuf {
        self.repo_as(address, "sha1")
    }

    /// The same of this object format.
    pub fn repo_as(&self, address: &str, format: &str) -> PathBuf {
        let folder = self.folder_of(address);
        let git = GitProgram::first();
        let home = self.folder.path();
        run(git
            .command(home)
            .args(["init", "--quiet", "--bare", "-b", "main", "--object-format", format])
            .arg(&folder))
        .assert_ok();
        for (key, value) in [
            ("http.receivepack", "true"),
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowReachableSHA1InWant", "true"),
            ("receive.advertisePushOptions", "true"),
        ] {
            run(git.command(home).arg("-C").arg(&folder).args(["config", key, value])).assert_ok();
        }
        folder
    }

    /// Where a repository lies.
    pub fn folder_of(&self, address: &str) -> PathBuf {
        self.folder.path().join(format!("{address}.git"))
    }
}

fn serve(stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if headers.contains_key("expect") {
        (&stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }

    let git = GitProgram::first();
    let mut command: Command = git.command(root);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REMOTE_USER", "someone");
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-length", "CONTENT_LENGTH"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "HTTP_GIT_PROTOCOL"),
    ] {
        if let Some(value) = headers.get(header) {
            command.env(variable, value);
        }
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let stdout = child.stdout.take().expect("stdout is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let copied = match headers.get("content-length") {
                Some(length) => {
                    let length = length.parse().unwrap_or(0);
                    std::io::copy(&mut reader.take(length), &mut stdin)
                }
                None if headers.contains_key("transfer-encoding") => copy_chunks(&mut reader, &mut stdin),
                None => Ok(0),
            };
            drop(copied);
        });
        answer(stdout, &stream)
    })?;
    child.wait()?;
    Ok(())
}

fn answer(stdout: impl Read, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut stdout = BufReader::new(stdout);
    let mut status = "200 OK".to_owned();
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        match line.strip_prefix("Status: ") {
            Some(told) => status = told.trim_end().to_owned(),
            None => head.push_str(&format!("{}\r\n", line.trim_end())),
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )?;
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = stdout.read(&mut piece)?;
        write!(stream, "{count:x}\r\n")?;
        stream.write_all(&piece[..count])?;
        stream.write_all(b"\r\n")?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn copy_chunks(reader: &mut impl BufRead, out: &mut impl Write) -> std::io::Result<u64> {
    let mut copied = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).unwrap_or(0);
        if size == 0 {
            return Ok(copied);
        }
        copied += std::io::copy(&mut reader.take(size), out)?;
        reader.read_line(&mut String::new())?;
    }
}
