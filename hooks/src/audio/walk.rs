//! Walks along the parts of a file as they come.

use std::mem;

use sha2::{Digest, Sha256};

use super::facts::{Container, Sound, SoundFacts};
use super::hash::{Coding, Format, Samples};
use super::parts;

/// What is kept of one part, in bytes.
const KEEP_BYTES: u64 = 64 << 10;
/// What is kept of the packet table of a CAF file: its counts, in bytes.
const PACKET_HEAD_BYTES: usize = 24;
/// Four characters that name a part.
pub(super) type Name = [u8; 4];

/// Reads a file that comes in pieces of any size. Holds at most 64 KiB of it.
pub struct SoundReader {
    state: State,
    container: Option<Container>,
    /// Bytes of which more are needed before they mean something.
    held: Vec<u8>,
    format: Option<Format>,
    samples: Option<Samples>,
    is_sound_seen: bool,
    /// Length of the sound in RF64, from `ds64`.
    long_sound_bytes: Option<u64>,
    cookie: Option<[u8; 32]>,
    packets: Option<[u8; 32]>,
    notes: parts::Notes,
    facts: SoundFacts,
}

enum State {
    /// The first 12 bytes are awaited.
    Magic,
    /// Name and length of a part are awaited.
    PartHead,
    /// After a part of odd length: whether a pad byte follows shows in the five bytes after it.
    Pad,
    Part {
        left: u64,
        is_odd: bool,
        role: Role,
    },
    /// Nothing more is read.
    Done,
}

enum Role {
    Skip,
    /// The beginning is kept and read at its end.
    Keep(Name),
    /// The eight bytes before the samples of AIFF.
    SoundHead,
    /// Samples, after `skip` bytes.
    Sound {
        skip: u64,
    },
    Cookie(Sha256),
    Packets(Sha256),
}

impl Default for SoundReader {
    fn default() -> Self {
        Self::new()
    }
}

