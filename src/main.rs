//! The program `auxin`: see [`auxin::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    auxin::cli::run()
}
