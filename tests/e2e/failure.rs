//! The cost of an outage: idempotent requests are retried, others fail only if in flight.

use super::support::*;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn two(idc: &Cluster, cloud: &Cluster) -> String {
    config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
}

#[test]
fn a_killed_cluster_fails_no_idempotent_request_and_gets_its_traffic_back() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let address = idc.address;
    let proxy = Proxy::start(&two(&idc, &cloud));
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..20 {
        assert_eq!(client.get("/").body, "idc");
    }
    idc.kill();
    for number in 0..200 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "cloud"), "request {number}");
    }
    eventually("the outage shows", || proxy.cluster("idc")["state"] == "down");
    proxy.says(&format!("endpoint {address} of cluster idc ejected: connections "));
    proxy.says("cluster idc is now down: ");
    drop(idc);
    let _again = Cluster::at(address, |mut connection| {
        while connection.request().is_some() {
            connection.reply("idc");
        }
    });
    eventually("it is back", || client.get("/").body == "idc");
    proxy.says(&format!("endpoint {address} of cluster idc returned"));
    let mut in_a_row = 0;
    eventually("all of it is back", || {
        in_a_row = if client.get("/").body == "idc" { in_a_row + 1 } else { 0 };
        in_a_row == 50
    });
    let decisions = proxy.get("/api/v1/decisions").body;
    assert!(decisions.contains("failover"), "{decisions}");
    // What the cloud still serves meanwhile is not called a spill.
    let returning = r#""reason":"returning","rejected":["idc:returning"]"#;
    assert!(decisions.contains(returning), "{decisions}");
    eventually("it is counted", || {
        proxy.metric("tidegate_ejections_total{tidegate_cluster=\"idc\"") >= 1.0
    });
}

#[test]
fn sensitive_requests_are_refused_rather_than_sent_to_a_cloud() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text =
        two(&idc, &cloud) + "routes: [{ path_prefix: /s, service: shop, data: sensitive }]\n";
    let proxy = Proxy::start(&text);
    assert_eq!(get(proxy.at("web"), "/s/1").body, "idc");
    idc.kill();
    eventually("the idc is down", || proxy.cluster("idc")["state"] == "down");
    for _ in 0..20 {
        let answer = get(proxy.at("web"), "/s/1");
        assert_eq!((answer.status, answer.refusal().as_str()), (503, "no_healthy_cluster"));
        assert_eq!(get(proxy.at("web"), "/open").body, "cloud");
    }
    assert!(!cloud.seen().contains("/s/1"), "a cloud saw sensitive data");
}

#[test]
fn a_dead_pooled_connection_is_replaced_transparently() {
    let cluster = Cluster::scripted(|mut connection| {
        // Two requests for each connection; then it closes without `Connection: close`.
        for _ in 0..2 {
            if connection.request().is_none() {
                return;
            }
            connection.reply("a");
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    for number in 0..40 {
        assert_eq!(client.get("/").body, "a", "request {number}");
    }
}

#[test]
fn a_request_that_may_have_been_processed_is_not_retried() {
    let cluster = Cluster::scripted(|mut connection| {
        // Reads the complete request, then closes without an answer.
        connection.request();
    });
    let text = config(&[("a", "idc", cluster.address)]).replace("interval: 100ms", "interval: 60s");
    let proxy = Proxy::start(&text);
    let post = b"POST /pay HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let answer = ask_raw(proxy.at("web"), post);
    assert_eq!((answer.status, answer.refusal().as_str()), (502, "upstream_reset"));
    assert_eq!(cluster.seen().matches("POST /pay").count(), 1);
}

#[test]
fn an_idempotent_request_is_replayed_once_with_its_body() {
    let (first, second) = (
        Cluster::scripted(|mut connection| drop(connection.request())),
        Cluster::scripted(|mut connection| {
            while let Some((_, body)) = connection.request() {
                connection.reply(&String::from_utf8(body).unwrap());
            }
        }),
    );
    let proxy = Proxy::start(&two(&first, &second));
    let body = "x".repeat(50_000);
    let put = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 50000\r\n\r\n{body}"
    );
    let answer = ask_raw(proxy.at("web"), put.as_bytes());
    assert_eq!((answer.status, answer.body == body), (200, true));
}

#[test]
fn gateway_errors_are_amplified_by_a_fifth_at_most() {
    let failing = || {
        Cluster::scripted(|mut connection| {
            while connection.request().is_some() {
                connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
            }
        })
    };
    let (idc, cloud) = (failing(), failing());
    let proxy = Proxy::start(&two(&idc, &cloud));
    let started = Instant::now();
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..1_000 {
        assert_eq!(client.get("/").status, 503);
    }
    let asked = idc.seen().matches("GET / ").count() + cloud.seen().matches("GET / ").count();
    let allowed = 1_000.0 * 1.2 + 3.0 * started.elapsed().as_secs_f64() + 5.0;
    assert!((asked as f64) <= allowed, "{asked} attempts for 1000 requests");
    assert!(asked > 1_000, "none was tried again");
}

#[test]
fn a_silent_cluster_is_answered_with_504() {
    let cluster = Cluster::scripted(|mut connection| {
        connection.request();
        connection.take(1);
    });
    let text = config(&[("a", "idc", cluster.address)])
        .replace("{ clusters: [a] }", "{ clusters: [a], timeout: 300ms }");
    let proxy = Proxy::start(&text);
    let since = Instant::now();
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let answer = ask_raw(proxy.at("web"), post);
    assert_eq!((answer.status, answer.refusal().as_str()), (504, "upstream_timeout"));
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_ceiling_holds_over_all_workers_and_the_rest_gets_503() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            wait.lock().unwrap().recv_timeout(PATIENCE).ok();
            connection.reply("a");
        }
    });
    let text = config(&[("a", "idc", cluster.address)]).replace(
        "kind: idc,",
        "kind: idc, capacity: { concurrent: 3 }, timeouts: { queue: 200ms },",
    );
    let proxy = Proxy::start(&text);
    let mut clients: Vec<Keeping> = (0..12).map(|_| Keeping::new(proxy.at("web"))).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("the ceiling is reached", || cluster.seen().matches("GET /").count() == 3);
    eventually("the rest is refused", || {
        proxy.metric("tidegate_refusals_total{listener=\"web\",reason=\"overloaded\"}") as usize
            == 9
    });
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    let answers: Vec<Answer> = clients.iter_mut().map(Keeping::answer).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 3);
    let refused = answers.iter().find(|answer| answer.status == 503).unwrap();
    assert_eq!(
        (refused.refusal().as_str(), refused.header("retry-after").as_deref()),
        ("overloaded", Some("1"))
    );
    assert_eq!(cluster.connections.load(Ordering::SeqCst), 3);
}

