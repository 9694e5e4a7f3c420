//! The external scaler, called by grpcio as KEDA calls it: figures of the fleet, pushed changes, the drain, and hostile
//! clients.

use super::fleet::ask as fleet_of;
use super::lifecycle::Successor;
use super::support::*;
use super::tls::folder_with;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A client in Python.
struct Client {
    child: Child,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
    stdin: Option<ChildStdin>,
}

impl Client {
    fn start(python: &PathBuf, at: SocketAddr, what: &str) -> Client {
        Client::with(python, at, what, &[])
    }

    /// A client that uses TLS with these files: authorities, its certificate, its key.
    fn with(python: &PathBuf, at: SocketAddr, what: &str, files: &[PathBuf]) -> Client {
        let mut child = Command::new(python)
            .arg(script("scaler_client.py"))
            .args([&at.to_string(), what, "shop", "cloud"])
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (reader, into) = (BufReader::new(child.stdout.take().unwrap()), lines.clone());
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                into.lock().unwrap().push((Instant::now(), line));
            }
        });
        let stdin = child.stdin.take();
        Client { child, lines, stdin }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }

    /// Everything that the client prints until it ends by itself.
    fn end(mut self) -> Vec<String> {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success(), "{:?}", self.lines());
        self.lines()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the client prints for `what`.
fn run(python: &PathBuf, at: SocketAddr, what: &str) -> Vec<String> {
    Client::start(python, at, what).end()
}

