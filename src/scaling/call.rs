//! One gRPC call: its request message, its response messages and its status.
//!
//! # Bounds
//! A request has at most [`MESSAGE_MAX`] bytes and must be complete within [`READ`]. A client that does not read a
//! message within [`WRITE`] loses its call.

use crate::http::grpc;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bytes of a request message.
const MESSAGE_MAX: usize = 64 * 1024;
/// The time for a whole request.
pub(super) const READ: Duration = Duration::from_secs(5);
/// The time in which a client must accept a message.
const WRITE: Duration = Duration::from_secs(10);
/// The prefix of a message: a flag and a length.
const PREFIX: usize = 5;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The status codes in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    Ok,
    /// The client has ended the call, so that nothing is sent.
    Cancelled,
    InvalidArgument,
    DeadlineExceeded,
    ResourceExhausted,
    Unimplemented,
    Unavailable,
}

impl Code {
    /// All codes, in the order of their counters.
    pub(super) const ALL: [Code; 7] = [
        Code::Ok,
        Code::Cancelled,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Unimplemented,
        Code::Unavailable,
    ];

    fn number(self) -> u8 {
        match self {
            Code::Ok => 0,
            Code::Cancelled => 1,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::ResourceExhausted => 8,
            Code::Unimplemented => 12,
            Code::Unavailable => 14,
        }
    }

    /// The word in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Code::Ok => "ok",
            Code::Cancelled => "cancelled",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::ResourceExhausted => "resource_exhausted",
            Code::Unimplemented => "unimplemented",
            Code::Unavailable => "unavailable",
        }
    }
}

/// The end of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Status {
    pub(super) code: Code,
    /// For the operator who reads the client's log; empty for `Ok`.
    pub(super) message: String,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    pub(super) fn ok() -> Status {
        Status::new(Code::Ok, "")
    }

    pub(super) fn late() -> Status {
        Status::new(Code::DeadlineExceeded, "the deadline of the call is over")
    }

    fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(STATUS, HeaderValue::from(u16::from(self.code.number())));
        if !self.message.is_empty()
            && let Ok(message) = HeaderValue::try_from(grpc::message_value(&self.message))
        {
            fields.insert(MESSAGE, message);
        }
        fields
    }
}

/// The client has reset the call, or does not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// The response of a call. The head is sent with the first message; a call without a message ends with its head.
pub(super) struct Answer {
    head: Option<SendResponse<Bytes>>,
    body: Option<SendStream<Bytes>>,
}

impl Answer {
    pub(super) fn new(head: SendResponse<Bytes>) -> Answer {
        Answer { head: Some(head), body: None }
    }

    /// Refuses a request that is not gRPC.
    pub(super) fn refuse_http(mut self, status: http::StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if let Some(mut head) = self.head.take()
            && let Err(error) = head.send_response(response, true)
        {
            tracing::debug!(%error, "scaler: refusal not sent");
        }
    }

    /// Sends the head of a stream before its first message.
    pub(super) fn begin(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        if let Some(mut head) = self.head.take() {
            let body = head.send_response(head_of(HeaderMap::new()), false).map_err(|_| Gone)?;
            self.body = Some(body);
        }
        self.body.as_mut().ok_or(Gone)
    }

    /// Sends a message, once the client accepts it.
    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), Gone> {
        let body = self.begin()?;
        let mut frame = BytesMut::with_capacity(PREFIX + message.len());
        frame.extend_from_slice(&[0]);
        frame.extend_from_slice(&u32::try_from(message.len()).map_err(|_| Gone)?.to_be_bytes());
        frame.extend_from_slice(message);
        body.reserve_capacity(frame.len());
        while body.capacity() < frame.len() {
            let more = std::future::poll_fn(|context| body.poll_capacity(context));
            if !matches!(timeout(WRITE, more).await, Ok(Some(Ok(_)))) {
                body.send_reset(Reason::CANCEL);
                return Err(Gone);
            }
        }
        body.send_data(frame.freeze(), false).map_err(|_| Gone)
    }

    /// Waits until the client resets the call.
    pub(super) async fn reset(&mut self) {
        match &mut self.body {
            Some(body) => {
                let reset = std::future::poll_fn(|context| body.poll_reset(context)).await;
                tracing::trace!(?reset, "scaler: call cancelled");
            }
            None => std::future::pending().await,
        }
    }

    /// Ends the call.
    pub(super) fn end(self, status: &Status) -> Result<(), Gone> {
        match (self.head, self.body) {
            (Some(mut head), _) => {
                head.send_response(head_of(status.fields()), true).map(drop).map_err(|_| Gone)
            }
            (None, Some(mut body)) => body.send_trailers(status.fields()).map_err(|_| Gone),
            (None, None) => Err(Gone),
        }
    }
}

fn head_of(mut fields: HeaderMap) -> Response<()> {
    fields.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut response = Response::new(());
    *response.headers_mut() = fields;
    response
}

/// The moment at which a call must have ended, if its client has set one.
pub(super) fn deadline(fields: &HeaderMap) -> Option<Instant> {
    let timeout = grpc::timeout(fields.get("grpc-timeout")?.as_bytes())?;
    Instant::now().checked_add(timeout)
}

/// The request message of a call.
///
/// # Errors
/// The status for a request that is not one message of bounded size.
pub(super) async fn read(body: &mut RecvStream) -> Result<Vec<u8>, Status> {
    let wrong = |message: &str| Status::new(Code::InvalidArgument, message);
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(|_| wrong("the request ended early"))?;
        if bytes.len() + part.len() > PREFIX + MESSAGE_MAX {
            let message = format!("a request has at most {MESSAGE_MAX} bytes");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        bytes.extend_from_slice(&part);
        if body.flow_control().release_capacity(part.len()).is_err() {
            return Err(wrong("the request ended early"));
        }
    }
    let Some((prefix, message)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(wrong("the request has no message"));
    };
    let [flag, length @ ..] = prefix;
    match (flag, usize::try_from(u32::from_be_bytes(*length))) {
        (0, Ok(length)) if length == message.len() => Ok(message.to_vec()),
        (0, _) => Err(wrong("the request is not exactly one message")),
        _ => Err(Status::new(Code::Unimplemented, "compressed messages are not supported")),
    }
}
