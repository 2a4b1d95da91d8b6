//! The routes that git uses.
//!
//! An answer carries exactly the headers that git's own server sends, in its order; the content
//! type has no parameters, since some clients compare it as text.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, TryStreamExt as _};
use percent_encoding::percent_decode_str;

use super::Web;
use super::access::{Anyone, Pusher, Reader};
use super::drain::drained;
use super::error::Problem;
use super::file;
use super::headers::no_cache;
use super::log::Facts;
use super::path::{self, Address, GitRoute};
use crate::service::transfer::{Answer, Coding, Incoming, Protocol};

/// The two halves of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    UploadPack,
    ReceivePack,
}

impl Service {
    fn advertisement(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-advertisement",
            Self::ReceivePack => "application/x-git-receive-pack-advertisement",
        }
    }

    fn request(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-request",
            Self::ReceivePack => "application/x-git-receive-pack-request",
        }
    }

    fn result(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-result",
            Self::ReceivePack => "application/x-git-receive-pack-result",
        }
    }
}

/// Finds the handler for one part of a repository's address.
pub(super) async fn dispatch(web: Web, route: GitRoute, request: Request) -> Response {
    if let Some(facts) = request.extensions().get::<Arc<Facts>>() {
        facts.route(match route {
            GitRoute::InfoRefs => "info-refs",
            GitRoute::UploadPack => "git-upload-pack",
            GitRoute::ReceivePack => "git-receive-pack",
            GitRoute::NotServed => "not-served",
            GitRoute::Bundle => "bundle",
            GitRoute::Lfs => "lfs",
            GitRoute::Root => "repository",
            GitRoute::Locks => "locks",
            GitRoute::Compare => "compare",
        });
    }
    let request = drained(request);
    match route {
        GitRoute::InfoRefs => info_refs(web, request).await,
        GitRoute::UploadPack => match check_post(Service::UploadPack, &request) {
            Ok(()) => fetch.call(request, web).await,
            Err(problem) => problem.into_response(),
        },
        GitRoute::ReceivePack => match check_post(Service::ReceivePack, &request) {
            Ok(()) => push.call(request, web).await,
            Err(problem) => problem.into_response(),
        },
        GitRoute::NotServed => {
            Problem::forbidden("This server speaks git's smart protocol only. Use git 1.6.6 or later.").into_response()
        }
        GitRoute::Bundle => match *request.method() {
            Method::GET | Method::HEAD => bundle.call(request, web).await,
            _ => Problem::method("GET, HEAD").into_response(),
        },
        GitRoute::Lfs => super::lfs::dispatch(web, request).await,
        GitRoute::Root => super::pages::repository.call(request, web).await,
        GitRoute::Locks => super::api_locks::dispatch(web, request).await,
        GitRoute::Compare => super::api_compare::dispatch(web, request).await,
    }
}

/// A part of a repository that no name stands for. Answered as if the repository were missing, so
/// that a nameless caller is asked to sign in, and sees the reason then.
pub(super) async fn bad_name(State(web): State<Web>, Anyone(caller): Anyone, request: Request) -> Problem {
    match path::parse(request.uri().path()) {
        Address::BadName(error, _) => web.app.access.bad_address(&caller, &error).into(),
        Address::Git(..) | Address::Unknown => Problem::no_such_page(),
    }
}

async fn info_refs(web: Web, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::method("GET, HEAD").into_response();
    }
    match service_of(request.uri().query().unwrap_or_default()).as_deref() {
        Some("git-upload-pack") => fetch_refs.call(request, web).await,
        Some("git-receive-pack") => push_refs.call(request, web).await,
        Some(_) => Problem::forbidden("This server offers git-upload-pack and git-receive-pack only.").into_response(),
        None => Problem::forbidden("Please upgrade your git client: this server speaks the smart protocol only.")
            .into_response(),
    }
}

/// What a fetch finds.
async fn fetch_refs(State(web): State<Web>, reader: Reader, Version(protocol): Version) -> Result<Response, Problem> {
    let answer = web.app.fetches.advertise(reader.fetch(protocol)).await?;
    Ok(stream(Service::UploadPack.advertisement(), answer))
}

/// What a push finds.
async fn push_refs(State(web): State<Web>, pusher: Pusher, Version(protocol): Version) -> Result<Response, Problem> {
    let answer = web.app.pushes.advertise(pusher.push(protocol)).await?;
    Ok(stream(Service::ReceivePack.advertisement(), answer))
}

/// A fetch, or in protocol v2 a list of refs.
async fn fetch(
    State(web): State<Web>,
    reader: Reader,
    Version(protocol): Version,
    Payload(incoming): Payload,
) -> Result<Response, Problem> {
    let fetched = web.app.fetches.fetch(reader.fetch(protocol), incoming).await;
    let answer = fetched.or_else(Answer::refused_fetch)?;
    Ok(stream(Service::UploadPack.result(), answer))
}

