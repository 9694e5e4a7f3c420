//! The metrics as Prometheus text: name, help and labels of each metric, with one file for each
//! subject.
//!
//! A scrape reads the workers' cells and the view in force; no request waits for a scrape.

mod clusters;
mod compression;
mod exchanges;
mod families;
mod fleet;
mod listeners;
mod process;
mod routes;
mod scaling;
mod scrape;
mod services;

use families::Families;

pub use scrape::{
    ApiServerFigures, FleetFigures, OperationFigures, ScalingFigures, Scrape, ServerFigures,
    SourceFigures,
};

/// The exposition as Prometheus text.
#[must_use]
pub fn text(scrape: &Scrape<'_>) -> String {
    let mut families = Families::default();
    process::server(&mut families, scrape);
    process::state(&mut families, scrape);
    process::admin(&mut families, scrape);
    listeners::listeners(&mut families, scrape);
    exchanges::exchanges(&mut families, scrape.plan, &scrape.registry.exchanges());
    routes::routes(&mut families, scrape);
    clusters::clusters(&mut families, scrape);
    compression::compression(&mut families, scrape);
    services::services(&mut families, scrape);
    fleet::fleet(&mut families, &scrape.server.fleet);
    process::spans(&mut families, scrape);
    scaling::scaling(&mut families, &scrape.server.scaling);
    process::operations(&mut families, scrape);
    process::of_process(&mut families, scrape);
    families.text()
}
