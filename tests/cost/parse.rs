//! The parsing and forwarding of a usual request head, and the parsing of its response.

use std::hint::black_box;
use tidegate::http::Limits;
use tidegate::http::request::RequestHead;
use tidegate::http::response::{RequestKind, ResponseHead};
use tidegate::http::scan::Scanner;

const REQUEST: &[u8] = b"GET /shop/items?page=2&sort=price HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.8\r\nCookie: session=0123456789abcdef; theme=dark\r\nConnection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 29 Nov 2026 08:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 1024\r\nConnection: keep-alive\r\nETag: \"65f-400\"\r\nAccept-Ranges: bytes\r\n\r\n";

/// Parses both heads this often.
pub fn run(count: u64) {
    let limits = Limits::default();
    let (mut request, mut response) = (RequestHead::EMPTY, ResponseHead::default());
    for _ in 0..count {
        Scanner::default().advance(black_box(REQUEST), &limits).unwrap();
        request.read(REQUEST, &limits).unwrap();
        Scanner::default().advance(black_box(RESPONSE), &limits).unwrap();
        let kind = RequestKind { head: false, upgrade: None };
        response.read(RESPONSE, kind, &limits).unwrap();
        black_box((&request, &response));
    }
}
