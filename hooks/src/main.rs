//! `git auxin`: the client program of Auxin.

use std::path::Path;
use std::process::ExitCode;

use git_auxin::{Report, init};

const USAGE: &str = "\
Usage: git auxin <command>

Commands:
  init [FOLDER]   add what a Logic project needs to .gitattributes and .gitignore

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
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run_init(folder: &Path) -> ExitCode {
    match init(folder) {
        Ok(report) => {
            show(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
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
