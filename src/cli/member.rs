//! `auxin member`: who else may use a repository.

use serde::Serialize;

use super::args::MemberCommand;
use super::output::Output;
use crate::app::App;
use crate::service::By;

#[derive(Serialize)]
struct Member {
    repo: String,
    user: String,
    /// None: not a member (any more).
    role: Option<String>,
}

pub(super) async fn run(command: &MemberCommand, app: &App, out: &Output) -> anyhow::Result<()> {
    match command {
        MemberCommand::Add { address, user, role } => {
            let repo = &address.repo;
            app.members.add(repo, user, *role, By::Command).await?;
            let member = Member {
                repo: repo.to_string(),
                user: user.to_string(),
                role: Some(role.to_string()),
            };
            out.say(&format!("{user} has the role {role} in {repo}."), &member)?;
        }
        MemberCommand::Remove { address, user } => {
            let repo = &address.repo;
            app.members.remove(repo, user, By::Command).await?;
            let member = Member {
                repo: repo.to_string(),
                user: user.to_string(),
                role: None,
            };
            out.say(&format!("{user} has no role in {repo} any more."), &member)?;
        }
        MemberCommand::List(address) => {
            let members = app.members.list(&address.repo).await?;
            out.list(
                &members,
                |row| Member {
                    repo: address.repo.to_string(),
                    user: row.name.to_string(),
                    role: Some(row.role.to_string()),
                },
                &format!("Nobody but the owner of {} has a role there.", address.repo),
                ["USER", "ROLE"],
                |row| [row.name.to_string(), row.role.to_string()],
            )?;
        }
    }
    Ok(())
}
