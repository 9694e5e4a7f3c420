//! Responses of a hostile or broken cluster, and the required result for the client.
//!
//! The cluster sends the bytes at once for each request, and then closes its connection. The connection stays
//! open only if a response is complete and self-delimited, to detect reuse.

use super::request_tables::{each, excerpt};
use std::collections::HashSet;
use std::fmt::Display;

/// One answer of a hostile cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hostile {
    /// Unique.
    pub name: String,
    /// The method of the request.
    pub method: &'static str,
    pub bytes: Vec<u8>,
    /// Whether the connection ends by RST instead of FIN.
    pub reset: bool,
    pub want: Want,
}

/// The required result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Want {
    /// 502 and none of the response's bytes, except valid interim responses.
    BadGateway,
    /// Valid: this status and body, complete. The cluster's connection may be reused.
    Whole(u16, Vec<u8>),
    /// The head was valid, then the body ended early or broke its framing: the client receives a visibly incomplete
    /// response (perhaps only a reset), or a 502.
    Cut,
    /// Valid, followed by surplus bytes: like `Whole`, but the cluster's connection is never reused, and no client
    /// ever receives the surplus.
    WholeNotReused(u16, Vec<u8>),
}

/// All answers.
pub fn responses() -> Vec<Hostile> {
    let mut table = Table::default();
    for fill in [
        valid,
        status_lines,
        field_lines,
        control_bytes,
        line_ends,
        lengths,
        codings,
        chunks,
        trailers,
        truncated,
        closing,
        surplus,
        bodiless,
        interims,
        limits,
        foreign,
    ] {
        fill(&mut table);
    }
    table.all
}

#[derive(Default)]
struct Table {
    all: Vec<Hostile>,
    seen: HashSet<(Vec<u8>, &'static str, bool)>,
}

impl Table {
    /// Adds a response to a GET that ends by FIN, unless it exists: two mutations may coincide.
    fn add(&mut self, name: impl Display, bytes: impl Into<Vec<u8>>, want: Want) {
        self.push(name.to_string(), "GET", bytes.into(), false, want);
    }

    /// Adds a response to a HEAD.
    fn head(&mut self, name: impl Display, bytes: impl Into<Vec<u8>>, want: Want) {
        self.push(format!("HEAD: {name}"), "HEAD", bytes.into(), false, want);
    }

    /// Adds a response that ends by RST.
    fn reset(&mut self, name: impl Display, bytes: impl Into<Vec<u8>>, want: Want) {
        self.push(format!("reset: {name}"), "GET", bytes.into(), true, want);
    }

