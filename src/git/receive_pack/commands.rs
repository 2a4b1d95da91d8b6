//! What a push asks for: ref updates, capabilities, shallow boundary and push options.
//!
//! A parser over bytes and nothing else: it knows no repository.

use std::io::Read;

use bstr::{BString, ByteSlice};
use gix::ObjectId;
use gix::hash::Kind;

use super::certificate::Certificate;
use crate::config::GitSettings;
use crate::git::pkt_line::{Packet, PktError, PktReader, quotable, trim_newline};
use crate::git::ref_transaction::RefUpdate;

/// What a list of commands may cost.
#[derive(Clone, Debug)]
pub struct CommandLimits {
    /// Ref updates.
    pub max_commands: usize,
    /// All lines before the pack, in bytes.
    pub max_bytes: u64,
    /// `shallow` lines.
    pub max_shallows: usize,
    /// Push options.
    pub max_options: usize,
}

impl From<&GitSettings> for CommandLimits {
    fn from(settings: &GitSettings) -> Self {
        Self {
            max_commands: settings.max_commands,
            max_bytes: settings.max_command_bytes as u64,
            max_shallows: settings.max_shallows,
            max_options: settings.max_push_options,
        }
    }
}

/// What the client can do and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushCapabilities {
    /// A report is wanted.
    pub report_status: bool,
    /// A report of the second version is wanted.
    pub report_status_v2: bool,
    /// Report and messages go over bands.
    pub side_band_64k: bool,
    /// No progress is wanted.
    pub quiet: bool,
    /// All refs change or none.
    pub atomic: bool,
    /// Push options follow the commands.
    pub push_options: bool,
    /// How the client calls itself.
    pub agent: Option<String>,
    /// What the client calls this session.
    pub session_id: Option<String>,
}

/// Everything that comes before the pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushCommands {
    /// The ref updates, in the client's order. Their names are not checked yet.
    pub updates: Vec<RefUpdate>,
    /// Commits whose parents the client lacks.
    pub shallow: Vec<ObjectId>,
    /// What the client can do.
    pub capabilities: PushCapabilities,
    /// The push options; `None` if the client did not offer to send any.
    pub options: Option<Vec<BString>>,
    /// The signed list that the updates stand in, if the client signed them.
    pub certificate: Option<Certificate>,
}

impl PushCommands {
    /// Whether a pack follows: only deletions need none.
    pub fn has_pack(&self) -> bool {
        self.updates.iter().any(|update| !update.is_delete())
    }

    /// Whether the push options are those of the certificate, if there is one.
    pub fn are_options_consistent(&self) -> bool {
        let outside = self.options.iter().flatten().map(|option| option.as_slice());
        self.certificate
            .as_ref()
            .is_none_or(|certificate| certificate.header("push-option").eq(outside))
    }
}

/// Why the commands cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The framing is broken or too large.
    #[error(transparent)]
    Packet(#[from] PktError),
    /// The request ends before the commands do.
    #[error("protocol error: the list of ref updates has no end")]
    Unfinished,
    /// A line that is no command.
    #[error("protocol error: expected old/new/ref, got '{0}'")]
    BadCommand(String),
    /// A `shallow` line without an id.
    #[error("protocol error: expected shallow sha, got '{0}'")]
    BadShallow(String),
    /// Ids of another hash function.
    #[error(
        "unsupported object format '{client}': this repository is {server}; push to one that is made for it (auxin repo create OWNER/NAME --object-format {client})"
    )]
    ObjectFormat {
        /// What the client means.
        client: String,
        /// What the repository has.
        server: Kind,
    },
    /// Signed pushes are not offered.
    #[error("signed pushes are not supported by this server; push without --signed")]
    Signed,
    /// A certificate that is none, or a second one.
    #[error("protocol error: malformed push certificate")]
    BadCertificate,
    /// Signed and unsigned updates in one push.
    #[error("protocol error: got both push certificate and unsigned commands")]
    PartlySigned,
    /// Too many of something.
    #[error("this push has more than {limit} {what}, which is this server's limit ({key}); push in several steps")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// The setting.
        key: &'static str,
    },
}

