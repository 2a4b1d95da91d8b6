//! The commands of the program: the only place that knows how they are typed and what they print.
//!
//! Results go to standard output, as text for people or as JSON for programs; refusals go to
//! standard error as sentences, with exit code 1 (2 for what cannot be understood at all).

mod args;
mod branch;
mod config;
mod doctor;
mod first_start;
mod gc;
mod member;
mod output;
mod password;
mod repo;
mod screen;
mod serve;
mod token;
mod upkeep;
mod user;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use output::Output;

use crate::app::App;
use crate::config::LogSettings;
use crate::data_folder::DataFolder;
use crate::service::Collect;

/// Threads for work that blocks: transfers, password hashing, files. Each waits in a queue of its
/// own before it gets here; this bounds the sum, and exceeds what `server.max_transfers` may be.
const MAX_BLOCKING_THREADS: usize = 1024 + 256;

/// Rows that a list command reads from the database at once.
const PAGE_ROWS: u32 = 1000;

/// Runs the program: reads the command line of this process and does what it says.
pub fn run() -> ExitCode {
    // Before anything can need it; a second provider in the program would make rustls refuse to choose.
    let _chosen_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let out = Output::new(cli.common.json);
    match dispatch(&cli, &out) {
        Ok(code) => code,
        Err(error) => {
            // `{:#}` joins the causes; standard error may be closed, and then nobody is told.
            let _ = writeln!(std::io::stderr(), "{}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli, out: &Output) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Serve(serve) => serve::run(serve, &cli.common, out),
        Command::Config(command) => config::run(command, &cli.common, out),
        Command::Completions { shell } => completions(*shell, out),
        Command::User(command) => beside(cli, async |app| done(user::run(command, app, out).await)),
        Command::Token(command) => beside(cli, async |app| done(token::run(command, app, out).await)),
        Command::Member(command) => beside(cli, async |app| done(member::run(command, app, out).await)),
        Command::Branch(command) => beside(cli, async |app| done(branch::run(command, app, out).await)),
        Command::Repo(command) => beside(cli, async |app| repo::run(command, app, out).await),
        Command::Scrub { subset } => beside(cli, async |app| doctor::scrub(app, out, *subset).await),
        Command::Gc {
            dry_run,
            without_backup,
        } => {
            let how = Collect {
                is_dry_run: *dry_run,
                without_backup: *without_backup,
            };
            beside(cli, async |app| done(gc::run(app, out, how).await))
        }
        Command::Doctor => beside(cli, async |app| doctor::run(app, out).await),
    }
}

/// Runs a command on the data folder, beside whatever server is running there.
fn beside(cli: &Cli, command: impl AsyncFnOnce(&App) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let mut settings = config::settings(&cli.common, &[])?;
    crate::telemetry::init(&LogSettings {
        // People read this beside the command's own words; what a server would note in passing is noise.
        level: "warn".into(),
        ..settings.log.clone()
    });
    let data = DataFolder::open(&cli.common.data)?;
    if settings.server.public_url.is_empty()
        && let Some(address) = data.announced_address()
    {
        // The flags of the running server are not known here, but what they led to is.
        settings.server.public_url = address;
    }
    runtime()?.block_on(async {
        let app = App::open_beside(settings, data).await?;
        let outcome = command(&app).await;
        app.close().await;
        outcome
    })
}

/// Most commands have done it all when they return.
fn done(outcome: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell, out: &Output) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "auxin", &mut script);
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .context("The system gives this program no threads")
}

/// An error and its causes, without saying twice what a message took over from its cause.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(cause.trim_end_matches('.')) {
            continue;
        }
        if !text.is_empty() {
            // A whole sentence goes on with its cause.
            text.truncate(text.trim_end_matches('.').len());
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    // Many messages begin in the middle of a sentence, so that they can follow another; but a name
    // at the beginning stays as it is.
    let is_word = ["a", "it", "no", "nobody", "not", "the", "there", "too"]
        .iter()
        .any(|word| text.split(' ').next() == Some(word));
    if is_word && let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !text.ends_with(['.', '!', '?']) && !text.contains('\n') {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_sentence_that_says_nothing_twice() {
        let inner = anyhow::anyhow!("no space left");
        let outer = inner.context("the file x cannot be written");
        assert_eq!(sentence(&outer), "The file x cannot be written: no space left.");

        let inner = std::io::Error::other("no space left");
        let outer = anyhow::Error::new(inner).context("It failed: no space left.");
        assert_eq!(sentence(&outer), "It failed: no space left.");

        let inner = std::io::Error::other("no such file");
        let outer = anyhow::Error::new(inner).context("The file cannot be read.");
        assert_eq!(sentence(&outer), "The file cannot be read: no such file.");

        let of_anna = anyhow::anyhow!("anna owns 3 repositories");
        assert_eq!(sentence(&of_anna), "anna owns 3 repositories.");
    }
}
