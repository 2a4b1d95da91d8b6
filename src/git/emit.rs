//! Writes packs by copying stored entries; nothing is compressed anew unless it must be.
//!
//! Entries go out pack by pack in the order in which they are stored, so a delta's base mostly lies
//! in the same run of bytes and the entry is right as it is. Where objects are left out in between,
//! the distance to the base is written anew; where the base is not sent, the delta is made against
//! the base's id if the client has it, else the object is sent whole.
//!
//! Where an object would be sent whole while the client has an older version of it, a new delta is
//! tried: see [`super::likely_bases`].
//!
//! No circle of deltas can arise: a delta is kept only if its base is sent from the same pack or
//! was sent before it, and a new one is made only against what the client has or what was sent before.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_pack::data::entry::Header;

use super::checksum::Checksum;
use super::delta::{self, DeltaIndex};
use super::likely_bases::LikelyBases;
use super::object_store::{ObjectKind, ObjectStore, Pos, ReadError, Reader, StoreError};
use super::spill::{IN_MEMORY_BYTES, SpillError};
use super::walk::Bits;
use super::work::{Stopped, Tick};

/// Largest piece handed to the output at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Entries between two calls of the tick.
const TICK_ENTRIES: u32 = 1024;
/// Memory for delta bases of objects that are sent whole, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Largest object of which a new delta is made, in bytes.
const MAX_DELTA_TARGET_BYTES: u64 = 16 << 20;
/// What one request may spend on new deltas, in bytes of bases and targets.
const DELTA_BUDGET_BYTES: u64 = 64 << 20;
/// Older versions that are tried as the base of one object.
const MAX_BASES_TRIED: usize = 2;
/// Longest chain of new deltas, as in git.
const MAX_NEW_CHAIN: u32 = 50;

/// What the client understands.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmitOptions {
    /// Deltas against objects that are not sent but that the client has.
    pub thin: bool,
    /// Deltas that name their base by distance.
    pub ofs_delta: bool,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Objects in the pack.
    pub objects: u32,
    /// Of these, deltas.
    pub deltas: u32,
    /// Entries that were copied as stored.
    pub reused: u32,
    /// Length of the pack in bytes.
    pub bytes: u64,
}

/// Why a pack could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// A stored object is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client went away or the budget is used up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<ReadError> for EmitError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => Self::Store(error),
            ReadError::Stopped(stopped) => Self::Stopped(stopped),
        }
    }
}

/// What a pack is made of.
#[derive(Clone, Copy)]
pub struct PackObjects<'e> {
    /// The objects that are sent.
    pub send: &'e Bits,
    /// Objects that may serve as bases of thin deltas, because the client has them.
    pub has: &'e Bits,
    /// Older versions of what is sent.
    pub bases: &'e LikelyBases,
}

struct Emitter<'e> {
    store: &'e ObjectStore,
    objects: PackObjects<'e>,
    options: &'e EmitOptions,
    out: &'e mut dyn Write,
    tick: Tick<'e>,
    hash: Checksum,
    stats: PackStats,
    reader: Reader<'e>,
    buffer: Vec<u8>,
    /// Of each pack sent so far: where stored stretches went to.
    moved: Vec<Vec<Moved>>,
    /// An entry was sent whose base comes after it, so a new delta could close a circle.
    has_forward: bool,
    /// Where the entry that is being sent lies in its pack.
    current_offset: u64,
    /// What may still be spent on new deltas, in bytes of bases and targets.
    delta_budget_bytes: u64,
    /// Objects sent as new deltas, with the length of the chain of such deltas.
    chains: HashMap<Pos, u32>,
}

/// From this stored offset on, up to the next such record, entries lie `shift` bytes further on.
#[derive(Clone, Copy, Debug)]
struct Moved {
    stored_offset: u64,
    shift: i64,
}

/// How one entry is sent.
enum How {
    /// As it is stored.
    Verbatim,
    /// A delta whose header is written anew.
    Delta(Header),
    /// Decoded and compressed anew.
    Whole,
    /// As a new delta if that is shorter, else as it is stored.
    NewDelta,
}

