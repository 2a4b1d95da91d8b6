//! The text in a piece of RTF, as macOS writes it.

/// Longest text that is read, in units of UTF-16.
const MAX_UNITS: usize = 1024;
/// Deepest group that is read.
const MAX_DEPTH: usize = 32;
/// Windows-1252 from 0x80 to 0x9f; `\u{fffd}` where it has none.
const HIGH: [char; 32] = [
    '€', '\u{fffd}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{fffd}', 'Ž', '\u{fffd}', '\u{fffd}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{fffd}', 'ž', 'Ÿ',
];

/// The text of `rtf`, without what stands in tables of fonts and colours.
pub(super) fn plain_text(rtf: &[u8]) -> String {
    let mut units: Vec<u16> = Vec::new();
    // For each open group, whether its text counts.
    let mut groups: Vec<bool> = vec![true];
    let mut at = 0;
    // Characters to pass over after `\u`, for readers that do not know it.
    let (mut fallback, mut skip) = (1_usize, 0_usize);
    let put = |units: &mut Vec<u16>, char: char| units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
    while let Some(&byte) = rtf.get(at).filter(|_| units.len() < MAX_UNITS) {
        at += 1;
        let counts = groups.last().copied().unwrap_or(false);
        match byte {
            b'{' if groups.len() > MAX_DEPTH => break,
            b'{' => groups.push(counts),
            b'}' => {
                groups.pop();
                if groups.len() <= 1 {
                    break;
                }
            }
            b'\\' => {
                let Some(&next) = rtf.get(at) else { break };
                if !next.is_ascii_alphabetic() {
                    at += 1;
                    match next {
                        b'\'' => {
                            let hex = rtf.get(at..at + 2).and_then(|hex| std::str::from_utf8(hex).ok());
                            at += 2;
                            let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                            if skip > 0 {
                                skip -= 1;
                            } else if let Some(code) = code.filter(|_| counts) {
                                let char = match code {
                                    0x80..=0x9f => HIGH[usize::from(code - 0x80)],
                                    _ => char::from(code),
                                };
                                put(&mut units, char);
                            }
                        }
                        b'*' => *groups.last_mut().unwrap_or(&mut false) = false,
                        b'\n' | b'\r' | b'~' if counts => put(&mut units, ' '),
                        b'\\' | b'{' | b'}' if counts => put(&mut units, char::from(next)),
                        _ => {}
                    }
                    continue;
                }
                let len = rtf[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                let word = &rtf[at..at + len];
                at += len;
                let digits = rtf[at..]
                    .iter()
                    .enumerate()
                    .take_while(|(index, byte)| byte.is_ascii_digit() || (*index == 0 && **byte == b'-'));
                let len = digits.count().min(11);
                let number = std::str::from_utf8(&rtf[at..at + len])
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok());
                at += len;
                if rtf.get(at) == Some(&b' ') {
                    at += 1;
                }
                match word {
                    b"fonttbl" | b"colortbl" | b"stylesheet" | b"info" | b"pict" => {
                        *groups.last_mut().unwrap_or(&mut false) = false;
                    }
                    b"par" | b"line" | b"tab" if counts => put(&mut units, ' '),
                    b"uc" => fallback = number.and_then(|n| usize::try_from(n).ok()).unwrap_or(1).min(8),
                    b"u" => {
                        if let Some(number) = number.filter(|_| counts) {
                            units.push((number & 0xffff) as u16);
                        }
                        skip = fallback;
                    }
                    _ => {}
                }
            }
            b'\n' | b'\r' => {}
            _ if skip > 0 => skip -= 1,
            // Other bytes than ASCII are not RTF.
            _ if counts && byte.is_ascii() => put(&mut units, char::from(byte)),
            _ => {}
        }
    }
    String::from_utf16_lossy(&units)
}
