//! Uploads of the chunked transfer end here: which chunks a person has to bring, and the proof that a recipe makes
//! the object that it names. A proof reads every chunk as it lies in the store and hashes the whole; it may take
//! long, goes on without its client, and is forgotten when the server ends: then it is asked for again.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lfs_protocol::chunked::ProofAnswer;
use lfs_protocol::recipe::{self, Recipe};
use lfs_protocol::{ChunkId, Oid, pack};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::chunked::read_plain;
use super::ingest::{Packing, remove};
use super::packs::PackFile;
use super::read::Reading;
use super::sounds::Listener;
use super::{Inner, LargeFiles, LfsError};
use crate::db::{Hash, Holder};
use crate::git::work::Work;
use crate::ids::{RepoId, UserId};
use crate::service::transfer::{CallerKey, Coding, Incoming, Kind, TransferError};

/// Largest object whose chunks may come together with its recipe, in bytes.
const SMALL_BYTES: u64 = 1 << 20;
/// Largest body of such an upload, in bytes: chunks that do not compress, their index and the recipe.
const SMALL_BODY_BYTES: u64 = 4 << 20;
/// How long an answer waits for a proof to end.
const WAIT: Duration = Duration::from_secs(2);
/// How long the outcome of a proof waits for somebody to ask.
const KEPT: Duration = Duration::from_secs(600);
/// Outcomes and running proofs that are remembered.
const MAX_KEPT: usize = 10_000;
/// Chunks that are read and hashed between two looks at whether anybody wants to stop.
const STEP_CHUNKS: usize = 1024;

/// Somebody's upload of one object.
type Name = (RepoId, UserId, Oid);

/// The proofs that run, and those whose outcome nobody has heard yet.
#[derive(Default)]
pub(super) struct Proofs {
    all: Mutex<HashMap<Name, Arc<Proof>>>,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Proof {
    proven_bytes: AtomicU64,
    outcome: Mutex<Option<(Instant, Result<(), TransferError>)>>,
    ended: Notify,
}

impl Proof {
    fn end(&self, outcome: Result<(), TransferError>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), outcome));
        self.ended.notify_waiters();
    }

    fn has_ended(&self, before: Duration) -> bool {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.as_ref().is_some_and(|(at, _)| at.elapsed() >= before)
    }
}

impl Proofs {
    /// No proof goes on: the server ends.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    fn get(&self, name: &Name) -> Option<Arc<Proof>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).map(Arc::clone)
    }

    /// A new one, unless one runs; `None` if there are too many.
    fn begin(&self, name: Name) -> Option<(Arc<Proof>, bool)> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proof) = all.get(&name)
            && !proof.has_ended(Duration::ZERO)
        {
            return Some((Arc::clone(proof), false));
        }
        if all.len() >= MAX_KEPT {
            all.retain(|_, proof| !proof.has_ended(KEPT));
            if all.len() >= MAX_KEPT {
                return None;
            }
        }
        let proof = Arc::<Proof>::default();
        all.insert(name, Arc::clone(&proof));
        Some((proof, true))
    }

    /// What is to be said about a proof now. An outcome is said once.
    async fn say(&self, name: &Name, proof: &Arc<Proof>) -> Result<ProofAnswer, TransferError> {
        let ended = proof.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if !proof.has_ended(Duration::ZERO) {
            let _ = tokio::time::timeout(WAIT, ended).await;
        }
        let outcome = proof.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        match outcome {
            None => Ok(ProofAnswer::proving(proof.proven_bytes.load(Ordering::Relaxed))),
            Some((_, outcome)) => {
                let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
                if all.get(name).is_some_and(|found| Arc::ptr_eq(found, proof)) {
                    all.remove(name);
                }
                outcome.map(|()| ProofAnswer::proven())
            }
        }
    }
}

