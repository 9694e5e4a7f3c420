//! Traces, judged by a collector that is OpenTelemetry's own code on Python's gRPC.

use super::support::*;
use super::tls::folder_with;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLIENTS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A collector, and the spans that it has printed.
struct Collector {
    child: Child,
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start(arguments: &[&str]) -> Option<Collector> {
        let python = python("grpc, opentelemetry.proto")?;
        let mut child = Command::new(python)
            .arg(script("otlp_collector.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let (port, spans) = (line.trim().parse().unwrap(), Arc::default());
        let printed: Arc<Mutex<Vec<Value>>> = Arc::clone(&spans);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut request: Vec<Value> = serde_json::from_str(&line).unwrap();
                printed.lock().unwrap().append(&mut request);
            }
        });
        Some(Collector { child, port, spans })
    }

    /// Waits for this many spans of exchanges to this path; returns each with the spans below it.
    fn exchanges(&self, path: &str, count: usize) -> Vec<(Value, Vec<Value>)> {
        let of_path = |span: &&Value| span["kind"] == 2 && span["attributes"]["url.path"] == path;
        eventually(&format!("{count} traces of {path}"), || {
            self.spans.lock().unwrap().iter().filter(of_path).count() >= count
        });
        let spans = self.spans.lock().unwrap();
        let below = |root: &Value| {
            let is_child = |span: &&Value| span["parent"] == root["span"];
            spans.iter().filter(is_child).cloned().collect()
        };
        spans.iter().filter(of_path).map(|root| (root.clone(), below(root))).collect()
    }

    /// Waits for a span with this name; returns it with the spans below it.
    fn named(&self, name: &str) -> (Value, Vec<Value>) {
        let find = || self.spans.lock().unwrap().iter().find(|span| span["name"] == name).cloned();
        eventually(name, || find().is_some());
        let root = find().unwrap();
        let spans = self.spans.lock().unwrap();
        let below = spans.iter().filter(|span| span["parent"] == root["span"]).cloned().collect();
        (root, below)
    }

    fn one(&self, path: &str) -> (Value, Vec<Value>) {
        let mut all = self.exchanges(path, 1);
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn traced(port: u16, keys: &str, clusters: &[(&str, &str, std::net::SocketAddr)]) -> String {
    format!("tracing: {{ otlp: \"http://127.0.0.1:{port}\"{keys} }}\n{}", config(clusters))
}

/// The same, with all clients trusted.
fn trusting(text: &str) -> String {
    text.replacen("service: shop }", "service: shop, trusted_proxies: [127.0.0.0/8] }", 1)
}

fn ask(proxy: &Proxy, path: &str, lines: &str) -> Answer {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: u/1\r\nConnection: close\r\n{lines}\r\n"
    );
    ask_raw(proxy.at("web"), text.as_bytes())
}

/// The value of a field of the last request with this path that a cluster received.
fn received(cluster: &Cluster, path: &str, name: &str) -> Option<String> {
    let seen = cluster.seen().to_ascii_lowercase();
    let from = seen.rfind(&format!("get {path}")).unwrap();
    let head = seen[from..].split("\r\n\r\n").next().unwrap().to_owned();
    parse(format!("{head}\r\n\r\n").as_bytes()).header(name)
}

fn spans(result: &str) -> String {
    format!("tidegate_trace_spans_total{{result=\"{result}\"}}")
}

