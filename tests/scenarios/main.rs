//! What people do with the server, one file for each promise.

#![allow(missing_docs, reason = "test names are the documentation")]

#[allow(dead_code, unused_imports, reason = "each test program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod buckets;
mod bundles;
mod chunked_transfer;
mod client_hooks;
mod client_status;
mod clone_fetch;
mod dependencies;
mod first_five_minutes;
mod guards;
mod hooks;
mod hostile_packs;
mod keeping;
mod large_files;
mod large_files_import;
mod large_files_missing;
mod limits;
mod locks;
mod logs;
mod maintenance;
mod memory;
mod names;
mod narrowed_rights;
mod notes;
mod other_clients;
mod partial_clone;
mod proc_receive;
mod proxy_tls;
mod push_create;
mod refusals;
mod repo_shapes;
mod rights;
mod sha256;
mod shallow;
mod signed_pushes;
mod stopping;
mod wire_shapes;
