//! UDP: flows stay at their endpoint, end after an idle time, and leave endpoints that are down.

use super::support::*;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A cluster that answers each datagram with its name, the sender's port, and the received text.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    fn named(name: &'static str) -> Echo {
        Echo::at("127.0.0.1:0".parse().unwrap(), name)
    }

    fn at(address: SocketAddr, name: &'static str) -> Echo {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; 65_535];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut bytes) else { continue };
                let mut answer = format!("{name} {} ", from.port()).into_bytes();
                answer.extend(&bytes[..count]);
                answer.truncate(65_000);
                socket.send_to(&answer, from).unwrap();
            }
        });
        Echo { address, stop, thread: Some(thread) }
    }

    fn kill(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn udp(clusters: &[(&str, &str, SocketAddr)]) -> String {
    config(clusters)
        .replace("protocol: http", "protocol: udp")
        .replace("probe: { interval: 100ms, timeout: 100ms }", "probe: { kind: none }")
}

/// Sends queries until `name` answers; returns the number of unanswered ones.
fn until(client: &UdpSocket, name: &str) -> u32 {
    let mut lost = 0;
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    eventually(name, || match ask(client, "hello") {
        Some((who, ..)) => who == name,
        None => {
            lost += 1;
            false
        }
    });
    lost
}

fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// The endpoint that answered, the proxy's port, and the text.
fn ask(client: &UdpSocket, text: &str) -> Option<(String, u16, String)> {
    client.send(text.as_bytes()).unwrap();
    let mut bytes = vec![0; 65_535];
    let count = client.recv(&mut bytes).ok()?;
    let answer = String::from_utf8(bytes[..count].to_vec()).unwrap();
    let mut words = answer.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default().to_owned();
    Some((next(), next().parse().unwrap(), next()))
}

#[test]
fn a_flow_keeps_its_port_and_two_clients_have_two() {
    let echo = Echo::named("idc");
    let proxy = Proxy::start(&udp(&[("idc", "idc", echo.address)]));
    let (first, second) = (client(proxy.at("web")), client(proxy.at("web")));
    let (name, port, text) = ask(&first, "hello").unwrap();
    assert_eq!((name.as_str(), text.as_str()), ("idc", "hello"));
    assert_eq!(ask(&first, "again").unwrap().1, port);
    assert_ne!(ask(&second, "other").unwrap().1, port);
    assert_eq!(ask(&first, "").unwrap(), ("idc".into(), port, String::new()), "empty is one, too");
    proxy.counts("tidegate_connections{listener=\"web\"}", 2.0);
}

#[test]
fn datagrams_count_for_the_line_of_their_cluster() {
    let echo = Echo::named("idc");
    let text = udp(&[("idc", "idc", echo.address)])
        .replace("kind: idc,", "kind: idc, capacity_group: line,")
        + "capacity_groups: { line: { mbit_per_s: 100 } }\n";
    let proxy = Proxy::start(&text);
    let client = client(proxy.at("web"));
    let large = "x".repeat(10_000);
    (0..3).for_each(|_| assert_eq!(ask(&client, &large).unwrap().2, large));
    let of = |name: &str, label: &str| {
        proxy.metric(&format!("tidegate_capacity_group_{name}{{capacity_group=\"line\",{label}}}"))
    };
    eventually("the bytes", || {
        let answers = of("bytes_total", "direction=\"in\"");
        of("bytes_total", "direction=\"out\"") == 30_000.0 && answers > 30_000.0
    });
    assert_eq!(of("in_use", "unit=\"exchanges\""), 1.0, "the flow");
}

#[test]
fn datagrams_larger_than_a_packet_pass_and_so_does_a_burst() {
    let echo = Echo::named("idc");
    let proxy = Proxy::start(&udp(&[("idc", "idc", echo.address)]));
    let client = client(proxy.at("web"));
    let large = "x".repeat(60_000);
    assert_eq!(ask(&client, &large).unwrap().2, large);
    for number in 0..40 {
        client.send(format!("{number:04}").as_bytes()).unwrap();
    }
    let mut seen = Vec::new();
    let mut bytes = [0; 64];
    for _ in 0..40 {
        let count = client.recv(&mut bytes).unwrap();
        seen.push(String::from_utf8(bytes[count - 4..count].to_vec()).unwrap());
    }
    // Datagrams stay separate and in order, although they are batched.
    assert_eq!(seen, (0..40).map(|number| format!("{number:04}")).collect::<Vec<_>>());
}

#[test]
fn a_silent_flow_ends_and_is_logged() {
    let echo = Echo::named("idc");
    let text = udp(&[("idc", "idc", echo.address)])
        .replace("service: shop }", "service: shop, timeouts: { idle_l4: 300ms } }");
    let proxy = Proxy::start(&text);
    let client = client(proxy.at("web"));
    let port = ask(&client, "hello").unwrap().1;
    let line: serde_json::Value =
        serde_json::from_str(&proxy.says("\"protocol\":\"udp\"")).unwrap();
    assert_eq!((line["bytes_in"].as_u64(), line["cluster"].as_str()), (Some(5), Some("idc")));
    proxy.counts("tidegate_connections{listener=\"web\"}", 0.0);
    assert_ne!(ask(&client, "hello").unwrap().1, port, "a new flow has a port of its own");
}

#[test]
fn flows_of_a_dead_cluster_move_to_the_next() {
    let (mut idc, cloud) = (Echo::named("idc"), Echo::named("cloud"));
    let proxy =
        Proxy::start(&udp(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]));
    let clients: Vec<UdpSocket> = (0..3).map(|_| client(proxy.at("web"))).collect();
    assert!(clients.iter().all(|client| ask(client, "hello").unwrap().0 == "idc"));
    idc.kill();
    let lost: u32 = clients.iter().map(|client| until(client, "cloud")).sum();
    assert!(lost <= 3, "{lost} datagrams were lost");
    let ejections = || proxy.metric("tidegate_ejections_total{tidegate_cluster=\"idc\"");
    eventually("the ejection is counted", || ejections() >= 1.0);
}

