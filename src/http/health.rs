//! `/livez`, `/readyz` and `/health`: whether the server lives, whether it can work, and how it is.
//!
//! Strangers hear a status word. Checks write to the disk and ask the database, so their result is
//! kept for a moment: asking often must not be a way to keep the server busy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::Web;
use super::access::Anyone;
use super::error::{Problem, unavailable};
use super::headers::no_cache;
use super::log::Facts;
use crate::app::App;
use crate::service::{Caller, Scope, TokenGrant};

/// How long the result of the checks is good for.
const FRESH: Duration = Duration::from_secs(1);
/// With less free on the disk the server cannot be relied on to take a push, in bytes.
const DISK_FREE_MIN_BYTES: u64 = 64 << 20;
/// A check that takes longer counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The word for a server that can do its work.
const OK: &str = "ok";

/// The state of the server as last looked at.
pub(super) struct Health {
    /// `None` where the operating system tells nothing.
    system: Option<Mutex<System>>,
    last: Mutex<Option<(Instant, Checks)>>,
}

/// Outcome of each check: what is wrong, if anything.
#[derive(Clone, Debug, Serialize)]
struct Checks {
    database: Check,
    disk: Check,
    store: Check,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Check {
    Ok,
    Failed { reason: String },
}

impl Checks {
    fn all_ok(&self) -> bool {
        [&self.database, &self.disk, &self.store]
            .iter()
            .all(|check| matches!(check, Check::Ok))
    }
}

/// What `/health` tells; strangers get the status alone.
#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    #[serde(flatten)]
    details: Option<Details>,
}

#[derive(Debug, Serialize)]
struct Details {
    version: &'static str,
    node: Option<String>,
    uptime_secs: u64,
    load: Option<Load>,
    /// Free on the file system of the data folder, in bytes.
    disk_free_bytes: Option<u64>,
    checks: Checks,
}

/// How busy the machine is.
#[derive(Debug, Serialize)]
struct Load {
    cpu_percent: f32,
    memory_percent: f32,
}

impl Health {
    pub(super) fn new() -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Self {
            system: System::new_with_specifics(kinds).ok().map(Mutex::new),
            last: Mutex::new(None),
        }
    }

    async fn load(&self) -> Option<Load> {
        let mut system = self.system.as_ref()?.lock().await;
        // Reads two small files of the kernel; the use since the last look is what counts.
        system.refresh_cpu_usage();
        system.refresh_memory();
        let total = system.total_memory().max(1) as f32;
        Some(Load {
            cpu_percent: system.global_cpu_usage(),
            memory_percent: system.used_memory() as f32 / total * 100.0,
        })
    }

    /// Looks, unless somebody looked a moment ago.
    async fn checks(&self, web: &Web) -> Checks {
        let mut last = self.last.lock().await;
        if let Some((at, checks)) = &*last
            && at.elapsed() < FRESH
        {
            return checks.clone();
        }
        let (database, disk, store) = tokio::join!(
            timed(async { web.app.db.check().await.map_err(|error| error.to_string()) }),
            timed(disk(&web.app)),
            timed(writable(web.app.data.store())),
        );
        let checks = Checks { database, disk, store };
        *last = Some((Instant::now(), checks.clone()));
        checks
    }
}

async fn timed(check: impl Future<Output = Result<(), String>>) -> Check {
    match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(())) => Check::Ok,
        Ok(Err(reason)) => Check::Failed { reason },
        Err(_) => Check::Failed {
            reason: format!("no answer within {} s", CHECK_TIMEOUT.as_secs()),
        },
    }
}

/// Whether repositories and what comes in can be written, and there is room.
async fn disk(App { data, .. }: &App) -> Result<(), String> {
    for folder in [data.tmp(), data.repos()] {
        writable(folder).await?;
    }
    let free_bytes = data.free_bytes().map_err(|error| error.to_string())?;
    if free_bytes < DISK_FREE_MIN_BYTES {
        return Err(format!("only {} MiB are free", free_bytes >> 20));
    }
    Ok(())
}

/// Writes a file into `folder`, brings it to the disk and removes it.
async fn writable(folder: PathBuf) -> Result<(), String> {
    let probe = move || -> std::io::Result<()> {
        let file = folder.join(format!(".probe-{}", Uuid::now_v7().simple()));
        let written = write_probe(&file);
        std::fs::remove_file(&file)?;
        written
    };
    match tokio::task::spawn_blocking(probe).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn write_probe(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    std::io::Write::write_all(&mut file, b"probe")?;
    file.sync_all()
}

/// `/livez`: the process answers.
pub(super) async fn livez(Extension(facts): Extension<Arc<Facts>>) -> Response {
    facts.route("livez");
    ok()
}

/// `/readyz`: the process can do its work, and has not been told to stop.
pub(super) async fn readyz(
    State(web): State<Web>,
    Extension(facts): Extension<Arc<Facts>>,
) -> Result<Response, Problem> {
    facts.route("readyz");
    if web.site.shutdown.is_cancelled() {
        return Err(Problem::unavailable("The server is stopping."));
    }
    if !web.site.health.checks(&web).await.all_ok() {
        return Err(Problem::unavailable(
            "The server cannot work now; /health on the machine itself says why.",
        ));
    }
    Ok(ok())
}

/// `/health`: a status for everybody, and all there is for administrators and on the machine itself.
pub(super) async fn health(
    State(web): State<Web>,
    Extension(facts): Extension<Arc<Facts>>,
    Anyone(caller): Anyone,
) -> Response {
    facts.route("health");
    let checks = web.site.health.checks(&web).await;
    let is_insider = facts.client.local || is_administrator(&caller);
    let word = match (web.site.shutdown.is_cancelled(), checks.all_ok()) {
        (true, _) => "stopping",
        (false, true) => OK,
        (false, false) => "failing",
    };
    let details = match is_insider {
        false => None,
        true => Some(Details {
            version: env!("CARGO_PKG_VERSION"),
            node: System::host_name().ok(),
            uptime_secs: web.site.started.elapsed().as_secs(),
            load: web.site.health.load().await,
            disk_free_bytes: web.app.data.free_bytes().ok(),
            checks,
        }),
    };
    answer(Report { status: word, details })
}

/// An administrator of the server; of their tokens only one that carries all their rights.
fn is_administrator(caller: &Caller) -> bool {
    caller.signed_in().is_some_and(|user| {
        let is_full = |token: &TokenGrant| token.scope == Scope::Admin && token.repo.is_none();
        user.is_site_admin && user.token.as_ref().is_none_or(is_full)
    })
}

fn answer(report: Report) -> Response {
    let is_ok = report.status == OK;
    let mut response = Json(report).into_response();
    no_cache(response.headers_mut());
    if is_ok { response } else { unavailable(response) }
}

fn ok() -> Response {
    answer(Report {
        status: OK,
        details: None,
    })
}

/// The methods of these addresses.
pub(super) async fn read_only(method: Method) -> Problem {
    tracing::debug!(%method, "Wrong method");
    Problem::method("GET, HEAD")
}
