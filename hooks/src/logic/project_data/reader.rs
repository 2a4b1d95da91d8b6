//! Walks along the records of a `ProjectData`.

use std::collections::{BTreeMap, BTreeSet};

use super::{AudioFile, AudioFormat, Marker, Meter, Placement, ProjectData, Region, Status, Tempo};
use crate::logic::metadata::bpm_of;
use crate::logic::names::told;
use crate::logic::rtf::plain_text;

pub(super) const MAGIC: [u8; 4] = [0x23, 0x47, 0xc0, 0xab];
pub(super) const HEAD_BYTES: usize = 24;
const RECORD_HEAD_BYTES: usize = 36;
/// Lists of events consist of lines of this length.
const LINE_BYTES: usize = 16;
/// Ends a list of events; in some old files, a line of zeros does.
const LAST_EVENT: u32 = 0xf1;
/// Where bar 1 lies in lists of tempo, meter and markers.
const EVENT_ORIGIN: i64 = 38_400;
/// Where bar 1 lies in lists of regions.
const REGION_ORIGIN: i64 = 34_560;
/// Kind and id of the list of regions on tracks. Others of its kind are folders of takes, for one.
const ARRANGEMENT: (u16, u16) = (0x17, 4);
/// Kind of the texts of markers.
const MARKER_TEXT: u16 = 0x20;
/// The text of a marker begins here in its record.
const RTF_OFFSET: usize = 0x62;
/// Most bytes of a marker's text that are read.
const MAX_RTF_BYTES: usize = 64 << 10;
/// Most different plug-ins that are told.
const MAX_PLUGINS: usize = 1000;

struct Record<'a> {
    tag: [u8; 4],
    head: &'a [u8],
    payload: &'a [u8],
}

impl Record<'_> {
    fn kind(&self) -> u16 {
        u16_at(self.head, 0x06).unwrap_or(0)
    }

    /// Which of its kind it is, as others name it.
    fn id(&self) -> u16 {
        u16_at(self.head, 0x0a).unwrap_or(0)
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The events of a list, without the last one; `None` where the list does not end as lists do.
///
/// An event is a line and the lines after it that have the highest bit of their eighth byte set; regions with changes
/// of time in them have thousands.
struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Events<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let more = self.rest.chunks_exact(LINE_BYTES).skip(1);
        let lines = 1 + more.take_while(|line| line[7] & 0x80 != 0).count();
        let Some((event, rest)) = self.rest.split_at_checked(lines * LINE_BYTES) else {
            self.rest = &[];
            return Some(None);
        };
        self.rest = rest;
        let first = u32_at(event, 0);
        match (first == Some(LAST_EVENT) || first == Some(0), rest.is_empty()) {
            (true, true) => None,
            (false, false) => Some(Some(event)),
            // Zeros in between are an event as any other.
            (true, false) if first == Some(0) => Some(Some(event)),
            _ => {
                self.rest = &[];
                Some(None)
            }
        }
    }
}

pub(super) struct Reader {
    found: ProjectData,
    /// A record that is read was not of the form that is known.
    is_odd: bool,
    has_tempo: bool,
    has_meter: bool,
    has_markers: bool,
    /// The link of each marker to its text.
    marker_links: Vec<u32>,
    marker_texts: BTreeMap<u32, String>,
    /// How many regions have an id.
    region_ids: BTreeMap<u32, u32>,
    plugins: BTreeMap<String, u32>,
    audio_units: BTreeSet<String>,
    most: usize,
}

impl Reader {
    pub(super) fn new(version: u16, most: usize) -> Self {
        Self {
            found: ProjectData {
                version,
                ..ProjectData::default()
            },
            is_odd: false,
            has_tempo: false,
            has_meter: false,
            has_markers: false,
            marker_links: Vec::new(),
            marker_texts: BTreeMap::new(),
            region_ids: BTreeMap::new(),
            plugins: BTreeMap::new(),
            audio_units: BTreeSet::new(),
            most,
        }
    }

