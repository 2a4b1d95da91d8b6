//! Runs the Git machines: bounded, cancellable, and joined to a connection by streams.
//!
//! The functions of [`crate::git`] are synchronous and know neither sockets nor other requests. Each
//! runs on a thread of its own, which a [`conduit`] joins to the request's body and to the answer's
//! pieces. What bounds them:
//!
//! - each caller has a number of requests at once (`server.max_requests_per_caller`);
//! - lists of refs (`git.max_listings`), packs being built (`git.max_packs_building`), pushes being
//!   processed (`git.max_pushes`) and large files (`lfs.max_transfers`, `lfs.max_proofs`) take turns, first come first served; `git.max_waiting` may wait, the next
//!   hears "too busy";
//! - all of these, slow and waiting ones included, are bounded (`server.max_transfers`), and the more callers
//!   there are, the fewer of them each may have;
//! - processor time of one request (`git.cpu_budget_secs`) and silence of its client
//!   (`server.idle_timeout_secs`); never the length of a transfer;
//! - an answer nobody reads stops its work: dropping [`Answer`] cancels it.

pub(super) mod coding;
mod conduit;
mod error;
mod opened;
pub(super) mod pool;
pub(super) mod spool;

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::git::snapshot::{OpenError, Repository};
use crate::git::upload_pack::{AnswerLimits, Answers};
use crate::git::work::Work;
use crate::ids::UserId;

pub use crate::git::upload_pack::Protocol;
pub use coding::Coding;
pub use conduit::{Answer, BodyStream};
pub use error::TransferError;

use conduit::{BodyReader, PIECES_IN_FLIGHT, PieceWriter, Waits};
use opened::OpenRepositories;
use pool::{Admitted, Callers, Full, Place, Pool, RETRY_AFTER_SECS};

/// How long an answer's status waits for its first byte once the request has been read, so that a
/// refusal can still have a status of its own. Then the headers go out, whatever comes, even if it is not
/// this one's turn yet. Not before: proxies and clients take an answer that comes while they are sending
/// for the end of it. More cannot be said in between: there are no side bands before the pack, unless the
/// request, which nobody has understood yet, asks for them.
const FIRST_BYTE_WAIT: Duration = Duration::from_secs(2);

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerKey {
    /// Somebody who is signed in.
    User(UserId),
    /// A stranger: the address, of IPv6 the network of one subscriber.
    Address(IpAddr),
}

impl CallerKey {
    /// The key of a stranger.
    pub fn stranger(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let subscriber = u128::from(v6) & !u128::from(u64::MAX);
                IpAddr::V6(subscriber.into())
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// A request body as it comes.
pub struct Incoming {
    /// Its pieces.
    pub body: BodyStream,
    /// How they are coded.
    pub coding: Coding,
}

/// Runs transfers. Cheap to clone.
#[derive(Clone)]
pub struct Transfer {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Settings>,
    tmp_dir: PathBuf,
    listings: Pool<CallerKey>,
    packs: Pool<CallerKey>,
    pushes: Pool<CallerKey>,
    large_files: Pool<CallerKey>,
    proofs: Pool<CallerKey>,
    threads: Callers<CallerKey>,
    callers: Callers<CallerKey>,
    running: TaskTracker,
    repositories: OpenRepositories,
}

/// Which turns a transfer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lists refs.
    Listing,
    /// Builds a pack.
    Pack,
    /// Takes in a push.
    Push,
    /// Takes in or gives a large file.
    LargeFile,
    /// Proves a large file whose chunks have come.
    Proof,
}

/// What the work of one transfer has at hand.
pub(super) struct Tools<'a> {
    pub(super) work: &'a Work,
    pub(super) input: &'a mut dyn Read,
    pub(super) output: &'a mut dyn Write,
}

