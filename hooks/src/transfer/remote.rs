//! Requests of the chunked transfer: repeated where that can help, with a token that is renewed in time, and
//! refused with the sentence of the server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{self, Method, StatusCode};
use ureq::{Agent, SendBody};

use super::lines::{Action, Failure};
use super::settings::{self, Settings};

/// Media type of ids, recipes and streams of chunks.
pub const BINARY: &str = "application/octet-stream";
/// Media type of a chunk pack that holds a recipe, too.
pub const CHUNK_PACK: &str = "application/vnd.auxin.chunk-pack";

/// Longest answer that is no stream of chunks or recipe, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// A request is tried so often.
const MAX_TRIES: u32 = 10;
/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause of our own.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause that a server can ask for; beyond it the transfer fails.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(300);
/// A connection on which nothing moves for so long is cut.
const SILENCE: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(30);
const TOKEN_BYTES: usize = 16 << 10;

/// What goes along with a request.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// Bytes of a media type.
    Bytes(&'static str, &'a [u8]),
    /// All of a file, of so many bytes.
    File(&'a File, u64),
}

/// An answer that is final: not one that another try would change.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All of it.
    pub body: Vec<u8>,
}

impl Answer {
    /// As an error, with the server's sentence.
    pub fn failure(&self) -> Failure {
        failure(self.status, &self.body)
    }
}

/// How often something may still fail, and how long to wait then.
pub struct Patience {
    tries: u32,
}

impl Patience {
    /// For one request, or one stretch of a stream without progress.
    pub const fn new() -> Self {
        Self { tries: 0 }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `failure` if there have been enough, or if the server asks for too long a pause.
    pub fn wait(&mut self, failure: Failure, asked: Option<Duration>) -> Result<(), Failure> {
        self.tries += 1;
        let own = (FIRST_PAUSE * 2_u32.pow((self.tries - 1).min(10))).min(LONGEST_PAUSE);
        let pause = asked.map_or(own, |asked| asked.max(own));
        if self.tries >= MAX_TRIES || pause > LONGEST_ASKED_PAUSE {
            return Err(failure);
        }
        thread::sleep(pause);
        Ok(())
    }
}

struct Token {
    authorization: String,
    since: Instant,
    lives: Duration,
}

#[derive(Deserialize)]
struct NewToken {
    token: String,
    expires_in: u64,
}

/// One repository of one server, for one operation.
pub struct Remote {
    agent: Agent,
    /// `…/info/lfs/auxin`
    base: String,
    header: BTreeMap<String, String>,
    /// Those of `http.extraHeader`.
    extra: Vec<(String, String)>,
    /// One that we asked for ourselves, so that we know its age: it may have waited for us in a queue.
    own: Option<Token>,
}

impl Remote {
    /// The address of an action up to what is about its object.
    ///
    /// # Errors
    /// A [`Failure`] if it is none of the chunked transfer.
    pub fn base_of(action: &Action) -> Result<&str, Failure> {
        let found = action.href.rfind("/objects/");
        let base = found.map(|end| &action.href[..end]).filter(|base| {
            let has_scheme = base.starts_with("http://") || base.starts_with("https://");
            has_scheme && base.ends_with("/auxin")
        });
        base.ok_or_else(|| {
            Failure::new(
                501,
                format!(
                    "the server named {} for a chunked transfer, which this git-auxin does not understand; install a newer one",
                    action.href
                ),
            )
        })
    }

