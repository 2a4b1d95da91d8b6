//! Pushes of the real git client into a repository served by this crate, without HTTP in between.
//!
//! `git send-pack --stateless-rpc` is what the client runs behind HTTP: it reads an advertisement,
//! writes one request, and reads one answer.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use auxin::config::GitSettings;
use auxin::git::receive_pack::{
    self, GateError, PushGate, PushRequest, Pusher, ReceiveError, ReceiveOptions, ReceiveStats, RefUpdate, SignedPushes,
};
use auxin::git::repo_init::{self, ObjectFormat};
use auxin::git::snapshot::Repository;
use auxin::git::upload_pack::Protocol;
use auxin::git::work::Work;
use tempfile::TempDir;

use crate::fetch_support::git_command;

/// What the gate was asked, and what it says.
#[derive(Clone, Default)]
pub struct Gate {
    /// Refs that are refused with a sentence.
    pub refused: Vec<(String, String)>,
    /// Nothing may begin.
    pub is_closed: bool,
    /// What happens on the server between the objects' moving in and the refs' change.
    pub meanwhile: Option<Arc<dyn Fn() + Send + Sync>>,
    /// What it was called for, in order.
    pub calls: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    fn log(&self, text: String) {
        self.calls.lock().expect("no panic").push(text);
    }
}

impl PushGate for Gate {
    fn check(&mut self, push: &PushRequest<'_>) -> Result<Vec<Option<String>>, GateError> {
        let names: Vec<_> = push.updates.iter().map(|update| update.name.to_string()).collect();
        let options: Vec<_> = push.options.iter().map(ToString::to_string).collect();
        assert!(
            push.updates
                .iter()
                .all(|update| update.is_delete() || push.objects.contains(&update.new))
        );
        self.log(format!("check {} [{}]", names.join(" "), options.join(" ")));
        let verdict = |name: &String| {
            self.refused
                .iter()
                .find(|(refused, _)| refused == name)
                .map(|(_, sentence)| sentence.clone())
        };
        Ok(names.iter().map(verdict).collect())
    }

    fn begin(&mut self, accepted: &[RefUpdate], atomic: bool) -> Result<(), GateError> {
        self.log(format!("begin {} {atomic}", accepted.len()));
        if let Some(meanwhile) = &self.meanwhile {
            meanwhile();
        }
        if self.is_closed {
            Err(GateError::new("the books are closed"))
        } else {
            Ok(())
        }
    }

    fn finish(&mut self, results: &[(RefUpdate, bool)]) -> Result<Vec<String>, GateError> {
        let done = results.iter().filter(|(_, is_done)| *is_done).count();
        self.log(format!("finish {done} of {}", results.len()));
        Ok(vec!["a line from the gate".into()])
    }
}

/// A repository that takes pushes, and a client's repository beside it.
pub struct Place {
    folder: TempDir,
    /// The server's bare repository.
    pub server: PathBuf,
    /// The client's repository.
    pub client: PathBuf,
    pub settings: GitSettings,
    pub trust_hooks: bool,
    /// What nonces of signed pushes are made by.
    pub nonce_seed: Option<Vec<u8>>,
    pub gate: Gate,
}

/// What the client saw.
#[derive(Debug)]
pub struct Pushed {
    pub is_ok: bool,
    /// What it printed.
    pub text: String,
    /// What the server made of it; `None` if there was nothing to send.
    pub served: Option<Result<ReceiveStats, ReceiveError>>,
    /// The request as it was sent.
    pub request: Vec<u8>,
}

impl Pushed {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.is_ok, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn refused(self, reason: &str) -> Self {
        assert!(!self.is_ok, "{}", self.text);
        assert!(self.text.contains(reason), "{reason} is not in: {}", self.text);
        self
    }
}

impl Place {
    pub fn new() -> Self {
        Self::of_format(ObjectFormat::Sha1)
    }

