//! The entry points that strangers reach, and what must hold whatever they are given.

use std::sync::LazyLock;

use auxin::config::GitSettings;
use auxin::git::bitmap::BitmapFile;
use auxin::git::bitmap::ewah::words_for;
use auxin::git::commit_graph::{CommitGraph, GraphPos};
use auxin::git::filter::{Filter, FilterLimits};
use auxin::git::index_pack::{IndexError, IndexLimits, index_pack};
use auxin::git::midx::Midx;
use auxin::git::object_store::ObjectKind;
use auxin::git::pkt_line::{Packet, PktReader};
use auxin::git::receive_pack::commands::{self, CommandLimits};
use auxin::git::repo_config::RepoConfig;
use auxin::git::rev;
use auxin::git::snapshot::Repository;
use auxin::git::spill::Content;
use auxin::git::upload_pack::{self, Protocol, UploadOptions};
use auxin::git::walk::{Bits, Walker};
use auxin::git::work::Work;
use auxin::git::{ObjectId, fsck};
use auxin::names::{OwnerName, RepoAddress, RepoName};
use gix::hash::Kind;
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::corpus;
use crate::support::wire;

/// Takes an input; panics if something does not hold.
type Check = dyn Fn(&[u8]);

/// One entry point.
pub struct Target {
    /// Name, also of the folder with kept inputs.
    pub name: &'static str,
    /// Inputs to begin with.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Takes an input; panics if something does not hold.
    pub run: Box<Check>,
}

/// A small repository that all inputs of a process share.
static REPOSITORY: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    corpus::repository(&folder.path().join("song.git"));
    folder
});

/// The same with SHA-256 ids.
static REPOSITORY_SHA256: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    corpus::repository_as(&folder.path().join("song.git"), "sha256");
    folder
});

/// Limits so small that inputs of a few kilobytes reach them.
fn limits() -> GitSettings {
    GitSettings {
        max_request_bytes: 64 << 10,
        max_wants: 50,
        max_haves: 50,
        max_shallows: 50,
        max_ref_prefixes: 20,
        max_commands: 50,
        max_command_bytes: 16 << 10,
        max_push_options: 10,
        max_push_bytes: 1 << 20,
        max_push_inflated_bytes: 8 << 20,
        max_compressed_push_bytes: 1 << 20,
        max_push_objects: 2_000,
        max_object_bytes: 1 << 20,
        max_in_memory_bytes: 1 << 20,
        max_delta_object_bytes: 1 << 20,
        max_delta_depth: 50,
        ..GitSettings::default()
    }
}

/// Reading pkt-lines: what was read is what is written again.
pub fn pkt_line() -> Target {
    Target {
        name: "pkt-line",
        corpus: corpus::pushes,
        run: Box::new(|input| {
            const LIMIT_BYTES: u64 = 8 << 10;
            let mut reader = PktReader::new(input, LIMIT_BYTES);
            let mut again = Vec::new();
            while let Ok(Some(packet)) = reader.next_packet() {
                match packet {
                    Packet::Flush => again.extend(b"0000"),
                    Packet::Delim => again.extend(b"0001"),
                    Packet::ResponseEnd => again.extend(b"0002"),
                    Packet::Data(data) => again.extend(wire::data(data)),
                }
            }
            assert!(again.len() as u64 <= LIMIT_BYTES);
            assert!(
                input[..again.len()].eq_ignore_ascii_case(&again),
                "something else was read than stands there"
            );
        }),
    }
}

/// A whole fetch: the answer is pkt-lines, or a raw pack after them in v0.
pub fn upload_pack() -> Target {
    let [repository, sha256] = [&REPOSITORY, &REPOSITORY_SHA256]
        .map(|folder| Repository::open(&folder.path().join("song.git"), true).expect("a sound repository"));
    let limits = limits();
    Target {
        name: "upload-pack",
        corpus: || {
            let mut all = corpus::fetches(&REPOSITORY.path().join("song.git"));
            all.extend(corpus::fetches(&REPOSITORY_SHA256.path().join("song.git")));
            all
        },
        run: Box::new(move |input| {
            let is_sha256 = input.windows(20).any(|window| window == b"object-format=sha256");
            let repository = if is_sha256 { &sha256 } else { &repository };
            let (version, mut body) = match input.split_first() {
                Some((first, rest)) => (first % 3, rest),
                None => (0, input),
            };
            let work = Work::unlimited();
            let options = UploadOptions {
                protocol: [Protocol::V0, Protocol::V1, Protocol::V2][version as usize],
                limits: &limits,
                grace_tips: &Vec::new,
                bundle_base: None,
                seen: None,
                work: &work,
            };
            let mut out = Vec::new();
            let result = upload_pack::serve(repository, &options, &mut body, &mut out);
            if version == 2 {
                wire::parse(&out).expect("an answer of whole pkt-lines");
            } else {
                let mut rest = out.as_slice();
                while !rest.is_empty() && !rest.starts_with(b"PACK") {
                    (_, rest) = wire::next(rest).expect("an answer of whole pkt-lines");
                }
            }
            if let Err(error) = result {
                assert!(!error.to_string().is_empty());
            }
        }),
    }
}

