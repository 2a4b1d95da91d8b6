//! The Git LFS locking API (specification: `docs/api/locking.md` of git-lfs) below
//! `/{owner}/{name}.git/info/lfs/locks`.

use axum::extract::{Query, Request, State};
use axum::handler::Handler as _;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SecondsFormat};
use lfs_protocol::batch::Reference;
use lfs_protocol::locks::{
    Lock, LockAnswer, LockList, LockRequest, Owner, UnlockRequest, VerifyLocksAnswer, VerifyLocksRequest,
};
use serde::Deserialize;

use super::Web;
use super::access::{Pusher, Reader};
use super::error::{self, Problem};
use super::git::Payload;
use super::lfs::json;
use super::path::{self, LfsPart};
use crate::service::locks::{LockQuery, LockWish};
use crate::service::{LockError, LockRow, PushTarget};

/// Finds the handler for one part of the API.
pub(super) async fn dispatch(web: Web, part: LfsPart, request: Request) -> Response {
    match (part, request.method()) {
        (LfsPart::Locks, &Method::POST) => take.call(request, web).await,
        (LfsPart::Locks, &Method::GET | &Method::HEAD) => list.call(request, web).await,
        (LfsPart::Locks, _) => Problem::method("GET, HEAD, POST").into_response(),
        (LfsPart::VerifyLocks, &Method::POST) => verify.call(request, web).await,
        (LfsPart::Unlock(_), &Method::POST) => release.call(request, web).await,
        _ => Problem::method("POST").into_response(),
    }
}

/// Takes a lock; if somebody has it, says who.
async fn take(State(web): State<Web>, pusher: Pusher, Payload(incoming): Payload) -> Result<Response, Problem> {
    let (by, target) = pusher.parts();
    let locks = &web.app.locks;
    let request: LockRequest = locks.read_json(incoming).await?;
    let PushTarget::Existing(repo) = target else {
        return Err(LockError::NoRepo.into());
    };
    let wish = LockWish {
        path: request.path,
        branch: name(request.reference),
        ..LockWish::default()
    };
    match locks.take(&repo, &by, wish).await {
        Ok(lock) => Ok(error::created(json(&LockAnswer {
            lock: wire(lock),
            message: None,
        }))),
        Err(error @ LockError::Held(_)) => {
            let message = Some(error.to_string());
            let LockError::Held(lock) = error else {
                return Err(Problem::crashed());
            };
            Ok(error::conflict(json(&LockAnswer {
                lock: wire(*lock),
                message,
            })))
        }
        Err(error) => Err(error.into()),
    }
}

/// What may stand in the address of a list.
#[derive(Debug, Default, Deserialize)]
struct ListParameters {
    path: Option<String>,
    id: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
    refspec: Option<String>,
}

/// Lists locks.
async fn list(State(web): State<Web>, reader: Reader, uri: Uri) -> Result<Response, Problem> {
    let parameters = Query::<ListParameters>::try_from_uri(&uri);
    let Query(parameters) = parameters.map_err(|error| LockError::BadRequest(format!("{error}.")))?;
    let limit = parameters.limit.filter(|limit| !limit.is_empty());
    let limit = limit.map(|limit| limit.parse()).transpose();
    let query = LockQuery {
        path: parameters.path,
        id: parameters.id,
        branch: parameters.refspec,
        cursor: parameters.cursor,
        limit: limit.map_err(|_| LockError::BadRequest("A limit is a number.".into()))?,
    };
    let page = web.app.locks.list(&reader.repo(), query).await?;
    Ok(json(&LockList {
        locks: page.locks.into_iter().map(wire).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Tells the locks of the one who pushes from those of others.
async fn verify(State(web): State<Web>, pusher: Pusher, Payload(incoming): Payload) -> Result<Response, Problem> {
    let (by, target) = pusher.parts();
    let locks = &web.app.locks;
    let request: VerifyLocksRequest = locks.read_json(incoming).await?;
    let mut answer = VerifyLocksAnswer {
        ours: Vec::new(),
        theirs: Vec::new(),
        next_cursor: None,
    };
    // A repository that the push is to make has no locks.
    let PushTarget::Existing(repo) = target else {
        return Ok(json(&answer));
    };
    let query = LockQuery {
        branch: name(request.reference),
        cursor: request.cursor,
        limit: request.limit,
        ..LockQuery::default()
    };
    let page = locks.list(&repo, query).await?;
    answer.next_cursor = page.next_cursor;
    for lock in page.locks {
        match lock.holder == by.id {
            true => answer.ours.push(wire(lock)),
            false => answer.theirs.push(wire(lock)),
        }
    }
    Ok(json(&answer))
}

/// Releases a lock.
async fn release(
    State(web): State<Web>,
    pusher: Pusher,
    uri: Uri,
    Payload(incoming): Payload,
) -> Result<Response, Problem> {
    let LfsPart::Unlock(id) = path::lfs_part(uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let (by, target) = pusher.parts();
    let locks = &web.app.locks;
    let request: UnlockRequest = locks.read_json(incoming).await?;
    let PushTarget::Existing(repo) = target else {
        return Err(LockError::NoRepo.into());
    };
    let lock = locks.release(&repo, &by, &id, request.force == Some(true)).await?;
    Ok(json(&LockAnswer {
        lock: wire(lock),
        message: None,
    }))
}

fn name(reference: Option<Reference>) -> Option<String> {
    reference.and_then(|reference| reference.name)
}

fn wire(lock: LockRow) -> Lock {
    Lock {
        id: lock.id.to_string(),
        path: lock.path,
        locked_at: DateTime::from_timestamp_micros(lock.locked_at_us)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Secs, true),
        owner: Owner {
            name: lock.holder_name.to_string(),
        },
    }
}
