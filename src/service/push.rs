//! Pushes: what may move, the row that says so before it moves, and what follows.
//!
//! ```text
//! receive ── commands   what is asked for, before anything is made for it
//!    │       made       a repository that this push makes, and unmakes if nothing gets in
//!    │       lock_check  what others have locked
//!    │       gate       rules · durable row · refs move · consequences · row closed
//!    └─ git::receive_pack
//!    │       pointers   large files that new commits need are here
//! unclosed              rows of done pushes that the database did not take
//! recover               at the start: what a crash left open is settled by what the refs say
//! notice                what stock git moved on disk gets rows, too
//! ```

mod commands;
mod consequences;
mod gate;
mod lock_check;
mod made;
mod notice;
mod pointers;
mod recover;
mod unclosed;

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;

use tokio::runtime::Handle;

use self::commands::Beginning;
use self::gate::{Closed, Gate};
use self::made::{Inside, Made};
use self::notice::Notices;
pub use self::recover::RecoverError;
use self::unclosed::Unclosed;
use super::access::{Access, Opened, PushTarget};
use super::notes::CommitNotes;
use super::repos::Repos;
use super::sign_in::SignedIn;
use super::transfer::{
    Answer, CallerKey, Coding, Errors, Incoming, Kind, Tools, Transfer, TransferError, check_switch, coding,
    note_session, snapshot,
};
use super::upkeep::PushedTo;
use crate::config::Settings;
use crate::db::{Db, RefChange};
use crate::git::ObjectId;
use crate::git::receive_pack::{self, PushGate, Pusher, ReceiveOptions, RefUpdate, SignedPushes};
use crate::git::repo_init::{self, ObjectFormat};
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::upload_pack::Protocol;
use crate::git::work::Work;
use crate::ids::{GitId, RepoId};
use crate::names::RepoAddress;

/// Somebody who pushes, and where to.
#[derive(Clone, Debug)]
pub struct Push {
    /// Who.
    pub by: SignedIn,
    /// Where to.
    pub target: PushTarget,
    /// In which version of the protocol.
    pub protocol: Protocol,
    /// From which network address.
    pub address: IpAddr,
    /// The client is git itself, not a library that speaks like it.
    pub is_stock_git: bool,
}

/// Runs pushes and keeps their rows. Cheap to clone.
#[derive(Clone)]
pub struct Pushes {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Settings>,
    db: Db,
    access: Access,
    transfer: Transfer,
    repos: Repos,
    made: Arc<Made>,
    notices: Notices,
    unclosed: Unclosed,
    pushed_to: PushedTo,
    notes: CommitNotes,
    /// Repositories with nothing in them: stand for one that a push is to make.
    empty: EmptyRepositories,
    cache_dir: Box<Path>,
    /// What nonces of signed pushes are made by; `None` if they are not offered everywhere.
    nonce_seed: Option<Vec<u8>>,
}

/// One for each object format, made when first needed.
#[derive(Default)]
struct EmptyRepositories {
    sha1: OnceLock<Arc<Repository>>,
    sha256: OnceLock<Arc<Repository>>,
}

impl Pushes {
    /// `pushed_to` is told of pushes; `cache_dir` is a folder whose loss costs nothing; `nonce_seed` is a secret
    /// of this installation, or `None` if signed pushes are offered only where a repository's own config
    /// has a seed.
    #[allow(clippy::too_many_arguments, reason = "what pushes stand on, each for one thing")]
    pub fn new(
        config: Arc<Settings>,
        db: Db,
        access: Access,
        transfer: Transfer,
        repos: Repos,
        pushed_to: PushedTo,
        notes: CommitNotes,
        cache_dir: &Path,
        nonce_seed: Option<Vec<u8>>,
    ) -> Self {
        let notices = Notices::new(db.clone(), config.repo.max_open);
        Self {
            inner: Arc::new(Inner {
                db,
                access,
                transfer,
                repos,
                made: Arc::new(Made::new(made::markers_in(cache_dir))),
                notices,
                unclosed: Unclosed::default(),
                pushed_to,
                notes,
                empty: EmptyRepositories::default(),
                cache_dir: cache_dir.into(),
                nonce_seed,
                config,
            }),
        }
    }

