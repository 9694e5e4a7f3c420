//! The wait for a response head: its timeout, and its other outcomes.

use super::attempt::Attempt;
use super::failure::Failure;
use super::upload::Progress;
use crate::decision::retry::Kind;
use crate::decision::units::Timestamp;
use crate::http::response::{self, RequestKind, ResponseHead};
use crate::l7::outbound::{Incoming, NoHead};
use crate::refusal::Refusal;
use crate::worker::Worker;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// The interval at which the wait checks whether its endpoint was ejected.
const EJECTION_CHECK: Duration = Duration::from_millis(100);

/// Why no response head arrives.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoResponse {
    Closed {
        begun: bool,
    },
    /// The cluster reports that it has not processed the request.
    Refused,
    Late,
    Malformed,
    Ejected,
}

/// The end of a wait for a response head without a failure.
pub(super) enum Awaited {
    /// A head that ends here in the received bytes.
    Head(usize),
    /// The response is slow: a hedge was granted and follows.
    Slow,
}

/// Whether a request without a response may be sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Again {
    /// Yes: nothing of it was sent.
    Unsent,
    /// Yes: the request is idempotent and its body is at hand.
    Replaceable,
    /// No.
    Never,
}

/// The failure of an attempt without a response head.
pub(super) fn head_failure(error: NoResponse, again: Again) -> Failure {
    match error {
        NoResponse::Refused => Failure::retry(Kind::Unsent, Refusal::UpstreamReset),
        NoResponse::Closed { begun: false } if again == Again::Unsent => {
            Failure::retry(Kind::Unsent, Refusal::UpstreamReset)
        }
        NoResponse::Closed { begun: false } if again == Again::Replaceable => {
            Failure::retry(Kind::Died, Refusal::UpstreamReset)
        }
        NoResponse::Ejected => Failure::granted(Kind::Ejected, Refusal::UpstreamReset),
        NoResponse::Closed { .. } => Failure::refuse(Refusal::UpstreamReset),
        NoResponse::Malformed => Failure::refuse(Refusal::UpstreamMalformed),
        NoResponse::Late => Failure::refuse(Refusal::UpstreamTimeout),
    }
}

/// Receives a response head.
pub(super) async fn read_head<I: Incoming>(
    attempt: &Attempt<'_, '_>,
    progress: &Progress,
    incoming: &mut I,
    head: &mut ResponseHead,
    request_kind: RequestKind<'_>,
    untold: bool,
) -> Result<Awaited, NoResponse> {
    let mut hedge = attempt.hedge.filter(|_| untold).map(|after| attempt.worker.now().plus(after));
    loop {
        match incoming.head(head, request_kind) {
            Ok(end) => return Ok(Awaited::Head(end)),
            Err(NoHead::Partial) => {}
            Err(NoHead::Malformed(why)) => {
                let endpoint = &attempt.selection.signals(attempt.view).address;
                let field = response::offender(incoming.bytes());
                tracing::warn!(%endpoint, why, field, "response of endpoint {endpoint} rejected: {why}");
                return Err(NoResponse::Malformed);
            }
        }
        let left = time_left(attempt, progress);
        if left.is_zero() {
            return Err(NoResponse::Late);
        }
        let begun = !incoming.bytes().is_empty();
        let more = incoming.more(left.min(EJECTION_CHECK));
        let more = match hedge.filter(|_| !begun) {
            None => more.await,
            // Boxed: most exchanges have no hedge.
            Some(due) => match Box::pin(by(attempt.worker, due, more)).await {
                Some(more) => more,
                None => {
                    if is_due(attempt, progress, &mut hedge) {
                        return Ok(Awaited::Slow);
                    }
                    continue;
                }
            },
        };
        match more {
            Ok(0) => return Err(NoResponse::Closed { begun }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // The response may still arrive: the attempt is abandoned only if another endpoint can be
                // tried.
                if untold
                    && attempt.replaceable(progress)
                    && !begun
                    && is_ejected(attempt)
                    && (attempt.may_retry)(Kind::Ejected)
                {
                    return Err(NoResponse::Ejected);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && !begun => {
                return Err(match progress.lost.get() {
                    // The body bytes that were sent cannot be sent again.
                    true => NoResponse::Closed { begun },
                    false => NoResponse::Refused,
                });
            }
            Err(_) => return Err(NoResponse::Closed { begun }),
        }
    }
}

/// The remaining time for the head. The timeout starts when the cluster has the whole request, and does not restart.
fn time_left(attempt: &Attempt<'_, '_>, progress: &Progress) -> Duration {
    match progress.ended.get() {
        Some(since) => attempt.timeout.saturating_sub(attempt.worker.about_now().since(since)),
        None => attempt.timeout,
    }
}

/// Whether a hedge is due because `hedge` has passed since the whole request was sent; if the request was sent later,
/// `hedge` is moved.
fn is_due(attempt: &Attempt<'_, '_>, progress: &Progress, hedge: &mut Option<Timestamp>) -> bool {
    let now = attempt.worker.now();
    let since = progress.complete.get();
    *hedge = attempt.hedge.map(|after| since.unwrap_or(now).plus(after));
    if since.is_none() || hedge.is_none_or(|due| due > now) {
        return false;
    }
    *hedge = None;
    attempt.replaceable(progress) && (attempt.may_retry)(Kind::Slow)
}

/// Waits until `due` with the runtime's timers: hedges need a finer resolution than a tick.
async fn by<F: Future>(worker: &Worker, due: Timestamp, future: F) -> Option<F::Output> {
    tokio::time::timeout(due.since(worker.now()), future).await.ok()
}

/// Whether the endpoint was ejected after it was selected. An endpoint that was removed or drained finishes its
/// exchanges.
fn is_ejected(attempt: &Attempt<'_, '_>) -> bool {
    let latest: Rc<_> = attempt.worker.view();
    let id = attempt.selection.signals(attempt.view).id;
    latest.place(id).is_some() && !latest.uses(id)
}
