//! Push certificates: a signed list of what is pushed, and the nonce that keeps it from being used twice.
//!
//! The nonce needs no memory: it is the time and a code over time and repository under a seed that
//! only this server has, so any process can tell that it was given out here, and how long ago. The
//! signature is not verified here; hooks get the certificate as an object and what is known of it.

use bstr::ByteSlice;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How signatures begin; the last line that begins so ends the certificate proper.
const SIGNATURES: [&[u8]; 4] = [
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----BEGIN PGP MESSAGE-----",
    b"-----BEGIN SIGNED MESSAGE-----",
    b"-----BEGIN SSH SIGNATURE-----",
];

/// A push certificate as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Header lines, an empty line, commands, and the signature.
    pub text: Vec<u8>,
}

impl Certificate {
    /// What is signed.
    pub fn payload(&self) -> &[u8] {
        let mut end = self.text.len();
        let mut at = 0;
        for line in self.text.split_inclusive(|byte| *byte == b'\n') {
            if SIGNATURES.iter().any(|begin| line.starts_with(begin)) {
                end = at;
            }
            at += line.len();
        }
        &self.text[..end]
    }

    /// Whether there is a signature at all.
    pub fn is_signed(&self) -> bool {
        self.payload().len() < self.text.len()
    }

    /// The lines of commands; `None` if no empty line ends the header.
    pub fn commands(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let payload = self.payload();
        let start = payload.find(b"\n\n")? + 2;
        Some(payload[start..].lines())
    }

    /// The values of a header, in order.
    pub fn header<'c>(&'c self, name: &'c str) -> impl Iterator<Item = &'c [u8]> {
        self.payload()
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b" "))
    }
}

/// What is known of the nonce in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceStatus {
    /// There is none.
    Missing,
    /// It was not given out here.
    Bad,
    /// It was given out here a moment ago.
    Ok,
    /// It was given out here, this many seconds ago (negative: by a clock ahead of ours), which is more
    /// than is allowed.
    Slop(i64),
}

impl NonceStatus {
    /// The word that hooks get.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Bad => "BAD",
            Self::Ok => "OK",
            Self::Slop(_) => "SLOP",
        }
    }
}

/// Gives out nonces and recognizes them.
#[derive(Clone, Copy, Debug)]
pub struct Nonces<'a> {
    /// What only this server, or this repository, knows.
    pub seed: &'a [u8],
    /// The repository, by a name that it keeps from one request of a push to the next.
    pub scope: &'a str,
    /// How old a nonce may be, in seconds.
    pub slop_secs: u64,
}

impl Nonces<'_> {
    /// A nonce of this time, in seconds since 1970.
    pub fn issue(&self, now_secs: u64) -> String {
        let mut code = <Hmac<Sha256>>::new_from_slice(self.seed).expect("a key may have any length");
        code.update(self.scope.as_bytes());
        code.update(b":");
        code.update(&now_secs.to_be_bytes());
        let code = code.finalize().into_bytes();
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{now_secs}-{hex}")
    }

    /// What is known of a certificate's nonce at this time, in seconds since 1970.
    pub fn check(&self, nonce: Option<&[u8]>, now_secs: u64) -> NonceStatus {
        let Some(nonce) = nonce else {
            return NonceStatus::Missing;
        };
        let issued_secs = nonce
            .split_once_str(b"-")
            .and_then(|(digits, _)| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        let Some(issued_secs) = issued_secs else {
            return NonceStatus::Bad;
        };
        if !bool::from(self.issue(issued_secs).as_bytes().ct_eq(nonce)) {
            return NonceStatus::Bad;
        }
        if now_secs.abs_diff(issued_secs) <= self.slop_secs {
            NonceStatus::Ok
        } else {
            NonceStatus::Slop(now_secs.wrapping_sub(issued_secs).cast_signed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "certificate version 0.1\npusher Anna <a@example.org> 1 +0000\npushee http://x\n\
                        nonce 1-abc\npush-option mood=blue\npush-option x\n\n1 2 refs/heads/a\n3 4 refs/heads/b\n\
                        -----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----\n";

    fn certificate(text: &str) -> Certificate {
        Certificate { text: text.into() }
    }

    #[test]
    fn header_commands_and_signature_are_told_apart() {
        let certificate = certificate(TEXT);
        assert!(certificate.is_signed());
        assert_eq!(certificate.header("nonce").collect::<Vec<_>>(), [b"1-abc"]);
        assert_eq!(
            certificate.header("push-option").collect::<Vec<_>>(),
            [b"mood=blue".as_slice(), b"x"]
        );
        assert_eq!(certificate.header("refs").count(), 0);
        let commands: Vec<&[u8]> = certificate.commands().expect("some").collect();
        assert_eq!(commands, [b"1 2 refs/heads/a", b"3 4 refs/heads/b"]);
    }

    #[test]
    fn what_is_not_signed_or_has_no_end_of_its_header_is_seen() {
        assert!(!certificate("certificate version 0.1\n\n1 2 refs/heads/a\n").is_signed());
        assert!(certificate("certificate version 0.1\nnonce x\n").commands().is_none());
        // An empty line in the signature is none of the header.
        let text = "certificate version 0.1\n-----BEGIN PGP SIGNATURE-----\n\n1 2 refs/heads/a\n";
        assert!(certificate(text).commands().is_none());
    }

    #[test]
    fn a_nonce_counts_where_it_was_given_out_and_not_for_long() {
        let nonces = Nonces {
            seed: b"a seed",
            scope: "anna/song",
            slop_secs: 10,
        };
        let nonce = nonces.issue(1000);
        let check = |nonce: &str, now| nonces.check(Some(nonce.as_bytes()), now);
        assert_eq!(check(&nonce, 1000), NonceStatus::Ok);
        assert_eq!(check(&nonce, 1010), NonceStatus::Ok);
        assert_eq!(check(&nonce, 1011), NonceStatus::Slop(11));
        assert_eq!(check(&nonce, 980), NonceStatus::Slop(-20));
        assert_eq!(nonces.check(None, 1000), NonceStatus::Missing);
        for bad in [
            "",
            "1000",
            "1000-",
            "x-y",
            &nonce.replacen("1000", "1001", 1),
            &nonce.to_uppercase(),
            &nonce[..nonce.len() - 1],
        ] {
            assert_eq!(check(bad, 1000), NonceStatus::Bad, "{bad}");
        }
        for other in [
            Nonces {
                seed: b"another",
                ..nonces
            },
            Nonces {
                scope: "anna/other",
                ..nonces
            },
        ] {
            assert_eq!(other.check(Some(nonce.as_bytes()), 1000), NonceStatus::Bad);
        }
        // Git takes no others.
        assert!(nonce.len() < 256 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    }
}