    /// The answer to `GET info/refs?service=git-receive-pack`. Where a push would make the
    /// repository, it looks like an empty one, and nothing is made.
    ///
    /// # Errors
    /// [`TransferError`] while nothing has been sent.
    pub async fn advertise(&self, push: Push) -> Result<Answer, TransferError> {
        let inner = Arc::clone(&self.inner);
        let transfer = &self.inner.transfer;
        let admitted = transfer.admit(CallerKey::User(push.by.id))?;
        let work = move |tools: Tools<'_>| {
            let (repository, trust_hooks) = match &push.target {
                PushTarget::Existing(repo) => {
                    let repository = inner.transfer.open(&repo.path, repo.trust_hooks)?;
                    (repository, repo.trust_hooks)
                }
                PushTarget::Creatable(_) => (inner.empty(ObjectFormat::Sha1)?, false),
            };
            let snapshot = snapshot(&repository)?;
            check_switch(snapshot.config.http_receive_pack, "pushes")?;
            let options = inner.options(&push, trust_hooks, tools.work);
            if push.is_stock_git && matches!(push.target, PushTarget::Creatable(_)) {
                let mut advertisement = Vec::new();
                receive_pack::advertise(&snapshot, &options, &mut advertisement)?;
                let offer = commands::offer_sha256(&advertisement);
                return tools.output.write_all(&offer).map_err(TransferError::Answer);
            }
            receive_pack::advertise(&snapshot, &options, tools.output)?;
            Ok(())
        };
        transfer
            .run(Kind::Listing, Errors::BreakOff, admitted, None, work)
            .await
    }

    /// The answer to `POST git-receive-pack`.
    ///
    /// # Errors
    /// [`TransferError`] while nothing has been sent; a push that is refused is told in the stream.
    pub async fn receive(&self, push: Push, incoming: Incoming) -> Result<Answer, TransferError> {
        let inner = Arc::clone(&self.inner);
        let transfer = &self.inner.transfer;
        let admitted = transfer.admit(CallerKey::User(push.by.id));
        let handle = Handle::current();
        let (coding, silence) = (incoming.coding, transfer.silence());
        // Whoever has not begun to send takes no turn.
        let peeked = commands::peek(incoming.body, coding, silence).await;
        let (first_line, outcome) = match (peeked, admitted) {
            (Err(error), _) => (Vec::new(), Err(error)),
            (Ok((first_line, _)), Err(error)) => (first_line, Err(error)),
            (Ok((first_line, body)), Ok(admitted)) => {
                let run = transfer.run(Kind::Push, Errors::InStream, admitted, Some(body), move |tools| {
                    inner.receive(&handle, &push, coding, tools)
                });
                (first_line, run.await)
            }
        };
        match outcome {
            Err(error) if error.is_refusal() => {
                tracing::info!(%error, "A push was refused: {error}");
                let mut answer = Vec::new();
                commands::refuse(&first_line, &error.to_string(), &mut answer).map_err(TransferError::Answer)?;
                Ok(Answer::whole(answer))
            }
            outcome => outcome,
        }
    }

    /// Waits until no transfer runs any more. Only for the end of the server.
    pub async fn ended(&self) {
        self.inner.transfer.ended().await;
    }

    /// Ids that refs of `repo` named within the grace time, those of hidden refs left out. May block.
    pub(super) fn grace_tips(&self, handle: &Handle, repo: &Opened) -> Vec<ObjectId> {
        self.inner.grace_tips(handle, repo)
    }

    /// Has changes that stock git made stored soon, if `now` holds any.
    pub(super) fn notice(&self, handle: &Handle, repo: RepoId, repository: &Arc<Repository>, now: &Arc<Snapshot>) {
        if self.inner.notices.has_seen(repo, now) {
            return;
        }
        let (inner, repository) = (Arc::clone(&self.inner), Arc::clone(repository));
        let looking = handle.clone();
        handle.spawn_blocking(move || {
            if let Err(error) = inner.notices.look(&looking, repo, &repository) {
                tracing::warn!(repo.id = %repo, %error, "Changes on disk cannot be recorded now");
            }
        });
    }
}