impl Transfer {
    /// `tmp_dir` is a folder for files that nobody needs after a restart.
    pub fn new(config: Arc<Settings>, tmp_dir: &Path) -> Self {
        let (git, server) = (&config.git, &config.server);
        let answers = Answers::new(&AnswerLimits {
            memory_bytes: git.answer_cache_bytes / 2,
            disk_bytes: git.pack_cache_bytes,
            folder: tmp_dir.to_owned(),
        });
        Self {
            inner: Arc::new(Inner {
                tmp_dir: tmp_dir.to_owned(),
                listings: Pool::new(git.max_listings, git.max_waiting),
                packs: Pool::new(git.max_packs_building, git.max_waiting),
                pushes: Pool::new(git.max_pushes, git.max_waiting),
                large_files: Pool::new(config.lfs.max_transfers, config.lfs.max_waiting),
                proofs: Pool::new(config.lfs.max_proofs, config.lfs.max_waiting),
                threads: Callers::sharing(server.max_transfers),
                callers: Callers::new(server.max_requests_per_caller),
                running: TaskTracker::new(),
                repositories: OpenRepositories::new(config.repo.max_open, answers),
                config,
            }),
        }
    }

    /// The open repository at `path`. May block.
    pub(super) fn open(&self, path: &Path, trust: bool) -> Result<Arc<Repository>, TransferError> {
        let opened = self.inner.repositories.get(path, trust);
        opened.map_err(|cause| match *cause {
            OpenError::NotARepository(_) if !path.exists() => TransferError::Gone { path: path.to_owned() },
            _ => TransferError::Open {
                path: path.to_owned(),
                cause,
            },
        })
    }

    /// Forgets an open repository: it was removed, or stands for something else now.
    pub fn forget(&self, path: &Path) {
        self.inner.repositories.forget(path);
    }

    /// Waits until nothing runs any more. Only for the end of the server: no transfer may begin
    /// meanwhile.
    pub async fn ended(&self) {
        self.inner.running.close();
        self.inner.running.wait().await;
    }

    /// Whether anything runs now.
    pub(super) fn is_busy(&self) -> bool {
        !self.inner.running.is_empty()
    }

