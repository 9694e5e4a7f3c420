//! `X-Forwarded-Client-Cert`: what clusters are told about certificates of clients.

use super::support::*;
use super::tls::{config, curl, folder_with, openssl, pair};
use std::process::Command;

/// The values of the field in the requests that the cluster has seen.
fn seen(cluster: &Cluster) -> Vec<String> {
    let field = |line: &str| line.strip_prefix("x-forwarded-client-cert: ").map(str::to_owned);
    cluster.seen().lines().filter_map(field).collect()
}

const FORGED: [&str; 2] = ["-H", "X-Forwarded-Client-Cert: Hash=00;Subject=\"CN=root\""];

#[test]
fn a_verified_certificate_is_told_and_a_forged_field_is_not() {
    let folder = folder_with(&[("a", &["a.example"]), ("me", &["me.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}], client_ca: AT/ca.pem }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let print = openssl(&folder.0, "x509 -in me.pem -noout -fingerprint -sha256");
    let print = String::from_utf8(print.stdout).unwrap();
    let print = print.trim().split_once('=').unwrap().1.replace(':', "").to_ascii_lowercase();
    for version in ["--http1.1", "--http2"] {
        let own = ["https://a.example/", "--cert", "me.pem", "--key", "me.key", version];
        let (text, ok) = curl(&folder, proxy.at("web"), "a.example", &[&own[..], &FORGED].concat());
        assert!(ok && text == "app", "{text}");
    }
    let expected = format!("Hash={print};Subject=\"CN=me\";DNS=me.example");
    assert_eq!(seen(&app), [expected.clone(), expected]);
}

#[test]
fn without_verification_the_field_is_stripped_and_append_believes_trusted_peers_alone() {
    for (setting, expected) in [
        ("", None),
        (", forwarded_client_cert: append", None),
        (
            ", forwarded_client_cert: append, trusted_proxies: [127.0.0.0/8]",
            Some("Hash=00;Subject=\"CN=root\""),
        ),
        (", trusted_proxies: [127.0.0.0/8]", None),
    ] {
        let app = Cluster::named("app");
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop{setting} }} }}\n\
             services: {{ shop: {{ clusters: [idc] }} }}\n\
             clusters: {{ idc: {{ kind: idc, endpoints: [\"{}\"] }} }}\n",
            app.address
        );
        let proxy = Proxy::start(&text);
        let url = format!("http://{}/", proxy.at("web"));
        let sent = Command::new("curl").args(["--silent", &url]).args(FORGED).output().unwrap();
        assert_eq!(sent.stdout, b"app");
        assert_eq!(seen(&app), Vec::from_iter(expected.map(str::to_owned)), "{setting}");
    }
}

#[test]
fn append_adds_the_own_client_behind_those_of_a_trusted_peer() {
    let folder = folder_with(&[("a", &["a.example"]), ("me", &["me.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}], client_ca: AT/ca.pem }}", pair("a"));
    let text = config(&folder, &tls, app.address).replacen(
        "service: shop,",
        "service: shop, forwarded_client_cert: append, trusted_proxies: [127.0.0.0/8],",
        1,
    );
    let proxy = Proxy::start(&text);
    let own = ["https://a.example/", "--cert", "me.pem", "--key", "me.key"];
    let (text, ok) = curl(&folder, proxy.at("web"), "a.example", &[&own[..], &FORGED].concat());
    assert!(ok && text == "app", "{text}");
    let seen = seen(&app);
    let parts: Vec<&str> = seen[0].splitn(2, ",Hash=").collect();
    assert_eq!((seen.len(), parts[0]), (1, "Hash=00;Subject=\"CN=root\""));
    assert!(parts[1].ends_with(";Subject=\"CN=me\";DNS=me.example"), "{seen:?}");
}

#[test]
fn set_without_client_certificates_is_an_error() {
    let folder = Folder::new();
    let text = "listeners: { web: { address: 127.0.0.1:0, protocol: http, service: shop, forwarded_client_cert: set } }\n\
                services: { shop: { clusters: [idc] } }\n\
                clusters: { idc: { kind: idc, endpoints: [127.0.0.1:1] } }\n";
    let (code, printed) = check(&folder, text);
    assert!(
        code == 1
            && printed.contains("listeners.web.forwarded_client_cert: `set` needs `tls.client_ca`"),
        "{printed}"
    );
}