/// The list of commands of a push: within the limits, or refused.
pub fn commands() -> Target {
    let settings = limits();
    Target {
        name: "commands",
        corpus: corpus::pushes,
        run: Box::new(move |input| {
            let limits = CommandLimits::from(&settings);
            let body = input.get(1..).unwrap_or_default();
            let hash = match input.first() {
                Some(first) if first % 2 == 1 => Kind::Sha256,
                _ => Kind::Sha1,
            };
            if let Ok(found) = commands::parse(body, hash, &limits) {
                assert!(found.updates.len() <= limits.max_commands);
                assert!(
                    found
                        .options
                        .as_ref()
                        .is_none_or(|options| options.len() <= limits.max_options)
                );
                if let Some(certificate) = &found.certificate {
                    assert!(certificate.text.len() as u64 <= limits.max_bytes);
                    assert!(certificate.payload().len() <= certificate.text.len());
                    found.are_options_consistent();
                }
            }
        }),
    }
}

/// A pack into quarantine, its objects checked while it arrives: taken in whole or refused; what is taken
/// in, git reads. Thin packs are completed from a repository, deltas worked off by one thread or two.
pub fn pack() -> Target {
    pack_as("pack", Kind::Sha1, || {
        corpus::packs(&REPOSITORY.path().join("song.git"))
    })
}

/// The same for SHA-256 repositories.
pub fn pack_sha256() -> Target {
    pack_as("pack-sha256", Kind::Sha256, || {
        corpus::made_by_git(&REPOSITORY_SHA256.path().join("song.git"))
    })
}

fn pack_as(name: &'static str, hash: Kind, corpus: fn() -> Vec<Vec<u8>>) -> Target {
    let settings = limits();
    let place = match hash {
        Kind::Sha256 => &REPOSITORY_SHA256,
        _ => &REPOSITORY,
    };
    let repository = Repository::open(&place.path().join("song.git"), true).expect("a sound repository");
    let objects = repository.snapshot().expect("a sound repository").objects.clone();
    Target {
        name,
        corpus,
        run: Box::new(move |input| {
            let folder = tempfile::tempdir().expect("a folder for temporary files");
            // The input itself chooses, so that it fails the same way again.
            let choice = input
                .iter()
                .fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
            let mut limits = IndexLimits::of_push(&settings);
            limits.threads = 1 + usize::from(choice & 1);
            limits.deltas_for_threads = 1;
            if choice & 2 != 0 {
                limits.delta_cache_bytes = 1;
            }
            let mut rest = input;
            let mut reader = objects.reader(1 << 20);
            let mut bases = |id: &ObjectId| -> Option<(ObjectKind, Content)> {
                let position = objects.position(id)?;
                reader.content(position, &mut || Ok(())).ok()
            };
            let mut checker = fsck::Checker::new(std::sync::Arc::new(fsck::Rules::default()));
            let mut tick = || Ok(());
            let taken = index_pack(
                &mut rest,
                folder.path(),
                hash,
                &limits,
                &mut bases,
                &mut checker,
                &mut tick,
            );
            checker.finish(&mut |_| fsck::FoundBlob::Missing);
            assert!(checker.problems().len() < 10_000);
            match taken {
                Ok(Some(pack)) => {
                    assert!(pack.objects > 0);
                    let mut command = crate::support::GitProgram::first().command(folder.path());
                    let format = format!("--object-format={hash}");
                    command.arg("verify-pack").arg(format).arg(pack.file("idx"));
                    crate::support::run(&mut command).assert_ok();
                }
                Ok(None) => {}
                Err(error) => assert!(!IndexError::to_string(&error).is_empty()),
            }
        }),
    }
}