    /// How long a client may be silent.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_secs(self.inner.config.server.idle_timeout_secs)
    }

    /// Where files go that nobody needs after a restart.
    pub(super) fn tmp_dir(&self) -> &Path {
        &self.inner.tmp_dir
    }

    /// The settings.
    pub(super) fn config(&self) -> &Settings {
        &self.inner.config
    }

    /// Counts a request of `caller` for as long as the guard lives.
    pub(super) fn admit(&self, caller: CallerKey) -> Result<AdmittedRequest, TransferError> {
        let admitted = self.inner.callers.admit(caller);
        admitted.map(AdmittedRequest).ok_or(TransferError::TooMany {
            limit: self.inner.config.server.max_requests_per_caller,
            retry_after_secs: RETRY_AFTER_SECS,
        })
    }

    /// Runs `work` on a thread of its own when its turn has come, and answers with what it writes.
    ///
    /// Whether there is room is known at once. An error before the first byte is returned; after it, or
    /// after a long wait, the log gets it and `errors` says how the client learns of it.
    pub(super) async fn run<W>(
        &self,
        kind: Kind,
        errors: Errors,
        admitted: AdmittedRequest,
        body: Option<BodyStream>,
        work: W,
    ) -> Result<Answer, TransferError>
    where
        W: FnOnce(Tools<'_>) -> Result<(), TransferError> + Send + 'static,
    {
        let caller = admitted.0.caller();
        let thread = self.inner.threads.admit(caller).ok_or(Full)?;
        let place = self.inner.pool(kind).line_up(caller)?;

        let stop = StopWork::default();
        let (pieces, mut answer) = mpsc::channel(PIECES_IN_FLIGHT);
        let (tell, told) = oneshot::channel();
        let (tell_read, is_read) = oneshot::channel();
        let budget = Duration::from_secs(self.inner.config.git.cpu_budget_secs);
        let (flag, cancelled) = (Arc::clone(&stop.flag), stop.token.clone());
        // What says that a large file has arrived must not be said before it has.
        let says_at_the_end = kind == Kind::LargeFile && body.is_some();
        let body = body.unwrap_or_else(|| futures::stream::empty().boxed());
        let tell_read = (kind == Kind::Push).then_some(tell_read);
        let silence = self.silence();
        let span = tracing::Span::current();
        let handle = Handle::current();
        let job = move |turn: pool::Turn| {
            let _in_span = span.enter();
            let run = Run {
                work: Work::new(flag, Some(budget)),
                cancelled: cancelled.clone(),
                silence,
                turn,
                pieces: pieces.clone(),
                body,
                tell_read,
            };
            let in_thread = AssertUnwindSafe(|| run.finish(handle.clone(), errors, work));
            let outcome = std::panic::catch_unwind(in_thread).unwrap_or_else(|_panic| {
                tracing::error!("A transfer panicked");
                Outcome::Cut(TransferError::Crashed)
            });
            // While this is said the thread waits for nobody but the client.
            let say = |piece| {
                let said = tokio::time::timeout(silence, pieces.send(piece));
                drop(handle.block_on(said));
            };
            let cut = match outcome {
                Outcome::Done => {
                    drop(tell.send(Ok(())));
                    None
                }
                Outcome::Told(error) => {
                    drop(tell.send(Ok(())));
                    Some((error, false))
                }
                // If the status is out already the answer can only be broken off, or tell the refusal itself.
                Outcome::Unsent(error) => match tell.send(Err(error)) {
                    Err(Err(error)) => {
                        let told = match errors {
                            Errors::InStream if kind != Kind::Push => Answer::refusal(&error),
                            _ => None,
                        };
                        let is_cut = told.is_none();
                        if let Some(told) = told {
                            say(Ok(told));
                        }
                        Some((error, is_cut))
                    }
                    _ => None,
                },
                Outcome::Cut(error) => Some((error, true)),
            };
            if let Some((error, is_cut)) = cut {
                note(&span, &error);
                if is_cut {
                    say(Err(io::Error::other("the answer was broken off")));
                }
            }
        };
        match place {
            // Straight to the thread: a task in between costs two more changes of threads.
            Place::Turn(turn) => {
                self.inner.running.spawn_blocking(move || {
                    let _counted = (admitted, thread);
                    job(turn);
                });
            }
            waiting @ Place::Waiting(..) => {
                let gone = stop.token.clone();
                let running = self.inner.running.clone();
                self.inner.running.spawn(async move {
                    let turn = tokio::select! {
                        turn = waiting.turn() => turn,
                        // Nobody is there to be told.
                        () = gone.cancelled() => return,
                    };
                    // There are turns until the server has ended.
                    if let Ok(turn) = turn {
                        running.spawn_blocking(move || {
                            let _counted = (admitted, thread);
                            job(turn);
                        });
                    }
                });
            }
        }

        let mut told = told;
        tokio::select! {
            biased;
            first = answer.recv() => match first {
                Some(Ok(first)) => return Ok(Answer::new(Some(first), answer, stop)),
                Some(Err(_)) => return Err(TransferError::Crashed),
                None => {}
            },
            outcome = &mut told => {
                outcome.map_err(|_| TransferError::Crashed)??;
                return Ok(Answer::new(None, answer, stop));
            }
            () = async { drop(is_read.await); tokio::time::sleep(FIRST_BYTE_WAIT).await }, if !says_at_the_end => {
                return Ok(Answer::new(None, answer, stop));
            }
        }
        // Nothing was written, and nothing will be.
        told.await.map_err(|_| TransferError::Crashed)??;
        Ok(Answer::new(None, answer, stop))
    }
}

impl Transfer {
    /// Runs `work` for an admitted request on a thread of its own when its turn has come, and gives what it
    /// gives; the request stays admitted. When nobody waits for that any more, its [`Work`] is cancelled.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        kind: Kind,
        admitted: AdmittedRequest,
        work: impl FnOnce(&Work) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<(T, AdmittedRequest), TransferError> {
        let turn = self.inner.pool(kind).line_up(admitted.0.caller())?.turn().await?;
        let stop = StopWork::default();
        let budget = Duration::from_secs(self.inner.config.git.cpu_budget_secs);
        let leave = Work::new(Arc::clone(&stop.flag), Some(budget));
        let span = tracing::Span::current();
        let done = self.inner.running.spawn_blocking(move || {
            let _turn = turn;
            let _in_span = span.enter();
            work(&leave).map(|made| (made, admitted))
        });
        done.await.unwrap_or(Err(TransferError::Crashed))
    }
}

