//! The chunked coding (RFC 9112 §7.1), decoded strictly and encoded anew.
//!
//! Extensions are checked and dropped, never forwarded: some parsers have read an extension as data, which allows
//! request smuggling. The decoder handles lines byte by byte and data in whole runs, so its result does not depend on
//! segmentation.

use super::chars::{self, TOKEN};
use super::field::Field;
use super::{Underscores, Violation, trailers};

/// The result of a decoding step. Offsets are relative to the input of that step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// All input was consumed; more is needed.
    More,
    /// Body bytes at `start..end`; input before `end` is consumed.
    Data {
        /// First body byte.
        start: usize,
        /// One past the last body byte.
        end: usize,
    },
    /// The body, its trailers included, ended; input before `used` is consumed.
    End {
        /// How much of the input belonged to the body.
        used: usize,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    SizeFirst,
    Size,
    ExtensionStart,
    ExtensionName { any: bool },
    ExtensionAfterName,
    ExtensionValue { any: bool },
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// Decodes one chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    left: u64,
    size_digits: u8,
    extension_line: usize,
    extension_total: usize,
    trailer: Vec<u8>,
    underscores: Underscores,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            state: State::SizeFirst,
            left: 0,
            size_digits: 0,
            extension_line: 0,
            extension_total: 0,
            trailer: Vec::new(),
            underscores: Underscores::Refuse,
        }
    }
}

const EXTENSION_PER_CHUNK: usize = 256;
const EXTENSION_PER_BODY: usize = 4 * 1024;

impl Decoder {
    /// A decoder for responses: trailer names may contain underscores, as in a response head.
    #[must_use]
    pub fn of_response() -> Decoder {
        Decoder { underscores: Underscores::Allow, ..Decoder::default() }
    }

