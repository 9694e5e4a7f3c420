//! Broken connections, on either side: they do not affect other exchanges, and do not hold resources for long.

use super::support::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn one(cluster: &Cluster) -> String {
    config(&[("a", "idc", cluster.address)])
}

/// Closes the connection with a reset.
fn reset(stream: std::net::TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn surplus_bytes_of_a_cluster_reach_no_other_client() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            connection.reply("good");
            connection.reply("EVIL");
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let proxy = Proxy::start(&format!("runtime: {{ workers: 1 }}\n{}", one(&cluster)));
    let mut client = Keeping::new(proxy.at("web"));
    for number in 1..=200 {
        let answer = client.get("/");
        assert_eq!(answer.body, "good", "request {number}");
        // Surplus bytes that arrive while the next request is in transit cannot be distinguished from its response.
        eventually("the surplus is sent", || sent.load(Ordering::SeqCst) == number);
    }
}

#[test]
fn surplus_bytes_behind_a_read_that_ends_with_the_response_reach_no_client() {
    // Around the sizes of reads: then the surplus is still in the kernel when the response is complete.
    let sizes = [8_192, 16_384, 40_960, 73_728, 139_264].map(|size| size - 1..size + 2);
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            let total: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let mut whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {:06}\r\n\r\n", total - 43);
            assert_eq!(whole.len(), 43);
            whole.push_str(&"g".repeat(total - 43));
            whole.push_str("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL");
            connection.send(whole.as_bytes());
        }
    });
    let proxy = Proxy::start(&format!("runtime: {{ workers: 1 }}\n{}", one(&cluster)));
    let mut client = Keeping::new(proxy.at("web"));
    for total in sizes.into_iter().flatten() {
        // Both in one segment, so that the second is at hand when the first ends.
        let request = format!("GET /{total} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(request.repeat(2).as_bytes());
        for _ in 0..2 {
            let answer = client.answer();
            assert!(answer.body.len() == total - 43 && !answer.body.contains("EVIL"), "{total}");
        }
    }
}

#[test]
fn a_slow_answer_of_an_endpoint_that_stopped_listening_arrives() {
    let slow = Arc::new(AtomicBool::new(false));
    let under_way = slow.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            under_way.store(true, Ordering::SeqCst);
            let until = Instant::now() + Duration::from_millis(1_500);
            eventually("the answer's time", || Instant::now() >= until);
            connection.reply("late");
        }
    });
    let proxy = Proxy::start(&one(&cluster));
    let web = proxy.at("web");
    let asked = std::thread::spawn(move || get(web, "/slow"));
    eventually("the request is there", || slow.load(Ordering::SeqCst));
    cluster.stop_listening();
    eventually("its probes fail", || proxy.cluster("a")["state"] == "down");
    let answer = asked.join().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
}

#[test]
fn there_is_no_retry_after_response_bytes_were_sent() {
    let hints = Cluster::scripted(|mut connection| {
        if connection.request().is_some() {
            connection.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            drop(connection.request());
        }
    });
    let other = Cluster::named("b");
    let proxy =
        Proxy::start(&config(&[("a", "idc", hints.address), ("b", "cloud", other.address)]));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut space = [0; 1024];
    let count = client.read(&mut space).unwrap();
    assert!(space[..count].starts_with(b"HTTP/1.1 103"));
    hints.kill();
    eventually("it is down", || proxy.cluster("a")["state"] == "down");
    let count = client.read(&mut space).unwrap();
    let rest = String::from_utf8_lossy(&space[..count]);
    assert!(rest.starts_with("HTTP/1.1 502") && rest.contains("upstream_reset"), "{rest}");
}

#[test]
fn a_client_reset_frees_a_stalled_cluster_connection() {
    let (released, took) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (freed, begun) = (released.clone(), took.clone());
    let cluster = Cluster::scripted(move |mut connection| {
        if connection.head().is_some() {
            begun.store(true, Ordering::SeqCst);
            // Reads nothing until the end of the test, then to the end.
            let stream = &connection.stream;
            eventually("the proxy lets go", || {
                let info = socket2::SockRef::from(stream).take_error().unwrap();
                info.is_some() || hung_up(stream)
            });
            freed.store(true, Ordering::SeqCst);
        }
    });
    let proxy = Proxy::start(&one(&cluster));
    let mut client = connect(proxy.at("web"));
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n").unwrap();
    eventually("it is under way", || took.load(Ordering::SeqCst));
    let chunk = vec![b'x'; 65_536];
    while client.write_all(&chunk).is_ok() {}
    reset(client);
    let since = Instant::now();
    eventually("nothing is in flight", || proxy.cluster("a")["in_flight"] == 0);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    eventually("the cluster knows", || released.load(Ordering::SeqCst));
}

