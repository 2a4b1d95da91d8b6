//! Short-lived links: a signed statement that a person may do one thing with one repository for a
//! while, as a JSON Web Token (HS256).
//!
//! The signature says who was allowed, not that they still are: whoever takes a link reads the
//! account and the right again, so that a disabled person's links are worth nothing.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::db::{Clock, US_PER_SEC};
use crate::ids::{RepoId, TokenId, UserId};

/// Longest lifetime of a link, in seconds.
pub const LINK_MAX_SECS: u64 = 24 * 3600;

/// Longest text that is looked at, in bytes.
const TEXT_MAX_BYTES: usize = 2048;

/// What a link is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The one thing, such as `download`; a link for one purpose is refused for another.
    pub purpose: String,
    /// Who was allowed.
    pub user: UserId,
    /// With which repository.
    pub repo: Option<RepoId>,
    /// By which of the person's access tokens, if by one; the link is good for no more than that token is.
    pub token: Option<TokenId>,
    /// Until when, in microseconds since 1970.
    pub expires_at_us: i64,
}

/// Why a link is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not made by this server, changed on the way, or for another purpose.
    #[error("This link is not valid. Ask for a new one.")]
    Invalid,
    /// Its time is over.
    #[error("This link has expired. Ask for a new one.")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// Purpose.
    aud: String,
    /// Person.
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Seconds since 1970.
    exp: i64,
}

/// Makes and checks links. Cloning shares the key.
#[derive(Clone)]
pub struct Links {
    signing: EncodingKey,
    checking: DecodingKey,
    clock: Clock,
}

impl Links {
    /// `secret` is 32 random bytes that only this installation has.
    pub fn new(secret: &[u8; 32], clock: Clock) -> Self {
        Self {
            signing: EncodingKey::from_secret(secret),
            checking: DecodingKey::from_secret(secret),
            clock,
        }
    }

    /// Makes a link that is good for `lifetime_secs`, at most [`LINK_MAX_SECS`].
    pub fn issue(
        &self,
        purpose: &str,
        (user, token): (UserId, Option<TokenId>),
        repo: Option<RepoId>,
        lifetime_secs: u64,
    ) -> String {
        let lifetime = lifetime_secs.min(LINK_MAX_SECS) as i64;
        let claims = Claims {
            aud: purpose.to_owned(),
            sub: user.to_string(),
            repo: repo.map(|repo| repo.to_string()),
            token: token.map(|token| token.to_string()),
            exp: self.clock.now_us() / US_PER_SEC + lifetime,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .expect("plain claims and a key of the right kind can be encoded")
    }

    /// Checks a link for `purpose`.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn verify(&self, text: &str, purpose: &str) -> Result<Link, LinkError> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(LinkError::Invalid);
        }
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[purpose]);
        rules.set_required_spec_claims(&["exp", "aud", "sub"]);
        rules.validate_exp = false; // by our own clock, below
        let claims = jsonwebtoken::decode::<Claims>(text, &self.checking, &rules)
            .map_err(|_| LinkError::Invalid)?
            .claims;
        let expires_at_us = claims.exp.saturating_mul(US_PER_SEC);
        if expires_at_us <= self.clock.now_us() {
            return Err(LinkError::Expired);
        }
        Ok(Link {
            purpose: claims.aud,
            user: claims.sub.parse().map_err(|_| LinkError::Invalid)?,
            repo: claims
                .repo
                .map(|repo| repo.parse())
                .transpose()
                .map_err(|_| LinkError::Invalid)?,
            token: claims
                .token
                .map(|token| token.parse())
                .transpose()
                .map_err(|_| LinkError::Invalid)?,
            expires_at_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_its_purpose_and_time_only() {
        let (clock, hands) = Clock::manual(1_700_000_000 * US_PER_SEC);
        let links = Links::new(&[7; 32], clock.clone());
        let (user, repo, token) = (UserId::new(), RepoId::new(), TokenId::new());

        let text = links.issue("download", (user, Some(token)), Some(repo), 60);

        let link = links.verify(&text, "download").unwrap();
        assert_eq!((link.user, link.repo, link.token), (user, Some(repo), Some(token)));
        assert_eq!(links.verify(&text, "upload"), Err(LinkError::Invalid));
        let other = Links::new(&[8; 32], clock);
        assert_eq!(other.verify(&text, "download"), Err(LinkError::Invalid));
        hands.advance_secs(59);
        assert!(links.verify(&text, "download").is_ok());
        hands.advance_secs(1);
        assert_eq!(links.verify(&text, "download"), Err(LinkError::Expired));
    }

    #[test]
    fn a_link_that_was_changed_or_is_not_signed_is_refused() {
        let links = Links::new(&[7; 32], Clock::system());
        let text = links.issue("download", (UserId::new(), None), None, 60);
        let parts: Vec<&str> = text.split('.').collect();
        let other = links.issue("download", (UserId::new(), None), None, 60);
        let other_parts: Vec<&str> = other.split('.').collect();
        // header {"alg":"none","typ":"JWT"}
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]);
        let swapped = format!("{}.{}.{}", parts[0], other_parts[1], parts[2]);
        for bad in [unsigned.as_str(), swapped.as_str(), "", "a.b.c", &"x".repeat(100_000)] {
            assert_eq!(links.verify(bad, "download"), Err(LinkError::Invalid));
        }
    }

    #[test]
    fn no_link_lives_longer_than_a_day() {
        let (clock, hands) = Clock::manual(0);
        let links = Links::new(&[7; 32], clock);
        let text = links.issue("download", (UserId::new(), None), None, u64::MAX);
        hands.advance_secs(LINK_MAX_SECS);
        assert_eq!(links.verify(&text, "download"), Err(LinkError::Expired));
    }
}
