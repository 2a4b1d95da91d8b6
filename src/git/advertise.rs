//! The answer to `GET …/info/refs?service=git-upload-pack`: refs and capabilities (v0, v1), or
//! capabilities alone (v2).

use std::io::{self, Write};

use bstr::{BStr, BString, ByteSlice};
use gix::ObjectId;

use super::pkt_line::PktWriter;
use super::refs::Head;
use super::repo_config::Unborn;
use super::snapshot::Snapshot;
use crate::config::GitSettings;

/// How this server calls itself on the wire.
pub const AGENT: &str = concat!("auxin/", env!("CARGO_PKG_VERSION"));

/// Longest chain of symbolic refs that is followed.
const MAX_SYMREF_DEPTH: usize = 5;
/// Capabilities of v0 and v1 that depend on nothing.
const V0_CAPABILITIES: &str = "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not \
                               deepen-relative no-progress include-tag multi_ack_detailed";

/// The object ids as text, without allocating one each.
pub(super) struct HexId([u8; MAX_HEX_BYTES], usize);

/// Digits of the longest object id.
const MAX_HEX_BYTES: usize = 64;

impl HexId {
    pub(super) fn new(id: &ObjectId) -> Self {
        let mut digits = [0; MAX_HEX_BYTES];
        let length = id.hex_to_buf(&mut digits).len();
        Self(digits, length)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// What fetches may know of `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleHead {
    /// The branch it names, unless it is detached.
    pub branch: Option<BString>,
    /// What it names in the end; `None` while the branch is unborn.
    pub target: Option<ObjectId>,
    /// What the target names if it is an annotated tag.
    pub peeled: Option<ObjectId>,
}

/// `HEAD`, unless it is hidden, broken, or names a hidden branch: then nothing of it may leak.
pub fn visible_head(snapshot: &Snapshot) -> Option<VisibleHead> {
    if !snapshot.is_visible(b"HEAD") {
        return None;
    }
    match snapshot.refs.head() {
        Head::Detached(id) => snapshot.objects.contains(id).then_some(VisibleHead {
            branch: None,
            target: Some(*id),
            peeled: None,
        }),
        Head::Symbolic { branch, target } => {
            let branch = visible_symref_target(snapshot, branch.as_bstr())?;
            Some(VisibleHead {
                peeled: snapshot.refs.find(branch).and_then(|known| known.peeled),
                branch: Some(branch.to_owned()),
                target: *target,
            })
        }
    }
}

/// The ref that a symbolic ref to `name` leads to in the end, unless a hidden one is on the way.
pub(super) fn visible_symref_target<'s>(snapshot: &'s Snapshot, name: &'s BStr) -> Option<&'s BStr> {
    let mut name = name;
    for _ in 0..MAX_SYMREF_DEPTH {
        if !snapshot.is_visible(name) {
            return None;
        }
        match snapshot.refs.find(name).and_then(|known| known.symref.as_ref()) {
            Some(next) => name = next.as_bstr(),
            None => return Some(name),
        }
    }
    None
}

/// Whether filters are offered: the repository may switch them off, not on.
pub fn allows_filter(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    settings.allow_filter && snapshot.config.allow_filter.unwrap_or(true)
}

/// Whether objects may be wanted by id that no visible ref names outright.
pub fn allows_reachable_wants(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    settings.allow_reachable_wants && snapshot.config.allow_reachable_wants.unwrap_or(true)
}

/// Whether sizes of objects are told without the objects.
pub fn offers_object_info(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    snapshot
        .config
        .advertise_object_info
        .unwrap_or(settings.advertise_object_info)
}

/// Whether refs may be wanted by name.
pub fn allows_ref_in_want(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    snapshot.config.allow_ref_in_want.unwrap_or(settings.allow_ref_in_want)
}

/// Whether the whole answer to a fetch may come in side bands.
pub fn allows_sideband_all(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    let own = snapshot.config.allow_sideband_all;
    own.unwrap_or(settings.allow_sideband_all)
}

/// Whether clients are told an id of the session.
pub fn advertises_session_id(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    let own = snapshot.config.advertise_session_id;
    own.unwrap_or(settings.advertise_session_id)
}

/// Whether clients are told of bundles.
pub fn offers_bundle_uri(snapshot: &Snapshot, settings: &GitSettings) -> bool {
    snapshot.config.advertise_bundle_uris.unwrap_or(settings.bundle_uri)
}

/// Writes the capabilities of protocol v2.
///
/// # Errors
/// The output failed.
pub fn write_v2<W: Write>(snapshot: &Snapshot, settings: &GitSettings, out: &mut PktWriter<W>) -> io::Result<()> {
    out.line(&[b"version 2\n"])?;
    out.line(&[b"agent=", AGENT.as_bytes(), b"\n"])?;
    match snapshot.config.unborn {
        Unborn::Advertise => out.line(&[b"ls-refs=unborn\n"])?,
        Unborn::Allow | Unborn::Ignore => out.line(&[b"ls-refs\n"])?,
    }
    let mut fetch = String::from("fetch=shallow wait-for-done");
    for (is_offered, name) in [
        (allows_filter(snapshot, settings), " filter"),
        (allows_ref_in_want(snapshot, settings), " ref-in-want"),
        (allows_sideband_all(snapshot, settings), " sideband-all"),
        (!snapshot.config.packfile_uris.is_empty(), " packfile-uris"),
    ] {
        if is_offered {
            fetch.push_str(name);
        }
    }
    out.line(&[fetch.as_bytes(), b"\n"])?;
    out.line(&[b"server-option\n"])?;
    out.line(&[b"object-format=", object_format(snapshot).as_bytes(), b"\n"])?;
    if let Some(session_id) = session_id(snapshot, settings) {
        out.line(&[b"session-id=", session_id.as_bytes(), b"\n"])?;
    }
    if offers_object_info(snapshot, settings) {
        out.line(&[b"object-info\n"])?;
    }
    if offers_bundle_uri(snapshot, settings) {
        out.line(&[b"bundle-uri\n"])?;
    }
    out.flush()
}

/// Writes refs and capabilities of protocol v0, or of v1 with its version line first.
///
/// # Errors
/// The output failed.
pub fn write_v0<W: Write>(
    snapshot: &Snapshot,
    settings: &GitSettings,
    is_v1: bool,
    out: &mut PktWriter<W>,
) -> io::Result<()> {
    out.line(&[b"# service=git-upload-pack\n"])?;
    out.flush()?;
    if is_v1 {
        out.line(&[b"version 1\n"])?;
    }
    let head = visible_head(snapshot);
    let mut capabilities = Some(v0_capabilities(snapshot, settings, head.as_ref()));
    if let Some(VisibleHead {
        target: Some(target),
        peeled,
        ..
    }) = &head
    {
        write_v0_ref(out, target, b"HEAD", capabilities.take())?;
        write_v0_peeled(out, peeled.as_ref(), b"HEAD")?;
    }
    for known in snapshot.refs.all() {
        if !is_listed(snapshot, known) {
            continue;
        }
        write_v0_ref(out, &known.target, &known.name, capabilities.take())?;
        write_v0_peeled(out, known.peeled.as_ref(), &known.name)?;
    }
    if let Some(capabilities) = capabilities {
        let null = ObjectId::null(snapshot.hash());
        write_v0_ref(out, &null, b"capabilities^{}", Some(capabilities))?;
    }
    for id in &snapshot.shallow {
        out.line(&[b"shallow ", HexId::new(id).as_bytes(), b"\n"])?;
    }
    out.flush()
}

/// Whether a ref may be told of: it is visible, and so is what it names if it is symbolic.
pub(super) fn is_listed(snapshot: &Snapshot, known: &super::refs::Ref) -> bool {
    snapshot.is_visible(&known.name)
        && known
            .symref
            .as_ref()
            .is_none_or(|target| visible_symref_target(snapshot, target.as_bstr()).is_some())
}

fn write_v0_ref<W: Write>(
    out: &mut PktWriter<W>,
    target: &ObjectId,
    name: &[u8],
    capabilities: Option<BString>,
) -> io::Result<()> {
    let id = HexId::new(target);
    match capabilities {
        Some(capabilities) => out.line(&[id.as_bytes(), b" ", name, b"\0", &capabilities, b"\n"]),
        None => out.line(&[id.as_bytes(), b" ", name, b"\n"]),
    }
}

fn write_v0_peeled<W: Write>(out: &mut PktWriter<W>, peeled: Option<&ObjectId>, name: &[u8]) -> io::Result<()> {
    match peeled {
        Some(peeled) => out.line(&[HexId::new(peeled).as_bytes(), b" ", name, b"^{}\n"]),
        None => Ok(()),
    }
}

fn v0_capabilities(snapshot: &Snapshot, settings: &GitSettings, head: Option<&VisibleHead>) -> BString {
    let mut text = BString::from(V0_CAPABILITIES);
    if allows_reachable_wants(snapshot, settings) {
        text.extend_from_slice(b" allow-tip-sha1-in-want allow-reachable-sha1-in-want");
    }
    text.extend_from_slice(b" no-done");
    if let Some(VisibleHead {
        branch: Some(branch),
        target: Some(_),
        ..
    }) = head
    {
        text.extend_from_slice(b" symref=HEAD:");
        text.extend_from_slice(branch);
    }
    if allows_filter(snapshot, settings) {
        text.extend_from_slice(b" filter");
    }
    if let Some(session_id) = session_id(snapshot, settings) {
        text.extend_from_slice(b" session-id=");
        text.extend_from_slice(session_id.as_bytes());
    }
    text.extend_from_slice(b" object-format=");
    text.extend_from_slice(object_format(snapshot).as_bytes());
    text.extend_from_slice(b" agent=");
    text.extend_from_slice(AGENT.as_bytes());
    text
}

/// The repository's hash function as the protocol calls it.
pub(super) fn object_format(snapshot: &Snapshot) -> String {
    snapshot.hash().to_string()
}

/// A fresh id for this answer, where one is to be advertised. The log has it beside the id of the request.
pub(super) fn session_id(snapshot: &Snapshot, settings: &GitSettings) -> Option<String> {
    if !advertises_session_id(snapshot, settings) {
        return None;
    }
    let id = uuid::Uuid::now_v7().to_string();
    tracing::info!(session_id = %id, "A client was told the id of this session");
    Some(id)
}
