//! Running programs and looking at what they said.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a program answered.
#[derive(Clone)]
pub struct Outcome {
    /// The command as one would type it, for messages.
    pub command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = |bytes: &[u8]| {
            let from = bytes.len().saturating_sub(4000);
            String::from_utf8_lossy(&bytes[from..]).into_owned()
        };
        write!(
            f,
            "$ {}\nexit {:?}\n-- stdout\n{}\n-- stderr\n{}",
            self.command,
            self.code,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

impl Outcome {
    /// Whether the program ended with 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Fails the test unless the program ended with 0.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        assert!(self.ok(), "should have succeeded:\n{self:?}");
        self
    }

    /// Fails the test if the program ended with 0.
    #[track_caller]
    pub fn assert_failed(&self) -> &Self {
        assert!(!self.ok(), "should have failed:\n{self:?}");
        self
    }

    /// Fails the test unless the program failed and said `sentence` on standard error.
    #[track_caller]
    pub fn assert_refused_with(&self, sentence: &str) -> &Self {
        self.assert_failed().assert_said(sentence)
    }

    /// Fails the test unless `words` are on standard error or standard output.
    #[track_caller]
    pub fn assert_said(&self, words: &str) -> &Self {
        assert!(
            self.err().contains(words) || self.out().contains(words),
            "should have said {words:?}:\n{self:?}"
        );
        self
    }

    /// Standard output as text, without the last line end.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The lines that the server said, without the `remote: ` in front and Git's padding behind.
    pub fn remote_lines(&self) -> Vec<String> {
        self.err()
            .split(['\n', '\r'])
            .filter_map(|line| line.strip_prefix("remote: "))
            .map(|line| line.trim_end_matches("\u{1b}[K").trim_end().to_owned())
            .collect()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}):\n{self:?}"))
    }
}

/// Runs `command` to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    run_with_input(command, b"")
}

/// Runs `command` to its end with `input` on its standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Outcome {
    let described = describe(command);
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{described}`: {error}"));
    let stdin = child.stdin.take();
    let output: Output = std::thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            // A program that refuses early closes its end; that is its right.
            scope.spawn(move || drop(stdin.write_all(input)));
        }
        child.wait_with_output().expect("a child can be waited for")
    });
    Outcome {
        command: described,
        code: output.status.code(),
        stdout: output.stdout,
        stderr: output.stderr,
    }
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
