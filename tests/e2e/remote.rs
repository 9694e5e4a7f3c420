//! Verbs that query a running proxy: over TLS, over a unix socket, with a token.

use super::admin::tidegate;
use super::support::*;
use super::tls::{curl, folder_with};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A proxy with this admin section, and its configuration file.
pub fn start(folder: &Folder, admin: &str, cluster: SocketAddr) -> (Process, PathBuf) {
    let text = format!("admin: {admin}\n{}", config(&[("idc", "idc", cluster)]));
    let file = folder.write("tidegate.yaml", &text);
    (Process::proxy(&file), file)
}

/// A proxy whose admin API speaks TLS on all addresses, so that reads need the token.
pub fn secure(folder: &Folder, cluster: SocketAddr) -> (Process, PathBuf, SocketAddr) {
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
fn simulate_takes_the_configuration_in_force_and_decides_as_by_the_file() {
    let folder = folder_with(&[("a", &["shop.example"])]);
    folder.write("token", "secret\n");
    folder.write("sorry.html", "sorry\n");
    let (idc, near) = (Cluster::named("idc"), Cluster::named("near"));
    // Two listeners, relative files, redacted fields, and services that are not sorted by name.
    let text = format!(
        "admin: {{ address: \"unix:admin.sock\", token_file: token }}\n\
         listeners:\n  \
           web: {{ address: 127.0.0.1:0, protocol: http, service: shop, tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] }} }}\n  \
           other: {{ address: 127.0.0.2:0, protocol: http, service: archive }}\n\
         capacity_groups: {{ line: {{ mbit_per_s: 8 }} }}\n\
         services:\n  \
           shop: {{ clusters: [idc, near], error_pages: {{ 5xx: sorry.html }}, request_headers: {{ set: {{ x-key: s3cret }} }} }}\n  \
           archive: {{ clusters: [near, idc] }}\n\
         clusters:\n  \
           idc: {{ kind: idc, endpoints: [\"{}\"] }}\n  \
           near: {{ endpoints: [\"{}\"], capacity_group: line, capacity: {{ concurrent: 50 }}, cost: {{ per_gib: 0.09 }}, probe: {{ kind: http, headers: {{ x-token: s3cret }} }} }}\n",
        idc.address, near.address
    );
    let file = folder.write("tidegate.yaml", &text);
    let _proxy = Process::proxy(&file);
    let url = format!("unix:{}", folder.0.join("admin.sock").display());
    eventually("it is ready", || tidegate(&["healthcheck", "--admin", &url]).0 == 0);
    let simulate = ["simulate", "--json", "--scenario", "outage:idc", "--rate", "300"];
    let run = |more: &[&str]| -> serde_json::Value {
        let (code, printed) = tidegate(&[&simulate[..], &["--admin", &url], more].concat());
        assert_eq!(code, 0, "{printed}");
        serde_json::from_str(&printed).unwrap()
    };

    let (in_force, by_file) = (run(&[]), run(&["--config", file.to_str().unwrap()]));

    assert_eq!((&in_force["service"], &by_file["service"]), (&"shop".into(), &"shop".into()));
    let configured = |told: &serde_json::Value| -> Vec<serde_json::Value> {
        let inputs = told["inputs"].as_array().unwrap().iter();
        inputs.filter(|input| input["source"] == "configured").cloned().collect()
    };
    assert_eq!(configured(&in_force), configured(&by_file));
    let names: Vec<_> =
        configured(&in_force).iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    for name in ["concurrent", "usd_per_request", "line_mbit_per_s"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    // A MB a second carries 50 of 300 responses of 20,000 bytes.
    for told in [&in_force, &by_file] {
        let outage = &told["phases"][1];
        let (rate, errors) = (outage["requests_per_s"].as_f64(), outage["errors"].as_f64());
        let span = outage["until_s"].as_f64().unwrap() - outage["from_s"].as_f64().unwrap();
        let served = rate.unwrap() - errors.unwrap() / span;
        assert!((40.0..75.0).contains(&served), "{outage}");
    }
    assert_eq!(run(&["--service", "archive"])["service"], "archive");
    let (code, printed) = tidegate(&["simulate", "--scenario", "outage:idc"]);
    assert!(code == 2 && printed.contains("--config"), "{printed}");
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

/// The verbs for the daily work, by a unix socket.
struct Operator {
    url: String,
    token: String,
}

impl Operator {
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        tidegate(&[arguments, &["--admin", &self.url, "--token-file", &self.token]].concat())
    }

    /// The output of a verb that must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, printed) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {printed}");
        printed
    }
}

#[test]
fn verbs_show_and_change_a_running_proxy() {
    let folder = Folder::new();
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    folder.write("token", "secret\n");
    let sections = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]);
    let listener = free();
    let sections = sections.replacen("127.0.0.1:0", &listener.to_string(), 1).replacen(
        "service: shop }",
        "service: shop, trusted_proxies: [127.0.0.0/8] }",
        1,
    );
    let admin = "admin: { address: \"unix:admin.sock\", token_file: token }";
    let file = folder.write("tidegate.yaml", &format!("{admin}\n{sections}"));
    let _proxy = Process::proxy(&file);
    let path = |name: &str| folder.0.join(name).display().to_string();
    let operator = Operator { url: format!("unix:{}", path("admin.sock")), token: path("token") };
    eventually("it is ready", || operator.run(&["healthcheck"]).0 == 0);

    // What is shown, as text and as JSON.
    assert!(operator.ok(&["status"]).contains("clusters       2 up\n"));
    let all: serde_json::Value =
        serde_json::from_str(&operator.ok(&["clusters", "--json"])).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(operator.ok(&["clusters", "idc"]).contains(&idc.address.to_string()));
    let (code, printed) = operator.run(&["clusters", "elsewhere"]);
    assert!(code == 1 && printed.contains("no cluster `elsewhere`"), "{printed}");

    // A request, and why it went where it went.
    let answer = ask_raw(
        listener,
        b"GET /cart HTTP/1.1\r\nHost: a\r\nx-request-id: traced-1\r\ntidegate-explain: 1\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("the decision is recorded", || operator.run(&["why", "traced-1"]).0 == 0);
    let told = operator.ok(&["why", "traced-1"]);
    assert!(told.contains("GET http://a/cart\n") && told.contains("cluster      idc"), "{told}");
    let (code, printed) = operator.run(&["why", "unknown"]);
    assert!(code == 1 && printed.contains("no exchange with this request id"), "{printed}");

    // Changes take effect, and those that cannot be made say why.
    assert_eq!(operator.ok(&["drain", "idc"]), "cluster idc: drained: no new exchanges\n");
    assert!(get(listener, "/").body.starts_with("cloud"));
    assert!(operator.ok(&["status"]).contains("idc is draining"));
    operator.ok(&["undrain", "idc"]);
    assert_eq!(operator.ok(&["dial", "idc", "40"]), "cluster idc: dial 40 %\n");
    assert!(operator.ok(&["clusters"]).contains("40 %"));
    operator.ok(&["dial", "idc", "reset"]);
    assert!(!operator.ok(&["clusters"]).contains("40 %"));
    let (code, printed) = operator.run(&["drain", "elsewhere"]);
    assert!(code == 1 && printed.contains("unknown name in clusters: elsewhere"), "{printed}");
    assert_eq!(operator.run(&["dial", "idc", "101"]).0, 2);
    let (code, printed) = tidegate(&["drain", "idc", "--admin", &operator.url]);
    assert!(code == 1 && printed.contains("bearer token is missing"), "{printed}");

    assert!(operator.ok(&["reload"]).contains("configuration reloaded: generation"));
    folder.write("tidegate.yaml", &format!("{admin}\nlistner: {{}}\n{sections}"));
    let (code, printed) = operator.run(&["reload"]);
    assert!(code == 1 && printed.contains("tidegate.yaml:2:1: listner: "), "{printed}");
    assert!(operator.ok(&["status"]).contains("REJECTED"));
}
