//! One connection: what happens on it, and when it has been silent for too long.
//!
//! hyper limits how long a request head may take, but neither how long a new connection may say
//! nothing at all, nor how long the other side may refuse to read. Both are watched here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head_watch::HeadWatch;

/// What happened on a connection so far; shared by its socket, its requests and its watch.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    requests: AtomicU64,
    running: AtomicUsize,
    /// When the last request ended, in milliseconds after `opened`.
    last_ended_ms: AtomicU64,
    /// Since when the socket takes no more bytes, in milliseconds after `opened`, plus one; 0: it does.
    write_blocked_ms: AtomicU64,
    /// A request head had both a length and chunks.
    ambiguous: AtomicBool,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Leave it alone.
    Keep,
    /// Take no further request and close when the running ones are through.
    Finish,
    /// Close now.
    Drop,
}

/// The silences a connection may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silences {
    /// From opening to the first complete request head.
    pub(super) head: Duration,
    /// Between requests, and while an answer is not being read.
    pub(super) idle: Duration,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            last_ended_ms: AtomicU64::new(0),
            write_blocked_ms: AtomicU64::new(0),
            ambiguous: AtomicBool::new(false),
        })
    }

    /// Notes a request; it runs until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RunningRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::AcqRel);
        RunningRequest(Arc::clone(self))
    }

    /// Whether a request head on this connection had both a length and chunks.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Acquire)
    }

    /// What the silences up to `now` mean.
    pub(super) fn verdict(&self, silences: Silences, now: Instant) -> Verdict {
        let now_ms = self.ms_at(now);
        let passed = |since_ms: u64, limit: Duration| u128::from(now_ms.saturating_sub(since_ms)) >= limit.as_millis();
        let blocked_ms = self.write_blocked_ms.load(Ordering::Acquire);
        if blocked_ms > 0 && passed(blocked_ms - 1, silences.idle) {
            return Verdict::Drop;
        }
        if self.requests.load(Ordering::Relaxed) == 0 {
            return if passed(0, silences.head) {
                Verdict::Drop
            } else {
                Verdict::Keep
            };
        }
        if self.running.load(Ordering::Acquire) == 0
            && passed(self.last_ended_ms.load(Ordering::Acquire), silences.idle)
        {
            return Verdict::Finish;
        }
        Verdict::Keep
    }

    fn ms_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }
}

/// One request that runs on a connection.
#[derive(Debug)]
pub(super) struct RunningRequest(Arc<Activity>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0
            .last_ended_ms
            .store(self.0.ms_at(Instant::now()), Ordering::Release);
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A socket whose traffic is noted in an [`Activity`].
pub(super) struct WatchedIo<S> {
    inner: S,
    activity: Arc<Activity>,
    heads: HeadWatch,
}

impl<S> WatchedIo<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            activity,
            heads: HeadWatch::new(),
        }
    }

    fn note_write<T>(&self, outcome: &Poll<T>) {
        let blocked = &self.activity.write_blocked_ms;
        if outcome.is_ready() {
            blocked.store(0, Ordering::Release);
        } else {
            // Only the first refusal counts; later polls must not push the time forward.
            let now = self.activity.ms_at(Instant::now()) + 1;
            let _ = blocked.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if outcome.is_ready() && this.heads.feed(&buf.filled()[before..]) {
            this.activity.ambiguous.store(true, Ordering::Release);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.note_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.note_write(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCES: Silences = Silences {
        head: Duration::from_secs(30),
        idle: Duration::from_secs(120),
    };

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_connection_that_never_asks_is_dropped_after_the_head_time() {
        let activity = Activity::new();
        let at = |secs_later| activity.verdict(SILENCES, activity.opened + secs(secs_later));

        assert_eq!(at(29), Verdict::Keep);
        assert_eq!(at(30), Verdict::Drop);
    }

    #[test]
    fn an_idle_connection_is_finished_and_a_busy_one_never() {
        let activity = Activity::new();
        let request = activity.begin();
        let later = Instant::now() + secs(100_000);
        assert_eq!(activity.verdict(SILENCES, later), Verdict::Keep);

        drop(request);
        assert_eq!(activity.verdict(SILENCES, Instant::now()), Verdict::Keep);
        assert_eq!(activity.verdict(SILENCES, later), Verdict::Finish);
    }

    #[tokio::test]
    async fn a_reader_that_stops_reading_is_dropped() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let activity = Activity::new();
        let _request = activity.begin();
        let mut io = WatchedIo::new(ours, Arc::clone(&activity));
        let write =
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut io, b"more than eight bytes").await });
        tokio::task::yield_now().await;

        let now = Instant::now();
        assert_eq!(activity.verdict(SILENCES, now), Verdict::Keep);
        assert_eq!(activity.verdict(SILENCES, now + secs(121)), Verdict::Drop);
        write.abort();
    }
}
