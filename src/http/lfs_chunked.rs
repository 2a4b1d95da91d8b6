//! The chunked transfer, below `…/info/lfs/auxin` (docs/protocol.md). Its requests carry the token of a batch, or
//! nothing where everybody may read.

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use lfs_protocol::Oid;

use super::Web;
use super::access::{Reader, granted};
use super::error::Problem;
use super::git::Payload;
use super::headers::no_cache;
use super::lfs::json;
use super::path::{self, ChunkedPart, LfsPart};
use crate::service::LfsError;
use crate::service::lfs::LargeObject;
use crate::service::transfer::{CallerKey, Protocol};

/// Finds the handler for one part.
pub(super) async fn dispatch(web: Web, part: &ChunkedPart, request: Request) -> Response {
    match (part, request.method()) {
        (ChunkedPart::Token, &Method::POST) => token.call(request, web).await,
        (ChunkedPart::Recipe(_), &Method::GET) => recipe.call(request, web).await,
        (ChunkedPart::Chunks(_), &Method::POST) => chunks.call(request, web).await,
        (ChunkedPart::Recipe(_), _) => Problem::method("GET").into_response(),
        (ChunkedPart::Token | ChunkedPart::Chunks(_), _) => Problem::method("POST").into_response(),
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