impl LargeFiles {
    /// Which of the chunks that a body names, 32 bytes each, this person has to bring: one bit for each, the
    /// least significant first.
    ///
    /// # Errors
    /// [`LfsError::TooLong`], [`LfsError::BadRequest`] and those of every transfer.
    pub async fn missing(&self, holder: Holder, incoming: Incoming) -> Result<Vec<u8>, TransferError> {
        self.inner.check_on()?;
        let admitted = self.inner.transfer.admit(CallerKey::User(holder.user))?;
        let max_bytes = self.inner.config.lfs.max_missing_ids as u64 * ChunkId::BYTES as u64;
        let body = read_plain(self, incoming, max_bytes, " (lfs.max_missing_ids)").await?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let work = move |_: &Work| {
            let (ids, rest) = body.as_chunks::<{ ChunkId::BYTES }>();
            if !rest.is_empty() {
                return Err(LfsError::BadRequest("Ids of chunks have 32 bytes each.".into()).into());
            }
            let mut order: Vec<u32> = (0..ids.len() as u32).collect();
            order.sort_unstable_by_key(|&place| ids[place as usize]);
            let sorted: Vec<Hash> = order.iter().map(|&place| ids[place as usize]).collect();
            let missing = handle.block_on(inner.db.missing_chunks(&holder, &sorted));
            let mut bits = vec![0; ids.len().div_ceil(8)];
            for place in missing.map_err(LfsError::from)? {
                let place = order[place] as usize;
                bits[place / 8] |= 1 << (place % 8);
            }
            Ok(bits)
        };
        let computed = self.inner.transfer.compute(Kind::LargeFile, admitted, work).await;
        Ok(computed?.0)
    }

    /// Takes the recipe of an object whose chunks are here, and begins to prove it.
    ///
    /// # Errors
    /// [`LfsError::MissingChunks`], [`LfsError::WrongBytes`], and those of every transfer.
    pub async fn take_recipe(
        &self,
        holder: Holder,
        (oid, size_bytes): (Oid, u64),
        incoming: Incoming,
    ) -> Result<ProofAnswer, TransferError> {
        self.inner.check_size(size_bytes)?;
        let caller = CallerKey::User(holder.user);
        let admitted = self.inner.transfer.admit(caller)?;
        let body = read_plain(self, incoming, recipe::MAX_BYTES as u64, "").await?;
        let (inner, handle, asked) = (Arc::clone(&self.inner), Handle::current(), holder.clone());
        let look = move |_: &Work| {
            let recipe = checked(&body, oid, size_bytes)?;
            if inner.is_linked(&handle, asked.repo, oid)? {
                return Ok(None);
            }
            let mut hashes: Vec<Hash> = recipe.chunks.iter().map(|(id, _)| *id.as_bytes()).collect();
            hashes.sort_unstable();
            hashes.dedup();
            let missing = handle.block_on(inner.db.missing_chunks(&asked, &hashes));
            match missing.map_err(LfsError::from)?.len() {
                0 => Ok(Some(recipe)),
                missing => Err(LfsError::MissingChunks { missing }.into()),
            }
        };
        let (recipe, admitted) = self.inner.transfer.compute(Kind::LargeFile, admitted, look).await?;
        let Some(recipe) = recipe else {
            return Ok(ProofAnswer::proven());
        };
        let name = (holder.repo, holder.user, oid);
        let begun = self.inner.proofs.begin(name);
        let (proof, is_new) = begun.ok_or(LfsError::BadRequest("Too many files are being proven.".into()))?;
        if is_new {
            let (files, running) = (self.clone(), Arc::clone(&proof));
            tokio::spawn(async move {
                let (inner, handle, counted) = (Arc::clone(&files.inner), Handle::current(), Arc::clone(&running));
                let prove = move |work: &Work| prove(&inner, &handle, holder.repo, &recipe, &counted, work);
                let proven = files.inner.transfer.compute(Kind::Proof, admitted, prove).await;
                running.end(proven.map(drop));
            });
        }
        self.inner.proofs.say(&name, &proof).await
    }

