//! Requests and answers of the LFS batch API (Git LFS specification, `docs/api/batch.md` and
//! `docs/api/basic-transfers.md`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The media type of the API.
pub const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
/// The transfer that every client knows.
pub const BASIC: &str = "basic";

/// What a client wants to do with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Get them.
    Download,
    /// Bring them.
    Upload,
}

/// `POST …/objects/batch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRequest {
    /// What the client wants to do.
    pub operation: Operation,
    /// Transfers that it knows; none means basic.
    #[serde(default)]
    pub transfers: Option<Vec<String>>,
    /// The ref that the objects belong to; clients send null or an empty object, too.
    #[serde(default, rename = "ref")]
    pub reference: Option<Reference>,
    /// The objects.
    pub objects: Vec<ObjectRequest>,
    /// The hash function of the names; none means SHA-256.
    #[serde(default)]
    pub hash_algo: Option<String>,
}

/// A ref.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its full name, such as `refs/heads/main`.
    #[serde(default)]
    pub name: Option<String>,
}

/// One object of a request. Its name is text until it is looked at: a bad one is an error of that object alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRequest {
    /// Its name.
    pub oid: String,
    /// Its size, in bytes.
    pub size: i64,
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// The transfer to use, one of those that the client knows.
    pub transfer: String,
    /// Every object of the request.
    pub objects: Vec<ObjectAnswer>,
    /// The hash function of the names.
    pub hash_algo: String,
}

/// One object of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectAnswer {
    /// Its name.
    pub oid: String,
    /// Its size, in bytes.
    pub size: i64,
    /// What to do; none where nothing is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Actions>,
    /// Why nothing can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ObjectError>,
}

/// What to do with one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions {
    /// Where to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Action>,
    /// Where to bring it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Action>,
    /// Where to ask whether it has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Action>,
}

/// A request that a client is to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its address.
    pub href: String,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// For how long it is good, in seconds; at most 31 bits.
    pub expires_in: u32,
}

/// Why nothing can be done with one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectError {
    /// As a status of HTTP: 404 absent, 409 hash function, 410 removed, 422 invalid.
    pub code: u16,
    /// A sentence.
    pub message: String,
}

/// `POST` to a `verify` action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// The object's name.
    pub oid: String,
    /// Its size, in bytes.
    pub size: i64,
}
