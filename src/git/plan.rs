//! Decides which objects answer a fetch, and how each of them is sent.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use gix::hash::ObjectId;

use super::emit::{EmitError, EmitOptions, PackObjects, PackStats, emit, whole_pack};
use super::filter::{Filter, FilteredTrees};
use super::likely_bases::LikelyBases;
use super::object_store::{Bitmaps, ObjectKind, Pos};
use super::snapshot::Snapshot;
use super::walk::{Bits, CoveredWalk, Tip, WalkError, Walker};
use super::work::Tick;

/// Memory for delta bases during one walk, in bytes.
const WALK_CACHE_BYTES: usize = 64 << 20;
/// Commits of the client that no bitmap covers, up to which bitmaps are of use.
const MAX_UNCOVERED_HAD: usize = 10_000;
/// Commits of the client that no bitmap covers, up to which all their folders are looked at.
const MAX_HAD_TREES: usize = 16;

/// What a client asks for and what it says it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PackRequest {
    /// Objects to send, with all they reach.
    pub wants: Vec<ObjectId>,
    /// Commits the client surely has, with all they reach. Ids that are not here are ignored.
    pub haves: Vec<ObjectId>,
    /// Commits whose parents are not followed: the client's shallow border and the new one.
    pub parentless: Vec<ObjectId>,
    /// Commits the client has although they are not among `haves`: those that stop being shallow.
    pub extra_edges: Vec<ObjectId>,
    /// Objects to leave out.
    pub filter: Filter,
    /// Deltas may be made against objects that are not sent but that the client has.
    pub thin: bool,
    /// Deltas may name their base by distance.
    pub ofs_delta: bool,
    /// Annotated tags go along when what they name does.
    pub include_tag: bool,
    /// The client's or the new history is cut off somewhere, so every `have` is an edge whose tree is looked at.
    pub shallow_involved: bool,
}

/// A pack that is decided upon but not yet written.
#[derive(Clone)]
pub struct PackPlan<'s> {
    snapshot: &'s Snapshot,
    decided: Arc<Decided>,
}

/// What was decided about a pack; of use with the same snapshot only.
#[derive(Clone)]
pub(super) struct Decided {
    send: Bits,
    has: Bits,
    bases: LikelyBases,
    options: EmitOptions,
}

impl Decided {
    /// How many objects will be sent.
    pub fn object_count(&self) -> u32 {
        self.send.count()
    }

    /// Memory it takes, about, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.send.memory_bytes() + self.has.memory_bytes() + self.bases.memory_bytes()
    }
}

/// Finds the objects that answer `request`.
///
/// Never is an object missing that the client lacks. Objects that the client has may be among them
/// where telling so would cost more than sending: as in git, the client's folders are looked at
/// only at the border of history, unless bitmaps tell of them.
///
/// # Errors
/// [`WalkError`] if history is damaged or the work is stopped.
pub fn plan<'s>(snapshot: &'s Snapshot, request: &PackRequest, tick: Tick<'_>) -> Result<PackPlan<'s>, WalkError> {
    let objects = &*snapshot.objects;
    let mut walker = Walker::new(objects, &snapshot.shallow, WALK_CACHE_BYTES);
    walker.add_parentless(&request.parentless);
    let mut filter = FilteredTrees::new(&request.filter, &mut walker)?;
    let mut sets = Sets {
        send: Bits::new(objects.len()),
        has: Bits::new(objects.len()),
    };
    let had = find_had(&mut walker, request, &mut sets.has, tick)?;
    let mut wants = Wants::default();
    for want in &request.wants {
        wants.add(&mut walker, want)?;
    }
    // A shallow client has less than what its commits reach, and filters that go by path need paths.
    let bitmaps = walker
        .bitmaps()
        .filter(|_| !request.shallow_involved && filter.goes_by_object());
    let is_covered = match bitmaps {
        Some(bitmaps) => plan_covered(&mut walker, bitmaps, &mut filter, &wants, &had, &mut sets, tick)?,
        None => false,
    };
    if !is_covered {
        plan_walked(&mut walker, request, &mut filter, &wants, &had, &mut sets, tick)?;
    }
    let Sets { mut send, has } = sets;
    for position in wants.asked {
        send.set(position);
    }
    send.remove(&has);
    // Whatever the filter leaves out, as git does.
    if request.include_tag {
        add_tags(snapshot, &mut walker, &mut send)?;
        send.remove(&has);
    }
    // What a filter left out, a client of a partial clone does not have.
    let thin = request.thin && request.filter == Filter::None;
    let bases = if thin && !had.is_empty() {
        LikelyBases::find(&mut walker, &send, &has, tick)?
    } else {
        LikelyBases::default()
    };
    let decided = Decided {
        send,
        // Nothing but thin deltas asks for it.
        has: if thin { has } else { Bits::default() },
        bases,
        options: EmitOptions {
            thin,
            ofs_delta: request.ofs_delta,
        },
    };
    Ok(PackPlan {
        snapshot,
        decided: Arc::new(decided),
    })
}

