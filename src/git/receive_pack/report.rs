//! The report: what became of the pack and of every ref.

use std::io;

use super::commands::PushCapabilities;
use super::proc_receive::RefReport;
use super::serve::Command;
use crate::git::advertise::HexId;
use crate::git::pkt_line::{PktWriter, printable};

/// Writes `unpack …`, one `ok` or `ng` per command, and a flush; nothing if the client wants none.
///
/// The second version adds what the hook `proc-receive` made of an update.
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
            None if command.reports.is_empty() || !capabilities.report_status_v2 => out.line(&[b"ok ", name, b"\n"])?,
            None => {
                for report in &command.reports {
                    out.line(&[b"ok ", name, b"\n"])?;
                    write_options(report, &mut out)?;
                }
            }
            Some(reason) => out.line(&[b"ng ", name, b" ", printable(reason).as_bytes(), b"\n"])?,
        }
    }
    out.flush()?;
    out.flush_out()?;
    Ok(bytes)
}

fn write_options<W: io::Write>(report: &RefReport, out: &mut PktWriter<W>) -> io::Result<()> {
    if let Some(name) = &report.name {
        out.line(&[b"option refname ", name, b"\n"])?;
    }
    if let Some(old) = &report.old {
        out.line(&[b"option old-oid ", HexId::new(old).as_bytes(), b"\n"])?;
    }
    if let Some(new) = &report.new {
        out.line(&[b"option new-oid ", HexId::new(new).as_bytes(), b"\n"])?;
    }
    if report.is_forced {
        out.line(&[b"option forced-update\n"])?;
    }
    Ok(())
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
    fn what_the_hook_made_of_an_update_is_told_in_the_second_version_only() {
        let mut taken = command("refs/for/a", None);
        taken.reports = vec![
            RefReport {
                name: Some("refs/heads/a".into()),
                is_forced: true,
                ..RefReport::default()
            },
            RefReport {
                new: Some(ObjectId::null(Kind::Sha1)),
                ..RefReport::default()
            },
        ];
        let told = |report_status_v2| {
            let capabilities = PushCapabilities {
                report_status: true,
                report_status_v2,
                ..Default::default()
            };
            let bytes = report(&capabilities, None, std::slice::from_ref(&taken)).expect("to memory");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let null = "0".repeat(40);
        let expected = format!(
            "000eunpack ok\n0012ok refs/for/a\n0020option refname refs/heads/a\n0019option forced-update\n\
             0012ok refs/for/a\n003coption new-oid {null}\n0000"
        );
        assert_eq!(told(true), expected);
        assert_eq!(told(false), "000eunpack ok\n0012ok refs/for/a\n0000");
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
