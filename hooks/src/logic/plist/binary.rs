//! `bplist00`: objects, a table of their offsets, and a trailer of 32 bytes.

use std::collections::BTreeMap;

use super::{Budget, MAX_DEPTH, Value};

const TRAILER_BYTES: usize = 32;

struct List<'a> {
    /// Everything before the trailer.
    body: &'a [u8],
    offset_bytes: usize,
    ref_bytes: usize,
    objects: u64,
    table: usize,
    budget: Budget,
}

pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    if !bytes.starts_with(b"bplist0") || bytes.len() < 8 + TRAILER_BYTES {
        return None;
    }
    let (body, trailer) = bytes.split_at(bytes.len() - TRAILER_BYTES);
    let mut list = List {
        body,
        offset_bytes: usize::from(trailer[6]),
        ref_bytes: usize::from(trailer[7]),
        objects: number(&trailer[8..16])?,
        table: usize::try_from(number(&trailer[24..32])?).ok()?,
        budget: Budget::new(),
    };
    let top = number(&trailer[16..24])?;
    let is_size = |bytes: usize| (1..=8).contains(&bytes);
    if !is_size(list.offset_bytes) || !is_size(list.ref_bytes) {
        return None;
    }
    list.object(top, 0)
}

/// A big-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

impl<'a> List<'a> {
    fn bytes(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.body.get(at..at.checked_add(len)?)
    }

    /// The kind of an object, the lower half of its marker, and where it goes on.
    fn marker(&mut self, index: u64) -> Option<(u8, usize, usize)> {
        if index >= self.objects {
            return None;
        }
        self.budget.take_values(1)?;
        let entry = usize::try_from(index).ok()?.checked_mul(self.offset_bytes)?;
        let at = number(self.bytes(self.table.checked_add(entry)?, self.offset_bytes)?)?;
        let at = usize::try_from(at).ok()?;
        let marker = *self.body.get(at)?;
        Some((marker >> 4, usize::from(marker & 15), at + 1))
    }

    /// The name of a value. Nothing but text is followed: a list that is a name of itself would never end.
    fn name(&mut self, index: u64) -> Option<String> {
        let (kind, low, after) = self.marker(index)?;
        matches!(kind, 5..=7).then(|| self.text(kind, after, low))?
    }

    fn object(&mut self, index: u64, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (kind, low, after) = self.marker(index)?;
        Some(match kind {
            0 => match low {
                8 => Value::Bool(false),
                9 => Value::Bool(true),
                _ => Value::Other,
            },
            1 => Value::Integer(self.integer(after, low)?),
            2 => match low {
                2 => Value::Real(f64::from(f32::from_be_bytes(self.bytes(after, 4)?.try_into().ok()?))),
                3 => Value::Real(f64::from_be_bytes(self.bytes(after, 8)?.try_into().ok()?)),
                _ => return None,
            },
            5..=7 => Value::Text(self.text(kind, after, low)?),
            10 | 12 => {
                let (count, at) = self.count(after, low)?;
                let refs = self.refs(at, count)?;
                let values = refs.chunks(self.ref_bytes).map(number);
                let values: Option<Vec<_>> = values.map(|entry| self.object(entry?, depth + 1)).collect();
                Value::Array(values?)
            }
            13 => {
                let (count, at) = self.count(after, low)?;
                let keys = self.refs(at, count)?;
                let values = self.refs(at + keys.len(), count)?;
                let pairs = keys.chunks(self.ref_bytes).zip(values.chunks(self.ref_bytes));
                let mut dict = BTreeMap::new();
                for (key, value) in pairs {
                    let key = self.name(number(key)?)?;
                    dict.insert(key, self.object(number(value)?, depth + 1)?);
                }
                Value::Dict(dict)
            }
            // Dates, data, identifiers of an archive.
            3 | 4 | 8 => Value::Other,
            _ => return None,
        })
    }

    fn integer(&self, at: usize, low: usize) -> Option<i64> {
        let bytes = self.bytes(at, 1 << low.min(5))?;
        match low {
            0..=2 => number(bytes).and_then(|value| i64::try_from(value).ok()),
            3 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
            4 => i64::try_from(i128::from_be_bytes(bytes.try_into().ok()?)).ok(),
            _ => None,
        }
    }

    /// How many items an object has, and where they begin.
    fn count(&self, at: usize, low: usize) -> Option<(usize, usize)> {
        if low < 15 {
            return Some((low, at));
        }
        let marker = *self.body.get(at)?;
        let size = usize::from(marker & 15);
        if marker >> 4 != 1 || size > 3 {
            return None;
        }
        let count = usize::try_from(self.integer(at + 1, size)?).ok()?;
        Some((count, at + 1 + (1 << size)))
    }

    /// References to `count` objects. They are counted before they are followed.
    fn refs(&self, at: usize, count: usize) -> Option<&'a [u8]> {
        if count > self.budget.values {
            return None;
        }
        self.bytes(at, count.checked_mul(self.ref_bytes)?)
    }

    fn text(&mut self, kind: u8, at: usize, low: usize) -> Option<String> {
        let (count, at) = self.count(at, low)?;
        let unit_bytes = if kind == 6 { 2 } else { 1 };
        let bytes = self.bytes(at, count.checked_mul(unit_bytes)?)?;
        self.budget.take_text(bytes.len())?;
        Some(match kind {
            6 => {
                let units: Vec<u16> = bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&unit| u16::from_be_bytes(unit))
                    .collect();
                String::from_utf16_lossy(&units)
            }
            _ => String::from_utf8_lossy(bytes).into_owned(),
        })
    }
}
