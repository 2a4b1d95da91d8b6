//! What lies in the store, and to which server it belongs.

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::{Key, PACKS, StorageError, Store, failed};

/// Names the server that the store belongs to.
const IDENTITY: &str = "instance-id";
/// Longest name of a server that is read, in bytes.
const MAX_IDENTITY_BYTES: u64 = 256;

/// An object that lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where.
    pub key: Key,
    /// Its length, in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock, in microseconds since 1970.
    pub written_at_us: i64,
}

impl Store {
    /// Every chunk pack in the store, in no order, each given to `each`.
    ///
    /// # Errors
    /// [`StorageError::Failed`]
    pub async fn list(&self, mut each: impl FnMut(Listed)) -> Result<(), StorageError> {
        let prefix = Path::from(PACKS);
        let mut found = self.objects.list(Some(&prefix));
        let folder = Key(PACKS.to_owned());
        while let Some(object) = found.try_next().await.map_err(failed(&folder))? {
            each(Listed {
                key: Key(object.location.to_string()),
                bytes: object.size,
                written_at_us: object.last_modified.timestamp_micros(),
            });
        }
        Ok(())
    }

    /// The instance id of the server that the store belongs to; `None` if none has claimed it.
    ///
    /// # Errors
    /// [`StorageError::Failed`]
    pub async fn identity(&self) -> Result<Option<String>, StorageError> {
        let key = Key(IDENTITY.to_owned());
        let found = match self.objects.head(&key.path()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(cause) => return Err(failed(&key)(cause)),
        };
        let bytes = self.read(&key, 0..found.size.min(MAX_IDENTITY_BYTES)).await?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// Claims the store for the server with this instance id.
    ///
    /// # Errors
    /// [`StorageError::Failed`]
    pub async fn claim(&self, instance_id: &str) -> Result<(), StorageError> {
        let key = Key(IDENTITY.to_owned());
        let bytes = Bytes::from(format!("{instance_id}\n"));
        self.objects
            .put(&key.path(), bytes.into())
            .await
            .map_err(failed(&key))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packs_are_listed_and_the_owner_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::on_disk(folder.path()).expect("a store");
        assert_eq!(store.identity().await.expect("answers"), None);
        store.claim("one").await.expect("claims");
        let mut writing = store.write().await.expect("begins");
        writing.add(b"abc").await.expect("adds");
        let key = writing.complete().await.expect("completes");

        let mut found = Vec::new();
        store.list(|object| found.push(object)).await.expect("lists");

        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].key, found[0].bytes), (&key, 3));
        assert!(found[0].written_at_us > 1_600_000_000_000_000);
        assert_eq!(store.identity().await.expect("answers").as_deref(), Some("one"));
    }
}
