//! Forwards a request: selection, connection, attempt, and retries if allowed.

use super::affinity;
use super::attempt::{Attempt, Ended, Start};
use super::context::{Bound, Exchange, STALE_MAX, Walk};
use super::failure::{Failure, Retry, What};
use super::hedge::{PendingPrimary, PrimaryGuard, PrimarySlot};
use super::record::Record;
use super::request_head::{Granted, Identity, compose};
use super::request_key::{hash_key, stratum};
use super::send;
use super::upload::ReadWhole;
use super::variables::{Values, edits_with};
use crate::buffer::{give_back_scratch, lend_scratch};
use crate::deadline::ENDLESS;
use crate::decision::plan::ClassIndex;
use crate::decision::retry::{self, Kind};
use crate::decision::template::Template;
use crate::http::field::Role;
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::l7::client::{Client, RequestBody};
use crate::l7::connection_info::ConnectionInfo;
use crate::refusal::Refusal;
use crate::selection::{InFlight, Reach, Selection, Tried, is_shed, select};
use crate::shared::{Meter, View};
use crate::telemetry::results::{HedgeResult, RetryResult};
use crate::upstream::connect::UpstreamConnection;
use crate::upstream::pool::Connection;
use crate::worker::Worker;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

/// The work that is left after an exchange.
pub enum After {
    /// The next request, if the client's connection is kept.
    Next,
    /// A tunnel: bytes in both directions.
    Tunnel(Box<Upgraded>),
}

/// A connection to a cluster that became a tunnel, counted until it ends.
pub struct Upgraded {
    /// The connection.
    pub connection: Box<Connection>,
    /// The counts.
    pub counts: InFlight,
    /// Counts the bytes from the cluster.
    pub meter: Meter,
}

/// Forwards a request of a class: selection, attempt, and retries if allowed.
pub(super) async fn forward<C: Client>(
    worker: &Worker,
    view: &View,
    client: &mut C,
    info: &ConnectionInfo,
    record: &mut Record,
    bound: &Bound<'_>,
    read_whole: Option<ReadWhole<'_>>,
) -> Result<After, Failure> {
    let Bound { class, terms, .. } = *bound;
    record.class = Some(class);
    let index = view.plan.classes[class].service;
    if !bound.is_copy {
        worker.with_budget(view, index, |budget| budget.request(worker.about_now()));
    }
    let names = (bound.ids, bound.is_copy);
    let identity = Identity::new(worker, client.head(), (info, client.protocol()), record, names);
    let exchange = Exchange {
        worker,
        view,
        info,
        bound,
        identity,
        read_whole,
        client: info.client(client.head()),
        key: hash_key(terms.hash_key.as_ref(), client.head(), info),
        says_grpc: grpc::is_grpc(client.head().value(Role::ContentType)),
        primary_slot: PrimarySlot::default(),
    };
    let priority = match bound.is_copy {
        true => 0,
        false => terms.priority,
    };
    if is_shed(worker, view, class, priority) {
        record.unplaced = true;
        return Err(Failure::refuse(Refusal::Overloaded));
    }
    let mut walk = Walk::of(bound);
    walk.tried.stay = exchange.cookie().and_then(|cookie| affinity::stay(&cookie, client.head()));
    let mut pending: Option<Box<PendingPrimary<'_>>> = None;
    loop {
        let (selection, start) = match pending.take() {
            Some(pending) => {
                record.goes_on(&pending.selection);
                (pending.selection, Ok(Some(Start::Resumed(pending.waiting))))
            }
            None => match exchange.begin(client, &mut walk, record).await {
                Ok(begun) => begun,
                Err(failure) => {
                    record.undecided(worker, failure);
                    pending = Some(exchange.primary_slot.take().ok_or(failure)?);
                    continue;
                }
            },
        };
        let ended = match start {
            Ok(Some(start)) => exchange.attempt(client, &mut walk, record, &selection, start).await,
            Ok(None) => Ok(Ended::Overtaken),
            Err(failure) => Err(failure),
        };
        let head = client.head();
        pending = match exchange.follow(ended, selection, &mut walk, record, head)? {
            ControlFlow::Break(after) => return Ok(after),
            ControlFlow::Continue(pending) => pending,
        };
    }
}

