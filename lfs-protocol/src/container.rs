//! Where the sound lies in an audio file: a look at the head of WAV, RF64, BW64, AIFF, AIFC and CAF.
//!
//! Only what decides about cuts and about encoding is read; whatever does not fit makes the file one without
//! a layout, which costs a little space and nothing else.

/// Where the samples of a file lie, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLayout {
    /// Where they begin, in bytes from the beginning of the file.
    pub data_offset: u64,
    /// Their length in bytes; never beyond the end of the file.
    pub data_bytes: u64,
    /// What they are; `None` if they are compressed or of a kind that is not known.
    pub format: Option<PcmFormat>,
}

/// Samples as they lie in a file, channels interleaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcmFormat {
    /// Bytes of one sample: 1 to 4.
    pub sample_bytes: u8,
    /// IEEE floating point; else whole numbers.
    pub is_float: bool,
    /// The most significant byte comes first.
    pub is_big_endian: bool,
    /// 1 and more.
    pub channels: u16,
}

impl PcmFormat {
    fn new(bits: u32, is_float: bool, is_big_endian: bool, channels: u32) -> Option<Self> {
        let sample_bytes = u8::try_from(bits.div_ceil(8)).ok()?;
        let channels = u16::try_from(channels).ok().filter(|&channels| channels > 0)?;
        let is_known = match is_float {
            true => sample_bytes == 4,
            false => (1..=4).contains(&sample_bytes),
        };
        is_known.then_some(Self {
            sample_bytes,
            is_float,
            is_big_endian,
            channels,
        })
    }
}

/// Most chunks of a container that are looked at.
const MAX_PARTS: usize = 256;

