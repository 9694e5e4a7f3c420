//! Handles `Expect: 100-continue` (RFC 9110 §10.1.1) when the cluster is silent.
//!
//! Many clusters never send 100, and clients wait a second or more for it. If a cluster is silent for [`SILENCE`],
//! the proxy sends 100 itself and forwards the body. If the body has already arrived, it is sent without this wait
//! (`upload`).

use super::failure::Failure;
use super::upload::{Both, Phase};
use crate::http::Limits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::l7::client::Response;
use crate::l7::outbound::Incoming;
use std::future::Future;
use std::io;
use std::time::Duration;

/// The time that a cluster has to answer.
const SILENCE: Duration = Duration::from_millis(50);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Waits for the cluster's first answer while the head is sent; without an answer, forwards the body.
pub(super) async fn settle<U: Future<Output = ()>, I: Incoming, R: Response>(
    both: &mut Both<'_, U>,
    incoming: &mut I,
    response: &mut R,
) -> Result<(), Failure> {
    let Ok(event) = both.and(incoming.more(SILENCE), Phase::Waiting).await else {
        return Err(both.client_failure());
    };
    // Any other error will occur again when the head is read.
    let is_silent = event.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
    if !is_silent || both.progress.open.get() {
        return Ok(());
    }
    let mut head = ResponseHead::default();
    let request_kind = RequestKind { head: false, upgrade: None };
    if head.read(CONTINUE, request_kind, &Limits::default()).is_ok() {
        response.interim(&head, CONTINUE).await.map_err(|_| Failure::OVER)?;
    }
    both.progress.open_gate();
    Ok(())
}
