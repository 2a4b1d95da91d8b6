//! Repositories, requests and answers for the tests of fetches.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use auxin::config::GitSettings;
use auxin::git::ObjectId;
use auxin::git::snapshot::Repository;
use auxin::git::upload_pack::{self, Protocol, UploadError, UploadOptions, UploadStats};
use auxin::git::work::Work;
use tempfile::TempDir;

/// A bare repository in a temporary folder.
pub struct Repo {
    folder: TempDir,
    /// Where it lies.
    pub path: PathBuf,
    /// Its object format, in git's word.
    pub format: &'static str,
    /// Some commits are dated before their parents.
    pub has_lying_dates: bool,
    /// Commits in the order they were made.
    pub commits: Vec<String>,
    /// What the server is told of refs that moved lately.
    pub grace_tips: Vec<ObjectId>,
    /// Where bundles are served.
    pub bundle_base: Option<String>,
    /// The server's settings.
    pub settings: GitSettings,
}

/// A repeatable source of numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

pub fn run_git(path: &Path, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
    let mut child = git_command(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("git ends");
    writer.join().expect("input is written");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), output.stdout, errors)
}

pub fn git_command(path: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(path)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", path)
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_EMAIL", "a@example.org");
    command
}

impl Repo {
    /// A repository without refs.
    pub fn empty() -> Self {
        Self::empty_in("sha1")
    }

    /// A repository of this object format without refs.
    pub fn empty_in(format: &'static str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("song.git");
        std::fs::create_dir(&path).expect("a folder");
        let repo = Self {
            folder,
            path,
            format,
            has_lying_dates: false,
            commits: Vec::new(),
            grace_tips: Vec::new(),
            bundle_base: None,
            settings: GitSettings::default(),
        };
        repo.git(&["init", "-q", "--bare", "-b", "main", "--object-format", format]);
        repo.git(&["config", "uploadpack.allowFilter", "true"]);
        repo
    }

    /// `count` commits in one line on `main`, a minute apart.
    pub fn linear(count: usize) -> Self {
        let mut repo = Self::empty();
        let mut stream = String::new();
        for number in 1..=count {
            stream += &commit("refs/heads/main", number, 1_700_000_000 + number * 60, &[]);
        }
        repo.import(&stream, count);
        repo
    }

    /// A history with merges, several roots, dates that go back, branches, and tags of all kinds.
    pub fn random(seed: u64) -> Self {
        Self::random_in(seed, "sha1")
    }

    /// The same in this object format.
    pub fn random_in(seed: u64, format: &'static str) -> Self {
        let mut random = Random::new(seed);
        let mut repo = Self::empty_in(format);
        let count = 8 + random.below(50);
        repo.has_lying_dates = random.once_in(2);
        let mut stream = String::new();
        let mut tips: Vec<usize> = Vec::new();
        for number in 1..=count {
            let mut parents = Vec::new();
            if !tips.is_empty() && !random.once_in(15) {
                let wanted = match random.below(8) {
                    0 | 1 => 2,
                    2 => 3,
                    _ => 1,
                };
                for _ in 0..wanted {
                    let parent = tips[random.below(tips.len())];
                    if !parents.contains(&parent) {
                        parents.push(parent);
                    }
                }
            }
            let is_lie = repo.has_lying_dates && random.once_in(10);
            let skew = if is_lie { random.below(2000) } else { 0 };
            let date = 1_700_000_000 + number * 60 - skew;
            if parents.is_empty() {
                stream += &format!("reset refs/heads/b{number}\n");
            }
            stream += &commit(&format!("refs/heads/b{number}"), number, date, &parents);
            if parents.len() == 1 || random.once_in(2) {
                tips.retain(|tip| !parents.contains(tip) || random.once_in(3));
            }
            tips.push(number);
            if random.once_in(6) {
                stream += &format!("tag v{number}\nfrom :{number}\ntagger A <a@example.org> {date} +0000\ndata 1\nt\n");
            }
        }
        repo.import(&stream, count);
        // A few refs stay; the rest of history is reached through them or not at all.
        for number in 1..=count {
            let is_kept = tips.contains(&number) || random.once_in(5);
            if !is_kept {
                repo.git(&["update-ref", "-d", &format!("refs/heads/b{number}")]);
            }
        }
        let last = format!("refs/heads/b{count}");
        repo.git(&["symbolic-ref", "HEAD", &last]);
        repo.git(&["tag", "-a", "-m", "x", "tagtag", &last]);
        repo.git(&["tag", "-a", "-m", "x", "tagtagtag", "tagtag"]);
        if random.once_in(2) {
            repo.git(&["repack", "-adq"]);
        }
        repo
    }

