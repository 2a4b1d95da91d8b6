//! Copies a repository of this machine: what its refs reach goes into a new bare repository.
//!
//! As a fetch would, it takes objects through the pack writer and the indexer, so every object is
//! read, checked and named anew, objects of alternates come along, and rubbish stays behind. Nothing
//! of the source runs or is believed: not its hooks, not its config.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use gix::ObjectId;
use lfs_protocol::Oid;

use super::emit::EmitError;
use super::index_pack::{IndexError, IndexLimits, index_pack};
use super::large_file_pointers;
use super::plan::{PackRequest, plan};
use super::quarantine::Quarantine;
use super::ref_transaction::{RefStore, RefUpdate, ReflogIdentity, set_head};
use super::refs::{Head, Ref};
use super::repo_init::ObjectFormat;
use super::snapshot::{OpenError, Repository, Snapshot};
use super::walk::WalkError;
use crate::config::GitSettings;

/// Longest `.git` or `commondir` file, in bytes.
const POINTER_FILE_MAX_BYTES: u64 = 4096;

/// What a working copy has worth serving: its own branches, tags and notes, not what it remembers
/// of other repositories.
const OWN_REFS: [&[u8]; 3] = [b"refs/heads/", b"refs/tags/", b"refs/notes/"];

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Objects.
    pub objects: u32,
    /// Refs.
    pub refs: usize,
}

/// Why nothing was copied. Half of a copy may lie in the target, which no ref names.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no repository.
    #[error("there is no Git repository at {}", .0.display())]
    NotARepository(PathBuf),
    /// Its ids are of another kind than those of the target.
    #[error("its object format is {0}, that of the copy is not")]
    ObjectFormat(ObjectFormat),
    /// It cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its history is incomplete or damaged.
    #[error("its history is not whole (fetch what is missing, such as the rest of a partial clone): {0}")]
    Walk(#[from] WalkError),
    /// An object is damaged.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// An object is damaged, or beyond the limits of this server.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A ref could not be made.
    #[error("the ref {name} could not be made: {cause}")]
    Ref {
        /// Its name.
        name: BString,
        /// Why.
        cause: String,
    },
    /// The disk failed.
    #[error("reading or writing failed: {0}")]
    Io(#[from] io::Error),
}

/// The object format of the repository at `source`, bare or a working copy: that of a target for it.
///
/// # Errors
/// [`ImportError`] if there is none that can be read.
pub fn object_format(source: &Path) -> Result<ObjectFormat, ImportError> {
    let (git_dir, _) = find_git_dir(source)?;
    let snapshot = Repository::open(&git_dir, false)?.snapshot()?;
    Ok(ObjectFormat::of(snapshot.hash()))
}

/// Copies the repository at `source`, bare or a working copy, into the empty bare repository `target`,
/// durably. Of a working copy come branches, tags and notes; of a bare one all refs. Symbolic refs
/// other than `HEAD` stay behind.
///
/// The limits of pushes hold, but for the size of the whole.
///
/// # Errors
/// [`ImportError`]; `target` is then to be removed.
pub fn import(source: &Path, target: &Path, settings: &GitSettings) -> Result<Imported, ImportError> {
    let (git_dir, is_bare) = find_git_dir(source)?;
    let snapshot = Repository::open(&git_dir, false)?.snapshot()?;
    if Repository::open(target, false)?.snapshot()?.hash() != snapshot.hash() {
        return Err(ImportError::ObjectFormat(ObjectFormat::of(snapshot.hash())));
    }
    let refs = copied_refs(&snapshot, is_bare);
    let objects = copy_objects(&snapshot, &refs, target, settings)?;
    write_shallow(&snapshot, target)?;
    write_refs(&snapshot, &refs, target)?;
    if let Head::Symbolic { branch, .. } = snapshot.refs.head()
        && branch.starts_with(b"refs/heads/")
    {
        set_head(target, branch.as_bstr())?;
    }
    Ok(Imported {
        objects,
        refs: refs.len(),
    })
}

/// What a repository has of Git LFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeFiles {
    /// Where Git LFS keeps them there: the folder with `ab/cd/abcd…`.
    pub folder: PathBuf,
    /// Names and sizes, in bytes, of those that a copy will need, sorted.
    pub needed: Vec<(Oid, u64)>,
}

