//! Input that no decent client sends: a clear refusal, and a server that goes on.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::support::{Server, git_ok, noise, with_song};

const FETCH: &str = "POST /anna/song.git/git-upload-pack HTTP/1.1\nContent-Type: application/x-git-upload-pack-request";

fn impatient() -> Server {
    Server::with(|settings| {
        settings.server.header_timeout_secs = 1;
        settings.server.idle_timeout_secs = 1;
    })
}

/// The server still serves.
fn assert_unharmed(server: &Server) {
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let server = impatient();
    assert!(server.connect().closes());
    assert_unharmed(&server);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let server = impatient();
    assert!(server.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow").closes());
    // Also on a connection that has had a whole request.
    let mut raw = server.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw.head().status, 200);
    raw.write(b"GET /livez HTTP/1.1\r\nHo");
    let rest = raw.rest();
    assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
    assert_unharmed(&server);
}

#[test]
fn a_half_spoken_http2_preface_is_cut_off() {
    let server = impatient();
    assert!(server.send(b"PRI * HTTP/2.0\r\n\r\n").closes());
    // The whole preface, and then never a request.
    let rest = server
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .rest();
    assert!(!rest.is_empty(), "the server's own settings came, then the end");
    assert_unharmed(&server);
}

#[test]
fn a_body_that_stops_coming_is_refused_with_a_sentence() {
    let server = impatient();
    with_song(&server);

    let answer = server.ask(&format!("{FETCH}\nContent-Length: 100"), b"0032");

    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("ERR Nothing arrived for 1 seconds"),
        "{}",
        answer.text()
    );
    assert_unharmed(&server);
}

#[test]
fn a_reader_that_stops_reading_is_cut_off() {
    let server = impatient();
    let mut raw = server.connect();
    // Far more answers than sockets hold, none of which is read.
    let request = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1 << 10);
    while raw.0.write_all(&request).is_ok() {}
    assert_unharmed(&server);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let server = Server::start();
    let long = format!("X-Long: {}", "x".repeat(100 << 10));
    let answer = server.ask(&format!("GET / HTTP/1.1\n{long}"), b"");
    assert_eq!(answer.status, 431);
    let many = "X-Many: x\n".repeat(500);
    let answer = server.ask(&format!("GET / HTTP/1.1\n{}", many.trim_end()), b"");
    assert_eq!(answer.status, 431);
    assert_unharmed(&server);
}

#[test]
fn a_request_with_both_length_and_chunks_is_refused_in_either_order() {
    let server = Server::start();
    with_song(&server);
    for lengths in [
        "Content-Length: 4\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nContent-Length: 4",
    ] {
        let answer = server.ask(&format!("{FETCH}\n{lengths}"), b"4\r\n0000\r\n0\r\n\r\n");
        assert_eq!(answer.status, 400, "{lengths}");
        assert!(answer.text().contains("Content-Length and Transfer-Encoding"));
    }
    // The second request on a connection, and what follows it is never taken for a third.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut raw = server.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(raw.head().status, 200);
    let head = format!("{FETCH}\nHost: x\nContent-Length: 4\nTransfer-Encoding: chunked\n\n").replace('\n', "\r\n");
    raw.write(format!("{head}0\r\n\r\n{smuggled}").as_bytes());
    let rest = raw.rest();
    assert!(rest.contains("HTTP/1.1 400"), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{rest}");
    assert_unharmed(&server);
}

#[test]
fn a_few_bytes_that_mean_gigabytes_are_refused() {
    let server = Server::with(|settings| settings.git.max_request_bytes = 1 << 20);
    with_song(&server);
    // A long and perfectly correct request, so that only its size is wrong.
    let have = format!("0032have {}\n", "1".repeat(40));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(b"0032want ").expect("memory");
    gzip.write_all("1".repeat(40).as_bytes()).expect("memory");
    gzip.write_all(b"\n0000").expect("memory");
    for _ in 0..(256 << 20) / have.len() / 8 {
        gzip.write_all(have.repeat(8).as_bytes()).expect("memory");
    }
    let bomb = gzip.finish().expect("memory");
    assert!(bomb.len() < 1 << 20);

    let head = format!("{FETCH}\nContent-Encoding: gzip\nContent-Length: {}", bomb.len());
    let answer = server.ask(&head, &bomb);

    assert!(
        answer
            .text()
            .contains("than 1048576 bytes, which is this server's limit"),
        "{} {}",
        answer.status,
        answer.text()
    );
    assert_unharmed(&server);
}

#[test]
fn a_fetch_request_that_is_too_long_is_refused_while_it_comes() {
    let server = Server::with(|settings| settings.git.max_request_bytes = 1 << 20);
    with_song(&server);
    let mut raw = server.send(
        format!("{FETCH}\nHost: x\nTransfer-Encoding: chunked\n\n")
            .replace('\n', "\r\n")
            .as_bytes(),
    );
    let chunk = [b"10000\r\n", &vec![b'x'; 1 << 16][..], b"\r\n"].concat();
    for _ in 0..64 {
        // The refusal may come at any time after the first mebibyte.
        if raw.0.write_all(&chunk).is_err() {
            break;
        }
    }
    let said = raw.rest();
    assert!(said.contains("ERR The request is longer than 1048576 bytes"), "{said}");
    assert_unharmed(&server);
}

#[test]
fn a_packet_length_without_its_packet_is_refused() {
    let server = Server::start();
    with_song(&server);
    for body in [&b"ffff"[..], b"zzzz", b"0003", b"0001", b"00"] {
        let head = format!("{FETCH}\nContent-Length: {}", body.len());
        let answer = server.ask(&head, body);
        assert!(
            answer.text().contains("ERR ") || answer.status >= 400,
            "{body:?}: {answer:?}"
        );
    }
    // The same, on a connection that stays open and silent.
    let server = impatient();
    with_song(&server);
    let answer = server.ask(&format!("{FETCH}\nContent-Length: 65535"), b"ffff");
    assert!(answer.text().contains("ERR Nothing arrived"), "{answer:?}");
    assert_unharmed(&server);
}

#[test]
fn what_is_not_gzip_is_refused() {
    let server = Server::start();
    with_song(&server);
    let answer = server.ask(&format!("{FETCH}\nContent-Encoding: gzip\nContent-Length: 4"), b"0000");
    assert!(answer.text().contains("ERR ") || answer.status == 400, "{answer:?}");
    let answer = server.ask(&format!("{FETCH}\nContent-Encoding: br\nContent-Length: 4"), b"0000");
    assert_eq!(answer.status, 415);
}

#[test]
fn tricks_with_the_path_find_nothing() {
    let server = Server::start();
    with_song(&server);
    for path in [
        "/anna/../anna/song.git/info/refs",
        "/anna/%2e%2e/song.git/info/refs",
        "/..%2f..%2fetc/passwd/info/refs",
        "/anna/song.git%00/info/refs",
        "/anna%5csong.git/info/refs",
        "/anna/%ff%fe/info/refs",
        "/anna/song.git/objects/../config",
        "/anna/song.git/config",
        "/anna/song.git/hooks/pre-receive",
    ] {
        let answer = server.get(&format!("{path}?service=git-upload-pack"));
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{path}"
        );
    }
    // What other servers make of it does not matter; what counts is the repository and nothing else.
    let answer = server.get("/anna//song.git//info/refs?service=git-upload-pack");
    assert_eq!(answer.status, 200);
}

