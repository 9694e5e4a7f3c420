//! The clusters that did not get an exchange, and why.

use crate::decision::plan::{ClassIndex, ClusterIndex};
use crate::decision::signal::Why;
use crate::shared::View;

/// The clusters that did not get an exchange, with the reasons: `NAME:REASON`. `chosen` is the cluster that did.
#[must_use]
pub fn rejected(
    view: &View,
    class: ClassIndex,
    chosen: Option<(ClusterIndex, Why)>,
) -> Vec<String> {
    let permitted = &view.plan.classes[class].permitted;
    let name = |cluster: ClusterIndex| &view.plan.clusters[cluster].name;
    let mut rejected: Vec<String> = permitted
        .rejected
        .iter()
        .map(|(cluster, reason)| format!("{}:{}", name(*cluster), reason.label()))
        .collect();
    let Some(beliefs) = view.signals.classes.get(class) else { return rejected };
    let nearer = beliefs
        .order
        .iter()
        .take_while(|nearer| chosen.is_none_or(|(cluster, _)| cluster != **nearer));
    for &cluster in nearer {
        let live = beliefs.choices.iter().any(|choice| choice.cluster == cluster);
        let reason = match live {
            true if view.signals.full_group(&view.plan, cluster).is_some() => "capacity_group",
            true => chosen.map_or(Why::Spill, |(_, why)| why).objection(),
            false => view.signals.clusters[cluster].objection(),
        };
        rejected.push(format!("{}:{reason}", name(cluster)));
    }
    rejected
}