    fn push(
        &mut self,
        name: String,
        method: &'static str,
        bytes: Vec<u8>,
        reset: bool,
        want: Want,
    ) {
        if self.seen.insert((bytes.clone(), method, reset)) {
            self.all.push(Hostile { name, method, bytes, reset, want });
        }
    }
}

const LENGTH: &str = "HTTP/1.1 200 OK\r\nX-A: bc\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nX-A: bc\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\n\r\n";
const CLOSING: &str = "HTTP/1.1 200 OK\r\nX-A: bc\r\n\r\nhello";
const BASES: [(&str, &str); 3] = [("length", LENGTH), ("chunked", CHUNKED), ("closing", CLOSING)];

/// Bytes that must never become the response to another request.
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";

fn hello() -> Want {
    Want::Whole(200, b"hello".to_vec())
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn valid(table: &mut Table) {
    for (name, text) in BASES {
        table.add(format!("valid, {name}"), text, hello());
    }
    for line in each(
        "HTTP/1.1 200 ¦HTTP/1.1 200¦HTTP/1.1 200 OK then¦HTTP/1.1 200  OK¦HTTP/1.1 200 O\tK¦\
         HTTP/1.1 200 \u{e9}¦HTTP/1.0 200 OK¦HTTP/1.1 200 200 OK¦HTTP/1.1 200 HTTP/1.1 500 No",
    ) {
        table.add(excerpt(line), LENGTH.replacen("HTTP/1.1 200 OK", line, 1), hello());
    }
    for status in [200, 201, 203, 206, 226, 299, 301, 400, 404, 418, 500, 599] {
        let text = LENGTH.replacen("200 OK", &format!("{status} X"), 1);
        table.add(format!("status {status}"), text, Want::Whole(status, b"hello".to_vec()));
    }
    for lines in each(
        "Connection: close¦Connection: keep-alive¦Connection: X-A¦Keep-Alive: timeout=5¦\
         Proxy-Connection: close¦Proxy-Authenticate: Basic¦Upgrade: h2c¦\
         Connection: upgrade\r\nUpgrade: h2c¦X_A: b¦X-Empty:¦X: \u{e9}¦X:b¦\
         Set-Cookie: a\r\nSet-Cookie: b¦Trailer: X-T¦Host: b¦TE: trailers¦Date: now¦\
         Tidegate-Load: 1¦X: GET / HTTP/1.1",
    ) {
        for (base, text) in BASES {
            let text = text.replacen("X-A: bc", lines, 1);
            table.add(format!("{} of {base}", excerpt(lines)), text, hello());
        }
    }
    for size in [1, 8_192, 32_769, 100_000] {
        let (body, whole) = ("b".repeat(size), Want::Whole(200, vec![b'b'; size]));
        let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}");
        table.add(format!("a length of {size}"), length, whole.clone());
        let chunk = chunked(&format!("{size:x}\r\n{body}\r\n0\r\n\r\n"));
        table.add(format!("a chunk of {size}"), chunk, whole.clone());
        table.add(
            format!("{size} bytes to the end"),
            format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            whole,
        );
    }
}

fn status_lines(table: &mut Table) {
    for line in each(
        "¦ ¦hello¦HTTP¦HTTP/1.1¦HTTP/1.1 ¦HTTP/1.1 2¦HTTP/1.1 20¦HTTP/1.1 20 OK¦HTTP/1.1 2000¦\
         HTTP/1.1 2000 OK¦HTTP/1.1 OK¦HTTP/1.1 abc OK¦HTTP/1.1 2x0 OK¦HTTP/1.1 -20 OK¦\
         HTTP/1.1 +20 OK¦HTTP/1.1 0 OK¦HTTP/1.1 000 OK¦HTTP/1.1 099 OK¦HTTP/1.1 99 OK¦\
         HTTP/1.1 1000 OK¦HTTP/1.1 0200 OK¦HTTP/1.1 200.1 OK¦\
         HTTP/1.1 2 00¦HTTP/1.1  200 OK¦HTTP/1.1\t200 OK¦HTTP/1.1 200\tOK¦HTTP/1.1 200OK¦\
         HTTP/1.1 200,OK¦HTTP/1.1 200; OK¦HTTP/1.1200 OK¦HTTP/1.1 OK 200¦200 OK¦200 HTTP/1.1¦\
         OK¦ HTTP/1.1 200 OK¦\tHTTP/1.1 200 OK¦HTTP/1.2 200 OK¦HTTP/1.9 200 OK¦HTTP/1.10 200 OK¦\
         HTTP/01.1 200 OK¦HTTP/1. 200 OK¦HTTP/1 200 OK¦HTTP/2 200 OK¦HTTP/2.0 200 OK¦\
         HTTP/3 200 OK¦HTTP/0.9 200 OK¦HTTP/9.9 200 OK¦http/1.1 200 OK¦Http/1.1 200 OK¦\
         HTTP /1.1 200 OK¦HTTP/1.1x 200 OK¦HTTPS/1.1 200 OK¦ICY 200 OK¦SHOUTcast 200 OK¦\
         RTSP/1.0 200 OK¦SIP/2.0 200 OK¦XTTP/1.1 200 OK¦\"HTTP/1.1\" 200 OK¦\
         \u{feff}HTTP/1.1 200 OK¦HTTP/1.1 \u{662}00 OK¦HTTP/1.1\u{a0}200 OK¦GET / HTTP/1.1¦X-A: b¦\
         Status: 200 OK¦HTTP/1.1 0x200 OK¦HTTP/1.1 200\u{a0}OK",
    ) {
        for (base, text) in &BASES[..2] {
            let text = text.replacen("HTTP/1.1 200 OK", line, 1);
            table.add(format!("line {} of {base}", excerpt(line)), text, Want::BadGateway);
        }
    }
    for status in (0..100).step_by(9) {
        let text = LENGTH.replacen("200", &format!("{status:03}"), 1);
        table.add(format!("status {status:03}"), text, Want::BadGateway);
    }
    for status in (600..1_000).step_by(57).chain([999]) {
        let text = LENGTH.replacen("200", &status.to_string(), 1);
        table.add(format!("status {status}"), text, Want::Whole(status, b"hello".to_vec()));
    }
}

fn field_lines(table: &mut Table) {
    for lines in each(
        "X-A : b¦X-A\t: b¦: b¦:¦X-A¦X-A b¦X A: b¦ X-A: b¦\tX-A: b¦ : b¦\"X-A\": b¦X(A): b¦X/A: b¦\
         X[A]: b¦X=A: b¦X{A}: b¦X@A: b¦X;A: b¦X,A: b¦X\\A: b¦X?A: b¦X<A>: b¦X\u{e9}: b¦X\u{a0}: b¦\
         X-A: b\r\n c¦X-A: b\r\n\tc¦X-A: b\r\n \r\nX-B: c¦X-A: b\r\n  ¦X-A:\r\n b¦\
         Content-Length : 5¦Content-Length\t: 5¦ Content-Length: 5¦Transfer-Encoding : chunked¦\
         HTTP/1.1 200 OK¦GET / HTTP/1.1¦Connection: a b¦Connection: \"close\"¦\
         Connection: close;q=1¦Connection: a@b¦Set-Cookie : a=b¦Location\0: /",
    ) {
        for (base, text) in BASES {
            let text = text.replacen("X-A: bc", lines, 1);
            table.add(format!("field {} of {base}", excerpt(lines)), text, Want::BadGateway);
        }
    }
}

/// Each control byte at each position of a head; a tab is valid white space in a reason and in a value.
fn control_bytes(table: &mut Table) {
    for (place, from, to, tab_may) in [
        ("before the version", "HTTP/1.1", "<>HTTP/1.1", false),
        ("within the version", "HTTP/1.1", "HTTP/<>1.1", false),
        ("after the version", "HTTP/1.1", "HTTP/1.1<>", false),
        ("within the code", "200", "2<>00", false),
        ("after the code", "200", "200<>", false),
        ("within the reason", "OK", "O<>K", true),
        ("after the reason", "OK", "OK<>", true),
        ("within a name", "X-A", "X<>-A", false),
        ("before a colon", "X-A:", "X-A<>:", false),
        ("within a value", "bc", "b<>c", true),
        ("after a value", "bc", "bc<>", true),
        ("within the length's name", "t-L", "t<>-L", false),
        ("within the length", ": 5", ": 0<>5", false),
        ("after the length", ": 5", ": 5<>", true),
    ] {
        let text = LENGTH.replacen(from, to, 1);
        for control in (0..0x20_u8).chain([0x7f]) {
            let want = if control == b'\t' && tab_may { hello() } else { Want::BadGateway };
            let text = text.replacen("<>", &char::from(control).to_string(), 1);
            table.add(format!("{control:#04x} {place}"), text, want);
        }
    }
}

fn line_ends(table: &mut Table) {
    for (base, text) in BASES {
        let head = text.find("\r\n\r\n").map_or(0, |end| end + 4);
        for (number, (at, _)) in text.match_indices("\r\n").enumerate() {
            let want = if at < head { Want::BadGateway } else { Want::Cut };
            for wrong in ["\n", "\r", "\r\r\n", "\n\r", "\r \n", "\r\n\n", "\0\r\n"] {
                // After the last line the head, or the body, is complete.
                if wrong == "\r\n\n" && text[..at].ends_with("\r\n") {
                    continue;
                }
                let text = format!("{}{wrong}{}", &text[..at], &text[at + 2..]);
                table.add(format!("end {number} of {base} is {wrong:?}"), text, want.clone());
            }
        }
        for wrong in ["\n", "\r", "\n\r", "\r\r\n"] {
            let text = text.replace("\r\n", wrong);
            table.add(format!("all ends of {base} are {wrong:?}"), text, Want::BadGateway);
        }
        for before in ["\r\n", "\n", "\r", "\r\n\r\n", " ", "\0", "\t", "x"] {
            let text = format!("{before}{text}");
            table.add(format!("{before:?} before {base}"), text, Want::BadGateway);
        }
    }
}

fn lengths(table: &mut Table) {
    let with = |lines: &str| LENGTH.replacen("Content-Length: 5", lines, 1);
    for value in each(
        "¦ ¦+5¦-5¦5 5¦5,5¦5, 5¦5,¦,5¦5;5¦0x5¦5h¦5.0¦5e0¦5_0¦\"5\"¦(5)¦five¦-0¦-1¦+0¦\
         18446744073709551616¦99999999999999999999¦\u{665}¦\u{ff15}¦5\u{a0}¦5 \x0b¦5x¦chunked¦NaN¦\
         5/1¦5-5¦%35",
    ) {
        let lines = format!("Content-Length: {value}");
        table.add(excerpt(&lines), with(&lines), Want::BadGateway);
        table.head(excerpt(&lines), with(&lines), Want::BadGateway);
    }
    for lines in each(
        "Content-Length: 5\r\nContent-Length: 6¦Content-Length: 6\r\nContent-Length: 5¦\
         Content-Length: 0\r\nContent-Length: 5¦Content-Length: 5\r\nX: y\r\ncontent-length: 4¦\
         Content-Length: 5\r\nContent-Length:¦Content-Length: 5\r\nContent-Length: +5",
    ) {
        table.add(excerpt(lines), with(lines), Want::BadGateway);
    }
    for lines in each(
        "content-length: 5¦CONTENT-LENGTH:5¦Content-Length: 5\r\nContent-Length: 5¦\
         Content-Length:\t5 ¦X-Content-Length: 9\r\nContent-Length: 5",
    ) {
        table.add(excerpt(lines), with(lines), hello());
    }
    table.add("the largest length", with("Content-Length: 18446744073709551615"), Want::Cut);
}

fn codings(table: &mut Table) {
    let with = |lines: &str| CHUNKED.replacen("Transfer-Encoding: chunked", lines, 1);
    for value in each(
        "¦ ¦gzip¦identity¦xchunked¦chunked-¦chunked, chunked¦gzip, chunked¦chunked, gzip¦chunked,¦\
         ,chunked¦chunked;q=1¦\"chunked\"¦x chunked¦chunked x¦chun ked¦(chunked)¦chunked=1¦\
         \u{e9}chunked¦chun\u{212a}ed¦cow¦none¦'chunked'¦chunked\u{a0}¦\x0bchunked",
    ) {
        let lines = format!("Transfer-Encoding: {value}");
        table.add(excerpt(&lines), with(&lines), Want::BadGateway);
        table.head(excerpt(&lines), with(&lines), Want::BadGateway);
    }
    for lines in each(
        "Transfer-Encoding: chunked\r\nContent-Length: 5¦\
         Content-Length: 5\r\nTransfer-Encoding: chunked¦\
         Transfer-Encoding: chunked\r\nContent-Length: 0¦\
         Transfer-Encoding: identity\r\nContent-Length: 5¦\
         Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked¦\
         Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked¦\
         Transfer-Encoding: chunked\r\nTransfer-Encoding: identity¦Transfer-Encoding:\r\n chunked¦\
         Transfer-Encoding\r\n: chunked",
    ) {
        table.add(excerpt(lines), with(lines), Want::BadGateway);
    }
    for lines in each(
        "transfer-encoding: CHUNKED¦Transfer-Encoding:chunked¦Transfer-Encoding:\tchunked ¦\
         Transfer-Encoding: chunked\r\nX-Transfer-Encoding: gzip¦\
         Transfer-Encoding: chunked\r\nTransfer_Encoding: gzip",
    ) {
        table.add(excerpt(lines), with(lines), hello());
    }
    let old = CHUNKED.replacen("HTTP/1.1", "HTTP/1.0", 1);
    table.add("chunks in HTTP/1.0", old, Want::BadGateway);
    // These end at the head: bytes after an interim response are no part of it, and bytes after a 204 are surplus.
    for status in ["100", "103"] {
        let text = CHUNKED.replacen("200", status, 1);
        table.add(format!("chunks of a {status}"), text, Want::BadGateway);
    }
    let text = CHUNKED.replacen("200", "204", 1);
    table.add("chunks of a 204", text, Want::WholeNotReused(204, Vec::new()));
}

fn chunks(table: &mut Table) {
    for size in each(
        "¦ 5¦5 ¦\t5¦+5¦-5¦0x5¦5h¦5.0¦5,5¦\"5\"¦g¦z¦4¦6¦ffffffffffffffff¦10000000000000000¦\
         00000000000000005¦five¦5;¦5;=a¦5;a=¦5;a b¦5;a=\"b¦5;a\nb¦5;a\rb¦5;\0¦5,a¦5:¦\u{665}¦5\n¦\
         5\r¦\r\n5¦5;a=b=c¦5;;",
    ) {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        table.add(format!("a chunk size {}", excerpt(size)), chunked(&body), Want::Cut);
        let body = format!("1\r\nb\r\n{body}");
        table.add(format!("a second chunk size {}", excerpt(size)), chunked(&body), Want::Cut);
    }
    for end in each("¦\n¦\r¦\n\r¦ \r\n¦X\r\n¦XX¦\r\n\r\n¦\r\r\n¦\0\r\n¦;a\r\n") {
        let body = format!("5\r\nhello{end}0\r\n\r\n");
        table.add(format!("a chunk's end {}", excerpt(end)), chunked(&body), Want::Cut);
    }
    for last in each(
        "0\n\n¦0\r\n\n¦0 \r\n\r\n¦-0\r\n\r\n¦0;\r\n\r\n¦0\r\r\n\r\n¦0\r\n\r\r\n\r\n¦o\r\n\r\n¦\
         0x0\r\n\r\n",
    ) {
        let body = format!("5\r\nhello\r\n{last}");
        table.add(format!("a last chunk {}", excerpt(last)), chunked(&body), Want::Cut);
    }
    for body in each(
        "5;a\r\nhello\r\n0\r\n\r\n¦5;a=b\r\nhello\r\n0;c=\"d\"\r\n\r\n¦05\r\nhello\r\n0\r\n\r\n¦\
         1\r\nh\r\n4\r\nello\r\n000\r\n\r\n¦5 ;a\r\nhello\r\n0\r\n\r\n",
    ) {
        table.add(excerpt(body), chunked(body), hello());
    }
    for extension in ["a".repeat(300), "a".repeat(20_000), "a;".repeat(200)] {
        let body = format!("5;{extension}\r\nhello\r\n0\r\n\r\n");
        table.add(format!("{} bytes of an extension", extension.len()), chunked(&body), Want::Cut);
    }
    table.add("no chunk but the last", chunked("0\r\n\r\n"), Want::Whole(200, Vec::new()));
}

fn trailers(table: &mut Table) {
    let with = |lines: &str| chunked(&format!("5\r\nhello\r\n0\r\n{lines}\r\n\r\n"));
    for line in each(
        "X-T: u¦Content-Length: 9¦Transfer-Encoding: gzip¦Set-Cookie: a=b¦Connection: close¦\
         Host: b¦Authorization: c¦Trailer: X¦Location: /¦Keep-Alive: 5¦Content-Type: x¦X-T: \u{e9}",
    ) {
        table.add(format!("a trailer {}", excerpt(line)), with(line), hello());
    }
    for line in each(
        "X-T¦: u¦X-T : u¦ X-T: u¦X T: u¦X-T: u\r\n v¦X-T: \x01¦X-T: \0¦X-T: u\nX-U: v¦X-T: u\r¦\
         HTTP/1.1 200 OK¦\"X\": u",
    ) {
        table.add(format!("a trailer {}", excerpt(line)), with(line), Want::Cut);
    }
    table.add("33 trailers", with(&["X-T: u"; 33].join("\r\n")), Want::Cut);
    table.add("32 trailers", with(&["X-T: u"; 32].join("\r\n")), hello());
    table.add("9 KB of trailers", with(&format!("X-T: {}", "u".repeat(9_000))), Want::Cut);
}

/// Each base, and one with trailers, truncated at every byte, by FIN and by RST.
fn truncated(table: &mut Table) {
    let trailers = CHUNKED.replacen("\r\n0\r\n\r\n", "\r\n0\r\nX-T: u\r\n\r\n", 1);
    for (base, text) in [("length", LENGTH), ("chunked", CHUNKED), ("trailers", &trailers)] {
        let head = text.find("\r\n\r\n").map_or(0, |end| end + 4);
        for cut in 0..text.len() {
            let want = if cut < head { Want::BadGateway } else { Want::Cut };
            let name = format!("{base} cut at {cut}");
            table.add(&name, &text[..cut], want.clone());
            table.reset(&name, &text[..cut], want);
        }
    }
    for size in [40_000, 200_000] {
        let part = "b".repeat(size);
        let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{part}", size + 1);
        let chunk = chunked(&format!("{:x}\r\n{part}", size + 1));
        let chunks = chunked(&format!("{size:x}\r\n{part}\r\n"));
        let fault = chunked(&format!("{size:x}\r\n{part}\r\ng\r\n"));
        for (name, text) in [
            ("length", length),
            ("chunk", chunk),
            ("chunks", chunks),
            ("chunks and a fault", fault),
        ] {
            table.add(format!("{size} bytes of a longer {name}"), text.clone(), Want::Cut);
            table.reset(format!("{size} bytes of a longer {name}"), text, Want::Cut);
        }
    }
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]
    {
        for rest in each("¦H¦HTTP/1.1 200 OK\r\n¦HTTP/1.1 200 OK\r\nContent-Length: 5\r\n") {
            let text = format!("{interim}{rest}");
            table.add(format!("{}, then death", excerpt(&text)), text.clone(), Want::BadGateway);
            table.reset(format!("{}, then death", excerpt(&text)), text, Want::BadGateway);
        }
        let text = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
        table.add(format!("{}, then a cut", excerpt(interim)), text, Want::Cut);
    }
}

