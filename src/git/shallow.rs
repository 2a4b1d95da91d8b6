//! Shallow boundaries: where a client's history ends, and where it will end after this fetch.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use gix::ObjectId;

use super::upload_pack::history::{CommitNumber, History, HistoryError};
use super::upload_pack::request::{Deepen, INFINITE_DEPTH};
use super::work::Tick;

/// Commits looked at after every other one left is excluded, because dates may lie.
const SLOP: u32 = 64;

/// Why no boundary can be computed.
#[derive(Debug, thiserror::Error)]
pub enum ShallowError {
    /// The date or the refs leave nothing over.
    #[error("no commits selected for shallow requests")]
    NothingSelected,
    /// `deepen` came with `deepen-since` or `deepen-not`.
    #[error("deepen and deepen-since (or deepen-not) cannot be used together")]
    Contradiction,
    /// History could not be walked.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// What becomes of the client's boundary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Commits that are to be shallow from now on and were not before.
    pub shallow: Vec<ObjectId>,
    /// Commits that are no longer shallow.
    pub unshallow: Vec<ObjectId>,
    /// Parents of the commits in `unshallow`: sent in addition to what is wanted.
    pub extra_wants: Vec<ObjectId>,
    /// Commits whose parents are not to be followed when the pack is planned: the client's old
    /// boundary, the new one, and the server's own.
    pub parentless: Vec<ObjectId>,
}

/// What a request says about its boundary.
#[derive(Clone, Copy, Debug)]
pub struct BoundaryRequest<'r> {
    /// The wanted objects, tags included.
    pub wants: &'r [ObjectId],
    /// The client's present boundary, as far as the client may know that the server has it.
    pub client: &'r [CommitNumber],
    /// Where it wants history cut.
    pub deepen: &'r Deepen,
    /// What the refs of its `deepen-not` lines name.
    pub excluded: &'r [ObjectId],
    /// The server's own boundary, which the history must know as parentless.
    pub server_shallow: &'r [ObjectId],
    /// The server's boundary is told even if no cut is asked for: v2, whose advertisement has no
    /// place for it.
    pub tells_server_boundary: bool,
}

/// Computes the boundary a request asks for.
///
/// Leaves `history` with the old boundary as parentless where the new one is that of the server.
///
/// # Errors
/// [`ShallowError`]
pub fn boundary(
    history: &mut History<'_>,
    request: &BoundaryRequest<'_>,
    tick: Tick<'_>,
) -> Result<Boundary, ShallowError> {
    let BoundaryRequest {
        wants,
        client,
        deepen,
        excluded,
        server_shallow,
        tells_server_boundary,
    } = *request;
    let cut = if deepen.depth.is_some() && deepen.is_by_rev_list() {
        return Err(ShallowError::Contradiction);
    } else if let Some(depth) = deepen.depth {
        if depth == INFINITE_DEPTH && server_shallow.is_empty() {
            Cut {
                border: Vec::new(),
                inside: client.iter().copied().collect(),
            }
        } else {
            let tips = tips(history, wants)?;
            match depth_from_tips(history, &tips, client, depth, deepen.is_relative, tick)? {
                Some(depth) => by_depth(history, &tips, depth, tick)?,
                None => Cut::default(),
            }
        }
    } else if deepen.is_by_rev_list() {
        let tips = tips(history, wants)?;
        by_rev_list(history, &tips, deepen.since_secs, excluded, tick)?
    } else if !server_shallow.is_empty() && tells_server_boundary {
        // Without a wish of its own the client's history ends where it ends now, and otherwise
        // where the server's does.
        let present: Vec<ObjectId> = client.iter().map(|commit| history.id(*commit)).collect();
        history.add_parentless(&present);
        let tips = tips(history, wants)?;
        by_depth(history, &tips, INFINITE_DEPTH, tick)?
    } else {
        Cut::default()
    };
    assemble(history, client, cut, server_shallow)
}

