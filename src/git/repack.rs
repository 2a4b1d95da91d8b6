//! Puts all objects of a repository into one pack.
//!
//! Nothing is dropped: objects that no ref reaches move into the new pack as well. Entries are
//! copied with their deltas; no new deltas are searched.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, PipeWriter};
use std::path::{Path, PathBuf};

use super::durable;
use super::emit::{EmitError, EmitOptions, PackObjects, emit};
use super::index_pack::{DELTAS_FOR_THREADS, IndexError, IndexLimits, index_pack};
use super::likely_bases::LikelyBases;
use super::object_store::{ObjectStore, Pos, StoreError};
use super::quarantine::Quarantine;
use super::snapshot::{OpenError, Repository};
use super::walk::Bits;
use super::work::{OtherThreads, Stopped, Tick};

/// Memory for delta bases while the new pack is indexed, in bytes.
const CACHE_BYTES: usize = 96 << 20;
/// Files that belong to one pack, in the order in which they are removed: what points to others first.
const PACK_EXTENSIONS: [&str; 6] = ["bitmap", "idx", "rev", "mtimes", "keep", "pack"];

/// What a repack did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepackReport {
    /// Objects in the new pack.
    pub objects: u32,
    /// Packs before.
    pub packs_before: usize,
    /// Loose objects before.
    pub loose_before: usize,
    /// Packs after; packs with a `.keep` file stay.
    pub packs_after: usize,
}

