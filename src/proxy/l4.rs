//! L4 connections: the endpoint is selected once, by the same rules as for requests; then bytes are relayed.

use super::accept::Accepted;
use super::flow_trace::{self, Ended, FlowTrace};
use super::refusal::Refusal;
use super::selection::{InFlight, Reach, Selection, Tried, select};
use super::tunnel::{Patience, carry};
use super::upstream::connect::{NoConnection, Wanted, open};
use super::withheld;
use super::worker::{Viewed, Worker};
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::plan::{Class, ClassIndex, ClusterIndex, HashKey, ListenerIndex};
use crate::decision::units::{Timestamp, hash};
use crate::os::clock;
use crate::os::proxy_header::Origin;
use crate::os::stream::Stream;
use crate::policy::PolicyRequest;
use crate::shared::trace::{ExchangeSpan, Subject};
use crate::shared::{Counted, Meter, View};
use crate::telemetry::access_log::{Line, milliseconds};
use crate::telemetry::results::StatusClass;
use crate::tls::client::Speaks;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// A flow with its upstream connection.
struct ConnectedFlow {
    stream: Stream,
    held: Counted,
    counts: InFlight,
    cluster: ClusterIndex,
    /// Counts the bytes from the cluster.
    meter: Meter,
    endpoint: String,
    why: &'static str,
    connected: Duration,
    attempts: u32,
}

/// An accepted connection, with the fields of its log line.
struct Flow {
    listener: String,
    peer: IpAddr,
    host: String,
    service: String,
    data: String,
    started: Timestamp,
    /// Its spans, if it is traced.
    trace: Option<Box<FlowTrace>>,
}

/// Serves one accepted connection of a tcp listener.
pub async fn serve(
    worker: Rc<Worker>,
    accepted: Box<Accepted>,
    view: Viewed,
    index: ListenerIndex,
    class: ClassIndex,
) {
    let (peer, origin) = (accepted.peer(), accepted.origin);
    let (stream, mut buffer) = (accepted.stream, accepted.buffer);
    let service = view.plan.classes[class].service;
    let host = accepted.sni.unwrap_or_default();
    let mut flow = Flow::begin(&worker, &view, (index, class), peer, host);
    let cells = worker.listener_cells(&flow.listener);
    let timeouts = view.plan.listeners[index].timeouts.clone();
    let seat = match view.plan.services[service].policy {
        Some(policy) => view.policies.admit(policy, &PolicyRequest::flow(peer)),
        None => Ok(None),
    };
    let upstream = match &seat {
        Ok(_) => {
            let trace = flow.trace.as_deref_mut();
            find_or_note(&worker, &view, (index, class), (peer, origin), trace).await
        }
        Err(why) => Err(Refusal::from(why)),
    };
    let upstream = match upstream {
        Ok(upstream) => upstream,
        Err(refusal) => {
            cells.refusals[refusal].add(1);
            worker.exchange_cells(&view, index, Some(service), None).by_class[StatusClass::None]
                .add(1);
            // A reset before any byte: the client can distinguish it from a response.
            stream.reset_on_close();
            let refusal = Some(refusal.label());
            return flow.end(&worker, Line { refusal, ..Line::default() }, ("", refusal));
        }
    };
    let exchange = worker.exchange_cells(&view, index, Some(service), Some(upstream.cluster));
    let cluster_name = view.plan.clusters[upstream.cluster].name.clone();
    // A flow may last for days; the view that selected its endpoint must be freed earlier.
    drop(view);
    stream.keep_alive();
    upstream.stream.keep_alive();
    let (mut client, mut cluster) = (stream, upstream.stream);
    // At L4 a client that reads slowly cannot be distinguished from a silent client, so both have the same timeouts.
    let (idle, half_close) = (timeouts.idle_l4, timeouts.half_close);
    let patience = Patience { idle, half_close, write: idle };
    let (near, far) = ((&mut client, &mut buffer), (&mut cluster, &mut None));
    let carried = carry(&worker, near, far, &upstream.meter, patience).await;
    drop((upstream.held, upstream.counts, seat));
    cells.bytes_in.add(carried.up);
    cells.bytes_out.add(carried.down);
    exchange.by_class[StatusClass::None].add(1);
    let seconds = worker.now().since(flow.started).as_secs_f64();
    exchange.duration.observe(seconds);
    exchange.latencies.observe(seconds);
    let served = Line {
        bytes_in: carried.up,
        bytes_out: carried.down,
        cluster: &cluster_name,
        endpoint: upstream.endpoint.into(),
        reason: upstream.why,
        attempts: upstream.attempts,
        upstream_connect_ms: Some(milliseconds(upstream.connected)),
        ..Line::default()
    };
    flow.end(&worker, served, (upstream.why, None));
}

