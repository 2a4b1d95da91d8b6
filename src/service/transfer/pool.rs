//! Turns: how much of one kind of work runs at once, first come first served.
//!
//! A turn stands for a processor, not for a connection: whoever waits for a slow client gives the
//! turn back meanwhile, so that four people on slow lines do not keep everybody else out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a client is told to wait before it tries again, in seconds.
pub(super) const RETRY_AFTER_SECS: u64 = 10;

/// A bounded number of turns.
#[derive(Debug)]
pub(super) struct Pool<K: Eq + Hash + Clone> {
    turns: Arc<Semaphore>,
    waiting: Callers<K>,
}

/// More requests wait, or run, than may: of all, or of this caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<K: Eq + Hash + Clone> Pool<K> {
    /// `turns` at once; `max_waiting` requests may wait, shared as [`Callers::sharing`] says.
    pub(super) fn new(turns: usize, max_waiting: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(turns.max(1))),
            waiting: Callers::sharing(max_waiting),
        }
    }

    /// A turn, or a place in the line of those who wait for one.
    ///
    /// # Errors
    /// [`Full`] if the line is, for this caller.
    pub(super) fn line_up(&self, caller: K) -> Result<Place<K>, Full> {
        if let Ok(permit) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(Place::Turn(Turn::new(&self.turns, permit)));
        }
        let place = self.waiting.admit(caller).ok_or(Full)?;
        Ok(Place::Waiting(place, Arc::clone(&self.turns)))
    }
}

/// What [`Pool::line_up`] gives. Dropped, it is free for others.
pub(super) enum Place<K: Eq + Hash> {
    /// It is this one's turn.
    Turn(Turn),
    /// It has to wait.
    Waiting(Admitted<K>, Arc<Semaphore>),
}

impl<K: Eq + Hash> Place<K> {
    /// Waits for the turn, behind everybody who waits already.
    ///
    /// # Errors
    /// [`Full`] when there will be no more turns.
    pub(super) async fn turn(self) -> Result<Turn, Full> {
        match self {
            Self::Turn(turn) => Ok(turn),
            Self::Waiting(_place, turns) => {
                let permit = Arc::clone(&turns).acquire_owned().await;
                Ok(Turn::new(&turns, permit.map_err(|_closed| Full)?))
            }
        }
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

/// What each caller has of something that is bounded: requests, threads, places in a line.
#[derive(Debug)]
pub(in crate::service) struct Callers<K: Eq + Hash + Clone> {
    held: Arc<Mutex<Held<K>>>,
    max_each: usize,
}

#[derive(Debug)]
struct Held<K> {
    of: HashMap<K, usize>,
    free: usize,
}

impl<K: Eq + Hash + Clone> Callers<K> {
    /// Each caller may have `max_each`, however many callers there are.
    pub(in crate::service) fn new(max_each: usize) -> Self {
        Self::bounded(usize::MAX, max_each)
    }

    /// There are `places` in all, and no caller may have more of them than are free: the more callers
    /// there are, the less each can take, and whoever has none finds one as long as there is one.
    pub(in crate::service) fn sharing(places: usize) -> Self {
        Self::bounded(places, usize::MAX)
    }

    fn bounded(free: usize, max_each: usize) -> Self {
        let of = HashMap::new();
        Self {
            held: Arc::new(Mutex::new(Held { of, free })),
            max_each,
        }
    }

    /// Counts one for `key` until the returned guard is dropped; `None` when it is one too many.
    pub(in crate::service) fn admit(&self, key: K) -> Option<Admitted<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let has = held.of.get(&key).copied().unwrap_or(0);
        if has >= self.max_each || has >= held.free {
            return None;
        }
        held.of.insert(key.clone(), has + 1);
        held.free -= 1;
        Some(Admitted {
            held: Arc::clone(&self.held),
            key,
        })
    }
}

/// One counted thing.
#[derive(Debug)]
pub(in crate::service) struct Admitted<K: Eq + Hash> {
    held: Arc<Mutex<Held<K>>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Admitted<K> {
    /// Who has it.
    pub(super) fn caller(&self) -> K {
        self.key.clone()
    }
}

impl<K: Eq + Hash> Drop for Admitted<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.free += 1;
        if let Some(count) = held.of.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.of.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Waits for a turn of `pool` as a caller of its own.
    async fn turn(pool: &Pool<u32>, caller: u32) -> Result<Turn, Full> {
        pool.line_up(caller)?.turn().await
    }

    #[tokio::test]
    async fn turns_are_given_in_the_order_of_asking() {
        let pool = Pool::new(1, 8);
        let first = turn(&pool, 1).await.expect("free");
        let mut second = Box::pin(turn(&pool, 2));
        let mut third = Box::pin(turn(&pool, 3));
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
        let mut slow = turn(&pool, 1).await.expect("free");
        slow.pause();
        let other = turn(&pool, 2).await.expect("given back");
        assert!(slow.resume().now_or_never().is_none());
        drop(other);
        slow.resume().await;
        assert!(turn(&pool, 3).now_or_never().is_none());
    }

    #[tokio::test]
    async fn when_too_many_wait_the_next_is_turned_away_at_once() {
        let pool = Pool::new(1, 1);
        let running = turn(&pool, 1).await.expect("free");
        let mut waiting = Box::pin(turn(&pool, 2));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(matches!(turn(&pool, 3).await, Err(Full)));

        // One that gave up waiting leaves its place to another.
        drop(waiting);
        let mut waiting = Box::pin(turn(&pool, 3));
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

    #[test]
    fn greedy_callers_leave_places_for_everybody_else() {
        let places = Callers::sharing(256);
        let mut taken = Vec::new();
        for _ in 0..64 {
            taken.extend((0..4).filter_map(|caller| places.admit(caller)));
        }
        assert!(taken.len() < 4 * 64, "four callers took all places");
        // Others come, each with one request, and find a place until all are taken.
        let free = 256 - taken.len();
        assert!(free >= 50, "{free}");
        taken.extend((0..free).map(|caller| places.admit(100 + caller).expect("a place")));
        assert!(places.admit(1000).is_none());

        taken.clear();
        let alone: Vec<_> = (0..200).map_while(|_| places.admit(1)).collect();
        assert_eq!(alone.len(), 128);
    }
}