    fn import(&mut self, stream: &str, count: usize) {
        let marks = self.folder.path().join("marks");
        let argument = format!("--export-marks={}", marks.display());
        let (ok, _, errors) = run_git(
            &self.path,
            &["fast-import", "--quiet", "--force", &argument],
            stream.as_bytes(),
        );
        assert!(ok, "{errors}");
        let mut commits = vec![String::new(); count];
        for line in std::fs::read_to_string(marks).expect("marks").lines() {
            let (mark, id) = line.split_once(' ').expect("a mark and an id");
            let number: usize = mark[1..].parse().expect("a number");
            commits[number - 1] = id.to_owned();
        }
        self.commits = commits;
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let (ok, out, errors) = run_git(&self.path, arguments, b"");
        assert!(ok, "git {arguments:?}: {errors}");
        String::from_utf8(out).expect("text")
    }

    /// The id of a revision.
    pub fn id(&self, name: &str) -> String {
        self.git(&["rev-parse", name]).trim().to_owned()
    }

    /// A further folder beside the repository.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn open(&self) -> std::sync::Arc<Repository> {
        Repository::open(&self.path, false).expect("opens")
    }

    /// Auxin's answer to a request body, and what came of it.
    pub fn try_serve(&self, protocol: Protocol, body: &[u8]) -> (Vec<u8>, Result<UploadStats, UploadError>) {
        let mut answer = Vec::new();
        let mut input = body;
        let work = Work::unlimited();
        let grace_tips = || self.grace_tips.clone();
        let options = UploadOptions {
            protocol,
            limits: &self.settings,
            grace_tips: &grace_tips,
            bundle_base: self.bundle_base.as_deref(),
            seen: None,
            work: &work,
        };
        let result = upload_pack::serve(&self.open(), &options, &mut input, &mut answer);
        (answer, result)
    }

    /// Auxin's answer to a request body.
    pub fn serve(&self, protocol: Protocol, body: &[u8]) -> Vec<u8> {
        self.try_serve(protocol, body).0
    }

    /// Auxin's answer to `GET info/refs`.
    pub fn advertise(&self, protocol: Protocol) -> Vec<u8> {
        let mut answer = Vec::new();
        let work = Work::unlimited();
        let options = UploadOptions {
            protocol,
            limits: &self.settings,
            grace_tips: &Vec::new,
            bundle_base: None,
            seen: None,
            work: &work,
        };
        let snapshot = self.open().snapshot().expect("reads");
        upload_pack::advertise(&snapshot, &options, &mut answer).expect("writes");
        answer
    }

    /// Stock git's answer to the same body.
    pub fn reference(&self, protocol: Protocol, body: &[u8]) -> Vec<u8> {
        self.reference_command(protocol, &["upload-pack", "--stateless-rpc", "."], body)
    }

    /// Stock git's advertisement.
    pub fn reference_advertisement(&self, protocol: Protocol) -> Vec<u8> {
        self.reference_command(protocol, &["upload-pack", "--http-backend-info-refs", "."], b"")
    }

    fn reference_command(&self, protocol: Protocol, arguments: &[&str], body: &[u8]) -> Vec<u8> {
        let mut command = git_command(&self.path);
        command.args(arguments);
        match protocol {
            Protocol::V0 => {}
            Protocol::V1 => {
                command.env("GIT_PROTOCOL", "version=1");
            }
            Protocol::V2 => {
                command.env("GIT_PROTOCOL", "version=2");
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("git starts");
        let mut stdin = child.stdin.take().expect("piped");
        let body = body.to_owned();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let output = child.wait_with_output().expect("git ends");
        writer.join().expect("the body is written");
        output.stdout
    }
}

/// One commit for `git fast-import`, with files that change and files that stay.
fn commit(branch: &str, number: usize, date: usize, parents: &[usize]) -> String {
    let mut stream = format!("commit {branch}\nmark :{number}\ncommitter A <a@example.org> {date} +0000\n");
    let message = format!("c{number}");
    stream += &format!("data {}\n{message}\n", message.len());
    for (index, parent) in parents.iter().enumerate() {
        let word = if index == 0 { "from" } else { "merge" };
        stream += &format!("{word} :{parent}\n");
    }
    for file in 0..3 {
        let content = format!(
            "{}{number}\n",
            "the same text again and again\n".repeat(20 + (number * file) % 60)
        );
        stream += &format!(
            "M 100644 inline take {file}/deep/f{}.txt\ndata {}\n{content}\n",
            number % 5,
            content.len()
        );
    }
    let own = format!("own {number}\n");
    stream + &format!("M 100644 inline own{number}.txt\ndata {}\n{own}\n", own.len())
}

/// One pkt-line of text, with its line feed.
pub fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}\n", text.len() + 5).into_bytes()
}

