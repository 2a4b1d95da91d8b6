//! `auxin repo fsck`, `repack`, `maintain` and `bundle`.

use std::process::ExitCode;

use serde::Serialize;

use super::output::{Output, counted, minutes, rfc3339, yes};
use crate::app::App;
use crate::names::RepoAddress;
use crate::service::upkeep::{MaintenanceReport, PackRole};
use crate::service::{FilesReport, UpkeepRequest};

#[derive(Serialize)]
struct Checked {
    address: String,
    ok: bool,
    objects: u32,
    refs: usize,
    /// All that is wrong, told or not.
    error_count: usize,
    errors: Vec<String>,
    warnings: Vec<String>,
    large_files: FilesReport,
}

#[derive(Serialize)]
struct Repacked {
    address: String,
    objects: u64,
    packs_before: usize,
    loose_before: u64,
    packs_after: usize,
}

#[derive(Serialize)]
struct Bundled {
    address: String,
    /// `None` if no bundle can be made of what fetches may see.
    bundle: Option<BundledFile>,
}

#[derive(Serialize)]
struct BundledFile {
    name: String,
    refs: usize,
    len_bytes: u64,
    is_new: bool,
}

/// What was done for one repository, or would be.
#[derive(Default, Serialize)]
struct Maintained {
    address: String,
    dry_run: bool,
    changed: bool,
    steps: Vec<Step>,
    packs_before: usize,
    packs_after: usize,
    bytes_before: u64,
    bytes_after: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    changed: bool,
    what: String,
}

impl Maintained {
    fn of(address: &RepoAddress, request: UpkeepRequest, report: &MaintenanceReport) -> Self {
        Self {
            address: address.to_string(),
            dry_run: request.is_dry_run,
            changed: report.is_changed(),
            steps: report
                .steps
                .iter()
                .map(|step| Step {
                    step: step.step,
                    changed: step.is_changed,
                    what: step.what.clone(),
                })
                .collect(),
            packs_before: report.before.packs.len(),
            packs_after: report.after.packs.len(),
            bytes_before: report.before.bytes(),
            bytes_after: report.after.bytes(),
            error: None,
        }
    }

    fn text(&self) -> String {
        if let Some(error) = &self.error {
            return format!("{}: {error}", self.address);
        }
        let mut lines = vec![format!(
            "{}: {} and {} bytes before, {} and {} bytes now.",
            self.address,
            counted(self.packs_before, "pack"),
            self.bytes_before,
            counted(self.packs_after, "pack"),
            self.bytes_after
        )];
        if self.dry_run {
            lines = vec![format!("{}: nothing was changed.", self.address)];
        }
        lines.extend(self.steps.iter().map(|step| format!("  {}: {}", step.step, step.what)));
        lines.join("\n")
    }
}

