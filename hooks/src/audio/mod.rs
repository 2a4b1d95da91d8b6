//! What an audio file is, read while it streams by: WAV, RF64, BW64, AIFF, AIFC and CAF.
//!
//! [`SoundReader`] takes a file in pieces of any size and holds little of it at any time. It tells length, rate, bits,
//! channels, codec and what programs noted in it, and the [`SoundHash`]: two files with the same one differ only in
//! what is not sound, such as the overview that Logic writes anew. docs/metadata.md defines both.
//!
//! Nothing is guessed, and what does not fit ends the reading: what was read before still counts.

mod facts;
mod hash;
mod parts;
mod walk;

pub use self::facts::{Container, Loop, Marker, Recording, Sound, SoundFacts};
pub use self::hash::SoundHash;
pub use self::walk::SoundReader;

/// Version of this reader. Facts of another one are read again.
pub const READER_VERSION: u32 = 1;

/// Endings of files that are audio, in lower case; of these [`SoundReader`] may know the sound.
pub const AUDIO_ENDINGS: &[&str] = &["wav", "bwf", "rf64", "aif", "aiff", "aifc", "caf"];

/// Whether a path ends like the name of an audio file that [`SoundReader`] knows.
pub fn is_audio_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| AUDIO_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}
