//! The configuration in force at a running proxy, for a simulation without its file.
//!
//! The API shows the configuration with defaults and inheritance applied, values of header fields redacted, and paths of
//! files of another machine. [`decides`] keeps exactly what the decisions of a service depend on, so that neither redacted
//! values nor absent files matter. The order of services is lost in JSON; `/api/v1/services` has it.

use super::known::get;
use crate::admin::client::Remote;
use crate::config::{Severity, load};
use crate::decision::plan::Plan;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A plan that decides as the one in force, and the name of its first service.
///
/// # Errors
/// Why there is none, as text for an operator.
pub(super) fn in_force(remote: &Remote) -> Result<(Plan, Option<String>), String> {
    let config = get(remote, "/api/v1/config")?;
    let services = get(remote, "/api/v1/services")?;
    let first = services[0]["name"].as_str().map(str::to_owned);
    Ok((plan(&config).map_err(|why| format!("{}: {why}", remote.url))?, first))
}

fn plan(config: &Value) -> Result<Plan, String> {
    let decides = decides(config);
    if decides["listeners"].as_object().is_none_or(Map::is_empty) {
        return Err("the configuration in force has no http listener".to_owned());
    }
    // JSON is YAML; what looks like a variable was text.
    let text = decides.to_string().replace("${", "$${");
    let outcome = load(&text, Path::new("."), &|_| None);
    match outcome.config {
        Some(config) => Ok(config.plan),
        None => {
            let errors =
                outcome.problems.iter().filter(|problem| problem.severity == Severity::Error);
            let lines: Vec<String> =
                errors.map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
            let text =
                "the configuration in force cannot be read; is the proxy of another version?";
            Err(format!("{text}\n{}", lines.join("\n")))
        }
    }
}

/// The part of a configuration that decides which clusters serve an HTTP exchange.
fn decides(config: &Value) -> Value {
    let sites = config["sites"].as_object();
    let cluster = |cluster: &Value| of_cluster(cluster, sites);
    let http = |(_, listener): &(&String, &Value)| listener["protocol"] == "http";
    let listeners = config["listeners"].as_object().into_iter().flatten().filter(http);
    // Addresses of their own cannot overlap with each other or with the admin API.
    let listener = |(place, (name, listener)): (usize, (&String, &Value))| {
        let mut kept = only(listener, &["protocol", "service"]);
        kept["address"] = json!(format!("127.0.0.1:{}", place + 1));
        (name.clone(), kept)
    };
    let routes = config["routes"].as_array().into_iter().flatten();
    let mut all = only(config, &["capacity_groups"]);
    all["sites"] = each(&config["sites"], of_site);
    all["admin"] = json!({"address": "off"});
    all["site"] = only(&config["site"], &["name", "environment"]);
    all["listeners"] = Value::Object(listeners.enumerate().map(listener).collect());
    all["routes"] =
        routes.enumerate().filter_map(|(place, route)| of_route(place, route)).collect();
    all["services"] = each(&config["services"], of_service);
    all["clusters"] = each(&config["clusters"], cluster);
    all
}

/// A site without its offers: its clusters are shown with them.
fn of_site(site: &Value) -> Value {
    let mut kept = site.clone();
    if let Some(keys) = kept.as_object_mut() {
        keys.remove("offers");
    }
    kept
}

fn of_service(service: &Value) -> Value {
    const KEYS: &[&str] = &[
        "budget",
        "clusters",
        "data",
        "environment",
        "hedge",
        "needs",
        "per_try_timeout",
        "priority",
        "protocol",
        "retry",
        "strategy",
        "timeout",
        "total_timeout",
    ];
    only(service, KEYS)
}