/// The answer of `get`; empty while the proxy answers that it does not know yet.
fn get(python: &PathBuf, at: SocketAddr) -> Vec<String> {
    let output = Command::new(python)
        .arg(script("scaler_client.py"))
        .args([&at.to_string(), "get", "shop", "cloud"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.split_whitespace().map(str::to_owned).collect()
}

/// Requests at a rate that may change, by eight clients that wait for their answers.
struct Load {
    rate: Arc<AtomicU32>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

const CLIENTS: u32 = 8;

impl Load {
    fn start(web: SocketAddr, rate: u32) -> Load {
        let rate = Arc::new(AtomicU32::new(rate));
        let client = |_| {
            let rate = rate.clone();
            std::thread::spawn(move || {
                let mut due = Instant::now();
                let mut client = Keeping::new(web);
                loop {
                    let now = rate.load(Ordering::Relaxed);
                    if now == 0 {
                        return;
                    }
                    due += Duration::from_secs(1) * CLIENTS / now;
                    std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
                    if client.try_answer().is_none() {
                        client = Keeping::new(web);
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { rate, clients }
    }

    fn set(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.set(0);
        for client in self.clients.drain(..) {
            drop(client.join());
        }
    }
}

/// A cluster whose answers take this long.
fn slow(name: &'static str, span: Duration) -> Cluster {
    Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            std::thread::park_timeout(span);
            connection.reply(name);
        }
    })
}

fn scaler(proxy: &Proxy) -> SocketAddr {
    address(&proxy.says("external scaler listening"))
}

const SCALING: &str = "scaling: { address: 127.0.0.1:0 }\n";

#[test]
fn a_cloud_is_woken_within_a_second_when_the_idc_fails_and_streams_end_with_ok_on_drain() {
    let Some(python) = python("grpc, google.protobuf") else { return };
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]);
    let mut proxy = Proxy::start(&format!("{SCALING}{text}"));
    let stream = Client::start(&python, scaler(&proxy), "stream");
    let load = Load::start(proxy.at("web"), 40);
    eventually("the cloud is idle", || stream.lines() == ["target 1", "idle"]);
    proxy.counts("tidegate_scaler_streams", 2.0);

    idc.kill();
    eventually("the IDC is down", || proxy.cluster("idc")["state"] == "down");
    let down = Instant::now();
    eventually("the cloud is needed", || stream.lines() == ["target 1", "idle", "active"]);

    let (woken, _) = stream.lines.lock().unwrap()[2].clone();
    let delay = woken.saturating_duration_since(down);
    assert!(delay < Duration::from_secs(1), "{delay:?}");
    // What an endpoint can serve is not known: no more replicas than there are.
    assert_eq!(get(&python, scaler(&proxy)), ["True", "1", "1.0", "1", "1.0"]);
    let ok = "tidegate_scaler_calls_total{method=\"GetMetrics\",code=\"ok\"}";
    proxy.counts(ok, 1.0);
    drop(load);
    proxy.signal(libc::SIGTERM);
    assert_eq!(proxy.wait(), Some(0));
    assert_eq!(stream.end()[3..], ["end OK", "end OK"]);
}

#[test]
fn a_step_of_load_is_followed_once_and_the_figure_is_stable() {
    let Some(python) = python("grpc, google.protobuf") else { return };
    let cloud = slow("cloud", Duration::from_millis(20));
    let text = config(&[("cloud", "cloud", cloud.address)])
        .replace("kind: cloud,", "kind: cloud, capacity: { concurrent: 1, mode: hint },");
    let proxy = Proxy::start(&format!("{SCALING}{text}"));
    let load = Load::start(proxy.at("web"), 20);
    eventually("one replica", || get(&python, scaler(&proxy)).get(3).is_some_and(|n| n == "1"));
    load.set(120);
    let watch = Client::start(&python, scaler(&proxy), "watch");
    // 120/s x 20 ms are 2.4 busy endpoints of one slot each, at seven tenths 3.4.
    let replicas = |line: &String| line.parse::<u32>().unwrap();
    eventually("it follows", || watch.lines().last().is_some_and(|line| replicas(line) >= 3));
    let step = watch.lines().len();
    eventually("five seconds of it", || watch.lines().len() >= step + 50);
    let seen: Vec<u32> = watch.end()[step..].iter().map(replicas).collect();
    let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(seen.iter().all(|n| (3..=6).contains(n)) && changes <= 2, "{changes}: {seen:?}");
}

#[test]
fn every_proxy_answers_for_the_whole_fleet() {
    let Some(python) = python("grpc, google.protobuf") else { return };
    let folder = Folder::new();
    let cloud = slow("cloud", Duration::from_millis(20));
    let admins: Vec<SocketAddr> = (0..3).map(|_| free()).collect();
    let scalers: Vec<SocketAddr> = (0..3).map(|_| free()).collect();
    let webs: Vec<SocketAddr> = (0..3).map(|_| free()).collect();
    // Two proxies of one site, and one of another.
    let sites = ["east", "east", "west"];
    let start = |own: usize| {
        let peer = |other: usize| {
            format!("{{ site: {}, url: \"http://{}\" }}", sites[other], admins[other])
        };
        let peers: Vec<String> = (0..3).filter(|other| *other != own).map(peer).collect();
        let clusters = config(&[("cloud", "cloud", cloud.address)])
            .replace("kind: cloud,", "kind: cloud, capacity: { concurrent: 1, mode: hint },")
            .replacen("127.0.0.1:0", &webs[own].to_string(), 1);
        let text = format!(
            "site: {{ name: {} }}\nadmin: {{ address: \"{}\" }}\nfleet: {{ peers: [{}] }}\n\
             scaling: {{ address: \"{}\" }}\n{clusters}",
            sites[own],
            admins[own],
            peers.join(", "),
            scalers[own]
        );
        Process::proxy(&folder.write(&format!("{own}.yaml"), &text))
    };
    let proxies: Vec<Process> = (0..3).map(start).collect();
    let members = |own: usize| {
        let fleet = fleet_of(admins[own]).unwrap_or(Value::Null);
        let sites = fleet["sites"].as_array().cloned().unwrap_or_default();
        sites.iter().filter_map(|site| site["members"].as_u64()).sum::<u64>()
    };
    eventually("they meet", || (0..3).all(|own| members(own) == 3));
    // Each proxy needs 1.1, all together 3.4.
    let loads: Vec<Load> = webs.iter().map(|web| Load::start(*web, 40)).collect();
    for scaler in scalers {
        eventually("the sum over the fleet", || {
            let told = get(&python, scaler).get(3).and_then(|n| n.parse::<u32>().ok());
            told.is_some_and(|told| (3..=5).contains(&told))
        });
    }
    drop((loads, proxies));
}

#[test]
fn invalid_requests_get_a_status_with_a_sentence() {
    let Some(python) = python("grpc, google.protobuf") else { return };
    let (cloud, raw) = (Cluster::named("cloud"), Cluster::named("raw"));
    let text = format!(
        "{SCALING}listeners:\n  web: {{ address: 127.0.0.1:0, protocol: http, service: shop }}\n  \
         raw: {{ address: 127.0.0.2:0, protocol: tcp, service: raw }}\n\
         services: {{ shop: {{ clusters: [cloud] }}, raw: {{ clusters: [cloud, other] }} }}\n\
         clusters: {{ cloud: {{ endpoints: [\"{}\"] }}, other: {{ endpoints: [\"{}\"] }} }}\n",
        cloud.address, raw.address
    );
    let proxy = Proxy::start(&text);
    let at = scaler(&proxy);
    let long = "ü".repeat(128);
    let expected = [
        "INVALID_ARGUMENT: scalerMetadata has no `service`: name a service of the configuration",
        "INVALID_ARGUMENT: scalerMetadata has no `cluster`: name a cluster of the configuration",
        "INVALID_ARGUMENT: no service is named `nowhere`",
        "INVALID_ARGUMENT: no cluster is named `nowhere`",
        "INVALID_ARGUMENT: service `shop` may not use cluster `other`",
        "INVALID_ARGUMENT: no HTTP listener or route uses service `raw`: connections do not show what an endpoint can serve",
        &format!("INVALID_ARGUMENT: no service is named `{long}`"),
        "INVALID_ARGUMENT: the only metric is `tidegate-desired-replicas`",
        "RESOURCE_EXHAUSTED: a request has at most 65536 bytes",
        "UNIMPLEMENTED: the methods are those of externalscaler.ExternalScaler",
        "DEADLINE_EXCEEDED: ",
        "UNIMPLEMENTED: compressed messages are not supported",
    ];
    let told = run(&python, at, "wrong");
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    eventually("the demand is measured", || !get(&python, at).is_empty());
    assert_eq!(run(&python, at, "property"), ["ok"]);
}

/// A request with these fields and this body, and whether the client ends it; the status of its answer, HTTP's or gRPC's.
async fn call(at: SocketAddr, verb: &str, kind: &str, body: &'static [u8], ends: bool) -> String {
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(verb)
        .uri("http://scaler/externalscaler.ExternalScaler/IsActive")
        .header("content-type", kind)
        .body(())
        .unwrap();
    let (answer, mut upload) = send.send_request(request, false).unwrap();
    upload.send_data(bytes::Bytes::from_static(body), ends).unwrap();
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer").unwrap();
    let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap());
    status.map_or(answer.status().to_string(), |status| format!("grpc {status}"))
}

#[test]
fn requests_that_are_not_grpc_and_clients_that_wait_are_refused() {
    let cloud = Cluster::named("cloud");
    let proxy = Proxy::start(&format!("{SCALING}{}", config(&[("cloud", "cloud", cloud.address)])));
    let at = scaler(&proxy);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let grpc = "application/grpc";
        for (verb, kind, body, ends, expected) in [
            ("GET", grpc, &b""[..], true, "405 Method Not Allowed"),
            ("POST", "application/json", b"", true, "415 Unsupported Media Type"),
            ("POST", grpc, b"", true, "grpc 3"),
            ("POST", grpc, b"\0\0\0\0\x05ab", true, "grpc 3"),
            ("POST", grpc, b"\0\0\0\0\0\0\0\0\0\0", true, "grpc 3"),
            ("POST", grpc, b"\0\xff\xff\xff\xffab", true, "grpc 3"),
            ("POST", grpc, b"\0\0\0\0\x02\x0b\x0c", true, "grpc 3"),
            // Never complete.
            ("POST", grpc, b"\0\0\0", false, "grpc 4"),
        ] {
            assert_eq!(call(at, verb, kind, body, ends).await, expected, "{verb} {kind} {body:?}");
        }
        // HTTP/1, and bytes that are no protocol: the connection is closed, and the next client is served.
        for bytes in
            [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"]
        {
            let answer = ask_raw(at, bytes);
            assert_eq!(answer.status, 0, "{answer:?}");
        }
        assert_eq!(call(at, "POST", grpc, b"\0\0\0\0\0", true).await, "grpc 3");
    });
    assert_eq!(get_web(&proxy), "cloud");
}

fn get_web(proxy: &Proxy) -> String {
    super::support::get(proxy.at("web"), "/").body
}

#[test]
fn the_scaler_survives_an_upgrade_and_a_reload() {
    let Some(python) = python("grpc, google.protobuf") else { return };
    let cloud = Cluster::named("cloud");
    let at = free();
    let scaling = format!("scaling: {{ address: \"{at}\" }}");
    let text = format!("{scaling}\n{}", config(&[("cloud", "cloud", cloud.address)]));
    let proxy = Proxy::start(&text);
    let _successor = Successor(&proxy);
    let stream = Client::start(&python, at, "stream");
    eventually("it is answered", || !stream.lines().is_empty());
    proxy.rewrite(&text.replace(&scaling, "scaling: { address: 127.0.0.1:1 }"));
    proxy.says("scaling.address: changed; takes effect at the next start");
    proxy.rewrite(&text);
    proxy.signal(libc::SIGUSR2);
    proxy.says("successor ready");
    let ended = stream.end();
    assert_eq!(ended[ended.len() - 2..], ["end OK", "end OK"], "the old process drains");
    eventually("the successor answers", || !get(&python, at).is_empty());
}

#[test]
fn with_tls_only_clients_with_a_listed_certificate_are_served_and_replaced_files_apply() {
    let Some(python) = python("grpc, google.protobuf") else { return };
    let folder = folder_with(&[("a", &["127.0.0.1"]), ("keda", &["keda.example"])]);
    let foreign = folder_with(&[("a", &["127.0.0.1"]), ("keda", &["keda.example"])]);
    let file = |folder: &Folder, name: &str| folder.0.join(name);
    let keda = |folder: &Folder| [file(folder, "keda.pem"), file(folder, "keda.key")];
    let (ca, other_ca) = (file(&folder, "ca.pem"), file(&foreign, "ca.pem"));
    let cloud = Cluster::named("cloud");
    let at = folder.0.display();
    let text = format!(
        "scaling: {{ address: 127.0.0.1:0, tls: {{ cert: {at}/a.pem, key: {at}/a.key, client_ca: {at}/ca.pem }} }}\n{}",
        config(&[("cloud", "cloud", cloud.address)])
    );
    let proxy = Proxy::start(&text);
    let at = scaler(&proxy);
    let status = |ca: &PathBuf, own: &[PathBuf]| {
        let files = [std::slice::from_ref(ca), own].concat();
        Client::with(&python, at, "status", &files).end().concat()
    };
    let refused = |told: String| assert!(told.starts_with("UNAVAILABLE"), "{told}");

    eventually("the demand is measured", || status(&ca, &keda(&folder)) == "OK");

    refused(status(&ca, &[]));
    refused(status(&ca, &keda(&foreign)));
    refused(status(&other_ca, &keda(&folder)));
    refused(run(&python, at, "status").concat());
    let files = [&[ca.clone()][..], &keda(&folder)].concat();
    let stream = Client::with(&python, at, "stream", &files);
    eventually("it is open", || stream.lines().len() == 2);

    // The certificate of another authority takes its place.
    for name in ["a.pem", "a.key"] {
        std::fs::copy(file(&foreign, name), file(&folder, name)).unwrap();
    }

    eventually("the new certificate is shown", || status(&other_ca, &keda(&folder)) == "OK");
    refused(status(&ca, &keda(&folder)));
    assert_eq!(stream.lines().len(), 2, "open streams continue: {:?}", stream.lines());
    // Without `client_ca` every client is served, by TLS alone.
    let open = text.replacen(&format!(", client_ca: {}", ca.display()), "", 1);
    assert_ne!(open, text);
    proxy.rewrite(&open);
    eventually("no certificate is needed", || status(&other_ca, &[]) == "OK");
    refused(run(&python, at, "status").concat());
}
