//! `/api/v1/repos/{owner}/{name}/locks…`: what Git LFS does not have of locks (docs/api.md).

use axum::extract::{Query, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderValue, Method, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Web;
use super::access::{Administrator, Pusher, Reader};
use super::error::{self, Problem};
use super::git::Payload;
use super::headers::no_cache;
use super::path::{self, LocksPart};
use crate::ids::UserId;
use crate::service::locks::{LockQuery, LockWish};
use crate::service::{LockError, LockRow, LockRules, LockRulesChange, Opened, PushTarget, SignedIn};

/// Finds the handler for one part.
pub(super) async fn dispatch(web: Web, request: Request) -> Response {
    match (path::locks_part(request.uri().path()), request.method()) {
        (LocksPart::All, &Method::GET | &Method::HEAD) => list.call(request, web).await,
        (LocksPart::All, &Method::POST) => take.call(request, web).await,
        (LocksPart::All, _) => Problem::method("GET, HEAD, POST").into_response(),
        (LocksPart::Rules, &Method::GET | &Method::HEAD) => rules.call(request, web).await,
        (LocksPart::Rules, &Method::PATCH) => set_rules.call(request, web).await,
        (LocksPart::Rules, _) => Problem::method("GET, HEAD, PATCH").into_response(),
        (LocksPart::One(_), &Method::GET | &Method::HEAD) => show.call(request, web).await,
        (LocksPart::One(_), &Method::DELETE) => release.call(request, web).await,
        (LocksPart::One(_), _) => Problem::method("DELETE, GET, HEAD").into_response(),
        (LocksPart::Act(..), &Method::POST) => act.call(request, web).await,
        (LocksPart::Act(..), _) => Problem::method("POST").into_response(),
        (LocksPart::Unknown, _) => Problem::not_found("There is nothing at this address.").into_response(),
    }
}

/// What may stand in the address of a list.
#[derive(Debug, Default, Deserialize)]
struct ListParameters {
    path: Option<String>,
    id: Option<String>,
    branch: Option<String>,
    cursor: Option<String>,
    limit: Option<u64>,
}

async fn list(State(web): State<Web>, reader: Reader, uri: Uri) -> Result<Response, Problem> {
    let Query(parameters) = Query::<ListParameters>::try_from_uri(&uri).map_err(bad_query)?;
    let me = reader.user();
    let repo = reader.repo();
    let limit = parameters.limit;
    let query = LockQuery {
        path: parameters.path,
        id: parameters.id,
        branch: parameters.branch,
        cursor: parameters.cursor,
        limit,
    };
    let page = web.app.locks.list(&repo, query).await?;
    let rules = web.app.locks.rules(&repo).await?;
    let locks: Vec<Value> = page.locks.iter().map(|lock| shown_to(me, &web, &rules, lock)).collect();
    let mut response = json_response(&json!({ "locks": locks, "next_cursor": page.next_cursor }));
    if let Some(cursor) = page.next_cursor {
        let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let url = &web.site.public_url;
        let link = format!(
            "<{url}/api/v1/repos/{}/locks?cursor={cursor}{limit}>; rel=\"next\"",
            repo.address
        );
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

/// What is to be locked.
#[derive(Debug, Deserialize)]
struct TakeRequest {
    path: String,
    branch: Option<String>,
    reason: Option<String>,
    machine: Option<String>,
    #[serde(default)]
    keep: bool,
    /// The version at hand.
    commit: Option<String>,
}

async fn take(State(web): State<Web>, pusher: Pusher, Payload(incoming): Payload) -> Result<Response, Problem> {
    let (by, repo) = existing(pusher)?;
    let request: TakeRequest = web.app.locks.read_json(incoming).await?;
    let wish = LockWish {
        path: request.path,
        branch: request.branch,
        reason: request.reason,
        machine: request.machine,
        is_kept: request.keep,
    };
    let rules = web.app.locks.rules(&repo).await?;
    match web.app.locks.take_at(&repo, &by, wish, request.commit).await {
        Ok(taken) => Ok(error::created(json_response(&json!({
            "lock": shown(&web, &rules, &taken.lock),
            "warning": taken.warning,
        })))),
        Err(LockError::Held(lock)) => {
            let held = shown(&web, &rules, &lock);
            Ok(error::held(&LockError::Held(lock).to_string(), &held))
        }
        Err(error) => Err(error.into()),
    }
}

async fn show(State(web): State<Web>, reader: Reader, uri: Uri) -> Result<Response, Problem> {
    let LocksPart::One(id) = path::locks_part(uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let me = reader.user();
    let repo = reader.repo();
    let (lock, asks) = web.app.locks.show(&repo, &id).await?;
    let rules = web.app.locks.rules(&repo).await?;
    let asks: Vec<Value> = asks
        .iter()
        .map(|ask| json!({ "name": ask.name, "note": ask.note, "asked_at": time(ask.asked_at_us) }))
        .collect();
    Ok(json_response(
        &json!({ "lock": shown_to(me, &web, &rules, &lock), "asks": asks }),
    ))
}

#[derive(Debug, Default, Deserialize)]
struct ReleaseParameters {
    #[serde(default)]
    force: bool,
}

async fn release(State(web): State<Web>, pusher: Pusher, uri: Uri) -> Result<Response, Problem> {
    let LocksPart::One(id) = path::locks_part(uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let Query(parameters) = Query::<ReleaseParameters>::try_from_uri(&uri).map_err(bad_query)?;
    let (by, repo) = existing(pusher)?;
    let lock = web.app.locks.release(&repo, &by, &id, parameters.force).await?;
    answer(&web, &repo, &lock).await
}

/// Everything that an act may need.
#[derive(Debug, Default, Deserialize)]
struct ActRequest {
    note: Option<String>,
    to: Option<String>,
    reason: Option<String>,
    machine: Option<String>,
    keep: Option<bool>,
}

async fn act(
    State(web): State<Web>,
    pusher: Pusher,
    uri: Uri,
    Payload(incoming): Payload,
) -> Result<Response, Problem> {
    let LocksPart::Act(id, what) = path::locks_part(uri.path()) else {
        return Err(Problem::no_such_page());
    };
    let (by, repo) = existing(pusher)?;
    let locks = &web.app.locks;
    let request: ActRequest = locks.read_json(incoming).await?;
    let lock = match what.as_str() {
        "heartbeat" => locks.touch(&repo, &by, &id).await?,
        "keep" => locks.keep(&repo, &by, &id, request.keep.unwrap_or(true)).await?,
        "ask" => locks.ask(&repo, &by, &id, request.note).await?,
        "steal" => locks.steal(&repo, &by, &id, (request.reason, request.machine)).await?,
        "hand-over" => {
            let to = request.to.unwrap_or_default();
            locks.hand_over(&web.app.access, &repo, &by, &id, &to).await?
        }
        _ => return Err(Problem::not_found("There is nothing at this address.")),
    };
    answer(&web, &repo, &lock).await
}

async fn rules(State(web): State<Web>, reader: Reader) -> Result<Response, Problem> {
    Ok(json_response(&web.app.locks.rules(&reader.repo()).await?))
}

async fn set_rules(
    State(web): State<Web>,
    administrator: Administrator,
    Payload(incoming): Payload,
) -> Result<Response, Problem> {
    let change: LockRulesChange = web.app.locks.read_json(incoming).await?;
    let (by, repo) = administrator.parts();
    Ok(json_response(&web.app.locks.set_rules(&repo, by, change).await?))
}

/// The repository of somebody who may push to it.
fn existing(pusher: Pusher) -> Result<(SignedIn, Opened), Problem> {
    match pusher.parts() {
        (by, PushTarget::Existing(repo)) => Ok((by, repo)),
        (_, PushTarget::Creatable(_)) => Err(LockError::NoRepo.into()),
    }
}

async fn answer(web: &Web, repo: &Opened, lock: &LockRow) -> Result<Response, Problem> {
    let rules = web.app.locks.rules(repo).await?;
    Ok(json_response(&json!({ "lock": shown(web, &rules, lock) })))
}

/// With a word on whose it is.
fn shown_to(me: Option<UserId>, web: &Web, rules: &LockRules, lock: &LockRow) -> Value {
    let mut shown = shown(web, rules, lock);
    shown["is_mine"] = json!(me == Some(lock.holder));
    shown
}

fn shown(web: &Web, rules: &LockRules, lock: &LockRow) -> Value {
    json!({
        "id": lock.id,
        "path": lock.path,
        "branch": lock.branch,
        "holder": lock.holder_name,
        "locked_at": time(lock.locked_at_us),
        "touched_at": time(lock.touched_at_us),
        "is_stale": web.app.locks.is_stale(rules, lock),
        "is_kept": lock.is_kept,
        "reason": lock.reason,
        "machine": lock.machine,
    })
}

fn time(at_us: i64) -> String {
    let at = DateTime::from_timestamp_micros(at_us).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn bad_query(error: impl std::fmt::Display) -> Problem {
    LockError::BadRequest(format!("{error}.")).into()
}

fn json_response(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(bytes.into());
            no_cache(response.headers_mut());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => Problem::internal(&error).into_response(),
    }
}
