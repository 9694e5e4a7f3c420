//! The configuration in force, in the format of the file: with defaults and inheritance applied and values of header
//! fields redacted.

use super::file::File;
use super::shape::Decode;
use super::yaml::Node;
use crate::decision::plan::{Kind, Plan};
use serde_json::{Value, json};

/// The configuration of `tree`, compiled to `plan`, in the format of the file.
#[must_use]
pub(super) fn effective(tree: &Node, plan: &Plan) -> Value {
    let mut all = File::effective(tree).unwrap_or(Value::Null);
    all["site"]["name"] = json!(plan.site);
    for cluster in &plan.clusters {
        let shown = &mut all["clusters"][&cluster.name];
        shown["site"] = json!(cluster.site);
        shown["kind"] = match cluster.kind {
            Kind::Idc => json!("idc"),
            Kind::Cloud => json!("cloud"),
        };
        shown["environment"] = json!(cluster.environment);
        shown["accepts"] = json!(cluster.accepts);
        shown["offers"] = json!(cluster.offers);
        if let Some(group) = cluster.group.and_then(|group| plan.groups.get(group)) {
            shown["capacity_group"] = json!(group.name);
        }
        shown["cost"] = json!({
            "per_gib": cluster.prices.per_gib,
            "per_million_requests": cluster.prices.per_million_requests,
        });
    }
    for service in &plan.services {
        let shown = &mut all["services"][&service.name];
        shown["environment"] = json!(service.environment);
        shown["data"] = json!(service.data);
    }
    all
}
