//! TLS with other implementations: curl and openssl as clients, nginx as a cluster.

use super::support::*;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs openssl in a folder.
pub fn openssl(folder: &Path, arguments: &str) -> Output {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Creates the authority `ca.pem`, and a certificate and key for these names, signed by it.
fn issue(folder: &Folder, name: &str, names: &[&str], days: i32) {
    let at = &folder.0;
    if !at.join("ca.pem").exists() {
        openssl(
            at,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=authority",
        );
    }
    openssl(
        at,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ),
    );
    let names: Vec<String> = names
        .iter()
        .map(|name| match name.parse::<std::net::IpAddr>() {
            Ok(address) => format!("IP:{address}"),
            Err(_) => format!("DNS:{name}"),
        })
        .collect();
    folder.write(&format!("{name}.ext"), &format!("subjectAltName={}\n", names.join(",")));
    openssl(
        at,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile {name}.ext -out {name}.pem"
        ),
    );
}

pub fn folder_with(certificates: &[(&str, &[&str])]) -> Folder {
    let folder = Folder::new();
    for (name, names) in certificates {
        issue(&folder, name, names, 20);
    }
    folder
}

/// Sends a request by curl; returns its output, and whether it succeeded.
pub fn curl(folder: &Folder, to: SocketAddr, host: &str, arguments: &[&str]) -> (String, bool) {
    let output = Command::new("curl")
        .current_dir(&folder.0)
        .args(["--silent", "--show-error", "--max-time", "10", "--cacert", "ca.pem"])
        .arg("--connect-to")
        .arg(format!("{host}:443:{to}"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

pub fn config(folder: &Folder, tls: &str, cluster: SocketAddr) -> String {
    let at = folder.0.display();
    format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop, tls: {} }} }}\n\
         services: {{ shop: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ kind: idc, endpoints: [\"{cluster}\"] }} }}\n",
        tls.replace("AT", &at.to_string())
    )
}

pub fn pair(name: &str) -> String {
    format!("{{ cert: AT/{name}.pem, key: AT/{name}.key }}")
}

#[test]
fn certificates_are_chosen_by_name_and_a_request_for_another_host_is_misdirected() {
    let folder = folder_with(&[("a", &["a.example"]), ("b", &["*.b.example", "b.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}, {}] }}", pair("a"), pair("b"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let web = proxy.at("web");
    for host in ["a.example", "b.example", "x.b.example"] {
        let (text, ok) = curl(&folder, web, host, &[&format!("https://{host}/")]);
        assert!(ok && text == "app", "{host}: {text}");
    }
    assert!(app.seen().contains("x-forwarded-proto: https"), "{}", app.seen());
    // An unknown name gets the first certificate, which is for another host.
    let (text, ok) = curl(&folder, web, "c.example", &["https://c.example/"]);
    assert!(!ok && text.contains("c.example"), "{text}");
    let (text, _) = curl(
        &folder,
        web,
        "a.example",
        &["https://a.example/", "-H", "host: b.example", "-w", "%{http_code}"],
    );
    assert!(text.contains("421"), "{text}");
    let expiry = proxy.metric(
        "tidegate_certificate_expiry_timestamp_seconds{listener=\"web\",name=\"a.example\"}",
    );
    assert!(expiry > 1.7e9, "{expiry}");
    eventually("handshakes are counted", || {
        proxy.metric("tidegate_tls_handshakes_total{listener=\"web\",result=\"ok\"}") >= 4.0
    });
    eventually("the log knows the version", || {
        proxy.log().iter().any(|line| line.contains("\"tls\":\"TLSv1.3\""))
    });
}

#[test]
fn a_client_without_a_valid_certificate_reaches_no_cluster() {
    let folder = folder_with(&[("a", &["a.example"]), ("me", &["me"])]);
    let strangers = folder_with(&[("other", &["other"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}], client_ca: AT/ca.pem }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let web = proxy.at("web");
    let ask = |arguments: &[&str]| {
        curl(&folder, web, "a.example", &[&["https://a.example/"], arguments].concat())
    };
    assert_eq!(ask(&["--cert", "me.pem", "--key", "me.key"]), ("app".to_owned(), true));
    assert!(!ask(&[]).1);
    let (cert, key) = (strangers.0.join("other.pem"), strangers.0.join("other.key"));
    assert!(!ask(&["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]).1);
    eventually("both are counted", || {
        proxy
            .metric("tidegate_tls_handshakes_total{listener=\"web\",result=\"client_certificate\"}")
            == 2.0
    });
    assert_eq!(app.seen().matches("GET / ").count(), 1, "nobody else got through");
}

#[test]
fn a_listed_client_certificate_is_accepted_and_others_are_not() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
    for (name, usage) in [
        ("me", ""),
        ("stranger", ""),
        ("client", " -addext extendedKeyUsage=clientAuth"),
        ("server", " -addext extendedKeyUsage=serverAuth"),
    ] {
        // Like `openssl req -x509`: the certificate is its own authority.
        let to = format!("-keyout {name}.key -out {name}.pem -subj /CN=me");
        openssl(&folder.0, &format!("{new} {to} -addext basicConstraints=critical,CA:TRUE{usage}"));
    }
    let read = |name: &str| std::fs::read_to_string(folder.0.join(name)).unwrap();
    folder.write("listed.pem", &(read("me.pem") + &read("client.pem") + &read("server.pem")));
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}], client_ca: AT/listed.pem }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let web = proxy.at("web");
    let by_curl = |name: &str, version: &str| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let url = ["https://a.example/", "--cert", &cert, "--key", &key, "--tls-max", version];
        curl(&folder, web, "a.example", &url) == ("app".to_owned(), true)
    };
    for version in ["1.2", "1.3"] {
        assert!(by_curl("me", version), "TLS {version}");
        assert!(by_curl("client", version), "TLS {version}");
        assert!(!by_curl("server", version), "it is not for clients: TLS {version}");
        // The same subject, another key.
        assert!(!by_curl("stranger", version), "TLS {version}");
    }
    let (_, anybody) = curl(&folder, web, "a.example", &["https://a.example/"]);
    assert!(!anybody);
    let shown = |name: &str| {
        let output = Command::new("openssl")
            .current_dir(&folder.0)
            .args(["s_client", "-tls1_2", "-connect", &web.to_string(), "-servername", "a.example"])
            .args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.success()
    };
    assert!(shown("me") && !shown("stranger"), "openssl sees it, too");
    assert_eq!(app.seen().matches("GET / ").count(), 4, "nobody else got through");
}

#[test]
fn failed_handshakes_are_counted_by_cause() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}], min_version: \"1.3\" }}", pair("a"));
    let text = config(&folder, &tls, app.address)
        .replace("service: shop, tls", "service: shop, timeouts: { handshake: 300ms }, tls");
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let counted = |result: &str| {
        proxy.metric(&format!(
            "tidegate_tls_handshakes_total{{listener=\"web\",result=\"{result}\"}}"
        ))
    };
    let answer = read_all(&mut {
        let mut stream = connect(web);
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")
            .unwrap();
        stream
    });
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "it is told in clear: {answer:?}");
    eventually("plain text is counted", || counted("not_tls") == 1.0);
    let (_, ok) = curl(&folder, web, "a.example", &["https://a.example/", "--tls-max", "1.2"]);
    assert!(!ok);
    eventually("too old is counted", || counted("nothing_in_common") == 1.0);
    let slow = connect(web);
    eventually("too slow is counted", || counted("timeout") == 1.0);
    drop(slow);
    assert_eq!(app.seen(), "");
}

