//! Capacity groups: a full line is skipped, waited for if there is no other way, and measured.

use super::fault::{Fault, Relay};
use super::support::*;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// A cluster that answers a request for `/hold` when it is told to, and others at once.
fn holding(name: &'static str) -> (Cluster, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/hold") {
                wait.lock().unwrap().recv_timeout(PATIENCE).ok();
            }
            connection.reply(name);
        }
    });
    (cluster, go)
}

/// Clusters `a` and `b` behind one line, and `far` without a line.
fn lined(group: &str, a: &Cluster, b: &Cluster, far: &Cluster) -> String {
    let text =
        config(&[("a", "idc", a.address), ("b", "idc", b.address), ("far", "idc", far.address)]);
    let own = |text: String, name: &str| {
        let from = format!("  {name}: {{ kind: idc,");
        text.replace(&from, &format!("{from} capacity_group: line, timeouts: {{ queue: 300ms }},"))
    };
    own(own(text, "a"), "b") + &format!("capacity_groups: {{ line: {{ {group} }} }}\n")
}

/// A request for `/hold` that the cluster has received.
fn hold(proxy: &Proxy, cluster: &Cluster) -> Keeping {
    let mut client = Keeping::new(proxy.at("web"));
    let before = cluster.seen().matches("/hold").count();
    client.send(b"GET /hold HTTP/1.1\r\nHost: shop\r\n\r\n");
    eventually("it is held", || cluster.seen().matches("/hold").count() > before);
    client
}

fn in_use(proxy: &Proxy, unit: &str) -> f64 {
    proxy.metric(&format!(
        "tidegate_capacity_group_in_use{{capacity_group=\"line\",unit=\"{unit}\"}}"
    ))
}

#[test]
fn a_full_line_is_skipped_and_shown() {
    let ((a, go), b, far) = (holding("a"), Cluster::named("b"), Cluster::named("far"));
    let text = lined("concurrent: 2", &a, &b, &far);
    let proxy = Proxy::start(&text);
    let mut held = [hold(&proxy, &a), hold(&proxy, &a)];
    (0..5).for_each(|_| assert_eq!(get(proxy.at("web"), "/").body, "far", "b has the same line"));
    eventually("it shows", || {
        let group = &proxy.cluster("b")["capacity_group"];
        group["full"] == true && group["in_flight"] == 2 && group["in_flight_limit"] == 2
    });
    assert_eq!(proxy.cluster("far")["capacity_group"], serde_json::Value::Null);
    assert_eq!(
        proxy.cluster("a")["why"],
        "its capacity group line is full, so it gets nothing new"
    );
    let told = proxy.json("/api/v1/explain?host=a&path=/&method=GET&listener=web");
    assert_eq!(told["chosen"], "far", "{told}");
    let full = serde_json::json!({"cluster": "b", "reason": "capacity_group"});
    assert!(told["rejected"].as_array().unwrap().contains(&full), "{told}");
    eventually("the metric", || in_use(&proxy, "exchanges") == 2.0);
    let limit = "tidegate_capacity_group_limit{capacity_group=\"line\",unit=\"exchanges\"}";
    assert_eq!(proxy.metric(limit), 2.0);
    // A reload with another limit counts the exchanges that run.
    proxy.rewrite(&text.replace("concurrent: 2", "concurrent: 3"));
    eventually("the reload", || proxy.generation() == 2);
    let mut third = hold(&proxy, &a);
    assert_eq!(get(proxy.at("web"), "/").body, "far");
    (0..3).for_each(|_| go.send(()).unwrap());
    held.iter_mut().chain([&mut third]).for_each(|client| assert_eq!(client.answer().body, "a"));
    assert_eq!(get(proxy.at("web"), "/").body, "a");
    eventually("nothing stays counted", || in_use(&proxy, "exchanges") == 0.0);
}

