//! `auxin doctor` and `auxin scrub`: is everything as it should be, and how much is there?

use std::process::ExitCode;

use serde::Serialize;

use super::output::{Output, counted};
use crate::app::App;
use crate::data_folder::DataFolder;
use crate::service::{Figures, Finding, Subset};

/// Less free space than this is a problem, in bytes: as for `/readyz`.
const MIN_FREE_BYTES: u64 = 64 << 20;

#[derive(Serialize)]
struct Examined {
    ok: bool,
    #[serde(flatten)]
    figures: Figures,
    checks: Vec<Finding>,
}

/// Problems are the result of the command, not its failure: they are told like any result, and the exit code
/// says that there are some.
pub(super) async fn run(app: &App, out: &Output) -> anyhow::Result<ExitCode> {
    let mut checks = vec![disk(&app.data)];
    checks.extend(app.keeping.examine().await?);
    let figures = app.keeping.store_figures().await?;
    let ok = checks.iter().all(|check| check.ok);
    let mut lines: Vec<String> = Vec::new();
    for check in &checks {
        let mark = if check.ok { "ok" } else { "PROBLEM" };
        lines.extend(check.says.iter().map(|says| format!("{mark}: {}: {says}", check.check)));
    }
    lines.push(format!("Large files: {}", text(&figures)));
    let examined = Examined { ok, figures, checks };
    out.say(&lines.join("\n"), &examined)?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn disk(data: &DataFolder) -> Finding {
    let (mut problems, mut fine) = (Vec::new(), String::new());
    match data.free_bytes() {
        Ok(free) if free < MIN_FREE_BYTES => {
            problems.push(format!("Only {free} bytes are free at {}.", data.path().display()));
        }
        Ok(free) => fine = format!("{free} bytes are free at {}.", data.path().display()),
        Err(error) => problems.push(format!(
            "The file system at {} cannot be asked: {error}.",
            data.path().display()
        )),
    }
    for folder in [data.repos(), data.store(), data.tmp()] {
        if !folder.is_dir() {
            problems.push(format!("The folder {} is missing.", folder.display()));
        }
    }
    Finding::new("disk", problems, fine)
}

/// Reads a part of all chunk packs. Damage is the result, as for [`run`].
pub(super) async fn scrub(app: &App, out: &Output, subset: Subset) -> anyhow::Result<ExitCode> {
    let report = app.keeping.scrub(subset).await?;
    let mut lines = super::upkeep::files_lines(&report);
    lines.push(format!(
        "Read part {} of {}: {} with {} bytes, {}.",
        subset.number,
        subset.of,
        counted(usize::try_from(report.checked).unwrap_or(usize::MAX), "chunk"),
        report.checked_bytes,
        counted(report.problems.len(), "error")
    ));
    out.say(&lines.join("\n"), &report)?;
    Ok(match report.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Figures for people.
pub(super) fn text(figures: &Figures) -> String {
    format!(
        "{} bytes, stored in {}; {} saved by keeping each chunk once, {} by codecs; {} collectable",
        figures.logical_bytes,
        figures.stored_bytes,
        figures.saved_by_dedup_bytes,
        figures.saved_by_codec_bytes,
        figures.collectable_bytes
    )
}
