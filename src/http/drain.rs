//! What a client still sends after its answer is read and thrown away, for a while.
//!
//! A client that is cut off while it sends reports a broken pipe, and never shows the answer that
//! explains why. So a body that is dropped before its end is read on beside the answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::EXPECT;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::runtime::Handle;

/// How long that goes on: enough for what is under way, and too short to be of use to anybody who
/// never stops.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Has the body of `request` read on when its handler lets go of it.
pub(super) fn drained(request: Request) -> Request {
    // Reading is what asks such a client for its body.
    let is_waiting = request.headers().contains_key(EXPECT);
    request.map(|body| {
        Body::new(Drained {
            body: Some(body),
            is_coming: !is_waiting,
            handle: Handle::current(),
        })
    })
}

/// A request body that is read on when it is dropped.
struct Drained {
    /// `None` once it has ended.
    body: Option<Body>,
    /// The client sends it, asked or unasked.
    is_coming: bool,
    handle: Handle,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_coming = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && self.is_coming
            && !body.is_end_stream()
        {
            self.handle.spawn(tokio::time::timeout(DRAIN_TIME, drain(body)));
        }
    }
}

async fn drain(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}