/// Which large files a copy of the repository at `source` will need.
///
/// # Errors
/// [`ImportError`] if its history cannot be read.
pub fn large_files(source: &Path) -> Result<LargeFiles, ImportError> {
    let (git_dir, is_bare) = find_git_dir(source)?;
    let snapshot = Repository::open(&git_dir, false)?.snapshot()?;
    let tips = tips(&snapshot, is_bare);
    let mut needed = BTreeMap::new();
    let mut each = |oid: Oid, size_bytes| {
        needed.insert(*oid.as_bytes(), (oid, size_bytes));
    };
    large_file_pointers::pointers(&snapshot, &tips, &[], &mut || Ok(()), &mut each)?;
    Ok(LargeFiles {
        folder: git_dir.join("lfs").join("objects"),
        needed: needed.into_values().collect(),
    })
}

/// Where some large files lie in the newest versions of the repository at `source`.
///
/// # Errors
/// [`ImportError`] if its history cannot be read.
pub fn large_file_paths(source: &Path, wanted: &HashSet<Oid>) -> Result<HashSet<(Oid, BString)>, ImportError> {
    let (git_dir, is_bare) = find_git_dir(source)?;
    let snapshot = Repository::open(&git_dir, false)?.snapshot()?;
    let tips = tips(&snapshot, is_bare);
    Ok(large_file_pointers::paths(&snapshot, &tips, wanted, &mut || Ok(()))?)
}

fn tips(snapshot: &Snapshot, is_bare: bool) -> Vec<ObjectId> {
    let mut tips: Vec<_> = copied_refs(snapshot, is_bare)
        .iter()
        .map(|found| found.target)
        .collect();
    tips.sort_unstable();
    tips.dedup();
    tips
}

fn copied_refs(snapshot: &Snapshot, is_bare: bool) -> Vec<&Ref> {
    let wanted = |found: &&Ref| {
        found.symref.is_none() && (is_bare || OWN_REFS.iter().any(|prefix| found.name.starts_with(prefix)))
    };
    snapshot.refs.all().iter().filter(wanted).collect()
}

/// The folder with the objects and refs of `path`, and whether it is a bare repository.
fn find_git_dir(path: &Path) -> Result<(PathBuf, bool), ImportError> {
    let inner = path.join(".git");
    if inner.is_dir() {
        return Ok((inner, false));
    }
    if inner.is_file() {
        // a linked working copy or a submodule
        let text = read_pointer(&inner)?;
        let named = text
            .strip_prefix("gitdir:")
            .ok_or_else(|| ImportError::NotARepository(path.to_owned()))?;
        let git_dir = path.join(named.trim());
        let common = git_dir.join("commondir");
        if common.is_file() {
            let shared = git_dir.join(read_pointer(&common)?.trim());
            return Ok((shared, false));
        }
        return Ok((git_dir, false));
    }
    if path.join("HEAD").is_file() && path.join("objects").is_dir() {
        let is_inner = path.file_name().is_some_and(|name| name == ".git");
        return Ok((path.to_owned(), !is_inner));
    }
    Err(ImportError::NotARepository(path.to_owned()))
}

fn read_pointer(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > POINTER_FILE_MAX_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    fs::read_to_string(file)
}

