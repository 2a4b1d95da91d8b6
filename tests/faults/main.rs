//! The plug is pulled at every step of a push, and nothing that was acknowledged is lost.
//!
//! Each promise is a check that also runs with the safeguard behind it switched off, and must
//! then fail: that shows that the check sees something.

#![allow(missing_docs, reason = "test names are the documentation")]

#[allow(dead_code, unused_imports, reason = "each test program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

mod crash;
mod kill;
mod maintenance;
mod maintenance_fire;
mod order;
mod safeguards;