    /// Walks along the records; whether that ended where the file does.
    pub(super) fn walk(&mut self, mut rest: &[u8]) -> bool {
        while !rest.is_empty() {
            let Some((head, after)) = rest.split_at_checked(RECORD_HEAD_BYTES) else {
                return false;
            };
            let tag = [head[0], head[1], head[2], head[3]];
            if !tag.iter().all(|byte| (b' '..=b'~').contains(byte)) {
                return false;
            }
            let len = u32_at(head, 0x1c).map_or(usize::MAX, |len| len as usize);
            let Some((payload, after)) = after.split_at_checked(len) else {
                return false;
            };
            self.record(&Record { tag, head, payload });
            rest = after;
        }
        true
    }

    fn record(&mut self, record: &Record<'_>) {
        match &record.tag {
            b"qSvE" => self.list(record),
            b"qSxT" => self.text(record),
            b"gRuA" => self.region(record),
            b"lFuA" => self.file(record.payload),
            b"OCuA" | b"UCuA" | b"nCuA" => self.plugins(record.payload),
            _ => {}
        }
    }

    fn list(&mut self, record: &Record<'_>) {
        let is_first = |has: &mut bool| !std::mem::replace(has, true);
        match u32_at(record.payload, 0) {
            // Further lists are other sets of tempos.
            Some(0x60) if is_first(&mut self.has_tempo) => self.events(record.payload, Self::tempo),
            Some(0x30) if is_first(&mut self.has_meter) => self.events(record.payload, Self::meter),
            Some(0x12) if is_first(&mut self.has_markers) => self.events(record.payload, Self::marker),
            _ if (record.kind(), record.id()) == ARRANGEMENT => self.events(record.payload, Self::placement),
            _ => {}
        }
    }

    /// Reads each event of a list; `read` tells whether it was of the form that is known, and adds at most one entry.
    fn events(&mut self, payload: &[u8], read: fn(&mut Self, &[u8]) -> bool) {
        for event in (Events { rest: payload }) {
            let is_known = event.is_some_and(|event| read(self, event));
            self.is_odd |= !is_known;
        }
    }

    /// Adds to a list unless it is full.
    fn push<T>(&mut self, list: fn(&mut Self) -> &mut Vec<T>, item: T) {
        let most = self.most;
        let list = list(self);
        if list.len() < most {
            list.push(item);
        } else {
            self.found.is_cut = true;
        }
    }

    fn tempo(&mut self, event: &[u8]) -> bool {
        if kind(event) != Some(0x60) {
            return true;
        }
        let bpm = u32_at(event, 0x10).and_then(|tempo| bpm_of(f64::from(tempo) / 10_000.0));
        let Some((bpm, tick)) = bpm.zip(tick(event, EVENT_ORIGIN)) else {
            return false;
        };
        self.push(|reader| &mut reader.found.tempo, Tempo { tick, bpm });
        true
    }

    /// Meters, and keys in between, which are not read.
    fn meter(&mut self, event: &[u8]) -> bool {
        if kind(event) != Some(0x30) {
            return true;
        }
        let (exponent, upper) = (u32::from(event[0x0b]), u32::from(event[0x0c]));
        // The first stands in the head of the list, without a position.
        let tick = match self.found.meter.is_empty() {
            true => Some(0),
            false => tick(event, EVENT_ORIGIN),
        };
        let Some(tick) = tick.filter(|_| exponent <= 8 && upper > 0) else {
            return false;
        };
        let signature = (upper, 1 << exponent);
        self.push(|reader| &mut reader.found.meter, Meter { tick, signature });
        true
    }

    fn marker(&mut self, event: &[u8]) -> bool {
        if kind(event) != Some(0x12) {
            return true;
        }
        let Some((link, tick)) = u32_at(event, 0x10).zip(tick(event, EVENT_ORIGIN)) else {
            return false;
        };
        self.push(|reader| &mut reader.found.markers, Marker { tick, name: None });
        if self.marker_links.len() < self.most {
            self.marker_links.push(link);
        }
        true
    }