/// Finds the samples of a file of `size_bytes` that begins with `head`; `None` if they cannot be found in it.
pub fn audio_layout(size_bytes: u64, head: &[u8]) -> Option<AudioLayout> {
    let found = match (head.get(..4)?, head.get(8..12)?) {
        (b"RIFF" | b"RF64" | b"BW64", b"WAVE") => riff(head),
        (b"FORM", b"AIFF") => aiff(head, false),
        (b"FORM", b"AIFC") => aiff(head, true),
        (b"caff", _) => caf(head),
        _ => None,
    }?;
    let left = size_bytes.checked_sub(found.data_offset)?;
    let data_bytes = found.data_bytes.min(left);
    (data_bytes > 0).then_some(AudioLayout { data_bytes, ..found })
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_le(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u16_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_be(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// `RIFF`: little-endian parts, each padded to an even length; RF64 and BW64 tell long ones in `ds64`.
fn riff(head: &[u8]) -> Option<AudioLayout> {
    let mut at = 12_usize;
    let mut format = None;
    let mut long_data_bytes = None;
    for _ in 0..MAX_PARTS {
        let name = head.get(at..at + 4)?;
        let len = u32_le(head, at + 4)?;
        let body = at + 8;
        match name {
            b"ds64" => long_data_bytes = u64_le(head, body + 8),
            b"fmt " => {
                let mut tag = u16_le(head, body)?;
                if tag == 0xfffe {
                    // WAVE_FORMAT_EXTENSIBLE: the tag is the beginning of the sub-format.
                    tag = u16_le(head, body + 24)?;
                }
                let (channels, frame_bytes) = (u16_le(head, body + 2)?, u16_le(head, body + 12)?);
                let bits = frame_bytes.checked_div(channels).unwrap_or(0) * 8;
                format = match tag {
                    1 => PcmFormat::new(bits, false, false, channels),
                    3 => PcmFormat::new(bits, true, false, channels),
                    _ => None,
                };
            }
            b"data" => {
                let data_bytes = match (len, long_data_bytes) {
                    (u32::MAX, Some(long)) => long,
                    _ => u64::from(len),
                };
                return Some(AudioLayout {
                    data_offset: body as u64,
                    data_bytes,
                    format,
                });
            }
            _ => {}
        }
        at = body
            .checked_add(usize::try_from(len).ok()?)?
            .checked_add((len & 1) as usize)?;
    }
    None
}

/// `FORM`: big-endian parts. Logic leaves out the pad byte now and then: where a part should begin and
/// something else stands, the byte before is tried.
fn aiff(head: &[u8], is_aifc: bool) -> Option<AudioLayout> {
    let mut at = 12_usize;
    let mut format = None;
    for _ in 0..MAX_PARTS {
        let name = head.get(at..at + 4)?;
        let len = u32_be(head, at + 4)?;
        let body = at + 8;
        match name {
            b"COMM" => {
                let (channels, bits) = (u16_be(head, body)?, u16_be(head, body + 6)?);
                format = match is_aifc.then(|| head.get(body + 18..body + 22)).flatten() {
                    None | Some(b"NONE" | b"twos" | b"in24" | b"in32") => PcmFormat::new(bits, false, true, channels),
                    Some(b"sowt") => PcmFormat::new(bits, false, false, channels),
                    Some(b"fl32" | b"FL32") => PcmFormat::new(32, true, true, channels),
                    Some(_) => None,
                };
            }
            b"SSND" => {
                let offset = u32_be(head, body)?;
                let data_offset = (body as u64).checked_add(8)?.checked_add(u64::from(offset))?;
                return Some(AudioLayout {
                    data_offset,
                    data_bytes: u64::from(len).saturating_sub(8).saturating_sub(u64::from(offset)),
                    format,
                });
            }
            _ => {}
        }
        let end = body.checked_add(usize::try_from(len).ok()?)?;
        let is_name = |at: usize| {
            let name = head.get(at..at + 4);
            name.is_some_and(|name| name.iter().all(|byte| (b' '..=b'~').contains(byte)))
        };
        at = match len & 1 {
            1 if is_name(end + 1) || !is_name(end) => end + 1,
            _ => end,
        };
    }
    None
}

/// Core Audio Format: big-endian parts without padding; a length of -1 goes to the end of the file.
fn caf(head: &[u8]) -> Option<AudioLayout> {
    let mut at = 8_usize;
    let mut format = None;
    for _ in 0..MAX_PARTS {
        let name = head.get(at..at + 4)?;
        let len = u64_be(head, at + 4)?;
        let body = at + 12;
        match name {
            b"desc" => {
                let (kind, flags) = (head.get(body + 8..body + 12)?, u32_be(head, body + 12)?);
                let (channels, bits) = (u32_be(head, body + 24)?, u32_be(head, body + 28)?);
                format = (kind == b"lpcm")
                    .then(|| PcmFormat::new(bits, flags & 1 != 0, flags & 2 == 0, channels))
                    .flatten();
            }
            b"data" => {
                return Some(AudioLayout {
                    // Four bytes count the edits.
                    data_offset: body as u64 + 4,
                    data_bytes: if len == u64::MAX { u64::MAX } else { len.checked_sub(4)? },
                    format,
                });
            }
            _ => {}
        }
        at = body.checked_add(usize::try_from(len).ok()?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wav(before_data: &[u8], data: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\x65\x04\0\x06\0\x18\0".to_vec();
        file.extend(before_data);
        file.extend(b"data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }

    const STEREO_24: PcmFormat = PcmFormat {
        sample_bytes: 3,
        is_float: false,
        is_big_endian: false,
        channels: 2,
    };

    #[test]
    fn the_samples_of_a_wave_file_are_found_behind_other_parts() {
        let file = wav(b"bext\x03\0\0\0abc\0LGWV\x02\0\0\0xy", &[7; 60]);
        let layout = audio_layout(file.len() as u64, &file).expect("a layout");
        assert_eq!(layout.data_offset, file.len() as u64 - 60);
        assert_eq!((layout.data_bytes, layout.format), (60, Some(STEREO_24)));
        // A length beyond the end of the file counts up to there.
        let mut lying = file.clone();
        let at = layout.data_offset as usize - 4;
        lying[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            audio_layout(lying.len() as u64, &lying).expect("a layout").data_bytes,
            60
        );
    }

    #[test]
    fn long_files_tell_their_length_in_ds64() {
        let mut file = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
        file.extend([0; 8]);
        file.extend((5_u64 << 32).to_le_bytes());
        file.extend([0; 12]);
        file.extend(&wav(b"", b"")[12..36]);
        file.extend(b"data\xff\xff\xff\xff");
        let layout = audio_layout(6 << 32, &file).expect("a layout");
        assert_eq!((layout.data_offset, layout.data_bytes), (file.len() as u64, 5 << 32));
    }

    #[test]
    fn aiff_is_read_with_and_without_the_pad_byte_that_logic_leaves_out() {
        for pad in [&b"\0"[..], b""] {
            let mut file = b"FORM\0\0\0\0AIFCCOMM\0\0\0\x17\0\x01\0\0\0\0\0\x10".to_vec();
            file.extend([0; 10]);
            file.extend(b"sowt\0");
            file.extend(pad);
            file.extend(b"SSND\0\0\0\x0c\0\0\0\0\0\0\0\0abcd");
            let layout = audio_layout(file.len() as u64, &file).expect("a layout");
            assert_eq!(layout.data_offset, file.len() as u64 - 4);
            let format = layout.format.expect("a format");
            assert_eq!(
                (layout.data_bytes, format.sample_bytes, format.is_big_endian),
                (4, 2, false)
            );
        }
    }

    #[test]
    fn caf_without_a_length_goes_to_the_end() {
        let mut file = b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20".to_vec();
        file.extend([0; 8]);
        file.extend(b"lpcm\0\0\0\x03");
        file.extend([0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 32]);
        file.extend(b"data\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0");
        let layout = audio_layout(file.len() as u64 + 80, &file).expect("a layout");
        assert_eq!(layout.data_bytes, 80);
        let format = layout.format.expect("a format");
        assert!(format.is_float && !format.is_big_endian && format.channels == 2);
    }

    proptest! {
        #[test]
        fn any_head_is_read_or_not_and_stays_in_the_file(
            mark in prop::sample::select(vec![&b"RIFF\0\0\0\0WAVE"[..], b"FORM\0\0\0\0AIFF", b"FORM\0\0\0\0AIFC", b"caff\0\x01\0\0data"]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            size in any::<u32>(),
        ) {
            let head = [mark, &rest].concat();
            if let Some(layout) = audio_layout(u64::from(size), &head) {
                prop_assert!(layout.data_bytes > 0);
                prop_assert!(layout.data_offset + layout.data_bytes <= u64::from(size));
            }
        }
    }
}
