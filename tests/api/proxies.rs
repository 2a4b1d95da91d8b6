//! What a proxy in front changes, and what a stranger who claims to be one does not.

use super::support::{PASSWORD, Server, basic};

fn health(server: &Server, headers: &str) -> bool {
    let answer = server.ask(&format!("GET /health HTTP/1.1{headers}"), b"");
    let report: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    report["version"].is_string()
}

#[test]
fn behind_a_trusted_proxy_on_this_machine_a_stranger_is_not_this_machine() {
    let server = Server::with(|settings| {
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    assert!(!health(&server, "\nX-Forwarded-For: 203.0.113.9"));
    assert!(!health(&server, "\nForwarded: for=203.0.113.9;proto=https"));
    assert!(!health(&server, "\nX-Forwarded-For: 127.0.0.1, 203.0.113.9"));
    // A request that the machine itself sends through its proxy.
    assert!(health(&server, "\nX-Forwarded-For: 127.0.0.1"));
}

#[test]
fn without_trust_a_forwarded_address_gains_and_loses_nothing_but_privilege() {
    let server = Server::start();
    assert!(!health(&server, "\nX-Forwarded-For: 127.0.0.1"));
    assert!(health(&server, ""));
}

#[test]
fn failures_count_for_the_client_behind_the_proxy() {
    let server = Server::with(|settings| {
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        settings.auth.throttle_after_failures = 1;
        settings.auth.throttle_max_secs = 3600;
    });
    server.user("anna", false);
    let from = |address: &str, password: &str| {
        let credentials = basic("anna", password);
        let head = format!("GET /health HTTP/1.1\nX-Forwarded-For: {address}\n{credentials}");
        server.ask(&head, b"").status
    };
    let mut attempts = (0..20).map(|_| from("203.0.113.9", "wrong"));
    assert!(attempts.any(|status| status == 429), "slowed at last");
    assert_eq!(from("198.51.100.1", PASSWORD), 200, "others are not locked out");
}
