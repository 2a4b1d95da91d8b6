//! What clients ask: parsers of the requests of protocol v0/v1 and v2.
//!
//! Pure functions over a reader: nothing here looks at a repository, so every byte sequence may be
//! thrown at them. All lists have a limit; what does not fit is refused, never cut off.

use std::io::Read;

use bstr::BString;
use gix::ObjectId;

use super::object_info::{self, ObjectInfoRequest};
use crate::config::GitSettings;
use crate::git::pkt_line::{Packet, PktError, PktReader, Sideband, quotable, trim_newline};

/// Most capability lines of a v2 request, `server-option` among them.
const MAX_CAPABILITIES: usize = 1024;
/// Most `deepen-not` and `want-ref` lines.
const MAX_NAMED_REFS: usize = 65_536;
/// Most protocols of a `packfile-uris` line.
const MAX_URI_PROTOCOLS: usize = 16;

/// How much one request may contain.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// All packets together, in bytes.
    pub max_bytes: u64,
    /// `want` lines.
    pub max_wants: usize,
    /// `have` lines.
    pub max_haves: usize,
    /// `shallow` lines.
    pub max_shallows: usize,
    /// `ref-prefix` lines that are honoured.
    pub max_ref_prefixes: usize,
    /// Length of a `filter`, in bytes.
    pub max_filter_bytes: usize,
}

impl From<&GitSettings> for RequestLimits {
    fn from(settings: &GitSettings) -> Self {
        Self {
            max_bytes: settings.max_request_bytes,
            max_wants: settings.max_wants,
            max_haves: settings.max_haves,
            max_shallows: settings.max_shallows,
            max_ref_prefixes: settings.max_ref_prefixes,
            max_filter_bytes: settings.max_filter_bytes,
        }
    }
}

/// Why a request cannot be understood; the text is fit for the client.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The framing is broken or too large.
    #[error(transparent)]
    Pkt(#[from] PktError),
    /// More lines of one kind than the server takes.
    #[error("the request has more than {limit} '{line}' lines, which is this server's limit")]
    TooMany {
        /// First word of the line.
        line: &'static str,
        /// The limit that was reached.
        limit: usize,
    },
    /// A line says something the protocol does not allow here.
    #[error("{0}")]
    Bad(String),
}

fn bad<T>(text: impl Into<String>) -> Result<T, RequestError> {
    Err(RequestError::Bad(text.into()))
}

/// How much of `have` lines is acknowledged in v0 and v1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// The first common commit only.
    #[default]
    Single,
    /// `multi_ack`.
    Multi,
    /// `multi_ack_detailed`.
    Detailed,
}

/// How a shallow history is to be cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deepen {
    /// `deepen`: so many commits from each tip; [`INFINITE_DEPTH`] is all.
    pub depth: Option<u32>,
    /// `deepen-relative`: the depth counts from the client's present boundary.
    pub is_relative: bool,
    /// `deepen-since`: no commit older than this, in seconds since 1970.
    pub since_secs: Option<i64>,
    /// `deepen-not`: nothing that these refs reach.
    pub not_refs: Vec<BString>,
}

/// The depth by which clients ask for the whole history.
pub const INFINITE_DEPTH: u32 = 0x7fff_ffff;

impl Deepen {
    /// Whether history is cut by date or by ref.
    pub fn is_by_rev_list(&self) -> bool {
        self.since_secs.is_some() || !self.not_refs.is_empty()
    }

    /// Whether any cut is asked for.
    pub fn is_asked(&self) -> bool {
        self.depth.is_some() || self.is_by_rev_list()
    }
}

/// What a client tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// `agent`, printable.
    pub agent: Option<String>,
    /// `session-id`, printable.
    pub session_id: Option<String>,
    /// `server-option` values, printable, in order.
    pub server_options: Vec<String>,
    /// `object-format`.
    pub object_format: Option<String>,
}

