//! One line for each exchange: formatted by the worker, written elsewhere, dropped rather than waited
//! for.

use crate::os::clock;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// How lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The common log format.
    Common,
    /// Not at all.
    Off,
}

/// What is told of an exchange.
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
    /// The host asked for.
    pub host: Cow<'a, str>,
    /// The canonical path and query.
    pub path: Cow<'a, str>,
    /// `HTTP/1.1`, `tcp`, ...
    pub protocol: &'a str,
    /// The status sent, 0 for none.
    pub status: u16,
    /// Why it was not served.
    pub refusal: Option<&'a str>,
    /// Who broke it off: what the client has of a response is then not whole.
    pub aborted: Option<&'a str>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// From head to end.
    pub duration_ms: f64,
    /// The route's name.
    pub route: &'a str,
    /// The service's name.
    pub service: &'a str,
    /// Its data classes.
    pub data: Cow<'a, str>,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint's address.
    pub endpoint: Cow<'a, str>,
    /// Why that cluster.
    pub reason: &'a str,
    /// Attempts it took.
    pub attempts: u32,
    /// To connect, when a connection was made.
    pub upstream_connect_ms: Option<f64>,
    /// From sending to the response head.
    pub upstream_first_byte_ms: Option<f64>,
    /// The request's id.
    pub request_id: Cow<'a, str>,
    /// The trace's id.
    pub trace_id: Cow<'a, str>,
    /// The TLS version, when there was TLS.
    pub tls: Option<&'a str>,
    /// The client's software.
    pub user_agent: Cow<'a, str>,
}

const FORMATS: [Format; 3] = [Format::Json, Format::Common, Format::Off];

/// A span as lines give it, to a microsecond.
#[must_use]
pub fn milliseconds(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Where workers hand their lines in.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// A number in `FORMATS`; workers see a change at their next line.
    format: Arc<AtomicUsize>,
    queue: mpsc::Sender<String>,
    registry: Arc<super::cells::Registry>,
}

impl AccessLog {
    /// A log and the lines it takes, at most `capacity` waiting.
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

    /// Writes lines this way from now on.
    pub fn set_format(&self, format: Format) {
        let number = FORMATS.iter().position(|known| *known == format).unwrap_or_default();
        self.format.store(number, Ordering::Relaxed);
    }

    fn format(&self) -> Format {
        FORMATS[self.format.load(Ordering::Relaxed) % FORMATS.len()]
    }

    /// Whether lines are wanted at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.format() != Format::Off
    }

    /// Hands a line in; drops and counts it when the writer is behind.
    pub fn write(&self, line: &Line<'_>) {
        let text = match self.format() {
            Format::Off => return,
            Format::Json => serde_json::to_string(line).unwrap_or_default(),
            Format::Common => common(line),
        };
        if self.queue.try_send(text).is_err() {
            self.registry.log_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn common(line: &Line<'_>) -> String {
    let time = clock::common_log(clock::since_epoch());
    // Everything from outside is escaped: a control byte would forge a line.
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
