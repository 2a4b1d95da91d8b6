//! The same requests to Auxin and to git itself, over generated histories: what comes out must be
//! the same refs, the same acknowledgements and the same objects.
//!
//! Everything repeats from seeds and shrinks to a small history when it fails. 200 histories by
//! default, 2,000 with `./tests/run --large`; `AUXIN_TEST_HISTORIES` sets another number.

#![allow(missing_docs, reason = "test names are the documentation")]

#[allow(dead_code, unused_imports, reason = "each test program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

mod fetch;
mod history;
mod push;
mod reference;

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Tests that share the histories, so that all cores have something to do.
const SHARES: u32 = 4;

/// How many histories one of the [`SHARES`] gets.
fn histories() -> u32 {
    let all = std::env::var("AUXIN_TEST_HISTORIES")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(if support::large() { 2000 } else { 200 });
    u32::div_ceil(all, SHARES)
}

/// Runs `check` over the histories of one share; on failure, over ever smaller ones.
#[track_caller]
fn for_histories<S: proptest::strategy::Strategy>(
    kind: u8,
    share: u8,
    strategy: &S,
    check: impl Fn(S::Value) -> Result<(), String>,
) {
    let mut seed = [7_u8; 32];
    seed[0] = kind;
    seed[1] = share;
    let config = Config {
        cases: histories(),
        max_shrink_iters: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let result = runner.run(strategy, |value| {
        check(value).map_err(proptest::test_runner::TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, smallest)) => {
            panic!("Auxin and git differ: {reason}\nsmallest history: {smallest:#?}")
        }
        Err(error) => panic!("{error}"),
    }
}
