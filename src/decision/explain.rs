//! A decision as data: the route, the clusters that may serve, the clusters that may not and why, and the scores.

use super::permit::Reason;
use super::plan::{ClassIndex, ClusterIndex, Plan, Protocol};
use super::route::{Action, RouteIndex, RouteQuery, Unrouted};
use super::signal::Signals;
use super::why::why_in;
use serde::{Deserialize, Serialize};

/// The explanation of a decision.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Explanation {
    /// The route's name.
    pub route: String,
    /// The name of the service, if the route forwards.
    pub service: Option<String>,
    /// All data classes of the exchange.
    pub data: Vec<String>,
    /// The service's environment.
    pub environment: String,
    /// Clusters that may serve, nearest first if distances are known.
    pub permitted: Vec<String>,
    /// Clusters that may not serve.
    pub rejected: Vec<Rejection>,
    /// The scores of the clusters, if signals are known.
    pub scores: Vec<Score>,
    /// The most likely cluster for the next such request.
    pub chosen: Option<String>,
    /// The refusal or the fixed response of the route that the request would get instead.
    pub answer: Option<String>,
}

/// A cluster that may not serve.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Rejection {
    /// Its name.
    pub cluster: String,
    /// `environment`, `data_class`, `needs`, `down`, `draining`, `failback_hold`, `failback_manual` or
    /// `capacity_group`.
    pub reason: String,
}

/// The score of a cluster by its parts, in milliseconds. A part that was not measured is absent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Score {
    /// The cluster's name.
    pub cluster: String,
    /// Round trip.
    pub rtt_ms: Option<f64>,
    /// Distance: the round trip, and the path behind a middlebox.
    pub distance_ms: Option<f64>,
    /// Service time.
    pub service_ms: Option<f64>,
    /// Price, as a distance.
    pub price_ms: f64,
    /// Penalties for failures and for new connections.
    pub penalty_ms: f64,
    /// Queue delay.
    pub queue_ms: Option<f64>,
    /// The queue that this cluster may have before exchanges spill.
    pub tolerates_ms: f64,
    /// The expected time of one more exchange in total.
    pub total_ms: Option<f64>,
    /// The share of the exchanges offered to the cluster that the cluster accepts.
    pub accept_ratio: f64,
    /// The scores as a sentence.
    pub why: String,
}

/// Explains a request under a plan, and under signals if they are given.
///
/// # Errors
/// [`Unrouted`] when no route matches the request.
pub fn explain(
    plan: &Plan,
    signals: Option<&Signals>,
    query: &RouteQuery<'_>,
) -> Result<Explanation, Unrouted> {
    let listener = plan.listeners.get(query.listener);
    let placed = match listener.map(|listener| &listener.protocol) {
        Some(Protocol::Tcp { class } | Protocol::Udp { class }) => Some(*class),
        Some(Protocol::TlsPassthrough(names)) => {
            Some(names.find(Some(query.host)).ok_or(Unrouted::NoRoute)?)
        }
        Some(Protocol::Http) | None => None,
    };
    if let Some(class) = placed {
        let name = format!("listeners.{}", plan.listeners[query.listener].name);
        return Ok(explain_class(plan, signals, class, empty(plan, name), usize::MAX));
    }
    let index = plan.routes.find(query)?;
    let route = plan.routes.route(index);
    if query.announced.is_some() && route.cors.is_some() {
        let answer = Some("204".to_owned());
        return Ok(Explanation { answer, ..empty(plan, route.name.clone()) });
    }
    Ok(explain_route(plan, signals, index))
}

fn empty(plan: &Plan, route: String) -> Explanation {
    Explanation {
        route,
        service: None,
        data: Vec::new(),
        environment: plan.environment.clone(),
        permitted: Vec::new(),
        rejected: Vec::new(),
        scores: Vec::new(),
        chosen: None,
        answer: None,
    }
}

