//! Decides which objects answer a fetch, and how each of them is sent.

use std::io;

use gix::hash::ObjectId;

use super::emit::{EmitError, EmitOptions, PackStats, emit};
use super::filter::{Filter, FilteredTrees};
use super::object_store::{ObjectKind, ObjectStore, Pos};
use super::snapshot::Snapshot;
use super::walk::{Bits, Tip, WalkError, Walker};
use super::work::Tick;

/// Memory for delta bases during one walk, in bytes.
const WALK_CACHE_BYTES: usize = 64 << 20;

/// What a client asks for and what it says it has.
#[derive(Clone, Debug, Default)]
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
pub struct PackPlan<'s> {
    objects: &'s ObjectStore,
    send: Bits,
    has: Bits,
    options: EmitOptions,
}

/// Finds the objects that answer `request`.
///
/// Never is an object missing that the client lacks. Objects that the client has may be among them
/// where telling so would cost more than sending: as in git, the client's folders are looked at
/// only at the border of history.
///
/// # Errors
/// [`WalkError`] if history is damaged or the work is stopped.
pub fn plan<'s>(snapshot: &'s Snapshot, request: &PackRequest, tick: Tick<'_>) -> Result<PackPlan<'s>, WalkError> {
    let objects = &*snapshot.objects;
    let mut walker = Walker::new(objects, &snapshot.shallow, WALK_CACHE_BYTES);
    walker.add_parentless(&request.parentless);
    let mut filter = FilteredTrees::new(&request.filter, &mut walker)?;
    let is_filtered = request.filter != Filter::None;
    let mut send = Bits::new(objects.len());
    let mut has = Bits::new(objects.len());

    let had = find_had(&mut walker, request, &mut has, tick)?;
    let mut wants = Wants::default();
    for want in &request.wants {
        wants.add(&mut walker, want)?;
    }

    let commits = if had.is_empty() {
        let mut commits = Vec::new();
        let mut reached = Bits::new(objects.len());
        let ids: Vec<ObjectId> = wants.commits.iter().map(|position| objects.id(*position)).collect();
        walker.add_commits_with(&ids, &mut reached, tick, &mut |position, tree| {
            commits.push((position, tree));
        })?;
        commits
    } else {
        let limited = walker.limit(&wants.commits, &had, tick)?;
        for position in &limited.had {
            has.set(*position);
        }
        let mut edges = limited.edge_trees;
        if request.shallow_involved {
            for position in &had {
                edges.extend(walker.reader().commit_at(*position)?.map(|commit| commit.tree));
            }
        }
        let nothing = Bits::new(objects.len());
        for tree in edges {
            walker.add_tree(&tree, &mut has, &nothing, false, tick)?;
        }
        limited.commits
    };

    let sends_commits = filter.keeps(ObjectKind::Commit);
    for (position, tree) in commits {
        if sends_commits {
            send.set(position);
        }
        if is_filtered {
            filter.add_tree(&mut walker, tree, false, &mut send, &has, tick)?;
        } else {
            walker.add_tree(&tree, &mut send, &has, true, tick)?;
        }
    }
    for tree in &wants.trees {
        if is_filtered {
            filter.add_tree(&mut walker, *tree, true, &mut send, &has, tick)?;
        } else {
            // A tree that some commit reached was walked with it.
            walker.add_tree(tree, &mut send, &has, true, tick)?;
        }
    }
    for position in wants.asked {
        send.set(position);
    }
    send.remove(&has);
    // Whatever the filter leaves out, as git does.
    if request.include_tag {
        add_tags(snapshot, &mut walker, &mut send)?;
        send.remove(&has);
    }
    Ok(PackPlan {
        objects,
        send,
        has,
        options: EmitOptions {
            // What a filter left out, a client of a partial clone does not have.
            thin: request.thin && !is_filtered,
            ofs_delta: request.ofs_delta,
        },
    })
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
    for tag in snapshot.refs.with_prefix(b"refs/tags/") {
        let Some(peeled) = tag.peeled.and_then(|peeled| snapshot.objects.position(&peeled)) else {
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

impl PackPlan<'_> {
    /// How many objects will be sent.
    pub fn object_count(&self) -> u32 {
        self.send.count()
    }

    /// Whether this object will be sent.
    pub fn sends(&self, id: &ObjectId) -> bool {
        self.objects
            .position(id)
            .is_some_and(|position| self.send.has(position))
    }

    /// Leaves these objects out: the client gets them from elsewhere.
    pub fn leave_out(&mut self, ids: &[ObjectId]) {
        let mut elsewhere = Bits::new(self.objects.len());
        for position in ids.iter().filter_map(|id| self.objects.position(id)) {
            elsewhere.set(position);
        }
        self.send.remove(&elsewhere);
    }

    /// Writes the pack, header and trailer included.
    ///
    /// # Errors
    /// [`EmitError`] if an object is damaged, the client went away or the budget is used up.
    pub fn write_to(self, out: &mut dyn io::Write, tick: Tick<'_>) -> Result<PackStats, EmitError> {
        emit(self.objects, &self.send, &self.has, &self.options, out, tick)
    }
}
