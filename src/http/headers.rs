//! Headers that many answers share.

use axum::http::header::{CACHE_CONTROL, EXPIRES, PRAGMA};
use axum::http::{HeaderMap, HeaderValue};

/// Says that the answer must not be kept, in git's words and in git's order: git's own tests
/// compare the list of headers exactly, so nothing else belongs on a git route.
pub(super) fn no_cache(headers: &mut HeaderMap) {
    headers.insert(EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, max-age=0, must-revalidate"),
    );
}