impl SoundReader {
    /// At the beginning of a file.
    pub fn new() -> Self {
        Self {
            state: State::Magic,
            container: None,
            held: Vec::new(),
            format: None,
            samples: None,
            is_sound_seen: false,
            long_sound_bytes: None,
            cookie: None,
            packets: None,
            notes: parts::Notes::default(),
            facts: SoundFacts::new(Container::Wav),
        }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = match mem::replace(&mut self.state, State::Done) {
                State::Done => bytes.len(),
                State::Magic => self.magic(bytes),
                State::PartHead => self.part_head(bytes),
                State::Pad => self.pad(bytes),
                State::Part { left, is_odd, role } => self.part(bytes, left, is_odd, role),
            };
            bytes = &bytes[used..];
        }
    }

    /// At the end of the file: what it is; `None` if it is no audio file of these kinds.
    pub fn finish(mut self) -> Option<Sound> {
        let container = self.container?;
        // A part that the file does not hold to its end.
        match mem::replace(&mut self.state, State::Done) {
            State::Part {
                left,
                role: Role::Sound { .. } | Role::SoundHead,
                ..
            } => self.facts.is_cut_short = left < u64::MAX / 2,
            State::Part {
                role: Role::Keep(name), ..
            } => self.read_part(name),
            _ => {}
        }
        self.facts.container = container;
        let hash = match (self.samples.take(), &self.format) {
            (Some(samples), Some(format)) => samples.finish(format, self.cookie, self.packets),
            _ => None,
        };
        self.notes.tell(self.format.as_ref(), &mut self.facts);
        Some(Sound {
            hash,
            facts: self.facts,
        })
    }

    /// Holds bytes until there are `need`; `Err` gives how many were used if there are fewer still.
    fn hold(&mut self, bytes: &[u8], need: usize) -> Result<usize, usize> {
        let count = need.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..count]);
        if self.held.len() < need { Err(count) } else { Ok(count) }
    }

    fn magic(&mut self, bytes: &[u8]) -> usize {
        let used = match self.hold(bytes, 12) {
            Ok(used) => used,
            Err(used) => {
                self.state = State::Magic;
                return used;
            }
        };
        self.container = match (&self.held[..4], &self.held[8..12]) {
            (b"RIFF", b"WAVE") => Some(Container::Wav),
            (b"RF64", b"WAVE") => Some(Container::Rf64),
            (b"BW64", b"WAVE") => Some(Container::Bw64),
            (b"FORM", b"AIFF") => Some(Container::Aiff),
            (b"FORM", b"AIFC") => Some(Container::Aifc),
            (b"caff", _) => Some(Container::Caf),
            _ => None,
        };
        if let Some(container) = self.container {
            // The head of a CAF file is shorter: what is held more belongs to its first part.
            let head_bytes = if container == Container::Caf { 8 } else { 12 };
            self.held.drain(..head_bytes);
            self.state = State::PartHead;
        }
        used
    }

    fn part_head(&mut self, bytes: &[u8]) -> usize {
        let is_caf = self.container == Some(Container::Caf);
        let used = match self.hold(bytes, if is_caf { 12 } else { 8 }) {
            Ok(used) => used,
            Err(used) => {
                self.state = State::PartHead;
                return used;
            }
        };
        let name: Name = [self.held[0], self.held[1], self.held[2], self.held[3]];
        let len = match self.container {
            Some(Container::Caf) => parts::u64_be(&self.held, 4),
            Some(Container::Aiff | Container::Aifc) => parts::u32_be(&self.held, 4).map(u64::from),
            _ => parts::u32_le(&self.held, 4).map(u64::from),
        };
        self.held.clear();
        // What is no name is no part: the walk is over.
        if let Some(len) = len.filter(|_| is_name(&name)) {
            self.begin(name, len);
        }
        used
    }

    fn begin(&mut self, name: Name, len: u64) {
        let is_caf = self.container == Some(Container::Caf);
        let is_aiff = matches!(self.container, Some(Container::Aiff | Container::Aifc));
        let is_riff = !is_caf && !is_aiff;
        let is_odd = !is_caf && len & 1 == 1;
        let (role, left) = match &name {
            b"data" if is_riff && !self.is_sound_seen => {
                let left = match (len, self.long_sound_bytes) {
                    (0xffff_ffff, Some(long)) => long,
                    (0xffff_ffff, None) => u64::MAX,
                    _ => len,
                };
                (self.sound(0), left)
            }
            b"data" if is_caf && !self.is_sound_seen => (self.sound(4), len),
            b"SSND" if is_aiff && !self.is_sound_seen && len >= 8 => (Role::SoundHead, len),
            // Only sound may go to the end of the file without a length.
            _ if len > i64::MAX as u64 => return,
            b"kuki" if is_caf && self.cookie.is_none() => (Role::Cookie(Sha256::new()), len),
            b"pakt" if is_caf && self.packets.is_none() => (Role::Packets(Sha256::new()), len),
            name if parts::is_kept(name) => (Role::Keep(*name), len),
            _ => (Role::Skip, len),
        };
        self.go_on(left, is_odd, role);
    }

    fn sound(&mut self, skip: u64) -> Role {
        self.is_sound_seen = true;
        self.samples = self.format.as_ref().map(|format| Samples::new(&format.coding));
        Role::Sound { skip }
    }

    /// Stays in a part, or ends it if nothing is left.
    fn go_on(&mut self, left: u64, is_odd: bool, role: Role) {
        if left > 0 {
            self.state = State::Part { left, is_odd, role };
            return;
        }
        match role {
            Role::Keep(name) => self.read_part(name),
            Role::Cookie(hasher) => self.cookie = Some(hasher.finalize().into()),
            Role::Packets(hasher) => {
                self.packets = Some(hasher.finalize().into());
                self.notes.packets(&self.held);
            }
            Role::Skip | Role::SoundHead | Role::Sound { .. } => {}
        }
        self.held.clear();
        self.state = if is_odd { State::Pad } else { State::PartHead };
    }

    fn part(&mut self, bytes: &[u8], left: u64, is_odd: bool, mut role: Role) -> usize {
        let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let mut here = &bytes[..count];
        match &mut role {
            Role::Skip => {}
            Role::Keep(_) => {
                let room = (KEEP_BYTES as usize).saturating_sub(self.held.len());
                self.held.extend_from_slice(&here[..here.len().min(room)]);
            }
            Role::Cookie(hasher) => hasher.update(here),
            Role::Packets(hasher) => {
                hasher.update(here);
                let room = PACKET_HEAD_BYTES.saturating_sub(self.held.len());
                self.held.extend_from_slice(&here[..here.len().min(room)]);
            }
            Role::SoundHead => match self.hold(here, 8) {
                Err(used) => here = &here[..used],
                Ok(used) => {
                    here = &here[..used];
                    let skip = parts::u32_be(&self.held, 0).map_or(0, u64::from);
                    self.held.clear();
                    role = self.sound(skip);
                }
            },
            Role::Sound { skip } => {
                let skipped = usize::try_from(*skip).map_or(here.len(), |skip| skip.min(here.len()));
                *skip -= skipped as u64;
                let sound = &here[skipped..];
                self.facts.sound_bytes += sound.len() as u64;
                if let Some(samples) = &mut self.samples {
                    samples.push(sound);
                }
            }
        }
        self.go_on(left - here.len() as u64, is_odd, role);
        here.len()
    }

    /// Logic leaves out the pad byte after sound of odd length.
    fn pad(&mut self, bytes: &[u8]) -> usize {
        let used = match self.hold(bytes, 5) {
            Ok(used) => used,
            Err(used) => {
                self.state = State::Pad;
                return used;
            }
        };
        if is_name(&self.held[1..5]) || !is_name(&self.held[..4]) {
            self.held.remove(0);
        }
        self.state = State::PartHead;
        used
    }

    fn read_part(&mut self, name: Name) {
        let part = mem::take(&mut self.held);
        match (&name, self.container) {
            (b"ds64", Some(Container::Rf64 | Container::Bw64)) => self.long_sound_bytes = parts::u64_le(&part, 8),
            (b"fmt ", Some(Container::Wav | Container::Rf64 | Container::Bw64)) if self.format.is_none() => {
                self.format = parts::wave_format(&part);
                // What a decoder of compressed sound needs besides.
                if let Some(Coding::Other { .. }) = self.format.as_ref().map(|format| &format.coding) {
                    self.cookie = part.get(18..).map(|rest| Sha256::digest(rest).into());
                }
            }
            (b"COMM", Some(Container::Aiff)) if self.format.is_none() => self.format = parts::aiff_format(&part, false),
            (b"COMM", Some(Container::Aifc)) if self.format.is_none() => self.format = parts::aiff_format(&part, true),
            (b"desc", Some(Container::Caf)) if self.format.is_none() => self.format = parts::caf_format(&part),
            _ => self.notes.read(&name, &part),
        }
    }
}

/// Whether four bytes can be the name of a part.
fn is_name(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
}
