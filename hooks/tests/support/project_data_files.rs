//! Makes small `ProjectData` files.

/// A record: tag, kind, id, payload.
pub fn record(tag: &[u8; 4], kind: u16, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; 36];
    head[..4].copy_from_slice(tag);
    head[6..8].copy_from_slice(&kind.to_le_bytes());
    head[10..12].copy_from_slice(&id.to_le_bytes());
    head[28..32].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    [&head[..], payload].concat()
}

/// A whole file.
pub fn project_data(version: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let body = records.concat();
    let mut file = vec![0x23, 0x47, 0xc0, 0xab];
    file.extend(version.to_le_bytes());
    file.extend([3, 0, 4, 0, 0, 0, 1, 0, 8, 0]);
    file.extend((body.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(body);
    file
}

const TAIL: [u8; 16] = [0xf1, 0, 0, 0, 0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0];

fn list(kind: u16, id: u16, events: &[Vec<u8>]) -> Vec<u8> {
    record(b"qSvE", kind, id, &[events.concat(), TAIL.to_vec()].concat())
}

/// An event: what it is, where it stands, and the eighth bytes of its further lines.
pub fn event(what: u8, position: u32, lines: &[u8]) -> Vec<u8> {
    let mut event = vec![0; 16 * (1 + lines.len())];
    event[0] = what;
    event[4..8].copy_from_slice(&position.to_le_bytes());
    for (line, byte) in event.chunks_exact_mut(16).skip(1).zip(lines) {
        line[7] = *byte;
    }
    event
}

/// Tempos by tick, in beats per minute.
pub fn tempos(all: &[(u32, f64)]) -> Vec<u8> {
    let events: Vec<_> = all
        .iter()
        .map(|(tick, bpm)| {
            let mut event = event(0x60, 38_400 + tick, &[0x88]);
            event[16..20].copy_from_slice(&((bpm * 10_000.0) as u32).to_le_bytes());
            event
        })
        .collect();
    list(3, 0, &events)
}

/// Meters by tick, as numerator and exponent of the denominator; a key stands after the first.
pub fn meters(all: &[(u32, u8, u8)]) -> Vec<u8> {
    let mut events: Vec<Vec<u8>> = all
        .iter()
        .map(|(tick, upper, exponent)| {
            let mut event = event(0x30, 38_400 + tick, &[0x88, 0x88]);
            (event[11], event[12]) = (*exponent, *upper);
            event
        })
        .collect();
    events.insert(1, event(0x32, 0, &[0x88]));
    list(1, 0, &events)
}

/// Markers by tick, and their names.
pub fn markers(all: &[(u32, &str)]) -> Vec<u8> {
    let mut texts = Vec::new();
    let events: Vec<_> = (1..)
        .zip(all)
        .map(|(number, (tick, name))| {
            let mut event = event(0x12, 38_400 + tick, &[0x88, 0x88]);
            event[16..20].copy_from_slice(&(u32::from(number) * 4_u32).to_le_bytes());
            let rtf = format!("{{\\rtf1\\ansi{{\\fonttbl\\f0 Helvetica;}}{{\\*\\x;}}\n\n\\f0\\fs24 \\cf2 {name}}}");
            let payload = [vec![0; 0x62], rtf.into_bytes()].concat();
            texts.extend(record(b"qSxT", 0x20, number * 4, &payload));
            event
        })
        .collect();
    [list(0x16, 4, &events), texts].concat()
}

/// An audio region without a UUID.
pub fn region(id: u16, name: &str, frames: u32) -> Vec<u8> {
    lasting_region(id, name, frames, 0)
}

/// An audio region with a UUID of this byte.
pub fn lasting_region(id: u16, name: &str, frames: u32, uuid: u8) -> Vec<u8> {
    let mut payload = vec![0; 0x4a];
    payload[0x16..0x1a].copy_from_slice(&frames.to_le_bytes());
    payload.extend((name.len() as u16).to_le_bytes());
    payload.extend(name.as_bytes());
    payload.extend([0; 87]);
    payload.extend([uuid; 16]);
    payload.extend([0xff; 4]);
    payload.extend([0; 20]);
    record(b"gRuA", 0x0b, id, &payload)
}

/// An audio file of 24 bits and two channels.
pub fn audio_file(name: &str, kind: &[u8; 4], frames: u32, rate: u32) -> Vec<u8> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let mut payload = vec![0; 8];
    payload.extend((units.len() as u16).to_le_bytes());
    payload.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    payload.extend([0; 30]);
    payload.extend(kind);
    payload.extend([0; 8]);
    payload.extend(frames.to_le_bytes());
    payload.extend([0; 4]);
    payload.extend(rate.to_le_bytes());
    payload.extend([2, 0, 24, 0]);
    record(b"lFuA", 0x0b, 0, &payload)
}

fn audio_event((track, tick, region): &(u8, u32, u16)) -> Vec<u8> {
    // As with flex time: further lines. And a fraction of a tick.
    let mut event = event(0x24, 34_560 + tick, &[0x89, 0xbc, 0x8a, 0x89, 0xaa, 0x88]);
    (event[3], event[0x14]) = (0xcc, *track);
    event[0x2c..0x30].copy_from_slice(&u32::from(*region).to_le_bytes());
    event
}

/// Audio regions on tracks (track, tick, id of the region), after a region of notes on track 1 at bar 1.
pub fn placements(all: &[(u8, u32, u16)]) -> Vec<u8> {
    placements_in(4, all)
}

/// The same in a list with this id: 4 is the arrangement, others are folders.
pub fn placements_in(id: u16, all: &[(u8, u32, u16)]) -> Vec<u8> {
    let mut notes = event(0x20, 34_560, &[0x89, 0x88, 0x8a, 0x88]);
    notes[0x14] = 1;
    let mut events = vec![event(0x14, 34_560, &[0x8a]), notes];
    events.extend(all.iter().map(audio_event));
    list(0x17, id, &events)
}

/// A channel with plug-ins.
pub fn channel(names: &[&str]) -> Vec<u8> {
    let mut payload = vec![1; 9];
    for name in names {
        let mut field = name.as_bytes().to_vec();
        field.resize(12, 0);
        payload.extend(field);
        payload.extend(b"GAME\0\0\0\0\x0f\0\0\0GAMETSPP");
    }
    payload.extend(b"\0\0XfHUumuaaViD\0\0lppaxfua1234");
    record(b"UCuA", 0, 0, &payload)
}
