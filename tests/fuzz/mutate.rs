//! Changes of inputs that keep enough of their form to get past the first check.

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::support::Random;
use crate::support::wire::{self, Pkt};

/// What form inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any bytes.
    Bytes,
    /// One byte that chooses, then pkt-lines, then perhaps a pack.
    Lines,
    /// A pack or a file beside one, whose checksum is made right most of the time.
    Pack,
    /// The same of a SHA-256 repository.
    PackSha256,
}

/// Words that mean something somewhere.
const WORDS: [&[u8]; 40] = [
    b"want ",
    b"have ",
    b"shallow ",
    b"deepen ",
    b"deepen-since ",
    b"deepen-not ",
    b"deepen-relative",
    b"filter ",
    b"combine:",
    b"blob:none",
    b"blob:limit=",
    b"tree:",
    b"sparse:oid=",
    b"object:type=",
    b"done",
    b"thin-pack",
    b"ofs-delta",
    b"include-tag",
    b"want-ref ",
    b"sideband-all",
    b"command=fetch",
    b"command=ls-refs",
    b"ref-prefix ",
    b"peel",
    b"refs/heads/",
    b"refs/tags/",
    b"..",
    b".git",
    b".lock",
    b"@{",
    b"0000",
    b"0001",
    b"0002",
    b"0003",
    b"0004",
    b"ffff",
    b"fff0",
    b"\0",
    b"4294967296",
    b"-1",
];

/// A changed input, made of one or two of the corpus.
pub fn mutated(corpus: &[Vec<u8>], form: Form, random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(corpus).clone();
    let framed = form == Form::Lines && !random.one_in(4);
    for _ in 0..=random.below(4) {
        if framed {
            input = with_changed_line(&input, corpus, random);
        } else {
            change(&mut input, corpus, random);
        }
    }
    let id_bytes = match form {
        Form::Pack => 20,
        Form::PackSha256 => 32,
        Form::Bytes | Form::Lines => 0,
    };
    if id_bytes > 0 && !random.one_in(5) && input.len() > 12 + id_bytes {
        let end = input.len() - id_bytes;
        let (head, sum) = input.split_at_mut(end);
        match form {
            Form::PackSha256 => sum.copy_from_slice(&Sha256::digest(head)),
            _ => sum.copy_from_slice(&Sha1::digest(head)),
        }
    }
    input.truncate(1 << 20);
    input
}

/// Takes pkt-lines apart, changes one of them or their order, and puts them together again.
fn with_changed_line(input: &[u8], corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let Some((first, mut rest)) = input.split_first() else {
        return vec![0];
    };
    let mut lines = Vec::new();
    while let Ok((pkt, after)) = wire::next(rest) {
        lines.push(pkt);
        rest = after;
    }
    if lines.is_empty() {
        let mut input = input.to_vec();
        change(&mut input, corpus, random);
        return input;
    }
    let at = random.below(lines.len());
    match random.below(7) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let again = lines[at].clone();
            for _ in 0..=random.below(50) {
                lines.insert(at, again.clone());
            }
        }
        2 => {
            let other = random.below(lines.len());
            lines.swap(at, other);
        }
        3 => lines.insert(at, [Pkt::Flush, Pkt::Delim, Pkt::ResponseEnd][random.below(3)].clone()),
        4 => {
            let word = random.pick(&WORDS).to_vec();
            lines.insert(at, Pkt::Data(word));
        }
        _ => {
            if let Pkt::Data(bytes) = &mut lines[at] {
                change(bytes, corpus, random);
                bytes.truncate(65_516);
            }
        }
    }
    let mut bytes = vec![*first];
    for line in lines {
        match line {
            Pkt::Flush => bytes.extend(b"0000"),
            Pkt::Delim => bytes.extend(b"0001"),
            Pkt::ResponseEnd => bytes.extend(b"0002"),
            Pkt::Data(data) => bytes.extend(wire::data(&data)),
        }
    }
    bytes.extend_from_slice(rest);
    bytes
}

/// Changes some bytes.
fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    if input.is_empty() {
        input.push(random.next_u64() as u8);
        return;
    }
    let at = random.below(input.len());
    match random.below(9) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'0', b'/', b'\n', b' ']),
        2 => input[at] = random.next_u64() as u8,
        3 => {
            let end = (at + 1 + random.below(16)).min(input.len());
            input.drain(at..end);
        }
        4 => {
            let end = (at + 1 + random.below(64)).min(input.len());
            let piece = input[at..end].to_vec();
            let times = 1 + random.below(3);
            for _ in 0..times {
                input.splice(at..at, piece.iter().copied());
            }
        }
        5 => {
            let word = random.pick(&WORDS);
            input.splice(at..at, word.iter().copied());
        }
        6 => {
            let word = random.pick(&WORDS);
            for (target, byte) in input[at..].iter_mut().zip(word.iter()) {
                *target = *byte;
            }
        }
        7 => {
            let other = random.pick(corpus);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from.min(other.len())..]);
        }
        _ => input.truncate(at),
    }
}
