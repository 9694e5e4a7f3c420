//! The `traceparent` field: the trace of a request, and the span that sent the request (W3C Trace Context §3.2).

use super::field::Role;
use super::request::RequestHead;

/// Bytes of a `traceparent` of version 00.
pub const LENGTH: usize = 55;

/// A trace, the span of the sender, and whether the sender records the trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    /// The trace; not 0.
    pub trace: u128,
    /// The span of the sender; not 0.
    pub span: u64,
    /// Whether the sender records the trace.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses a field value. A later version may have more parts; the first four have the same meaning (§4.3).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let [version, trace, span, flags] = [(0, 2), (3, 35), (36, 52), (53, 55)]
            .map(|(start, end)| known.get(start..end).unwrap_or_default());
        let is_separated = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let is_whole = match version {
            b"00" => rest.is_empty(),
            b"ff" => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !is_separated || !is_whole || number(version).is_none() {
            return None;
        }
        let (trace, span) = (number(trace)?, u64::try_from(number(span)?).ok()?);
        let sampled = number(flags)? & 1 == 1;
        (trace != 0 && span != 0).then_some(TraceParent { trace, span, sampled })
    }

    /// The field value, of version 00.
    #[must_use]
    pub fn write(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (trace, span) = (self.trace.to_be_bytes(), self.span.to_be_bytes());
        hex(&mut text[3..35], &trace);
        hex(&mut text[36..52], &span);
        text[54] = if self.sampled { b'1' } else { b'0' };
        text
    }
}

/// The `traceparent` of a request, if it is well formed and its sender is trusted. Without one, a new trace begins,
/// and the request's `tracestate` belongs to no trace (§3.3).
#[must_use]
pub fn believed(head: &RequestHead, trusted: bool) -> Option<(&[u8], TraceParent)> {
    let value = head.value(Role::TraceParent).filter(|_| trusted)?;
    TraceParent::parse(value).map(|parent| (value, parent))
}

/// The number in lower-case hexadecimal digits, at most 32.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Both digits of each byte: several numbers per request justify a table.
static HEX: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Writes bytes as hexadecimal digits; `digits` has twice as many places.
pub fn hex(digits: &mut [u8], bytes: &[u8]) {
    let (pairs, _) = digits.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = HEX[usize::from(*byte)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_parsed_and_written() {
        let parent = TraceParent::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span, parent.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(parent.write(), GIVEN.as_bytes());
        let unsampled = TraceParent { sampled: false, ..parent };
        assert_eq!(TraceParent::parse(&unsampled.write()), Some(unsampled));
    }

    #[test]
    fn later_versions_may_be_longer_and_invalid_values_are_ignored() {
        let with = |from: &str, to: &str| GIVEN.replacen(from, to, 1);
        for valid in [
            with("00-", "01-"),
            with("00-", "cc-") + "-more",
            with("331-01", "331-03"),
            with("331-01", "331-ff"),
        ] {
            let parent = TraceParent::parse(valid.as_bytes());
            assert!(parent.is_some_and(|parent| parent.sampled), "{valid}");
        }
        for invalid in [
            String::new(),
            "00-1-2-01".to_owned(),
            with("00-", "ff-"),
            with("00-", "0x-"),
            with("00-", "01-") + "x",
            GIVEN.to_owned() + "-more",
            with("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            with("b7ad6b7169203331", &"0".repeat(16)),
            with("0af", "0AF"),
            with("-b7", "_b7"),
            with("331-01", "331-0g"),
            with("b7", "\u{e9}"),
        ] {
            assert_eq!(TraceParent::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }
}
