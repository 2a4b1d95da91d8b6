//! The hooks of one push, in git's order and with git's environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use gix::ObjectId;

use super::commands::PushCommands;
use super::serve::{Command, Session};
use super::signed::about_certificate;
use super::{ReceiveOptions, RefUpdate, nonces};
use crate::git::hooks::{HookCall, Hooks};
use crate::git::ref_transaction::Observer;
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::work::Stopped;

/// How the hooks of this push are run.
pub(super) fn hooks(
    repository: &Repository,
    options: &ReceiveOptions<'_>,
    snapshot: &Snapshot,
    commands: &PushCommands,
    certificate: Option<ObjectId>,
) -> Hooks {
    let pusher = &options.pusher;
    let mut environment: Vec<(OsString, OsString)> = [
        ("REMOTE_USER", pusher.name.clone()),
        ("REMOTE_ADDR", pusher.address.clone()),
        ("GIT_PUSHER", pusher.name.clone()),
        ("GIT_COMMITTER_NAME", pusher.name.clone()),
        ("GIT_COMMITTER_EMAIL", pusher.email()),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value.into()))
    .collect();
    if let Some(values) = &commands.options {
        environment.push(("GIT_PUSH_OPTION_COUNT".into(), values.len().to_string().into()));
        environment.extend(values.iter().enumerate().map(|(n, value)| {
            // What C would not take for a value is cut off as C would do it.
            let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
            (
                format!("GIT_PUSH_OPTION_{n}").into(),
                OsStr::from_bytes(value).to_owned(),
            )
        }));
    }
    if let (Some(id), Some(signed), Some(nonces)) = (certificate, &commands.certificate, nonces(snapshot, options)) {
        environment.extend(about_certificate(id, signed, &nonces));
    }
    environment.extend(options.hook_env.iter().map(|(name, value)| (name.into(), value.into())));
    let own = || repository.path().join("hooks");
    let folder = options.trust_hooks.then(|| match &snapshot.config.hooks_path {
        Some(path) => repository.path().join(path),
        None => own(),
    });
    Hooks {
        folder,
        git_dir: repository.path().to_owned(),
        environment,
        timeout: Duration::from_secs(options.limits.hook_timeout_secs),
        max_output_bytes: options.limits.max_hook_output_bytes,
    }
}

impl Session<'_> {
    pub(super) fn run_pre_receive(&self, commands: &mut [Command], quarantine: Option<&Path>) -> Result<(), Stopped> {
        if !commands.iter().any(Command::is_open) || !self.hooks.has("pre-receive") {
            return Ok(());
        }
        let input = lines(commands.iter().map(|command| &command.update));
        let call = HookCall {
            name: "pre-receive",
            args: &[],
            input,
            quarantine,
        };
        if !self.run_hook(call, &mut || self.tick())? {
            commands
                .iter_mut()
                .for_each(|command| command.refuse("pre-receive hook declined"));
        }
        Ok(())
    }

    pub(super) fn run_update(&self, commands: &mut [Command], quarantine: Option<&Path>) -> Result<(), Stopped> {
        if !self.hooks.has("update") {
            return Ok(());
        }
        let is_atomic = self.commands.capabilities.atomic;
        for command in commands.iter_mut() {
            if is_atomic && command.is_refused() {
                break;
            }
            if !command.is_own() {
                continue;
            }
            let update = &command.update;
            let (old, new) = (update.old.to_string(), update.new.to_string());
            let args = [OsStr::from_bytes(&update.name), OsStr::new(&old), OsStr::new(&new)];
            let call = HookCall {
                name: "update",
                args: &args,
                input: Vec::new(),
                quarantine,
            };
            if !self.run_hook(call, &mut || self.tick())? {
                self.say(&format!("error: hook declined to update {}", update.name));
                command.refuse("hook declined");
                if is_atomic {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn run_post_hooks(&self, commands: &[Command]) {
        let done: Vec<&Command> = commands.iter().filter(|command| command.is_open()).collect();
        if done.is_empty() {
            return;
        }
        let changes: Vec<RefUpdate> = done.iter().flat_map(|command| command.changes()).collect();
        let mut tick = || {
            self.channel.borrow_mut().keep_alive();
            Ok(())
        };
        let input = lines(changes.iter());
        let call = HookCall {
            name: "post-receive",
            args: &[],
            input,
            quarantine: None,
        };
        // It is done whatever they say.
        let _ = self.run_hook(call, &mut tick);
        let args: Vec<&OsStr> = done
            .iter()
            .map(|command| OsStr::from_bytes(&command.update.name))
            .collect();
        let call = HookCall {
            name: "post-update",
            args: &args,
            input: Vec::new(),
            quarantine: None,
        };
        let _ = self.run_hook(call, &mut tick);
    }

    /// Runs a hook; tells whether it agreed.
    fn run_hook(&self, call: HookCall<'_>, tick: &mut dyn FnMut() -> Result<(), Stopped>) -> Result<bool, Stopped> {
        let mut output = |text: &[u8]| {
            self.channel.borrow_mut().message(text);
            Ok(())
        };
        Ok(self.hooks.run(call, &mut output, tick)?.is_agreed())
    }
}

/// `<old> <new> <ref>` lines, as hooks read them.
fn lines<'u>(updates: impl Iterator<Item = &'u RefUpdate>) -> Vec<u8> {
    let mut text = Vec::new();
    for update in updates {
        text.extend_from_slice(format!("{} {} ", update.old, update.new).as_bytes());
        text.extend_from_slice(&update.name);
        text.push(b'\n');
    }
    text
}

/// Runs the hook `reference-transaction`.
pub(super) struct TransactionHook<'s, 'a> {
    pub session: &'s Session<'a>,
}

impl TransactionHook<'_, '_> {
    fn run(&self, state: &str, updates: &[&RefUpdate]) -> bool {
        if !self.session.hooks.has("reference-transaction") {
            return true;
        }
        let input = lines(updates.iter().copied());
        let args = [OsStr::new(state)];
        let call = HookCall {
            name: "reference-transaction",
            args: &args,
            input,
            quarantine: None,
        };
        let mut tick = || {
            self.session.channel.borrow_mut().keep_alive();
            Ok(())
        };
        self.session.run_hook(call, &mut tick).unwrap_or(false)
    }
}

impl Observer for TransactionHook<'_, '_> {
    fn prepared(&mut self, updates: &[&RefUpdate]) -> Result<(), String> {
        if self.run("prepared", updates) {
            return Ok(());
        }
        Err("in 'prepared' phase, update aborted by the reference-transaction hook".into())
    }

    fn committed(&mut self, updates: &[&RefUpdate]) {
        self.run("committed", updates);
    }

    fn aborted(&mut self, updates: &[&RefUpdate]) {
        self.run("aborted", updates);
    }
}
