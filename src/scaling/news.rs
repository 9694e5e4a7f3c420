//! What an autoscaler should know at once: a service begins or stops to spill, fails over, or returns.
//!
//! News are derived from two views, not from events, so that none is lost between them.

use crate::decision::plan::{Class, Plan, ServiceIndex};
use crate::decision::signal::{ClassSignals, Signals, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The share of spilled exchanges above which a service spills, and below which it has stopped.
const SPILLS: f64 = 0.02;
const SPILLS_NO_MORE: f64 = 0.005;

/// A change of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct News {
    pub(super) kind: Kind,
    pub(super) service: String,
    /// The cluster that failed, or that serves again.
    pub(super) from: Option<String>,
    /// The cluster that serves instead; `None` if there is none.
    pub(super) to: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    SpillStart,
    SpillEnd,
    Failover,
    Return,
}

impl Kind {
    /// The word in messages.
    pub(super) fn label(self) -> &'static str {
        match self {
            Kind::SpillStart => "spill_start",
            Kind::SpillEnd => "spill_end",
            Kind::Failover => "failover",
            Kind::Return => "return",
        }
    }
}

/// The services that spill, and those that failed over with the cluster that failed.
#[derive(Debug, Default)]
pub(super) struct Watch {
    spilling: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

impl Watch {
    /// The news since the last call.
    pub(super) fn observe(&mut self, plan: &Plan, signals: &Signals) -> Vec<News> {
        let mut classes: BTreeMap<ServiceIndex, Vec<(&Class, &Arc<ClassSignals>)>> =
            BTreeMap::new();
        for (class, known) in plan.classes.iter().zip(&signals.classes) {
            classes.entry(class.service).or_default().push((class, known));
        }
        let mut news = Vec::new();
        for (service, classes) in &classes {
            let name = &plan.services[*service].name;
            self.observe_spill(name, classes, &mut news);
            self.observe_failover(plan, signals, name, classes, &mut news);
        }
        let exists = |name: &str| plan.services.iter().any(|service| service.name == name);
        self.spilling.retain(|name| exists(name));
        self.failed.retain(|name, _| exists(name));
        news
    }

    fn observe_spill(
        &mut self,
        service: &str,
        classes: &[(&Class, &Arc<ClassSignals>)],
        news: &mut Vec<News>,
    ) {
        let demand: f64 = classes.iter().map(|(_, known)| known.demand_rps).sum();
        let spilled: f64 = classes.iter().map(|(_, known)| known.spill * known.demand_rps).sum();
        let share = if demand > 0.0 { spilled / demand } else { 0.0 };
        let was = self.spilling.contains(service);
        let is = if was { share > SPILLS_NO_MORE } else { share > SPILLS };
        if is == was {
            return;
        }
        let kind = if is { Kind::SpillStart } else { Kind::SpillEnd };
        match is {
            true => drop(self.spilling.insert(service.to_owned())),
            false => drop(self.spilling.remove(service)),
        }
        news.push(News { kind, service: service.to_owned(), from: None, to: None });
    }

