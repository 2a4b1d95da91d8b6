//! `auxin branch`: protected branches.

use serde::Serialize;

use super::args::BranchCommand;
use super::output::Output;
use crate::app::App;
use crate::service::{By, ProtectedBranch};

#[derive(Serialize)]
struct Rule {
    repo: String,
    pattern: String,
    allow_force: bool,
    allow_delete: bool,
}

#[derive(Serialize)]
struct Unprotected {
    repo: String,
    pattern: String,
    protected: bool,
}

pub(super) async fn run(command: &BranchCommand, app: &App, out: &Output) -> anyhow::Result<()> {
    match command {
        BranchCommand::Protect {
            address,
            pattern,
            allow_force,
            allow_delete,
        } => {
            let repo = &address.repo;
            let rule = ProtectedBranch {
                pattern: pattern.clone(),
                no_force: !allow_force,
                no_delete: !allow_delete,
            };
            app.protection.set(repo, rule, By::Command).await?;
            let refused = match (allow_force, allow_delete) {
                (false, false) => "force pushes and deletion are refused",
                (true, _) => "deletion is refused",
                (_, true) => "force pushes are refused",
            };
            let rule = Rule {
                repo: repo.to_string(),
                pattern: pattern.clone(),
                allow_force: *allow_force,
                allow_delete: *allow_delete,
            };
            out.say(&format!("{pattern} is protected in {repo}: {refused}."), &rule)?;
        }
        BranchCommand::Unprotect { address, pattern } => {
            let repo = &address.repo;
            app.protection.remove(repo, pattern, By::Command).await?;
            let unprotected = Unprotected {
                repo: repo.to_string(),
                pattern: pattern.clone(),
                protected: false,
            };
            out.say(&format!("{pattern} is no longer protected in {repo}."), &unprotected)?;
        }
        BranchCommand::List(address) => {
            let rules = app.protection.list(&address.repo).await?;
            out.list(
                &rules,
                |rule| Rule {
                    repo: address.repo.to_string(),
                    pattern: rule.pattern.clone(),
                    allow_force: !rule.no_force,
                    allow_delete: !rule.no_delete,
                },
                &format!("No branch is protected in {}.", address.repo),
                ["PATTERN", "FORCE PUSH", "DELETION"],
                |rule| {
                    let word = |refused: bool| if refused { "refused" } else { "allowed" }.to_owned();
                    [rule.pattern.clone(), word(rule.no_force), word(rule.no_delete)]
                },
            )?;
        }
    }
    Ok(())
}
