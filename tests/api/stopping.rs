//! How a server ends.

use std::net::TcpStream;

use auxin::http::{Web, router};
use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::support::{Server, with_song};

#[test]
fn a_running_request_may_finish_while_no_new_one_is_taken() {
    let mut server = Server::start();
    with_song(&server);
    let head = "POST /anna/song.git/git-upload-pack HTTP/1.1\nContent-Type: application/x-git-upload-pack-request\n\
                Host: x\nContent-Length: 4\nExpect: 100-continue\n\n";
    let mut running = server.send(head.replace('\n', "\r\n").as_bytes());
    assert_eq!(running.head().status, 100);

    server.begin_stop();
    server.until("the port is closed", || TcpStream::connect(server.address).is_err());
    running.write(b"0000");
    let answer = running.answer();

    assert_eq!(answer.status, 200);
    server.wait();
}

#[test]
fn what_does_not_finish_in_time_is_cut() {
    let mut server = Server::with(|settings| settings.server.drain_secs = 0);
    with_song(&server);
    let head = "POST /anna/song.git/git-upload-pack HTTP/1.1\nContent-Type: application/x-git-upload-pack-request\n\
                Host: x\nContent-Length: 4\nExpect: 100-continue\n\n";
    let mut running = server.send(head.replace('\n', "\r\n").as_bytes());
    assert_eq!(running.head().status, 100);

    server.begin_stop();
    server.wait();
    assert!(running.closes());
}

#[test]
fn an_idle_connection_does_not_keep_a_server_from_ending() {
    let mut server = Server::start();
    let mut idle = server.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(idle.head().status, 200);
    let fresh = server.connect();

    server.begin_stop();
    server.wait();
    assert!(fresh.closes());
}

#[test]
fn a_server_that_was_told_to_stop_lives_and_is_not_ready() {
    let server = Server::start();
    let shutdown = CancellationToken::new();
    // Without a port, which would be closed by then for who has no connection yet.
    let router = router(Web::new(server.app.clone(), server.address, shutdown.clone()));
    let ask = |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        server.run(async {
            let answer = router.clone().oneshot(request).await.expect("an answer");
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        })
    };
    assert_eq!(ask("/readyz").0, 200);

    shutdown.cancel();

    assert_eq!(ask("/livez").0, 200);
    let (status, said) = ask("/readyz");
    assert_eq!(status, 503);
    assert!(said.contains("The server is stopping."), "{said}");
    assert_eq!(ask("/health"), (503, r#"{"status":"stopping"}"#.to_owned()));
}
