//! Chunk packs that clients bring. A pack waits in a temporary file until every byte of it is proven: its name, its
//! checksum, its index, and each frame by decoding it. What counts is a copy under a fresh key, made afterwards, of
//! those chunks that are not stored yet.

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use lfs_protocol::ChunkId;
use lfs_protocol::codec::{Decoder, MAX_RAW_BYTES};
use lfs_protocol::pack::{self, Row, TRAILER_BYTES, Trailer};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::ingest::{Packing, remove};
use super::{Inner, LargeFiles, LfsError};
use crate::db::{Hash, NewChunk, NewPack, US_PER_SEC};
use crate::git::work::Work;
use crate::ids::{RepoId, UserId};
use crate::service::transfer::spool::TempFile;
use crate::service::transfer::{Answer, CallerKey, Coding, Errors, Incoming, Kind, TransferError};

/// What is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;
/// Chunks about which the database is asked at once.
const ASK_CHUNKS: usize = 4096;

impl LargeFiles {
    /// Takes a chunk pack of `len_bytes` that is named by the SHA-256 of all of it, and answers when its chunks are
    /// proven and durable.
    ///
    /// # Errors
    /// [`LfsError::BadPack`], [`LfsError::TooLong`] and those of every transfer; then nothing is kept.
    pub async fn bring_pack(
        &self,
        (repo, user): (RepoId, UserId),
        sha256: Hash,
        len_bytes: u64,
        incoming: Incoming,
    ) -> Result<Answer, TransferError> {
        self.inner.check_on()?;
        if len_bytes > pack::MAX_BYTES {
            let (max_bytes, setting) = (pack::MAX_BYTES, "");
            return Err(LfsError::TooLong { max_bytes, setting }.into());
        }
        if incoming.coding != Coding::Plain {
            return Err(LfsError::BadPack("its chunks are compressed, and nothing else may be".into()).into());
        }
        let admitted = self.inner.transfer.admit(CallerKey::User(user))?;
        let (inner, handle) = (Arc::clone(&self.inner), Handle::current());
        let work = move |tools: crate::service::transfer::Tools<'_>| {
            let folder = inner.transfer.tmp_dir();
            let mut pack = PackFile::read(folder, len_bytes, tools.input, tools.work)?;
            if pack.sha256 != sha256 {
                return Err(LfsError::BadPack("its bytes are not those of its name".into()).into());
            }
            if pack.rows.iter().any(|row| row.kind != pack::Kind::Chunk) {
                return Err(LfsError::BadPack("it holds a recipe, which is sent by itself".into()).into());
            }
            pack.prove(tools.work, &mut |_, _| {})?;
            let packs = pack.store(&inner, &handle, tools.work)?;
            let keys: Vec<String> = packs.iter().map(|pack| pack.key.clone()).collect();
            let chunks = pack.rows.iter().map(|row| row.name).collect();
            let until_us = inner.db.now_us().saturating_add(brought_grace_us(&inner));
            let brought = handle.block_on(inner.db.bring_chunks((repo, user), until_us, packs, chunks));
            let outcome = match brought {
                Ok(Some(unneeded)) => {
                    remove(&inner.store, &handle, unneeded);
                    return tools.output.write_all(b"{}").map_err(TransferError::Answer);
                }
                Ok(None) => LfsError::Gone,
                Err(error) => error.into(),
            };
            remove(&inner.store, &handle, keys);
            Err(outcome.into())
        };
        let body = Some(incoming.body);
        self.inner
            .transfer
            .run(Kind::LargeFile, Errors::BreakOff, admitted, body, work)
            .await
    }
}

fn brought_grace_us(inner: &Inner) -> i64 {
    let secs = i64::try_from(inner.config.lfs.brought_grace_secs).unwrap_or(i64::MAX);
    secs.saturating_mul(US_PER_SEC)
}

/// A chunk pack that has arrived, in a temporary file.
pub(super) struct PackFile {
    file: TempFile,
    len_bytes: u64,
    sha256: Hash,
    /// Its frames as they follow each other.
    pub(super) rows: Vec<Row>,
}

