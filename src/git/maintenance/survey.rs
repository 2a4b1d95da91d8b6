//! What a look at a repository's folder tells, without opening a pack: what maintenance is due.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::own::{self, Role};
use super::state::State;
use crate::config::MaintenanceSettings;
use crate::git::bundle;

/// Where the number of objects stands in an index of version 2 and in one of version 1, in bytes.
const COUNT_AT: (u64, u64) = (8 + 255 * 4, 255 * 4);
/// Magic of an index of version 2.
const INDEX_MAGIC: [u8; 4] = [0xff, b't', b'O', b'c'];
/// The clone pack is made anew when what lies beside it is more than this part of it.
const BESIDE_PART: u64 = 8;
/// So many objects in plain packs are much, however few packs they are in.
const MANY_OBJECTS: u64 = 10_000;
/// A repository without a clone pack gets one from this number of objects on, even if they lie in one pack.
const FIRST_OBJECTS: u64 = 500;
/// What is left over is tidied up after this time, in seconds.
const DAY_SECS: u64 = 24 * 60 * 60;

/// One pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFile {
    /// The `.pack` file.
    pub path: PathBuf,
    /// What it is there for.
    pub role: Role,
    /// Objects in it.
    pub objects: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it has a bitmap.
    pub has_bitmap: bool,
}

impl PackFile {
    /// Its name without an ending.
    pub fn stem(&self) -> String {
        self.path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }
}

/// A repository's folder at one moment.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Its own packs.
    pub packs: Vec<PackFile>,
    /// Loose objects.
    pub loose_objects: u64,
    /// Their size in bytes.
    pub loose_bytes: u64,
    /// Whether there is a multi-pack-index.
    pub has_multi_pack_index: bool,
    /// Whether there is a commit-graph.
    pub has_commit_graph: bool,
    /// Whether there is a bundle for clones to begin with.
    pub has_bundle: bool,
    /// What the last maintenance remembered.
    pub state: State,
}

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Small packs and loose objects are joined.
    Joining,
    /// All is put in order: clone pack, bitmaps, unreachable objects.
    Order,
}

impl Survey {
    /// Looks at the repository at `git_dir`. Costs a few system calls per pack and loose folder.
    ///
    /// # Errors
    /// The disk's.
    pub fn of(git_dir: &Path) -> io::Result<Self> {
        let objects = git_dir.join("objects");
        let mut survey = Self {
            has_multi_pack_index: objects.join("pack/multi-pack-index").exists(),
            has_commit_graph: objects.join("info/commit-graph").exists()
                || objects.join("info/commit-graphs/commit-graph-chain").exists(),
            has_bundle: bundle::exists(&bundle::folder(git_dir))?,
            state: State::read(git_dir),
            ..Self::default()
        };
        for path in entries(&objects.join("pack"))? {
            if path.extension().is_some_and(|extension| extension == "idx") {
                survey.packs.extend(pack_file(&path)?);
            }
        }
        survey
            .packs
            .sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        for folder in entries(&objects)? {
            let name = folder
                .file_name()
                .map(|name| name.as_encoded_bytes().to_vec())
                .unwrap_or_default();
            if name.len() != 2 || !name.iter().all(u8::is_ascii_hexdigit) {
                continue;
            }
            for path in entries(&folder)? {
                if let Ok(data) = fs::metadata(&path) {
                    survey.loose_objects += 1;
                    survey.loose_bytes += data.len();
                }
            }
        }
        Ok(survey)
    }

    /// The clone pack, if it is there.
    pub fn clone_pack(&self) -> Option<&PackFile> {
        self.named(self.state.clone_pack.as_deref()?)
    }

    /// The pack of what only other refs reach, if there is one.
    pub fn other_pack(&self) -> Option<&PackFile> {
        self.named(self.state.other_pack.as_deref()?)
    }

    fn named(&self, stem: &str) -> Option<&PackFile> {
        self.packs.iter().find(|pack| pack.stem() == stem)
    }

    /// Packs that are not where they belong yet.
    pub fn plain_packs(&self) -> impl Iterator<Item = &PackFile> {
        let settled = [self.state.clone_pack.as_deref(), self.state.other_pack.as_deref()];
        self.packs
            .iter()
            .filter(move |pack| pack.role == Role::Plain && !settled.contains(&Some(pack.stem().as_str())))
    }

    /// Whether the repository is large enough for a bundle and has none.
    pub fn lacks_bundle(&self) -> bool {
        !self.has_bundle && self.clone_pack().is_some()
    }

