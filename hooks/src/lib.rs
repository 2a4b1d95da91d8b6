//! The client side of Auxin: prepares a folder with Logic projects for Git and Git LFS.
//!
//! Knows nothing of the server and depends on nothing, so that it stays small to download.

#![forbid(unsafe_code)]

mod init;
mod patterns;

pub use init::{Added, InitError, Report, init};
