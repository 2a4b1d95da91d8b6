//! What is read in Logic Pro and GarageBand projects.

#[path = "../support/logic_files.rs"]
mod logic_files;
#[path = "../support/project_data_files.rs"]
mod project_data_files;
#[path = "../support/tree.rs"]
mod tree;

mod commands;
mod compare;
mod find;
mod lists;
mod project;
mod project_data;
mod ready;
mod samples;
