//! The parts of gRPC that a proxy must know (the protocol's PROTOCOL-HTTP2.md): content types, timeouts, and the status
//! of a failed call.

use std::time::Duration;

/// Whether a content type is gRPC's.
#[must_use]
pub fn is_grpc(content_type: Option<&[u8]>) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.is_some_and(|kind| {
        kind.len() >= NAME.len()
            && kind[..NAME.len()].eq_ignore_ascii_case(NAME)
            && matches!(kind.get(NAME.len()), None | Some(b'+' | b';' | b' '))
    })
}

/// A call's `grpc-timeout`: at most eight digits and a unit.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A status message as a field value: printable ASCII, everything else percent-encoded.
#[must_use]
pub fn message_value(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.trim_end().bytes() {
        match byte {
            b'%' | ..0x20 | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// The field lines of a call's status, with a message of printable ASCII.
#[must_use]
pub fn status_lines(status: u8, message: &str) -> String {
    let encoded = message_value(message);
    format!(
        "content-type: application/grpc\r\ngrpc-status: {status}\r\ngrpc-message: {encoded}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_and_timeouts_are_read_as_written() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(Some(kind.as_bytes())), expected, "{kind}");
        }
        for (value, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("2H", Some(Duration::from_secs(7200))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789S", None),
            ("S", None),
            ("5x", None),
            ("-5S", None),
            ("", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
        assert!(status_lines(14, "100 % ü\n").contains("grpc-message: 100 %25 %C3%BC\r\n"));
    }
}
