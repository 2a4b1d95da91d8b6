//! `/api/v1/repos/{owner}/{name}/compare/{a}...{b}`: what changed in the songs (docs/api.md).

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::handler::Handler as _;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::Web;
use super::access::Reader;
use super::error::Problem;
use super::headers::no_cache;
use super::path;
use crate::service::CompareQuery;
use crate::service::music::Format;
use crate::service::transfer::Protocol;

/// Finds the handler.
pub(super) async fn dispatch(web: Web, request: Request) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => compare.call(request, web).await,
        _ => Problem::method("GET, HEAD").into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
struct CompareParameters {
    project: Option<String>,
    format: Option<String>,
}

async fn compare(State(web): State<Web>, reader: Reader, uri: Uri) -> Result<Response, Problem> {
    let Some((before, after)) = path::compare_ends(uri.path()) else {
        return Err(Problem::bad_request(
            "The address ends with two branches, tags or commits and three dots between them, such as main...mix.",
        ));
    };
    let Query(parameters) = Query::<CompareParameters>::try_from_uri(&uri)
        .map_err(|_| Problem::bad_request("The part after the question mark cannot be read."))?;
    let format = match parameters.format.as_deref() {
        None | Some("json") => Format::Json,
        Some("text") => Format::Text,
        Some("compact") => Format::Compact,
        Some(_) => return Err(Problem::bad_request("The format is json, text or compact.")),
    };
    let query = CompareQuery {
        before,
        after,
        project: parameters.project,
        format,
    };
    let fetch = reader.fetch(Protocol::V2);
    let answer = web.app.music.compare(fetch.caller, fetch.repo, query).await?;
    let mut response = Response::new(Body::from_stream(answer));
    let kind = match format {
        Format::Json => "application/json",
        Format::Text | Format::Compact => "text/plain; charset=utf-8",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    no_cache(headers);
    Ok(response)
}
