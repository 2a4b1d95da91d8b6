//! `git auxin`: the client program of Auxin.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use git_auxin::client_hooks::{self, HookError, Installed, State};
use git_auxin::local::LocalVersion;
use git_auxin::logic::{Limits, check, read_projects};
use git_auxin::setup::{self, Scope};
use git_auxin::versions::compare_versions;
use git_auxin::{Report, init, locks, status, textconv, transfer};

const USAGE: &str = "\
Usage: git auxin <command>

Commands:
  init [FOLDER]   add what a Logic project needs to .gitattributes and .gitignore, hooks (see install), and let
                  git diff show what Logic projects say
  install         let Git LFS send and get only what is new in large files
      --path PATH       name the program at PATH instead of this one
      --local, --system change the settings of this repository or machine, not yours
      --uninstall       take the settings out again
      --hooks           add hooks to this repository: sound keeps its time, overviews may stay out of a
                        commit, and locks of others are told before a push (with --uninstall: take them out)
  status          locks, sound that is not pushed or not here, and what is not set up
      --json            the same for programs
  compare A [B]   what changed in music from version A to B (HEAD): tempo, key, sound, regions, markers …
      --json, --line    the same for programs, or in one line for each project
      --fail-if missing_audio
                        end with 1 if a file that a project of B names is not there
  check [VERSION] are the projects of a version (HEAD) ready to open elsewhere: files that are missing or outside,
                  sample rates, plug-ins that are named
      --json            the same for programs
  lock, locks, unlock, ask, hand-over, steal, keep
                  who works on what; `git auxin lock` tells how
  textconv FILE   what git diff starts to show a file of a Logic project
  transfer        what Git LFS starts; not for people

Options:
  -h, --help      show this
  -V, --version   show the version
