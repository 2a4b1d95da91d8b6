//! From commits to notes.

use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::BString;
use chrono::{DateTime, SecondsFormat};
use git_auxin::logic::{self, Limits, READER_VERSION, TreePaths, find, read_project};
use git_auxin::notes::{self, NOTE_BYTES_MAX, Note, NoteError, Said};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{Inner, NOTES_REF, NotesReport, SUMMARY_REF, Written};
use crate::db::{DbError, PushToNote, RefChange};
use crate::git::ObjectId;
use crate::git::commit_files::files;
use crate::git::commit_text::{commit_text, folder_tree, new_commits};
use crate::git::notes::{Notes, NotesAuthor, NotesChange, NotesError, write};
use crate::git::object_store::{ObjectKind, Reader, StoreError};
use crate::git::ref_transaction::RefError;
use crate::git::snapshot::{OpenError, Repository, Snapshot};
use crate::git::walk::{WalkError, tree_entries};
use crate::git::work::{Stopped, Work};
use crate::ids::{GitId, RepoId};
use crate::service::music::CommitSource;
use crate::service::transfer::TransferError;

/// Commits whose notes go into one commit of the notes ref.
const COMMITS_PER_WRITE: usize = 500;
/// Files and folders of a commit that are looked at.
const FILES_MAX: usize = 200_000;
/// How often a write is tried while others move the refs.
const TRIES: usize = 5;
/// What is left of a note for projects, beside what people say, in bytes.
const PROJECTS_BYTES_MAX: usize = NOTE_BYTES_MAX - (24 << 10);
/// Folders in folders that are looked into.
const DEPTH_MAX: usize = 64;
/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Why notes cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotesWriteError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Notes(#[from] NotesError),
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("others moved the notes again and again")]
    Busy,
}

/// What is said of tips by options of their push.
type Options = HashMap<ObjectId, Said>;

/// One look at a repository, with what is known across its commits.
struct Job<'s> {
    inner: &'s Inner,
    handle: &'s Handle,
    repo: RepoId,
    work: &'s Work,
    /// Records of projects, by path and tree.
    records: HashMap<(String, ObjectId), Value>,
    /// Notes that were made here, for what is inherited.
    made: HashMap<ObjectId, Note>,
}

