//! The codec compared with two other parsers: httparse must read each accepted request in the same way, and hyper
//! must read each forwarded request as one equal request.
//!
//! The opposite is not required: the codec refuses some requests that the others accept (bare line feeds, a length
//! beside a coding, white space before a colon).

use hyper::body::Incoming;
use hyper::service::service_fn;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use tidegate::http::chunked::{self, Decoder, Step};
use tidegate::http::forward::{ClientCert, Edits, RequestContext, write_request};
use tidegate::http::request::RequestHead;
use tidegate::http::scan::{Scan, Scanner};
use tidegate::http::{Framing, Limits};
use tokio::io::AsyncWriteExt;

/// The meaning of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Message {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// Compares the parsers on any bytes; returns whether the codec has accepted them.
///
/// # Panics
/// When the results differ.
pub fn compare(bytes: &[u8]) -> bool {
    let limits = Limits::default();
    let Ok(Scan::Complete(end)) = Scanner::default().advance(bytes, &limits) else { return false };
    let mut head = RequestHead::default();
    if head.read(&bytes[..end], &limits).is_err() {
        return false;
    }
    alike(&head, &bytes[..end]);
    let Some(body) = body(head.framing, &bytes[end..]) else { return true };
    let (method, target) = (head.method().to_owned(), head.target().as_str().to_owned());
    let sent = forwarded(&head, &body);
    let expected = Message { method, target, body };
    assert_eq!(by_hyper(&sent), [expected], "{:?}", String::from_utf8_lossy(&sent));
    true
}

fn alike(head: &RequestHead, bytes: &[u8]) {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if !(line.ends_with(b"HTTP/1.1") || line.ends_with(b"HTTP/1.0")) {
        // httparse does not read later minor versions, which RFC 9110 §2.5 treats as 1.1.
        return;
    }
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Request::new(&mut space);
    let shown = String::from_utf8_lossy(bytes);
    let parsed = theirs.parse(bytes);
    assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())), "{shown:?}");
    assert_eq!(theirs.method, Some(head.method()), "{shown:?}");
    let ours: Vec<(Vec<u8>, Vec<u8>)> = head
        .fields()
        .iter()
        .map(|field| {
            let name = field.name.of(head.bytes()).to_ascii_lowercase();
            (name, field.value.of(head.bytes()).to_vec())
        })
        .collect();
    let theirs: Vec<(Vec<u8>, Vec<u8>)> = theirs
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase().into_bytes(), field.value.to_vec()))
        .collect();
    assert_eq!(ours, theirs, "{shown:?}");
}

/// The body, if it is complete and well-formed.
fn body(framing: Framing, rest: &[u8]) -> Option<Vec<u8>> {
    match framing {
        Framing::None | Framing::Close => Some(Vec::new()),
        Framing::Length(length) => Some(rest.get(..usize::try_from(length).ok()?)?.to_vec()),
        Framing::Chunked => {
            let (mut decoder, mut rest, mut body) = (Decoder::default(), rest, Vec::new());
            loop {
                match decoder.step(rest).ok()? {
                    Step::More => return None,
                    Step::Data { start, end } => {
                        body.extend_from_slice(&rest[start..end]);
                        rest = &rest[end..];
                    }
                    Step::End { .. } => return Some(body),
                }
            }
        }
    }
}

/// The message as forwarded to a cluster.
fn forwarded(head: &RequestHead, body: &[u8]) -> Vec<u8> {
    let context = RequestContext {
        peer: "192.0.2.1",
        trusted: false,
        scheme: "http",
        authority: if head.authority().is_empty() { "empty" } else { head.authority() },
        target: head.target().as_str(),
        request_id: b"id",
        trace_parent: b"00-0-0-00",
        continues_trace: false,
        via: "",
        is_copy: false,
        received: "1.1",
        client_cert: ClientCert::default(),
        edits: Edits::default(),
    };
    let mut out = Vec::new();
    write_request(&mut out, head, &context);
    match head.framing {
        Framing::Chunked => {
            if !body.is_empty() {
                chunked::write_size(&mut out, body.len());
                out.extend_from_slice(body);
                out.extend_from_slice(b"\r\n");
            }
            chunked::write_end(&mut out, b"");
        }
        Framing::None | Framing::Length(_) | Framing::Close => out.extend_from_slice(body),
    }
    out
}

/// The requests that hyper reads from these bytes.
fn by_hyper(bytes: &[u8]) -> Vec<Message> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().unwrap();
    }
    let seen = Rc::new(RefCell::new(Vec::new()));
    let all = seen.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let all = all.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await;
            let body =
                body.map(|body| body.to_bytes().to_vec()).unwrap_or_else(|e| format!("{e}").into());
            let target = parts.uri.path_and_query().map_or("*".to_owned(), ToString::to_string);
            all.borrow_mut().push(Message { method: parts.method.to_string(), target, body });
            Ok::<_, Infallible>(hyper::Response::new(String::new()))
        }
    });
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(bytes.len() + 65_536);
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let io = hyper_util::rt::TokioIo::new(server);
            let mut http = hyper::server::conn::http1::Builder::new();
            http.half_close(true).max_buf_size(1 << 20).max_headers(256);
            if let Err(error) = http.serve_connection(io, service).await {
                let body = format!("hyper: {error}").into_bytes();
                seen.borrow_mut().push(Message {
                    method: String::new(),
                    target: String::new(),
                    body,
                });
            }
        });
    });
    seen.take()
}
