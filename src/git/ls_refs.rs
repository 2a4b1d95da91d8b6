//! `ls-refs`: the list of refs in protocol v2.

use std::io::{self, Write};

use bstr::{BString, ByteSlice};

use super::advertise::{HexId, is_listed, visible_head, visible_symref_target};
use super::pkt_line::PktWriter;
use super::repo_config::Unborn;
use super::snapshot::Snapshot;
use super::upload_pack::request::LsRefsRequest;

/// Writes the refs that are asked for, `HEAD` first, then sorted by name; tells how many lines.
///
/// Refs are found by seeking to each prefix, so a request for one branch of 100,000 costs one line.
///
/// # Errors
/// The output failed.
pub fn write<W: Write>(snapshot: &Snapshot, request: &LsRefsRequest, out: &mut PktWriter<W>) -> io::Result<u64> {
    let prefixes = disjoint(&request.prefixes);
    let mut lines = u64::from(write_head(snapshot, request, &prefixes, out)?);
    for prefix in &prefixes {
        for known in snapshot.refs.with_prefix(prefix) {
            if !is_listed(snapshot, known) {
                continue;
            }
            let target = HexId::new(&known.target);
            let mut parts: [&[u8]; 8] = [b""; 8];
            parts[0] = target.as_bytes();
            parts[1] = b" ";
            parts[2] = &known.name;
            if request.symrefs
                && let Some(symref) = &known.symref
                && let Some(symref) = visible_symref_target(snapshot, symref.as_bstr())
            {
                parts[3] = b" symref-target:";
                parts[4] = symref;
            }
            let peeled = known.peeled.filter(|_| request.peel).map(|id| HexId::new(&id));
            if let Some(peeled) = &peeled {
                parts[5] = b" peeled:";
                parts[6] = peeled.as_bytes();
            }
            parts[7] = b"\n";
            out.line(&parts)?;
            lines += 1;
        }
    }
    out.flush()?;
    Ok(lines)
}

fn write_head<W: Write>(
    snapshot: &Snapshot,
    request: &LsRefsRequest,
    prefixes: &[BString],
    out: &mut PktWriter<W>,
) -> io::Result<bool> {
    if !prefixes.iter().any(|prefix| b"HEAD".starts_with(prefix)) {
        return Ok(false);
    }
    let Some(head) = visible_head(snapshot) else {
        return Ok(false);
    };
    let target = head.target.map(|id| HexId::new(&id));
    let tells_unborn = request.unborn && request.symrefs && snapshot.config.unborn != Unborn::Ignore;
    let mut parts: [&[u8]; 6] = [b""; 6];
    parts[0] = match &target {
        Some(target) => target.as_bytes(),
        None if tells_unborn && head.branch.is_some() => b"unborn",
        None => return Ok(false),
    };
    parts[1] = b" HEAD";
    if request.symrefs
        && let Some(branch) = &head.branch
    {
        parts[2] = b" symref-target:";
        parts[3] = branch;
    }
    let peeled = match head.peeled.filter(|_| request.peel) {
        Some(id) => format!(" peeled:{id}"),
        None => String::new(),
    };
    parts[4] = peeled.as_bytes();
    parts[5] = b"\n";
    out.line(&parts)?;
    Ok(true)
}

/// Sorted prefixes of which none begins with another, so that no ref is listed twice. No prefix
/// at all asks for everything.
fn disjoint(prefixes: &[BString]) -> Vec<BString> {
    if prefixes.is_empty() {
        return vec![BString::default()];
    }
    let mut sorted = prefixes.to_vec();
    sorted.sort_unstable();
    let mut kept: Vec<BString> = Vec::with_capacity(sorted.len());
    for prefix in sorted {
        if !kept.last().is_some_and(|last| prefix.starts_with(last)) {
            kept.push(prefix);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_another_covers_are_dropped() {
        let prefixes = ["refs/tags/", "refs/heads/main", "refs/heads/", "refs/heads/", "HEAD"];
        let kept = disjoint(&prefixes.map(BString::from));
        assert_eq!(kept, ["HEAD", "refs/heads/", "refs/tags/"]);
    }

    #[test]
    fn no_prefix_asks_for_everything() {
        assert_eq!(disjoint(&[]), [""]);
    }
}