impl Inner {
    fn receive(
        self: &Arc<Self>,
        handle: &Handle,
        push: &Push,
        coding: Coding,
        tools: Tools<'_>,
    ) -> Result<(), TransferError> {
        // Clients compress short pushes only, and a pack does not shrink.
        let max_bytes = match (coding, &self.config.git) {
            (Coding::Plain, _) => u64::MAX,
            (Coding::Gzip, git) if git.max_push_bytes == 0 => git.max_compressed_push_bytes,
            (Coding::Gzip, git) => git.max_push_bytes.min(git.max_compressed_push_bytes),
        };
        let exceeded = coding::Exceeded::default();
        let Tools { work, input, output } = tools;
        let mut input = coding::decoded(input, coding, max_bytes, &exceeded);
        let address = match &push.target {
            PushTarget::Existing(repo) => {
                let tools = Tools {
                    work,
                    input: &mut *input,
                    output,
                };
                return self.push_into(handle, repo, false, push, tools);
            }
            PushTarget::Creatable(address) => address,
        };
        let commands = match commands::read(&mut *input).map_err(TransferError::Body)? {
            Beginning::Nothing => return Ok(()),
            Beginning::Commands(commands) => commands,
        };
        let format = commands::object_format(&commands);
        let mut input = commands.chain(input);
        let tools = Tools {
            work,
            input: &mut input,
            output,
        };
        match self.make(handle, push, address, format) {
            Ok((repo, is_made)) => self.push_into(handle, &repo, is_made, push, tools),
            Err(refusal) => self.close(push, refusal, tools),
        }
    }

    /// Answers a push that goes nowhere with a sentence.
    fn close(&self, push: &Push, sentence: String, tools: Tools<'_>) -> Result<(), TransferError> {
        let Tools { work, input, output } = tools;
        let commands = match commands::read(&mut *input).map_err(TransferError::Body)? {
            Beginning::Nothing => return Ok(()),
            Beginning::Commands(commands) => commands,
        };
        let empty = self.empty(commands::object_format(&commands))?;
        let tools = Tools {
            work,
            input: &mut commands.chain(input),
            output,
        };
        self.serve(&empty, false, push, &mut Closed(sentence), tools)
    }

    /// Makes the repository that a push goes to; if somebody was faster, takes theirs.
    fn make(
        &self,
        handle: &Handle,
        push: &Push,
        address: &RepoAddress,
        format: ObjectFormat,
    ) -> Result<(Opened, bool), String> {
        let id = RepoId::new();
        let internal = |error: &dyn std::error::Error| {
            tracing::error!(repository = %address, %error, "A repository cannot be made for a push");
            "the server cannot make this repository now; its log says why".to_owned()
        };
        self.made.mark(id).map_err(|error| internal(&error))?;
        match handle.block_on(self.repos.create_for_push(id, &push.by, address, format)) {
            Ok(made) => {
                if !made.is_new {
                    self.made.unmark(id);
                }
                Ok((made.repo, made.is_new))
            }
            Err(error) => {
                self.made.unmark(id);
                Err(error.to_string())
            }
        }
    }

    fn push_into(
        self: &Arc<Self>,
        handle: &Handle,
        repo: &Opened,
        is_made: bool,
        push: &Push,
        tools: Tools<'_>,
    ) -> Result<(), TransferError> {
        let _inside = Inside::enter(&self.made, repo.id, is_made, || self.unmake(handle, repo));
        // From here on no other push takes it away; one may have done so just before.
        let repository = match self.transfer.open(&repo.path, repo.trust_hooks) {
            Err(TransferError::Gone { .. }) => {
                let sentence = format!("{} was removed while you were pushing; push again", repo.address);
                return self.close(push, sentence, tools);
            }
            opened => opened?,
        };
        let snapshot = snapshot(&repository)?;
        check_switch(snapshot.config.http_receive_pack, "pushes")?;
        let mut gate = Gate::new(
            Arc::clone(self),
            handle.clone(),
            tools.work,
            Arc::clone(&repository),
            repo.clone(),
            push,
            is_made,
        );
        self.serve(&repository, repo.trust_hooks, push, &mut gate, tools)
    }

