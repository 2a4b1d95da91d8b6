//! The text of an access token: `auxin_`, 43 random letters and digits, 6 that check them.
//!
//! The prefix lets secret scanners recognise a token that was published by mistake; the check tells
//! a mistyped token, and a password that only looks like one, without asking the database. 43
//! characters out of 62 carry 256 bits, so a token needs no slow hash and cannot be guessed.

use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};

use super::secret::Secret;

/// What every token begins with.
const PREFIX: &str = "auxin_";
const RANDOM_CHARS: usize = 43;
const CHECK_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The secret of an access token, of the right form.
#[derive(Clone)]
pub(super) struct TokenSecret(Secret);

impl TokenSecret {
    /// A new random one.
    pub fn random() -> Self {
        let mut text = String::from(PREFIX);
        Alphanumeric.append_string(&mut rand::rng(), &mut text, RANDOM_CHARS);
        let check = check(&text);
        text.push_str(&check);
        Self(Secret::new(text))
    }

    /// Reads what a client sent; `None` if it is no token at all, such as a password.
    pub fn parse(text: &str) -> Option<Self> {
        let body_len = PREFIX.len() + RANDOM_CHARS;
        let well_formed = text.len() == body_len + CHECK_CHARS
            && text.starts_with(PREFIX)
            && text[PREFIX.len()..].bytes().all(|b| b.is_ascii_alphanumeric());
        // The length in bytes is checked, so the cut is within ASCII.
        (well_formed && check(&text[..body_len]) == text[body_len..]).then(|| Self(Secret::new(text)))
    }

    /// What the database keeps: SHA-256 of the whole text.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose().as_bytes()).into()
    }

    /// The text, to be shown once.
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

fn check(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let mut number = u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 is longer than 8 bytes"));
    (0..CHECK_CHARS)
        .map(|_| {
            let digit = (number % 62) as usize;
            number /= 62;
            char::from(ALPHABET[digit])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_has_the_prefix_that_scanners_look_for() {
        let token = TokenSecret::random();
        let text = token.clone().into_secret();
        assert!(text.expose().starts_with("auxin_"));
        assert_eq!(TokenSecret::parse(text.expose()).unwrap().digest(), token.digest());
        assert_ne!(TokenSecret::random().digest(), token.digest());
    }

    #[test]
    fn one_wrong_character_is_noticed() {
        let text = TokenSecret::random().into_secret();
        let text = text.expose();
        for at in 0..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            assert!(TokenSecret::parse(std::str::from_utf8(&wrong).unwrap()).is_none());
        }
        assert!(TokenSecret::parse(&text[..text.len() - 1]).is_none());
        assert!(TokenSecret::parse(&format!("{text}x")).is_none());
        assert!(TokenSecret::parse("").is_none());
        assert!(TokenSecret::parse("auxin_is my password").is_none());
        assert!(TokenSecret::parse(&format!("auxin_{}", "ü".repeat(25))).is_none());
    }
}
