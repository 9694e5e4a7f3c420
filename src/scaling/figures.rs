//! The desired replicas of one moment, summed over the fleet.
//!
//! A wrong "not needed" would stop endpoints that serve, so nothing is said to be unneeded without evidence:
//!
//! * While the capacity of an endpoint is not known, the number of replicas is the number of endpoints that exist.
//! * A proxy that has just started has neither measured its demand nor heard from its fleet. Until [`WARM`] has passed,
//!   a cluster may be reported as needed, and never as unneeded.

use super::message::Scaled;
use crate::decision::plan::{ClusterIndex, Plan, ServiceIndex};
use crate::decision::scaling::{Need, needs, steady};
use crate::decision::signal::Signals;
use crate::fleet::Needs;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The time after the start in which demand is measured and the reports of the fleet arrive.
pub(super) const WARM: Duration = Duration::from_secs(5);
/// Characters of a name from a request that are repeated in the answer.
const SHOWN_MAX: usize = 128;

/// The desired replicas of one moment.
#[derive(Debug, Default)]
pub(super) struct Figures {
    plan: Arc<Plan>,
    rows: BTreeMap<(ServiceIndex, ClusterIndex), Row>,
    is_warm: bool,
}

/// The desired replicas of a cluster for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Row {
    /// The rate that the cluster should be able to serve, in exchanges a second.
    pub(super) rps: f64,
    /// Whether the cluster is needed.
    pub(super) is_active: bool,
    /// The number of replicas; the number of existing endpoints while the capacity of one is not known.
    pub(super) replicas: u64,
    /// Whether the number of replicas follows from the capacity of an endpoint.
    pub(super) is_known: bool,
}

impl Figures {
    /// The figures of this proxy and of the others; `last` are the previous ones.
    pub(super) fn of(
        plan: &Arc<Plan>,
        signals: &Signals,
        others: &Needs,
        last: &Figures,
        is_warm: bool,
    ) -> Figures {
        let row = |((service, cluster), own): ((ServiceIndex, ClusterIndex), Need)| {
            let (of, at) = (&plan.services[service].name, &plan.clusters[cluster].name);
            let mut need = own;
            if let Some(theirs) = others.get(of).and_then(|clusters| clusters.get(at)) {
                need.add(*theirs);
            }
            let existing =
                || signals.clusters.get(cluster).map_or(0, |known| known.endpoints.len());
            let replicas = match need.replicas() {
                Some(needed) => steady(last.replicas(plan, service, cluster), needed),
                None => existing() as u64,
            };
            let row = Row {
                rps: need.rps(),
                is_active: need.is_active(),
                replicas: replicas.max(u64::from(need.is_active())),
                is_known: need.replicas().is_some(),
            };
            ((service, cluster), row)
        };
        let rows = needs(plan, signals).into_iter().map(row).collect();
        Figures { plan: plan.clone(), rows, is_warm }
    }

    /// The last number of replicas; after a reload the same names may have other indices.
    fn replicas(&self, plan: &Arc<Plan>, service: ServiceIndex, cluster: ClusterIndex) -> u64 {
        let known = match Arc::ptr_eq(plan, &self.plan) {
            true => Some((service, cluster)),
            false => {
                let of = |name: &str| self.plan.services.find(|service| service.name == name);
                let at = |name: &str| self.plan.clusters.find(|cluster| cluster.name == name);
                of(&plan.services[service].name).zip(at(&plan.clusters[cluster].name))
            }
        };
        known.and_then(|known| self.rows.get(&known)).map_or(0, |row| row.replicas)
    }

    /// The row of a scaled object.
    ///
    /// # Errors
    /// What is wrong with the object's metadata, as a sentence.
    pub(super) fn row(&self, scaled: &Scaled) -> Result<Row, String> {
        let named = |key: &str, name: &str| match name {
            "" => Err(format!("scalerMetadata has no `{key}`: name a {key} of the configuration")),
            name => Ok(name.chars().take(SHOWN_MAX).collect::<String>()),
        };
        let of = named("service", &scaled.service)?;
        let at = named("cluster", &scaled.cluster)?;
        let service = self.plan.services.find(|service| service.name == scaled.service);
        let service = service.ok_or_else(|| format!("no service is named `{of}`"))?;
        let cluster = self.plan.clusters.find(|cluster| cluster.name == scaled.cluster);
        let cluster = cluster.ok_or_else(|| format!("no cluster is named `{at}`"))?;
        let row = self.rows.get(&(service, cluster)).copied();
        row.ok_or_else(|| {
            match self.plan.classes.iter().any(|class| class.service == service && !class.l4) {
                true => format!("service `{of}` may not use cluster `{at}`"),
                false => format!(
                    "no HTTP listener or route uses service `{of}`: connections do not show what an endpoint can serve"
                ),
            }
        })
    }

    /// Whether the demand is measured and the fleet was heard.
    pub(super) fn is_warm(&self) -> bool {
        self.is_warm
    }

