//! Protected branches: rules, and which branch falls under which.

use crate::db::{By, Db, DbError, ProtectedBranch, RepoRow};
use crate::names::RepoAddress;

/// Most rules of one repository.
pub const RULES_MAX: u32 = 100;

/// Longest pattern, in bytes.
pub const PATTERN_MAX_BYTES: usize = 255;

/// Characters that git allows in no branch name: a rule with one of them would protect nothing.
const IN_NO_BRANCH: &str = "~^:?[\\";

const BRANCHES: &[u8] = b"refs/heads/";

/// Why nothing was changed; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// There is no such repository.
    #[error("there is no repository {0}; `auxin repo list` shows all")]
    NoRepo(RepoAddress),
    /// Not a pattern.
    #[error(
        "the pattern is a branch name such as main or release/*, of at most {PATTERN_MAX_BYTES} characters, without spaces; `*` stands for any characters but `/`, and `~ ^ : ? [ \\ ..` are in no branch name; correct it"
    )]
    BadPattern,
    /// There is no such rule.
    #[error("{repo} has no rule for `{pattern}`; nothing was changed")]
    NoRule {
        /// The repository.
        repo: RepoAddress,
        /// The pattern.
        pattern: String,
    },
    /// The repository has too many.
    #[error("{0} has {RULES_MAX} rules for branches, which is the limit; remove one, or use a pattern with *")]
    TooMany(RepoAddress),
    /// Never shown to a client.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Whether `rule` is about the ref with this full name.
///
/// A pattern is a branch name, or begins with `refs/` and is a full name. `*` stands for any
/// characters but `/`, `**` for any at all. Case counts, as it does in git.
pub fn covers(rule: &ProtectedBranch, ref_name: &[u8]) -> bool {
    let pattern = rule.pattern.as_bytes();
    if pattern.starts_with(b"refs/") {
        return matches(pattern, ref_name);
    }
    ref_name
        .strip_prefix(BRANCHES)
        .is_some_and(|branch| matches(pattern, branch))
}

/// Walks the name once per character of the pattern, so no pattern takes long: `reach[i]` says
/// whether the pattern so far can end before byte `i` of the name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut reach = vec![false; name.len() + 1];
    reach[0] = true;
    let mut rest = pattern;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'*' {
            let everything = rest.first() == Some(&b'*');
            while let Some((b'*', after)) = rest.split_first() {
                rest = after;
            }
            for at in 0..name.len() {
                if reach[at] && (everything || name[at] != b'/') {
                    reach[at + 1] = true;
                }
            }
        } else {
            for at in (0..name.len()).rev() {
                reach[at + 1] = reach[at] && name[at] == *first;
            }
            reach[0] = false;
        }
    }
    reach[name.len()]
}

/// Rules for branches. Cloning shares everything.
#[derive(Clone)]
pub struct Protection {
    db: Db,
}

impl Protection {
    /// On the rules in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Adds a rule, or changes the one with the same pattern; counts with the next push.
    ///
    /// # Errors
    /// [`ProtectionError::BadPattern`], [`ProtectionError::NoRepo`], [`ProtectionError::TooMany`].
    pub async fn set(&self, repo: &RepoAddress, rule: ProtectedBranch, by: By) -> Result<(), ProtectionError> {
        let pattern = rule.pattern.as_str();
        let ok = !pattern.is_empty()
            && pattern.len() <= PATTERN_MAX_BYTES
            && !pattern
                .chars()
                .any(|c| c.is_control() || c.is_whitespace() || IN_NO_BRANCH.contains(c))
            && !pattern.contains("..")
            && !pattern.starts_with('/')
            && !pattern.ends_with(['/', '.']);
        if !ok {
            return Err(ProtectionError::BadPattern);
        }
        let repo = self.repo(repo).await?;
        if !self.db.set_protected_branch(repo.id, rule, RULES_MAX, by).await? {
            return Err(ProtectionError::TooMany(repo.address));
        }
        Ok(())
    }

    /// Removes the rule with this pattern.
    ///
    /// # Errors
    /// [`ProtectionError::NoRepo`], [`ProtectionError::NoRule`].
    pub async fn remove(&self, repo: &RepoAddress, pattern: &str, by: By) -> Result<(), ProtectionError> {
        let repo = self.repo(repo).await?;
        let removed = self.db.remove_protected_branch(repo.id, pattern.to_owned(), by).await?;
        removed.then_some(()).ok_or_else(|| ProtectionError::NoRule {
            repo: repo.address,
            pattern: pattern.escape_debug().to_string(),
        })
    }

