//! Finds the end of a head incrementally, with the same result for every segmentation.
//!
//! Two things are checked before the head is complete: a line feed without its carriage return, and the limits.
//! Everything else is checked once, with the complete head.

use super::{Limits, Violation, swar};

/// The result so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scan {
    /// The head is not complete.
    Partial,
    /// The head ends before this offset (its final empty line included).
    Complete(usize),
}

/// Stores how far a growing buffer has been scanned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    seen: usize,
    line_start: usize,
    first_line_done: bool,
}

impl Scanner {
    /// Scans the bytes appended to `bytes` since the last call; `bytes` begins with the head.
    ///
    /// # Errors
    /// [`Violation`] when the head can no longer become valid.
    pub fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Scan, Violation> {
        let seen = self.seen;
        for found in swar::each(&bytes[seen..], b'\n') {
            let end = seen + found;
            if self.first_line_exceeds(end, limits) {
                return Err(Violation::TargetTooLong);
            }
            if end >= limits.head_bytes {
                return Err(Violation::HeadTooLarge);
            }
            if end == self.line_start || bytes[end - 1] != b'\r' {
                return Err(Violation::Malformed("a line feed without carriage return"));
            }
            let empty = end == self.line_start + 1;
            self.seen = end + 1;
            self.line_start = end + 1;
            if empty {
                return Ok(Scan::Complete(end + 1));
            }
            self.first_line_done = true;
        }
        self.seen = bytes.len();
        if self.first_line_exceeds(bytes.len(), limits) {
            return Err(Violation::TargetTooLong);
        }
        if bytes.len() >= limits.head_bytes {
            return Err(Violation::HeadTooLarge);
        }
        Ok(Scan::Partial)
    }

    /// The longest first line: the target's limit and room for any method and the version.
    fn first_line_exceeds(&self, end: usize, limits: &Limits) -> bool {
        !self.first_line_done && end > limits.target_bytes + MAX_LINE_EXTRA
    }
}

/// Bytes of a request line that are not its target: method (RFC 9110 knows none over 32), spaces,
/// version, CR.
const MAX_LINE_EXTRA: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8], cut: usize) -> Result<Scan, Violation> {
        let mut scanner = Scanner::default();
        match scanner.advance(&bytes[..cut], &Limits::default())? {
            Scan::Partial => scanner.advance(bytes, &Limits::default()),
            done @ Scan::Complete(_) => Ok(done),
        }
    }

    #[test]
    fn the_end_is_found_at_every_cut() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET";
        for cut in 0..=head.len() {
            assert_eq!(scan(head, cut), Ok(Scan::Complete(head.len() - 3)), "cut at {cut}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused_at_every_cut() {
        for bad in [&b"GET / HTTP/1.1\nhost: a\n\n"[..], b"\nGET", b"GET / HTTP/1.1\r\na: b\n\r\n"]
        {
            for cut in 0..=bad.len() {
                assert!(matches!(scan(bad, cut), Err(Violation::Malformed(_))), "cut at {cut}");
            }
        }
    }

    #[test]
    fn limits_hold_at_every_cut() {
        let long_target = [b"GET /", vec![b'a'; 9_000].as_slice(), b" HTTP/1.1\r\n\r\n"].concat();
        let long_head =
            [b"GET / HTTP/1.1\r\na: ", vec![b'a'; 17_000].as_slice(), b"\r\n\r\n"].concat();
        for cut in (0..long_target.len()).step_by(97) {
            assert_eq!(scan(&long_target, cut), Err(Violation::TargetTooLong));
        }
        for cut in (0..long_head.len()).step_by(97) {
            assert_eq!(scan(&long_head, cut), Err(Violation::HeadTooLarge));
        }
    }
}
