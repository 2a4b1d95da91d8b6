//! The answer to `GET …/info/refs?service=git-receive-pack`: refs and capabilities.

use std::collections::HashSet;
use std::io::{self, Write};

use gix::ObjectId;

use super::{ReceiveError, ReceiveOptions, nonces, now_secs};
use crate::git::advertise::{AGENT, HexId, session_id};
use crate::git::object_store::ObjectStore;
use crate::git::pkt_line::PktWriter;
use crate::git::refs::RefFiles;
use crate::git::snapshot::Snapshot;
use crate::git::upload_pack::Protocol;

/// Capabilities that depend on nothing.
const CAPABILITIES: &str = "report-status report-status-v2 delete-refs side-band-64k quiet";

/// Writes the whole body: service line, version line of v1, refs that pushes may see, what alternates
/// have, the repository's own shallow boundary.
///
/// `HEAD` and what tags name are not told, and v2 is answered as v0: both as git does.
///
/// # Errors
/// The output failed.
pub fn advertise(snapshot: &Snapshot, options: &ReceiveOptions<'_>, out: &mut dyn Write) -> Result<(), ReceiveError> {
    let mut out = PktWriter::new(out);
    out.line(&[b"# service=git-receive-pack\n"])?;
    out.flush()?;
    if options.protocol == Protocol::V1 {
        out.line(&[b"version 1\n"])?;
    }
    let mut capabilities = Some(capabilities(snapshot, options));
    let mut seen: HashSet<ObjectId> = HashSet::new();
    let alternates = alternate_tips(&snapshot.objects);
    for known in snapshot.refs.all() {
        if snapshot.config.hidden_from_receive(&known.name) {
            continue;
        }
        if !alternates.is_empty() {
            seen.insert(known.target);
        }
        write_ref(&mut out, &known.target, &known.name, capabilities.take())?;
    }
    for id in alternates {
        if seen.insert(id) {
            write_ref(&mut out, &id, b".have", capabilities.take())?;
        }
    }
    if let Some(capabilities) = capabilities {
        write_ref(
            &mut out,
            &ObjectId::null(snapshot.hash()),
            b"capabilities^{}",
            Some(capabilities),
        )?;
    }
    for id in &snapshot.shallow {
        out.line(&[b"shallow ", HexId::new(id).as_bytes(), b"\n"])?;
    }
    out.flush()?;
    out.flush_out()?;
    Ok(())
}

/// What refs of alternates name, as far as it can be read: clients need not send it.
pub(super) fn alternate_tips(objects: &ObjectStore) -> Vec<ObjectId> {
    let mut tips = Vec::new();
    for folder in objects.alternates() {
        let Some(git_dir) = folder.parent().filter(|git_dir| git_dir.join("HEAD").is_file()) else {
            continue;
        };
        let mut files = RefFiles::new(git_dir, objects.hash());
        match files.refresh().and_then(|_| files.collect()) {
            Ok((_, refs)) => tips.extend(refs.iter().map(|raw| raw.target).filter(|id| objects.contains(id))),
            Err(error) => tracing::warn!(alternate = %git_dir.display(), %error, "refs of an alternate cannot be read"),
        }
    }
    tips
}

fn write_ref<W: Write>(
    out: &mut PktWriter<W>,
    id: &ObjectId,
    name: &[u8],
    capabilities: Option<String>,
) -> io::Result<()> {
    let id = HexId::new(id);
    match capabilities {
        Some(words) => out.line(&[id.as_bytes(), b" ", name, b"\0", words.as_bytes(), b"\n"]),
        None => out.line(&[id.as_bytes(), b" ", name, b"\n"]),
    }
}

fn capabilities(snapshot: &Snapshot, options: &ReceiveOptions<'_>) -> String {
    let config = &snapshot.config;
    let mut words = CAPABILITIES.to_owned();
    if config.advertise_atomic.unwrap_or(true) {
        words.push_str(" atomic");
    }
    words.push_str(" ofs-delta");
    if let Some(nonces) = nonces(snapshot, options) {
        words.push_str(&format!(" push-cert={}", nonces.issue(now_secs())));
    }
    if config.advertise_push_options.unwrap_or(true) {
        words.push_str(" push-options");
    }
    if let Some(id) = session_id(snapshot, options.limits) {
        words.push_str(&format!(" session-id={id}"));
    }
    words.push_str(&format!(" object-format={} agent={AGENT}", snapshot.hash()));
    words
}
