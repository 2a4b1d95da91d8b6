//! Who is let in, and what those hear who are not.

use auxin::db::Visibility;

use super::support::{PASSWORD, Server, basic, git, with_song};

const REFS: &str = "GET /anna/secret.git/info/refs?service=git-upload-pack HTTP/1.1";

fn with_secret(server: &Server) {
    server.user("anna", false);
    server.user("ben", false);
    server.repo("anna/secret", Visibility::Private);
}

#[test]
fn a_stranger_cannot_tell_a_private_repository_from_none() {
    let server = Server::start();
    with_secret(&server);
    let nothing = REFS.replace("secret", "nothing");
    let (private, missing) = (server.ask(REFS, b""), server.ask(&nothing, b""));
    assert_eq!((private.status, missing.status), (401, 401));
    assert_eq!(private.text(), missing.text());
    let challenges: Vec<&str> = private
        .headers
        .iter()
        .filter(|(name, _)| name == "www-authenticate")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(challenges, ["Basic realm=\"Auxin\"", "Bearer realm=\"Auxin\""]);

    let ben = basic("ben", PASSWORD);
    let private = server.ask(&format!("{REFS}\n{ben}"), b"");
    let missing = server.ask(&format!("{nothing}\n{ben}"), b"");
    assert_eq!((private.status, missing.status), (404, 404));
    assert_eq!(private.text().replace("secret", "nothing"), missing.text());
}

#[test]
fn the_right_password_opens_and_a_wrong_one_is_asked_for_again() {
    let server = Server::start();
    with_secret(&server);
    let ask = |credentials: &str| server.ask(&format!("{REFS}\n{credentials}"), b"").status;
    assert_eq!(ask(&basic("anna", PASSWORD)), 200);
    assert_eq!(ask(&basic("ANNA", PASSWORD)), 200);
    assert_eq!(ask(&basic("anna", "wrong")), 401);
    assert_eq!(ask(&basic("nobody-here", PASSWORD)), 401);
    for unreadable in [
        "Authorization: Basic !!!",
        "Authorization: Basic YW5uYQ==",
        "Authorization: Basic /w==",
        "Authorization: Basic",
        "Authorization: Negotiate abc",
        "Authorization: Bearer",
        "Authorization: Bearer nonsense",
        "Authorization:",
    ] {
        assert_eq!(ask(unreadable), 401, "{unreadable}");
    }
}

#[test]
fn of_two_authorizations_the_first_valid_one_counts() {
    let server = Server::start();
    with_secret(&server);
    let (good, bad) = (basic("anna", PASSWORD), basic("anna", "wrong"));
    for both in [format!("{good}\n{bad}"), format!("{bad}\n{good}")] {
        assert_eq!(server.ask(&format!("{REFS}\n{both}"), b"").status, 200);
    }
    for no_use in ["Authorization: Basic !!!", "Authorization: Negotiate abc"] {
        for both in [format!("{good}\n{no_use}"), format!("{no_use}\n{good}")] {
            assert_eq!(server.ask(&format!("{REFS}\n{both}"), b"").status, 200, "{both}");
        }
    }
    assert_eq!(server.ask(&format!("{REFS}\n{bad}\n{bad}"), b"").status, 401);
}

#[test]
fn a_token_counts_beside_a_password_that_is_slowed() {
    let server = Server::with(|settings| settings.auth.throttle_after_failures = 1);
    with_secret(&server);
    let (good, bad) = (basic("anna", PASSWORD), basic("ben", "wrong"));
    server.until("the wrong password is slowed", || {
        server.ask(&format!("{REFS}\n{bad}"), b"").status == 429
    });
    assert_eq!(server.ask(&format!("{REFS}\n{bad}\n{good}"), b"").status, 200);
}

#[test]
fn pushing_asks_for_a_password_before_any_body_is_read() {
    let server = Server::start();
    with_song(&server);
    let refs = server.get("/anna/song.git/info/refs?service=git-receive-pack");
    assert_eq!(refs.status, 401);

    let head = "POST /anna/song.git/git-receive-pack HTTP/1.1\nContent-Type: application/x-git-receive-pack-request";
    let probe = server.ask(&format!("{head}\nContent-Length: 4"), b"0000");
    assert_eq!(probe.status, 401);

    // Not a byte of this body is ever sent, and no "100 Continue" asks for one.
    let waiting = format!("{head}\nHost: x\nContent-Length: 1000000\nExpect: 100-continue\n\n");
    let mut raw = server.send(waiting.replace('\n', "\r\n").as_bytes());
    assert_eq!(raw.head().status, 401);
}

#[test]
fn a_refusal_arrives_at_a_client_that_is_still_sending() {
    let server = Server::start();
    with_song(&server);
    let body = vec![b'x'; 32 << 20];
    let head = format!(
        "POST /anna/song.git/git-receive-pack HTTP/1.1\nContent-Type: application/x-git-receive-pack-request\n\
         Host: x\nContent-Length: {}\n\n",
        body.len()
    );
    // Much more than sockets hold: sending it all works only if somebody reads it.
    let mut raw = server.send(head.replace('\n', "\r\n").as_bytes());
    raw.write(&body);
    assert_eq!(raw.head().status, 401);
}

#[test]
fn after_the_password_a_waiting_client_is_told_to_go_on() {
    let server = Server::start();
    with_song(&server);
    let waiting = "POST /anna/song.git/git-upload-pack HTTP/1.1\nContent-Type: application/x-git-upload-pack-request\n\
                   Host: x\nContent-Length: 4\nExpect: 100-continue\n\n";
    let mut raw = server.send(waiting.replace('\n', "\r\n").as_bytes());
    assert_eq!(raw.head().status, 100);
    raw.write(b"0000");
    assert_eq!(raw.head().status, 200);
}

#[test]
fn somebody_who_may_read_but_not_push_keeps_their_password() {
    let server = Server::start();
    with_song(&server);
    server.user("ben", false);
    let head = "GET /anna/song.git/info/refs?service=git-receive-pack HTTP/1.1";
    let answer = server.ask(&format!("{head}\n{}", basic("ben", PASSWORD)), b"");
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("auxin member add anna/song ben write"),
        "{}",
        answer.text()
    );
}

#[test]
fn failed_sign_ins_are_slowed_and_say_for_how_long() {
    let server = Server::with(|settings| settings.auth.throttle_after_failures = 2);
    with_secret(&server);
    let wrong = format!("{REFS}\n{}", basic("anna", "wrong"));
    let mut statuses = (0..6).map(|_| server.ask(&wrong, b""));
    let slowed = statuses.find(|answer| answer.status == 429).expect("slowed at last");
    assert!(slowed.header("retry-after").is_some());
}

#[test]
fn git_shows_the_reason_of_a_refusal() {
    let server = Server::start();
    with_secret(&server);
    let url = format!(
        "http://ben:{}@{}/anna/secret.git",
        "a%20long%3A%20pass%40word", server.address
    );
    let output = git(server.work(), &["clone", "-q", &url, "x"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("remote: There is no repository anna/secret here that you can see."),
        "{stderr}"
    );
}
