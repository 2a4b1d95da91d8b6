//! Who may do what: the one place that decides.
//!
//! | right | public | internal | private |
//! | --- | --- | --- | --- |
//! | read: clone, fetch | everybody | signed in | role read |
//! | write: push | role write | role write | role write |
//! | admin: members, protected branches, visibility, default branch, archive, locks of others | role admin | role admin | role admin |
//! | own: rename, transfer, delete | owner | owner | owner |
//!
//! - A role includes the lesser ones: owner, admin, write, read.
//! - A **site administrator** has the owner's rights in every repository.
//! - An **archived** repository cannot be written to, by nobody; everything else goes on.
//! - An **access token** never adds a right. Scope `read` allows read; `write` allows read and write;
//!   `admin` allows all. A token for one repository is worth nothing in any other: there its bearer
//!   sees what everybody sees.
//! - Who may not read a repository is not told that it exists: nameless callers are asked to sign in,
//!   signed-in ones hear "not found", exactly as if there were none.

use super::sign_in::SignedIn;
use crate::db::{Role, Scope, Visibility};

/// What somebody wants to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Clone, fetch.
    Read,
    /// Push.
    Write,
    /// Members, protected branches, visibility, default branch, archive.
    Admin,
    /// Rename, transfer, delete.
    Own,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Admin, Self::Own];
}

/// The least that a person must be for a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// Anybody, signed in or not.
    Everybody,
    /// Anybody who is signed in.
    SignedIn,
    /// A member with this role, or with a greater one.
    Role(Role),
}

/// The table of the module's documentation.
pub const fn least(visibility: Visibility, right: Right) -> Least {
    match (right, visibility) {
        (Right::Read, Visibility::Public) => Least::Everybody,
        (Right::Read, Visibility::Internal) => Least::SignedIn,
        (Right::Read, Visibility::Private) => Least::Role(Role::Read),
        (Right::Write, _) => Least::Role(Role::Write),
        (Right::Admin, _) => Least::Role(Role::Admin),
        (Right::Own, _) => Least::Role(Role::Owner),
    }
}

/// The least scope of a token for a right.
pub const fn least_scope(right: Right) -> Scope {
    match right {
        Right::Read => Scope::Read,
        Right::Write => Scope::Write,
        Right::Admin | Right::Own => Scope::Admin,
    }
}

/// Whether somebody who may push to a repository is a maintainer of it: role admin there, and with a token
/// one whose scope allows as much.
pub fn is_maintainer(role: Option<Role>, user: &SignedIn) -> bool {
    let token_allows = |scope: Scope| scope >= least_scope(Right::Admin);
    role >= Some(Role::Admin) && user.token.as_ref().is_none_or(|token| token_allows(token.scope))
}

/// Who asks, as far as it matters for one repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody who has not signed in.
    Anonymous,
    /// A person.
    SignedIn {
        /// What they are to the repository.
        role: Option<Role>,
        /// May do everything everywhere.
        is_site_admin: bool,
        /// The token they signed in with.
        token: Option<TokenLimit>,
    },
}

/// What a token takes away from its owner's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimit {
    /// Its scope.
    pub scope: Scope,
    /// It is for another repository than the one in question.
    pub is_for_another: bool,
}

/// One question to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub standing: Standing,
    /// Of the repository.
    pub visibility: Visibility,
    /// Nobody may push.
    pub is_archived: bool,
    /// What for.
    pub right: Right,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Perhaps, after signing in; also the answer for a repository that does not exist.
    SignInNeeded,
    /// No, and not even whether it exists.
    Hidden,
    /// No, and this is why; only for repositories that the person may read.
    Refused(Reason),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The role is too small.
    Role,
    /// The repository is archived.
    Archived,
    /// The scope of the token is too small.
    Scope,
    /// The token is for another repository.
    TokenForAnother,
}

