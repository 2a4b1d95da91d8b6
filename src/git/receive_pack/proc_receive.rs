//! The dialogue with the hook `proc-receive`, which deals with updates in the server's stead.
//!
//! Pkt-lines in both directions, as git documents them: version and features, the commands, push
//! options if the hook takes them; then for each command `ok` or `ng`, and after `ok` what the hook
//! made of it. A parser over bytes, then its meaning for the commands.

use std::io::{self, Read, Write};

use bstr::{BString, ByteSlice};
use gix::ObjectId;

use super::serve::{Command, Stage};
use crate::git::pkt_line::{Packet, PktReader, PktWriter, quotable, trim_newline};
use crate::git::ref_transaction::RefUpdate;

/// What the hook says it made of one update; what it leaves out is as the client asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefReport {
    /// The ref that it changed.
    pub name: Option<BString>,
    /// What that named before.
    pub old: Option<ObjectId>,
    /// What it names now.
    pub new: Option<ObjectId>,
    /// It was not a fast-forward.
    pub is_forced: bool,
}

impl RefReport {
    /// The change as the hook tells it.
    pub fn change(&self, asked: &RefUpdate) -> RefUpdate {
        RefUpdate {
            name: self.name.clone().unwrap_or_else(|| asked.name.clone()),
            old: self.old.unwrap_or(asked.old),
            new: self.new.unwrap_or(asked.new),
        }
    }
}

/// What the hook is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) updates: Vec<RefUpdate>,
    /// `None` if the client did not offer any.
    pub(super) options: Option<Vec<BString>>,
    pub(super) is_atomic: bool,
    /// Most bytes of an answer.
    pub(super) max_answer_bytes: u64,
}

/// How the dialogue went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The hook answered with these lines.
    Lines(Vec<BString>),
    /// It did not keep to the protocol, or ended.
    Failed(String),
}

/// Tells the hook everything and takes its answer. May wait for it as long as it likes.
pub(super) fn talk(question: &Question, to: &mut dyn Write, from: &mut dyn Read) -> Answer {
    let mut from = PktReader::new(from, question.max_answer_bytes);
    let version = greet(question, to).ok().and_then(|()| read_version(&mut from));
    let takes_options = match version {
        None => return Answer::Failed("fail to negotiate version with proc-receive hook".into()),
        Some((0 | 1, takes_options)) => takes_options,
        Some((version, _)) => return Answer::Failed(format!("proc-receive version '{version}' is not supported")),
    };
    if tell_commands(question, to).is_err() {
        return Answer::Failed("fail to write commands to proc-receive hook".into());
    }
    if takes_options && tell_options(question, to).is_err() {
        return Answer::Failed("fail to write push-options to proc-receive hook".into());
    }
    let mut lines = Vec::new();
    loop {
        match from.next_packet() {
            Ok(Some(Packet::Data(line))) => lines.push(BString::from(trim_newline(line))),
            Ok(Some(_)) => return Answer::Lines(lines),
            Ok(None) | Err(_) if lines.is_empty() => return Answer::Failed("proc-receive exited abnormally".into()),
            Ok(None) => return Answer::Lines(lines),
            Err(error) => return Answer::Failed(format!("proc-receive cannot be understood: {error}")),
        }
    }
}

fn greet(question: &Question, to: &mut dyn Write) -> io::Result<()> {
    let features = match (question.is_atomic, question.options.is_some()) {
        (false, false) => "",
        (true, false) => "\0atomic",
        (false, true) => "\0push-options",
        (true, true) => "\0atomic push-options",
    };
    let mut out = PktWriter::new(to);
    out.line(&[b"version=1", features.as_bytes(), b"\n"])?;
    out.flush()?;
    out.flush_out()
}

/// The version, 0 if the hook only ends its greeting, and whether it takes push options.
fn read_version<R: Read>(from: &mut PktReader<R>) -> Option<(u32, bool)> {
    let mut found = None;
    loop {
        match from.next_packet() {
            Ok(Some(Packet::Data(line))) => {
                let Some(text) = trim_newline(line).strip_prefix(b"version=") else {
                    continue;
                };
                let (version, features) = text.split_once_str(b"\0").unwrap_or((text, b""));
                let version = std::str::from_utf8(version)
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                let takes_options = features.split(|byte| *byte == b' ').any(|word| word == b"push-options");
                found = Some((version.unwrap_or(0), takes_options));
            }
            Ok(Some(_)) => return Some(found.unwrap_or((0, false))),
            Ok(None) | Err(_) => return found,
        }
    }
}

