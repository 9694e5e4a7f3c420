//! Timeouts: which connections are closed, when, and which must stay open. The tests use short timeouts and wait for
//! them.

use super::support::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One listener with these timeouts, limits or other keys, in front of one cluster.
fn with(cluster: &Cluster, more: &str) -> String {
    config(&[("a", "idc", cluster.address)])
        .replace("protocol: http,", &format!("protocol: http, {more},"))
}

fn aborted(proxy: &Proxy, by: &str) -> f64 {
    proxy.metric(&format!("tidegate_aborted_total{{listener=\"web\",by=\"{by}\"}}"))
}

fn pause(span: Duration) {
    let until = Instant::now() + span;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Whether the connection ends, in any way, within the test's patience.
fn ends(stream: &mut std::net::TcpStream) -> bool {
    let mut space = [0; 65_536];
    loop {
        match stream.read(&mut space) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_slow_head_has_one_deadline() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&with(&cluster, "timeouts: { head: 400ms }"));
    let mut client = connect(proxy.at("web"));
    let since = Instant::now();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut received = Vec::new();
    let mut space = [0; 1024];
    for byte in b"GET /a-long-way HTTP/1.1\r\nhost: a\r\nx-slow: yes\r\n".iter().cycle() {
        if client.write_all(&[*byte]).is_err() || since.elapsed() > PATIENCE {
            break;
        }
        match client.read(&mut space) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&space[..count]),
            Err(_) => {}
        }
    }
    let answer = parse(&received);
    assert_eq!((answer.status, answer.refusal().as_str()), (408, "request_timeout"));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

#[test]
fn a_client_that_reads_nothing_is_closed_and_its_cluster_freed() {
    let cluster = Cluster::scripted(|mut connection| {
        if connection.request().is_some() {
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 400000000\r\n\r\n");
            let piece = vec![b'x'; 1 << 20];
            while connection.stream.write_all(&piece).is_ok() {}
        }
    });
    let proxy = Proxy::start(&with(&cluster, "timeouts: { write: 300ms }"));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    eventually("it is under way", || proxy.cluster("a")["in_flight"] == 1);
    eventually("it is cut", || proxy.cluster("a")["in_flight"] == 0);
    eventually("it is counted", || aborted(&proxy, "client") == 1.0);
    eventually("it is logged", || proxy.said("\"aborted\":\"client\"").is_some());
}

#[test]
fn a_body_below_the_minimum_rate_is_closed() {
    let cluster = Cluster::named("a");
    let more = "timeouts: { body_idle: 5s }, limits: { body_rate: 1MiB }";
    let proxy = Proxy::start(&with(&cluster, more));
    let mut client = connect(proxy.at("web"));
    let since = Instant::now();
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut received = Vec::new();
    let mut space = [0; 1024];
    // Never silent for long, and always below the minimum rate.
    while received.is_empty() && since.elapsed() < Duration::from_secs(16) {
        drop(client.write_all(b"drip"));
        if let Ok(count) = client.read(&mut space) {
            received.extend_from_slice(&space[..count]);
        }
    }
    let answer = parse(&received);
    assert_eq!((answer.status, answer.refusal().as_str()), (408, "request_timeout"));
    let took = since.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&took), "{took:?}");
}

/// Answers at once, and echoes all bytes, as in a tunnel.
fn parrot(head: &'static str) -> Cluster {
    Cluster::scripted(move |mut connection| {
        if connection.head().is_none() {
            return;
        }
        connection.send(head.as_bytes());
        while let Some(byte) = connection.take(1) {
            connection.send(format!("1\r\n{}\r\n", byte[0] as char).as_bytes());
        }
    })
}

