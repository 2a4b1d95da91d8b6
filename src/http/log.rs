//! The outermost layer: every request gets an id and, when its answer is through, one line.
//!
//! A line never holds a secret: of the headers only lengths and types are looked at, of the
//! address only the path. Errors become bodies here, since only here face and id are both known.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tracing::Instrument as _;
use uuid::Uuid;

use super::Web;
use super::client::Client;
use super::error::{Face, Problem};
use super::server::{Ambiguous, Peer};

/// Longest path that is repeated in a log line, in bytes.
const PATH_SHOWN_MAX_BYTES: usize = 300;

/// The name of one request, in log lines and in error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId(Uuid);

impl RequestId {
    fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// What becomes known about a request while it runs; in its extensions.
#[derive(Debug)]
pub(super) struct Facts {
    id: RequestId,
    pub(super) client: Client,
    method: Method,
    path: String,
    route: OnceLock<&'static str>,
    user: OnceLock<String>,
    repository: OnceLock<String>,
    started: Instant,
    bytes_in: AtomicU64,
}

impl Facts {
    /// Says which route answers; the first word counts.
    pub(super) fn route(&self, route: &'static str) {
        let _ = self.route.set(route);
    }

    /// Says who asks.
    pub(super) fn user(&self, name: impl fmt::Display) {
        let _ = self.user.set(name.to_string());
    }

    /// Says which repository it is about.
    pub(super) fn repository(&self, address: impl fmt::Display) {
        let _ = self.repository.set(address.to_string());
    }
}

/// Runs one request from its arrival to its log line.
pub(super) async fn observe(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let client = client_of(&web, peer, request.headers());
    // A path may hold letters of several bytes, and one of them may lie across the limit.
    let path = request.uri().path();
    let path = path[..path.floor_char_boundary(PATH_SHOWN_MAX_BYTES)].to_owned();
    let facts = Arc::new(Facts {
        id: RequestId::new(),
        client,
        method: request.method().clone(),
        path,
        route: OnceLock::new(),
        user: OnceLock::new(),
        repository: OnceLock::new(),
        started: Instant::now(),
        bytes_in: AtomicU64::new(0),
    });
    request.extensions_mut().insert(Arc::clone(&facts));
    let face = face_of(request.uri().path());
    let counted = Arc::clone(&facts);
    let request = request.map(|body| {
        Body::new(Counted {
            body,
            on_bytes: move |bytes| {
                counted.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            },
        })
    });

    let span = tracing::info_span!("request", request.id = %facts.id);
    // Until the body takes over, this writes the line of a client that went away.
    let mut line = Line {
        facts: Arc::clone(&facts),
        status: 0,
        bytes_out: 0,
        is_complete: false,
    };
    let response = match request.extensions().get::<Ambiguous>() {
        Some(_) => Ambiguous::problem().into_response(),
        None => next.run(request).instrument(span).await,
    };
    let response = match response.extensions().get::<Problem>() {
        Some(problem) => problem.render(face, &facts.id),
        None => response,
    };
    line.status = response.status().as_u16();
    response.map(|body| Body::new(Logged { body, line }))
}

fn client_of(web: &Web, peer: Option<Peer>, headers: &HeaderMap) -> Client {
    // Without a socket (a request made in process) nobody is trusted.
    let peer = peer.map_or_else(|| ([0, 0, 0, 0], 0).into(), |Peer(address)| address);
    let settings = &web.app.config.server;
    let tls = settings.tls_cert_file.is_some();
    Client::of(peer, tls, headers, &settings.trusted_proxies)
}

/// Programs that ask for states get JSON; whoever may be git, or a person, gets sentences.
fn face_of(path: &str) -> Face {
    // A git that was given an address under /api by mistake shows its person nothing but sentences.
    let is_git = ["/info/refs", "/git-upload-pack", "/git-receive-pack"]
        .iter()
        .any(|tail| path.ends_with(tail));
    if path.contains("/info/lfs") {
        return Face::Lfs;
    }
    let is_machine = path.starts_with("/api/") || matches!(path, "/livez" | "/readyz" | "/health" | "/metrics");
    if is_machine && !is_git { Face::Json } else { Face::Git }
}

/// The line of one request, written when it is dropped.
struct Line {
    facts: Arc<Facts>,
    /// 0: the client went away before there was an answer.
    status: u16,
    bytes_out: u64,
    is_complete: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        let facts = &self.facts;
        // Wider numbers are written as text, which no program can add up.
        let duration_ms = u64::try_from(facts.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let bytes_in = facts.bytes_in.load(Ordering::Relaxed);
        let route = facts.route.get().copied().unwrap_or("unknown");
        let user = facts.user.get().map_or("-", String::as_str);
        let repository = facts.repository.get().map_or("-", String::as_str);
        let (status, bytes_out, is_complete) = (self.status, self.bytes_out, self.is_complete);
        let (id, method, path) = (&facts.id, &facts.method, &facts.path);
        let address = facts.client.address;
        // Probes come every few seconds; only their failures are news.
        if matches!(route, "livez" | "readyz") && status == 200 {
            tracing::debug!(request.id = %id, route, status, "{method} {path}");
            return;
        }
        tracing::info!(
            request.id = %id, route, user, repository, client = %address, status,
            bytes_in, bytes_out, duration_ms, is_complete,
            "{method} {path} {status} in {duration_ms} ms"
        );
    }
}

/// A response body that ends with a log line.
struct Logged {
    body: Body,
    line: Line,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.line.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                // A body of known length is not polled again after its last piece.
                self.line.is_complete = self.body.is_end_stream();
            }
            Some(Err(_)) => self.line.is_complete = false,
            None => self.line.is_complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body whose bytes are counted.
struct Counted<F> {
    body: Body,
    on_bytes: F,
}

impl<F: FnMut(u64) + Unpin> HttpBody for Counted<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            (self.on_bytes)(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_hears_sentences_wherever_it_asks_and_programs_hear_json() {
        for path in [
            "/anna/song.git/info/refs",
            "/api/song.git/info/refs",
            "/api/song/git-receive-pack",
            "/",
        ] {
            assert_eq!(face_of(path), Face::Git, "{path}");
        }
        assert_eq!(face_of("/anna/song.git/info/lfs/objects/batch"), Face::Lfs);
        for path in ["/api/v1/repos", "/health", "/readyz"] {
            assert_eq!(face_of(path), Face::Json, "{path}");
        }
    }
}
