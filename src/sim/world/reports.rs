//! Two kinds of reports: the load that places report to proxies, with a delay, and the response times that proxies report to
//! the other proxies of their site.

use super::{Event, World};
use crate::place::Place;

impl World<'_> {
    /// Plans the first of each.
    pub(super) fn plan_reports(&mut self) {
        if self.spec.reports.is_some_and(|age| age > 0.0) {
            self.at(0, Event::Keep);
        }
        let count = self.spec.edges.len() as u64;
        if self.spec.fleet {
            // Each at a moment of its own.
            let first = |edge| 1_000_000_000 * edge / count;
            (0..count).for_each(|edge| self.at(first(edge), Event::Tell(edge as u32)));
        }
    }

    /// Keeps the reports of places, for edges that receive them late.
    pub(super) fn keep_reports(&mut self) {
        let now = self.seconds();
        for place in &mut self.places {
            place.account(now);
        }
        self.history.push((now, self.places.iter().map(Place::report).collect()));
        self.after(0.1, Event::Keep);
    }

    /// The report of a proxy arrives at the other proxies of its site.
    pub(super) fn tell(&mut self, edge: usize) {
        self.after(1.0, Event::Tell(edge as u32));
        let (now, edges) = (self.seconds(), &self.spec.edges);
        let site: Vec<usize> =
            (0..edges.len()).filter(|other| edges[*other].rtt_ms == edges[edge].rtt_ms).collect();
        let proxy = &mut self.proxies[edge];
        let texts = proxy.policy.tells((site.len() as u32, edge as u64), now);
        let told = proxy.told.news(&texts, now);
        if !told.is_empty() {
            for other in site.into_iter().filter(|other| *other != edge) {
                self.proxies[other].policy.hears(&told, now);
            }
        }
    }
}