/// Checks a repository. Damage is the result of the check, not its failure: it is told like any
/// result, and the exit code says that there is some.
pub(super) async fn fsck(app: &App, out: &Output, address: &RepoAddress) -> anyhow::Result<ExitCode> {
    let report = app.repos.fsck(address).await?;
    let mut lines: Vec<String> = Vec::new();
    lines.extend(report.errors.iter().map(|error| format!("error: {error}")));
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    let large_files = app.keeping.check_files(address).await?;
    lines.extend(files_lines(&large_files));
    let is_whole = report.error_count == 0 && large_files.problems.is_empty();
    let objects = counted(report.objects as usize, "object");
    let refs = counted(report.refs, "ref");
    lines.push(if is_whole {
        format!("{address} is whole: {objects}, {refs} and {} checked.", counted(large_files.checked as usize, "large file"))
    } else {
        format!(
            "{address} is damaged: {} in {objects} and {refs}. Stop pushes with `auxin repo archive {address}` and restore it from a backup or another clone.",
            counted(report.error_count + large_files.problems.len(), "error")
        )
    });
    let checked = Checked {
        address: address.to_string(),
        ok: is_whole,
        objects: report.objects,
        refs: report.refs,
        error_count: report.error_count,
        errors: report.errors,
        warnings: report.warnings,
        large_files,
    };
    out.say(&lines.join("\n"), &checked)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with large files, and how it is mended.
pub(super) fn files_lines(report: &FilesReport) -> Vec<String> {
    let mut lines = Vec::new();
    for problem in &report.problems {
        lines.push(format!("error: {}", problem.what));
        lines.extend(problem.files.iter().map(|file| format!("  {file}")));
    }
    if !report.problems.is_empty() {
        lines.push(
            "What is damaged is mended when anybody who has such a file pushes it again: git lfs push --all".into(),
        );
    }
    lines
}

/// Repacks a repository; returns when all is done.
pub(super) async fn repack(
    app: &App,
    out: &Output,
    address: &RepoAddress,
    with_deltas: bool,
) -> anyhow::Result<ExitCode> {
    let request = UpkeepRequest {
        is_full: true,
        with_deltas,
        ..UpkeepRequest::default()
    };
    let report = app.upkeep.maintain(address, request).await?;
    let (before, after) = (&report.before, &report.after);
    let repacked = Repacked {
        address: address.to_string(),
        objects: after.packs.iter().map(|pack| pack.objects).sum(),
        packs_before: before.packs.len(),
        loose_before: before.loose_objects,
        packs_after: after.packs.len(),
    };
    let sentence = format!(
        "{address} has {} in {} now; before, {} and {}.",
        counted(repacked.objects as usize, "object"),
        counted(repacked.packs_after, "pack"),
        counted(repacked.packs_before, "pack"),
        counted(repacked.loose_before as usize, "loose object")
    );
    out.say(&sentence, &repacked)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a bundle, unless the newest one is still right.
pub(super) async fn bundle(app: &App, out: &Output, address: &RepoAddress) -> anyhow::Result<ExitCode> {
    let made = app.repos.bundle(address).await?;
    let sentence = match &made {
        None => format!("No bundle of {address} was made: it is empty, shows nothing, or its history is cut off."),
        Some(made) => {
            let refs = counted(made.refs, "ref");
            let bytes = counted(usize::try_from(made.len_bytes).unwrap_or(usize::MAX), "byte");
            match made.is_new {
                true => format!("Made a bundle of {address}: {refs}, {bytes}."),
                false => format!("The bundle of {address} is up to date: {refs}, {bytes}."),
            }
        }
    };
    let bundled = Bundled {
        address: address.to_string(),
        bundle: made.map(|made| BundledFile {
            name: made.name,
            refs: made.refs,
            len_bytes: made.len_bytes,
            is_new: made.is_new,
        }),
    };
    out.say(&sentence, &bundled)?;
    Ok(ExitCode::SUCCESS)
}

/// Cares for one repository or all of them, one after the other; returns when all is done. A failure of one
/// keeps none of the others from their care.
pub(super) async fn maintain(
    app: &App,
    out: &Output,
    address: Option<&RepoAddress>,
    request: UpkeepRequest,
) -> anyhow::Result<ExitCode> {
    let mut results = Vec::new();
    let mut next = address.cloned();
    if next.is_none() {
        next = after(app, None).await?;
    }
    while let Some(repo) = next {
        let maintained = match app.upkeep.maintain(&repo, request).await {
            Ok(report) => Maintained::of(&repo, request, &report),
            Err(error) if address.is_some() => return Err(error.into()),
            Err(error) => Maintained {
                address: repo.to_string(),
                error: Some(error.to_string()),
                ..Maintained::default()
            },
        };
        results.push(maintained);
        next = match address {
            Some(_) => None,
            None => after(app, Some(&repo)).await?,
        };
    }
    let is_failed = results.iter().any(|result| result.error.is_some());
    let text: Vec<String> = results.iter().map(Maintained::text).collect();
    match (address, results.as_slice()) {
        (Some(_), [one]) => out.say(&text.join("\n"), one)?,
        _ if text.is_empty() => out.say("There are no repositories yet.", &results)?,
        _ => out.say(&text.join("\n"), &results)?,
    }
    Ok(if is_failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The address of the repository that follows.
async fn after(app: &App, address: Option<&RepoAddress>) -> anyhow::Result<Option<RepoAddress>> {
    let rows = app.repos.list(None, address, 1).await?;
    Ok(rows.into_iter().next().map(|row| row.address))
}

/// How well a repository is cared for, for `repo show`.
#[derive(Serialize)]
pub(super) struct Care {
    packs: usize,
    loose_objects: u64,
    bytes: u64,
    /// Objects in the clone pack; `None` if there is none.
    clone_pack_objects: Option<u64>,
    /// Whether the clone pack has a bitmap.
    bitmap: bool,
    /// Objects that came after the clone pack was made.
    objects_beside: u64,
    unreachable_objects: u64,
    commit_graph: bool,
    multi_pack_index: bool,
    last_maintenance: Option<String>,
    #[serde(skip)]
    last_us: Option<i64>,
}

/// Looks how well a repository is cared for.
pub(super) async fn care(app: &App, address: &RepoAddress) -> anyhow::Result<Care> {
    let survey = app.upkeep.survey(address).await?;
    let clone = survey.clone_pack();
    let secs = i64::try_from(survey.state.finished_at_secs).unwrap_or_default();
    let last_us = (secs > 0).then(|| secs.saturating_mul(1_000_000));
    Ok(Care {
        packs: survey.packs.len(),
        loose_objects: survey.loose_objects,
        bytes: survey.bytes(),
        clone_pack_objects: clone.map(|pack| pack.objects),
        bitmap: clone.is_some_and(|pack| pack.has_bitmap),
        objects_beside: survey.objects_beside(),
        unreachable_objects: survey
            .packs
            .iter()
            .filter(|pack| pack.role == PackRole::Unreachable)
            .map(|pack| pack.objects)
            .sum(),
        commit_graph: survey.has_commit_graph,
        multi_pack_index: survey.has_multi_pack_index,
        last_maintenance: last_us.map(rfc3339),
        last_us,
    })
}

impl Care {
    /// For people.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let objects = |count: u64| counted(usize::try_from(count).unwrap_or(usize::MAX), "object");
        let clone = match self.clone_pack_objects {
            None => "none yet".to_owned(),
            Some(count) => format!(
                "{}, {}; {} beside it",
                objects(count),
                if self.bitmap { "with bitmap" } else { "without bitmap" },
                objects(self.objects_beside)
            ),
        };
        vec![
            (
                "Stored",
                format!(
                    "{} and {}, {} bytes",
                    counted(self.packs, "pack"),
                    counted(
                        usize::try_from(self.loose_objects).unwrap_or(usize::MAX),
                        "loose object"
                    ),
                    self.bytes
                ),
            ),
            ("Clone pack", clone),
            ("Unreachable", objects(self.unreachable_objects)),
            ("Commit-graph", yes(self.commit_graph)),
            ("Multi-pack-index", yes(self.multi_pack_index)),
            ("Maintained", self.last_us.map_or_else(|| "never".to_owned(), minutes)),
        ]
    }
}
