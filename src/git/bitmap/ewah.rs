//! EWAH: runs of equal words counted, other words as they are.
//!
//! Git's "bitmap-format", appendix A: number of bits, number of compressed words, those words, place
//! of the last marker; numbers most significant byte first. A *marker* tells a run (bit 0: of which
//! bit; bits 1 to 32: how many words) and how many *literal* words follow it (bits 33 to 63).
//!
//! Decoding writes into plain words and makes nothing in between; what does not fit the number of
//! objects is an error, as are set bits behind the last object.

/// Bytes of an encoded bitmap beside its words: number of bits, of words, place of the last marker.
pub(in crate::git) const FRAME_BYTES: u64 = 12;

/// Why an encoded bitmap cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EwahError {
    /// It ends within itself.
    #[error("a bitmap is cut off")]
    CutOff,
    /// It is longer than the number of objects allows.
    #[error("a bitmap is longer than there are objects")]
    TooLong,
    /// It has an object behind the last one.
    #[error("a bitmap has objects that do not exist")]
    Beyond,
}

/// Words that `bits` take.
pub fn words_for(bits: u32) -> usize {
    (bits as usize).div_ceil(64)
}

/// Most compressed words that a bitmap of `bits` bits can have: one marker per literal, and the
/// empty marker that each starts with. A few more are let pass.
pub(in crate::git) fn most_words(bits: u32) -> u64 {
    2 * words_for(bits) as u64 + 8
}

/// The bits of the last word that stand for objects.
fn tail_mask(bits: u32) -> u64 {
    match bits % 64 {
        0 => u64::MAX,
        used => (1 << used) - 1,
    }
}

/// Puts every object of an encoded bitmap into `out`.
///
/// `compressed` are the compressed words as they lie in the file. After an error `out` may hold a
/// part of them.
///
/// # Errors
/// [`EwahError`]
///
/// # Panics
/// If `out` is shorter than `bits` take.
pub fn or_into(compressed: &[u8], out: &mut [u64], bits: u32) -> Result<(), EwahError> {
    decode(compressed, out, bits, |word, more| *word |= more)
}

/// Flips every object of an encoded bitmap in `out`; otherwise as [`or_into`].
///
/// # Errors
/// [`EwahError`]
///
/// # Panics
/// If `out` is shorter than `bits` take.
pub fn xor_into(compressed: &[u8], out: &mut [u64], bits: u32) -> Result<(), EwahError> {
    decode(compressed, out, bits, |word, more| *word ^= more)
}

fn decode(compressed: &[u8], out: &mut [u64], bits: u32, put: impl Fn(&mut u64, u64)) -> Result<(), EwahError> {
    let out = &mut out[..words_for(bits)];
    let (words, rest) = compressed.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(EwahError::CutOff);
    }
    let tail = tail_mask(bits);
    let (mut left, mut next) = (words, 0);
    while let Some((marker, after)) = left.split_first() {
        let marker = u64::from_be_bytes(*marker);
        let run = (marker >> 1) as u32 as usize;
        let literals = (marker >> 33) as usize;
        if run > out.len() - next || literals > out.len() - next - run {
            return Err(EwahError::TooLong);
        }
        if marker & 1 == 1 && run > 0 {
            if next + run == out.len() && tail != u64::MAX {
                return Err(EwahError::Beyond);
            }
            out[next..next + run].iter_mut().for_each(|word| put(word, u64::MAX));
        }
        next += run;
        let Some((now, later)) = after.split_at_checked(literals) else {
            return Err(EwahError::CutOff);
        };
        if next + literals == out.len()
            && let Some(last) = now.last()
            && u64::from_be_bytes(*last) & !tail != 0
        {
            return Err(EwahError::Beyond);
        }
        for (word, more) in out[next..].iter_mut().zip(now) {
            put(word, u64::from_be_bytes(*more));
        }
        next += literals;
        left = later;
    }
    Ok(())
}

/// Room to encode one bitmap in, used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    words: Vec<u64>,
    marker: usize,
    bits: u32,
}

impl Encoder {
    /// Encodes `words`; `false` if that takes more than `most_words` compressed words, and then
    /// nothing useful is held.
    pub fn encode(&mut self, words: impl IntoIterator<Item = u64>, most_words: usize) -> bool {
        self.words.clear();
        self.words.push(0);
        self.marker = 0;
        let (mut run, mut of_ones, mut literals) = (0_u64, false, 0_u64);
        let mut marker_before = 0;
        let mut count = 0_usize;
        for word in words {
            count += 1;
            if word != 0 && word != u64::MAX {
                self.words.push(word);
                literals += 1;
            } else {
                // A marker has one run, and it stands before the literals.
                if literals > 0 || (run > 0 && of_ones != (word != 0)) {
                    self.words[self.marker] = marker(run, of_ones, literals);
                    marker_before = self.marker;
                    self.marker = self.words.len();
                    self.words.push(0);
                    (run, literals) = (0, 0);
                }
                of_ones = word != 0;
                run += 1;
            }
            // The last marker may still be dropped.
            if self.words.len() > most_words.saturating_add(1) {
                return false;
            }
        }
        // Zeroes at the end go without saying.
        if literals == 0 && !of_ones {
            count -= run as usize;
            run = 0;
        }
        if run == 0 && literals == 0 && self.marker > 0 {
            self.words.pop();
            self.marker = marker_before;
        } else {
            self.words[self.marker] = marker(run, of_ones, literals);
        }
        self.bits = (count * 64) as u32;
        self.words.len() <= most_words
    }