#[test]
fn changed_certificates_are_used_without_a_reload() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let web = proxy.at("web");
    let generation = proxy.generation();
    let shown = || {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &web.to_string(), "-servername", "a.example"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split("-----BEGIN CERTIFICATE-----").nth(1).unwrap_or_default()[..200].to_owned()
    };
    let before = shown();
    // Half of a new certificate: the old one stays in force.
    std::fs::write(folder.0.join("a.pem"), "-----BEGIN CERTIFICATE-----\nMII").unwrap();
    proxy.says("the previous ones stay in force");
    assert_eq!(shown(), before);
    issue(&folder, "a", &["a.example"], 10);
    eventually("the new one is shown", || shown() != before);
    assert_eq!(proxy.generation(), generation, "the plan is the same");
    let (text, ok) = curl(&folder, web, "a.example", &["https://a.example/"]);
    assert!(ok && text == "app", "{text}");
}

#[test]
fn a_session_is_resumed_after_a_reload() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    let text = config(&folder, &tls, app.address);
    let proxy = Proxy::start(&text);
    let web = proxy.at("web").to_string();
    let session = folder.0.join("session");
    let ask = |flag: &str| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &web, "-servername", "a.example", flag])
            .arg(&session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), request).unwrap();
        // openssl would end before the answer if its input were closed.
        let stdin = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(ask("-sess_out").contains("New, TLSv1.3"));
    let generation = proxy.generation();
    proxy.rewrite(&format!("{text}# changed\n"));
    eventually("reloaded", || proxy.generation() > generation);
    assert!(ask("-sess_in").contains("Reused, TLSv1.3"));
}

