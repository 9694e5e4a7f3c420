//! Requests with a misplaced control byte, line end or line fold: a part of `request_tables`.

use super::{BAD, BASES, Table, Verdict};

pub(super) fn fill(table: &mut Table) {
    for fill in [control_bytes, line_ends, fold] {
        fill(table);
    }
}

fn control_set() -> impl Iterator<Item = u8> + Clone {
    (0..0x20).chain([0x7f])
}

/// A position for a control byte: a name, the text of a base request to replace, and the replacement.
type Place = (&'static str, &'static str, &'static str);

const IN_HEAD: [Place; 20] = [
    ("before the method", "", "<>"),
    ("within the method", "T ", "<>T "),
    ("after the method", "T ", "T<> "),
    ("before the target", "T ", "T <>"),
    ("within the target", "/p", "/<>p"),
    ("after the target", "/p ", "/p<> "),
    ("before the version", " HTTP", " <>HTTP"),
    ("within the version", "HTTP/1.1", "HTTP/<>1.1"),
    ("after the version", "1.1\r", "1.1<>\r"),
    ("within a line end", "1.1\r\n", "1.1\r<>\n"),
    ("before a field", "\r\nX-A", "\r\n<>X-A"),
    ("within a name", "X-A", "X<>-A"),
    ("before a colon", "X-A:", "X-A<>:"),
    ("within the host", ": a\r", ": a<>a\r"),
    ("a line of its own", "\r\nX-A", "\r\n<>\r\nX-A"),
    ("the last line", "\r\n\r\n", "\r\n<>\r\n\r\n"),
    ("within Content-Length", "t-L", "t<>-L"),
    ("within a length", "Length: 5", "Length: 0<>5"),
    ("within Transfer-Encoding", "r-E", "r<>-E"),
    ("within the coding", "chunked", "chun<>ked"),
];
/// Positions where a tab is valid white space.
const IN_VALUES: [Place; 8] = [
    ("before a value", "X-A: ", "X-A: <>"),
    ("within a value", "bc", "b<>c"),
    ("after a value", "bc\r", "bc<>\r"),
    ("after the host", ": a\r", ": a<>\r"),
    ("before a length", "Length: 5", "Length: <>5"),
    ("after a length", "Length: 5", "Length: 5<>"),
    ("before the coding", ": chunked", ": <>chunked"),
    ("after the coding", "chunked\r", "chunked<>\r"),
];
const IN_BODY: [Place; 12] = [
    ("before a size", "\r\n5\r", "\r\n<>5\r"),
    ("after a size", "\r\n5\r", "\r\n5<>\r"),
    ("within a size line's end", "\r\n5\r\n", "\r\n5\r<>\n"),
    ("before a chunk", "5\r\nhello", "5\r\n<>hello"),
    ("after a chunk", "hello\r", "hello<>\r"),
    ("within a chunk's end", "hello\r\n", "hello\r<>\n"),
    ("before the last chunk", "\r\n0\r", "\r\n<>0\r"),
    ("after the last size", "\r\n0\r", "\r\n0<>\r"),
    ("within the last size line's end", "\r\n0\r\n", "\r\n0\r<>\n"),
    ("a trailer of its own", "0\r\n", "0\r\n<>\r\n"),
    ("within a trailer's name", "X-T", "X<>-T"),
    ("within an extension", "\r\n5\r", "\r\n5;a<>\r"),
];
const IN_TRAILERS: [Place; 2] =
    [("before a trailer's value", ": u", ": <>u"), ("after a trailer's value", "u\r", "u<>\r")];

/// Each control byte at each position; after the first base request, the others get a sample of the bytes.
fn control_bytes(table: &mut Table) {
    table.class = "control_bytes";
    let broken = Verdict::RefusedOrAborted;
    for (places, verdict, tab) in [
        (&IN_HEAD[..], BAD, BAD),
        (&IN_VALUES[..], BAD, Verdict::Forwarded),
        (&IN_BODY[..], broken, broken),
        (&IN_TRAILERS[..], broken, Verdict::Forwarded),
    ] {
        for (place, from, to) in places {
            let having = BASES.iter().filter(|(_, text)| text.contains(from));
            for (rank, (base, text)) in having.enumerate() {
                let some =
                    control_set().filter(|byte| rank == 0 || b"\0\t\n\x0b\r\x7f".contains(byte));
                let (name, template) = (format!("{place} of {base}"), text.replacen(from, to, 1));
                table.sweep(
                    &name,
                    &template,
                    some,
                    |byte| if byte == b'\t' { tab } else { verdict },
                );
            }
        }
    }
}

const WRONG_ENDS: [&str; 9] =
    ["\n", "\r", "\r\r\n", "\n\r", "\r \n", "\0\r\n", "\r\n\n", "\x0b\n", "\u{85}\n"];

/// Each line end of a head in each invalid form, with an empty line after all of it.
fn line_ends(table: &mut Table) {
    table.class = "line_ends";
    for (base, text) in BASES {
        let head = text.find("\r\n\r\n").map_or(0, |end| end + 4);
        for (number, (at, _)) in text.match_indices("\r\n").enumerate() {
            let verdict = if at < head { BAD } else { Verdict::RefusedOrAborted };
            for wrong in WRONG_ENDS {
                // After the last line the head is complete.
                if wrong == "\r\n\n" && text[..at].ends_with("\r\n") {
                    continue;
                }
                let text = format!("{}{wrong}{}\r\n\r\n", &text[..at], &text[at + 2..]);
                table.add(format!("end {number} of {base} is {wrong:?}"), text, verdict);
            }
        }
        let (head, body) = text.split_at(head);
        for wrong in ["\n", "\r", "\n\r", "\r\r\n"] {
            let text = format!("{}{body}\r\n\r\n", head.replace("\r\n", wrong));
            table.add(format!("all ends of {base} are {wrong:?}"), text, BAD);
        }
        for (before, verdict) in [
            ("\r\n", Verdict::Forwarded),
            ("\r\n\r\n", BAD),
            ("\n", BAD),
            ("\r\n\n", BAD),
            ("\n\r\n", BAD),
            (" \r\n", BAD),
            ("\r\n ", BAD),
            ("\t\r\n", BAD),
            ("\r\r\n", BAD),
        ] {
            table.add(
                format!("{before:?} before {base}"),
                format!("{before}{head}{body}"),
                verdict,
            );
        }
    }
}

fn fold(table: &mut Table) {
    table.class = "fold";
    for (base, text) in BASES {
        let head = text.find("\r\n\r\n").unwrap_or_default();
        for (number, (at, _)) in text.match_indices("\r\n").enumerate() {
            let (before, after) = (&text[..at], &text[at..]);
            // In the body of a chunked request a line that begins with a blank is no fold.
            if at > head && !before.ends_with("X-T: u") {
                continue;
            }
            let verdict = if at > head { Verdict::RefusedOrAborted } else { BAD };
            for fold in [" ", "\t", " b", "\tb", "  b", " X-B: c", " \t "] {
                let text = format!("{before}\r\n{fold}{after}");
                table.add(format!("{fold:?} after line {number} of {base}"), text, verdict);
            }
        }
    }
}
