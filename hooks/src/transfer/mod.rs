//! `git auxin transfer`: the transfer agent that `git lfs` starts.
//!
//! ```text
//! lines     what git lfs and the agent say to each other
//! agent     an object at a time, to and from the repository that its action names
//! ├ upload     a file is cut, and what the server lacks goes up in chunk packs
//! ├ download   chunks come from objects that are here, and from the server
//! ├ local      what is here
//! └ remote     requests, repeated where that helps
//! ├ with       other repositories that the server may look into
//!   settings   what Git's settings say about the server
//! ```

mod agent;
mod download;
pub mod lines;
pub(crate) mod local;
mod remote;
pub(crate) mod settings;
mod upload;
mod with;

pub use agent::run;