#[test]
fn sensitive_datagrams_are_dropped_rather_than_sent_to_a_cloud() {
    let (mut idc, cloud) = (Echo::named("idc"), Echo::named("cloud"));
    let text = udp(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
        .replace("clusters: [idc, cloud] }", "clusters: [idc, cloud], data: sensitive }");
    let proxy = Proxy::start(&text);
    let client = client(proxy.at("web"));
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(ask(&client, "secret").unwrap().0, "idc");
    idc.kill();
    eventually("datagrams are dropped", || {
        assert_eq!(ask(&client, "secret"), None);
        proxy.metric("tidegate_datagrams_dropped_total{listener=\"web\"}") >= 3.0
    });
}

#[test]
fn flows_are_bounded_by_listener_client_and_cluster() {
    let echo = Echo::named("idc");
    let base = udp(&[("idc", "idc", echo.address)]);
    for (from, to) in [
        ("service: shop }", "service: shop, limits: { connections_per_client: 2 } }"),
        ("probe: { kind: none }", "probe: { kind: none }, limits: { connections: 2 }"),
        ("probe: { kind: none }", "probe: { kind: none }, capacity: { concurrent: 2 }"),
    ] {
        let proxy = Proxy::start(&base.replace(from, to));
        let clients: Vec<UdpSocket> = (0..3).map(|_| client(proxy.at("web"))).collect();
        clients[2].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(ask(&clients[0], "a").is_some() && ask(&clients[1], "b").is_some(), "{to}");
        assert_eq!(ask(&clients[2], "c"), None, "{to}");
        assert!(ask(&clients[0], "a").is_some(), "{to}: others go on");
        proxy.counts("tidegate_refusals_total{listener=\"web\"", 1.0);
    }
}

#[test]
fn flows_survive_reloads_but_not_new_constraints() {
    let (idc, cloud) = (Echo::named("idc"), Echo::named("cloud"));
    let clusters = [("cloud", "cloud", cloud.address), ("idc", "idc", idc.address)];
    let text =
        udp(&clusters).replace("clusters: [cloud, idc] }", "clusters: [cloud], data: general }");
    let proxy = Proxy::start(&text);
    let client = client(proxy.at("web"));
    let (name, port, _) = ask(&client, "1").unwrap();
    assert_eq!(name, "cloud");
    proxy.rewrite(&format!("{text}# 2\n"));
    eventually("the reload", || proxy.generation() == 2);
    assert_eq!(ask(&client, "2").unwrap().1, port);
    let sensitive =
        text.replace("clusters: [cloud], data: general", "clusters: [cloud, idc], data: sensitive");
    proxy.rewrite(&sensitive);
    eventually("the reload", || proxy.generation() == 3);
    assert_eq!(ask(&client, "3").unwrap().0, "idc");
    let denied = sensitive.replace("data: sensitive", "deny: [127.0.0.0/8]");
    proxy.rewrite(&denied);
    eventually("the reload", || proxy.generation() == 4);
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(ask(&client, "4"), None, "a flow does not outlive what its client may");
    // Removed and added again at once: the old socket may still have flows.
    let other = free();
    proxy.rewrite(&text.replace("127.0.0.1:0", &other.to_string()));
    eventually("the reload", || proxy.generation() == 5);
    assert!(ask(&self::client(other), "5").is_some());
    proxy.rewrite(&text.replace("127.0.0.1:0", &free().to_string()));
    eventually("the reload", || proxy.generation() == 6);
    proxy.rewrite(&text.replace("127.0.0.1:0", &other.to_string()));
    eventually("the reload", || proxy.generation() == 7);
    assert!(ask(&self::client(other), "6").is_some());
}

#[test]
fn tcp_and_udp_share_a_port() {
    let (echo, cluster) = (Echo::named("idc"), Cluster::named("http"));
    let free = free();
    let text = format!(
        "listeners:\n  web: {{ address: {free}, protocol: http, service: web }}\n  \
           names: {{ address: {free}, protocol: udp, service: names }}\n\
         services: {{ web: {{ clusters: [web] }}, names: {{ clusters: [names] }} }}\n\
         clusters:\n  web: {{ kind: idc, endpoints: [\"{}\"] }}\n  \
           names: {{ kind: idc, endpoints: [\"{}\"], probe: {{ kind: none }} }}\n",
        cluster.address, echo.address
    );
    let proxy = Proxy::start(&text);
    assert_eq!(get(proxy.at("web"), "/").body, "http");
    assert_eq!(ask(&client(proxy.at("names")), "hi").unwrap().0, "idc");
}

#[test]
fn unsupported_udp_settings_are_reported() {
    let (code, said) = check(
        &Folder::new(),
        "listeners:\n  a: { address: \"unix:/tmp/x\", protocol: udp, proxy_protocol: { from: [10.0.0.0/8] } }\n\
         services: { s: { clusters: [c] } }\n\
         clusters: { c: { kind: idc, endpoints: [127.0.0.1:1] } }\n",
    );
    assert_ne!(code, 0);
    for wrong in ["needs `service`", "needs IP:PORT, not a unix socket", "carry no PROXY header"] {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
    let (code, said) = check(
        &Folder::new(),
        "listeners: { a: { address: \"127.0.0.1:5353\", protocol: udp, service: s } }\n\
         services: { s: { clusters: [c] } }\n\
         clusters: { c: { kind: idc, endpoints: [127.0.0.1:1], tls: {} } }\n",
    );
    assert_ne!(code, 0);
    assert!(
        said.contains("which a udp listener does not support") && said.contains("kind: none"),
        "{said}"
    );
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let echo = Echo::named("idc");
    let text = udp(&[("idc", "idc", echo.address)]);
    let proxy = Proxy::start(&text.replace("127.0.0.1:0", "0.0.0.0:0"));
    // The socket is connected: it does not receive answers from any other address.
    let other = client(SocketAddr::from(([127, 0, 0, 2], proxy.at("web").port())));
    assert_eq!(ask(&other, "hello").unwrap().0, "idc");
}

#[test]
fn unanswered_flows_are_bounded_and_evicted_first() {
    // It answers only those that send their name.
    let names = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = names.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((count, from)) = names.recv_from(&mut bytes) {
            if bytes[..count].starts_with(b"honest") {
                names.send_to(b"names 1 yes", from).unwrap();
            }
        }
    });
    let web = Cluster::named("web");
    let text = udp(&[("names", "idc", address)])
        .replace(
            "listeners: {",
            "listeners: { page: { address: 127.0.0.1:0, protocol: http, service: page },",
        )
        .replace("services: {", "services: { page: { clusters: [page] },");
    let page = format!("  page: {{ kind: idc, endpoints: [\"{}\"] }}\n", web.address);
    let text = text + &page;
    let proxy = Proxy::start_with(&text, &[("DESCRIPTORS", "1024")]);
    let honest = client(proxy.at("web"));
    assert!(ask(&honest, "honest").is_some());
    let forged: Vec<UdpSocket> =
        (0..600).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (number, sender) in forged.iter().enumerate() {
        sender.send_to(b"forged", proxy.at("web")).unwrap();
        if number % 50 == 49 {
            let late = client(proxy.at("web"));
            assert!(ask(&late, "honest").is_some(), "a new one is served, after {number}");
        }
    }
    assert_eq!(get(proxy.at("page"), "/").body, "web");
    assert!(ask(&honest, "honest").is_some(), "what was answered goes on");
    // Of 1,024 descriptors 460 are for connections to clusters, and a quarter of those for flows.
    assert!(proxy.descriptors() < 300, "{}", proxy.descriptors());
}