/// A commit-graph: refused, or read within its bounds; history is walked either way.
pub fn commit_graph() -> Target {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let bare = folder.path().join("song.git");
    corpus::repository(&bare);
    Target {
        name: "commit-graph",
        corpus: || corpus::commit_graphs(&REPOSITORY.path().join("song.git")),
        run: Box::new(move |input| {
            // Owned here: it lives as long as the target.
            let objects = folder.path().join("song.git/objects");
            std::fs::write(objects.join("info/commit-graph"), input).expect("a file can be written");
            match CommitGraph::open(&objects, Kind::Sha1, None) {
                Ok(graph) => {
                    let graph = graph.expect("the file is there");
                    let (content, sum) = input.split_at(input.len() - 20);
                    assert!(Sha1::digest(content)[..] == *sum, "a damaged file is believed");
                    for number in 0..graph.len() {
                        let id = graph.id(GraphPos(number)).expect("the number is within");
                        let _ = graph.position(id);
                        if let Ok(commit) = graph.commit(GraphPos(number)) {
                            assert!(commit.parents.iter().all(|parent| parent.0 < graph.len()));
                        }
                    }
                    let _ = graph.corrected_dates();
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            let repository = Repository::open(&bare, true).expect("a sound repository");
            let snapshot = repository.snapshot().expect("a sound repository");
            let mut reached = Bits::new(snapshot.objects.len());
            let mut ticks = 0;
            let walked = Walker::new(&snapshot.objects, &[], 1 << 20).add_commits(
                &snapshot.visible_tips(),
                &mut reached,
                &mut || {
                    ticks += 1;
                    assert!(ticks < 10, "a small history is walked for ever");
                    Ok(())
                },
            );
            if CommitGraph::open(&objects, Kind::Sha1, None).is_err() {
                walked.expect("the commits themselves are sound");
                assert_eq!(reached.count(), 11, "ten commits and a tag");
            }
        }),
    }
}

/// git's rules for objects: some answer for every content.
pub fn fsck() -> Target {
    Target {
        name: "fsck",
        corpus: corpus::objects,
        run: Box::new(|input| {
            let (kind, content) = match input.split_first() {
                Some((first, rest)) => (first % 4, rest),
                None => (0, input),
            };
            let kind = [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag][kind as usize];
            let mut checker = fsck::Checker::new(std::sync::Arc::new(fsck::Rules::strict()));
            let id = ObjectId::from_hex(b"1111111111111111111111111111111111111111").expect("an id");
            checker.check(&id, kind, content);
            checker.finish(&mut |_| fsck::FoundBlob::Content(content.to_vec()));
            assert!(checker.problems().len() < 10_000);
        }),
    }
}

/// Names: what is accepted is safe as a path and is written as it was read.
pub fn names() -> Target {
    Target {
        name: "names",
        corpus: corpus::names,
        run: Box::new(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            for name in [
                OwnerName::parse(text).ok().map(|name| name.as_str().to_owned()),
                RepoName::parse(text).ok().map(|name| name.as_str().to_owned()),
            ]
            .into_iter()
            .flatten()
            {
                assert_eq!(name, text);
                assert!(!name.is_empty() && name.len() <= 255);
                assert!(!name.starts_with(['.', '-']) && !name.ends_with('.'));
                assert!(!name.contains("..") && !name.to_lowercase().ends_with(".lock"));
                assert!(!name.to_lowercase().ends_with(".git"));
                assert!(name.chars().all(|letter| !letter.is_control()));
                assert!(!name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|', '~', '^', ' ', '\0']));
                assert!(std::path::Path::new(&name).components().count() == 1);
            }
            if let Ok(address) = RepoAddress::parse(text) {
                let again = RepoAddress::parse(&address.to_string()).expect("what is written is read again");
                assert!(again == address);
            }
        }),
    }
}

/// The settings file: read, or every mistake with its place.
pub fn settings() -> Target {
    Target {
        name: "settings",
        corpus: || {
            let template = auxin::config::template();
            let plain = template.replace("\n# ", "\n").replace("\n#", "\n");
            vec![
                template.into_bytes(),
                plain.into_bytes(),
                b"[server]\nlisten = \"127.0.0.1:1\"\n".to_vec(),
            ]
        },
        run: Box::new(|input| {
            let text = String::from_utf8_lossy(input);
            let env = vec![("AUXIN_GIT__MAX_WANTS".to_owned(), text.chars().take(40).collect())];
            for env in [&[][..], &env] {
                if let Err(errors) = auxin::config::parse(&text, env, &[]) {
                    assert!(!errors.is_empty());
                }
            }
        }),
    }
}

/// A repository's own config.
pub fn repo_config() -> Target {
    Target {
        name: "repo-config",
        corpus: corpus::repo_configs,
        run: Box::new(|input| {
            for trusted in [false, true] {
                if let Ok(config) = RepoConfig::parse(input, trusted) {
                    config.hidden_from_upload(b"refs/heads/main");
                    config.hidden_from_receive(input);
                    config.allows_filter("tree");
                }
            }
        }),
    }
}

/// A filter: within its limits, or refused with its name.
pub fn filter() -> Target {
    Target {
        name: "filter",
        corpus: corpus::filters,
        run: Box::new(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            let limits = FilterLimits {
                max_depth: 8,
                max_bytes: 1 << 10,
                max_parts: 16,
                max_pattern_bytes: 1 << 10,
                max_patterns: 16,
            };
            match Filter::parse(text, limits) {
                Ok(filter) => {
                    assert!(text.len() <= 1 << 10);
                    filter.names();
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }),
    }
}

/// An input as a file of its own.
fn as_file(folder: &TempDir, input: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join("input");
    // A new file each time: the last one may still be mapped.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, input).expect("a file can be written");
    path
}

/// How many objects the repository has; bitmaps and reverse indexes of the corpus are over all.
fn object_count() -> u32 {
    static COUNT: LazyLock<u32> = LazyLock::new(|| {
        let objects = crate::support::repositories::objects(&REPOSITORY.path().join("song.git"));
        u32::try_from(objects.len()).expect("a small repository")
    });
    *COUNT
}

/// A bitmap file: no object that does not exist, and nothing changes where an error comes.
pub fn bitmap() -> Target {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let count = object_count();
    Target {
        name: "bitmap",
        corpus: || corpus::bitmaps(&REPOSITORY.path().join("song.git")),
        run: Box::new(move |input| {
            let owner = input.get(12..32).unwrap_or(&[0; 20]);
            let owner = ObjectId::from_bytes_or_panic(owner);
            match BitmapFile::open(&as_file(&folder, input), &owner, count) {
                Err(error) => assert!(!error.to_string().is_empty()),
                Ok(file) => {
                    let mut all = vec![0; words_for(count)];
                    for entry in file.entries() {
                        let before = all.clone();
                        if file.reach(entry, &mut all).is_err() {
                            assert_eq!(all, before);
                        }
                    }
                    for kind in [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag] {
                        let _ = file.type_bits(kind, &mut all);
                    }
                    let behind = all.last().map_or(0, |last| last.checked_shr(count % 64).unwrap_or(0));
                    assert!(count.is_multiple_of(64) || behind == 0, "an object that does not exist");
                    let hashes = file.name_hashes().expect("a file that can be read");
                    assert!(hashes.is_none_or(|hashes| hashes.len() == count as usize));
                }
            }
        }),
    }
}

/// A reverse index: as many positions as there are objects, and none beyond.
pub fn rev() -> Target {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let count = object_count();
    Target {
        name: "rev",
        corpus: || corpus::reverse_indexes(&REPOSITORY.path().join("song.git")),
        run: Box::new(move |input| {
            let owner = input
                .len()
                .checked_sub(40)
                .and_then(|start| input.get(start..start + 20));
            let owner = ObjectId::from_bytes_or_panic(owner.unwrap_or(&[0; 20]));
            match rev::read(&as_file(&folder, input), count, &owner) {
                Err(error) => assert!(!error.to_string().is_empty()),
                Ok(positions) => {
                    assert_eq!(positions.len(), count as usize);
                    assert!(positions.iter().all(|position| *position < count));
                }
            }
        }),
    }
}

/// A multi-pack-index: every object in a pack that there is, and its order has each object once.
pub fn multi_pack() -> Target {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    Target {
        name: "multi-pack",
        corpus: || corpus::multi_pack_indexes(&REPOSITORY.path().join("song.git")),
        run: Box::new(move |input| {
            let midx = match Midx::open(&as_file(&folder, input), Kind::Sha1) {
                Ok(midx) => midx,
                Err(error) => return assert!(!error.to_string().is_empty()),
            };
            let count = midx.object_count();
            for position in 0..count {
                midx.position(midx.id(position));
                if let Ok((pack, _)) = midx.location(position) {
                    assert!((pack as usize) < midx.pack_names().len());
                }
            }
            if let Ok(Some(order)) = midx.pack_order() {
                let mut positions = order.positions;
                positions.sort_unstable();
                assert!(positions.into_iter().eq(0..count), "not each object once");
            }
        }),
    }
}
