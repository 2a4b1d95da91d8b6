//! `auxin repo fsck`, `auxin repo repack` and `auxin repo bundle`.

use std::process::ExitCode;

use serde::Serialize;

use super::output::{Output, counted};
use crate::app::App;
use crate::names::RepoAddress;

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
}

#[derive(Serialize)]
struct Repacked {
    address: String,
    objects: u32,
    packs_before: usize,
    loose_before: usize,
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

/// Checks a repository. Damage is the result of the check, not its failure: it is told like any
/// result, and the exit code says that there is some.
pub(super) async fn fsck(app: &App, out: &Output, address: &RepoAddress) -> anyhow::Result<ExitCode> {
    let report = app.repos.fsck(address).await?;
    let mut lines: Vec<String> = Vec::new();
    lines.extend(report.errors.iter().map(|error| format!("error: {error}")));
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    let is_whole = report.error_count == 0;
    let objects = counted(report.objects as usize, "object");
    let refs = counted(report.refs, "ref");
    lines.push(if is_whole {
        format!("{address} is whole: {objects} and {refs} checked.")
    } else {
        format!(
            "{address} is damaged: {} in {objects} and {refs}. Stop pushes with `auxin repo archive {address}` and restore it from a backup or another clone.",
            counted(report.error_count, "error")
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
    };
    out.say(&lines.join("\n"), &checked)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Repacks a repository; returns when all is done.
pub(super) async fn repack(app: &App, out: &Output, address: &RepoAddress) -> anyhow::Result<ExitCode> {
    let report = app.repos.repack(address).await?;
    let sentence = format!(
        "{address} has {} in {} now; before, {} and {}.",
        counted(report.objects as usize, "object"),
        counted(report.packs_after, "pack"),
        counted(report.packs_before, "pack"),
        counted(report.loose_before, "loose object")
    );
    let repacked = Repacked {
        address: address.to_string(),
        objects: report.objects,
        packs_before: report.packs_before,
        loose_before: report.loose_before,
        packs_after: report.packs_after,
    };
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
