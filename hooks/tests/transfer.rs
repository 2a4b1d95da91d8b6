//! `git auxin transfer` against a stand-in that fails on demand. That it works with the real server and the
//! real `git lfs` is for the server's own tests.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/stand_in.rs"]
mod stand_in;

#[path = "transfer/download.rs"]
mod download;
#[path = "transfer/upload.rs"]
mod upload;
