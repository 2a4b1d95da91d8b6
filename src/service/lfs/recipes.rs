//! From the row of an object to its recipe.

use bytes::Bytes;
use lfs_protocol::Oid;
use lfs_protocol::codec::Codec;
use lfs_protocol::recipe::{self, Recipe};

use super::LfsError;
use crate::db::{ObjectRow, RecipePlace};
use crate::storage::{Key, Store};

/// The recipe of an object, which makes this object and no other.
///
/// # Errors
/// [`LfsError::Damaged`] if it does not, [`LfsError::Storage`].
pub(in crate::service) async fn recipe_of(store: &Store, oid: Oid, row: &ObjectRow) -> Result<Recipe, LfsError> {
    let damaged = |what: String| LfsError::Damaged { oid, what };
    let bytes: Bytes = match &row.recipe {
        RecipePlace::Here(bytes) => bytes.clone().into(),
        RecipePlace::InPack(place)
            if place.codec != Codec::Raw.tag() || place.raw_bytes as usize > recipe::MAX_BYTES =>
        {
            return Err(damaged("its recipe is stored in a way that is not known".into()));
        }
        RecipePlace::InPack(place) => {
            let key = Key::from_stored(place.key.clone());
            let range = place.start..place.start + u64::from(place.stored_bytes);
            store.read(&key, range).await?
        }
    };
    let recipe = Recipe::parse(&bytes).map_err(|error| damaged(format!("its recipe: {error}")))?;
    if recipe.oid != oid || recipe.size_bytes != row.size_bytes {
        return Err(damaged("its recipe makes another object".into()));
    }
    Ok(recipe)
}
