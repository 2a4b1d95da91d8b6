//! pkt-line: the framing of Git's wire protocol.
//!
//! Every packet is four hex digits of length (which count themselves) and a payload. `0000` is a
//! flush, `0001` a delimiter, `0002` the end of a response, `0003` is invalid and `0004` an empty
//! line. The reader holds one packet, never more than [`MAX_PAYLOAD_BYTES`], and never allocates
//! by a length that was only announced.

use std::io::{self, BufReader, Read, Write};

use bstr::ByteSlice;

/// Longest packet with its four digits of length, in bytes.
pub const MAX_PACKET_BYTES: usize = 65_520;
/// Longest payload of a packet, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - LENGTH_BYTES;
/// Longest packet of the older `side-band` capability, in bytes.
pub const SMALL_PACKET_BYTES: usize = 1000;
/// An empty packet on band 1: tells the other side that work goes on.
pub const KEEP_ALIVE: &[u8; 5] = b"0005\x01";
/// An empty packet on band 2: the keep-alive of a push.
pub const KEEP_ALIVE_PROGRESS: &[u8; 5] = b"0005\x02";

/// Digits of a packet's length, in bytes.
const LENGTH_BYTES: usize = 4;
/// What is read ahead from the request, in bytes.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// Lines are collected up to this size before they are written out, in bytes.
const WRITE_BUFFER_BYTES: usize = 32 << 10;
/// Longest text of an error that is sent, in bytes.
const MAX_ERROR_BYTES: usize = 4096;

/// One packet of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A line, as it came: [`trim_newline`] takes off its line feed.
    Data(&'a [u8]),
    /// `0000`.
    Flush,
    /// `0001`.
    Delim,
    /// `0002`: never part of a request; callers refuse it.
    ResponseEnd,
}

/// Why no packet could be read.
#[derive(Debug, thiserror::Error)]
pub enum PktError {
    /// The length is not four hex digits, or is 3, or is over [`MAX_PACKET_BYTES`].
    #[error("protocol error: bad line length '{0}'")]
    BadLength(String),
    /// The request ended within a packet.
    #[error("protocol error: the request ended in the middle of a line")]
    Truncated,
    /// All packets together are larger than the limit, in bytes.
    #[error("the request is larger than {limit_bytes} bytes, which is this server's limit")]
    TooLarge {
        /// The limit that was reached.
        limit_bytes: u64,
    },
    /// The connection or the decompression failed.
    #[error("could not read the request: {0}")]
    Io(#[from] io::Error),
}

/// Reads packets one by one, up to a total number of bytes.
pub struct PktReader<R> {
    input: BufReader<R>,
    payload: Vec<u8>,
    left_bytes: u64,
    limit_bytes: u64,
}

impl<R: Read> PktReader<R> {
    /// A reader that refuses once all packets together exceed `limit_bytes`.
    pub fn new(input: R, limit_bytes: u64) -> Self {
        Self {
            input: BufReader::with_capacity(READ_AHEAD_BYTES, input),
            payload: Vec::new(),
            left_bytes: limit_bytes,
            limit_bytes,
        }
    }

    /// The next packet, or `None` where the input ends between two packets.
    ///
    /// # Errors
    /// Any [`PktError`]; the reader is then of no further use.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, PktError> {
        let mut digits = [0; LENGTH_BYTES];
        if !self.fill(&mut digits)? {
            return Ok(None);
        }
        self.left_bytes = self
            .left_bytes
            .checked_sub(LENGTH_BYTES as u64)
            .ok_or(PktError::TooLarge {
                limit_bytes: self.limit_bytes,
            })?;
        let length = parse_length(digits)?;
        let payload_bytes = match length {
            0 => return Ok(Some(Packet::Flush)),
            1 => return Ok(Some(Packet::Delim)),
            2 => return Ok(Some(Packet::ResponseEnd)),
            _ => length - LENGTH_BYTES,
        };
        self.left_bytes = self
            .left_bytes
            .checked_sub(payload_bytes as u64)
            .ok_or(PktError::TooLarge {
                limit_bytes: self.limit_bytes,
            })?;
        self.payload.clear();
        // Grows with what arrives, so an announced length costs nothing by itself.
        let read = (&mut self.input)
            .take(payload_bytes as u64)
            .read_to_end(&mut self.payload)?;
        if read < payload_bytes {
            return Err(PktError::Truncated);
        }
        Ok(Some(Packet::Data(&self.payload)))
    }

