//! `ProjectData`: the song, a flat list of records in a binary form of Logic's own.
//!
//! Layout (docs/metadata.md): a head of 24 bytes, then records of a 36-byte head and a payload, all little-endian. No
//! length word is trusted; the walk ends at the first record that does not fit.

use std::collections::{BTreeMap, BTreeSet};

use super::names::told;
use super::rtf::plain_text;
use super::{Limits, Status};

const MAGIC: [u8; 4] = [0x23, 0x47, 0xc0, 0xab];
const HEAD_BYTES: usize = 24;
const RECORD_HEAD_BYTES: usize = 36;
/// Version words that were seen in saved files: Logic 10.0.3 to 12.3.1, GarageBand 10.1.6 to 10.4.11.
const KNOWN_VERSIONS: [u16; 10] = [
    0x06a6, 0x06d6, 0x06e1, 0x06e6, 0x06eb, 0x07d0, 0x09cb, 0x09cf, 0x09d0, 0x09d1,
];
/// From this version on it is known how a placement names its region (Logic 11.2.2).
const LINKS_SINCE: u16 = 0x09cf;
/// Ticks of a quarter note.
pub const TICKS_PER_QUARTER: i64 = 960;
/// Where bar 1 lies in lists of tempo, meter and markers.
const EVENT_ORIGIN: i64 = 38_400;
/// Where bar 1 lies in lists of regions.
const REGION_ORIGIN: i64 = 34_560;
/// The text of a marker begins here in its record.
const RTF_OFFSET: usize = 0x62;
/// Of the text of a marker, this many bytes are read.
const MAX_RTF_BYTES: usize = 64 << 10;
/// Different plug-ins of one project.
const MAX_PLUGINS: usize = 1000;

/// What a `ProjectData` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectData {
    /// How far the walk got. If it is not [`Status::Ok`], lists may lack their ends, and all are empty where the
    /// version is not known either.
    pub status: Status,
    /// The version word of the file.
    pub version: u16,
    /// Tempo by position; the first is that of the start.
    pub tempo: Vec<Tempo>,
    /// Meter by position; the first is that of the start.
    pub meter: Vec<Meter>,
    /// Markers by position.
    pub markers: Vec<Marker>,
    /// Audio regions of the project, placed or not, as they stand there.
    pub regions: Vec<Region>,
    /// Audio files of the project, as they stand there.
    pub files: Vec<AudioFile>,
    /// Audio regions on tracks, by track and position.
    pub placements: Vec<Placement>,
    /// Plug-ins of Apple that are named in it, with their number; on which track is not known.
    pub plugins: Vec<(String, u32)>,
    /// Audio units of others as `aumu/DiVa/UHfX` (type, subtype, manufacturer).
    pub audio_units: Vec<String>,
    /// A list was longer than the limit and is cut.
    pub is_cut: bool,
}

/// A tempo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tempo {
    /// Where it begins, in ticks from bar 1.
    pub tick: i64,
    /// Beats per minute, four decimals.
    pub bpm: f64,
}

/// A meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Where it begins, in ticks from bar 1.
    pub tick: i64,
    /// Beats of a bar, and the note that is one.
    pub signature: (u32, u32),
}

/// A marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Where it stands, in ticks from bar 1.
    pub tick: i64,
    /// Its name, where the project holds it in a known form.
    pub name: Option<String>,
}

/// An audio region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// By which placements name it, within this file.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its length in sample frames.
    pub frames: u32,
}

/// An audio file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFile {
    /// Its own name.
    pub name: String,
    /// What it holds, for WAV and AIFF.
    pub format: Option<AudioFormat>,
}

/// The format of an audio file as the project notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// Length in sample frames.
    pub frames: u32,
    /// Sample rate in Hz.
    pub sample_rate_hz: u32,
    /// Channels.
    pub channels: u16,
    /// Bits of a sample.
    pub bits: u16,
}

/// A region on a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// The number of the track as it stands there, from 1 on.
    pub track: u8,
    /// Where it begins, in ticks from bar 1.
    pub tick: i64,
    /// The id of the region, where the version is one of which that is known.
    pub region: Option<u32>,
}

struct Record<'a> {
    tag: [u8; 4],
    head: &'a [u8],
    payload: &'a [u8],
}

