//! Capacity groups, and the references of sites and clusters to them.

use super::compiler::Compiler;
use super::error::Problem;
use super::file;
use super::shape::Spanned;
use crate::decision::capacity_group::{CapacityGroup, GroupIndex};

/// Bounds of a rate, in Mbit/s.
const MBIT_PER_S: std::ops::RangeInclusive<f64> = 0.1..=1e6;

impl Compiler<'_> {
    /// Compiles all capacity groups into the plan, and checks the references of sites.
    pub(super) fn groups(&mut self) {
        for (name, written) in self.file.capacity_groups.iter().flat_map(|groups| &groups.0) {
            let path = format!("capacity_groups.{}", name.value);
            if written.concurrent.is_none() && written.mbit_per_s.is_none() {
                let message = "needs `concurrent`, `mbit_per_s` or both";
                let problem = Problem::error(written.at, &path, message);
                self.problems.lacking(&path, &["concurrent", "mbit_per_s"], problem);
            }
            let rate = written.mbit_per_s.map(|rate| rate.0);
            if rate.is_some_and(|rate| !MBIT_PER_S.contains(&rate)) {
                let path = format!("{path}.mbit_per_s");
                self.problems.error(written.at, path, "must be from 0.1 to 1000000");
            }
            self.plan.groups.push(CapacityGroup {
                name: name.value.clone(),
                concurrent: written
                    .concurrent
                    .as_ref()
                    .map(|most| u32::try_from(most.0).unwrap_or(u32::MAX)),
                bytes_per_s: rate.map(|rate| rate * 1e6 / 8.0),
                shared: written.shared_by == Some(file::SharedBy::Fleet),
            });
        }
        for (name, site) in self.file.sites.iter().flat_map(|sites| &sites.0) {
            if let Some(wanted) = &site.capacity_group {
                self.group(wanted, &format!("sites.{}.capacity_group", name.value));
            }
        }
    }

    /// The capacity group of a cluster: its own, or its site's.
    pub(super) fn group_of(&mut self, cluster: &file::Cluster, path: &str) -> Option<GroupIndex> {
        if let Some(wanted) = &cluster.capacity_group {
            return self.group(wanted, &format!("{path}.capacity_group"));
        }
        let site = &cluster.site.as_ref()?.value;
        let sites = self.file.sites.as_ref()?;
        let (_, site) = sites.0.iter().find(|(name, _)| name.value == *site)?;
        let wanted = &site.capacity_group.as_ref()?.value;
        self.plan.groups.find(|group| group.name == *wanted)
    }

    fn group(&mut self, wanted: &Spanned<String>, path: &str) -> Option<GroupIndex> {
        let found = self.plan.groups.find(|group| group.name == wanted.value);
        let groups = self.file.capacity_groups.as_ref();
        let is_broken = groups.is_some_and(|groups| groups.is_broken(&wanted.value));
        if found.is_none() && !is_broken {
            let message = format!("there is no capacity group `{}`", wanted.value);
            let names: Vec<&str> = groups.into_iter().flat_map(|groups| groups.names()).collect();
            self.unknown(wanted.at, path, message, &wanted.value, names);
        }
        found
    }
}
