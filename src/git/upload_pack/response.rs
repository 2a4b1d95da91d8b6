//! The part of an answer that carries the pack: bands, progress and keep-alives.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::UploadError;
use super::answers::{Answers, Remembered};
use crate::git::emit::PackStats;
use crate::git::pkt_line::{Band, KEEP_ALIVE, Sideband, printable, write_band};
use crate::git::plan::{self, PackPlan, PackRequest};
use crate::git::snapshot::Snapshot;
use crate::git::walk::WalkError;
use crate::git::work::{Stopped, Tick, Work};

/// How often the person hears that the server is still looking.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Sends the pack and what goes with it.
struct PackStream<'o> {
    out: &'o mut dyn Write,
    sideband: Sideband,
    /// Pack data that does not fill a packet yet.
    pending: Vec<u8>,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    /// Progress is wanted and can be told.
    shows_progress: bool,
    started: Instant,
    last_progress: Instant,
}

impl PackStream<'_> {
    fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let most = self.sideband.max_data_bytes();
        if !self.pending.is_empty() {
            let taken = bytes.len().min(most - self.pending.len());
            self.pending.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.pending.len() < most {
                return Ok(());
            }
            self.send_pending()?;
        }
        // Long stretches go out as they are, without a copy.
        let whole = bytes.len() - bytes.len() % most;
        if whole > 0 {
            write_band(self.out, self.sideband, Band::Data, &bytes[..whole])?;
            self.last_sent = Instant::now();
        }
        self.pending.extend_from_slice(&bytes[whole..]);
        Ok(())
    }

    fn send_pending(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            write_band(self.out, self.sideband, Band::Data, &self.pending)?;
            self.pending.clear();
            self.last_sent = Instant::now();
        }
        Ok(())
    }

    /// After a silence sends what there is, or an empty packet: proxies cut silent connections.
    fn keep_alive(&mut self) -> io::Result<()> {
        let Some(after) = self.keep_alive else {
            return Ok(());
        };
        if self.sideband == Sideband::None || self.last_sent.elapsed() < after {
            return Ok(());
        }
        if self.pending.is_empty() {
            self.out.write_all(KEEP_ALIVE)?;
            self.last_sent = Instant::now();
        } else {
            self.send_pending()?;
        }
        self.out.flush()
    }

    fn progress(&mut self, text: &str) -> io::Result<()> {
        if self.shows_progress && self.sideband != Sideband::None {
            write_band(self.out, self.sideband, Band::Progress, text.as_bytes())?;
            self.out.flush()?;
            self.last_sent = Instant::now();
        }
        Ok(())
    }

    /// Tells now and then that objects are still being looked for.
    fn searching(&mut self) -> io::Result<()> {
        if self.shows_progress && self.last_progress.elapsed() >= PROGRESS_INTERVAL {
            self.last_progress = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            self.progress(&format!("Enumerating objects: {seconds} s so far\r"))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.send_pending()?;
        if self.sideband != Sideband::None {
            self.out.write_all(b"0000")?;
        }
        self.out.flush()
    }

    fn fail(&mut self, sentence: &str) -> io::Result<()> {
        let text = format!("{}\n", printable(sentence));
        write_band(self.out, self.sideband, Band::Error, text.as_bytes())?;
        self.out.flush()
    }
}

/// A writer that shares the stream with the tick of the work that writes.
struct Shared<'a, 'o>(&'a RefCell<PackStream<'o>>);

impl Write for Shared<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().data(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the pack is sent.
#[derive(Clone, Copy, Debug)]
pub struct PackAnswer {
    /// How bands are framed.
    pub sideband: Sideband,
    /// The client wants to hear of progress.
    pub shows_progress: bool,
    /// Silence after which a keep-alive is sent; `None` sends none.
    pub keep_alive: Option<Duration>,
}

/// Plans the pack and sends it, with keep-alives already while it is planned.
///
/// A failure is told on band 3 where there are bands; without them the pack just ends early, which
/// every client notices.
///
/// # Errors
/// [`UploadError`], for the log.
pub fn send_pack(
    snapshot: &Snapshot,
    request: &PackRequest,
    answer: PackAnswer,
    work: &Work,
    out: &mut dyn Write,
) -> Result<PackStats, UploadError> {
    let plan = |tick: Tick<'_>| match &snapshot.answers {
        Some(answers) => Ok(Planned::Remembered(
            snapshot,
            answers,
            answers.decide(snapshot, request, tick)?,
        )),
        None => plan::plan(snapshot, request, tick).map(Planned::Once),
    };
    send(plan, answer, work, out)
}

/// Sends a pack that is planned already; else like [`send_pack`].
///
/// # Errors
/// [`UploadError`], for the log.
pub fn send_planned(
    plan: PackPlan<'_>,
    answer: PackAnswer,
    work: &Work,
    out: &mut dyn Write,
) -> Result<PackStats, UploadError> {
    send(|_| Ok(Planned::Once(plan)), answer, work, out)
}

fn send<'s>(
    plan: impl FnOnce(Tick<'_>) -> Result<Planned<'s>, WalkError>,
    answer: PackAnswer,
    work: &Work,
    out: &mut dyn Write,
) -> Result<PackStats, UploadError> {
    let now = Instant::now();
    let stream = RefCell::new(PackStream {
        out,
        sideband: answer.sideband,
        pending: Vec::new(),
        keep_alive: answer.keep_alive,
        last_sent: now,
        shows_progress: answer.shows_progress,
        started: now,
        last_progress: now,
    });
    let sent = plan_and_write(plan, work, &stream);
    let mut stream = stream.into_inner();
    match sent {
        Ok(stats) => {
            stream.finish()?;
            Ok(stats)
        }
        Err(error) => {
            if let Some(sentence) = error.sentence() {
                // The cause matters more than a client that cannot hear of it any more.
                let _ = stream.fail(&sentence);
            }
            Err(error)
        }
    }
}

/// A decided pack, from this request alone or shared with others.
enum Planned<'s> {
    Once(PackPlan<'s>),
    Remembered(&'s Snapshot, &'s Answers, Arc<Remembered>),
}

impl Planned<'_> {
    fn object_count(&self) -> u32 {
        match self {
            Self::Once(plan) => plan.object_count(),
            Self::Remembered(_, _, remembered) => remembered.object_count(),
        }
    }
}

fn plan_and_write<'s>(
    plan: impl FnOnce(Tick<'_>) -> Result<Planned<'s>, WalkError>,
    work: &Work,
    stream: &RefCell<PackStream<'_>>,
) -> Result<PackStats, UploadError> {
    let mut searching = || {
        work.check()?;
        let mut stream = stream.borrow_mut();
        stream.searching().map_err(Stopped::Output)?;
        stream.keep_alive().map_err(Stopped::Output)
    };
    let planned = plan(&mut searching)?;
    stream
        .borrow_mut()
        .progress(&format!("Enumerating objects: {}, done.\n", planned.object_count()))?;
    // The budget is for walking and planning; a pack that is planned is sent however large it is.
    let mut writing = || {
        if work.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        stream.borrow_mut().keep_alive().map_err(Stopped::Output)
    };
    let stats = match planned {
        Planned::Remembered(snapshot, answers, remembered) => {
            answers.write(snapshot, &remembered, &mut Shared(stream), &mut writing)?
        }
        Planned::Once(plan) => plan.write_to(&mut Shared(stream), &mut writing)?,
    };
    stream.borrow_mut().progress(&format!(
        "Total {} (delta {}), reused {}\n",
        stats.objects, stats.deltas, stats.reused
    ))?;
    Ok(stats)
}