fn tell_commands(question: &Question, to: &mut dyn Write) -> io::Result<()> {
    let mut out = PktWriter::new(to);
    for RefUpdate { name, old, new } in &question.updates {
        let ids = format!("{old} {new} ");
        out.line(&[ids.as_bytes(), name])?;
    }
    out.flush()?;
    out.flush_out()
}

fn tell_options(question: &Question, to: &mut dyn Write) -> io::Result<()> {
    let mut out = PktWriter::new(to);
    for option in question.options.iter().flatten() {
        out.line(&[option])?;
    }
    out.flush()?;
    out.flush_out()
}

/// Applies the hook's answer to the commands that were put to it. Returns what is wrong with the answer,
/// in git's words, and whether all is well.
pub(super) fn apply(lines: &[BString], commands: &mut [Command]) -> (Vec<String>, bool) {
    let mut complaints = Vec::new();
    let mut is_well = true;
    // The command that options belong to.
    let mut current: Option<usize> = None;
    let mut is_new_report = false;
    let mut has_complained_of_option = false;
    for line in lines {
        let Some((head, rest)) = line.split_once_str(b" ") else {
            complaints.push(format!(
                "proc-receive reported incomplete status line: '{}'",
                quotable(line)
            ));
            is_well = false;
            continue;
        };
        let (word, value) = match rest.split_once_str(b" ") {
            Some((word, value)) => (word, Some(value)),
            None => (rest, None),
        };
        if head == b"option" {
            let Some(n) = current else {
                if !std::mem::replace(&mut has_complained_of_option, true) {
                    complaints.push("proc-receive reported 'option' without a matching 'ok/ng' directive".into());
                }
                is_well = false;
                continue;
            };
            let command = &mut commands[n];
            if std::mem::take(&mut is_new_report) {
                command.reports.push(RefReport::default());
            }
            if word == b"fall-through" {
                command.stage = Stage::Own;
                command.reports.clear();
            } else if let Some(report) = command.reports.last_mut() {
                set_option(report, word, value);
            }
            continue;
        }
        current = None;
        is_new_report = false;
        if head != b"ok" && head != b"ng" {
            complaints.push(format!(
                "proc-receive reported bad status '{}' on ref '{}'",
                quotable(head),
                quotable(word)
            ));
            is_well = false;
            continue;
        }
        let found = commands.iter().position(|command| command.update.name == word);
        let Some(n) = found else {
            complaints.push(format!(
                "proc-receive reported status on unknown ref: {}",
                quotable(word)
            ));
            is_well = false;
            continue;
        };
        let command = &mut commands[n];
        if command.stage == Stage::Own {
            complaints.push(format!(
                "proc-receive reported status on unexpected ref: {}",
                quotable(word)
            ));
            is_well = false;
            continue;
        }
        command.stage = Stage::Taken;
        if head == b"ng" {
            command.refuse(value.map_or_else(|| "failed".to_owned(), quotable));
            is_well = false;
            continue;
        }
        current = Some(n);
        is_new_report = true;
    }
    for command in commands.iter_mut() {
        if command.stage == Stage::Scheduled && !command.is_refused() {
            command.refuse("proc-receive failed to report status");
            is_well = false;
        }
    }
    (complaints, is_well)
}

