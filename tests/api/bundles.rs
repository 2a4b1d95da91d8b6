use std::path::PathBuf;

use auxin::db::Visibility;

use super::support::{PASSWORD, Server, basic, git_ok, with_song};

/// A server whose public repository anna/song has a bundle; where that is.
fn bundled() -> (Server, String, Vec<u8>) {
    let server = Server::with(|settings| settings.git.bundle_uri = true);
    with_song(&server);
    let (path, bytes) = bundle(&server, "anna/song");
    (server, path, bytes)
}

fn bundle(server: &Server, address: &str) -> (String, Vec<u8>) {
    let made = server.run(server.app.repos.bundle(&address.parse().expect("an address")));
    let made = made.expect("made").expect("there are refs");
    let file: PathBuf = server.repo_path(address).join("auxin-bundles").join(&made.name);
    let bytes = std::fs::read(file).expect("readable");
    assert_eq!(bytes.len() as u64, made.len_bytes);
    (format!("/-/bundles/{address}/{}", made.name), bytes)
}

#[test]
fn a_bundle_is_a_file_with_a_length_a_tag_and_ranges() {
    let (server, path, bytes) = bundled();

    let whole = server.get(&path);
    assert_eq!(whole.status, 200);
    assert!(whole.body == bytes);
    assert_eq!(whole.header("content-length"), Some(bytes.len().to_string().as_str()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("cache-control"), Some("private, no-cache"));
    assert_eq!(whole.header("content-type"), Some("application/x-git-bundle"));
    let tag = whole.header("etag").expect("a tag").to_owned();

    let part = server.ask(
        &format!("GET {path} HTTP/1.1\nRange: bytes=10-19\nIf-Range: {tag}"),
        b"",
    );
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[10..20]));
    let expected = format!("bytes 10-19/{}", bytes.len());
    assert_eq!(part.header("content-range"), Some(expected.as_str()));
    let rest = server.ask(&format!("GET {path} HTTP/1.1\nRange: bytes=10-"), b"");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &bytes[10..]));
    let other = server.ask(&format!("GET {path} HTTP/1.1\nRange: bytes=10-\nIf-Range: \"x\""), b"");
    assert_eq!((other.status, other.body.len()), (200, bytes.len()));
    let beyond = server.ask(&format!("GET {path} HTTP/1.1\nRange: bytes=9999999-"), b"");
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    let same = server.ask(&format!("GET {path} HTTP/1.1\nIf-None-Match: {tag}"), b"");
    assert_eq!((same.status, same.body.len()), (304, 0));
    let head = server.ask(&format!("HEAD {path} HTTP/1.1"), b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    let post = server.ask(&format!("POST {path} HTTP/1.1\nContent-Length: 0"), b"");
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_bundle_needs_the_right_to_fetch_and_tells_strangers_nothing() {
    let server = Server::with(|settings| settings.git.bundle_uri = true);
    with_song(&server);
    server.user("ben", false);
    server.repo("anna/private", Visibility::Private);
    let bare = server.repo_path("anna/private");
    git_ok(
        &server.work().join("work"),
        &["push", "-q", bare.to_str().expect("utf-8"), "main"],
    );
    let (path, bytes) = bundle(&server, "anna/private");
    let missing = path.replace("private", "missing");
    let ask = |path: &str, user: &str| {
        let head = format!("GET {path} HTTP/1.1\n{}", basic(user, PASSWORD));
        server.ask(&head, b"")
    };

    for path in [&path, &missing] {
        let stranger = server.get(path);
        assert_eq!(stranger.status, 401, "{path}");
        assert!(stranger.header("www-authenticate").is_some());
        assert_eq!(ask(path, "ben").status, 404, "{path}");
    }
    let mine = ask(&path, "anna");
    assert_eq!(mine.status, 200);
    assert!(mine.body == bytes);
}

#[test]
fn only_bundles_are_served_and_only_where_they_are_offered() {
    let (server, path, _) = bundled();
    let folder = path.rsplit_once('/').expect("a path").0;
    for name in ["lock", "..%2fconfig", "%2e%2e", "x.bundle", ".new-1", ""] {
        assert_eq!(server.get(&format!("{folder}/{name}")).status, 404, "{name}");
    }
    let bare = server.repo_path("anna/song");
    git_ok(&bare, &["config", "uploadpack.advertiseBundleURIs", "false"]);
    assert_eq!(server.get(&path).status, 404);
    git_ok(&bare, &["config", "uploadpack.advertiseBundleURIs", "true"]);
    assert_eq!(server.get(&path).status, 200);
    git_ok(&bare, &["config", "transfer.hideRefs", "refs/heads/main"]);
    assert_eq!(server.get(&path).status, 404);
}