/// If the connection's end delimits the body, only FIN is a valid end.
fn closing(table: &mut Table) {
    let large = "b".repeat(100_000);
    for (name, head) in [
        ("a new version", "HTTP/1.1 200 OK\r\n\r\n"),
        ("an old version", "HTTP/1.0 200 OK\r\n\r\n"),
        ("an old version that would keep", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"),
        ("close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        ("keep-alive", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"),
    ] {
        for body in ["", "hello", "\r\n\r\n", "0\r\n\r\n", EVIL, &large] {
            let (name, text) = (format!("{name} and {}", excerpt(body)), format!("{head}{body}"));
            table.add(&name, text.clone(), Want::Whole(200, body.as_bytes().to_vec()));
            table.reset(&name, text, Want::Cut);
        }
    }
}

fn surplus(table: &mut Table) {
    for extra in [
        "X",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\0",
        "0\r\n\r\n",
        EVIL,
        "HTTP/1.1 ",
        " ",
        "HTTP/1.1 100 C\r\n\r\n",
    ] {
        let whole = Want::WholeNotReused(200, b"hello".to_vec());
        for (base, text) in &BASES[..2] {
            let name = format!("{} after {base}", excerpt(extra));
            table.add(name, format!("{text}{extra}"), whole.clone());
            let interim = format!("HTTP/1.1 103 Early Hints\r\n\r\n{text}{extra}");
            table.add(
                format!("{} after {base} and an interim", excerpt(extra)),
                interim,
                whole.clone(),
            );
        }
        let none = Want::WholeNotReused(200, Vec::new());
        let empty = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{extra}");
        table.add(format!("{} after no bytes", excerpt(extra)), empty, none.clone());
        let empty = chunked(&format!("0\r\n\r\n{extra}"));
        table.add(format!("{} after no chunks", excerpt(extra)), empty, none);
        for status in [404, 500] {
            let text = LENGTH.replacen("200", &status.to_string(), 1);
            let whole = Want::WholeNotReused(status, b"hello".to_vec());
            table.add(
                format!("{} after a {status}", excerpt(extra)),
                format!("{text}{extra}"),
                whole,
            );
        }
    }
    let long = format!("{LENGTH}{}", "X".repeat(100_000));
    table.add("100 KB after length", long, Want::WholeNotReused(200, b"hello".to_vec()));
}

/// Responses that have no body, whatever their fields say.
fn bodiless(table: &mut Table) {
    for lines in each(
        "Content-Length: 5\r\n¦Content-Length: 0\r\n¦Transfer-Encoding: chunked\r\n¦X-A: b\r\n¦",
    ) {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        table.head(excerpt(lines), text.clone(), Want::Whole(200, Vec::new()));
        for body in ["hello", "5\r\nhello\r\n0\r\n\r\n", EVIL] {
            let name = format!("{} and {}", excerpt(lines), excerpt(body));
            table.head(name, format!("{text}{body}"), Want::WholeNotReused(200, Vec::new()));
        }
    }
    for (status, lines) in [
        (204, ""),
        (204, "X-A: b\r\n"),
        (204, "Content-Length: 5\r\n"),
        (204, "Content-Length: 0\r\n"),
        (204, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (304, ""),
        (304, "Content-Length: 5\r\n"),
        (304, "Content-Length: 0\r\n"),
        (304, "Transfer-Encoding: chunked\r\n"),
    ] {
        let text = format!("HTTP/1.1 {status} None\r\n{lines}\r\n");
        let name = format!("{status} with {}", excerpt(lines));
        table.add(&name, text.clone(), Want::Whole(status, Vec::new()));
        table.head(&name, text.clone(), Want::Whole(status, Vec::new()));
        for body in ["h", "hello", "5\r\nhello\r\n0\r\n\r\n", EVIL] {
            let whole = Want::WholeNotReused(status, Vec::new());
            table.add(format!("{name} and {}", excerpt(body)), format!("{text}{body}"), whole);
        }
    }
}

fn interims(table: &mut Table) {
    for status in ["100 Continue", "102 Processing", "103 Early Hints", "199 X", "150 "] {
        for count in [1, 2, 16] {
            let text = format!("{}{LENGTH}", format!("HTTP/1.1 {status}\r\n\r\n").repeat(count));
            table.add(format!("{count} times {status}"), text, hello());
        }
        for count in [17, 18, 100, 1_000] {
            let text = format!("{}{LENGTH}", format!("HTTP/1.1 {status}\r\n\r\n").repeat(count));
            table.add(format!("{count} times {status}"), text, Want::BadGateway);
        }
        for lines in each(
            "Content-Length: x¦X : y¦X: \x01¦\
             Connection: a b¦ X: y",
        ) {
            let text = format!("HTTP/1.1 {status}\r\n{lines}\r\n\r\n{LENGTH}");
            table.add(format!("{status} with {}", excerpt(lines)), text, Want::BadGateway);
        }
        // An interim response ends at its head, whatever its fields say.
        for lines in each("Content-Length: 5¦Transfer-Encoding: chunked") {
            let text = format!("HTTP/1.1 {status}\r\n{lines}\r\n\r\n{LENGTH}");
            table.add(format!("{status} that claims {lines}"), text, hello());
        }
        let text = format!("HTTP/1.1 {status}\r\n\r\nhello{LENGTH}");
        table.add(format!("{status} with a body"), text, Want::BadGateway);
    }
    for lines in each(
        "¦Connection: upgrade\r\nUpgrade: websocket\r\n¦Upgrade: websocket\r\n¦\
         Connection: upgrade\r\n¦Connection: upgrade\r\nUpgrade: h2c\r\n¦Content-Length: 5\r\n¦\
         Connection: upgrade\r\nUpgrade: \r\n",
    ) {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
        table.add(format!("101 with {}", excerpt(lines)), text.clone(), Want::BadGateway);
        table.add(format!("101 with {} and more", excerpt(lines)), text + LENGTH, Want::BadGateway);
    }
}

fn limits(table: &mut Table) {
    let with = |lines: &str| LENGTH.replacen("X-A: bc", lines, 1);
    for size in [65_536, 66_000, 200_000] {
        let text = with(&format!("X-A: {}", "b".repeat(size)));
        table.add(format!("a field of {size} bytes"), text, Want::BadGateway);
        let text = LENGTH.replacen("OK", &"O".repeat(size), 1);
        table.add(format!("a reason of {size} bytes"), text, Want::BadGateway);
        let text = with(&format!("{}: b", "X".repeat(size)));
        table.add(format!("a name of {size} bytes"), text, Want::BadGateway);
        table.add(format!("{size} bytes of no line"), "H".repeat(size), Want::BadGateway);
    }
    table.add("a field of 65,000 bytes", with(&format!("X-A: {}", "b".repeat(65_000))), hello());
    for count in [100, 101, 1_000, 5_000] {
        let text = with(&vec!["A: b"; count].join("\r\n"));
        table.add(format!("{count} fields and a length"), text, Want::BadGateway);
    }
    table.add("99 fields and a length", with(&["A: b"; 99].join("\r\n")), hello());
}

/// Bytes of other protocols, or none.
fn foreign(table: &mut Table) {
    for (name, bytes) in [
        ("nothing", &b""[..]),
        ("a byte", b"H"),
        ("HTTP/0.9", b"<html><body>hello</body></html>"),
        ("HTTP/0.9 with a line", b"<html>\nhello\n</html>\n"),
        ("TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"),
        ("TLS handshake", b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03\r\n\r\n"),
        ("HTTP/2 settings", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"),
        ("HTTP/2 goaway", b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("SSH and more", b"SSH-2.0-OpenSSH_9.6\r\n\r\n\x00\x00\x04\x14"),
        ("SMTP", b"220 mail.example ESMTP\r\n"),
        ("FTP", b"220-Welcome\r\n220 ready\r\n\r\n"),
        ("IMAP", b"* OK IMAP4rev1\r\n\r\n"),
        ("Redis", b"-ERR unknown command 'GET'\r\n"),
        ("Redis pong", b"+PONG\r\n\r\n"),
        ("memcached", b"ERROR\r\nERROR\r\n\r\n"),
        ("MySQL", b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00"),
        ("PostgreSQL", b"E\x00\x00\x00\x20SFATAL\x00C0A000\x00\x00"),
        ("AMQP", b"AMQP\x00\x00\x09\x01"),
        ("PROXY v1", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("PROXY v2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\r\n\r\n"),
        ("a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("fields alone", b"Content-Length: 5\r\n\r\nhello"),
        ("JSON", b"{\"status\":200}\r\n\r\n"),
        ("UTF-16", b"\xff\xfeH\x00T\x00T\x00P\x00/\x001\x00.\x001\x00\r\x00\n\x00"),
        ("WebSocket", b"\x81\x05hello"),
    ] {
        table.add(name, bytes, Want::BadGateway);
        table.reset(name, bytes, Want::BadGateway);
    }
    for size in [1, 100, 20_000, 100_000] {
        for byte in [0, b' ', b'\r', b'A', 0xff] {
            let name = format!("{size} times {byte:#04x}");
            table.add(name, vec![byte; size], Want::BadGateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_kind_has_its_share() {
        let all = responses();
        assert!(all.len() >= 110, "{}", all.len());
        let mut seen = HashSet::new();
        let again = all.iter().find(|hostile| !seen.insert(&hostile.name));
        assert_eq!(again.map(|hostile| &hostile.name), None);
        let count = |is: fn(&Want) -> bool| all.iter().filter(|hostile| is(&hostile.want)).count();
        for (kind, count) in [
            ("bad gateway", count(|want| *want == Want::BadGateway)),
            ("whole", count(|want| matches!(want, Want::Whole(..)))),
            ("cut", count(|want| *want == Want::Cut)),
            ("whole, not reused", count(|want| matches!(want, Want::WholeNotReused(..)))),
            ("reset", all.iter().filter(|hostile| hostile.reset).count()),
            ("HEAD", all.iter().filter(|hostile| hostile.method == "HEAD").count()),
        ] {
            println!("{kind}: {count}");
            assert!(count >= 10, "{kind}: {count}");
        }
    }
}
