//! Where passwords come from: a terminal, standard input, or a file.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::service::Secret;

/// Longest password that is read, in bytes; more is a file that was named by mistake.
const MAX_BYTES: u64 = 4096;

/// Asks twice at the terminal, or reads the first line of standard input.
pub(super) fn read(for_whom: &str, from_stdin: bool) -> anyhow::Result<Secret> {
    if from_stdin {
        let mut line = String::new();
        io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_line(&mut line)
            .context("No password could be read from standard input.")?;
        return first_line(&line, "standard input");
    }
    if !io::stdin().is_terminal() {
        bail!("There is no terminal to ask for a password. Give it on standard input, with --password-stdin.");
    }
    let ask =
        |prompt: String| rpassword::prompt_password(prompt).context("The terminal could not be asked for a password.");
    let first = ask(format!("Password for {for_whom}: "))?;
    let second = ask("The same again: ".into())?;
    ensure!(first == second, "The two passwords differ; nothing was changed.");
    Ok(Secret::new(first))
}

/// The first line of a file.
pub(super) fn read_file(path: &Path) -> anyhow::Result<Secret> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("The password file {} cannot be read.", path.display()))?;
    first_line(&text, &path.display().to_string())
}

fn first_line(text: &str, place: &str) -> anyhow::Result<Secret> {
    let line = text.lines().next().unwrap_or("");
    ensure!(!line.is_empty(), "The password from {place} is empty.");
    ensure!(
        line.len() as u64 <= MAX_BYTES,
        "The password from {place} is longer than {MAX_BYTES} bytes."
    );
    Ok(Secret::new(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_counts() {
        let line = first_line("secret word \r\nmore", "x").expect("read");
        assert_eq!(line.expose(), "secret word ");
        assert!(first_line("\nsecret", "x").is_err());
        assert!(first_line(&"x".repeat(5000), "x").is_err());
    }
}
