//! `MetaData.plist`: what Logic says of an alternative with every save.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::names::Reference;
use super::plist::{self, Value};
use super::{Limits, Status};

/// What a `MetaData.plist` says; every value may be absent, and in lists of Logic 10.0 most are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaData {
    /// Tempo at the start in beats per minute, four decimals.
    pub bpm: Option<f64>,
    /// Sample rate in Hz.
    pub sample_rate_hz: Option<u32>,
    /// Key.
    pub key: Option<Key>,
    /// `SignatureKey` as it stands there.
    pub signature_key: Option<i64>,
    /// First meter.
    pub time_signature: Option<(u32, u32)>,
    /// What a musician calls tracks.
    pub tracks: Option<u32>,
    /// Frame rate of film, a number without a known table.
    pub frame_rate_index: Option<i64>,
    /// The ruler shows time, not bars.
    pub is_timecode_based: Option<bool>,
    /// A number without a known table.
    pub surround_format_index: Option<i64>,
    /// A number without a known table.
    pub surround_mode_index: Option<i64>,
    /// Plug-ins such as Melodyne are in use.
    pub has_ara: Option<bool>,
    /// Live Loops are in use.
    pub has_live_loops: Option<bool>,
    /// Version of the list.
    pub version: Option<i64>,
    /// Audio files that regions use.
    pub audio_used: BTreeSet<Reference>,
    /// Audio files that were recorded and are not used.
    pub audio_unused: BTreeSet<Reference>,
    /// Other files.
    pub external: External,
    /// `true` if a list was longer than the limit and is cut.
    pub is_cut: bool,
}

/// Files of instruments and effects, and movies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct External {
    /// Of the Sampler, folders too.
    pub sampler: BTreeSet<Reference>,
    /// Of the Quick Sampler.
    pub quicksampler: BTreeSet<Reference>,
    /// Of Ultrabeat.
    pub ultrabeat: BTreeSet<Reference>,
    /// Of Alchemy.
    pub alchemy: BTreeSet<Reference>,
    /// Impulse responses of Space Designer.
    pub impulse: BTreeSet<Reference>,
    /// Of Playback.
    pub playback: BTreeSet<Reference>,
    /// Movies.
    pub video: BTreeSet<Reference>,
}

impl External {
    /// All of them, with a word for what they are.
    pub fn groups(&self) -> [(&'static str, &BTreeSet<Reference>); 7] {
        [
            ("sampler", &self.sampler),
            ("quicksampler", &self.quicksampler),
            ("ultrabeat", &self.ultrabeat),
            ("alchemy", &self.alchemy),
            ("impulse", &self.impulse),
            ("playback", &self.playback),
            ("video", &self.video),
        ]
    }
}

/// Mode of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Major.
    Major,
    /// Minor.
    Minor,
}

impl Mode {
    /// `major` or `minor`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Major => "major",
            Self::Minor => "minor",
        }
    }
}

/// The key of a song.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `A` to `G`, perhaps with `#` or `b`.
    pub tonic: String,
    /// Absent if the project does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Sharps of its signature, flats below zero, as `SignatureKey` says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fifths: Option<i32>,
    /// C major, with which every project begins: most likely nobody chose it.
    #[serde(rename = "default")]
    pub is_default: bool,
}

impl Key {
    /// `A minor`; `A` where the mode is not told.
    pub fn name(&self) -> String {
        match self.mode {
            Some(mode) => format!("{} {}", self.tonic, mode.name()),
            None => self.tonic.clone(),
        }
    }
}

/// Sharps of a `SignatureKey` and its mode: major is 7 + sharps, minor 23 + sharps.
fn fifths(signature_key: i64) -> Option<(i32, Mode)> {
    let sharps = |zero: i64| i32::try_from(signature_key - zero).ok();
    match signature_key {
        0..=14 => Some((sharps(7)?, Mode::Major)),
        16..=30 => Some((sharps(23)?, Mode::Minor)),
        _ => None,
    }
}

/// A tempo that music can have, in beats per minute with four decimals.
pub(super) fn bpm_of(bpm: f64) -> Option<f64> {
    (1.0..=1000.0)
        .contains(&bpm)
        .then(|| (bpm * 10_000.0).round() / 10_000.0)
}

impl MetaData {
    /// Reads the list, binary or XML.
    ///
    /// # Errors
    /// [`Status::NotLogic`] if it is no property list with names and values.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Status> {
        let list = plist::read(bytes);
        let dict = list.as_ref().and_then(Value::dict).ok_or(Status::NotLogic)?;
        let integer = |key: &str| dict.get(key).and_then(Value::integer);
        let count = |key: &str, most: u32| integer(key).and_then(|n| u32::try_from(n).ok()).filter(|&n| n <= most);
        let bool = |key: &str| dict.get(key).and_then(Value::bool);
        let text = |key: &str| dict.get(key).and_then(Value::text);

        let signature_key = integer("SignatureKey");
        let tonic = text("SongKey").filter(|tonic| {
            let mut chars = tonic.chars();
            matches!(chars.next(), Some('A'..='G')) && matches!(chars.as_str(), "" | "#" | "b")
        });
        let mode = match text("SongGenderKey") {
            Some("major") => Some(Mode::Major),
            Some("minor") => Some(Mode::Minor),
            _ => None,
        };
        let signature = signature_key.and_then(fifths);
        let mut is_cut = false;
        let mut references = |key: &str| {
            let entries = dict.get(key).and_then(Value::array).unwrap_or_default();
            is_cut |= entries.len() > limits.list_entries;
            let entries = entries.iter().take(limits.list_entries).filter_map(Value::text);
            entries.map(Reference::parse).collect::<BTreeSet<_>>()
        };
        Ok(Self {
            bpm: dict.get("BeatsPerMinute").and_then(Value::real).and_then(bpm_of),
            sample_rate_hz: count("SampleRate", 1 << 20).filter(|&rate| rate > 0),
            key: tonic.map(|tonic| Key {
                tonic: tonic.to_owned(),
                mode,
                fifths: signature.filter(|&(_, of)| mode == Some(of)).map(|(fifths, _)| fifths),
                is_default: tonic == "C" && mode != Some(Mode::Minor),
            }),
            signature_key,
            time_signature: count("SongSignatureNumerator", 99)
                .zip(count("SongSignatureDenominator", 256))
                .filter(|&(upper, lower)| upper > 0 && lower > 0),
            tracks: count("NumberOfTracks", 1 << 20),
            frame_rate_index: integer("FrameRateIndex"),
            is_timecode_based: bool("isTimeCodeBased"),
            surround_format_index: integer("SurroundFormatIndex"),
            surround_mode_index: integer("SurroundModeIndex"),
            has_ara: bool("HasARAPlugins"),
            has_live_loops: bool("HasGrid"),
            version: integer("Version"),
            audio_used: references("AudioFiles"),
            audio_unused: references("UnusedAudioFiles"),
            external: External {
                sampler: references("SamplerInstrumentsFiles"),
                quicksampler: references("QuicksamplerFiles"),
                ultrabeat: references("UltrabeatFiles"),
                alchemy: references("AlchemyFiles"),
                impulse: references("ImpulsResponsesFiles"),
                playback: references("PlaybackFiles"),
                video: references("VideoFiles"),
            },
            is_cut,
        })
    }
}
