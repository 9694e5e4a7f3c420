//! Metrics of services: demand, spill, spend, desired replicas.

use super::families::{CLUSTER, Families, counter, gauge};
use super::scrape::Scrape;
use crate::decision::price::Spend;
use prometheus::proto::MetricType;
use std::collections::BTreeMap;

pub(super) fn services(families: &mut Families, scrape: &Scrape<'_>) {
    let mut spill: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (class, signals) in scrape.plan.classes.iter().zip(&scrape.signals.classes) {
        let name = scrape.plan.services[class.service].name.as_str();
        let (spilled, demand) = spill.entry(name).or_default();
        *spilled += signals.spill * signals.demand_rps;
        *demand += signals.demand_rps;
    }
    let ratios = families.family(
        "tidegate_spill_ratio",
        "Share of exchanges sent beyond the nearest cluster because of load.",
        MetricType::GAUGE,
    );
    for (service, (spilled, demand)) in &spill {
        let ratio = if *demand > 0.0 { spilled / demand } else { 0.0 };
        ratios.push(gauge(&[("service", service)], ratio));
    }
    money(families, scrape);
    let demands = families.family("tidegate_demand_rps", "Exchanges a second.", MetricType::GAUGE);
    for (service, (_, demand)) in &spill {
        demands.push(gauge(&[("service", service)], *demand));
    }
}

/// Spend, desired replicas and forecast demand.
fn money(families: &mut Families, scrape: &Scrape<'_>) {
    let mut expected: BTreeMap<&str, Option<f64>> = BTreeMap::new();
    for (class, signals) in scrape.plan.classes.iter().zip(&scrape.signals.classes) {
        let service = scrape.plan.services[class.service].name.as_str();
        let sum = expected.entry(service).or_insert(Some(0.0));
        *sum = sum.zip(signals.forecast_rps).map(|(sum, rps)| sum + rps);
    }
    let mut replicas: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (class, signals) in scrape.plan.classes.iter().zip(&scrape.signals.classes) {
        let service = scrape.plan.services[class.service].name.as_str();
        for (cluster, needed) in class.permitted.clusters.iter().zip(&signals.wanted_endpoints) {
            if let Some(needed) = needed {
                let key = (service, scrape.plan.clusters[*cluster].name.as_str());
                *replicas.entry(key).or_default() += needed;
            }
        }
    }
    let help = "Endpoints needed for this proxy's demand expected after scaling.lead; round up the sum over all proxies.";
    let family = families.family("tidegate_desired_replicas", help, MetricType::GAUGE);
    for ((service, cluster), needed) in replicas {
        family.push(gauge(&[("service", service), (CLUSTER, cluster)], needed));
    }
    spent(families, scrape);
    let help = "Unspent part of the budget's bucket, 0 to 1.";
    let family = families.family("tidegate_budget_left_ratio", help, MetricType::GAUGE);
    for (service, level) in scrape.plan.services.iter().zip(&scrape.signals.budget_levels) {
        family.extend(level.map(|level| gauge(&[("service", &service.name)], level)));
    }
    let help = "Exchanges a second expected after scaling.lead.";
    let family = families.family("tidegate_demand_forecast_rps", help, MetricType::GAUGE);
    for (service, rps) in expected {
        if let Some(rps) = rps {
            family.push(gauge(&[("service", service)], rps));
        }
    }
}

/// The traffic from clusters and its cost.
fn spent(families: &mut Families, scrape: &Scrape<'_>) {
    type Figure = fn(&Spend) -> f64;
    let figures: [(&str, &str, Figure); 2] = [
        ("tidegate_spend_usd_total", "Cost of the traffic in dollars.", |spend| spend.usd),
        ("tidegate_upstream_bytes_total", "Bytes from clusters to the proxy.", |s| s.bytes),
    ];
    for (name, help, figure) in figures {
        let family = families.family(name, help, MetricType::COUNTER);
        for (service, spent) in scrape.plan.services.iter().zip(&scrape.signals.spent) {
            for (cluster, spend) in service.clusters.iter().zip(spent.iter()) {
                let cluster = &scrape.plan.clusters[*cluster].name;
                let labels = [("service", service.name.as_str()), (CLUSTER, cluster.as_str())];
                family.push(counter(&labels, figure(spend)));
            }
        }
    }
}
