//! The administrator of a first start.
//!
//! A password that the server makes up must be seen once, and exactly once, even if the start is
//! killed in between. So it is kept in `secrets/` before the account exists, and forgotten after
//! the screen has shown it; a start that finds it there shows it again.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::password;
use crate::app::App;
use crate::data_folder::DataFolder;
use crate::names::OwnerName;
use crate::service::{By, PASSWORD_MIN_BYTES, Secret};

/// The name of the administrator when nobody gives one.
const DEFAULT_NAME: &str = "admin";
/// Where name and password wait until they have been shown.
const WAITING: &str = "first-administrator";

const USER_VARIABLE: &str = "AUXIN_ADMIN_USER";
const PASSWORD_VARIABLE: &str = "AUXIN_ADMIN_PASSWORD";
const PASSWORD_FILE_VARIABLE: &str = "AUXIN_ADMIN_PASSWORD_FILE";

/// The administrator as the environment asks for them. Only a first start looks at this.
#[derive(Debug)]
pub(super) struct Wished {
    name: OwnerName,
    password: Option<Secret>,
}

/// The administrator that a first start made.
pub(super) struct Administrator {
    pub name: String,
    /// The password, if the server made it up.
    pub made_password: Option<Secret>,
}

impl Wished {
    /// Reads `AUXIN_ADMIN_USER`, and `AUXIN_ADMIN_PASSWORD` or `AUXIN_ADMIN_PASSWORD_FILE`.
    pub fn from_environment() -> anyhow::Result<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        // Set to nothing is not set: that is how compose files leave a variable out.
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let name = given(USER_VARIABLE);
        let name = OwnerName::parse(name.as_deref().unwrap_or(DEFAULT_NAME))
            .with_context(|| format!("{USER_VARIABLE} cannot be used"))?;
        let password = match (given(PASSWORD_VARIABLE), given(PASSWORD_FILE_VARIABLE)) {
            (Some(_), Some(_)) => {
                bail!("{PASSWORD_VARIABLE} and {PASSWORD_FILE_VARIABLE} are both set; set one of them.")
            }
            (Some(password), None) => Some(Secret::new(password)),
            (None, Some(file)) => Some(password::read_file(&PathBuf::from(file))?),
            (None, None) => None,
        };
        if let Some(password) = &password {
            ensure!(
                password.expose().len() >= PASSWORD_MIN_BYTES,
                "The administrator's password is too short; use at least {PASSWORD_MIN_BYTES} characters."
            );
        }
        Ok(Self { name, password })
    }
}

/// Makes the administrator if nobody has an account yet. `None`: this is not a first start, and what
/// is `wished` does not matter, be it right or wrong.
pub(super) async fn administrator(
    app: &App,
    data: &DataFolder,
    wished: anyhow::Result<Wished>,
) -> anyhow::Result<Option<Administrator>> {
    let waiting = data.read_secret(WAITING)?.and_then(|bytes| from_bytes(&bytes));
    if app.accounts.any().await? {
        // Whoever was shown nothing, because the start before was cut short, is shown it now.
        return Ok(waiting.map(|(name, password)| Administrator {
            name: name.to_string(),
            made_password: Some(password),
        }));
    }
    let wished = wished?;
    let (password, made_password) = match wished.password {
        Some(password) => (password, None),
        None => {
            let password = Secret::random_password();
            let bytes = format!("{}\n{}\n", wished.name, password.expose());
            data.write_secret(WAITING, bytes.as_bytes())?;
            (password.clone(), Some(password))
        }
    };
    app.accounts
        .add(wished.name.clone(), &password, true, By::Server)
        .await
        .context("The administrator cannot be made")?;
    Ok(Some(Administrator {
        name: wished.name.to_string(),
        made_password,
    }))
}

/// The screen has been shown: the password is forgotten.
pub(super) fn shown(data: &DataFolder) -> anyhow::Result<()> {
    Ok(data.remove_secret(WAITING)?)
}

/// `name` got another password or is gone: what was to be shown of them is worth nothing.
pub(super) fn overtaken(data: &DataFolder, name: &OwnerName) -> anyhow::Result<()> {
    match data.read_secret(WAITING)?.and_then(|bytes| from_bytes(&bytes)) {
        Some((waiting, _)) if waiting == *name => shown(data),
        _ => Ok(()),
    }
}

fn from_bytes(bytes: &[u8]) -> Option<(OwnerName, Secret)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let name = OwnerName::parse(lines.next()?).ok()?;
    Some((name, Secret::new(lines.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(pairs: &[(&str, &str)]) -> anyhow::Result<Wished> {
        Wished::from(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_wishes_the_administrator_is_called_admin_and_gets_a_password_made_up() {
        let wished = wished(&[(PASSWORD_VARIABLE, ""), (USER_VARIABLE, "")]).expect("fine");
        assert_eq!(wished.name.as_str(), "admin");
        assert!(wished.password.is_none());
    }

    #[test]
    fn the_password_comes_from_a_variable_or_from_a_file_but_not_from_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "sings bass\n").expect("written");
        let file = file.to_str().expect("a path");

        let by_file = wished(&[(PASSWORD_FILE_VARIABLE, file), (USER_VARIABLE, "anna")]).expect("fine");
        let both = wished(&[(PASSWORD_FILE_VARIABLE, file), (PASSWORD_VARIABLE, "x")]);
        let missing = wished(&[(PASSWORD_FILE_VARIABLE, "/nowhere/at/all")]);

        assert_eq!(by_file.name.as_str(), "anna");
        assert_eq!(by_file.password.expect("read").expose(), "sings bass");
        assert!(both.expect_err("two").to_string().contains("set one of them"));
        assert!(missing.expect_err("no file").to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn a_name_that_cannot_be_used_is_named_with_its_variable() {
        let refusal = wished(&[(USER_VARIABLE, "../x")]).expect_err("not a name");
        assert!(
            format!("{refusal:#}").starts_with("AUXIN_ADMIN_USER cannot be used: "),
            "{refusal:#}"
        );
    }
}