#[test]
fn an_exchange_has_spans_of_its_decision_and_attempt() {
    let Some(collector) = Collector::start(&["take"]) else { return };
    let cluster = Cluster::named("a");
    let clusters = [("a", "idc", cluster.address)];
    let proxy = Proxy::start(&traced(collector.port, ", sample_ratio: 1", &clusters));

    let answer =
        ask(&proxy, "/x/y?secret=1", &format!("traceparent: {CLIENTS}\r\ntracestate: a=b\r\n"));

    assert_eq!(answer.body, "a");
    let (root, below) = collector.one("/x/y");
    let attribute = |span: &Value, name: &str| span["attributes"][name].clone();
    for (name, expected) in [
        ("http.request.method", "GET".into()),
        ("http.response.status_code", 200.into()),
        ("url.scheme", "http".into()),
        ("server.address", "shop.example".into()),
        ("server.port", 8080.into()),
        ("client.address", "127.0.0.1".into()),
        ("user_agent.original", "u/1".into()),
        ("network.protocol.version", "1.1".into()),
        ("tidegate.listener", "web".into()),
        ("tidegate.service", "shop".into()),
        ("tidegate.cluster", "a".into()),
        ("tidegate.reason", "only".into()),
        ("tidegate.attempts", Value::from(1)),
    ] {
        assert_eq!(attribute(&root, name), expected, "{name}: {root}");
    }
    assert_eq!(root["resource"]["service.name"], "tidegate");
    assert_eq!(
        (&root["parent"], &root["error"]),
        (&"".into(), &false.into()),
        "a stranger's trace"
    );
    assert_ne!(root["trace"], CLIENTS[3..35], "is not continued: {root}");
    let [decision, attempt] = &below[..] else { panic!("{below:#?}") };
    assert_eq!((&decision["kind"], &attempt["kind"]), (&1.into(), &3.into()));
    assert_eq!(attribute(decision, "tidegate.reason"), "only");
    assert_eq!(attribute(attempt, "server.port"), cluster.address.port());
    assert_eq!(attribute(attempt, "http.response.status_code"), 200);
    let time = |span: &Value, name: &str| span[name].as_u64().unwrap();
    for span in &below {
        assert_eq!(span["trace"], root["trace"]);
        assert!(
            time(span, "start") >= time(&root, "start") && time(span, "end") <= time(&root, "end")
        );
        assert!(time(span, "start") <= time(span, "end"), "{span}");
    }
    let text = |name: &str| attempt[name].as_str().unwrap().to_owned();
    let parent = format!("00-{}-{}-01", text("trace"), text("span"));
    assert_eq!(
        received(&cluster, "/x/y", "traceparent"),
        Some(parent),
        "the attempt is the parent"
    );
    assert_eq!(received(&cluster, "/x/y", "tracestate"), None, "it belongs to another trace");
    let line = proxy.says("\"path\":\"/x/y");
    assert!(line.contains(&text("trace")), "the access log has the trace's id: {line}");
    let all = format!("{:?}", collector.spans.lock().unwrap());
    assert!(!all.contains("secret"), "{all}");
    proxy.counts(&spans("exported"), 3.0);
}

#[test]
fn a_trusted_client_decides_for_its_trace() {
    let Some(collector) = Collector::start(&["take"]) else { return };
    let cluster = Cluster::named("a");
    let clusters = [("a", "idc", cluster.address)];
    let proxy = Proxy::start(&trusting(&traced(collector.port, ", sample_ratio: 0", &clusters)));
    let unsampled = CLIENTS.replacen("331-01", "331-00", 1);
    for (path, parent, continues) in [
        ("/unsampled", &unsampled[..], true),
        ("/malformed", "00-0-0-01", false),
        ("/sampled", CLIENTS, true),
    ] {
        ask(&proxy, path, &format!("traceparent: {parent}\r\ntracestate: a=b\r\n"));
        let state = received(&cluster, path, "tracestate");
        assert_eq!(state.is_some(), continues, "{path}");
    }

    let (root, below) = collector.one("/sampled");

    assert_eq!(
        (&root["trace"], &root["parent"]),
        (&CLIENTS[3..35].into(), &CLIENTS[36..52].into())
    );
    assert_eq!(root["flags"], 0x301, "sampled, with a remote parent");
    assert_eq!(below.len(), 2);
    let of = |path: &str| received(&cluster, path, "traceparent").unwrap();
    assert_eq!(of("/unsampled"), unsampled, "as it came");
    assert!(of("/malformed").ends_with("-00") && of("/malformed").len() == 55);
    assert!(of("/sampled").starts_with(&CLIENTS[..35]) && of("/sampled").ends_with("-01"));
    assert_ne!(of("/sampled"), CLIENTS, "the attempt is the parent");
    assert_eq!(collector.spans.lock().unwrap().len(), 3, "nothing of the others");
}

