//! Request bodies that come compressed.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

/// How a request body is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    #[default]
    Plain,
    /// gzip: what git sends when a fetch request is long, and JGit also when it pushes.
    Gzip,
}

/// Tells afterwards whether a body exceeded its limit.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct Exceeded(Rc<Cell<bool>>);

impl Exceeded {
    pub(in crate::service) fn is_set(&self) -> bool {
        self.0.get()
    }
}

/// `body` as its sender meant it, at most `max_bytes` of it: a few kilobytes of gzip can mean
/// gigabytes.
pub(in crate::service) fn decoded<'a>(
    body: impl Read + 'a,
    coding: Coding,
    max_bytes: u64,
    exceeded: &Exceeded,
) -> Box<dyn Read + 'a> {
    match coding {
        Coding::Plain => Box::new(Limited::new(body, max_bytes, exceeded)),
        Coding::Gzip => Box::new(Limited::new(MultiGzDecoder::new(body), max_bytes, exceeded)),
    }
}

struct Limited<R> {
    inner: R,
    left: u64,
    max_bytes: u64,
    exceeded: Exceeded,
}

impl<R> Limited<R> {
    fn new(inner: R, max_bytes: u64, exceeded: &Exceeded) -> Self {
        Self {
            inner,
            left: max_bytes,
            max_bytes,
            exceeded: exceeded.clone(),
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => {
                self.exceeded.0.set(true);
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "the request is longer than {} bytes, which is this server's limit; send it in parts",
                        self.max_bytes
                    ),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn a_compressed_body_is_read_as_it_was_meant() {
        let exceeded = Exceeded::default();
        let mut text = String::new();
        decoded(&gzip(b"0000")[..], Coding::Gzip, 4, &exceeded)
            .read_to_string(&mut text)
            .expect("it fits");
        assert_eq!(text, "0000");
        assert!(!exceeded.is_set());
    }

    #[test]
    fn a_small_body_that_means_a_huge_one_is_stopped_at_the_limit() {
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 16 << 10);
        let exceeded = Exceeded::default();
        let mut read = 0;
        let mut reader = decoded(&bomb[..], Coding::Gzip, 1 << 20, &exceeded);
        let mut buf = [0; 4096];
        let error = loop {
            match reader.read(&mut buf) {
                Ok(count) => read += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(exceeded.is_set());
        assert!(read <= 1 << 20);
    }
}
