//! How fast background work goes: at full speed while nobody else wants anything, else at a share.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::git::work::Stopped;
use crate::service::transfer::Transfer;

/// Work between two pauses.
const SLICE: Duration = Duration::from_millis(10);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a pause looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The pace of one thread.
pub(super) struct Pace {
    shutdown: CancellationToken,
    transfer: Transfer,
    percent: u32,
    slice_began: Instant,
}

impl Pace {
    /// `percent` is the share of one processor while requests run; `shutdown` ends the work.
    pub(super) fn new(shutdown: CancellationToken, transfer: Transfer, percent: u32) -> Self {
        Self {
            shutdown,
            transfer,
            percent: percent.clamp(1, 100),
            slice_began: Instant::now(),
        }
    }

    /// To be called often by the work. Time in which it waits for the disk counts like work, so that the
    /// disk has its pauses, too.
    pub(super) fn tick(&mut self) -> Result<(), Stopped> {
        if self.shutdown.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        let worked = self.slice_began.elapsed();
        if worked < SLICE {
            return Ok(());
        }
        let mut left = pause_after(worked, self.percent);
        while !left.is_zero() && self.transfer.is_busy() {
            let nap = left.min(LOOK_EVERY);
            std::thread::sleep(nap);
            left -= nap;
            if self.shutdown.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
        }
        self.slice_began = Instant::now();
        Ok(())
    }
}

/// How long to pause after so much work, so that work has its share.
fn pause_after(worked: Duration, percent: u32) -> Duration {
    (worked * (100 - percent) / percent).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_leaves_work_its_share() {
        let worked = Duration::from_millis(20);
        assert_eq!(pause_after(worked, 25), Duration::from_millis(60));
        assert_eq!(pause_after(worked, 100), Duration::ZERO);
        assert_eq!(pause_after(Duration::from_secs(60), 1), LONGEST_PAUSE);
    }
}
