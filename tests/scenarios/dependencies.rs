//! What may come into the program: the lists of `.config/deny.toml`, checked on every run.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use crate::support::run;

struct Rules {
    licences: HashSet<String>,
    banned: HashSet<String>,
}

fn rules() -> Rules {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".config/deny.toml");
    let text = std::fs::read_to_string(path).expect("the rules can be read");
    let rules: toml::Table = text.parse().expect("the rules are TOML");
    let list = |section: &str, key: &str| {
        rules[section][key]
            .as_array()
            .expect("a list")
            .iter()
            .map(|word| word.as_str().expect("a word").to_owned())
            .collect()
    };
    Rules {
        licences: list("licenses", "allow"),
        banned: list("bans", "deny"),
    }
}

/// A package that is compiled in.
struct Package {
    name: String,
    licence: String,
    /// Where it comes from if not from the registry or from this project.
    elsewhere: bool,
}

/// Every package that is compiled in.
fn packages() -> Vec<Package> {
    let tree = run(Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--offline",
            "--edges",
            "normal,build",
        ])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let mut seen = HashSet::new();
    tree.assert_ok()
        .out()
        .lines()
        .filter(|line| !line.is_empty() && seen.insert((*line).to_owned()))
        .map(|line| {
            let (package, licence) = line.split_once('|').expect("a package and its licence");
            let from = package.split_once('(').map(|(_, from)| from);
            Package {
                name: package.split(' ').next().unwrap_or_default().to_owned(),
                licence: licence.to_owned(),
                elsewhere: from.is_some_and(|from| from.contains("://")),
            }
        })
        .collect()
}

/// Whether a licence expression can be met with the licences allowed.
fn allowed(expression: &str, licences: &HashSet<String>) -> bool {
    fn split_top<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
        let (mut depth, mut from, mut parts) = (0_usize, 0, Vec::new());
        for (at, letter) in text.char_indices() {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ if depth == 0 && text[at..].starts_with(word) => {
                    parts.push(&text[from..at]);
                    from = at + word.len();
                }
                _ => {}
            }
        }
        parts.push(&text[from..]);
        parts
    }
    let text = expression.trim();
    let any = split_top(text, " OR ");
    if any.len() > 1 {
        return any.iter().any(|part| allowed(part, licences));
    }
    let all = split_top(text, " AND ");
    if all.len() > 1 {
        return all.iter().all(|part| allowed(part, licences));
    }
    match text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        Some(inner) => allowed(inner, licences),
        None => licences.contains(text),
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed_comes_from_the_registry_and_is_not_banned() {
    let rules = rules();
    let mut wrong = Vec::new();
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages are seen", packages.len());
    for package in packages {
        let name = &package.name;
        // Old packages write `MIT/Apache-2.0` for "or".
        let licence = package.licence.replace(" / ", " OR ").replace('/', " OR ");
        if !allowed(&licence, &rules.licences) {
            wrong.push(format!("{name}: licence {licence:?}"));
        }
        if rules.banned.contains(name) {
            wrong.push(format!("{name}: banned"));
        }
        if package.elsewhere {
            wrong.push(format!("{name}: not from the registry"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_licence_that_nobody_allowed_is_noticed() {
    let licences = HashSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    assert!(allowed("MIT OR Proprietary", &licences));
    assert!(allowed("ISC AND (Proprietary OR MIT)", &licences));
    assert!(!allowed("ISC AND (Proprietary OR Apache-2.0)", &licences));
    assert!(!allowed("AGPL-3.0", &licences));
}
