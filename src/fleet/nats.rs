//! Publishes reports on NATS, and receives those of other proxies.
//!
//! Each proxy publishes its own report to its site once a second; one proxy of a site publishes the sum over the site
//! every two seconds. The rules are in `crate::decision::fleet::broadcast`.
//!
//! # Bounds
//! Without a connection, a report is dropped and counted. At most [`QUEUED_IN`] messages wait to be read on each of two
//! subscriptions; the client drops further ones, and they are counted as `flood`. At most [`QUEUED_OUT`] messages wait to
//! be sent while the connection stalls.
//!
//! # Connections
//! The client reconnects by itself [`ATTEMPTS`] times, to discovered servers too. After that, and before the first
//! connection, this task creates a new client for each attempt, so that the error can be shown and the credentials are
//! read anew. A client without users, after a reload, ends with its last attempt: the client cannot be aborted.

use super::{Fleet, LINE_MAX, read};
use crate::decision::fleet::broadcast::{Publisher, Scope, subjects};
use crate::decision::fleet::{FORGIVEN, Identity, Nats, Refused, Report};
use crate::nats::connect;
use crate::os::clock;
use async_nats::connection::State;
use async_nats::{Client, Event, Message, Subscriber};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::StreamExt;

/// Between two reports.
const EVERY: Duration = Duration::from_secs(1);
/// Reports before the first sum over the site, so that the members of the site are known by then.
const ALONE: u64 = 2;
/// Messages that wait to be read on a subscription.
const QUEUED_IN: usize = 128;
/// Messages that wait to be sent.
const QUEUED_OUT: usize = 4;
/// How long a report may wait for its place among them.
const QUEUED: Duration = Duration::from_millis(50);
/// Attempts of one client in a row.
const ATTEMPTS: usize = 4;
/// A proxy that returns is asked before an incarnation with a smaller number is accepted.
const _: () = assert!(connect::PAUSE_MAX.as_secs() < FORGIVEN.as_secs());

/// Publishes and receives for ever.
pub(super) async fn follow(fleet: Arc<Fleet>, nats: Nats) {
    let mut failures = 0;
    loop {
        let (connected, error) = session(&fleet, &nats).await;
        failures = if connected { 1 } else { failures + 1 };
        fleet.nats_disconnected(&error);
        sleep(connect::pause(failures)).await;
    }
}

/// One client, until it ends. Whether it was connected, and why it has ended.
async fn session(fleet: &Arc<Fleet>, nats: &Nats) -> (bool, String) {
    let client = match client(fleet, nats).await {
        Ok(client) => client,
        Err(error) => return (false, error),
    };
    let site = fleet.identity().site;
    let [members, sites] = subjects(&nats.subject, &site);
    let subscribed =
        async { Ok((client.subscribe(members).await?, client.subscribe(sites).await?)) };
    let subscribed: Result<_, async_nats::SubscribeError> = subscribed.await;
    match subscribed {
        Ok(subscribed) => (true, exchange(fleet, nats, &client, subscribed).await),
        Err(error) => (true, error.to_string()),
    }
}

async fn client(fleet: &Arc<Fleet>, nats: &Nats) -> Result<Client, String> {
    let events = Arc::downgrade(fleet);
    let options = connect::options(&nats.servers, fleet.identity().instance)
        .no_echo()
        .subscription_capacity(QUEUED_IN)
        .client_capacity(QUEUED_OUT)
        .max_reconnects(ATTEMPTS.max(nats.servers.urls.len()))
        .reconnect_delay_callback(|attempts| match attempts {
            0 | 1 => Duration::ZERO,
            more => connect::pause(more),
        })
        .event_callback(move |event| count(events.clone(), event));
    connect::connect(&nats.servers, options).await
}

/// Counts messages that the client dropped because they were not read in time.
fn count(fleet: Weak<Fleet>, event: Event) -> std::future::Ready<()> {
    if let (Event::SlowConsumer(_), Some(fleet)) = (&event, fleet.upgrade()) {
        fleet.refuse(Refused::Flood);
    }
    tracing::debug!(%event, "NATS");
    std::future::ready(())
}

