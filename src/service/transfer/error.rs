//! Why transfers fail, and who hears of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::pool::{Full, RETRY_AFTER_SECS};
use crate::git::bundle::BundleError;
use crate::git::receive_pack::ReceiveError;
use crate::git::snapshot::OpenError;
use crate::git::upload_pack::UploadError;
use crate::git::walk::WalkError;
use crate::service::lfs::LfsError;
use crate::service::music::MusicError;

/// Why a transfer did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Too many requests wait for a turn.
    #[error("The server is busy with other transfers. Try again in {retry_after_secs} seconds.")]
    Busy {
        /// When to try again, in seconds.
        retry_after_secs: u64,
    },
    /// The caller has too many requests running.
    #[error(
        "You have {limit} requests running here at once, which is the limit \
         (server.max_requests_per_caller). Wait for some of them to end."
    )]
    TooMany {
        /// The limit.
        limit: usize,
        /// When to try again, in seconds.
        retry_after_secs: u64,
    },
    /// The request is longer than the server takes.
    #[error(
        "The request is longer than {max_bytes} bytes, which is this server's limit \
         (git.max_request_bytes). Fetch fewer branches or tags at once."
    )]
    TooLarge {
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// The client sent nothing for too long.
    #[error("Nothing arrived for {secs} seconds. Check the line and try again.")]
    Silent {
        /// The limit, in seconds.
        secs: u64,
    },
    /// The repository's own configuration forbids it.
    #[error("This repository's own configuration (http.*pack) takes no {0} over HTTP.")]
    SwitchedOff(&'static str),
    /// The request's body broke off or cannot be read.
    #[error("the request broke off")]
    Body(#[source] io::Error),
    /// A temporary file cannot be used.
    #[error("a request cannot be kept on disk")]
    Spool(#[source] io::Error),
    /// The repository was there when its address was looked up, and is not any more.
    #[error("This repository was removed just now.")]
    Gone {
        /// Where it lay.
        path: PathBuf,
    },
    /// The repository cannot be read.
    #[error("the repository at {} cannot be opened", path.display())]
    Open {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        #[source]
        cause: Arc<OpenError>,
    },
    /// A fetch failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A push failed.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// There is no such bundle for this caller.
    #[error("There is no such bundle here. Clone without it; git does so by itself.")]
    NoBundle,
    /// A bundle cannot be read.
    #[error("a bundle cannot be read")]
    Bundle(#[source] BundleError),
    /// A large file cannot be taken or given.
    #[error(transparent)]
    Lfs(#[from] LfsError),
    /// Projects cannot be compared.
    #[error(transparent)]
    Music(#[from] MusicError),
    /// The answer could not be sent.
    #[error("the answer could not be sent")]
    Answer(#[source] io::Error),
    /// The work panicked; the log has the message.
    #[error("the transfer ended unexpectedly")]
    Crashed,
}

impl TransferError {
    /// Whether this is a refusal whose sentence the person at the client should read. Git shows no body
    /// of an answer to a POST, so there it has to be told in the protocol: see [`refused_fetch`].
    ///
    /// [`refused_fetch`]: super::Answer::refused_fetch
    pub(in crate::service) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::TooMany { .. }
                | Self::TooLarge { .. }
                | Self::Silent { .. }
                | Self::SwitchedOff(_)
        )
    }

    /// Whether the server is to blame, not the client or the line to it.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Spool(_) | Self::Open { .. } | Self::Bundle(_) | Self::Crashed => true,
            Self::Upload(error) => matches!(
                error,
                UploadError::Open(_) | UploadError::Store(_) | UploadError::Walk(WalkError::Store(_))
            ),
            Self::Lfs(error) => error.is_ours(),
            Self::Music(error) => matches!(error, MusicError::Unreadable(_)),
            Self::Receive(error) => matches!(error, ReceiveError::Open(_) | ReceiveError::Store(_)),
            Self::Busy { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::Silent { .. }
            | Self::SwitchedOff(_)
            | Self::Body(_)
            | Self::Gone { .. }
            | Self::NoBundle
            | Self::Answer(_) => false,
        }
    }
}

impl From<Full> for TransferError {
    fn from(Full: Full) -> Self {
        Self::Busy {
            retry_after_secs: RETRY_AFTER_SECS,
        }
    }
}