#[test]
fn a_drain_ends_in_order() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/slow") {
                wait.lock().unwrap().recv_timeout(PATIENCE).ok();
            }
            connection.reply("a");
        }
    });
    let mut proxy = Proxy::start(&format!(
        "drain: {{ delay: 300ms, deadline: 5s }}\n{}",
        config(&[("a", "idc", cluster.address)])
    ));
    let web = proxy.at("web");
    let mut idle = Keeping::new(web);
    assert_eq!(idle.get("/").status, 200);
    let mut busy = Keeping::new(web);
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the slow request is under way", || cluster.seen().contains("/slow"));
    proxy.signal(15);
    eventually("readiness fails", || proxy.get("/readyz").status == 503);
    assert_eq!(proxy.get("/livez").status, 200);
    eventually("listeners close", || std::net::TcpStream::connect(web).is_err());
    assert!(idle.try_answer().is_none(), "idle connections are closed");
    go.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "a"), "what was begun is finished");
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let cluster = Cluster::scripted(|mut connection| {
        connection.request();
        connection.take(1);
    });
    let mut proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("a request is under way", || cluster.seen().contains("GET /"));
    proxy.signal(15);
    eventually("it drains", || proxy.get("/readyz").status == 503);
    proxy.signal(15);
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn a_second_start_on_the_same_address_fails_and_says_where() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let text = config(&[("a", "idc", cluster.address)])
        .replace("127.0.0.1:0, protocol", &format!("{}, protocol", proxy.at("web")));
    let folder = Folder::new();
    folder.write("token", "x");
    let path = folder.write("again.yaml", &whole(&text));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(path)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let line =
        printed.lines().find(|line| line.contains("listeners.web.address: cannot listen on"));
    assert!(line.is_some_and(|line| line.contains("`ss -lntup` shows which one")), "{printed}");
}

#[test]
fn a_body_whose_cluster_died_is_never_read_as_the_next_request() {
    let cluster = Cluster::scripted(|mut connection| {
        // Reads the head, and closes before the body.
        connection.head();
    });
    let text = config(&[("a", "idc", cluster.address)]).replace("interval: 100ms", "interval: 60s");
    let proxy = Proxy::start(&text);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..30 {
        let mut client = Keeping::new(proxy.at("web"));
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", smuggled.len());
        client.send(head.as_bytes());
        let died = cluster.connections.load(Ordering::SeqCst);
        eventually("the head arrives", || cluster.connections.load(Ordering::SeqCst) >= died);
        drop(client.stream.write_all(smuggled.as_bytes()));
        let mut answers = 0;
        drop(client.stream.shutdown(std::net::Shutdown::Write));
        while client.try_answer().is_some() {
            answers += 1;
        }
        assert!(answers <= 1, "one request, {answers} answers");
    }
    assert!(!cluster.seen().contains("smuggled HTTP/1.1\r\nhost: a\r\nx-forwarded-for"));
}

