//! `object-info`: how large objects are, without the objects.
//!
//! Told only of objects that the client could fetch; all others are answered like what does not
//! exist: the id alone.

use std::io::Read;

use gix::ObjectId;

use super::UploadError;
use super::request::{ClientFacts, RequestError, RequestLimits, next_argument};
use crate::git::advertise::HexId;
use crate::git::object_store::ObjectKind;
use crate::git::pkt_line::{PktReader, PktWriter, quotable};
use crate::git::snapshot::Snapshot;
use crate::git::work::Tick;

/// Most lines that are answered by an error of their own; further ones are passed over.
const MAX_COMPLAINTS: usize = 16;
/// Objects between two calls of the tick.
const TICK_OBJECTS: usize = 256;

/// Arguments of `object-info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectInfoRequest {
    /// `size` is asked for.
    pub size: bool,
    /// The objects, in order.
    pub ids: Vec<ObjectId>,
    /// What the client asks for beyond that, each as a sentence. As in git it hears of them and then of
    /// the rest.
    pub complaints: Vec<String>,
    /// What the client tells about itself.
    pub client: ClientFacts,
}

/// Reads the arguments; `git.max_wants` limits the objects.
///
/// # Errors
/// [`RequestError`] for broken framing and too many objects.
pub(super) fn parse<R: Read>(
    reader: &mut PktReader<R>,
    has_arguments: bool,
    client: ClientFacts,
    limits: &RequestLimits,
) -> Result<ObjectInfoRequest, RequestError> {
    let mut request = ObjectInfoRequest {
        client,
        ..ObjectInfoRequest::default()
    };
    while let Some(line) = next_argument(reader, has_arguments)? {
        let complaint = match (line, line.strip_prefix(b"oid ")) {
            (b"size", _) => {
                request.size = true;
                continue;
            }
            (_, Some(hex)) => match ObjectId::from_hex(hex) {
                Ok(_) if request.ids.len() >= limits.max_wants => {
                    return Err(RequestError::TooMany {
                        line: "oid",
                        limit: limits.max_wants,
                    });
                }
                Ok(id) => {
                    request.ids.push(id);
                    continue;
                }
                Err(_) => format!(
                    "object-info: protocol error, expected to get oid, not '{}'",
                    quotable(hex)
                ),
            },
            _ => format!("object-info: unexpected line: '{}'", quotable(line)),
        };
        if request.complaints.len() < MAX_COMPLAINTS {
            request.complaints.push(complaint);
        }
    }
    Ok(request)
}

/// Writes the answer: what was asked, then one line for each object, with what is known of it.
///
/// `is_known` tells which objects the client may know of.
///
/// # Errors
/// [`UploadError`] if an object is damaged, the output failed or the work is stopped.
pub(super) fn write<W: std::io::Write>(
    snapshot: &Snapshot,
    request: &ObjectInfoRequest,
    is_known: impl Fn(&ObjectId) -> bool,
    out: &mut PktWriter<W>,
    tick: Tick<'_>,
) -> Result<(), UploadError> {
    for complaint in &request.complaints {
        out.error(complaint)?;
    }
    if !request.ids.is_empty() && request.size {
        out.line(&[b"size"])?;
    }
    let mut reader = snapshot.objects.reader(0);
    for (n, id) in request.ids.iter().enumerate() {
        if n % TICK_OBJECTS == 0 {
            tick()?;
        }
        let hex = HexId::new(id);
        if !request.size {
            out.line(&[hex.as_bytes()])?;
            continue;
        }
        let header: Option<(ObjectKind, u64)> = if is_known(id) { reader.header(id)? } else { None };
        let size = header.map_or(String::new(), |(_, size_bytes)| size_bytes.to_string());
        out.line(&[hex.as_bytes(), b" ", size.as_bytes()])?;
    }
    out.flush()?;
    Ok(())
}