    /// What follows the packets read so far, such as the pack of a push.
    pub fn into_rest(self) -> BufReader<R> {
        self.input
    }

    /// Like [`PktReader::into_rest`], borrowed.
    pub fn rest(&mut self) -> &mut BufReader<R> {
        &mut self.input
    }

    /// Fills `buf`; false if the input was at its end, an error if it ended within.
    fn fill(&mut self, buf: &mut [u8]) -> Result<bool, PktError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.input.read(&mut buf[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(PktError::Truncated),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

fn parse_length(digits: [u8; LENGTH_BYTES]) -> Result<usize, PktError> {
    let mut length = 0;
    for digit in digits {
        let value = (digit as char).to_digit(16);
        let Some(value) = value else {
            return Err(bad_length(digits));
        };
        length = length * 16 + value as usize;
    }
    if length == 3 || length > MAX_PACKET_BYTES {
        return Err(bad_length(digits));
    }
    Ok(length)
}

fn bad_length(digits: [u8; LENGTH_BYTES]) -> PktError {
    PktError::BadLength(digits.escape_ascii().to_string())
}

/// A line without its line feed; at most one is taken off.
pub fn trim_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Writes packets through a buffer.
///
/// Nothing is certain to have left before [`PktWriter::flush_out`]. With `sideband_all` every line
/// goes out on band 1, as the v2 argument of that name asks.
pub struct PktWriter<W> {
    out: W,
    buffer: Vec<u8>,
    sideband_all: bool,
}

impl<W: Write> PktWriter<W> {
    /// A writer to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(WRITE_BUFFER_BYTES + MAX_PACKET_BYTES / 8),
            sideband_all: false,
        }
    }

    /// From here on every line is sent on band 1.
    pub fn use_sideband_all(&mut self) {
        self.sideband_all = true;
    }

    /// Whether lines are sent on band 1.
    pub fn is_sideband_all(&self) -> bool {
        self.sideband_all
    }

    /// Sends one line that is made of `parts`, as they are: a line feed is the caller's.
    ///
    /// # Errors
    /// The output failed, or the line is longer than a packet may be.
    pub fn line(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(b"0000");
        if self.sideband_all {
            self.buffer.push(1);
        }
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        let length = self.buffer.len() - start;
        if length > MAX_PACKET_BYTES {
            self.buffer.truncate(start);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a line is longer than a packet may be",
            ));
        }
        self.buffer[start..start + LENGTH_BYTES].copy_from_slice(&length_digits(length));
        self.spill()
    }

    /// Sends `0000`.
    ///
    /// # Errors
    /// The output failed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"0000");
        self.spill()
    }

    /// Sends `0001`.
    ///
    /// # Errors
    /// The output failed.
    pub fn delim(&mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"0001");
        self.spill()
    }

    /// Sends `ERR` and a sentence, which ends the conversation; control characters are taken out.
    /// With `sideband_all` it goes on band 3, as clients expect there.
    ///
    /// # Errors
    /// The output failed.
    pub fn error(&mut self, sentence: &str) -> io::Result<()> {
        let text = printable(sentence);
        let sideband_all = std::mem::replace(&mut self.sideband_all, false);
        let sent = if sideband_all {
            self.line(&[b"\x03", text.as_bytes(), b"\n"])
        } else {
            self.line(&[b"ERR ", text.as_bytes(), b"\n"])
        };
        self.sideband_all = sideband_all;
        sent
    }

    /// Writes out everything buffered and flushes the output.
    ///
    /// # Errors
    /// The output failed.
    pub fn flush_out(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        self.out.flush()
    }

    /// What it writes to, for bytes outside of its packets; call [`PktWriter::flush_out`] first.
    pub fn inner(&mut self) -> &mut W {
        &mut self.out
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.buffer.len() >= WRITE_BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// The four digits of a packet of `length` bytes, lower-case as git writes them.
pub fn length_digits(length: usize) -> [u8; LENGTH_BYTES] {
    debug_assert!(length <= MAX_PACKET_BYTES, "the caller splits at the limit");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[(length >> 12) & 15],
        DIGITS[(length >> 8) & 15],
        DIGITS[(length >> 4) & 15],
        DIGITS[length & 15],
    ]
}

