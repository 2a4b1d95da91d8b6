//! The server's side of a fetch: protocol v0, v1 and v2, one request at a time.
//!
//! A request is parsed whole ([`request`]) before anything is answered; then wants are checked
//! ([`wants`]), haves acknowledged ([`crate::git::negotiate`]), the shallow boundary computed
//! ([`crate::git::shallow`]), and the pack planned and sent ([`response`]).

pub(in crate::git) mod answers;
mod bundles;
pub mod history;
pub(in crate::git) mod nearby;
pub mod object_info;
pub mod request;
pub mod response;
mod serve;
pub mod wants;

use std::io::{self, Write};
use std::sync::Arc;

use self::answers::{ListingKey, ListingKind};
use super::advertise::{advertises_session_id, write_v0, write_v2};
use super::emit::{EmitError, PackStats};
use super::object_store::StoreError;
use super::pkt_line::PktWriter;
use super::shallow::ShallowError;
use super::snapshot::{OpenError, Repository, Snapshot};
use super::walk::WalkError;
use super::work::{Stopped, Work};
use crate::config::GitSettings;
use crate::git::ObjectId;
use history::HistoryError;
use request::{ClientFacts, RequestError};

pub use answers::{AnswerLimits, Answers};
pub use bundles::may_have_bundle;
pub use serve::serve;

/// What a client is told when the reason is none of its business.
const BROKEN_REPOSITORY: &str =
    "this repository cannot be read right now; the reason is in the server's log, ask its administrator";

/// Version of the wire protocol, chosen per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// No `Git-Protocol` header.
    #[default]
    V0,
    /// `version=1`: v0 with a version line before the refs.
    V1,
    /// `version=2`.
    V2,
}

impl Protocol {
    /// The highest version that a `Git-Protocol` header names; what is not known is passed over.
    pub fn from_header(value: &str) -> Self {
        value
            .split(':')
            .filter_map(|part| match part.trim().strip_prefix("version=") {
                Some("1") => Some(Self::V1),
                Some("2") => Some(Self::V2),
                _ => None,
            })
            .max()
            .unwrap_or_default()
    }
}

/// What one request may do.
pub struct UploadOptions<'a> {
    /// The version this very request asked for.
    pub protocol: Protocol,
    /// Limits, and what decides where the repository's own config is silent.
    pub limits: &'a GitSettings,
    /// Ids that refs named until lately and that may still be fetched; asked at most once, and
    /// only for ids that no ref names now.
    pub grace_tips: &'a dyn Fn() -> Vec<ObjectId>,
    /// The address below which this repository's bundles are served, as seen from the repository's own;
    /// `None` where nothing serves them.
    pub bundle_base: Option<&'a str>,
    /// The repository as the caller has just seen it, with all of the request in hand: spares another look.
    pub seen: Option<&'a Arc<Snapshot>>,
    /// Cancellation and processor time.
    pub work: &'a Work,
}

impl UploadOptions<'_> {
    /// The repository as this request sees it.
    fn snapshot(&self, repository: &Repository) -> Result<Arc<Snapshot>, OpenError> {
        self.seen
            .map_or_else(|| repository.snapshot(), |seen| Ok(Arc::clone(seen)))
    }
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: a probe, or a client that found it needs nothing.
    #[default]
    Nothing,
    /// The list of refs.
    Refs,
    /// Objects.
    Fetch,
    /// Sizes of objects.
    ObjectInfo,
    /// Where bundles lie.
    Bundles,
}

/// What was done for a request, for the log.
#[derive(Clone, Debug, Default)]
pub struct UploadStats {
    /// What it asked for.
    pub asked: Asked,
    /// What the client told about itself.
    pub client: ClientFacts,
    /// Refs listed.
    pub refs: u64,
    /// Objects wanted.
    pub wants: usize,
    /// Commits the client named as its own.
    pub haves: usize,
    /// Of these, acknowledged ones.
    pub common: usize,
    /// The filter, as it was asked.
    pub filter: Option<String>,
    /// A cut history was asked for or is what the client has.
    pub is_shallow: bool,
    /// The pack, if one was sent.
    pub pack: Option<PackStats>,
}

