//! `/api/v1/decisions` and `/api/v1/why`: the last decisions, and why one request went where it went.
//!
//! Workers offer exchanges by a short queue ([`crate::shared::decided`]), and [`keep`] takes at most a hundred a second
//! from that queue. So below a hundred exchanges a second every exchange is kept. Above, the exchanges are sampled: those
//! whose decision a trusted client requested come first, then those that were refused or went beyond the nearest
//! cluster, then the others.
//!
//! # Invariants
//! * Memory is bounded: [`KEPT`] exchanges that went beyond the nearest cluster or were refused, and as many others. Texts
//!   of clients are cut by the worker, lists of clusters here.
//! * The signals are those of the view that decided, and not those of the moment of the question.

use super::Backend;
use crate::decision::explain::{Explanation, explain_exchange};
use crate::decision::plan::ClassIndex;
use crate::decision::route::RouteIndex;
use crate::decision::signal::Why;
use crate::decision::why::why_in;
use crate::shared::{Decision, View};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Exchanges that are kept of each kind.
const KEPT: usize = 4_096;
/// Decisions of one answer of `/api/v1/decisions`.
const LISTED: usize = 1_000;
/// Clusters that a decision names, those before others in the order of the service.
const CLUSTERS_MAX: usize = 16;
/// The most exchanges taken from the queue at once, and the pause after them: a hundred a second.
const BATCH: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// The last decisions.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    /// Refused, or sent beyond the nearest cluster.
    unusual: VecDeque<Kept>,
    usual: VecDeque<Kept>,
}

/// A decision with everything that its explanation needs.
#[derive(Debug)]
struct Kept {
    /// Without its view.
    exchange: Exchange,
    /// The decision of its class at that time, shared by exchanges of the same sweep.
    explanation: Arc<Explanation>,
}

/// An exchange by names.
#[derive(Debug)]
struct Exchange {
    at: Duration,
    request_id: String,
    method: String,
    host: String,
    path: String,
    listener: String,
    service: String,
    cluster: String,
    endpoint: String,
    /// The reason for the cluster, or the refusal.
    reason: &'static str,
    refusal: Option<&'static str>,
    /// The cluster's share, as a sentence.
    why: String,
    rejected: Vec<String>,
    status: u16,
    attempts: u32,
    connect_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    duration_ms: f64,
}

fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

impl Exchange {
    fn of(decision: Decision) -> Exchange {
        let (plan, signals) = (&decision.view.plan, &decision.view.signals);
        let endpoint = decision.selection.and_then(|(cluster, endpoint, _)| {
            signals.clusters.get(cluster)?.endpoints.get(endpoint)
        });
        let endpoint = endpoint.map_or(String::new(), |endpoint| endpoint.address.to_string());
        let (cluster, reason, why) = match decision.selection {
            Some((cluster, _, why)) => {
                let name = plan.clusters.get(cluster).map(|cluster| cluster.name.clone());
                let sentence = why_in(plan, signals, cluster, Some(decision.class));
                (name.unwrap_or_default(), why.label(), sentence)
            }
            None => (String::new(), "", String::new()),
        };
        let listener = plan.listeners.get(decision.listener);
        let mut rejected = decision.rejected;
        rejected.truncate(CLUSTERS_MAX);
        Exchange {
            at: decision.at,
            request_id: decision.request_id,
            method: decision.method,
            host: decision.host,
            path: decision.path,
            listener: listener.map_or(String::new(), |listener| listener.name.clone()),
            service: plan.service_of(decision.class).name.clone(),
            cluster,
            endpoint,
            reason: decision.refusal.unwrap_or(reason),
            refusal: decision.refusal,
            why,
            rejected,
            status: decision.status,
            attempts: decision.attempts,
            connect_ms: decision.connected.map(milliseconds),
            first_byte_ms: decision.first_byte.map(milliseconds),
            duration_ms: milliseconds(decision.duration),
        }
    }

    fn line(&self, rfc3339: fn(Duration) -> String) -> Value {
        json!({
            "time": rfc3339(self.at),
            "request_id": self.request_id,
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "service": self.service,
            "cluster": self.cluster,
            "reason": self.reason,
            "rejected": self.rejected,
        })
    }

    fn is_usual(&self) -> bool {
        let usual = [Why::Nearest, Why::Only, Why::Affinity];
        self.refusal.is_none() && usual.iter().any(|why| why.label() == self.reason)
    }
}

