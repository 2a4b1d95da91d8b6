//! What a person sees who opens an address in a browser: plain text, no script.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};

use super::Web;
use super::error::Problem;
use super::log::Facts;
use super::path::{self, Address, GitRoute};

/// `/`: what this is and how to begin.
pub(super) async fn home(
    State(web): State<Web>,
    Extension(facts): Extension<Arc<Facts>>,
    method: Method,
) -> Result<Response, Problem> {
    facts.route("home");
    read_only(&method)?;
    let url = &web.site.public_url;
    let hint = if web.app.config.repo.create_on_push {
        "A push to a repository that does not exist makes it, in your own space:"
    } else {
        "Ask the administrator for a repository (`auxin repo create NAME/song`), then push to it:"
    };
    Ok(text(format!(
        "Auxin: a Git server for music projects.\n\
         \n\
         {hint}\n\
         \n\
         \x20   git init -b main song && cd song\n\
         \x20   git add . && git commit -m \"First take\"\n\
         \x20   git push {url}/NAME/song.git main\n\
         \n\
         And to get it elsewhere:\n\
         \n\
         \x20   git clone {url}/NAME/song.git\n\
         \n\
         NAME is your user name; the password is yours or an access token.\n"
    )))
}

/// A repository's own address. Says nothing about whether the repository exists.
pub(super) async fn repository(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    read_only(request.method())?;
    let Address::Git(address, _) = path::parse(request.uri().path()) else {
        return Err(Problem::no_such_page());
    };
    let url = &web.site.public_url;
    Ok(text(format!(
        "This is the address of a Git repository. Use it with git:\n\
         \n\
         \x20   git clone {url}/{address}.git\n"
    )))
}

/// Everything that has no route of its own.
pub(super) async fn anything_else(State(web): State<Web>, request: Request) -> Response {
    match path::parse(request.uri().path()) {
        Address::Git(_, route) => super::git::dispatch(web, route, request).await,
        Address::BadName(error, GitRoute::NotServed | GitRoute::Root) => Problem::bad_name(&error).into_response(),
        Address::BadName(..) => super::git::bad_name.call(request, web).await,
        Address::Unknown => Problem::no_such_page().into_response(),
    }
}

fn read_only(method: &Method) -> Result<(), Problem> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method("GET, HEAD")),
    }
}

fn text(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers: [(HeaderName, &'static str); 2] = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
