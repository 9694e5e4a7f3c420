//! Labels and arguments of containers in a Docker Compose file.

use super::super::model::Model;
use super::tree::{Tree, Value};

/// Whether a file is a Docker Compose file.
pub(super) fn is_compose(tree: &Tree) -> bool {
    let services = tree.entries("services");
    let known = ["image", "build", "labels", "command", "ports", "container_name", "deploy"];
    services.iter().any(|(_, service)| known.iter().any(|key| service.get(key).is_some()))
}

/// The configuration that labels, and arguments of a Traefik container, are.
pub(super) fn labels(compose: &Tree, model: &mut Model) -> Tree {
    let mut root = Tree::empty(&compose.at);
    for (name, service) in compose.entries("services") {
        if service.text("image").is_some_and(|image| image.contains("traefik")) {
            arguments(&mut root, service);
        }
        let pairs = [pairs(service, "labels"), pairs(service, "deploy.labels")].concat();
        let pairs: Vec<_> = pairs
            .into_iter()
            .filter(|(key, ..)| key.to_ascii_lowercase().starts_with("traefik."))
            .collect();
        if pairs.is_empty() {
            continue;
        }
        let is_off = pairs
            .iter()
            .any(|(key, value, _)| key.eq_ignore_ascii_case("traefik.enable") && value != "true");
        if is_off {
            continue;
        }
        container(&mut root, name, service, &pairs, model);
    }
    root
}

type Pair = (String, String, super::super::model::Origin);

fn pairs(service: &Tree, path: &str) -> Vec<Pair> {
    let Some(labels) = service.get(path) else { return Vec::new() };
    match &labels.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Text(text) => {
                    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
                    // Compose writes a dollar as two.
                    Some((key.to_owned(), value.replace("$$", "$"), item.at.clone()))
                }
                Value::List(_) | Value::Map(_) => None,
            })
            .collect(),
        Value::Map(entries) => entries
            .iter()
            .filter_map(|(key, value)| match &value.value {
                Value::Text(text) => Some((key.clone(), text.replace("$$", "$"), value.at.clone())),
                Value::List(_) | Value::Map(_) => None,
            })
            .collect(),
        Value::Text(_) => Vec::new(),
    }
}

/// `--entrypoints.web.address=:80` as static configuration.
fn arguments(root: &mut Tree, service: &Tree) {
    let arguments = match service.get("command").map(|tree| &tree.value) {
        Some(Value::List(items)) => items.clone(),
        Some(Value::Text(text)) => {
            let at = service.at.clone();
            text.split_whitespace()
                .map(|word| Tree { at: at.clone(), value: Value::Text(word.to_owned()) })
                .collect()
        }
        Some(Value::Map(_)) | None => Vec::new(),
    };
    for argument in &arguments {
        let Value::Text(text) = &argument.value else { continue };
        let Some(text) = text.strip_prefix("--") else { continue };
        let (key, value) = text.split_once('=').unwrap_or((text, "true"));
        root.put(key, value.trim_matches(['"', '\'']), &argument.at);
    }
}

fn container(root: &mut Tree, name: &str, service: &Tree, pairs: &[Pair], model: &mut Model) {
    let mut tree = Tree::empty(&service.at);
    for (key, value, at) in pairs {
        let key = key.get("traefik.".len()..).unwrap_or_default();
        if !matches!(key.split('.').next(), Some("http" | "tcp" | "udp" | "tls")) {
            continue;
        }
        tree.put(key, value, at);
    }
    for layer in ["http", "tcp", "udp"] {
        let routers: Vec<String> = tree
            .entries(&format!("{layer}.routers"))
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let mut services: Vec<String> = tree
            .entries(&format!("{layer}.services"))
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        if services.is_empty() && !routers.is_empty() {
            services.push(name.to_owned());
            tree.put(
                &format!("{layer}.services.{name}.loadbalancer.server.port"),
                &exposed(service),
                &service.at,
            );
        }
        for router in routers {
            let path = format!("{layer}.routers.{router}.service");
            if let (None, [only]) = (tree.get(&path), services.as_slice()) {
                tree.put(&path, only, &service.at);
            }
        }
        for own in services {
            server(&mut tree, layer, &own, name, service, model);
        }
    }
    root.join(tree);
}

/// The first port that a container exposes.
fn exposed(service: &Tree) -> String {
    let ports = [service.texts("expose"), service.texts("ports")].concat();
    let port = ports.first().and_then(|port| port.rsplit(':').next());
    port.and_then(|port| port.split('/').next()).unwrap_or("80").to_owned()
}

/// The address of a container: its name in Compose's network, and the port of the label.
fn server(tree: &mut Tree, layer: &str, own: &str, name: &str, service: &Tree, model: &mut Model) {
    let base = format!("{layer}.services.{own}.loadbalancer.server");
    let port = tree.text(&format!("{base}.port")).map_or_else(|| exposed(service), str::to_owned);
    let scheme = tree.text(&format!("{base}.scheme")).unwrap_or("http").to_owned();
    let path = format!("{layer}.services.{own}.loadbalancer.servers[0]");
    match layer {
        "http" => {
            tree.put(&format!("{path}.url"), &format!("{scheme}://{name}:{port}"), &service.at)
        }
        _ => tree.put(&format!("{path}.address"), &format!("{name}:{port}"), &service.at),
    }
    let hint = format!(
        "the endpoint is `{name}:{port}`, the container's name in Compose's network; containers are not watched"
    );
    model.differs(&service.at, &format!("services.{name}"), &hint);
}
