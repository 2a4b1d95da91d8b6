//! Text work for messages: places in a file, near spellings, short quotations.

use std::ops::Range;

use super::Place;

/// How much of a wrong key or value is repeated in a message, in characters.
const MAX_QUOTED_CHARS: usize = 60;

/// The beginning of a text that is too long to be repeated whole.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The candidate with the fewest letters to change.
pub(super) fn nearest(wrong: &str, candidates: impl Iterator<Item = String>) -> String {
    let wrong = shortened(wrong);
    // A name that was cut short is nearer than any other spelling: `drain` is `drain_secs`.
    candidates
        .min_by_key(|candidate| (!candidate.starts_with(&wrong), distance(&wrong, candidate)))
        .unwrap_or_default()
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Byte offsets of a text as lines and columns.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let at = span.start.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..at)
            .map_or(at - start, |before| before.chars().count());
        Place::File {
            line,
            column: column + 1,
        }
    }
}
