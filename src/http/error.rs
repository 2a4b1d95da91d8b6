//! The only place that turns errors into answers, in the face that the asker understands.
//!
//! Git prints a body to the person only if it is `text/plain`; everybody else gets an RFC 9457
//! problem. Which status a case has decides what credential helpers do, see the table in
//! `docs/protocol.md`: 401 makes git forget a password, 403 makes it keep one, and a stranger must
//! not learn from either that a repository exists.
//!
//! Git shows no body of an answer to a POST. What a fetch or a push is refused for there is told in
//! the protocol, with status 200, by the service.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lfs_protocol::batch::MEDIA_TYPE;
use serde_json::json;

use super::headers::no_cache;
use super::log::RequestId;
use crate::names::BadName;
use crate::service::access::AccessError;
use crate::service::lfs::LfsError;
use crate::service::locks::LockError;
use crate::service::music::MusicError;
use crate::service::sign_in::SignInError;
use crate::service::transfer::TransferError;

/// How an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// Sentences in `text/plain`, shown by git as `remote: …`.
    Git,
    /// `application/problem+json`.
    Json,
    /// What Git LFS shows: an object with a `message`.
    Lfs,
}

/// An error on its way to the client: status, kind and sentences.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    retry_after_secs: Option<u64>,
    allow: Option<&'static str>,
    /// Chunks that are missing, for the client of the chunked transfer.
    missing: Option<usize>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            retry_after_secs: None,
            allow: None,
            missing: None,
        }
    }

    /// 400: the request makes no sense; `detail` says why.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// 401: nobody is signed in, or the sign-in failed. Carries the challenge.
    pub(super) fn sign_in(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "sign-in-needed", detail)
    }

    /// 403: signed in or not, this is not done here.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: nothing here that the caller may see.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 405 with the methods that the route does have.
    pub(super) fn method(allow: &'static str) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            format!("This address answers {allow} only."),
        );
        problem.allow = Some(allow);
        problem
    }

    /// 408: the client said nothing for too long.
    pub(super) fn silent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", detail)
    }

    /// 409: something else has to be done first.
    fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 413: the request is larger than a limit; `detail` names it.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// 415: the body is not of the type that the route takes.
    pub(super) fn content_type(expected: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!("This address takes a body of type {expected} only."),
        )
    }

    /// 415: the body is compressed in a way that is not understood.
    pub(super) fn content_encoding() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-content-encoding",
            "The body is compressed in a way that this server does not know. Use gzip, or none.",
        )
    }

    /// 422: understood, and not to be done as it is.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", detail)
    }

    /// 404: an address that means nothing here.
    pub(super) fn no_such_page() -> Self {
        Self::not_found(
            "There is nothing at this address. A repository is found at /OWNER/NAME.git, such as \
             /anna/song.git.",
        )
    }

    /// 404: a repository cannot have this name; the reason is told, since it is the same for all.
    pub(super) fn bad_name(error: &BadName) -> Self {
        Self::not_found(format!("There can be no such repository: {error}."))
    }

    /// 429 with the time to wait, in seconds.
    pub(super) fn busy(retry_after_secs: u64, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail);
        problem.retry_after_secs = Some(retry_after_secs.max(1));
        problem
    }

    /// 503: this server cannot do it now.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500. The cause goes to the log, with the request's id; the client hears only that id.
    pub(super) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "A request failed: {}", Causes(cause));
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed. Its log says why.",
        )
    }

    /// 500 after a panic, whose message is in the log already.
    pub(super) fn crashed() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed. Its log says why.",
        )
    }

    /// The answer, in one of the faces.
    pub(super) fn render(&self, face: Face, id: &RequestId) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        no_cache(headers);
        let (content_type, body) = match face {
            Face::Git => ("text/plain; charset=utf-8", self.text(id)),
            Face::Json => ("application/problem+json", self.json(id)),
            Face::Lfs => (MEDIA_TYPE, self.lfs_json(id)),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.status == StatusCode::UNAUTHORIZED {
            for challenge in ["Basic realm=\"Auxin\"", "Bearer realm=\"Auxin\""] {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            if face == Face::Lfs {
                headers.insert("lfs-authenticate", HeaderValue::from_static("Basic realm=\"Auxin\""));
            }
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(secs) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        *response.body_mut() = Body::from(body);
        response
    }

    fn text(&self, id: &RequestId) -> String {
        let mut text = terminal_safe(&self.detail);
        if self.status.is_server_error() {
            text.push_str(&format!("\nRequest {id}."));
        }
        text.push('\n');
        text
    }

    fn lfs_json(&self, id: &RequestId) -> String {
        let mut body = json!({ "message": terminal_safe(&self.detail), "request_id": id.to_string() });
        if let Some(missing) = self.missing {
            body["missing"] = missing.into();
        }
        body.to_string()
    }

    fn json(&self, id: &RequestId) -> String {
        json!({
            "type": format!("about:blank#{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": terminal_safe(&self.detail),
            "request_id": id.to_string(),
        })
        .to_string()
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match &error {
            SignInError::Wrong
            | SignInError::WrongToken
            | SignInError::TokenExpired { .. }
            | SignInError::TokenRevoked { .. }
            | SignInError::Disabled(_) => Self::sign_in(error.to_string()),
            SignInError::Throttled { retry_after_secs } | SignInError::Overrun { retry_after_secs } => {
                Self::busy(*retry_after_secs, error.to_string())
            }
            SignInError::Failed(_) => Self::internal(&error),
        }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match &error {
            AccessError::SignInNeeded => Self::sign_in(error.to_string()),
            AccessError::NotFound(_) => Self::not_found(error.to_string()),
            AccessError::Forbidden(_) => Self::forbidden(error.to_string()),
            AccessError::Db(cause) => Self::internal(cause),
        }
    }
}

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Self {
        match &error {
            TransferError::Busy { retry_after_secs } | TransferError::TooMany { retry_after_secs, .. } => {
                Self::busy(*retry_after_secs, error.to_string())
            }
            TransferError::TooLarge { .. } => Self::too_large(error.to_string()),
            TransferError::Silent { .. } => Self::silent(error.to_string()),
            TransferError::Body(cause) => {
                tracing::debug!(%cause, "A request broke off");
                Self::bad_request("The request broke off or cannot be read. Try again.")
            }
            TransferError::Gone { path } => {
                tracing::warn!(path = %path.display(), "A repository is not where its row says");
                Self::not_found(error.to_string())
            }
            TransferError::NoBundle | TransferError::Music(MusicError::NoCommit(_) | MusicError::NoProject(_)) => {
                Self::not_found(error.to_string())
            }
            TransferError::Music(MusicError::TooManyFiles(_)) => Self::too_large(error.to_string()),
            TransferError::SwitchedOff(_) => Self::forbidden(error.to_string()),
            TransferError::Upload(cause) if cause.is_client_fault() => Self::bad_request(error.to_string()),
            TransferError::Spool(_)
            | TransferError::Music(MusicError::Unreadable(_))
            | TransferError::Open { .. }
            | TransferError::Bundle(_)
            | TransferError::Upload(_)
            | TransferError::Receive(_)
            | TransferError::Answer(_) => Self::internal(&error),
            TransferError::Lfs(_) => match error {
                TransferError::Lfs(error) => error.into(),
                error => Self::internal(&error),
            },
            TransferError::Crashed => Self::crashed(),
        }
    }
}

impl From<LfsError> for Problem {
    fn from(error: LfsError) -> Self {
        match &error {
            LfsError::NoObject(_) | LfsError::NotProving(_) | LfsError::Gone => Self::not_found(error.to_string()),
            LfsError::TooMany { .. } | LfsError::TooLong { .. } => Self::too_large(error.to_string()),
            LfsError::BadToken(_) => Self::sign_in(error.to_string()),
            LfsError::SwitchedOff => Self::forbidden(error.to_string()),
            LfsError::MissingChunks { missing } => Self {
                missing: Some(*missing),
                ..Self::conflict(error.to_string())
            },
            LfsError::Vanished => Self {
                missing: Some(1),
                ..Self::conflict(error.to_string())
            },
            LfsError::BadName
            | LfsError::BadPack(_)
            | LfsError::TooLarge { .. }
            | LfsError::WrongBytes { .. }
            | LfsError::OtherSize { .. }
            | LfsError::BadRequest(_) => Self::unprocessable(error.to_string()),
            LfsError::Repo(_) | LfsError::Damaged { .. } | LfsError::Db(_) | LfsError::Storage(_) => {
                Self::internal(&error)
            }
        }
    }
}

/// Leaves the problem for the outermost layer to [`render`](Problem::render), which knows the face
/// and the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<LockError> for Problem {
    fn from(error: LockError) -> Self {
        match error {
            LockError::BadRequest(sentence) | LockError::Outdated(sentence) => Self::unprocessable(sentence),
            LockError::NoLock(_) | LockError::NoRepo | LockError::Gone => Self::not_found(error.to_string()),
            LockError::Foreign(sentence) => Self::forbidden(sentence),
            LockError::Held(_) => Self::new(StatusCode::CONFLICT, "held", error.to_string()),
            LockError::Full(_) => Self::unprocessable(error.to_string()),
            LockError::Body(error) => error.into(),
            LockError::Db(_) => Self::internal(&error),
        }
    }
}

