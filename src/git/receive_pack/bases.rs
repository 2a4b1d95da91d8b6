//! What a thin pack may build on: objects that this client was told of.
//!
//! A delta that copies all of its base shows it to whoever fetches the result. So a base must be
//! reached by a visible ref, or by a ref of a lender that the advertisement named; that an object lies
//! on the disk (of another's repository, or after its ref was deleted) is not enough.

use std::sync::Arc;

use gix::ObjectId;

use super::advertise::alternate_tips;
use crate::git::index_pack::IndexError;
use crate::git::object_store::{ObjectKind, Pos, Reader};
use crate::git::snapshot::{Repository, Snapshot};
use crate::git::spill::Content;
use crate::git::upload_pack::nearby;

use crate::git::walk::{Bits, Reaching, WalkError, Walker};
use crate::git::work::{Stopped, Work};

/// Memory for delta bases, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Finds what a thin pack builds on.
pub(super) struct Bases<'s> {
    repository: &'s Repository,
    source: Source<'s>,
    /// The repository as it is now, once something was not found.
    newer: Option<Arc<Snapshot>>,
    limit_bytes: u64,
    work: &'s Work,
    /// Why a base was not given.
    reason: Option<IndexError>,
}

/// The objects of one snapshot.
struct Source<'s> {
    snapshot: &'s Snapshot,
    reader: Reader<'s>,
    /// What the newest commits of visible refs hold, once somebody asked.
    near: Option<Bits>,
    /// What visible refs reach, as far as somebody asked; nothing inside where there are no bitmaps.
    reaching: Option<Option<Reaching<'s>>>,
    /// What the refs of lenders reach, once somebody asked.
    lent: Option<Bits>,
}

impl<'s> Bases<'s> {
    /// Bases of at most `limit_bytes`.
    pub fn new(repository: &'s Repository, snapshot: &'s Snapshot, limit_bytes: u64, work: &'s Work) -> Self {
        Self {
            repository,
            source: Source::new(snapshot),
            newer: None,
            limit_bytes,
            work,
            reason: None,
        }
    }

    /// Why something was not found, if there is more to say than that it is not here.
    pub fn reason(&mut self) -> Option<IndexError> {
        self.reason.take()
    }

    /// The object with this id, if a pack may build on it.
    pub fn find(&mut self, id: &ObjectId) -> Option<(ObjectKind, Content)> {
        let found = if self.source.snapshot.objects.contains(id) {
            self.source.find(id, self.limit_bytes, self.work)
        } else {
            // Stock git may have packed it anew since this push began.
            if self.newer.is_none() {
                self.newer = Some(self.repository.reload().ok()?);
            }
            let newer = self.newer.clone()?;
            if !newer.objects.contains(id) {
                return None;
            }
            Source::new(&newer).find(id, self.limit_bytes, self.work)
        };
        found.unwrap_or_else(|error| {
            self.reason.get_or_insert(error);
            None
        })
    }
}

impl<'s> Source<'s> {
    fn new(snapshot: &'s Snapshot) -> Self {
        Self {
            snapshot,
            reader: snapshot.objects.reader(CACHE_BYTES),
            near: None,
            reaching: None,
            lent: None,
        }
    }

    /// `None` if it is not here, or not for this client.
    fn find(
        &mut self,
        id: &ObjectId,
        limit_bytes: u64,
        work: &Work,
    ) -> Result<Option<(ObjectKind, Content)>, IndexError> {
        let Some(position) = self.snapshot.objects.position(id) else {
            return Ok(None);
        };
        match self.is_reached(id, position, work) {
            Ok(true) => {}
            Err(WalkError::Stopped(stopped)) => return Err(stopped.into()),
            // What cannot be walked reaches nothing.
            Ok(false) | Err(_) => return Ok(None),
        }
        let Ok((_, size_bytes)) = self.reader.header_at(position) else {
            return Ok(None);
        };
        if size_bytes > limit_bytes {
            return Err(IndexError::TooLargeForDelta {
                size_bytes,
                limit_bytes,
            });
        }
        let mut tick = || work.check();
        match self.reader.content(position, &mut tick) {
            Ok(found) => Ok(Some(found)),
            Err(crate::git::object_store::ReadError::Stopped(stopped)) => Err(stopped.into()),
            Err(_) => Err(IndexError::OwnObject(*id)),
        }
    }

    fn is_reached(&mut self, id: &ObjectId, position: Pos, work: &Work) -> Result<bool, WalkError> {
        let snapshot = self.snapshot;
        let mut tick = || -> Result<(), Stopped> { work.check() };
        if !snapshot.knows_reachable_objects() {
            if self.near.is_none() {
                self.near = Some(nearby::present_files(snapshot, &mut tick)?);
            }
            if self.near.as_ref().is_some_and(|near| near.has(position)) {
                return Ok(true);
            }
        }
        if self.reaching.is_none() {
            let walker = Walker::new(&snapshot.objects, &snapshot.shallow, CACHE_BYTES);
            self.reaching = Some(Reaching::new(walker, &snapshot.visible_tips(), &mut tick)?);
        }
        if let Some(Some(reaching)) = &mut self.reaching
            && reaching.reaches(position, &mut tick)?
        {
            return Ok(true);
        }
        if snapshot.reachable(&[*id], &[], &mut tick)? == [true] {
            return Ok(true);
        }
        if self.lent.is_none() {
            let mut lent = Bits::new(snapshot.objects.len());
            let tips = alternate_tips(&snapshot.objects);
            let here: Vec<ObjectId> = tips.into_iter().filter(|tip| snapshot.objects.contains(tip)).collect();
            if !here.is_empty() {
                let mut walker = Walker::new(&snapshot.objects, &snapshot.shallow, CACHE_BYTES);
                walker.add_closure(&here, &mut lent, &mut tick)?;
            }
            self.lent = Some(lent);
        }
        Ok(self.lent.as_ref().is_some_and(|lent| lent.has(position)))
    }
}
