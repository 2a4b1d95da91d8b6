//! Auxin, a self-hosted Git server for music projects.
//!
//! The layers, from the outside in; a layer calls only what stands below it:
//!
//! ```text
//! cli  http          commands; routes, sign-in, status codes
//!    service         the rules: accounts, rights, repositories, pushes
//! db  storage  git   SQL; bytes; repositories. They do not know each other.
//! ```
//!
//! [`names`], [`ids`], [`config`] and [`telemetry`] are plain and may be used by every layer.

pub mod app;
pub mod cli;
pub mod config;
pub mod data_folder;
pub mod db;
pub mod git;
pub mod http;
pub mod ids;
pub mod names;
pub mod service;
pub mod storage;
pub mod telemetry;
