//! The agent as a process, spoken to as `git lfs` does.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lfs_protocol::{ChunkId, Oid};
use serde_json::{Value, json};

use crate::stand_in::StandIn;

/// A repository without a work tree, with large files.
pub struct Repository {
    pub folder: tempfile::TempDir,
}

impl Repository {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new("git")
            .args(["init", "-q", "--bare"])
            .current_dir(&folder)
            .status();
        assert!(made.expect("git runs").success());
        Self { folder }
    }

    pub fn lfs(&self) -> PathBuf {
        self.folder.path().join("lfs")
    }

    /// Where `git lfs` has an object.
    pub fn object_path(&self, oid: &str) -> PathBuf {
        self.lfs().join("objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
    }

    /// Puts an object where `git lfs` would.
    pub fn add(&self, bytes: &[u8]) -> (Oid, PathBuf) {
        let oid = Oid::from_sha256(*ChunkId::of(bytes).as_bytes());
        let path = self.object_path(&oid.to_string());
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, bytes).expect("written");
        (oid, path)
    }

    pub fn config(&self, key: &str, value: &str) {
        let set = Command::new("git")
            .args(["config", "--add", key, value])
            .current_dir(&self.folder)
            .status();
        assert!(set.expect("git runs").success());
    }

    /// Names of what lies somewhere below a folder.
    pub fn files_below(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                found.extend(self.files_below(&entry.path()));
            } else {
                found.push(entry.path());
            }
        }
        found
    }
}

pub struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What became of an object.
#[derive(Debug)]
pub struct Moved {
    /// `bytesSoFar` of each progress.
    pub progress: Vec<u64>,
    /// The last line.
    pub complete: Value,
}

impl Moved {
    #[track_caller]
    pub fn assert_done(&self, size: usize) -> &Self {
        assert_eq!(self.complete["error"], Value::Null, "{self:?}");
        if size == 0 {
            return self;
        }
        assert_eq!(self.progress.last(), Some(&(size as u64)));
        self.assert_progress(size)
    }

    #[track_caller]
    pub fn assert_progress(&self, size: usize) -> &Self {
        assert_eq!(self.progress.first(), Some(&1), "the first byte is told at once");
        assert!(self.progress.is_sorted(), "{:?}", self.progress);
        assert!(self.progress.iter().all(|&bytes| bytes <= size as u64));
        self
    }

    #[track_caller]
    pub fn error(&self) -> (u64, &str) {
        let error = &self.complete["error"];
        let code = error["code"].as_u64().unwrap_or_else(|| panic!("an error: {self:?}"));
        (code, error["message"].as_str().expect("a sentence"))
    }

    pub fn path(&self) -> PathBuf {
        self.complete["path"]
            .as_str()
            .unwrap_or_else(|| panic!("a path: {self:?}"))
            .into()
    }
}

impl Agent {
    pub fn start(repository: &Repository, operation: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_git-auxin"))
            .arg("transfer")
            .current_dir(&repository.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", repository.folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("http_proxy")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut agent = Self { child, input, output };
        agent.say(&json!({"event": "init", "operation": operation, "remote": "origin", "concurrent": true, "concurrenttransfers": 8}));
        assert_eq!(agent.hear(), json!({}));
        agent
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn say(&mut self, line: &Value) {
        writeln!(self.input, "{line}").expect("the agent reads");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the agent writes");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("a line of JSON: {line:?}"))
    }

    fn moved(&mut self) -> Moved {
        let mut progress = Vec::new();
        loop {
            let line = self.hear();
            match line["event"].as_str() {
                Some("progress") => progress.push(line["bytesSoFar"].as_u64().expect("a number")),
                Some("complete") => {
                    return Moved {
                        progress,
                        complete: line,
                    };
                }
                _ => panic!("{line}"),
            }
        }
    }

    pub fn upload(&mut self, server: &StandIn, bytes: &[u8], (oid, path): &(Oid, PathBuf)) -> Moved {
        let size = bytes.len();
        let action = json!({
            "href": format!("{}/objects/{oid}?size={size}", server.url),
            "header": {"Authorization": "Bearer first", "Auxin-Chunking": "1,2"},
            "expires_in": 3600,
        });
        self.say(&json!({"event": "upload", "oid": oid.to_string(), "size": size, "path": path, "action": action}));
        self.moved()
    }

    pub fn download(&mut self, server: &StandIn, oid: Oid, size: usize) -> Moved {
        let action = json!({
            "href": format!("{}/objects/{oid}", server.url),
            "header": {"Authorization": "Bearer first"},
            "expires_in": 3600,
        });
        self.say(&json!({"event": "download", "oid": oid.to_string(), "size": size, "action": action}));
        self.moved()
    }

    pub fn end(mut self) {
        self.say(&json!({"event": "terminate"}));
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A take of 24-bit stereo with a part of `header` bytes before the samples.
pub fn take(seed: u64, header: usize, len: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0LGWV".to_vec();
    file.extend((header as u32).to_le_bytes());
    file.extend(noise(seed + 1000 + header as u64, header));
    file.extend(b"data");
    file.extend((len as u32).to_le_bytes());
    file.extend(noise(seed, len));
    file
}