impl Question {
    /// Answers it.
    pub fn verdict(&self) -> Verdict {
        let Standing::SignedIn {
            role,
            is_site_admin,
            token,
        } = self.standing
        else {
            // Nobody writes without a name, so an archived repository asks for one too.
            return match least(self.visibility, self.right) {
                Least::Everybody => Verdict::Allowed,
                Least::SignedIn | Least::Role(_) => Verdict::SignInNeeded,
            };
        };
        if token.is_some_and(|token| token.is_for_another) {
            return match (least(self.visibility, Right::Read), self.right) {
                (Least::Everybody, Right::Read) => Verdict::Allowed,
                (Least::Everybody, _) => Verdict::Refused(Reason::TokenForAnother),
                _ => Verdict::Hidden,
            };
        }
        let role = if is_site_admin { Some(Role::Owner) } else { role };
        let suffices = |right| match least(self.visibility, right) {
            Least::Everybody | Least::SignedIn => true,
            Least::Role(needed) => role >= Some(needed),
        };
        if !suffices(Right::Read) {
            return Verdict::Hidden;
        }
        if !suffices(self.right) {
            return Verdict::Refused(Reason::Role);
        }
        if self.is_archived && self.right == Right::Write {
            return Verdict::Refused(Reason::Archived);
        }
        if token.is_some_and(|token| token.scope < least_scope(self.right)) {
            return Verdict::Refused(Reason::Scope);
        }
        Verdict::Allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIBILITIES: [Visibility; 3] = [Visibility::Public, Visibility::Internal, Visibility::Private];

    fn ask(standing: Standing, visibility: Visibility, is_archived: bool) -> String {
        Right::ALL
            .map(|right| {
                let question = Question {
                    standing,
                    visibility,
                    is_archived,
                    right,
                };
                match question.verdict() {
                    Verdict::Allowed => 'y',
                    Verdict::SignInNeeded => '?',
                    Verdict::Hidden => '-',
                    Verdict::Refused(Reason::Role) => 'r',
                    Verdict::Refused(Reason::Archived) => 'a',
                    Verdict::Refused(Reason::Scope) => 's',
                    Verdict::Refused(Reason::TokenForAnother) => 't',
                }
            })
            .iter()
            .collect()
    }

    fn person(role: Option<Role>) -> Standing {
        Standing::SignedIn {
            role,
            is_site_admin: false,
            token: None,
        }
    }

    fn with_token(role: Option<Role>, scope: Scope, is_for_another: bool) -> Standing {
        let token = Some(TokenLimit { scope, is_for_another });
        Standing::SignedIn {
            role,
            is_site_admin: false,
            token,
        }
    }

    /// Every cell, written out by hand: y allowed, ? sign in, - hidden, r role, a archived, s scope,
    /// t token for another; in the order read, write, admin, own.
    #[test]
    fn every_cell_of_the_table_is_as_written_here() {
        #[rustfmt::skip]
        let table: &[(&str, Standing, [&str; 3], [&str; 3])] = &[
            // who                                     public  internal private   the same, archived
            ("anonymous",    Standing::Anonymous,      ["y???", "????", "????"], ["y???", "????", "????"]),
            ("stranger",     person(None),             ["yrrr", "yrrr", "----"], ["yrrr", "yrrr", "----"]),
            ("read",         person(Some(Role::Read)), ["yrrr", "yrrr", "yrrr"], ["yrrr", "yrrr", "yrrr"]),
            ("write",        person(Some(Role::Write)),["yyrr", "yyrr", "yyrr"], ["yarr", "yarr", "yarr"]),
            ("admin",        person(Some(Role::Admin)),["yyyr", "yyyr", "yyyr"], ["yayr", "yayr", "yayr"]),
            ("owner",        person(Some(Role::Owner)),["yyyy", "yyyy", "yyyy"], ["yayy", "yayy", "yayy"]),
            ("owner, read token",  with_token(Some(Role::Owner), Scope::Read, false),
                                                       ["ysss", "ysss", "ysss"], ["yass", "yass", "yass"]),
            ("owner, write token", with_token(Some(Role::Owner), Scope::Write, false),
                                                       ["yyss", "yyss", "yyss"], ["yass", "yass", "yass"]),
            ("owner, admin token", with_token(Some(Role::Owner), Scope::Admin, false),
                                                       ["yyyy", "yyyy", "yyyy"], ["yayy", "yayy", "yayy"]),
            ("reader, admin token", with_token(Some(Role::Read), Scope::Admin, false),
                                                       ["yrrr", "yrrr", "yrrr"], ["yrrr", "yrrr", "yrrr"]),
            ("stranger, admin token", with_token(None, Scope::Admin, false),
                                                       ["yrrr", "yrrr", "----"], ["yrrr", "yrrr", "----"]),
            ("owner, token for another", with_token(Some(Role::Owner), Scope::Admin, true),
                                                       ["yttt", "----", "----"], ["yttt", "----", "----"]),
        ];
        for (who, standing, live, archived) in table {
            for (index, visibility) in VISIBILITIES.into_iter().enumerate() {
                assert_eq!(ask(*standing, visibility, false), live[index], "{who} {visibility}");
                assert_eq!(
                    ask(*standing, visibility, true),
                    archived[index],
                    "{who} {visibility} archived"
                );
            }
        }
    }

    #[test]
    fn a_site_administrator_has_the_owners_rights_everywhere_as_far_as_a_token_allows() {
        for visibility in VISIBILITIES {
            for is_archived in [false, true] {
                for role in [None, Some(Role::Read), Some(Role::Owner)] {
                    for token in [
                        None,
                        Some(TokenLimit {
                            scope: Scope::Read,
                            is_for_another: false,
                        }),
                        Some(TokenLimit {
                            scope: Scope::Admin,
                            is_for_another: true,
                        }),
                    ] {
                        let admin = Standing::SignedIn {
                            role,
                            is_site_admin: true,
                            token,
                        };
                        let owner = Standing::SignedIn {
                            role: Some(Role::Owner),
                            is_site_admin: false,
                            token,
                        };
                        assert_eq!(ask(admin, visibility, is_archived), ask(owner, visibility, is_archived));
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_never_allows_what_its_owner_may_not() {
        for visibility in VISIBILITIES {
            for role in [None, Some(Role::Read), Some(Role::Write), Some(Role::Admin)] {
                for scope in [Scope::Read, Scope::Write, Scope::Admin] {
                    let owner = ask(person(role), visibility, false);
                    let token = ask(with_token(role, scope, false), visibility, false);
                    for (with, without) in token.chars().zip(owner.chars()) {
                        assert!(with != 'y' || without == 'y');
                    }
                }
            }
        }
    }
}