/// `text` without control characters, in one line and of bounded length: what may be shown in
/// somebody's terminal.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_ERROR_BYTES));
    for character in text.trim_end().chars() {
        if shown.len() >= MAX_ERROR_BYTES {
            break;
        }
        match character {
            '\n' | '\r' | '\t' => shown.push(' '),
            character if character.is_control() => shown.push('?'),
            character => shown.push(character),
        }
    }
    shown
}

/// Bytes a client sent, fit to be quoted in an answer: lossy, printable, at most 200 characters.
pub fn quotable(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(800)].to_str_lossy();
    printable(&text.chars().take(200).collect::<String>())
}

/// How a client wants pack, progress and errors told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sideband {
    /// Nothing but the pack.
    #[default]
    None,
    /// `side-band`: packets of at most 1000 bytes.
    Small,
    /// `side-band-64k`: packets of at most 65520 bytes.
    Large,
}

impl Sideband {
    /// Bytes of data in one packet, without length and band.
    pub fn max_data_bytes(self) -> usize {
        match self {
            Sideband::None | Sideband::Large => MAX_PACKET_BYTES - LENGTH_BYTES - 1,
            Sideband::Small => SMALL_PACKET_BYTES - LENGTH_BYTES - 1,
        }
    }
}

/// A band of the side-band multiplexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// The pack, or a report.
    Data = 1,
    /// Text for the person, shown as `remote: …`.
    Progress = 2,
    /// The reason why the answer ends here.
    Error = 3,
}