#[test]
fn retries_hedges_and_refusals_have_their_spans() {
    let Some(collector) = Collector::start(&["take"]) else { return };
    let breaking = Cluster::scripted(|mut connection| {
        if let Some((head, _)) = connection.request() {
            // A hedge is sent while this one is pending.
            if head.starts_with("GET /slow") {
                drop(connection.request());
            }
        }
    });
    let good = Cluster::named("good");
    let clusters = [("bad", "idc", breaking.address), ("good", "idc", good.address)];
    let text = traced(collector.port, ", sample_ratio: 1", &clusters).replacen(
        "] }",
        "], hedge: { after: 100ms }, strategy: priority }",
        1,
    );
    let text = format!("{text}routes: [{{ path: /none, respond: {{ status: 404 }} }}]\n");
    let proxy = Proxy::start(&text);

    for path in ["/slow", "/retry", "/none"] {
        ask(&proxy, path, "");
    }

    let (root, below) = collector.one("/slow");
    assert_eq!(root["attributes"]["tidegate.attempts"], 2, "{root}");
    let attempts: Vec<&Value> = below.iter().filter(|span| span["kind"] == 3).collect();
    let [primary, hedge] = attempts[..] else { panic!("{below:#?}") };
    assert_eq!(primary["attributes"]["tidegate.cancelled"], true, "{primary}");
    assert_eq!(hedge["attributes"]["http.response.status_code"], 200, "{hedge}");
    assert_eq!((&primary["error"], &hedge["error"]), (&false.into(), &false.into()));

    let (root, below) = collector.one("/retry");
    assert_eq!(below.len(), 4, "two decisions, two attempts: {below:#?}");
    let attempts: Vec<&Value> = below.iter().filter(|span| span["kind"] == 3).collect();
    assert_eq!(attempts[0]["attributes"]["error.type"], "upstream_reset");
    assert_eq!(attempts[0]["error"], true);
    assert_eq!(attempts[1]["attributes"]["http.request.resend_count"], 1);
    assert_eq!(root["attributes"]["tidegate.cluster"], "good");
    assert_eq!(root["error"], false, "the client does not notice: {root}");
    let parent = received(&good, "/retry", "traceparent").unwrap();
    assert!(parent.contains(attempts[1]["span"].as_str().unwrap()), "each attempt has its own");

    let (root, below) = collector.one("/none");
    assert_eq!((&root["attributes"]["http.response.status_code"], below.len()), (&404.into(), 0));
}

#[test]
fn a_tcp_connection_has_spans_of_its_decisions_and_attempts() {
    let Some(collector) = Collector::start(&["take"]) else { return };
    let (dead, good) = (free(), Cluster::named("good"));
    let clusters = [("dead", "idc", dead), ("good", "idc", good.address)];
    let text = traced(collector.port, ", sample_ratio: 1", &clusters)
        .replacen("protocol: http", "protocol: tcp", 1)
        .replacen("] }", "], strategy: priority }", 1)
        .replacen("probe: { interval: 100ms, timeout: 100ms }", "probe: { kind: none }", 1);
    let proxy = Proxy::start(&text);

    let mut client = Keeping::new(proxy.at("web"));
    assert_eq!(client.get("/x").body, "good");
    assert_eq!(proxy.metric(&spans("exported")), 0.0, "it has not ended");
    drop(client);

    let (root, below) = collector.named("connection web");
    let of = |span: &Value, name: &str| span["attributes"][name].clone();
    for (name, expected) in [
        ("network.transport", "tcp".into()),
        ("client.address", "127.0.0.1".into()),
        ("tidegate.listener", "web".into()),
        ("tidegate.service", "shop".into()),
        ("tidegate.cluster", "good".into()),
        ("tidegate.attempts", Value::from(2)),
    ] {
        assert_eq!(of(&root, name), expected, "{name}: {root}");
    }
    assert!(of(&root, "tidegate.bytes_in").as_u64() > Some(20), "{root}");
    assert!(of(&root, "tidegate.bytes_out").as_u64() > Some(20), "{root}");
    assert_eq!(
        (&root["kind"], &root["parent"], &root["error"]),
        (&2.into(), &"".into(), &false.into())
    );
    assert_eq!(below.len(), 4, "two decisions, two attempts: {below:#?}");
    let kind = |kind: u64| below.iter().filter(move |span| span["kind"] == kind);
    let attempts: Vec<&Value> = kind(3).collect();
    assert_eq!(of(attempts[0], "error.type"), "upstream_connect", "{attempts:#?}");
    assert_eq!(
        (of(attempts[1], "tidegate.cluster"), &attempts[1]["error"]),
        ("good".into(), &false.into())
    );
    assert_eq!(of(attempts[1], "tidegate.resend_count"), 1);
    assert_eq!(of(attempts[1], "server.port"), good.address.port());
    assert!(kind(1).all(|decision| of(decision, "tidegate.cluster").is_string()), "{below:#?}");
    let time = |span: &Value, name: &str| span[name].as_u64().unwrap();
    for span in &below {
        assert_eq!(span["trace"], root["trace"]);
        assert!(
            time(span, "start") >= time(&root, "start") && time(span, "end") <= time(&root, "end")
        );
    }
    assert!(time(attempts[0], "end") <= time(attempts[1], "start"), "one after the other");
    proxy.counts(&spans("exported"), 5.0);

    // Nobody is left: the client is reset.
    collector.spans.lock().unwrap().clear();
    good.kill();
    eventually("it is down", || proxy.cluster("good")["state"] == "down");
    assert!(Keeping::new(proxy.at("web")).try_answer().is_none());
    let (root, below) = collector.named("connection web");
    assert_eq!(root["error"], true, "{root}");
    assert_eq!(of(&root, "tidegate.refusal"), of(&root, "error.type"), "{root}");
    assert!(!below.is_empty(), "{below:#?}");
}

