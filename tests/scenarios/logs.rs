//! One line for each request, for people and for programs.

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