/// What follows the wants of a v0 request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HavesEnd {
    /// Nothing came after the wants' flush: the client only wants to know the shallow boundary.
    #[default]
    Absent,
    /// A flush: the client waits for acknowledgements.
    Flush,
    /// `done`: the client waits for the pack.
    Done,
}

/// A fetch, in whichever version it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// Objects wanted by id, without repetition, in order.
    pub wants: Vec<ObjectId>,
    /// Refs wanted by full name (`want-ref`).
    pub want_refs: Vec<BString>,
    /// Objects the client says it has, in order.
    pub haves: Vec<ObjectId>,
    /// What ended the haves; v2 knows only `Done` and `Flush`.
    pub end: HavesEnd,
    /// The client's own shallow boundary.
    pub shallows: Vec<ObjectId>,
    /// How to cut history.
    pub deepen: Deepen,
    /// The filter as it was asked, not parsed.
    pub filter: Option<String>,
    /// `thin-pack`.
    pub thin_pack: bool,
    /// `ofs-delta`.
    pub ofs_delta: bool,
    /// `no-progress`.
    pub no_progress: bool,
    /// `include-tag`.
    pub include_tag: bool,
    /// `wait-for-done` (v2).
    pub wait_for_done: bool,
    /// `sideband-all` (v2).
    pub sideband_all: bool,
    /// `packfile-uris` (v2): protocols by which the client gets packs from elsewhere.
    pub uri_protocols: Vec<String>,
    /// How the pack is framed; v2 always has [`Sideband::Large`].
    pub sideband: Sideband,
    /// How haves are acknowledged (v0 and v1).
    pub ack_mode: AckMode,
    /// `no-done` (v0 and v1).
    pub no_done: bool,
    /// What the client tells about itself.
    pub client: ClientFacts,
}

/// Arguments of `ls-refs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LsRefsRequest {
    /// Tell what annotated tags name.
    pub peel: bool,
    /// Tell what symbolic refs name.
    pub symrefs: bool,
    /// Tell of a HEAD whose branch does not exist yet.
    pub unborn: bool,
    /// Beginnings of the names that are asked for; empty asks for all.
    pub prefixes: Vec<BString>,
    /// What the client tells about itself.
    pub client: ClientFacts,
}

/// One request of protocol v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V2Request {
    /// A lone flush, or nothing at all: the client is done.
    Empty,
    /// `command=ls-refs`.
    LsRefs(LsRefsRequest),
    /// `command=fetch`.
    Fetch(Box<FetchRequest>),
    /// `command=object-info`.
    ObjectInfo(ObjectInfoRequest),
    /// `command=bundle-uri`.
    BundleUri(ClientFacts),
}

/// Reads a request of protocol v0 or v1 to the end of its haves.
///
/// A body of one flush gives a request without wants.
///
/// # Errors
/// [`RequestError`] for anything that stock git would refuse as well, and for what exceeds `limits`.
pub fn parse_v0(input: &mut dyn Read, limits: &RequestLimits) -> Result<FetchRequest, RequestError> {
    let mut reader = PktReader::new(input, limits.max_bytes);
    let mut request = FetchRequest::default();
    let mut seen_wants = IdSet::default();
    let mut asked_filter = false;
    loop {
        let line = match reader.next_packet()? {
            Some(Packet::Data(line)) => trim_newline(line),
            Some(Packet::Flush) => break,
            // Nothing at all is what a probe without a body looks like.
            None if request.wants.is_empty() && request.shallows.is_empty() => return Ok(request),
            None => return Err(PktError::Truncated.into()),
            Some(Packet::Delim | Packet::ResponseEnd) => return bad("protocol error: expected a want or a flush"),
        };
        if let Some(rest) = line.strip_prefix(b"want ") {
            let (id, features) = want_line(rest)?;
            parse_features(features, &mut request, &mut asked_filter)?;
            push_want(&mut request.wants, &mut seen_wants, id, limits)?;
        } else if let Some(filter) = line.strip_prefix(b"filter ") {
            if !asked_filter {
                return bad("protocol error: the filter capability was not asked for");
            }
            set_filter(&mut request, filter, limits)?;
        } else if !shallow_line(line, &mut request, limits)? {
            return bad(format!(
                "protocol error: expected to get a want, not '{}'",
                quotable(line)
            ));
        }
    }
    if request.wants.is_empty() {
        return Ok(request);
    }
    loop {
        let line = match reader.next_packet()? {
            Some(Packet::Data(line)) => trim_newline(line),
            Some(Packet::Flush) => {
                request.end = HavesEnd::Flush;
                return Ok(request);
            }
            None if request.haves.is_empty() => return Ok(request),
            None => return Err(PktError::Truncated.into()),
            Some(Packet::Delim | Packet::ResponseEnd) => {
                return bad("protocol error: expected a have, done or a flush");
            }
        };
        if let Some(id) = line.strip_prefix(b"have ") {
            push_have(&mut request.haves, id, limits)?;
        } else if line == b"done" {
            request.end = HavesEnd::Done;
            return Ok(request);
        } else {
            return bad(format!(
                "protocol error: expected a have or done, not '{}'",
                quotable(line)
            ));
        }
    }
}

