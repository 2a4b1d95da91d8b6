//! Does the test of the layers see anything at all? Violations planted in every disguise.

use super::scan::Source;
use super::violations;

/// The file they stand in, the code, and the line and rule that must be named.
const PLANTED: &[(&str, &str, &str)] = &[
    // A plain `use`, and one in a group.
    ("src/http/api.rs", "use crate::db::Db;", "1: http must not use db"),
    (
        "src/http/api.rs",
        "use crate::{service::Repos, git::{self, refs::Ref}};",
        "1: http must not use git",
    ),
    ("src/cli/user.rs", "use auxin::db::Db;", "1: cli must not use db"),
    (
        "src/main.rs",
        "fn main() { auxin::db::open() }",
        "1: main must not use db",
    ),
    // No `use` at all.
    (
        "src/http/api.rs",
        "fn f() {\n    crate::db::open();\n}",
        "2: http must not use db",
    ),
    (
        "src/http/api.rs",
        "fn f() -> Vec<<crate::db::Db as Open>::Error> {}",
        "1: http must not use db",
    ),
    (
        "src/http/api.rs",
        "fn f() { tracing::info!(\"{}\", crate::db::N) }",
        "1: http must not use db",
    ),
    (
        "src/http/api.rs",
        "macro_rules! m { () => { $crate::db::open() } }",
        "1: http must not use db",
    ),
    (
        "src/http/api.rs",
        "fn f() -> S { S { ..crate::db::default() } }",
        "1: http must not use db",
    ),
    // Upwards by `super`.
    (
        "src/http/api/users.rs",
        "fn f(db: &super::super::super::db::Db) {}",
        "1: http must not use db",
    ),
    (
        "src/http/mod.rs",
        "mod inner {\n use super::super::git::Refs;\n}",
        "2: http must not use git",
    ),
    ("src/git/refs.rs", "use super::super::db::Db;", "1: git must not use db"),
    // Under another name.
    (
        "src/http/api.rs",
        "use crate as root;\nfn f() { root::db::open() }",
        "2: http must not use db",
    ),
    (
        "src/http/api.rs",
        "fn f() { root::db::open() }\nuse crate::{self as root};",
        "1: http must not use db",
    ),
    (
        "src/http/api.rs",
        "use super::super as up;\nuse up::db as d;\n",
        "2: http must not use db",
    ),
    (
        "src/http/api.rs",
        "use crate::db as d;\nfn f() { d::open() }",
        "2: http must not use db",
    ),
    (
        "src/service/x.rs",
        "use ::sqlx as database;",
        "1: sqlx belongs to src/db/ alone",
    ),
    (
        "src/db/x.rs",
        "extern crate gix_pack as packs;",
        "1: gix_* belongs to src/git/ alone",
    ),
    (
        "src/http/git.rs",
        "use axum::http as h;\nfn f() { h::StatusCode::OK }",
        "2: StatusCode belongs to",
    ),
    (
        "src/http/git.rs",
        "use axum::http::{self, StatusCode as Code};",
        "1: StatusCode belongs to",
    ),
    // By way of a third module, or of everything.
    (
        "src/service/push.rs",
        "pub use crate::db;",
        "1: service must not hand the whole of db on",
    ),
    (
        "src/service/push.rs",
        "pub(crate) use crate::db::*;",
        "1: service must not hand the whole of db on",
    ),
    (
        "src/http/api.rs",
        "use crate::*;",
        "1: a glob over the whole crate hides what is used",
    ),
    (
        "src/http/mod.rs",
        "use super::*;",
        "1: a glob over the whole crate hides what is used",
    ),
    // Upwards and sideways.
    (
        "src/service/push.rs",
        "fn f(s: crate::http::State) {}",
        "1: service must not use http",
    ),
    (
        "src/service/push.rs",
        "fn f(s: crate::app::App) {}",
        "1: service must not use app",
    ),
    (
        "src/db/push.rs",
        "fn f(s: crate::git::Ref) {}",
        "1: db must not use git",
    ),
    (
        "src/storage/mod.rs",
        "use crate::service::Repos;",
        "1: storage must not use service",
    ),
    (
        "src/config/mod.rs",
        "use crate::service::Repos;",
        "1: config must not use service",
    ),
    (
        "src/http/mod.rs",
        "use crate::cli::Command;",
        "1: http must not use cli",
    ),
    // Libraries.
    (
        "src/service/x.rs",
        "async fn f() -> axum::Json<u8> {}",
        "1: axum belongs to src/http/ alone",
    ),
    (
        "src/service/x.rs",
        "#[derive(Debug, sqlx::FromRow)] struct A;",
        "1: sqlx belongs to src/db/ alone",
    ),
    ("src/service/x.rs", "use sqlx;", "1: sqlx belongs to src/db/ alone"),
    (
        "src/http/x.rs",
        "fn f() { let _ = gix::open(\".\"); }",
        "1: gix belongs to src/git/ alone",
    ),
    (
        "src/git/x.rs",
        "use clap::Parser;",
        "1: clap belongs to src/cli/, src/main.rs alone",
    ),
    // Code that is somewhere else than its name says.
    (
        "src/http/git.rs",
        "#[path = \"../db/mod.rs\"]\nmod mine;",
        "1: a module must lie where its name says",
    ),
    (
        "src/http/git.rs",
        "include!(\"../db/mod.rs\");",
        "1: code must not be included as text",
    ),
];

#[test]
fn planted_violations_are_found() {
    for (file, code, expected) in PLANTED {
        let found = violations(&Source::parse(file, code));
        let expected = format!("{file}:{expected}");
        assert!(
            found.iter().any(|line| line.starts_with(&expected)),
            "{code}\nexpected: {expected}\nfound: {found:#?}"
        );
    }
}

#[test]
fn code_that_keeps_the_rules_is_left_alone() {
    let fine = [
        (
            "src/http/api.rs",
            "use axum::Json; use crate::service::Repos; use super::error::Problem;",
        ),
        (
            "src/http/api.rs",
            "/// Not a path: crate::db::Db.\nfn f() { let db = \"crate::db\"; db.x(); sqlx }",
        ),
        ("src/http/error.rs", "use axum::http::StatusCode;"),
        (
            "src/service/push.rs",
            "use crate::{db::Db, git::ObjectId, names::OwnerName}; pub use crate::db::Role;",
        ),
        (
            "src/git/mod.rs",
            "pub mod object_store; pub use object_store::ObjectStore; fn f() { object_store::open() }",
        ),
        (
            "src/git/a/b.rs",
            "use super::super::refs::Ref; use super::c; use gix_pack::data;",
        ),
        (
            "src/git/plan.rs",
            "use super::object_store; fn f() { object_store::open() }",
        ),
        (
            "src/db/mod.rs",
            "use sqlx::Row; mod tests { use super::super::ids::UserId; use super::*; }",
        ),
        (
            "src/service/x.rs",
            "fn f<'db>() -> impl Fn() + use<'db> { Vec::<u8>::sqlx() }",
        ),
        ("src/main.rs", "fn main() { auxin::cli::run() }"),
        (
            "src/app.rs",
            "use crate::db::Db; use crate::git; use crate::service::Repos;",
        ),
    ];
    for (file, code) in fine {
        assert_eq!(violations(&Source::parse(file, code)), Vec::<String>::new(), "{code}");
    }
}
