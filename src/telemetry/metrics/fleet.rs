//! Metrics of the fleet.

use super::families::{Families, counter, gauge};
use super::scrape::FleetFigures;
use prometheus::proto::MetricType;

pub(super) fn fleet(families: &mut Families, fleet: &FleetFigures) {
    let help = "Proxies of a site with a recent report, this one included.";
    let members = families.family("tidegate_fleet_members", help, MetricType::GAUGE);
    for (site, count, _) in &fleet.sites {
        members.push(gauge(&[("site", site)], f64::from(*count)));
    }
    let help =
        "Age of the report of a site; for the own site, the age of the oldest report of a peer.";
    let ages = families.family("tidegate_fleet_age_seconds", help, MetricType::GAUGE);
    for (site, _, age) in &fleet.sites {
        ages.push(gauge(&[("site", site)], *age));
    }
    let help = "Reports of fleet peers that were refused, by reason.";
    let refused = families.family("tidegate_fleet_refused_total", help, MetricType::COUNTER);
    for (reason, count) in &fleet.refused {
        refused.push(counter(&[("reason", reason)], *count as f64));
    }
    let help = "Response times that other proxies of the site told.";
    let samples = families.family("tidegate_fleet_samples_total", help, MetricType::COUNTER);
    samples.push(counter(&[], fleet.samples as f64));
    let Some((connected, dropped)) = fleet.nats else { return };
    let help = "Whether there is a connection to NATS.";
    let connections = families.family("tidegate_fleet_nats_connected", help, MetricType::GAUGE);
    connections.push(gauge(&[], f64::from(u8::from(connected))));
    let help = "Reports dropped without a connection to NATS.";
    let drops = families.family("tidegate_fleet_nats_dropped_total", help, MetricType::COUNTER);
    drops.push(counter(&[], dropped as f64));
}