/// Writes objects as one pack.
///
/// # Errors
/// [`EmitError`]
pub fn emit(
    store: &ObjectStore,
    objects: PackObjects<'_>,
    options: &EmitOptions,
    out: &mut dyn Write,
    tick: Tick<'_>,
) -> Result<PackStats, EmitError> {
    let count = objects.send.count();
    if let Some(number) = whole_pack(store, objects.send, options) {
        return copy_file(store, number, out, tick);
    }
    let mut emitter = Emitter {
        store,
        objects,
        options,
        out,
        tick,
        hash: Checksum::new(store.hash()),
        stats: PackStats {
            objects: count,
            ..PackStats::default()
        },
        reader: store.reader(CACHE_BYTES),
        buffer: Vec::new(),
        moved: Vec::with_capacity(store.packs().len()),
        has_forward: false,
        current_offset: 0,
        delta_budget_bytes: DELTA_BUDGET_BYTES,
        chains: HashMap::new(),
    };
    let mut header = *b"PACK\0\0\0\x02\0\0\0\0";
    header[8..].copy_from_slice(&count.to_be_bytes());
    emitter.write(&header)?;
    for number in 0..store.packs().len() {
        emitter.send_pack(number)?;
    }
    emitter.current_offset = u64::MAX;
    for position in objects.send.range(store.loose_start(), store.len()) {
        emitter.send_whole(position)?;
    }
    emitter.finish()
}

/// The pack that holds exactly what is to be sent, in a form this client understands.
pub(super) fn whole_pack(store: &ObjectStore, send: &Bits, options: &EmitOptions) -> Option<usize> {
    let count = send.count();
    if count == 0 || !options.ofs_delta {
        return None;
    }
    let number = store.packs().iter().position(|pack| pack.object_count() == count)?;
    let start = store.pack_start(number);
    let is_whole = send.range(start, start + count).count() == count as usize;
    (is_whole && store.packs()[number].data.version() == gix_pack::data::Version::V2).then_some(number)
}

/// Sends a pack as it lies on disk, trailer included.
fn copy_file(store: &ObjectStore, number: usize, out: &mut dyn Write, tick: Tick<'_>) -> Result<PackStats, EmitError> {
    let pack = &store.packs()[number];
    let len = pack.data.data_len() as u64;
    let mut at = 0;
    while at < len {
        let end = len.min(at + PIECE_BYTES as u64);
        let piece = pack
            .data
            .entry_slice(at..end)
            .ok_or_else(|| StoreError::damaged(pack.path().display(), "it is shorter than when it was opened"))?;
        out.write_all(piece).map_err(Stopped::Output)?;
        tick()?;
        at = end;
    }
    Ok(PackStats {
        objects: pack.object_count(),
        deltas: 0,
        reused: pack.object_count(),
        bytes: len,
    })
}

