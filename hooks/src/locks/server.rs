//! The REST API of the server that a repository is pushed to (docs/api.md), with Git's own credentials.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;

use super::LockError;
use crate::git;
use crate::transfer::lines::Failure;
use crate::transfer::settings::{self, Settings};

const CONNECT: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(120);
/// Where nobody waits for it in particular.
const CONNECT_QUIET: Duration = Duration::from_secs(5);
const WHOLE_QUIET: Duration = Duration::from_secs(15);
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// A repository on a server.
pub(crate) struct Server {
    agent: Agent,
    /// `https://HOST`
    host_url: String,
    /// `…/api/v1/repos/OWNER/NAME`
    base: String,
    /// As Git's settings have it.
    remote_url: String,
    user: Option<String>,
    /// What goes along with each request.
    headers: Vec<(String, String)>,
    /// Whether these tell who asks.
    is_signed_in: bool,
    /// What Git gave, to be told whether it was good.
    given: Option<String>,
    /// Nobody is asked for a password.
    is_quiet: bool,
}

/// Where the REST API of the repository with this address is: the server's own address, and that of the API.
pub(super) fn api_of(remote_url: &str) -> Option<(String, String, Option<String>)> {
    let (scheme, rest) = remote_url.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let rest = rest.trim_end_matches('/');
    let (authority, path) = rest.split_once('/')?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user.split(':').next().map(str::to_owned), host),
        None => (None, authority),
    };
    let path = path.strip_suffix(".git").unwrap_or(path);
    let (rest, name) = path.rsplit_once('/')?;
    let (prefix, owner) = match rest.rsplit_once('/') {
        Some((prefix, owner)) => (format!("/{prefix}"), owner),
        None => (String::new(), rest),
    };
    let is_whole = !host.is_empty() && !owner.is_empty() && !name.is_empty();
    is_whole.then(|| {
        let host_url = format!("{scheme}://{host}");
        let base = format!("{host_url}{prefix}/api/v1/repos/{owner}/{name}");
        (host_url, base, user.filter(|user| !user.is_empty()))
    })
}

impl Server {
    /// The server that the current branch is pushed to, else `origin`.
    pub(crate) fn of_repository() -> Result<Self, LockError> {
        Self::open(&push_address()?, false)
    }

    /// The same with what Git knows already, and soon: nobody is asked for a password.
    pub(crate) fn asking_nobody() -> Result<Self, LockError> {
        Self::asking_nobody_at(&push_address()?)
    }

    /// The same for the repository at this address.
    pub(crate) fn asking_nobody_at(remote_url: &str) -> Result<Self, LockError> {
        Self::open(remote_url, true)
    }

    fn open(remote_url: &str, is_quiet: bool) -> Result<Self, LockError> {
        let (host_url, base, user) = api_of(remote_url).ok_or_else(|| LockError::Remote(remote_url.to_owned()))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("git-auxin/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(if is_quiet { CONNECT_QUIET } else { CONNECT }))
            .timeout_global(Some(if is_quiet { WHOLE_QUIET } else { WHOLE }));
        let told = |failure: Failure| LockError::Http(failure.message);
        let settings = Settings::of(remote_url).map_err(told)?;
        let agent = settings.apply(config, &host_url).map_err(told)?.build().new_agent();
        let headers = settings.headers().to_vec();
        let is_signed_in = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        Ok(Self {
            agent,
            host_url,
            base,
            remote_url: remote_url.to_owned(),
            user,
            headers,
            is_signed_in,
            given: None,
            is_quiet,
        })
    }

    /// One request; its JSON, or the sentence of the server.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), LockError> {
        if !self.is_signed_in {
            self.sign_in()?;
        }
        let mut request = Request::builder().method(method).uri(format!("{}/{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .header("Content-Type", "application/json")
            .body(text)
            .map_err(|error| LockError::Http(error.to_string()))?;
        let answer = self.agent.run(request);
        let mut answer =
            answer.map_err(|error| LockError::Http(format!("{}.", settings::unreachable(&self.host_url, &error))))?;
        let status = answer.status().as_u16();
        if let Some(given) = self.given.take_if(|_| status != 429) {
            let verdict = if status == 401 { "reject" } else { "approve" };
            // What a credential helper does not take is its business.
            let _ = git::run_with_input(&["credential", verdict], given.as_bytes());
        }
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| LockError::Http(format!("{}: {error}", self.host_url)))?;
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match status {
            200..=299 => Ok((status, value)),
            _ => Err(LockError::Refused {
                status,
                said: match value["detail"].as_str() {
                    Some(detail) => detail.to_owned(),
                    None => format!("{} answered {status}; is it an Auxin server?", self.host_url),
                },
            }),
        }
    }

    /// Asks Git for a name and a password.
    fn sign_in(&mut self) -> Result<(), LockError> {
        // With its path, for `credential.useHttpPath`; Git leaves it out otherwise.
        let mut question = format!("url={}\n", self.remote_url);
        if let Some(user) = &self.user {
            question.push_str(&format!("username={user}\n"));
        }
        question.push('\n');
        let ask = if self.is_quiet {
            git::run_quietly
        } else {
            git::run_with_input
        };
        let output = ask(&["credential", "fill"], question.as_bytes())?;
        if !output.status.success() {
            return Err(LockError::NoCredentials(self.host_url.clone()));
        }
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |key: &str| {
            answer
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap_or_default()
        };
        let pair = format!("{}:{}", value("username="), value("password="));
        let basic = format!("Basic {}", base64(pair.as_bytes()));
        self.headers.push(("Authorization".to_owned(), basic));
        self.is_signed_in = true;
        self.given = Some(format!("{}\n\n", answer.trim_end()));
        Ok(())
    }
}

/// Where the current branch is pushed to, else `origin`.
fn push_address() -> Result<String, LockError> {
    let branch = git::run(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
    let branch = String::from_utf8_lossy(&branch.stdout).trim().to_owned();
    let key = format!("branch.{branch}.remote");
    let set = git::settings(&["--get-regexp", "^branch\\..*\\.remote$"])?;
    let remote = set
        .into_iter()
        .find(|(found, _)| *found == key)
        .map(|(_, remote)| remote);
    let remote = remote.unwrap_or_else(|| "origin".to_owned());
    Ok(git::ask(&["remote", "get-url", "--push", &remote])?)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// A value for the query of an address.
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_lies_beside_the_repository() {
        let api =
            |url: &str| api_of(url).map(|(host, base, user)| format!("{host} {base} {}", user.unwrap_or_default()));
        assert_eq!(
            api("https://git.example.org/anna/song.git").as_deref(),
            Some("https://git.example.org https://git.example.org/api/v1/repos/anna/song ")
        );
        assert_eq!(
            api("http://anna:secret@127.0.0.1:8420/x/anna/song/").as_deref(),
            Some("http://127.0.0.1:8420 http://127.0.0.1:8420/x/api/v1/repos/anna/song anna")
        );
        for other in [
            "git@example.org:anna/song.git",
            "ssh://example.org/anna/song",
            "/srv/song.git",
            "https://x/song",
        ] {
            assert_eq!(api(other), None, "{other}");
        }
    }

    #[test]
    fn credentials_and_paths_are_coded_as_the_rfcs_say() {
        for (text, code) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(text.as_bytes()), code);
        }
        assert_eq!(escape("a b/\u{e9}&"), "a%20b%2F%C3%A9%26");
    }
}
