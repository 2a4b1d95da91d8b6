//! `git auxin transfer`: the transfer agent that `git lfs` starts.

pub mod lines;
