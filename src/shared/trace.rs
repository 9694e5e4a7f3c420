//! The spans of one traced exchange or connection, on the way from a worker to the exporter.
//!
//! A trace holds names instead of references: while the collector does not answer, the queue must not keep views in
//! memory. Texts of the client are cut, so that the queue's size is bounded in bytes too.

use crate::decision::units::Dice;
use std::time::Duration;

/// Length of the queue of traces between the workers and the exporter.
pub const TRACES_WAITING: usize = 2_048;

/// An identifier within the trace, and when the span began and ended, since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// The span's id; not 0.
    pub span: u64,
    /// The beginning.
    pub start: Duration,
    /// The end.
    pub end: Duration,
}

/// The ids of a new trace and of its first span. An id of 0 is not valid (W3C Trace Context §3.2.2).
pub fn new_ids(dice: &mut Dice) -> (u128, u64) {
    let trace = u128::from(dice.bits() | 1) << 64 | u128::from(dice.bits());
    (trace, new_span(dice))
}

/// The id of a new span; not 0.
pub fn new_span(dice: &mut Dice) -> u64 {
    dice.bits() | 1
}

/// What the first span of a trace is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Subject {
    /// An HTTP exchange.
    #[default]
    Exchange,
    /// The copy of an exchange for a mirror: a part of the trace of its original.
    Copy,
    /// An L4 connection.
    Connection {
        /// Bytes from the client.
        received: u64,
        /// Bytes to the client.
        sent: u64,
    },
}

/// The spans of one exchange or connection: the exchange itself, and below it its decisions and attempts.
#[derive(Debug, Default)]
pub struct Trace {
    /// The trace's id; not 0.
    pub trace: u128,
    /// The span of the trusted client that sent the request; of a copy, the span of the original.
    pub parent: Option<u64>,
    /// The exchange, or the connection.
    pub exchange: ExchangeSpan,
    /// The decisions, in the order of their beginning.
    pub decisions: Vec<DecisionSpan>,
    /// The attempts, in the order of their beginning.
    pub attempts: Vec<AttemptSpan>,
}

/// The exchange: from the request head to the end of the response, or of the tunnel. Of a connection: from its beginning to
/// its end, without what only a request has.
#[derive(Debug, Default)]
pub struct ExchangeSpan {
    /// Id and times.
    pub timing: Timing,
    /// What the span is about.
    pub subject: Subject,
    /// The method of the request.
    pub method: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The requested host.
    pub host: String,
    /// The path of the request, without its query.
    pub path: String,
    /// `HTTP/1.1`, `HTTP/2.0`, ...
    pub protocol: &'static str,
    /// The client's address.
    pub client: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// The request's id; empty if the exchange ended before it had one.
    pub request_id: String,
    /// The listener's name.
    pub listener: String,
    /// The route's name; empty without a route.
    pub route: String,
    /// The service's name; empty without a service.
    pub service: String,
    /// The cluster of the last attempt, and the reason; empty without an attempt.
    pub cluster: (String, &'static str),
    /// The status sent, 0 for none.
    pub status: u16,
    /// The refusal, if the exchange was not served.
    pub refusal: Option<&'static str>,
    /// The side that aborted the exchange.
    pub aborted: Option<&'static str>,
    /// The number of attempts, those without a span included.
    pub attempts: u32,
}

/// One decision: from its beginning to the selection of an endpoint, waiting for capacity included.
#[derive(Debug, Default)]
pub struct DecisionSpan {
    /// Id and times.
    pub timing: Timing,
    /// The selected cluster, and the reason; `None` if no endpoint was selected.
    pub cluster: Option<(String, &'static str)>,
    /// Nearer clusters and why each was not selected: `NAME:REASON`.
    pub rejected: Vec<String>,
    /// Why no endpoint was selected.
    pub error: Option<&'static str>,
}

/// One attempt: from the beginning of its connection to its end.
#[derive(Debug, Default)]
pub struct AttemptSpan {
    /// Id and times.
    pub timing: Timing,
    /// The cluster's name.
    pub cluster: String,
    /// The endpoint's address.
    pub endpoint: String,
    /// 0 for the first attempt of the exchange.
    pub resend: u32,
    /// The status of the response that was passed on, 0 for none.
    pub status: u16,
    /// Why the attempt failed.
    pub error: Option<&'static str>,
    /// Whether another attempt answered first.
    pub is_cancelled: bool,
}

impl Trace {
    /// The number of spans.
    #[must_use]
    pub fn spans(&self) -> usize {
        1 + self.decisions.len() + self.attempts.len()
    }
}
