//! Requests that two parsers may interpret differently, by class, and the required treatment.
//!
//! Made by mutation of a few valid requests, so that each position of the grammar is broken in each way. Every
//! refused head ends with an empty line: otherwise a proxy that waits for more bytes would seem to refuse it.
//! `request_heads` mutates the lines, `request_places` the positions in and between lines, and `request_bodies` the
//! framing.

#[path = "request_bodies.rs"]
mod request_bodies;
#[path = "request_heads.rs"]
mod request_heads;
#[path = "request_places.rs"]
mod request_places;

use std::collections::HashSet;
use std::fmt::Display;

/// The bytes of one connection: a single request, or bytes that resemble one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Case {
    pub class: &'static str,
    /// Unique; begins with the class.
    pub name: String,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

/// The required result of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The client gets one of these statuses, and a cluster gets no byte.
    Refused(&'static [u16]),
    /// Accepted: a cluster receives exactly one message.
    Forwarded,
    /// RFC 9112 permits both; bytes that reach a cluster must be strict.
    Either,
    /// The head and part of the body were forwarded before the violation: a cluster never receives a complete
    /// message, and the client's connection is closed.
    Aborted,
    /// Like `Refused(&[400])` or `Aborted`, depending on how much was forwarded before the violation was read.
    RefusedOrAborted,
}

/// All cases.
pub fn requests() -> Vec<Case> {
    let mut table = Table::default();
    request_heads::fill(&mut table);
    request_places::fill(&mut table);
    request_bodies::fill(&mut table);
    table.cases
}

const BAD: Verdict = Verdict::Refused(&[400]);
const UNKNOWN_CODING: Verdict = Verdict::Refused(&[501]);
const TOO_LONG: Verdict = Verdict::Refused(&[414]);
const TOO_LARGE: Verdict = Verdict::Refused(&[431]);
const FAILED_EXPECTATION: Verdict = Verdict::Refused(&[417]);
const NO_METHOD: Verdict = Verdict::Refused(&[405]);

/// The base requests: a name, and a valid request.
const BASES: [(&str, &str); 5] = [
    ("get", "GET /p HTTP/1.1\r\nHost: a\r\nX-A: bc\r\n\r\n"),
    ("length", "POST /p HTTP/1.1\r\nHost: a\r\nX-A: bc\r\nContent-Length: 5\r\n\r\nhello"),
    (
        "chunked",
        "POST /p HTTP/1.1\r\nHost: a\r\nX-A: bc\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "trailers",
        "PUT /p HTTP/1.1\r\nHost: a\r\nX-A: bc\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-T: u\r\n\r\n",
    ),
    ("absolute", "GET http://a/p HTTP/1.1\r\nHost: a\r\nX-A: bc\r\n\r\n"),
];

#[derive(Default)]
struct Table {
    class: &'static str,
    cases: Vec<Case>,
    seen: HashSet<Vec<u8>>,
}

impl Table {
    /// Adds a case, unless a case with the same bytes exists: two mutations may coincide.
    fn add(&mut self, name: impl Display, bytes: impl Into<Vec<u8>>, verdict: Verdict) {
        let bytes = bytes.into();
        if self.seen.insert(bytes.clone()) {
            let name = format!("{}: {name}", self.class);
            self.cases.push(Case { class: self.class, name, bytes, verdict });
        }
    }

    /// Adds a request without a body, with this request line.
    fn line(&mut self, line: &str, verdict: Verdict) {
        self.add(excerpt(line), format!("{line}\r\nHost: a\r\n\r\n"), verdict);
    }

    /// Adds a request without a body, with this line or these lines in addition to `Host`.
    fn field(&mut self, lines: &str, verdict: Verdict) {
        self.add(excerpt(lines), format!("GET /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"), verdict);
    }

    /// Adds the template once for each of `bytes`, in place of `<>`.
    fn sweep(
        &mut self,
        name: &str,
        template: &str,
        bytes: impl IntoIterator<Item = u8>,
        verdict: impl Fn(u8) -> Verdict,
    ) {
        for byte in bytes {
            let name = format!("{name} <> is {byte:#04x}");
            self.add(name, filled(template, &[byte]), verdict(byte));
        }
    }
}

/// A short, printable form of a text, for names.
pub fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let more = text.len() - short.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("\"{}\"{more}", short.escape_debug())
}

/// The items of a list, separated by a broken bar, which these texts do not contain.
pub fn each(list: &str) -> std::str::Split<'_, char> {
    list.split('¦')
}

fn filled(template: &str, with: &[u8]) -> Vec<u8> {
    let (before, after) = template.split_once("<>").expect("a template has a place");
    [before.as_bytes(), with, after.as_bytes()].concat()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const VISIBLE: std::ops::RangeInclusive<u8> = 0x21..=0x7e;

/// Some bytes above ASCII: the ends of the range, and bytes that are a space or a line end in some encoding.
const HIGH: [u8; 8] = [0x80, 0x85, 0xa0, 0xad, 0xc2, 0xe2, 0xe9, 0xff];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_are_unique_and_each_class_has_its_share() {
        let cases = requests();
        assert!(cases.len() >= 1_200, "{}", cases.len());
        let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let bytes: HashSet<&[u8]> = cases.iter().map(|case| &case.bytes[..]).collect();
        assert_eq!((names.len(), bytes.len()), (cases.len(), cases.len()));
        for class in each(
            "valid¦request_line¦method¦target¦host¦field_name¦field_value¦control_bytes¦line_ends¦\
             fold¦connection¦expect¦upgrade¦limits¦http10¦content_length¦transfer_encoding¦\
             chunk_size¦chunk_extension¦chunk_end¦trailers¦late_chunk¦smuggling",
        ) {
            let count = cases.iter().filter(|case| case.class == class).count();
            println!("{class}: {count}");
            assert!(count >= 10, "{class}: {count}");
        }
        let valid = |case: &&Case| case.class == "valid" && case.verdict == Verdict::Forwarded;
        assert!(cases.iter().filter(valid).count() >= 60);
    }

    #[test]
    fn every_case_has_a_whole_head() {
        for case in requests() {
            let ends = case.bytes.windows(4).any(|bytes| bytes == b"\r\n\r\n");
            assert!(ends, "{}: a proxy would wait for more", case.name);
        }
    }
}