/// An nginx that speaks TLS and, if `demands` is set, requires a certificate.
pub fn secure_nginx(folder: &Folder, address: SocketAddr, demands: bool) -> Process {
    let at = folder.0.display();
    let verify = match demands {
        true => format!("ssl_client_certificate {at}/ca.pem; ssl_verify_client on;"),
        false => String::new(),
    };
    let server = format!(
        "server {{ listen {address} ssl; ssl_certificate {at}/app.pem; ssl_certificate_key {at}/app.key; \
         ssl_protocols TLSv1.2 TLSv1.3; {verify}\n\
         location / {{ return 200 \"$ssl_protocol $ssl_session_reused $ssl_client_s_dn\"; }} }}"
    );
    nginx(folder, address, &server)
}

fn upstream(folder: &Folder, address: SocketAddr, tls: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ kind: idc, endpoints: [\"{address}\"], tls: {},\n\
           probe: {{ kind: tls, interval: 100ms, timeout: 100ms }} }} }}\n",
        tls.replace("AT", &folder.0.display().to_string())
    )
}

#[test]
fn tls_to_a_cluster_is_verified_in_both_directions() {
    if !is_installed("nginx") {
        return;
    }
    let folder = folder_with(&[("app", &["app.example"]), ("me", &["me"])]);
    let address = free();
    let _nginx = secure_nginx(&folder, address, true);
    let own = "client_cert: AT/me.pem, client_key: AT/me.key";
    let good = format!("{{ server_name: app.example, ca: AT/ca.pem, {own} }}");
    let proxy = Proxy::start(&upstream(&folder, address, &good));
    eventually("it is up", || proxy.cluster("idc")["state"] == "up");
    let answer = get(proxy.at("web"), "/");
    assert!(answer.body.starts_with("TLSv1.3") && answer.body.ends_with("CN=me"), "{answer:?}");
    let mut kept = Keeping::new(proxy.at("web"));
    assert_eq!((kept.get("/").status, kept.get("/").status), (200, 200));
    // With another name or another authority the handshake must fail.
    let wrong = format!("{{ server_name: other.example, ca: AT/ca.pem, {own} }}");
    proxy.rewrite(&upstream(&folder, address, &wrong));
    eventually("it is down", || proxy.cluster("idc")["state"] == "down");
    assert_eq!(proxy.cluster("idc")["endpoints"][0]["last_error"], "tls_wrong_name");
    proxy.says("cause=\"tls_wrong_name\"");
    let metric =
        "tidegate_upstream_tls_failures_total{tidegate_cluster=\"idc\",cause=\"tls_wrong_name\"}";
    assert!(proxy.metric(metric) >= 2.0);
    let refused = get(proxy.at("web"), "/");
    assert_eq!((refused.status, refused.refusal().as_str()), (503, "no_healthy_cluster"));
    proxy.rewrite(&upstream(&folder, address, "{ server_name: app.example }"));
    eventually("the system does not know it", || {
        proxy.cluster("idc")["cause"] == "tls_unknown_issuer"
            && get(proxy.at("web"), "/").status == 503
    });
}