/// Sends the objects through a pipe, so that nothing is held or written twice.
fn copy_objects(snapshot: &Snapshot, refs: &[&Ref], target: &Path, settings: &GitSettings) -> Result<u32, ImportError> {
    let mut wants: Vec<ObjectId> = refs.iter().map(|found| found.target).collect();
    wants.sort_unstable();
    wants.dedup();
    if wants.is_empty() {
        return Ok(0);
    }
    let request = PackRequest {
        wants,
        ofs_delta: true,
        ..PackRequest::default()
    };
    let plan = plan(snapshot, &request, &mut || Ok(()))?;
    let limits = IndexLimits {
        max_pack_bytes: 0,
        max_inflated_bytes: 0,
        max_objects: u32::MAX,
        ..IndexLimits::of_push(settings)
    };
    let quarantine = Quarantine::new(&target.join("objects"))?;
    let (mut reader, writer) = io::pipe()?;
    let (sent, taken) = std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut writer = io::BufWriter::with_capacity(256 << 10, writer);
            plan.write_to(&mut writer, &mut || Ok(()))
                .and_then(|stats| match io::Write::flush(&mut writer) {
                    Ok(()) => Ok(stats),
                    Err(error) => Err(EmitError::Stopped(super::work::Stopped::Output(error))),
                })
        });
        let folder = quarantine.pack_folder();
        let taken = index_pack(
            &mut reader,
            &folder,
            snapshot.hash(),
            &limits,
            &mut |_| None,
            &mut (),
            &mut || Ok(()),
        );
        drop(reader); // so that the sender does not wait for a reader that has given up
        (sending.join(), taken)
    });
    let sent = sent.map_err(|_| io::Error::other("the thread that reads the source has crashed"))?;
    match (sent, taken) {
        (_, Ok(None)) => Ok(0),
        (Ok(_), Ok(Some(pack))) => {
            quarantine.migrate()?;
            Ok(pack.objects)
        }
        // Whoever failed first has broken the pipe for the other.
        (Err(EmitError::Stopped(_)), Err(error)) | (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), _) => Err(error.into()),
    }
}

/// A shallow source makes a shallow copy.
fn write_shallow(snapshot: &Snapshot, target: &Path) -> io::Result<()> {
    if snapshot.shallow.is_empty() {
        return Ok(());
    }
    let lines: String = snapshot.shallow.iter().map(|id| format!("{id}\n")).collect();
    let path = target.join("shallow");
    fs::write(&path, lines)?;
    super::durable::sync_file(&fs::File::open(path)?)?;
    super::durable::sync_folder(target)
}

