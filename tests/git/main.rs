//! The Git layer against stock git on the same repositories.

mod answers;
mod bitmaps;
mod check;
mod commit_graph;
mod fetch_clients;
mod fetch_differential;
mod fetch_host;
mod fetch_support;
mod formats;
mod handed_over;
mod maintenance;
mod notes;
mod offers;
mod on_disk;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/pack.rs"]
mod pack;
mod plan;
mod push_changes;
mod push_objects;
mod push_support;
mod receive_pack;
mod signed_push;
mod upload_pack;