#[test]
fn without_another_way_exchanges_wait_for_the_line() {
    let ((a, go), b) = (holding("a"), Cluster::named("b"));
    let text = lined("concurrent: 1", &a, &b, &b).replace("[a, b, far]", "[a, b]");
    let proxy = Proxy::start(&text);
    let mut first = hold(&proxy, &a);
    let refused = get(proxy.at("web"), "/");
    assert_eq!((refused.status, refused.refusal().as_str()), (503, "overloaded"), "after 300 ms");
    let mut second = Keeping::new(proxy.at("web"));
    second.send(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    eventually("it waits", || proxy.metric("tidegate_cluster_pending") == 1.0);
    go.send(()).unwrap();
    assert_eq!(first.answer().body, "a");
    assert_eq!(second.answer().body, "a", "it got the place of the first");
}

#[test]
fn flows_of_l4_count_too() {
    let [a, b, far] = ["a", "b", "far"].map(Cluster::named);
    let text = lined("concurrent: 1", &a, &b, &far).replace("protocol: http", "protocol: tcp");
    let proxy = Proxy::start(&text);
    let mut first = Keeping::new(proxy.at("web"));
    assert_eq!(first.get("/").body, "a");
    assert_eq!(Keeping::new(proxy.at("web")).get("/").body, "far");
    drop(first);
    eventually("the flow has ended", || in_use(&proxy, "exchanges") == 0.0);
    assert_eq!(Keeping::new(proxy.at("web")).get("/").body, "a");
}

#[test]
fn a_line_carries_its_rate_and_the_rest_goes_elsewhere() {
    const BODY: usize = 50_000;
    // 8 Mbit/s are 1 MB/s.
    const LIMIT: f64 = 1_000_000.0;
    let large = Cluster::scripted(|mut connection| {
        let body = "a".repeat(BODY);
        while connection.request().is_some() {
            connection.reply(&body);
        }
    });
    let [b, far] = ["b", "far"].map(Cluster::named);
    let proxy = Proxy::start(&lined("mbit_per_s: 8", &large, &b, &far));
    let mut client = Keeping::new(proxy.at("web"));
    let (since, mut over_line, mut elsewhere) = (Instant::now(), 0, 0);
    while since.elapsed() < Duration::from_secs(3) {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        match answer.body.as_str() {
            "far" => elsewhere += 1,
            "b" => {}
            _ => over_line += answer.body.len(),
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    // 0.2 s are saved at the start, and the last exchange may exceed the limit.
    let most = LIMIT * (seconds + 0.2) + BODY as f64;
    let carried = over_line as f64;
    assert!(carried <= most, "{carried} bytes in {seconds} s");
    assert!(carried >= 0.5 * LIMIT * seconds, "{carried} bytes in {seconds} s");
    assert!(elsewhere > 10, "{elsewhere}");
    let bytes = "tidegate_capacity_group_bytes_total{capacity_group=\"line\",direction=\"in\"}";
    eventually("the bytes", || proxy.metric(bytes) >= carried);
    assert!(proxy.metric(bytes) < 1.05 * carried, "heads and bodies, and nothing twice");
    let limit = "tidegate_capacity_group_limit{capacity_group=\"line\",unit=\"mbit_per_s\"}";
    assert_eq!(proxy.metric(limit), 8.0);
    let used = in_use(&proxy, "mbit_per_s");
    assert!((3.0..12.0).contains(&used), "{used} Mbit/s");
    eventually("the line is free again", || get(proxy.at("web"), "/").body.len() == BODY);
}

/// Two proxies of a site that share a line, each connected to the other through a relay.
struct Pair {
    proxies: [Option<Process>; 2],
    admins: [SocketAddr; 2],
    webs: [SocketAddr; 2],
    relays: [Relay; 2],
    _folder: Folder,
}

impl Pair {
    fn start(group: &str, cluster: &Cluster) -> Pair {
        let (folder, admins, webs) = (Folder::new(), [free(), free()], [free(), free()]);
        let relays = [Relay::before(admins[1]), Relay::before(admins[0])];
        let start = |own: usize| {
            let text = format!(
                "site: {{ name: east }}\nadmin: {{ address: \"{}\" }}\naccess_log: {{ format: off }}\n\
                 fleet: {{ peers: [{{ site: east, url: \"http://{}\" }}] }}\n\
                 listeners: {{ web: {{ address: \"{}\", protocol: http, service: shop }} }}\n\
                 services: {{ shop: {{ clusters: [idc], timeout: 60s }} }}\n\
                 capacity_groups: {{ line: {{ {group}, shared_by: fleet }} }}\n\
                 clusters: {{ idc: {{ endpoints: [\"{}\"], capacity_group: line }} }}\n",
                admins[own], relays[own].at, webs[own], cluster.address
            );
            Process::proxy(&folder.write(&format!("{own}.yaml"), &text))
        };
        let proxies = [Some(start(0)), Some(start(1))];
        Pair { proxies, admins, webs, relays, _folder: folder }
    }

    /// The current limits of a proxy: concurrent exchanges and Mbit/s; 0 if a limit is not set.
    fn limits(&self, own: usize) -> (u64, f64) {
        let to = self.admins[own];
        if std::net::TcpStream::connect(to).is_err() {
            return (0, 0.0);
        }
        let request =
            format!("GET /api/v1/clusters/idc HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n");
        let view: serde_json::Value =
            serde_json::from_str(&ask_raw(to, request.as_bytes()).body).unwrap_or_default();
        let group = &view["capacity_group"];
        let rate = group["mbit_per_s_limit"].as_f64().unwrap_or(0.0);
        (group["in_flight_limit"].as_u64().unwrap_or(0), rate)
    }

    fn both(&self) -> [(u64, f64); 2] {
        [self.limits(0), self.limits(1)]
    }
}

#[test]
fn a_shared_line_is_lent_and_held_by_whoever_hears_nothing() {
    let cluster = Cluster::scripted(|mut connection| while connection.take(1).is_some() {});
    let mut pair = Pair::start("concurrent: 16, mbit_per_s: 16", &cluster);
    // Half of the part of an earlier process may be lent.
    eventually("half a part", || pair.both() == [(4, 4.0); 2]);
    eventually("a part", || pair.both() == [(8, 8.0); 2]);
    let held: Vec<_> = (0..16)
        .map(|_| {
            let mut client = Keeping::new(pair.webs[0]);
            client.send(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
            client
        })
        .collect();
    let lent = |pair: &Pair| pair.both() == [(12, 8.0), (4, 8.0)];
    eventually("one borrows, the other lends; of the rate nothing is needed", || lent(&pair));

    pair.relays.iter().for_each(|relay| relay.set(Fault::Blackhole));

    eventually("each has its part", || {
        // Read in this order: the lender may use its part only after the borrower has stopped.
        let (lender, borrower) = (pair.limits(1).0, pair.limits(0).0);
        assert!(lender <= 4 || borrower <= 8, "lender {lender}, then borrower {borrower}");
        (lender, borrower) == (8, 8)
    });
    pair.relays.iter().for_each(|relay| relay.set(Fault::None));
    eventually("news again", || lent(&pair));

    pair.proxies[1] = None;

    eventually("alone it has its part, and no more", || pair.limits(0).0 == 8);
    drop(held);
}

/// The bytes of all responses that these clients of the proxies get within this time, and the time.
fn drink(webs: &[SocketAddr], span: Duration) -> (f64, f64) {
    let since = Instant::now();
    let one = |web: SocketAddr| {
        std::thread::spawn(move || {
            let (mut client, mut bytes) = (Keeping::new(web), 0);
            while since.elapsed() < span {
                bytes += client.get("/").body.len();
            }
            bytes as f64
        })
    };
    let clients: Vec<_> = webs.iter().map(|web| one(*web)).collect();
    let bytes = clients.into_iter().map(|client| client.join().unwrap()).sum();
    (bytes, since.elapsed().as_secs_f64())
}

#[test]
fn the_rate_of_a_shared_line_goes_where_it_is_needed_and_never_exceeds_the_line() {
    const BODY: usize = 20_000;
    // 8 Mbit/s are 1 MB/s: half a MB/s for each proxy.
    const LIMIT: f64 = 1_000_000.0;
    let cluster = Cluster::scripted(|mut connection| {
        let body = "a".repeat(BODY);
        while connection.request().is_some() {
            connection.reply(&body);
        }
    });
    let pair = Pair::start("mbit_per_s: 8", &cluster);
    eventually("a part", || pair.both() == [(0, 4.0); 2]);
    let [busy, idle] = pair.webs;
    let one = std::thread::spawn(move || drink(&[busy, busy], Duration::from_secs(9)));
    // The rate rises by a quarter with each report.
    eventually("one borrows what the other lends", || {
        let [borrower, lender] = pair.both();
        borrower.1 > 5.5 && lender.1 < 2.5
    });
    let (carried, seconds) = one.join().unwrap();
    assert!(carried > 1.02 * LIMIT / 2.0 * seconds, "{carried} bytes in {seconds} s");

    let (carried, seconds) = drink(&[busy, busy, idle, idle], Duration::from_secs(4));

    // Each proxy may save 0.2 s of its part, and each client may exceed the limit by a response.
    let most = LIMIT * (seconds + 0.4) + (4 * BODY) as f64;
    assert!(carried <= most && carried > 0.6 * LIMIT * seconds, "{carried} bytes in {seconds} s");
}