/// Reads one request of protocol v2.
///
/// # Errors
/// [`RequestError`] for unknown commands, capabilities and arguments, as stock git refuses them,
/// and for what exceeds `limits`.
pub fn parse_v2(input: &mut dyn Read, limits: &RequestLimits) -> Result<V2Request, RequestError> {
    let mut reader = PktReader::new(input, limits.max_bytes);
    let mut client = ClientFacts::default();
    let mut command = None;
    let mut lines = 0;
    let has_arguments = loop {
        let line = match reader.next_packet()? {
            Some(Packet::Data(line)) => trim_newline(line),
            Some(Packet::Flush) if lines == 0 => return Ok(V2Request::Empty),
            Some(Packet::Flush) => break false,
            Some(Packet::Delim) => break true,
            None if lines == 0 => return Ok(V2Request::Empty),
            None => return Err(PktError::Truncated.into()),
            Some(Packet::ResponseEnd) => return bad("protocol error: unexpected end of a response"),
        };
        lines += 1;
        if lines > MAX_CAPABILITIES {
            return Err(RequestError::TooMany {
                line: "capability",
                limit: MAX_CAPABILITIES,
            });
        }
        if let Some(name) = line.strip_prefix(b"command=") {
            if command.is_some() {
                return bad("protocol error: a request has one command only");
            }
            command = Some(match name {
                b"ls-refs" => Command::LsRefs,
                b"fetch" => Command::Fetch,
                b"object-info" => Command::ObjectInfo,
                b"bundle-uri" => Command::BundleUri,
                other => return bad(format!("invalid command '{}'", quotable(other))),
            });
        } else {
            parse_capability(line, &mut client)?;
        }
    };
    match command {
        None => bad("no command requested"),
        Some(Command::LsRefs) => parse_ls_refs(&mut reader, has_arguments, client, limits).map(V2Request::LsRefs),
        Some(Command::Fetch) => {
            let request = parse_fetch(&mut reader, has_arguments, client, limits)?;
            Ok(V2Request::Fetch(Box::new(request)))
        }
        Some(Command::ObjectInfo) => {
            object_info::parse(&mut reader, has_arguments, client, limits).map(V2Request::ObjectInfo)
        }
        Some(Command::BundleUri) => match next_argument(&mut reader, has_arguments)? {
            None => Ok(V2Request::BundleUri(client)),
            Some(line) => bad(format!("bundle-uri: unexpected argument: '{}'", quotable(line))),
        },
    }
}

#[derive(Clone, Copy)]
enum Command {
    LsRefs,
    Fetch,
    ObjectInfo,
    BundleUri,
}

