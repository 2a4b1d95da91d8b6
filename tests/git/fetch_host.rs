//! A little HTTP host for one repository, so that real git clients can be let loose on the fetch
//! code without the rest of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use auxin::config::GitSettings;
use auxin::git::snapshot::Repository;
use auxin::git::upload_pack::{self, Protocol, UploadOptions};
use auxin::git::work::Work;

use crate::fetch_support::{Repo, git_command};

/// A running host. Its threads end with the test.
pub struct Host {
    url: String,
}

impl Host {
    /// Serves one repository with its settings.
    pub fn start(repo: &Repo) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/song.git", listener.local_addr().expect("an address"));
        let repository = repo.open();
        let settings = Arc::new(repo.settings.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (repository, settings) = (repository.clone(), settings.clone());
                std::thread::spawn(move || answer(stream, &repository, &settings));
            }
        });
        Self { url }
    }

    /// Runs git in `folder` against the host; `{url}` in the arguments is its address.
    pub fn try_git(&self, version: u8, folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
        let mut command = git_command(folder);
        command.args(["-c", &format!("protocol.version={version}"), "-c", "gc.auto=0"]);
        for argument in arguments {
            command.arg(argument.replace("{url}", &self.url));
        }
        let output = command.output().expect("git runs");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text += &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// The same, and it must succeed.
    pub fn git(&self, version: u8, folder: &std::path::Path, arguments: &[&str]) -> String {
        let (ok, text) = self.try_git(version, folder, arguments);
        assert!(ok, "git {arguments:?}: {text}");
        text
    }

    /// Clones with further arguments into a new folder beside the repository.
    pub fn clone(&self, repo: &Repo, version: u8, name: &str, arguments: &[&str]) -> PathBuf {
        let folder = repo.beside(name);
        let mut all = vec!["clone", "-q"];
        all.extend(arguments);
        let target = folder.to_str().expect("text").to_owned();
        all.extend(["{url}", &target]);
        self.git(version, repo.beside("").as_path(), &all);
        folder
    }
}

fn answer(stream: TcpStream, repository: &Repository, settings: &GitSettings) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let (method, target) = line.split_once(' ')?;
    let is_post = method == "POST";
    let is_advertisement = target.contains("/info/refs?service=git-upload-pack");
    let (mut length, mut is_chunked, mut is_gzip, mut protocol) = (0, false, false, Protocol::V0);
    loop {
        let mut header = String::new();
        input.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "transfer-encoding" => is_chunked = value == "chunked",
            "content-encoding" => is_gzip = value == "gzip",
            "git-protocol" => protocol = Protocol::from_header(value),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if is_chunked {
        loop {
            let mut size = String::new();
            input.read_line(&mut size).ok()?;
            let size = u64::from_str_radix(size.trim_end(), 16).ok()?;
            input.by_ref().take(size).read_to_end(&mut body).ok()?;
            input.read_line(&mut String::new()).ok()?;
            if size == 0 {
                break;
            }
        }
    } else {
        input.by_ref().take(length).read_to_end(&mut body).ok()?;
    }
    let mut out = stream;
    let kind = if is_post { "result" } else { "advertisement" };
    if !is_post && !is_advertisement {
        out.write_all(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
            .ok()?;
        return None;
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-cache\r\n\
         Content-Type: application/x-git-upload-pack-{kind}\r\n\r\n"
    );
    out.write_all(head.as_bytes()).ok()?;
    let work = Work::unlimited();
    let options = UploadOptions {
        protocol,
        limits: settings,
        grace_tips: &Vec::new,
        bundle_base: None,
        seen: None,
        work: &work,
    };
    if is_post {
        let mut plain = flate2::read::GzDecoder::new(&body[..]);
        let mut raw = &body[..];
        let input: &mut dyn Read = if is_gzip { &mut plain } else { &mut raw };
        upload_pack::serve(repository, &options, input, &mut out).ok()?;
    } else {
        let snapshot = repository.snapshot().ok()?;
        upload_pack::advertise(&snapshot, &options, &mut out).ok()?;
    }
    Some(())
}
