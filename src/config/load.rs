//! The settings of a process: its file, its environment, its flags.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::parse::{MAX_FILE_BYTES, PREFIX};
use super::{FlagValue, Place, SettingError, Settings, parse};

/// Why the settings could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("The settings file {} cannot be read: {cause}.", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// Settings are wrong.
    #[error("{}", listed(file, errors))]
    Wrong {
        /// The settings file, whether it exists or not.
        file: PathBuf,
        /// Every mistake.
        errors: Vec<SettingError>,
    },
}

fn listed(file: &Path, errors: &[SettingError]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| error.in_file(file)).collect();
    let noun = if errors.len() == 1 { "mistake" } else { "mistakes" };
    format!("The settings have {} {noun}:\n  {}", errors.len(), lines.join("\n  "))
}

/// Reads the settings from `file`, `env` (all variables of the process) and `flags`.
///
/// `must_exist`: the file was named by a person, so its absence is a mistake; else an absent file
/// means all defaults.
///
/// # Errors
/// [`LoadError::Unreadable`], or [`LoadError::Wrong`] with every mistake at once.
pub fn load(
    file: &Path,
    must_exist: bool,
    env: impl Iterator<Item = (OsString, OsString)>,
    flags: &[FlagValue],
) -> Result<Settings, LoadError> {
    let mut errors = Vec::new();
    let text = match read(file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && !must_exist => String::new(),
        Err(cause) => {
            return Err(LoadError::Unreadable {
                file: file.to_owned(),
                cause,
            });
        }
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_else(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let lines = valid.split(|byte| *byte == b'\n');
            let last_line = valid.rsplit(|byte| *byte == b'\n').next().unwrap_or(&[]);
            errors.push(SettingError {
                place: Place::File {
                    line: lines.count(),
                    column: String::from_utf8_lossy(last_line).chars().count() + 1,
                },
                key: String::new(),
                problem: "this is not UTF-8".into(),
                hint: "save the file as UTF-8 text".into(),
            });
            String::new()
        }),
    };

    let mut variables = Vec::new();
    for (name, value) in env {
        // Names of others need not be text, and are none of our business.
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) if name.contains("__") || name == "AUXIN_LISTEN" => errors.push(SettingError {
                place: Place::Variable(name.to_owned()),
                key: String::new(),
                problem: "its value is not UTF-8".into(),
                hint: String::new(),
            }),
            Err(_) => {}
        }
    }

    match parse(&text, &variables, flags) {
        Ok(settings) if errors.is_empty() => Ok(settings),
        Ok(_) => Err(LoadError::Wrong {
            file: file.to_owned(),
            errors,
        }),
        Err(found) => {
            errors.extend(found);
            Err(LoadError::Wrong {
                file: file.to_owned(),
                errors,
            })
        }
    }
}

/// The bytes of the file; of a file that is too large, just enough for [`parse`] to see that.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn no_env() -> impl Iterator<Item = (OsString, OsString)> {
        std::iter::empty()
    }

    #[test]
    fn a_missing_file_means_defaults_unless_it_was_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("auxin.toml");

        assert_eq!(
            load(&file, false, no_env(), &[]).expect("defaults"),
            Settings::default()
        );
        let refusal = load(&file, true, no_env(), &[]).expect_err("it is not there");
        assert!(refusal.to_string().contains("cannot be read"), "{refusal}");
    }

    #[test]
    fn mistakes_are_listed_with_the_name_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, "[log]\nlevel = 'loud!'\nfomat = 'json'\n").expect("written");

        let refusal = load(&file, true, no_env(), &[]).expect_err("two mistakes");

        let text = refusal.to_string();
        assert!(text.starts_with("The settings have 2 mistakes:\n"), "{text}");
        assert!(text.contains("mine.toml:2:1: log.level:"), "{text}");
        assert!(text.contains("mine.toml:3:1: log.fomat:"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_their_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("auxin.toml");
        std::fs::write(&file, b"# x\n# ab\xff\n").expect("written");
        let env = [(OsString::from("AUXIN_LOG__LEVEL"), OsString::from_vec(vec![b'i', 0xff]))];

        let refusal = load(&file, false, env.into_iter(), &[]).expect_err("no text");

        let text = refusal.to_string();
        assert!(text.contains("auxin.toml:2:5: this is not UTF-8"), "{text}");
        assert!(text.contains("AUXIN_LOG__LEVEL: its value is not UTF-8"), "{text}");
    }
}
