//! `auxin config`: the settings, checked or explained.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::args::{Common, ConfigCommand};
use super::output::Output;
use crate::config::{FlagValue, LoadError, Place, Settings, load, template};
use crate::data_folder::settings_file;
use crate::http;

/// The settings of this process, from its file, environment and flags.
///
/// # Errors
/// [`LoadError`] with every mistake.
pub(super) fn settings(common: &Common, flags: &[FlagValue]) -> Result<Settings, LoadError> {
    load(&file(common), common.config.is_some(), std::env::vars_os(), flags)
}

fn file(common: &Common) -> PathBuf {
    common.config.clone().unwrap_or_else(|| settings_file(&common.data))
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    file: PathBuf,
    mistakes: Vec<Mistake>,
}

#[derive(Serialize)]
struct Template<'a> {
    template: &'a str,
}

#[derive(Serialize)]
struct Mistake {
    /// `FILE:LINE:COLUMN`, the name of a variable, or a flag.
    place: String,
    key: String,
    problem: String,
    hint: String,
}

pub(super) fn run(command: &ConfigCommand, common: &Common, out: &Output) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Template => {
            // Text either way; in JSON it is a string.
            let template = template();
            out.say(template.trim_end_matches('\n'), &Template { template: &template })?;
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Check => check(common, out),
    }
}

fn check(common: &Common, out: &Output) -> anyhow::Result<ExitCode> {
    let file = file(common);
    match settings(common, &[]) {
        Ok(settings) => {
            // A certificate that cannot be used would stop the server; better to hear it now.
            match http::check_certificate(&settings.server) {
                Err(error) if common.json => {
                    let mistake = Mistake {
                        place: file.display().to_string(),
                        key: "server.tls_cert_file".into(),
                        problem: error.to_string(),
                        hint: "a certificate and its key in files that can be read (PEM)".into(),
                    };
                    let checked = Checked {
                        ok: false,
                        file,
                        mistakes: vec![mistake],
                    };
                    out.say("", &checked)?;
                    return Ok(ExitCode::FAILURE);
                }
                checked => checked?,
            }
            let sentence = if file.exists() {
                format!("The settings in {} are fine.", file.display())
            } else {
                format!(
                    "The settings are fine. There is no file {}, so defaults count.",
                    file.display()
                )
            };
            let checked = Checked {
                ok: true,
                file,
                mistakes: Vec::new(),
            };
            out.say(&sentence, &checked)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(LoadError::Wrong { file, errors }) if common.json => {
            let mistakes = errors
                .into_iter()
                .map(|error| Mistake {
                    place: match error.place {
                        Place::File { line, column } => format!("{}:{line}:{column}", file.display()),
                        Place::Variable(name) | Place::Flag(name) => name,
                    },
                    key: error.key,
                    problem: error.problem,
                    hint: error.hint,
                })
                .collect();
            let checked = Checked {
                ok: false,
                file,
                mistakes,
            };
            out.say("", &checked)?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}