impl Kept {
    fn told(&self, rfc3339: fn(Duration) -> String) -> Value {
        let exchange = &self.exchange;
        let more = json!({
            "listener": exchange.listener,
            "endpoint": exchange.endpoint,
            "refusal": exchange.refusal,
            "why": exchange.why,
            "status": exchange.status,
            "attempts": exchange.attempts,
            "upstream_connect_ms": exchange.connect_ms,
            "upstream_first_byte_ms": exchange.first_byte_ms,
            "duration_ms": exchange.duration_ms,
            "explanation": *self.explanation,
        });
        let mut told = exchange.line(rfc3339);
        if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
            told.extend(more);
        }
        told
    }
}

impl Rings {
    fn push(&mut self, kept: Kept) {
        let ring = match kept.exchange.is_usual() {
            true => &mut self.usual,
            false => &mut self.unusual,
        };
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(kept);
    }

    /// The newest exchange with this id: a trusted client may have sent an id twice.
    fn find(&self, request_id: &str) -> Option<&Kept> {
        let with = |ring: &'_ VecDeque<Kept>| {
            ring.iter().rposition(|kept| kept.exchange.request_id == request_id)
        };
        let found = [&self.usual, &self.unusual].map(|ring| with(ring).map(|at| &ring[at]));
        found.into_iter().flatten().max_by_key(|kept| kept.exchange.at)
    }

    /// The end of the oldest exchange that is kept, of those like it.
    fn since(&self, rfc3339: fn(Duration) -> String) -> Value {
        let oldest = |ring: &VecDeque<Kept>| ring.front().map(|kept| rfc3339(kept.exchange.at));
        json!({"nearest": oldest(&self.usual), "others": oldest(&self.unusual)})
    }
}

/// The explanation of the last decision: exchanges of the same class between two sweeps share it.
struct Last {
    view: Arc<View>,
    of: (Option<RouteIndex>, ClassIndex),
    explanation: Arc<Explanation>,
}

impl Last {
    fn of(decision: &Decision) -> Last {
        let (view, of) = (decision.view.clone(), (decision.route, decision.class));
        let told = explain_exchange(&view.plan, &view.signals, of, CLUSTERS_MAX);
        Last { view, of, explanation: Arc::new(told) }
    }

    fn serves(&self, decision: &Decision) -> bool {
        Arc::ptr_eq(&self.view, &decision.view) && self.of == (decision.route, decision.class)
    }
}

/// Keeps the decisions of a queue, in a task that ends when nobody can send more.
#[must_use]
pub fn keep(queue: mpsc::Receiver<Decision>) -> Arc<Decisions> {
    let kept = Arc::<Decisions>::default();
    tokio::spawn(fill(queue, kept.clone()));
    kept
}

async fn fill(mut queue: mpsc::Receiver<Decision>, kept: Arc<Decisions>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let mut last: Option<Last> = None;
        for decision in batch.drain(..) {
            let now = last.take().filter(|last| last.serves(&decision));
            let now = now.unwrap_or_else(|| Last::of(&decision));
            let explanation = now.explanation.clone();
            last = Some(now);
            let exchange = Exchange::of(decision);
            let mut rings = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
            rings.push(Kept { exchange, explanation });
        }
        // No view is held while nothing is decided.
        drop(last);
        tokio::time::sleep(PAUSE).await;
    }
}

/// `GET /api/v1/decisions`: the last decisions that were not for the nearest cluster, the newest first.
pub(super) async fn decisions(State(backend): State<Arc<Backend>>) -> Json<Value> {
    let rings = backend.decisions.0.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = rings.unusual.iter().rev().take(LISTED);
    Json(lines.map(|kept| kept.exchange.line(backend.rfc3339)).collect())
}

