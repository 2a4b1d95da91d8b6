//! git itself, asked the same, and what becomes of a pack at a client.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::cgi::ReferenceServer;
use crate::support::repositories::{self, on_disk, on_disk_with_input};
use crate::support::run::run_with_input;
use crate::support::{Answer, GitProgram, Person, Request, TestServer};

/// A set of object ids.
pub type Objects = BTreeSet<String>;

/// Asks `git upload-pack` what Auxin is asked.
pub fn upload_pack(bare: &Path, version: u8, body: &[u8]) -> Vec<u8> {
    let mut command = GitProgram::first().command(bare);
    if version > 0 {
        command.env("GIT_PROTOCOL", format!("version={version}"));
    }
    command.args(["upload-pack", "--stateless-rpc"]).arg(bare);
    let answer = run_with_input(&mut command, body);
    if answer.stdout.is_empty() && !answer.ok() {
        // As a line that says why, where git just ends.
        return crate::support::wire::line(&format!("ERR {}", answer.err().trim()));
    }
    answer.stdout
}

/// The advertisement of `git upload-pack`, without the line that HTTP puts in front.
pub fn upload_refs(bare: &Path) -> Vec<u8> {
    let mut command = GitProgram::first().command(bare);
    command
        .args(["upload-pack", "--stateless-rpc", "--advertise-refs"])
        .arg(bare);
    run_with_input(&mut command, b"").stdout
}

/// Asks `git receive-pack` what Auxin is asked.
pub fn receive_pack(bare: &Path, body: &[u8]) -> Vec<u8> {
    let mut command = GitProgram::first().command(bare);
    command.args(["receive-pack", "--stateless-rpc"]).arg(bare);
    run_with_input(&mut command, body).stdout
}

/// What a client has: objects and, if it is shallow, its boundary.
pub struct Client {
    /// A bare repository.
    pub bare: PathBuf,
    /// All its objects.
    pub objects: Objects,
    /// Its boundary.
    pub shallow: Vec<String>,
}

impl Client {
    /// A client of this object format that has nothing.
    pub fn empty(folder: &Path, name: &str, format: &str) -> Self {
        let bare = folder.join(name);
        for part in ["objects/pack", "objects/info", "refs/heads"] {
            std::fs::create_dir_all(bare.join(part)).expect("a folder can be made");
        }
        std::fs::write(bare.join("HEAD"), "ref: refs/heads/main\n").expect("a file can be written");
        let config = format!(
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = {format}\n\
             [fetch]\n\tunpackLimit = 1\n"
        );
        std::fs::write(bare.join("config"), config).expect("a file can be written");
        Self {
            bare,
            objects: Objects::new(),
            shallow: Vec::new(),
        }
    }

