//! A file as an answer: whole or a part of it, unless the client has it already (RFC 9110).
//!
//! The files are immutable: an entity tag stands for a content, whenever it is asked for.

use std::fs::File;
use std::io::SeekFrom;
use std::ops::Range;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::error::{self, Problem};
use super::guarded::Guarded;

/// Size of one piece of the answer, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// What a file holds.
pub(super) struct Content {
    /// Its length, in bytes.
    pub(super) len_bytes: u64,
    /// Its strong entity tag, quotes included.
    pub(super) etag: String,
    /// Its type.
    pub(super) content_type: &'static str,
}

/// What stands before the body of an answer.
pub(super) enum Head {
    /// These headers, and these bytes as the body.
    Body(Response, Range<u64>),
    /// All of it: there is nothing to send.
    Done(Response),
}

/// Looks at what a GET or HEAD asks of `content`.
pub(super) fn head(asked: &HeaderMap, content: &Content) -> Head {
    let mut response = Response::new(Body::empty());
    // Whoever may read it today may not tomorrow, so everybody asks again each time.
    set(&mut response, CACHE_CONTROL, "private, no-cache");
    set(&mut response, ETAG, &content.etag);
    set(&mut response, ACCEPT_RANGES, "bytes");
    if has_it(asked, &content.etag) {
        return Head::Done(error::not_modified(response));
    }
    let part = match wanted(asked, content) {
        Wanted::All => None,
        Wanted::Part(part) => Some(part),
        Wanted::Nothing => {
            set(&mut response, CONTENT_RANGE, &format!("bytes */{}", content.len_bytes));
            return Head::Done(error::not_satisfiable(response));
        }
    };
    set(&mut response, CONTENT_TYPE, content.content_type);
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    let range = part.clone().unwrap_or(0..content.len_bytes);
    let len = range.end - range.start;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
    match part {
        None => Head::Body(response, range),
        Some(part) => {
            let (first, last) = (part.start, part.end - 1);
            set(
                &mut response,
                CONTENT_RANGE,
                &format!("bytes {first}-{last}/{}", content.len_bytes),
            );
            Head::Body(error::partial(response), range)
        }
    }
}

/// Answers a GET or HEAD for `file`. `guard` lives as long as the answer is being sent.
pub(super) async fn send<G: Send + Unpin + 'static>(
    asked: &HeaderMap,
    file: File,
    content: &Content,
    guard: G,
) -> Result<Response, Problem> {
    let (mut response, range) = match head(asked, content) {
        Head::Body(response, range) => (response, range),
        Head::Done(response) => return Ok(response),
    };
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(range.start))
        .await
        .map_err(|cause| Problem::internal(&cause))?;
    let body = Body::from_stream(ReaderStream::with_capacity(
        file.take(range.end - range.start),
        PIECE_BYTES,
    ));
    *response.body_mut() = Body::new(Guarded::new(body, guard));
    Ok(response)
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whether the client says that it has this very content.
fn has_it(asked: &HeaderMap, etag: &str) -> bool {
    let lists = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Which bytes are asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// Bytes that there are none of.
    Nothing,
}

/// One range is honoured. Several, or what is not understood, are answered by the whole file, as is a
/// part of another content than this.
fn wanted(asked: &HeaderMap, content: &Content) -> Wanted {
    let if_range = asked.get(IF_RANGE).map(HeaderValue::as_bytes);
    if if_range.is_some_and(|tag| tag != content.etag.as_bytes()) {
        return Wanted::All;
    }
    let mut ranges = asked.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return Wanted::All;
    };
    let bounds = range
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.trim().split_once('-'));
    let Some((first, last)) = bounds else {
        return Wanted::All;
    };
    let len = content.len_bytes;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Wanted::All,
        (Some(first), _) if first >= len && (last.is_empty() || number(last).is_some()) => Wanted::Nothing,
        (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => Wanted::Part(first..len),
        (None, Some(0)) if first.is_empty() => Wanted::Nothing,
        (None, Some(_)) if first.is_empty() && len == 0 => Wanted::Nothing,
        (None, Some(tail)) if first.is_empty() => Wanted::Part(len.saturating_sub(tail)..len),
        _ => Wanted::All,
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are beyond every end.
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    fn content() -> Content {
        Content {
            len_bytes: 100,
            etag: "\"a\"".into(),
            content_type: "text/plain",
        }
    }

    #[test]
    fn one_range_is_honoured_and_anything_odd_gets_the_whole() {
        for (range, expected) in [
            ("bytes=0-9", Wanted::Part(0..10)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=90-500", Wanted::Part(90..100)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-500", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=9-0", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-5", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(wanted(&headers(&[(RANGE, range)]), &content()), expected, "{range}");
        }
        assert_eq!(wanted(&headers(&[]), &content()), Wanted::All);
    }

    #[test]
    fn a_part_of_another_content_is_not_sent() {
        let part = |tag| wanted(&headers(&[(RANGE, "bytes=5-"), (IF_RANGE, tag)]), &content());
        assert_eq!(part("\"a\""), Wanted::Part(5..100));
        assert_eq!(part("\"b\""), Wanted::All);
        assert_eq!(part("W/\"a\""), Wanted::All);
    }

    #[test]
    fn who_has_the_content_already_is_told_so() {
        for (tags, expected) in [("\"a\"", true), ("\"b\", W/\"a\"", true), ("*", true), ("\"b\"", false)] {
            assert_eq!(has_it(&headers(&[(IF_NONE_MATCH, tags)]), "\"a\""), expected, "{tags}");
        }
    }
}
