//! `git auxin compare`: what changed in music between two versions of the current repository.

use std::fmt::Write as _;

use serde::Serialize;

use crate::git;
use crate::local::{LocalError, LocalVersion};
use crate::logic::compare::{Change, Comparison, compare, pair};
use crate::logic::{Limits, read_projects};

/// Most names of authors in the headline.
const SHOWN_AUTHORS: usize = 3;
/// Most commits whose authors and days are looked at.
const MAX_COMMITS: &str = "--max-count=10000";

/// Two versions, and each project that one of them has.
#[derive(Debug, Serialize)]
pub struct ComparedVersions {
    /// Id of the earlier commit, shortened.
    pub before: String,
    /// Id of the later commit, shortened.
    pub after: String,
    /// How many commits the later version has that the earlier one has not, up to 10,000.
    pub commits: u64,
    /// Who made them, each once, the last one first.
    pub authors: Vec<String>,
    /// Between the first and the last of them, in days.
    pub days: u64,
    /// By path.
    pub projects: Vec<Comparison>,
}

/// Compares two versions by names that Git understands.
///
/// # Errors
/// [`LocalError`]
pub fn compare_versions(before: &str, after: &str) -> Result<ComparedVersions, LocalError> {
    let (mut a, mut b) = (LocalVersion::open(before)?, LocalVersion::open(after)?);
    a.listen_to_changes(&mut b);
    let limits = Limits::default();
    let (earlier, later) = (read_projects(&mut a, &limits)?, read_projects(&mut b, &limits)?);
    let pairs = pair(&earlier, &later);
    let mut projects: Vec<Comparison> = pairs
        .into_iter()
        .filter_map(|(before, after)| compare(before.map(|at| &earlier[at]), after.map(|at| &later[at])))
        .collect();
    projects.sort_by(|a, b| a.path.cmp(&b.path));
    let range = format!("{}..{}", a.name, b.name);
    let log = git::ask(&["log", MAX_COMMITS, "--format=%ct %aN", &range])?;
    let mut authors: Vec<String> = Vec::new();
    let mut times: Vec<u64> = Vec::new();
    for line in log.lines() {
        let (time, author) = line.split_once(' ').unwrap_or((line, ""));
        times.extend(time.parse::<u64>());
        let author: String = author.chars().filter(|char| !char.is_control()).collect();
        if !authors.contains(&author) {
            authors.push(author);
        }
    }
    let span = times
        .iter()
        .max()
        .zip(times.iter().min())
        .map_or(0, |(last, first)| last - first);
    Ok(ComparedVersions {
        before: a.name.clone(),
        after: b.name.clone(),
        commits: times.len() as u64,
        authors,
        days: span / 86_400,
        projects,
    })
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

impl ComparedVersions {
    /// Whether a file of a project is not there in the later version.
    pub fn has_missing_audio(&self) -> bool {
        self.projects.iter().any(|project| project.needs.missing.count > 0)
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut facts = vec![counted(self.commits, "commit", "commits")];
        facts.extend(self.authors.iter().take(SHOWN_AUTHORS).cloned());
        if self.authors.len() > SHOWN_AUTHORS {
            facts.push("others".to_owned());
        }
        if self.days > 0 {
            facts.push(counted(self.days, "day", "days"));
        }
        let mut text = format!("{} → {}  ({})\n", self.before, self.after, facts.join(", "));
        if self.projects.is_empty() {
            text.push_str("There is no Logic Pro or GarageBand project in either version.\n");
        }
        for project in &self.projects {
            match project.change {
                Change::Same => {
                    let _ = writeln!(text, "{}", named_line(project));
                }
                _ => text.push_str(&project.text()),
            }
        }
        text
    }

    /// One line for each project.
    pub fn lines(&self) -> Vec<String> {
        self.projects.iter().map(named_line).collect()
    }
}

fn named_line(project: &Comparison) -> String {
    let name = if project.path.is_empty() {
        "the project"
    } else {
        &project.path
    };
    format!("{name}: {}", project.line())
}