    /// Decodes from the start of `input`, which continues where the last step ended.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for anything outside RFC 9112's grammar or beyond the limits above; the body is then
    /// unusable and the connection must be closed.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Violation> {
        let mut at = 0;
        while at < input.len() {
            if self.state == State::Data {
                let run = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.left -= run as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step::Data { start: at, end: at + run });
            }
            self.byte(input[at])?;
            at += 1;
            if self.state == State::Done {
                return Ok(Step::End { used: at });
            }
        }
        Ok(Step::More)
    }

    /// The trailer section as received, once the body has ended; [`trailers::read`] parses it.
    #[must_use]
    pub fn trailer_bytes(&self) -> &[u8] {
        &self.trailer
    }

    /// The trailer fields that may be forwarded.
    pub fn trailer_fields(&self) -> Vec<Field> {
        trailers::read(&self.trailer, self.underscores).unwrap_or_default()
    }

    fn byte(&mut self, byte: u8) -> Result<(), Violation> {
        const BAD: Violation = Violation::Malformed("an invalid chunk");
        self.state = match (self.state, byte) {
            (State::SizeFirst | State::Size, _) if chars::hex(byte).is_some() => {
                self.size_digit(chars::hex(byte).unwrap_or_default())?
            }
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b';') => self.extension(State::ExtensionName { any: false })?,
            (State::Size | State::ExtensionStart, b' ' | b'\t') => {
                self.extension(State::ExtensionStart)?
            }
            (State::ExtensionStart, b';') => self.extension(State::ExtensionName { any: false })?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeFirst,
            (State::SizeLf, b'\n') => self.size_line_end(),
            (State::Trailer, _) => self.trailer_byte(byte)?,
            (state, _) => self.extension_byte(state, byte).ok_or(BAD)??,
        };
        Ok(())
    }

    fn size_digit(&mut self, digit: u8) -> Result<State, Violation> {
        if self.state == State::SizeFirst {
            self.left = 0;
            self.size_digits = 0;
            self.extension_line = 0;
        }
        self.size_digits += 1;
        if self.size_digits > 16 || self.left >> 59 != 0 {
            return Err(Violation::Malformed("a chunk size out of range"));
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn size_line_end(&mut self) -> State {
        if self.left == 0 { State::Trailer } else { State::Data }
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
    fn extension_byte(&mut self, state: State, byte: u8) -> Option<Result<State, Violation>> {
        let token = TOKEN[byte as usize];
        let blank = matches!(byte, b' ' | b'\t');
        let next = match (state, byte) {
            (State::ExtensionName { any: false }, _) if blank => state,
            (State::ExtensionName { .. }, _) if token => State::ExtensionName { any: true },
            (State::ExtensionName { any: true } | State::ExtensionAfterName, b'=') => {
                State::ExtensionValue { any: false }
            }
            (State::ExtensionName { any: true } | State::ExtensionAfterName, _) if blank => {
                State::ExtensionAfterName
            }
            (State::ExtensionValue { any: false }, _) if blank => state,
            (State::ExtensionValue { any: false }, b'"') => State::ExtensionQuoted,
            (State::ExtensionValue { .. }, _) if token => State::ExtensionValue { any: true },
            // White space is allowed before a `;` only.
            (State::ExtensionValue { any: true } | State::ExtensionEnd, _) if blank => {
                State::ExtensionStart
            }
            (
                State::ExtensionName { any: true }
                | State::ExtensionAfterName
                | State::ExtensionValue { any: true }
                | State::ExtensionEnd,
                b';',
            ) => State::ExtensionName { any: false },
            (State::ExtensionQuoted, b'"') => State::ExtensionEnd,
            (State::ExtensionQuoted, b'\\') => State::ExtensionEscape,
            (State::ExtensionQuoted | State::ExtensionEscape, _) if chars::VALUE[byte as usize] => {
                State::ExtensionQuoted
            }
            (
                State::ExtensionName { any: true }
                | State::ExtensionValue { any: true }
                | State::ExtensionEnd,
                b'\r',
            ) => return Some(Ok(State::SizeLf)),
            _ => return None,
        };
        Some(self.extension(next))
    }

    fn extension(&mut self, next: State) -> Result<State, Violation> {
        self.extension_line += 1;
        self.extension_total += 1;
        if self.extension_line > EXTENSION_PER_CHUNK || self.extension_total > EXTENSION_PER_BODY {
            return Err(Violation::Malformed("too many chunk extensions"));
        }
        Ok(next)
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, Violation> {
        self.trailer.push(byte);
        if self.trailer.len() > trailers::BYTES_MAX {
            return Err(Violation::Malformed("a trailer section over its limit"));
        }
        if byte != b'\n' {
            return Ok(State::Trailer);
        }
        if !self.trailer.ends_with(b"\r\n") {
            return Err(Violation::Malformed("a line feed without carriage return"));
        }
        if self.trailer.len() > 2 && !self.trailer.ends_with(b"\r\n\r\n") {
            return Ok(State::Trailer);
        }
        if self.trailer.len() > 2 {
            trailers::read(&self.trailer, self.underscores)?;
        }
        Ok(State::Done)
    }
}

/// Writes the size line of a chunk of `len` bytes. `len` must not be 0, which would end the body.
pub fn write_size(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for position in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(len >> (position * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body with these trailer lines (each already ended by CRLF).
pub fn write_end(out: &mut Vec<u8>, trailer_lines: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailer_lines);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::properties::decode;
    use super::*;

    #[test]
    fn bodies_are_the_same_at_every_cut() {
        let wire = b"5\r\nhello\r\n6;a=\"b\\\"c\" ; d\r\n world\r\n0\r\nx-sum: 1\r\n\r\nGET";
        for cut in 0..=wire.len() {
            let (body, taken) = decode(&[&wire[..cut], &wire[cut..]]).unwrap().unwrap();
            assert_eq!(
                (body.as_slice(), taken),
                (&b"hello world"[..], wire.len() - 3),
                "cut {cut}"
            );
        }
    }

    #[test]
    fn malformed_chunks_are_refused_at_every_cut() {
        for wire in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n",
            "5\nhello\n0\n\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5;\r\nhello\r\n",
            "5;a\nhello\r\n",
            "5;a=\r\nhello\r\n",
            "5;=b\r\nhello",
            "5;a=\"b\r\nhello",
            "5;a\rb\r\n",
            "5\r\r\nhello",
            "11111111111111111\r\n",
            "ffffffffffffffff\r\n",
            "5;a b\r\nhello\r\n",
            "5;a=b c\r\nhello",
            "5;a=b \r\nhello",
            "5;a=\"b\"\t\r\nhello",
            "0\r\nx y: 1\r\n\r\n",
            "0\r\n x: 1\r\n\r\n",
            "0\r\nx: 1\n\r\n",
            "0\r\nx: \x01\r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\n\n",
            "0\r\n: 1\r\n\r\n",
        ] {
            let wire = wire.as_bytes();
            for cut in 0..=wire.len() {
                assert!(decode(&[&wire[..cut], &wire[cut..]]).is_err(), "{wire:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300));
        assert!(decode(&[long_extension.as_bytes()]).is_err());
        let many = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(30);
        assert!(decode(&[many.as_bytes()]).is_err());
        let fields = format!("0\r\n{}\r\n", "x-a: 1\r\n".repeat(33));
        assert!(decode(&[fields.as_bytes()]).is_err());
        let bytes = format!("0\r\nx-a: {}\r\n\r\n", "b".repeat(9_000));
        assert!(decode(&[bytes.as_bytes()]).is_err());
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [1, 9, 15, 16, 255, 4096, 65_537] {
            let mut wire = Vec::new();
            write_size(&mut wire, len);
            wire.extend(std::iter::repeat_n(b'a', len));
            wire.extend_from_slice(b"\r\n");
            write_end(&mut wire, b"");

            let (body, taken) = decode(&[&wire]).unwrap().unwrap();

            assert_eq!((body.len(), taken), (len, wire.len()));
        }
    }
}
