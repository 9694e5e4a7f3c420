//! The access log, one line for each exchange: formatted by the worker, written by another thread, dropped while
//! the queue is full.

use crate::os::clock;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Format of the lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The common log format.
    Common,
    /// No access log.
    Off,
}

/// The fields of a line.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line<'a> {
    /// When it ended, RFC 3339.
    pub time: Cow<'a, str>,
    /// The listener's name.
    pub listener: &'a str,
    /// The client's address.
    pub client: Cow<'a, str>,
    /// The method.
    pub method: Cow<'a, str>,
    /// The requested host.
    pub host: Cow<'a, str>,
    /// The canonical path and query.
    pub path: Cow<'a, str>,
    /// `HTTP/1.1`, `tcp`, ...
    pub protocol: &'a str,
    /// The status sent, 0 for none.
    pub status: u16,
    /// The refusal, if the exchange was not served.
    pub refusal: Option<&'a str>,
    /// Which side aborted the exchange before the client had the complete response.
    pub aborted: Option<&'a str>,
    /// Bytes of the request body, tunnel or flow from the client.
    pub bytes_in: u64,
    /// Bytes of the response body, tunnel or flow to the client.
    pub bytes_out: u64,
    /// Bytes of the request head; with HTTP/2 and HTTP/3, of its HTTP/1 form without compression. 0 at L4.
    pub head_bytes_in: u64,
    /// Bytes of the response heads, and with HTTP/1, of the chunk framing of the body.
    pub head_bytes_out: u64,
    /// From the request head to the end of the response.
    pub duration_ms: f64,
    /// The route's name.
    pub route: &'a str,
    /// The service's name.
    pub service: &'a str,
    /// The route's data classes.
    pub data: Cow<'a, str>,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint's address.
    pub endpoint: Cow<'a, str>,
    /// The reason for the cluster.
    pub reason: &'a str,
    /// Number of attempts.
    pub attempts: u32,
    /// The connect time, if a connection was made.
    pub upstream_connect_ms: Option<f64>,
    /// From sending to the response head.
    pub upstream_first_byte_ms: Option<f64>,
    /// The request's id.
    pub request_id: Cow<'a, str>,
    /// The trace's id.
    pub trace_id: Cow<'a, str>,
    /// The TLS version, if TLS was used.
    pub tls: Option<&'a str>,
    /// The client's `User-Agent`.
    pub user_agent: Cow<'a, str>,
}

const FORMATS: [Format; 3] = [Format::Json, Format::Common, Format::Off];

/// A duration in milliseconds, rounded to microseconds.
#[must_use]
pub fn milliseconds(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// The workers' end of the log queue.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// An index into `FORMATS`; workers see a change at their next line.
    format: Arc<AtomicUsize>,
    queue: mpsc::Sender<String>,
    registry: Arc<super::cells::Registry>,
}

impl AccessLog {
    /// A log and its queue of at most `capacity` lines.
    #[must_use]
    pub fn new(
        format: Format,
        capacity: usize,
        registry: Arc<super::cells::Registry>,
    ) -> (AccessLog, mpsc::Receiver<String>) {
        let (queue, lines) = mpsc::channel(capacity);
        let log = AccessLog { format: Arc::default(), queue, registry };
        log.set_format(format);
        (log, lines)
    }

    /// Changes the format of the following lines.
    pub fn set_format(&self, format: Format) {
        let number = FORMATS.iter().position(|known| *known == format).unwrap_or_default();
        self.format.store(number, Ordering::Relaxed);
    }

    fn format(&self) -> Format {
        FORMATS[self.format.load(Ordering::Relaxed) % FORMATS.len()]
    }

    /// Whether the access log is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.format() != Format::Off
    }

    /// Queues a line; drops and counts it when the queue is full.
    pub fn write(&self, line: &Line<'_>) {
        let text = match self.format() {
            Format::Off => return,
            Format::Json => printable(serde_json::to_string(line).unwrap_or_default()),
            Format::Common => common(line),
        };
        if self.queue.try_send(text).is_err() {
            self.registry.log_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// JSON without characters that a terminal interprets or that reorder the displayed text: C1 controls, bidirectional
/// marks and zero-width characters become `\uXXXX`. C0 controls are escaped already.
fn printable(json: String) -> String {
    if json.bytes().all(|byte| byte < 0x7f) {
        return json;
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

fn common(line: &Line<'_>) -> String {
    let time = clock::common_log(clock::since_epoch());
    // Everything from outside is escaped: a control byte could forge a line.
    let escape = |text: &str| -> String { text.escape_default().collect() };
    format!(
        "{} - - [{time}] \"{} {} {}\" {} {}",
        line.client,
        escape(&line.method),
        escape(&line.path),
        line.protocol,
        line.status,
        line.bytes_out
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_are_escaped() {
        let agent = "a\u{9b}31m \u{202e}gpj.exe\u{2066}\u{200f}\u{7f}\u{2028} \u{e4}\u{4e2d}";
        let line = Line { user_agent: agent.into(), host: "h\u{85}".into(), ..Line::default() };
        let registry = Arc::new(super::super::cells::Registry::default());
        let (log, mut lines) = AccessLog::new(Format::Json, 1, registry);
        log.write(&line);
        let text = lines.try_recv().unwrap();
        for c in agent.chars().filter(|c| !c.is_ascii_graphic() && *c != ' ') {
            assert_eq!(text.contains(c), c.is_alphabetic(), "{c:?}: {text}");
        }
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["user_agent"], agent, "a program reads what was sent");
    }

    #[test]
    fn a_line_holds_no_control_byte_and_a_full_queue_drops_and_counts() {
        let registry = Arc::new(super::super::cells::Registry::default());
        for format in [Format::Json, Format::Common] {
            let (log, mut lines) = AccessLog::new(format, 1, registry.clone());
            let line = Line { path: "/a\n\"b\u{1b}".into(), ..Line::default() };
            log.write(&line);
            log.write(&line);
            let text = lines.try_recv().unwrap();
            assert!(!text.chars().any(char::is_control), "{text}");
        }
        assert_eq!(registry.log_dropped.load(Ordering::Relaxed), 2);
    }
}