impl Inner {
    fn pool(&self, kind: Kind) -> &Pool<CallerKey> {
        match kind {
            Kind::Listing => &self.listings,
            Kind::Pack => &self.packs,
            Kind::Push => &self.pushes,
            Kind::LargeFile => &self.large_files,
            Kind::Proof => &self.proofs,
        }
    }
}

/// One running request of a caller, counted as long as this lives.
pub struct AdmittedRequest(Admitted<CallerKey>);

/// How the work of a transfer ended.
enum Outcome {
    /// Well.
    Done,
    /// With an error that the client hears in the stream, or that is the client's absence.
    Told(TransferError),
    /// With an error, before anything was sent.
    Unsent(TransferError),
    /// With an error that only a broken answer can tell.
    Cut(TransferError),
}

/// Where errors go that come after the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errors {
    /// The work itself writes them into its answer.
    InStream,
    /// The answer breaks off.
    BreakOff,
}

/// One transfer, ready for its thread.
struct Run {
    work: Work,
    cancelled: CancellationToken,
    silence: Duration,
    turn: pool::Turn,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    body: BodyStream,
    /// Told when the body has been read to its end; dropped at once if there is none.
    tell_read: Option<oneshot::Sender<()>>,
}

impl Run {
    /// Runs to the end.
    fn finish<W>(self, handle: Handle, errors: Errors, work: W) -> Outcome
    where
        W: FnOnce(Tools<'_>) -> Result<(), TransferError>,
    {
        let waits = Waits::new(handle, self.silence, self.cancelled, self.turn);
        let mut input = BodyReader::new(self.body, self.tell_read, waits.clone());
        let mut output = PieceWriter::new(self.pieces, waits);
        let outcome = work(Tools {
            work: &self.work,
            input: &mut input,
            output: &mut output,
        });
        match (outcome, errors) {
            (Ok(()), _) => match output.flush() {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Told(TransferError::Answer(error)),
            },
            (Err(error), Errors::InStream) if output.has_written() => {
                // Whether this last piece arrives or not, there is nothing more to say.
                let _ = output.flush();
                Outcome::Told(error)
            }
            (Err(error), _) if output.take_back() => Outcome::Unsent(error),
            (Err(error), _) => Outcome::Cut(error),
        }
    }
}

/// Stops the work when dropped: nobody wants its answer any more.
#[derive(Default)]
pub(super) struct StopWork {
    flag: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Drop for StopWork {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Release);
        self.token.cancel();
    }
}

/// Whether the repository's own configuration has switched a service off.
pub(super) fn check_switch(switch: Option<bool>, what: &'static str) -> Result<(), TransferError> {
    match switch {
        Some(false) => Err(TransferError::SwitchedOff(what)),
        Some(true) | None => Ok(()),
    }
}

/// The repository as it is now. May block.
pub(super) fn snapshot(repository: &Repository) -> Result<Arc<crate::git::snapshot::Snapshot>, TransferError> {
    repository.snapshot().map_err(|cause| TransferError::Open {
        path: repository.path().to_owned(),
        cause: Arc::new(cause),
    })
}

/// Logs how a client calls its session, if it does, and itself.
pub(super) fn note_session(session_id: Option<&str>, agent: Option<&str>) {
    if let Some(session_id) = session_id {
        let agent = agent.unwrap_or("-");
        tracing::info!(
            client.session_id = session_id,
            client.agent = agent,
            "A client told the id of its session"
        );
    }
}

/// Logs an error that the client heard of, if at all, in the stream.
fn note(span: &tracing::Span, error: &TransferError) {
    let cause = error as &(dyn std::error::Error + 'static);
    if error.is_ours() {
        tracing::error!(parent: span, error = cause, "A transfer failed: {error}");
    } else {
        tracing::info!(parent: span, error = cause, "A transfer ended early: {error}");
    }
}
