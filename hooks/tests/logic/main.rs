//! What is read in Logic Pro and GarageBand projects.

#[path = "../support/logic_files.rs"]
mod logic_files;

mod find;
mod lists;
mod samples;
