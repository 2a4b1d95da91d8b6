//! The layers of the source, enforced.
//!
//! Every path in the code counts, whether it stands in a `use`, in an expression, in an attribute
//! or inside a macro call: the test reads tokens, not syntax trees, so nothing hides in a macro.
//! Names that were given with `as` are followed. A broken rule is named with its file and line.

#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/scan.rs"]
mod scan;

use std::path::Path;

use scan::{Source, Use};

/// A module at the top of `src/` and the modules it may use. Besides, everything may use the plain
/// modules ([`PLAIN`]) and itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    // `app` holds the services and nothing else, so that the outer layers need not wire them.
    ("cli", &["http", "app", "service", "data_folder"]),
    ("http", &["app", "service"]),
    ("app", &["service", "db", "storage", "git", "data_folder"]),
    ("service", &["db", "storage", "git"]),
    ("db", &[]),
    ("storage", &[]),
    ("git", &[]),
    ("data_folder", &[]),
    ("names", &[]),
    ("ids", &[]),
    ("config", &[]),
    ("telemetry", &[]),
];

/// Data and the log: everyone may use these.
const PLAIN: &[&str] = &["names", "ids", "config", "telemetry"];

/// Libraries with one owner, and where the owner lives. A `*` at the end matches any ending.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("axum", &["src/http/"]),
    ("axum_server", &["src/http/"]),
    ("hyper", &["src/http/"]),
    ("hyper_util", &["src/http/"]),
    ("http_body_util", &["src/http/"]),
    ("tower", &["src/http/"]),
    ("tower_http", &["src/http/"]),
    ("sqlx", &["src/db/"]),
    ("object_store", &["src/storage/"]),
    ("gix", &["src/git/"]),
    ("gix_*", &["src/git/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("clap_complete", &["src/cli/"]),
    ("rpassword", &["src/cli/"]),
];

/// Names that only some files may mention.
const NAMES: &[(&str, &[&str])] = &[("StatusCode", &["src/http/error.rs"])];

/// What may be done against the rules above: file (or folder), the path it uses, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[test]
fn every_path_in_the_source_keeps_to_the_layers() {
    let broken: Vec<String> = sources("src").iter().flat_map(violations).collect();

    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_module_at_the_top_has_its_place_in_the_layers() {
    for source in sources("src") {
        if let Some(layer) = source.layer() {
            assert!(may_use(layer).is_some(), "{} has no line in LAYERS", source.file);
        }
    }
}

#[test]
fn every_exception_is_still_needed() {
    let sources = sources("src");
    for (file, what, _) in EXCEPTIONS {
        let needed = sources
            .iter()
            .filter(|source| source.file.starts_with(file))
            .any(|source| source.uses().iter().any(|used| used.is_of(what)));
        assert!(needed, "{file} no longer uses {what}: take the line out of EXCEPTIONS");
    }
}

#[test]
fn the_packages_for_clients_know_nothing_of_the_server() {
    let of_the_server = ["auxin", "axum*", "sqlx*", "gix*", "object_store", "tokio*", "hyper*"];
    for package in ["lfs-protocol", "hooks"] {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("each package has a manifest");
        let manifest: toml::Table = manifest.parse().expect("manifests are TOML");
        for (section, value) in manifest.iter().filter(|(name, _)| name.ends_with("dependencies")) {
            for name in value.as_table().expect("a table of dependencies").keys() {
                assert!(
                    !of_the_server.iter().any(|pattern| matches(pattern, name)),
                    "{package}/Cargo.toml: [{section}] names {name}"
                );
            }
        }
        for source in sources(package) {
            for used in source.uses() {
                assert!(!used.is_of("auxin"), "{}:{}: uses the server", source.file, used.line);
            }
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = Source::read_all(&root.join(folder), root);
    assert!(!sources.is_empty(), "no source in {folder}");
    sources
}

fn may_use(layer: &str) -> Option<&'static [&'static str]> {
    let found = LAYERS.iter().find(|(name, _)| *name == layer);
    found.map(|(_, others)| *others)
}

/// Every broken rule of one file, as `file:line: sentence`.
fn violations(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for used in source.uses() {
        let excepted = EXCEPTIONS
            .iter()
            .any(|(file, what, _)| source.file.starts_with(file) && used.is_of(what));
        if excepted {
            continue;
        }
        for sentence in broken_rules(source, &used) {
            let line = format!("{}:{}: {sentence} (`{}`)", source.file, used.line, used.path.join("::"));
            if !broken.contains(&line) {
                broken.push(line);
            }
        }
    }
    broken
}

fn broken_rules(source: &Source, used: &Use) -> Vec<String> {
    let mut broken: Vec<String> = used.trick.map(str::to_owned).into_iter().collect();
    let first = used.path[0].as_str();
    // One word alone is no path: `object_store` may be a variable.
    if used.path.len() > 1 || used.imported {
        for (library, homes) in LIBRARIES {
            if matches(library, first) && !in_one_of(&source.file, homes) {
                broken.push(format!("{library} belongs to {} alone", homes.join(", ")));
            }
        }
    }
    for (name, homes) in NAMES {
        if used.path.iter().any(|part| part == name) && !in_one_of(&source.file, homes) {
            broken.push(format!("{name} belongs to {} alone", homes.join(", ")));
        }
    }
    let (Some(layer), Some(target), "crate") = (source.layer(), used.path.get(1), first) else {
        return broken;
    };
    let target = target.as_str();
    if target == layer || PLAIN.contains(&target) || may_use(target).is_none() {
        return broken;
    }
    if !may_use(layer).unwrap_or(&[]).contains(&target) {
        broken.push(format!("{layer} must not use {target}"));
    } else if used.exported && (used.path.len() == 2 || used.path[2] == "*") {
        broken.push(format!("{layer} must not hand the whole of {target} on"));
    }
    broken
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn in_one_of(file: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| file.starts_with(home))
}
