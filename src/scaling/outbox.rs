//! The messages to the receiver of webhooks: at least once, bounded, the latest state first.
//!
//! * A message is the whole state, with the events that were not delivered yet. Whoever misses messages has the state with
//!   the next one.
//! * One message is in flight. It is repeated with the same id and the same bytes until the receiver accepts it, or until it
//!   has failed [`ATTEMPTS`] times and there is news: then a message with the latest state replaces it.
//! * An event has an id of its own and is part of every message until one is delivered. At most [`EVENTS_MAX`] events wait;
//!   beyond that the oldest is dropped and counted.
//!
//! # Not here
//! Connections (`post`). Time is an argument.

use super::figures::Figures;
use super::news::News;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Events that wait for delivery.
pub(super) const EVENTS_MAX: usize = 64;
/// Attempts before news replaces a message.
const ATTEMPTS: u32 = 5;
/// The least time between two messages.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after the first failure; each further failure doubles the pause.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The sender of the messages, as they name it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    pub(super) site: String,
    pub(super) instance: String,
    /// When it began to send, in milliseconds since 1970: later ids differ from those of an earlier start.
    pub(super) started_ms: u128,
}

/// A message to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: Bytes,
    events: usize,
    failures: u32,
}

/// The messages of one proxy to one receiver.
#[derive(Debug)]
pub(super) struct Outbox {
    sender: Sender,
    interval: Duration,
    /// Numbers messages and events.
    last_id: u64,
    events: VecDeque<Value>,
    dropped: u64,
    /// The message in flight, or the one that failed.
    current: Option<Message>,
    /// The state of the last message, without rates.
    told: Option<Vec<Value>>,
    /// When the next message may be sent, and when one is sent although nothing has changed.
    next: Instant,
    due: Instant,
}

impl Outbox {
    pub(super) fn new(sender: Sender, interval: Duration, now: Instant) -> Outbox {
        Outbox {
            sender,
            interval,
            last_id: 0,
            events: VecDeque::new(),
            dropped: 0,
            current: None,
            told: None,
            next: now,
            due: now,
        }
    }

    fn id(&mut self) -> String {
        self.last_id += 1;
        let Sender { instance, started_ms, .. } = &self.sender;
        format!("{instance}/{started_ms}/{}", self.last_id)
    }

    /// Adds events, with the time at which they happened.
    pub(super) fn add(&mut self, news: Vec<News>, time: &str) {
        for News { kind, service, from, to } in news {
            if self.events.len() == EVENTS_MAX {
                self.drop_oldest();
            }
            let mut event =
                json!({"id": self.id(), "time": time, "kind": kind.label(), "service": service});
            if let (Some(fields), Some(from)) = (event.as_object_mut(), from) {
                fields.insert("from".to_owned(), json!(from));
                fields.insert("to".to_owned(), json!(to));
            }
            self.events.push_back(event);
        }
    }

    fn drop_oldest(&mut self) {
        self.events.pop_front();
        self.dropped += 1;
        if let Some(message) = &mut self.current {
            message.events = message.events.saturating_sub(1);
        }
    }

    /// Events that wait, and events that were dropped.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.events.len(), self.dropped)
    }

    /// The message to send now, if one is due.
    pub(super) fn next(&mut self, figures: &Figures, time: &str, now: Instant) -> Option<Message> {
        if now < self.next {
            return None;
        }
        let state = state(figures, false);
        let is_news = self.told.as_ref() != Some(&state);
        if let Some(message) = &self.current {
            let has_news = is_news || self.events.len() > message.events;
            if message.failures < ATTEMPTS || !has_news {
                return Some(message.clone());
            }
        } else if !is_news && self.events.is_empty() && now < self.due {
            return None;
        }
        let id = self.id();
        let body = json!({
            "id": id,
            "time": time,
            "site": self.sender.site,
            "instance": self.sender.instance,
            "events": self.events,
            "desired": self::state(figures, true),
        });
        let body = Bytes::from(body.to_string());
        let message = Message { id, body, events: self.events.len(), failures: 0 };
        self.told = Some(state);
        self.current = Some(message.clone());
        Some(message)
    }

    /// The message was accepted.
    pub(super) fn delivered(&mut self, now: Instant) {
        if let Some(message) = self.current.take() {
            self.events.drain(..message.events.min(self.events.len()));
        }
        (self.next, self.due) = (now + PAUSE, now + self.interval);
    }

    /// The message was not accepted. `part` is a random number from 0 to 1, so that proxies do not repeat in lockstep.
    pub(super) fn failed(&mut self, part: f64, now: Instant) {
        let Some(message) = &mut self.current else { return };
        let pause = RETRY.saturating_mul(1 << message.failures.min(6)).min(RETRY_MAX);
        message.failures = message.failures.saturating_add(1);
        self.next = now + pause.mul_f64(0.5 + 0.5 * part.clamp(0.0, 1.0));
    }
}

