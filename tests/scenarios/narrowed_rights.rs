//! What narrows the table of rights: tokens, archives, disabled accounts; through the real HTTP
//! surface, for every role in repositories of every visibility.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::wire::{self, V2};
use crate::support::{Person, Request, TestServer};

const VISIBILITIES: [&str; 3] = ["public", "internal", "private"];
const ROLES: [&str; 6] = ["outsider", "reader", "writer", "admin", "owner", "site admin"];

/// How somebody signs in, and what the repository is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// With a token of this scope, for all repositories.
    Token(&'static str),
    /// With a token of this scope for the very repository.
    TokenForThis(&'static str),
    /// With a token for another repository.
    TokenForAnother,
    /// With the password, while the repository is archived.
    Archived,
    /// With the password of an account that is disabled.
    Disabled,
    /// With a token of an account that is disabled.
    DisabledToken,
}

const CASES: [Case; 7] = [
    Case::Token("read"),
    Case::Token("write"),
    Case::Token("admin"),
    Case::TokenForThis("read"),
    Case::TokenForThis("write"),
    Case::TokenForAnother,
    Case::Archived,
];

/// What a person of a role hears: reading, then writing.
fn expected(visibility: &str, role: &str, case: Case) -> (u16, u16) {
    let (read, write) = match (visibility, role) {
        ("private", "outsider") => (404, 404),
        (_, "outsider" | "reader") => (200, 403),
        _ => (200, 200),
    };
    let no_pushes = |write: u16| if write == 200 { 403 } else { write };
    match case {
        Case::Token("read") | Case::TokenForThis("read") | Case::Archived => (read, no_pushes(write)),
        Case::Token(_) | Case::TokenForThis(_) => (read, write),
        // Its bearer sees what everybody sees.
        Case::TokenForAnother if visibility == "public" => (200, 403),
        Case::TokenForAnother => (404, 404),
        Case::Disabled | Case::DisabledToken => (401, 401),
    }
}

/// Asks for everything that reads and everything that writes; what differs from `expected`.
fn differences(
    server: &TestServer,
    what: &str,
    address: &str,
    tip: &str,
    expected: (u16, u16),
    user: &str,
    password: &str,
) -> Vec<String> {
    let (read, write) = expected;
    let fetch = V2::fetch().arg(format!("want {tip}")).arg("done").bytes();
    static PUSHES: AtomicUsize = AtomicUsize::new(0);
    let branch = format!("refs/heads/take-{}", PUSHES.fetch_add(1, Ordering::Relaxed));
    let push = wire::push(
        &[wire::command(wire::NO_OBJECT, tip, &branch)],
        "report-status",
        &[],
        super::rights::EMPTY_PACK,
    );
    let cells = [
        ("refs for reading", read, Request::upload_refs(address, 2)),
        ("fetch", read, Request::upload_pack(address, 2, fetch)),
        ("refs for writing", write, Request::receive_refs(address)),
        ("push", write, Request::receive_pack(address, push)),
    ];
    let mut wrong = Vec::new();
    for (action, status, request) in cells {
        let answer = server.send(request.basic(user, password));
        let text = answer.text();
        if answer.status != status {
            wrong.push(format!(
                "{what} / {action}: {} instead of {status}: {text}",
                answer.status
            ));
        } else if status >= 400 && !text.trim_end().contains(' ') {
            wrong.push(format!("{what} / {action}: no sentence: {text:?}"));
        } else if action == "push" && status == 200 && !text.contains(&format!("ok {branch}")) {
            wrong.push(format!("{what} / {action}: not done: {text:?}"));
        }
    }
    wrong
}

#[test]
fn tokens_archives_and_disabled_accounts_narrow_every_cell_of_the_table() {
    let server = TestServer::start();
    let owner = server.user("olga");
    let song = owner.new_project("song");
    song.write("Song.txt", "la").commit("First take");
    let tip = song.id("main");
    let people: Vec<(&str, Person)> = vec![
        ("outsider", server.user("otto")),
        ("reader", server.user("rita")),
        ("writer", server.user("wim")),
        ("admin", server.user("ada")),
        ("owner", owner.clone()),
        ("site admin", server.admin()),
    ];
    let make_token = |person: &Person, args: &[&str]| {
        let all = [&["token", "create", &person.name, "--json", "--scope"], args].concat();
        let made = server.auxin(&all);
        made.assert_ok().json()["token"].as_str().expect("a token").to_owned()
    };
    song.push("olga/another", &["main"]).assert_ok();
    server
        .auxin(&["repo", "visibility", "olga/another", "public"])
        .assert_ok();
    for visibility in VISIBILITIES {
        let address = format!("olga/{visibility}");
        song.push(&address, &["main"]).assert_ok();
        server.auxin(&["repo", "visibility", &address, visibility]).assert_ok();
        for (user, role) in [("rita", "read"), ("wim", "write"), ("ada", "admin")] {
            server.auxin(&["member", "add", &address, user, role]).assert_ok();
        }
    }
    let mut wrong = Vec::new();
    for (number, role) in ROLES.iter().enumerate() {
        let (known, person) = &people[number];
        assert_eq!(known, role);
        let general = ["read", "write", "admin"].map(|scope| (scope, make_token(person, &[scope])));
        let for_another = make_token(person, &["admin", "--repo", "olga/another"]);
        let ask = |visibility: &str, case: Case, password: &str| {
            let what = format!("{visibility} / {role} / {case:?}");
            let address = format!("olga/{visibility}");
            let expected = expected(visibility, role, case);
            differences(&server, &what, &address, &tip, expected, &person.name, password)
        };
        for visibility in VISIBILITIES {
            let address = format!("olga/{visibility}");
            for case in CASES {
                wrong.extend(match case {
                    Case::Token(scope) => {
                        let (_, token) = general.iter().find(|(known, _)| *known == scope).expect("made");
                        ask(visibility, case, token)
                    }
                    Case::TokenForThis(scope) if (visibility, *role) == ("private", "outsider") => {
                        // There can be none for what its owner may not see.
                        let args = ["token", "create", &person.name, "--scope", scope, "--repo", &address];
                        server.auxin(&args).assert_failed();
                        Vec::new()
                    }
                    Case::TokenForThis(scope) => {
                        let token = make_token(person, &[scope, "--repo", &address]);
                        ask(visibility, case, &token)
                    }
                    Case::TokenForAnother => ask(visibility, case, &for_another),
                    Case::Archived => {
                        server.auxin(&["repo", "archive", &address]).assert_ok();
                        let wrong = ask(visibility, case, &person.password);
                        server.auxin(&["repo", "unarchive", &address]).assert_ok();
                        wrong
                    }
                    Case::Disabled | Case::DisabledToken => Vec::new(),
                });
            }
        }
        server.auxin(&["user", "disable", &person.name]).assert_ok();
        for visibility in VISIBILITIES {
            wrong.extend(ask(visibility, Case::Disabled, &person.password));
            wrong.extend(ask(visibility, Case::DisabledToken, &general[2].1));
        }
        server.auxin(&["user", "enable", &person.name]).assert_ok();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