/// Where history is cut.
#[derive(Default)]
struct Cut {
    /// The last commits that are sent.
    border: Vec<CommitNumber>,
    /// Commits that are sent with their parents.
    inside: HashSet<CommitNumber>,
}

fn assemble(
    history: &mut History<'_>,
    client: &[CommitNumber],
    cut: Cut,
    server_shallow: &[ObjectId],
) -> Result<Boundary, ShallowError> {
    let was_shallow: HashSet<CommitNumber> = client.iter().copied().collect();
    let mut boundary = Boundary {
        parentless: server_shallow.to_vec(),
        ..Boundary::default()
    };
    for commit in cut.border {
        if !was_shallow.contains(&commit) && !cut.inside.contains(&commit) {
            boundary.shallow.push(history.id(commit));
        }
    }
    for commit in client {
        let id = history.id(*commit);
        boundary.parentless.push(id);
        if cut.inside.contains(commit) {
            boundary.unshallow.push(id);
            boundary.extra_wants.extend(history.true_parents(*commit)?);
        }
    }
    boundary.parentless.extend(&boundary.shallow);
    Ok(boundary)
}

fn tips(history: &mut History<'_>, wants: &[ObjectId]) -> Result<Vec<CommitNumber>, HistoryError> {
    let mut tips = Vec::with_capacity(wants.len());
    for want in wants {
        tips.extend(history.peeled(want)?);
    }
    Ok(tips)
}

/// The depth that counts from the tips. For a relative one the distance of the nearest shallow
/// commit is added; `None` if the tips reach none.
fn depth_from_tips(
    history: &mut History<'_>,
    tips: &[CommitNumber],
    client: &[CommitNumber],
    depth: u32,
    is_relative: bool,
    tick: Tick<'_>,
) -> Result<Option<u32>, ShallowError> {
    if !is_relative {
        return Ok(Some(depth));
    }
    let wanted: HashSet<CommitNumber> = client.iter().copied().collect();
    let mut found = None;
    breadth_first(history, tips, tick, &mut |commit, distance| {
        if wanted.contains(&commit) {
            found = Some(distance);
            return Step::Stop;
        }
        Step::Follow
    })?;
    Ok(found.map(|distance| distance.saturating_add(depth).min(INFINITE_DEPTH - 1)))
}

fn by_depth(history: &mut History<'_>, tips: &[CommitNumber], depth: u32, tick: Tick<'_>) -> Result<Cut, ShallowError> {
    let mut border = Vec::new();
    let mut inside = HashSet::new();
    let server_border = history.parentless_commits()?;
    breadth_first(history, tips, tick, &mut |commit, distance| {
        if (depth != INFINITE_DEPTH && distance >= depth) || server_border.contains(&commit) {
            border.push(commit);
            Step::Leave
        } else {
            inside.insert(commit);
            Step::Follow
        }
    })?;
    Ok(Cut { border, inside })
}

enum Step {
    /// Go on to the parents.
    Follow,
    /// Leave the parents out.
    Leave,
    /// End the walk.
    Stop,
}

/// Visits each commit once, at its least distance from the tips; a tip has distance 1.
fn breadth_first(
    history: &mut History<'_>,
    tips: &[CommitNumber],
    tick: Tick<'_>,
    visit: &mut dyn FnMut(CommitNumber, u32) -> Step,
) -> Result<(), HistoryError> {
    let mut seen = HashSet::new();
    let mut queue: VecDeque<(CommitNumber, u32)> = VecDeque::new();
    for tip in tips {
        if seen.insert(*tip) {
            queue.push_back((*tip, 1));
        }
    }
    while let Some((commit, distance)) = queue.pop_front() {
        match visit(commit, distance) {
            Step::Follow => {}
            Step::Leave => continue,
            Step::Stop => return Ok(()),
        }
        for at in history.parents(commit, tick)? {
            let parent = history.parent(at);
            if seen.insert(parent) {
                queue.push_back((parent, distance.saturating_add(1)));
            }
        }
    }
    Ok(())
}

