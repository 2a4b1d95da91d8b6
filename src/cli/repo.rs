//! `auxin repo`: repositories.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{bail, ensure};
use serde::Serialize;

use super::args::{FromPath, NewName, RepoCommand};
use super::output::{Output, minutes, rfc3339, yes};
use super::{PAGE_ROWS, doctor, upkeep};
use crate::app::App;
use crate::names::{OwnerName, RepoAddress};
use crate::service::lfs::{ImportSource, ImportedFiles};
use crate::service::{By, Figures, RepoRow, UpkeepRequest};

/// Longest answer to a question, in bytes.
const ANSWER_MAX_BYTES: u64 = 1024;
/// Most large files that are named on the screen.
const MISSING_SHOWN: usize = 20;

#[derive(Serialize)]
struct Repo {
    id: String,
    address: String,
    visibility: String,
    archived: bool,
    hooks_trusted: bool,
    created_at: String,
    clone_url: String,
    path: String,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    repo: Repo,
    default_branch: Option<String>,
    object_format: &'static str,
    old_addresses: Vec<String>,
    #[serde(flatten)]
    large_files: Figures,
    maintenance: upkeep::Care,
}

#[derive(Serialize)]
struct Deleted {
    address: String,
    deleted: bool,
}

impl Repo {
    fn of(row: &RepoRow, app: &App) -> Self {
        Self {
            id: row.id.to_string(),
            address: row.address.to_string(),
            visibility: row.visibility.to_string(),
            archived: row.is_archived,
            hooks_trusted: row.trust_hooks,
            created_at: rfc3339(row.created_at_us),
            clone_url: clone_url(app, &row.address),
            path: app.repos.path(row).display().to_string(),
        }
    }
}

/// What was written about commits, for programs.
#[derive(Serialize)]
struct Noted {
    address: String,
    commits: usize,
    noted: usize,
}

/// A repository that was imported, for programs.
#[derive(Serialize)]
struct Imported {
    #[serde(flatten)]
    repo: Repo,
    large_files: u64,
    large_bytes: u64,
    missing_large_files: u64,
    missing_large_bytes: u64,
    missing: Vec<MissingLargeFile>,
}

#[derive(Serialize)]
struct MissingLargeFile {
    oid: String,
    size_bytes: u64,
    path: Option<String>,
    why: String,
}

fn clone_url(app: &App, address: &RepoAddress) -> String {
    format!("{}/{address}.git", app.config.server.public_url)
}

