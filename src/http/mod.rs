//! The HTTP server: the only module that knows axum and status codes.
//!
//! ```text
//! server ── connection, head_watch, tls    sockets: limits, silence, certificates
//!   └─ log                                 request id, one line per request, errors become bodies
//!       └─ routes                          git · health · pages
//!            access                        sign-in, repository and right, in one step
//! ```
//!
//! A handler extracts, calls one function of `service` and shapes the answer.

mod access;
mod api_compare;
mod api_locks;
mod client;
mod connection;
mod drain;
mod error;
mod file;
mod git;
mod guarded;
mod head_watch;
mod headers;
mod health;
mod lfs;
mod lfs_chunked;
mod lfs_locks;
mod log;
mod pages;
mod path;
mod server;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get};
use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use error::Problem;

use crate::app::App;

pub use server::{ServeError, serve};
pub use tls::{TlsError, check_certificate};

/// What every handler can reach.
#[derive(Clone)]
pub struct Web {
    app: App,
    site: Arc<Site>,
}

/// What is known about the running server itself.
struct Site {
    /// Where people reach it; every link begins with it. Without a slash at its end.
    public_url: String,
    started: Instant,
    health: health::Health,
    /// Cancelled when the server takes no new work.
    shutdown: CancellationToken,
}

impl Web {
    /// `local` is the address that the server listens on, for links when no address is configured.
    pub fn new(app: App, local: SocketAddr, shutdown: CancellationToken) -> Self {
        let public_url = app.config.server.base_url(local);
        Self {
            app,
            site: Arc::new(Site {
                public_url,
                started: Instant::now(),
                health: health::Health::new(),
                shutdown,
            }),
        }
    }
}

/// All routes, with everything around them.
pub fn router(web: Web) -> Router {
    let reads = |handler: MethodRouter<Web>| handler.fallback(health::read_only);
    Router::new()
        .route("/", any(pages::home))
        .route("/livez", reads(get(health::livez)))
        .route("/readyz", reads(get(health::readyz)))
        .route("/health", reads(get(health::health)))
        .fallback(pages::anything_else)
        .layer(CatchPanicLayer::custom(crashed))
        .layer(middleware::from_fn_with_state(web.clone(), log::observe))
        .with_state(web)
}

/// The answer of a handler that panicked; the panic itself is in the log.
fn crashed(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("A request ended unexpectedly");
    Problem::crashed().into_response()
}