impl Emitter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EmitError> {
        self.hash.update(bytes);
        self.stats.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(Stopped::Output)?;
        Ok(())
    }

    fn finish(mut self) -> Result<PackStats, EmitError> {
        let trailer = self.hash.finish();
        self.stats.bytes += trailer.as_slice().len() as u64;
        self.out.write_all(trailer.as_slice()).map_err(Stopped::Output)?;
        Ok(self.stats)
    }

    fn send_pack(&mut self, number: usize) -> Result<(), EmitError> {
        self.moved.push(Vec::new());
        let pack = self.store.packs()[number].clone();
        let start = self.store.pack_start(number);
        let send = self.objects.send;
        // Stored bytes that go out as they are and were not written yet.
        let mut run = 0..0;
        for (since_tick, position) in (1_u32..).zip(send.range(start, start + pack.object_count())) {
            if since_tick.is_multiple_of(TICK_ENTRIES) {
                (self.tick)()?;
            }
            let order = position.0 - start;
            let entry = pack.offsets[order as usize]..pack.offsets[order as usize + 1];
            let written = self.stats.bytes + (run.end - run.start);
            self.current_offset = entry.start;
            match self.decide(number, order, entry.start, written)? {
                How::Verbatim => {
                    if run.end != entry.start {
                        self.copy_run(number, &run)?;
                        run = entry.start..entry.start;
                    }
                    if run.start == run.end {
                        self.note_move(number, entry.start, self.stats.bytes);
                    }
                    run.end = entry.end;
                    self.stats.reused += 1;
                }
                how => {
                    self.copy_run(number, &run)?;
                    run = 0..0;
                    self.note_move(number, entry.start, self.stats.bytes);
                    match how {
                        How::Delta(header) => self.send_delta(number, entry.start, entry.end, &header)?,
                        How::NewDelta => {
                            if !self.send_new_delta(position, entry.end - entry.start)? {
                                self.copy_run(number, &entry)?;
                                self.stats.reused += 1;
                            }
                        }
                        _ => self.send_whole(position)?,
                    }
                }
            }
        }
        self.copy_run(number, &run)
    }

    fn note_move(&mut self, number: usize, stored_offset: u64, sent_offset: u64) {
        let shift = sent_offset.wrapping_sub(stored_offset).cast_signed();
        let moved = &mut self.moved[number];
        if moved.last().is_none_or(|last| last.shift != shift) {
            moved.push(Moved { stored_offset, shift });
        }
    }

    /// Where an entry that was sent lies in the new pack.
    fn sent_offset(&self, number: usize, stored_offset: u64) -> u64 {
        let moved = &self.moved[number];
        let at = moved.partition_point(|moved| moved.stored_offset <= stored_offset) - 1;
        stored_offset.wrapping_add_signed(moved[at].shift)
    }

    /// How the entry at `offset` of a pack is sent if it comes to lie at `sent_at`.
    fn decide(&mut self, number: usize, order: u32, offset: u64, sent_at: u64) -> Result<How, EmitError> {
        let pack = &self.store.packs()[number];
        let entry = pack
            .data
            .entry(offset)
            .map_err(|error| StoreError::damaged(pack.path().display(), error))?;
        let base = match entry.header {
            Header::OfsDelta { base_distance } => {
                let base_order = offset
                    .checked_sub(base_distance)
                    .and_then(|base| pack.order_at_offset(base))
                    .ok_or_else(|| StoreError::damaged(pack.path().display(), "a delta names no entry as its base"))?;
                pack.id_at_order(base_order).to_owned()
            }
            Header::RefDelta { base_id } => base_id,
            _ if self.objects.bases.has(Pos(self.store.pack_start(number) + order)) => return Ok(How::NewDelta),
            _ => return Ok(How::Verbatim),
        };
        let by_id = Header::RefDelta { base_id: base };
        let Some(position) = self.store.position(&base) else {
            return Ok(How::Whole);
        };
        self.stats.deltas += 1;
        if !self.objects.send.has(position) {
            if self.options.thin && self.objects.has.has(position) {
                return Ok(How::Delta(by_id));
            }
            self.stats.deltas -= 1;
            return Ok(How::Whole);
        }
        let Some((base_number, base_order)) = self.store.locate(position) else {
            // Loose objects are sent last.
            self.stats.deltas -= 1;
            return Ok(How::Whole);
        };
        let is_before = base_number < number || (base_number == number && base_order < order);
        if !is_before {
            if base_number == number {
                self.has_forward = true;
                return Ok(if matches!(entry.header, Header::RefDelta { .. }) {
                    How::Verbatim
                } else {
                    How::Delta(by_id)
                });
            }
            self.stats.deltas -= 1;
            return Ok(How::Whole);
        }
        if !self.options.ofs_delta {
            return Ok(How::Delta(by_id));
        }
        let base_offset = self.store.packs()[base_number].offsets[base_order as usize];
        let distance = sent_at - self.sent_offset(base_number, base_offset);
        Ok(match entry.header {
            Header::OfsDelta { base_distance } if base_distance == distance => How::Verbatim,
            _ => How::Delta(Header::OfsDelta {
                base_distance: distance,
            }),
        })
    }

    fn copy_run(&mut self, number: usize, run: &std::ops::Range<u64>) -> Result<(), EmitError> {
        let pack = self.store.packs()[number].clone();
        let mut at = run.start;
        while at < run.end {
            let end = run.end.min(at + PIECE_BYTES as u64);
            let piece = pack
                .data
                .entry_slice(at..end)
                .ok_or_else(|| StoreError::damaged(pack.path().display(), "it is shorter than when it was opened"))?;
            self.write(piece)?;
            (self.tick)()?;
            at = end;
        }
        Ok(())
    }

    /// Sends a stored delta under another header.
    fn send_delta(&mut self, number: usize, offset: u64, end: u64, header: &Header) -> Result<(), EmitError> {
        let pack = self.store.packs()[number].clone();
        let entry = pack
            .data
            .entry(offset)
            .map_err(|error| StoreError::damaged(pack.path().display(), error))?;
        let mut bytes = Vec::with_capacity(32);
        header
            .write_to(entry.decompressed_size, &mut bytes)
            .map_err(Stopped::Output)?;
        self.write(&bytes)?;
        self.stats.reused += 1;
        self.copy_run(number, &(entry.data_offset..end))
    }

    /// Sends an object whole, compressed anew.
    fn send_whole(&mut self, position: Pos) -> Result<(), EmitError> {
        (self.tick)()?;
        if self.objects.bases.has(position) && self.send_new_delta(position, u64::MAX)? {
            return Ok(());
        }
        if self.reader.header_at(position)?.1 > IN_MEMORY_BYTES {
            return self.send_large(position);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let object = self.reader.read_at(position, &mut buffer)?;
        let header = whole_header(object.kind);
        let bytes = compressed(&header, object.data)?;
        self.buffer = buffer;
        self.write(&bytes)
    }

    /// Sends an object as a delta against an older version of it, if that takes fewer than `stored_len`
    /// bytes.
    fn send_new_delta(&mut self, position: Pos, stored_len: u64) -> Result<bool, EmitError> {
        let bases = self.objects.bases;
        let (kind, len) = self.reader.header_at(position)?;
        if len > MAX_DELTA_TARGET_BYTES {
            return Ok(false);
        }
        let candidates: Vec<(Pos, Header, u32)> = bases
            .versions(position)
            .filter_map(|base| self.usable_base(base).map(|(header, chain)| (base, header, chain)))
            .take(MAX_BASES_TRIED)
            .collect();
        let mut best: Option<(Vec<u8>, u32)> = None;
        let mut target = Vec::new();
        for (base, header, chain) in candidates {
            (self.tick)()?;
            let (base_kind, base_len) = self.reader.header_at(base)?;
            if base_kind != kind || base_len > MAX_DELTA_TARGET_BYTES || base_len + len > self.delta_budget_bytes {
                continue;
            }
            self.delta_budget_bytes -= base_len + len;
            if target.is_empty() {
                self.reader.read_at(position, &mut target)?;
            }
            let mut content = std::mem::take(&mut self.buffer);
            self.reader.read_at(base, &mut content)?;
            let index = DeltaIndex::new(&content[..]);
            // A delta of more than half its target is hardly shorter once both are compressed.
            let delta = delta::encode(&index, &target, target.len() / 2);
            self.buffer = content;
            let Some(delta) = delta else { continue };
            let bytes = compressed(&header, &delta)?;
            let limit = best.as_ref().map_or(stored_len, |(best, _)| best.len() as u64);
            if (bytes.len() as u64) < limit {
                best = Some((bytes, chain));
            }
        }
        let Some((bytes, chain)) = best else {
            return Ok(false);
        };
        self.chains.insert(position, chain + 1);
        self.stats.deltas += 1;
        self.write(&bytes)?;
        Ok(true)
    }

    /// How an object is named as the base of the next entry, if it can be: the client has it, or it
    /// was sent already. With it the length of the chain of new deltas it ends.
    fn usable_base(&self, base: Pos) -> Option<(Header, u32)> {
        let by_id = || Header::RefDelta {
            base_id: self.store.id(base),
        };
        if !self.objects.send.has(base) {
            return (self.options.thin && self.objects.has.has(base)).then(|| (by_id(), 0));
        }
        if self.has_forward {
            return None;
        }
        let chain = self.chains.get(&base).copied().unwrap_or(0);
        let (number, order) = self.store.locate(base)?;
        let offset = *self.store.packs()[number].offsets.get(order as usize)?;
        if chain >= MAX_NEW_CHAIN || number >= self.moved.len() {
            return None;
        }
        // Of the pack under way only what lies before the latest entry was sent.
        let is_sent = number + 1 < self.moved.len() || offset < self.current_offset;
        if !is_sent {
            return None;
        }
        if !self.options.ofs_delta {
            return Some((by_id(), chain));
        }
        let base_distance = self.stats.bytes - self.sent_offset(number, offset);
        Some((Header::OfsDelta { base_distance }, chain))
    }

    /// Sends a large object without holding it in memory.
    fn send_large(&mut self, position: Pos) -> Result<(), EmitError> {
        if let Some((kind, size, mut content)) = self.reader.open_loose(position)? {
            let mut compressor = self.compressor(kind, size)?;
            let mut piece = vec![0; PIECE_BYTES];
            let mut left = size;
            while left > 0 {
                let len = content.read(&mut piece).unwrap_or(0);
                if len == 0 {
                    return Err(StoreError::damaged(self.store.id(position), "it ends too early").into());
                }
                left -= len as u64;
                self.compress(&mut compressor, &piece[..len])?;
            }
            let rest = compressor.finish().map_err(Stopped::Output)?;
            return self.write(&rest);
        }
        let (kind, content) = self.reader.content(position, self.tick)?;
        let mut compressor = self.compressor(kind, content.len_bytes())?;
        let mut outcome = Ok(());
        let read = content.each_piece(&mut |piece| {
            outcome = self.compress(&mut compressor, piece);
            match &outcome {
                Ok(()) => Ok(()),
                Err(_) => Err(SpillError::Stopped(Stopped::Cancelled)),
            }
        });
        outcome?;
        read.map_err(|error| StoreError::damaged(self.store.id(position), error))?;
        let rest = compressor.finish().map_err(Stopped::Output)?;
        self.write(&rest)
    }

    /// Starts an entry that is compressed piece by piece.
    fn compressor(&self, kind: ObjectKind, size: u64) -> Result<ZlibEncoder<Vec<u8>>, EmitError> {
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        whole_header(kind).write_to(size, &mut bytes).map_err(Stopped::Output)?;
        Ok(ZlibEncoder::new(bytes, Compression::default()))
    }

    fn compress(&mut self, compressor: &mut ZlibEncoder<Vec<u8>>, piece: &[u8]) -> Result<(), EmitError> {
        compressor.write_all(piece).map_err(Stopped::Output)?;
        let ready = std::mem::take(compressor.get_mut());
        self.write(&ready)?;
        Ok((self.tick)()?)
    }
}

/// An entry with this header and content.
fn compressed(header: &Header, content: &[u8]) -> Result<Vec<u8>, Stopped> {
    let mut bytes = Vec::with_capacity(content.len() / 2 + 64);
    let mut compress = || -> io::Result<()> {
        header.write_to(content.len() as u64, &mut bytes)?;
        let mut encoder = ZlibEncoder::new(&mut bytes, Compression::default());
        encoder.write_all(content)?;
        encoder.finish()?;
        Ok(())
    };
    compress().map_err(Stopped::Output)?;
    Ok(bytes)
}

fn whole_header(kind: ObjectKind) -> Header {
    match kind {
        ObjectKind::Commit => Header::Commit,
        ObjectKind::Tree => Header::Tree,
        ObjectKind::Blob => Header::Blob,
        ObjectKind::Tag => Header::Tag,
    }
}
