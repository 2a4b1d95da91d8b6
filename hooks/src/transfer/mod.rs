//! `git auxin transfer`: the transfer agent that `git lfs` starts.
//!
//! ```text
//! lines     what git lfs and the agent say to each other
//! agent     an object at a time, to and from the repository that its action names
//! ├ upload     a file is cut, and what the server lacks goes up in chunk packs
//! └ remote     requests, repeated where that helps
//!   settings   what Git's settings say about the server
//! ```

mod agent;
pub mod lines;
mod remote;
mod settings;
mod upload;

pub use agent::run;
