//! What the `.gitattributes` files of a commit say of a path: the root's, and those of all folders on the way.
//!
//! As in git, later lines and nearer files win, and only the root's file makes macros. What lies outside the
//! commit (`info/attributes`, a person's own settings) counts for nothing here.

use std::path::PathBuf;

use bstr::{BStr, BString, ByteSlice as _};
use gix::ObjectId;
use gix_attributes::search::{MetadataCollection, Outcome};
use gix_attributes::{Search, StateRef};

use super::object_store::{ObjectKind, Reader, StoreError};
use super::walk::tree_entries;

/// The file.
pub(super) const FILE_NAME: &str = ".gitattributes";
/// A longer one counts as empty, in bytes. Git reads up to 100 MiB; nobody writes so many rules.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Folders that a path may lie in; rules for what lies deeper are taken from the first ones.
const MAX_DEPTH: usize = 128;

/// A file of rules: its folder, which ends with `/` unless it is the root, and its blob.
type RuleFile = (BString, ObjectId);

/// Looks attributes up; remembers the rules of the last folder.
#[derive(Default)]
pub(super) struct Attributes {
    /// The root and the folder of the last look-up, and the files found there.
    last: Option<(ObjectId, BString)>,
    files: Vec<RuleFile>,
    search: Search,
    names: MetadataCollection,
    outcome: Outcome,
    buffer: Vec<u8>,
}

impl Attributes {
    /// The value of the attribute `filter` for a path of the commit with this root; `None` where it is unset,
    /// unspecified, or set without a value.
    ///
    /// # Errors
    /// [`StoreError`] if an object is damaged.
    pub(super) fn filter(
        &mut self,
        reader: &mut Reader<'_>,
        root: &ObjectId,
        path: &BStr,
    ) -> Result<Option<BString>, StoreError> {
        let folder = path.rfind_byte(b'/').map_or(&b""[..], |slash| &path[..slash]).as_bstr();
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(at, last)| at == root && last == folder);
        if !is_same {
            self.last = None;
            let files = self.files_on_the_way(reader, root, folder)?;
            if files != self.files {
                self.read(reader, &files)?;
                self.files = files;
            }
            self.last = Some((*root, folder.to_owned()));
        }
        if self.files.is_empty() {
            return Ok(None);
        }
        self.outcome.reset();
        let case = gix::glob::pattern::Case::Sensitive;
        self.search
            .pattern_matching_relative_path(path, case, Some(false), &mut self.outcome);
        let found = self.outcome.iter_selected().next();
        Ok(found.and_then(|found| match found.assignment.state {
            StateRef::Value(value) => Some(value.as_bstr().to_owned()),
            _ => None,
        }))
    }

    /// The files that count in a folder, the root's first.
    fn files_on_the_way(
        &mut self,
        reader: &mut Reader<'_>,
        root: &ObjectId,
        folder: &BStr,
    ) -> Result<Vec<RuleFile>, StoreError> {
        let mut files = Vec::new();
        let mut at = BString::default();
        let mut tree = *root;
        let mut names = folder.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        for _ in 0..MAX_DEPTH {
            let name = names.next();
            let (mut rules, mut next) = (None, None);
            match reader.read(&tree, &mut self.buffer)? {
                Some(object) if object.kind == ObjectKind::Tree => {
                    for entry in tree_entries(object.data, tree.kind().len_in_bytes()).map_while(Result::ok) {
                        if entry.name == FILE_NAME.as_bytes() && is_file(entry.mode) {
                            rules = Some(entry.id.to_owned());
                        } else if entry.is_tree() && Some(entry.name) == name {
                            next = Some(entry.id.to_owned());
                        }
                    }
                }
                _ => break,
            }
            files.extend(rules.map(|rules| (at.clone(), rules)));
            let (Some(name), Some(next)) = (name, next) else { break };
            at.extend_from_slice(name);
            at.push(b'/');
            tree = next;
        }
        Ok(files)
    }

    fn read(&mut self, reader: &mut Reader<'_>, files: &[RuleFile]) -> Result<(), StoreError> {
        (self.search, self.names, self.outcome) = Default::default();
        let builtin = (BString::default(), &b"[attr]binary -diff -merge -text"[..]);
        self.add(builtin.0.as_bstr(), builtin.1);
        for (folder, id) in files {
            match reader.header(id)? {
                Some((ObjectKind::Blob, bytes)) if bytes <= FILE_MAX_BYTES => {}
                _ => continue,
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            if let Some(object) = reader.read(id, &mut buffer)? {
                self.add(folder.as_bstr(), object.data);
            }
            self.buffer = buffer;
        }
        self.outcome.initialize_with_selection(&self.names, ["filter"]);
        Ok(())
    }

    fn add(&mut self, folder: &BStr, rules: &[u8]) {
        let mut source = folder.to_owned();
        source.extend_from_slice(FILE_NAME.as_bytes());
        // The only failure is a folder whose name this system cannot have in a path.
        let source = gix::path::from_bstring(source).unwrap_or_else(|_| PathBuf::from(FILE_NAME));
        let root = Some(std::path::Path::new(""));
        let added = self
            .search
            .add_patterns_buffer(rules, source, root, &mut self.names, folder.is_empty());
        if let Err(error) = added {
            tracing::debug!(%folder, %error, "rules of a folder are passed over");
        }
    }
}

/// A regular file, executable or not.
pub(super) fn is_file(mode: u32) -> bool {
    mode & 0o170_000 == 0o100_000
}

/// What lies at a path: its mode and its id.
///
/// # Errors
/// [`StoreError`] if an object is damaged.
pub(super) fn entry_at(
    reader: &mut Reader<'_>,
    root: &ObjectId,
    path: &BStr,
) -> Result<Option<(u32, ObjectId)>, StoreError> {
    let mut buffer = Vec::new();
    let mut found = (0o040_000, *root);
    for name in path.split(|byte| *byte == b'/') {
        let tree = found.1;
        let Some(object) = reader.read(&tree, &mut buffer)? else {
            return Ok(None);
        };
        if object.kind != ObjectKind::Tree {
            return Ok(None);
        }
        let mut entries = tree_entries(object.data, tree.kind().len_in_bytes()).map_while(Result::ok);
        match entries.find(|entry| entry.name == name) {
            Some(entry) => found = (entry.mode, entry.id.to_owned()),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}
