//! What a command prints: tables and sentences for people, JSON for programs.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

/// Where a command's results go.
pub(super) struct Output {
    json: bool,
}

impl Output {
    /// `json`: for programs instead of people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// One result: a sentence for people, `value` for programs.
    pub fn say(&self, sentence: &str, value: &impl Serialize) -> io::Result<()> {
        if self.json {
            self.value(value)
        } else {
            self.text(&format!("{sentence}\n"))
        }
    }

    /// A list: an array for programs, a table for people (the sentence `none` when it is empty).
    pub fn list<Row, Value: Serialize, const N: usize>(
        &self,
        rows: &[Row],
        value: impl Fn(&Row) -> Value,
        none: &str,
        header: [&str; N],
        columns: impl Fn(&Row) -> [String; N],
    ) -> io::Result<()> {
        if self.json {
            return self.value(&rows.iter().map(value).collect::<Vec<_>>());
        }
        if rows.is_empty() {
            return self.text(&format!("{none}\n"));
        }
        let mut lines = vec![header.map(str::to_owned)];
        lines.extend(rows.iter().map(columns));
        self.text(&table(&lines))
    }

    /// The facts about one thing, one per line.
    pub fn facts(&self, value: &impl Serialize, facts: &[(&str, String)]) -> io::Result<()> {
        if self.json {
            return self.value(value);
        }
        let lines: Vec<_> = facts
            .iter()
            .map(|(name, value)| [(*name).to_owned(), value.clone()])
            .collect();
        self.text(&table(&lines))
    }

    fn value(&self, value: &impl Serialize) -> io::Result<()> {
        self.text(&format!("{}\n", json(value)?))
    }

    /// Text as it is. A reader that has seen enough (`| head`) is no mistake.
    pub fn text(&self, text: &str) -> io::Result<()> {
        match write(text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Like [`Output::say`], for what is said once: here it is an error if nobody reads it.
    pub fn say_once(&self, sentence: &str, value: &impl Serialize) -> io::Result<()> {
        if self.json {
            write(&format!("{}\n", json(value)?))
        } else {
            write(&format!("{sentence}\n"))
        }
    }
}

fn json(value: &impl Serialize) -> io::Result<String> {
    serde_json::to_string_pretty(value).map_err(io::Error::other)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// `1 pack`, `2 packs`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Columns of even width, two spaces apart. Control characters are shown, not sent to the terminal.
fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let lines: Vec<[String; N]> = lines.iter().map(|line| line.clone().map(shown)).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(cell);
            let gap = width - cell.chars().count() + 2;
            text.extend(std::iter::repeat_n(' ', gap));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn shown(text: String) -> String {
    if text.is_empty() {
        return "-".into();
    }
    if text.chars().any(char::is_control) {
        return text.escape_debug().to_string();
    }
    text
}

/// A time for people.
pub(super) fn minutes(us: i64) -> String {
    time(us).map_or_else(String::new, |time| time.format("%F %H:%M UTC").to_string())
}

/// A time for programs (RFC 3339).
pub(super) fn rfc3339(us: i64) -> String {
    time(us).map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn time(us: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(us)
}

/// `yes` or `no`.
pub(super) fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_even_and_control_characters_cannot_reach_the_terminal() {
        let lines = [
            ["NAME".to_owned(), "ROLE".to_owned()],
            ["größe".to_owned(), "read".to_owned()],
            ["\u{1b}[2Jx".to_owned(), String::new()],
        ];
        assert_eq!(table(&lines), "NAME        ROLE\ngröße       read\n\\u{1b}[2Jx  -\n");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(minutes(1_700_000_000_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(rfc3339(1_700_000_000_000_000), "2023-11-14T22:13:20Z");
    }
}
