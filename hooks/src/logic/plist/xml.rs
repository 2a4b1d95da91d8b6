//! The XML form: the eleven tags of a property list, and nothing else that XML can do.

use std::collections::BTreeMap;

use super::{Budget, MAX_DEPTH, Value};

/// Longest tag with its attributes, in bytes.
const MAX_TAG_BYTES: usize = 1024;

pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        rest: text,
        budget: Budget::new(),
    };
    let mut tag = reader.tag()?;
    if tag.name == "plist" && !tag.is_closing {
        tag = reader.tag()?;
    }
    reader.value(tag, 0)
}

struct Reader<'a> {
    rest: &'a str,
    budget: Budget,
}

struct Tag<'a> {
    name: &'a str,
    /// `</name>`.
    is_closing: bool,
    /// `<name/>`.
    is_empty: bool,
}

impl<'a> Reader<'a> {
    /// The next tag, after white space, comments, and what stands before the list.
    fn tag(&mut self) -> Option<Tag<'a>> {
        loop {
            self.rest = self.rest.trim_start().strip_prefix('<')?;
            if let Some(comment) = self.rest.strip_prefix("!--") {
                self.rest = comment.split_once("-->")?.1;
                continue;
            }
            let (inside, after) = self.rest.split_once('>')?;
            self.rest = after;
            if inside.starts_with(['?', '!']) {
                // A type with declarations of its own is nothing that a program writes.
                if inside.contains('[') {
                    return None;
                }
                continue;
            }
            if inside.len() > MAX_TAG_BYTES {
                return None;
            }
            let (inside, is_closing) = match inside.strip_prefix('/') {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            let (inside, is_empty) = match inside.strip_suffix('/') {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            return Some(Tag {
                name: inside.split_whitespace().next()?,
                is_closing,
                is_empty,
            });
        }
    }

    fn value(&mut self, tag: Tag<'_>, depth: usize) -> Option<Value> {
        self.budget.take_values(1)?;
        if tag.is_closing || depth > MAX_DEPTH {
            return None;
        }
        Some(match tag.name {
            "true" | "false" => {
                if !tag.is_empty {
                    self.content(tag.name)?;
                }
                Value::Bool(tag.name == "true")
            }
            "array" => {
                let mut values = Vec::new();
                while let Some(item) = self.item(&tag)? {
                    values.push(self.value(item, depth + 1)?);
                }
                Value::Array(values)
            }
            "dict" => {
                let mut dict = BTreeMap::new();
                while let Some(item) = self.item(&tag)? {
                    if item.name != "key" || item.is_closing {
                        return None;
                    }
                    let key = if item.is_empty {
                        String::new()
                    } else {
                        self.content("key")?
                    };
                    self.budget.take_values(1)?;
                    let value = self.tag()?;
                    dict.insert(key, self.value(value, depth + 1)?);
                }
                Value::Dict(dict)
            }
            "string" if tag.is_empty => Value::Text(String::new()),
            "string" => Value::Text(self.content("string")?),
            "integer" => {
                let text = self.content("integer")?;
                let text = text.trim();
                Value::Integer(match text.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(hex, 16).ok()?,
                    None => text.parse().ok()?,
                })
            }
            "real" => Value::Real(self.content("real")?.trim().parse().ok()?),
            "data" | "date" => {
                if !tag.is_empty {
                    self.skip(tag.name)?;
                }
                Value::Other
            }
            _ => return None,
        })
    }

    /// The next tag in a list; `Some(None)` where the list ends.
    fn item(&mut self, list: &Tag<'_>) -> Option<Option<Tag<'a>>> {
        if list.is_empty {
            return Some(None);
        }
        let tag = self.tag()?;
        if !tag.is_closing {
            return Some(Some(tag));
        }
        (tag.name == list.name).then_some(None)
    }

    /// What stands before the tag that closes `name`, as it is.
    fn skip(&mut self, name: &str) -> Option<&'a str> {
        let (inside, after) = self.rest.split_once('<')?;
        let after = after.strip_prefix('/')?.strip_prefix(name)?;
        self.rest = after.trim_start().strip_prefix('>')?;
        Some(inside)
    }

    fn content(&mut self, name: &str) -> Option<String> {
        let mut raw = self.skip(name)?;
        self.budget.take_text(raw.len())?;
        let mut text = String::with_capacity(raw.len());
        while let Some((before, after)) = raw.split_once('&') {
            text.push_str(before);
            let (entity, after) = after.split_once(';')?;
            text.push(match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                _ => {
                    let number = entity.strip_prefix('#')?;
                    let code = match number.strip_prefix('x') {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => number.parse().ok()?,
                    };
                    char::from_u32(code)?
                }
            });
            raw = after;
        }
        text.push_str(raw);
        Some(text)
    }
}