/// Why a repository could not be repacked. It is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepackError {
    /// Another repack of the same repository is running.
    #[error("the repository is being repacked already; wait for that to end")]
    Busy,
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its objects cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new pack could not be written.
    #[error("the new pack could not be written")]
    Emit(#[from] EmitError),
    /// The new pack could not be indexed.
    #[error("the new pack could not be indexed")]
    Index(#[from] IndexError),
    /// The new pack does not hold what it should.
    #[error("the new pack holds {found} objects instead of {expected}; nothing was changed")]
    Incomplete {
        /// Objects that should be in it.
        expected: u32,
        /// Objects that are.
        found: u32,
    },
    /// A file could not be worked on.
    #[error("{}: cannot be worked on", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Puts all objects of the repository into one pack and removes the packs and loose objects that
/// went into it. The new pack is durable before anything is removed; fetches and pushes go on.
///
/// # Errors
/// [`RepackError`]
pub fn repack(repository: &Repository, tick: Tick<'_>) -> Result<RepackReport, RepackError> {
    let _lock = lock(repository.path())?;
    let snapshot = repository.reload()?;
    let objects = &*snapshot.objects;
    let own = Own::find(objects, &repository.objects_dir());
    let mut report = RepackReport {
        objects: own.bits.count(),
        packs_before: objects.packs().len(),
        loose_before: own.loose.len(),
        packs_after: objects.packs().len(),
    };
    if own.packs.len() <= 1 && own.loose.is_empty() {
        return Ok(report);
    }

    let in_place = |source| RepackError::Io {
        path: repository.objects_dir(),
        source,
    };
    let quarantine = Quarantine::new(&repository.objects_dir()).map_err(in_place)?;
    let pack = write_pack(objects, &own.bits, &quarantine.pack_folder(), tick)?;
    let found = pack.objects;
    if found != report.objects {
        return Err(RepackError::Incomplete {
            expected: report.objects,
            found,
        });
    }
    let name = pack.file_name("pack");
    quarantine.migrate().map_err(in_place)?;

    for old in &own.packs {
        if old.file_name().is_some_and(|old| old.to_string_lossy() != name) {
            remove_pack(old)?;
            report.packs_after -= 1;
        }
    }
    report.packs_after += 1;
    remove_loose(&repository.objects_dir(), objects, &own.loose)?;
    repository.reload()?;
    Ok(report)
}

/// Holds off a second repack of the same repository, by whichever process.
fn lock(path: &Path) -> Result<File, RepackError> {
    let lock_path = path.join("auxin-repack.lock");
    let fail = |source| RepackError::Io {
        path: lock_path.clone(),
        source,
    };
    let file = File::create(&lock_path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RepackError::Busy),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// What lies in the repository itself, not in its alternates.
struct Own {
    bits: Bits,
    packs: Vec<PathBuf>,
    loose: Vec<Pos>,
}

impl Own {
    fn find(objects: &ObjectStore, objects_dir: &Path) -> Self {
        let mut own = Self {
            bits: Bits::new(objects.len()),
            packs: Vec::new(),
            loose: Vec::new(),
        };
        for (number, pack) in objects.packs().iter().enumerate() {
            if !pack.path().starts_with(objects_dir) || pack.path().with_extension("keep").exists() {
                continue;
            }
            own.packs.push(pack.path().to_owned());
            let start = objects.pack_start(number);
            for position in (start..start + pack.object_count()).map(Pos) {
                // The same object may lie in several packs; its position is that of the first.
                if let Some(position) = objects.position(&objects.id(position)) {
                    own.bits.set(position);
                }
            }
        }
        for position in (objects.loose_start()..objects.len()).map(Pos) {
            if loose_path(objects_dir, objects, position).exists() {
                own.loose.push(position);
                let id = objects.id(position);
                own.bits.set(objects.position(&id).unwrap_or(position));
            }
        }
        own
    }
}

/// Writes and indexes the new pack; both at once, so that the pack is checked as it is written.
fn write_pack(
    objects: &ObjectStore,
    bits: &Bits,
    folder: &Path,
    tick: Tick<'_>,
) -> Result<super::index_pack::IndexedPack, RepackError> {
    let (mut reader, writer) = io::pipe().map_err(|source| RepackError::Io {
        path: folder.to_owned(),
        source,
    })?;
    let limits = IndexLimits {
        max_pack_bytes: 0,
        max_objects: u32::MAX,
        max_object_bytes: u64::MAX,
        max_in_memory_bytes: u64::MAX,
        max_delta_object_bytes: u64::MAX,
        max_delta_depth: u32::MAX,
        delta_cache_bytes: CACHE_BYTES,
        threads: 1,
        deltas_for_threads: DELTAS_FOR_THREADS,
        other_threads: OtherThreads::default(),
    };
    std::thread::scope(|scope| {
        let emitter = scope.spawn(move || send(objects, bits, writer));
        let indexed = index_pack(
            &mut reader,
            folder,
            objects.hash(),
            &limits,
            &mut |_| None,
            &mut (),
            tick,
        );
        // Ends the writer if indexing failed.
        drop(reader);
        let sent = emitter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (indexed, sent) {
            (Ok(Some(pack)), Ok(())) => Ok(pack),
            (Ok(None), Ok(())) => Err(RepackError::Incomplete {
                expected: bits.count(),
                found: 0,
            }),
            (_, Err(error @ EmitError::Store(_))) => Err(error.into()),
            (Err(error), _) => Err(error.into()),
            (_, Err(error)) => Err(error.into()),
        }
    })
}

fn send(objects: &ObjectStore, bits: &Bits, pipe: PipeWriter) -> Result<(), EmitError> {
    let options = EmitOptions {
        thin: false,
        ofs_delta: true,
    };
    let nothing = Bits::new(objects.len());
    let mut out = BufWriter::with_capacity(1 << 20, pipe);
    let sent = PackObjects {
        send: bits,
        has: &nothing,
        bases: &LikelyBases::default(),
    };
    emit(objects, sent, &options, &mut out, &mut || Ok(()))?;
    io::Write::flush(&mut out).map_err(Stopped::Output)?;
    Ok(())
}

fn remove_pack(pack: &Path) -> Result<(), RepackError> {
    for extension in PACK_EXTENSIONS {
        remove(&pack.with_extension(extension))?;
    }
    Ok(())
}

fn remove_loose(objects_dir: &Path, objects: &ObjectStore, loose: &[Pos]) -> Result<(), RepackError> {
    for position in loose {
        let path = loose_path(objects_dir, objects, *position);
        remove(&path)?;
        // Folders that are empty now go as well; others stay.
        if let Some(folder) = path.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
    durable::sync_folder(objects_dir).map_err(|source| RepackError::Io {
        path: objects_dir.to_owned(),
        source,
    })
}

fn loose_path(objects_dir: &Path, objects: &ObjectStore, position: Pos) -> PathBuf {
    let id = objects.id(position).to_string();
    objects_dir.join(&id[..2]).join(&id[2..])
}

fn remove(path: &Path) -> Result<(), RepackError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RepackError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
