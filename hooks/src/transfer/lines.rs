//! The lines that `git lfs` and a transfer agent exchange (Git LFS, `docs/custom-transfers.md`): one JSON
//! object each, on standard input and output.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _, Write};
use std::path::{Path, PathBuf};

use lfs_protocol::Oid;
use serde::{Deserialize, Serialize};

/// Longest line that is read, in bytes.
pub const MAX_LINE_BYTES: u64 = 1 << 20;

/// What `git lfs` asks for.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The first line.
    Init(Init),
    /// Bring an object.
    Upload(Object),
    /// Get an object.
    Download(Object),
    /// Nothing more comes.
    Terminate,
}

/// The first line.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Init {
    /// `upload` or `download`.
    pub operation: String,
}

/// One object.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Object {
    /// Its name; text until it is looked at, so that a bad one can be named in the answer.
    pub oid: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Where its bytes are, for an upload.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The request that the server named.
    #[serde(default)]
    pub action: Option<Action>,
}

/// What the server named in its batch answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Action {
    /// The address.
    pub href: String,
    /// The headers.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// For how long they are good, in seconds; 0 and less say nothing.
    #[serde(default)]
    pub expires_in: Option<i64>,
}

/// Why an object did not travel, as `git lfs` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Like a status of HTTP.
    pub code: u16,
    /// A sentence.
    pub message: String,
}

impl Failure {
    /// With a status of HTTP.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A file of this machine could not be used.
    pub fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(500, format!("{} cannot be used: {error}", path.display()))
    }
}

#[derive(Serialize)]
struct Moved<'a> {
    event: &'static str,
    oid: &'a str,
    #[serde(rename = "bytesSoFar")]
    so_far: u64,
    #[serde(rename = "bytesSinceLast")]
    since_last: u64,
}

#[derive(Serialize)]
struct Complete<'a> {
    event: &'static str,
    oid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// Tells `git lfs` how far an object is: never more than all of it, never less than before.
pub struct Progress<'a> {
    out: &'a mut dyn Write,
    oid: &'a str,
    size_bytes: u64,
    told_bytes: u64,
    lost: Option<io::Error>,
}

impl Progress<'_> {
    /// So many bytes of the object are done. A first byte is told at once, since the other workers wait for
    /// it, then each hundredth.
    pub fn reach(&mut self, bytes: u64) {
        let bytes = bytes.max(1).min(self.size_bytes);
        let step = if self.told_bytes == 0 {
            1
        } else {
            (self.size_bytes / 100).max(1)
        };
        if bytes >= self.told_bytes.saturating_add(step) || (bytes == self.size_bytes && bytes > self.told_bytes) {
            let line = Moved {
                event: "progress",
                oid: self.oid,
                so_far: bytes,
                since_last: bytes - self.told_bytes,
            };
            self.told_bytes = bytes;
            if self.lost.is_none() {
                self.lost = write_line(self.out, &line).err();
            }
        }
    }

    /// `done` of `all` parts of the stretch of the object from `from` to `to` hundredths.
    pub fn reach_part(&mut self, from: u64, to: u64, done: u64, all: u64) {
        let share = |of: u64| (u128::from(self.size_bytes) * u128::from(of) / 100) as u64;
        let (from, to) = (share(from), share(to));
        let part = u128::from(to - from) * u128::from(done.min(all)) / u128::from(all.max(1));
        self.reach(from + part as u64);
    }

    /// Whether `git lfs` is gone, so that there is nobody to work for.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }
}

/// Moves objects.
pub trait Mover {
    /// Brings the bytes at `path`, which should be those of `oid`.
    ///
    /// # Errors
    /// [`Failure`]; then the server does not have the object.
    fn upload(
        &mut self,
        oid: Oid,
        size_bytes: u64,
        path: &Path,
        action: Action,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure>;

    /// Gets an object; gives the file it is in, which `git lfs` will move.
    ///
    /// # Errors
    /// [`Failure`]
    fn download(
        &mut self,
        oid: Oid,
        size_bytes: u64,
        action: Action,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Failure>;
}

/// Answers lines until the last one.
///
/// # Errors
/// If a pipe breaks or something else than the protocol comes in.
pub fn serve(input: &mut dyn BufRead, out: &mut dyn Write, mover: &mut dyn Mover) -> io::Result<()> {
    let mut has_begun = false;
    while let Some(event) = read_line(input)? {
        match event {
            Event::Init(Init { operation }) => {
                has_begun = matches!(operation.as_str(), "upload" | "download");
                if has_begun {
                    writeln!(out, "{{}}")?;
                } else {
                    let error = Failure::new(501, format!("git-auxin knows no operation {operation:?}"));
                    write_line(out, &serde_json::json!({ "error": error }))?;
                }
                out.flush()?;
            }
            Event::Upload(object) if has_begun => carry(object, true, out, mover)?,
            Event::Download(object) if has_begun => carry(object, false, out, mover)?,
            Event::Terminate => return Ok(()),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a transfer came before init",
                ));
            }
        }
    }
    Ok(())
}

