//! How many bytes a repository, or the whole store, has and saves.

use std::collections::HashSet;

use lfs_protocol::Oid;
use lfs_protocol::recipe::Recipe;
use serde::Serialize;

use super::{Keeping, KeepingError};
use crate::db::{Db, Hash, LinkedObject};
use crate::names::RepoAddress;
use crate::service::lfs::{LfsError, recipe_of};

/// Objects that are listed at once.
const PAGE_OBJECTS: u32 = 500;
/// Chunks about which the database is asked at once.
const ASK_CHUNKS: usize = 2048;

/// Sums, in bytes: `logical = stored + saved_by_dedup + saved_by_codec` for a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// What the large files are to their owners.
    pub logical_bytes: u64,
    /// What the chunks that make them take in the store, each once.
    pub stored_bytes: u64,
    /// What was saved because a chunk is kept once.
    pub saved_by_dedup_bytes: u64,
    /// What was saved because chunks are stored in less space than they have.
    pub saved_by_codec_bytes: u64,
    /// What nothing needs, as far as the last mark knows.
    pub collectable_bytes: u64,
    /// How many large files are known to be damaged. One whose recipe cannot be read is in no other figure.
    pub damaged_objects: u64,
}

/// Chunks that were seen. The first 8 bytes of a hash are enough to tell them apart in a sum.
#[derive(Default)]
struct Seen(HashSet<[u8; 8]>);

impl Seen {
    /// Whether it is new.
    fn add(&mut self, chunk: &Hash) -> bool {
        chunk.first_chunk().is_some_and(|first| self.0.insert(*first))
    }
}

/// Adds chunks up.
struct Adding<'d> {
    db: &'d Db,
    waiting: Vec<Hash>,
    stored: u64,
}

impl Adding<'_> {
    async fn add(&mut self, chunk: Hash) -> Result<(), KeepingError> {
        self.waiting.push(chunk);
        if self.waiting.len() >= ASK_CHUNKS {
            self.ask().await?;
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<(), KeepingError> {
        let places = self.db.chunk_places(&self.waiting).await?;
        self.stored += places.values().map(|place| u64::from(place.stored_bytes)).sum::<u64>();
        self.waiting.clear();
        Ok(())
    }
}

impl Keeping {
    /// Sums over the large files of one repository. Reads the recipe of each.
    ///
    /// # Errors
    /// [`KeepingError`]
    pub async fn figures(&self, address: &RepoAddress) -> Result<Figures, KeepingError> {
        let repo = self.inner.repos.find(address).await?.id;
        let mut figures = Figures::default();
        let (mut seen, mut raw) = (Seen::default(), 0);
        // What something needs comes first, so that the rest is what only unreached objects need.
        for unreached in [false, true] {
            let mut adding = Adding {
                db: &self.inner.db,
                waiting: Vec::new(),
                stored: 0,
            };
            let mut after = None;
            loop {
                let page = self.inner.db.linked_page(repo, after.as_ref(), PAGE_OBJECTS).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.oid);
                for object in page.iter().filter(|object| object.is_unreached == unreached) {
                    let recipe = match self.recipe(object).await {
                        Ok(recipe) => recipe,
                        Err(KeepingError::Lfs(LfsError::Damaged { .. })) => {
                            figures.damaged_objects += 1;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    figures.logical_bytes += object.row.size_bytes;
                    figures.damaged_objects += u64::from(object.is_damaged);
                    for (chunk, raw_bytes) in recipe.chunks {
                        if seen.add(chunk.as_bytes()) {
                            raw += u64::from(raw_bytes);
                            adding.add(*chunk.as_bytes()).await?;
                        }
                    }
                }
            }
            adding.ask().await?;
            figures.stored_bytes += adding.stored;
            if unreached {
                figures.collectable_bytes = adding.stored;
            }
        }
        figures.saved_by_dedup_bytes = figures.logical_bytes - raw;
        figures.saved_by_codec_bytes = raw.saturating_sub(figures.stored_bytes);
        Ok(figures)
    }

    async fn recipe(&self, object: &LinkedObject) -> Result<Recipe, KeepingError> {
        let oid = Oid::from_sha256(object.oid);
        Ok(recipe_of(&self.inner.store, oid, &object.row).await?)
    }

    /// Sums over the whole store. Reads every row of a chunk, and no pack.
    ///
    /// # Errors
    /// [`KeepingError::Db`]
    pub async fn store_figures(&self) -> Result<Figures, KeepingError> {
        let sums = self.inner.db.store_sums().await?;
        Ok(Figures {
            logical_bytes: sums.logical,
            stored_bytes: sums.stored,
            saved_by_dedup_bytes: sums.logical.saturating_sub(sums.raw),
            saved_by_codec_bytes: sums.raw.saturating_sub(sums.stored),
            collectable_bytes: sums.collectable,
            damaged_objects: sums.damaged_object_count,
        })
    }
}