fn set_option(report: &mut RefReport, word: &[u8], value: Option<&[u8]>) {
    let id = || value.and_then(|hex| ObjectId::from_hex(hex).ok());
    match word {
        b"refname" => report.name = value.map(BString::from),
        b"old-oid" => report.old = id().or(report.old),
        b"new-oid" => report.new = id().or(report.new),
        b"forced-update" => report.is_forced = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use gix::hash::Kind;

    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn update(name: &str) -> RefUpdate {
        RefUpdate {
            name: name.into(),
            old: ObjectId::null(Kind::Sha1),
            new: ObjectId::from_hex(ONE.as_bytes()).expect("an id"),
        }
    }

    fn scheduled(names: &[&str]) -> Vec<Command> {
        let mut commands: Vec<Command> = names.iter().map(|name| Command::new(update(name))).collect();
        commands.iter_mut().for_each(|command| command.stage = Stage::Scheduled);
        commands
    }

    fn packets(lines: &[&str]) -> Vec<u8> {
        let one = |line: &&str| match *line {
            "0000" => b"0000".to_vec(),
            line => format!("{:04x}{line}", line.len() + 4).into_bytes(),
        };
        lines.iter().flat_map(one).collect()
    }

    fn question(options: Option<&[&str]>, is_atomic: bool) -> Question {
        Question {
            updates: vec![update("refs/for/main")],
            options: options.map(|options| options.iter().map(|&option| option.into()).collect()),
            is_atomic,
            max_answer_bytes: 1000,
        }
    }

    fn said(question: &Question, answer: &[&str]) -> (Answer, String) {
        let mut told = Vec::new();
        let answer = talk(question, &mut told, &mut packets(answer).as_slice());
        (answer, String::from_utf8(told).expect("text"))
    }

    #[test]
    fn the_hook_hears_version_commands_and_the_options_it_takes() {
        let line = format!("{} {ONE} refs/for/main", "0".repeat(40));
        let ok = ["version=1\0push-options\n", "0000", "ok refs/for/main\n", "0000"];
        let (answer, told) = said(&question(Some(&["a", "b c"]), true), &ok);
        assert_eq!(answer, Answer::Lines(vec!["ok refs/for/main".into()]));
        let expected = packets(&[
            "version=1\0atomic push-options\n",
            "0000",
            &line,
            "0000",
            "a",
            "b c",
            "0000",
        ]);
        assert_eq!(told.as_bytes(), expected);

        let (_, told) = said(&question(Some(&["a"]), false), &["version=1", "0000", "0000"]);
        assert_eq!(
            told.as_bytes(),
            packets(&["version=1\0push-options\n", "0000", &line, "0000"])
        );
        let (_, told) = said(&question(None, false), &["0000", "0000"]);
        assert_eq!(told.as_bytes(), packets(&["version=1\n", "0000", &line, "0000"]));
    }

    #[test]
    fn a_hook_that_does_not_keep_to_the_protocol_has_failed() {
        for (answer, expected) in [
            (&[][..], "fail to negotiate version"),
            (&["version=2", "0000"], "version '2' is not supported"),
            (&["version=1", "0000"], "exited abnormally"),
            (&["version=1", "0000", "ok refs/for/main"], ""),
        ] {
            match said(&question(None, false), answer).0 {
                Answer::Failed(sentence) => assert!(sentence.contains(expected), "{sentence}"),
                Answer::Lines(lines) => assert_eq!((expected, lines.len()), ("", 1)),
            }
        }
        let long = vec!["ok refs/for/main"; 100];
        let answer = [&["version=1", "0000"], long.as_slice()].concat();
        assert!(matches!(said(&question(None, false), &answer).0, Answer::Failed(_)));
    }

    fn applied(lines: &[&str], names: &[&str]) -> (Vec<Command>, Vec<String>, bool) {
        let lines: Vec<BString> = lines.iter().map(|&line| line.into()).collect();
        let mut commands = scheduled(names);
        let (complaints, is_well) = apply(&lines, &mut commands);
        (commands, complaints, is_well)
    }

    #[test]
    fn what_the_hook_made_of_an_update_is_kept_and_options_may_come_several_times() {
        let new = format!("option new-oid {TWO}");
        let lines = [
            "ok refs/for/main",
            "option refname refs/heads/main",
            &new,
            "option forced-update",
            "ok refs/for/main",
            "option refname refs/pull/1/head",
            "ng refs/for/other not today",
        ];
        let (commands, complaints, is_well) = applied(&lines, &["refs/for/main", "refs/for/other"]);
        assert!(complaints.is_empty() && !is_well);
        let reports = &commands[0].reports;
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[0].name, Some("refs/heads/main".into()));
        assert_eq!(reports[0].change(&commands[0].update).new.to_string(), TWO);
        assert!(reports[0].is_forced && !reports[1].is_forced);
        assert_eq!(reports[1].change(&commands[0].update).new.to_string(), ONE);
        assert_eq!(commands[1].refused.as_deref(), Some("not today"));
    }

    #[test]
    fn a_command_may_fall_through_to_the_server() {
        let (commands, _, is_well) = applied(&["ok refs/for/main", "option fall-through"], &["refs/for/main"]);
        assert!(is_well && commands[0].stage == Stage::Own && commands[0].reports.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_told_and_what_is_not_told_of_has_failed() {
        for (line, expected) in [
            ("hello", "incomplete status line"),
            ("fine refs/for/main", "bad status 'fine'"),
            ("ok refs/heads/x", "unknown ref"),
            ("option refname x", "without a matching"),
        ] {
            let (commands, complaints, is_well) = applied(&[line], &["refs/for/main"]);
            assert!(!is_well && complaints[0].contains(expected), "{complaints:?}");
            assert_eq!(
                commands[0].refused.as_deref(),
                Some("proc-receive failed to report status")
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_understood_or_refused(lines in proptest::collection::vec("(ok|ng|option)?[ -~]{0,30}", 0..8)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let (commands, _, _) = applied(&lines, &["refs/for/main"]);
            proptest::prop_assert!(commands[0].stage != Stage::Scheduled || commands[0].is_refused());
        }
    }
}
