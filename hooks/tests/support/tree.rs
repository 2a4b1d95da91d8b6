//! A tree in memory, and projects in it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use git_auxin::logic::{Content, FileFacts, Limits, Project, Source, read_projects};

use crate::logic_files::{Plist, binary, dict, text, texts};
use crate::project_data_files::project_data;

/// Files by path. A file of `None` is a large one that is not here.
#[derive(Clone, Default)]
pub struct Tree {
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    pub facts: BTreeMap<String, FileFacts>,
}

impl Tree {
    pub fn put(&mut self, path: &str, bytes: Vec<u8>) -> &mut Self {
        self.files.insert(path.to_owned(), Some(bytes));
        self
    }

    /// An audio file: its sound, length and rate.
    pub fn sound(&mut self, path: &str, oid: &str, sound: &str, seconds: f64, rate: f64) -> &mut Self {
        let facts = FileFacts {
            bytes: 1000,
            oid: Some(format!("sha256:{oid}")),
            sound: Some(sound.to_owned()),
            seconds: Some(seconds),
            sample_rate_hz: Some(rate),
        };
        self.facts.insert(path.to_owned(), facts);
        self.put(path, vec![0; 4])
    }

    /// `MetaData.plist` and `ProjectData` of alternative 0, and `ProjectInformation.plist`.
    pub fn project(&mut self, path: &str, list: &[(&str, Plist)], records: &[Vec<u8>], saved: &str) -> &mut Self {
        let information = binary(&dict(&[
            ("LastSavedFrom", text(saved)),
            ("VariantNamesV2", dict(&[("0", text("{PROJECT_NAME}"))])),
        ]));
        self.put(&format!("{path}/Alternatives/000/MetaData.plist"), binary(&dict(list)));
        self.put(
            &format!("{path}/Alternatives/000/ProjectData"),
            project_data(0x09cf, records),
        );
        self.put(&format!("{path}/Resources/ProjectInformation.plist"), information)
    }

    pub fn projects(&mut self) -> Vec<Project> {
        read_projects(self, &Limits::default()).expect("reading memory does not fail")
    }
}

impl Source for Tree {
    type Error = Infallible;

    fn paths(&mut self) -> Result<Vec<String>, Infallible> {
        Ok(self.files.keys().cloned().collect())
    }

    fn read(&mut self, path: &str, max_bytes: u64) -> Result<Content, Infallible> {
        Ok(match self.files.get(path) {
            None => Content::Absent,
            Some(None) => Content::LfsMissing,
            Some(Some(bytes)) if bytes.len() as u64 > max_bytes => Content::TooLarge,
            Some(Some(bytes)) => Content::Bytes(bytes.clone()),
        })
    }

    fn facts(&mut self, path: &str) -> Result<Option<FileFacts>, Infallible> {
        let file = self.files.get(path);
        Ok(file.map(|bytes| {
            let plain = || FileFacts {
                bytes: bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
                ..FileFacts::default()
            };
            self.facts.get(path).cloned().unwrap_or_else(plain)
        }))
    }
}

/// The facts of a list, with used and unused audio files.
pub fn list(bpm: f64, key: (&str, &str), used: &[&str], unused: &[&str]) -> Vec<(&'static str, Plist)> {
    vec![
        ("Version", Plist::Int(3)),
        ("BeatsPerMinute", Plist::Real(bpm)),
        ("SampleRate", Plist::Int(48_000)),
        ("SongKey", text(key.0)),
        ("SongGenderKey", text(key.1)),
        ("SongSignatureNumerator", Plist::Int(4)),
        ("SongSignatureDenominator", Plist::Int(4)),
        ("NumberOfTracks", Plist::Int(24)),
        ("AudioFiles", texts(used)),
        ("UnusedAudioFiles", texts(unused)),
    ]
}