/// What is being decided.
struct Sets {
    send: Bits,
    has: Bits,
}

/// Decides by walking alone.
fn plan_walked(
    walker: &mut Walker<'_>,
    request: &PackRequest,
    filter: &mut FilteredTrees,
    wants: &Wants,
    had: &[Pos],
    sets: &mut Sets,
    tick: Tick<'_>,
) -> Result<(), WalkError> {
    let objects = walker.reader().store();
    let is_filtered = request.filter != Filter::None;
    let Sets { send, has } = sets;
    let commits = if had.is_empty() {
        let mut commits = Vec::new();
        let mut reached = Bits::new(objects.len());
        let ids: Vec<ObjectId> = wants.commits.iter().map(|position| objects.id(*position)).collect();
        walker.add_commits_with(&ids, &mut reached, tick, &mut |position, tree| {
            commits.push((position, tree));
        })?;
        commits
    } else {
        let limited = walker.limit(&wants.commits, had, tick)?;
        for position in &limited.had {
            has.set(*position);
        }
        let mut edges = limited.edge_trees;
        if request.shallow_involved {
            for position in had {
                edges.extend(walker.reader().commit_at(*position)?.map(|commit| commit.tree));
            }
        }
        let nothing = Bits::new(objects.len());
        for tree in edges {
            walker.add_tree(&tree, has, &nothing, false, tick)?;
        }
        limited.commits
    };

    let sends_commits = filter.keeps(ObjectKind::Commit);
    for (position, tree) in commits {
        if sends_commits {
            send.set(position);
        }
        if is_filtered {
            filter.add_tree(walker, tree, false, send, has, tick)?;
        } else {
            walker.add_tree(&tree, send, has, true, tick)?;
        }
    }
    for tree in &wants.trees {
        if is_filtered {
            filter.add_tree(walker, *tree, true, send, has, tick)?;
        } else {
            // A tree that some commit reached was walked with it.
            walker.add_tree(tree, send, has, true, tick)?;
        }
    }
    Ok(())
}

/// Decides with bitmaps: all that the wants reach, without all that the haves reach, each of them
/// bitmaps and a walk of what is newer than these. False, and nothing decided, if the client's
/// commits are too far from any bitmap.
fn plan_covered(
    walker: &mut Walker<'_>,
    bitmaps: &Bitmaps,
    filter: &mut FilteredTrees,
    wants: &Wants,
    had: &[Pos],
    sets: &mut Sets,
    tick: Tick<'_>,
) -> Result<bool, WalkError> {
    let nothing = Bits::new(walker.reader().store().len());
    let Sets { send, has } = sets;
    // What was set so far are tags and whole folders.
    let mut reached = has.clone();
    let had_walk = CoveredWalk {
        bitmaps,
        without: &nothing,
        most: MAX_UNCOVERED_HAD,
        must_exist: false,
    };
    let uncovered_had = walker.add_covered(had, &mut reached, had_walk, tick)?;
    if uncovered_had.is_cut_short {
        return Ok(false);
    }
    *has = reached;
    for (position, _) in &uncovered_had.commits {
        has.set(*position);
    }
    let want_walk = CoveredWalk {
        bitmaps,
        without: has,
        most: usize::MAX,
        must_exist: true,
    };
    let uncovered = walker.add_covered(&wants.commits, send, want_walk, tick)?;

    // The folders of the client's commits: all of them where they are few, else at the border. The
    // folders that a bitmap holds are not looked at again.
    let edges: HashSet<Pos> = uncovered.edges.iter().copied().collect();
    let is_few = uncovered_had.commits.len() <= MAX_HAD_TREES;
    for (position, tree) in &uncovered_had.commits {
        if is_few || edges.contains(position) {
            walker.add_tree(tree, has, &nothing, false, tick)?;
        }
    }
    send.remove(has);
    let is_filtered = !filter.is_empty();
    for (_, tree) in &uncovered.commits {
        walker.add_tree(tree, send, has, !is_filtered, tick)?;
    }
    for tree in &wants.trees {
        walker.add_tree(tree, send, has, !is_filtered, tick)?;
    }
    for (position, _) in &uncovered.commits {
        send.set(*position);
    }
    if is_filtered {
        send.remove(has);
        filter.keep_passing(walker, send, tick)?;
    }
    Ok(true)
}