fn explain_route(plan: &Plan, signals: Option<&Signals>, index: RouteIndex) -> Explanation {
    let route = plan.routes.route(index);
    let mut explanation = empty(plan, route.name.clone());
    let class_index = match &route.action {
        Action::Forward(to) => to.class,
        Action::Split(parts) => match parts.iter().max_by_key(|(weight, _)| *weight) {
            Some((_, to)) => to.class,
            None => return explanation,
        },
        Action::Redirect { to, status } => {
            explanation.answer = Some(format!("{status} {to}"));
            return explanation;
        }
        Action::Respond { status, .. } => {
            explanation.answer = Some(status.to_string());
            return explanation;
        }
    };
    explain_class(plan, signals, class_index, explanation, usize::MAX)
}

/// Explains the class of an exchange that is over, under the signals that decided: the first `most` clusters of each list.
#[must_use]
pub fn explain_exchange(
    plan: &Plan,
    signals: &Signals,
    (route, class): (Option<RouteIndex>, ClassIndex),
    most: usize,
) -> Explanation {
    let name = route.map_or(String::new(), |route| plan.routes.route(route).name.clone());
    explain_class(plan, Some(signals), class, empty(plan, name), most)
}

fn explain_class(
    plan: &Plan,
    signals: Option<&Signals>,
    class_index: ClassIndex,
    mut explanation: Explanation,
    most: usize,
) -> Explanation {
    let class = &plan.classes[class_index];
    let service = plan.service_of(class_index);
    let name = |cluster: ClusterIndex| plan.clusters[cluster].name.clone();
    explanation.service = Some(service.name.clone());
    explanation.data.clone_from(&class.data);
    explanation.environment.clone_from(&service.environment);
    let reject = |(cluster, reason): &(ClusterIndex, Reason)| Rejection {
        cluster: name(*cluster),
        reason: reason.label().to_owned(),
    };
    let (permitted, rejected) = (&class.permitted.clusters, &class.permitted.rejected);
    explanation.rejected = rejected.iter().take(most).map(reject).collect();
    explanation.permitted = permitted.iter().take(most).map(|cluster| name(*cluster)).collect();
    if class.permitted.clusters.is_empty() {
        explanation.answer = Some("no_permitted_cluster".to_owned());
        return explanation;
    }
    let Some(beliefs) = signals.and_then(|signals| signals.classes.get(class_index)) else {
        return explanation;
    };
    let full = |cluster: &ClusterIndex| {
        signals.is_some_and(|signals| signals.full_group(plan, *cluster).is_some())
    };
    explanation.permitted = beliefs.order.iter().take(most).map(|cluster| name(*cluster)).collect();
    for (cluster, score) in beliefs.order.iter().zip(&beliefs.scores).take(most) {
        let milliseconds = |seconds: f64| (seconds * 1e6).round() / 1e3;
        explanation.scores.push(Score {
            cluster: name(*cluster),
            rtt_ms: score.rtt.map(milliseconds),
            distance_ms: score.distance.map(milliseconds),
            service_ms: score.service.map(milliseconds),
            price_ms: milliseconds(score.price),
            penalty_ms: milliseconds(score.penalty),
            queue_ms: score.queue.map(milliseconds),
            tolerates_ms: milliseconds(score.tolerates),
            total_ms: score.total().map(milliseconds),
            accept_ratio: score.accept,
            why: signals
                .map_or(String::new(), |now| why_in(plan, now, *cluster, Some(class_index))),
        });
        let state = signals.and_then(|signals| signals.clusters.get(*cluster));
        let reason = match score.live {
            false => Some(state.map_or("down", |signals| signals.objection())),
            true => full(cluster).then_some("capacity_group"),
        };
        let rejection =
            reason.map(|reason| Rejection { cluster: name(*cluster), reason: reason.to_owned() });
        explanation.rejected.extend(rejection);
    }
    let choices = || beliefs.choices.iter().filter(|choice| !full(&choice.cluster));
    explanation.chosen = choices()
        .max_by(|a, b| a.share.total_cmp(&b.share).then(b.slot.cmp(&a.slot)))
        .map(|choice| name(choice.cluster));
    if let Some(first) = choices().next().filter(|first| first.share >= 0.5) {
        explanation.chosen = Some(name(first.cluster));
    }
    if beliefs.choices.is_empty() {
        explanation.answer = Some("no_healthy_cluster".to_owned());
    } else if choices().next().is_none() {
        explanation.answer = Some("overloaded".to_owned());
    }
    explanation
}