#[test]
fn one_caller_cannot_take_all_requests() {
    let server = Server::with(|settings| settings.server.max_requests_per_caller = 2);
    with_song(&server);
    let slow = |_| {
        let head = format!("{FETCH}\nHost: x\nContent-Length: 100\nExpect: 100-continue\n\n");
        let mut raw = server.send(head.replace('\n', "\r\n").as_bytes());
        // The server asks for the body: by then the request is counted.
        assert_eq!(raw.head().status, 100);
        raw
    };
    let running: Vec<_> = (0..2).map(slow).collect();

    let answer = server.get("/anna/song.git/info/refs?service=git-upload-pack");
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
    assert!(
        answer.text().contains("server.max_requests_per_caller"),
        "{}",
        answer.text()
    );
    // Of what is posted git shows only what the protocol says.
    let answer = server.ask(&format!("{FETCH}\nContent-Length: 4"), b"0000");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("ERR You have 2 requests running"), "{answer:?}");

    drop(running);
    server.until("the requests that went away are forgotten", || {
        server.get("/anna/song.git/info/refs?service=git-upload-pack").status == 200
    });
}

#[test]
fn slow_readers_do_not_keep_others_from_their_turn() {
    let server = Server::with(|settings| settings.git.max_packs_building = 1);
    with_song(&server);
    // More than sockets hold.
    let work = server.work().join("work");
    std::fs::write(work.join("take.wav"), noise(24 << 20)).expect("written");
    git_ok(&work, &["add", "."]);
    git_ok(&work, &["commit", "-q", "-m", "A take"]);
    git_ok(
        &work,
        &[
            "push",
            "-q",
            server.repo_path("anna/song").to_str().expect("utf-8"),
            "main",
        ],
    );
    let main = git_ok(&work, &["rev-parse", "main"]);
    let body = format!("0012command=fetch\n00010032want {main}\n0009done\n0000");
    let head = format!(
        "{FETCH}\nHost: x\nGit-Protocol: version=2\nContent-Length: {}\n\n",
        body.len()
    );
    let request = format!("{}{body}", head.replace('\n', "\r\n"));

    let mut slow: Vec<_> = (0..3).map(|_| server.send(request.as_bytes())).collect();
    for raw in &mut slow {
        // It has begun, and nobody reads on.
        assert_eq!(raw.head().status, 200);
    }
    git_ok(server.work(), &["clone", "-q", &server.url("anna/song.git"), "clone"]);
}
