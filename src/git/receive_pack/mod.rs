//! The server's side of a push.
//!
//! In this order: commands, pack into quarantine, checks of its objects, connectivity, the
//! repository's and the server's rules, hooks; then objects move in, the push row is written, refs
//! change, the row is closed, and the report goes out. Up to the row a client that goes away ends
//! it all without a trace; from the row on the push is carried through whatever the client does.

mod advertise;
mod bases;
pub mod certificate;
mod channel;
pub mod commands;
mod objects;
mod old_values;
mod proc_receive;
mod report;
mod rules;
mod run_hooks;
mod serve;
mod signed;
mod taken;

use std::cell::RefCell;
use std::io;
use std::path::Path;

use bstr::BString;
use gix::ObjectId;

pub use self::advertise::advertise;
pub use self::serve::serve;
use super::fault;
use super::lfs_pointers::Pointers;
use super::object_store::{ObjectKind, ObjectStore, StoreError};
use super::quarantine;
pub use super::ref_transaction::RefUpdate;
use super::ref_transaction::{self, RefStore, ReflogIdentity};
use super::repo_config::RepoConfig;
use super::snapshot::{OpenError, Repository, Snapshot};
use super::upload_pack::Protocol;
use super::work::{Stopped, Work};
use crate::config::GitSettings;
use certificate::Nonces;
use commands::CommandError;

/// Memory for delta bases while tags are peeled, in bytes.
const PEEL_CACHE_BYTES: usize = 4 << 20;

/// A push as the server's rules see it.
pub struct PushRequest<'a> {
    /// The updates that nothing speaks against so far.
    pub updates: &'a [RefUpdate],
    /// The push options.
    pub options: &'a [BString],
    /// All refs change or none.
    pub atomic: bool,
    /// The repository's objects and the pushed ones.
    pub objects: &'a ObjectStore,
    /// The folder the pushed objects wait in.
    pub quarantine: &'a Path,
    /// Git LFS pointers among the pushed objects, if they were to be gathered.
    pub pointers: &'a Pointers,
}

/// Why the server's rules or records stop a push: a sentence for the person who pushes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GateError(String);

impl GateError {
    /// Stops the push with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// What the service decides and records about a push; called in this order from the blocking thread.
pub trait PushGate: Send {
    /// Decides about each update: `None` allows it, a sentence refuses it.
    ///
    /// # Errors
    /// [`GateError`] refuses them all.
    fn check(&mut self, push: &PushRequest<'_>) -> Result<Vec<Option<String>>, GateError>;

    /// Records durably what is about to happen, before any ref changes.
    ///
    /// # Errors
    /// [`GateError`] refuses them all.
    fn begin(&mut self, accepted: &[RefUpdate], atomic: bool) -> Result<(), GateError>;

    /// Records what did happen; the lines returned are shown to the person who pushes.
    ///
    /// # Errors
    /// [`GateError`] is shown, too; the refs stay as they are.
    fn finish(&mut self, results: &[(RefUpdate, bool)]) -> Result<Vec<String>, GateError>;
}

/// Who pushes.
#[derive(Clone, Debug)]
pub struct Pusher {
    /// Account name.
    pub name: String,
    /// Network address, without port.
    pub address: String,
}

impl Pusher {
    fn email(&self) -> String {
        format!("{}@http.{}", self.name, self.address)
    }
}

/// What one push may do.
pub struct ReceiveOptions<'a> {
    /// The version this very request asked for; v2 is answered as v0.
    pub protocol: Protocol,
    /// Limits, and what decides where the repository's own config is silent.
    pub limits: &'a GitSettings,
    /// Cancellation and processor time.
    pub work: &'a Work,
    /// An administrator trusts this repository's hooks, and its config where it loosens checks.
    pub trust_hooks: bool,
    /// Who pushes.
    pub pusher: Pusher,
    /// Further variables for hooks.
    pub hook_env: Vec<(String, String)>,
    /// Signed pushes.
    pub signed_pushes: SignedPushes,
    /// Git LFS pointers are gathered for the gate.
    pub gathers_pointers: bool,
}

/// How nonces for signed pushes are made.
#[derive(Clone, Debug, Default)]
pub struct SignedPushes {
    /// The server's own seed; without it, and without one in the repository's config, signed pushes are
    /// not offered.
    pub seed: Option<Vec<u8>>,
    /// What tells this repository from others, and is the same in all requests of one push.
    pub scope: String,
}

/// What nonces are made by; `None` if signed pushes are not offered.
fn nonces<'a>(snapshot: &'a Snapshot, options: &'a ReceiveOptions<'_>) -> Option<Nonces<'a>> {
    let config = &snapshot.config;
    let own = config.cert_nonce_seed.as_ref().map(|seed| seed.as_slice());
    let seed = own.or(options.signed_pushes.seed.as_deref())?;
    (!seed.is_empty()).then(|| Nonces {
        seed,
        scope: &options.signed_pushes.scope,
        slop_secs: config
            .cert_nonce_slop_secs
            .unwrap_or(options.limits.cert_nonce_slop_secs),
    })
}