    /// The rules by pattern.
    ///
    /// # Errors
    /// [`ProtectionError::NoRepo`].
    pub async fn list(&self, repo: &RepoAddress) -> Result<Vec<ProtectedBranch>, ProtectionError> {
        let repo = self.repo(repo).await?;
        Ok(self.db.protected_branches(repo.id).await?)
    }

    async fn repo(&self, address: &RepoAddress) -> Result<RepoRow, ProtectionError> {
        let found = self.db.find_repo(address, None).await?;
        found
            .map(|found| found.repo)
            .ok_or_else(|| ProtectionError::NoRepo(address.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Visibility;
    use crate::service::testing::World;

    fn rule(pattern: &str) -> ProtectedBranch {
        ProtectedBranch {
            pattern: pattern.into(),
            no_force: true,
            no_delete: true,
        }
    }

    #[test]
    fn a_pattern_covers_branches_and_with_refs_in_front_any_ref() {
        for (pattern, name, expected) in [
            ("main", "refs/heads/main", true),
            ("main", "refs/heads/main2", false),
            ("main", "refs/heads/Main", false),
            ("main", "refs/tags/main", false),
            ("release/*", "refs/heads/release/1", true),
            ("release/*", "refs/heads/release/1/2", false),
            ("release/**", "refs/heads/release/1/2", true),
            ("*", "refs/heads/a", true),
            ("*", "refs/heads/a/b", false),
            ("**", "refs/heads/a/b", true),
            ("*-final", "refs/heads/song-final", true),
            ("a*b*c", "refs/heads/axxbyyc", true),
            ("a*b*c", "refs/heads/axxbyy", false),
            ("refs/tags/v*", "refs/tags/v1.0", true),
            ("refs/tags/v*", "refs/heads/v1.0", false),
        ] {
            assert_eq!(covers(&rule(pattern), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_another() {
        let pattern = "a*".repeat(PATTERN_MAX_BYTES / 2) + "b";
        let name = format!("refs/heads/{}", "a".repeat(1000));
        assert!(!covers(&rule(&pattern), name.as_bytes()));
    }

    #[tokio::test]
    async fn rules_are_set_changed_listed_and_removed() {
        let world = World::new().await;
        world.user("anna").await;
        world.repo("anna/song", Visibility::Private).await;
        let song = "anna/song".parse().unwrap();
        let protection = Protection::new(world.db.clone());

        protection.set(&song, rule("main"), By::Command).await.unwrap();
        let mut changed = rule("main");
        changed.no_delete = false;
        protection.set(&song, changed.clone(), By::Command).await.unwrap();
        assert_eq!(protection.list(&song).await.unwrap(), [changed]);
        protection.remove(&song, "main", By::Command).await.unwrap();

        assert!(protection.list(&song).await.unwrap().is_empty());
        let again = protection.remove(&song, "main", By::Command).await;
        assert!(matches!(again, Err(ProtectionError::NoRule { .. })));
        let bad = protection.set(&song, rule("two words"), By::Command).await;
        assert!(matches!(bad, Err(ProtectionError::BadPattern)));
    }

    #[tokio::test]
    async fn a_rule_that_could_protect_no_branch_is_refused() {
        let world = World::new().await;
        world.user("anna").await;
        world.repo("anna/song", Visibility::Private).await;
        let song = "anna/song".parse().unwrap();
        let protection = Protection::new(world.db.clone());
        for pattern in [
            "", "[", "ma?n", "main^", "a..b", "x:y", "a\\b", "~", "/main", "main/", "main.",
        ] {
            let refused = protection.set(&song, rule(pattern), By::Command).await;
            assert!(matches!(refused, Err(ProtectionError::BadPattern)), "{pattern}");
        }
        assert!(protection.list(&song).await.unwrap().is_empty());
        for pattern in ["*", "release/**", "refs/tags/v*", "v1.0", "Größe"] {
            protection.set(&song, rule(pattern), By::Command).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_repository_has_a_bounded_number_of_rules() {
        let world = World::new().await;
        world.user("anna").await;
        world.repo("anna/song", Visibility::Private).await;
        let song = "anna/song".parse().unwrap();
        let protection = Protection::new(world.db.clone());
        for n in 0..RULES_MAX {
            protection
                .set(&song, rule(&format!("b{n}")), By::Command)
                .await
                .unwrap();
        }
        let more = protection.set(&song, rule("more"), By::Command).await;
        assert!(matches!(more, Err(ProtectionError::TooMany(_))));
        protection.set(&song, rule("b0"), By::Command).await.unwrap();
    }
}