impl<'v> Exchange<'_, 'v> {
    /// Selects an endpoint and connects to it, unless the pending primary is answered meanwhile (`None`). The inner
    /// error is the attempt's; the outer error means that no endpoint was selected.
    async fn begin<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        record: &mut Record,
    ) -> Result<(Selection, Result<Option<Start<'v>>, Failure>), Failure> {
        let (worker, view, Bound { class, reach, .. }) = (self.worker, self.view, *self.bound);
        if let Some(trace) = &mut record.trace {
            trace.decides(worker.now());
        }
        let selection = match select(worker, view, class, &walk.tried, self.key, reach) {
            Ok(selection) => selection,
            // Boxed: seldom used, and the future of every exchange should stay small.
            Err(refusal) => Box::pin(self.wait_for_capacity(client, walk, refusal)).await?,
        };
        record.attempt(worker, &selection);
        let way = (self.info.origin, client.head().upgrade().is_some());
        let primary = PrimaryGuard::of(&self.primary_slot);
        let start = match primary.waits() {
            // Boxed: seldom used, and the future of every exchange should stay small.
            true => Box::pin(self.connect_beside(client, walk, record, &selection, primary)).await,
            false => {
                let connected = match self.idle_connection(way, walk, record, &selection) {
                    Some(idle) => Ok(idle),
                    // Boxed: most exchanges find an idle connection.
                    None => {
                        Box::pin(self.connect(Some(client), way, walk, record, &selection)).await
                    }
                };
                connected.map(|carrier| Some(Start::Fresh(carrier)))
            }
        };
        // The hedge is counted only when it is actually sent.
        let sent = matches!(start, Ok(Some(_))) && std::mem::take(&mut walk.hedging);
        record.hedges[HedgeResult::Sent].add(u64::from(sent));
        Ok((selection, start))
    }

    /// Connects while the primary is pending. The primary's answer ends the attempt to connect.
    async fn connect_beside<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        record: &mut Record,
        selection: &Selection,
        mut primary: PrimaryGuard<'_, 'v>,
    ) -> Result<Option<Start<'v>>, Failure> {
        let way = (self.info.origin, client.head().upgrade().is_some());
        let connected = self.connect(None::<&mut C>, way, walk, record, selection);
        let (_, body, _) = client.split();
        tokio::select! {
            // An available result is used first.
            biased;
            connected = primary.beside(self.worker, self.view, connected) => match connected {
                Some(connected) => connected.map(|carrier| Some(Start::Fresh(carrier))),
                None => Ok(None),
            },
            () = body.broken() => Err(Failure::OVER),
        }
    }

    /// The next step after an attempt: the end of the exchange, or another attempt, which may be the pending primary.
    fn follow(
        &self,
        ended: Result<Ended<'v>, Failure>,
        selection: Selection,
        walk: &mut Walk,
        record: &mut Record,
        head: &RequestHead,
    ) -> Result<ControlFlow<After, Option<Box<PendingPrimary<'v>>>>, Failure> {
        note_end(self.worker, record, &ended);
        let pending = match ended {
            Ok(Ended::Done) => return Ok(ControlFlow::Break(After::Next)),
            Ok(Ended::Tunnel(connection)) => {
                let slots = &self.view.slots;
                let meter = slots.meter(self.worker.id, self.bound.class, selection.slot);
                let counts = selection.into_counts();
                let upgraded = Box::new(Upgraded { connection, counts, meter });
                return Ok(ControlFlow::Break(After::Tunnel(upgraded)));
            }
            Ok(Ended::Pending(waiting)) => {
                walk.waits(&selection, self.view);
                self.primary_slot.set(Some(Box::new(PendingPrimary { selection, waiting })));
                None
            }
            Ok(Ended::Overtaken) => {
                walk.tried.add(selection.cluster, selection.signals(self.view).id);
                Some(self.primary_slot.take().ok_or(Failure::OVER)?)
            }
            Err(failure) => self.after(failure, walk, record, &selection, head)?,
        };
        Ok(ControlFlow::Continue(pending))
    }

    /// The next step after a failed attempt: the pending primary continues, or a new attempt is made (`None`).
    ///
    /// # Errors
    /// The exchange's failure, if there is no further attempt.
    fn after(
        &self,
        failure: Failure,
        walk: &mut Walk,
        record: &mut Record,
        selection: &Selection,
        head: &RequestHead,
    ) -> Result<Option<Box<PendingPrimary<'v>>>, Failure> {
        let (worker, view, Bound { class, reach, is_copy, .. }) =
            (self.worker, self.view, *self.bound);
        let is_stale = failure.is_stale() && walk.stale < STALE_MAX;
        // A hedge that met a stale connection is sent again.
        let is_aged = is_stale && failure.kind() == Some(Kind::Unsent);
        if !is_aged && failure.what != What::Over && record.status == 0 {
            // The primary may still answer, whatever happened to the hedge.
            if let Some(pending) = self.primary_slot.take() {
                walk.tried.add(selection.cluster, selection.signals(view).id);
                return Ok(Some(pending));
            }
        }
        let (Some(kind), Some(refusal)) = (failure.kind(), failure.refusal()) else {
            return Err(failure);
        };
        let retryable = walk.request(head, self.bound.terms);
        let granted = matches!(failure.retry, Retry::Granted(_))
            || grant(worker, view, class, kind, retryable);
        let counts = kind != Kind::Unsent && !is_copy;
        let result = if granted { RetryResult::Granted } else { RetryResult::Denied };
        record.retries[result].add(u64::from(counts));
        if !granted {
            return Err(Failure::refuse(refusal));
        }
        walk.again(kind, refusal);
        if is_stale {
            walk.stale += 1;
            // Idle connections become stale together; shared ones separately, and a stale shared connection is not
            // leased again.
            walk.fresh = !walk.shared || walk.stale == STALE_MAX;
        } else {
            walk.tried.add(selection.cluster, selection.signals(view).id);
            walk.tried.pass_over_dead(worker, view, class);
            let elsewhere = || walk.tried.leaves_other_clusters(view, class, selection, reach);
            if kind == Kind::Ejected && elsewhere() {
                walk.tried.left = Some(selection.cluster);
            }
        }
        Ok(None)
    }

    /// The request head for the selected cluster.
    fn request_head(&self, head: &RequestHead, record: &Record, selection: &Selection) -> Vec<u8> {
        let Bound { route, class, terms, target, .. } = *self.bound;
        let granted = Granted::of(self.view, class, record);
        let extra = (granted, record.trace.as_deref());
        let edits = terms.request_edits.at(self.info.terms.index);
        let composed = self.composed(&edits.composed, head, record);
        let host = route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_deref());
        let way = (host, target.unwrap_or_else(|| head.target().as_str()));
        compose(self.view, selection, head, way, &self.identity, (edits, &composed), extra)
    }

    /// The lines of fields with variables.
    fn composed(
        &self,
        fields: &[(String, Template)],
        head: &RequestHead,
        record: &Record,
    ) -> Vec<u8> {
        match fields {
            [] => Vec::new(),
            fields => Values::of(self.view, self.info, head, record).lines(fields),
        }
    }

    /// The `Set-Cookie` line for session affinity, if there is one.
    fn set_cookie(&self, selection: &Selection, tried: &Tried) -> Option<String> {
        let cookie = self.cookie()?;
        affinity::set_cookie(&cookie, selection.signals(self.view), tried.stay, self.info)
    }

    /// Makes one attempt.
    async fn attempt<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        record: &mut Record,
        selection: &Selection,
        start: Start<'v>,
    ) -> Result<Ended<'v>, Failure> {
        let (worker, view, Bound { class, terms, reach, .. }) =
            (self.worker, self.view, *self.bound);
        let response_edits = terms.response_edits.at(self.info.terms.index);
        let composed = self.composed(&response_edits.composed, client.head(), record);
        let resumed = start.resumed();
        let mut request = match resumed {
            Some(_) => lend_scratch(),
            None => self.request_head(client.head(), record, selection),
        };
        let retryable = walk.request(client.head(), self.bound.terms);
        let (tried, denied) = (&walk.tried, Cell::new([false; 2]));
        let may_retry = |kind| {
            let retryable = retry::Request { replayable: true, ..retryable };
            let elsewhere = tried.leaves_others(view, class, selection, reach);
            let granted = elsewhere && grant(worker, view, class, kind, retryable);
            let mut known = denied.get();
            known[usize::from(kind == Kind::Slow)] |= elsewhere && !granted;
            denied.set(known);
            granted
        };
        let waited = resumed.map_or(Duration::ZERO, |since| worker.now().since(since));
        let over_http2 = matches!(&start, Start::Fresh(UpstreamConnection::Http2(_)));
        let is_call = self.says_grpc && (view.plan.says_grpc(class) || over_http2);
        if is_call {
            client.endure();
        }
        let timeout = if is_call { ENDLESS } else { self.bound.terms.timeout };
        let attempt = Attempt {
            worker,
            view,
            request_edits: terms.request_edits.at(self.info.terms.index),
            response_edits: edits_with(response_edits, &composed),
            class,
            stratum: stratum(record.route, client.head()),
            selection,
            client: self.client,
            compression: terms.compression.as_deref().filter(|_| !self.bound.is_copy),
            head_bytes: self.info.terms.response_head,
            timeout: timeout.saturating_sub(waited),
            stream_idle: self.info.terms.timeouts.stream_idle,
            is_call,
            stall: if is_call { ENDLESS } else { self.info.terms.timeouts.write },
            idempotent: retryable.idempotent,
            explain: self.identity.explain,
            http3: self.info.http3(),
            set_cookie: self.set_cookie(selection, &walk.tried),
            edge: reach == Reach::ThisSite,
            // A client with affinity may have state at its endpoint that other endpoints lack.
            hedge: walk.hedge.filter(|_| retryable.idempotent && walk.tried.stay.is_none()),
            resumed,
            primary_slot: &self.primary_slot,
            read_whole: self.read_whole,
            may_retry: &may_retry,
        };
        let replay = &mut walk.replay;
        let ended = send::run(&attempt, client, start, &mut request, replay, record).await;
        give_back_scratch(request);
        let [retry_denied, hedge_denied] = denied.get();
        record.retries[RetryResult::Denied].add(u64::from(retry_denied));
        record.hedges[HedgeResult::Denied].add(u64::from(hedge_denied));
        ended
    }
}

/// Notes the end of an attempt in its span.
fn note_end(worker: &Worker, record: &mut Record, ended: &Result<Ended<'_>, Failure>) {
    let Some(trace) = &mut record.trace else { return };
    match ended {
        // The end of the exchange ends an attempt that was answered, or is pending.
        Ok(Ended::Done | Ended::Tunnel(_) | Ended::Pending(_)) => {}
        Ok(Ended::Overtaken) => trace.overtaken(worker.now()),
        Err(failure) => trace.failed(*failure, worker.now()),
    }
}

fn grant(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    kind: Kind,
    request: retry::Request,
) -> bool {
    let service = view.plan.classes[class].service;
    worker
        .with_budget(view, service, |budget| budget.grant(kind, request, worker.about_now()))
        .unwrap_or(false)
}
