//! A first look at what a push asks for, before anything is made for it.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;

use crate::git::pkt_line::{Band, PktWriter, Sideband, length_digits, write_band};
use crate::git::repo_init::ObjectFormat;
use crate::service::transfer::coding::{self, Coding, Exceeded};
use crate::service::transfer::{BodyStream, TransferError};

/// Most of a command list that is looked at before the repository is made, in bytes.
const LOOKED_AT_MAX_BYTES: usize = 1 << 20;
/// Most of a body that is looked at for its first line, in bytes: the longest line, and what a piece
/// may hold beyond it.
const PEEKED_MAX_BYTES: usize = 256 << 10;
/// Length of a pkt-line's length.
const LENGTH_BYTES: usize = 4;

/// The beginning of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Nothing is asked for: the probe that a client sends before a long body, or less.
    Nothing,
    /// A list of commands; the bytes belong before the rest of the body.
    Commands(Vec<u8>),
}

/// Waits for the first line of a push, which says how the client wants to be answered. Returns it (or
/// what there is of it) and the body as it was. Nothing may come for the time `silence` at most.
///
/// # Errors
/// [`TransferError::Silent`], and [`TransferError::Body`] when the body breaks off.
pub(super) async fn peek(
    mut body: BodyStream,
    coding: Coding,
    silence: Duration,
) -> Result<(Vec<u8>, BodyStream), TransferError> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut peeked_bytes = 0;
    let first_line = loop {
        let line = first_line(&pieces.concat(), coding);
        let is_whole = line.len() >= LENGTH_BYTES && line.len() >= line_bytes(&line);
        if is_whole || peeked_bytes > PEEKED_MAX_BYTES {
            break line;
        }
        let next = tokio::time::timeout(silence, body.next()).await;
        let next = next.map_err(|_| TransferError::Silent {
            secs: silence.as_secs(),
        })?;
        let Some(piece) = next else { break line };
        let piece = piece.map_err(TransferError::Body)?;
        peeked_bytes += piece.len();
        pieces.push(piece);
    };
    let body = futures::stream::iter(pieces.into_iter().map(Ok)).chain(body).boxed();
    Ok((first_line, body))
}

/// As much of the first line as `beginning` holds, decoded.
fn first_line(beginning: &[u8], coding: Coding) -> Vec<u8> {
    let mut line = Vec::new();
    let exceeded = Exceeded::default();
    let mut decoded = coding::decoded(beginning, coding, u64::MAX, &exceeded);
    // What cannot be decoded, or not yet, is left to the machine that answers it.
    let _ = (&mut decoded).take(LENGTH_BYTES as u64).read_to_end(&mut line);
    let rest = line_bytes(&line).saturating_sub(line.len());
    let _ = decoded.take(rest as u64).read_to_end(&mut line);
    line
}