";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_str()).collect();
    match words.as_slice() {
        [Some("-V" | "--version" | "version")] => {
            println!("git-auxin {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [Some("-h" | "--help" | "help")] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        [Some("init")] => run_init(Path::new(".")),
        [Some("init"), folder] if folder.is_none_or(|folder| !folder.starts_with('-')) => run_init(Path::new(&args[1])),
        [Some("install"), Some("--hooks")] => run_hooks_install(),
        [Some("install"), Some("--hooks"), Some("--uninstall")] => told_hooks(client_hooks::uninstall()),
        [Some("hook"), Some(name), ..] => run_hook(name, &words[2..]),
        [Some("install"), ..] => run_install(&args[1..]),
        [Some("status")] => run_status(false),
        [Some("status"), Some("--json")] => run_status(true),
        [Some("compare"), ..] => run_compare(&words[1..]),
        [Some("check"), ..] => run_check(&words[1..]),
        [Some("textconv"), _] => run_textconv(Path::new(&args[1])),
        [Some("transfer")] => run_transfer(),
        words => match words
            .iter()
            .copied()
            .collect::<Option<Vec<&str>>>()
            .as_deref()
            .and_then(locks::run)
        {
            Some(done) => told(done),
            None => usage(),
        },
    }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

fn refused(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn told(done: Result<Vec<String>, locks::LockError>) -> ExitCode {
    match done {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => refused(error),
    }
}

fn run_install(args: &[OsString]) -> ExitCode {
    let (mut scope, mut path, mut is_removal) = (Scope::Global, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--uninstall") => is_removal = true,
            Some("--global") => scope = Scope::Global,
            Some("--local") => scope = Scope::Local,
            Some("--system") => scope = Scope::System,
            Some("--path") => match args.next() {
                Some(named) => path = Some(Path::new(named)),
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    let done = match is_removal {
        true if path.is_some() => return usage(),
        true => setup::uninstall(scope).map(|found| match found {
            true => "Removed: large files travel whole again.".to_owned(),
            false => "There was nothing to remove.".to_owned(),
        }),
        false => setup::install(scope, path).map(|changed| match changed.is_empty() {
            true => "Already set up.".to_owned(),
            false => format!(
                "Set up: from now on only what is new in large files travels.\n  {}",
                changed.join("\n  ")
            ),
        }),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => refused(error),
    }
}

fn run_transfer() -> ExitCode {
    let (input, out) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut input, mut out) = (std::io::BufReader::new(input), std::io::BufWriter::new(out));
    match transfer::run(&mut input, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(format_args!("git auxin transfer: {error}")),
    }
}

fn run_hooks_install() -> ExitCode {
    let done = client_hooks::install();
    let is_done = done.is_ok();
    let code = told_hooks(done);
    if is_done && let Err(error) = client_hooks::restore_times() {
        return refused(error);
    }
    code
}

fn told_hooks(done: Result<Vec<Installed>, HookError>) -> ExitCode {
    match done {
        Ok(done) => {
            for Installed { hook, state } in &done {
                println!("{hook}: {state}");
            }
            if done.is_empty() {
                println!("There was nothing to remove.");
            }
            ExitCode::SUCCESS
        }
        Err(error) => refused(error),
    }
}

fn run_hook(name: &str, args: &[Option<&str>]) -> ExitCode {
    let args: Option<Vec<&str>> = args.iter().copied().collect();
    match args.and_then(|args| client_hooks::run(name, &args)) {
        Some(Ok(lines)) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            ExitCode::SUCCESS
        }
        Some(Err(error)) => refused(error),
        None => usage(),
    }
}

fn run_status(is_json: bool) -> ExitCode {
    let found = match status::status() {
        Ok(found) => found,
        Err(error) => return refused(error),
    };
    if is_json {
        match serde_json::to_string_pretty(&found) {
            Ok(text) => println!("{text}"),
            Err(error) => return refused(error),
        }
    } else {
        found.lines().iter().for_each(|line| println!("{line}"));
    }
    ExitCode::from(u8::from(found.has_problem()))
}

fn run_textconv(path: &Path) -> ExitCode {
    match textconv::textconv(path) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => refused(format_args!("{} cannot be read: {error}.", path.display())),
    }
}

fn run_compare(words: &[Option<&str>]) -> ExitCode {
    let (mut versions, mut form, mut fails_if_missing) = (Vec::new(), None, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            Some("--fail-if") if words.next() == Some(&Some("missing_audio")) => fails_if_missing = true,
            Some(word @ ("--json" | "--line")) if form.is_none() => form = Some(word),
            Some(word) if !word.starts_with('-') => versions.push(word),
            _ => return usage(),
        }
    }
    let (before, after) = match versions.as_slice() {
        // As Git writes it: `A..B`.
        [range] => range.split_once("..").unwrap_or((range, "HEAD")),
        [before, after] => (*before, *after),
        _ => return usage(),
    };
    if after.starts_with('.') {
        eprintln!("`A...B` is not understood. Name two versions: git auxin compare A B");
        return ExitCode::from(2);
    }
    let told = match compare_versions(before, after) {
        Ok(told) => told,
        Err(error) => return refused(error),
    };
    match form {
        Some("--json") => match serde_json::to_string_pretty(&told) {
            Ok(text) => println!("{text}"),
            Err(error) => return refused(error),
        },
        Some(_) => told.lines().iter().for_each(|line| println!("{line}")),
        None => print!("{}", told.text()),
    }
    ExitCode::from(u8::from(fails_if_missing && told.has_missing_audio()))
}

/// 0 if all projects are ready, 1 if one is not or nothing can be told.
fn run_check(words: &[Option<&str>]) -> ExitCode {
    let (mut version, mut is_json) = (None, false);
    for word in words {
        match *word {
            Some("--json") => is_json = true,
            Some(word) if !word.starts_with('-') && version.is_none() => version = Some(word),
            _ => return usage(),
        }
    }
    let projects = LocalVersion::open(version.unwrap_or("HEAD"))
        .and_then(|mut version| read_projects(&mut version, &Limits::default()));
    let told: Vec<_> = match projects {
        Ok(projects) => projects.iter().map(check).collect(),
        Err(error) => return refused(error),
    };
    if is_json {
        match serde_json::to_string_pretty(&told) {
            Ok(text) => println!("{text}"),
            Err(error) => return refused(error),
        }
    } else if told.is_empty() {
        println!("There is no Logic Pro or GarageBand project in this version.");
    } else {
        told.iter().for_each(|one| println!("{}", one.text()));
    }
    ExitCode::from(u8::from(!told.iter().all(|one| one.is_ready)))
}

fn run_init(folder: &Path) -> ExitCode {
    match init(folder) {
        Ok(report) => {
            show(&report);
            add_hooks(&report.root);
            ExitCode::SUCCESS
        }
        Err(error) => refused(error),
    }
}

/// The files of patterns are there already, so that a folder of hooks that is not to be changed is a note and no failure.
fn add_hooks(root: &Path) {
    let done = std::env::set_current_dir(root).map_err(|error| HookError::Io(root.display().to_string(), error));
    if done.is_ok() {
        match setup::install_diff() {
            Ok(true) => println!("git diff: shows what Logic projects say"),
            Ok(false) => {}
            Err(error) => println!("Note: git diff will not show what Logic projects say. {error}"),
        }
    }
    match done.and_then(|()| client_hooks::install()) {
        Ok(done) => {
            for Installed { hook, state } in done.iter().filter(|done| done.state != State::Kept) {
                println!("Hook {hook}: {state}");
            }
        }
        Err(error) => println!("Note: no hooks were added. {error}"),
    }
}

fn show(report: &Report) {
    for file in &report.files {
        match file.patterns.as_slice() {
            [] => println!("{}: nothing to add", file.file),
            [one] => println!("{}: added {one}", file.file),
            many => println!("{}: added {} patterns", file.file, many.len()),
        }
    }
    for warning in &report.warnings {
        println!("Note: {warning}");
    }
    if report.files.iter().any(|file| !file.patterns.is_empty()) {
        println!(
            "\nNext:\n  git lfs install\n  git add .gitattributes .gitignore\n  git commit -m \"Prepare for Logic projects\""
        );
    }
}
