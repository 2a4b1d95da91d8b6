//! What a client may get or has to bring: the batch API.

use std::collections::BTreeMap;

use lfs_protocol::batch::{
    Action, Actions, BASIC, BatchAnswer, BatchRequest, ObjectAnswer, ObjectError, ObjectRequest, Operation,
    VerifyRequest,
};
use lfs_protocol::chunked::{CHUNKING_HEADER, TRANSFER};
use lfs_protocol::{Chunking, Oid};

use super::{Grant, LargeFiles, LfsError, api_of, is_for_one_repo};
use crate::db::{Hash, Sight};
use crate::ids::RepoId;
use crate::service::access::{Opened, PushTarget};
use crate::service::repos::ObjectFormat;
use crate::service::sign_in::SignedIn;
use crate::service::transfer::coding::{self, Exceeded};
use crate::service::transfer::spool::Spool;
use crate::service::transfer::{CallerKey, Incoming, Kind, TransferError};

/// The only hash function of names.
const SHA256: &str = "sha256";

/// Status codes of objects, as the API wants them.
mod code {
    pub const ABSENT: u16 = 404;
    pub const HASH_ALGORITHM: u16 = 409;
    pub const INVALID: u16 = 422;
}

/// A request that has been read.
#[derive(Clone, Debug)]
pub struct Batch {
    request: BatchRequest,
    /// By the chunked transfer.
    is_chunked: bool,
}

impl Batch {
    /// What the client wants to do.
    pub fn operation(&self) -> Operation {
        self.request.operation
    }
}

/// One object of a request: as it was named, and what that means.
type Named = (ObjectRequest, Result<(Oid, u64), ObjectError>);

impl LargeFiles {
    /// Reads a request.
    ///
    /// # Errors
    /// [`LfsError::BadRequest`], [`LfsError::TooMany`], [`LfsError::SwitchedOff`], and those of every transfer.
    pub async fn read_batch(&self, caller: CallerKey, incoming: Incoming) -> Result<Batch, TransferError> {
        let limit = self.inner.config.lfs.max_batch_objects;
        let request: BatchRequest = self.read_json(caller, incoming).await?;
        if request.objects.len() > limit {
            let found = request.objects.len();
            return Err(LfsError::TooMany { found, limit }.into());
        }
        let transfers = request.transfers.as_deref().unwrap_or_default();
        let is_known = |name: &str| transfers.iter().any(|transfer| transfer == name);
        let is_chunked = self.inner.config.lfs.chunked_transfer && is_known(TRANSFER);
        if !transfers.is_empty() && !is_chunked && !is_known(BASIC) {
            return Err(LfsError::BadRequest(format!(
                "This server offers the transfer {BASIC}; the request knows {} only.",
                transfers.join(", ")
            ))
            .into());
        }
        Ok(Batch { request, is_chunked })
    }

    /// Reads what is to be verified.
    ///
    /// # Errors
    /// [`LfsError::BadRequest`], [`LfsError::SwitchedOff`], and those of every transfer.
    pub async fn read_verify(&self, caller: CallerKey, incoming: Incoming) -> Result<(Oid, u64), TransferError> {
        let request: VerifyRequest = self.read_json(caller, incoming).await?;
        match (Oid::parse(&request.oid), u64::try_from(request.size)) {
            (Ok(oid), Ok(size_bytes)) => Ok((oid, size_bytes)),
            _ => Err(LfsError::BadName.into()),
        }
    }