    /// How far the proof of an object is.
    ///
    /// # Errors
    /// [`LfsError::NotProving`], and why it failed.
    pub async fn proof(&self, repo: RepoId, user: UserId, oid: Oid) -> Result<ProofAnswer, TransferError> {
        self.inner.check_on()?;
        let name = (repo, user, oid);
        if let Some(proof) = self.inner.proofs.get(&name) {
            return self.inner.proofs.say(&name, &proof).await;
        }
        let linked = self.inner.db.linked_objects(repo, &[*oid.as_bytes()]).await;
        match linked.map_err(LfsError::from)?.is_empty() {
            false => Ok(ProofAnswer::proven()),
            true => Err(LfsError::NotProving(oid).into()),
        }
    }

    /// Takes a small object at once: a chunk pack with its recipe and all chunks that are not here.
    ///
    /// # Errors
    /// [`LfsError::BadPack`], [`LfsError::MissingChunks`], [`LfsError::WrongBytes`], and those of every transfer;
    /// then nothing is kept.
    pub async fn take_small(
        &self,
        holder: Holder,
        (oid, size_bytes): (Oid, u64),
        incoming: Incoming,
    ) -> Result<ProofAnswer, TransferError> {
        self.inner.check_size(size_bytes)?;
        if size_bytes > SMALL_BYTES {
            return Err(
                LfsError::BadRequest(format!("Only files of up to {SMALL_BYTES} bytes come in one request.")).into(),
            );
        }
        if incoming.coding != Coding::Plain {
            return Err(LfsError::BadPack("its chunks are compressed, and nothing else may be".into()).into());
        }
        let admitted = self.inner.transfer.admit(CallerKey::User(holder.user))?;
        let body = read_plain(self, incoming, SMALL_BODY_BYTES, "").await?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let work = move |work: &Work| {
            let folder = inner.transfer.tmp_dir();
            let pack = PackFile::read(folder, body.len() as u64, &mut body.as_slice(), work)?;
            small(&inner, &handle, &holder, (oid, size_bytes), pack, work)
        };
        self.inner.transfer.compute(Kind::LargeFile, admitted, work).await?;
        Ok(ProofAnswer::proven())
    }
}

impl Inner {
    fn check_size(&self, size_bytes: u64) -> Result<(), LfsError> {
        self.check_on()?;
        let limit_bytes = self.config.lfs.max_object_bytes;
        match size_bytes > limit_bytes {
            true => Err(LfsError::TooLarge {
                size_bytes,
                limit_bytes,
            }),
            false => Ok(()),
        }
    }

    fn is_linked(&self, handle: &Handle, repo: RepoId, oid: Oid) -> Result<bool, LfsError> {
        let found = handle.block_on(self.db.linked_objects(repo, &[*oid.as_bytes()]))?;
        Ok(!found.is_empty())
    }
}

/// A recipe that makes the object that it is sent for, as far as can be seen from it.
fn checked(bytes: &[u8], oid: Oid, size_bytes: u64) -> Result<Recipe, LfsError> {
    let wrong = |what: String| LfsError::WrongBytes { oid, what };
    let recipe = Recipe::parse(bytes).map_err(|error| wrong(format!("the recipe that came is wrong: {error}")))?;
    if recipe.oid != oid || recipe.size_bytes != size_bytes {
        return Err(wrong("the recipe that came makes another file".into()));
    }
    Ok(recipe)
}

/// Hashes what it is given, and listens to it.
struct Proving {
    whole: Sha256,
    listener: Listener,
}

impl Write for Proving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.whole.update(bytes);
        self.listener.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Proving {
    fn new() -> Self {
        Self {
            whole: Sha256::new(),
            listener: Listener::default(),
        }
    }

    /// Makes the object count if its bytes were those of its name.
    fn finish(self, mut packing: Packing<'_>, repo: RepoId, recipe: &Recipe) -> Result<(), TransferError> {
        let found = Oid::from_sha256(self.whole.finalize().into());
        let (inner, handle) = packing.home();
        let committed = if found == recipe.oid {
            packing.set_sound(self.listener.finish());
            packing.commit(repo, recipe)
        } else {
            Err(LfsError::WrongBytes {
                oid: recipe.oid,
                what: format!("the chunks of its recipe make {found}"),
            })
        };
        match committed {
            Ok(unneeded) => {
                remove(&inner.store, handle, unneeded);
                Ok(())
            }
            Err(error) => {
                packing.undo();
                Err(error.into())
            }
        }
    }
}