#[test]
fn encrypted_bytes_count_for_the_line_of_a_cluster() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    let behind = Proxy::start(&config(&folder, &tls, app.address));
    let own = "{ server_name: a.example, ca: AT/ca.pem }";
    let text = upstream(&folder, behind.at("web"), own)
        .replace("kind: idc,", "kind: idc, capacity_group: line,")
        + "capacity_groups: { line: { concurrent: 100 } }\n";
    let proxy = Proxy::start(&text);
    eventually("it is up", || proxy.cluster("idc")["state"] == "up");
    let bytes = |direction: &str| {
        let labels = format!("capacity_group=\"line\",direction=\"{direction}\"");
        proxy.metric(&format!("tidegate_capacity_group_bytes_total{{{labels}}}"))
    };
    assert_eq!((bytes("in"), bytes("out")), (0.0, 0.0), "probes do not count");
    assert_eq!(get(proxy.at("web"), "/").body, "app");
    // The messages of the handshake are much longer than this request and its response.
    eventually("the bytes", || bytes("in") > 700.0 && bytes("out") > 300.0);
}

/// A server of openssl, stopped when dropped; it presents `NAME.pem` and answers with a page of its own.
struct SServer(std::process::Child);

impl SServer {
    fn start(folder: &Folder, name: &str, address: SocketAddr) -> SServer {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let port = address.port().to_string();
        let server = Command::new("openssl")
            .current_dir(&folder.0)
            .args(["s_server", "-accept", &port, "-cert", &cert, "-key", &key, "-www", "-quiet"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the server listens", || std::net::TcpStream::connect(address).is_ok());
        SServer(server)
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// A self-signed certificate that is an authority, as `openssl req -x509` makes it.
fn self_signed(folder: &Folder, name: &str, names: &str) {
    openssl(
        &folder.0,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -days 30 \
             -subj /CN={name} -addext subjectAltName={names} -addext basicConstraints=critical,CA:TRUE"
        ),
    );
}

#[test]
fn a_listed_self_signed_certificate_is_valid_for_its_own_names() {
    let folder = Folder::new();
    self_signed(&folder, "own", "DNS:own.example");
    self_signed(&folder, "other", "DNS:own.example");
    let address = free();
    let _server = SServer::start(&folder, "own", address);
    let by = |name: &str, ca: &str| {
        upstream(&folder, address, &format!("{{ server_name: {name}, ca: AT/{ca}.pem }}"))
    };
    let proxy = Proxy::start(&by("own.example", "own"));
    eventually("it is up", || proxy.cluster("idc")["state"] == "up");
    assert_eq!(get(proxy.at("web"), "/").status, 200);
    for (name, ca, cause) in
        [("x.example", "own", "tls_wrong_name"), ("own.example", "other", "tls_unknown_issuer")]
    {
        proxy.rewrite(&by(name, ca));
        let last = || proxy.cluster("idc")["endpoints"][0]["last_error"].clone();
        eventually("it is down", || last() == cause);
    }
}

#[test]
fn tls_failures_of_endpoints_have_their_own_causes() {
    let folder = folder_with(&[]);
    issue(&folder, "old", &["own.example"], -1);
    let plain = Cluster::scripted(|mut connection| {
        drop(connection.take(1));
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let address = free();
    let _server = SServer::start(&folder, "old", address);
    for (address, cause) in
        [(address, "tls_certificate_expired"), (plain.address, "tls_not_spoken")]
    {
        let text = upstream(&folder, address, "{ server_name: own.example, ca: AT/ca.pem }")
            // Exchanges detect the failure as probes do.
            .replace("kind: tls", "kind: none");
        let proxy = Proxy::start(&text);
        let refused = get(proxy.at("web"), "/");
        assert!(matches!(refused.status, 502 | 503), "{refused:?}");
        let last = || proxy.cluster("idc")["endpoints"][0]["last_error"].clone();
        eventually("the API tells why", || last() == cause);
    }
}

#[test]
fn a_plain_request_to_a_tls_listener_gets_an_explanation() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let answer = get(proxy.at("web"), "/");
    assert_eq!((answer.status, answer.refusal().as_str()), (400, "bad_request"));
    assert!(answer.body.ends_with("use https instead\n"), "{answer:?}");
    let upload = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n{}",
        "x".repeat(30_000)
    );
    assert_eq!(ask_raw(proxy.at("web"), upload.as_bytes()).status, 400);
    eventually("it is counted", || {
        proxy.metric("tidegate_tls_handshakes_total{listener=\"web\",result=\"not_tls\"}") == 2.0
    });
    let (text, ok) = curl(&folder, proxy.at("web"), "a.example", &["https://a.example/"]);
    assert!(ok && text == "app", "{text}");
    // Bytes that are neither TLS nor HTTP get no HTTP answer.
    use std::io::{Read, Write};
    let mut stream = connect(proxy.at("web"));
    stream.write_all(b"\0\0\0\0\0\0").unwrap();
    let mut received = Vec::new();
    drop(stream.read_to_end(&mut received));
    assert!(!received.starts_with(b"HTTP"), "{received:?}");
}

#[test]
fn check_reports_problems_of_certificates_and_keys() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let at = &folder.0;
    openssl(at, "pkcs8 -topk8 -in a.key -passout pass:x -out encrypted.key");
    openssl(at, "x509 -req -in a.csr -signkey a.key -days 20 -out v1.pem");
    openssl(at, "x509 -in a.pem -outform der -out der.pem");
    let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    folder.write("reversed.pem", &(read("ca.pem") + &read("a.pem")));
    folder.write("chain.pem", &(read("a.pem") + &read("ca.pem")));
    folder.write("bom.pem", &format!("\u{feff}{}", read("a.pem")));
    let app = Cluster::named("app");
    for (cert, key, expected) in [
        ("a.pem", "encrypted.key", "is encrypted"),
        ("v1.pem", "a.key", "holds an X.509 v1 certificate"),
        ("reversed.pem", "a.key", "is in the wrong order"),
        ("bom.pem", "a.key", "byte order mark"),
        ("der.pem", "a.key", "is DER"),
        ("a.key", "a.key", "it holds a private key"),
        ("a.pem", "ca.pem", "it holds a certificate and no key"),
        ("a.pem", "ca.key", "does not match the certificate"),
        ("chain.pem", "a.key", ""),
    ] {
        let tls = format!("{{ certificates: [{{ cert: AT/{cert}, key: AT/{key} }}] }}");
        let (code, printed) = check(&folder, &config(&folder, &tls, app.address));
        let errors = printed.matches("error:").count();
        let count = usize::from(!expected.is_empty());
        assert!(printed.contains(expected) && errors == count, "{cert}, {key}: {printed}");
        assert_eq!(code, i32::from(!expected.is_empty()), "{cert}, {key}: {printed}");
    }
}

#[test]
fn a_large_body_goes_both_ways_under_tls() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::scripted(|mut connection| {
        while let Some((_, body)) = connection.request() {
            connection.reply(&String::from_utf8_lossy(&body));
        }
    });
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let body = "0123456789abcdef".repeat(200_000);
    folder.write("body", &body);
    let (text, ok) = curl(
        &folder,
        proxy.at("web"),
        "a.example",
        &["https://a.example/", "--data-binary", "@body"],
    );
    assert!(ok && text == body, "{} bytes came back", text.len());
}

#[test]
fn the_admin_api_off_loopback_speaks_tls() {
    let folder = folder_with(&[("a", &["127.0.0.1"])]);
    let address = free();
    folder.write("token", "secret");
    let at = folder.0.display();
    let text = format!(
        "admin: {{ address: \"0.0.0.0:{}\", token_file: {at}/token, tls: {{ cert: {at}/a.pem, key: {at}/a.key }} }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ kind: idc, endpoints: [\"127.0.0.1:1\"] }} }}\n",
        address.port()
    );
    let file = folder.write("tidegate.yaml", &text);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ask = |token: &str| {
        let url = format!("https://{address}/api/v1/status");
        let token = format!("authorization: Bearer {token}");
        let out = ["-o", "/dev/null", "-w", "%{http_code}"];
        curl(
            &folder,
            address,
            "127.0.0.1",
            &[&[url.as_str(), "-H", token.as_str()], &out[..]].concat(),
        )
        .0
    };
    eventually("it answers", || ask("secret") == "200");
    let code = ask("wrong");
    assert!(["401", "403"].contains(&code.as_str()), "{code}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn check_reports_certificate_problems_with_their_line() {
    let folder = folder_with(&[("a", &["a.example"]), ("b", &["b.example"])]);
    issue(&folder, "old", &["old.example"], -1);
    folder.write("junk.pem", "not a certificate\n");
    let text = "listeners:\n  web:\n    address: 127.0.0.1:0\n    protocol: http\n    service: shop\n    tls:\n      certificates:\n\
        \x20     - { cert: a.pem, key: b.key }\n\
        \x20     - { cert: none.pem, key: a.key }\n\
        \x20     - { cert: junk.pem, key: a.key }\n\
        \x20     - { cert: old.pem, key: old.key }\n\
        \x20     client_ca: junk.pem\n\
        services: { shop: { clusters: [idc] } }\n\
        clusters: { idc: { kind: idc, endpoints: [\"127.0.0.1:1\"], tls: { ca: none.pem } } }\n";
    let (code, printed) = check(&folder, text);
    assert_eq!(code, 1, "{printed}");
    for part in [
        ":8:9: error: listeners.web.tls.certificates[0]: the key in",
        "does not match the certificate",
        ":9:9: error: listeners.web.tls.certificates[1]: cannot read",
        ":10:9: error: listeners.web.tls.certificates[2]:",
        ":11:9: warning: listeners.web.tls.certificates[3]: the certificate in `old.pem` has expired",
        ":12:18: error: listeners.web.tls.client_ca:",
        "error: clusters.idc.tls: cannot read",
    ] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
}

#[test]
fn a_client_whose_authority_was_removed_is_closed_at_the_next_request() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let plain = config(&folder, &format!("{{ certificates: [{}] }}", pair("a")), app.address)
        .replace(
            &format!(
                ", tls: {{ certificates: [{}] }}",
                pair("a").replace("AT", &folder.0.display().to_string())
            ),
            "",
        );
    let proxy = Proxy::start(&plain.replace("127.0.0.1:0", &free().to_string()));
    let web = proxy.at("web");
    let mut kept = Keeping::new(web);
    assert_eq!(kept.get("/").status, 200);
    let tls = format!("{{ certificates: [{}], client_ca: AT/ca.pem }}", pair("a"));
    let strict = config(&folder, &tls, app.address).replace("127.0.0.1:0", &web.to_string());
    let generation = proxy.generation();
    proxy.rewrite(&strict);
    eventually("reloaded", || proxy.generation() > generation);
    let refused = kept.get("/");
    assert_eq!((refused.status, refused.refusal().as_str()), (503, "draining"));
    assert_eq!(app.seen().matches("GET /").count(), 1);
}

#[test]
fn the_cheapest_cipher_suite_is_chosen_unless_the_client_lacks_aes() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::named("app");
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    let proxy = Proxy::start(&config(&folder, &tls, app.address));
    let chosen = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &proxy.at("web").to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("Cipher is")).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let chacha = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
    assert_eq!(chosen(&[]), "TLS_AES_128_GCM_SHA256", "whatever OpenSSL would like best");
    assert_eq!(chosen(&["-ciphersuites", chacha]), "TLS_CHACHA20_POLY1305_SHA256");
    assert_eq!(chosen(&["-ciphersuites", "TLS_AES_256_GCM_SHA384"]), "TLS_AES_256_GCM_SHA384");
    assert_eq!(chosen(&["-tls1_2"]), "ECDHE-ECDSA-AES128-GCM-SHA256");
}
