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

    /// The address for someone who may read the repository but not push to it.
    fn url_of_a_reader(&self) -> Option<String> {
        let Server::Auxin(server) = &self.server else {
            return None; // git's own program knows no people
        };
        let ben = server.user("ben");
        server.auxin(&["member", "add", "anna/song", "ben", "read"]).assert_ok();
        Some(ben.url_with_password("anna/song"))
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
    for tag in ["refs/tags/rough", "refs/tags/mix-1"] {
        assert_eq!(repositories::id(&git_folder, tag), peer.id(tag));
    }

    let mut import = Import::default();
    import.text("commit refs/heads/main\ncommitter Ada <a@example.org> 1800000000 +0000\n");
    import.text("data 5\nlate\n\nfrom refs/heads/main^0\nM 100644 inline late\ndata 4\nlate\n\n");
    import.write_to(&peer.bare);
    client.fetch(&peer.url, &peer.clone()).assert_ok();

    let newest = peer.id("main");
    repositories::on_disk(&git_folder, &["cat-file", "-e", &newest]).assert_ok();
    repositories::assert_sound(&git_folder);
}

fn shallow_clone(client: Client) -> Peer {
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
    peer
}

fn clones_shallow(client: Client) {
    shallow_clone(client);
}

fn clones_shallow_and_fetches_the_rest_later(client: Client) {
    let peer = shallow_clone(client);

    client.unshallow(&peer.url, &peer.clone()).assert_ok();

    let git_folder = peer.clone().join(".git");
    let boundary = std::fs::read_to_string(git_folder.join("shallow")).unwrap_or_default();
    assert_eq!(boundary, "");
    let count = repositories::ask(&git_folder, &["rev-list", "--count", "HEAD"]);
    assert_eq!(count, "12");
    repositories::assert_sound(&git_folder);
}

