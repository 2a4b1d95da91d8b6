//! The settings as people read them: the commented file, and the table of the documentation.

use std::fmt::Write as _;

use super::{KEYS, Key, SECTIONS};

/// The settings file with every key, its documentation and its default commented out, so that it
/// changes nothing until a line is edited.
pub fn template() -> String {
    let mut out = String::from(
        "# Settings of this Auxin server.\n\
         #\n\
         # Every line below is a comment that shows a default. To change a setting, take the `#`\n\
         # away and edit the value; `auxin config check` says whether all is well. A variable\n\
         # named as AUXIN_SECTION__KEY wins over this file, and a flag wins over both.\n",
    );
    for (section, doc) in SECTIONS {
        out.push('\n');
        comment(&mut out, doc);
        let _ = writeln!(out, "[{section}]");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            out.push('\n');
            comment(&mut out, key.doc);
            let _ = writeln!(out, "# Allowed: {}.", key.allowed());
            let readable = in_words(key).map_or(String::new(), |words| format!("  # {words}"));
            let _ = writeln!(out, "# {} = {}{readable}", key.name, key.default_toml());
        }
    }
    out
}

/// The settings as a Markdown table for `docs/operations.md`.
pub fn markdown_table() -> String {
    let mut out = String::new();
    for (section, doc) in SECTIONS {
        let _ = writeln!(out, "### `[{section}]`\n\n{}\n", paragraph(doc));
        out.push_str("| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let readable = in_words(key).map_or(String::new(), |words| format!(" ({words})"));
            let _ = writeln!(
                out,
                "| `{}` | `{}`{readable} | {} | {} |",
                key.name,
                key.default_toml(),
                cell(&key.allowed()),
                cell(&paragraph(key.doc)),
            );
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn comment(out: &mut String, doc: &[&str]) {
    for line in doc {
        let _ = writeln!(out, "#{}", line.trim_end());
    }
}

fn paragraph(doc: &[&str]) -> String {
    let lines: Vec<_> = doc.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A default that is hard to read as digits, in words: `64 MiB`, `1 h`.
fn in_words(key: &Key) -> Option<String> {
    let number: u64 = key.default_toml().parse().ok()?;
    let units: &[(u64, &str)] = if key.name.ends_with("_bytes") {
        &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
    } else if key.name.ends_with("_secs") {
        &[(3600, "h"), (60, "min")]
    } else {
        return None;
    };
    units
        .iter()
        .find(|(size, _)| number >= *size && number.is_multiple_of(*size))
        .map(|(size, unit)| format!("{} {unit}", number / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, parse};

    #[test]
    fn the_template_changes_nothing() {
        assert_eq!(parse(&template(), &[], &[]), Ok(Settings::default()));
    }

    #[test]
    fn the_template_with_its_comments_taken_away_is_every_default() {
        let uncommented: String = template()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if KEYS.iter().any(|key| rest.starts_with(&format!("{} = ", key.name))) => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();

        assert_eq!(parse(&uncommented, &[], &[]), Ok(Settings::default()));
        for key in KEYS {
            assert!(uncommented.contains(&format!("\n{} = ", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn the_fields_of_the_types_and_the_list_of_keys_are_the_same() {
        let fields = serde_json::to_value(Settings::default()).expect("settings are plain data");
        let mut of_types: Vec<String> = Vec::new();
        for (section, keys) in fields.as_object().expect("sections") {
            for key in keys.as_object().expect("keys").keys() {
                of_types.push(format!("{section}.{key}"));
            }
        }
        let mut of_keys: Vec<String> = KEYS.iter().map(Key::dotted).collect();
        of_types.sort();
        of_keys.sort();

        assert_eq!(of_types, of_keys);
    }

    #[test]
    fn the_settings_in_the_documentation_are_the_settings_of_the_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let text = std::fs::read_to_string(path).expect("docs/operations.md is there");
        let (before, rest) = text
            .split_once("<!-- settings: begin -->\n")
            .expect("the mark where the settings begin");
        let (table, after) = rest
            .split_once("<!-- settings: end -->")
            .expect("the mark where the settings end");

        if std::env::var_os("UPDATE_DOCS").is_some() {
            let updated = format!(
                "{before}<!-- settings: begin -->\n{}<!-- settings: end -->{after}",
                markdown_table()
            );
            std::fs::write(path, updated).expect("docs/operations.md can be written");
        } else {
            assert_eq!(
                table,
                markdown_table(),
                "write it anew with: UPDATE_DOCS=1 cargo test settings_in_the_documentation"
            );
        }
    }
}
