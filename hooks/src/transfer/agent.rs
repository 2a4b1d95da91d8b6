//! One process of the agent: objects one after the other.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use lfs_protocol::{Chunking, Oid};

use super::download;
use super::lines::{self, Action, Failure, Mover, Progress};
use super::local::Storage;
use super::remote::Remote;
use super::settings::Settings;
use super::upload::{self, Upload};
use super::with;

/// Answers `git lfs` until it has nothing more.
///
/// # Errors
/// If a pipe breaks or something else than the protocol comes in.
pub fn run(input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    lines::serve(input, out, &mut Agent::default())
}

#[derive(Default)]
struct Agent {
    /// The repository of the last object; the next one is nearly always in the same.
    remote: Option<Remote>,
    /// Once something was downloaded.
    storage: Option<Storage>,
    /// Repositories that the server may look into, for the address of a transfer.
    with: Option<(String, String)>,
}

impl Agent {
    fn remote(&mut self, action: Action) -> Result<&mut Remote, Failure> {
        let known = self.remote.take().filter(|remote| remote.is_for(&action));
        let mut remote = match known {
            Some(remote) => remote,
            None => Remote::open(&action, &Settings::of(Remote::base_of(&action)?)?)?,
        };
        remote.take(action);
        Ok(self.remote.insert(remote))
    }
}

impl Mover for Agent {
    fn upload(
        &mut self,
        oid: Oid,
        size_bytes: u64,
        path: &Path,
        action: Action,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let base = Remote::base_of(&action)?.to_owned();
        let with = match self.with.take().filter(|(known, _)| *known == base) {
            Some((_, with)) => with,
            None => with::query(&base)?,
        };
        let with = self.with.insert((base, with)).1.clone();
        let remote = self.remote(action)?;
        let upload = Upload {
            oid,
            size_bytes,
            path,
            temporary: &temporary(path),
            takes: taken(remote),
            with: &with,
        };
        let recipe = upload::run(&upload, remote, progress)?;
        if let Some(lfs) = lfs_folder(path) {
            Storage::at(lfs.to_owned()).note(&recipe);
        }
        Ok(())
    }

    fn download(
        &mut self,
        oid: Oid,
        size_bytes: u64,
        action: Action,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Failure> {
        let mut storage = match self.storage.take() {
            Some(storage) => storage,
            None => {
                let storage = Storage::here()?;
                storage.tidy();
                storage
            }
        };
        let got = self
            .remote(action)
            .and_then(|remote| download::run(oid, size_bytes, remote, &mut storage, progress));
        if let Ok((_, recipe)) = &got {
            storage.note(recipe);
        }
        self.storage = Some(storage);
        got.map(|(path, _)| path)
    }
}

/// The folder of `git lfs` in which an object lies, at `objects/ab/cd/abcd…`.
fn lfs_folder(path: &Path) -> Option<&Path> {
    path.ancestors()
        .nth(3)
        .filter(|folder| folder.ends_with("objects"))?
        .parent()
}

/// The folder for temporary files beside an object; the system's for files elsewhere.
fn temporary(path: &Path) -> PathBuf {
    lfs_folder(path).map_or_else(std::env::temp_dir, |lfs| lfs.join("tmp"))
}

/// The ways of cutting that the server takes.
fn taken(remote: &Remote) -> Vec<Chunking> {
    let versions = remote.header("auxin-chunking").unwrap_or_default().split(',');
    versions
        .filter_map(|version| Chunking::from_version(version.trim().parse().ok()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_lie_beside_the_objects() {
        assert_eq!(
            temporary(Path::new("/a/.git/lfs/objects/ab/cd/abcd")),
            Path::new("/a/.git/lfs/tmp")
        );
        assert_eq!(temporary(Path::new("/a/b/c/d/e")), std::env::temp_dir());
        assert_eq!(temporary(Path::new("e")), std::env::temp_dir());
    }
}
