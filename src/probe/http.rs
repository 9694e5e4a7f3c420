//! The HTTP probe: one request and the head of its response.

use crate::decision::health::Cause;
use crate::decision::plan::Reports;
use crate::decision::report::Report;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::scan::{Scan, Scanner};
use crate::http::{Limits, Underscores};
use crate::os::stream::Stream;

/// Requests `path`; returns the status and the load report of the response. The request names this proxy's
/// site, so that another edge proxy answers for its own clusters and reports their load.
pub(super) async fn get(
    stream: &mut Stream,
    path: &str,
    host: &str,
    headers: &[(String, String)],
    (reports, site): (Reports, &str),
) -> Result<(u16, Option<Report>), Cause> {
    let host = host.strip_prefix("unix:").map_or(host, |_| "localhost");
    let mut request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tidegate-probe\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if reports == Reports::Tidegate {
        request.push_str(&format!("tidegate-via: {site}\r\n"));
    }
    request.push_str("connection: close\r\n\r\n");
    let (mut reader, mut writer) = stream.split();
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        let write = std::future::poll_fn(|context| writer.poll_write(context, rest)).await;
        rest = match write {
            Ok(count @ 1..) => &rest[count..],
            Ok(0) | Err(_) => return Err(Cause::Reset),
        };
    }
    if std::future::poll_fn(|context| writer.poll_flush(context)).await.is_err() {
        return Err(Cause::Reset);
    }
    let limits = Limits { underscores: Underscores::Allow, ..Limits::default() };
    let mut scanner = Scanner::default();
    let mut bytes = Vec::with_capacity(1024);
    let mut space = [0; 1024];
    loop {
        let read = std::future::poll_fn(|context| reader.poll_read(context, &mut space)).await;
        match read {
            Ok(count @ 1..) => bytes.extend_from_slice(&space[..count]),
            Ok(0) | Err(_) => return Err(Cause::Reset),
        }
        match scanner.advance(&bytes, &limits) {
            Ok(Scan::Partial) => {}
            Ok(Scan::Complete(end)) => {
                let mut head = ResponseHead::default();
                let request_kind = RequestKind { head: false, upgrade: None };
                head.read(&bytes[..end], request_kind, &limits).map_err(|_| Cause::Protocol)?;
                let report =
                    Report::from_headers(reports, |name| head.tidegate_field(&bytes, name));
                return Ok((head.status, report));
            }
            Err(_) => return Err(Cause::Protocol),
        }
    }
}