#[test]
fn after_the_answer_a_slow_upload_is_permitted() {
    let cluster = parrot("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let proxy = Proxy::start(&with(&cluster, "timeouts: { body_idle: 200ms }"));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut all = String::new();
    let mut space = [0; 1024];
    for word in ["first", "second"] {
        pause(Duration::from_millis(700));
        client.send(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes());
        let last = word.chars().last().unwrap();
        while !all.contains(&format!("\r\n{last}\r\n")) {
            let count = client.stream.read(&mut space).unwrap();
            assert!(count > 0, "cut after {all}");
            all.push_str(&String::from_utf8_lossy(&space[..count]));
        }
        all.clear();
    }
}

#[test]
fn a_silent_response_is_closed_unless_it_is_an_event_stream() {
    let silent = |head: &'static str| {
        Cluster::scripted(move |mut connection| {
            if connection.request().is_some() {
                connection.send(head.as_bytes());
                connection.send(b"5\r\nfirst\r\n");
                drop(connection.stream.read(&mut [0; 1]));
            }
        })
    };
    let plain = silent("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let proxy = Proxy::start(&with(&plain, "timeouts: { stream_idle: 300ms }"));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(ends(&mut client), "cut");
    eventually("it is counted", || aborted(&proxy, "cluster") == 1.0);

    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let events = silent(head);
    let proxy = Proxy::start(&with(&events, "timeouts: { stream_idle: 100ms }"));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut space = [0; 4096];
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains("first") {
        let count = client.read(&mut space).unwrap();
        all.extend_from_slice(&space[..count]);
    }
    client.set_read_timeout(Some(Duration::from_millis(1_200))).unwrap();
    let read = client.read(&mut space);
    assert!(
        matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "{read:?}"
    );
    // Connections to clusters use other means to detect a dead peer.
    let timers = std::process::Command::new("ss").args(["-Htno"]).output().unwrap();
    let timers = String::from_utf8_lossy(&timers.stdout).into_owned();
    let kept = |port: u16| {
        timers.lines().any(|line| line.contains(&format!(":{port} ")) && line.contains("keepalive"))
    };
    assert!(kept(proxy.at("web").port()), "towards the client: {timers}");
    assert!(kept(events.address.port()), "towards the cluster: {timers}");
}

#[test]
fn total_and_per_try_timeouts_hold() {
    let begun = Arc::new(AtomicBool::new(false));
    let says = begun.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        if let Some((head, _)) = connection.request() {
            if head.starts_with("GET /begun") {
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
                says.store(true, Ordering::SeqCst);
            }
            drop(connection.stream.read(&mut [0; 1]));
        }
    });
    for key in ["total_timeout", "per_try_timeout", "timeout"] {
        let text = with(&cluster, "limits: { fields: 100 }")
            .replace("clusters: [a] }", &format!("clusters: [a], {key}: 300ms }}"));
        let proxy = Proxy::start(&text);
        let answer = get(proxy.at("web"), "/");
        assert_eq!((answer.status, answer.refusal().as_str()), (504, "upstream_timeout"), "{key}");
    }
    // Once bytes of the response were sent, the proxy cannot send a refusal.
    let text = with(&cluster, "limits: { fields: 100 }")
        .replace("clusters: [a] }", "clusters: [a], total_timeout: 300ms }");
    let proxy = Proxy::start(&text);
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET /begun HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let mut space = [0; 4096];
    let end = loop {
        match client.read(&mut space) {
            Ok(0) => break Ok(()),
            Ok(count) => all.extend_from_slice(&space[..count]),
            Err(error) => break Err(error.kind()),
        }
    };
    assert!(begun.load(Ordering::SeqCst));
    assert!(String::from_utf8_lossy(&all).ends_with("half") && end.is_err(), "{end:?}");
    eventually("it is counted", || aborted(&proxy, "timeout") == 1.0);
}

#[test]
fn flows_end_by_idle_and_half_close_timeouts() {
    let cluster = Cluster::scripted(|mut connection| while connection.take(1).is_some() {});
    let text = |timeouts: &str| {
        format!(
            "listeners: {{ flows: {{ address: 127.0.0.1:0, protocol: tcp, service: s, timeouts: {{ {timeouts} }} }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [\"{}\"] }} }}\n",
            cluster.address
        )
    };
    let proxy = Proxy::start(&text("idle_l4: 300ms"));
    let mut client = connect(proxy.at("flows"));
    client.write_all(b"hello").unwrap();
    assert!(ends(&mut client));
    eventually("it is logged", || {
        proxy.said("\"protocol\":\"tcp\"").is_some_and(|line| line.contains("\"bytes_in\":5"))
    });
    drop(proxy);

    let deaf = Cluster::scripted(|mut connection| {
        // Reads to the end, and never closes.
        while connection.take(1).is_some() {}
        let stream = socket2::SockRef::from(&connection.stream);
        eventually("it is let go", || stream.take_error().unwrap().is_some());
    });
    let whole =
        text("half_close: 300ms").replace(&cluster.address.to_string(), &deaf.address.to_string());
    let proxy = Proxy::start(&whole);
    let mut client = connect(proxy.at("flows"));
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let open = || proxy.metric("tidegate_connections{listener=\"flows\"}");
    eventually("it is there", || deaf.seen().contains("hello"));
    eventually("it is over", || open() == 0.0);
}

#[test]
fn a_drain_ends_at_its_deadline_and_says_so() {
    let cluster = Cluster::scripted(|mut connection| {
        drop(connection.request());
        drop(connection.stream.read(&mut [0; 1]));
    });
    let text =
        format!("drain: {{ deadline: 400ms }}\n{}", config(&[("a", "idc", cluster.address)]));
    let mut proxy = Proxy::start(&text);
    let mut client = Keeping::new(proxy.at("web"));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("it is under way", || proxy.cluster("a")["in_flight"] == 1);
    let since = Instant::now();
    proxy.signal(15);
    assert_eq!(proxy.wait(), Some(0));
    let took = since.elapsed();
    assert!((Duration::from_millis(350)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(client.try_answer().is_none(), "it was cut, and not answered by halves");
}

#[test]
fn a_zero_timeout_is_an_error() {
    let (folder, cluster) = (Folder::new(), Cluster::named("a"));
    for key in ["body_idle", "stream_idle", "idle_l4", "half_close", "write", "head"] {
        let (code, printed) =
            check(&folder, &with(&cluster, &format!("timeouts: {{ {key}: 0s }}")));
        let path = format!("listeners.web.timeouts.{key}: must be more than 0");
        assert!(code == 1 && printed.contains(&path), "{printed}");
    }
}