#[test]
fn a_body_too_long_to_keep_is_not_sent_again() {
    let cluster = |status: &'static str| {
        Cluster::scripted(move |mut connection| {
            while let Some((_, body)) = connection.request() {
                let length = body.len().to_string();
                connection.send(
                    format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{length}",
                        length.len()
                    )
                    .as_bytes(),
                );
            }
        })
    };
    let (failing, fine) = (cluster("503 No"), cluster("200 OK"));
    let proxy = Proxy::start(&two(&failing, &fine));
    for (size, expected) in [(100_000, "503 100000"), (50_000, "200 50000")] {
        let body = "x".repeat(size);
        let put = format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
        );
        let answer = ask_raw(proxy.at("web"), put.as_bytes());
        assert_eq!(format!("{} {}", answer.status, answer.body), expected);
    }
}

#[test]
fn a_single_endpoints_own_503_reaches_the_client_as_it_is() {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nmine");
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    for _ in 0..10 {
        let answer = get(proxy.at("web"), "/");
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.refusal().as_str()),
            (503, "mine", "")
        );
    }
}

#[test]
fn descriptor_exhaustion_degrades_in_steps_and_recovers() {
    let cluster = Cluster::named("a");
    // 45 % of 400 descriptors are for clients: 180 connections.
    let proxy =
        Proxy::start_with(&config(&[("a", "idc", cluster.address)]), &[("DESCRIPTORS", "400")]);
    let web = proxy.at("web");
    let mut idle = Vec::new();
    let mut hold = |until: usize| {
        while idle.len() < until {
            let mut client = Keeping::new(web);
            client.send(b"GET / HTTP/1.1\r\nHost: a");
            idle.push(client);
        }
        eventually("they are counted", || {
            proxy.metric("tidegate_connections{listener=\"web\"}") as usize >= idle.len()
        });
    };
    let ask = || {
        let mut client = Keeping::new(web);
        client.get("/")
    };
    assert_eq!(ask().header("connection"), None, "there is room: connections are kept");
    hold(155);
    assert_eq!(ask().header("connection").as_deref(), Some("close"), "from 85 %: not kept");
    hold(167);
    let refused = ask();
    assert_eq!((refused.status, refused.refusal().as_str()), (503, "overloaded"), "from 92 %");
    idle.clear();
    eventually("all is well again", || {
        let answer = ask();
        answer.status == 200 && answer.header("connection").is_none()
    });
}

#[test]
fn requests_at_an_ejected_endpoint_move_to_another_cluster() {
    // Both endpoints hang; the probes of one fail.
    let hanging = |shows: Arc<AtomicBool>| {
        Cluster::scripted(move |mut connection| {
            while let Some((head, _)) = connection.request() {
                match head.starts_with("GET /healthz ") && !shows.load(Ordering::SeqCst) {
                    true => connection.reply("fine"),
                    false => drop(connection.stream.read(&mut [0; 1])),
                }
            }
        })
    };
    let shown = Arc::new(AtomicBool::new(false));
    let (one, two) = (hanging(shown.clone()), hanging(Arc::default()));
    let cloud = Cluster::named("cloud");
    let probe = "probe: { kind: http, path: /healthz, interval: 100ms, timeout: 100ms }";
    let proxy = Proxy::start(&format!(
        "runtime: {{ workers: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [a, cloud], endpoint_policy: round_robin }} }}\n\
         clusters:\n  a: {{ kind: idc, endpoints: [\"{}\", \"{}\"], {probe} }}\n  \
         cloud: {{ kind: cloud, endpoints: [\"{}\"] }}\n",
        one.address, two.address, cloud.address
    ));
    let mut clients: Vec<Keeping> = (0..2).map(|_| Keeping::new(proxy.at("web"))).collect();
    for client in &mut clients {
        client.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    let asked = |cluster: &Cluster| cluster.seen().matches("GET /slow ").count();
    eventually("each has one", || asked(&one) == 1 && asked(&two) == 1);
    shown.store(true, Ordering::SeqCst);
    let log = proxy.says("\"attempts\":2");
    assert!(log.contains("\"cluster\":\"cloud\"") && log.contains("\"status\":200"), "{log}");
    assert_eq!(asked(&two), 1, "the sibling was not asked again");
}

#[test]
fn a_tcp_probe_ends_as_a_client_does_and_not_by_a_reset() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = config(&[("idc", "idc", listener.local_addr().unwrap())])
        .replace("probe: { ", "probe: { kind: tcp, ");
    let _proxy = Proxy::start(&text);
    for _ in 0..3 {
        let (mut probe, _) = listener.accept().unwrap();
        assert_eq!(probe.read(&mut [0; 1]).unwrap(), 0, "a FIN");
    }
}
