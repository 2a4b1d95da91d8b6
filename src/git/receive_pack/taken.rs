//! Updates that the hook `proc-receive` deals with instead of the server.
//!
//! The hook runs once the objects have moved in, as in git, since it makes refs for them. What it
//! says it did becomes a push row of its own; which refs it really moved is read from the disk.

use std::collections::HashMap;
use std::process::{ChildStdin, ChildStdout};

use bstr::BString;
use gix::ObjectId;

use super::proc_receive::{self, Answer, Question};
use super::serve::{Command, Session, Stage};
use super::{GateError, PushGate, RefUpdate};
use crate::git::hooks::HookResult;
use crate::git::object_store::ObjectStore;
use crate::git::ref_transaction::is_ref_name;

/// The hook.
const HOOK: &str = "proc-receive";

impl Session<'_> {
    /// Marks what is for the hook.
    pub(super) fn schedule(&self, commands: &mut [Command]) {
        for command in commands.iter_mut().filter(|command| !command.is_refused()) {
            let update = &command.update;
            let (is_add, is_delete) = (update.old.is_null(), update.is_delete());
            if self
                .snapshot
                .config
                .is_for_proc_receive(&update.name, is_add, is_delete)
            {
                command.stage = Stage::Scheduled;
            }
        }
    }

    /// Lets the hook deal with what is for it. What it hands back is checked and left to the server.
    pub(super) fn run_proc_receive(
        &self,
        commands: &mut [Command],
        gate: &mut dyn PushGate,
        objects: &ObjectStore,
        boundary: &[ObjectId],
    ) {
        let is_scheduled = |command: &Command| command.is_open() && command.stage == Stage::Scheduled;
        if !boundary.is_empty() {
            // The hook could make refs whose history ends nowhere.
            let scheduled = commands.iter_mut().filter(|command| is_scheduled(command));
            scheduled.for_each(|command| command.refuse("shallow update not allowed"));
        }
        let asked: Vec<usize> = (0..commands.len()).filter(|&n| is_scheduled(&commands[n])).collect();
        if asked.is_empty() {
            return;
        }
        let is_atomic = self.commands.capabilities.atomic;
        if !self.ask_hook(commands, &asked) {
            for command in commands.iter_mut().filter(|command| command.is_open()) {
                if command.stage == Stage::Scheduled || (is_atomic && command.stage == Stage::Own) {
                    command.refuse("fail to run proc-receive hook");
                }
            }
        }
        self.check_handed_back(commands, &asked, objects);
        self.record_taken(commands, gate);
    }

    /// Runs the hook; whether all went well.
    fn ask_hook(&self, commands: &mut [Command], asked: &[usize]) -> bool {
        let question = Question {
            updates: asked.iter().map(|&n| commands[n].update.clone()).collect(),
            options: self.commands.options.clone(),
            is_atomic: self.commands.capabilities.atomic,
            max_answer_bytes: self.options.limits.max_command_bytes as u64,
        };
        let mut output = |text: &[u8]| {
            self.channel.borrow_mut().message(text);
            Ok(())
        };
        let mut tick = || {
            self.channel.borrow_mut().keep_alive();
            Ok(())
        };
        let talk = move |to: &mut ChildStdin, from: &mut ChildStdout| proc_receive::talk(&question, to, from);
        let ran = self.hooks.converse(HOOK, talk, &mut output, &mut tick);
        let (result, answer) = match ran {
            Ok((HookResult::Absent, _)) => {
                self.say(&format!("error: cannot find hook '{HOOK}'"));
                return false;
            }
            Ok((HookResult::TimedOut, _)) => {
                let secs = self.options.limits.hook_timeout_secs;
                self.say(&format!(
                    "error: the hook {HOOK} ran longer than {secs} s and was ended"
                ));
                return false;
            }
            Ok(ended) => ended,
            // Nothing above stops it.
            Err(_) => return false,
        };
        let is_well = match answer {
            Some(Answer::Lines(lines)) => {
                let (complaints, is_well) = proc_receive::apply(&lines, commands);
                complaints
                    .iter()
                    .for_each(|complaint| self.say(&format!("error: {complaint}")));
                is_well
            }
            Some(Answer::Failed(sentence)) => {
                self.say(&format!("error: {sentence}"));
                false
            }
            None => {
                self.say(&format!("error: the hook {HOOK} could not be run"));
                false
            }
        };
        is_well && result == HookResult::Accepted
    }

    /// Checks what the hook handed back by the rules that it was exempt from so far.
    fn check_handed_back(&self, commands: &mut [Command], asked: &[usize], objects: &ObjectStore) {
        let back: Vec<usize> = asked.iter().copied().filter(|&n| commands[n].is_own()).collect();
        if back.is_empty() {
            return;
        }
        let mut some: Vec<Command> = back.iter().map(|&n| commands[n].clone()).collect();
        self.check_missing(&mut some);
        let judged = self
            .judge(&mut some, objects)
            .and_then(|()| self.run_update(&mut some, None));
        if let Err(stopped) = judged {
            some.iter_mut().for_each(|command| command.refuse(stopped.to_string()));
        }
        self.check_old_values(&mut some);
        for (n, command) in back.into_iter().zip(some) {
            commands[n] = command;
        }
        if self.commands.capabilities.atomic && commands.iter().any(Command::is_refused) {
            let own = commands.iter_mut().filter(|command| command.is_own());
            own.for_each(|command| command.refuse("atomic push failure"));
        }
    }

    /// Records what the hook says it did. That is done already: nothing here can refuse it.
    fn record_taken(&self, commands: &[Command], gate: &mut dyn PushGate) {
        let max_name_bytes = self.options.limits.max_ref_name_bytes;
        let taken = commands
            .iter()
            .filter(|command| command.is_open() && command.stage == Stage::Taken);
        // Of several words about one ref the last counts.
        let mut by_name: HashMap<BString, usize> = HashMap::new();
        let mut changes: Vec<RefUpdate> = Vec::new();
        for change in taken.flat_map(Command::changes) {
            if !is_ref_name(&change.name) || change.name.len() > max_name_bytes {
                self.say(&format!(
                    "warning: the hook {HOOK} named '{}', which is no ref",
                    change.name
                ));
                continue;
            }
            match by_name.get(&change.name) {
                Some(&n) => changes[n] = change,
                None => {
                    by_name.insert(change.name.clone(), changes.len());
                    changes.push(change);
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        let values = self.with_refs(&self.snapshot.objects, |store| store.values(changes.iter()));
        if let Err(GateError(sentence)) = gate.begin(&changes, false) {
            return self.say(&format!(
                "warning: what the hook {HOOK} did is not recorded: {sentence}"
            ));
        }
        let results: Vec<(RefUpdate, bool)> = changes
            .into_iter()
            .zip(values)
            .map(|(change, value)| {
                let is_so = value == Some(change.new);
                (change, is_so)
            })
            .collect();
        match gate.finish(&results) {
            Ok(lines) => lines.iter().for_each(|line| self.say(line)),
            Err(GateError(sentence)) => self.say(&format!("warning: {sentence}")),
        }
    }
}
