//! Money with real processes: bytes are metered as they arrive, budgets are held, and balances survive a restart.

use super::admin::tidegate;
use super::fleet::get_local;
use super::support::*;
use super::tls::folder_with;
use super::upstream2::http2_nginx;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// One cluster with a price, and one service.
fn priced(address: SocketAddr) -> String {
    config(&[("cloud", "cloud", address)])
        .replace("kind: cloud,", "kind: cloud, cost: { per_gib: 1, per_million_requests: 1000 },")
}

fn bytes(proxy: &Proxy, service: &str, cluster: &str) -> f64 {
    let labels = format!("{{service=\"{service}\",tidegate_cluster=\"{cluster}\"}}");
    proxy.metric(&format!("tidegate_upstream_bytes_total{labels}"))
}

/// A cluster that sends the MiBs of a response one by one, each further one when told.
fn in_pieces(count: usize) -> (Cluster, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            let length = count * MIB;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            connection.send(head.as_bytes());
            for piece in 0..count {
                if piece > 0 && wait.lock().unwrap().recv_timeout(PATIENCE).is_err() {
                    return;
                }
                connection.send(&vec![b'x'; MIB]);
            }
        }
    });
    (cluster, go)
}

#[test]
fn a_response_is_paid_as_it_arrives_and_reloads_meanwhile_lose_nothing() {
    let (cloud, go) = in_pieces(3);
    let proxy = Proxy::start(&priced(cloud.address));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").unwrap();
    let reading = std::thread::spawn(move || read_all(&mut client).len());
    let paid = |pieces: usize| {
        eventually("a piece is paid", || bytes(&proxy, "shop", "cloud") >= (pieces * MIB) as f64);
        assert!(bytes(&proxy, "shop", "cloud") < (pieces * MIB + 1_000) as f64);
    };
    paid(1);
    let text = format!("drain: {{ delay: 1s }}\n{}", priced(cloud.address));
    proxy.rewrite(&text);
    eventually("the reload", || proxy.generation() == 2);
    go.send(()).unwrap();
    paid(2);
    // With another cluster the exchanges of the service are of another class.
    let spare = Cluster::named("spare");
    let text = text.replace("clusters: [cloud]", "clusters: [spare, cloud]");
    proxy.rewrite(&format!("{text}  spare: {{ kind: idc, endpoints: [\"{}\"] }}\n", spare.address));
    eventually("the second reload", || proxy.generation() == 3);
    go.send(()).unwrap();
    paid(3);
    assert!(reading.join().unwrap() > 3 * MIB);
    // A dollar a GiB, and a thousandth of a dollar a request.
    let (wire, usd) = (bytes(&proxy, "shop", "cloud"), 3.0 / 1024.0 + 0.001);
    let report = proxy.json("/api/v1/cost");
    let of = &report["services"][0]["clusters"][1];
    assert!((of["usd"].as_f64().unwrap() / usd - 1.0).abs() < 0.001, "{report}");
    assert_eq!((of["requests"].as_u64(), of["bytes"].as_f64()), (Some(1), Some(wire)), "{report}");
    assert!((report["usd"].as_f64().unwrap() / usd - 1.0).abs() < 0.001, "{report}");
    let url = format!("http://{}", proxy.admin);
    let (code, text) = tidegate(&["cost", "--admin", &url]);
    assert!(code == 0 && text.contains("3.0 MiB") && text.contains("not included:"), "{text}");
    let (code, text) = tidegate(&["cost", "--admin", &url, "--json"]);
    let again: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &again["services"]), (0, &report["services"]), "{text}");
    assert_eq!(tidegate(&["cost", "--admin", "http://127.0.0.1:1"]).0, 1);
}

#[test]
fn tunnels_flows_and_datagrams_are_paid_as_they_arrive() {
    let echo = Cluster::scripted(|mut connection| {
        if connection.head().is_none() {
            return;
        }
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        connection.send(&vec![b'x'; MIB]);
        // Until the client leaves.
        drop(connection.take(1));
    });
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    let proxy = Proxy::start(&format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: http, service: shop }}\n  \
           tcp: {{ address: \"{}\", protocol: tcp, service: flows }}\n  \
           udp: {{ address: 127.0.0.1:0, protocol: udp, service: names }}\n\
         services: {{ shop: {{ clusters: [a] }}, flows: {{ clusters: [a] }}, names: {{ clusters: [b] }} }}\n\
         clusters:\n  a: {{ kind: cloud, endpoints: [\"{}\"] }}\n  \
           b: {{ kind: cloud, endpoints: [\"{}\"], probe: {{ kind: none }} }}\n",
        free(),
        echo.address,
        datagrams.local_addr().unwrap()
    ));
    let request = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: x\r\n\r\n";
    for (listener, service) in [("web", "shop"), ("tcp", "flows")] {
        let mut client = connect(proxy.at(listener));
        client.write_all(request).unwrap();
        client.read_exact(&mut vec![0; MIB]).unwrap();
        // The tunnel is still open.
        let paid = || bytes(&proxy, service, "a");
        eventually(service, || (MIB as f64..1.001 * MIB as f64).contains(&paid()));
    }
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"who", proxy.at("udp")).unwrap();
    let from = datagrams.recv_from(&mut [0; 16]).unwrap().1;
    datagrams.send_to(&[b'x'; 1_000], from).unwrap();
    assert_eq!(client.recv_from(&mut [0; 2_000]).unwrap().0, 1_000);
    eventually("the answer is paid", || bytes(&proxy, "names", "b") == 1_000.0);
}

