//! Sign-in, repository and right in one step.
//!
//! A handler that touches a repository names one of these extractors in its signature; when it
//! runs, the caller is known, the repository found and the right checked. No byte of a body has
//! been read by then, so that a client that waits with `Expect: 100-continue` keeps its data.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lfs_protocol::batch::Operation;

use super::Web;
use super::error::Problem;
use super::log::Facts;
use super::path::{self, Address};
use crate::ids::{RepoId, UserId};
use crate::names::RepoAddress;
use crate::service::fetch::Fetch;
use crate::service::lfs::Grant;
use crate::service::push::Push;
use crate::service::sign_in::{Caller, Credentials, SignedIn};
use crate::service::transfer::{CallerKey, Protocol};
use crate::service::{AccessError, By, LfsError, Opened, PushTarget, Right, Secret};

/// Most `Authorization` headers that are tried: a password in an address and a token in the
/// configuration make two.
const AUTHORIZATIONS_MAX: usize = 2;

/// A caller who may read the repository of the address.
pub(super) struct Reader {
    repo: Opened,
    caller: CallerKey,
}

/// A caller who may push to the repository of the address, or make it by pushing.
pub(super) struct Pusher {
    by: SignedIn,
    target: PushTarget,
    address: IpAddr,
    is_stock_git: bool,
}

impl Reader {
    /// A caller of the chunked transfer: with a token for downloads, or without any.
    pub(super) async fn granted(parts: &Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let address = repository(parts)?;
        facts.repository(&address);
        let grant = grant(parts, web, &facts, &[Operation::Download]).await?;
        let caller = grant
            .as_ref()
            .map_or(Caller::Anonymous, |grant| Caller::User(grant.by.clone()));
        let repo = web.app.access.open(&caller, &address, Right::Read).await?;
        check_repo(grant.as_ref(), repo.id)?;
        let caller = key(&caller, &facts);
        Ok(Self { repo, caller })
    }

    /// The repository.
    pub(super) fn repo(self) -> Opened {
        self.repo
    }

    /// Who, unless it is a stranger.
    pub(super) fn user(&self) -> Option<UserId> {
        match self.caller {
            CallerKey::User(user) => Some(user),
            CallerKey::Address(_) => None,
        }
    }

    /// What a fetch is about.
    pub(super) fn fetch(self, protocol: Protocol) -> Fetch {
        Fetch {
            repo: self.repo,
            protocol,
            caller: self.caller,
        }
    }
}

impl Pusher {
    /// Who, and where to.
    pub(super) fn parts(self) -> (SignedIn, PushTarget) {
        (self.by, self.target)
    }

    /// A caller of the chunked transfer, with a token for uploads.
    pub(super) async fn granted(parts: &Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let address = repository(parts)?;
        facts.repository(&address);
        let grant = grant(parts, web, &facts, &[Operation::Upload]).await?;
        let grant = grant.ok_or(AccessError::SignInNeeded)?;
        let caller = Caller::User(grant.by.clone());
        let repo = web.app.access.open(&caller, &address, Right::Write).await?;
        check_repo(Some(&grant), repo.id)?;
        Ok(Self {
            by: grant.by,
            target: PushTarget::Existing(repo),
            address: facts.client.address,
            is_stock_git: false,
        })
    }

    /// The person.
    pub(super) fn by(&self) -> &SignedIn {
        &self.by
    }

    /// The repository, if it is there already.
    pub(super) fn repo(&self) -> Option<RepoId> {
        match &self.target {
            PushTarget::Existing(repo) => Some(repo.id),
            PushTarget::Creatable(_) => None,
        }
    }