/// Reads from memory: what [`read`] does, for whole requests and for tests.
///
/// # Errors
/// Any [`CommandError`].
pub fn parse(request: &[u8], hash: Kind, limits: &CommandLimits) -> Result<PushCommands, CommandError> {
    let mut commands = PushCommands::default();
    read(
        &mut PktReader::new(request, limits.max_bytes),
        hash,
        limits,
        &mut commands,
    )?;
    Ok(commands)
}

/// Reads everything before the pack into `commands`, which has no updates if the client only probes.
///
/// After an error `commands` holds what was understood so far, capabilities above all.
///
/// # Errors
/// Any [`CommandError`].
pub fn read<R: Read>(
    input: &mut PktReader<R>,
    hash: Kind,
    limits: &CommandLimits,
    commands: &mut PushCommands,
) -> Result<(), CommandError> {
    loop {
        match input.next_packet()? {
            Some(Packet::Data(line)) => {
                if read_line(trim_newline(line), hash, limits, commands)? == Line::Certificate
                    && read_certificate(input, commands)? == End::Flush
                {
                    break;
                }
            }
            Some(Packet::Flush) => break,
            None if commands.updates.is_empty() && commands.certificate.is_none() => break,
            None => return Err(CommandError::Unfinished),
            Some(Packet::Delim | Packet::ResponseEnd) => return Err(CommandError::BadCommand(String::new())),
        }
    }
    take_signed(hash, limits, commands)?;
    if commands.capabilities.push_options && !commands.updates.is_empty() {
        commands.options = Some(read_options(input, limits)?);
    }
    Ok(())
}

/// What a line was.
#[derive(PartialEq, Eq)]
enum Line {
    /// Something that is dealt with.
    Done,
    /// The beginning of a certificate.
    Certificate,
}

fn read_line(
    line: &[u8],
    hash: Kind,
    limits: &CommandLimits,
    commands: &mut PushCommands,
) -> Result<Line, CommandError> {
    if let Some(id) = line.strip_prefix(b"shallow ") {
        let id = parse_id(id, hash).ok_or_else(|| CommandError::BadShallow(quotable(id)))?;
        if commands.shallow.len() >= limits.max_shallows {
            let (what, key) = ("shallow lines", "git.max_shallows");
            return Err(CommandError::TooMany {
                what,
                limit: limits.max_shallows,
                key,
            });
        }
        commands.shallow.push(id);
        return Ok(Line::Done);
    }
    let command = match line.split_once_str(b"\0") {
        Some((command, capabilities)) => {
            read_capabilities(capabilities, hash, &mut commands.capabilities)?;
            command
        }
        None => line,
    };
    if command == b"push-cert" {
        return Ok(Line::Certificate);
    }
    add_command(command, hash, limits, commands)?;
    Ok(Line::Done)
}

fn add_command(
    command: &[u8],
    hash: Kind,
    limits: &CommandLimits,
    commands: &mut PushCommands,
) -> Result<(), CommandError> {
    let update = parse_command(command, hash).ok_or_else(|| CommandError::BadCommand(quotable(command)))?;
    if commands.updates.len() >= limits.max_commands {
        let (what, key) = ("ref updates", "git.max_commands");
        return Err(CommandError::TooMany {
            what,
            limit: limits.max_commands,
            key,
        });
    }
    commands.updates.push(update);
    Ok(())
}

/// How a certificate ended.
#[derive(PartialEq, Eq)]
enum End {
    /// By its own last line.
    Own,
    /// By the flush that ends all commands.
    Flush,
}

/// Reads the lines between `push-cert` and `push-cert-end`, as they are. All that comes before the pack is
/// bounded, and so are they.
fn read_certificate<R: Read>(input: &mut PktReader<R>, commands: &mut PushCommands) -> Result<End, CommandError> {
    if commands.certificate.is_some() {
        return Err(CommandError::BadCertificate);
    }
    let certificate = commands.certificate.insert(Certificate::default());
    loop {
        match input.next_packet()? {
            Some(Packet::Data(b"push-cert-end\n" | b"push-cert-end")) => return Ok(End::Own),
            Some(Packet::Data(line)) => certificate.text.extend_from_slice(line),
            Some(Packet::Flush) => return Ok(End::Flush),
            None => return Err(CommandError::Unfinished),
            Some(Packet::Delim | Packet::ResponseEnd) => return Err(CommandError::BadCertificate),
        }
    }
}