fn parse_capability(line: &[u8], client: &mut ClientFacts) -> Result<(), RequestError> {
    let (name, value) = split_value(line);
    match name {
        b"agent" => client.agent = value.map(quotable),
        b"session-id" => client.session_id = value.map(quotable),
        b"server-option" => client.server_options.extend(value.map(quotable)),
        b"object-format" => match value {
            Some(value) => client.object_format = Some(quotable(value)),
            None => return bad("object-format capability requires an argument"),
        },
        _ => return bad(format!("unknown capability '{}'", quotable(line))),
    }
    Ok(())
}

/// The next argument of a v2 command, or `None` at its flush.
pub(super) fn next_argument<R: Read>(
    reader: &mut PktReader<R>,
    has_arguments: bool,
) -> Result<Option<&[u8]>, RequestError> {
    if !has_arguments {
        return Ok(None);
    }
    match reader.next_packet()? {
        Some(Packet::Data(line)) => Ok(Some(trim_newline(line))),
        Some(Packet::Flush) => Ok(None),
        None => Err(PktError::Truncated.into()),
        Some(Packet::Delim | Packet::ResponseEnd) => bad("expected flush after the arguments"),
    }
}

fn parse_ls_refs<R: Read>(
    reader: &mut PktReader<R>,
    has_arguments: bool,
    client: ClientFacts,
    limits: &RequestLimits,
) -> Result<LsRefsRequest, RequestError> {
    let mut request = LsRefsRequest {
        client,
        ..LsRefsRequest::default()
    };
    let mut too_many = false;
    while let Some(line) = next_argument(reader, has_arguments)? {
        match line {
            b"peel" => request.peel = true,
            b"symrefs" => request.symrefs = true,
            b"unborn" => request.unborn = true,
            _ => match line.strip_prefix(b"ref-prefix ") {
                Some(_) if request.prefixes.len() >= limits.max_ref_prefixes => too_many = true,
                Some(prefix) => request.prefixes.push(prefix.into()),
                None => return bad(format!("unexpected line: '{}'", quotable(line))),
            },
        }
    }
    if too_many {
        request.prefixes = Vec::new();
    }
    Ok(request)
}

fn parse_fetch<R: Read>(
    reader: &mut PktReader<R>,
    has_arguments: bool,
    client: ClientFacts,
    limits: &RequestLimits,
) -> Result<FetchRequest, RequestError> {
    let mut request = FetchRequest {
        client,
        sideband: Sideband::Large,
        end: HavesEnd::Flush,
        ..FetchRequest::default()
    };
    let mut seen_wants = IdSet::default();
    while let Some(line) = next_argument(reader, has_arguments)? {
        match line {
            b"done" => request.end = HavesEnd::Done,
            b"thin-pack" => request.thin_pack = true,
            b"ofs-delta" => request.ofs_delta = true,
            b"no-progress" => request.no_progress = true,
            b"include-tag" => request.include_tag = true,
            b"wait-for-done" => request.wait_for_done = true,
            b"sideband-all" => request.sideband_all = true,
            b"deepen-relative" => request.deepen.is_relative = true,
            _ => {
                if let Some(id) = line.strip_prefix(b"want ") {
                    let id = parse_id(id, "want")?;
                    push_want(&mut request.wants, &mut seen_wants, id, limits)?;
                } else if let Some(id) = line.strip_prefix(b"have ") {
                    push_have(&mut request.haves, id, limits)?;
                } else if let Some(name) = line.strip_prefix(b"want-ref ") {
                    if request.want_refs.len() >= MAX_NAMED_REFS {
                        return Err(RequestError::TooMany {
                            line: "want-ref",
                            limit: MAX_NAMED_REFS,
                        });
                    }
                    request.want_refs.push(name.into());
                } else if let Some(filter) = line.strip_prefix(b"filter ") {
                    set_filter(&mut request, filter, limits)?;
                } else if let Some(protocols) = line.strip_prefix(b"packfile-uris ") {
                    set_uri_protocols(&mut request, protocols)?;
                } else if !shallow_line(line, &mut request, limits)? {
                    return bad(format!("unexpected line: '{}'", quotable(line)));
                }
            }
        }
    }
    Ok(request)
}

