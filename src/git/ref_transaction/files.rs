//! Loose refs and the folders they lie in.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use gix::ObjectId;

/// What a ref holds.
pub(super) enum Value {
    Missing,
    Id(ObjectId),
    Symbolic(BString),
}

/// Reads a loose ref; `None` if there is no such file.
pub(super) fn read_loose(path: &Path) -> io::Result<Option<Value>> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let content = content.trim_end();
    if let Some(target) = content.strip_prefix(b"ref:") {
        return Ok(Some(Value::Symbolic(target.trim_start().into())));
    }
    ObjectId::from_hex(content)
        .map(|id| Some(Value::Id(id)))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "neither an id nor the name of a ref"))
}

/// Names that are folders of `name`, without `refs`: `refs/heads`, `refs/heads/a` for `refs/heads/a/b`.
pub fn above(name: &BStr) -> impl Iterator<Item = &BStr> {
    name.find_iter(b"/").skip(1).map(|at| name[..at].as_bstr())
}

/// Makes a folder and those above it; the new ones are added to `made`.
pub(super) fn make_folders(folder: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => {
            made.push(folder.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(above) = folder.parent() else {
                return Err(error);
            };
            make_folders(above, made)?;
            make_folders(folder, made)
        }
        Err(error) => Err(error),
    }
}

/// Removes a folder that holds nothing but empty folders; otherwise the path of a file in it.
pub(super) fn remove_empty_tree(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut stack = vec![(path.to_owned(), false)];
    while let Some((path, is_visited)) = stack.pop() {
        if is_visited {
            match std::fs::remove_dir(&path) {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        }
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error),
        };
        stack.push((path, true));
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                return Ok(Some(entry.path()));
            }
            stack.push((entry.path(), false));
        }
    }
    Ok(None)
}

/// Removes the folders of `name` below `root` that are empty, but not `refs/heads` and its like.
pub(super) fn remove_empty_folders(root: &Path, name: &BStr) {
    let folders: Vec<&BStr> = above(name).skip(1).collect();
    for folder in folders.into_iter().rev() {
        if std::fs::remove_dir(root.join(OsStr::from_bytes(folder.as_bytes()))).is_err() {
            break;
        }
    }
}