    fn observe_failover(
        &mut self,
        plan: &Plan,
        signals: &Signals,
        service: &str,
        classes: &[(&Class, &Arc<ClassSignals>)],
        news: &mut Vec<News>,
    ) {
        let was = self.failed.get(service).cloned();
        let name = |cluster| plan.clusters.get(cluster).map(|cluster| cluster.name.clone());
        let failed = classes.iter().find_map(|(_, known)| {
            let nearest = *known.order.first()?;
            let chosen = known.choices.first().map(|choice| choice.cluster);
            // A cluster that failed has returned once exchanges are sent to it again, not when it answers its probes.
            let was_this = was.is_some() && was == name(nearest);
            let is_down =
                signals.clusters.get(nearest).is_some_and(|known| known.state == State::Down);
            let has_failed = is_down || was_this && chosen != Some(nearest);
            has_failed.then(|| (name(nearest), chosen.and_then(name)))
        });
        let service = service.to_owned();
        match (was, failed) {
            (None, Some((Some(from), to))) => {
                self.failed.insert(service.clone(), from.clone());
                news.push(News { kind: Kind::Failover, service, from: Some(from), to });
            }
            (Some(from), None) => {
                self.failed.remove(&service);
                let to = Some(from.clone());
                news.push(News { kind: Kind::Return, service, from: Some(from), to });
            }
            (None, None | Some((None, _))) | (Some(_), Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::permit::Permitted;
    use crate::decision::plan::{Cluster, ClusterIndex, Service};
    use crate::decision::signal::{Choice, ClusterSignals, Why};

    const IDC: ClusterIndex = ClusterIndex(0);
    const CLOUD: ClusterIndex = ClusterIndex(1);

    fn plan() -> Plan {
        let all = vec![IDC, CLOUD];
        let permitted = Permitted { clusters: all.clone(), rejected: Vec::new() };
        let service = ServiceIndex(0);
        let class = Class { service, data: Vec::new(), permitted, l4: false, id: 1 };
        Plan {
            clusters: ["idc", "cloud"].iter().map(|name| Cluster::named(name)).collect(),
            services: vec![Service::named("shop", all)].into(),
            classes: vec![class].into(),
            ..Plan::default()
        }
    }

    /// Signals in which the IDC has this state, these clusters are chosen, and this share spills.
    fn signals(idc: State, choices: &[ClusterIndex], spill: f64) -> Signals {
        let choice = |cluster: &ClusterIndex| Choice {
            cluster: *cluster,
            slot: 0,
            share: 1.0,
            why: Why::Nearest,
            warm: false,
            usd: 0.0,
        };
        let class = ClassSignals {
            order: vec![IDC, CLOUD],
            choices: choices.iter().map(choice).collect(),
            demand_rps: 10.0,
            spill,
            ..ClassSignals::default()
        };
        let cluster = |state| Arc::new(ClusterSignals { state, ..ClusterSignals::default() });
        Signals {
            clusters: vec![cluster(idc), cluster(State::Up)].into(),
            classes: vec![Arc::new(class)].into(),
            ..Signals::default()
        }
    }

    #[test]
    fn a_failover_and_a_return_are_told_once() {
        let (plan, mut watch) = (plan(), Watch::default());
        let mut told = |state, choices: &[ClusterIndex]| -> Vec<(Kind, Option<String>)> {
            let news = watch.observe(&plan, &signals(state, choices, 0.0));
            news.into_iter().map(|news| (news.kind, news.to)).collect()
        };
        assert_eq!(told(State::Up, &[IDC, CLOUD]), []);
        assert_eq!(told(State::Draining, &[CLOUD]), [], "an operator's drain is no failure");
        assert_eq!(told(State::Down, &[CLOUD]), [(Kind::Failover, Some("cloud".to_owned()))]);
        assert_eq!(told(State::Down, &[]), [], "told already");
        assert_eq!(told(State::Up, &[CLOUD]), [], "up, and no exchange is sent to it yet");
        assert_eq!(told(State::Up, &[IDC, CLOUD]), [(Kind::Return, Some("idc".to_owned()))]);
        assert_eq!(told(State::Down, &[]), [(Kind::Failover, None)]);
    }

    #[test]
    fn spilling_begins_and_ends_with_hysteresis() {
        let (plan, mut watch) = (plan(), Watch::default());
        let mut told = |spill| {
            let news = watch.observe(&plan, &signals(State::Up, &[IDC, CLOUD], spill));
            news.into_iter().map(|news| news.kind).collect::<Vec<_>>()
        };
        assert_eq!(told(0.01), []);
        assert_eq!(told(0.03), [Kind::SpillStart]);
        assert_eq!(told(0.01), []);
        assert_eq!(told(0.001), [Kind::SpillEnd]);
        assert_eq!(watch.observe(&Plan::default(), &Signals::default()), []);
    }
}