/// Reads all chunks of an object from the store, and makes it count. Blocks.
fn prove(
    inner: &Inner,
    handle: &Handle,
    repo: RepoId,
    recipe: &Recipe,
    proof: &Proof,
    work: &Work,
) -> Result<(), TransferError> {
    let mut proving = Proving::new();
    let mut reading = Reading::claimed(inner, handle, recipe.oid);
    for chunks in recipe.chunks.chunks(STEP_CHUNKS) {
        if inner.proofs.is_stopping.load(Ordering::Acquire) {
            return Err(LfsError::NotProving(recipe.oid).into());
        }
        let step_bytes = chunks.iter().map(|(_, raw_bytes)| u64::from(*raw_bytes)).sum();
        reading.send(chunks, 0..step_bytes, &mut proving, work)?;
        proof.proven_bytes.fetch_add(step_bytes, Ordering::Relaxed);
    }
    proving.finish(Packing::new(inner, handle), repo, recipe)
}

/// Takes a small object out of a pack that has come. Blocks.
fn small(
    inner: &Inner,
    handle: &Handle,
    holder: &Holder,
    (oid, size_bytes): (Oid, u64),
    mut file: PackFile,
    work: &Work,
) -> Result<(), TransferError> {
    let recipes: Vec<_> = file
        .rows
        .iter()
        .filter(|row| row.kind == pack::Kind::Recipe)
        .copied()
        .collect();
    let [row] = recipes.as_slice() else {
        return Err(LfsError::BadPack("it does not hold one recipe".into()).into());
    };
    let recipe = checked(&file.payload(row)?, oid, size_bytes)?;
    let mut own: HashMap<ChunkId, Vec<u8>> = HashMap::new();
    let mut raw_bytes = 0;
    file.prove(work, &mut |id, raw| {
        raw_bytes += raw.len() as u64;
        // What no file of this size can need is not kept in memory.
        if raw_bytes <= SMALL_BYTES {
            own.insert(id, raw.to_vec());
        }
    })?;
    let is_needed: std::collections::HashSet<ChunkId> = recipe.chunks.iter().map(|(id, _)| *id).collect();
    if raw_bytes > SMALL_BYTES || own.keys().any(|id| !is_needed.contains(id)) {
        return Err(LfsError::BadPack("it holds chunks that its file does not have".into()).into());
    }
    if inner.is_linked(handle, holder.repo, oid)? {
        return Ok(());
    }
    let others: Vec<Hash> = is_needed
        .iter()
        .filter(|id| !own.contains_key(*id))
        .map(|id| *id.as_bytes())
        .collect();
    let missing = handle.block_on(inner.db.missing_chunks(holder, &others));
    let missing = missing.map_err(LfsError::from)?.len();
    if missing > 0 {
        return Err(LfsError::MissingChunks { missing }.into());
    }
    let mut proving = Proving::new();
    let mut reading = Reading::claimed(inner, handle, oid);
    for entry in &recipe.chunks {
        match own.get(&entry.0) {
            Some(raw) if raw.len() == entry.1 as usize => proving.write_all(raw).map_err(TransferError::Answer)?,
            Some(_) => return Err(LfsError::BadPack(format!("chunk {} has another length", entry.0)).into()),
            None => reading.send(std::slice::from_ref(entry), 0..u64::from(entry.1), &mut proving, work)?,
        }
    }
    let stored = file.stored(inner, handle)?;
    let mut packing = Packing::new(inner, handle);
    let rows = std::mem::take(&mut file.rows);
    let is_new = |row: &&pack::Row| row.kind == pack::Kind::Chunk && !stored.contains(&row.name);
    let added = rows.iter().filter(is_new).try_for_each(|row| {
        let payload = file.payload(row)?;
        let id = ChunkId::from_sha256(row.name);
        Ok(packing.add_encoded(id, row.codec, row.raw_bytes as usize, &payload)?)
    });
    if let Err(error) = added {
        packing.undo();
        return Err(error);
    }
    proving.finish(packing, holder.repo, &recipe)
}