impl Flow {
    fn begin(
        worker: &Worker,
        view: &View,
        (listener, class): (ListenerIndex, ClassIndex),
        peer: IpAddr,
        host: String,
    ) -> Flow {
        let Class { service, data, .. } = &view.plan.classes[class];
        Flow {
            listener: view.plan.listeners[listener].name.clone(),
            peer,
            host,
            service: view.plan.services[*service].name.clone(),
            data: data.join(","),
            started: worker.now(),
            trace: flow_trace::begin(worker, view),
        }
    }

    /// Hands the spans of the ended connection to the exporter, if it is traced, and writes its log line.
    fn end(
        mut self,
        worker: &Worker,
        outcome: Line<'_>,
        (why, refusal): (&'static str, Option<&'static str>),
    ) {
        if let Some(trace) = self.trace.take() {
            let (received, sent) = (outcome.bytes_in, outcome.bytes_out);
            let span = ExchangeSpan {
                subject: Subject::Connection { received, sent },
                host: self.host.clone(),
                client: self.peer.to_string(),
                listener: self.listener.clone(),
                service: self.service.clone(),
                cluster: (outcome.cluster.to_owned(), why),
                refusal,
                attempts: outcome.attempts,
                ..ExchangeSpan::default()
            };
            trace.send(worker, Ended { started: self.started, span });
        }
        self.log(worker, outcome);
    }

    /// Writes the log line: `outcome`, and the common fields of all flows.
    fn log<'a>(&'a self, worker: &Worker, outcome: Line<'a>) {
        if worker.log.is_on() {
            worker.log.write(&Line {
                time: clock::rfc3339(clock::since_epoch()).into(),
                listener: &self.listener,
                client: self.peer.to_string().into(),
                host: self.host.as_str().into(),
                protocol: "tcp",
                duration_ms: milliseconds(worker.now().since(self.started)),
                service: &self.service,
                data: self.data.as_str().into(),
                ..outcome
            });
        }
    }
}

/// As [`find`]; notes a refusal because of a constraint.
async fn find_or_note(
    worker: &Worker,
    view: &View,
    (listener, class): (ListenerIndex, ClassIndex),
    (peer, origin): (IpAddr, Origin),
    trace: Option<&mut FlowTrace>,
) -> Result<ConnectedFlow, Refusal> {
    find(worker, view, class, (peer, origin), trace).await.inspect_err(|refusal| {
        withheld::note(worker, view, (listener, class), *refusal, peer, "");
    })
}