#[test]
fn a_response_over_http2_is_paid() {
    if !is_installed("nginx") {
        return;
    }
    let (folder, address) = (folder_with(&[("a", &["a.example"])]), free());
    let _nginx = http2_nginx(&folder, address, "http2", "20");
    let text = priced(address).replace("kind: cloud,", "kind: cloud, protocol: http2,");
    let proxy = Proxy::start(&text);
    assert_eq!(get(proxy.at("web"), "/big").body.len(), 1_600_000);
    let paid = || bytes(&proxy, "shop", "cloud");
    eventually("it is paid", || (1_600_000.0..1_601_000.0).contains(&paid()));
}

#[test]
fn the_copy_of_a_mirror_and_a_failed_attempt_are_paid() {
    let large = |status: &'static str| {
        Cluster::scripted(move |mut connection| {
            while connection.request().is_some() {
                let body = "x".repeat(100_000);
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                connection.send((head + &body).as_bytes());
            }
        })
    };
    let (good, bad) = (large("200 OK"), large("503 Oh"));
    let proxy = Proxy::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http }} }}\n\
         services: {{ shop: {{ clusters: [bad, good], retry: {{ budget: 1 }} }}, copy: {{ clusters: [good] }} }}\n\
         clusters:\n  bad: {{ kind: idc, endpoints: [\"{}\"] }}\n  good: {{ kind: cloud, endpoints: [\"{}\"] }}\n\
         routes: [{{ service: shop, mirror: {{ service: copy }} }}]\n",
        bad.address, good.address
    ));
    assert_eq!(get(proxy.at("web"), "/").status, 200);
    eventually("the copy is paid", || bytes(&proxy, "copy", "good") > 100_000.0);
    eventually("the attempts are paid", || {
        bytes(&proxy, "shop", "good") > 100_000.0 && bytes(&proxy, "shop", "bad") > 30.0
    });
}

/// A cluster that answers after 20 ms with this many bytes, in as many slots.
fn place(slots: usize, size: usize) -> Cluster {
    let free = Arc::new((Mutex::new(slots), std::sync::Condvar::new()));
    Cluster::scripted(move |mut connection| {
        let body = "x".repeat(size);
        while connection.request().is_some() {
            let (count, changed) = &*free;
            let mut left = changed.wait_while(count.lock().unwrap(), |left| *left == 0).unwrap();
            *left -= 1;
            drop(left);
            std::thread::park_timeout(Duration::from_millis(20));
            *count.lock().unwrap() += 1;
            changed.notify_one();
            connection.reply(&body);
        }
    })
}

/// Closed-loop clients until stopped.
fn insist(
    web: SocketAddr,
    clients: usize,
    stop: &Arc<AtomicBool>,
) -> Vec<std::thread::JoinHandle<()>> {
    let one = |_| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut client = Keeping::new(web);
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/");
                assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            }
        })
    };
    (0..clients).map(one).collect()
}

