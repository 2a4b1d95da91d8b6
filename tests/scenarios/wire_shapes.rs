//! The HTTP surface, byte by byte: headers, methods, types, odd requests.

use crate::support::repositories;
use crate::support::wire::{self, V2};
use crate::support::{Person, Request, TestServer};

fn server_with_a_song() -> (TestServer, Person) {
    let server = TestServer::start();
    let anna = server.user("anna");
    let bare = server.public_repo("anna/song");
    repositories::straight_history(&bare, 5);
    (server, anna)
}

#[test]
fn answers_carry_exactly_the_headers_that_git_expects_in_its_order() {
    let (server, _anna) = server_with_a_song();
    let forgiven = [
        "server",
        "expires",
        "date",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
    ];
    let body = V2::ls_refs().bytes();
    for (request, kind) in [
        (
            Request::upload_refs("anna/song", 2),
            "application/x-git-upload-pack-advertisement",
        ),
        (
            Request::upload_refs("anna/song", 0),
            "application/x-git-upload-pack-advertisement",
        ),
        (
            Request::upload_pack("anna/song", 2, body),
            "application/x-git-upload-pack-result",
        ),
    ] {
        let answer = server.send(request);
        answer.assert_status(200);
        let shown: Vec<(&str, &str)> = answer
            .headers
            .iter()
            .filter(|(name, _)| !forgiven.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("pragma", "no-cache"),
                ("cache-control", "no-cache, max-age=0, must-revalidate"),
                ("content-type", kind),
            ]
        );
        assert!(answer.header("expires").is_some(), "{answer:?}");
    }
}

#[test]
fn errors_are_never_cached_and_are_sentences() {
    let (server, anna) = server_with_a_song();
    for request in [
        Request::receive_refs("anna/song"),
        Request::upload_refs("anna/nothing", 2).by(&anna),
        Request::get("/anna/song.git/info/refs?service=git-foo"),
        Request::get("/anna/song.git/info/refs"),
        Request::new("DELETE", "/anna/song.git/info/refs?service=git-upload-pack"),
        Request::post("/anna/song.git/git-upload-pack", "text/html", *b"0000"),
    ] {
        let answer = server.send(request);
        assert!(answer.status >= 400, "{answer:?}");
        let cached = answer.header("cache-control").unwrap_or_default();
        assert!(cached.contains("no-cache"), "{answer:?}");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{answer:?}");
        assert!(answer.text().trim().contains(' '), "{answer:?}");
    }
}

#[test]
fn wrong_methods_types_and_services_get_the_status_that_git_gives() {
    let (server, anna) = server_with_a_song();
    let on_post = server.send(Request::get("/anna/song.git/git-upload-pack"));
    on_post.assert_status(405);
    assert_eq!(on_post.header("allow"), Some("POST"));
    server
        .send(Request::post(
            "/anna/song.git/info/refs?service=git-upload-pack",
            "text/plain",
            "",
        ))
        .assert_status(405);
    for route in ["git-upload-pack", "git-receive-pack"] {
        let target = format!("/anna/song.git/{route}");
        for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"] {
            server
                .send(Request::post(&target, kind, *b"0000").by(&anna))
                .assert_status(415);
        }
        server
            .send(Request::new("POST", &target).header("Content-Length", "0").by(&anna))
            .assert_status(415);
    }
    server
        .send(Request::get("/anna/song.git/info/refs?service=git-foo"))
        .assert_status(403);
    // The old protocol of files, which smart clients never use.
    server.send(Request::get("/anna/song.git/info/refs")).assert_status(403);
    for file in ["HEAD", "objects/info/packs", "config", "objects/pack/"] {
        let answer = server.send(Request::get(&format!("/anna/song.git/{file}")));
        assert!([403, 404].contains(&answer.status), "{file}: {answer:?}");
    }
}