    /// A text of the kind that markers have.
    fn text(&mut self, record: &Record<'_>) {
        let rtf = record.payload.get(RTF_OFFSET..);
        let Some(rtf) = rtf.filter(|rtf| record.kind() == MARKER_TEXT && rtf.starts_with(b"{\\rtf")) else {
            return;
        };
        let rtf = &rtf[..rtf.len().min(MAX_RTF_BYTES)];
        if self.marker_texts.len() < self.most {
            let text = told(&plain_text(rtf));
            self.marker_texts.entry(u32::from(record.id())).or_insert(text);
        } else {
            self.found.is_cut = true;
        }
    }

    fn region(&mut self, record: &Record<'_>) {
        let payload = record.payload;
        let id = u32::from(record.id());
        let region = || {
            let frames = u32_at(payload, 0x16)?;
            let len = usize::from(u16_at(payload, 0x4a)?);
            let name = std::str::from_utf8(payload.get(0x4c..0x4c + len)?).ok()?;
            // The name is padded, and what follows it has one length: a name of 16 bytes, `ff ff ff ff`, 20 zeros.
            let uuid = payload.len().checked_sub(40).filter(|&at| at >= 0x4c + len);
            let uuid = uuid.and_then(|at| payload[at..].split_first_chunk::<16>());
            let uuid = uuid.filter(|(uuid, rest)| **uuid != [0; 16] && rest.starts_with(&[0xff; 4]));
            Some(Region {
                id,
                uuid: uuid.map(|(uuid, _)| *uuid),
                name: told(name),
                frames,
            })
        };
        match region() {
            Some(region) => self.push(|reader| &mut reader.found.regions, region),
            None => self.is_odd = true,
        }
        *self.region_ids.entry(id).or_default() += 1;
    }

    fn file(&mut self, payload: &[u8]) {
        let Some(units) = u16_at(payload, 8).map(usize::from) else {
            self.is_odd = true;
            return;
        };
        let Some((name, rest)) = payload[10..].split_at_checked(units * 2) else {
            self.is_odd = true;
            return;
        };
        let name = name.as_chunks::<2>().0.iter().map(|&unit| u16::from_le_bytes(unit));
        let name: Result<String, _> = char::decode_utf16(name).collect();
        let Some(name) = name.ok().filter(|name| !name.is_empty()) else {
            return;
        };
        let block = rest.windows(4).position(|tag| tag == b"EVAW" || tag == b"FFIA");
        let file = AudioFile {
            name: told(&name),
            format: block.and_then(|at| format(&rest[at..])),
        };
        self.push(|reader| &mut reader.found.files, file);
    }

    /// A region on a track; the list has other events, too.
    fn placement(&mut self, event: &[u8]) -> bool {
        // By the eighth bytes of the four lines that each has.
        let more = event.chunks_exact(LINE_BYTES).skip(1).take(4);
        let lines: Vec<u8> = more.map(|line| line[7]).collect();
        let Some((tick, track)) = tick(event, REGION_ORIGIN).zip(event.get(0x14).copied()) else {
            // Events of one line.
            return true;
        };
        let placed = |region| Placement { track, tick, region };
        match (kind(event), lines.as_slice()) {
            (Some(0x24), [0x89, 0xbc, 0x8a, 0x89]) => {
                let region = u32_at(event, 0x2c);
                self.push(|reader| &mut reader.found.placements, placed(region));
            }
            (Some(0x20), [0x89, 0x88, 0x8a, 0x88]) => self.push(|reader| &mut reader.found.sequences, placed(None)),
            // Another form of a region would be one that is left out.
            (Some(0x24), _) => return false,
            _ => {}
        }
        true
    }

