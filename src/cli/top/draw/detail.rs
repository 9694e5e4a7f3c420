//! What is below the table: the selected row in detail.

use super::{bold, grey, put, style};
use crate::cli::text::{count, folded, percent, rate, shown, span, spark};
use crate::cli::top::rows::{Row, View};
use crate::cli::top::world::{Cluster, Health, Service, World};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use std::time::Duration;

/// Draws the description of the selected row.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, view: View, world: &World, row: &Row) {
    let rule = "─".repeat(area.width.into());
    put(buffer, area, 0, &rule, grey());
    let inside = Rect { y: area.y + 1, height: area.height - 1, ..area };
    match view {
        View::Sites => site(buffer, inside, world, &row.name),
        View::Services => {
            if let Some(of) = world.services.iter().find(|service| service.name == row.name) {
                service(buffer, inside, world, of);
            }
        }
        View::Clusters => {
            if let Some(of) = world.clusters.iter().find(|cluster| cluster.name == row.name) {
                cluster(buffer, inside, of);
            }
        }
        View::Events => {
            let sentence = row.cells.last().map_or("", |cell| &cell.text);
            wrapped(buffer, inside, 0, sentence, style(row.health));
        }
    }
}

/// Writes text over as many rows as it needs; returns the next row.
pub(super) fn wrapped(buffer: &mut Buffer, area: Rect, row: u16, text: &str, style: Style) -> u16 {
    let mut row = row;
    for line in folded(text, area.width) {
        put(buffer, area, row, &line, style);
        row = row.saturating_add(1);
    }
    row
}

fn site(buffer: &mut Buffer, area: Rect, world: &World, name: &str) {
    let mut row = 0;
    for cluster in world.clusters_of(name) {
        let health = cluster.health();
        let rate = rate(world.rate_to(&cluster.name));
        let text =
            format!("{} {}  {}  {rate}/s", health.mark(), shown(&cluster.name), health.word());
        put(buffer, area, row, &text, style(health));
        row += 1;
    }
    let fleet = world.fleet.iter().flat_map(|fleet| &fleet.members);
    let of_site = fleet.filter(|member| member.site.as_deref() == Some(name));
    for error in of_site.filter_map(|member| member.error.as_ref()) {
        put(buffer, area, row, &format!("a proxy: {}", shown(error)), style(Health::Degraded));
        row += 1;
    }
}

/// The shares of a service by cluster, nearest first, and its requests a second of the last ten minutes.
fn service(buffer: &mut Buffer, area: Rect, world: &World, service: &Service) {
    /// Columns of a bar.
    const BAR: usize = 20;
    let all: f64 = service.to.values().sum();
    let most = usize::from(area.height.saturating_sub(1));
    for (at, name) in service.order.iter().take(most).enumerate() {
        let rate_of = service.to.get(name).copied().unwrap_or(0.0);
        let share = (all > 0.0).then(|| rate_of / all);
        let filled = (share.unwrap_or(0.0) * BAR as f64).round() as usize;
        let known = world.clusters.iter().find(|cluster| cluster.name == *name);
        let health = known.map_or(Health::Unknown, Cluster::health);
        let colour = match (health, at) {
            (Health::Good, 1..) => style(Health::Spilling),
            (_, _) => style(health),
        };
        let bar = format!("{}{}", "█".repeat(filled.min(BAR)), "·".repeat(BAR - filled.min(BAR)));
        let text = format!(
            "{} {bar} {:>6} {:>8}/s  {}",
            health.mark(),
            percent(share),
            rate(Some(rate_of)),
            shown(name)
        );
        put(buffer, area, u16::try_from(at).unwrap_or(0), &text, colour);
    }
    let last = area.height.saturating_sub(1);
    let Some(course) = world.history.services.get(&service.name) else { return };
    let title = "10 min ";
    let line = Rect { y: area.y + last, height: 1, ..area };
    let used = put(buffer, line, 0, title, grey());
    let width = area.width.saturating_sub(used);
    let rest = Rect { x: line.x + used, width, ..line };
    put(buffer, rest, 0, &spark(&course.requests_per_s, width.into()), style(Health::Good));
}

fn cluster(buffer: &mut Buffer, area: Rect, cluster: &Cluster) {
    let why = cluster.why.as_deref().unwrap_or_default();
    let first = match why {
        "" => 0,
        why => wrapped(buffer, area, 0, &shown(why), bold()),
    };
    for (row, endpoint) in (first..).zip(&cluster.endpoints) {
        let is_up = endpoint.state == "up";
        let health = if is_up { Health::Good } else { Health::Down };
        let error = endpoint.last_error_text.as_ref().or(endpoint.last_error.as_ref());
        let age = endpoint.last_error_age_s.filter(|age| (0.0..1e9).contains(age));
        let ago = age
            .map_or(String::new(), |age| format!(", {} ago", span(Duration::from_secs_f64(age))));
        let text = format!(
            "{} {}  {}  {} in flight{}",
            health.mark(),
            shown(&endpoint.address),
            shown(&endpoint.state),
            count(endpoint.in_flight),
            error.map_or(String::new(), |error| format!("  last error: {}{ago}", shown(error)))
        );
        put(buffer, area, row, &text, style(health));
    }
}