impl Record<'_> {
    /// Which of its kind it is, as others name it.
    fn id(&self) -> u32 {
        u16_at(self.head, 0x0a).map_or(0, u32::from)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

impl ProjectData {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Status::NotLogic`] if it does not begin like one, [`Status::TooLarge`] if it exceeds the limit.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Status> {
        if bytes.len() as u64 > limits.project_data_bytes {
            return Err(Status::TooLarge);
        }
        let version = u16_at(bytes, 4).ok_or(Status::NotLogic)?;
        if !bytes.starts_with(&MAGIC) || bytes.len() < HEAD_BYTES {
            return Err(Status::NotLogic);
        }
        let mut reader = Reader {
            found: Self {
                version,
                ..Self::default()
            },
            marker_links: Vec::new(),
            marker_texts: BTreeMap::new(),
            plugins: BTreeMap::new(),
            audio_units: BTreeSet::new(),
            is_odd: false,
            most: limits.list_entries,
        };
        let is_whole = u32_at(bytes, 0x10).is_some_and(|len| len as usize == bytes.len() - HEAD_BYTES);
        let is_clean = reader.walk(&bytes[HEAD_BYTES..]);
        if !is_whole || !is_clean {
            if !KNOWN_VERSIONS.contains(&version) {
                // Show nothing rather than a guess.
                return Ok(Self {
                    status: Status::Partial,
                    version,
                    ..Self::default()
                });
            }
            reader.found.status = Status::Partial;
        }
        if reader.is_odd {
            reader.found.status = Status::Partial;
        }
        Ok(reader.finish())
    }

    /// Bar (from 1 on, 0 and below before the beginning) and the tick within it.
    pub fn bar_at(&self, tick: i64) -> (i64, i64) {
        let first = self.meter.first().map_or((4, 4), |meter| meter.signature);
        let (mut bar, mut from, mut len) = (1, 0, bar_ticks(first));
        for meter in &self.meter {
            if meter.tick > tick {
                break;
            }
            bar += (meter.tick - from).div_euclid(len);
            from = meter.tick;
            len = bar_ticks(meter.signature);
        }
        (bar + (tick - from).div_euclid(len), (tick - from).rem_euclid(len))
    }

    /// Tells times of positions; `None` if the project has no tempo.
    pub fn clock(&self) -> Option<Clock> {
        let first = self.tempo.first()?;
        let mut steps = vec![(0, 0.0, first.bpm)];
        for tempo in &self.tempo {
            let (tick, seconds, bpm) = *steps.last()?;
            if tempo.tick < tick {
                return None;
            }
            steps.push((tempo.tick, seconds + seconds_of(tempo.tick - tick, bpm), tempo.bpm));
        }
        Some(Clock { steps })
    }

    /// The region with this id.
    pub fn region(&self, id: u32) -> Option<&Region> {
        self.regions.iter().find(|region| region.id == id)
    }
}

/// Tells times of positions, along the tempo map of a project.
#[derive(Clone, Debug)]
pub struct Clock {
    /// From which tick on, its time in seconds from bar 1, and beats per minute from there on.
    steps: Vec<(i64, f64, f64)>,
}

impl Clock {
    /// Seconds from bar 1.
    pub fn seconds_at(&self, tick: i64) -> f64 {
        let next = self.steps.partition_point(|&(from, ..)| from <= tick);
        let (from, seconds, bpm) = self.steps[next.saturating_sub(1)];
        seconds + seconds_of(tick - from, bpm)
    }
}

fn seconds_of(ticks: i64, bpm: f64) -> f64 {
    ticks as f64 / TICKS_PER_QUARTER as f64 * 60.0 / bpm
}

fn bar_ticks((upper, lower): (u32, u32)) -> i64 {
    (TICKS_PER_QUARTER * 4 * i64::from(upper) / i64::from(lower.max(1))).max(1)
}

struct Reader {
    found: ProjectData,
    /// The link of each marker.
    marker_links: Vec<u32>,
    /// Texts of text records by id.
    marker_texts: BTreeMap<u32, String>,
    plugins: BTreeMap<String, u32>,
    audio_units: BTreeSet<String>,
    /// Within a list, something was not of the known form, and the rest of that list is not told.
    is_odd: bool,
    most: usize,
}

/// Adds to a list unless it is full.
fn push<T>(list: &mut Vec<T>, item: T, most: usize, is_cut: &mut bool) {
    if list.len() < most {
        list.push(item);
    } else {
        *is_cut = true;
    }
}

impl Reader {
    /// Walks along the records; whether that ended where the file does.
    fn walk(&mut self, mut rest: &[u8]) -> bool {
        while !rest.is_empty() {
            let Some((head, after)) = rest.split_at_checked(RECORD_HEAD_BYTES) else {
                return false;
            };
            let tag = [head[0], head[1], head[2], head[3]];
            let len = u32_at(head, 0x1c).map_or(usize::MAX, |len| len as usize);
            if !tag.iter().all(|byte| (b' '..=b'~').contains(byte)) {
                return false;
            }
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
            b"qSvE" => self.events(record.payload),
            b"qSxT" => self.text(record),
            b"gRuA" => self.region(record),
            b"lFuA" => self.file(record.payload),
            b"OCuA" | b"UCuA" | b"nCuA" => self.plugins(record.payload),
            _ => {}
        }
    }

    fn events(&mut self, payload: &[u8]) {
        match u32_at(payload, 0) {
            // Further lists are other sets of tempos.
            Some(0x60) if self.found.tempo.is_empty() => self.tempo(payload),
            Some(0x30) if self.found.meter.is_empty() => self.meter(payload),
            Some(0x12) if self.found.markers.is_empty() => self.markers(payload),
            Some(0x24 | 0x20) => self.placements(payload),
            _ => {}
        }
    }

    fn tempo(&mut self, payload: &[u8]) {
        for event in payload
            .chunks_exact(32)
            .take_while(|event| event.starts_with(&[0x60, 0, 0, 0]))
        {
            let (Some(at), Some(tempo)) = (u32_at(event, 4), u32_at(event, 0x10)) else {
                return;
            };
            let Some(bpm) = super::metadata::bpm_of(f64::from(tempo) / 10_000.0) else {
                self.is_odd = true;
                return;
            };
            let tick = i64::from(at) - EVENT_ORIGIN;
            push(
                &mut self.found.tempo,
                Tempo { tick, bpm },
                self.most,
                &mut self.found.is_cut,
            );
        }
    }

    /// Meters of 48 bytes, and keys of 32, which are not read.
    fn meter(&mut self, mut rest: &[u8]) {
        while let Some(kind) = u32_at(rest, 0) {
            let len = match kind {
                0x30 => 48,
                0x32 => 32,
                _ => return,
            };
            let Some((event, after)) = rest.split_at_checked(len) else {
                return;
            };
            rest = after;
            if kind != 0x30 {
                continue;
            }
            let (exponent, upper) = (u32::from(event[0x0b]), u32::from(event[0x0c]));
            if exponent > 8 || upper == 0 {
                self.is_odd = true;
                return;
            }
            // The first stands in the head of the list, without a position.
            let tick = match self.found.meter.is_empty() {
                true => 0,
                false => u32_at(event, 4).map_or(0, i64::from) - EVENT_ORIGIN,
            };
            let meter = Meter {
                tick,
                signature: (upper, 1 << exponent),
            };
            push(&mut self.found.meter, meter, self.most, &mut self.found.is_cut);
        }
    }

    fn markers(&mut self, payload: &[u8]) {
        for event in payload
            .chunks_exact(48)
            .take_while(|event| event.starts_with(&[0x12, 0, 0, 0]))
        {
            let tick = u32_at(event, 4).map_or(0, i64::from) - EVENT_ORIGIN;
            let marker = Marker { tick, name: None };
            push(&mut self.found.markers, marker, self.most, &mut self.found.is_cut);
            push(
                &mut self.marker_links,
                u32_at(event, 0x10).unwrap_or(0),
                self.most,
                &mut false,
            );
        }
    }

    /// A text of the kind that markers have.
    fn text(&mut self, record: &Record<'_>) {
        let is_marker = u16_at(record.head, 6) == Some(0x20);
        let Some(rtf) = record
            .payload
            .get(RTF_OFFSET..)
            .filter(|rtf| is_marker && rtf.starts_with(b"{\\rtf"))
        else {
            return;
        };
        if self.marker_texts.len() >= self.most {
            self.found.is_cut = true;
            return;
        }
        let text = told(&plain_text(&rtf[..rtf.len().min(MAX_RTF_BYTES)]));
        self.marker_texts.entry(record.id()).or_insert(text);
    }

    fn region(&mut self, record: &Record<'_>) {
        let payload = record.payload;
        let (Some(frames), Some(len)) = (u32_at(payload, 0x16), u16_at(payload, 0x4a)) else {
            return;
        };
        let name = payload.get(0x4c..).and_then(|rest| rest.get(..usize::from(len)));
        let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else {
            return;
        };
        let region = Region {
            id: record.id(),
            name: told(name),
            frames,
        };
        push(&mut self.found.regions, region, self.most, &mut self.found.is_cut);
    }

    fn file(&mut self, payload: &[u8]) {
        let Some(units) = u16_at(payload, 8).map(usize::from).filter(|&units| units > 0) else {
            return;
        };
        let Some(name) = payload.get(10..10 + units * 2) else {
            return;
        };
        let name: Vec<u16> = name
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&unit| u16::from_le_bytes(unit))
            .collect();
        let Ok(name) = String::from_utf16(&name) else { return };
        let rest = &payload[10 + units * 2..];
        let block = rest.windows(4).position(|tag| tag == b"EVAW" || tag == b"FFIA");
        let format = block.and_then(|at| {
            let format = AudioFormat {
                frames: u32_at(rest, at + 0x0c)?,
                sample_rate_hz: u32_at(rest, at + 0x14)?,
                channels: u16_at(rest, at + 0x18)?,
                bits: u16_at(rest, at + 0x1a)?,
            };
            let is_sound = (1..=1 << 20).contains(&format.sample_rate_hz)
                && (1..=64).contains(&format.channels)
                && (1..=64).contains(&format.bits);
            is_sound.then_some(format)
        });
        let file = AudioFile {
            name: told(&name),
            format,
        };
        push(&mut self.found.files, file, self.most, &mut self.found.is_cut);
    }

    /// Audio regions on tracks; other events of the list begin on the same grid of 16 bytes.
    fn placements(&mut self, payload: &[u8]) {
        let mut at = 0;
        while let Some(event) = payload.get(at..at + 80) {
            if !event.starts_with(&[0x24, 0, 0, 0]) || event[0x17] != 0x89 {
                at += 16;
                continue;
            }
            let placement = Placement {
                track: event[0x14],
                tick: u32_at(event, 4).map_or(0, i64::from) - REGION_ORIGIN,
                region: u32_at(event, 0x2c).filter(|_| self.found.version >= LINKS_SINCE),
            };
            push(&mut self.found.placements, placement, self.most, &mut self.found.is_cut);
            at += 80;
        }
    }

    fn plugins(&mut self, payload: &[u8]) {
        for (at, tag) in payload.windows(4).enumerate() {
            match tag {
                b"GAME" => {
                    let name = at.checked_sub(12).and_then(|from| plugin_name(&payload[from..at]));
                    let Some(name) = name else { continue };
                    if self.plugins.len() >= MAX_PLUGINS && !self.plugins.contains_key(&name) {
                        self.found.is_cut = true;
                        continue;
                    }
                    let count = self.plugins.entry(name).or_insert(0);
                    *count = count.saturating_add(1);
                }
                // Reversed: instrument, effect, effect with MIDI, generator, MIDI effect.
                b"umua" | b"xfua" | b"fmua" | b"ngua" | b"imua" => {
                    let maker = at.checked_sub(4).and_then(|from| code(&payload[from..at]));
                    let kind = code(tag);
                    let subtype = payload.get(at + 4..at + 8).and_then(code);
                    if let (Some(maker), Some(kind), Some(subtype)) = (maker, kind, subtype) {
                        // Codes of lower case alone are Apple's own.
                        if !maker.bytes().any(|byte| byte.is_ascii_uppercase()) {
                            continue;
                        }
                        let unit = format!("{kind}/{subtype}/{maker}");
                        if self.audio_units.len() >= MAX_PLUGINS && !self.audio_units.contains(&unit) {
                            self.found.is_cut = true;
                            continue;
                        }
                        self.audio_units.insert(unit);
                    }
                }
                _ => {}
            }
        }
    }

    fn finish(mut self) -> ProjectData {
        for (marker, link) in self.found.markers.iter_mut().zip(&self.marker_links) {
            let text = self.marker_texts.get(link);
            marker.name = text.filter(|text| !text.is_empty()).cloned();
        }
        self.found.markers.sort_by_key(|marker| marker.tick);
        self.found.placements.sort_unstable();
        self.found.plugins = self.plugins.into_iter().collect();
        self.found.audio_units = self.audio_units.into_iter().collect();
        self.found
    }
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
