//! Between a thread that reads and writes and a connection that does neither at once.
//!
//! The Git machines are synchronous: they see a `Read` and a `Write`. Behind these stand a stream of
//! request pieces and a bounded channel of answer pieces. Waiting gives the [`Turn`] back and is
//! bounded by silence, never by the whole length of a transfer.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::pool::Turn;
use super::{StopWork, TransferError};
use crate::git::pkt_line::PktWriter;

/// Size of one piece of an answer, in bytes. Each piece wakes the connection once.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// Room for the first piece at first, in bytes: most answers are short.
const FIRST_PIECE_BYTES: usize = 4 << 10;
/// Pieces that wait to be sent.
pub(super) const PIECES_IN_FLIGHT: usize = 4;
/// Bytes that were written are sent after this time even if they fill no piece.
const LINGER: Duration = Duration::from_millis(500);

/// The pieces of a request body.
pub type BodyStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What waiting needs: shared by the two ends of one conduit, on the one thread that uses them.
#[derive(Clone)]
pub(super) struct Waits {
    handle: Handle,
    silence: Duration,
    cancelled: CancellationToken,
    turn: Rc<RefCell<Turn>>,
}

impl Waits {
    pub(super) fn new(handle: Handle, silence: Duration, cancelled: CancellationToken, turn: Turn) -> Self {
        Self {
            handle,
            silence,
            cancelled,
            turn: Rc::new(RefCell::new(turn)),
        }
    }

    /// Waits for the client, without holding the turn.
    fn wait<T>(&self, what: &'static str, event: impl Future<Output = T>) -> io::Result<T> {
        let mut turn = self.turn.borrow_mut();
        turn.pause();
        self.handle.block_on(async {
            let outcome = tokio::select! {
                biased;
                () = self.cancelled.cancelled() => return Err(gone()),
                outcome = tokio::time::timeout(self.silence, event) => outcome,
            };
            let outcome = outcome.map_err(|_| {
                let secs = self.silence.as_secs();
                io::Error::new(io::ErrorKind::TimedOut, format!("the client {what} for {secs} s"))
            })?;
            tokio::select! {
                () = turn.resume() => Ok(outcome),
                () = self.cancelled.cancelled() => Err(gone()),
            }
        })
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")
}

/// A request body as a `Read`.
pub(super) struct BodyReader {
    body: BodyStream,
    piece: Bytes,
    is_ended: bool,
    /// Told when the body has been read to its end.
    tell_end: Option<oneshot::Sender<()>>,
    waits: Waits,
}

impl BodyReader {
    pub(super) fn new(body: BodyStream, tell_end: Option<oneshot::Sender<()>>, waits: Waits) -> Self {
        Self {
            body,
            piece: Bytes::new(),
            is_ended: false,
            tell_end,
            waits,
        }
    }

    fn end(&mut self) {
        self.is_ended = true;
        // Whoever waits for it notices both the word and the silence.
        if let Some(tell) = self.tell_end.take() {
            let _ = tell.send(());
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.is_ended || buf.is_empty() {
                return Ok(0);
            }
            let next = match self.body.next().now_or_never() {
                Some(next) => next,
                None => match self.waits.wait("sent nothing", self.body.next()) {
                    Ok(next) => next,
                    Err(error) => {
                        self.end();
                        return Err(error);
                    }
                },
            };
            match next {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    self.end();
                    return Err(error);
                }
                None => self.end(),
            }
        }
        let count = buf.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buf[..count]);
        Ok(count)
    }
}

/// An answer as a `Write`: pieces of [`PIECE_BYTES`], or less at a flush.
pub(super) struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    waits: Waits,
    last_sent: Instant,
    sent_bytes: u64,
}

impl PieceWriter {
    pub(super) fn new(pieces: mpsc::Sender<io::Result<Bytes>>, waits: Waits) -> Self {
        Self {
            pieces,
            buffer: BytesMut::with_capacity(FIRST_PIECE_BYTES),
            waits,
            last_sent: Instant::now(),
            sent_bytes: 0,
        }
    }

    /// Whether anything has been given to the connection, or is about to be.
    pub(super) fn has_written(&self) -> bool {
        self.sent_bytes > 0 || !self.buffer.is_empty()
    }

    /// Forgets what was written and not sent; true when nothing at all was sent.
    pub(super) fn take_back(&mut self) -> bool {
        self.buffer.clear();
        self.sent_bytes == 0
    }

    fn send_piece(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.buffer.reserve(PIECE_BYTES);
        self.sent_bytes += piece.len() as u64;
        self.last_sent = Instant::now();
        match self.pieces.try_send(Ok(piece)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone()),
            Err(mpsc::error::TrySendError::Full(piece)) => self
                .waits
                .wait("read nothing", self.pieces.send(piece))?
                .map_err(|_closed| gone()),
        }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() >= PIECE_BYTES || self.last_sent.elapsed() >= LINGER {
            self.send_piece()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_piece()
    }
}

/// An answer on its way: its pieces, and the end of the work when nobody wants them any more.
pub struct Answer {
    first: Option<Bytes>,
    rest: mpsc::Receiver<io::Result<Bytes>>,
    _stop_work: StopWork,
}

impl Answer {
    pub(super) fn new(first: Option<Bytes>, rest: mpsc::Receiver<io::Result<Bytes>>, stop_work: StopWork) -> Self {
        Self {
            first,
            rest,
            _stop_work: stop_work,
        }
    }

    /// An answer that is known already.
    pub(in crate::service) fn whole(bytes: impl Into<Bytes>) -> Self {
        let (_, rest) = mpsc::channel(1);
        Self::new(Some(bytes.into()), rest, StopWork::default())
    }

    /// The answer to a fetch that tells the refusal in the protocol, with status 200.
    ///
    /// # Errors
    /// `error` itself if it is none for the person at the client.
    pub fn refused_fetch(error: TransferError) -> Result<Self, TransferError> {
        let Some(told) = Self::refusal(&error) else {
            return Err(error);
        };
        tracing::info!(%error, "A fetch was refused: {error}");
        Ok(Self::whole(told))
    }

    /// The body of an answer to a fetch that tells `error`; `None` if it is none for the person at the client.
    pub(super) fn refusal(error: &TransferError) -> Option<Bytes> {
        if !error.is_refusal() {
            return None;
        }
        let mut bytes = Vec::new();
        let mut out = PktWriter::new(&mut bytes);
        let written = out.error(&error.to_string()).and_then(|()| out.flush_out());
        drop(out);
        written.is_ok().then(|| bytes.into())
    }
}

impl Stream for Answer {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.rest.poll_recv(cx),
        }
    }
}
