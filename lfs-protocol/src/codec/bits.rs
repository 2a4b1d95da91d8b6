//! Bits, the most significant first.

/// Writes bits.
#[derive(Default)]
pub(super) struct BitWriter {
    /// What was written, and behind it room that is written over.
    bytes: Vec<u8>,
    /// The byte that is written next.
    at: usize,
    /// Bits that are not a whole byte yet, the first one highest.
    waiting: u64,
    count: u32,
}

impl BitWriter {
    /// Begins anew behind `bytes`.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self {
            at: bytes.len(),
            bytes,
            waiting: 0,
            count: 0,
        }
    }

    /// Number of whole bytes so far.
    pub fn len(&self) -> usize {
        self.at
    }

    /// Writes the lowest `count` bits of `value`; at most 56.
    #[inline(always)]
    pub fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 56);
        // Eight bytes each time, so that nothing depends on how many bits there are.
        self.waiting |= ((value << (63 - count)) << 1) >> self.count;
        let eight = self.waiting.to_be_bytes();
        let place = match self
            .bytes
            .get_mut(self.at..)
            .and_then(|rest| rest.first_chunk_mut::<8>())
        {
            Some(place) => place,
            None => self.grown(),
        };
        *place = eight;
        let count = self.count + count;
        self.at += count as usize / 8;
        self.waiting <<= count & !7;
        self.count = count & 7;
    }

    /// Makes room and gives the next eight bytes of it.
    #[cold]
    fn grown(&mut self) -> &mut [u8; 8] {
        self.bytes.resize(self.bytes.len() * 2 + 4096, 0);
        self.bytes[self.at..].first_chunk_mut().expect("there is room now")
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

    /// Writes numbers in Rice's code: the quotient by 2^k as zeros, a one, the lowest `k` bits; `k` at most 30.
    pub fn put_rice(&mut self, values: &[u32], k: u32) {
        let code = |value: u32| {
            (
                (1 << k) | (u64::from(value) & ((1 << k) - 1)),
                (value >> k).saturating_add(1 + k),
            )
        };
        let mut values = values;
        loop {
            let room = self.at + values.len() * 4 + 8;
            if self.bytes.len() < room {
                self.bytes.resize(room + self.bytes.len(), 0);
            }
            // Two numbers at once and nothing in memory but the bytes: what follows waits for what was before.
            let (mut at, mut waiting, mut waiting_bits) = (self.at, self.waiting, self.count);
            let (pairs, _) = values.as_chunks::<2>();
            let mut done = 0;
            for &[one, two] in pairs {
                let ((one, one_bits), (two, two_bits)) = (code(one), code(two));
                let bits = one_bits.saturating_add(two_bits);
                if one_bits > 32 || two_bits > 32 || bits > 56 {
                    break;
                }
                waiting |= ((((one << two_bits) | two) << (63 - bits)) << 1) >> waiting_bits;
                let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>()) else {
                    break;
                };
                *place = waiting.to_be_bytes();
                waiting_bits += bits;
                at += waiting_bits as usize / 8;
                waiting <<= waiting_bits & !7;
                waiting_bits &= 7;
                done += 2;
            }
            (self.at, self.waiting, self.count) = (at, waiting, waiting_bits);
            let (singles, rest) = values[done..].split_at((values.len() - done).min(2));
            for &value in singles {
                self.put_unary(u64::from(value >> k));
                self.put(u64::from(value), k);
            }
            if rest.is_empty() {
                return;
            }
            values = rest;
        }
    }

    /// Fills the last byte with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at + usize::from(self.count > 0));
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
                writer.put(value >> 32, count.saturating_sub(32));
                writer.put(value & u64::from(u32::MAX), (*count).min(32));
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
                writer.put(*value & u64::from(u32::MAX), k);
            }
            let rice = writer.finish();
            let mut rice = BitReader::new(&rice);
            for (value, count, zeros) in &values {
                let k = count % 31;
                prop_assert_eq!(rice.take_rice(k), Some((zeros << k) | (value & ((1 << k) - 1))));
            }
            let k = values.len() as u32 % 31;
            // Most with a few zeros, some with up to 511.
            let numbers: Vec<u32> = values
                .iter()
                .map(|(value, count, _)| (*value as u32) >> (32 - (k + count % 10).min(32)).min(31))
                .collect();
            let mut writer = BitWriter::default();
            writer.put(5, 3);
            writer.put_rice(&numbers, k);
            let rice = writer.finish();
            let mut rice = BitReader::new(&rice);
            prop_assert_eq!(rice.take(3), Some(5));
            for number in &numbers {
                prop_assert_eq!(rice.take_rice(k), Some(u64::from(*number)));
            }
            prop_assert_eq!(reader.take(8), None);
        }
    }
}