fn fetches_400_refs(client: Client) {
    let peer = Peer::start().with_a_song();
    client.clone_into(&peer.url, &peer.clone(), 0).assert_ok();
    let mut import = Import::default();
    for number in 0..400 {
        let take = number.to_string();
        import.commit(&format!("refs/heads/take-{number}"), &[], &[("take", take.as_bytes())]);
    }
    import.write_to(&peer.bare);

    // 400 wants are 20 KB; JGit compresses them, the others do not.
    client.fetch(&peer.url, &peer.clone()).assert_ok();

    let git_folder = peer.clone().join(".git");
    for number in [0, 399] {
        let fetched = repositories::id(&git_folder, &format!("refs/remotes/origin/take-{number}"));
        assert_eq!(fetched, peer.id(&format!("refs/heads/take-{number}")));
    }
    let takes = ["for-each-ref", "--format=x", "refs/remotes/origin/take-*"];
    assert_eq!(repositories::ask(&git_folder, &takes).lines().count(), 400);
    repositories::assert_sound(&git_folder);
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

fn pushes_tags(client: Client) {
    let peer = Peer::start();
    let folder = peer.project();
    let git_folder = folder.join(".git");
    repositories::on_disk(&git_folder, &["tag", "rough"]).assert_ok();
    repositories::on_disk(&git_folder, &["tag", "-a", "-m", "Mix", "mix-1"]).assert_ok();

    for tag in ["refs/tags/rough", "refs/tags/mix-1"] {
        client.push(&peer.url, &folder, tag, tag, false).assert_ok();
        assert_eq!(peer.id(tag), repositories::id(&git_folder, tag));
    }

    assert_eq!(repositories::ask(&peer.bare, &["cat-file", "-t", "mix-1"]), "tag");
    assert_eq!(repositories::refs(&peer.bare).len(), 2);
    repositories::assert_sound(&peer.bare);
}

fn mirrors_many_refs_twice(client: Client) {
    let peer = Peer::start();
    let folder = peer.project();
    let git_folder = folder.join(".git");
    // It pushes one ref at a time.
    let many = if client == Client::IsomorphicGit { 20 } else { 500 };
    let tip = repositories::id(&git_folder, "HEAD");
    let packed: String = ["heads/take/", "tags/rough-"]
        .iter()
        .flat_map(|kind| (0..many).map(move |number| format!("{kind}{number:03}")))
        .map(|name| format!("{tip} refs/{name}\n"))
        .collect();
    std::fs::write(git_folder.join("packed-refs"), packed).expect("a file can be written");
    repositories::on_disk(&git_folder, &["tag", "-a", "-m", "Mix", "mix-1"]).assert_ok();
    let here = repositories::ask(
        &git_folder,
        &[
            "for-each-ref",
            "--format=%(objectname) %(refname)",
            "refs/heads",
            "refs/tags",
        ],
    );
    let wanted: Vec<&str> = here.lines().collect();
    assert_eq!(wanted.len(), 2 * many + 2);

    client.mirror(&peer.url, &folder).assert_ok();
    assert_eq!(repositories::refs(&peer.bare), wanted);
    let objects = repositories::objects(&peer.bare);

    client.mirror(&peer.url, &folder).assert_ok();
    assert_eq!(repositories::refs(&peer.bare), wanted);
    assert_eq!(repositories::objects(&peer.bare), objects);
    repositories::assert_sound(&peer.bare);
}

fn hears_that_it_may_not_push(client: Client) {
    let peer = Peer::start().with_a_song();
    let Some(url) = peer.url_of_a_reader() else {
        return;
    };
    client.clone_into(&url, &peer.clone(), 0).assert_ok();
    commit_more(&peer.clone(), "late.txt", b"late");
    let before = repositories::refs(&peer.bare);

    let main = "refs/heads/main";
    let pushed = client.push(&url, &peer.clone(), main, main, false);

    // Only isomorphic-git hands on the sentence; the others have words of their own for a 403.
    pushed.assert_refused_with(match client {
        Client::Pygit2 => "unexpected http status code: 403",
        Client::Dulwich => "unexpected http resp 403",
        Client::IsomorphicGit => "You may read anna/song but not push to it.",
        Client::Jgit => "git-receive-pack not permitted",
        Client::GoGit => "authorization failed",
    });
    assert_eq!(repositories::refs(&peer.bare), before);
}

fn hears_that_the_password_is_wrong(client: Client) {
    let peer = Peer::start().with_a_song();
    if matches!(peer.server, Server::Git(_)) {
        return; // git's own program asks nobody for a password
    }
    let wrong = peer.url.replace("sings", "whistles");

    let cloned = client.clone_into(&wrong, &peer.clone(), 0);

    // As above: these are the clients' words for a 401.
    cloned.assert_refused_with(match client {
        Client::Pygit2 => "AuthError: remote authentication required",
        Client::Dulwich => "HTTPUnauthorized: No valid credentials provided",
        Client::IsomorphicGit => "The user name or the password is wrong.",
        Client::Jgit => "not authorized",
        Client::GoGit => "authentication required",
    });
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
        clones_shallow_and_fetches_the_rest_later,
        fetches_400_refs,
        pushes_forces_and_deletes,
        pushes_tags,
        mirrors_many_refs_twice,
        hears_that_it_may_not_push,
        hears_that_the_password_is_wrong
    ]
);
client!(
    dulwich,
    Client::Dulwich,
    [
        clones_and_fetches,
        clones_shallow_and_fetches_the_rest_later,
        fetches_400_refs,
        pushes_forces_and_deletes,
        pushes_tags,
        mirrors_many_refs_twice,
        hears_that_it_may_not_push,
        hears_that_the_password_is_wrong
    ]
);
client!(
    isomorphic_git,
    Client::IsomorphicGit,
    [
        clones_and_fetches,
        clones_shallow_and_fetches_the_rest_later,
        fetches_400_refs,
        pushes_forces_and_deletes,
        pushes_tags,
        mirrors_many_refs_twice,
        hears_that_it_may_not_push,
        hears_that_the_password_is_wrong
    ]
);
// JGit 4.11 knows no shallow clones.
client!(
    jgit,
    Client::Jgit,
    [
        clones_and_fetches,
        fetches_400_refs,
        pushes_forces_and_deletes,
        pushes_tags,
        mirrors_many_refs_twice,
        hears_that_it_may_not_push,
        hears_that_the_password_is_wrong
    ]
);
// go-git 5.4 does not act on "unshallow" lines: what is shallow once stays so.
client!(
    go_git,
    Client::GoGit,
    [
        clones_and_fetches,
        clones_shallow,
        fetches_400_refs,
        pushes_forces_and_deletes,
        pushes_tags,
        mirrors_many_refs_twice,
        hears_that_it_may_not_push,
        hears_that_the_password_is_wrong
    ]
);