/// Cuts by date and by excluded tips, as `git rev-list --max-age=… ^excluded wants` does.
fn by_rev_list(
    history: &mut History<'_>,
    tips: &[CommitNumber],
    since_secs: Option<i64>,
    excluded: &[ObjectId],
    tick: Tick<'_>,
) -> Result<Cut, ShallowError> {
    let excluded = self::tips(history, excluded)?;
    let selected = select(history, tips, since_secs, &excluded, tick)?;
    let inside: HashSet<CommitNumber> = selected.iter().copied().collect();
    if inside.is_empty() {
        return Err(ShallowError::NothingSelected);
    }
    let server_border = history.parentless_commits()?;
    let mut cut = Cut::default();
    for commit in selected {
        let mut is_border = server_border.contains(&commit);
        for at in history.parents(commit, tick)? {
            is_border |= !inside.contains(&history.parent(at));
        }
        if is_border {
            cut.border.push(commit);
        } else {
            cut.inside.insert(commit);
        }
    }
    Ok(cut)
}

/// What is known of a commit while [`select`] walks.
#[derive(Clone, Copy)]
struct Seen {
    is_excluded: bool,
    is_queued: bool,
}

/// A walk from the newest commit on, in which exclusion spreads to ancestors.
struct Selection<'h, 's> {
    history: &'h mut History<'s>,
    seen: HashMap<CommitNumber, Seen>,
    queue: BinaryHeap<(i64, CommitNumber)>,
    /// Commits in the queue that are not excluded: soon after there is none the walk ends.
    open: usize,
}

impl Selection<'_, '_> {
    fn mark(&mut self, commit: CommitNumber, is_excluded: bool, tick: Tick<'_>) -> Result<(), HistoryError> {
        match self.seen.get_mut(&commit) {
            None => {
                self.seen.insert(
                    commit,
                    Seen {
                        is_excluded,
                        is_queued: true,
                    },
                );
                self.open += usize::from(!is_excluded);
            }
            Some(seen) if is_excluded && !seen.is_excluded => {
                seen.is_excluded = true;
                if seen.is_queued {
                    self.open -= 1;
                    return Ok(());
                }
                // Visited before it was known to be excluded: its parents must hear of it.
                seen.is_queued = true;
            }
            Some(_) => return Ok(()),
        }
        self.queue.push((self.history.committed_at_secs(commit, tick)?, commit));
        Ok(())
    }
}

/// The commits that `tips` reach, that are not older than `since_secs`, and that `excluded_tips`
/// do not reach; newest first.
fn select(
    history: &mut History<'_>,
    tips: &[CommitNumber],
    since_secs: Option<i64>,
    excluded_tips: &[CommitNumber],
    tick: Tick<'_>,
) -> Result<Vec<CommitNumber>, HistoryError> {
    let since_secs = since_secs.unwrap_or(i64::MIN);
    let mut selected = Vec::new();
    let mut walk = Selection {
        history,
        seen: HashMap::new(),
        queue: BinaryHeap::new(),
        open: 0,
    };
    for tip in excluded_tips {
        walk.mark(*tip, true, tick)?;
    }
    for tip in tips {
        walk.mark(*tip, false, tick)?;
    }
    let mut slop = SLOP;
    while let Some((date, commit)) = walk.queue.pop() {
        let seen = walk.seen.get_mut(&commit).expect("what is queued was seen");
        seen.is_queued = false;
        let is_excluded = seen.is_excluded;
        if !is_excluded {
            walk.open -= 1;
            if date < since_secs {
                continue;
            }
            selected.push(commit);
        }
        for at in walk.history.parents(commit, tick)? {
            let parent = walk.history.parent(at);
            walk.mark(parent, is_excluded, tick)?;
        }
        if walk.open > 0 {
            slop = SLOP;
        } else if slop == 0 {
            break;
        } else {
            slop -= 1;
        }
    }
    selected.retain(|commit| !walk.seen[commit].is_excluded);
    Ok(selected)
}
