//! Bits, the most significant first.

/// Writes bits.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// The last `count` bits that are not in `bytes` yet.
    waiting: u64,
    count: u32,
}

impl BitWriter {
    /// Begins anew behind `bytes`.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            waiting: 0,
            count: 0,
        }
    }

    /// Number of whole bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the lowest `count` bits of `value`; at most 32.
    #[inline]
    pub fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 32);
        self.waiting = (self.waiting << count) | (value & ((1 << count) - 1));
        self.count += count;
        if self.count >= 32 {
            self.count -= 32;
            let four = (self.waiting >> self.count) as u32;
            self.bytes.extend_from_slice(&four.to_be_bytes());
        }
    }

    /// Writes the lowest `count` bits of `value`; at most 64.
    pub fn put_long(&mut self, value: u64, count: u32) {
        if count > 32 {
            self.put(value >> 32, count - 32);
        }
        self.put(value & u64::from(u32::MAX), count.min(32));
    }

    /// Writes `zeros` zeros and a one.
    #[inline]
    pub fn put_unary(&mut self, mut zeros: u64) {
        while zeros >= 32 {
            self.put(0, 32);
            zeros -= 32;
        }
        self.put(1, zeros as u32 + 1);
    }

    /// Fills the last byte with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        while self.count > 0 {
            let left = self.count.min(8);
            self.count -= left;
            let byte = (self.waiting >> self.count) & ((1 << left) - 1);
            self.bytes.push((byte << (8 - left)) as u8);
        }
        self.bytes
    }
}

/// Reads bits; `None` beyond the end.
pub(super) struct BitReader<'b> {
    bytes: &'b [u8],
    /// The next byte to be taken.
    at: usize,
    /// Bits that wait, the next one highest; what lies below the last one is not to be looked at.
    waiting: u64,
    count: u32,
}

impl<'b> BitReader<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            waiting: 0,
            count: 0,
        }
    }

    /// Has at least 56 bits waiting, or all that are left.
    #[inline]
    fn fill(&mut self) {
        if let Some(eight) = self
            .bytes
            .get(self.at..self.at + 8)
            .and_then(|eight| eight.first_chunk::<8>())
        {
            let more = (63 - self.count.min(63)) / 8;
            self.waiting |= u64::from_be_bytes(*eight) >> self.count.min(63);
            self.at += more as usize;
            self.count += more * 8;
            return;
        }
        while self.count <= 56
            && let Some(byte) = self.bytes.get(self.at)
        {
            // Whole words leave bits below the last one.
            self.waiting &= !(u64::MAX >> self.count);
            self.waiting |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            self.at += 1;
        }
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.waiting <<= count;
        self.count -= count;
    }

    /// The next `count` bits, at most 32.
    #[inline]
    pub fn take(&mut self, count: u32) -> Option<u64> {
        if self.count < count {
            self.fill();
            if self.count < count {
                return None;
            }
        }
        let value = (self.waiting >> 1) >> (63 - count);
        self.skip(count);
        Some(value)
    }

    /// The next `count` bits, at most 64.
    pub fn take_long(&mut self, count: u32) -> Option<u64> {
        let high = if count > 32 { self.take(count - 32)? } else { 0 };
        Some((high << 32) | self.take(count.min(32))?)
    }

    /// The zeros before the next one.
    pub fn take_unary(&mut self) -> Option<u64> {
        let mut zeros = 0;
        loop {
            self.fill();
            if self.count == 0 {
                return None;
            }
            let leading = self.waiting.leading_zeros().min(self.count);
            if leading < self.count {
                self.skip(leading);
                self.skip(1);
                return Some(zeros + u64::from(leading));
            }
            zeros += u64::from(leading);
            (self.waiting, self.count) = (0, 0);
        }
    }

    /// A number in Rice's code with this parameter, at most 30.
    #[inline]
    pub fn take_rice(&mut self, k: u32) -> Option<u64> {
        if self.count < 32 {
            self.fill();
        }
        let leading = self.waiting.leading_zeros();
        let used = leading + 1 + k;
        if used <= self.count {
            let rest = ((self.waiting << leading << 1) >> 1) >> (63 - k);
            self.skip(leading);
            self.skip(1 + k);
            return Some((u64::from(leading) << k) | rest);
        }
        let quotient = self.take_unary()?;
        Some((quotient << k) | self.take(k)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(values in prop::collection::vec((any::<u64>(), 0_u32..=64, 0_u64..200), 0..100)) {
            let mut writer = BitWriter::default();
            for (value, count, zeros) in &values {
                writer.put_long(*value, *count);
                writer.put_unary(*zeros);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for (value, count, zeros) in &values {
                let mask = if *count == 64 { u64::MAX } else { (1 << count) - 1 };
                prop_assert_eq!(reader.take_long(*count), Some(value & mask));
                prop_assert_eq!(reader.take_unary(), Some(*zeros));
            }
            let mut writer = BitWriter::default();
            for (value, count, zeros) in &values {
                let k = count % 31;
                writer.put_unary(*zeros);
                writer.put(*value, k);
            }
            let rice = writer.finish();
            let mut rice = BitReader::new(&rice);
            for (value, count, zeros) in &values {
                let k = count % 31;
                prop_assert_eq!(rice.take_rice(k), Some((zeros << k) | (value & ((1 << k) - 1))));
            }
            prop_assert_eq!(reader.take(8), None);
        }
    }
}