/// What became of one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The update.
    pub update: RefUpdate,
    /// Why it was refused; `None` if it was carried out.
    pub refused: Option<String>,
}

/// What was done for a push, for the log.
#[derive(Clone, Debug, Default)]
pub struct ReceiveStats {
    /// Every update and what became of it; none for a probe.
    pub outcomes: Vec<Outcome>,
    /// Objects that came, with those that completed a thin pack.
    pub objects: u32,
    /// Objects that completed a thin pack.
    pub completed: u32,
    /// Size of the stored pack, in bytes.
    pub pack_bytes: u64,
    /// Why the pack was not taken in.
    pub unpack_error: Option<String>,
    /// The push certificate, stored as this object.
    pub certificate: Option<ObjectId>,
    /// How the client calls itself.
    pub agent: Option<String>,
    /// What the client calls this session.
    pub session_id: Option<String>,
}

/// Why a push could not be dealt with. What the client may know was already sent to it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It could not be understood.
    #[error(transparent)]
    Commands(#[from] CommandError),
    /// The repository could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Objects could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client went away, or the work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The answer could not be sent.
    #[error("the answer could not be sent: {0}")]
    Output(#[from] io::Error),
}

/// At start: removes what pushes into the repository at `git_dir` left when the process died.
///
/// # Errors
/// The disk's.
pub fn sweep(git_dir: &Path) -> io::Result<()> {
    if fault::is_on("no-sweep") {
        return Ok(());
    }
    ref_transaction::sweep(git_dir);
    quarantine::sweep(git_dir)
}

/// At start: settles a push whose row is open, by what the refs say.
///
/// An atomic push that had begun to move refs is finished. Returns for each update whether its ref
/// now names the new value.
pub fn settle(repository: &Repository, updates: &[RefUpdate], atomic: bool) -> Vec<bool> {
    let snapshot = match repository.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::error!(repository = %repository.path().display(), %error, "a push cannot be settled");
            return vec![false; updates.len()];
        }
    };
    let identity = ReflogIdentity {
        name: "auxin".into(),
        email: "auxin@localhost".into(),
        at_secs: now_secs(),
    };
    with_ref_store(repository, &snapshot.config, &snapshot.objects, &identity, |store| {
        ref_transaction::settle(store, updates, atomic)
    })
}

/// Runs with the means to change refs. `objects` holds all that they are to name.
fn with_ref_store<R>(
    repository: &Repository,
    config: &RepoConfig,
    objects: &ObjectStore,
    identity: &ReflogIdentity,
    run: impl FnOnce(&RefStore<'_>) -> R,
) -> R {
    let reader = RefCell::new(objects.reader(PEEL_CACHE_BYTES));
    let peel = |id: &ObjectId| {
        let mut reader = reader.borrow_mut();
        match reader.header(id) {
            Ok(Some((ObjectKind::Tag, _))) => reader.peel(id).ok().flatten().map(|(id, _)| id),
            _ => None,
        }
    };
    run(&RefStore {
        git_dir: repository.path(),
        reflogs: config.log_ref_updates,
        identity,
        peel: &peel,
    })
}

/// Seconds since 1970.
fn now_secs() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