    fn serve(
        &self,
        repository: &Repository,
        trust_hooks: bool,
        push: &Push,
        gate: &mut dyn PushGate,
        tools: Tools<'_>,
    ) -> Result<(), TransferError> {
        let options = self.options(push, trust_hooks, tools.work);
        let stats = receive_pack::serve(repository, &options, gate, tools.input, tools.output)?;
        note_session(stats.session_id.as_deref(), stats.agent.as_deref());
        tracing::debug!(?stats, "Push served");
        Ok(())
    }

    fn options<'a>(&'a self, push: &Push, trust_hooks: bool, work: &'a Work) -> ReceiveOptions<'a> {
        ReceiveOptions {
            // There is no v2 for pushes; who asks for it gets v0.
            protocol: match push.protocol {
                Protocol::V2 => Protocol::V0,
                protocol => protocol,
            },
            limits: &self.config.git,
            work,
            trust_hooks,
            pusher: Pusher {
                name: push.by.name.to_string(),
                address: push.address.to_string(),
            },
            hook_env: Vec::new(),
            signed_pushes: SignedPushes {
                seed: self.nonce_seed.clone(),
                scope: match &push.target {
                    PushTarget::Existing(repo) => repo.address.to_string(),
                    PushTarget::Creatable(address) => address.to_string(),
                }
                // Names compare without case.
                .to_ascii_lowercase(),
            },
            gathers_pointers: self.config.lfs.enabled && self.config.lfs.require_objects,
        }
    }

    /// Removes a repository that a push made and nothing got into.
    fn unmake(&self, handle: &Handle, repo: &Opened) {
        self.transfer.forget(&repo.path);
        if let Err(error) = handle.block_on(self.repos.remove_empty(repo.id)) {
            tracing::error!(repository = %repo.address, %error,
                "A repository that a refused push made stays behind");
        }
    }

    /// Ids that refs of `repo` named within the grace time, those of hidden refs left out.
    fn grace_tips(&self, handle: &Handle, repo: &Opened) -> Vec<ObjectId> {
        let grace_us = self.config.git.want_grace_secs.saturating_mul(1_000_000);
        let since_us = self.db.now_us().saturating_sub_unsigned(grace_us);
        let moved = match handle.block_on(self.db.moved_old_ids(repo.id, since_us)) {
            Ok(moved) => moved,
            Err(error) => {
                tracing::error!(repo.id = %repo.id, %error, "Old ids cannot be read");
                return Vec::new();
            }
        };
        let Ok(snapshot) = self
            .transfer
            .open(&repo.path, repo.trust_hooks)
            .and_then(|repository| snapshot(&repository))
        else {
            return Vec::new();
        };
        moved
            .iter()
            .filter(|moved| snapshot.is_visible(&moved.name))
            .filter_map(|moved| ObjectId::try_from(moved.old.as_bytes()).ok())
            .collect()
    }

    /// The repository of this format with nothing in it.
    fn empty(&self, format: ObjectFormat) -> Result<Arc<Repository>, TransferError> {
        let (known, name) = match format {
            ObjectFormat::Sha1 => (&self.empty.sha1, "empty.git"),
            ObjectFormat::Sha256 => (&self.empty.sha256, "empty-sha256.git"),
        };
        if let Some(empty) = known.get() {
            return Ok(Arc::clone(empty));
        }
        let path = self.cache_dir.join(name);
        if !path.join("HEAD").is_file() {
            // Somebody else may make it at the same time; then theirs is as good.
            let made = repo_init::init(&path, &self.config.repo.default_branch, format);
            if let (Err(error), false) = (made, path.join("HEAD").is_file()) {
                return Err(TransferError::Spool(std::io::Error::other(error)));
            }
        }
        let empty = self.transfer.open(&path, false)?;
        Ok(Arc::clone(known.get_or_init(|| empty)))
    }
}

fn archived(address: &RepoAddress) -> String {
    format!(
        "{address} is archived: it can be read but not changed. Ask the administrator of this \
         server to run: auxin repo unarchive {address}"
    )
}

/// An update as the database has it.
fn change(update: &RefUpdate) -> RefChange {
    let id = |id: &ObjectId| GitId::from_bytes(id.as_bytes()).ok().flatten();
    RefChange {
        name: update.name.to_vec(),
        old: id(&update.old),
        new: id(&update.new),
    }
}
