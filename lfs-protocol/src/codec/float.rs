//! Floating-point samples (IEEE 754, 32 bits) as whole numbers, and what these lack.
//!
//! Of a block the largest exponent counts: a sample becomes its significand of 24 bits, shifted right by as much as
//! its exponent is smaller. Samples that came from a converter of 24 bits lose nothing by this; of others the bits
//! that fell off are kept beside, as they are.

use super::bits::{BitReader, BitWriter};

/// Bits of a sample as a whole number, with its sign.
pub(super) const INTEGER_BITS: u32 = 25;
/// Bits of a significand, with the first one, which is not written down.
const SIGNIFICAND_BITS: u32 = 24;
/// Bits of it that are written down.
const FRACTION_BITS: u32 = 23;
const FRACTION: u32 = (1 << FRACTION_BITS) - 1;
const SIGN: u32 = 1 << 31;
/// The exponent of what is no number.
const NO_NUMBER: u32 = 255;

/// What the whole numbers of a block lack.
#[derive(Default)]
pub(super) struct Lost {
    /// Values with their widths in bits, in the order of the samples.
    bits: Vec<(u32, u32)>,
    /// Whether any of it is not zero.
    is_needed: bool,
}

impl Lost {
    fn put(&mut self, value: u32, width: u32) {
        self.is_needed |= value != 0;
        self.bits.push((value, width));
    }

    /// Writes it: one bit that tells whether anything follows.
    pub fn write(&self, writer: &mut BitWriter) {
        writer.put(u64::from(self.is_needed), 1);
        if self.is_needed {
            for &(value, width) in &self.bits {
                writer.put(u64::from(value), width);
            }
        }
    }
}

/// Makes whole numbers of a block of samples (each as its 32 bits), and tells their exponent; `None` if one is no
/// number.
pub(super) fn to_integers(block: &mut [Vec<i32>], lost: &mut Lost) -> Option<u32> {
    lost.bits.clear();
    lost.is_needed = false;
    let exponent = |sample: i32| (sample as u32 >> FRACTION_BITS) & 0xff;
    let largest = block.iter().flatten().map(|&sample| exponent(sample)).max()?;
    if largest == NO_NUMBER {
        return None;
    }
    for sample in block.iter_mut().flatten() {
        let bits = *sample as u32;
        let below = largest - exponent(*sample);
        if exponent(*sample) == 0 || below >= SIGNIFICAND_BITS {
            *sample = 0;
            // Most zeros are just that.
            lost.put(u32::from(bits != 0), 1);
            if bits != 0 {
                lost.put(bits, 32);
            }
            continue;
        }
        let significand = (bits & FRACTION) | (1 << FRACTION_BITS);
        lost.put(significand & ((1 << below) - 1), below);
        let size = (significand >> below) as i32;
        *sample = if bits & SIGN == 0 { size } else { -size };
    }
    Some(largest)
}

/// Makes samples again; `None` if it cannot be so.
pub(super) fn from_integers(block: &mut [Vec<i32>], largest: u32, reader: &mut BitReader<'_>) -> Option<()> {
    if largest == NO_NUMBER {
        return None;
    }
    let is_needed = reader.take(1)? == 1;
    let mut lost = |width: u32| if is_needed { reader.take(width) } else { Some(0) };
    for sample in block.iter_mut().flatten() {
        let size = sample.unsigned_abs();
        if size == 0 {
            *sample = match lost(1)? {
                0 => 0,
                _ => lost(32)? as i32,
            };
            continue;
        }
        let below = size.leading_zeros().checked_sub(32 - SIGNIFICAND_BITS)?;
        let significand = (size << below) | lost(below)? as u32;
        let exponent = largest.checked_sub(below).filter(|&exponent| exponent > 0)?;
        *sample = ((*sample as u32 & SIGN) | (exponent << FRACTION_BITS) | (significand & FRACTION)) as i32;
    }
    Some(())
}
