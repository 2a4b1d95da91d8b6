//! What is told of a file.

use serde::{Deserialize, Serialize};

use super::SoundHash;

/// What one file is.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// The name of the sound; `None` if there is none, or if its format comes after it.
    pub hash: Option<SoundHash>,
    /// The rest.
    pub facts: SoundFacts,
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// `RIFF`.
    Wav,
    /// `RF64`, WAV beyond 4 GiB.
    Rf64,
    /// `BW64`, its successor.
    Bw64,
    /// `FORM` with `AIFF`.
    Aiff,
    /// `FORM` with `AIFC`.
    Aifc,
    /// Core Audio Format.
    Caf,
}

/// What stands in a file. What it does not say is `None`, or absent as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoundFacts {
    /// Its kind.
    pub container: Container,
    /// `int` and `float` for samples as they are; else a name such as `alac` or `wave-0055`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub codec: Option<String>,
    /// Sample frames per second, in Hz.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sample_rate_hz: Option<f64>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channels: Option<u32>,
    /// Bits of a sample; absent if it is compressed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bits: Option<u32>,
    /// Length in sample frames.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub frames: Option<u64>,
    /// Length in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<f64>,
    /// Length of the sound in bytes, as it lies in the file.
    pub sound_bytes: u64,
    /// The file announces more sound than it has.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_cut_short: bool,
    /// Tempo in beats per minute: Logic's own mark, else that of the loop.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tempo_bpm: Option<f64>,
    /// Key as a loop tells it: `A minor`, or `A` where the mode is not told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// `bext`: where and when it was recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recording: Option<Recording>,
    /// `acid` or Apple Loops.
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none", default)]
    pub looped: Option<Loop>,
    /// `MARK`: the first 64 marks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub markers: Vec<Marker>,
}

impl SoundFacts {
    pub(super) fn new(container: Container) -> Self {
        Self {
            container,
            codec: None,
            sample_rate_hz: None,
            channels: None,
            bits: None,
            frames: None,
            seconds: None,
            sound_bytes: 0,
            is_cut_short: false,
            tempo_bpm: None,
            key: None,
            recording: None,
            looped: None,
            markers: Vec::new(),
        }
    }
}

/// What `bext` says. Texts are cut at their first zero byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The program or the machine.
    pub originator: String,
    /// As it stands there, `2026-11-27`.
    pub date: String,
    /// As it stands there, `14:05:31`.
    pub time: String,
    /// Original position in sample frames since midnight.
    pub time_reference_frames: u64,
}

/// What a loop says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// `acid` or `apple`.
    pub source: String,
    /// It is played once and has no tempo.
    pub is_one_shot: bool,
    /// Its length in beats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub beats: Option<u32>,
    /// Its meter, `[4, 4]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_signature: Option<(u32, u32)>,
}

/// A mark in an AIFF file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Where, in sample frames.
    pub frame: u32,
    /// Its name.
    pub name: String,
}
