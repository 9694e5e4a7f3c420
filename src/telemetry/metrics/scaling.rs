//! Metrics of the interfaces for autoscalers.

use super::families::{Families, counter, gauge};
use super::scrape::ScalingFigures;
use prometheus::proto::MetricType;

pub(super) fn scaling(families: &mut Families, scaling: &ScalingFigures) {
    let help = "Calls of the external scaler that ended, by method and status.";
    let ended = families.family("tidegate_scaler_calls_total", help, MetricType::COUNTER);
    for (method, code, count) in &scaling.scaler_calls {
        ended.push(counter(&[("method", method), ("code", code)], *count as f64));
    }
    let help = "Open streams of the external scaler.";
    let open = families.family("tidegate_scaler_streams", help, MetricType::GAUGE);
    open.extend(scaling.scaler_streams.map(|streams| gauge(&[], streams as f64)));
    let Some(webhook) = scaling.webhook else { return };
    let help = "Attempts to deliver a message to the receiver of webhooks, by result.";
    let attempts = families.family("tidegate_webhook_attempts_total", help, MetricType::COUNTER);
    attempts.push(counter(&[("result", "accepted")], webhook.delivered as f64));
    attempts.push(counter(&[("result", "failed")], webhook.failed as f64));
    let help = "Events dropped because too many waited for the receiver of webhooks.";
    families.counter("tidegate_webhook_events_dropped_total", help, webhook.dropped as f64);
    let help = "Events that wait for the receiver of webhooks.";
    families.gauge("tidegate_webhook_events_waiting", help, webhook.waiting as f64);
    let help = "When the receiver of webhooks last accepted a message, in seconds since 1970.";
    let name = "tidegate_webhook_last_accepted_timestamp_seconds";
    families.gauge(name, help, webhook.delivered_at);
}