/// Length of the line that begins with `line`, in bytes; 0 if it is none.
fn line_bytes(line: &[u8]) -> usize {
    let digits = line
        .get(..LENGTH_BYTES)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    digits
        .and_then(|digits| usize::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

/// Reads the command list of a push up to its flush, or as much of a long one as is looked at, so
/// that a client that breaks off within it leaves nothing behind. What is malformed is left to the
/// machine that answers it.
///
/// # Errors
/// Whatever reading gives, a body that ends within the list among them.
pub(super) fn read(input: &mut dyn Read) -> io::Result<Beginning> {
    let mut read = Vec::new();
    loop {
        let start = read.len();
        if !extend(input, &mut read, LENGTH_BYTES)? {
            if start == 0 && read.is_empty() {
                return Ok(Beginning::Nothing);
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = std::str::from_utf8(&read[start..])
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        match length {
            Some(0) if start == 0 => return Ok(Beginning::Nothing),
            Some(length) if length > LENGTH_BYTES && read.len() < LOOKED_AT_MAX_BYTES => {
                if !extend(input, &mut read, length - LENGTH_BYTES)? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            _ => return Ok(Beginning::Commands(read)),
        }
    }
}

/// Reads `count` more bytes; false when the input ends before.
fn extend(input: &mut dyn Read, read: &mut Vec<u8>, count: usize) -> io::Result<bool> {
    let wanted = read.len() + count;
    input.take(count as u64).read_to_end(read)?;
    Ok(read.len() == wanted)
}

/// The object format that the client names; without one it means SHA-1.
pub(super) fn object_format(commands: &[u8]) -> ObjectFormat {
    let first_line = &commands[..commands.len().min(4096)];
    let wanted: &[u8] = b"object-format=sha256";
    if first_line.windows(wanted.len()).any(|window| window == wanted) {
        ObjectFormat::Sha256
    } else {
        ObjectFormat::Sha1
    }
}

/// Ends the answer to a push with `sentence`, where the client looks for it. `first_line` is that of
/// the push.
///
/// # Errors
/// Whatever writing gives.
pub(super) fn refuse(first_line: &[u8], sentence: &str, out: &mut dyn Write) -> io::Result<()> {
    let wanted: &[u8] = b"side-band-64k";
    if first_line.windows(wanted.len()).any(|window| window == wanted) {
        let line = format!("{sentence}\n");
        write_band(out, Sideband::Large, Band::Error, line.as_bytes())?;
        let mut out = PktWriter::new(out);
        out.flush()?;
        return out.flush_out();
    }
    let mut out = PktWriter::new(out);
    out.error(sentence)?;
    out.flush_out()
}

/// An advertisement that names SHA-256 beside SHA-1.
///
/// Without it git gives up before it asks; with it the push comes, and what it says decides about the
/// repository that it makes. Only for stock git, which takes the first of two formats for the ids of
/// the advertisement and looks for its own among both; other programs keep the last, or give up.
pub(super) fn offer_sha256(advertisement: &[u8]) -> Vec<u8> {
    const OFFERED: &[u8] = b" object-format=sha1";
    const ALSO: &[u8] = b" object-format=sha256";
    let mut offer = Vec::with_capacity(advertisement.len() + ALSO.len());
    let mut rest = advertisement;
    while let Some((digits, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let length = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let line_bytes = length.unwrap_or(0).saturating_sub(LENGTH_BYTES).min(after.len());
        let (line, after) = after.split_at(line_bytes);
        match line.windows(OFFERED.len()).position(|window| window == OFFERED) {
            Some(at) => {
                let (before, behind) = line.split_at(at + OFFERED.len());
                offer.extend_from_slice(&length_digits(LENGTH_BYTES + line.len() + ALSO.len()));
                offer.extend_from_slice(&[before, ALSO, behind].concat());
            }
            None => {
                offer.extend_from_slice(digits);
                offer.extend_from_slice(line);
            }
        }
        rest = after;
    }
    offer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(mut body: &[u8]) -> (Option<Beginning>, usize) {
        let read = read(&mut body).ok();
        (read, body.len())
    }

    #[test]
    fn a_probe_and_an_empty_body_ask_for_nothing() {
        assert_eq!(beginning(b"0000").0, Some(Beginning::Nothing));
        assert_eq!(beginning(b"").0, Some(Beginning::Nothing));
    }

    #[test]
    fn a_command_list_is_read_to_its_flush_and_no_further() {
        let (read, left) = beginning(b"0008abcd0006xy0000PACK");
        assert_eq!(read, Some(Beginning::Commands(b"0008abcd0006xy0000".to_vec())));
        assert_eq!(left, 4);
    }

    #[test]
    fn a_list_that_breaks_off_is_an_error() {
        for body in [&b"00"[..], b"0008ab", b"0008abcd", b"ffff"] {
            assert_eq!(beginning(body).0, None, "{body:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_left_to_who_answers_it() {
        assert_eq!(beginning(b"zzzz").0, Some(Beginning::Commands(b"zzzz".to_vec())));
        assert_eq!(beginning(b"0001").0, Some(Beginning::Commands(b"0001".to_vec())));
    }

    /// The first line of a body that comes in pieces of `piece_bytes`; the body must stay as it was.
    async fn peeked(body: &[u8], piece_bytes: usize, coding: Coding) -> Vec<u8> {
        let pieces: Vec<io::Result<Bytes>> = body
            .chunks(piece_bytes)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let stream = futures::stream::iter(pieces).boxed();
        let (line, rest) = peek(stream, coding, Duration::from_secs(60))
            .await
            .expect("it does not break off");
        let rest: Vec<_> = rest.map(|piece| piece.expect("memory")).collect().await;
        assert_eq!(rest.concat(), body);
        line
    }

    #[tokio::test]
    async fn a_look_at_the_first_line_takes_nothing_from_the_body() {
        let body = b"000creports 0006xy0000PACK";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(body).expect("memory");
        let gzip = gzip.finish().expect("memory");
        for piece_bytes in [1, 7, 100] {
            assert_eq!(peeked(body, piece_bytes, Coding::Plain).await, b"000creports ");
            assert_eq!(peeked(&gzip, piece_bytes, Coding::Gzip).await, b"000creports ");
        }
        for whole in [&b"0000"[..], b"", b"00", b"zzzz", b"ffffPACK"] {
            assert_eq!(peeked(whole, 3, Coding::Plain).await, whole);
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let stream = futures::stream::pending().boxed();
        let outcome = peek(stream, Coding::Plain, Duration::ZERO).await.map(|(line, _)| line);
        assert!(matches!(outcome, Err(TransferError::Silent { .. })), "{outcome:?}");
    }

    #[test]
    fn a_refusal_is_whole_with_and_without_side_bands() {
        for (first_line, told) in [
            (&b"report-status side-band-64k"[..], &b"000b\x03Wait.\n0000"[..]),
            (b"report-status", b"000eERR Wait.\n"),
            (b"", b"000eERR Wait.\n"),
        ] {
            let mut answer = Vec::new();
            refuse(first_line, "Wait.", &mut answer).expect("memory");
            assert_eq!(answer, told);
        }
    }

    #[test]
    fn a_long_list_is_looked_at_in_part() {
        let line = [b"ffff".as_slice(), &vec![b'x'; 65531]].concat();
        let body = line.repeat(64);
        let (read, left) = beginning(&body);
        let Some(Beginning::Commands(read)) = read else {
            panic!("a command list");
        };
        assert!(read.len() < LOOKED_AT_MAX_BYTES + 70_000);
        assert_eq!(read.len() + left, body.len());
    }

    #[test]
    fn sha256_is_offered_beside_sha1_in_the_line_of_capabilities() {
        let offer = offer_sha256(b"001f# service=git-receive-pack\n0000001dx\0a object-format=sha1 b\n0000");
        assert_eq!(
            String::from_utf8_lossy(&offer),
            "001f# service=git-receive-pack\n00000032x\0a object-format=sha1 object-format=sha256 b\n0000"
        );
    }
}
