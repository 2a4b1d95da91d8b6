//! Slows failed sign-ins down, for an account and a network address *together*.
//!
//! Never for an account alone, so that no stranger can lock anybody out; never for an address alone,
//! so that one wrong password in an office does not stop the others. An IPv6 address counts with
//! its /64, which is what one household or machine is given.

use std::net::IpAddr;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::config::AuthSettings;
use crate::db::{Clock, US_PER_SEC};

/// Pairs remembered at once; the least recently seen go first.
const PAIRS_MAX: u64 = 100_000;

/// Failures are forgotten this long after the last one, in seconds.
const FORGOTTEN_AFTER_SECS: u64 = 15 * 60;

/// An account, as far as the caller named it, and where the caller is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pair([u8; 32]);

impl Pair {
    /// `account` is what was tried: a user name, known or not, or the digest of a token.
    pub fn new(kind: AccountKind, account: &[u8], from: IpAddr) -> Self {
        let mut digest = Sha256::new();
        let from = from.to_canonical();
        // Both bytes fix the length of what follows, up to the account at the end.
        digest.update([kind as u8, u8::from(from.is_ipv4())]);
        match from {
            IpAddr::V4(v4) => digest.update(v4.octets()),
            IpAddr::V6(v6) => digest.update(&v6.octets()[..8]),
        }
        digest.update(account);
        Self(digest.finalize().into())
    }
}

/// What kind of account was named.
#[derive(Clone, Copy)]
pub(super) enum AccountKind {
    /// A user name, with case folded.
    Name = 1,
    /// The SHA-256 of an access token.
    Token = 2,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last_at_us: i64,
}

/// The table of failures.
pub(super) struct Throttle {
    table: Cache<Pair, Failures>,
    /// Failures that cost nothing; 0 switches the throttle off.
    free: u32,
    longest_secs: u64,
    clock: Clock,
}

impl Throttle {
    /// As `auth.throttle_after_failures` and `auth.throttle_max_secs` say.
    pub fn new(settings: &AuthSettings, clock: Clock) -> Self {
        Self {
            table: Cache::builder()
                .max_capacity(PAIRS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(Duration::from_secs(
                    FORGOTTEN_AFTER_SECS.saturating_add(settings.throttle_max_secs),
                ))
                .build(),
            free: settings.throttle_after_failures,
            longest_secs: settings.throttle_max_secs,
            clock,
        }
    }

    /// Whether the pair may try now.
    ///
    /// # Errors
    /// The seconds to wait, at least 1. An attempt while waiting does not count as a failure.
    pub fn check(&self, pair: Pair) -> Result<(), u64> {
        let Some(failures) = self.table.get(&pair) else {
            return Ok(());
        };
        let wait_us = i64::try_from(self.wait_secs(failures.count))
            .unwrap_or(i64::MAX)
            .saturating_mul(US_PER_SEC);
        let until_us = failures.last_at_us.saturating_add(wait_us);
        let left_us = until_us.saturating_sub(self.clock.now_us());
        if left_us <= 0 {
            return Ok(());
        }
        Err((left_us as u64).div_ceil(US_PER_SEC as u64))
    }

    /// Notes a failure of the pair.
    pub fn failed(&self, pair: Pair) {
        if self.free == 0 {
            return;
        }
        let now_us = self.clock.now_us();
        self.table.entry(pair).and_compute_with(|entry| {
            let before = entry.map(|entry| entry.into_value());
            let forgotten_us = FORGOTTEN_AFTER_SECS as i64 * US_PER_SEC;
            let count = before
                .filter(|failures| now_us.saturating_sub(failures.last_at_us) < forgotten_us)
                .map_or(0, |failures| failures.count);
            Op::Put(Failures {
                count: count.saturating_add(1),
                last_at_us: now_us,
            })
        });
    }

    /// Forgets the failures of the pair.
    pub fn succeeded(&self, pair: Pair) {
        if self.table.contains_key(&pair) {
            self.table.invalidate(&pair);
        }
    }

    /// 1 second after the last free failure, then twice as long each time, up to the setting.
    fn wait_secs(&self, failures: u32) -> u64 {
        if self.free == 0 || failures < self.free {
            return 0;
        }
        let doublings = (failures - self.free).min(32);
        (1_u64 << doublings).min(self.longest_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ManualClock;

    fn throttle(free: u32, longest_secs: u64) -> (Throttle, ManualClock) {
        let (clock, hands) = Clock::manual(1);
        let settings = AuthSettings {
            throttle_after_failures: free,
            throttle_max_secs: longest_secs,
            ..AuthSettings::default()
        };
        (Throttle::new(&settings, clock), hands)
    }

    fn pair(account: &str, from: &str) -> Pair {
        Pair::new(AccountKind::Name, account.as_bytes(), from.parse().unwrap())
    }

    #[test]
    fn the_wait_begins_after_the_free_failures_and_doubles_up_to_the_limit() {
        let (throttle, hands) = throttle(3, 10);
        let anna = pair("anna", "192.0.2.1");
        let mut waits = Vec::new();
        for _ in 0..8 {
            throttle.failed(anna);
            let wait = throttle.check(anna).err().unwrap_or(0);
            waits.push(wait);
            hands.advance_secs(wait);
            assert_eq!(throttle.check(anna), Ok(()));
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn neither_the_account_elsewhere_nor_others_at_the_address_wait() {
        let (throttle, _) = throttle(1, 60);
        throttle.failed(pair("anna", "192.0.2.1"));
        assert_eq!(throttle.check(pair("anna", "192.0.2.1")), Err(1));
        assert_eq!(throttle.check(pair("anna", "192.0.2.2")), Ok(()));
        assert_eq!(throttle.check(pair("ben", "192.0.2.1")), Ok(()));
        assert_eq!(throttle.check(pair("anna", "::ffff:192.0.2.1")), Err(1));
    }

    #[test]
    fn an_ipv6_network_of_one_household_counts_as_one_address() {
        let (throttle, _) = throttle(1, 60);
        throttle.failed(pair("anna", "2001:db8:1:2::1"));
        assert_eq!(throttle.check(pair("anna", "2001:db8:1:2:ffff::9")), Err(1));
        assert_eq!(throttle.check(pair("anna", "2001:db8:1:3::1")), Ok(()));
    }

    #[test]
    fn a_success_forgets_and_so_does_time() {
        let (throttle, hands) = throttle(1, 60);
        let anna = pair("anna", "192.0.2.1");
        throttle.failed(anna);
        throttle.failed(anna);
        assert_eq!(throttle.check(anna), Err(2));
        throttle.succeeded(anna);
        assert_eq!(throttle.check(anna), Ok(()));

        for _ in 0..6 {
            throttle.failed(anna);
        }
        hands.advance_secs(FORGOTTEN_AFTER_SECS);
        throttle.failed(anna);
        assert_eq!(throttle.check(anna), Err(1));
    }

    #[test]
    fn zero_free_failures_switch_it_off() {
        let (throttle, _) = throttle(0, 60);
        let anna = pair("anna", "192.0.2.1");
        for _ in 0..100 {
            throttle.failed(anna);
        }
        assert_eq!(throttle.check(anna), Ok(()));
    }
}