#[test]
fn connections_are_sampled_by_the_ratio() {
    let Some(collector) = Collector::start(&["take"]) else { return };
    let cluster = Cluster::named("a");
    let text = traced(collector.port, ", sample_ratio: 0", &[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&text.replacen("protocol: http", "protocol: tcp", 1));
    (0..5).for_each(|_| assert_eq!(Keeping::new(proxy.at("web")).get("/").body, "a"));
    proxy.counts("tidegate_requests_total", 5.0);
    assert_eq!(proxy.metric("tidegate_trace_spans_total"), 0.0);
}

#[test]
fn a_copy_for_a_mirror_is_below_its_original() {
    let Some(collector) = Collector::start(&["take"]) else { return };
    let (original, mirror) = (Cluster::named("a"), Cluster::named("b"));
    let proxy = Proxy::start(&format!(
        "tracing: {{ otlp: \"http://127.0.0.1:{}\", sample_ratio: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http }} }}\n\
         services: {{ shop: {{ clusters: [a] }}, next: {{ clusters: [b] }} }}\n\
         clusters: {{ a: {{ endpoints: [\"{}\"] }}, b: {{ endpoints: [\"{}\"] }} }}\n\
         routes: [{{ service: shop, mirror: {{ service: next }} }}]\n",
        collector.port, original.address, mirror.address
    ));

    assert_eq!(ask(&proxy, "/copied", "").body, "a");

    let (root, _) = collector.one("/copied");
    let (copy, below) = collector.named("mirror next");
    assert_eq!((&copy["parent"], &copy["trace"]), (&root["span"], &root["trace"]));
    assert_eq!((&copy["kind"], &copy["flags"]), (&1.into(), &0x101.into()), "not remote: {copy}");
    assert_eq!(copy["attributes"]["tidegate.cluster"], "b");
    let [decision, attempt] = &below[..] else { panic!("{below:#?}") };
    assert_eq!((&decision["kind"], &attempt["kind"]), (&1.into(), &3.into()));
    let text = |name: &str| attempt[name].as_str().unwrap().to_owned();
    let parent = format!("00-{}-{}-01", text("trace"), text("span"));
    assert_eq!(received(&mirror, "/copied", "traceparent"), Some(parent), "its own attempt");
    assert!(received(&original, "/copied", "traceparent").unwrap().contains(&text("trace")));
    proxy.counts(&spans("exported"), 6.0);
}

#[test]
fn a_collector_that_hangs_or_lies_does_no_harm() {
    for (mode, result) in [
        ("hang", "failed"),
        ("refuse", "failed"),
        ("garbage", "failed"),
        ("huge", "failed"),
        ("reject", "rejected"),
        ("negative", "exported"),
    ] {
        let Some(collector) = Collector::start(&[mode]) else { return };
        let cluster = Cluster::named("a");
        let clusters = [("a", "idc", cluster.address)];
        let proxy = Proxy::start(&traced(collector.port, ", sample_ratio: 1", &clusters));
        let mut client = Keeping::new(proxy.at("web"));
        assert_eq!(client.get("/").body, "a");
        eventually(&format!("{mode}: {result}"), || proxy.metric(&spans(result)) == 3.0);
        assert_eq!(proxy.metric("tidegate_trace_spans_total"), 3.0, "{mode}: counted once");
        let said = proxy.said("the collector takes no spans");
        assert_eq!(said.is_some(), result == "failed", "{mode}: {said:?}");
        assert!(said.is_none_or(|line| line.len() < 600 && !line.contains('\u{1b}')), "{mode}");
        if mode == "hang" {
            hangs(&proxy, &mut client);
        }
    }
}

/// Requests beside a collector that does not answer: the queue fills, memory stays constant, no request waits.
fn hangs(proxy: &Proxy, client: &mut Keeping) {
    let (before, long) = (proxy.resident_mib(), "x".repeat(2_000));
    let begun = Instant::now();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while proxy.metric(&spans("queue_full")) == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "in time: {count} requests");
        for _ in 0..200 {
            let asked = Instant::now();
            assert_eq!(client.get(&format!("/{long}")).body, "a");
            slowest = slowest.max(asked.elapsed());
            count += 1;
        }
    }
    assert!(count >= 2_000, "the queue has room for as many: {count}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let after = proxy.resident_mib();
    assert!(after < before + 40, "{before} to {after} MiB after {count} traces");
}

