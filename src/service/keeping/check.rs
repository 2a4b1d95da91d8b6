//! Large files are read, from refs to bytes. Nothing in the store is changed; what is damaged is noted, so that
//! the next upload of such a file brings it again.

use std::collections::{BTreeSet, HashMap, HashSet};

use lfs_protocol::codec::{Codec, Decoder};
use lfs_protocol::{ChunkId, Oid};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::{Keeping, KeepingError};
use crate::db::{Damage, Db, FramePlace, Hash, ObjectRow, PackRow, RecipePlace};
use crate::git::large_file_pointers;
use crate::names::RepoAddress;
use crate::service::lfs::{LfsError, recipe_of};
use crate::storage::{Key, Store};

/// Objects or packs that are listed at once.
const PAGE_ROWS: u32 = 500;
/// Chunks about which the database is asked at once.
const ASK_CHUNKS: usize = 256;

/// What is wrong, and which files need it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// As a sentence.
    pub what: String,
    /// `OWNER/NAME: OID PATH`; the path is missing where only older commits have the file.
    pub files: Vec<String>,
}

/// What a check of large files found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FilesReport {
    /// How many large files, or chunks for a scrub, were read.
    pub checked: u64,
    /// How many bytes they have.
    pub checked_bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// A part of all packs: those whose number leaves `number` when it is divided by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Which part, from 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

struct Checking {
    db: Db,
    store: Store,
    handle: Handle,
    decoder: Decoder,
    raw: Vec<u8>,
}

impl Checking {
    /// What is wrong with a stored chunk; its bytes are in `raw` if nothing is.
    fn chunk(&mut self, id: &Hash, place: &FramePlace) -> Option<String> {
        let key = Key::from_stored(place.key.clone());
        let range = place.start..place.start + u64::from(place.stored_bytes);
        let payload = match self.handle.block_on(self.store.read(&key, range)) {
            Ok(payload) => payload,
            Err(error) => return Some(error.to_string()),
        };
        let decoded = Codec::from_tag(place.codec).and_then(|codec| {
            self.decoder
                .decode(codec, &payload, place.raw_bytes as usize, &mut self.raw)
        });
        match decoded {
            Err(error) => Some(format!("in {key}: {error}")),
            Ok(()) if ChunkId::of(&self.raw).as_bytes() != id => Some(format!("in {key} it is not what it was")),
            Ok(()) => None,
        }
    }

