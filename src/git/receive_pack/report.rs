//! The report: what became of the pack and of every ref.

use std::io;

use super::commands::PushCapabilities;
use super::serve::Command;
use crate::git::pkt_line::{PktWriter, printable};

/// Writes `unpack …`, one `ok` or `ng` per command, and a flush; nothing if the client wants none.
///
/// The second version may add what the server made of an update; this server makes nothing else of it.
///
/// # Errors
/// None when writing to memory.
pub(super) fn report(
    capabilities: &PushCapabilities,
    unpack_error: Option<&str>,
    commands: &[Command],
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !capabilities.report_status && !capabilities.report_status_v2 {
        return Ok(bytes);
    }
    let mut out = PktWriter::new(&mut bytes);
    let unpacked = unpack_error.map_or("ok".into(), printable);
    out.line(&[b"unpack ", unpacked.as_bytes(), b"\n"])?;
    for command in commands {
        let name = command.update.name.as_slice();
        match &command.refused {
            None => out.line(&[b"ok ", name, b"\n"])?,
            Some(reason) => out.line(&[b"ng ", name, b" ", printable(reason).as_bytes(), b"\n"])?,
        }
    }
    out.flush()?;
    out.flush_out()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use gix::ObjectId;
    use gix::hash::Kind;

    use super::*;
    use crate::git::ref_transaction::RefUpdate;

    fn command(name: &str, refused: Option<&str>) -> Command {
        let null = ObjectId::null(Kind::Sha1);
        let mut command = Command::new(RefUpdate {
            name: name.into(),
            old: null,
            new: null,
        });
        command.refused = refused.map(str::to_owned);
        command
    }

    #[test]
    fn a_report_tells_of_the_pack_and_of_every_ref_in_one_line_each() {
        let commands = [
            command("refs/heads/a", None),
            command("refs/heads/b", Some("not\ntoday")),
        ];
        let capabilities = PushCapabilities {
            report_status: true,
            ..Default::default()
        };

        let bytes = report(&capabilities, None, &commands).expect("to memory");

        let expected = "000eunpack ok\n0014ok refs/heads/a\n001eng refs/heads/b not today\n0000";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[test]
    fn a_client_that_wants_no_report_gets_none() {
        let commands = [command("refs/heads/a", None)];

        assert!(
            report(&PushCapabilities::default(), None, &commands)
                .expect("to memory")
                .is_empty()
        );
    }
}