/// All requests of a burst come between two sweeps of the control thread, or nearly so.
#[test]
fn a_burst_of_spill_ends_with_the_balance() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let idc = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            if wait.lock().unwrap().recv_timeout(PATIENCE).is_err() {
                return;
            }
            connection.reply("idc");
        }
    });
    let (cloud, state) = (Cluster::named("cloud"), Folder::new());
    // Five and a half requests of a tenth of a cent; the refill is a thirtieth of a request a second.
    state.write("budgets.json", "{\"shop\": 0.0055}");
    let clusters = [("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)];
    let text = config(&clusters)
        .replace("clusters: [idc, cloud]", "clusters: [idc, cloud], budget: { usd_per_hour: 0.12 }")
        .replace(
            "kind: idc,",
            "kind: idc, capacity: { concurrent: 1 }, timeouts: { queue: 500ms },",
        )
        .replace("kind: cloud,", "kind: cloud, cost: { per_million_requests: 1000 },");
    let proxy = Proxy::start(&format!("state_dir: {}\n{text}", state.0.display()));
    let web = proxy.at("web");
    let first = std::thread::spawn(move || get(web, "/"));
    eventually("the data centre is full", || proxy.cluster("idc")["in_flight"] == 1);
    let all: Vec<_> = (0..40).map(|_| std::thread::spawn(move || get(web, "/"))).collect();
    let all: Vec<Answer> = all.into_iter().map(|one| one.join().unwrap()).collect();
    let served = all.iter().filter(|answer| answer.body == "cloud").count();
    let refused = all.iter().filter(|answer| answer.refusal() == "overloaded").count();
    assert!((5..=7).contains(&served) && served + refused == 40, "{served}, {refused}: {all:?}");
    go.send(()).unwrap();
    assert_eq!(first.join().unwrap().body, "idc");
}

#[test]
fn a_budget_holds_beyond_its_burst_and_survives_a_restart() {
    // Two slots of 20 ms at home for 60 clients, and a cloud without a limit.
    let (idc, cloud) = (place(2, 100), place(1_000, 20_000));
    let state = Folder::new();
    // $36 an hour are a cent a second: ten spilled requests of about a tenth of a cent each.
    state.write("budgets.json", "{\"shop\": 0.01}");
    let text = format!(
        "state_dir: {}\n{}",
        state.0.display(),
        config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
            .replace(
                "clusters: [idc, cloud]",
                "clusters: [idc, cloud], budget: { usd_per_hour: 36 }"
            )
            .replace(
                "kind: cloud,",
                "kind: cloud, cost: { per_gib: 30, per_million_requests: 500 },"
            )
    );
    let mut proxy = Proxy::start(&text);
    let figures = |proxy: &Proxy| {
        let report = proxy.json("/api/v1/cost");
        let service = &report["services"][0];
        let left = service["budget"]["left_usd"].as_f64().unwrap();
        (service["usd"].as_f64().unwrap(), left)
    };
    assert!(figures(&proxy).1 < 0.1, "the balance of the last run, not a full bucket of $3");
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let clients = insist(proxy.at("web"), 60, &stop);
    let mut last = (0.0, 0.0);
    while begun.elapsed() < Duration::from_secs(12) {
        std::thread::park_timeout(Duration::from_millis(200));
        last = figures(&proxy);
    }
    let (spent, seconds) = (last.0, begun.elapsed().as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    // The balance at the start, which the time before the load has filled up, and the refill.
    let allowed = 0.02 + 0.01 * seconds;
    println!("${spent:.5} of ${allowed:.5}: {:.2} %", 100.0 * spent / allowed);
    assert!(spent <= 1.02 * allowed, "${spent} of ${allowed} in {seconds} s, ${} left", last.1);
    assert!(spent >= 0.5 * allowed, "the budget is used: ${spent} of ${allowed}");
    proxy.signal(15);
    assert_eq!(proxy.wait(), Some(0));
    let kept: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(state.0.join("budgets.json")).unwrap())
            .unwrap();
    let kept = kept["shop"].as_f64().unwrap();
    assert!(kept < 0.5, "it was not refilled: {kept}");
    let again = Proxy::start(&text);
    let left = figures(&again).1;
    assert!((kept..kept + 0.5).contains(&left), "{left} after {kept}");
}

/// Two proxies of a site: one spends its whole budget, the bucket of the other is full.
#[test]
fn two_proxies_divide_a_budget_and_the_idle_one_lends() {
    let cloud = place(1_000, 20_000);
    let (admins, webs) = ([free(), free()], [free(), free()]);
    let (folder, states) = (Folder::new(), [Folder::new(), Folder::new()]);
    // $36 an hour is a cent a second, and each proxy has half of that. A full bucket holds the budget of five minutes.
    states[0].write("budgets.json", "{\"shop\": 0.001}");
    states[1].write("budgets.json", "{\"shop\": 1.5}");
    let start = |own: usize| {
        let text = format!(
            "site: {{ name: east }}\nadmin: {{ address: \"{}\" }}\nstate_dir: {}\naccess_log: {{ format: off }}\n\
             fleet: {{ peers: [{{ site: east, url: \"http://{}\" }}] }}\n{}",
            admins[own],
            states[own].0.display(),
            admins[1 - own],
            config(&[("cloud", "cloud", cloud.address)])
                .replace("127.0.0.1:0", &webs[own].to_string())
                .replace(
                    "clusters: [cloud]",
                    "clusters: [cloud], budget: { usd_per_hour: 36, shared_by: fleet, applies_to: all }"
                )
                .replace(
                    "kind: cloud,",
                    "kind: cloud, cost: { per_gib: 30, per_million_requests: 500 },"
                )
        );
        Process::proxy(&folder.write(&format!("{own}.yaml"), &text))
    };
    let mut proxies = [Some(start(0)), Some(start(1))];
    let spent = |own: usize| -> Option<f64> {
        TcpStream::connect(admins[own]).ok()?;
        let report: serde_json::Value =
            serde_json::from_str(&get_local(admins[own], "/api/v1/cost").body).ok()?;
        report["usd"].as_f64()
    };
    eventually("both answer", || spent(0).is_some() && spent(1).is_some());
    eventually("it listens", || TcpStream::connect(webs[0]).is_ok());
    let stop = Arc::new(AtomicBool::new(false));
    let clients = insist(webs[0], 8, &stop);
    let rate = |seconds: u64| {
        let (before, begun) = (spent(0).unwrap(), Instant::now());
        std::thread::park_timeout(Duration::from_secs(seconds));
        (spent(0).unwrap() - before) / begun.elapsed().as_secs_f64()
    };
    // Half of a part may have been lent before the start; then half of the other's part comes on top of the own one.
    std::thread::park_timeout(Duration::from_secs(7));
    let lent = rate(10);
    let part = |own: usize| {
        let text = get_local(admins[own], "/api/v1/services").body;
        let services: serde_json::Value = serde_json::from_str(&text).unwrap();
        services[0]["budget_usd_per_h"].as_f64().unwrap()
    };
    assert!((part(0) - 27.0).abs() < 0.1, "three quarters of the budget: {}", part(0));
    proxies[1] = None;
    // A loan ends 3 s after its request.
    std::thread::park_timeout(Duration::from_secs(4));
    let alone = rate(10);
    assert!((part(0) - 18.0).abs() < 0.1, "half of the budget: {}", part(0));
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    println!("${lent:.5} a second with a loan of $0.00250, ${alone:.5} without");
    assert!(lent < 0.0075 * 1.08, "its part and the loan: {lent}");
    assert!(lent > 0.0075 * 0.85, "the loan is used: {lent}");
    assert!(alone < 0.005 * 1.08, "its part, though nobody else spends: {alone}");
    assert!(alone > 0.005 * 0.85, "{alone}");
    drop(proxies);
}

#[test]
fn a_corrupt_file_and_a_folder_that_cannot_be_written_are_told_and_counted() {
    let (idc, state) = (Cluster::named("idc"), Folder::new());
    state.write("budgets.json", "{\"shop\": ");
    let text = format!(
        "state_dir: {}\n{}",
        state.0.join("inner").display(),
        config(&[("idc", "idc", idc.address)])
            .replace("clusters: [idc]", "clusters: [idc], budget: { usd_per_hour: 36 }")
    );
    // A file where the folder should be.
    state.write("inner", "");
    let proxy = Proxy::start(&text);
    let failures = |operation: &str| {
        proxy.metric(&format!("tidegate_state_failures_total{{operation=\"{operation}\"}}"))
    };
    proxy.says("budgets of the last run not restored, all begin full");
    assert_eq!(failures("read"), 3.0, "dials, budgets and reports of operations");
    proxy.says("budgets not stored");
    eventually("each failure is counted", || failures("write") >= 2.0);
    let told = |text: &str| proxy.log().iter().filter(|line| line.contains(text)).count();
    assert_eq!(told("budgets not stored"), 1, "and told once");
    assert_eq!(get(proxy.at("web"), "/").body, "idc");
    std::fs::remove_file(state.0.join("inner")).unwrap();
    proxy.says("budgets stored again");
    assert!(state.0.join("inner/budgets.json").exists());
    drop(proxy);
    std::fs::write(state.0.join("inner/budgets.json"), "{\"shop\": ").unwrap();
    let proxy = Proxy::start(&text);
    assert!(proxy.says("all begin full").contains("is not valid JSON"), "{:?}", proxy.log());
    let left = proxy.json("/api/v1/cost")["services"][0]["budget"]["left_usd"].as_f64().unwrap();
    assert!((left - 3.0).abs() < 1e-6, "{left}");
}

#[test]
fn a_state_folder_that_hangs_delays_no_request_no_reload_and_no_stop() {
    let (idc, state) = (Cluster::named("idc"), Folder::new());
    // A pipe without a reader: whoever opens it for writing waits for ever.
    let pipe = state.0.join("budgets.json.new");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = format!(
        "state_dir: {}\n{}",
        state.0.display(),
        config(&[("idc", "idc", idc.address)])
            .replace("clusters: [idc]", "clusters: [idc], budget: { usd_per_hour: 36 }")
    );
    let mut proxy = Proxy::start(&text);
    proxy.says("budgets not stored");
    assert!(proxy.metric("tidegate_state_failures_total{operation=\"write\"}") >= 1.0);
    assert_eq!(get(proxy.at("web"), "/").body, "idc");
    proxy.rewrite(&format!("drain: {{ delay: 0s }}\n{text}"));
    eventually("the reload", || proxy.generation() == 2);
    let stopped = Instant::now();
    proxy.signal(15);
    assert_eq!(proxy.wait(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}