    /// Whether a row that says "not needed" is evidence.
    pub(super) fn is_evidence(&self, row: Row) -> bool {
        self.is_warm || row.is_active
    }
    /// All rows with the names of service and cluster.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &str, Row)> {
        self.rows.iter().map(|((service, cluster), row)| {
            let names = (&self.plan.services[*service].name, &self.plan.clusters[*cluster].name);
            (names.0.as_str(), names.1.as_str(), *row)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::permit::Permitted;
    use crate::decision::plan::{Class, Cluster, Service};
    use crate::decision::signal::ClassSignals;

    /// A plan with the services `shop` and `raw` (L4), in clusters of these names.
    fn plan(clusters: &[&str]) -> Arc<Plan> {
        let all: Vec<ClusterIndex> = (0..clusters.len()).map(ClusterIndex).collect();
        let class = |service, l4| Class {
            service: ServiceIndex(service),
            data: Vec::new(),
            permitted: Permitted { clusters: all.clone(), rejected: Vec::new() },
            l4,
            id: service as u64,
        };
        Arc::new(Plan {
            clusters: clusters.iter().map(|name| Cluster::named(name)).collect(),
            services: ["shop", "raw"]
                .map(|name| Service::named(name, all.clone()))
                .into_iter()
                .collect(),
            classes: vec![class(0, false), class(1, true)].into(),
            ..Plan::default()
        })
    }

    /// The signals of a need of the service `shop`: rate and endpoints for each cluster.
    fn signals(needs: &[(f64, Option<f64>)]) -> Signals {
        let class = ClassSignals {
            wanted_rps: needs.iter().map(|(rps, _)| *rps).collect(),
            wanted_endpoints: needs.iter().map(|(_, endpoints)| *endpoints).collect(),
            ..ClassSignals::default()
        };
        Signals { classes: vec![Arc::new(class), Arc::default()].into(), ..Signals::default() }
    }

    fn scaled(service: &str, cluster: &str) -> Scaled {
        Scaled { service: service.to_owned(), cluster: cluster.to_owned() }
    }

    #[test]
    fn the_need_of_the_fleet_is_added_by_name_and_survives_a_reload() {
        let plan_before = plan(&["idc", "cloud"]);
        let need = Need { endpoints: 1.5, known_rps: 150.0, unknown_rps: 0.0 };
        let others = [("shop".to_owned(), [("cloud".to_owned(), need)].into())].into();
        let now = signals(&[(0.0, Some(0.0)), (100.0, Some(1.0))]);
        let first = Figures::of(&plan_before, &now, &others, &Figures::default(), true);
        let row = first.row(&scaled("shop", "cloud")).unwrap();
        assert_eq!((row.rps, row.replicas, row.is_active, row.is_known), (250.0, 3, true, true));
        assert!(!first.row(&scaled("shop", "idc")).unwrap().is_active);
        // 2.4 and its reserve stay within three; another order of clusters changes no number.
        let plan_after = plan(&["cloud", "idc"]);
        let later = signals(&[(90.0, Some(0.98)), (0.0, Some(0.0))]);
        let second = Figures::of(&plan_after, &later, &others, &first, true);
        assert_eq!(second.row(&scaled("shop", "cloud")).unwrap().replicas, 3);
        let alone = Figures::of(&plan_after, &later, &Needs::new(), &second, true);
        assert_eq!(alone.row(&scaled("shop", "cloud")).unwrap().replicas, 1);
    }

    #[test]
    fn an_unknown_capacity_keeps_at_least_one_and_a_young_proxy_denies_no_need() {
        let plan = plan(&["idc", "cloud"]);
        let now = signals(&[(0.0, None), (100.0, None)]);
        let young = Figures::of(&plan, &now, &Needs::new(), &Figures::default(), false);
        let cloud = young.row(&scaled("shop", "cloud")).unwrap();
        assert_eq!((cloud.replicas, cloud.is_active, cloud.is_known), (1, true, false));
        assert!(young.is_evidence(cloud));
        let idc = young.row(&scaled("shop", "idc")).unwrap();
        assert!(!young.is_evidence(idc), "it may be needed by others");
        let warm = Figures::of(&plan, &now, &Needs::new(), &young, true);
        assert!(warm.is_evidence(idc));
    }

    #[test]
    fn what_is_wrong_with_the_metadata_is_a_sentence() {
        let figures = Figures::of(
            &plan(&["idc"]),
            &signals(&[(1.0, None)]),
            &Needs::new(),
            &Figures::default(),
            true,
        );
        for (service, cluster, expected) in [
            ("", "idc", "scalerMetadata has no `service`: name a service of the configuration"),
            ("shop", "", "scalerMetadata has no `cluster`: name a cluster of the configuration"),
            ("shpo", "idc", "no service is named `shpo`"),
            ("shop", "idk", "no cluster is named `idk`"),
        ] {
            assert_eq!(figures.row(&scaled(service, cluster)), Err(expected.to_owned()));
        }
        let raw = figures.row(&scaled("raw", "idc")).unwrap_err();
        assert!(raw.starts_with("no HTTP listener or route uses service `raw`"), "{raw}");
        let long = figures.row(&scaled(&"x".repeat(1_000), "idc")).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }
}