    async fn read_json<T>(&self, caller: CallerKey, incoming: Incoming) -> Result<T, TransferError>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        self.inner.check_on()?;
        let (transfer, max_bytes) = (&self.inner.transfer, self.inner.config.lfs.max_batch_bytes);
        let admitted = transfer.admit(caller)?;
        let spool = Spool::read(incoming.body, transfer.tmp_dir(), max_bytes, transfer.silence()).await?;
        let read = transfer.compute(Kind::Listing, admitted, move |_| {
            let exceeded = Exceeded::default();
            let body = coding::decoded(spool, incoming.coding, max_bytes, &exceeded);
            let read = serde_json::from_reader(std::io::BufReader::new(body));
            read.map_err(|error| match exceeded.is_set() {
                true => TransferError::TooLarge { max_bytes },
                false => LfsError::BadRequest(format!("This is no request of the Git LFS API: {error}.")).into(),
            })
        });
        Ok(read.await?.0)
    }

    /// Tells where to get the objects of a request.
    ///
    /// # Errors
    /// [`LfsError`] for the whole request; what is wrong with one object is told there.
    pub async fn offer(&self, by: Option<&SignedIn>, repo: &Opened, batch: Batch) -> Result<BatchAnswer, LfsError> {
        let objects = self.named(batch.request)?;
        let found = self.inner.db.linked_objects(repo.id, &hashes(&objects)).await?;
        let mut api = api_of(&self.inner.config, repo);
        let mut header = BTreeMap::new();
        if batch.is_chunked {
            api.push_str("/auxin");
            // Who need not sign in needs no token either.
            header = by.map_or(header, |by| self.authorization(by, repo, Operation::Download));
        }
        let download = |oid| Action {
            header: header.clone(),
            ..self.action(format!("{api}/objects/{oid}"))
        };
        let transfer = if batch.is_chunked { TRANSFER } else { BASIC };
        Ok(answer(transfer, objects, |oid, size_bytes| {
            match found.get(oid.as_bytes()) {
                None => Err(absent(&LfsError::NoObject(oid))),
                Some(&found_bytes) if found_bytes != size_bytes => Err(other_size(oid, found_bytes, size_bytes)),
                Some(_) => Ok(Some(Actions {
                    download: Some(download(oid)),
                    ..Actions::default()
                })),
            }
        }))
    }

    /// What a request of the chunked transfer signs in with.
    fn authorization(&self, by: &SignedIn, repo: &Opened, operation: Operation) -> BTreeMap<String, String> {
        let grant = Grant {
            by: by.clone(),
            repo: repo.id,
            operation,
        };
        let bearer = format!("Bearer {}", self.grant(&grant).token);
        BTreeMap::from([("Authorization".to_owned(), bearer)])
    }

    /// Tells which objects of a request have to be brought, and where to; makes the repository if need be.
    ///
    /// # Errors
    /// [`LfsError`] for the whole request; what is wrong with one object is told there.
    pub async fn request(&self, by: &SignedIn, target: PushTarget, batch: Batch) -> Result<BatchAnswer, LfsError> {
        let is_chunked = batch.is_chunked;
        let objects = self.named(batch.request)?;
        let repo = match target {
            PushTarget::Existing(repo) => repo,
            PushTarget::Creatable(address) => {
                // Git LFS comes before the push itself, which would make it.
                let made = self
                    .inner
                    .repos
                    .create_for_push(RepoId::new(), by, &address, ObjectFormat::default());
                let made = made.await?;
                if made.is_new {
                    self.inner.db.note_made_repo(made.repo.id).await?;
                }
                made.repo
            }
        };
        let sight = Sight {
            user: by.id,
            is_for_one_repo: is_for_one_repo(by),
        };
        let have = self.inner.db.have_objects(repo.id, sight, hashes(&objects)).await?;
        let api = api_of(&self.inner.config, &repo);
        let limit_bytes = self.inner.config.lfs.max_object_bytes;
        let mut header = BTreeMap::new();
        if is_chunked {
            header = self.authorization(by, &repo, Operation::Upload);
            header.insert(CHUNKING_HEADER.to_owned(), versions());
        }
        let upload = |oid: Oid, size_bytes: u64| Action {
            header: header.clone(),
            ..self.action(match is_chunked {
                true => format!("{api}/auxin/objects/{oid}?size={size_bytes}"),
                false => format!("{api}/objects/{oid}/{size_bytes}"),
            })
        };
        let transfer = if is_chunked { TRANSFER } else { BASIC };
        Ok(answer(transfer, objects, |oid, size_bytes| {
            match have.get(oid.as_bytes()) {
                Some(&found_bytes) if found_bytes != size_bytes => Err(other_size(oid, found_bytes, size_bytes)),
                Some(_) => Ok(None),
                None if size_bytes > limit_bytes => Err(invalid(LfsError::TooLarge {
                    size_bytes,
                    limit_bytes,
                })),
                None => Ok(Some(Actions {
                    upload: Some(upload(oid, size_bytes)),
                    verify: Some(self.action(format!("{api}/verify"))),
                    ..Actions::default()
                })),
            }
        }))
    }

    fn action(&self, href: String) -> Action {
        Action {
            href,
            header: BTreeMap::new(),
            expires_in: self.inner.config.lfs.action_expiry_secs,
        }
    }

    /// Looks at names and sizes.
    fn named(&self, request: BatchRequest) -> Result<Vec<Named>, LfsError> {
        let is_known_hash = request.hash_algo.as_deref().is_none_or(|algorithm| algorithm == SHA256);
        let objects: Vec<Named> = request
            .objects
            .into_iter()
            .map(|object| {
                let named = match (is_known_hash, Oid::parse(&object.oid), u64::try_from(object.size)) {
                    (false, ..) => Err(ObjectError {
                        code: code::HASH_ALGORITHM,
                        message: format!("This server names objects by {SHA256} only."),
                    }),
                    (_, Err(_), _) => Err(invalid(LfsError::BadName)),
                    (_, Ok(_), Err(_)) => Err(invalid(LfsError::BadRequest("A size is never negative.".into()))),
                    (_, Ok(oid), Ok(size_bytes)) => Ok((oid, size_bytes)),
                };
                (object, named)
            })
            .collect();
        let is_invalid = |(_, named): &Named| named.as_ref().is_err_and(|error| error.code == code::INVALID);
        if !objects.is_empty() && objects.iter().all(is_invalid) {
            return Err(LfsError::BadRequest("No object of the request is valid: names have 64 lower-case hexadecimal digits, sizes are never negative.".into()));
        }
        Ok(objects)
    }
}