    /// Reads an object; gives its chunks, and adds to `damage`.
    fn object(&mut self, oid: Oid, row: &ObjectRow, damage: &mut Damage) -> Result<Vec<Hash>, KeepingError> {
        let name = *oid.as_bytes();
        let recipe = match self.handle.block_on(recipe_of(&self.store, oid, row)) {
            Ok(recipe) => recipe,
            Err(LfsError::Damaged { .. } | LfsError::Storage(_)) => {
                damage.objects.push((name, None));
                // Which chunks it needs is not known; those around its recipe are the likely ones to be lost too.
                if let RecipePlace::InPack(place) = &row.recipe {
                    for (id, place) in self.handle.block_on(self.db.chunks_under(&place.key))? {
                        if let Some(wrong) = self.chunk(&id, &place) {
                            damage.chunks.push((id, wrong));
                        }
                    }
                }
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let (mut sha256, mut is_whole) = (Sha256::new(), true);
        let chunks: Vec<Hash> = recipe.chunks.iter().map(|(id, _)| *id.as_bytes()).collect();
        for some in chunks.chunks(ASK_CHUNKS) {
            let places = self.handle.block_on(self.db.chunk_places(some))?;
            for id in some {
                let wrong = match places.get(id) {
                    None => Some("the store does not know where it lies".to_owned()),
                    Some(place) => self.chunk(id, place),
                };
                match wrong {
                    None => sha256.update(&self.raw),
                    Some(wrong) => {
                        is_whole = false;
                        damage.chunks.push((*id, wrong));
                        damage.objects.push((name, Some(*id)));
                    }
                }
            }
        }
        if is_whole && <[u8; 32]>::from(sha256.finalize()) != name {
            damage.objects.push((name, None));
        }
        Ok(chunks)
    }

    /// Reads the chunks and recipes that should lie in a pack.
    fn pack(&mut self, pack: &PackRow, report: &mut FilesReport, damage: &mut Damage) -> Result<(), KeepingError> {
        for (id, place) in self.handle.block_on(self.db.chunks_under(&pack.key))? {
            report.checked += 1;
            report.checked_bytes += u64::from(place.raw_bytes);
            if let Some(wrong) = self.chunk(&id, &place) {
                damage.chunks.push((id, wrong));
            }
        }
        for (oid, row) in self.handle.block_on(self.db.recipes_in(pack.id))? {
            match self
                .handle
                .block_on(recipe_of(&self.store, Oid::from_sha256(oid), &row))
            {
                Ok(_) => {}
                Err(LfsError::Damaged { .. } | LfsError::Storage(_)) => damage.objects.push((oid, None)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Adds every object of the store that needs a damaged chunk.
    fn spread(&mut self, damage: &mut Damage) -> Result<(), KeepingError> {
        let damaged: HashSet<Hash> = damage.chunks.iter().map(|(chunk, _)| *chunk).collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = self.handle.block_on(self.db.object_page(after.as_ref(), PAGE_ROWS))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for (oid, row) in page {
                // One whose own recipe cannot be read is found when it is checked itself.
                let recipe = self
                    .handle
                    .block_on(recipe_of(&self.store, Oid::from_sha256(oid), &row));
                for (chunk, _) in recipe.map(|recipe| recipe.chunks).unwrap_or_default() {
                    if damaged.contains(chunk.as_bytes()) {
                        damage.objects.push((oid, Some(*chunk.as_bytes())));
                    }
                }
            }
        }
    }
}

impl Keeping {
    /// Checks the large files of a repository: every pointer that refs reach has an object, every object its
    /// recipe, chunks and bytes.
    ///
    /// # Errors
    /// [`KeepingError`] if the check itself cannot go on.
    pub async fn check_files(&self, address: &RepoAddress) -> Result<FilesReport, KeepingError> {
        let repo = self.inner.repos.find(address).await?;
        let mut report = FilesReport::default();
        let wanted = self
            .inner
            .repos
            .with_snapshot(&repo, |snapshot| {
                let mut wanted = HashMap::new();
                large_file_pointers::pointers(snapshot, &snapshot.all_tips(), &[], &mut || Ok(()), &mut |oid, size| {
                    wanted.insert(oid, size);
                })
                .map_err(|error| error.to_string())?;
                Ok(wanted)
            })
            .await?;
        let names: Vec<Hash> = wanted.keys().map(|oid| *oid.as_bytes()).collect();
        let mut absent = HashSet::new();
        for some in names.chunks(ASK_CHUNKS) {
            let found = self.inner.db.linked_objects(repo.id, some).await?;
            absent.extend(some.iter().filter(|oid| !found.contains_key(*oid)).copied());
        }
        let (inner, handle) = (self.inner.clone(), Handle::current());
        let done = tokio::task::spawn_blocking(move || {
            let mut checking = inner.checking(handle);
            let (mut damage, mut after) = (Damage::default(), None);
            let (mut checked, mut checked_bytes) = (0, 0);
            loop {
                let page = inner.db.linked_page(repo.id, after.as_ref(), PAGE_ROWS);
                let page = checking.handle.block_on(page)?;
                let Some(last) = page.last() else { break };
                after = Some(last.oid);
                for object in &page {
                    let before = damage.objects.len();
                    let chunks = checking.object(Oid::from_sha256(object.oid), &object.row, &mut damage)?;
                    checked += 1;
                    checked_bytes += object.row.size_bytes;
                    if object.is_damaged && damage.objects.len() == before {
                        let forget = inner.db.forget_damage(object.oid, chunks);
                        checking.handle.block_on(forget)?;
                    }
                }
            }
            checking.spread(&mut damage)?;
            Ok::<_, KeepingError>((damage, checked, checked_bytes))
        });
        let (damage, checked, checked_bytes) = done.await.map_err(|_| KeepingError::Ended)??;
        (report.checked, report.checked_bytes) = (checked, checked_bytes);
        report.problems = self.report(damage).await?;
        if !absent.is_empty() {
            let absent: HashSet<Oid> = absent.into_iter().map(Oid::from_sha256).collect();
            let what = format!(
                "commits of {address} need large files that were never pushed here; git lfs push --all from a clone that has them"
            );
            let files = self.files_in(repo.id, &absent).await?.into_iter().collect();
            report.problems.push(Problem { what, files });
        }
        Ok(report)
    }

    /// Reads a part of all chunk packs.
    ///
    /// # Errors
    /// [`KeepingError`] if the check itself cannot go on.
    pub async fn scrub(&self, subset: Subset) -> Result<FilesReport, KeepingError> {
        let (inner, handle) = (self.inner.clone(), Handle::current());
        let done = tokio::task::spawn_blocking(move || {
            let mut checking = inner.checking(handle);
            let (mut report, mut damage, mut after) = (FilesReport::default(), Damage::default(), 0);
            let of = i64::from(subset.of.max(1));
            loop {
                let page = checking.handle.block_on(inner.db.pack_page(after, PAGE_ROWS))?;
                let Some(last) = page.last() else { break };
                after = last.id;
                for pack in page.iter().filter(|pack| pack.id % of == i64::from(subset.number) % of) {
                    checking.pack(pack, &mut report, &mut damage)?;
                }
            }
            checking.spread(&mut damage)?;
            Ok::<_, KeepingError>((report, damage))
        });
        let (mut report, damage) = done.await.map_err(|_| KeepingError::Ended)??;
        report.problems = self.report(damage).await?;
        Ok(report)
    }

    /// Notes damage, and tells of it.
    async fn report(&self, damage: Damage) -> Result<Vec<Problem>, KeepingError> {
        self.inner.db.note_damage(damage.clone()).await?;
        let mut of_chunk: HashMap<Hash, (String, BTreeSet<Hash>)> = HashMap::new();
        for (chunk, what) in damage.chunks {
            let name = ChunkId::from_sha256(chunk);
            of_chunk.insert(chunk, (format!("chunk {name} is damaged: {what}"), BTreeSet::new()));
        }
        let mut problems = BTreeSet::new();
        for (oid, chunk) in damage.objects {
            match chunk.and_then(|chunk| of_chunk.get_mut(&chunk)) {
                Some((_, objects)) => {
                    objects.insert(oid);
                }
                None => {
                    let name = Oid::from_sha256(oid);
                    let files = self.files_of(&BTreeSet::from([oid])).await?;
                    problems.insert(Problem {
                        what: format!("the recipe of large file {name} is damaged"),
                        files,
                    });
                }
            }
        }
        for (what, objects) in of_chunk.into_values() {
            let files = self.files_of(&objects).await?;
            problems.insert(Problem { what, files });
        }
        Ok(problems.into_iter().collect())
    }

    /// Where objects lie, in all repositories.
    async fn files_of(&self, objects: &BTreeSet<Hash>) -> Result<Vec<String>, KeepingError> {
        let mut wanted: HashMap<crate::ids::RepoId, HashSet<Oid>> = HashMap::new();
        for oid in objects {
            for repo in self.inner.db.linking_repos(oid).await? {
                wanted.entry(repo).or_default().insert(Oid::from_sha256(*oid));
            }
        }
        let mut files = BTreeSet::new();
        for (repo, oids) in wanted {
            files.extend(self.files_in(repo, &oids).await?);
        }
        Ok(files.into_iter().collect())
    }

    async fn files_in(&self, repo: crate::ids::RepoId, oids: &HashSet<Oid>) -> Result<BTreeSet<String>, KeepingError> {
        let Some(row) = self.inner.db.repo_by_id(repo).await? else {
            return Ok(BTreeSet::new());
        };
        let wanted = oids.clone();
        let found = self.inner.repos.with_snapshot(&row, move |snapshot| {
            large_file_pointers::paths(snapshot, &snapshot.all_tips(), &wanted, &mut || Ok(()))
                .map_err(|error| error.to_string())
        });
        let mut files = BTreeSet::new();
        let mut pathless = oids.clone();
        for (oid, path) in found.await? {
            pathless.remove(&oid);
            files.insert(format!("{}: {oid} {path}", row.address));
        }
        files.extend(pathless.iter().map(|oid| format!("{}: {oid}", row.address)));
        Ok(files)
    }
}

impl super::Inner {
    fn checking(&self, handle: Handle) -> Checking {
        Checking {
            db: self.db.clone(),
            store: self.store.clone(),
            handle,
            decoder: Decoder::default(),
            raw: Vec::new(),
        }
    }
}
