//! One push from its first line to its report.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use gix::ObjectId;

use super::channel::Channel;
use super::commands::{self, CommandError, CommandLimits, PushCommands};
use super::objects::{Pushed, UnpackError, drain};
use super::proc_receive::RefReport;
use super::report::report;
use super::rules;
use super::run_hooks::{TransactionHook, hooks};
use super::{
    GateError, Outcome, PushGate, PushRequest, ReceiveError, ReceiveOptions, ReceiveStats, RefUpdate, nonces, now_secs,
    with_ref_store,
};
use crate::git::fault;
use crate::git::hooks::Hooks;
use crate::git::index_pack::{IndexError, object_id};
use crate::git::lfs_pointers::Pointers;
use crate::git::object_store::{ObjectKind, ObjectStore};
use crate::git::pkt_line::PktReader;
use crate::git::quarantine::{KeptPacks, Quarantine};
use crate::git::ref_transaction::{RefStore, ReflogIdentity, add_shallow};
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::walk::WalkError;
use crate::git::work::Stopped;

/// Said where the reason is none of the client's business.
const BROKEN_REPOSITORY: &str =
    "this repository cannot be read right now; the reason is in the server's log, ask its administrator";

/// How often a waiting client is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who carries an update out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// This server.
    #[default]
    Own,
    /// The hook `proc-receive`, which was not asked yet.
    Scheduled,
    /// The hook, which has answered.
    Taken,
}

/// One update on its way.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// What is asked for.
    pub update: RefUpdate,
    /// Why it is refused.
    pub refused: Option<String>,
    /// It needs nothing done, and is no event.
    pub is_done: bool,
    /// Who carries it out.
    pub stage: Stage,
    /// What the hook made of it.
    pub reports: Vec<RefReport>,
}

impl Command {
    pub fn new(update: RefUpdate) -> Self {
        Self {
            update,
            refused: None,
            is_done: false,
            stage: Stage::Own,
            reports: Vec::new(),
        }
    }

    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Refuses it, unless it is refused already.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        self.refused.get_or_insert(reason.into());
    }

    /// Nothing speaks against it, and there is something to do.
    pub fn is_open(&self) -> bool {
        !self.is_refused() && !self.is_done
    }

    /// It is this server that has something to do.
    pub fn is_own(&self) -> bool {
        self.is_open() && self.stage == Stage::Own
    }

    /// What was done for it, as the hook tells it if a hook did it.
    pub fn changes(&self) -> Vec<RefUpdate> {
        match self.reports.as_slice() {
            [] => vec![self.update.clone()],
            reports => reports.iter().map(|report| report.change(&self.update)).collect(),
        }
    }
}

/// What the steps of one push share.
pub(super) struct Session<'a> {
    pub repository: &'a Repository,
    pub options: &'a ReceiveOptions<'a>,
    pub snapshot: Arc<Snapshot>,
    pub commands: &'a PushCommands,
    pub channel: RefCell<Channel<'a>>,
    pub hooks: Hooks,
    /// The id of the push certificate.
    pub certificate: Option<ObjectId>,
}

/// Deals with one `POST git-receive-pack`, whose body, inflated, is `input`.
///
/// Refusals are told to the client in the report and are no errors here. A body of nothing but a
/// flush is a probe: it is answered with nothing and leaves no trace.
///
/// # Errors
/// [`ReceiveError`], for the log; the client was told what it may know.
pub fn serve(
    repository: &Repository,
    options: &ReceiveOptions<'_>,
    gate: &mut dyn PushGate,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<ReceiveStats, ReceiveError> {
    let mut commands = PushCommands::default();
    let mut tick = || options.work.check();
    let max_drain_bytes = options.limits.max_drain_bytes;
    let snapshot = match repository.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            drain(input, max_drain_bytes, &mut tick)?;
            Channel::new(out, &commands.capabilities, None).fatal(BROKEN_REPOSITORY)?;
            return Err(error.into());
        }
    };
    let limits = CommandLimits::from(options.limits);
    let mut reader = PktReader::new(input, limits.max_bytes);
    let read = commands::read(&mut reader, snapshot.hash(), &limits, &mut commands);
    let mut input = reader.into_rest();
    if let Err(error) = read {
        drain(&mut input, max_drain_bytes, &mut tick)?;
        Channel::new(out, &commands.capabilities, None).fatal(&error.to_string())?;
        return Err(error.into());
    }
    if commands.updates.is_empty() {
        return Ok(ReceiveStats::default());
    }
    if commands.certificate.is_some() && nonces(&snapshot, options).is_none() {
        drain(&mut input, max_drain_bytes, &mut tick)?;
        let error = CommandError::Signed;
        Channel::new(out, &commands.capabilities, None).fatal(&error.to_string())?;
        return Err(error.into());
    }
    let certificate = commands
        .certificate
        .as_ref()
        .and_then(|certificate| object_id(snapshot.hash(), ObjectKind::Blob, &certificate.text));
    fault::point("after-commands");
    let every_secs = snapshot
        .config
        .receive_keep_alive_secs
        .unwrap_or(options.limits.keep_alive_secs);
    let keep_alive = Some(Duration::from_secs(every_secs)).filter(|every| !every.is_zero());
    let session = Session {
        repository,
        options,
        hooks: hooks(repository, options, &snapshot, &commands, certificate),
        certificate,
        channel: RefCell::new(Channel::new(out, &commands.capabilities, keep_alive)),
        commands: &commands,
        snapshot,
    };
    session.run(gate, &mut input)
}

