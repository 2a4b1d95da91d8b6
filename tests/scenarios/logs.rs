//! One line for each request, for people and for programs.

use base64::Engine as _;

use crate::support::server::ADMIN_PASSWORD;
use crate::support::{Request, TestServer};

#[test]
fn a_path_of_any_letters_and_any_length_is_answered_and_logged() {
    let server = TestServer::start();
    let before = "/mark/".len();

    // Whatever is shown of a path ends within one of these, somewhere.
    for longer in 0..4 {
        let path = format!("/mark/{}{}", "a".repeat(290 - before + longer), "é".repeat(20));
        server.send(Request::get(&path)).assert_status(404);
    }

    server.wait_for_line("GET /mark/aaa");
    assert!(
        !server.printed().contains("failed unexpectedly"),
        "{}",
        server.printed()
    );
}

#[test]
fn no_secret_is_in_the_log_however_it_is_sent_and_however_much_is_logged() {
    let server = TestServer::prepare().setting("log.level", "info,auxin=trace").start();
    let anna = server.user("anna");
    let made = server.auxin(&["token", "create", "anna", "--scope", "write", "--json"]);
    let token = made.assert_ok().json()["token"].as_str().expect("a token").to_owned();
    let refs = || Request::upload_refs("anna/song", 2);
    let song = anna.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    song.push("anna/song", &["main"]).assert_ok();

    for good in [
        refs().by(&anna),
        refs().by(&server.admin()),
        refs().basic("anna", &token),
        refs().basic(&token, ""),
        refs().header("Authorization", &format!("Bearer {token}")),
    ] {
        server.send(good).assert_status(200);
    }
    let wrong = "a wrong password indeed";
    for bad in [
        refs().basic("anna", wrong),
        refs().basic(wrong, &token[..token.len() - 1]),
        refs().header("Authorization", &format!("Bearer {wrong}")),
        refs().header("Authorization", &format!("Digest {token}")),
    ] {
        server.send(bad).assert_status(401);
    }
    server
        .send(Request::get(&format!("/mark?token={token}")))
        .assert_status(404);
    server.wait_for_line("GET /mark");

    let printed = server.printed();
    for secret in [&anna.password, ADMIN_PASSWORD, &token, &token[..token.len() - 1], wrong] {
        assert!(!printed.contains(secret), "{secret} is in the log:\n{printed}");
        for user in ["", "anna:", "admin:"] {
            let coded = base64::engine::general_purpose::STANDARD.encode(format!("{user}{secret}"));
            // The end depends on what follows.
            assert!(
                !printed.contains(&coded[..coded.len() - 4]),
                "{secret} is in the log:\n{printed}"
            );
        }
    }
}

#[test]
fn what_is_counted_is_a_number_in_json() {
    let server = TestServer::prepare().setting("log.format", "json").start();
    server.send(Request::upload_refs("anna/counted", 2));
    server.wait_for_line("anna/counted");

    let printed = server.printed();
    let line = printed
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["repository"] == "anna/counted")
        .expect("one line for the request");

    for counted in ["status", "bytes_in", "bytes_out", "duration_ms"] {
        assert!(line[counted].is_u64(), "{counted}: {line}");
    }
    for said in ["request.id", "route", "user", "client"] {
        assert!(line[said].is_string(), "{said}: {line}");
    }
}
