//! Which address answers what.

use super::support::{PASSWORD, Server, basic, with_song};

const NO_CACHE: [(&str, &str); 3] = [
    ("expires", "Fri, 01 Jan 1980 00:00:00 GMT"),
    ("pragma", "no-cache"),
    ("cache-control", "no-cache, max-age=0, must-revalidate"),
];

#[test]
fn odd_requests_for_refs_are_refused_in_words() {
    let server = Server::start();
    with_song(&server);
    for (request, status, word) in [
        ("GET /anna/song.git/info/refs", 403, "upgrade your git client"),
        ("GET /anna/song.git/info/refs?service=git-foo", 403, "git-upload-pack"),
        ("GET /anna/song.git/info/refs?service=", 403, "git-upload-pack"),
        ("POST /anna/song.git/info/refs?service=git-upload-pack", 405, "GET"),
        ("GET /anna/song.git/git-upload-pack", 405, "POST"),
        ("GET /anna/song.git/HEAD", 403, "smart protocol"),
        ("GET /anna/song.git/objects/info/packs", 403, "smart protocol"),
        ("POST /anna/song.git/git-upload-archive", 403, "smart protocol"),
        ("POST /anna/song.git/info/packs", 404, "nothing at this address"),
        (
            "GET /anna/my%20song.git/info/refs?service=git-upload-pack",
            401,
            "Sign in",
        ),
        ("GET /anna/my%20song.git", 404, "contains ' '"),
        ("DELETE /", 405, "GET"),
    ] {
        let answer = server.ask(&format!("{request} HTTP/1.1\nContent-Length: 0"), b"");
        assert_eq!(answer.status, status, "{request}: {}", answer.text());
        assert!(answer.text().contains(word), "{request}: {}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{request}"
        );
        for (name, value) in NO_CACHE {
            assert_eq!(answer.header(name), Some(value), "{request}");
        }
        assert_eq!(answer.header("x-request-id"), None);
        assert_eq!(answer.header("vary"), None);
    }
}

#[test]
fn an_impossible_name_is_explained_to_who_has_signed_in() {
    let server = Server::start();
    server.user("anna", false);
    for service in ["git-upload-pack", "git-receive-pack"] {
        let head = format!("GET /anna/my%20song.git/info/refs?service={service} HTTP/1.1");
        let answer = server.ask(&format!("{head}\n{}", basic("anna", PASSWORD)), b"");
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("contains ' '"), "{}", answer.text());
    }
}