/// A route to services: the data classes and the needs of its requests. Its conditions may have redacted values, and say
/// nothing about clusters; a path of its own keeps it apart from the others.
fn of_route(place: usize, route: &Value) -> Option<Value> {
    let to = if route["service"].is_string() { "service" } else { "split" };
    let mut kept = only(route, &[to, "data", "listeners", "mirror", "needs"]);
    kept["path"] = json!(format!("/{place}"));
    (!kept[to].is_null()).then_some(kept)
}

/// A cluster without what only connections need.
fn of_cluster(cluster: &Value, sites: Option<&Map<String, Value>>) -> Value {
    const CONNECTIONS: &[&str] = &["host", "protocol", "send_proxy_protocol", "tls"];
    let mut kept = cluster.clone();
    let Some(keys) = kept.as_object_mut() else { return kept };
    keys.retain(|key, _| !CONNECTIONS.contains(&key.as_str()));
    // A cluster without a site is shown with a site of its own, which is not in `sites`.
    let site = cluster["site"].as_str().unwrap_or_default();
    if !sites.is_some_and(|sites| sites.contains_key(site)) {
        keys.remove("site");
    }
    if let Some(probe) = keys.get_mut("probe").and_then(Value::as_object_mut) {
        probe.remove("headers");
        if probe.get("kind").is_some_and(|kind| kind == "tls") {
            probe.insert("kind".to_owned(), json!("tcp"));
        }
    }
    // Discovered endpoints are counted by the proxy. A name needs no file, and is not resolved.
    if keys.contains_key("discover") {
        keys.insert("discover".to_owned(), json!({"dns": "endpoints.invalid:80"}));
    }
    kept
}

/// These keys of a map, as far as it has them.
fn only(map: &Value, keys: &[&str]) -> Value {
    let found = keys.iter().filter_map(|key| Some(((*key).to_owned(), map.get(*key)?.clone())));
    Value::Object(found.collect())
}