impl Session<'_> {
    fn run(&self, gate: &mut dyn PushGate, input: &mut dyn Read) -> Result<ReceiveStats, ReceiveError> {
        let mut commands: Vec<Command> = self.commands.updates.iter().cloned().map(Command::new).collect();
        let mut stats = ReceiveStats {
            agent: self.commands.capabilities.agent.clone(),
            session_id: self.commands.capabilities.session_id.clone(),
            certificate: self.certificate,
            ..ReceiveStats::default()
        };
        let carried = self.carry(&mut commands, gate, input, &mut stats);
        if let Err(stopped) = carried {
            if !matches!(stopped, Stopped::CpuBudget { .. }) {
                return Err(stopped.into());
            }
            for command in &mut commands {
                command.refuse(stopped.to_string());
            }
        }
        fault::point("before-report");
        let capabilities = &self.commands.capabilities;
        let report = report(capabilities, stats.unpack_error.as_deref(), &commands)?;
        self.channel.borrow_mut().finish(&report)?;
        stats.outcomes = commands
            .into_iter()
            .map(|command| Outcome {
                update: command.update,
                refused: command.refused,
            })
            .collect();
        Ok(stats)
    }

    /// Carries the push through, as far as nothing speaks against it.
    fn carry(
        &self,
        commands: &mut [Command],
        gate: &mut dyn PushGate,
        input: &mut dyn Read,
        stats: &mut ReceiveStats,
    ) -> Result<(), Stopped> {
        let config = &self.snapshot.config;
        self.say_all(rules::check_names(
            commands,
            config,
            self.options.limits.max_ref_name_bytes,
        ));
        if !self.commands.are_options_consistent() {
            commands
                .iter_mut()
                .for_each(|command| command.refuse("inconsistent push options"));
        }
        self.schedule(commands);
        self.check_missing(commands);
        let pushed = if !self.commands.has_pack() {
            None
        } else if commands.iter().all(Command::is_refused) {
            drain(input, self.options.limits.max_drain_bytes, &mut || {
                self.options.work.check()
            })?;
            None
        } else {
            match self.unpack(input) {
                Ok(pushed) => Some(pushed),
                Err(error) => return self.fail_unpack(error, commands, stats),
            }
        };
        if let Some(pack) = pushed.as_ref().and_then(|pushed| pushed.pack.as_ref()) {
            (stats.objects, stats.completed, stats.pack_bytes) = (pack.objects, pack.completed, pack.bytes);
        }
        let boundary = match &pushed {
            Some(pushed) => self.check_connectivity(commands, pushed)?,
            None => Vec::new(),
        };
        // The guard is held until refs name the objects, and what these rely on.
        let (objects, pointers, mut quarantine, _guard) = match pushed {
            Some(pushed) => {
                let Pushed {
                    objects,
                    pointers,
                    quarantine,
                    guard,
                    ..
                } = pushed;
                (objects, pointers, Some(quarantine), Some(guard))
            }
            None => (self.snapshot.objects.clone(), Pointers::default(), None, None),
        };
        self.keep_certificate(commands, &mut quarantine);
        self.check_rules(commands, gate, &objects, &pointers, quarantine.as_ref())?;
        self.say_all(rules::check_aliases(commands, &self.snapshot.refs));
        if self.commands.capabilities.atomic && commands.iter().any(Command::is_refused) {
            commands
                .iter_mut()
                .for_each(|command| command.refuse("atomic push failure"));
        }
        self.check_old_values(commands);
        if commands.iter().any(Command::is_open) {
            // The last moment at which a client that went away ends the push.
            self.tick()?;
            if !commands
                .iter()
                .any(|command| command.is_open() && !command.update.is_delete())
            {
                // Deletions bring nothing, and what was refused beside them is to leave nothing.
                quarantine = None;
                self.keep_certificate(commands, &mut quarantine);
            }
            self.move_in(commands, gate, quarantine, &objects, &boundary);
        }
        self.fail_together(commands);
        Ok(())
    }

    /// An atomic push of which anything failed has failed whole, what needed no change included.
    fn fail_together(&self, commands: &mut [Command]) {
        if self.commands.capabilities.atomic && commands.iter().any(Command::is_refused) {
            commands
                .iter_mut()
                .filter(|command| !command.is_refused())
                .for_each(|command| command.refuse("atomic transaction failed"));
        }
    }

    fn fail_unpack(
        &self,
        error: UnpackError,
        commands: &mut [Command],
        stats: &mut ReceiveStats,
    ) -> Result<(), Stopped> {
        let error = match error {
            UnpackError::Stopped(stopped) | UnpackError::Index(IndexError::Stopped(stopped))
                if !matches!(stopped, Stopped::CpuBudget { .. }) =>
            {
                return Err(stopped);
            }
            error => error,
        };
        if let UnpackError::Disk(_)
        | UnpackError::Guard(_)
        | UnpackError::Store(_)
        | UnpackError::Index(IndexError::Write(_)) = &error
        {
            tracing::error!(repository = %self.repository.path().display(), error = &error as &dyn std::error::Error,
                "a push could not be stored");
        }
        let sentence = error.to_string();
        self.say(&format!("error: {sentence}"));
        stats.unpack_error = Some(sentence);
        commands.iter_mut().for_each(|command| {
            command.refused = Some("unpacker error".into());
        });
        Ok(())
    }

    /// Git's rules, the server's, then those of the hooks.
    fn check_rules(
        &self,
        commands: &mut [Command],
        gate: &mut dyn PushGate,
        objects: &ObjectStore,
        pointers: &Pointers,
        quarantine: Option<&Quarantine>,
    ) -> Result<(), Stopped> {
        self.judge(commands, objects)?;
        let quarantine = quarantine.map(Quarantine::folder);
        let open: Vec<usize> = (0..commands.len()).filter(|&n| commands[n].is_open()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let updates: Vec<RefUpdate> = open.iter().map(|&n| commands[n].update.clone()).collect();
        let objects_dir = self.repository.objects_dir();
        let request = PushRequest {
            updates: &updates,
            options: self.commands.options.as_deref().unwrap_or_default(),
            atomic: self.commands.capabilities.atomic,
            objects,
            quarantine: quarantine.unwrap_or(&objects_dir),
            pointers,
        };
        match gate.check(&request) {
            Ok(verdicts) => {
                for (&n, verdict) in open.iter().zip(verdicts) {
                    if let Some(sentence) = verdict {
                        commands[n].refuse(sentence);
                    }
                }
            }
            Err(GateError(sentence)) => open.iter().for_each(|&n| commands[n].refuse(sentence.clone())),
        }
        self.run_pre_receive(commands, quarantine)?;
        self.run_update(commands, quarantine)
    }

    /// Git's own rules.
    pub(super) fn judge(&self, commands: &mut [Command], objects: &ObjectStore) -> Result<(), Stopped> {
        match rules::check_values(commands, &self.snapshot, objects, &mut || self.tick()) {
            Ok(messages) => self.say_all(messages),
            Err(WalkError::Stopped(stopped)) => return Err(stopped),
            Err(error) => {
                tracing::error!(repository = %self.repository.path().display(), %error, "a push cannot be judged");
                commands.iter_mut().for_each(|command| command.refuse("bad ref"));
            }
        }
        Ok(())
    }

    /// Objects in, row, refs, row, hooks. From here on the client no longer matters.
    fn move_in(
        &self,
        commands: &mut [Command],
        gate: &mut dyn PushGate,
        quarantine: Option<Quarantine>,
        objects: &ObjectStore,
        boundary: &[ObjectId],
    ) {
        match quarantine.map(|quarantine| self.migrate(quarantine)).transpose() {
            Ok(kept) => {
                self.run_proc_receive(commands, gate, objects, boundary);
                self.change_refs(commands, gate, objects, boundary, kept);
                self.run_post_hooks(commands);
            }
            Err(error) => {
                tracing::error!(repository = %self.repository.path().display(), %error, "pushed objects cannot move in");
                commands
                    .iter_mut()
                    .filter(|command| command.is_open())
                    .for_each(|command| command.refuse("unable to migrate objects to permanent storage"));
            }
        }
    }

    /// Row, refs, row.
    fn change_refs(
        &self,
        commands: &mut [Command],
        gate: &mut dyn PushGate,
        objects: &ObjectStore,
        boundary: &[ObjectId],
        kept: Option<KeptPacks>,
    ) {
        let open: Vec<usize> = (0..commands.len()).filter(|&n| commands[n].is_own()).collect();
        if open.is_empty() {
            return;
        }
        let updates: Vec<RefUpdate> = open.iter().map(|&n| commands[n].update.clone()).collect();
        let is_atomic = self.commands.capabilities.atomic;
        if let Err(GateError(sentence)) = gate.begin(&updates, is_atomic) {
            return open.iter().for_each(|&n| commands[n].refuse(sentence.clone()));
        }
        fault::point("after-push-row");
        let shallow = if boundary.is_empty() {
            Ok(())
        } else {
            add_shallow(self.repository.path(), boundary)
        };
        let results = match shallow {
            Ok(()) => {
                let mut observer = TransactionHook { session: self };
                self.with_refs(objects, |store| store.apply(&updates, is_atomic, &mut observer))
                    .into_iter()
                    .map(|result| result.map_err(|error| (error.reason(), Some(error.to_string()))))
                    .collect()
            }
            Err(error) => {
                tracing::error!(repository = %self.repository.path().display(), %error, "the shallow file cannot be written");
                updates.iter().map(|_| Err(("shallow error", None))).collect::<Vec<_>>()
            }
        };
        // Refs name the objects now.
        drop(kept);
        let is_broken = is_atomic && results.iter().any(Result::is_err);
        for (&n, result) in open.iter().zip(&results) {
            if let Err((reason, detail)) = result {
                if let Some(detail) = detail.as_ref().filter(|_| *reason != "atomic transaction failed") {
                    self.say(&format!("error: {detail}"));
                }
                let is_declined = *reason == "hook declined";
                commands[n].refuse(if is_broken && !is_declined {
                    "atomic transaction failed"
                } else {
                    reason
                });
            }
        }
        let outcomes: Vec<(RefUpdate, bool)> = updates
            .into_iter()
            .zip(&results)
            .map(|(update, result)| (update, result.is_ok()))
            .collect();
        match gate.finish(&outcomes) {
            Ok(lines) => lines.iter().for_each(|line| self.say(line)),
            Err(GateError(sentence)) => self.say(&format!("warning: {sentence}")),
        }
    }

    /// Moves the objects in while the client is kept waiting: a large pack takes its time to reach
    /// the disk.
    fn migrate(&self, quarantine: Quarantine) -> io::Result<KeptPacks> {
        std::thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let moving = scope.spawn(move || {
                let result = quarantine.migrate_kept();
                drop(done);
                result
            });
            while let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(LOOK_EVERY) {
                self.channel.borrow_mut().keep_alive();
            }
            moving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs with the means to read and change refs. `objects` holds all that they are to name.
    pub(super) fn with_refs<R>(&self, objects: &ObjectStore, run: impl FnOnce(&RefStore<'_>) -> R) -> R {
        let pusher = &self.options.pusher;
        let identity = ReflogIdentity {
            name: pusher.name.clone(),
            email: pusher.email(),
            at_secs: now_secs(),
        };
        with_ref_store(self.repository, &self.snapshot.config, objects, &identity, run)
    }

    /// Shows one line to the person who pushes.
    pub(super) fn say(&self, text: &str) {
        self.channel.borrow_mut().line(text);
    }

    fn say_all(&self, texts: Vec<String>) {
        texts.iter().for_each(|text| self.say(text));
    }

    /// Keeps the client waiting, unless it is gone or the budget is used up.
    pub(super) fn tick(&self) -> Result<(), Stopped> {
        self.options.work.check()?;
        let mut channel = self.channel.borrow_mut();
        channel.keep_alive();
        channel.check()
    }
}
