//! One file of a commit-graph.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use gix::hash::{Kind, ObjectId, oid};
use gix_commitgraph::file::Position;

use super::{GraphCommit, GraphError, GraphPos, MAX_LAYER_BYTES, MAX_PARENTS};
use crate::git::object_store::FileStamp;

/// Signature, version, hash function, number of chunks, number of layers below.
pub(super) const HEADER_BYTES: usize = 8;
/// An entry of the table of chunks: name and offset.
pub(super) const CHUNK_ENTRY_BYTES: usize = 12;
/// Corrected commit dates, as distances from the commit dates.
pub(super) const GENERATION_DATA: [u8; 4] = *b"GDA2";
/// Distances that do not fit there.
pub(super) const GENERATION_OVERFLOW: [u8; 4] = *b"GDO2";
/// A distance with this bit set is the number of an overflow entry.
pub(super) const OVERFLOW_MARK: u32 = 1 << 31;

/// One checked, mapped file.
pub(super) struct Layer {
    file: gix_commitgraph::File,
    stamp: FileStamp,
}

impl Layer {
    /// Opens and checks a file; `None` if there is none. A layer of a chain is given the checksums of
    /// the layers below and its own.
    pub fn open(
        path: &Path,
        hash: Kind,
        in_chain: Option<(&[ObjectId], &ObjectId)>,
        previous: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, GraphError> {
        let stamp = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > MAX_LAYER_BYTES => {
                return Err(GraphError::damaged(path, "it is larger than any commit-graph may be"));
            }
            Ok(metadata) => FileStamp::of(&metadata),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => {
                let path = path.to_owned();
                return Err(GraphError::Io { path, source });
            }
        };
        if let Some(known) = previous.filter(|known| known.stamp == stamp)
            && known.check_place(in_chain).is_ok()
        {
            return Ok(Some(known.clone()));
        }
        let damaged = |error: gix::error::Error| GraphError::damaged(path, error);
        let file = match gix_commitgraph::File::at(path) {
            Ok(file) => file,
            Err(_) if !path.exists() => return Ok(None),
            Err(error) => return Err(damaged(error)),
        };
        if file.object_hash() != hash {
            return Err(GraphError::damaged(path, "it is for another hash function"));
        }
        file.verify_checksum().map_err(damaged)?;
        let layer = Self { file, stamp };
        layer.check_place(in_chain)?;
        Ok(Some(Arc::new(layer)))
    }

    /// Whether it may stand where it stands.
    fn check_place(&self, in_chain: Option<(&[ObjectId], &ObjectId)>) -> Result<(), GraphError> {
        let (below, own) = match in_chain {
            Some((below, own)) => (below, Some(own)),
            None => (&[][..], None),
        };
        if own.is_some_and(|own| *own != self.file.checksum()) {
            return Err(GraphError::damaged(self.path(), "its name is not that of its checksum"));
        }
        let is_above = usize::from(self.file.base_graph_count()) == below.len()
            && self.file.iter_base_graph_ids().eq(below.iter().map(AsRef::as_ref));
        if !is_above {
            return Err(GraphError::damaged(self.path(), "it belongs upon other layers"));
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn checksum(&self) -> &oid {
        self.file.checksum()
    }

    pub fn len(&self) -> u32 {
        self.file.num_commits()
    }

    /// Number of a commit within this file.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.file.lookup(id).map(|position| position.0)
    }

    /// Numbers are below [`Layer::len`], here and in what follows.
    pub fn id(&self, at: u32) -> &oid {
        self.file.id_at(Position(at))
    }

    pub fn level(&self, at: u32) -> u32 {
        self.file.commit_at(Position(at)).generation()
    }

    /// Parents must be below `limit`.
    pub fn commit(&self, at: u32, limit: u32) -> Result<GraphCommit, GraphError> {
        let commit = self.file.commit_at(Position(at));
        let damaged = |detail: String| GraphError::damaged(self.path(), detail);
        let mut parents = Vec::new();
        for parent in commit.iter_parents() {
            let parent = parent.map_err(|error| damaged(error.to_string()))?;
            if parent.0 >= limit {
                return Err(damaged(format!("commit {} names a parent outside of it", commit.id())));
            }
            if parents.len() == MAX_PARENTS {
                return Err(damaged(format!("commit {} has too many parents", commit.id())));
            }
            parents.push(GraphPos(parent.0));
        }
        Ok(GraphCommit {
            tree: commit.root_tree_id().to_owned(),
            parents,
            // 34 bits.
            committed_at_secs: commit.committer_timestamp() as i64,
            level: commit.generation(),
        })
    }

    /// Corrected commit dates by number; `None` if the file has none.
    pub fn corrected_dates(&self) -> Result<Option<Vec<u64>>, GraphError> {
        let fail = |source| GraphError::Io {
            path: self.path().to_owned(),
            source,
        };
        let file = fs::File::open(self.path()).map_err(fail)?;
        if FileStamp::of(&file.metadata().map_err(fail)?) != self.stamp {
            return Err(GraphError::damaged(self.path(), "it was replaced while it was read"));
        }
        let Some(chunk) = self.chunk(&file, GENERATION_DATA).map_err(fail)? else {
            return Ok(None);
        };
        let damaged = |detail: &str| GraphError::damaged(self.path(), detail);
        if chunk.end - chunk.start != u64::from(self.len()) * 4 {
            return Err(damaged("the corrected commit dates are not as many as the commits"));
        }
        let distances = read_range(&file, chunk).map_err(fail)?;
        let overflow = match self.chunk(&file, GENERATION_OVERFLOW).map_err(fail)? {
            // Git writes at most one for each commit.
            Some(chunk) if chunk.end - chunk.start > u64::from(self.len()) * 8 => {
                return Err(damaged("more corrected commit dates overflow than there are commits"));
            }
            Some(chunk) => read_range(&file, chunk).map_err(fail)?,
            None => Vec::new(),
        };
        let overflow = overflow.as_chunks::<8>().0;
        let mut dates = Vec::with_capacity(self.len() as usize);
        for (at, distance) in (0..).zip(distances.as_chunks::<4>().0) {
            let distance = match u32::from_be_bytes(*distance) {
                distance if distance & OVERFLOW_MARK == 0 => u64::from(distance),
                number => {
                    let entry = overflow.get((number & !OVERFLOW_MARK) as usize);
                    u64::from_be_bytes(*entry.ok_or_else(|| damaged("a corrected commit date is missing"))?)
                }
            };
            let date = self.file.commit_at(Position(at)).committer_timestamp();
            dates.push(
                date.checked_add(distance)
                    .ok_or_else(|| damaged("a corrected commit date is too large"))?,
            );
        }
        Ok(Some(dates))
    }

    /// Where a chunk lies. The table was checked when the file was opened.
    fn chunk(&self, file: &fs::File, name: [u8; 4]) -> io::Result<Option<Range<u64>>> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let chunk_count = usize::from(header[6]);
        let mut table = vec![0; (chunk_count + 1) * CHUNK_ENTRY_BYTES];
        file.read_exact_at(&mut table, HEADER_BYTES as u64)?;
        let entries = table.as_chunks::<CHUNK_ENTRY_BYTES>().0;
        let offset = |entry: &[u8; CHUNK_ENTRY_BYTES]| {
            entry[4..]
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(entries
            .windows(2)
            .find(|pair| pair[0][..4] == name)
            .map(|pair| offset(&pair[0])..offset(&pair[1]))
            .filter(|range| range.start <= range.end))
    }
}

fn read_range(file: &fs::File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut content = vec![0; len];
    file.read_exact_at(&mut content, range.start)?;
    Ok(content)
}