/// Takes `shallow`, `deepen`, `deepen-since` and `deepen-not`; false for any other line.
fn shallow_line(line: &[u8], request: &mut FetchRequest, limits: &RequestLimits) -> Result<bool, RequestError> {
    if let Some(id) = line.strip_prefix(b"shallow ") {
        if request.shallows.len() >= limits.max_shallows {
            return Err(RequestError::TooMany {
                line: "shallow",
                limit: limits.max_shallows,
            });
        }
        let id = parse_id(id, "shallow")?;
        request.shallows.push(id);
    } else if let Some(depth) = line.strip_prefix(b"deepen ") {
        match parse_number(depth) {
            Some(depth) if depth > 0 => {
                let depth = u32::try_from(depth).unwrap_or(INFINITE_DEPTH).min(INFINITE_DEPTH);
                request.deepen.depth = Some(depth);
            }
            _ => return bad(format!("Invalid deepen: {}", quotable(line))),
        }
    } else if let Some(since) = line.strip_prefix(b"deepen-since ") {
        match parse_number(since) {
            Some(since) if since >= 0 => request.deepen.since_secs = Some(since),
            _ => return bad(format!("Invalid deepen-since: {}", quotable(line))),
        }
    } else if let Some(name) = line.strip_prefix(b"deepen-not ") {
        if request.deepen.not_refs.len() >= MAX_NAMED_REFS {
            return Err(RequestError::TooMany {
                line: "deepen-not",
                limit: MAX_NAMED_REFS,
            });
        }
        request.deepen.not_refs.push(name.into());
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn push_want(
    wants: &mut Vec<ObjectId>,
    seen: &mut IdSet,
    id: ObjectId,
    limits: &RequestLimits,
) -> Result<(), RequestError> {
    if seen.insert(id) {
        if wants.len() >= limits.max_wants {
            return Err(RequestError::TooMany {
                line: "want",
                limit: limits.max_wants,
            });
        }
        wants.push(id);
    }
    Ok(())
}

fn push_have(haves: &mut Vec<ObjectId>, id: &[u8], limits: &RequestLimits) -> Result<(), RequestError> {
    if haves.len() >= limits.max_haves {
        return Err(RequestError::TooMany {
            line: "have",
            limit: limits.max_haves,
        });
    }
    haves.push(parse_id(id, "have")?);
    Ok(())
}

fn set_filter(request: &mut FetchRequest, filter: &[u8], limits: &RequestLimits) -> Result<(), RequestError> {
    if request.filter.is_some() {
        return bad("multiple filter-specs cannot be combined");
    }
    if filter.len() > limits.max_filter_bytes {
        return bad(format!(
            "the filter is longer than {} bytes, which is this server's limit",
            limits.max_filter_bytes
        ));
    }
    match std::str::from_utf8(filter) {
        Ok(filter) => request.filter = Some(filter.to_owned()),
        Err(_) => return bad(format!("invalid filter-spec '{}'", quotable(filter))),
    }
    Ok(())
}

/// Takes `packfile-uris http,https`.
fn set_uri_protocols(request: &mut FetchRequest, protocols: &[u8]) -> Result<(), RequestError> {
    if !request.uri_protocols.is_empty() {
        return bad("multiple packfile-uris lines forbidden");
    }
    let names = protocols.split(|byte| *byte == b',');
    for name in names {
        if request.uri_protocols.len() >= MAX_URI_PROTOCOLS {
            return Err(RequestError::TooMany {
                line: "packfile-uris",
                limit: MAX_URI_PROTOCOLS,
            });
        }
        request.uri_protocols.push(quotable(name));
    }
    Ok(())
}

/// Splits `<id>[ <capabilities>]`.
fn want_line(rest: &[u8]) -> Result<(ObjectId, &[u8]), RequestError> {
    let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    Ok((parse_id(&rest[..end], "want")?, &rest[end..]))
}

fn parse_features(features: &[u8], request: &mut FetchRequest, asked_filter: &mut bool) -> Result<(), RequestError> {
    for feature in features.split(|byte| byte.is_ascii_whitespace()) {
        let (name, value) = split_value(feature);
        match name {
            b"deepen-relative" => request.deepen.is_relative = true,
            b"multi_ack_detailed" => request.ack_mode = AckMode::Detailed,
            b"multi_ack" if request.ack_mode == AckMode::Single => request.ack_mode = AckMode::Multi,
            b"no-done" => request.no_done = true,
            b"thin-pack" => request.thin_pack = true,
            b"ofs-delta" => request.ofs_delta = true,
            b"side-band-64k" => request.sideband = Sideband::Large,
            b"side-band" if request.sideband == Sideband::None => request.sideband = Sideband::Small,
            b"no-progress" => request.no_progress = true,
            b"include-tag" => request.include_tag = true,
            b"filter" => *asked_filter = true,
            b"agent" => request.client.agent = value.map(quotable),
            b"session-id" => request.client.session_id = value.map(quotable),
            b"object-format" => request.client.object_format = value.map(quotable),
            _ => {}
        }
    }
    Ok(())
}

fn split_value(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn parse_id(hex: &[u8], line: &'static str) -> Result<ObjectId, RequestError> {
    match ObjectId::from_hex(hex) {
        Ok(id) => Ok(id),
        Err(_) => bad(format!(
            "protocol error: expected an object id after '{line}', not '{}'",
            quotable(hex)
        )),
    }
}

/// A decimal number that may be signed.
fn parse_number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

type IdSet = gix::hashtable::HashSet<ObjectId>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn limits() -> RequestLimits {
        RequestLimits::from(&GitSettings::default())
    }

    fn line(text: &str) -> String {
        format!("{:04x}{text}\n", text.len() + 5)
    }

    fn v0(lines: &[&str], rest: &str) -> Result<FetchRequest, RequestError> {
        let body: String = lines.iter().map(|text| line(text)).collect::<String>() + rest;
        parse_v0(&mut body.as_bytes(), &limits())
    }

    fn v2(lines: &[&str], arguments: &[&str]) -> Result<V2Request, RequestError> {
        let mut body: String = lines.iter().map(|text| line(text)).collect();
        body += "0001";
        body.extend(arguments.iter().map(|text| line(text)));
        body += "0000";
        parse_v2(&mut body.as_bytes(), &limits())
    }

    #[test]
    fn a_v0_request_is_read_with_its_capabilities() {
        let want = format!("want {ID} multi_ack_detailed no-done side-band side-band-64k ofs-delta filter agent=git/2");
        let shallow = format!("shallow {ID}");
        let rest = format!("0000{}{}", line(&format!("have {ID}")), line("done"));

        let request = v0(&[&want, &shallow, "deepen 3", "filter blob:none"], &rest).unwrap();

        assert_eq!(request.wants.len(), 1);
        assert_eq!(request.haves.len(), 1);
        assert_eq!(request.shallows.len(), 1);
        assert_eq!(request.deepen.depth, Some(3));
        assert_eq!(request.filter.as_deref(), Some("blob:none"));
        assert_eq!(request.sideband, Sideband::Large);
        assert_eq!(request.ack_mode, AckMode::Detailed);
        assert_eq!(request.end, HavesEnd::Done);
        assert_eq!(request.client.agent.as_deref(), Some("git/2"));
        assert!(request.no_done && request.ofs_delta && !request.thin_pack);
    }

    #[test]
    fn the_order_of_capabilities_does_not_matter() {
        for (capabilities, mode, sideband) in [
            ("multi_ack multi_ack_detailed", AckMode::Detailed, Sideband::None),
            ("multi_ack_detailed multi_ack", AckMode::Detailed, Sideband::None),
            ("multi_ack side-band", AckMode::Multi, Sideband::Small),
            ("side-band-64k side-band", AckMode::Single, Sideband::Large),
        ] {
            let request = v0(&[&format!("want {ID} {capabilities}")], "00000009done\n").unwrap();
            assert_eq!((request.ack_mode, request.sideband), (mode, sideband));
        }
    }

    #[test]
    fn a_v0_request_may_end_after_its_wants() {
        let request = v0(&[&format!("want {ID}"), "deepen 1"], "0000").unwrap();
        assert_eq!(request.end, HavesEnd::Absent);
    }

    #[test]
    fn a_v0_request_that_breaks_off_among_its_haves_is_refused() {
        let rest = format!("0000{}", line(&format!("have {ID}")));
        assert!(v0(&[&format!("want {ID}")], &rest).is_err());
    }

    #[test]
    fn an_object_that_is_wanted_twice_is_wanted_once() {
        let want = format!("want {ID}");
        match v2(&["command=fetch"], &[&want, &want]).unwrap() {
            V2Request::Fetch(request) => assert_eq!(request.wants.len(), 1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_v2_fetch_is_read_with_its_arguments() {
        let arguments = [
            "thin-pack",
            "no-progress",
            "include-tag",
            "ofs-delta",
            "wait-for-done",
            "deepen-relative",
            "deepen-since 1700000000",
            "deepen-not refs/tags/v1",
            "want-ref refs/heads/main",
            "filter tree:1",
            "done",
        ];
        let V2Request::Fetch(request) = v2(&["command=fetch", "server-option=a=b"], &arguments).unwrap() else {
            panic!("not a fetch");
        };
        assert!(request.thin_pack && request.no_progress && request.include_tag && request.ofs_delta);
        assert!(request.wait_for_done && request.deepen.is_relative);
        assert_eq!(request.deepen.since_secs, Some(1_700_000_000));
        assert_eq!(request.deepen.not_refs, ["refs/tags/v1"]);
        assert_eq!(request.want_refs, ["refs/heads/main"]);
        assert_eq!(request.end, HavesEnd::Done);
        assert_eq!(request.sideband, Sideband::Large);
        assert_eq!(request.client.server_options, ["a=b"]);
    }

    #[test]
    fn a_depth_beyond_all_is_all_and_none_is_refused() {
        let depth = |text: &str| v2(&["command=fetch"], &[text]);
        match depth("deepen 99999999999").unwrap() {
            V2Request::Fetch(request) => assert_eq!(request.deepen.depth, Some(INFINITE_DEPTH)),
            other => panic!("{other:?}"),
        }
        for text in ["deepen 0", "deepen -1", "deepen x", "deepen ", "deepen-since -1"] {
            assert!(depth(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_v0(&mut &bytes[..], &limits());
            let _ = parse_v2(&mut &bytes[..], &limits());
        }

        #[test]
        fn no_lines_make_the_parsers_panic(
            lines in proptest::collection::vec(
                prop_oneof![
                    "(want|have|shallow) [0-9a-f]{38,42}( [a-z_0-9=-]{0,20})?",
                    "(deepen|deepen-since|deepen-not|filter|want-ref|ref-prefix) [ -~]{0,20}",
                    "command=(fetch|ls-refs|x)?",
                    "[a-z-]{0,20}(=.{0,5})?",
                    Just("\u{0}flush".to_owned()),
                    Just("\u{0}delim".to_owned()),
                ],
                0..30,
            )
        ) {
            let body: String = lines
                .iter()
                .map(|text| match text.as_str() {
                    "\u{0}flush" => "0000".to_owned(),
                    "\u{0}delim" => "0001".to_owned(),
                    text => line(text),
                })
                .collect();
            let _ = parse_v0(&mut body.as_bytes(), &limits());
            let _ = parse_v2(&mut body.as_bytes(), &limits());
        }
    }
}
