//! The webhook: watches the published figures, and sends messages of the outbox one at a time.
//!
//! A receiver that refuses, hangs or is slow delays only this task: the outbox is bounded, and no other task waits for it.

use super::Scaling;
use super::news::Watch;
use super::outbox::{Message, Outbox, Sender};
use super::post::post;
use crate::decision::scaling::{Webhook, WebhookFigures};
use crate::os::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The counters of the webhook; they outlive its configuration.
#[derive(Debug, Default)]
pub(super) struct Counters {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicUsize,
    /// When a message was last accepted, in milliseconds since 1970; 0 if none was.
    delivered_at: AtomicU64,
}

impl Counters {
    pub(super) fn figures(&self) -> WebhookFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookFigures {
            delivered: count(&self.delivered),
            failed: count(&self.failed),
            dropped: count(&self.dropped),
            waiting: self.waiting.load(Ordering::Relaxed),
            delivered_at: count(&self.delivered_at) as f64 / 1e3,
        }
    }
}

/// Sends the state and its changes to a receiver until the task is aborted.
pub(super) async fn run(scaling: Arc<Scaling>, webhook: Webhook) {
    let identity = scaling.fleet.identity();
    let sender = Sender {
        site: identity.site,
        instance: identity.instance,
        // Another receiver gets other ids.
        started_ms: clock::since_epoch().as_millis(),
    };
    let mut outbox = Outbox::new(sender, webhook.interval, Instant::now());
    let mut watch = Watch::default();
    let mut figures = scaling.published.subscribe();
    let mut dropped = 0;
    let mut error: Option<String> = None;
    let mut sending: JoinSet<Result<(), String>> = JoinSet::new();
    loop {
        tokio::select! {
            // The result first: it decides what is sent next.
            biased;
            Some(result) = sending.join_next(), if !sending.is_empty() => {
                let result = result.unwrap_or_else(|error| Err(error.to_string()));
                note(&webhook, &mut error, &result);
                settle(&scaling.webhook_counters, &mut outbox, result.is_ok());
            }
            changed = figures.changed() => if changed.is_err() {
                return;
            },
        }
        let current = figures.borrow_and_update().clone();
        if !current.is_warm() {
            // The demand is not measured, and the fleet is not heard yet.
            continue;
        }
        let time = clock::rfc3339(clock::since_epoch());
        let view = scaling.shared.view.load();
        outbox.add(watch.observe(&view.plan, &view.signals), &time);
        drop(view);
        if sending.is_empty()
            && let Some(Message { id, body, .. }) = outbox.next(&current, &time, Instant::now())
        {
            sending.spawn(post(webhook.clone(), id, body));
        }
        let (waiting, all_dropped) = outbox.counts();
        let counters = &scaling.webhook_counters;
        counters.waiting.store(waiting, Ordering::Relaxed);
        counters.dropped.fetch_add(all_dropped - dropped, Ordering::Relaxed);
        dropped = all_dropped;
    }
}

fn settle(counters: &Counters, outbox: &mut Outbox, accepted: bool) {
    let now = Instant::now();
    if accepted {
        outbox.delivered(now);
        counters.delivered.fetch_add(1, Ordering::Relaxed);
        let at = u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX);
        counters.delivered_at.store(at, Ordering::Relaxed);
    } else {
        outbox.failed((clock::entropy() % 1024) as f64 / 1024.0, now);
        counters.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Logs a new reason for which messages fail, and the end of the failures.
fn note(webhook: &Webhook, last: &mut Option<String>, result: &Result<(), String>) {
    let receiver = &webhook.authority;
    match result {
        Ok(()) if last.is_some() => {
            tracing::info!(receiver, "webhook accepted again by {receiver}");
            *last = None;
        }
        Err(error) if last.as_ref() != Some(error) => {
            tracing::warn!(receiver, error, "webhook not accepted by {receiver}: {error}");
            *last = Some(error.clone());
        }
        Ok(()) | Err(_) => {}
    }
}
