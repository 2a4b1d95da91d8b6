//! What stands in the parts of a file. Each reader gets at most the first 64 KiB of its part.

use super::facts::{Loop, Marker, Recording, SoundFacts};
use super::hash::{Coding, Format, Pcm};

/// Marks that are told.
const MAX_MARKERS: usize = 64;
/// Characters of a text that is told.
const MAX_TEXT_CHARS: usize = 128;
/// Pairs of an Apple Loop that are looked at.
const MAX_PAIRS: u32 = 64;
/// Apple's tags of loops in CAF files.
const APPLE_LOOP: &[u8; 16] = b"\x29\x81\x92\x73\xb5\xbf\x4a\xef\xb7\x8d\x62\xd1\xef\x90\xbb\x2c";
const TONICS: [&str; 12] = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"];

pub(super) fn u16_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

pub(super) fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_le(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(super) fn u16_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

pub(super) fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_be(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Whether a part of this name is read.
pub(super) fn is_kept(name: &[u8; 4]) -> bool {
    matches!(
        name,
        b"ds64" | b"fmt " | b"fact" | b"bext" | b"acid" | b"COMM" | b"MARK" | b"basc" | b"desc" | b"uuid"
    )
}

/// A rate that a file can have, in Hz.
fn rate(hz: f64) -> Option<f64> {
    (hz.is_finite() && hz > 0.0).then_some(hz)
}

/// The name of a codec of four characters; hexadecimal if they are none.
fn four(name: [u8; 4]) -> String {
    match name.iter().all(u8::is_ascii_graphic) {
        true => String::from_utf8_lossy(&name).to_lowercase(),
        false if name[..3].iter().all(u8::is_ascii_graphic) && name[3] == b' ' => {
            String::from_utf8_lossy(&name[..3]).to_lowercase()
        }
        false => name.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// `fmt ` of WAV.
pub(super) fn wave_format(part: &[u8]) -> Option<Format> {
    let (mut tag, channels) = (u16_le(part, 0)?, u16_le(part, 2)?);
    let (rate_hz, frame_bytes, mut bits) = (u32_le(part, 4)?, u16_le(part, 12)?, u16_le(part, 14)?);
    if tag == 0xfffe {
        // WAVE_FORMAT_EXTENSIBLE: bits that count, and the tag as the beginning of the sub-format.
        tag = u16_le(part, 24)?;
        bits = match u16_le(part, 18)? {
            0 => bits,
            valid => valid,
        };
    }
    let sample_bytes = frame_bytes.checked_div(channels)?;
    let is_whole = sample_bytes * channels == frame_bytes;
    let pcm = match tag {
        1 if is_whole => Pcm::new(sample_bytes, false, false, sample_bytes == 1),
        3 if is_whole => Pcm::new(sample_bytes, true, false, false),
        _ => None,
    };
    let law = |name: &str| Coding::Other {
        name: name.to_owned(),
        packet_bytes: channels,
        packet_frames: 1,
    };
    let coding = match (pcm, tag) {
        (Some(pcm), _) => Coding::Pcm(pcm),
        (None, 6) => law("alaw"),
        (None, 7) => law("ulaw"),
        (None, _) => Coding::Other {
            name: format!("wave-{tag:04x}"),
            packet_bytes: frame_bytes,
            packet_frames: 0,
        },
    };
    Some(Format {
        bits: if pcm.is_some() { bits } else { 0 },
        coding,
        rate_hz: rate(f64::from(rate_hz))?,
        channels,
    })
}

/// `COMM` of AIFF and AIFC.
pub(super) fn aiff_format(part: &[u8], is_aifc: bool) -> Option<Format> {
    let (channels, bits) = (u16_be(part, 0)?, u16_be(part, 6)?);
    let rate_hz = rate(extended(part.get(8..18)?)?)?;
    if channels == 0 {
        return None;
    }
    let codec: [u8; 4] = match is_aifc {
        true => part.get(18..22)?.try_into().ok()?,
        false => *b"NONE",
    };
    let sample_bytes = bits.div_ceil(8);
    let pcm = match &codec {
        b"NONE" | b"twos" => Pcm::new(sample_bytes, false, true, false),
        b"sowt" => Pcm::new(sample_bytes, false, false, false),
        b"raw " => Pcm::new(1, false, true, true),
        b"in24" => Pcm::new(3, false, true, false),
        b"in32" => Pcm::new(4, false, true, false),
        b"fl32" | b"FL32" => Pcm::new(4, true, true, false),
        b"fl64" | b"FL64" => Pcm::new(8, true, true, false),
        _ => None,
    };
    let coding = match pcm {
        Some(pcm) => Coding::Pcm(pcm),
        None => {
            let name = four(codec);
            let (packet_bytes, packet_frames) = match name.as_str() {
                "alaw" | "ulaw" => (channels, 1),
                "ima4" => (channels * 34, 64),
                _ => (0, 0),
            };
            Coding::Other {
                name,
                packet_bytes,
                packet_frames,
            }
        }
    };
    Some(Format {
        bits: match pcm {
            Some(pcm) if pcm.is_float => u32::from(pcm.sample_bytes) * 8,
            Some(_) => bits,
            None => 0,
        },
        coding,
        rate_hz,
        channels,
    })
}

/// A floating point number of 80 bits, as nearly as 64 bits tell it.
fn extended(bytes: &[u8]) -> Option<f64> {
    let (head, fraction) = (u16_be(bytes, 0)?, u64_be(bytes, 2)?);
    let power = i32::try_from(head & 0x7fff).ok()? - 16383 - 63;
    (head & 0x8000 == 0).then(|| fraction as f64 * 2.0_f64.powi(power))
}

/// `desc` of CAF.
pub(super) fn caf_format(part: &[u8]) -> Option<Format> {
    let rate_hz = rate(f64::from_bits(u64_be(part, 0)?))?;
    let (codec, flags): ([u8; 4], _) = (part.get(8..12)?.try_into().ok()?, u32_be(part, 12)?);
    let (packet_bytes, packet_frames) = (u32_be(part, 16)?, u32_be(part, 20)?);
    let (channels, bits) = (u32_be(part, 24)?, u32_be(part, 28)?);
    let sample_bytes = packet_bytes.checked_div(channels)?;
    let is_whole = u64::from(sample_bytes) * u64::from(channels) == u64::from(packet_bytes) && packet_frames == 1;
    let pcm = (&codec == b"lpcm" && is_whole)
        .then(|| Pcm::new(sample_bytes, flags & 1 != 0, flags & 2 == 0, false))
        .flatten();
    let coding = match pcm {
        Some(pcm) => Coding::Pcm(pcm),
        None => Coding::Other {
            name: four(codec),
            packet_bytes,
            packet_frames,
        },
    };
    Some(Format {
        bits: if pcm.is_some() { bits } else { 0 },
        coding,
        rate_hz,
        channels,
    })
}

/// What was read beside the format, until all is known.
#[derive(Default)]
pub(super) struct Notes {
    /// Length in frames, from `fact` or the packet table.
    told_frames: Option<u64>,
    recording: Option<Recording>,
    looped: Option<Loop>,
    loop_tempo_bpm: Option<f64>,
    loop_key: Option<String>,
    logic_tempo_bpm: Option<f64>,
    markers: Vec<Marker>,
}

impl Notes {
    /// The head of the packet table of CAF.
    pub fn packets(&mut self, head: &[u8]) {
        self.told_frames = u64_be(head, 8).filter(|&frames| i64::try_from(frames).is_ok());
    }

    pub fn read(&mut self, name: &[u8; 4], part: &[u8]) {
        // Parts that are damaged tell nothing.
        let _ = match name {
            b"fact" => u32_le(part, 0).map(|frames| self.told_frames = Some(u64::from(frames))),
            b"bext" => self.bext(part),
            b"acid" => self.acid(part),
            b"MARK" => self.marks(part),
            b"basc" => self.apple_aiff(part),
            b"uuid" => self.apple_caf(part),
            _ => None,
        };
    }

    fn bext(&mut self, part: &[u8]) -> Option<()> {
        let reference = u64::from(u32_le(part, 338)?) | u64::from(u32_le(part, 342)?) << 32;
        self.recording.get_or_insert(Recording {
            originator: text(part.get(256..288)?),
            date: text(part.get(320..330)?),
            time: text(part.get(330..338)?),
            time_reference_frames: reference,
        });
        Some(())
    }

    fn acid(&mut self, part: &[u8]) -> Option<()> {
        let (flags, root) = (u32_le(part, 0)?, u16_le(part, 4)?);
        let (beats, lower, upper) = (u32_le(part, 12)?, u16_le(part, 16)?, u16_le(part, 18)?);
        let tempo = f64::from(f32::from_bits(u32_le(part, 20)?));
        let is_one_shot = flags & 1 != 0;
        self.loop_tempo_bpm = tempo_of(tempo).filter(|_| !is_one_shot);
        if flags & 2 != 0 {
            self.loop_key = Some(TONICS[root as usize % 12].to_owned());
        }
        self.looped = Some(Loop {
            source: "acid".to_owned(),
            is_one_shot,
            beats: Some(beats).filter(|&beats| beats > 0),
            time_signature: meter(upper, lower),
        });
        Some(())
    }

    /// `MARK`: number, place, name with its length in front, padded to an even length.
    fn marks(&mut self, part: &[u8]) -> Option<()> {
        let mut at = 2;
        for _ in 0..u16_be(part, 0)?.min(MAX_MARKERS as u32) {
            let (frame, len) = (u32_be(part, at + 2)?, usize::from(*part.get(at + 6)?));
            let name = text(part.get(at + 7..at + 7 + len)?);
            if let Some(tempo) = name.strip_prefix("Tempo:") {
                self.logic_tempo_bpm = tempo.trim().parse().ok().and_then(tempo_of);
            }
            self.markers.push(Marker { frame, name });
            at += 7 + len + usize::from(len.is_multiple_of(2));
        }
        Some(())
    }

    /// `basc` of an Apple Loop in AIFF.
    fn apple_aiff(&mut self, part: &[u8]) -> Option<()> {
        let (beats, root, scale) = (u32_be(part, 4)?, u16_be(part, 8)?, u16_be(part, 10)?);
        let (upper, lower, kind) = (u16_be(part, 12)?, u16_be(part, 14)?, u16_be(part, 16)?);
        if root > 0 {
            let tonic = TONICS[root as usize % 12];
            self.loop_key = match scale {
                1 => Some(format!("{tonic} minor")),
                2 => Some(format!("{tonic} major")),
                _ => Some(tonic.to_owned()),
            };
        }
        self.looped = Some(Loop {
            source: "apple".to_owned(),
            is_one_shot: kind == 1,
            beats: Some(beats).filter(|&beats| beats > 0),
            time_signature: meter(upper, lower),
        });
        Some(())
    }

    /// Apple's pairs of texts in CAF: a count, then texts that end with a zero byte.
    fn apple_caf(&mut self, part: &[u8]) -> Option<()> {
        let pairs = part.strip_prefix(APPLE_LOOP)?;
        let count = u32_be(pairs, 0)?.min(MAX_PAIRS);
        let mut texts = pairs[4..].split(|&byte| byte == 0).map(text);
        let (mut tonic, mut mode) = (None, None);
        let mut looped = Loop {
            source: "apple".to_owned(),
            is_one_shot: false,
            beats: None,
            time_signature: None,
        };
        for _ in 0..count {
            let (Some(key), Some(value)) = (texts.next(), texts.next()) else {
                break;
            };
            match key.as_str() {
                "tempo" => self.loop_tempo_bpm = value.parse().ok().and_then(tempo_of),
                "beat count" => looped.beats = value.parse().ok().filter(|&beats| beats > 0),
                "time signature" => {
                    let (upper, lower) = value.split_once('/').unwrap_or_default();
                    looped.time_signature = upper.parse().ok().zip(lower.parse().ok());
                }
                "key signature" => tonic = Some(value).filter(|value| is_tonic(value)),
                "key type" => mode = Some(value).filter(|value| matches!(value.as_str(), "major" | "minor")),
                _ => {}
            }
        }
        looped.is_one_shot = looped.beats.is_none();
        self.loop_key = tonic.map(|tonic| match mode {
            Some(mode) => format!("{tonic} {mode}"),
            None => tonic,
        });
        self.looped = Some(looped);
        Some(())
    }

    /// Puts together what is known at the end.
    pub fn tell(self, format: Option<&Format>, facts: &mut SoundFacts) {
        if let Some(format) = format {
            facts.codec = Some(match &format.coding {
                Coding::Pcm(pcm) => (if pcm.is_float { "float" } else { "int" }).to_owned(),
                Coding::Other { name, .. } => name.clone(),
            });
            facts.sample_rate_hz = Some(format.rate_hz);
            facts.channels = Some(format.channels);
            facts.bits = Some(format.bits).filter(|&bits| bits > 0);
            facts.frames = match &format.coding {
                Coding::Pcm(pcm) => facts
                    .sound_bytes
                    .checked_div(u64::from(pcm.sample_bytes) * u64::from(format.channels)),
                Coding::Other {
                    packet_bytes,
                    packet_frames,
                    ..
                } => self.told_frames.or_else(|| {
                    let packets = facts.sound_bytes.checked_div(u64::from(*packet_bytes))?;
                    packets
                        .checked_mul(u64::from(*packet_frames))
                        .filter(|&frames| frames > 0)
                }),
            };
            facts.seconds = facts.frames.map(|frames| frames as f64 / format.rate_hz);
        }
        let of_the_loop = self.loop_tempo_bpm.or_else(|| {
            let looped = self.looped.as_ref().filter(|looped| !looped.is_one_shot)?;
            let seconds = facts.seconds.filter(|&seconds| seconds > 0.0)?;
            tempo_of(f64::from(looped.beats?) * 60.0 / seconds)
        });
        facts.tempo_bpm = self.logic_tempo_bpm.or(of_the_loop);
        facts.key = self.loop_key;
        facts.recording = self.recording;
        facts.looped = self.looped;
        facts.markers = self.markers;
    }
}

/// A tempo that music can have, in beats per minute with four decimals.
fn tempo_of(bpm: f64) -> Option<f64> {
    (1.0..=1000.0)
        .contains(&bpm)
        .then(|| (bpm * 10_000.0).round() / 10_000.0)
}

fn meter(upper: u32, lower: u32) -> Option<(u32, u32)> {
    (upper > 0 && lower > 0).then_some((upper, lower))
}

fn is_tonic(text: &str) -> bool {
    let mut chars = text.chars();
    matches!(chars.next(), Some('A'..='G')) && matches!(chars.as_str(), "" | "#" | "b")
}

/// A text up to its first zero byte, without control characters.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|char| !char.is_control())
        .take(MAX_TEXT_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}
