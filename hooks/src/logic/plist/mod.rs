//! Property lists, binary and XML, with a limit on everything.
//!
//! Own readers: a binary list may name one object many times, so a file of a few kilobytes can unfold into more than any
//! memory, and a limit must count what is unfolded while it is unfolded.

mod binary;
mod xml;

use std::collections::BTreeMap;

/// Values of one list, what is named several times counted each time.
const MAX_VALUES: usize = 200_000;
/// Lists within lists.
const MAX_DEPTH: usize = 16;
/// Text of one list, in bytes of UTF-8.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// A value. Data (`<data>`) is passed over, and so are dates: nothing that is told of a project is one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    Array(Vec<Value>),
    Dict(BTreeMap<String, Value>),
    /// Something else.
    Other,
}

/// Reads a list of either kind; `None` if it is none, is damaged or exceeds a limit.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    if bytes.starts_with(b"bplist") {
        binary::read(bytes)
    } else {
        xml::read(bytes)
    }
}

/// What may still be read.
struct Budget {
    values: usize,
    text_bytes: usize,
}

impl Budget {
    const fn new() -> Self {
        Self {
            values: MAX_VALUES,
            text_bytes: MAX_TEXT_BYTES,
        }
    }

    fn take_values(&mut self, count: usize) -> Option<()> {
        self.values = self.values.checked_sub(count)?;
        Some(())
    }

    fn take_text(&mut self, bytes: usize) -> Option<()> {
        self.text_bytes = self.text_bytes.checked_sub(bytes)?;
        Some(())
    }
}

impl Value {
    pub(super) fn dict(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    pub(super) fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value; old programs write 0 and 1.
    pub(super) fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Integer(0) => Some(false),
            Self::Integer(1) => Some(true),
            _ => None,
        }
    }

    /// A whole number, also where it is written as a real one.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Real(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
            _ => None,
        }
    }

    /// A number, also where it is written as a whole one.
    pub(super) fn real(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Real(value) if value.is_finite() => Some(*value),
            _ => None,
        }
    }
}
