//! The chunked transfer, below `…/info/lfs/auxin` (docs/protocol.md). Its requests carry the token of a batch, or
//! nothing where everybody may read.

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use lfs_protocol::Oid;
use lfs_protocol::batch::MEDIA_TYPE;
use lfs_protocol::chunked::{PACK_TYPE, ProofAnswer, ProofState};
use percent_encoding::percent_decode_str;

use super::Web;
use super::access::{Pusher, Reader, granted};
use super::error::{self, Problem};
use super::git::Payload;
use super::headers::no_cache;
use super::lfs::json;
use super::path::{self, ChunkedPart, LfsPart};
use crate::names::RepoAddress;
use crate::service::LfsError;
use crate::service::lfs::{Holder, LargeObject};
use crate::service::transfer::{CallerKey, Protocol};

/// Finds the handler for one part.
pub(super) async fn dispatch(web: Web, part: &ChunkedPart, request: Request) -> Response {
    match (part, request.method()) {
        (ChunkedPart::Token, &Method::POST) => token.call(request, web).await,
        (ChunkedPart::Recipe(_), &Method::GET) => recipe.call(request, web).await,
        (ChunkedPart::Chunks(_), &Method::POST) => chunks.call(request, web).await,
        (ChunkedPart::Missing, &Method::POST) => missing.call(request, web).await,
        (ChunkedPart::Pack(_), &Method::PUT) => pack.call(request, web).await,
        (ChunkedPart::Object(_), &Method::POST) => object.call(request, web).await,
        (ChunkedPart::Proof(_), &Method::GET) => proof.call(request, web).await,
        (ChunkedPart::Recipe(_) | ChunkedPart::Proof(_), _) => Problem::method("GET").into_response(),
        (ChunkedPart::Pack(_), _) => Problem::method("PUT").into_response(),
        (ChunkedPart::Token | ChunkedPart::Chunks(_) | ChunkedPart::Missing | ChunkedPart::Object(_), _) => {
            Problem::method("POST").into_response()
        }
    }
}

/// A new token for one that is still good.
async fn token(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let grant = granted(&parts, &web).await?;
    Ok(json(&web.app.large_files.grant(&grant)))
}

/// The recipe of an object.
async fn recipe(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (object, caller, _) = find(&web, request).await?;
    let (answer, len_bytes) = web.app.large_files.recipe(caller, object).await?;
    let mut response = binary(Body::from_stream(answer));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len_bytes));
    Ok(response)
}

/// Some chunks of an object.
async fn chunks(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (object, caller, request) = find(&web, request).await?;
    let Payload(incoming) = Payload::from_request(request, &web).await?;
    let answer = web.app.large_files.chunks(caller, object, incoming).await?;
    Ok(binary(Body::from_stream(answer)))
}

/// Which chunks the caller has to bring.
async fn missing(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let holder = holder(&parts, &web).await?;
    let Payload(incoming) = Payload::from_request(Request::from_parts(parts, body), &web).await?;
    let bits = web.app.large_files.missing(holder, incoming).await?;
    Ok(binary(Body::from(bits)))
}

/// Takes a chunk pack.
async fn pack(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let holder = holder(&parts, &web).await?;
    let LfsPart::Chunked(ChunkedPart::Pack(sha256)) = path::lfs_part(parts.uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let sha256 = Oid::parse(&sha256).map_err(|_| LfsError::BadName)?;
    let len_bytes = parts.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok());
    let len_bytes = len_bytes.and_then(|len| len.parse().ok());
    let len_bytes = len_bytes.ok_or_else(|| bad("A chunk pack comes with its Content-Length."))?;
    let Payload(incoming) = Payload::from_request(Request::from_parts(parts, body), &web).await?;
    let files = &web.app.large_files;
    let to = (holder.repo, holder.user);
    let answer = files.bring_pack(to, *sha256.as_bytes(), len_bytes, incoming).await?;
    let mut response = Response::new(Body::from_stream(answer));
    no_cache(response.headers_mut());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Ok(response)
}

/// Takes the recipe of an object, or a small object as a whole.
async fn object(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let holder = holder(&parts, &web).await?;
    let LfsPart::Chunked(ChunkedPart::Object(oid)) = path::lfs_part(parts.uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let oid = Oid::parse(&oid).map_err(|_| LfsError::BadName)?;
    let size = query(&parts).find_map(|(key, value)| (key == "size").then_some(value));
    let size_bytes = size.and_then(|size| size.parse().ok());
    let size_bytes = size_bytes.ok_or_else(|| bad("The address of an upload ends with the size of the file."))?;
    let is_small = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(PACK_TYPE.as_bytes()));
    let Payload(incoming) = Payload::from_request(Request::from_parts(parts, body), &web).await?;
    let files = &web.app.large_files;
    let answer = match is_small {
        true => files.take_small(holder, (oid, size_bytes), incoming).await?,
        false => files.take_recipe(holder, (oid, size_bytes), incoming).await?,
    };
    Ok(told(&answer))
}

/// How far the proof of an object is.
async fn proof(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let holder = holder(&parts, &web).await?;
    let LfsPart::Chunked(ChunkedPart::Proof(oid)) = path::lfs_part(parts.uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let oid = Oid::parse(&oid).map_err(|_| LfsError::BadName)?;
    let answer = web.app.large_files.proof(holder.repo, holder.user, oid).await?;
    Ok(told(&answer))
}

fn told(answer: &ProofAnswer) -> Response {
    match answer.state {
        ProofState::Proven => json(answer),
        ProofState::Proving => error::accepted(json(answer)),
    }
}

/// Who uploads where, and whose chunks count: `with=OWNER/NAME` names repositories beside that of the address.
async fn holder(parts: &Parts, web: &Web) -> Result<Holder, Problem> {
    let pusher = Pusher::granted(parts, web).await?;
    let limit = web.app.config.lfs.max_with_repos;
    let mut with = Vec::new();
    for (_, value) in query(parts).filter(|(key, _)| key == "with") {
        if with.len() >= limit {
            return Err(bad(format!(
                "The request names more than {limit} repositories (lfs.max_with_repos)."
            )));
        }
        // What cannot be an address is no help, like what is none.
        with.extend(value.parse::<RepoAddress>());
    }
    let with = pusher.readable(web, &with).await?;
    Ok(Holder {
        repo: pusher.repo().ok_or(LfsError::Gone)?,
        user: pusher.by().id,
        with,
    })
}

fn query(parts: &Parts) -> impl Iterator<Item = (String, String)> {
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let text = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    pairs.map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (text(key), text(value))
    })
}

fn bad(sentence: impl Into<String>) -> Problem {
    LfsError::BadRequest(sentence.into()).into()
}

/// The object of the address, if the caller may read it.
async fn find(web: &Web, request: Request) -> Result<(LargeObject, CallerKey, Request), Problem> {
    let (parts, body) = request.into_parts();
    let fetch = Reader::granted(&parts, web).await?.fetch(Protocol::V2);
    let (LfsPart::Chunked(ChunkedPart::Recipe(oid)) | LfsPart::Chunked(ChunkedPart::Chunks(oid))) =
        path::lfs_part(parts.uri.path())
    else {
        return Err(Problem::no_such_page());
    };
    let oid = Oid::parse(&oid).map_err(|_| LfsError::BadName)?;
    let object = web.app.large_files.find(&fetch.repo, oid).await?;
    Ok((object, fetch.caller, Request::from_parts(parts, body)))
}

fn binary(body: Body) -> Response {
    let mut response = Response::new(body);
    no_cache(response.headers_mut());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}