pub(super) async fn run(command: &RepoCommand, app: &App, out: &Output) -> anyhow::Result<ExitCode> {
    let repos = &app.repos;
    match command {
        RepoCommand::Create {
            address,
            visibility,
            object_format,
        } => {
            let made = repos.create(&address.repo, *visibility, *object_format, By::Command);
            let row = made.await?;
            let sentence = format!(
                "Made {}. Push into it with:\n  git push {} main",
                row.address,
                clone_url(app, &row.address)
            );
            say_repo(app, out, &row, &sentence)?;
        }
        RepoCommand::Adopt(from) => {
            let row = repos
                .adopt(&from.path, &from.repo, from.visibility, By::Command)
                .await?;
            taken_over(app, out, from, row, None).await?;
        }
        RepoCommand::Import { from, large_files } => {
            let source = ImportSource {
                path: from.path.clone(),
                large_files: large_files.clone(),
            };
            let (row, files) = app
                .large_files
                .import(source, &from.repo, from.visibility, By::Command)
                .await?;
            taken_over(app, out, from, row, Some(&files)).await?;
        }
        RepoCommand::List { owner } => list(app, out, owner.as_ref()).await?,
        RepoCommand::Show(address) => show(app, out, &address.repo).await?,
        RepoCommand::Rename { address, new_name } => rename(app, out, &address.repo, new_name).await?,
        RepoCommand::SetDefaultBranch { address, branch } => {
            repos.set_default_branch(&address.repo, branch, By::Command).await?;
            let sentence = format!("A clone of {} checks out {branch} from now on.", address.repo);
            say(app, out, &address.repo, &sentence).await?;
        }
        RepoCommand::Visibility { address, visibility } => {
            repos.set_visibility(&address.repo, *visibility, By::Command).await?;
            say(
                app,
                out,
                &address.repo,
                &format!("{} is {visibility} now.", address.repo),
            )
            .await?;
        }
        RepoCommand::TrustHooks { address, off } => {
            repos.trust_hooks(&address.repo, !off, By::Command).await?;
            let sentence = if *off {
                format!("The hooks of {} do not run any more.", address.repo)
            } else {
                format!(
                    "The hooks of {} run from now on, and its config's includes and hooksPath count.",
                    address.repo
                )
            };
            say(app, out, &address.repo, &sentence).await?;
        }
        RepoCommand::Archive(address) => {
            repos.archive(&address.repo, By::Command).await?;
            let sentence = format!("{} accepts no pushes from now on.", address.repo);
            say(app, out, &address.repo, &sentence).await?;
        }
        RepoCommand::Unarchive(address) => {
            repos.unarchive(&address.repo, By::Command).await?;
            let sentence = format!("{} accepts pushes again.", address.repo);
            say(app, out, &address.repo, &sentence).await?;
        }
        RepoCommand::Delete { address, yes } => {
            let repo = &address.repo;
            repos.find(repo).await?; // before anybody is asked
            if !yes {
                ask_to_delete(repo)?;
            }
            repos.delete(repo, By::Command).await?;
            let deleted = Deleted {
                address: repo.to_string(),
                deleted: true,
            };
            out.say(&format!("Deleted {repo}."), &deleted)?;
        }
        RepoCommand::Fsck(address) => return upkeep::fsck(app, out, &address.repo).await,
        RepoCommand::Repack { address, deltas } => return upkeep::repack(app, out, &address.repo, *deltas).await,
        RepoCommand::Maintain {
            address,
            all: _,
            dry_run,
            due,
            deltas,
        } => {
            let request = UpkeepRequest {
                is_full: !due,
                with_deltas: *deltas,
                is_dry_run: *dry_run,
            };
            return upkeep::maintain(app, out, address.as_ref(), request).await;
        }
        RepoCommand::Notes { address, rebuild } => {
            let report = app.notes.write(&address.repo, *rebuild).await?;
            let commits = super::output::counted(report.commits, "commit");
            let noted = Noted {
                address: address.repo.to_string(),
                commits: report.commits,
                noted: report.noted,
            };
            out.say(
                &format!("{}: {commits} looked at, {} with a note.", address.repo, report.noted),
                &noted,
            )?;
        }
        RepoCommand::Bundle(address) => return upkeep::bundle(app, out, &address.repo).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The sentence, and for programs the repository as it is now.
async fn say(app: &App, out: &Output, address: &RepoAddress, sentence: &str) -> anyhow::Result<()> {
    let row = app.repos.find(address).await?;
    say_repo(app, out, &row, sentence)
}

fn say_repo(app: &App, out: &Output, row: &RepoRow, sentence: &str) -> anyhow::Result<()> {
    Ok(out.say(sentence, &Repo::of(row, app))?)
}

/// Tells about a repository that was there before: `files` of one that was imported, none of one that was adopted.
async fn taken_over(
    app: &App,
    out: &Output,
    from: &FromPath,
    row: RepoRow,
    files: Option<&ImportedFiles>,
) -> anyhow::Result<()> {
    let done = if files.is_some() { "Imported" } else { "Adopted" };
    let mut sentence = format!("{done} {} as {}.", from.path.display(), row.address);
    if files.is_some() {
        let hooks = app.repos.path(&row).join("hooks");
        sentence.push_str(&format!(
            " Its hooks and configuration did not come along; hooks that you trust belong into {}.",
            hooks.display()
        ));
    }
    if from.trust_hooks {
        app.repos.trust_hooks(&row.address, true, By::Command).await?;
    } else {
        sentence.push_str(&format!(
            " Hooks in it do not run; if you trust them: auxin repo trust-hooks {}",
            row.address
        ));
    }
    let row = app.repos.find(&row.address).await?;
    let Some(files) = files else {
        return say_repo(app, out, &row, &sentence);
    };
    for line in large_files_lines(app, files, &row) {
        sentence.push('\n');
        sentence.push_str(&line);
    }
    let missing = files.missing.iter().map(|file| MissingLargeFile {
        oid: file.oid.to_string(),
        size_bytes: file.size_bytes,
        path: file.path.as_ref().map(ToString::to_string),
        why: file.why.clone(),
    });
    let imported = Imported {
        repo: Repo::of(&row, app),
        large_files: files.files,
        large_bytes: files.bytes,
        missing_large_files: files.missing_files,
        missing_large_bytes: files.missing_bytes,
        missing: missing.collect(),
    };
    Ok(out.say(&sentence, &imported)?)
}

/// What is told of large files, if there are any.
fn large_files_lines(app: &App, files: &ImportedFiles, row: &RepoRow) -> Vec<String> {
    let mut lines = Vec::new();
    if files.files > 0 {
        lines.push(format!(
            "{} large files came along: {} bytes.",
            files.files, files.bytes
        ));
    }
    if files.missing_files == 0 {
        return lines;
    }
    lines.push(format!(
        "{} large files did not: {} bytes. Push them from a clone that has them: git lfs push --all {}",
        files.missing_files,
        files.missing_bytes,
        clone_url(app, &row.address)
    ));
    for file in files.missing.iter().take(MISSING_SHOWN) {
        let path = file
            .path
            .as_ref()
            .map_or("(an older version)".into(), ToString::to_string);
        let path: String = path.chars().filter(|char| !char.is_control()).collect();
        lines.push(format!("  {path}  {}  {}", file.oid, file.why));
    }
    let more = files.missing_files.saturating_sub(MISSING_SHOWN as u64);
    if more > 0 {
        lines.push(format!("  and {more} more; --json names up to 1000."));
    }
    lines
}

async fn list(app: &App, out: &Output, owner: Option<&OwnerName>) -> anyhow::Result<()> {
    let mut rows: Vec<RepoRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.address.clone());
        let page = app.repos.list(owner, after.as_ref(), PAGE_ROWS).await?;
        let is_last = page.len() < PAGE_ROWS as usize;
        rows.extend(page);
        if is_last {
            break;
        }
    }
    let none = "There are no repositories yet; a push makes one.";
    let header = ["REPOSITORY", "VISIBILITY", "ARCHIVED", "SINCE"];
    out.list(
        &rows,
        |row| Repo::of(row, app),
        none,
        header,
        |row| {
            [
                row.address.to_string(),
                row.visibility.to_string(),
                yes(row.is_archived),
                minutes(row.created_at_us),
            ]
        },
    )?;
    Ok(())
}

