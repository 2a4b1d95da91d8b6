//! Text that must not be printed.

use std::fmt;

use rand::distr::{Alphanumeric, SampleString};

/// Length of a password that is made for a person; 5.9 bits each.
const MADE_PASSWORD_CHARS: usize = 20;

/// A password or a token. Debugging shows `[secret]`; only [`Secret::expose`] gives the text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A random password for a person who did not choose one.
    pub fn random_password() -> Self {
        Self(Alphanumeric.sample_string(&mut rand::rng(), MADE_PASSWORD_CHARS))
    }

    /// The text. Never to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_by_accident() {
        assert_eq!(format!("{:?}", Some(Secret::new("open sesame"))), "Some([secret])");
    }

    #[test]
    fn made_passwords_differ() {
        assert_ne!(Secret::random_password().expose(), Secret::random_password().expose());
    }
}
