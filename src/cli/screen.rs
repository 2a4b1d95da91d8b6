//! What the terminal shows when the server is ready.

use serde::Serialize;

use crate::data_folder::DataFolder;
use crate::service::Secret;

use super::first_start::Administrator;

/// The same for programs.
#[derive(Serialize)]
pub(super) struct Ready<'a> {
    version: &'static str,
    address: &'a str,
    data: String,
    /// Only at a first start.
    administrator: Option<First<'a>>,
}

#[derive(Serialize)]
struct First<'a> {
    name: &'a str,
    /// Only if the server made it up.
    password: Option<&'a str>,
}

impl<'a> Ready<'a> {
    pub fn new(address: &'a str, data: &DataFolder, first: Option<&'a Administrator>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            address,
            data: data.path().display().to_string(),
            administrator: first.map(|first| First {
                name: &first.name,
                password: first.made_password.as_ref().map(Secret::expose),
            }),
        }
    }
}

/// The screen: where the server is and where its data; at a first start also who may sign in, and
/// the line that pushes a first song.
///
/// `named_data`: how the data folder has to be named in commands, ` --data DIR` or nothing.
pub(super) fn ready(address: &str, data: &DataFolder, named_data: &str, first: Option<&Administrator>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let folder = data.path().display();
    let Some(administrator) = first else {
        return format!("Auxin {version} is ready at {address} with its data in {folder}\n");
    };
    let name = &administrator.name;
    let mut screen =
        format!("\nAuxin {version} is ready.\n\n  Address   {address}\n  Data      {folder}\n\n  Name      {name}\n");
    if let Some(password) = &administrator.made_password {
        screen.push_str(&format!(
            "  Password  {}   (shown this once; change it: auxin user passwd {name}{named_data})\n",
            password.expose()
        ));
    }
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    screen.push_str(&format!(
        "\nPush your first song, from a folder with a Git repository:\n\n  git push {scheme}://{name}@{rest}/{name}/song.git main\n\n"
    ));
    screen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (tempfile::TempDir, DataFolder) {
        let root = tempfile::tempdir().expect("a folder");
        let data = DataFolder::create(root.path()).expect("created");
        (root, data)
    }

    #[test]
    fn a_first_start_shows_everything_a_first_push_needs() {
        let (_root, data) = data();
        let administrator = Administrator {
            name: "anna".into(),
            made_password: Some(Secret::new("quiet-words")),
        };

        let screen = ready("https://git.example.org/team", &data, " --data x", Some(&administrator));

        assert!(screen.contains("Address   https://git.example.org/team\n"), "{screen}");
        assert!(screen.contains(&data.path().display().to_string()), "{screen}");
        assert!(screen.contains("Password  quiet-words "), "{screen}");
        assert!(screen.contains("auxin user passwd anna --data x)"), "{screen}");
        assert!(
            screen.contains("\n  git push https://anna@git.example.org/team/anna/song.git main\n"),
            "{screen}"
        );
    }

    #[test]
    fn a_password_that_was_given_is_not_shown() {
        let (_root, data) = data();
        let administrator = Administrator {
            name: "anna".into(),
            made_password: None,
        };

        let screen = ready("http://127.0.0.1:8420", &data, "", Some(&administrator));

        assert!(!screen.contains("assword"), "{screen}");
    }

    #[test]
    fn a_later_start_says_one_line() {
        let (_root, data) = data();

        let screen = ready("http://127.0.0.1:8420", &data, "", None);

        assert_eq!(screen.lines().count(), 1);
        assert!(screen.contains("http://127.0.0.1:8420"), "{screen}");
    }
}
