//! Metrics of routes: statuses and durations.

use super::families::{Families, counter, histogram};
use super::scrape::Scrape;
use prometheus::proto::MetricType;

pub(super) fn routes(families: &mut Families, scrape: &Scrape<'_>) {
    let all = scrape.registry.routes();
    let help = "Exchanges of a route by the status sent.";
    let requests = families.family("tidegate_route_requests_total", help, MetricType::COUNTER);
    for (route, totals) in &all {
        for (class, count) in totals.by_class.iter() {
            let labels = [("route", route.as_str()), ("code_class", class.label())];
            requests.push(counter(&labels, count as f64));
        }
    }
    let help = "From a request's head to the end of its response, by route.";
    let durations = families.family("tidegate_route_duration_seconds", help, MetricType::HISTOGRAM);
    for (route, totals) in &all {
        durations.push(histogram(&[("route", route)], &totals.duration.totals()));
    }
}
