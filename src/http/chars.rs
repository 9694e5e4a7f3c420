//! Tables of the bytes allowed in each position (RFC 9110 §5.6.2, RFC 9112, RFC 3986).

/// Letters, digits and the bytes in `also`.
const fn alphanumeric_and(also: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    with(set, also)
}

/// Visible ASCII, `obs-text` and the bytes in `also`.
const fn text_and(also: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        set[byte] = byte > 0x20 && byte != 0x7f;
        byte += 1;
    }
    with(set, also)
}

const fn with(mut set: [bool; 256], also: &[u8]) -> [bool; 256] {
    let mut index = 0;
    while index < also.len() {
        set[also[index] as usize] = true;
        index += 1;
    }
    set
}

/// `tchar`: field names, methods, transfer codings.
pub static TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");
/// Classes of bytes in a field name; 0 is not allowed.
pub static NAME: [u8; 256] = names();
/// The mark of an underscore in [`NAME`].
pub const UNDERSCORE: u8 = 2;

const fn names() -> [u8; 256] {
    let mut marks = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        marks[byte] = TOKEN[byte] as u8;
        byte += 1;
    }
    marks[b'_' as usize] |= UNDERSCORE;
    marks
}

/// Field values: visible ASCII, space, tab and `obs-text`; no other control byte.
pub static VALUE: [bool; 256] = text_and(b" \t");
/// `pchar` without percent-encoding, and `/`: bytes allowed in a path without an escape.
pub static PATH: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=:@/");
/// Bytes allowed in a query without an escape: those of a path, and `?`.
pub static QUERY: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=:@/?");
/// A registered name or an address outside brackets. RFC 3986 allows more bytes. A comma is refused because
/// two `Host` fields joined by a comma would be read as two hosts; the other bytes do not occur in real names.
pub static HOST: [bool; 256] = alphanumeric_and(b"-._~");

/// Whether every byte of `text` is in `set`.
#[must_use]
pub fn all(text: &[u8], set: &[bool; 256]) -> bool {
    text.iter().all(|byte| set[*byte as usize])
}

/// Whether `text` is a non-empty token.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, &TOKEN)
}

/// `text` without optional white space at its ends (RFC 9110 §5.6.3: space and tab only).
#[must_use]
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// The value of a hexadecimal digit.
#[must_use]
pub fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Decimal digits only, no sign, no space, no overflow (RFC 9110 §8.6).
#[must_use]
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_the_grammar() {
        for byte in 0..=255_u8 {
            let at = byte as usize;
            let visible = (0x21..0x7f).contains(&byte);
            let delimiter = b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(TOKEN[at], visible && !delimiter, "{byte:#x}");
            assert_eq!(NAME[at] > 0, TOKEN[at], "{byte:#x}");
            assert_eq!(NAME[at] & UNDERSCORE > 0, byte == b'_', "{byte:#x}");
            assert_eq!(VALUE[at], visible || byte >= 0x80 || byte == b' ' || byte == b'\t');
            let excluded = b"\"#%<>?[\\]^`{|}".contains(&byte);
            assert_eq!(PATH[at], visible && !excluded, "{byte:#x}");
        }
    }

    #[test]
    fn decimals_are_digits_and_nothing_else() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", " 1", "1 ", "0x1", "1,1", "18446744073709551616", "1_0"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