/// `GET /api/v1/why/{request_id}`: one decision and the signals that led to it, or what is kept.
pub(super) async fn why(
    State(backend): State<Arc<Backend>>,
    Path(request_id): Path<String>,
) -> Response {
    let rings = backend.decisions.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = rings.find(&request_id) {
        return Json(kept.told(backend.rfc3339)).into_response();
    }
    let error = format!(
        "no exchange with this request id is kept. At most {} exchanges a second are recorded, first those that were \
         refused or went beyond the nearest cluster, and the last {KEPT} of these and of the others are kept. A trusted \
         client has its exchange recorded by `tidegate-explain: 1`.",
        BATCH as u128 * 1_000 / PAUSE.as_millis().max(1)
    );
    let body = json!({"error": error, "kept_since": rings.since(backend.rfc3339)});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::decision::index::EndpointIndex;
    use crate::decision::plan::{ClusterIndex, ListenerIndex};
    use crate::shared::decided::{DECISIONS_WAITING, Urgency, may_record};

    fn view() -> Arc<View> {
        let text = "listeners: { web: { address: 127.0.0.1:0, protocol: http, service: shop } }\n\
                    services: { shop: { clusters: [idc, cloud] } }\n\
                    clusters: { idc: { endpoints: [127.0.0.1:1] }, cloud: { endpoints: [127.0.0.1:2] } }\n";
        let config = load(text, std::path::Path::new("."), &|_| None).config.unwrap();
        let plan = Arc::new(config.plan);
        Arc::new(View {
            slots: Arc::default(),
            tls: Arc::default(),
            policies: Arc::default(),
            signals: Default::default(),
            clusters: Arc::default(),
            places: Arc::default(),
            generation: 1,
            plan,
        })
    }

    fn decision(view: &Arc<View>, id: &str, why: Why) -> Decision {
        Decision {
            at: Duration::from_secs(1),
            view: view.clone(),
            request_id: id.to_owned(),
            method: "GET".to_owned(),
            host: "shop.example".to_owned(),
            path: "/cart".to_owned(),
            listener: ListenerIndex(0),
            route: None,
            class: ClassIndex(0),
            selection: Some((ClusterIndex(0), EndpointIndex(0), why)),
            refusal: None,
            rejected: Vec::new(),
            status: 200,
            attempts: 1,
            connected: None,
            first_byte: None,
            duration: Duration::from_millis(5),
        }
    }

    fn count(kept: &Decisions) -> (usize, usize) {
        let rings = kept.0.lock().unwrap();
        (rings.usual.len(), rings.unusual.len())
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_kept_up_to_a_hundred_a_second_and_beyond_the_unusual_come_first() {
        let (queue, receiver) = mpsc::channel(DECISIONS_WAITING);
        let (view, kept) = (view(), keep(receiver));
        let offer = |urgency, why| {
            may_record(&queue, urgency) && queue.try_send(decision(&view, "id", why)).is_ok()
        };
        // 90 a second for 10 s: nothing is left out.
        for _ in 0..100 {
            let taken = (0..9).filter(|_| offer(Urgency::Usual, Why::Nearest)).count();
            assert_eq!(taken, 9);
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(PAUSE).await;
        assert_eq!(count(&kept), (900, 0));
        // 10,000 a second, of which 50 spill: those are kept.
        let mut spilled = 0;
        for _ in 0..100 {
            (0..995).filter(|_| offer(Urgency::Usual, Why::Nearest)).count();
            spilled += (0..5).filter(|_| offer(Urgency::Unusual, Why::Spill)).count();
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (usual, unusual) = count(&kept);
        assert_eq!((spilled, unusual), (500, 500));
        assert!((400..=600).contains(&(usual - 900)), "{usual}");
        // What is asked for has room, whatever else there is.
        (0..1_000).filter(|_| offer(Urgency::Unusual, Why::Spill)).count();
        assert!(!offer(Urgency::Usual, Why::Nearest) && offer(Urgency::Requested, Why::Nearest));
    }

    #[test]
    fn the_rings_are_bounded_each_and_the_newest_of_an_id_is_told() {
        let (view, mut rings) = (view(), Rings::default());
        let mut push = |id: &str, why, at| {
            let decision = decision(&view, id, why);
            let explanation = Last::of(&decision).explanation;
            let exchange = Exchange { at: Duration::from_secs(at), ..Exchange::of(decision) };
            rings.push(Kept { exchange, explanation });
        };
        push("first", Why::Spill, 1);
        push("twice", Why::Nearest, 2);
        push("twice", Why::Failover, 3);
        (0..KEPT as u64).for_each(|at| push("nearest", Why::Nearest, 10 + at));
        assert_eq!((rings.usual.len(), rings.unusual.len()), (KEPT, 2));
        let told = rings.find("twice").unwrap().told(|at| at.as_secs().to_string());
        assert_eq!((&told["reason"], &told["time"]), (&json!("failover"), &json!("3")));
        assert_eq!(told["explanation"]["permitted"], json!(["idc", "cloud"]));
        assert!(rings.find("first").is_some() && rings.find("never").is_none());
        assert_eq!(rings.since(|at| at.as_secs().to_string())["others"], "1");
    }
}