fn write_refs(snapshot: &Snapshot, refs: &[&Ref], target: &Path) -> Result<(), ImportError> {
    let updates: Vec<RefUpdate> = refs
        .iter()
        .map(|found| RefUpdate {
            name: found.name.clone(),
            old: snapshot.hash().null(),
            new: found.target,
        })
        .collect();
    let peeled: std::collections::HashMap<ObjectId, ObjectId> = snapshot
        .refs
        .all()
        .iter()
        .filter_map(|found| Some((found.target, found.peeled?)))
        .collect();
    let store = RefStore {
        git_dir: target,
        reflogs: None,
        identity: &ReflogIdentity {
            name: String::new(),
            email: String::new(),
            at_secs: 0,
        },
        peel: &|id| peeled.get(id).copied(),
    };
    let results = store.apply(&updates, true, &mut ());
    for (update, result) in updates.into_iter().zip(results) {
        result.map_err(|error| ImportError::Ref {
            name: update.name,
            cause: error.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::git::repo_init;

    fn git(folder: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(folder)
            .args(["-c", "user.name=Anna", "-c", "user.email=anna@example.org"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .expect("git runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A working copy with two branches, an annotated tag, a remote-tracking ref and a stash.
    fn working_copy(folder: &Path) -> PathBuf {
        let path = folder.join("song");
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "trunk"]);
        fs::write(path.join("Take 1.wav"), b"sound").unwrap();
        git(&path, &["add", "."]);
        git(&path, &["commit", "-qm", "one"]);
        git(&path, &["tag", "-a", "v1", "-m", "mix"]);
        git(&path, &["branch", "idea"]);
        git(&path, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
        fs::write(path.join("Take 1.wav"), b"louder").unwrap();
        git(&path, &["stash", "-q"]);
        path
    }

    fn import_from(source: &Path, folder: &Path) -> Result<PathBuf, ImportError> {
        let target = folder.join("copy.git");
        let format = object_format(source).unwrap_or_default();
        repo_init::init(&target, "main", format).unwrap();
        import(source, &target, &GitSettings::default()).map(|_| target)
    }

    #[test]
    fn a_working_copy_brings_its_branches_and_tags_and_nothing_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let source = working_copy(folder.path());

        let copy = import_from(&source, folder.path()).unwrap();

        git(&copy, &["fsck", "--strict"]);
        assert_eq!(git(&copy, &["symbolic-ref", "HEAD"]), "refs/heads/trunk");
        let refs = git(&copy, &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(refs, "refs/heads/idea\nrefs/heads/trunk\nrefs/tags/v1");
        assert_eq!(git(&copy, &["rev-parse", "v1"]), git(&source, &["rev-parse", "v1"]));
        // the stash reached more than the branches do
        let objects = |path: &Path| {
            git(path, &["rev-list", "--objects", "--branches", "--tags"])
                .lines()
                .count()
        };
        assert_eq!(objects(&copy), objects(&source));
        let stored = git(&copy, &["count-objects", "-v"]);
        assert!(stored.contains(&format!("in-pack: {}", objects(&source))), "{stored}");
    }

    #[test]
    fn a_bare_repository_brings_all_refs_and_the_objects_of_its_alternates() {
        let folder = tempfile::tempdir().unwrap();
        let source = working_copy(folder.path());
        git(
            folder.path(),
            &["clone", "-q", "--bare", "--shared", "song", "bare.git"],
        );
        let bare = folder.path().join("bare.git");
        git(&bare, &["update-ref", "refs/odd/place", "HEAD"]);
        for n in 0..300 {
            git(&bare, &["update-ref", &format!("refs/tags/t{n}"), "HEAD"]);
        }

        let copy = import_from(&bare, folder.path()).unwrap();

        fs::remove_dir_all(source).unwrap();
        git(&copy, &["fsck", "--strict"]);
        let refs = git(&copy, &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(refs.lines().count(), 304);
        assert!(refs.contains("refs/odd/place"), "{refs}");
    }

    #[test]
    fn a_linked_working_copy_and_a_shallow_clone_are_taken_too() {
        let folder = tempfile::tempdir().unwrap();
        let source = working_copy(folder.path());
        git(&source, &["commit", "-qm", "two", "--allow-empty"]);
        git(&source, &["worktree", "add", "-q", "../linked", "idea"]);

        let copy = import_from(&folder.path().join("linked"), folder.path()).unwrap();
        assert_eq!(
            git(&copy, &["rev-parse", "trunk"]),
            git(&source, &["rev-parse", "trunk"])
        );
        fs::remove_dir_all(copy).unwrap();

        let url = format!("file://{}", source.display());
        git(folder.path(), &["clone", "-q", "--depth=1", &url, "shallow"]);
        let copy = import_from(&folder.path().join("shallow"), folder.path()).unwrap();
        git(&copy, &["fsck", "--strict"]);
        assert_eq!(git(&copy, &["rev-list", "--count", "trunk"]), "1");
    }

    #[test]
    fn hooks_and_config_of_the_source_stay_behind() {
        let folder = tempfile::tempdir().unwrap();
        let source = working_copy(folder.path());
        fs::write(source.join(".git/hooks/post-receive"), "#!/bin/sh\n").unwrap();
        git(&source, &["config", "core.hooksPath", "/somewhere/else"]);

        let copy = import_from(&source, folder.path()).unwrap();

        assert_eq!(fs::read_dir(copy.join("hooks")).unwrap().count(), 0);
        assert!(!fs::read_to_string(copy.join("config")).unwrap().contains("hooksPath"));
    }

    #[test]
    fn what_is_empty_damaged_or_no_repository_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            import_from(folder.path(), folder.path()),
            Err(ImportError::NotARepository(_))
        ));
        fs::remove_dir_all(folder.path().join("copy.git")).unwrap();

        git(folder.path(), &["init", "-q", "--bare", "empty.git"]);
        let copy = import_from(&folder.path().join("empty.git"), folder.path()).unwrap();
        assert_eq!(git(&copy, &["for-each-ref"]), "");
        fs::remove_dir_all(copy).unwrap();

        let source = working_copy(folder.path());
        let blob = git(&source, &["rev-parse", "trunk:Take 1.wav"]);
        fs::remove_file(source.join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
        let error = import_from(&source, folder.path()).unwrap_err();
        assert!(error.to_string().contains("not whole"), "{error}");
    }
}
