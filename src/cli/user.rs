//! `auxin user`: people.

use serde::Serialize;

use super::args::UserCommand;
use super::output::{Output, minutes, rfc3339, yes};
use super::{PAGE_ROWS, first_start, password};
use crate::app::App;
use crate::names::OwnerName;
use crate::service::{By, UserRow};

#[derive(Serialize)]
struct User {
    id: String,
    name: String,
    admin: bool,
    disabled: bool,
    created_at: String,
}

impl User {
    fn of(row: &UserRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name.to_string(),
            admin: row.is_site_admin,
            disabled: row.is_disabled,
            created_at: rfc3339(row.created_at_us),
        }
    }
}

#[derive(Serialize)]
struct Removed {
    name: String,
    transferred_repos: u64,
}

pub(super) async fn run(command: &UserCommand, app: &App, out: &Output) -> anyhow::Result<()> {
    let accounts = &app.accounts;
    match command {
        UserCommand::Add { name, admin, password } => {
            let secret = password::read(name.as_str(), password.password_stdin)?;
            let row = accounts.add(name.clone(), &secret, *admin, By::Command).await?;
            let kind = if *admin { "site administrator" } else { "user" };
            out.say(&format!("Added the {kind} {name}."), &User::of(&row))?;
        }
        UserCommand::List => {
            let rows = all(app).await?;
            out.list(
                &rows,
                User::of,
                "There are no users yet; `auxin user add NAME` adds one.",
                ["NAME", "ADMIN", "DISABLED", "SINCE"],
                |row| {
                    [
                        row.name.to_string(),
                        yes(row.is_site_admin),
                        yes(row.is_disabled),
                        minutes(row.created_at_us),
                    ]
                },
            )?;
        }
        UserCommand::Passwd { name, password } => {
            accounts.find(name).await?; // before anybody types
            let secret = password::read(name.as_str(), password.password_stdin)?;
            accounts.passwd(name, &secret, By::Command).await?;
            first_start::overtaken(&app.data, name)?;
            say_user(app, out, name, format!("{name} has a new password from now on.")).await?;
        }
        UserCommand::Disable { name } => {
            accounts.disable(name, By::Command).await?;
            say_user(app, out, name, format!("{name} can no longer sign in.")).await?;
        }
        UserCommand::Enable { name } => {
            accounts.enable(name, By::Command).await?;
            say_user(app, out, name, format!("{name} can sign in again.")).await?;
        }
        UserCommand::Remove { name, transfer_to } => {
            let transferred_repos = accounts.remove(name, transfer_to.as_ref(), By::Command).await?;
            first_start::overtaken(&app.data, name)?;
            let sentence = match transfer_to {
                Some(heir) => format!("Removed {name}; {heir} has {transferred_repos} of their repositories now."),
                None => format!("Removed {name}."),
            };
            let removed = Removed {
                name: name.to_string(),
                transferred_repos,
            };
            out.say(&sentence, &removed)?;
        }
    }
    Ok(())
}

async fn say_user(app: &App, out: &Output, name: &OwnerName, sentence: String) -> anyhow::Result<()> {
    let row = app.accounts.find(name).await?;
    Ok(out.say(&sentence, &User::of(&row))?)
}

async fn all(app: &App) -> anyhow::Result<Vec<UserRow>> {
    let mut rows: Vec<UserRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.name.clone());
        let page = app.accounts.list(after.as_ref(), PAGE_ROWS).await?;
        let is_last = page.len() < PAGE_ROWS as usize;
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
    }
}
