//! Sees HTTP/1 request heads that state both a length and chunks.
//!
//! Such a request is the classic way to make a proxy and a server disagree about where a request
//! ends. hyper drops `Content-Length` before anybody can see it, so the refusal that RFC 9112
//! section 6.1 allows must look at the bytes themselves. [`HeadWatch`] is fed what is read from the
//! connection, follows the framing from head to head, and only ever raises a flag: it changes no
//! byte, and where it loses the thread it stops looking (hyper then refuses the malformed request).

/// Longest head that is looked at, in bytes; hyper refuses longer ones by itself.
const HEAD_MAX_BYTES: usize = super::server::HEAD_MAX_BYTES;

/// Follows one connection's request bytes.
#[derive(Debug)]
pub(super) struct HeadWatch {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Collecting a request head.
    Head(Vec<u8>),
    /// Inside a body of known length: this many bytes are left.
    Length(u64),
    /// In the line that gives a chunk's size; `ext` after a `;`.
    ChunkSize { size: u64, ext: bool },
    /// Inside a chunk, its line end included: this many bytes are left.
    Chunk(u64),
    /// In the trailer, with this many bytes in the current line.
    Trailer(usize),
    /// HTTP/2, or nothing we understand: no longer looking.
    Off,
}

impl HeadWatch {
    /// A watch at the start of a connection.
    pub(super) fn new() -> Self {
        Self {
            state: State::Head(Vec::new()),
        }
    }

    /// Takes the next bytes of the connection. True when a head in them has both a
    /// `Content-Length` and a `Transfer-Encoding`.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Off => return false,
                State::Head(head) => {
                    let newline = bytes.iter().position(|&byte| byte == b'\n');
                    let taken = newline.map_or(bytes.len(), |at| at + 1);
                    // Blank lines before a request are allowed and mean nothing.
                    let blank = head.is_empty() && matches!(&bytes[..taken], b"\n" | b"\r\n");
                    if !blank {
                        head.extend_from_slice(&bytes[..taken]);
                    }
                    bytes = &bytes[taken..];
                    if head.len() > HEAD_MAX_BYTES || head.starts_with(b"PRI * HTTP/2") {
                        self.state = State::Off;
                    } else if newline.is_some() && (head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")) {
                        let framing = Framing::of(head);
                        if framing == Framing::Both {
                            self.state = State::Off;
                            return true;
                        }
                        self.state = framing.state();
                    }
                }
                State::Length(left) => {
                    bytes = skip(bytes, left);
                    if *left == 0 {
                        self.state = State::Head(Vec::new());
                    }
                }
                State::ChunkSize { size, ext } => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    match (byte, *ext) {
                        (b'\n', _) if *size == 0 => self.state = State::Trailer(0),
                        (b'\n', _) => self.state = State::Chunk(size.saturating_add(2)),
                        (b'\r' | b' ' | b'\t', _) | (_, true) => {}
                        (b';', false) => *ext = true,
                        (digit, false) => match char::from(digit).to_digit(16) {
                            Some(value) if *size < 1 << 56 => *size = *size * 16 + u64::from(value),
                            _ => self.state = State::Off,
                        },
                    }
                }
                State::Chunk(left) => {
                    bytes = skip(bytes, left);
                    if *left == 0 {
                        self.state = State::ChunkSize { size: 0, ext: false };
                    }
                }
                State::Trailer(in_line) => {
                    match bytes[0] {
                        b'\n' if *in_line == 0 => self.state = State::Head(Vec::new()),
                        b'\n' => *in_line = 0,
                        b'\r' => {}
                        _ => *in_line += 1,
                    }
                    bytes = &bytes[1..];
                }
            }
        }
        false
    }
}

/// How a head says that its body is framed.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunks,
    Both,
    Unclear,
}

impl Framing {
    fn of(head: &[u8]) -> Self {
        let mut framing = Self::None;
        for line in head.split(|&byte| byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            let this = if name.eq_ignore_ascii_case(b"content-length") {
                std::str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.parse().ok())
                    .map_or(Self::Unclear, Self::Length)
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                Self::Chunks
            } else {
                continue;
            };
            framing = match (framing, this) {
                (Self::None, this) => this,
                (Self::Chunks, Self::Chunks) => Self::Chunks,
                (Self::Both, _) | (_, Self::Chunks) | (Self::Chunks, _) => Self::Both,
                (Self::Length(one), Self::Length(two)) if one == two => Self::Length(one),
                _ => Self::Unclear,
            };
        }
        framing
    }

    fn state(self) -> State {
        match self {
            Self::None | Self::Length(0) => State::Head(Vec::new()),
            Self::Length(length) => State::Length(length),
            Self::Chunks => State::ChunkSize { size: 0, ext: false },
            Self::Both | Self::Unclear => State::Off,
        }
    }
}

/// Skips up to `left` bytes.
fn skip<'a>(bytes: &'a [u8], left: &mut u64) -> &'a [u8] {
    let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
    *left -= here;
    &bytes[usize::try_from(here).unwrap_or(bytes.len())..]
}

#[cfg(test)]
mod tests {
    use super::HeadWatch;

    /// Feeds `bytes` in pieces of every size; the answer must not depend on how they arrive.
    fn seen(bytes: &[u8]) -> bool {
        let answers: Vec<bool> = (1..=bytes.len())
            .map(|size| {
                let mut watch = HeadWatch::new();
                bytes.chunks(size).any(|piece| watch.feed(piece))
            })
            .collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        answers[0]
    }

    #[test]
    fn a_head_with_length_and_chunks_is_seen_in_either_order() {
        assert!(seen(
            b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(seen(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nHOST: x\r\ncontent-length: 4\r\n\r\n"
        ));
    }

    #[test]
    fn a_second_request_on_the_connection_is_looked_at_too() {
        assert!(seen(
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\nPOST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(seen(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\nPOST / HTTP/1.1\nContent-Length: 4\nTransfer-Encoding: chunked\n\n"
        ));
    }

    #[test]
    fn bodies_that_look_like_heads_raise_nothing() {
        assert!(!seen(
            b"POST / HTTP/1.1\r\nContent-Length: 58\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        ));
        assert!(!seen(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncontent-length: 1\r\ntransfer-encoding: x\r\n\r\n"
        ));
    }
}