fn carry(object: Object, is_upload: bool, out: &mut dyn Write, mover: &mut dyn Mover) -> io::Result<()> {
    let Object {
        oid,
        size,
        path,
        action,
    } = object;
    let mut progress = Progress {
        out,
        oid: &oid,
        size_bytes: size,
        told_bytes: 0,
        lost: None,
    };
    progress.reach(1);
    let moved = match (Oid::parse(&oid), action, path) {
        (Err(bad), ..) => Err(Failure::new(422, format!("{oid:?} names no object: {bad}"))),
        (_, None, _) => Err(Failure::new(
            501,
            "the server named no address; unset lfs.standalonetransferagent, which git-auxin does not work with",
        )),
        (Ok(name), Some(action), Some(path)) if is_upload => {
            mover.upload(name, size, &path, action, &mut progress).map(|()| None)
        }
        (_, _, None) if is_upload => Err(Failure::new(422, "git lfs named no file to upload")),
        (Ok(name), Some(action), _) => mover.download(name, size, action, &mut progress).map(Some),
    };
    if moved.is_ok() {
        progress.reach(size);
    }
    if let Some(lost) = progress.lost {
        return Err(lost);
    }
    let (path, error) = match &moved {
        Ok(path) => (path.as_deref(), None),
        Err(failure) => (None, Some(failure.clone())),
    };
    let line = Complete {
        event: "complete",
        oid: &oid,
        path,
        error,
    };
    write_line(out, &line)
}

/// The next line, if one comes.
///
/// # Errors
/// The pipe's; [`io::ErrorKind::InvalidData`] if it is too long or not of the protocol.
pub fn read_line(input: &mut dyn BufRead) -> io::Result<Option<Event>> {
    let mut line = Vec::new();
    input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line is longer than 1 MiB",
        ));
    }
    let event = serde_json::from_slice(&line)?;
    Ok(Some(event))
}

fn write_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    /// Takes every upload in three steps that go too far, and refuses every download.
    struct Eager;

    impl Mover for Eager {
        fn upload(
            &mut self,
            _: Oid,
            size: u64,
            _: &Path,
            _: Action,
            progress: &mut Progress<'_>,
        ) -> Result<(), Failure> {
            for done in [size / 2, size / 4, size * 2] {
                progress.reach(done);
            }
            Ok(())
        }

        fn download(&mut self, _: Oid, _: u64, _: Action, _: &mut Progress<'_>) -> Result<PathBuf, Failure> {
            Err(Failure::new(404, "it is not there"))
        }
    }

    fn answers(input: &str) -> (io::Result<()>, Vec<serde_json::Value>) {
        let mut out = Vec::new();
        let ended = serve(&mut input.as_bytes(), &mut out, &mut Eager);
        let text = String::from_utf8(out).expect("text");
        (
            ended,
            text.lines()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect(),
        )
    }

    #[test]
    fn progress_begins_at_once_never_goes_back_and_ends_at_the_size() {
        let input = format!(
            "{{\"event\":\"init\",\"operation\":\"upload\",\"remote\":\"origin\",\"concurrent\":true,\"concurrenttransfers\":8}}\n\
             {{\"event\":\"upload\",\"oid\":\"{OID}\",\"size\":1000,\"path\":\"/tmp/a\",\"action\":{{\"href\":\"http://x\",\"header\":{{\"A\":\"b\"}},\"expires_at\":\"2026-11-10T15:29:07Z\"}}}}\n\
             {{\"event\":\"terminate\"}}\n"
        );
        let (ended, lines) = answers(&input);
        ended.expect("a good end");
        assert_eq!(lines[0], serde_json::json!({}));
        let far: Vec<_> = lines[1..lines.len() - 1]
            .iter()
            .map(|line| line["bytesSoFar"].as_u64())
            .collect();
        assert_eq!(far, [Some(1), Some(500), Some(1000)]);
        let sum: u64 = lines[1..]
            .iter()
            .filter_map(|line| line["bytesSinceLast"].as_u64())
            .sum();
        assert_eq!(sum, 1000);
        assert_eq!(
            lines[lines.len() - 1],
            serde_json::json!({"event": "complete", "oid": OID})
        );
    }

    #[test]
    fn what_goes_wrong_is_told_for_each_object_and_the_next_one_is_taken() {
        let download = |oid: &str, action: &str| {
            format!("{{\"event\":\"download\",\"oid\":\"{oid}\",\"size\":5,\"action\":{action}}}\n")
        };
        let input = "{\"event\":\"init\",\"operation\":\"download\"}\n".to_owned()
            + &download(OID, "{\"href\":\"http://x\"}")
            + &download("../../x", "{\"href\":\"http://x\"}")
            + &download(OID, "null")
            + &format!("{{\"event\":\"upload\",\"oid\":\"{OID}\",\"size\":5,\"action\":{{\"href\":\"http://x\"}}}}\n");
        let (ended, lines) = answers(&input);
        ended.expect("a good end");
        let codes: Vec<_> = lines.iter().filter_map(|line| line["error"]["code"].as_u64()).collect();
        assert_eq!(codes, [404, 422, 501, 422]);
    }

    #[test]
    fn an_unknown_operation_is_refused_and_what_is_no_protocol_ends_it() {
        let (ended, lines) = answers("{\"event\":\"init\",\"operation\":\"sing\"}\n");
        ended.expect("a good end");
        assert_eq!(lines[0]["error"]["code"], 501);
        for bad in [
            "la la\n".to_owned(),
            "{\"event\":\"sing\"}\n".to_owned(),
            format!("{{\"event\":\"upload\",\"oid\":\"{OID}\",\"size\":5}}\n"),
            "x".repeat(2 << 20),
        ] {
            answers(&bad).0.expect_err("an error");
        }
    }
}