/// The versions of the cuts that are taken.
fn versions() -> String {
    let known = [Chunking::Media, Chunking::Other].map(|chunking| chunking.version().to_string());
    known.join(",")
}

fn hashes(objects: &[Named]) -> Vec<Hash> {
    let named = objects.iter().filter_map(|(_, named)| named.as_ref().ok());
    named.map(|(oid, _)| *oid.as_bytes()).collect()
}

fn answer(
    transfer: &str,
    objects: Vec<Named>,
    what_to_do: impl Fn(Oid, u64) -> Result<Option<Actions>, ObjectError>,
) -> BatchAnswer {
    let objects = objects.into_iter().map(|(object, named)| {
        let (actions, error) = match named.and_then(|(oid, size_bytes)| what_to_do(oid, size_bytes)) {
            Ok(actions) => (actions, None),
            Err(error) => (None, Some(error)),
        };
        ObjectAnswer {
            oid: object.oid,
            size: object.size,
            actions,
            error,
        }
    });
    BatchAnswer {
        transfer: transfer.to_owned(),
        objects: objects.collect(),
        hash_algo: SHA256.to_owned(),
    }
}

fn absent(error: &LfsError) -> ObjectError {
    ObjectError {
        code: code::ABSENT,
        message: error.to_string(),
    }
}

fn invalid(error: LfsError) -> ObjectError {
    ObjectError {
        code: code::INVALID,
        message: error.to_string(),
    }
}

fn other_size(oid: Oid, found_bytes: u64, asked_bytes: u64) -> ObjectError {
    invalid(LfsError::OtherSize {
        oid,
        found_bytes,
        asked_bytes,
    })
}
