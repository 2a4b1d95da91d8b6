//! What goes back to the client before the report: messages and keep-alives.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::commands::PushCapabilities;
use crate::git::pkt_line::{Band, KEEP_ALIVE_PROGRESS, PktWriter, Sideband, printable, write_band};
use crate::git::work::Stopped;

/// The way back to the client.
pub(super) struct Channel<'a> {
    out: &'a mut dyn Write,
    sideband: Sideband,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    failure: Option<io::Error>,
}

impl<'a> Channel<'a> {
    /// Speaks as the client can hear; `keep_alive` of `None` sends none.
    pub fn new(out: &'a mut dyn Write, capabilities: &PushCapabilities, keep_alive: Option<Duration>) -> Self {
        let sideband = if capabilities.side_band_64k {
            Sideband::Large
        } else {
            Sideband::None
        };
        Self {
            out,
            sideband,
            keep_alive,
            last_sent: Instant::now(),
            failure: None,
        }
    }

    /// Shows `text` to the person who pushes, if the client has a band for it. Failures are kept for
    /// [`Channel::check`].
    pub fn message(&mut self, text: &[u8]) {
        if self.sideband != Sideband::None {
            let sent = write_band(self.out, self.sideband, Band::Progress, text).and_then(|()| self.out.flush());
            self.note(sent);
        }
    }

    /// Shows one line, in which a ref name of the client's cannot do anything to a terminal.
    pub fn line(&mut self, text: &str) {
        self.message(format!("{}\n", printable(text)).as_bytes());
    }

    /// Tells the client, and every proxy on the way, that work goes on, if it is time to.
    pub fn keep_alive(&mut self) {
        let is_due = self.keep_alive.is_some_and(|every| self.last_sent.elapsed() >= every);
        if is_due && self.sideband != Sideband::None {
            let sent = self.out.write_all(KEEP_ALIVE_PROGRESS).and_then(|()| self.out.flush());
            self.note(sent);
        }
    }

    /// Whether the client still hears.
    ///
    /// # Errors
    /// The first failure to send, once.
    pub fn check(&mut self) -> Result<(), Stopped> {
        self.failure.take().map_or(Ok(()), |error| Err(Stopped::Output(error)))
    }

    /// Sends the report, framed in band 1 if there are bands, and ends the answer.
    ///
    /// # Errors
    /// The output failed.
    pub fn finish(&mut self, report: &[u8]) -> io::Result<()> {
        write_band(self.out, self.sideband, Band::Data, report)?;
        if self.sideband != Sideband::None {
            self.out.write_all(b"0000")?;
        }
        self.out.flush()
    }

    /// Ends the answer with a sentence instead of a report.
    ///
    /// # Errors
    /// The output failed.
    pub fn fatal(&mut self, sentence: &str) -> io::Result<()> {
        if self.sideband == Sideband::None {
            let mut line = PktWriter::new(&mut *self.out);
            line.error(sentence)?;
            return line.flush_out();
        }
        let text = format!("{}\n", printable(sentence));
        write_band(self.out, self.sideband, Band::Error, text.as_bytes())?;
        self.out.flush()
    }

    fn note(&mut self, sent: io::Result<()>) {
        self.last_sent = Instant::now();
        if let Err(error) = sent {
            self.failure.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(side_band_64k: bool) -> PushCapabilities {
        PushCapabilities {
            side_band_64k,
            ..Default::default()
        }
    }

    #[test]
    fn messages_and_keep_alives_go_on_band_two_and_the_report_on_band_one() {
        let mut sent = Vec::new();
        let mut channel = Channel::new(&mut sent, &capabilities(true), Some(Duration::ZERO));

        channel.line("hello");
        channel.keep_alive();
        channel.finish(b"000eunpack ok\n0000").expect("to memory");

        let expected = "000b\u{2}hello\n0005\u{2}0017\u{1}000eunpack ok\n00000000";
        assert_eq!(String::from_utf8_lossy(&sent), expected);
    }

    #[test]
    fn a_client_without_bands_gets_the_report_and_nothing_else() {
        let mut sent = Vec::new();
        let mut channel = Channel::new(&mut sent, &capabilities(false), Some(Duration::ZERO));

        channel.line("hello");
        channel.keep_alive();
        channel.finish(b"000eunpack ok\n0000").expect("to memory");

        assert_eq!(String::from_utf8_lossy(&sent), "000eunpack ok\n0000");
    }

    #[test]
    fn a_keep_alive_is_sent_only_after_silence_and_never_where_it_is_switched_off() {
        for keep_alive in [Some(Duration::from_secs(3600)), None] {
            let mut sent = Vec::new();
            Channel::new(&mut sent, &capabilities(true), keep_alive).keep_alive();
            assert!(sent.is_empty());
        }
    }

    #[test]
    fn a_client_that_went_away_is_noticed_once() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gone = Gone;
        let mut channel = Channel::new(&mut gone, &capabilities(true), None);

        channel.line("hello");

        assert!(matches!(channel.check(), Err(Stopped::Output(_))));
        assert!(channel.check().is_ok());
    }
}