#[test]
fn a_repository_answers_with_and_without_its_tail_and_with_further_parameters() {
    let (server, _anna) = server_with_a_song();
    for target in [
        "/anna/song.git/info/refs?service=git-upload-pack",
        "/anna/song/info/refs?service=git-upload-pack",
        "/anna/song.git/info/refs?service=git-upload-pack&trace=1",
        "/anna/song.git/info/refs?trace=%2F&service=git-upload-pack",
        "/anna/son%67.git/info/refs?service=git-upload-pack",
    ] {
        let answer = server.send(Request::get(target));
        answer.assert_status(200);
        assert!(
            answer.text().starts_with("001e# service=git-upload-pack\n0000"),
            "{answer:?}"
        );
    }
    let stranger = server.stranger();
    for tail in ["/anna/song", "/anna/song/", "/anna/song.git", "/anna/song.git/"] {
        let url = format!("{}{tail}", server.url());
        stranger.git(&["ls-remote", &url]).assert_ok();
    }
}

#[test]
fn the_two_advertisements_follow_the_version_asked_for() {
    let (server, anna) = server_with_a_song();
    let v2 = server.send(Request::upload_refs("anna/song", 2)).text();
    assert!(v2.starts_with("000eversion 2\n"), "{v2}");
    for capability in [
        "agent=",
        "ls-refs=unborn",
        "fetch=",
        "server-option",
        "object-format=sha1",
    ] {
        assert!(v2.contains(capability), "{capability} is missing: {v2}");
    }
    for feature in ["shallow", "wait-for-done", "filter"] {
        assert!(v2.contains(feature), "{feature} is missing: {v2}");
    }
    let v1 = server.send(Request::upload_refs("anna/song", 1)).text();
    assert!(v1.contains("# service=git-upload-pack\n0000000eversion 1\n"), "{v1}");
    let v0 = server.send(Request::upload_refs("anna/song", 0));
    let capabilities = wire::v0_capabilities(&v0.body);
    for capability in [
        "multi_ack",
        "multi_ack_detailed",
        "no-done",
        "thin-pack",
        "side-band",
        "side-band-64k",
        "ofs-delta",
        "shallow",
        "deepen-since",
        "deepen-not",
        "deepen-relative",
        "no-progress",
        "include-tag",
        "symref=HEAD:refs/heads/main",
        "object-format=sha1",
        "filter",
    ] {
        assert!(
            capabilities.iter().any(|known| known == capability),
            "{capability}: {capabilities:?}"
        );
    }
    // Keys that nobody knows, several versions, and rubbish.
    let ask = |value: &str| {
        server
            .send(Request::get("/anna/song.git/info/refs?service=git-upload-pack").header("Git-Protocol", value))
            .text()
    };
    assert!(ask("version=1:version=2").starts_with("000eversion 2"));
    assert!(ask("mood=blue:version=2").starts_with("000eversion 2"));
    assert!(ask("version=7").starts_with("001e# service"));
    assert!(ask("\u{e9}").starts_with("001e# service"));

    // A push is never spoken in version 2.
    let push = server.send(
        Request::receive_refs("anna/song")
            .header("Git-Protocol", "version=2")
            .by(&anna),
    );
    assert!(
        push.text().starts_with("001f# service=git-receive-pack\n0000"),
        "{push:?}"
    );
    let capabilities = wire::v0_capabilities(&push.body);
    for capability in [
        "report-status",
        "report-status-v2",
        "delete-refs",
        "side-band-64k",
        "quiet",
        "atomic",
        "ofs-delta",
        "object-format=sha1",
    ] {
        assert!(
            capabilities.iter().any(|known| known == capability),
            "{capability}: {capabilities:?}"
        );
    }
}

#[test]
fn the_probe_of_a_large_push_is_answered_or_asked_for_a_password() {
    let (server, anna) = server_with_a_song();
    let probe = || Request::receive_pack("anna/song", *b"0000");

    server.send(probe()).assert_status(401);
    server.send(probe().by(&anna)).assert_status(200);
    server
        .send(Request::upload_pack("anna/song", 0, *b"0000"))
        .assert_status(200);
}

