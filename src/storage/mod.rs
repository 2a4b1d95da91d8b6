//! The object store: immutable objects under keys that are never used twice; the only place that knows
//! `object_store`.
//!
//! A key carries a fresh random id. What lies under it is told by rows of the database, which are written
//! after the object; so what nobody speaks of is rest and may go.

mod listing;
mod s3;

use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _};
use uuid::Uuid;

pub use self::listing::Listed;

/// What is given to the store at once, in bytes.
const PART_BYTES: usize = 5 << 20;
/// What `object_store` puts behind the name of a file until it is complete.
const UNFINISHED: char = '#';
/// The folder of chunk packs.
const PACKS: &str = "packs";

/// Why the object store failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The folder cannot be used.
    #[error("{}: cannot be used as an object store", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        cause: object_store::Error,
    },
    /// The bucket cannot be used.
    #[error(
        "{url}: cannot be used as an object store; the address is s3://BUCKET or s3://BUCKET/PREFIX, keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Bucket {
        /// Its address.
        url: String,
        /// What is wrong, if more is known.
        #[source]
        cause: Option<object_store::Error>,
    },
    /// An object is not there.
    #[error("{0}: not in the object store; restore it from a backup")]
    Missing(Key),
    /// An object could not be written or read.
    #[error("{key}: the object store failed")]
    Failed {
        /// The object.
        key: Key,
        /// What is wrong.
        #[source]
        cause: object_store::Error,
    },
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// One that nobody has ever used.
    fn fresh() -> Self {
        let id = Uuid::now_v7().simple().to_string();
        // The last digits are random, the first are the time.
        let fan = &id[id.len() - 2..];
        Self(format!("{PACKS}/{fan}/{id}.pack"))
    }

    /// One that was stored as text.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn path(&self) -> Path {
        Path::from(self.0.as_str())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: Place,
}

/// Where a store is.
#[derive(Clone, Debug)]
enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket.
    Bucket,
}

impl Store {
    /// A folder of this machine; what was written is on the disk when a write returns.
    ///
    /// # Errors
    /// [`StorageError::Folder`]
    pub fn on_disk(folder: &FsPath) -> Result<Self, StorageError> {
        let local = LocalFileSystem::new_with_prefix(folder).map_err(|cause| StorageError::Folder {
            path: folder.to_owned(),
            cause,
        })?;
        Ok(Self {
            objects: Arc::new(local.with_fsync(true)),
            place: Place::Folder(folder.to_owned()),
        })
    }

    /// Removes what a killed process was writing; in a bucket that is for a rule of the bucket. For the start of a server, before anything is written; blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn sweep(&self) -> io::Result<()> {
        let Place::Folder(folder) = &self.place else {
            return Ok(());
        };
        let mut folders = vec![folder.join(PACKS)];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let is_unfinished = entry.file_name().to_string_lossy().contains(UNFINISHED);
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if is_unfinished {
                    std::fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Begins an object under a fresh key. Nothing is there until [`Writing::complete`].
    ///
    /// # Errors
    /// [`StorageError::Failed`]
    pub async fn write(&self) -> Result<Writing, StorageError> {
        let key = Key::fresh();
        Ok(Writing {
            objects: Arc::clone(&self.objects),
            key,
            upload: None,
            buffer: BytesMut::new(),
        })
    }

    /// A part of an object.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.objects.get_range(&key.path(), range).await.map_err(failed(key))
    }

    /// Removes an object; one that is not there is as good.
    ///
    /// # Errors
    /// [`StorageError::Failed`]
    pub async fn remove(&self, key: &Key) -> Result<(), StorageError> {
        match self.objects.delete(&key.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(cause) => Err(failed(key)(cause)),
        }
    }
}

fn failed(key: &Key) -> impl Fn(object_store::Error) -> StorageError {
    move |cause| match cause {
        object_store::Error::NotFound { .. } => StorageError::Missing(key.clone()),
        cause => StorageError::Failed {
            key: key.clone(),
            cause,
        },
    }
}

/// An object that is being written; it is aborted by [`Writing::abort`], and never appears if it is dropped.
pub struct Writing {
    objects: Arc<dyn ObjectStore>,
    key: Key,
    /// Begun with the first part; what fits one is put at once.
    upload: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
}

