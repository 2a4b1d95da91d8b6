//! Makes property lists and small projects.

use std::fmt::Write as _;

/// A value of a property list.
#[derive(Clone, Debug)]
pub enum Plist {
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(String),
    Data(Vec<u8>),
    Array(Vec<Plist>),
    Dict(Vec<(String, Plist)>),
}

pub fn text(text: &str) -> Plist {
    Plist::Text(text.to_owned())
}

pub fn texts(all: &[&str]) -> Plist {
    Plist::Array(all.iter().map(|one| text(one)).collect())
}

pub fn dict(pairs: &[(&str, Plist)]) -> Plist {
    Plist::Dict(
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
    )
}

/// The XML form.
pub fn xml(value: &Plist) -> Vec<u8> {
    let mut out = String::from(concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n",
        "<!-- a comment -->\n<plist version=\"1.0\">\n"
    ));
    write_xml(value, &mut out);
    out.push_str("\n</plist>\n");
    out.into_bytes()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('é', "&#xe9;")
}

fn write_xml(value: &Plist, out: &mut String) {
    match value {
        Plist::Bool(value) => write!(out, "<{value}/>").expect("memory"),
        Plist::Int(value) => write!(out, "<integer>{value}</integer>").expect("memory"),
        Plist::Real(value) => write!(out, "<real>{value:?}</real>").expect("memory"),
        Plist::Text(value) => write!(out, "<string>{}</string>", escaped(value)).expect("memory"),
        Plist::Data(_) => out.push_str("<data>\nAAEC\n</data>"),
        Plist::Array(values) if values.is_empty() => out.push_str("<array/>"),
        Plist::Array(values) => {
            out.push_str("<array>\n");
            values.iter().for_each(|value| write_xml(value, out));
            out.push_str("</array>");
        }
        Plist::Dict(pairs) => {
            out.push_str("<dict>");
            for (key, value) in pairs {
                write!(out, "\n\t<key>{}</key>\n\t", escaped(key)).expect("memory");
                write_xml(value, out);
            }
            out.push_str("</dict>\n");
        }
    }
}

/// The binary form.
pub fn binary(value: &Plist) -> Vec<u8> {
    let mut objects = Vec::new();
    add(value, &mut objects);
    packed(&objects)
}

/// A binary list of these objects, the first at the top; references are of two bytes.
pub fn packed(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"bplist00".to_vec();
    let mut offsets = Vec::new();
    for object in objects {
        offsets.push(out.len() as u32);
        out.extend(object);
    }
    let table = out.len() as u64;
    offsets.iter().for_each(|offset| out.extend(offset.to_be_bytes()));
    out.extend([0, 0, 0, 0, 0, 0, 4, 2]);
    for number in [objects.len() as u64, 0, table] {
        out.extend(number.to_be_bytes());
    }
    out
}

/// Marker and count of an object.
pub fn head(kind: u8, count: usize) -> Vec<u8> {
    match count {
        0..15 => vec![kind << 4 | count as u8],
        _ => [&[kind << 4 | 15, 0x12][..], &(count as u32).to_be_bytes()].concat(),
    }
}

fn add(value: &Plist, objects: &mut Vec<Vec<u8>>) -> u16 {
    let index = objects.len();
    objects.push(Vec::new());
    let of = |index: u16| index.to_be_bytes();
    objects[index] = match value {
        Plist::Bool(value) => vec![8 | u8::from(*value)],
        Plist::Int(value) => [&[0x13][..], &value.to_be_bytes()].concat(),
        Plist::Real(value) => [&[0x23][..], &value.to_be_bytes()].concat(),
        Plist::Text(value) if value.is_ascii() => [head(5, value.len()), value.clone().into_bytes()].concat(),
        Plist::Text(value) => {
            let units: Vec<u16> = value.encode_utf16().collect();
            let bytes = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            [head(6, units.len()), bytes].concat()
        }
        Plist::Data(bytes) => [head(4, bytes.len()), bytes.clone()].concat(),
        Plist::Array(values) => {
            let refs: Vec<u8> = values.iter().flat_map(|value| of(add(value, objects))).collect();
            [head(10, values.len()), refs].concat()
        }
        Plist::Dict(pairs) => {
            let keys: Vec<u8> = pairs.iter().flat_map(|(key, _)| of(add(&text(key), objects))).collect();
            let values: Vec<u8> = pairs.iter().flat_map(|(_, value)| of(add(value, objects))).collect();
            [head(13, pairs.len()), keys, values].concat()
        }
    };
    index as u16
}
