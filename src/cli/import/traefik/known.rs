//! Parts of the configuration that need no equivalent, or have none.

use super::super::model::Model;
use super::tree::Tree;

const UNNEEDED: &[(&str, &str)] = &[
    ("global", "nothing is sent to the makers"),
    ("log", "messages go to standard error (`log`)"),
    ("accessLog", "the access log is on (`access_log`)"),
    ("metrics", "metrics are at /metrics of the admin API"),
    ("ping", "use /livez and /readyz of the admin API"),
    ("api", "the admin API and the dashboard are at 127.0.0.1:9901 (`admin`)"),
    ("providers.file", "the file is watched"),
    ("experimental", "there are no plugins"),
    ("hostResolver", "the name servers of /etc/resolv.conf are used"),
];

const LEFT_OUT: &[(&str, &str)] = &[
    (
        "providers.docker",
        "containers are not discovered: list their addresses, or import the Compose file with the labels",
    ),
    ("providers.swarm", "containers are not discovered: list their addresses as endpoints"),
    (
        "providers.kubernetesCRD",
        "use `discover.kubernetes` for the endpoints, and write the routes",
    ),
    (
        "providers.kubernetesIngress",
        "use `discover.kubernetes` for the endpoints, and write the routes",
    ),
    (
        "providers.kubernetesGateway",
        "use `discover.kubernetes` for the endpoints, and write the routes",
    ),
    ("providers.consulCatalog", "use `discover.dns` or `discover.srv` with Consul's DNS"),
    ("providers.consul", "use `config.source: nats`, or a file"),
    ("providers.etcd", "use `config.source: nats`, or a file"),
    ("providers.redis", "use `config.source: nats`, or a file"),
    ("providers.zooKeeper", "use `config.source: nats`, or a file"),
    ("providers.http", "use `config.source: nats`, or a file"),
    ("providers.nomad", "use `discover.srv` with Nomad's DNS"),
    ("providers.ecs", "use `discover.dns` with the service's name"),
    ("providers.rest", "use `config.source: nats`, or a file"),
    ("tracing", "write `tracing.otlp` with the collector's address (cargo feature otel)"),
    ("pilot", "the service has ended"),
];

/// Notes these parts.
pub(super) fn note(model: &mut Model, root: &Tree) {
    for (path, why) in UNNEEDED {
        if let Some(found) = root.get(path) {
            model.unneeded(&found.at, path, why);
        }
    }
    for (path, hint) in LEFT_OUT {
        if let Some(found) = root.get(path) {
            model.left_out(&found.at, path, hint);
        }
    }
    let tables = [UNNEEDED, LEFT_OUT].concat();
    for (section, of) in [("", root.entries("")), ("providers", root.entries("providers"))] {
        for (key, tree) in of {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            let translated = [
                "http",
                "tcp",
                "udp",
                "tls",
                "entryPoints",
                "certificatesResolvers",
                "serversTransport",
                "providers",
                "providers.providersThrottleDuration",
                "core",
            ];
            let known = tables.iter().any(|(known, _)| known.eq_ignore_ascii_case(&path))
                || translated.iter().any(|known| known.eq_ignore_ascii_case(&path));
            if !known {
                model.left_out(&tree.at, &path, "the importer does not know this part");
            }
        }
    }
}
