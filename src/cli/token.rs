//! `auxin token`: access tokens.

use serde::Serialize;

use super::args::TokenCommand;
use super::output::{Output, minutes, rfc3339};
use crate::app::App;
use crate::ids::TokenId;
use crate::service::{By, TokenInfo, TokenRequest};

#[derive(Serialize)]
struct Token {
    id: String,
    owner: String,
    label: String,
    scope: String,
    repo: Option<String>,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

impl Token {
    fn of(info: &TokenInfo) -> Self {
        Self {
            id: info.id.to_string(),
            owner: info.owner.to_string(),
            label: info.label.clone(),
            scope: info.scope.to_string(),
            repo: info.repo.as_ref().map(ToString::to_string),
            created_at: rfc3339(info.created_at_us),
            expires_at: info.expires_at_us.map(rfc3339),
            last_used_at: info.last_used_at_us.map(rfc3339),
            revoked_at: info.revoked_at_us.map(rfc3339),
        }
    }
}

#[derive(Serialize)]
struct Created {
    /// The token itself; it is nowhere else.
    token: String,
    #[serde(flatten)]
    about: Token,
}

#[derive(Serialize)]
struct Revoked {
    id: String,
    revoked: bool,
}

pub(super) async fn run(command: &TokenCommand, app: &App, out: &Output) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create {
            name,
            scope,
            repo,
            expires,
            label,
        } => {
            let request = TokenRequest {
                owner: name.clone(),
                label: label.clone(),
                scope: *scope,
                repo: repo.clone(),
                lifetime_days: *expires,
            };
            let made = app.tokens.create(request, By::Command).await?;
            let secret = made.secret.expose();
            let until = match made.info.expires_at_us {
                Some(us) => format!("until {}", minutes(us)),
                None => "until it is revoked".to_owned(),
            };
            let sentence = format!(
                "{secret}\n\nThis is shown once. Use it in place of the password of {}, {until}.",
                made.info.owner
            );
            let created = Created {
                token: secret.to_owned(),
                about: Token::of(&made.info),
            };
            out.say(&sentence, &created)?;
        }
        TokenCommand::List { name } => {
            let tokens = app.tokens.list(name.as_ref()).await?;
            out.list(
                &tokens,
                Token::of,
                "There are no tokens; `auxin token create NAME --scope read` makes one.",
                [
                    "ID",
                    "OWNER",
                    "SCOPE",
                    "REPOSITORY",
                    "LABEL",
                    "EXPIRES",
                    "LAST USED",
                    "REVOKED",
                ],
                |info| {
                    let time = |us: Option<i64>| us.map_or_else(String::new, minutes);
                    [
                        info.id.to_string(),
                        info.owner.to_string(),
                        info.scope.to_string(),
                        info.repo.as_ref().map_or_else(String::new, ToString::to_string),
                        info.label.clone(),
                        time(info.expires_at_us),
                        time(info.last_used_at_us),
                        time(info.revoked_at_us),
                    ]
                },
            )?;
        }
        TokenCommand::Revoke { id } => {
            let id: TokenId = id.parse()?;
            app.tokens.revoke(id, By::Command).await?;
            let revoked = Revoked {
                id: id.to_string(),
                revoked: true,
            };
            out.say("The token is refused from now on.", &revoked)?;
        }
    }
    Ok(())
}
