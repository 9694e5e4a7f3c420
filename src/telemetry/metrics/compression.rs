//! Metrics of compressed responses: how many, their bytes before and after, and those that passed plain.

use super::families::{Families, counter};
use super::scrape::Scrape;
use crate::cells::CompressionCells;
use crate::counter::PerVariant;
use crate::decision::compression::Algorithm;
use crate::decision::plan::Plan;
use prometheus::proto::MetricType;

pub(super) fn compression(families: &mut Families, scrape: &Scrape<'_>) {
    type Figure = fn(&CompressionCells) -> &PerVariant<Algorithm>;
    let mut all = scrape.registry.compressions();
    // Counters exist from the start, at 0.
    for service in compressing(scrape.plan) {
        all.entry(service.to_owned()).or_default();
    }
    let figures: [(&str, &str, Figure); 3] = [
        ("tidegate_compressed_responses_total", "Compressed responses.", |cells| &cells.responses),
        (
            "tidegate_compression_input_bytes_total",
            "Bytes of compressed responses as received from clusters.",
            |cells| &cells.bytes_in,
        ),
        (
            "tidegate_compression_output_bytes_total",
            "Bytes of compressed responses as sent to clients.",
            |cells| &cells.bytes_out,
        ),
    ];
    for (name, help, figure) in figures {
        let family = families.family(name, help, MetricType::COUNTER);
        for (service, cells) in &all {
            for (algorithm, count) in figure(cells).iter() {
                let labels = [("service", service.as_str()), ("algorithm", algorithm.label())];
                family.push(counter(&labels, count as f64));
            }
        }
    }
    let help =
        "Responses that passed plain because the encoders of their worker held too many bytes.";
    let name = "tidegate_compression_passed_total";
    let family = families.family(name, help, MetricType::COUNTER);
    for (service, cells) in &all {
        family.push(counter(&[("service", service)], cells.passed.get() as f64));
    }
}

/// The services with a destination whose responses are compressed.
fn compressing(plan: &Plan) -> impl Iterator<Item = &str> {
    let destinations = plan.routes.routes().iter().flat_map(|route| route.action.destinations());
    let destinations = destinations.filter(|to| to.terms.compression.is_some());
    destinations.map(|to| plan.service_of(to.class).name.as_str())
}