/// Writes `data` on a band, in as many packets as it takes; nothing at all with [`Sideband::None`]
/// and another band than data.
///
/// # Errors
/// The output failed.
pub fn write_band(out: &mut dyn Write, sideband: Sideband, band: Band, data: &[u8]) -> io::Result<()> {
    if sideband == Sideband::None {
        return match band {
            Band::Data => out.write_all(data),
            Band::Progress | Band::Error => Ok(()),
        };
    }
    for piece in data.chunks(sideband.max_data_bytes()) {
        let mut head = [0; LENGTH_BYTES + 1];
        head[..LENGTH_BYTES].copy_from_slice(&length_digits(piece.len() + LENGTH_BYTES + 1));
        head[LENGTH_BYTES] = band as u8;
        out.write_all(&head)?;
        out.write_all(piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> PktReader<&[u8]> {
        PktReader::new(bytes, 1 << 20)
    }

    #[test]
    fn packets_of_every_kind_are_told_apart() {
        let mut input = reader(b"0009want\n000000010002000400055");
        assert_eq!(input.next_packet().unwrap(), Some(Packet::Data(b"want\n")));
        assert_eq!(input.next_packet().unwrap(), Some(Packet::Flush));
        assert_eq!(input.next_packet().unwrap(), Some(Packet::Delim));
        assert_eq!(input.next_packet().unwrap(), Some(Packet::ResponseEnd));
        assert_eq!(input.next_packet().unwrap(), Some(Packet::Data(b"")));
        assert_eq!(input.next_packet().unwrap(), Some(Packet::Data(b"5")));
        assert_eq!(input.next_packet().unwrap(), None);
    }

    #[test]
    fn upper_case_lengths_are_read() {
        let mut input = reader(b"000Aabcdef");
        assert_eq!(input.next_packet().unwrap(), Some(Packet::Data(b"abcdef")));
    }

    #[test]
    fn bad_lengths_are_refused() {
        for bytes in [&b"0003"[..], b"fff1", b"ffff", b"00 4", b"+004", b"zzzz", b"\xff\0\n\r"] {
            assert!(
                matches!(reader(bytes).next_packet(), Err(PktError::BadLength(_))),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn the_longest_packet_is_read_whole() {
        let mut bytes = b"fff0".to_vec();
        bytes.resize(MAX_PACKET_BYTES, b'x');
        let mut input = reader(&bytes);
        match input.next_packet().unwrap() {
            Some(Packet::Data(data)) => assert_eq!(data.len(), MAX_PAYLOAD_BYTES),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_end_within_a_packet_is_an_error() {
        for bytes in [&b"00"[..], b"0009wan", b"fff0x"] {
            assert!(
                matches!(reader(bytes).next_packet(), Err(PktError::Truncated)),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn an_announced_length_alone_allocates_little() {
        let mut input = reader(b"fff0x");
        assert!(input.next_packet().is_err());
        assert!(input.payload.capacity() < 4096);
    }

    #[test]
    fn a_request_over_the_limit_is_refused() {
        let mut input = PktReader::new(&b"0009want\n0009want\n"[..], 17);
        assert!(input.next_packet().unwrap().is_some());
        assert!(matches!(
            input.next_packet(),
            Err(PktError::TooLarge { limit_bytes: 17 })
        ));
    }

    #[test]
    fn the_bytes_after_the_packets_are_handed_on_complete() {
        let mut input = reader(b"00000009done\nPACK....");
        input.next_packet().unwrap();
        input.next_packet().unwrap();
        let mut rest = String::new();
        input.into_rest().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "PACK....");
    }

    #[test]
    fn written_lines_carry_their_length() {
        let mut bytes = Vec::new();
        let mut out = PktWriter::new(&mut bytes);
        out.line(&[b"ACK ", b"abc", b"\n"]).unwrap();
        out.delim().unwrap();
        out.line(&[]).unwrap();
        out.flush().unwrap();
        out.flush_out().unwrap();
        assert_eq!(bytes.as_bstr(), "000cACK abc\n000100040000");
    }

    #[test]
    fn a_line_that_is_too_long_is_not_sent() {
        let mut bytes = Vec::new();
        let mut out = PktWriter::new(&mut bytes);
        assert!(out.line(&[&[b'x'; MAX_PAYLOAD_BYTES + 1]]).is_err());
        out.flush().unwrap();
        out.flush_out().unwrap();
        assert_eq!(bytes.as_bstr(), "0000");
    }

    #[test]
    fn an_error_carries_no_control_characters() {
        let mut bytes = Vec::new();
        let mut out = PktWriter::new(&mut bytes);
        out.error("no such ref\x1b[31m\r\nhere").unwrap();
        out.flush_out().unwrap();
        assert_eq!(bytes.as_bstr(), "001fERR no such ref?[31m  here\n");
    }

    #[test]
    fn with_sideband_all_lines_go_on_band_one_and_errors_on_band_three() {
        let mut bytes = Vec::new();
        let mut out = PktWriter::new(&mut bytes);
        out.use_sideband_all();
        out.line(&[b"packfile\n"]).unwrap();
        out.error("stopped").unwrap();
        out.flush_out().unwrap();
        assert_eq!(bytes.as_bstr(), "000e\x01packfile\n000d\x03stopped\n");
    }

    #[test]
    fn side_band_packets_keep_to_their_size() {
        for (sideband, most) in [(Sideband::Small, 1000), (Sideband::Large, 65_520)] {
            let mut bytes = Vec::new();
            let data = vec![7; 70_000];
            write_band(&mut bytes, sideband, Band::Data, &data).unwrap();
            let mut input = PktReader::new(&bytes[..], u64::MAX);
            let mut back = Vec::new();
            while let Some(Packet::Data(line)) = input.next_packet().unwrap() {
                assert!(line.len() + 4 <= most);
                assert_eq!(line[0], 1);
                back.extend_from_slice(&line[1..]);
            }
            assert_eq!(back, data);
        }
    }

    #[test]
    fn without_side_band_only_data_is_written() {
        let mut bytes = Vec::new();
        write_band(&mut bytes, Sideband::None, Band::Data, b"PACK").unwrap();
        write_band(&mut bytes, Sideband::None, Band::Progress, b"hello").unwrap();
        assert_eq!(bytes, b"PACK");
    }
}