    /// Size of all packs and loose objects, in bytes.
    pub fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes).sum::<u64>() + self.loose_bytes
    }

    /// Objects that lie beside the packs that maintenance made.
    pub fn objects_beside(&self) -> u64 {
        self.plain_packs().map(|pack| pack.objects).sum::<u64>() + self.loose_objects
    }

    /// What is to be done now. `is_pushed_to`: refs have moved since it was looked at last.
    pub fn due(&self, settings: &MaintenanceSettings, is_pushed_to: bool) -> Due {
        if self.packs.iter().any(|pack| pack.role == Role::Promisor) {
            return Due::Nothing;
        }
        let (plain, beside) = (self.plain_packs().count(), self.objects_beside());
        let is_much =
            plain >= settings.min_packs || self.loose_objects >= settings.min_loose_objects || beside >= MANY_OBJECTS;
        let age_secs = now_secs().saturating_sub(self.state.finished_at_secs);
        let has_rest = beside > 0 || is_pushed_to || self.packs.iter().any(|pack| pack.role == Role::Unreachable);
        match self.clone_pack() {
            None if is_much || beside >= FIRST_OBJECTS => Due::Order,
            Some(clone) if is_much && beside.saturating_mul(BESIDE_PART) >= clone.objects => Due::Order,
            Some(_) if has_rest && age_secs >= DAY_SECS => Due::Order,
            Some(_) if is_much => Due::Joining,
            _ => Due::Nothing,
        }
    }
}

pub(super) fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Reads about the pack of an index; `None` if it vanished.
fn pack_file(index: &Path) -> io::Result<Option<PackFile>> {
    let path = index.with_extension("pack");
    let count = File::open(index).and_then(|file| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 0)?;
        let at = if bytes == INDEX_MAGIC { COUNT_AT.0 } else { COUNT_AT.1 };
        file.read_exact_at(&mut bytes, at)?;
        Ok(u32::from_be_bytes(bytes))
    });
    match (count, fs::metadata(&path)) {
        (Ok(count), Ok(data)) => Ok(Some(PackFile {
            role: own::role(&path),
            objects: u64::from(count),
            bytes: data.len(),
            has_bitmap: path.with_extension("bitmap").exists(),
            path,
        })),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Entries of a folder; none if it does not exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(name: &str, objects: u64, role: Role) -> PackFile {
        PackFile {
            path: PathBuf::from(format!("pack-{name}.pack")),
            role,
            objects,
            bytes: 100 * objects,
            has_bitmap: false,
        }
    }

    fn survey(packs: Vec<PackFile>) -> Survey {
        Survey {
            packs,
            state: State {
                clone_pack: Some("pack-clone".to_owned()),
                finished_at_secs: now_secs(),
                ..State::default()
            },
            ..Survey::default()
        }
    }

    #[test]
    fn a_few_small_packs_are_left_alone_and_many_are_joined() {
        let settings = MaintenanceSettings::default();
        let mut packs = vec![pack("clone", 100_000, Role::Plain)];
        packs.extend((1..settings.min_packs).map(|number| pack(&number.to_string(), 3, Role::Plain)));
        assert_eq!(survey(packs.clone()).due(&settings, true), Due::Nothing);

        packs.push(pack("last", 3, Role::Plain));
        assert_eq!(survey(packs).due(&settings, true), Due::Joining);
    }

    #[test]
    fn the_clone_pack_is_made_anew_when_much_lies_beside_it() {
        let settings = MaintenanceSettings::default();
        let packs = vec![pack("clone", 100_000, Role::Plain), pack("push", 12_500, Role::Plain)];

        assert_eq!(survey(packs).due(&settings, true), Due::Order);
    }

    #[test]
    fn a_repository_without_a_clone_pack_gets_one_once_it_is_worth_it() {
        let settings = MaintenanceSettings::default();
        assert_eq!(
            survey(vec![pack("push", 20, Role::Plain)]).due(&settings, true),
            Due::Nothing
        );
        assert_eq!(
            survey(vec![pack("push", 5000, Role::Plain)]).due(&settings, true),
            Due::Order
        );
    }

    #[test]
    fn what_is_left_over_is_tidied_up_once_a_day() {
        let settings = MaintenanceSettings::default();
        let mut survey = survey(vec![
            pack("clone", 100_000, Role::Plain),
            pack("gone", 5, Role::Unreachable),
        ]);
        assert_eq!(survey.due(&settings, false), Due::Nothing);

        survey.state.finished_at_secs -= DAY_SECS;

        assert_eq!(survey.due(&settings, false), Due::Order);
    }

    #[test]
    fn a_partial_clone_is_left_alone() {
        let packs = (0..100)
            .map(|number| pack(&number.to_string(), 500, Role::Promisor))
            .collect();
        assert_eq!(survey(packs).due(&MaintenanceSettings::default(), true), Due::Nothing);
    }
}