impl PackFile {
    /// Reads one from a client, and looks at everything but its frames.
    pub(super) fn read(
        folder: &Path,
        len_bytes: u64,
        input: &mut dyn Read,
        work: &Work,
    ) -> Result<Self, TransferError> {
        let mut file = TempFile::create(folder).map_err(TransferError::Spool)?;
        let frames_end = len_bytes.saturating_sub(TRAILER_BYTES as u64);
        let mut hash = Sha256::new();
        let mut before_trailer = None;
        let mut buffer = vec![0; READ_BYTES];
        let mut got = 0;
        loop {
            let count = input.read(&mut buffer).map_err(TransferError::Body)?;
            if count == 0 {
                break;
            }
            check(work)?;
            let mut piece = &buffer[..count];
            file.file().write_all(piece).map_err(TransferError::Spool)?;
            if got <= frames_end && got + count as u64 >= frames_end {
                let (head, rest) = piece.split_at((frames_end - got) as usize);
                hash.update(head);
                before_trailer.get_or_insert_with(|| hash.clone());
                got += head.len() as u64;
                piece = rest;
            }
            hash.update(piece);
            got += piece.len() as u64;
            if got > len_bytes {
                break;
            }
        }
        if got != len_bytes {
            return Err(bad(format!("{got} bytes came, {len_bytes} were announced")).into());
        }
        let checksum: Option<Hash> = before_trailer.map(|hash| hash.finalize().into());
        let mut this = Self {
            file,
            len_bytes,
            sha256: hash.finalize().into(),
            rows: Vec::new(),
        };
        this.read_index(checksum)?;
        Ok(this)
    }

    fn read_index(&mut self, checksum: Option<Hash>) -> Result<(), TransferError> {
        let mut last = vec![0; TRAILER_BYTES.min(self.len_bytes as usize)];
        self.read_at(self.len_bytes - last.len() as u64, &mut last)?;
        let trailer = Trailer::parse(&last, self.len_bytes).map_err(bad)?;
        if checksum != Some(trailer.checksum) {
            return Err(bad("its checksum is another one").into());
        }
        let mut magic = [0; pack::MAGIC.len()];
        self.read_at(0, &mut magic)?;
        if magic != pack::MAGIC {
            return Err(bad("it is no chunk pack of a version that is known here").into());
        }
        let mut index = vec![0; trailer.index_bytes];
        self.read_at(trailer.index_offset, &mut index)?;
        self.rows = pack::parse_index(&index, &trailer).map_err(bad)?;
        self.rows.sort_by_key(|row| row.offset);
        // Nothing lies in it that nobody speaks of.
        let mut end = pack::MAGIC.len() as u64;
        for row in &self.rows {
            if u64::from(row.offset) != end {
                return Err(bad("its frames do not follow each other").into());
            }
            end += u64::from(row.stored_bytes);
            let is_chunk = row.kind == pack::Kind::Chunk;
            if is_chunk && (row.raw_bytes == 0 || row.raw_bytes as usize > MAX_RAW_BYTES) {
                return Err(bad("a chunk in it has a length that no chunk has").into());
            }
            if row.stored_bytes > row.raw_bytes {
                return Err(bad("a frame in it is longer than what it holds").into());
            }
        }
        if end != trailer.index_offset {
            return Err(bad("its frames do not reach its index").into());
        }
        Ok(())
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), TransferError> {
        let file = self.file.file();
        file.seek(SeekFrom::Start(at)).map_err(TransferError::Spool)?;
        file.read_exact(bytes).map_err(TransferError::Spool)
    }

    /// The payload of a frame.
    pub(super) fn payload(&mut self, row: &Row) -> Result<Vec<u8>, TransferError> {
        let mut payload = vec![0; row.stored_bytes as usize];
        self.read_at(u64::from(row.offset), &mut payload)?;
        Ok(payload)
    }

