//! What a proxy in front changes, and what a stranger who claims to be one does not.

use std::sync::atomic::{AtomicBool, Ordering};

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
fn a_stranger_who_makes_up_names_does_not_keep_others_from_signing_in() {
    let server = Server::with(|settings| {
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        settings.auth.hash_parallelism = 1;
    });
    server.user("anna", false);
    let from = |address: &str, user: &str, password: &str| {
        let credentials = basic(user, password);
        let head = format!("GET /health HTTP/1.1\nX-Forwarded-For: {address}\n{credentials}");
        server.ask(&head, b"").status
    };
    let is_full = AtomicBool::new(false);

    let anna = std::thread::scope(|scope| {
        for number in 0..100 {
            let (from, is_full) = (&from, &is_full);
            scope.spawn(move || {
                if from("203.0.113.9", &format!("name-{number}"), "wrong") == 429 {
                    is_full.store(true, Ordering::Release);
                }
            });
        }
        server.until("the stranger has taken what one address can", || {
            is_full.load(Ordering::Acquire)
        });
        from("198.51.100.1", "anna", PASSWORD)
    });

    assert_eq!(anna, 200);
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