#[test]
fn a_refused_method_comes_with_the_ones_that_are_taken() {
    let server = Server::start();
    with_song(&server);
    let answer = server.get("/anna/song.git/git-receive-pack");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = server.ask("PUT /livez HTTP/1.1\nContent-Length: 0", b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[test]
fn a_form_of_another_site_reaches_neither_fetch_nor_push() {
    let server = Server::start();
    with_song(&server);
    for service in ["git-upload-pack", "git-receive-pack"] {
        for content_type in [
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/plain",
            "application/x-git-upload-pack-result",
        ] {
            let credentials = basic("anna", PASSWORD);
            let head = format!(
                "POST /anna/song.git/{service} HTTP/1.1\nContent-Type: {content_type}\nContent-Length: 4\n{credentials}"
            );
            assert_eq!(server.ask(&head, b"0000").status, 415, "{service} {content_type}");
        }
    }
}

#[test]
fn a_repository_is_found_under_all_its_spellings() {
    let server = Server::start();
    with_song(&server);
    for path in [
        "anna/song",
        "anna/song.git",
        "Anna/SONG.git",
        "anna/song.git/",
        "/anna/song",
        "%61nna/song.git",
    ] {
        let answer = server.get(&format!("/{path}/info/refs?a=b&service=git-upload-pack&c"));
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[test]
fn a_head_request_gets_the_headers_and_no_body() {
    let server = Server::start();
    with_song(&server);
    let answer = server.ask("HEAD /anna/song.git/info/refs?service=git-upload-pack HTTP/1.1", b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, b"");
}

#[test]
fn two_requests_share_a_connection() {
    let server = Server::start();
    with_song(&server);
    let request = "POST /anna/song.git/git-upload-pack HTTP/1.1\r\nHost: x\r\n\
                   Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 4\r\n\r\n0000";
    let last = request.replace("Host: x", "Host: x\r\nConnection: close");
    let mut raw = server.send(request.as_bytes());
    assert_eq!(raw.head().status, 200);
    raw.write(last.as_bytes());
    assert!(raw.rest().contains("HTTP/1.1 200 OK"));
}

#[test]
fn a_compressed_list_request_is_understood_under_both_names() {
    use std::io::Write as _;
    let server = Server::start();
    with_song(&server);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(b"0014command=ls-refs\n0000").expect("memory");
    let body = gzip.finish().expect("memory");
    for coding in ["gzip", "x-gzip", "GZIP"] {
        let head = format!(
            "POST /anna/song.git/git-upload-pack HTTP/1.1\nGit-Protocol: version=2\n\
             Content-Type: application/x-git-upload-pack-request\nContent-Encoding: {coding}\nContent-Length: {}",
            body.len()
        );
        let answer = server.ask(&head, &body);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("refs/heads/main"), "{}", answer.text());
        assert_eq!(answer.header("content-encoding"), None);
    }
}

#[test]
fn the_front_page_tells_how_to_begin_with_links_from_the_settings_alone() {
    let server = Server::with(|settings| settings.server.public_url = "https://git.example.org/".into());
    let answer = server.ask("GET / HTTP/1.1\nX-Forwarded-Host: evil.example", b"");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .contains("git push https://git.example.org/NAME/song.git main")
    );
    assert!(!answer.text().contains("evil"));
    let answer = server.get("/anna/song");
    assert!(
        answer
            .text()
            .contains("git clone https://git.example.org/anna/song.git")
    );
}

#[test]
fn strangers_hear_a_status_and_no_more() {
    let server = Server::start();
    for path in ["/livez", "/readyz"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"status":"ok"}"#));
    }
    let answer = server.ask("GET /health HTTP/1.1\nX-Forwarded-For: 203.0.113.9", b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"status":"ok"}"#));
}

#[test]
fn what_does_not_work_is_named_to_insiders_and_everybody_hears_that_something_fails() {
    for (folder, check) in [("store", "store"), ("repos", "disk"), ("tmp", "disk")] {
        let server = Server::start();
        let folder = server.work().join("data").join(folder);
        let away = folder.with_extension("away");
        assert_eq!(server.get("/readyz").status, 200);

        std::fs::rename(&folder, &away).expect("moved");

        // What the last look found is good for a moment.
        server.until("the server is not ready", || server.get("/readyz").status == 503);
        let answer = server.get("/health");
        assert_eq!(answer.status, 503);
        let report: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(report["status"], "failing", "{report}");
        for name in ["database", "disk", "store"] {
            let expected = if name == check { "failed" } else { "ok" };
            assert_eq!(report["checks"][name]["status"], expected, "{name}: {report}");
        }
        let stranger = server.ask("GET /health HTTP/1.1\nVia: 1.1 proxy", b"");
        assert_eq!(
            (stranger.status, stranger.text().as_str()),
            (503, r#"{"status":"failing"}"#)
        );
        assert_eq!(server.get("/livez").status, 200);

        std::fs::rename(&away, &folder).expect("moved");
        server.until("the server is ready again", || server.get("/readyz").status == 200);
    }
}

#[test]
fn administrators_and_the_machine_itself_hear_how_the_server_is() {
    let server = Server::start();
    server.user("root", true);
    server.user("anna", false);
    let report = |head: &str| -> serde_json::Value {
        let answer = server.ask(&format!("GET /health HTTP/1.1{head}"), b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    };
    let away = "\nX-Forwarded-For: 203.0.113.9";

    let here = report("");
    assert_eq!(here["version"], env!("CARGO_PKG_VERSION"));
    for check in ["database", "disk", "store"] {
        assert_eq!(here["checks"][check]["status"], "ok", "{here}");
    }
    assert!(
        here["load"]["memory_percent"]
            .as_f64()
            .is_some_and(|percent| percent > 0.0)
    );
    assert!(here["uptime_secs"].is_u64());
    assert!(here["disk_free_bytes"].as_u64().is_some_and(|bytes| bytes > 0));

    assert!(report(&format!("{away}\n{}", basic("root", PASSWORD)))["version"].is_string());
    assert!(report(&format!("{away}\n{}", basic("anna", PASSWORD)))["version"].is_null());
}