/// Takes the updates of the certificate, if there is one.
fn take_signed(hash: Kind, limits: &CommandLimits, commands: &mut PushCommands) -> Result<(), CommandError> {
    let Some(certificate) = commands.certificate.take() else {
        return Ok(());
    };
    if !commands.updates.is_empty() {
        return Err(CommandError::PartlySigned);
    }
    let signed = certificate.commands().ok_or(CommandError::BadCertificate)?;
    for command in signed {
        add_command(command, hash, limits, commands)?;
    }
    commands.certificate = Some(certificate);
    Ok(())
}

/// `<old> <new> <ref>`.
fn parse_command(line: &[u8], hash: Kind) -> Option<RefUpdate> {
    let len = hash.len_in_hex();
    let (old, rest) = (line.get(..len)?, line.get(len..)?.strip_prefix(b" ")?);
    let (new, rest) = (rest.get(..len)?, rest.get(len..)?.strip_prefix(b" ")?);
    Some(RefUpdate {
        name: rest.into(),
        old: parse_id(old, hash)?,
        new: parse_id(new, hash)?,
    })
}

fn parse_id(hex: &[u8], hash: Kind) -> Option<ObjectId> {
    ObjectId::from_hex(hex).ok().filter(|id| id.kind() == hash)
}

/// The words after the NUL; unknown ones are passed over. A client that names no object format means
/// SHA-1, as for git.
fn read_capabilities(words: &[u8], hash: Kind, found: &mut PushCapabilities) -> Result<(), CommandError> {
    let mut format: &[u8] = b"sha1";
    for word in words.split(|&byte| byte == b' ') {
        match word {
            b"report-status" => found.report_status = true,
            b"report-status-v2" => found.report_status_v2 = true,
            b"side-band-64k" => found.side_band_64k = true,
            b"quiet" => found.quiet = true,
            b"atomic" => found.atomic = true,
            b"push-options" => found.push_options = true,
            _ => {
                if let Some(value) = word.strip_prefix(b"object-format=") {
                    format = value;
                } else if let Some(value) = word.strip_prefix(b"agent=") {
                    found.agent = Some(quotable(value));
                } else if let Some(value) = word.strip_prefix(b"session-id=") {
                    found.session_id = Some(quotable(value));
                }
            }
        }
    }
    if format == hash.to_string().as_bytes() {
        return Ok(());
    }
    Err(CommandError::ObjectFormat {
        client: quotable(format),
        server: hash,
    })
}

