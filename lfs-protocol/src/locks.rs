//! Requests and answers of the LFS locking API (Git LFS specification, `docs/api/locking.md`).

use serde::{Deserialize, Serialize};

use crate::batch::Reference;

/// `POST …/locks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// The file, from the root of the repository, with `/` between folders.
    pub path: String,
    /// The branch that the client is on; clients send null or an empty object, too.
    #[serde(default, rename = "ref")]
    pub reference: Option<Reference>,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What it is released by.
    pub id: String,
    /// The file, as it was given.
    pub path: String,
    /// When it was taken (RFC 3339).
    pub locked_at: String,
    /// Who holds it.
    pub owner: Owner,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Their name.
    pub name: String,
}

/// A lock that was taken or released, or, with a message, the one that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockAnswer {
    /// The lock.
    pub lock: Lock,
    /// Why the request was not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer to `GET …/locks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockList {
    /// The locks, oldest first.
    pub locks: Vec<Lock>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST …/locks/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyLocksRequest {
    /// The branch that is pushed; clients send null or an empty object, too.
    #[serde(default, rename = "ref")]
    pub reference: Option<Reference>,
    /// Where the page begins.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most locks in the answer; clients send 0 for "as many as you like".
    #[serde(default)]
    pub limit: Option<u64>,
}

/// Locks, told apart by whose they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyLocksAnswer {
    /// Those of the one who asks.
    pub ours: Vec<Lock>,
    /// Those of others.
    pub theirs: Vec<Lock>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST …/locks/{id}/unlock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockRequest {
    /// Also if it is somebody else's.
    #[serde(default)]
    pub force: Option<bool>,
    /// The branch that the client is on.
    #[serde(default, rename = "ref")]
    pub reference: Option<Reference>,
}