    fn plugins(&mut self, payload: &[u8]) {
        for (at, tag) in payload.windows(4).enumerate() {
            match tag {
                b"GAME" => {
                    let name = at.checked_sub(12).and_then(|from| plugin_name(&payload[from..at]));
                    let Some(name) = name else { continue };
                    if self.plugins.len() < MAX_PLUGINS || self.plugins.contains_key(&name) {
                        let count = self.plugins.entry(name).or_default();
                        *count = count.saturating_add(1);
                    } else {
                        self.found.is_cut = true;
                    }
                }
                // Reversed: instrument, effect, effect with MIDI, generator, MIDI effect.
                b"umua" | b"xfua" | b"fmua" | b"ngua" | b"imua" => {
                    let maker = at.checked_sub(4).and_then(|from| code(&payload[from..at]));
                    let subtype = payload.get(at + 4..at + 8).and_then(code);
                    let (Some(maker), Some(kind), Some(subtype)) = (maker, code(tag), subtype) else {
                        continue;
                    };
                    // Codes of lower case alone are Apple's own.
                    if !maker.bytes().any(|byte| byte.is_ascii_uppercase()) {
                        continue;
                    }
                    let unit = format!("{kind}/{subtype}/{maker}");
                    if self.audio_units.len() < MAX_PLUGINS || self.audio_units.contains(&unit) {
                        self.audio_units.insert(unit);
                    } else {
                        self.found.is_cut = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// All that was found; `is_clean` if the walk ended where the file does.
    pub(super) fn finish(mut self, is_clean: bool) -> ProjectData {
        if !is_clean || self.is_odd {
            self.found.status = Status::Partial;
        }
        for (marker, link) in self.found.markers.iter_mut().zip(&self.marker_links) {
            let text = self.marker_texts.get(link);
            marker.name = text.filter(|text| !text.is_empty()).cloned();
        }
        for placement in &mut self.found.placements {
            let is_alone = |id: &u32| self.region_ids.get(id) == Some(&1);
            placement.region = placement.region.filter(is_alone);
        }
        self.found.tempo.sort_by_key(|tempo| tempo.tick);
        self.found.meter.sort_by_key(|meter| meter.tick);
        self.found.markers.sort_by_key(|marker| marker.tick);
        self.found.placements.sort_unstable();
        self.found.sequences.sort_unstable();
        self.found.plugins = self.plugins.into_iter().collect();
        self.found.audio_units = self.audio_units.into_iter().collect();
        self.found
    }
}

/// What an event is. The two bytes after that are a fraction of a tick.
fn kind(event: &[u8]) -> Option<u16> {
    u16_at(event, 0)
}

/// Where an event stands, in ticks from bar 1.
fn tick(event: &[u8], origin: i64) -> Option<i64> {
    Some(i64::from(u32_at(event, 4)?) - origin)
}

/// What stands after `EVAW` or `FFIA`, if it can be sound.
fn format(block: &[u8]) -> Option<AudioFormat> {
    let format = AudioFormat {
        frames: u32_at(block, 0x0c)?,
        sample_rate_hz: u32_at(block, 0x14)?,
        channels: u16_at(block, 0x18)?,
        bits: u16_at(block, 0x1a)?,
    };
    let is_sound = (1..=1 << 20).contains(&format.sample_rate_hz)
        && (1..=64).contains(&format.channels)
        && (1..=64).contains(&format.bits);
    is_sound.then_some(format)
}

/// A name in a field of twelve bytes that ends with zeros.
fn plugin_name(field: &[u8]) -> Option<String> {
    let len = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let (name, zeros) = field.split_at(len);
    let is_text = name.iter().all(|byte| (b' '..=b'~').contains(byte)) && zeros.iter().all(|&byte| byte == 0);
    let is_name = name.len() > 1 && name[0].is_ascii_alphanumeric();
    (is_text && is_name).then(|| String::from_utf8_lossy(name).trim_end().to_owned())
}

/// Four characters that stand reversed.
fn code(bytes: &[u8]) -> Option<String> {
    let is_code = bytes.len() == 4 && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' ');
    is_code.then(|| bytes.iter().rev().map(|&byte| char::from(byte)).collect())
}
