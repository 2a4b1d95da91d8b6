//! The database's time. Every time that is stored or compared with a stored one comes from here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds in a second.
pub const US_PER_SEC: i64 = 1_000_000;

/// A source of time in microseconds since 1970. SQLite runs in this process, so its clock is this
/// machine's; a test passes a [`ManualClock`].
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

/// The hands of a clock that stands still until it is moved.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl Clock {
    /// This machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start_us` until the second value moves it.
    pub fn manual(start_us: i64) -> (Self, ManualClock) {
        let hands = Arc::new(AtomicI64::new(start_us));
        (Self(Source::Manual(hands.clone())), ManualClock(hands))
    }

    /// Now, in microseconds since 1970. A clock set before 1970 reads 0.
    pub fn now_us(&self) -> i64 {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_micros()).ok())
                .unwrap_or(0),
            Source::Manual(hands) => hands.load(Ordering::SeqCst),
        }
    }
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance_secs(&self, secs: u64) {
        let us = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(US_PER_SEC);
        self.0.fetch_add(us, Ordering::SeqCst);
    }
}
