//! Exchanges that were refused because of a constraint: counted, and told in the log.

use super::refusal::Refusal;
use super::worker::Worker;
use crate::decision::permit::Reason;
use crate::decision::plan::{ClassIndex, ClusterIndex, ListenerIndex};
use crate::decision::signal::State;
use crate::shared::View;
use std::fmt::Display;

/// Notes a refused exchange of a class for which no cluster was left: for each constraint that kept the exchange from a
/// live cluster it is counted once. `client` and `request_id` are for the log.
pub fn note(
    worker: &Worker,
    view: &View,
    (listener, class): (ListenerIndex, ClassIndex),
    refusal: Refusal,
    client: impl Display,
    request_id: &str,
) {
    let of_class = &view.plan.classes[class];
    if of_class.permitted.rejected.is_empty() {
        return;
    }
    let is_live = |cluster: ClusterIndex| {
        let state = view.signals.clusters.get(cluster).map(|signals| signals.state);
        matches!(state, Some(State::Up | State::Degraded))
    };
    let withheld = || of_class.permitted.rejected.iter().filter(|(cluster, _)| is_live(*cluster));
    let cells = worker.exchange_cells(view, listener, Some(of_class.service), None);
    let mut any = false;
    for reason in Reason::ALL {
        let is_one = withheld().any(|(_, own)| own == reason);
        cells.withheld[*reason].add(u64::from(is_one));
        any |= is_one;
    }
    let Some(unlogged) = any.then(|| worker.may_log_refusal(of_class.id)).flatten() else { return };
    let name = |cluster: ClusterIndex| view.plan.clusters[cluster].name.as_str();
    let clusters: Vec<String> = withheld()
        .map(|(cluster, reason)| format!("{}:{}", name(*cluster), reason.label()))
        .collect();
    let (clusters, data) = (clusters.join(","), of_class.data.join(","));
    let service = view.plan.services[of_class.service].name.as_str();
    let refusal = refusal.label();
    tracing::warn!(
        service, data, clusters, refusal, %client, request_id, unlogged,
        "exchange of service {service} refused by a constraint: {clusters} may not serve it"
    );
}
