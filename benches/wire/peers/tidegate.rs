//! Tidegate: metrics, health checks and latency accounting are on, as by default.

use super::{Peer, Rig, Setup, free, listeners};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// The proxy.
pub fn start(rig: &Rig, setup: &Setup) -> Option<Peer> {
    let (listeners, admin) = (listeners(), free());
    let text = config(rig, setup, listeners, admin);
    // Of its own: a proxy watches its file, and two may run at once.
    let config = rig.write(&file(admin), &text);
    let arguments = ["run".to_owned(), "--config".to_owned(), config.display().to_string()];
    let cores = if setup.workers > 1 { "0,1" } else { "0" };
    let (child, ready) = rig.spawn(cores, &rig.binary, &arguments, listeners.http)?;
    Some(Peer {
        name: "tidegate".to_owned(),
        other: false,
        http: listeners.http,
        tls: Some(listeners.tls),
        tcp: Some(listeners.tcp),
        admin: Some(admin),
        ready,
        child,
    })
}

/// The name of the configuration file of the proxy with this admin address.
pub fn file(admin: SocketAddr) -> String {
    format!("tidegate-{}.yaml", admin.port())
}

fn config(rig: &Rig, setup: &Setup, listeners: super::Listeners, admin: SocketAddr) -> String {
    let super::Listeners { http, tls, tcp } = listeners;
    let log = match setup.access_log || setup.features {
        true => format!("{{ format: json, path: {} }}", rig.file("tidegate-access.log").display()),
        false => "{ format: off }".to_owned(),
    };
    let mut text = format!(
        "runtime: {{ workers: {} }}\nadmin: {{ address: {admin} }}\naccess_log: {log}\n\
         listeners:\n  h: {{ address: \"{http}\", protocol: http, service: s, timeouts: {{ idle: 1h }} }}\n  t: {{ address: \"{tcp}\", protocol: tcp, service: t }}\n\
         \u{20} s: {{ address: \"{tls}\", protocol: http, service: s, timeouts: {{ idle: 1h }}, tls: {{ certificates: [{{ cert: cert.pem, key: key.pem }}], min_version: \"1.3\" }} }}\n",
        setup.workers
    );
    let policies = match setup.features {
        true => ", allow: [127.0.0.0/8], rate_limit: { requests: 1000000, per: 1s }",
        false => "",
    };
    let names: Vec<String> = (0..setup.clusters).map(|index| format!("c{index}")).collect();
    // A service for each cluster, of which the first has the load, so that none is unused.
    let compression = setup.coding.map_or(String::new(), |coding| {
        format!(", compression: {{ algorithms: [{coding}], types: [text/plain] }}")
    });
    writeln!(
        text,
        "services:\n  t: {{ clusters: [l4] }}\n  s: {{ clusters: [c0]{policies}{compression} }}"
    )
    .unwrap();
    for name in names.iter().skip(1) {
        writeln!(text, "  s-{name}: {{ clusters: [{name}] }}").unwrap();
    }
    let rules = match setup.features {
        true => {
            ", request_headers: { set: { x-site: a } }, response_headers: { set: { x-frame-options: DENY } }"
        }
        false => "",
    };
    let mut routes = String::new();
    if setup.routes > 1 {
        for route in 0..setup.routes {
            writeln!(routes, "  - {{ path_prefix: /r{route}, service: s{rules} }}").unwrap();
        }
    } else if setup.features {
        writeln!(routes, "  - {{ path_prefix: /, service: s{rules} }}").unwrap();
    }
    for name in names.iter().skip(1) {
        writeln!(routes, "  - {{ path_prefix: /{name}, service: s-{name} }}").unwrap();
    }
    if !routes.is_empty() {
        write!(text, "routes:\n{routes}").unwrap();
    }
    let probe = if setup.probes { "" } else { ", probe: { kind: none }" };
    let protocol = if setup.http2 { ", protocol: http2" } else { "" };
    writeln!(text, "clusters:\n  l4: {{ kind: idc, endpoints: [\"{}\"] }}", rig.http1).unwrap();
    for (index, name) in names.iter().enumerate() {
        let list = setup.addresses(rig.server(setup), index);
        let list: Vec<String> = list.iter().map(|address| format!("\"{address}\"")).collect();
        let list = list.join(", ");
        writeln!(text, "  {name}: {{ kind: idc, endpoints: [{list}]{probe}{protocol} }}").unwrap();
    }
    text
}