    /// A client that fetched `tips` from `source` with stock git: all of it, or so deep.
    pub fn with(folder: &Path, name: &str, source: &Path, tips: &[String], depth: Option<u8>) -> Self {
        let mut client = Self::empty(folder, name, repositories::object_format(source));
        if tips.is_empty() {
            return client;
        }
        match depth {
            None => {
                let revs = format!("{}\n", tips.join("\n"));
                let args = ["pack-objects", "--stdout", "--revs", "-q"];
                let pack = on_disk_with_input(source, &args, revs.as_bytes());
                let index = ["index-pack", "--stdin"];
                on_disk_with_input(&client.bare, &index, &pack.assert_ok().stdout).assert_ok();
            }
            Some(depth) => {
                let (url, depth) = (format!("file://{}", source.display()), format!("--depth={depth}"));
                let mut args = vec!["-c", "safe.directory=*", "fetch", "--quiet", "--no-tags", &depth, &url];
                args.extend(tips.iter().map(String::as_str));
                on_disk(&client.bare, &args).assert_ok();
            }
        }
        client.objects = packed_objects(&client.bare.join("objects/pack"));
        client.shallow = std::fs::read_to_string(client.bare.join("shallow"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        client
    }

    /// What the client has after it received `pack`, with `shallow` and `unshallow` lines before
    /// it. `strict`: git must find nothing wrong with the pack and nothing may be missing.
    pub fn after(&self, pack: &[u8], lines: &[String], strict: bool) -> Result<Objects, String> {
        let aside = tempfile::tempdir().map_err(|error| error.to_string())?;
        let objects = aside.path().join("objects");
        std::fs::create_dir_all(objects.join("pack")).map_err(|error| error.to_string())?;
        let boundary = aside.path().join("shallow");
        let mut shallow: BTreeSet<&str> = self.shallow.iter().map(String::as_str).collect();
        for line in lines {
            match line.split_once(' ') {
                Some(("shallow", id)) => shallow.insert(id),
                Some(("unshallow", id)) => shallow.remove(id),
                _ => return Err(format!("unknown line {line:?}")),
            };
        }
        let shallow: String = shallow.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(&boundary, shallow).map_err(|error| error.to_string())?;

        let mut command = GitProgram::first().command(&self.bare);
        command
            .env("GIT_DIR", &self.bare)
            .env("GIT_OBJECT_DIRECTORY", &objects)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.bare.join("objects"))
            .args(["-c", "core.fsync=none"])
            .arg("--shallow-file")
            .arg(&boundary)
            .args(["index-pack", "--stdin", "--fix-thin"])
            .arg(if strict { "--strict" } else { "--fsck-objects" });
        let indexed = run_with_input(&mut command, pack);
        if !indexed.ok() {
            return Err(format!("git index-pack refuses the pack: {indexed:?}"));
        }
        let mut all = self.objects.clone();
        all.extend(packed_objects(&objects.join("pack")));
        Ok(all)
    }
}

/// The ids in all pack indexes of a folder, read without asking git.
fn packed_objects(folder: &Path) -> Objects {
    const HEAD_BYTES: usize = 8;
    const FAN_OUT_BYTES: usize = 256 * 4;
    let mut all = Objects::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_none_or(|end| end != "idx") {
            continue;
        }
        let index = std::fs::read(entry.path()).expect("an index can be read");
        assert_eq!(&index[..HEAD_BYTES], b"\xfftOc\0\0\0\x02", "an index of version 2");
        let ids = &index[HEAD_BYTES + FAN_OUT_BYTES..];
        let last: [u8; 4] = index[HEAD_BYTES + FAN_OUT_BYTES - 4..HEAD_BYTES + FAN_OUT_BYTES]
            .try_into()
            .expect("four bytes");
        // Its name is the checksum of the pack, by the same hash function.
        let name = entry.path().file_stem().expect("a name").len();
        let id_bytes = (name - "pack-".len()) / 2;
        for id in ids.chunks_exact(id_bytes).take(u32::from_be_bytes(last) as usize) {
            all.insert(crate::support::pack::hex(id));
        }
    }
    all
}

/// Where the requests go: Auxin, or git's own server program if `AUXIN_TEST_PEER=git` asks for a
/// test of the test.
pub struct Place {
    peer: Peer,
    count: std::cell::Cell<u32>,
}

enum Peer {
    Auxin(Box<TestServer>, Box<Person>),
    Git(ReferenceServer),
}

impl Place {
    /// Starts the server.
    pub fn start() -> Self {
        let peer = if std::env::var("AUXIN_TEST_PEER").is_ok_and(|peer| peer == "git") {
            Peer::Git(ReferenceServer::start())
        } else {
            // git looks at the repositories meanwhile, and stops where a pack it has seen is joined with others.
            let server = TestServer::prepare()
                .env("AUXIN_MAINTENANCE__ENABLED", "false")
                // The refs are compared, and git writes no notes of its own.
                .env("AUXIN_NOTES__ENABLED", "false")
                .start();
            let anna = server.user("anna");
            Peer::Auxin(Box::new(server), Box::new(anna))
        };
        Self {
            peer,
            count: std::cell::Cell::new(0),
        }
    }

    /// A new empty repository of this object format: its address and its folder.
    pub fn repo(&self, format: &str) -> (String, PathBuf) {
        self.count.set(self.count.get() + 1);
        let address = format!("anna/h{}", self.count.get());
        let bare = match &self.peer {
            Peer::Auxin(server, _) => server.repo_as(&address, format),
            Peer::Git(server) => server.repo_as(&address, format),
        };
        (address, bare)
    }

    /// Sends a request of someone who may do everything.
    pub fn send(&self, request: Request) -> Answer {
        match &self.peer {
            Peer::Auxin(server, anna) => server.send(request.by(anna)),
            Peer::Git(server) => request.send(server.url()),
        }
    }
}

/// Says how two sets differ, if they do.
pub fn compare(what: &str, ours: &Objects, gits: &Objects, bare: &Path) -> Result<(), String> {
    if ours == gits {
        return Ok(());
    }
    let describe = |ids: Vec<&String>| {
        let mut lines = Vec::new();
        for id in ids.into_iter().take(10) {
            let kind = on_disk(bare, &["cat-file", "-t", id]).out();
            lines.push(format!("{id} {kind}"));
        }
        lines.join(", ")
    };
    Err(format!(
        "{what}: only with Auxin: [{}]; only with git: [{}]",
        describe(ours.difference(gits).collect()),
        describe(gits.difference(ours).collect())
    ))
}
