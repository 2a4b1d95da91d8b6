//! The accept loop: connections, their limits, and how they end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::connection::{Activity, Silences, Verdict, WatchedIo};
use super::error::Problem;
use super::guarded::Guarded;
use super::tls::{Tls, TlsError};
use crate::app::App;
use crate::service::push::RecoverError;

/// Longest request head, in bytes.
pub(super) const HEAD_MAX_BYTES: usize = 64 << 10;
/// Most header lines in a request.
const HEADERS_MAX: usize = 128;
/// HTTP/2 window of one stream, in bytes: with the default of 64 KiB a push over a line with
/// 50 ms of delay would never exceed 1.3 MB/s.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// HTTP/2 window of a whole connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// An HTTP/2 connection is asked whether it is alive this often, and has as long to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
/// TCP asks a silent peer whether it is alive after this time.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// A pause after the system refused a new connection (usually: out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long work may take to end after its connection was cut.
const WIND_UP: Duration = Duration::from_secs(10);

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS is configured but cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What the last run left behind cannot be settled.
    #[error("cannot settle what the last run left behind: {0}")]
    Recover(#[from] RecoverError),
    /// The listening socket is unusable.
    #[error("cannot use the listening socket: {0}")]
    Listener(std::io::Error),
}

/// How often the runtime looks at its timers, whatever they are set to.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The two ends of a connection, put into every request's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves `app` on `listener` until `shutdown` is cancelled.
///
/// From then on no connection is accepted and no further request is taken; running requests have
/// `server.drain_secs` to end, then they are cut. Returns when all is over.
///
/// # Errors
/// [`ServeError`] when it cannot start; nothing after that is fatal.
pub async fn serve(app: App, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
    let settings = app.config.server.clone();
    let local = listener.local_addr().map_err(ServeError::Listener)?;
    let tls = match (&settings.tls_cert_file, &settings.tls_key_file) {
        (Some(cert), Some(key)) => Some(Arc::new(Tls::open(cert, key)?)),
        _ => None,
    };
    // Before the first request: what this removes a running push would miss.
    app.pushes.recover().await?;
    let pushes = app.pushes.clone();
    let router = super::router(super::Web::new(app, local, shutdown.clone()));
    let endpoint = Arc::new(Endpoint {
        router,
        tls,
        silences: Silences {
            head: Duration::from_secs(settings.header_timeout_secs),
            idle: Duration::from_secs(settings.idle_timeout_secs),
        },
        shutdown: shutdown.clone(),
        cut: CancellationToken::new(),
    });

    let heartbeat = tokio::spawn(heartbeat());
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let connections = TaskTracker::new();
    loop {
        // A slot first: while there is none, new connections wait in the kernel's queue.
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                let endpoint = Arc::clone(&endpoint);
                connections.spawn(async move {
                    endpoint.connection(socket, peer).await;
                    drop(slot);
                });
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "No connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    drop(listener);
    heartbeat.abort();
    connections.close();
    let drain = Duration::from_secs(settings.drain_secs);
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "Transfers still running after {} s are cut",
            settings.drain_secs
        );
        endpoint.cut.cancel();
        connections.wait().await;
    }
    // What ran for those connections sees that they are gone; a push that is moving refs ends first.
    if tokio::time::timeout(WIND_UP, pushes.ended()).await.is_err() {
        tracing::warn!("Transfers are still running; the next start settles what they leave open");
    }
    Ok(())
}

/// Keeps the runtime's next timer near. One that is set for later than that costs nothing; one that would be
/// the next to go off wakes a thread that sleeps, and each request sets two.
async fn heartbeat() {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        beat.tick().await;
    }
}

/// What all connections share.
struct Endpoint {
    router: Router,
    tls: Option<Arc<Tls>>,
    silences: Silences,
    shutdown: CancellationToken,
    /// Cancelled when the drain time is over.
    cut: CancellationToken,
}

impl Endpoint {
    async fn connection(&self, socket: TcpStream, peer: SocketAddr) {
        // Both only make a connection better; a system that refuses them is no reason to hang up.
        let _ = socket.set_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE);
        let _ = socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive);

        match &self.tls {
            None => self.http(socket, peer).await,
            Some(tls) => {
                let tls = Arc::clone(tls);
                let handshake = async move {
                    let acceptor = tokio::task::spawn_blocking(move || tls.acceptor())
                        .await
                        .map_err(std::io::Error::other)?;
                    acceptor.accept(socket).await
                };
                tokio::select! {
                    done = tokio::time::timeout(self.silences.head, handshake) => match done {
                        Ok(Ok(socket)) => self.http(socket, peer).await,
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                    },
                    () = self.shutdown.cancelled() => {}
                }
            }
        }
    }

    async fn http<S>(&self, socket: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let io = TokioIo::new(WatchedIo::new(socket, Arc::clone(&activity)));
        let router = self.router.clone();
        let service = {
            let activity = Arc::clone(&activity);
            hyper::service::service_fn(move |request: Request<Incoming>| {
                answer(router.clone(), Arc::clone(&activity), peer, request)
            })
        };
        let builder = self.builder();
        let mut connection = pin!(builder.serve_connection(io, service));
        let tick =
            (self.silences.head.min(self.silences.idle) / 8).clamp(Duration::from_millis(20), Duration::from_secs(5));
        let mut finishing_since: Option<Instant> = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "Connection ended early");
                    }
                    return;
                }
                () = self.cut.cancelled() => return,
                () = self.shutdown.cancelled(), if finishing_since.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    finishing_since = Some(Instant::now());
                }
                () = tokio::time::sleep(tick) => {
                    match activity.verdict(self.silences, Instant::now()) {
                        Verdict::Keep => {}
                        Verdict::Drop => return,
                        Verdict::Finish => match finishing_since {
                            None => {
                                connection.as_mut().graceful_shutdown();
                                finishing_since = Some(Instant::now());
                            }
                            // Nothing runs and the peer still does not let go.
                            Some(since) if since.elapsed() >= self.silences.idle => return,
                            Some(_) => {}
                        }
                    }
                }
            }
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.silences.head)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_MAX_BYTES)
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_MAX_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        builder
    }
}

/// Hands one request to the router and keeps the connection busy until its answer is through.
async fn answer(
    router: Router,
    activity: Arc<Activity>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let running = activity.begin();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    if activity.is_ambiguous() {
        request.extensions_mut().insert(Ambiguous);
    }
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| Body::new(Guarded::new(body, running))))
}

/// Put into the extensions of requests on a connection where a head had both a length and chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ambiguous;

impl Ambiguous {
    /// The refusal.
    pub(super) fn problem() -> Problem {
        Problem::bad_request(
            "The request has both Content-Length and Transfer-Encoding, so its end is not clear. \
             Send one of them.",
        )
    }
}

/// Whether an error of `accept` is about the connection that came, not about accepting.
fn is_about_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
