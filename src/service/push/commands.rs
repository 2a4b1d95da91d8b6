//! A first look at what a push asks for, before anything is made for it.

use std::io::{self, Read};

use crate::git::pkt_line::length_digits;
use crate::git::repo_init::ObjectFormat;

/// Most of a command list that is looked at before the repository is made, in bytes.
const LOOKED_AT_MAX_BYTES: usize = 1 << 20;
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