    /// Both repositories have this object format.
    pub fn of_format(format: ObjectFormat) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let server = folder.path().join("song.git");
        repo_init::init(&server, "main", format).expect("makes it");
        let client = folder.path().join("client");
        std::fs::create_dir(&client).expect("a folder");
        let place = Self {
            folder,
            server,
            client,
            settings: GitSettings::default(),
            trust_hooks: false,
            nonce_seed: None,
            gate: Gate::default(),
        };
        place.git(&["init", "-q", "-b", "main", "--object-format", format.as_str()]);
        place
    }

    /// A further folder beside the repositories.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Git in the client's repository.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        git_in(&self.client, args)
    }

    /// Git in the server's repository.
    #[track_caller]
    pub fn on_server(&self, args: &[&str]) -> String {
        git_in(&self.server, args)
    }

    /// Writes a file and commits it.
    pub fn commit(&self, file: &str, content: &str) -> String {
        let path = self.client.join(file);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("a folder");
        std::fs::write(path, content).expect("writes");
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", file]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn open(&self) -> Arc<Repository> {
        Repository::open(&self.server, self.trust_hooks).expect("opens")
    }

    /// Runs with the options of this place.
    pub fn with_options<R>(&self, run: impl FnOnce(&ReceiveOptions<'_>) -> R) -> R {
        let work = Work::unlimited();
        run(&ReceiveOptions {
            protocol: Protocol::V0,
            limits: &self.settings,
            work: &work,
            trust_hooks: self.trust_hooks,
            pusher: Pusher {
                name: "anna".into(),
                address: "203.0.113.7".into(),
            },
            hook_env: vec![("AUXIN_REPOSITORY".into(), "anna/song".into())],
            signed_pushes: SignedPushes {
                seed: self.nonce_seed.clone(),
                scope: "anna/song".into(),
            },
            gathers_pointers: false,
        })
    }

    pub fn advertise(&self) -> Vec<u8> {
        let mut answer = Vec::new();
        let snapshot = self.open().snapshot().expect("reads");
        self.with_options(|options| receive_pack::advertise(&snapshot, options, &mut answer))
            .expect("writes");
        answer
    }

    /// The server's answer to a request.
    pub fn serve(&self, request: &[u8]) -> (Vec<u8>, Result<ReceiveStats, ReceiveError>) {
        let mut answer = Vec::new();
        let mut gate = self.gate.clone();
        let served = self.with_options(|options| {
            receive_pack::serve(&self.open(), options, &mut gate, &mut &request[..], &mut answer)
        });
        (answer, served)
    }

    /// Pushes as the client would over HTTP: `args` are options and refs of `git send-pack`.
    pub fn push(&self, args: &[&str]) -> Pushed {
        self.push_from(&self.client.clone(), args)
    }

    pub fn push_from(&self, client: &Path, args: &[&str]) -> Pushed {
        let advertisement = self.advertise();
        // The client's HTTP half takes the service line and its flush off.
        let refs = &advertisement[b"001f# service=git-receive-pack\n0000".len()..];
        self.push_seeing(client, refs, args)
    }

    /// Pushes after having seen these refs, which may be out of date by now.
    pub fn push_seeing(&self, client: &Path, refs: &[u8], args: &[&str]) -> Pushed {
        let (options, refspecs): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.starts_with("--"));
        let mut child = git_command(client)
            .args(["send-pack", "--stateless-rpc"])
            .args(options)
            .arg("http://server/anna/song.git")
            .args(refspecs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("git starts");
        let mut stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            text.push_str(&String::from_utf8_lossy(&bytes));
            text
        });
        // The client ends at once if there is nothing to push.
        let _ = stdin.write_all(refs);
        let request = unwrapped(&mut stdout);
        let mut served = None;
        if !request.is_empty() {
            let (bytes, result) = self.serve(&request);
            let _ = stdin.write_all(&bytes);
            served = Some(result);
        }
        drop(stdin);
        let mut rest = Vec::new();
        let _ = stdout.read_to_end(&mut rest);
        let is_ok = child.wait().expect("git ends").success();
        let text = errors.join().expect("no panic");
        Pushed {
            is_ok,
            text,
            served,
            request,
        }
    }

    /// Refs on the server as stock git lists them, after it found nothing wrong.
    #[track_caller]
    pub fn refs(&self) -> Vec<String> {
        self.on_server(&["fsck", "--strict", "--no-dangling"]);
        let listed = self.on_server(&["for-each-ref", "--format=%(refname)"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// What a ref names on the server.
    #[track_caller]
    pub fn server_id(&self, name: &str) -> String {
        self.on_server(&["rev-parse", name])
    }

    /// Packs, and anything that should not be in the object folder.
    pub fn object_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.server.join("objects")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    folders.push(path.clone());
                    if !path.to_string_lossy().contains("incoming-") {
                        continue;
                    }
                }
                found.push(
                    path.strip_prefix(&self.server)
                        .expect("inside")
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
        found.sort();
        found
    }

    pub fn packs(&self) -> usize {
        self.object_files()
            .iter()
            .filter(|file| file.ends_with(".pack"))
            .count()
    }

    /// Makes a hook on the server.
    pub fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.server.join("hooks").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("sets the mode");
    }

    /// What the gate was called for.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.gate.calls.lock().expect("no panic"))
    }
}

/// Takes pkt-lines off a stateless request up to the flush that ends it.
fn unwrapped(stdout: &mut impl Read) -> Vec<u8> {
    let mut request = Vec::new();
    let mut digits = [0; 4];
    while stdout.read_exact(&mut digits).is_ok() {
        let length = usize::from_str_radix(std::str::from_utf8(&digits).expect("digits"), 16).expect("digits");
        if length == 0 {
            break;
        }
        let start = request.len();
        request.resize(start + length - 4, 0);
        stdout.read_exact(&mut request[start..]).expect("a whole line");
    }
    request
}

#[track_caller]
pub fn git_in(path: &Path, args: &[&str]) -> String {
    let output = git_command(path)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("git starts");
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// One command line of a push.
pub fn command(old: &str, new: &str, name: &str, capabilities: Option<&str>) -> Vec<u8> {
    let mut text = format!("{old} {new} {name}").into_bytes();
    if let Some(capabilities) = capabilities {
        text.push(0);
        text.extend_from_slice(capabilities.as_bytes());
    }
    let mut line = format!("{:04x}", text.len() + 4).into_bytes();
    line.extend(text);
    line
}
