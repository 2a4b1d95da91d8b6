//! The file `packed-refs`: one ref a line, sorted, and after an annotated tag what it names.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use gix::ObjectId;

use crate::git::durable::{sync_file, sync_folder};

/// Name of the new file until it takes the place of the old one. Not git's `packed-refs.new`: one
/// left behind by a crash would stop git.
pub(super) const NEW_FILE: &str = "packed-refs.auxin-new";

/// First line of a file that says all there is to say.
const HEADER: &[u8] = b"# pack-refs with: peeled fully-peeled sorted \n";

/// One ref of the file.
struct Record {
    name: BString,
    id: ObjectId,
    /// The lines as they stand in the file, with that of what a tag names.
    lines: Vec<u8>,
}

/// The packed refs at one moment, sorted by name.
pub(super) struct PackedRefs {
    header: Vec<u8>,
    records: Vec<Record>,
}

impl PackedRefs {
    /// Reads the file of the repository at `git_dir`; none is an empty one.
    pub fn read(git_dir: &Path) -> io::Result<Self> {
        match std::fs::read(git_dir.join("packed-refs")) {
            Ok(content) => Self::parse(&content)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line of packed-refs is not a ref")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self {
                header: HEADER.to_vec(),
                records: Vec::new(),
            }),
            Err(error) => Err(error),
        }
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let mut header = Vec::new();
        let mut records: Vec<Record> = Vec::new();
        for line in content.lines_with_terminator() {
            if line.starts_with(b"#") {
                if records.is_empty() && line.starts_with(b"# pack-refs with:") {
                    header = line.to_vec();
                }
            } else if line.starts_with(b"^") {
                records.last_mut()?.lines.extend_from_slice(line);
            } else {
                let text = line.trim_end_with(|c| c == '\n' || c == '\r');
                let space = text.find_byte(b' ')?;
                let id = ObjectId::from_hex(&text[..space]).ok()?;
                let mut lines = line.to_vec();
                if !lines.ends_with(b"\n") {
                    lines.push(b'\n');
                }
                records.push(Record {
                    name: text[space + 1..].into(),
                    id,
                    lines,
                });
            }
        }
        if !records.is_sorted_by(|a, b| a.name < b.name) {
            records.sort_by(|a, b| a.name.cmp(&b.name));
            records.dedup_by(|a, b| a.name == b.name);
        }
        Some(Self { header, records })
    }

    /// What a ref names.
    pub fn find(&self, name: &BStr) -> Option<ObjectId> {
        let found = self.records.binary_search_by(|record| record.name.as_bstr().cmp(name));
        found.ok().map(|at| self.records[at].id)
    }

    /// The first ref below `folder`, whose name ends in a slash.
    pub fn first_below(&self, folder: &[u8]) -> Option<&BStr> {
        let at = self.records.partition_point(|record| record.name.as_slice() < folder);
        let name = self.records.get(at)?.name.as_bstr();
        name.starts_with(folder).then_some(name)
    }

    /// Takes refs out; tells whether any was in.
    pub fn remove(&mut self, names: &[&BStr]) -> bool {
        let names: std::collections::HashSet<&BStr> = names.iter().copied().collect();
        let before = self.records.len();
        self.records.retain(|record| !names.contains(record.name.as_bstr()));
        self.records.len() != before
    }

    /// Puts refs in: name, id, and what an annotated tag names in the end.
    pub fn put(&mut self, refs: impl Iterator<Item = (BString, ObjectId, Option<ObjectId>)>) {
        for (name, id, peeled) in refs {
            let mut lines = format!("{id} ").into_bytes();
            lines.extend_from_slice(&name);
            lines.push(b'\n');
            if let Some(peeled) = peeled {
                lines.extend_from_slice(format!("^{peeled}\n").as_bytes());
            }
            self.records.push(Record { name, id, lines });
        }
        // Stable: of two records of one name the later, which is new, must win.
        self.records.sort_by(|a, b| a.name.cmp(&b.name));
        self.records.dedup_by(|later, earlier| {
            let is_same = later.name == earlier.name;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
    }

    /// Puts the refs in the place of the file, durably and at once. The caller holds its lock.
    pub fn write(&self, git_dir: &Path) -> io::Result<()> {
        self.stage(git_dir)?.publish(git_dir)
    }

    /// Brings the refs to the disk beside the file, so that little can fail any more when they take
    /// its place. The caller holds its lock.
    pub fn stage(&self, git_dir: &Path) -> io::Result<Staged> {
        let staged = Staged(git_dir.join(NEW_FILE));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&staged.0)?;
        self.write_to(&file)?;
        sync_file(&file)?;
        Ok(staged)
    }

    fn write_to(&self, file: &File) -> io::Result<()> {
        let mut out = io::BufWriter::with_capacity(128 << 10, file);
        let is_sorted = self
            .header
            .split(|&byte| byte == b' ')
            .any(|word| word.trim() == b"sorted");
        if is_sorted {
            out.write_all(&self.header)?;
        } else if self.header.is_empty() {
            out.write_all(b"# pack-refs with: sorted \n")?;
        } else {
            // What an older git wrote says nothing of the order, which is kept here.
            out.write_all(self.header.trim_end())?;
            out.write_all(b" sorted \n")?;
        }
        for record in &self.records {
            out.write_all(&record.lines)?;
        }
        out.flush()
    }
}

