//! How long one request may go on working.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Why work ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The client went away, or the server is stopping.
    #[error("the client went away")]
    Cancelled,
    /// The request used more processor time than one request may.
    #[error(
        "this request needs more than the {limit_secs} s of processor time one request may use; \
         ask for less at once (a shallow or a single-branch clone), or ask the administrator to raise git.cpu_budget_secs"
    )]
    CpuBudget {
        /// The limit, in seconds of processor time.
        limit_secs: u64,
    },
    /// The answer could not be sent.
    #[error("the answer could not be sent")]
    Output(#[source] io::Error),
}

/// Called by long work every few hundred objects; ends it by returning an error.
///
/// The caller checks the client and the budget in it, and keeps the connection alive.
pub type Tick<'a> = &'a mut dyn FnMut() -> Result<(), Stopped>;

/// One request's leave to work: it ends when the client disconnects or the processor time is used up.
///
/// Processor time is that of the thread that calls [`Work::check`] and of those that note theirs in
/// [`Work::other_threads`]; time spent waiting for a slow client costs nothing.
#[derive(Debug)]
pub struct Work {
    cancelled: Arc<AtomicBool>,
    cpu_budget: Option<Duration>,
    cpu_at_start: OnceLock<Duration>,
    other_threads: OtherThreads,
}

impl Work {
    /// `cancelled` is set from outside; `cpu_budget` of `None` is no limit.
    pub fn new(cancelled: Arc<AtomicBool>, cpu_budget: Option<Duration>) -> Self {
        Self {
            cancelled,
            cpu_budget,
            cpu_at_start: OnceLock::new(),
            other_threads: OtherThreads::default(),
        }
    }

    /// Work that nothing ends: for commands and tests.
    pub fn unlimited() -> Self {
        Self::new(Arc::default(), None)
    }

    /// Whether the work may go on. The first call starts the clock.
    ///
    /// # Errors
    /// [`Stopped::Cancelled`] or [`Stopped::CpuBudget`].
    pub fn check(&self) -> Result<(), Stopped> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        if let Some(budget) = self.cpu_budget {
            let now = thread_cpu_time();
            let start = *self.cpu_at_start.get_or_init(|| now);
            if now.saturating_sub(start) + self.other_threads.used() > budget {
                return Err(Stopped::CpuBudget {
                    limit_secs: budget.as_secs(),
                });
            }
        }
        Ok(())
    }

    /// Where threads that help with this request note their processor time.
    pub fn other_threads(&self) -> OtherThreads {
        self.other_threads.clone()
    }

    /// Whether the client is gone.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Processor time of the threads that help the one that answers a request.
#[derive(Clone, Debug, Default)]
pub struct OtherThreads(Arc<AtomicU64>);

impl OtherThreads {
    /// A clock for the calling thread, which starts now.
    pub fn clock(&self) -> ThreadClock {
        ThreadClock {
            used_nanos: self.0.clone(),
            noted: thread_cpu_time(),
        }
    }

    /// What all of them have noted.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Notes the processor time of one helping thread; must stay on it.
#[derive(Debug)]
pub struct ThreadClock {
    used_nanos: Arc<AtomicU64>,
    noted: Duration,
}

impl ThreadClock {
    /// Adds what this thread used since the last call.
    pub fn note(&mut self) {
        let now = thread_cpu_time();
        let used = now.saturating_sub(self.noted);
        self.noted = now;
        self.used_nanos
            .fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_uses_up_its_processor_time_is_told_the_limit() {
        let work = Work::new(Arc::default(), Some(Duration::from_millis(20)));
        let mut spins = 0_u64;

        let stopped = loop {
            spins = std::hint::black_box(spins + 1);
            if let Err(stopped) = work.check() {
                break stopped;
            }
        };

        assert!(matches!(stopped, Stopped::CpuBudget { limit_secs: 0 }));
    }

    #[test]
    fn what_helping_threads_use_counts() {
        let work = Work::new(Arc::default(), Some(Duration::from_millis(20)));
        assert!(work.check().is_ok());
        let others = work.other_threads();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut clock = others.clock();
                let mut spins = 0_u64;
                while others.used() <= Duration::from_millis(20) {
                    spins = std::hint::black_box(spins + 1);
                    clock.note();
                }
            });
        });

        assert!(matches!(work.check(), Err(Stopped::CpuBudget { .. })));
    }

    #[test]
    fn a_client_that_went_away_ends_the_work() {
        let gone = Arc::new(AtomicBool::new(false));
        let work = Work::new(gone.clone(), None);
        assert!(work.check().is_ok());

        gone.store(true, Ordering::Relaxed);

        assert!(matches!(work.check(), Err(Stopped::Cancelled)));
    }
}