/// Objects asked for, sorted by kind.
#[derive(Default)]
struct Wants {
    commits: Vec<Pos>,
    trees: Vec<ObjectId>,
    /// Whatever was named outright, with its tags: it goes along whatever the filter says.
    asked: Vec<Pos>,
}

impl Wants {
    fn add(&mut self, walker: &mut Walker<'_>, want: &ObjectId) -> Result<(), WalkError> {
        let asked = &mut self.asked;
        let tip = walker.tip(want, |tag| asked.push(tag))?;
        match tip {
            Tip::Commit(position) => self.commits.push(position),
            Tip::Tree(position) => self.trees.push(walker.reader().store().id(position)),
            Tip::Blob(_) => {}
        }
        let (Tip::Commit(position) | Tip::Tree(position) | Tip::Blob(position)) = tip;
        self.asked.push(position);
        Ok(())
    }
}

/// The commits the client has; other objects it has go into `has` at once.
fn find_had(
    walker: &mut Walker<'_>,
    request: &PackRequest,
    has: &mut Bits,
    tick: Tick<'_>,
) -> Result<Vec<Pos>, WalkError> {
    let nothing = Bits::new(walker.reader().store().len());
    let mut had = Vec::new();
    for have in request.haves.iter().chain(&request.extra_edges) {
        let tip = walker.tip(have, |tag| {
            has.set(tag);
        });
        match tip {
            Ok(Tip::Commit(position)) => had.push(position),
            Ok(Tip::Tree(position)) => {
                let tree = walker.reader().store().id(position);
                walker.add_tree(&tree, has, &nothing, false, tick)?;
            }
            Ok(Tip::Blob(position)) => {
                has.set(position);
            }
            Err(WalkError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(had)
}

/// Adds the visible annotated tags whose object is sent.
fn add_tags(snapshot: &Snapshot, walker: &mut Walker<'_>, send: &mut Bits) -> Result<(), WalkError> {
    let tags = snapshot.refs.with_prefix(b"refs/tags/");
    // Where few objects go to somebody, most tags name none of them: no need to look these up.
    let objects = &snapshot.objects;
    let sent: Option<HashSet<ObjectId>> = ((send.count() as usize) < tags.len()).then(|| {
        let sent = send.range(0, objects.len());
        sent.map(|position| objects.id(position)).collect()
    });
    for tag in tags {
        let peeled = tag
            .peeled
            .filter(|peeled| sent.as_ref().is_none_or(|sent| sent.contains(peeled)))
            .and_then(|peeled| objects.position(&peeled));
        let Some(peeled) = peeled else {
            continue;
        };
        if send.has(peeled) && snapshot.is_visible(&tag.name) {
            walker.tip(&tag.target, |tag| {
                send.set(tag);
            })?;
        }
    }
    Ok(())
}

impl<'s> PackPlan<'s> {
    /// The plan that was decided with this very snapshot.
    pub(super) fn of_decided(snapshot: &'s Snapshot, decided: Arc<Decided>) -> Self {
        Self { snapshot, decided }
    }

    pub(super) fn into_decided(self) -> Arc<Decided> {
        self.decided
    }

    /// How many objects will be sent.
    pub fn object_count(&self) -> u32 {
        self.decided.object_count()
    }

    /// Whether what is sent is a file as it lies on disk.
    pub fn is_file(&self) -> bool {
        let Decided { send, options, .. } = &*self.decided;
        whole_pack(&self.snapshot.objects, send, options).is_some()
    }

    /// Whether this object will be sent.
    pub fn sends(&self, id: &ObjectId) -> bool {
        let position = self.snapshot.objects.position(id);
        position.is_some_and(|position| self.decided.send.has(position))
    }

    /// Leaves these objects out: the client gets them from elsewhere.
    pub fn leave_out(&mut self, ids: &[ObjectId]) {
        let objects = &self.snapshot.objects;
        let mut elsewhere = Bits::new(objects.len());
        for position in ids.iter().filter_map(|id| objects.position(id)) {
            elsewhere.set(position);
        }
        Arc::make_mut(&mut self.decided).send.remove(&elsewhere);
    }

    /// Writes the pack, header and trailer included.
    ///
    /// # Errors
    /// [`EmitError`] if an object is damaged, the client went away or the budget is used up.
    pub fn write_to(self, out: &mut dyn io::Write, tick: Tick<'_>) -> Result<PackStats, EmitError> {
        let Decided {
            send,
            has,
            bases,
            options,
        } = &*self.decided;
        emit(
            &self.snapshot.objects,
            PackObjects { send, has, bases },
            options,
            out,
            tick,
        )
    }
}
