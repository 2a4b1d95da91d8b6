//! What the tests speak: a server in a folder of its own, people with a git program, repositories
//! made from seeds, and the wire protocol by hand where no client would say such a thing.
//!
//! Everything is synchronous and every wait has an event and a deadline; nothing here sleeps to
//! "give it time".

pub mod cgi;
pub mod client;
pub mod clients;
pub mod git;
pub mod http;
pub mod pack;
pub mod process;
pub mod random;
pub mod repositories;
pub mod run;
pub mod s3;
pub mod server;
pub mod wire;

pub use git::{GitProgram, Person, WorkTree};
pub use http::{Answer, Request};
pub use random::Random;
pub use run::{Outcome, run, run_with_input};
pub use server::{Prepare, TestServer};

/// 1024 bytes.
pub const KIB: usize = 1024;
/// 1024 KiB.
pub const MIB: usize = 1024 * KIB;

/// Bytes that do not compress, the same for the same seed: audio, as far as Git can tell.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Whether the long tests were asked for (`./tests/run --large`).
pub fn large() -> bool {
    std::env::var_os("AUXIN_TEST_LARGE").is_some()
}
