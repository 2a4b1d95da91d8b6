//! Clients that share no code with git: libgit2, dulwich, isomorphic-git, JGit and go-git.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::cgi::ReferenceServer;
use crate::support::clients::Client;
use crate::support::repositories::{self, Import};
use crate::support::{MIB, TestServer, noise};

/// A server with one repository and a client's address for it. `AUXIN_TEST_PEER=git` puts git's
/// own server program in the place of ours, to tell a wrong test from a wrong server.
struct Peer {
    server: Server,
    url: String,
    bare: PathBuf,
    folder: TempDir,
}

enum Server {
    Auxin(#[allow(dead_code, reason = "kept running")] TestServer),
    Git(#[allow(dead_code, reason = "kept running")] ReferenceServer),
}

impl Peer {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        if std::env::var("AUXIN_TEST_PEER").is_ok_and(|peer| peer == "git") {
            let server = ReferenceServer::start();
            let bare = server.repo("anna/song");
            let url = format!("{}/anna/song.git", server.url()).replace("://", "://anna:word@");
            return Self {
                server: Server::Git(server),
                url,
                bare,
                folder,
            };
        }
        let server = TestServer::start();
        let anna = server.user("anna");
        let bare = server.repo("anna/song");
        Self {
            url: anna.url_with_password("anna/song"),
            server: Server::Auxin(server),
            bare,
            folder,
        }
    }

    /// Fills the repository: twelve commits, a merge, two branches, both kinds of tags.
    fn with_a_song(self) -> Self {
        let mut import = Import::default();
        let mut parent = Vec::new();
        for number in 0..10_u64 {
            let take = noise(number, 3000);
            let path = format!("Audio Files/take {number}.wav");
            parent = vec![import.commit("refs/heads/main", &parent, &[(&path, &take)])];
        }
        let side = import.commit("refs/heads/solo", &parent, &[("solo.txt", b"solo")]);
        let merge = import.commit("refs/heads/main", &[parent[0], side], &[("mix", b"mix")]);
        import.reset("refs/tags/rough", side).tag("mix-1", merge);
        import.write_to(&self.bare);
        self
    }

    fn id(&self, name: &str) -> String {
        repositories::id(&self.bare, name)
    }

    fn clone(&self) -> PathBuf {
        self.folder.path().join("clone")
    }

    /// A project made by stock git, ready to be pushed by another client.
    fn project(&self) -> PathBuf {
        let folder = self.clone();
        let person = crate::support::Person::new("http://127.0.0.1:1", "", "", crate::support::GitProgram::first());
        let path = folder.to_string_lossy().into_owned();
        person.git(&["init", "--quiet", &path]).assert_ok();
        person
            .git_in(&folder, &["remote", "add", "origin", &self.url])
            .assert_ok();
        std::fs::write(folder.join("vox.wav"), noise(1, 50_000)).expect("a file can be written");
        person.git_in(&folder, &["add", "."]).assert_ok();
        person
            .git_in(&folder, &["commit", "--quiet", "-m", "First take"])
            .assert_ok();
        folder
    }
}

fn commit_more(folder: &std::path::Path, name: &str, content: &[u8]) {
    std::fs::write(folder.join(name), content).expect("a file can be written");
    let person = crate::support::Person::new("http://127.0.0.1:1", "", "", crate::support::GitProgram::first());
    person.git_in(folder, &["add", "."]).assert_ok();
    person
        .git_in(folder, &["commit", "--quiet", "-m", "Another take"])
        .assert_ok();
}

fn clones_and_fetches(client: Client) {
    let peer = Peer::start().with_a_song();

    client.clone_into(&peer.url, &peer.clone(), 0).assert_ok();

    let git_folder = peer.clone().join(".git");
    assert_eq!(repositories::id(&git_folder, "HEAD"), peer.id("main"));
    repositories::assert_sound(&git_folder);
    let count = repositories::ask(&git_folder, &["rev-list", "--count", "HEAD"]);
    assert_eq!(count, "12");

    let mut import = Import::default();
    import.text("commit refs/heads/main\ncommitter Ada <a@example.org> 1800000000 +0000\n");
    import.text("data 5\nlate\n\nfrom refs/heads/main^0\nM 100644 inline late\ndata 4\nlate\n\n");
    import.write_to(&peer.bare);
    client.fetch(&peer.url, &peer.clone()).assert_ok();

    let newest = peer.id("main");
    repositories::on_disk(&git_folder, &["cat-file", "-e", &newest]).assert_ok();
    repositories::assert_sound(&git_folder);
}

fn clones_shallow(client: Client) {
    let peer = Peer::start().with_a_song();

    client.clone_into(&peer.url, &peer.clone(), 1).assert_ok();

    let git_folder = peer.clone().join(".git");
    let boundary = std::fs::read_to_string(git_folder.join("shallow")).unwrap_or_default();
    assert!(
        boundary.contains(&peer.id("main")),
        "the newest commit should be the boundary: {boundary:?}"
    );
    let count = repositories::ask(&git_folder, &["rev-list", "--count", "HEAD"]);
    assert_eq!(count, "1");
}

fn pushes_forces_and_deletes(client: Client) {
    let peer = Peer::start();
    let folder = peer.project();
    let main = "refs/heads/main";

    client.push(&peer.url, &folder, main, main, false).assert_ok();
    let first = repositories::id(&folder.join(".git"), "HEAD");
    assert_eq!(peer.id(main), first);

    commit_more(&folder, "bass.wav", &noise(2, 3 * MIB));
    client.push(&peer.url, &folder, main, main, false).assert_ok();
    client
        .push(&peer.url, &folder, main, "refs/heads/demo", false)
        .assert_ok();
    let second = repositories::id(&folder.join(".git"), "HEAD");
    assert_eq!(peer.id(main), second);
    assert_eq!(peer.id("refs/heads/demo"), second);

    repositories::on_disk(&folder.join(".git"), &["update-ref", main, &first]).assert_ok();
    commit_more(&folder, "drums.wav", &noise(3, 1000));
    client.push(&peer.url, &folder, main, main, true).assert_ok();
    let forced = repositories::id(&folder.join(".git"), "HEAD");
    assert_eq!(peer.id(main), forced);

    client.delete(&peer.url, &folder, "refs/heads/demo").assert_ok();
    assert_eq!(repositories::refs(&peer.bare), [format!("{forced} {main}")]);
    repositories::assert_sound(&peer.bare);
}

fn hears_that_the_password_is_wrong(client: Client) {
    let peer = Peer::start().with_a_song();
    if matches!(peer.server, Server::Git(_)) {
        return; // git's own program asks nobody for a password
    }
    let wrong = peer.url.replace("sings", "whistles");

    let cloned = client.clone_into(&wrong, &peer.clone(), 0);

    cloned.assert_failed();
}

macro_rules! client {
    ($module:ident, $client:expr, [$($test:ident),*]) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $test() {
                super::$test($client);
            })*
        }
    };
}

client!(
    libgit2,
    Client::Pygit2,
    [
        clones_and_fetches,
        clones_shallow,
        pushes_forces_and_deletes,
        hears_that_the_password_is_wrong
    ]
);
client!(
    dulwich,
    Client::Dulwich,
    [
        clones_and_fetches,
        clones_shallow,
        pushes_forces_and_deletes,
        hears_that_the_password_is_wrong
    ]
);
client!(
    isomorphic_git,
    Client::IsomorphicGit,
    [
        clones_and_fetches,
        clones_shallow,
        pushes_forces_and_deletes,
        hears_that_the_password_is_wrong
    ]
);
// JGit 4.11 knows no shallow clones.
client!(
    jgit,
    Client::Jgit,
    [
        clones_and_fetches,
        pushes_forces_and_deletes,
        hears_that_the_password_is_wrong
    ]
);
client!(
    go_git,
    Client::GoGit,
    [
        clones_and_fetches,
        clones_shallow,
        pushes_forces_and_deletes,
        hears_that_the_password_is_wrong
    ]
);
