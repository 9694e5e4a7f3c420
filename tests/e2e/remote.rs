//! Verbs that query a running proxy: over TLS, over a unix socket, with a token.

use super::admin::tidegate;
use super::support::*;
use super::tls::{curl, folder_with, free};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A proxy with this admin section, and its configuration file.
fn start(folder: &Folder, admin: &str, cluster: SocketAddr) -> (Process, PathBuf) {
    let text = format!("admin: {admin}\n{}", config(&[("idc", "idc", cluster)]));
    let file = folder.write("tidegate.yaml", &text);
    (Process::proxy(&file), file)
}

/// A proxy whose admin API speaks TLS on all addresses, so that reads need the token.
fn secure(folder: &Folder, cluster: SocketAddr) -> (Process, PathBuf, SocketAddr) {
    folder.write("token", "secret\n");
    let address = free();
    let tls = "tls: { cert: a.pem, key: a.key }";
    let admin = format!("{{ address: \"0.0.0.0:{}\", token_file: token, {tls} }}", address.port());
    let (process, file) = start(folder, &admin, cluster);
    (process, file, address)
}

const EXPLAIN: [&str; 5] = ["explain", "--host", "a", "--path", "/"];

#[test]
fn verbs_ask_an_admin_api_over_tls_with_a_token() {
    let folder = folder_with(&[("a", &["admin.example", "127.0.0.1"])]);
    let idc = Cluster::named("idc");
    let (_proxy, file, address) = secure(&folder, idc.address);
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let file = file.to_str().unwrap();
    // The proxy must present exactly the configured certificate, whatever name the URL has.
    eventually("it is ready", || tidegate(&["healthcheck", "--config", file]).0 == 0);
    let url = format!("https://{address}");
    let (ca, own, token) = (path("ca.pem"), path("a.pem"), path("token"));
    let by = |ca: &str| {
        tidegate(&[&EXPLAIN[..], &["--admin", &url, "--token-file", &token, "--ca", ca]].concat())
    };
    for ca in [&ca, &own] {
        let (code, printed) = by(ca);
        assert!(code == 0 && printed.contains("chosen       idc"), "{printed}");
    }
    let simulate = ["simulate", "--config", file, "--scenario", "flash:2x", "--rate", "5"];
    let more = ["--admin", &url, "--token-file", &token, "--ca", &ca];
    let (code, printed) = tidegate(&[&simulate[..], &more].concat());
    assert_eq!(code, 0, "{printed}");
    assert_eq!(tidegate(&["healthcheck", "--admin", &url, "--ca", &ca]).0, 0);
    // The authority, the name, the token and the scheme are all necessary.
    let (elsewhere, clear) =
        (format!("https://localhost:{}", address.port()), format!("http://{address}"));
    for (more, expected) in [
        (vec!["--admin", &url, "--token-file", &token], "cannot query https://"),
        (vec!["--admin", &elsewhere, "--token-file", &token, "--ca", &ca], "not valid for name"),
        (vec!["--admin", &url, "--ca", &ca], "bearer token is missing"),
        (vec!["--admin", &clear, "--token-file", &token], "this port speaks TLS"),
        (vec!["--admin", &clear, "--ca", &ca], "`--ca` needs an https URL"),
    ] {
        let (code, printed) = tidegate(&[&EXPLAIN[..], &more].concat());
        assert!(code == 1 && printed.contains(expected), "{more:?}: {printed}");
    }
    let (code, printed) = tidegate(&[&simulate[..], &["--admin", &url, "--ca", &ca]].concat());
    assert!(code == 1 && printed.contains("answers 401"), "{printed}");
}

#[test]
fn verbs_ask_an_admin_api_by_a_unix_socket() {
    let folder = Folder::new();
    let idc = Cluster::named("idc");
    let (_proxy, file) = start(&folder, "{ address: \"unix:admin.sock\" }", idc.address);
    let file = file.to_str().unwrap();
    let socket = folder.0.join("admin.sock");
    for url in [format!("unix:{}", socket.display()), format!("unix://{}", socket.display())] {
        eventually("it is ready", || tidegate(&["healthcheck", "--admin", &url]).0 == 0);
        let (code, printed) = tidegate(&[&EXPLAIN[..], &["--admin", &url]].concat());
        assert!(code == 0 && printed.contains("chosen       idc"), "{printed}");
        let simulate = ["simulate", "--config", file, "--scenario", "flash:2x", "--rate", "5"];
        let (code, printed) = tidegate(&[&simulate[..], &["--admin", &url]].concat());
        assert_eq!(code, 0, "{printed}");
    }
    assert_eq!(tidegate(&["healthcheck", "--config", file]).0, 0);
    let both = ["healthcheck", "--config", file, "--admin", "127.0.0.1:1"];
    assert_eq!(tidegate(&both).0, 1, "who is named is asked");
}

#[test]
fn a_plain_request_to_a_tls_admin_api_gets_an_explanation() {
    let folder = folder_with(&[("a", &["127.0.0.1"])]);
    let idc = Cluster::named("idc");
    let (_proxy, _, address) = secure(&folder, idc.address);
    let url = format!("https://{address}/readyz");
    eventually("it is ready", || curl(&folder, address, "127.0.0.1", &[&url]).1);
    let answer = get(address, "/readyz");
    assert_eq!((answer.status, answer.refusal().as_str()), (400, "bad_request"));
    assert!(answer.body.ends_with("use https instead\n"), "{answer:?}");
    assert!(curl(&folder, address, "127.0.0.1", &[&url]).1, "others are answered");
}