/// Whether the peer has reset or closed the connection, even with unread data.
fn hung_up(stream: &std::net::TcpStream) -> bool {
    use std::os::fd::AsRawFd;
    let mut poll = [libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 }];
    // SAFETY: one valid descriptor, which outlives the call.
    #[allow(unsafe_code, reason = "poll(2) is the only way to see an end behind unread data")]
    let ready = unsafe { libc::poll(poll.as_mut_ptr(), 1, 0) };
    ready > 0 && poll[0].revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

#[test]
fn at_the_connection_limit_requests_wait() {
    let cluster = Cluster::named("a");
    let text = one(&cluster).replace("probe:", "limits: { connections: 1 }, probe:");
    let proxy = Proxy::start(&format!("runtime: {{ workers: 2 }}\n{text}"));
    for number in 0..40 {
        assert_eq!(get(proxy.at("web"), "/").status, 200, "connection {number}");
    }
}

#[test]
fn a_local_answer_to_expect_100_closes_the_connection() {
    let cluster = Cluster::named("a");
    let text = one(&cluster) + "routes: [{ path: /no, respond: { status: 403, body: no } }]\n";
    let proxy = Proxy::start(&text);
    let ask = b"POST /no HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 40\r\n\r\n";
    let answer = ask_raw(proxy.at("web"), ask);
    assert_eq!((answer.status, answer.header("connection").as_deref()), (403, Some("close")));
}

#[test]
fn a_flow_whose_half_closed_side_is_reset_ends_at_once() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        // Reads all bytes, and sends none.
        while connection.take(1).is_some() {}
        let stream = &connection.stream;
        eventually("the reset comes through", || {
            let mut poll = [0; 1];
            socket2::SockRef::from(stream).take_error().unwrap().is_some()
                || matches!((&*stream).read(&mut poll), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
                || (&*stream).write(b"x").is_err()
        });
        count.fetch_add(1, Ordering::SeqCst);
    });
    let text = format!(
        "listeners: {{ flows: {{ address: 127.0.0.1:0, protocol: tcp, service: s }} }}\n\
         services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [\"{}\"] }} }}\n",
        cluster.address
    );
    let proxy = Proxy::start(&text);
    let mut client = connect(proxy.at("flows"));
    client.write_all(b"hello").unwrap();
    eventually("it is there", || cluster.seen().contains("hello"));
    client.shutdown(Shutdown::Write).unwrap();
    reset(client);
    let since = Instant::now();
    eventually("the flow is over", || {
        proxy.metric("tidegate_connections{listener=\"flows\"}") == 0.0
    });
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn a_panic_ends_one_connection_or_stream_and_nothing_else() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start_with(
        &format!("runtime: {{ workers: 1 }}\n{}", one(&cluster)),
        &[("TIDEGATE_INJECT_PANIC", "/boom")],
    );
    let web = proxy.at("web");
    let mut neighbour = Keeping::new(web);
    assert_eq!(neighbour.get("/").body, "a");
    let mut other = Keeping::new(web);
    assert_eq!(other.get("/").body, "a");
    other.send(b"GET /boom HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(other.try_answer().is_none(), "its connection ends");
    assert_eq!(neighbour.get("/").body, "a");
    proxy.counts("tidegate_panics_total", 1.0);
    eventually("it is counted out", || {
        proxy.metric("tidegate_connections{listener=\"web\"}") == 1.0
    });
    // A reset of one HTTP/2 stream does not affect the other streams.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let statuses = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(web).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut statuses = Vec::new();
        for path in ["/", "/boom", "/"] {
            let request = http::Request::get(format!("http://a{path}")).body(()).unwrap();
            send = send.ready().await.unwrap();
            let (answer, _) = send.send_request(request, true).unwrap();
            let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
            statuses.push(answer.map(|answer| answer.status().as_u16()).ok());
        }
        statuses
    });
    assert_eq!(statuses, [Some(200), None, Some(200)], "on one connection");
    proxy.counts("tidegate_panics_total", 2.0);
    eventually("nothing stays counted", || proxy.cluster("a")["in_flight"] == 0);
    assert_eq!(neighbour.get("/").body, "a");
}