/// A push, or the four bytes that ask whether one would be let in.
async fn push(
    State(web): State<Web>,
    pusher: Pusher,
    Version(protocol): Version,
    Payload(incoming): Payload,
) -> Result<Response, Problem> {
    let answer = web.app.pushes.receive(pusher.push(protocol), incoming).await?;
    Ok(stream(Service::ReceivePack.result(), answer))
}

/// A bundle that lies ready: the whole file or a part of it.
async fn bundle(State(web): State<Web>, reader: Reader, request: Request) -> Result<Response, Problem> {
    let name = path::bundle_name(request.uri().path()).to_owned();
    let found = web.app.fetches.bundle(reader.fetch(Protocol::V2), name).await?;
    let content = file::Content {
        len_bytes: found.len_bytes,
        etag: format!("\"{}\"", found.name),
        content_type: "application/x-git-bundle",
    };
    file::send(request.headers(), found.file, &content, found.admitted).await
}

/// Method and content type of a POST. The type is also what keeps other sites' forms out: a browser
/// cannot send it without asking first.
fn check_post(service: Service, request: &Request) -> Result<(), Problem> {
    if request.method() != Method::POST {
        return Err(Problem::method("POST"));
    }
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let content_type = content_type
        .and_then(|value| value.split(|&byte| byte == b';').next())
        .map(<[u8]>::trim_ascii);
    match content_type {
        Some(found) if found.eq_ignore_ascii_case(service.request().as_bytes()) => Ok(()),
        _ => Err(Problem::content_type(service.request())),
    }
}

/// The value of the query's `service`, decoded; other parameters are nobody's business.
fn service_of(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == "service").then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

/// The protocol version that a request asks for in `Git-Protocol`: the highest that is known.
struct Version(Protocol);

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all("git-protocol").iter();
        let versions = values
            .filter_map(|value| value.to_str().ok())
            .map(Protocol::from_header);
        Self(versions.max().unwrap_or_default())
    }
}

impl<S: Sync> FromRequestParts<S> for Version {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(&parts.headers))
    }
}

/// A request's body. Nothing of it is read yet.
pub(super) struct Payload(pub(super) Incoming);

impl<S: Sync> FromRequest<S> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let coding = coding_of(request.headers())?;
        let body = request.into_body().into_data_stream().map_err(io::Error::other).boxed();
        Ok(Self(Incoming { body, coding }))
    }
}

fn coding_of(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let coding = match codings.next().map(|value| value.as_bytes().trim_ascii()) {
        None => Coding::Plain,
        Some(value) if value.eq_ignore_ascii_case(b"identity") => Coding::Plain,
        Some(value) if value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"x-gzip") => Coding::Gzip,
        Some(_) => return Err(Problem::content_encoding()),
    };
    match codings.next() {
        None => Ok(coding),
        Some(_) => Err(Problem::content_encoding()),
    }
}

fn stream(content_type: &'static str, answer: Answer) -> Response {
    let mut response = Response::new(Body::from_stream(answer));
    no_cache(response.headers_mut());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(values: &[&'static str]) -> Protocol {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("git-protocol", HeaderValue::from_static(value));
        }
        Version::of(&headers).0
    }

    #[test]
    fn the_highest_known_protocol_version_is_taken() {
        assert_eq!(version(&[]), Protocol::V0);
        assert_eq!(version(&["version=1"]), Protocol::V1);
        assert_eq!(version(&["version=2:version=1"]), Protocol::V2);
        assert_eq!(version(&["x=y:version=1", "version=2"]), Protocol::V2);
        assert_eq!(version(&["version=3:future"]), Protocol::V0);
    }

    #[test]
    fn the_service_is_found_among_other_parameters() {
        assert_eq!(
            service_of("service=git-upload-pack").as_deref(),
            Some("git-upload-pack")
        );
        assert_eq!(service_of("a=b&service=git%2Dx&c").as_deref(), Some("git-x"));
        assert_eq!(service_of("services=x"), None);
        assert_eq!(service_of(""), None);
    }

    #[test]
    fn only_gzip_and_its_old_name_are_understood() {
        let coding = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            coding_of(&headers).ok()
        };
        assert_eq!(coding("gzip"), Some(Coding::Gzip));
        assert_eq!(coding("x-gzip"), Some(Coding::Gzip));
        assert_eq!(coding("identity"), Some(Coding::Plain));
        assert_eq!(coding("br"), None);
        assert_eq!(coding("gzip, gzip"), None);
    }
}