/// Connects to an endpoint. Nothing was sent yet, so other endpoints may be tried after a failure.
async fn find(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    (peer, origin): (IpAddr, Origin),
    mut trace: Option<&mut FlowTrace>,
) -> Result<ConnectedFlow, Refusal> {
    let mut tried = Tried::default();
    let started = worker.now();
    let mut last = None;
    let key = match view.plan.service_of(class).hash_key {
        HashKey::ClientIp | HashKey::Header(_) | HashKey::Cookie(_) => {
            hash(peer.to_string().as_bytes())
        }
    };
    for attempts in 1.. {
        let selection = match select(worker, view, class, &tried, key, Reach::Anywhere) {
            Ok(selection) => selection,
            Err(refusal) => {
                if let Some(trace) = &mut trace {
                    trace.undecided(worker, view, class, refusal);
                }
                return Err(last.unwrap_or(refusal));
            }
        };
        if let Some(trace) = &mut trace {
            trace.decided(worker, view, class, &selection);
        }
        match connect(worker, view, class, &selection, origin, started).await {
            Ok((stream, held, connected)) => {
                let signals = selection.signals(view);
                let (endpoint, cluster) = (signals.address.to_string(), selection.cluster);
                let why = selection.why.label();
                let meter = view.slots.meter(worker.id, class, selection.slot);
                let counts = selection.into_counts();
                return Ok(ConnectedFlow {
                    stream,
                    held,
                    counts,
                    cluster,
                    meter,
                    endpoint,
                    why,
                    connected,
                    attempts,
                });
            }
            Err(Unconnected { refusal, late }) => {
                last = Some(refusal);
                if let Some(trace) = &mut trace {
                    trace.failed(refusal, worker.now());
                }
                let endpoint = selection.signals(view).id;
                // A full listen backlog drops connection attempts: if there is no other endpoint, the same
                // endpoint is tried again.
                let alone = || !tried.leaves_others(view, class, &selection, Reach::Anywhere);
                if late && alone() && worker.uses(endpoint) {
                    continue;
                }
                tried.add(selection.cluster, endpoint);
            }
        }
    }
    Err(Refusal::UpstreamConnect)
}

/// Why there is no connection.
struct Unconnected {
    refusal: Refusal,
    /// Whether the connection timed out.
    late: bool,
}

impl From<Refusal> for Unconnected {
    fn from(refusal: Refusal) -> Unconnected {
        Unconnected { refusal, late: false }
    }
}

async fn connect(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    selection: &Selection,
    origin: Origin,
    started: Timestamp,
) -> Result<(Stream, Counted, Duration), Unconnected> {
    let cluster = &view.plan.clusters[selection.cluster];
    let live = &view.clusters[selection.cluster];
    let endpoint = selection.signals(view);
    let left = cluster.connect_total.saturating_sub(worker.now().since(started));
    if left.is_zero() {
        return Err(Refusal::UpstreamConnect.into());
    }
    let held = worker.shared.count_upstream(live, cluster.connections_max);
    let held = held.ok_or(Refusal::Overloaded)?;
    let slot = view.slots.slot(worker.id, class, selection.slot);
    let begun = worker.now();
    let upstream = view.tls.cluster(selection.cluster);
    let origin = Some(origin);
    let wanted =
        Wanted { cluster, live, endpoint, upstream, fresh: true, origin, speaks: Speaks::Bytes };
    let dialled = open(worker, &wanted, left, held).await;
    let took = worker.now().since(begun);
    match dialled {
        Ok(connection) => {
            let (stream, _, held) = connection.into_stream();
            if let Some(slot) = slot {
                slot.accepted.add(1);
                slot.completed.add(1);
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(100_000_000);
                slot.micros.add(micros);
                slot.micros_squared.add(micros * micros);
            }
            selection.live.record(worker.id, took.as_secs_f64());
            if let Some(rtt) = stream.handshake_rtt() {
                selection.live.record_rtt(worker.id, rtt);
            }
            Ok((stream, held, took))
        }
        Err(NoConnection::Endpoint(cause)) => {
            if cluster.outlier.failures.has(cause) {
                if let Some(slot) = slot {
                    slot.accepted.add(1);
                    slot.failed.add(1);
                }
                let (endpoint, client) = (endpoint.id, None);
                worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
            }
            let late = cause == Cause::ConnectTimeout;
            Err(Unconnected { refusal: Refusal::UpstreamConnect, late })
        }
        Err(NoConnection::Late) => Err(Refusal::UpstreamConnect.into()),
        // The fault is the proxy's own: the cluster is not blamed.
        Err(NoConnection::Busy | NoConnection::Full | NoConnection::Exhausted) => {
            Err(Refusal::Overloaded.into())
        }
    }
}
