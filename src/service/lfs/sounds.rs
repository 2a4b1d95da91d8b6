//! What a large file is as sound, found while its bytes pass by.

use git_auxin::audio::{READER_VERSION, SoundReader};

use crate::db::SoundRow;

/// Listens to one object.
#[derive(Default)]
pub(super) struct Listener {
    reader: SoundReader,
}

impl Listener {
    /// Takes its next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// At its end; `None` if it is no audio file.
    pub(super) fn finish(self) -> Option<SoundRow> {
        let sound = self.reader.finish()?;
        let facts = match serde_json::to_string(&sound.facts) {
            Ok(facts) => facts,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Facts of a sound cannot be written as JSON"
                );
                return None;
            }
        };
        Some(SoundRow {
            sound: sound.hash.map(|hash| *hash.as_bytes()),
            facts,
            reader_version: READER_VERSION,
        })
    }
}