    /// Decodes every chunk, compares it with its name and gives it to `take`.
    pub(super) fn prove(&mut self, work: &Work, take: &mut dyn FnMut(ChunkId, &[u8])) -> Result<(), TransferError> {
        let (mut decoder, mut raw, mut payload) = (Decoder::default(), Vec::new(), Vec::new());
        let file = self.file.file();
        file.seek(SeekFrom::Start(pack::MAGIC.len() as u64))
            .map_err(TransferError::Spool)?;
        let mut frames = BufReader::with_capacity(4 * READ_BYTES, file);
        for row in &self.rows {
            check(work)?;
            payload.resize(row.stored_bytes as usize, 0);
            frames.read_exact(&mut payload).map_err(TransferError::Spool)?;
            if row.kind != pack::Kind::Chunk {
                continue;
            }
            let id = ChunkId::from_sha256(row.name);
            decoder
                .decode(row.codec, &payload, row.raw_bytes as usize, &mut raw)
                .map_err(|error| bad(format!("chunk {id}: {error}")))?;
            if ChunkId::of(&raw) != id {
                return Err(bad(format!("the bytes of chunk {id} are others")).into());
            }
            take(id, &raw);
        }
        Ok(())
    }

    /// Which of its chunks are in the store.
    pub(super) fn stored(&self, inner: &Inner, handle: &Handle) -> Result<HashSet<Hash>, LfsError> {
        let mut stored = HashSet::new();
        for rows in self.rows.chunks(ASK_CHUNKS) {
            let hashes: Vec<Hash> = rows.iter().map(|row| row.name).collect();
            stored.extend(handle.block_on(inner.db.stored_chunks(&hashes))?);
        }
        Ok(stored)
    }

    /// Brings those of its chunks into the store that are not there, durably. The packs have no rows yet.
    fn store(&mut self, inner: &Inner, handle: &Handle, work: &Work) -> Result<Vec<NewPack>, TransferError> {
        let stored = self.stored(inner, handle)?;
        let rows = std::mem::take(&mut self.rows);
        let made = if stored.is_empty() && !rows.is_empty() {
            self.copy(inner, handle, &rows, work).map(|pack| vec![pack])
        } else {
            let mut packing = Packing::new(inner, handle);
            let added = rows
                .iter()
                .filter(|row| !stored.contains(&row.name))
                .try_for_each(|row| {
                    check(work)?;
                    let payload = self.payload(row)?;
                    let id = ChunkId::from_sha256(row.name);
                    Ok(packing.add_encoded(id, row.codec, row.raw_bytes as usize, &payload)?)
                });
            match added {
                Ok(()) => packing.into_packs().map_err(TransferError::from),
                Err(error) => {
                    packing.undo();
                    Err(error)
                }
            }
        };
        self.rows = rows;
        made
    }

    /// Copies it as it is.
    fn copy(&mut self, inner: &Inner, handle: &Handle, rows: &[Row], work: &Work) -> Result<NewPack, TransferError> {
        let mut writing = handle.block_on(inner.store.write()).map_err(LfsError::from)?;
        let mut copy = || -> Result<(), TransferError> {
            let file = self.file.file();
            file.seek(SeekFrom::Start(0)).map_err(TransferError::Spool)?;
            let mut buffer = vec![0; 4 * READ_BYTES];
            loop {
                check(work)?;
                let count = file.read(&mut buffer).map_err(TransferError::Spool)?;
                if count == 0 {
                    return Ok(());
                }
                handle.block_on(writing.add(&buffer[..count])).map_err(LfsError::from)?;
            }
        };
        if let Err(error) = copy() {
            handle.block_on(writing.abort());
            return Err(error);
        }
        let key = handle.block_on(writing.complete()).map_err(LfsError::from)?;
        let chunks = rows.iter().map(|row| NewChunk {
            chunk: row.name,
            start: row.offset,
            stored_bytes: row.stored_bytes,
            raw_bytes: row.raw_bytes,
            codec: row.codec.tag(),
        });
        Ok(NewPack {
            key: key.as_str().to_owned(),
            bytes: self.len_bytes,
            sha256: self.sha256,
            chunks: chunks.collect(),
        })
    }
}

fn bad(what: impl ToString) -> LfsError {
    LfsError::BadPack(what.to_string())
}

fn check(work: &Work) -> Result<(), TransferError> {
    work.check()
        .map_err(|stopped| TransferError::Body(io::Error::other(stopped)))
}