/// Why a request failed. What the client may know was already sent to it.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It could not be understood.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It asks for something that is not to be had.
    #[error("{0}")]
    Refused(String),
    /// No boundary could be computed.
    #[error(transparent)]
    Shallow(#[from] ShallowError),
    /// The repository could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Objects could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// History is damaged, or the work was stopped while it was walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The answer could not be sent.
    #[error("the answer could not be sent: {0}")]
    Output(#[from] io::Error),
}

impl From<HistoryError> for UploadError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => Self::Store(error),
            HistoryError::Stopped(error) => Self::Stopped(error),
        }
    }
}

impl From<EmitError> for UploadError {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Store(error) => Self::Store(error),
            EmitError::Stopped(error) => Self::Stopped(error),
        }
    }
}

impl UploadError {
    /// What the client is told; `None` if nobody listens any more.
    pub fn sentence(&self) -> Option<String> {
        let stopped = |stopped: &Stopped| match stopped {
            Stopped::Cancelled | Stopped::Output(_) => None,
            Stopped::CpuBudget { .. } => Some(stopped.to_string()),
        };
        match self {
            Self::Request(error) => Some(error.to_string()),
            Self::Refused(sentence) => Some(sentence.clone()),
            Self::Shallow(ShallowError::History(HistoryError::Stopped(error)))
            | Self::Walk(WalkError::Stopped(error))
            | Self::Stopped(error) => stopped(error),
            Self::Walk(error @ WalkError::Missing(_)) => Some(error.to_string()),
            Self::Shallow(ShallowError::History(HistoryError::Store(_)))
            | Self::Walk(WalkError::Store(_))
            | Self::Open(_)
            | Self::Store(_) => Some(BROKEN_REPOSITORY.to_owned()),
            Self::Shallow(error) => Some(error.to_string()),
            Self::Output(_) => None,
        }
    }

    /// Whether the client, not the server, is the cause.
    pub fn is_client_fault(&self) -> bool {
        match self {
            Self::Request(_) | Self::Refused(_) => true,
            Self::Shallow(error) => !matches!(error, ShallowError::History(_)),
            _ => false,
        }
    }
}

/// Writes the body of `GET …/info/refs?service=git-upload-pack`.
///
/// # Errors
/// [`UploadError::Output`].
pub fn advertise(snapshot: &Snapshot, options: &UploadOptions<'_>, out: &mut dyn Write) -> Result<(), UploadError> {
    let lists_refs = options.protocol != Protocol::V2;
    let Some(answers) = snapshot
        .answers
        .as_ref()
        // An id of its own for each answer.
        .filter(|_| lists_refs && !advertises_session_id(snapshot, options.limits))
    else {
        return Ok(write_advertisement(snapshot, options, out)?);
    };
    let key = ListingKey {
        snapshot: snapshot.number(),
        what: ListingKind::Advertisement(options.protocol),
    };
    let listing = answers.listing(key, |bytes| {
        write_advertisement(snapshot, options, bytes)?;
        Ok(snapshot.refs.all().len() as u64)
    })?;
    out.write_all(&listing.bytes)?;
    out.flush()?;
    Ok(())
}

fn write_advertisement(snapshot: &Snapshot, options: &UploadOptions<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = PktWriter::new(out);
    match options.protocol {
        Protocol::V2 => write_v2(snapshot, options.limits, &mut writer)?,
        Protocol::V0 => write_v0(snapshot, options.limits, false, &mut writer)?,
        Protocol::V1 => write_v0(snapshot, options.limits, true, &mut writer)?,
    }
    writer.flush_out()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_known_version_of_a_header_counts() {
        for (header, expected) in [
            ("", Protocol::V0),
            ("version=1", Protocol::V1),
            ("version=2", Protocol::V2),
            ("version=3", Protocol::V0),
            ("version=1:version=2", Protocol::V2),
            ("version=2:version=1:side=x", Protocol::V2),
            ("key=value:version=1", Protocol::V1),
            ("version", Protocol::V0),
        ] {
            assert_eq!(Protocol::from_header(header), expected, "{header}");
        }
    }
}