    /// Those of the repositories at these addresses that the caller may read. Nothing is said of the others.
    pub(super) async fn readable(&self, web: &Web, addresses: &[RepoAddress]) -> Result<Vec<RepoId>, Problem> {
        let caller = Caller::User(self.by.clone());
        let mut readable = Vec::new();
        for address in addresses {
            match web.app.access.open(&caller, address, Right::Read).await {
                Ok(repo) => readable.push(repo.id),
                Err(error @ AccessError::Db(_)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(readable)
    }

    /// What a push is about.
    pub(super) fn push(self, protocol: Protocol) -> Push {
        Push {
            by: self.by,
            target: self.target,
            protocol,
            address: self.address,
            is_stock_git: self.is_stock_git,
        }
    }
}

/// A caller, signed in or not, and an address; what they may do there is asked once it is known what they want.
/// For requests that say so in their body.
pub(super) struct Asker {
    caller: Caller,
    address: RepoAddress,
    key: CallerKey,
}

impl Asker {
    /// Whether nobody is signed in.
    pub(super) fn is_anonymous(&self) -> bool {
        self.signed_in().is_none()
    }

    /// The person, if there is one.
    pub(super) fn signed_in(&self) -> Option<&SignedIn> {
        self.caller.signed_in()
    }

    /// Whose requests are counted together.
    pub(super) fn key(&self) -> CallerKey {
        self.key
    }

    /// The repository, if the caller may read it.
    pub(super) async fn reader(&self, web: &Web) -> Result<Opened, Problem> {
        Ok(web.app.access.open(&self.caller, &self.address, Right::Read).await?)
    }

    /// The repository, if the caller may push to it, or make it by pushing.
    pub(super) async fn pusher(&self, web: &Web) -> Result<(SignedIn, PushTarget), Problem> {
        let target = web.app.access.open_for_push(&self.caller, &self.address).await?;
        match &self.caller {
            Caller::User(by) => Ok((by.clone(), target)),
            Caller::Anonymous => Err(AccessError::SignInNeeded.into()),
        }
    }
}

impl FromRequestParts<Web> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let address = repository(parts)?;
        facts.repository(&address);
        let caller = sign_in(web, &facts, &parts.headers).await?;
        let key = key(&caller, &facts);
        Ok(Self { caller, address, key })
    }
}

/// A caller who may manage the repository of the address.
pub(super) struct Administrator {
    by: By,
    repo: Opened,
}

impl Administrator {
    /// Who, and what.
    pub(super) fn parts(self) -> (By, Opened) {
        (self.by, self.repo)
    }
}

impl FromRequestParts<Web> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let address = repository(parts)?;
        facts.repository(&address);
        let caller = sign_in(web, &facts, &parts.headers).await?;
        let repo = web.app.access.open(&caller, &address, Right::Admin).await?;
        match caller {
            Caller::User(by) => Ok(Self {
                by: By::User(by.name),
                repo,
            }),
            Caller::Anonymous => Err(AccessError::SignInNeeded.into()),
        }
    }
}

/// A caller, signed in or not, whatever the address.
pub(super) struct Anyone(pub(super) Caller);

impl FromRequestParts<Web> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let caller = sign_in(web, &facts, &parts.headers).await?;
        Ok(Self(caller))
    }
}

impl FromRequestParts<Web> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let address = repository(parts)?;
        facts.repository(&address);
        let caller = sign_in(web, &facts, &parts.headers).await?;
        let repo = web.app.access.open(&caller, &address, Right::Read).await?;
        let caller = key(&caller, &facts);
        Ok(Self { repo, caller })
    }
}

impl FromRequestParts<Web> for Pusher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let facts = facts(parts)?;
        let address = repository(parts)?;
        facts.repository(&address);
        let caller = sign_in(web, &facts, &parts.headers).await?;
        let target = web.app.access.open_for_push(&caller, &address).await?;
        // Rights never let a stranger push; should they ever, it must not happen nameless.
        let Caller::User(by) = caller else {
            return Err(AccessError::SignInNeeded.into());
        };
        Ok(Self {
            by,
            target,
            address: facts.client.address,
            is_stock_git: is_stock_git(&parts.headers),
        })
    }
}

/// The grant behind a token of the chunked transfer, for any operation, if its right holds still.
pub(super) async fn granted(parts: &Parts, web: &Web) -> Result<Grant, Problem> {
    let facts = facts(parts)?;
    let address = repository(parts)?;
    facts.repository(&address);
    let grant = grant(parts, web, &facts, &[Operation::Download, Operation::Upload]).await?;
    let grant = grant.ok_or(AccessError::SignInNeeded)?;
    let right = match grant.operation {
        Operation::Download => Right::Read,
        Operation::Upload => Right::Write,
    };
    let caller = Caller::User(grant.by.clone());
    let repo = web.app.access.open(&caller, &address, right).await?;
    check_repo(Some(&grant), repo.id)?;
    Ok(grant)
}

