//! The client side of Auxin: prepares a folder with Logic projects for Git and Git LFS, and moves large files
//! in chunks.
//!
//! Knows nothing of the server but its protocol, and runs the Git that is installed for settings and folders.

#![forbid(unsafe_code)]

pub mod audio;
pub mod client_hooks;
pub mod git;
mod init;
pub mod local;
pub mod locks;
pub mod logic;
pub mod notes;
mod patterns;
pub mod setup;
pub mod status;
pub mod textconv;
pub mod transfer;
pub mod versions;

pub use init::{Added, InitError, Report, init};