fn read_options<R: Read>(input: &mut PktReader<R>, limits: &CommandLimits) -> Result<Vec<BString>, CommandError> {
    let mut options = Vec::new();
    loop {
        match input.next_packet()? {
            Some(Packet::Data(line)) => {
                if options.len() >= limits.max_options {
                    let (what, key) = ("push options", "git.max_push_options");
                    return Err(CommandError::TooMany {
                        what,
                        limit: limits.max_options,
                        key,
                    });
                }
                options.push(BString::from(trim_newline(line)));
            }
            Some(Packet::Flush) => return Ok(options),
            _ => return Err(CommandError::Unfinished),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const NULL: &str = "0000000000000000000000000000000000000000";

    fn limits() -> CommandLimits {
        CommandLimits {
            max_commands: 3,
            max_bytes: 100_000,
            max_shallows: 2,
            max_options: 2,
        }
    }

    fn request(lines: &[&str]) -> Vec<u8> {
        let mut request = Vec::new();
        for line in lines {
            match *line {
                "0000" => request.extend_from_slice(b"0000"),
                line => request.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes()),
            }
        }
        request
    }

    fn parsed(lines: &[&str]) -> Result<PushCommands, CommandError> {
        parse(&request(lines), Kind::Sha1, &limits())
    }

    #[test]
    fn commands_capabilities_and_options_are_read() {
        let first = format!(
            "{OLD} {NEW} refs/heads/a\0 report-status-v2 side-band-64k atomic push-options object-format=sha1 agent=git/2.47.3 x=y\n"
        );
        let commands = parsed(&[
            &format!("shallow {OLD}"),
            &first,
            &format!("{NEW} {NULL} refs/tags/t"),
            "0000",
            "one",
            "two words\n",
            "0000",
        ])
        .expect("a sound request");

        assert_eq!(commands.updates.len(), 2);
        assert_eq!(commands.updates[0].name, "refs/heads/a");
        assert!(commands.updates[1].is_delete());
        assert!(commands.has_pack());
        assert_eq!(commands.shallow.len(), 1);
        assert_eq!(commands.options, Some(vec!["one".into(), "two words".into()]));
        let capabilities = &commands.capabilities;
        assert!(capabilities.report_status_v2 && capabilities.side_band_64k && capabilities.atomic);
        assert!(!capabilities.report_status && !capabilities.quiet);
        assert_eq!(capabilities.agent.as_deref(), Some("git/2.47.3"));
    }

    #[test]
    fn a_probe_has_no_updates() {
        assert_eq!(parsed(&["0000"]).expect("a probe"), PushCommands::default());
        assert_eq!(parsed(&[]).expect("nothing at all"), PushCommands::default());
    }

    #[test]
    fn only_deletions_need_no_pack() {
        let commands = parsed(&[&format!("{OLD} {NULL} refs/heads/a\0"), "0000"]).expect("a sound request");
        assert!(!commands.has_pack());
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for line in [
            "hello",
            "",
            &format!("{OLD} {NEW}"),
            &format!("{OLD}  {NEW} refs/heads/a"),
            &format!("{OLD}{NEW} refs/heads/a"),
            &format!("{} {NEW} refs/heads/a", &OLD[1..]),
            &format!("{OLD}1 {NEW} refs/heads/a"),
            &format!("{} {NEW} refs/heads/a", OLD.replace('1', "g")),
        ] {
            assert!(
                matches!(parsed(&[line, "0000"]), Err(CommandError::BadCommand(_))),
                "{line}"
            );
        }
        assert!(matches!(
            parsed(&["shallow x", "0000"]),
            Err(CommandError::BadShallow(_))
        ));
    }

    fn signed(command: &str, rest: &[&str]) -> Result<PushCommands, CommandError> {
        let lines = [
            "push-cert\0push-options",
            "certificate version 0.1\n",
            "nonce 1-a\n",
            "push-option one\n",
            "\n",
            command,
            "-----BEGIN SSH SIGNATURE-----\n",
            "push-cert-end\n",
        ];
        parsed(&[&lines, rest].concat())
    }

    #[test]
    fn the_updates_of_a_certificate_are_read_and_its_options_compared() {
        let command = format!("{OLD} {NEW} refs/heads/a\n");
        let commands = signed(&command, &["0000", "one", "0000"]).expect("a sound request");
        assert_eq!(commands.updates[0].name, "refs/heads/a");
        assert!(commands.are_options_consistent());
        let certificate = commands.certificate.expect("it came");
        assert!(certificate.is_signed() && certificate.text.starts_with(b"certificate version 0.1\nnonce"));
        for options in [
            &["0000", "two", "0000"][..],
            &["0000", "0000"],
            &["0000", "one", "two", "0000"],
        ] {
            assert!(!signed(&command, options).expect("sound").are_options_consistent());
        }
    }

    #[test]
    fn a_certificate_that_is_none_is_refused() {
        let command = format!("{OLD} {NEW} refs/heads/a");
        for (lines, expected) in [
            (&["push-cert\0x", "0000"][..], "malformed push certificate"),
            (
                &["push-cert\0x", "a b\n", "push-cert-end\n", "0000"],
                "malformed push certificate",
            ),
            (
                &["push-cert\0x", "a\n", "\n", "push-cert-end", "push-cert\0x", "0000"],
                "malformed push certificate",
            ),
            (
                &["push-cert\0x", "a\n", "\n", "hello\n", "push-cert-end", "0000"],
                "got 'hello'",
            ),
            (
                &["push-cert\0x", "a\n", "\n", "push-cert-end", &command, "0000"],
                "unsigned commands",
            ),
            (&["push-cert\0x", "a\n"], "no end"),
            (&["push-cert\0x", "a\n", "\n", "push-cert-end"], "no end"),
        ] {
            let error = parsed(lines).expect_err("refused").to_string();
            assert!(error.contains(expected), "{lines:?}: {error}");
        }
        let many: String = format!("{command}\n").repeat(4);
        assert!(matches!(signed(&many, &["0000"]), Err(CommandError::TooMany { .. })));
    }

    #[test]
    fn a_list_without_an_end_is_refused() {
        let command = format!("{OLD} {NEW} refs/heads/a\0push-options");
        assert!(matches!(parsed(&[&command]), Err(CommandError::Unfinished)));
        assert!(matches!(parsed(&[&command, "0000"]), Err(CommandError::Unfinished)));
        assert!(matches!(
            parsed(&[&command, "0000", "option"]),
            Err(CommandError::Unfinished)
        ));
    }

    #[test]
    fn another_hash_function_is_refused() {
        let said = |words: &str, hash: Kind| {
            let line = format!("{OLD} {NEW} refs/heads/a\0report-status{words}");
            let refused = parse(&request(&[&line, "0000"]), hash, &limits()).expect_err("refused");
            refused.to_string()
        };
        assert_eq!(
            said(" object-format=sha256", Kind::Sha1),
            "unsupported object format 'sha256': this repository is sha1; push to one that is made for it (auxin repo create OWNER/NAME --object-format sha256)"
        );
        let sentence = "unsupported object format 'sha1': this repository is sha256; push to one that is made for it (auxin repo create OWNER/NAME --object-format sha1)";
        assert_eq!(said(" object-format=sha1", Kind::Sha256), sentence);
        assert_eq!(said("", Kind::Sha256), sentence);
    }

    #[test]
    fn ids_have_the_length_of_the_repository_s_hash() {
        let [old, new] = [OLD, NEW].map(|id| format!("{id}{}", &id[..24]));
        let line = format!("{old} {new} refs/heads/a\0object-format=sha256");
        let found = parse(&request(&[&line, "0000"]), Kind::Sha256, &limits()).expect("a sound request");
        assert_eq!(found.updates[0].old.to_string(), old);
        let short = format!("{OLD} {NEW} refs/heads/a\0object-format=sha256");
        let refused = parse(&request(&[&short, "0000"]), Kind::Sha256, &limits());
        assert!(matches!(refused, Err(CommandError::BadCommand(_))));
        let shallow = [format!("shallow {OLD}"), line];
        let lines: Vec<&str> = shallow.iter().map(String::as_str).collect();
        let refused = parse(&request(&lines), Kind::Sha256, &limits());
        assert!(matches!(refused, Err(CommandError::BadShallow(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = parse(&bytes, Kind::Sha1, &limits());
        }

        #[test]
        fn any_lines_are_read_or_refused(lines in proptest::collection::vec("[0-9a-f]{0,42}[ \\x00a-z/=]{0,60}", 0..6)) {
            let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            lines.push("0000");
            let _ = parsed(&lines);
        }
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let command = format!("{OLD} {NEW} refs/heads/a");
        let many = vec![command.as_str(); 4];
        assert!(matches!(parsed(&many), Err(CommandError::TooMany { limit: 3, .. })));
        let shallow = format!("shallow {OLD}");
        assert!(matches!(
            parsed(&[&shallow, &shallow, &shallow]),
            Err(CommandError::TooMany { limit: 2, .. })
        ));
        let first = format!("{command}\0push-options");
        let options = [&first, "0000", "a", "b", "c", "0000"];
        assert!(matches!(parsed(&options), Err(CommandError::TooMany { limit: 2, .. })));
        let long = format!("{command}{}", "x".repeat(60_000));
        let bytes = parse(&request(&[&long, &long]), Kind::Sha1, &limits());
        assert!(matches!(bytes, Err(CommandError::Packet(PktError::TooLarge { .. }))));
    }
}