#[test]
fn a_command_nobody_knows_and_broken_lines_get_a_readable_refusal() {
    let (server, _anna) = server_with_a_song();
    let mut wrong = vec![
        V2::command("sing").bytes(),
        V2::ls_refs().capability("mood=blue").bytes(),
        V2::fetch().arg("sing louder").arg("done").bytes(),
        V2::fetch().arg("want nonsense").arg("done").bytes(),
        b"zzzz".to_vec(),
        b"0003".to_vec(),
        b"0014command=ls-refs\n".to_vec(),
        b"ffff".to_vec(),
    ];
    let mut trailing = V2::ls_refs().bytes();
    trailing.truncate(trailing.len() - 4);
    trailing.extend(b"0001");
    wrong.push(trailing);
    for body in wrong {
        let answer = server.send(Request::upload_pack("anna/song", 2, body.clone()));
        let shown = String::from_utf8_lossy(&body).into_owned();
        match answer.status {
            200 => assert!(answer.text().contains("ERR "), "{shown:?}: {answer:?}"),
            status => assert!((400..500).contains(&status), "{shown:?}: {answer:?}"),
        }
    }
    server.send(Request::upload_refs("anna/song", 2)).assert_status(200);
}

#[test]
fn an_answer_is_the_same_whatever_codings_the_client_likes() {
    let (server, _anna) = server_with_a_song();
    let plain = server.send(Request::upload_refs("anna/song", 0));
    let zipped = server.send(Request::upload_refs("anna/song", 0).header("Accept-Encoding", "deflate, gzip, br, zstd"));

    assert_eq!(zipped.header("content-encoding"), None);
    assert_eq!(plain.body, zipped.body);
}

#[test]
fn a_client_that_waits_for_permission_to_send_gets_it_only_when_signed_in() {
    use std::io::{Read, Write};
    let (server, anna) = server_with_a_song();
    let head = |request: Request| request.header("Expect", "100-continue").header("Content-Length", "4");
    let post = || {
        Request::new("POST", "/anna/song.git/git-receive-pack")
            .header("Content-Type", "application/x-git-receive-pack-request")
    };
    let mut signed_in = head(post().by(&anna)).open(server.url());
    let mut first = [0; 12];
    signed_in.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 100");
    signed_in.write_all(b"0000").expect("the server reads");

    let mut stranger = head(post()).open(server.url());
    stranger.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 401");
}

#[test]
fn one_connection_serves_many_requests() {
    use std::io::{BufRead, BufReader, Read, Write};
    let (server, _anna) = server_with_a_song();
    let mut stream = crate::support::http::connect(&server.address());
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    for _ in 0..5 {
        write!(
            stream,
            "GET /anna/song.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nGit-Protocol: version=2\r\n\r\n"
        )
        .expect("the server reads");
        let mut length = None;
        let mut chunked = false;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            let line = line.trim_end().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            chunked |= line.starts_with("transfer-encoding:") && line.ends_with("chunked");
            if line.is_empty() {
                break;
            }
        }
        if let Some(length) = length {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
        } else {
            assert!(chunked, "neither a length nor chunks");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
                let mut piece = vec![0; size + 2];
                reader.read_exact(&mut piece).expect("a chunk");
                if size == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn links_are_made_from_the_public_address_and_never_from_the_host_header() {
    let server = TestServer::prepare()
        .setting("server.public_url", "https://music.example.org")
        .start();
    let anna = server.user("anna");
    let bare = server.public_repo("anna/song");
    repositories::straight_history(&bare, 2);
    server.auxin(&["repo", "rename", "anna/song", "anna/tune"]).assert_ok();

    let answer = server.send(
        Request::upload_refs("anna/song", 2)
            .header("Host", "evil.example.com")
            .by(&anna),
    );

    let text = format!("{answer:?}");
    assert!(!text.contains("evil.example.com"), "{text}");
}
