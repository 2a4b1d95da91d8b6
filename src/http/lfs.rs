//! Large files: the Git LFS API (specification: `docs/api` of git-lfs) below `/{owner}/{name}.git/info/lfs`.

use axum::body::Body;
use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, Method, Uri};
use axum::response::{IntoResponse as _, Response};
use lfs_protocol::Oid;
use lfs_protocol::batch::{MEDIA_TYPE, Operation};
use serde::Serialize;

use super::Web;
use super::access::{Asker, Pusher, Reader};
use super::error::{self, Problem};
use super::file;
use super::git::Payload;
use super::headers::no_cache;
use super::lfs_locks;
use super::path::{self, LfsPart};
use crate::service::transfer::Protocol;
use crate::service::{LfsError, PushTarget};

/// Finds the handler for one part of the API.
pub(super) async fn dispatch(web: Web, request: Request) -> Response {
    let method = request.method().clone();
    match (&path::lfs_part(request.uri().path()), &method) {
        (LfsPart::Batch, &Method::POST) => batch.call(request, web).await,
        (LfsPart::Verify, &Method::POST) => verify.call(request, web).await,
        (LfsPart::Object(_), &Method::GET | &Method::HEAD) => download.call(request, web).await,
        (LfsPart::Upload(..), &Method::PUT) => upload.call(request, web).await,
        (part @ (LfsPart::Locks | LfsPart::VerifyLocks | LfsPart::Unlock(_)), _) => {
            lfs_locks::dispatch(web, part.clone(), request).await
        }
        (LfsPart::Batch | LfsPart::Verify, _) => Problem::method("POST").into_response(),
        (LfsPart::Object(_), _) => Problem::method("GET, HEAD").into_response(),
        (LfsPart::Upload(..), _) => Problem::method("PUT").into_response(),
        (LfsPart::Chunked(part), _) => super::lfs_chunked::dispatch(web, part, request).await,
        (LfsPart::Unknown, _) => not_served.call(request, web).await,
    }
}

/// Parts of the API that are not there, for those who may know that the repository is.
async fn not_served(_: Reader) -> Problem {
    Problem::not_found("This server does not have this part of the Git LFS API.")
}

/// What a client may get or has to bring.
async fn batch(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let asker = Asker::from_request_parts(&mut parts, &web).await?;
    if asker.is_anonymous() {
        // Whoever may not know of the repository need not send anything.
        asker.reader(&web).await?;
    }
    let Payload(incoming) = Payload::from_request(Request::from_parts(parts, body), &web).await?;
    let files = &web.app.large_files;
    let batch = files.read_batch(asker.key(), incoming).await?;
    let answer = match batch.operation() {
        Operation::Download => {
            let repo = asker.reader(&web).await?;
            files.offer(asker.signed_in(), &repo, batch).await?
        }
        Operation::Upload => {
            let (by, target) = asker.pusher(&web).await?;
            files.request(&by, target, batch).await?
        }
    };
    Ok(json(&answer))
}

/// Whether an object has arrived.
async fn verify(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let asker = Asker::from_request_parts(&mut parts, &web).await?;
    let (_, target) = asker.pusher(&web).await?;
    let Payload(incoming) = Payload::from_request(Request::from_parts(parts, body), &web).await?;
    let files = &web.app.large_files;
    let (oid, size_bytes) = files.read_verify(asker.key(), incoming).await?;
    let PushTarget::Existing(repo) = target else {
        return Err(LfsError::NoObject(oid).into());
    };
    files.verify(repo.id, oid, size_bytes).await?;
    Ok(json(&serde_json::json!({})))
}

/// The bytes of an object, or a part of them.
async fn download(State(web): State<Web>, reader: Reader, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let LfsPart::Object(oid) = path::lfs_part(uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let oid = Oid::parse(&oid).map_err(|_| LfsError::BadName)?;
    let fetch = reader.fetch(Protocol::V2);
    let object = web.app.large_files.find(&fetch.repo, oid).await?;
    let content = file::Content {
        len_bytes: object.size_bytes,
        etag: format!("\"{oid}\""),
        content_type: "application/octet-stream",
    };
    let (mut response, range) = match file::head(&headers, &content) {
        file::Head::Body(response, range) => (response, range),
        file::Head::Done(response) => return Ok(response),
    };
    if range.start < range.end {
        let answer = web.app.large_files.read(fetch.caller, object, range).await?;
        *response.body_mut() = Body::from_stream(answer);
    }
    Ok(response)
}

/// Takes the bytes of an object.
async fn upload(State(web): State<Web>, pusher: Pusher, request: Request) -> Result<Response, Problem> {
    let LfsPart::Upload(oid, size) = path::lfs_part(request.uri().path()) else {
        return Err(Problem::no_such_page());
    };
    let oid = Oid::parse(&oid).map_err(|_| LfsError::BadName)?;
    let size_bytes = size
        .parse()
        .map_err(|_| LfsError::BadRequest("The address of an upload ends with the size of the file.".into()))?;
    let push = pusher.push(Protocol::V0);
    let PushTarget::Existing(repo) = &push.target else {
        return Err(
            LfsError::BadRequest("Ask where to bring the file first: git lfs does so by itself.".into()).into(),
        );
    };
    let repo = repo.id;
    let Payload(incoming) = Payload::from_request(request, &web).await?;
    let answer = web
        .app
        .large_files
        .upload(&push, repo, (oid, size_bytes), incoming)
        .await?;
    let mut response = Response::new(Body::from_stream(answer));
    no_cache(response.headers_mut());
    Ok(response)
}

pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            no_cache(response.headers_mut());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            response
        }
        Err(error) => error::Problem::internal(&error).into_response(),
    }
}