impl Writing {
    /// Where it will lie.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`StorageError::Failed`]
    pub async fn add(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), StorageError> {
        let failed = failed(&self.key);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.objects.put_multipart(&self.key.path()).await.map_err(&failed)?),
        };
        upload
            .put_part(self.buffer.split().freeze().into())
            .await
            .map_err(&failed)
    }

    /// Puts it into the store, durably.
    ///
    /// # Errors
    /// [`StorageError::Failed`]; then it is not there.
    pub async fn complete(mut self) -> Result<Key, StorageError> {
        if self.upload.is_some() && !self.buffer.is_empty() {
            self.send().await?;
        }
        match &mut self.upload {
            Some(upload) => upload.complete().await.map_err(failed(&self.key))?,
            None => {
                let whole = self.buffer.split().freeze();
                let put = self.objects.put(&self.key.path(), whole.into()).await;
                put.map_err(failed(&self.key))?
            }
        };
        Ok(self.key)
    }

    /// Throws it away.
    pub async fn abort(mut self) {
        let Some(upload) = &mut self.upload else { return };
        if let Err(error) = upload.abort().await {
            tracing::warn!(key = %self.key, %error, "An unfinished object stays behind in the store");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_appears_whole_and_only_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::on_disk(folder.path()).expect("a store");
        let mut writing = store.write().await.expect("begins");
        let key = writing.key().clone();
        for part in 0..3_u8 {
            writing.add(&vec![part; PART_BYTES - 1]).await.expect("adds");
        }
        assert!(matches!(store.read(&key, 0..1).await, Err(StorageError::Missing(_))));

        assert_eq!(writing.complete().await.expect("completes"), key);

        let around = PART_BYTES as u64 - 3..PART_BYTES as u64 + 1;
        assert_eq!(store.read(&key, around).await.expect("reads")[..], [0, 0, 1, 1]);
        assert_eq!(Key::from_stored(key.as_str().to_owned()), key);
        store.remove(&key).await.expect("removes");
        store.remove(&key).await.expect("is gone already");
        assert!(matches!(store.read(&key, 0..1).await, Err(StorageError::Missing(_))));
    }

    #[tokio::test]
    async fn what_is_aborted_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::on_disk(folder.path()).expect("a store");
        let mut writing = store.write().await.expect("begins");
        writing.add(&vec![1; 2 * PART_BYTES]).await.expect("adds");
        writing.abort().await;
        let files = |folder: &FsPath| {
            let mut left = vec![folder.to_owned()];
            let mut files = Vec::new();
            while let Some(path) = left.pop() {
                match std::fs::read_dir(&path) {
                    Ok(entries) => left.extend(entries.map(|entry| entry.expect("an entry").path())),
                    Err(_) => files.push(path),
                }
            }
            files
        };
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
        assert!(matches!(
            Store::on_disk(&folder.path().join("absent")),
            Err(StorageError::Folder { .. })
        ));
    }

    #[tokio::test]
    async fn what_a_killed_process_was_writing_is_swept_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::on_disk(folder.path()).expect("a store");
        store.sweep().expect("there is nothing yet");
        let mut whole = store.write().await.expect("begins");
        whole.add(b"whole").await.expect("adds");
        let whole = whole.complete().await.expect("completes");
        let mut half = store.write().await.expect("begins");
        half.add(&vec![1; 2 * PART_BYTES]).await.expect("adds");
        let path = folder.path().join(half.key().as_str());
        // As if the process were gone: nobody aborts it.
        std::mem::forget(half);
        let beside = |path: &FsPath| {
            std::fs::read_dir(path.parent().expect("a folder"))
                .expect("lists")
                .count()
        };
        let before = beside(&path);

        store.sweep().expect("sweeps");

        assert_eq!(beside(&path), before - 1);
        assert_eq!(store.read(&whole, 0..5).await.expect("reads")[..], b"whole"[..]);
    }

    #[test]
    fn keys_are_never_the_same() {
        let keys: std::collections::HashSet<String> = (0..1000).map(|_| Key::fresh().0).collect();
        assert_eq!(keys.len(), 1000);
    }
}