/// Publishes and receives until the client ends.
async fn exchange(
    fleet: &Fleet,
    nats: &Nats,
    client: &Client,
    (mut members, mut sites): (Subscriber, Subscriber),
) -> String {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = 0;
    loop {
        // The tick first: it is due once a second, and a flood of messages must not keep reports from being sent.
        let message = tokio::select! {
            biased;
            _ = ticks.tick() => None,
            message = members.next() => Some(message),
            message = sites.next() => Some(message),
        };
        match message {
            Some(Some(message)) => fleet.merge_published(nats, &message),
            Some(None) => return "connection lost".to_owned(),
            None => {
                rounds += 1;
                publish(fleet, nats, client, rounds).await;
            }
        }
    }
}

/// Publishes what is due now, or drops it.
async fn publish(fleet: &Fleet, nats: &Nats, client: &Client, rounds: u64) {
    if client.connection_state() != State::Connected {
        fleet.nats_disconnected("connection lost");
        fleet.nats_dropped();
        return;
    }
    fleet.nats_connected();
    for (publisher, report) in fleet.due(rounds) {
        let sent = client.publish(publisher.subject(&nats.subject), report.into());
        match timeout(QUEUED, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "report not published");
                fleet.nats_dropped();
            }
            Err(_) => fleet.nats_dropped(),
        }
    }
}

impl Fleet {
    /// Merges a message, or counts the reason for its refusal.
    fn merge_published(&self, nats: &Nats, message: &Message) {
        let now = clock::now();
        let own = self.identity();
        let mut state = self.state();
        let state = &mut *state;
        let Some(bus) = &mut state.bus else { return };
        let publisher = Publisher::read(&nats.subject, &message.subject);
        let heard = match &publisher {
            None => Err(Refused::Name),
            // Too long a message is not even copied.
            Some(_) if message.payload.len() > LINE_MAX => Err(Refused::Oversize),
            Some(publisher) => bus
                .intake
                .admit(publisher, &state.members, now)
                .and_then(|()| read(&message.payload))
                .and_then(|report| state.members.merge_published(publisher, &own, report, now)),
        };
        let is_ours =
            |publisher: &Publisher| publisher.scope == Scope::Site && publisher.site == own.site;
        if heard.is_ok() && publisher.as_ref().is_some_and(is_ours) {
            bus.summed = now;
        }
        self.use_samples(state.members.take_told());
        if let Err(reason) = heard {
            self.refuse(reason);
        }
    }

    /// The reports to publish in this round: this proxy's own, and the sum over the site if this proxy has to publish it.
    fn due(&self, rounds: u64) -> Vec<(Publisher, String)> {
        let now = clock::now();
        let mut state = self.state();
        state.sequence += 1;
        let own = self.own(&state);
        state.members.forget_silent(&own.by.site, now);
        let publisher = |scope: Scope| Publisher {
            scope,
            site: own.by.site.clone(),
            instance: own.by.instance.clone(),
        };
        let mut all = vec![(publisher(Scope::Member), payload(&own.for_members()))];
        let after = state.members.sum_due_after(&own.by, own.leaving, now);
        let sum = state.members.site(&own, now);
        if let (Some(bus), Some(after)) = (&mut state.bus, after.filter(|_| rounds > ALONE))
            && now.since(bus.summed) >= after
        {
            bus.summed = now;
            all.push((publisher(Scope::Site), payload(&sum)));
        }
        all
    }

    fn nats_connected(&self) {
        let mut state = self.state();
        let Some(bus) = &mut state.bus else { return };
        bus.error = None;
        if bus.lost.take().is_some() {
            tracing::info!("NATS connected");
        }
    }

    /// Notes why there is no connection; a new reason is logged.
    fn nats_disconnected(&self, error: &str) {
        let mut state = self.state();
        let Some(bus) = &mut state.bus else { return };
        bus.lost.get_or_insert_with(clock::now);
        if bus.error.as_deref() != Some(error) {
            bus.error = Some(error.to_owned());
            tracing::warn!("NATS not connected: {error}");
        }
    }

    fn nats_dropped(&self) {
        if let Some(bus) = &mut self.state().bus {
            bus.dropped += 1;
        }
    }
}

/// The report as it is published: the subject has site and instance, and loans are left out.
pub(super) fn payload(report: &Report) -> String {
    let mut report = report.clone();
    report.by = Identity { incarnation: report.by.incarnation, ..Identity::default() };
    report.wants.clear();
    report.grants.clear();
    serde_json::to_string(&report).unwrap_or_default()
}