    /// For the repository that an action is about.
    ///
    /// # Errors
    /// A [`Failure`] if the address or the settings for it are of no use.
    pub fn open(action: &Action, settings: &Settings) -> Result<Self, Failure> {
        let base = Self::base_of(action)?.to_owned();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("git-auxin/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .max_idle_connections(2);
        let agent = settings.apply(config, &base)?.build().new_agent();
        Ok(Self {
            agent,
            base,
            header: BTreeMap::new(),
            extra: settings.headers().to_vec(),
            own: None,
        })
    }

    /// Whether it is the repository of this action.
    pub fn is_for(&self, action: &Action) -> bool {
        Self::base_of(action).is_ok_and(|base| base == self.base)
    }

    /// Takes what the server named for one more object of the repository.
    pub fn take(&mut self, action: Action) {
        self.header = action.header;
    }

    /// A header of the action.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut entries = self.header.iter();
        entries
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Asks for a token that has all of its time left, unless there is one with more than half of it. For whoever
    /// is about to make more than a few requests.
    ///
    /// # Errors
    /// A [`Failure`] if the server cannot be reached.
    pub fn freshen(&mut self) -> Result<(), Failure> {
        let is_fresh = |token: &Token| token.since.elapsed() < token.lives / 2;
        if self.header("authorization").is_none() || self.own.as_ref().is_some_and(is_fresh) {
            return Ok(());
        }
        let since = Instant::now();
        let answer = self.repeat(Method::POST, "/token", Payload::None, MAX_ANSWER_BYTES, &mut |_| {})?;
        // Refused: whatever is the matter, the request that follows is told it, too.
        if answer.status == 200
            && let Ok(new) = serde_json::from_slice::<NewToken>(&answer.body)
            && new.token.len() < TOKEN_BYTES
        {
            self.own = Some(Token {
                authorization: format!("Bearer {}", new.token),
                since,
                lives: Duration::from_secs(new.expires_in),
            });
        }
        Ok(())
    }

    /// Sends a request until there is an answer that is final; `sent` is told the bytes of the payload that
    /// have gone.
    ///
    /// # Errors
    /// A [`Failure`] if the server cannot be reached or asks to wait for too long. An answer of any status that
    /// another try would not change is none.
    pub fn call(
        &mut self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        max_bytes: u64,
        sent: &mut dyn FnMut(u64),
    ) -> Result<Answer, Failure> {
        if self.own.is_some() {
            self.freshen()?;
        }
        self.repeat(method, path, payload, max_bytes, sent)
    }

    /// As [`Remote::call`], with a short answer and no word on what has gone.
    ///
    /// # Errors
    /// Those of [`Remote::call`].
    pub fn ask(&mut self, method: Method, path: &str, payload: Payload<'_>) -> Result<Answer, Failure> {
        self.call(method, path, payload, MAX_ANSWER_BYTES, &mut |_| {})
    }

    fn repeat(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        max_bytes: u64,
        sent: &mut dyn FnMut(u64),
    ) -> Result<Answer, Failure> {
        let mut patience = Patience::new();
        loop {
            let (status, asked, body) = match self.once(method.clone(), path, payload, sent) {
                Err(cut) => (None, None, Err(cut)),
                Ok(response) => {
                    let (status, asked) = (response.status(), asked_pause(&response));
                    let reader = response.into_body().into_with_config().limit(max_bytes);
                    (Some(status), asked, reader.read_to_vec())
                }
            };
            let failure = match (status, body) {
                (Some(status), Ok(body)) if !is_passing(status) => {
                    let status = status.as_u16();
                    return Ok(Answer { status, body });
                }
                (Some(status), Ok(body)) => failure(status.as_u16(), &body),
                (_, Err(ureq::Error::BodyExceedsLimit(_))) => {
                    return Err(Failure::new(
                        502,
                        format!("the server's answer has more than {max_bytes} bytes"),
                    ));
                }
                (_, Err(error)) if !is_cut(&error) => return Err(self.unreachable(&error)),
                (_, Err(error)) => self.unreachable(&error),
                (None, Ok(_)) => Failure::new(502, "there was no answer"),
            };
            patience.wait(failure, asked)?;
        }
    }

    /// Sends a request for a stream, once.
    ///
    /// # Errors
    /// A failure, and whether another try can help, after which pause.
    pub fn stream(&mut self, path: &str, payload: Payload<'_>) -> Result<impl Read + use<>, Refusal> {
        if self.own.is_some() {
            self.freshen().map_err(Refusal::Final)?;
        }
        match self.once(Method::POST, path, payload, &mut |_| {}) {
            Ok(response) if response.status() == StatusCode::OK => Ok(response.into_body().into_reader()),
            Ok(response) => {
                let (status, asked) = (response.status(), asked_pause(&response));
                let reader = response.into_body().into_with_config().limit(MAX_ANSWER_BYTES);
                let failure = failure(status.as_u16(), &reader.read_to_vec().unwrap_or_default());
                Err(if is_passing(status) {
                    Refusal::Passing(failure, asked)
                } else {
                    Refusal::Final(failure)
                })
            }
            Err(error) if is_cut(&error) => Err(Refusal::Passing(self.unreachable(&error), None)),
            Err(error) => Err(Refusal::Final(self.unreachable(&error))),
        }
    }

    fn once(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        sent: &mut dyn FnMut(u64),
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("accept", "application/vnd.git-lfs+json, application/octet-stream");
        // What the server named for this transfer counts.
        for (name, value) in self.extra.iter().filter(|(name, _)| self.header(name).is_none()) {
            request = request.header(name, value);
        }
        for (name, value) in &self.header {
            match &self.own {
                Some(own) if name.eq_ignore_ascii_case("authorization") => {
                    request = request.header(name, &own.authorization);
                }
                _ => request = request.header(name, value),
            }
        }
        match payload {
            Payload::None => self.agent.run(request.body(())?),
            Payload::Bytes(media_type, bytes) => {
                self.agent.run(request.header("content-type", media_type).body(bytes)?)
            }
            Payload::File(file, bytes) => {
                let mut file = file;
                file.rewind()?;
                let mut counted = Counted {
                    of: file.take(bytes),
                    bytes: 0,
                    sent,
                };
                // A refusal comes before the bytes then.
                let request = request
                    .header("content-type", BINARY)
                    .header("content-length", bytes)
                    .header("expect", "100-continue");
                self.agent.run(request.body(SendBody::from_reader(&mut counted))?)
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let host = self.base.split('/').nth(2).unwrap_or_default();
        Failure::new(
            503,
            format!(
                "{}; try again, it goes on where it ended",
                settings::unreachable(host, error)
            ),
        )
    }
}

/// Why there is no stream.
pub enum Refusal {
    /// Another try can help, after a pause if the server asked for one.
    Passing(Failure, Option<Duration>),
    /// None can.
    Final(Failure),
}

struct Counted<'a, R> {
    of: R,
    bytes: u64,
    sent: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        (self.sent)(self.bytes);
        let len = self.of.read(out)?;
        self.bytes += len as u64;
        Ok(len)
    }
}

/// Whether the same request may be answered otherwise a little later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether the connection is to blame, not what was asked.
fn is_cut(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput),
        ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

fn asked_pause(response: &http::Response<ureq::Body>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// What a status and its body say to a person.
fn failure(status: u16, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice(body).map(|said: Said| said.message);
    let sentence = said.unwrap_or_else(|_| match status {
        300..400 => format!(
            "the server sends elsewhere (status {status}), which is not followed with your token: set the remote to the server's own address"
        ),
        _ => format!("the server answered with status {status} and no sentence"),
    });
    Failure::new(status, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(href: &str) -> Action {
        Action {
            href: href.to_owned(),
            header: BTreeMap::new(),
            expires_in: None,
        }
    }

    #[test]
    fn an_address_of_another_transfer_is_refused() {
        let good = action("https://x.org/anna/song.git/info/lfs/auxin/objects/ab?size=3");
        assert_eq!(
            Remote::base_of(&good).expect("a base"),
            "https://x.org/anna/song.git/info/lfs/auxin"
        );
        for bad in [
            "https://x.org/anna/song.git/info/lfs/objects/ab",
            "file:///x/auxin/objects/ab",
            "",
        ] {
            assert_eq!(Remote::base_of(&action(bad)).expect_err("refused").code, 501, "{bad}");
        }
    }

    #[test]
    fn the_sentence_of_the_server_is_told() {
        let told = failure(507, br#"{"message": "The quota is used up.", "request_id": "x"}"#);
        assert_eq!((told.code, told.message.as_str()), (507, "The quota is used up."));
        assert!(failure(502, b"<html>").message.contains("502"));
        assert!(failure(302, b"").message.contains("elsewhere"));
    }

    #[test]
    fn a_server_that_asks_to_wait_for_an_hour_is_not_waited_for() {
        let busy = Failure::new(429, "busy");
        let started = Instant::now();
        let asked = Some(Duration::from_secs(3600));
        assert_eq!(Patience::new().wait(busy.clone(), asked), Err(busy));
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
