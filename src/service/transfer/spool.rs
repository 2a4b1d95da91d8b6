//! A fetch request, read to its end before it gets a turn: who sends slowly must not hold one.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::TransferError;
use super::conduit::BodyStream;

/// A request up to this length stays in memory, in bytes; a longer one goes to a file.
const IN_MEMORY_MAX_BYTES: usize = 256 << 10;

/// A whole request body.
pub(in crate::service) enum Spool {
    /// A short one.
    Memory(Cursor<Vec<u8>>),
    /// A long one.
    Disk(TempFile),
}

impl Spool {
    /// Reads `body` to its end. What does not fit into memory goes to a file in `folder`, which
    /// disappears with the spool.
    ///
    /// # Errors
    /// [`TransferError::TooLarge`] beyond `max_bytes`, [`TransferError::Silent`] when nothing comes
    /// for the time `silence`, [`TransferError::Body`] when the body breaks off.
    pub(in crate::service) async fn read(
        mut body: BodyStream,
        folder: &Path,
        max_bytes: u64,
        silence: Duration,
    ) -> Result<Self, TransferError> {
        let mut memory = Vec::new();
        let mut disk: Option<(tokio::fs::File, Removed)> = None;
        let mut total: u64 = 0;
        loop {
            let next = tokio::time::timeout(silence, body.next())
                .await
                .map_err(|_| TransferError::Silent {
                    secs: silence.as_secs(),
                })?;
            let Some(piece) = next else { break };
            let piece = piece.map_err(TransferError::Body)?;
            total = total.saturating_add(piece.len() as u64);
            if total > max_bytes {
                return Err(TransferError::TooLarge { max_bytes });
            }
            if disk.is_none() && memory.len() + piece.len() > IN_MEMORY_MAX_BYTES {
                let path = folder.join(format!("request-{}", Uuid::now_v7().simple()));
                let removed = Removed(path);
                let mut file = tokio::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&removed.0)
                    .await
                    .map_err(TransferError::Spool)?;
                file.write_all(&memory).await.map_err(TransferError::Spool)?;
                memory = Vec::new();
                disk = Some((file, removed));
            }
            match &mut disk {
                Some((file, _)) => file.write_all(&piece).await.map_err(TransferError::Spool)?,
                None => memory.extend_from_slice(&piece),
            }
        }
        let Some((mut file, removed)) = disk else {
            return Ok(Self::Memory(Cursor::new(memory)));
        };
        file.flush().await.map_err(TransferError::Spool)?;
        let mut file = file.into_std().await;
        file.rewind().map_err(TransferError::Spool)?;
        Ok(Self::Disk(TempFile {
            file,
            _removed: removed,
        }))
    }
}

impl Read for Spool {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => bytes.read(buf),
            Self::Disk(temp) => temp.file.read(buf),
        }
    }
}

/// A file that is gone when it is no longer needed.
pub(in crate::service) struct TempFile {
    file: File,
    _removed: Removed,
}

impl TempFile {
    /// An empty one in `folder`. Blocks.
    pub(in crate::service) fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("request-{}", Uuid::now_v7().simple()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self {
            file,
            _removed: Removed(path),
        })
    }

    /// The open file.
    pub(in crate::service) fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

/// Removes its file when dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "A temporary file stays behind");
        }
    }
}
