//! Makes small audio files of every kind.

/// A part with a big-endian length, padded.
pub fn big(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut part = [&name[..], &(body.len() as u32).to_be_bytes(), body].concat();
    part.resize(part.len().next_multiple_of(2), 0);
    part
}

/// A part with a little-endian length, padded.
pub fn little(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut part = [&name[..], &(body.len() as u32).to_le_bytes(), body].concat();
    part.resize(part.len().next_multiple_of(2), 0);
    part
}

/// A part of CAF.
pub fn long(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&name[..], &(body.len() as u64).to_be_bytes(), body].concat()
}

/// Samples of 24 bits, little-endian.
pub fn samples(count: u32) -> Vec<u8> {
    let sample = |n: u32| (n.wrapping_mul(7919) % 0x00ff_ffff).to_le_bytes();
    (0..count).flat_map(|n| sample(n).into_iter().take(3)).collect()
}

/// The same, big-endian.
pub fn turned(samples: &[u8]) -> Vec<u8> {
    samples
        .chunks(3)
        .flat_map(|sample| sample.iter().rev().copied())
        .collect()
}

/// `fmt ` of 48 kHz and 24 bits.
pub fn fmt(channels: u16) -> Vec<u8> {
    let mut body = [1_u16.to_le_bytes(), channels.to_le_bytes()].concat();
    body.extend(48_000_u32.to_le_bytes());
    body.extend((48_000 * 3 * u32::from(channels)).to_le_bytes());
    body.extend((3 * channels).to_le_bytes());
    body.extend(24_u16.to_le_bytes());
    little(b"fmt ", &body)
}

/// WAV of these parts.
pub fn wav(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [b"RIFF", &(body.len() as u32 + 4).to_le_bytes()[..], b"WAVE", &body].concat()
}

/// RF64 or BW64 of these parts and sound.
pub fn long_wav(kind: &[u8; 4], parts: &[&[u8]], sound: &[u8]) -> Vec<u8> {
    let mut ds64 = [0; 28];
    ds64[8..16].copy_from_slice(&(sound.len() as u64).to_le_bytes());
    let head = [&kind[..], b"\xff\xff\xff\xffWAVE", &little(b"ds64", &ds64)].concat();
    [&head[..], &fmt(1), b"data\xff\xff\xff\xff", sound, &parts.concat()].concat()
}

/// `COMM` of 48 kHz and 24 bits; `codec` for AIFC.
pub fn comm(channels: u16, frames: u32, codec: Option<&[u8; 4]>) -> Vec<u8> {
    let mut body = channels.to_be_bytes().to_vec();
    body.extend(frames.to_be_bytes());
    body.extend(24_u16.to_be_bytes());
    body.extend([0x40, 0x0e, 0xbb, 0x80, 0, 0, 0, 0, 0, 0]);
    if let Some(codec) = codec {
        body.extend(codec);
        body.extend([0, 0]);
    }
    big(b"COMM", &body)
}

/// `SSND`, with or without the pad byte that Logic leaves out.
pub fn ssnd(sound: &[u8], is_padded: bool) -> Vec<u8> {
    let body = [&[0; 8], sound].concat();
    let part = big(b"SSND", &body);
    match is_padded {
        true => part,
        false => part[..8 + body.len()].to_vec(),
    }
}

/// AIFF or AIFC of these parts.
pub fn aiff(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [b"FORM", &(body.len() as u32 + 4).to_be_bytes()[..], kind, &body].concat()
}

/// `MARK` of Logic.
pub fn marks(marks: &[(u32, &str)]) -> Vec<u8> {
    let mut body = (marks.len() as u16).to_be_bytes().to_vec();
    for (number, (frame, name)) in marks.iter().enumerate() {
        body.extend((number as u16 + 1).to_be_bytes());
        body.extend(frame.to_be_bytes());
        body.push(name.len() as u8);
        body.extend(name.as_bytes());
        if name.len().is_multiple_of(2) {
            body.push(0);
        }
    }
    big(b"MARK", &body)
}

/// CAF of these parts.
pub fn caf(parts: &[&[u8]]) -> Vec<u8> {
    [b"caff\0\x01\0\0", &parts.concat()[..]].concat()
}

/// `desc` of 48 kHz.
pub fn desc(codec: &[u8; 4], flags: u32, packet: (u32, u32), channels: u32, bits: u32) -> Vec<u8> {
    let mut body = 48_000_f64.to_be_bytes().to_vec();
    body.extend(codec);
    for number in [flags, packet.0, packet.1, channels, bits] {
        body.extend(number.to_be_bytes());
    }
    long(b"desc", &body)
}

/// `data` of CAF, with its count of edits.
pub fn data(sound: &[u8]) -> Vec<u8> {
    long(b"data", &[&[0, 0, 0, 1], sound].concat())
}

/// `pakt` of CAF for this many frames.
pub fn pakt(frames: u64) -> Vec<u8> {
    let body = [
        &3_u64.to_be_bytes()[..],
        &frames.to_be_bytes(),
        &[0; 8],
        b"\x81\x02\x83",
    ]
    .concat();
    long(b"pakt", &body)
}

/// Tags of an Apple Loop in CAF.
pub fn apple_loop(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = b"\x29\x81\x92\x73\xb5\xbf\x4a\xef\xb7\x8d\x62\xd1\xef\x90\xbb\x2c".to_vec();
    body.extend((pairs.len() as u32).to_be_bytes());
    for (key, value) in pairs {
        body.extend(format!("{key}\0{value}\0").bytes());
    }
    long(b"uuid", &body)
}

/// `bext` with an original position.
pub fn bext(reference: u64) -> Vec<u8> {
    let mut body = vec![0; 602];
    body[256..265].copy_from_slice(b"Logic Pro");
    body[320..330].copy_from_slice(b"2026-11-27");
    body[330..338].copy_from_slice(b"14:05:31");
    body[338..346].copy_from_slice(&reference.to_le_bytes());
    little(b"bext", &body)
}

/// `acid` of a loop in A.
pub fn acid(flags: u32, beats: u32, tempo: f32) -> Vec<u8> {
    let mut body = flags.to_le_bytes().to_vec();
    body.extend([57, 0, 0, 0x80, 0, 0, 0, 0]);
    body.extend(beats.to_le_bytes());
    body.extend([4, 0, 3, 0]);
    body.extend(tempo.to_le_bytes());
    little(b"acid", &body)
}

/// One of each kind, with everything in it that is read.
pub fn all() -> Vec<Vec<u8>> {
    let sound = samples(401);
    let marks = marks(&[(0, "Tempo: 115.0"), (7, "Start")]);
    let (bext, acid) = (bext(99), acid(2, 8, 96.5));
    vec![
        wav(&[
            &fmt(1),
            &bext,
            &acid,
            &little(b"data", &sound),
            &little(b"LGWV", b"over"),
        ]),
        long_wav(b"RF64", &[&bext], &sound),
        aiff(b"AIFF", &[&comm(1, 401, None), &ssnd(&turned(&sound), false), &marks]),
        aiff(b"AIFC", &[&comm(1, 401, Some(b"sowt")), &marks, &ssnd(&sound, true)]),
        caf(&[
            &desc(b"lpcm", 2, (3, 1), 1, 24),
            &apple_loop(&[("beat count", "8")]),
            &data(&sound),
        ]),
        caf(&[
            &desc(b"alac", 0, (0, 4096), 2, 0),
            &long(b"kuki", b"cookie"),
            &data(b"packets"),
            &pakt(9_000),
        ]),
    ]
}