/// The desired replicas; the rates change all the time and are no news.
fn state(figures: &Figures, with_rates: bool) -> Vec<Value> {
    let row = |(service, cluster, row): (&str, &str, super::figures::Row)| {
        let mut value = json!({
            "service": service,
            "cluster": cluster,
            "active": row.is_active,
            "replicas": row.is_known.then_some(row.replicas),
        });
        if let Some(fields) = value.as_object_mut().filter(|_| with_rates) {
            fields.insert("requests_per_s".to_owned(), json!((row.rps * 10.0).round() / 10.0));
        }
        value
    };
    figures.rows().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::news::Kind;
    use super::*;

    fn failover(service: &str) -> Vec<News> {
        let from = Some("idc".to_owned());
        vec![News { kind: Kind::Failover, service: service.to_owned(), from, to: None }]
    }

    fn start() -> (Outbox, Instant) {
        let now = Instant::now();
        let sender =
            Sender { site: "east".to_owned(), instance: "gw-1:1".to_owned(), started_ms: 7 };
        (Outbox::new(sender, Duration::from_secs(30), now), now)
    }

    fn body(message: &Message) -> Value {
        serde_json::from_slice(&message.body).unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_state_is_sent_at_first_on_change_and_after_the_interval() {
        let (mut outbox, now) = start();
        let figures = Figures::default();
        let first = outbox.next(&figures, "t", now).unwrap();
        assert_eq!((first.id.as_str(), &body(&first)["site"]), ("gw-1:1/7/1", &json!("east")));
        outbox.delivered(now);
        assert_eq!(outbox.next(&figures, "t", now + 29 * SECOND), None, "nothing is new");
        outbox.add(failover("shop"), "t");
        assert_eq!(outbox.next(&figures, "t", now), None, "a pause between messages");
        let told = outbox.next(&figures, "t", now + SECOND).unwrap();
        assert_eq!(body(&told)["events"][0]["kind"], "failover");
        outbox.delivered(now + SECOND);
        assert_eq!(outbox.counts(), (0, 0));
        assert!(outbox.next(&figures, "t", now + 31 * SECOND).is_some(), "the interval is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_message_is_repeated_as_it_was_until_news_replaces_it_and_no_event_is_lost() {
        let (mut outbox, mut now) = start();
        let figures = Figures::default();
        outbox.add(failover("shop"), "t");
        let first = outbox.next(&figures, "t", now).unwrap();
        let mut waits = Vec::new();
        for attempt in 1..=8 {
            outbox.failed(1.0, now);
            let begun = now;
            let again = loop {
                match outbox.next(&figures, "later", now) {
                    Some(message) => break message,
                    None => now += Duration::from_millis(100),
                }
            };
            waits.push((now - begun).as_secs());
            assert_eq!((&again.id, &again.body), (&first.id, &first.body), "attempt {attempt}");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        outbox.add(failover("orders"), "t");
        let latest = outbox.next(&figures, "t", now).unwrap();
        assert_ne!(latest.id, first.id);
        let events = body(&latest)["events"].clone();
        assert_eq!([&events[0]["service"], &events[1]["service"]], ["shop", "orders"]);
        assert_eq!(events[0]["id"], body(&first)["events"][0]["id"], "the event keeps its id");
        outbox.add(failover("late"), "t");
        outbox.delivered(now);
        assert_eq!(outbox.counts(), (1, 0), "an event after the message waits for the next one");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_events_are_dropped_and_counted() {
        let (mut outbox, now) = start();
        outbox.add(failover("shop"), "t");
        outbox.next(&Figures::default(), "t", now).unwrap();
        (0..EVENTS_MAX + 9).for_each(|_| outbox.add(failover("orders"), "t"));
        assert_eq!(outbox.counts(), (EVENTS_MAX, 10));
        outbox.delivered(now);
        assert_eq!(outbox.counts(), (EVENTS_MAX, 10), "the delivered event was dropped before");
    }
}
