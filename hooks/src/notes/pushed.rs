//! What a pushed note says.

use serde_json::{Map, Value};

use super::said::is_time;
use super::{Field, Note, NoteError, OWN_FIELDS, Said, SaidValue, Via, check_value, extracted, lines};

/// What is said of a commit once `by` has pushed a note at `at` (a time as in [`SaidValue`]) where `current` was.
///
/// A line with `schema` is a note as it was read from the server: what its top level says otherwise than its own `user`
/// and `auto` do was edited. A line without it says something in addition. `auto` belongs to the server; so do the names
/// and times under `user`.
///
/// # Errors
/// [`NoteError`]: the note is refused.
pub fn said_by_push(current: &Note, bytes: &[u8], by: &str, at: &str) -> Result<Said, NoteError> {
    let (whole, plain): (Vec<_>, Vec<_>) = lines(bytes)?.into_iter().partition(|line| line.contains_key("schema"));
    let mut said = match whole.is_empty() {
        true => current.said.clone(),
        false => Said::default(),
    };
    for line in &whole {
        said.join(edited(current, line, by, at)?);
    }
    for line in &plain {
        say(&mut said, line, &Map::new(), by, at)?;
    }
    Ok(said)
}

/// What a note that was read from the server and edited says.
fn edited(current: &Note, line: &Map<String, Value>, by: &str, at: &str) -> Result<Said, NoteError> {
    let mut said = Said::of_line(line);
    for (name, theirs) in said.clone().fields() {
        // Nobody speaks in another's name, or from the future.
        let is_old = |known: &SaidValue| known == theirs || theirs.at < known.at;
        if !current.said.get(name).is_some_and(is_old) {
            said.say(name, spoken(theirs.value.clone(), by, at));
        }
    }
    let mut before = line.get("auto").map(extracted).unwrap_or_default();
    said.lay_over(&mut before);
    say(&mut said, line, &before, by, at)?;
    let own = |line: &Map<String, Value>, name: &str| line.get("x").is_some_and(|own| own.get(name).is_some());
    for (field, _) in said.clone().fields() {
        let is_there = match field.strip_prefix("x.") {
            Some(name) => own(line, name) || line.contains_key(name),
            None => line.contains_key(field),
        };
        if !is_there {
            said.take_back(field);
        }
    }
    Ok(said)
}

/// Says what the top level of `line` says otherwise than `before` does; `null` takes something back.
fn say(
    said: &mut Said,
    line: &Map<String, Value>,
    before: &Map<String, Value>,
    by: &str,
    at: &str,
) -> Result<(), NoteError> {
    let own = line.get("x").and_then(Value::as_object).into_iter().flatten();
    let top = line.iter().filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str()));
    for (name, value, is_own) in top
        .map(|(name, value)| (name, value, false))
        .chain(own.map(|(name, value)| (name, value, true)))
    {
        let is_known = !is_own && Field::named(name).is_some();
        let (field, known) = match is_known {
            true => (name.clone(), before.get(name)),
            false => (format!("x.{name}"), before.get("x").and_then(|own| own.get(name))),
        };
        if value.is_null() {
            said.take_back(&field);
            continue;
        }
        let value = check_value(&field, value)?;
        if known != Some(&value) {
            said.say(&field, spoken(value, by, at));
        }
    }
    Ok(())
}

fn spoken(value: Value, by: &str, at: &str) -> SaidValue {
    debug_assert!(is_time(at), "{at}");
    SaidValue {
        value,
        by: by.to_owned(),
        at: at.to_owned(),
        via: Via::Note,
    }
}
