//! The one writer: a task that owns the writing connection and puts operations that wait at the
//! same time into one transaction.
//!
//! A commit costs a flush to disk, which is milliseconds; an operation costs microseconds. So the
//! task takes everything that waits, runs each operation in a SAVEPOINT of its own within one
//! `BEGIN IMMEDIATE`, commits once, and only then answers everybody. An operation that fails is
//! rolled back to its savepoint and harms nobody else. The queue is bounded: when it is full,
//! callers wait to get in.
//!
//! `IMMEDIATE`, because a transaction that reads first and writes later fails at once when another
//! process wrote in between; this one waits its turn instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::error::DbError;

/// Operations that may wait; further callers wait before the queue.
const QUEUE_OPS: usize = 1024;

/// Most operations in one transaction: a bound on how long the first one waits for its answer.
const GROUP_OPS: usize = 256;

/// What a write operation works with.
pub(super) struct WriteTx<'c> {
    /// The writing connection, within a transaction.
    pub conn: &'c mut SqliteConnection,
    /// The time of this operation, in microseconds since 1970.
    pub now_us: i64,
}

/// The sending side of the queue.
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    commits: Arc<AtomicU64>,
}

enum Message {
    Run(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// One operation with its caller, whatever the type of its answer.
trait Job: Send {
    /// Runs the operation and keeps its result; `false` if it failed.
    fn run<'c>(&'c mut self, tx: WriteTx<'c>) -> BoxFuture<'c, bool>;
    /// Tells the caller: the kept result if `commit` succeeded or the operation itself had failed.
    fn answer(self: Box<Self>, commit: Result<(), DbError>);
}

struct TypedJob<T, F> {
    op: Option<F>,
    result: Option<Result<T, DbError>>,
    caller: oneshot::Sender<Result<T, DbError>>,
}

impl<T, F> Job for TypedJob<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(WriteTx<'c>) -> BoxFuture<'c, Result<T, DbError>> + Send + 'static,
{
    fn run<'c>(&'c mut self, tx: WriteTx<'c>) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            let Some(op) = self.op.take() else {
                return false;
            };
            let result = op(tx).await;
            let kept = result.is_ok();
            self.result = Some(result);
            kept
        })
    }

    fn answer(self: Box<Self>, commit: Result<(), DbError>) {
        let answer = match (self.result, commit) {
            (Some(Err(failed)), _) => Err(failed),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(failed)) => Err(failed),
            (None, Ok(())) => Err(DbError::Closed),
        };
        // A caller that has gone away does not mind.
        let _ = self.caller.send(answer);
    }
}

impl Writer {
    /// Starts the task on the current tokio runtime. It ends when the last sender is gone.
    pub fn start(connection: SqliteConnection, options: SqliteConnectOptions, clock: Clock) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_OPS);
        let commits = Arc::new(AtomicU64::new(0));
        let task = Task {
            connection: Some(connection),
            options,
            clock,
            commits: commits.clone(),
        };
        tokio::spawn(task.run(waiting));
        Self { queue, commits }
    }

    /// Queues `op` and returns its result once its transaction is durable.
    pub async fn run<T, F>(&self, op: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(WriteTx<'c>) -> BoxFuture<'c, Result<T, DbError>> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        self.queue
            .send(Message::Run(Box::new(job(op, caller))))
            .await
            .map_err(|_| DbError::Closed)?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    /// Queues `op` if there is room and does not wait for it: for writes that may be lost.
    pub fn run_later<F>(&self, op: F) -> Result<(), DbError>
    where
        F: for<'c> FnOnce(WriteTx<'c>) -> BoxFuture<'c, Result<(), DbError>> + Send + 'static,
    {
        let (caller, _) = oneshot::channel();
        self.queue
            .try_send(Message::Run(Box::new(job(op, caller))))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => DbError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => DbError::Closed,
            })
    }

    /// Lets what is queued finish, then closes the connection.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    pub fn commit_count(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

fn job<T, F>(op: F, caller: oneshot::Sender<Result<T, DbError>>) -> TypedJob<T, F> {
    TypedJob {
        op: Some(op),
        result: None,
        caller,
    }
}

struct Task {
    /// `None` after a transaction broke in a way that leaves the connection's state unknown.
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    clock: Clock,
    commits: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
        let mut closer = None;
        while closer.is_none()
            && let Some(first) = waiting.recv().await
        {
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Run(job) => group.push(job),
                    Message::Close(done) => {
                        waiting.close();
                        closer = Some(done);
                    }
                }
                next = if group.len() < GROUP_OPS {
                    waiting.try_recv().ok()
                } else {
                    None
                };
            }
            self.run_group(group).await;
        }
        // Callers that got into the queue beside the close.
        while let Some(message) = waiting.recv().await {
            match message {
                Message::Run(job) => self.run_group(vec![job]).await,
                Message::Close(done) => drop(done),
            }
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "The database did not close cleanly");
        }
        if let Some(done) = closer {
            let _ = done.send(());
        }
    }

    async fn run_group(&mut self, mut group: Vec<Box<dyn Job>>) {
        if group.is_empty() {
            return;
        }
        let commit = self.transaction(&mut group).await;
        match &commit {
            Ok(()) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
            }
            // Closing the connection rolls back whatever is still open on it.
            Err(_) => self.connection = None,
        }
        for job in group {
            job.answer(commit.clone());
        }
    }

    async fn transaction(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), DbError> {
        let conn = match &mut self.connection {
            Some(conn) => conn,
            none => none.insert(self.options.connect().await?),
        };
        conn.execute("BEGIN IMMEDIATE").await?;
        for job in group.iter_mut() {
            conn.execute("SAVEPOINT operation").await?;
            let tx = WriteTx {
                conn: &mut *conn,
                now_us: self.clock.now_us(),
            };
            if !job.run(tx).await {
                conn.execute("ROLLBACK TO operation").await?;
            }
            conn.execute("RELEASE operation").await?;
        }
        conn.execute("COMMIT").await?;
        Ok(())
    }
}
