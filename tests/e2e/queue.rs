//! Exchanges for a full cluster wait in order, for a bounded time, for a connection or for capacity.

use super::support::*;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A cluster that answers a request when the test permits it, and the order of the requests' paths.
fn gated() -> (Cluster, Sender<()>, Arc<Mutex<Vec<String>>>) {
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let (wait, paths) = (Mutex::new(wait), Arc::new(Mutex::new(Vec::new())));
    let seen = paths.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            seen.lock().unwrap().push(path);
            wait.lock().unwrap().recv_timeout(PATIENCE).ok();
            connection.reply("a");
        }
    });
    (cluster, go, paths)
}

const ONE_CONNECTION: &str = "limits: { connections: 1 }";
const ONE_EXCHANGE: &str = "capacity: { concurrent: 1 }";

fn proxy(cluster: &Cluster, workers: usize, more: &str) -> Proxy {
    let text = config(&[("a", "idc", cluster.address)]);
    let text = text.replace("kind: idc,", &format!("kind: idc, {more},"));
    Proxy::start(&format!("runtime: {{ workers: {workers} }}\n{text}"))
}

fn waiting(proxy: &Proxy) -> f64 {
    proxy.metric("tidegate_cluster_pending{tidegate_cluster=\"a\"}")
}

/// Clients that request `/0`, `/1` and so on; the first is served and the others wait in order.
fn in_line(proxy: &Proxy, paths: &Mutex<Vec<String>>, count: usize) -> Vec<Keeping> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = Keeping::new(proxy.at("web"));
        client.send(format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        clients.push(client);
        eventually("it is served, or waits", || match number {
            0 => paths.lock().unwrap().len() == 1,
            _ => waiting(proxy) == number as f64,
        });
    }
    clients
}

#[test]
fn requests_queue_for_a_full_cluster_in_order_over_all_workers() {
    for bound in [ONE_CONNECTION, ONE_EXCHANGE] {
        let (cluster, go, paths) = gated();
        let proxy = proxy(&cluster, 3, bound);
        let mut clients = in_line(&proxy, &paths, 7);
        for (number, client) in clients.iter_mut().enumerate() {
            eventually("it is its turn", || paths.lock().unwrap().len() == number + 1);
            go.send(()).unwrap();
            assert_eq!(client.answer().status, 200, "{bound}: {number}");
        }
        let expected: Vec<String> = (0..7).map(|number| format!("/{number}")).collect();
        assert_eq!(*paths.lock().unwrap(), expected, "{bound}");
        assert_eq!(waiting(&proxy), 0.0);
    }
}

#[test]
fn a_leaving_client_gives_up_its_turn() {
    for bound in [ONE_CONNECTION, ONE_EXCHANGE] {
        let (cluster, go, paths) = gated();
        let proxy = proxy(&cluster, 1, bound);
        let mut clients = in_line(&proxy, &paths, 4);
        drop(clients.remove(1));
        eventually("the line is shorter", || waiting(&proxy) == 2.0);
        for client in &mut clients {
            go.send(()).unwrap();
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(*paths.lock().unwrap(), ["/0", "/2", "/3"], "{bound}");
    }
}

#[test]
fn the_queue_is_bounded_in_time_and_length() {
    for bound in [
        "limits: { connections: 1, pending: 2 }",
        "capacity: { concurrent: 1 }, limits: { pending: 2 }",
    ] {
        let (cluster, go, paths) = gated();
        let proxy = proxy(&cluster, 1, &format!("{bound}, timeouts: {{ queue: 700ms }}"));
        let begun = Instant::now();
        let mut clients = in_line(&proxy, &paths, 3);
        let since = Instant::now();
        let refused = get(proxy.at("web"), "/beyond");
        assert_eq!((refused.status, refused.refusal().as_str()), (503, "overloaded"), "{bound}");
        assert!(since.elapsed() < Duration::from_millis(600), "at once: {:?}", since.elapsed());
        for client in &mut clients[1..] {
            let refused = client.answer();
            assert_eq!((refused.status, refused.refusal().as_str()), (503, "overloaded"));
            assert!(begun.elapsed() >= Duration::from_millis(700), "{bound}: not before its time");
        }
        go.send(()).unwrap();
        assert_eq!(clients[0].answer().status, 200);
        assert_eq!(*paths.lock().unwrap(), ["/0"], "{bound}");
        assert_eq!(proxy.metric("tidegate_ejections_total"), 0.0);
    }
}

#[test]
fn with_another_cluster_requests_do_not_queue() {
    let ((cluster, go, paths), cloud) = (gated(), Cluster::named("cloud"));
    let text = config(&[("a", "idc", cluster.address), ("cloud", "cloud", cloud.address)]);
    let bound = format!("kind: idc, {ONE_EXCHANGE}, timeouts: {{ queue: 9s }},");
    let proxy = Proxy::start(&text.replace("kind: idc,", &bound));
    let mut first = in_line(&proxy, &paths, 1);
    let since = Instant::now();
    assert!((0..5).all(|_| get(proxy.at("web"), "/").body == "cloud"));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    go.send(()).unwrap();
    assert_eq!(first[0].answer().body, "a");
}
