//! Which of the client's commits are acknowledged, and when enough is common.
//!
//! The rules are git's own, so that clients see the answers they were written for: a `have` that is
//! the parent of an earlier one is not counted again, and the server is ready once every wanted
//! commit reaches a common one without passing commits older than the oldest common one.
//!
//! Being ready can only begin as more haves are looked at, never end. A request of a thousand haves
//! therefore costs a handful of walks (a binary search over the haves), not one per have.

use std::collections::HashMap;

use gix::ObjectId;

use super::upload_pack::history::{CommitNumber, History, HistoryError};
use super::upload_pack::request::{AckMode, HavesEnd};
use super::work::Tick;

/// One `have` of a request, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// What the client says it has.
    pub id: ObjectId,
    /// The server has it too, and the client may know that.
    pub is_common: bool,
}

/// How an acknowledgement line of v0 ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckSuffix {
    /// Nothing: the final one, or the only one of a client without `multi_ack`.
    Final,
    /// `continue`.
    Continue,
    /// `common`.
    Common,
    /// `ready`.
    Ready,
}

/// One line of the answer to haves in v0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// `ACK <id>`.
    Ack(ObjectId, AckSuffix),
    /// `NAK`.
    Nak,
}

/// The answer to the haves of a v0 request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V0Answer {
    /// The lines, in order.
    pub lines: Vec<Ack>,
    /// Whether the pack follows in the same answer.
    pub sends_pack: bool,
}

/// What the common commits of a request come to.
pub struct Common<'h, 's> {
    history: &'h mut History<'s>,
    /// Wanted commits, tags followed.
    wants: Vec<CommitNumber>,
    /// Per have: it is common and no earlier one implied it.
    is_new: Vec<bool>,
    /// Commits the client has (common ones and their parents), with the number of haves after
    /// which that is known.
    known_after: HashMap<CommitNumber, usize>,
    /// Date of the oldest common commit among the first so many haves, in seconds since 1970.
    oldest_secs: Vec<Option<i64>>,
    /// Haves after which the server is ready, once searched: `None` inside for never.
    ready_after: Option<Option<usize>>,
}