#[test]
fn a_collector_that_returns_gets_its_spans_and_the_last_ones_are_sent_at_shutdown() {
    let at = free();
    let cluster = Cluster::named("a");
    let clusters = [("a", "idc", cluster.address)];
    let mut proxy = Proxy::start(&traced(at.port(), ", sample_ratio: 1", &clusters));
    ask(&proxy, "/first", "");
    proxy.says("the collector takes no spans");
    let Some(collector) = Collector::start(&["take", &at.port().to_string()]) else { return };
    collector.one("/first");
    proxy.says("takes spans again");

    ask(&proxy, "/last", "");
    proxy.signal(15);

    collector.one("/last");
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn a_reload_changes_the_collector_or_ends_tracing() {
    let Some(first) = Collector::start(&["take"]) else { return };
    let Some(second) = Collector::start(&["take"]) else { return };
    let cluster = Cluster::named("a");
    let clusters = [("a", "idc", cluster.address)];
    let proxy = Proxy::start(&config(&clusters));
    let reload = |text: &str| {
        let generation = proxy.generation();
        proxy.rewrite(text);
        eventually("a reload", || proxy.generation() > generation);
    };
    ask(&proxy, "/before", "");
    assert!(received(&cluster, "/before", "traceparent").unwrap().ends_with("-00"));
    assert!(!proxy.get("/metrics").body.contains("tidegate_trace_spans_total"));
    for (collector, path) in [(&first, "/one"), (&second, "/two")] {
        reload(&traced(collector.port, ", sample_ratio: 1", &clusters));
        ask(&proxy, path, "");
        collector.one(path);
    }
    reload(&config(&clusters));
    ask(&proxy, "/after", "");
    assert!(received(&cluster, "/after", "traceparent").unwrap().ends_with("-00"));
    let all = |collector: &Collector| collector.spans.lock().unwrap().len();
    assert_eq!((all(&first), all(&second)), (3, 3));
}

#[test]
fn a_collector_is_authenticated_by_tls() {
    let folder = folder_with(&[("a", &["localhost", "127.0.0.1"])]);
    let file = |name: &str| folder.0.join(name).display().to_string();
    let arguments = ["take", "0", &file("a.pem"), &file("a.key")];
    let Some(collector) = Collector::start(&arguments) else { return };
    let cluster = Cluster::named("a");
    let clusters = [("a", "idc", cluster.address)];
    let text = |host: &str, keys: &str| {
        let url = format!("\"https://{host}:{}\"{keys}", collector.port);
        format!("tracing: {{ sample_ratio: 1, otlp: {url} }}\n{}", config(&clusters))
    };
    let ca = format!(", ca: {}", file("ca.pem"));
    for host in ["127.0.0.1", "localhost"] {
        let proxy = Proxy::start(&text(host, &ca));
        ask(&proxy, &format!("/{host}"), "");
        collector.one(&format!("/{host}"));
    }
    // The system's authorities have not issued its certificate.
    let proxy = Proxy::start(&text("127.0.0.1", ""));
    ask(&proxy, "/stranger", "");
    let said = proxy.says("the collector takes no spans");
    assert!(said.to_lowercase().contains("certificate"), "{said}");
}