async fn show(app: &App, out: &Output, address: &RepoAddress) -> anyhow::Result<()> {
    let details = app.repos.show(address).await?;
    let default_branch = app.repos.default_branch(address).await?;
    let object_format = app.repos.object_format(address).await?.as_str();
    let care = upkeep::care(app, address).await?;
    let large_files = app.keeping.figures(address).await?;
    let row = &details.repo;
    let old: Vec<String> = details.old_addresses.iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("Repository", row.address.to_string()),
        ("Clone", format!("git clone {}", clone_url(app, &row.address))),
        ("Visibility", row.visibility.to_string()),
        ("Default branch", default_branch.clone().unwrap_or_default()),
        ("Object format", object_format.to_owned()),
        ("Archived", yes(row.is_archived)),
        ("Hooks trusted", yes(row.trust_hooks)),
        ("Since", minutes(row.created_at_us)),
        ("Old names", old.join(", ")),
        ("Folder", details.path.display().to_string()),
        ("Large files", doctor::text(&large_files)),
    ];
    facts.extend(care.facts());
    let shown = Shown {
        repo: Repo::of(row, app),
        default_branch,
        object_format,
        old_addresses: old,
        large_files,
        maintenance: care,
    };
    Ok(out.facts(&shown, &facts)?)
}

async fn rename(app: &App, out: &Output, address: &RepoAddress, new: &NewName) -> anyhow::Result<()> {
    if let Some(owner) = &new.owner
        && *owner != address.owner
    {
        bail!(
            "A repository keeps its owner when it is renamed, so {address} can become {}/{}, not {owner}/{}.",
            address.owner,
            new.name,
            new.name
        );
    }
    let row = app.repos.rename(address, new.name.clone(), By::Command).await?;
    // Names compare without case, but a change of case is a change.
    let sentence = match row.address.to_string() == address.to_string() {
        true => format!("{} is called that already.", row.address),
        false => format!(
            "{address} is called {} now. The old name goes on working until it is used again.",
            row.address
        ),
    };
    say_repo(app, out, &row, &sentence)
}

/// Asks for the address, so that nobody deletes by a slip of the finger.
fn ask_to_delete(address: &RepoAddress) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("There is no terminal to ask whether you mean it. Say so with --yes.");
    }
    let mut err = io::stderr();
    write!(
        err,
        "Delete {address} with everything in it? Type {address} to confirm: "
    )?;
    err.flush()?;
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), ANSWER_MAX_BYTES).read_line(&mut answer)?;
    ensure!(answer.trim() == address.to_string(), "Nothing was deleted.");
    Ok(())
}