    /// Compressed words it holds.
    pub fn word_count(&self) -> usize {
        self.words.len()
    }

    /// Appends the encoded bitmap as it lies in a file.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bits.to_be_bytes());
        out.extend_from_slice(&(self.words.len() as u32).to_be_bytes());
        for word in &self.words {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&(self.marker as u32).to_be_bytes());
    }
}

fn marker(run: u64, of_ones: bool, literals: u64) -> u64 {
    u64::from(of_ones) | run << 1 | literals << 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(words: &[u64]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        assert!(encoder.encode(words.iter().copied(), usize::MAX));
        let mut bytes = Vec::new();
        encoder.append_to(&mut bytes);
        bytes
    }

    fn compressed(bytes: &[u8]) -> &[u8] {
        &bytes[8..bytes.len() - 4]
    }

    fn words() -> impl Strategy<Value = Vec<u64>> {
        let word = prop_oneof![4 => Just(0), 3 => Just(u64::MAX), 3 => any::<u64>()];
        let run = (word, 1_usize..6).prop_map(|(word, times)| vec![word; times]);
        proptest::collection::vec(run, 1..40).prop_map(|runs| runs.concat())
    }

    #[test]
    fn the_encoding_is_that_of_the_format() {
        let bytes = encoded(&[0, 0, u64::MAX, 5, 6, 0]);
        let expected = [
            (5 * 64_u32).to_be_bytes().to_vec(),
            4_u32.to_be_bytes().to_vec(),
            (2_u64 << 1).to_be_bytes().to_vec(),
            (1_u64 | 1 << 1 | 2 << 33).to_be_bytes().to_vec(),
            5_u64.to_be_bytes().to_vec(),
            6_u64.to_be_bytes().to_vec(),
            1_u32.to_be_bytes().to_vec(),
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn an_empty_set_is_one_empty_marker() {
        for words in [&[][..], &[0], &[0, 0, 0]] {
            assert_eq!(encoded(words), [&[0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 12]].concat());
        }
    }

    #[test]
    fn objects_behind_the_last_one_are_an_error() {
        let mut out = [0; 2];
        for words in [[0, 1 << 37], [0, u64::MAX], [3, 1 << 63]] {
            let bytes = encoded(&words);
            assert_eq!(or_into(compressed(&bytes), &mut out, 101), Err(EwahError::Beyond));
        }
        let bytes = encoded(&[0, 1 << 36]);
        assert_eq!(or_into(compressed(&bytes), &mut out, 101), Ok(()));
    }

    #[test]
    fn more_words_than_there_are_objects_are_an_error_before_they_are_counted() {
        let mut out = [0; 2];
        let long_run = (u64::from(u32::MAX) << 1).to_be_bytes();
        assert_eq!(or_into(&long_run, &mut out, 128), Err(EwahError::TooLong));
        let long_literals = u64::MAX << 33;
        assert_eq!(
            or_into(&long_literals.to_be_bytes(), &mut out, 128),
            Err(EwahError::TooLong)
        );
        assert_eq!(
            or_into(&(1_u64 << 33).to_be_bytes(), &mut out, 128),
            Err(EwahError::CutOff)
        );
        assert_eq!(or_into(&[0; 7], &mut out, 128), Err(EwahError::CutOff));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(words in words(), before in any::<u64>()) {
            let bytes = encoded(&words);
            let bits = words.len() as u32 * 64;
            prop_assert!((compressed(&bytes).len() / 8) as u64 <= most_words(bits));
            let mut out = vec![before; words.len()];
            or_into(compressed(&bytes), &mut out, bits).expect("decodes");
            prop_assert!(out.iter().zip(&words).all(|(out, word)| *out == before | word));
            let mut out = vec![before; words.len()];
            xor_into(compressed(&bytes), &mut out, bits).expect("decodes");
            prop_assert!(out.iter().zip(&words).all(|(out, word)| *out == before ^ word));
        }

        #[test]
        fn the_limit_is_the_length_that_it_takes(words in words(), most in 0_usize..200) {
            let mut encoder = Encoder::default();
            encoder.encode(words.iter().copied(), usize::MAX);
            let takes = encoder.word_count();
            prop_assert_eq!(encoder.encode(words.iter().copied(), most), takes <= most);
        }

        #[test]
        fn any_words_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), bits in 0_u32..2000) {
            let mut out = vec![0; words_for(bits)];
            let _ = or_into(&bytes, &mut out, bits);
            let _ = xor_into(&bytes, &mut out, bits);
        }
    }
}