/// Finds out who comes with a token of the chunked transfer. Other credentials are none here: its client has no
/// others.
async fn grant(parts: &Parts, web: &Web, facts: &Facts, operations: &[Operation]) -> Result<Option<Grant>, Problem> {
    let token = match credentials(&parts.headers).next() {
        None => return Ok(None),
        Some(Err(unreadable)) => return Err(Problem::sign_in(unreadable)),
        Some(Ok(Credentials::Bearer(token))) => token,
        Some(Ok(_)) => return Err(LfsError::BadToken("is missing").into()),
    };
    let grant = web.app.large_files.granted(token.expose(), operations).await?;
    facts.user(&grant.by.name);
    Ok(Some(grant))
}

/// A token is good for one repository, whatever stands at its old address today.
fn check_repo(grant: Option<&Grant>, repo: RepoId) -> Result<(), Problem> {
    match grant {
        Some(grant) if grant.repo != repo => Err(LfsError::BadToken("is for another repository").into()),
        _ => Ok(()),
    }
}

/// Whether the program is git: `git/2.47.3`, or as Apple builds it. Libraries call themselves
/// `git/2.0 (libgit2 1.9)` and the like.
fn is_stock_git(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("git/2.") && (!agent.contains('(') || agent.contains("(Apple Git")))
}

fn facts(parts: &Parts) -> Result<Arc<Facts>, Problem> {
    let facts = parts.extensions.get::<Arc<Facts>>();
    facts.cloned().ok_or_else(Problem::crashed)
}

fn repository(parts: &Parts) -> Result<RepoAddress, Problem> {
    match path::parse(parts.uri.path()) {
        Address::Git(address, _) => Ok(address),
        Address::BadName(error, _) => Err(Problem::bad_name(&error)),
        Address::Unknown => Err(Problem::no_such_page()),
    }
}

fn key(caller: &Caller, facts: &Facts) -> CallerKey {
    match caller {
        Caller::User(user) => CallerKey::User(user.id),
        Caller::Anonymous => CallerKey::stranger(facts.client.address),
    }
}

/// Finds out who asks. With several `Authorization` headers the first that is valid counts; if none
/// is, what is wrong with the first is told.
async fn sign_in(web: &Web, facts: &Facts, headers: &HeaderMap) -> Result<Caller, Problem> {
    let mut refusal = None;
    for credentials in credentials(headers) {
        let outcome = match credentials {
            Ok(credentials) => {
                let signed_in = web.app.accounts.sign_in(credentials, facts.client.address).await;
                signed_in.map_err(Problem::from)
            }
            Err(unreadable) => Err(Problem::sign_in(unreadable)),
        };
        match outcome {
            Ok(caller) => {
                if let Caller::User(user) = &caller {
                    facts.user(&user.name);
                }
                return Ok(caller);
            }
            Err(problem) => refusal = refusal.or(Some(problem)),
        }
    }
    match refusal {
        Some(problem) => Err(problem),
        None => Ok(Caller::Anonymous),
    }
}

/// What the `Authorization` headers hold, or a sentence about what is wrong with one.
fn credentials(headers: &HeaderMap) -> impl Iterator<Item = Result<Credentials, &'static str>> {
    headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .take(AUTHORIZATIONS_MAX)
        .map(read_authorization)
}

fn read_authorization(value: &HeaderValue) -> Result<Credentials, &'static str> {
    const UNREADABLE: &str = "The credentials cannot be read. Send a user name and a password or \
                              an access token.";
    let value = value.as_bytes().trim_ascii();
    let blank = value.iter().position(|&byte| byte == b' ');
    let (scheme, rest) = value.split_at(blank.unwrap_or(value.len()));
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"basic") {
        let bytes = STANDARD.decode(rest).map_err(|_| UNREADABLE)?;
        let pair = String::from_utf8(bytes).map_err(|_| UNREADABLE)?;
        // A password may contain a colon, a user name cannot.
        let (user, password) = pair.split_once(':').ok_or(UNREADABLE)?;
        return Ok(Credentials::Basic {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
        });
    }
    if scheme.eq_ignore_ascii_case(b"bearer") && !rest.is_empty() {
        let token = std::str::from_utf8(rest).map_err(|_| UNREADABLE)?;
        return Ok(Credentials::Bearer(Secret::new(token.to_owned())));
    }
    Err(
        "This server knows Basic and Bearer sign-in only. Send a user name and a password or an \
         access token.",
    )
}
