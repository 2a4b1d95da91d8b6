//! Turns: how much of one kind of work runs at once, first come first served.
//!
//! A turn stands for a processor, not for a connection: whoever waits for a slow client gives the
//! turn back meanwhile, so that four people on slow lines do not keep everybody else out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a client is told to wait before it tries again, in seconds.
pub(super) const RETRY_AFTER_SECS: u64 = 10;

/// A bounded number of turns.
#[derive(Debug)]
pub(super) struct Pool {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// More requests wait than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Pool {
    pub(super) fn new(turns: usize, max_waiting: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(turns.max(1))),
            waiting: AtomicUsize::new(0),
            max_waiting,
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Full`] at once when `max_waiting` others wait already.
    pub(super) async fn turn(&self) -> Result<Turn, Full> {
        if let Ok(permit) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(Turn::new(&self.turns, permit));
        }
        let _place = Place::take(&self.waiting, self.max_waiting)?;
        let permit = Arc::clone(&self.turns).acquire_owned().await;
        Ok(Turn::new(&self.turns, permit.map_err(|_closed| Full)?))
    }
}

/// A place among those who wait; given back when the waiting ends, however it ends.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Result<Self, Full> {
        let taken = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now < max).then_some(now + 1)
        });
        taken.map(|_| Self(waiting)).map_err(|_| Full)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to work now.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    fn new(turns: &Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            turns: Arc::clone(turns),
            permit: Some(permit),
        }
    }

    /// Lets somebody else work while this one waits for its client.
    pub(super) fn pause(&mut self) {
        self.permit = None;
    }

    /// Waits, behind everybody who waits already, to work again.
    pub(super) async fn resume(&mut self) {
        if self.permit.is_none() {
            self.permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        }
    }
}

/// How many requests of each caller run.
#[derive(Debug)]
pub(in crate::service) struct Callers<K: Eq + Hash + Clone> {
    running: Arc<Mutex<HashMap<K, usize>>>,
    max_each: usize,
}

impl<K: Eq + Hash + Clone> Callers<K> {
    pub(in crate::service) fn new(max_each: usize) -> Self {
        Self {
            running: Arc::default(),
            max_each,
        }
    }

    /// Counts a request of `key` until the returned guard is dropped; `None` when it is one too many.
    pub(in crate::service) fn admit(&self, key: K) -> Option<Admitted<K>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(key.clone()).or_default();
        if *count >= self.max_each {
            return None;
        }
        *count += 1;
        Some(Admitted {
            running: Arc::clone(&self.running),
            key,
        })
    }
}

/// One counted request.
#[derive(Debug)]
pub(in crate::service) struct Admitted<K: Eq + Hash> {
    running: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Eq + Hash> Drop for Admitted<K> {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn turns_are_given_in_the_order_of_asking() {
        let pool = Pool::new(1, 8);
        let first = pool.turn().await.expect("free");
        let mut second = Box::pin(pool.turn());
        let mut third = Box::pin(pool.turn());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());

        drop(first);
        assert!((&mut third).now_or_never().is_none());
        let second = second.await.expect("next in line");
        drop(second);
        third.await.expect("last in line");
    }

    #[tokio::test]
    async fn one_who_waits_for_a_slow_client_lets_others_work() {
        let pool = Pool::new(1, 8);
        let mut slow = pool.turn().await.expect("free");
        slow.pause();
        let other = pool.turn().await.expect("given back");
        assert!(slow.resume().now_or_never().is_none());
        drop(other);
        slow.resume().await;
        assert!(pool.turn().now_or_never().is_none());
    }

    #[tokio::test]
    async fn when_too_many_wait_the_next_is_turned_away_at_once() {
        let pool = Pool::new(1, 1);
        let running = pool.turn().await.expect("free");
        let mut waiting = Box::pin(pool.turn());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(matches!(pool.turn().await, Err(Full)));

        // One that gave up waiting leaves its place to another.
        drop(waiting);
        let mut waiting = Box::pin(pool.turn());
        assert!((&mut waiting).now_or_never().is_none());
        drop(running);
        waiting.await.expect("its turn came");
    }

    #[test]
    fn a_caller_has_a_bounded_number_of_requests_and_others_are_unharmed() {
        let callers = Callers::new(2);
        let one = callers.admit("anna").expect("first");
        let _two = callers.admit("anna").expect("second");
        assert!(callers.admit("anna").is_none());
        assert!(callers.admit("ben").is_some());
        drop(one);
        assert!(callers.admit("anna").is_some());
    }
}
