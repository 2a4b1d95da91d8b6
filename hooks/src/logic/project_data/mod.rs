//! `ProjectData`: the song, a flat list of records in a binary form of Logic's own.
//!
//! Layout (docs/metadata.md): a head of 24 bytes, then records of a 36-byte head and a payload, all little-endian. No
//! length word is trusted; the walk ends at the first record that does not fit.

mod reader;

use self::reader::{HEAD_BYTES, MAGIC, Reader, u16_at, u32_at};
use super::{Limits, Status};

/// Version words that were seen in saved files: Logic 10.0.3 to 12.3.1, GarageBand 10.1.6 to 10.4.11.
const KNOWN_VERSIONS: [u16; 10] = [
    0x06a6, 0x06d6, 0x06e1, 0x06e6, 0x06eb, 0x07d0, 0x09cb, 0x09cf, 0x09d0, 0x09d1,
];
/// Ticks of a quarter note.
pub const TICKS_PER_QUARTER: i64 = 960;

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
    /// Audio regions on tracks, by track and position; takes within a folder of takes are none.
    pub placements: Vec<Placement>,
    /// MIDI regions and folders of takes or tracks on tracks, by track and position.
    pub sequences: Vec<Placement>,
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
    /// By which placements name it, within this file. Not every one has an id of its own.
    pub id: u32,
    /// Its name over saves; absent in files of older versions.
    pub uuid: Option<[u8; 16]>,
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
    /// The id of the audio region, where one region alone has it.
    pub region: Option<u32>,
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
        let mut reader = Reader::new(version, limits.list_entries);
        let is_whole = u32_at(bytes, 0x10).is_some_and(|len| len as usize == bytes.len() - HEAD_BYTES);
        let is_clean = reader.walk(&bytes[HEAD_BYTES..]) && is_whole;
        if !is_clean && !KNOWN_VERSIONS.contains(&version) {
            // Show nothing rather than a guess.
            return Ok(Self {
                status: Status::Partial,
                version,
                ..Self::default()
            });
        }
        Ok(reader.finish(is_clean))
    }

    /// Bar (from 1 on, 0 and below before the beginning) and the tick within it.
    pub fn bar_at(&self, tick: i64) -> (i64, i64) {
        // What stands before bar 1 has the first meter.
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

    /// A position for people: `bar 17`, or `bar 17, beat 2.5` within one.
    pub fn place(&self, tick: i64) -> String {
        let (bar, rest) = self.bar_at(tick);
        let meter = self.meter.iter().take_while(|meter| meter.tick <= tick).last();
        let lower = meter.or(self.meter.first()).map_or(4, |meter| meter.signature.1);
        let beat = bar_ticks((1, lower));
        match rest {
            0 => format!("bar {bar}"),
            rest => {
                let hundredths = (rest * 100 / beat + 100) as f64;
                format!("bar {bar}, beat {}", hundredths / 100.0)
            }
        }
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