/// A map with each value changed.
fn each(map: &Value, change: impl Fn(&Value) -> Value) -> Value {
    let all = map.as_object().into_iter().flatten();
    Value::Object(all.map(|(name, value)| (name.clone(), change(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::{Class, Cluster, Service, Source};

    /// Two listeners, one of them with certificates, files of another machine, redacted values, routes that differ by a
    /// redacted value alone, and services that are not sorted by name.
    const FILE: &str = r#"
site: { name: edge, environment: staging }
admin: { address: 127.0.0.1:9902, token_file: token }
listeners:
  web: { address: 127.0.0.1:0, protocol: http, service: shop, request_headers: { set: { x-key: "s3cret" } } }
  other: { address: 127.0.0.1:9901, protocol: http, service: archive }
  raw: { address: 127.0.0.2:0, protocol: tcp, service: archive }
sites:
  east: { kind: idc, environment: staging, accepts: [general, sensitive], offers: [gpu], capacity_group: line, cost: { per_gib: 0.02 } }
capacity_groups: { line: { concurrent: 40, mbit_per_s: 200 } }
clusters:
  idc:
    site: east
    accepts: [general, sensitive]
    endpoints: ["10.0.0.1:80", { address: "10.0.0.2:80", weight: 3 }]
    protocol: http2
    tls: { server_name: idc.example }
    probe: { kind: tls }
    capacity: { concurrent: 7, shared_by: fleet }
    dial: 80
  near: { endpoints: ["10.0.1.1:80"], cost: { per_million_requests: 0.4 }, probe: { kind: http, path: /h, headers: { x-token: "s3cret" } } }
  far: { discover: { dns: "far.example:80" }, failback: { mode: manual } }
services:
  shop: { clusters: [near, idc], data: general, budget: { usd_per_hour: 3, shared_by: fleet }, error_pages: { 5xx: missing.html } }
  archive: { clusters: [far, idc], strategy: priority, needs: [], concurrency: 5 }
routes:
  - { hosts: [a.example], headers: { x-tenant: one }, service: shop, data: sensitive }
  - { hosts: [a.example], headers: { x-tenant: two }, split: { shop: 1, archive: 2 }, needs: [gpu] }
  - { path: /gone, redirect: https }
  - { path_regex: "/${ID}", service: archive }
"#;

    /// The plan of the file, and the configuration as the API shows it.
    fn of_file(test: &str) -> (Plan, Value) {
        let name = format!("tidegate-in-force-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("missing.html"), "sorry").unwrap();
        std::fs::write(folder.join("token"), "secret").unwrap();
        let outcome = load(FILE, &folder, &|_| Some("[0-9]+".to_owned()));
        let config = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.problems));
        std::fs::remove_dir_all(folder).unwrap();
        (config.plan, config.effective)
    }

    #[test]
    fn the_plan_decides_as_that_of_the_file() {
        let (file, shown) = of_file("plan");
        assert!(shown.to_string().contains("redacted") && !shown.to_string().contains("s3cret"));

        let own = plan(&shown).unwrap();

        assert_eq!((&own.site, &own.environment), (&file.site, &file.environment));
        assert_eq!(own.groups, file.groups);
        let classes = |plan: &Plan| -> Vec<_> {
            let http = plan.classes.iter().filter(|class| !class.l4);
            let named = |class: &Class| {
                let name =
                    |at: &crate::decision::plan::ClusterIndex| plan.clusters[*at].name.clone();
                let permitted: Vec<String> = class.permitted.clusters.iter().map(name).collect();
                (plan.services[class.service].name.clone(), class.data.clone(), permitted)
            };
            // The parts of a split come in another order; those of one service do not.
            let mut all: Vec<_> = http.map(named).collect();
            all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
            all
        };
        assert_eq!(classes(&own), classes(&file));
        assert!(classes(&own).len() >= 4, "{:?}", classes(&own));
        for theirs in &file.clusters {
            let index = own.clusters.find(|cluster| cluster.name == theirs.name).unwrap();
            let group = |plan: &Plan, cluster: &Cluster| {
                cluster.group.map(|group| plan.groups[group].name.clone())
            };
            let mine = &own.clusters[index];
            assert_eq!(decisive(mine), decisive(theirs));
            assert_eq!(group(&own, mine), group(&file, theirs));
        }
        for theirs in &file.services {
            let index = own.services.find(|service| service.name == theirs.name).unwrap();
            let names = |plan: &Plan, service: &Service| -> Vec<String> {
                service.clusters.iter().map(|at| plan.clusters[*at].name.clone()).collect()
            };
            let mine = &own.services[index];
            assert_eq!(names(&own, mine), names(&file, theirs));
            assert_eq!(
                (mine.strategy, mine.budget, &mine.data, mine.priority),
                (theirs.strategy, theirs.budget, &theirs.data, theirs.priority)
            );
        }
    }

    /// What the decisions use of a cluster, as text.
    fn decisive(cluster: &Cluster) -> String {
        let endpoints = match &cluster.source {
            Source::Static(specs) => specs.iter().map(|spec| spec.weight).collect(),
            _ => Vec::new(),
        };
        format!(
            "{} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {} {endpoints:?} {:?} {:?} {:?}",
            cluster.name,
            cluster.site,
            cluster.kind,
            cluster.environment,
            cluster.accepts,
            cluster.offers,
            cluster.prices,
            cluster.capacity,
            cluster.ceiling,
            cluster.dial,
            cluster.outlier,
            cluster.failback,
            cluster.probe.interval,
        )
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_an_error_with_its_place() {
        let (_, mut shown) = of_file("error");
        shown["clusters"]["near"]["capacity"] = json!({"concurrent": 0});
        let why = plan(&shown).unwrap_err();
        assert!(why.contains("another version?\nclusters.near.capacity.concurrent: "), "{why}");
        let none = plan(&json!({"listeners": {"raw": {"protocol": "tcp"}}})).unwrap_err();
        assert!(none.contains("no http listener"), "{none}");
    }
}