/// A new file of packed refs that waits for its place; removed when dropped.
pub(super) struct Staged(PathBuf);

impl Staged {
    /// Puts it in its place, durably.
    pub fn publish(self, git_dir: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, git_dir.join("packed-refs"))?;
        sync_folder(git_dir)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Not there any more once it was published; one that stays is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> ObjectId {
        ObjectId::from_hex(digit.to_string().repeat(40).as_bytes()).expect("an id")
    }

    fn written(packed: &PackedRefs) -> String {
        let folder = tempfile::tempdir().expect("temporary folder");
        packed.write(folder.path()).expect("writes");
        std::fs::read_to_string(folder.path().join("packed-refs")).expect("readable")
    }

    #[test]
    fn refs_are_put_in_and_taken_out_and_the_rest_stays_as_it_was() {
        let (one, two, three) = (id('1'), id('2'), id('3'));
        let content =
            format!("# pack-refs with: peeled fully-peeled sorted \n{one} refs/heads/b\n{two} refs/tags/t\n^{one}\n");
        let mut packed = PackedRefs::parse(content.as_bytes()).expect("sound");

        packed.put(
            [
                ("refs/heads/a".into(), three, None),
                ("refs/heads/b".into(), two, None),
                ("refs/tags/v".into(), three, Some(one)),
            ]
            .into_iter(),
        );
        assert!(packed.remove(&["refs/tags/t".into()]));
        assert!(!packed.remove(&["refs/tags/none".into()]));

        let header = "# pack-refs with: peeled fully-peeled sorted \n";
        assert_eq!(
            written(&packed),
            format!("{header}{three} refs/heads/a\n{two} refs/heads/b\n{three} refs/tags/v\n^{one}\n")
        );
    }

    #[test]
    fn a_file_of_an_old_git_without_order_is_sorted_and_says_so() {
        let content = format!(
            "# pack-refs with: peeled \n{} refs/heads/b\n{} refs/heads/a\n",
            id('1'),
            id('2')
        );
        let packed = PackedRefs::parse(content.as_bytes()).expect("sound");

        assert_eq!(
            written(&packed),
            format!(
                "# pack-refs with: peeled sorted \n{} refs/heads/a\n{} refs/heads/b\n",
                id('2'),
                id('1')
            )
        );
        assert_eq!(packed.find("refs/heads/a".into()), Some(id('2')));
        assert_eq!(packed.first_below(b"refs/heads/"), Some("refs/heads/a".into()));
        assert_eq!(packed.first_below(b"refs/heads/a/"), None);
    }

    #[test]
    fn a_line_that_is_no_ref_is_an_error() {
        assert!(PackedRefs::parse(b"garbage\n").is_none());
        assert!(PackedRefs::parse(b"^1111111111111111111111111111111111111111\n").is_none());
    }
}