/// `response` about something that was made: 201.
pub(super) fn created(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::CREATED;
    response
}

/// `response` with what is in the way: 409.
pub(super) fn conflict(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::CONFLICT;
    response
}

/// 409 for programs, with the lock that is in the way.
pub(super) fn held(detail: &str, lock: &serde_json::Value) -> Response {
    let body = json!({
        "type": "about:blank#held",
        "title": "Conflict",
        "status": StatusCode::CONFLICT.as_u16(),
        "detail": terminal_safe(detail),
        "lock": lock,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    no_cache(response.headers_mut());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    conflict(response)
}

/// `response` as a part of what was asked for: 206.
pub(super) fn partial(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response
}

/// `response` as one for work that goes on: 202.
pub(super) fn accepted(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// `response` as one for a client that has the content already: 304.
pub(super) fn not_modified(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// `response` as one for a client that asked for bytes beyond the end: 416.
pub(super) fn not_satisfiable(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    response
}

/// `response` as that of a server which cannot do its work now.
pub(super) fn unavailable(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// `text` without control characters other than line ends and tabs: terminals act on them, and
/// git before 2.55 prints what it gets.
fn terminal_safe(text: &str) -> String {
    text.chars()
        .filter(|&c| c == '\n' || c == '\t' || !c.is_control())
        .collect()
}

/// An error with everything that caused it, in one line.
struct Causes<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
