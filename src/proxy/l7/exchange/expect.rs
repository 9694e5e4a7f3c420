//! A request that waits for `100 Continue` (RFC 9110 §10.1.1), and a cluster that says nothing.
//!
//! Many clusters never say 100, and clients wait a second or more for it. A cluster that is silent for
//! [`SILENCE`] will not say 100: then we do, and the body goes on. A body that has come already is sent
//! without any of that (`upload`).

use super::failure::Failure;
use super::upload::{Both, Phase};
use crate::http::Limits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::proxy::l7::client::Response;
use crate::proxy::l7::outbound::Incoming;
use std::future::Future;
use std::io;
use std::time::Duration;

/// For so long a cluster may think about it.
const SILENCE: Duration = Duration::from_millis(50);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Waits for a cluster's first word while the head is on its way; where none comes, has the body go on.
pub(super) async fn settle<U: Future<Output = ()>, I: Incoming, R: Response>(
    both: &mut Both<'_, U>,
    incoming: &mut I,
    response: &mut R,
) -> Result<(), Failure> {
    let Ok(event) = both.and(incoming.more(SILENCE), Phase::Waiting).await else {
        return Err(both.client_failure());
    };
    // Any other end is met again by whoever reads the head.
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