/// A v2 request.
pub fn v2(command: &str, arguments: &[String]) -> Vec<u8> {
    v2_in("sha1", command, arguments)
}

/// A v2 request of a client with this object format.
pub fn v2_in(format: &str, command: &str, arguments: &[String]) -> Vec<u8> {
    let mut body = line(&format!("command={command}"));
    body.extend(line("agent=test/1"));
    body.extend(line(&format!("object-format={format}")));
    body.extend(b"0001");
    for argument in arguments {
        body.extend(line(argument));
    }
    body.extend(b"0000");
    body
}

/// A v2 fetch from words such as `want`, ids and flags.
pub fn v2_fetch(arguments: &[&str]) -> Vec<u8> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    v2("fetch", &arguments)
}

/// A packet as text for comparisons: `0000` and `0001` for the special ones.
pub fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let digits = std::str::from_utf8(&bytes[..4]).expect("four digits");
        let length = usize::from_str_radix(digits, 16).expect("a length");
        if length < 4 {
            found.push(digits.as_bytes().to_vec());
            bytes = &bytes[4..];
        } else {
            found.push(bytes[4..length].to_vec());
            bytes = &bytes[length..];
        }
    }
    found
}

/// Text lines, without line feeds; for answers that hold no pack.
pub fn text(bytes: &[u8]) -> Vec<String> {
    packets(bytes)
        .iter()
        .map(|packet| String::from_utf8_lossy(packet).trim_end_matches('\n').to_owned())
        .collect()
}

/// An answer to a fetch taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines before the pack: acknowledgements, boundary, headers; `0000` and `0001` as such.
    pub lines: Vec<String>,
    /// The pack.
    pub pack: Option<Vec<u8>>,
    /// Band 2.
    pub progress: String,
    /// Band 3.
    pub fatal: String,
}

impl Answer {
    /// Takes a v2 answer apart.
    pub fn of_v2(bytes: &[u8]) -> Self {
        let mut answer = Self::default();
        let mut packets = packets(bytes).into_iter();
        for packet in packets.by_ref() {
            let line = String::from_utf8_lossy(&packet).trim_end_matches('\n').to_owned();
            let is_pack = line == "packfile";
            answer.lines.push(line);
            if is_pack {
                answer.pack = Some(Vec::new());
                break;
            }
        }
        answer.bands(packets);
        answer
    }

    /// Takes a v0 answer with side-band apart.
    pub fn of_v0(bytes: &[u8]) -> Self {
        let mut answer = Self::default();
        let all = packets(bytes);
        let is_band = |packet: &Vec<u8>| matches!(packet.first(), Some(1..=3));
        let first_band = all.iter().position(is_band).unwrap_or(all.len());
        for packet in &all[..first_band] {
            let line = String::from_utf8_lossy(packet).trim_end_matches('\n').to_owned();
            answer.lines.push(line);
        }
        if first_band < all.len() {
            answer.pack = Some(Vec::new());
        }
        answer.bands(all.into_iter().skip(first_band));
        answer
    }

    fn bands(&mut self, packets: impl Iterator<Item = Vec<u8>>) {
        let packets: Vec<Vec<u8>> = packets.collect();
        if let Some(last) = packets.last()
            && !packets.iter().any(|packet| packet.first() == Some(&3))
        {
            assert_eq!(last, b"0000", "the pack ends with a flush");
        }
        for packet in packets {
            match packet.first() {
                Some(1) => self.pack.get_or_insert_default().extend(&packet[1..]),
                Some(2) => self.progress += &String::from_utf8_lossy(&packet[1..]),
                Some(3) => self.fatal += &String::from_utf8_lossy(&packet[1..]),
                _ => assert_eq!(packet, b"0000"),
            }
        }
    }

    /// Lines with the order of `shallow` and `unshallow` lines made the same. Stock git may name a
    /// commit twice that is wanted both outright and by a tag.
    pub fn sorted_lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        let is_boundary = |line: &String| line.starts_with("shallow ") || line.starts_with("unshallow ");
        if let Some(first) = lines.iter().position(is_boundary) {
            let count = lines[first..].iter().take_while(|line| is_boundary(line)).count();
            lines[first..first + count].sort();
            lines.dedup();
        }
        // An empty section says nothing; Auxin sends it also where it lacks the client's boundary.
        if let Some(at) = lines.iter().position(|line| line == "shallow-info")
            && lines[at + 1] == "0001"
        {
            lines.drain(at..at + 2);
        }
        lines
    }
}