impl Inner {
    /// Writes the notes of all pushes that have none. Blocks.
    pub(super) fn write_pushes(&self, handle: &Handle, repo: RepoId, work: &Work) -> Written<()> {
        let writer = self.writer(repo);
        let _one = writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            let Some(row) = handle.block_on(self.db.repo_by_id(repo))? else {
                return Ok(());
            };
            let pushes = handle.block_on(self.db.pushes_to_note(repo))?;
            let Some(last) = pushes.last().map(|push| push.seq) else {
                return Ok(());
            };
            let repository = self.transfer.open(&self.repos.path(&row), row.trust_hooks)?;
            let snapshot = repository.reload()?;
            let mut tick = || work.check();
            let (mut tips, known) = tips(&snapshot, &pushes);
            let options = options(&pushes);
            self.keep_music(&snapshot, &mut tips, &options, &mut tick)?;
            let commits = new_commits(&snapshot, &tips, &known, &mut tick)?;
            let mut job = Job::new(self, handle, repo, work);
            job.write(&repository, &commits, &options, false, &mut tick)?;
            handle.block_on(self.db.set_noted(repo, last))?;
            self.tell(&repository, &pushes)?;
        }
    }

    /// Writes the notes of all commits of branches and tags. Blocks.
    pub(super) fn write_all(&self, handle: &Handle, repo: RepoId, anew: bool) -> Written<NotesReport> {
        let writer = self.writer(repo);
        let _one = writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(row) = handle.block_on(self.db.repo_by_id(repo))? else {
            return Ok(NotesReport::default());
        };
        let repository = self.transfer.open(&self.repos.path(&row), row.trust_hooks)?;
        let snapshot = repository.reload()?;
        let tips: Vec<ObjectId> = snapshot
            .refs
            .all()
            .iter()
            .filter(|found| is_noted(&found.name))
            .map(|found| found.target)
            .collect();
        let commits = new_commits(&snapshot, &tips, &[], &mut || Ok(()))?;
        let work = Work::unlimited();
        Job::new(self, handle, repo, &work).write(&repository, &commits, &Options::new(), anew, &mut || Ok(()))
    }

    /// Whether there may be something to say of a push. Blocks; costs little where nothing is music.
    pub(super) fn may_say(&self, snapshot: &Snapshot, moved: &[RefChange], options: &[String]) -> Written<bool> {
        let names = moved.iter().filter(|change| is_noted(&change.name));
        let mut tips: Vec<ObjectId> = names.filter_map(|change| object_id(change.new)).collect();
        if options.iter().any(|option| option.starts_with("logic.")) {
            return Ok(!tips.is_empty());
        }
        self.keep_music(snapshot, &mut tips, &Options::new(), &mut || Ok(()))?;
        Ok(!tips.is_empty())
    }

    /// Keeps the tips that hold a project, or of which a push says something. History is read only below these: of
    /// other work nobody asks what it sounds like.
    fn keep_music(
        &self,
        snapshot: &Snapshot,
        tips: &mut Vec<ObjectId>,
        options: &Options,
        tick: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Written<()> {
        let mut reader = snapshot.objects.reader(CACHE_BYTES);
        let mut kept = Vec::new();
        for tip in tips.drain(..) {
            let tree = match reader.peel(&tip)? {
                Some((commit, ObjectKind::Commit)) => reader.commit(&commit)?.map(|commit| commit.tree),
                _ => None,
            };
            if let Some(tree) = tree
                && (options.contains_key(&tip) || self.holds_project(&mut reader, &tree, 0, tick)?)
            {
                kept.push(tip);
            }
        }
        *tips = kept;
        Ok(())
    }

    /// Whether something that looks like a project lies in a folder. What holds none is remembered, so that of the
    /// next commit only what changed is looked at.
    fn holds_project(
        &self,
        reader: &mut Reader<'_>,
        tree: &ObjectId,
        depth: usize,
        tick: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Written<bool> {
        if depth > DEPTH_MAX || self.without_project.contains_key(tree) {
            return Ok(false);
        }
        tick()?;
        let mut folders = Vec::new();
        for (name, folder) in entries(reader, tree)?.into_iter().filter(|(_, entry)| entry.is_folder) {
            let lower = name.to_ascii_lowercase();
            if lower.ends_with(b".logicx") || lower.ends_with(b".band") {
                return Ok(true);
            }
            if name == b"Alternatives" && holds_alternative(reader, &folder.id)? {
                return Ok(true);
            }
            folders.push(folder.id);
        }
        for folder in folders {
            if self.holds_project(reader, &folder, depth + 1, tick)? {
                return Ok(true);
            }
        }
        self.without_project.insert(*tree, ());
        Ok(false)
    }

    /// Tells those who wait for it what is said of the tips of their pushes.
    fn tell(&self, repository: &Repository, pushes: &[PushToNote]) -> Written<()> {
        let asked: Vec<_> = {
            let mut queue = self.lock();
            pushes
                .iter()
                .filter_map(|push| Some((push, queue.asked.remove(&push.id)?)))
                .collect()
        };
        if asked.is_empty() {
            return Ok(());
        }
        let snapshot = repository.reload()?;
        let mut summaries = Notes::of(&snapshot, SUMMARY_REF.into())?;
        for (push, to) in asked {
            let tip = push
                .moved
                .iter()
                .filter(|change| is_noted(&change.name))
                .find_map(|change| object_id(change.new));
            let said = match tip {
                Some(tip) => summaries.read(&tip, NOTE_BYTES_MAX as u64)?.and_then(Result::ok),
                None => None,
            };
            // Whoever asked may have gone.
            let _ = to.send(
                said.map(|said| String::from_utf8_lossy(&said).into_owned())
                    .unwrap_or_default(),
            );
        }
        Ok(())
    }
}

/// What a tree has under one name.
struct Entry {
    id: ObjectId,
    is_folder: bool,
}

/// The entries of a tree by name, none if it is not there.
fn entries(reader: &mut Reader<'_>, tree: &ObjectId) -> Result<Vec<(Vec<u8>, Entry)>, StoreError> {
    let mut buffer = Vec::new();
    let Some(object) = reader.read(tree, &mut buffer)? else {
        return Ok(Vec::new());
    };
    let entries = tree_entries(object.data, tree.as_bytes().len()).map_while(Result::ok);
    Ok(entries
        .map(|entry| {
            let (id, is_folder) = (entry.id.to_owned(), entry.is_tree());
            (entry.name.to_vec(), Entry { id, is_folder })
        })
        .collect())
}

/// Whether one of the numbered folders in `alternatives` has a file by which Logic's projects are known.
fn holds_alternative(reader: &mut Reader<'_>, alternatives: &ObjectId) -> Result<bool, StoreError> {
    for (name, folder) in entries(reader, alternatives)? {
        let is_numbered = folder.is_folder && name.len() == 3 && name.iter().all(u8::is_ascii_digit);
        if is_numbered {
            let files = entries(reader, &folder.id)?;
            if files
                .iter()
                .any(|(name, _)| name == b"ProjectData" || name == b"MetaData.plist")
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether commits of this ref get notes.
fn is_noted(name: &[u8]) -> bool {
    name.starts_with(b"refs/heads/") || name.starts_with(b"refs/tags/")
}

fn object_id(id: Option<GitId>) -> Option<ObjectId> {
    ObjectId::try_from(id?.as_bytes()).ok()
}

/// Where people's pushes have moved refs to, and what was known before: the old values, and refs that they left alone.
/// What came on disk is for the command: it may be a history of many years.
fn tips(snapshot: &Snapshot, pushes: &[PushToNote]) -> (Vec<ObjectId>, Vec<ObjectId>) {
    let (mut tips, mut known, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    let of_people = pushes.iter().filter(|push| push.pusher.is_some());
    for change in of_people
        .flat_map(|push| &push.moved)
        .filter(|change| is_noted(&change.name))
    {
        tips.extend(object_id(change.new));
        // Only the first change of a ref starts from something that has its notes.
        if names.insert(change.name.as_slice()) {
            known.extend(object_id(change.old));
        }
    }
    let others = snapshot
        .refs
        .all()
        .iter()
        .filter(|found| is_noted(&found.name) && !names.contains(found.name.as_slice()));
    known.extend(others.map(|found| found.target));
    (tips, known)
}

fn options(pushes: &[PushToNote]) -> Options {
    let mut options = Options::new();
    for push in pushes {
        let by = push.pusher.as_deref().unwrap_or_default();
        let said = notes::from_push_options(
            push.options.iter().map(String::as_str),
            by,
            &time(push.at_us / 1_000_000),
        );
        // What cannot be understood was refused at the push.
        let Ok(said) = said else { continue };
        if said.is_empty() {
            continue;
        }
        for tip in push
            .moved
            .iter()
            .filter(|change| is_noted(&change.name))
            .filter_map(|change| object_id(change.new))
        {
            options.entry(tip).or_default().join(said.clone());
        }
    }
    options
}

fn time(at_secs: i64) -> String {
    DateTime::from_timestamp(at_secs, 0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl<'s> Job<'s> {
    fn new(inner: &'s Inner, handle: &'s Handle, repo: RepoId, work: &'s Work) -> Self {
        Self {
            inner,
            handle,
            repo,
            work,
            records: HashMap::new(),
            made: HashMap::new(),
        }
    }

    /// Writes the notes of `commits`, parents before children. Commits that have a note of this reader are left as
    /// they are unless `anew`, or unless something is said of them.
    fn write(
        &mut self,
        repository: &Repository,
        commits: &[ObjectId],
        options: &Options,
        anew: bool,
        tick: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Written<NotesReport> {
        let mut report = NotesReport {
            commits: commits.len(),
            noted: 0,
        };
        for some in commits.chunks(COMMITS_PER_WRITE) {
            let mut tries = 0;
            report.noted += loop {
                match self.write_some(repository, some, options, anew, tick) {
                    Err(NotesWriteError::Notes(NotesError::Ref(
                        RefError::Moved { .. }
                        | RefError::Exists { .. }
                        | RefError::Missing { .. }
                        | RefError::Locked { .. },
                    ))) if tries < TRIES => tries += 1,
                    Err(NotesWriteError::Notes(NotesError::Ref(_))) => return Err(NotesWriteError::Busy),
                    done => break done?,
                }
            };
        }
        Ok(report)
    }

    fn write_some(
        &mut self,
        repository: &Repository,
        commits: &[ObjectId],
        options: &Options,
        anew: bool,
        tick: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Written<usize> {
        let snapshot = repository.reload()?;
        let mut there = Notes::of(&snapshot, NOTES_REF.into())?;
        let (mut lines, mut summaries) = (BTreeMap::new(), BTreeMap::new());
        let mut noted = 0;
        for id in commits {
            tick()?;
            let old = match there.read(id, NOTE_BYTES_MAX as u64)? {
                Some(Ok(text)) => Some(Note::fold(&text)?),
                _ => None,
            };
            let is_read = |note: &Note| {
                note.auto.as_ref().is_some_and(|auto| {
                    auto["extractor"].as_str().and_then(|version| version.parse().ok()) == Some(READER_VERSION)
                })
            };
            let note = match old {
                Some(note) if is_read(&note) && !anew && !options.contains_key(id) => note,
                old => {
                    let note = self.note_of(&snapshot, &mut there, id, old, options.get(id), tick)?;
                    if let Some(note) = &note {
                        lines.insert(*id, Some((note.to_line() + "\n").into_bytes()));
                        summaries.insert(*id, Some(notes::summary(note).into_bytes()));
                    }
                    match note {
                        Some(note) => note,
                        None => continue,
                    }
                }
            };
            noted += 1;
            if self.made.len() >= 2 * COMMITS_PER_WRITE {
                self.made.clear();
            }
            self.made.insert(*id, note);
        }
        if lines.is_empty() {
            return Ok(noted);
        }
        let old = |name: &str| {
            snapshot
                .refs
                .find(name.into())
                .map_or_else(|| snapshot.hash().null(), |found| found.target)
        };
        let changes = [(NOTES_REF, lines), (SUMMARY_REF, summaries)].map(|(name, notes)| NotesChange {
            name: BString::from(name),
            old: old(name),
            notes,
        });
        let author = NotesAuthor {
            name: "Auxin".into(),
            email: "auxin@localhost".into(),
            at_secs: u64::try_from(self.inner.db.now_us() / 1_000_000).unwrap_or_default(),
        };
        write(
            repository,
            &snapshot,
            &changes,
            &author,
            "What projects and people say of commits",
            tick,
        )?;
        Ok(noted)
    }

    /// The note of a commit; `None` if there is nothing to say.
    fn note_of(
        &mut self,
        snapshot: &Snapshot,
        there: &mut Notes<'_>,
        id: &ObjectId,
        old: Option<Note>,
        option: Option<&Said>,
        tick: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Written<Option<Note>> {
        let mut reader = snapshot.objects.reader(CACHE_BYTES);
        let Some(commit) = commit_text(&mut reader, id)? else {
            return Ok(None);
        };
        let parent = match commit.parents.first() {
            None => None,
            Some(parent) => match self.made.get(parent) {
                Some(note) => Some(note.clone()),
                None => match there.read(parent, NOTE_BYTES_MAX as u64)? {
                    Some(Ok(text)) => Some(Note::fold(&text)?),
                    _ => None,
                },
            },
        };
        let mut note = old.unwrap_or_default();
        note.said.join(notes::from_message(
            &commit.message,
            &commit.author,
            &time(commit.committed_at_secs),
        ));
        if let Some(said) = option {
            note.said.join(said.clone());
        }
        let records = self.records_of(snapshot, id, &commit.tree, tick)?;
        if records.is_empty() && note.said.is_empty() && note.auto.is_none() {
            return Ok(None);
        }
        note.warnings = Vec::new();
        let primary = primary(&records, parent.as_ref());
        let status = records
            .iter()
            .find(|record| record["path"] == primary)
            .map_or(json!("not_logic"), |record| record["status"].clone());
        if let Some(record) = records.iter().find(|record| record["path"] == primary)
            && let Some(warnings) = record["warnings"].as_array()
        {
            note.warnings.extend(warnings.iter().cloned());
        }
        note.auto = Some(json!({
            "extractor": READER_VERSION.to_string(), "at": time(commit.committed_at_secs),
            "status": status, "primary": primary, "projects": records,
        }));
        if let Some(parent) = &parent {
            notes::inherited(&mut note, parent);
        }
        Ok(Some(note))
    }

    /// The records of all projects of a commit, as JSON.
    fn records_of(
        &mut self,
        snapshot: &Snapshot,
        commit: &ObjectId,
        root: &ObjectId,
        tick: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Written<Vec<Value>> {
        let mut reader = snapshot.objects.reader(CACHE_BYTES);
        if !self.inner.holds_project(&mut reader, root, 0, tick)? {
            return Ok(Vec::new());
        }
        let limits = Limits::default();
        let Some(files) = files(snapshot, commit, FILES_MAX, tick)? else {
            return Ok(Vec::new());
        };
        let projects = find(files.keys().map(String::as_str), &limits);
        if projects.is_empty() {
            return Ok(Vec::new());
        }
        let paths = TreePaths::new(files.keys().cloned().collect());
        let mut source = CommitSource::new(self.handle, &self.inner.large_files, snapshot, self.repo, self.work);
        source.turn_to(&files);
        let mut found = Vec::new();
        for project in projects {
            let tree = folder_tree(&mut reader, root, project.content_folder())?;
            let key = tree.map(|tree| (project.path.clone(), tree));
            if let Some(known) = key.as_ref().and_then(|key| self.records.get(key)) {
                found.push(known.clone());
                continue;
            }
            let read = read_project(&mut source, &paths, &project, &limits)?;
            let mut record = read.record();
            record.tree = tree.map(|tree| tree.to_string());
            let is_final = record.is_final() && record.layout == project.layout;
            let mut records = vec![record];
            logic::fit(&mut records, PROJECTS_BYTES_MAX);
            let Some(record) = records.pop() else { continue };
            let json = serde_json::to_value(&record).unwrap_or_default();
            if let (Some(key), true) = (key, is_final) {
                self.records.insert(key, json.clone());
            }
            found.push(json);
        }
        // All together fit, too: later ones are left out.
        let mut bytes = 0;
        found.retain(|record| {
            bytes += record.to_string().len() + 1;
            bytes <= PROJECTS_BYTES_MAX
        });
        Ok(found)
    }
}

/// The project that the commit is about: the one it changed, else the one that its parent is about, else the first one.
fn primary(records: &[Value], parent: Option<&Note>) -> Value {
    let before = parent.and_then(|parent| parent.auto.as_ref());
    let was = before.map_or(&Value::Null, |auto| &auto["primary"]);
    let tree_before = |path: &Value| {
        let projects = before.and_then(|auto| auto["projects"].as_array());
        projects
            .into_iter()
            .flatten()
            .find(|record| record["path"] == *path)
            .map(|record| record["tree"].clone())
    };
    let changed: Vec<&Value> = records
        .iter()
        .filter(|record| tree_before(&record["path"]).as_ref() != Some(&record["tree"]))
        .collect();
    let picked = match changed.as_slice() {
        [] => records
            .iter()
            .find(|record| record["path"] == *was)
            .or_else(|| records.first()),
        changed => changed
            .iter()
            .copied()
            .find(|record| record["path"] == *was)
            .or_else(|| changed.first().copied()),
    };
    picked.map_or(Value::Null, |record| record["path"].clone())
}
