//! The rules: who people are, what they may do, and what happens to repositories.
//!
//! A service is a struct that holds exactly what it needs and is built once, in `app`. The services
//! for commands (`Accounts`, `Tokens`, `Members`, `Protection`, `Repos`) do not ask for rights:
//! whoever can run a command on the server's machine may do everything. What comes over the network
//! passes [`Accounts::sign_in`] and [`Access`] first.

pub mod access;
pub mod accounts;
pub mod fetch;
pub mod keeping;
pub mod lfs;
pub mod links;
pub mod locks;
pub mod members;
pub mod music;
pub mod notes;
mod passwords;
pub mod protection;
pub mod push;
pub mod repos;
pub mod rights;
mod secret;
pub mod sign_in;
mod sign_in_cache;
mod throttle;
mod token_secret;
pub mod tokens;
pub mod transfer;
pub mod upkeep;

pub use crate::db::{AuditRow, BadKind, By, MemberRow, ProtectedBranch, RepoRow, Role, Scope, UserRow, Visibility};
pub use crate::db::{LockRow, LockRules, LockRulesChange};
pub use access::{Access, AccessError, Opened, PushTarget};
pub use accounts::{AccountError, Accounts};
pub use fetch::Fetches;
pub use keeping::{Collect, Figures, FilesReport, Finding, Keeping, KeepingError, Subset};
pub use lfs::{LargeFiles, LfsError};
pub use links::{Link, LinkError, Links};
pub use locks::{LockError, Locks};
pub use members::{MemberError, Members};
pub use music::{CompareQuery, Music, MusicError};
pub use notes::{CommitNotes, NotesReport};
pub use passwords::{PASSWORD_MAX_BYTES, PASSWORD_MIN_BYTES};
pub use protection::{Protection, ProtectionError};
pub use push::{Push, Pushes};
pub use repos::{CheckReport, MadeRepo, ObjectFormat, RepoDetails, RepoError, Repos};
pub use rights::Right;
pub use secret::Secret;
pub use sign_in::{Caller, Credentials, SignInError, SignedIn, TokenGrant};
pub use tokens::{CreatedToken, TokenError, TokenInfo, TokenRequest, Tokens};
pub use transfer::{CallerKey, Transfer, TransferError};
pub use upkeep::{PushedTo, Upkeep, UpkeepRequest};

#[cfg(test)]
mod testing;