impl<'h, 's> Common<'h, 's> {
    /// Looks at each common have once.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn new(
        history: &'h mut History<'s>,
        wants: &[ObjectId],
        haves: &[Have],
        tick: Tick<'_>,
    ) -> Result<Self, HistoryError> {
        let mut wanted = Vec::with_capacity(wants.len());
        for want in wants {
            if let Some(commit) = history.peeled(want)? {
                wanted.push((history.committed_at_secs(commit, tick)?, commit));
            }
        }
        // Oldest first, as git does: a wanted commit is looked at whatever its date, so this order
        // decides about commits that are older than the oldest common one.
        wanted.sort_by_key(|(date, _)| *date);
        let mut common = Self {
            history,
            wants: wanted.into_iter().map(|(_, commit)| commit).collect(),
            is_new: Vec::with_capacity(haves.len()),
            known_after: HashMap::new(),
            oldest_secs: Vec::with_capacity(haves.len() + 1),
            ready_after: None,
        };
        common.oldest_secs.push(None);
        let mut oldest = None;
        for (index, have) in haves.iter().enumerate() {
            let seen = index + 1;
            let mut is_new = false;
            if have.is_common {
                match common.history.look_up(&have.id)? {
                    Some((_, Some(commit))) => {
                        let date = common.history.committed_at_secs(commit, tick)?;
                        oldest = Some(oldest.map_or(date, |oldest: i64| oldest.min(date)));
                        for at in common.history.parents(commit, tick)? {
                            let parent = common.history.parent(at);
                            common.known_after.entry(parent).or_insert(seen);
                        }
                        is_new = !common.known_after.contains_key(&commit);
                        common.known_after.entry(commit).or_insert(seen);
                    }
                    // A tag or the like: of no use for walking, and never implied by another.
                    Some((_, None)) => is_new = true,
                    None => {}
                }
            }
            common.is_new.push(is_new);
            common.oldest_secs.push(oldest);
        }
        Ok(common)
    }

    /// Haves that are common and that no earlier have implied, as indices into the request's haves:
    /// what v2 acknowledges.
    pub fn acknowledged(&self) -> impl Iterator<Item = usize> + '_ {
        self.is_new
            .iter()
            .enumerate()
            .filter(|(_, is_new)| **is_new)
            .map(|(index, _)| index)
    }

    /// Whether enough is common after all haves.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn is_ready(&mut self, tick: Tick<'_>) -> Result<bool, HistoryError> {
        self.is_ready_after(self.is_new.len(), tick)
    }

    /// Whether enough is common after the first `seen` haves.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn is_ready_after(&mut self, seen: usize, tick: Tick<'_>) -> Result<bool, HistoryError> {
        let ready_after = match self.ready_after {
            Some(known) => known,
            None => {
                let found = self.search_ready(tick)?;
                self.ready_after = Some(found);
                found
            }
        };
        Ok(ready_after.is_some_and(|ready_after| seen >= ready_after))
    }

    fn search_ready(&mut self, tick: Tick<'_>) -> Result<Option<usize>, HistoryError> {
        let (mut low, mut high) = (0, self.is_new.len());
        if !self.every_want_reaches(high, tick)? {
            return Ok(None);
        }
        // Not ready after `low` haves, ready after `high`.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.every_want_reaches(middle, tick)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(Some(high))
    }

    /// Whether every wanted commit reaches one that is known to be had after `seen` haves, on a
    /// path whose commits are not older than the oldest of these haves.
    fn every_want_reaches(&mut self, seen: usize, tick: Tick<'_>) -> Result<bool, HistoryError> {
        if !self.is_new[..seen].contains(&true) {
            return Ok(false);
        }
        let oldest_secs = self.oldest_secs[seen].unwrap_or(0);
        let mut marks = Marks::default();
        for index in 0..self.wants.len() {
            let want = self.wants[index];
            if !self.reaches(want, seen, oldest_secs, &mut marks, tick)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn reaches(
        &mut self,
        want: CommitNumber,
        seen: usize,
        oldest_secs: i64,
        marks: &mut Marks,
        tick: Tick<'_>,
    ) -> Result<bool, HistoryError> {
        let is_had =
            |known: &HashMap<CommitNumber, usize>, commit| known.get(&commit).is_some_and(|after| *after <= seen);
        if is_had(&self.known_after, want) || marks.get(want) == Mark::Reaches {
            return Ok(true);
        }
        marks.set(want, Mark::Looked);
        // Each entry is a commit and the parent to look at next.
        let parents = self.history.parents(want, tick)?;
        let mut path = vec![(want, parents)];
        while let Some((_, parents)) = path.last_mut() {
            let Some(at) = parents.next() else {
                path.pop();
                continue;
            };
            let parent = self.history.parent(at);
            if is_had(&self.known_after, parent) || marks.get(parent) == Mark::Reaches {
                for (commit, _) in path {
                    marks.set(commit, Mark::Reaches);
                }
                return Ok(true);
            }
            if marks.get(parent) == Mark::Unseen {
                marks.set(parent, Mark::Looked);
                if self.history.committed_at_secs(parent, tick)? >= oldest_secs {
                    let parents = self.history.parents(parent, tick)?;
                    path.push((parent, parents));
                }
            }
        }
        Ok(false)
    }

    /// The answer to a v0 or v1 request.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn answer_v0(
        &mut self,
        haves: &[Have],
        end: HavesEnd,
        mode: AckMode,
        no_done: bool,
        tick: Tick<'_>,
    ) -> Result<V0Answer, HistoryError> {
        let mut lines = Vec::new();
        let mut counted = 0;
        let mut last_common = None;
        let mut got_other = false;
        let mut sent_ready = false;
        for (index, have) in haves.iter().enumerate() {
            if have.is_common {
                last_common = Some(have.id);
                counted += usize::from(self.is_new[index]);
                match mode {
                    AckMode::Detailed => lines.push(Ack::Ack(have.id, AckSuffix::Common)),
                    AckMode::Multi => lines.push(Ack::Ack(have.id, AckSuffix::Continue)),
                    AckMode::Single if counted == 1 => lines.push(Ack::Ack(have.id, AckSuffix::Final)),
                    AckMode::Single => {}
                }
            } else {
                got_other = true;
                if mode != AckMode::Single && self.is_ready_after(index + 1, tick)? {
                    if mode == AckMode::Detailed {
                        sent_ready = true;
                        lines.push(Ack::Ack(have.id, AckSuffix::Ready));
                    } else {
                        lines.push(Ack::Ack(have.id, AckSuffix::Continue));
                    }
                }
            }
        }
        let sends_pack = match (end, last_common) {
            (HavesEnd::Absent, _) => false,
            (HavesEnd::Done, Some(last)) => {
                if mode != AckMode::Single {
                    lines.push(Ack::Ack(last, AckSuffix::Final));
                }
                true
            }
            (HavesEnd::Done, None) => {
                lines.push(Ack::Nak);
                true
            }
            (HavesEnd::Flush, last) => {
                if let Some(last) = last
                    && mode == AckMode::Detailed
                    && !got_other
                    && self.is_ready(tick)?
                {
                    sent_ready = true;
                    lines.push(Ack::Ack(last, AckSuffix::Ready));
                }
                if counted == 0 || mode != AckMode::Single {
                    lines.push(Ack::Nak);
                }
                match last {
                    Some(last) if no_done && sent_ready => {
                        lines.push(Ack::Ack(last, AckSuffix::Final));
                        true
                    }
                    _ => false,
                }
            }
        };
        Ok(V0Answer { lines, sends_pack })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    Unseen,
    Looked,
    Reaches,
}

/// A mark per commit number; grows as commits become known.
#[derive(Default)]
struct Marks(Vec<Mark>);

impl Marks {
    fn get(&self, commit: CommitNumber) -> Mark {
        self.0.get(commit.index()).copied().unwrap_or_default()
    }

    fn set(&mut self, commit: CommitNumber, mark: Mark) {
        if commit.index() >= self.0.len() {
            self.0.resize(commit.index() + 1, Mark::Unseen);
        }
        self.0[commit.index()] = mark;
    }
}
