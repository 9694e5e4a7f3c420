//! The admin API: its answers, its access rules, its actions.

use super::support::*;
use std::io::{Read, Write};

fn rig() -> (Cluster, Cluster, Proxy) {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let proxy =
        Proxy::start(&config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]));
    (idc, cloud, proxy)
}

#[test]
fn every_view_has_the_keys_of_the_contract() {
    let (_idc, _cloud, proxy) = rig();
    assert_eq!(get(proxy.at("web"), "/").status, 200);
    let has = |value: &serde_json::Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some(), "{key} in {value}");
        }
    };
    let status = proxy.json("/api/v1/status");
    has(&status, &["site", "version", "uptime_s", "config", "draining"]);
    has(&status["config"], &["hash", "generation", "loaded_at", "last_reload"]);
    has(&status["config"]["last_reload"], &["ok", "at", "error"]);
    let cluster = proxy.cluster("idc");
    has(
        &cluster,
        &[
            "name",
            "site",
            "kind",
            "environment",
            "state",
            "cause",
            "dial_percent",
            "why",
            "rtt_ms",
            "distance_ms",
            "service_ms",
            "queue_ms",
            "total_ms",
            "in_flight",
            "requests_per_s",
            "success_ratio",
            "share",
            "cost_usd_per_h",
            "endpoints",
        ],
    );
    has(
        &cluster["endpoints"][0],
        &["address", "state", "rtt_ms", "service_ms", "in_flight", "last_error"],
    );
    let services = proxy.json("/api/v1/services");
    has(&services[0], &["name", "order", "spilling", "share", "demand_rps", "forecast_rps"]);
    assert_eq!(services[0]["order"], serde_json::json!(["idc", "cloud"]));
    let explained = proxy.json("/api/v1/explain?host=a&path=/&method=GET&listener=web");
    has(
        &explained,
        &["route", "service", "data", "environment", "permitted", "rejected", "scores", "chosen"],
    );
    has(
        &explained["scores"][0],
        &[
            "cluster",
            "rtt_ms",
            "distance_ms",
            "service_ms",
            "price_ms",
            "queue_ms",
            "total_ms",
            "accept_ratio",
            "why",
        ],
    );
    assert_eq!(explained["chosen"], "idc");
    assert!(proxy.json("/api/v1/config")["clusters"]["idc"]["accepts"].is_array());
    assert!(proxy.json("/api/v1/decisions").is_array());
    for path in ["/livez", "/readyz", "/healthz", "/metrics", "/stats/prometheus", "/"] {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let (_idc, _cloud, proxy) = rig();
    for _ in 0..5 {
        assert_eq!(get(proxy.at("web"), "/").status, 200);
    }
    let text = proxy.get("/metrics").body;
    for name in [
        "tidegate_build_info",
        "tidegate_config_generation",
        "tidegate_config_last_reload_successful",
        "tidegate_config_last_reload_success_timestamp_seconds",
        "tidegate_config_reloads_total",
        "tidegate_connections",
        "tidegate_connections_total",
        "tidegate_requests_total",
        "tidegate_request_duration_seconds",
        "tidegate_upstream_duration_seconds",
        "tidegate_bytes_total",
        "tidegate_cluster_up",
        "tidegate_endpoint_up",
        "tidegate_cluster_rtt_seconds",
        "tidegate_cluster_service_seconds",
        "tidegate_cluster_queue_seconds",
        "tidegate_cluster_in_flight",
        "tidegate_decisions_total",
        "tidegate_spill_ratio",
        "tidegate_retries_total",
        "tidegate_probes_total",
        "tidegate_probe_duration_seconds",
        "tidegate_demand_rps",
        "tidegate_upstream_connections",
        "tidegate_events_shed_total",
        "tidegate_access_log_dropped_total",
        "tidegate_worker_busy_ratio",
        "tidegate_panics_total",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        let found = text.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")));
        assert!(found, "{name} is missing");
    }
    let line = "tidegate_requests_total{listener=\"web\",service=\"shop\",tidegate_cluster=\"idc\",code_class=\"2xx\"}";
    eventually("all are counted", || proxy.metric(line) == 5.0);
    let plain = |line: &&str| line.contains("{cluster=") || line.contains(",cluster=");
    assert_eq!(text.lines().find(plain), None, "Prometheus may set `cluster` itself");
}

#[test]
fn counters_exist_at_zero_before_the_first_exchange() {
    let (_idc, _cloud, proxy) = rig();

    let text = proxy.get("/metrics").body;

    for series in [
        r#"tidegate_refusals_total{listener="web",reason="no_route"}"#,
        r#"tidegate_refusals_total{listener="web",reason="overloaded"}"#,
        r#"tidegate_aborted_total{listener="web",by="client"}"#,
        r#"tidegate_datagrams_dropped_total{listener="web"}"#,
        r#"tidegate_tls_handshakes_total{listener="web",result="ok"}"#,
        r#"tidegate_tls_handshakes_total{listener="web",result="not_tls"}"#,
        r#"tidegate_decisions_total{service="shop",tidegate_cluster="cloud",reason="spill"}"#,
        r#"tidegate_retries_total{service="shop",result="denied"}"#,
        r#"tidegate_hedges_total{service="shop",result="sent"}"#,
        r#"tidegate_config_reloads_total{result="failure"}"#,
        r#"tidegate_panics_total"#,
    ] {
        assert!(text.contains(&format!("\n{series} 0\n")), "{series} in {text}");
    }
    for result in ["success", "failure"] {
        let probes =
            format!("\ntidegate_probes_total{{tidegate_cluster=\"cloud\",result=\"{result}\"}} ");
        assert!(text.contains(&probes), "{probes} in {text}");
    }
    let of_tls = r#"tidegate_upstream_tls_failures_total{tidegate_cluster="idc""#;
    assert!(!text.contains(of_tls), "the cluster does not use TLS");
    let ejections = "\ntidegate_ejections_total{";
    assert!(!text.contains(ejections), "a series exists from the first ejection on");
}

#[test]
fn exchanges_are_counted_for_their_route() {
    let idc = Cluster::named("idc");
    let text = config(&[("idc", "idc", idc.address)])
        + "routes: [{ path_prefix: /a, service: shop }, { path: /no, respond: { status: 403, body: no } }]\n";
    let proxy = Proxy::start(&text);

    for (path, status, count) in [("/a/1", 200, 3), ("/no", 403, 2), ("/other", 200, 1)] {
        for _ in 0..count {
            assert_eq!(get(proxy.at("web"), path).status, status);
        }
    }

    let count = |route: &str, class: &str| {
        format!("tidegate_route_requests_total{{route=\"{route}\",code_class=\"{class}\"}}")
    };
    proxy.counts(&count("routes[0]", "2xx"), 3.0);
    proxy.counts(&count("routes[1]", "4xx"), 2.0);
    proxy.counts(&count("listeners.web", "2xx"), 1.0);
    assert_eq!(proxy.metric(&count("routes[1]", "2xx")), 0.0);
    proxy.counts("tidegate_route_duration_seconds_count{route=\"routes[0]\"}", 3.0);
    assert!(proxy.metric("tidegate_route_duration_seconds_sum{route=\"routes[0]\"}") > 0.0);
}

#[test]
fn writes_need_the_token_and_foreign_hosts_are_refused() {
    let (_idc, _cloud, proxy) = rig();
    let ask = |method: &str, fields: &str| {
        let request = format!(
            "{method} /api/v1/clusters/idc/drain HTTP/1.1\r\n{fields}connection: close\r\ncontent-length: 0\r\n\r\n"
        );
        ask_raw(proxy.admin, request.as_bytes()).status
    };
    let token = "authorization: Bearer secret\r\n";
    assert_eq!(ask("POST", "host: localhost\r\n"), 401);
    assert_eq!(ask("POST", "host: localhost\r\nauthorization: Bearer wrong\r\n"), 401);
    assert_eq!(ask("POST", &format!("host: evil.example\r\n{token}")), 403);
    assert_eq!(
        ask("POST", &format!("host: localhost\r\norigin: http://evil.example\r\n{token}")),
        403
    );
    assert_eq!(
        ask("POST", &format!("host: localhost\r\ncontent-type: text/plain\r\n{token}")),
        415
    );
    assert_eq!(ask("GET", &format!("host: localhost\r\n{token}")), 405);
    assert_eq!(proxy.cluster("idc")["dial_percent"], 100, "nothing had an effect");
    assert_eq!(
        ask("POST", &format!("host: localhost\r\ncontent-type: application/json\r\n{token}")),
        200
    );
    assert_eq!(proxy.cluster("idc")["state"], "draining");
    for path in
        ["/api/v1/status", "/", "/metrics", "/stats/prometheus", "/livez", "/readyz", "/healthz"]
    {
        for (host, status) in
            [("host: evil.example\r\n", 403), ("host: localhost:1\r\n", 200), ("", 200)]
        {
            let version = if host.is_empty() { "1.0" } else { "1.1" };
            let rebound = format!("GET {path} HTTP/{version}\r\n{host}connection: close\r\n\r\n");
            assert_eq!(ask_raw(proxy.admin, rebound.as_bytes()).status, status, "{path} {host}");
        }
    }
    let untyped = format!(
        "PUT /api/v1/clusters/idc/dial HTTP/1.1\r\nhost: localhost\r\n{token}connection: close\r\ncontent-length: 14\r\n\r\n{{\"percent\": 5}}"
    );
    assert_eq!(ask_raw(proxy.admin, untyped.as_bytes()).status, 415, "a body needs its type");
    proxy.counts("tidegate_admin_refused_total{reason=\"token\"}", 2.0);
    proxy.counts("tidegate_admin_refused_total{reason=\"host\"}", 2.0 + 7.0);
    let refused = &proxy.json("/api/v1/status")["admin_refused"];
    assert_eq!((&refused["token"], &refused["event_streams"]), (&2.into(), &0.into()));
}

#[test]
fn drain_dial_and_undrain_move_traffic_and_survive_reloads() {
    let (_idc, _cloud, proxy) = rig();
    let web = proxy.at("web");
    let to_idc = |count: usize| (0..count).filter(|_| get(web, "/").body == "idc").count();
    assert_eq!(to_idc(10), 10);
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/drain", "").status, 200);
    assert_eq!(to_idc(10), 0);
    proxy.signal(1);
    eventually("the reload", || proxy.generation() == 2);
    assert_eq!(to_idc(10), 0, "a drain survives a reload");
    assert_eq!(proxy.tell("PUT", "/api/v1/clusters/idc/dial", "{\"percent\": 50}").status, 200);
    let half = to_idc(60);
    assert!((20..=40).contains(&half), "{half} of 60");
    assert_eq!(proxy.tell("DELETE", "/api/v1/clusters/idc/dial", "").status, 200);
    assert_eq!(to_idc(10), 10);
    assert_eq!(proxy.tell("POST", "/api/v1/sites/idc/drain", "").status, 200);
    assert_eq!(to_idc(10), 0);
    assert_eq!(proxy.tell("POST", "/api/v1/sites/idc/undrain", "").status, 200);
    assert_eq!(to_idc(10), 10);
    for (path, body, status) in [
        ("/api/v1/clusters/idc/dial", "{\"percent\": 101}", 400),
        ("/api/v1/clusters/idc/dial", "{\"percent\": 5, \"x\": 1}", 400),
        ("/api/v1/clusters/idc/dial", "nonsense", 400),
        ("/api/v1/clusters/nobody/dial", "{\"percent\": 5}", 404),
        ("/api/v1/things/idc/dial", "{\"percent\": 5}", 404),
    ] {
        assert_eq!(proxy.tell("PUT", path, body).status, status, "{path} {body}");
    }
}

#[test]
fn dials_survive_a_restart_with_a_state_folder() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let state = Folder::new();
    let text = format!(
        "state_dir: {}\n{}",
        state.0.display(),
        config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
    );
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/drain", "").status, 200);
    drop(proxy);
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.cluster("idc")["state"], "draining");
    assert_eq!(get(proxy.at("web"), "/").body, "cloud");
}

#[test]
fn events_stream_snapshots_and_changes() {
    let (idc, _cloud, proxy) = rig();
    let mut stream = connect(proxy.admin);
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    let mut read_until = |needle: &str, times: usize| {
        let mut space = [0; 65536];
        while text.matches(needle).count() < times {
            let count = stream.read(&mut space).unwrap();
            assert!(count > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&space[..count]));
        }
    };
    read_until("event: snapshot", 3);
    idc.kill();
    read_until("\"state\":\"down\"", 1);
    read_until("event: cluster\n", 1);
    read_until("event: ejected\n", 1);
}

#[test]
fn explain_reads_requests_as_the_proxy_does() {
    let idc = Cluster::named("idc");
    let text = format!(
        "{}routes: [{{ path_prefix: /pii, service: shop }}, {{ hosts: ['[::1]'], path_prefix: /v6, service: shop }}]\n",
        config(&[("idc", "idc", idc.address)]).replace(
            "listeners: {",
            "listeners: { flows: { address: 127.0.0.2:0, protocol: tcp, service: shop },"
        )
    );
    let proxy = Proxy::start(&text);
    let asked = |question: &str| proxy.json(&format!("/api/v1/explain?{question}"));
    assert_eq!(asked("host=a&path=/us/../pii")["route"], "routes[0]");
    assert_eq!(asked("host=a.&path=/%2570ii")["route"], "routes[0]");
    assert_eq!(asked("host=[::1]&path=/v6")["route"], "routes[1]");
    assert_eq!(proxy.get("/api/v1/explain?host=a&path=/%252f").status, 400);
    let flow = asked("host=&path=/&listener=flows");
    assert_eq!((&flow["route"], &flow["chosen"]), (&"listeners.flows".into(), &"idc".into()));
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/drain", "").status, 200);
    assert_eq!(asked("host=a&path=/")["rejected"][0]["reason"], "draining");
}

#[test]
fn unmeasured_values_are_null_and_each_cluster_has_a_reason() {
    let idc = Cluster::named("idc");
    let cloud = Cluster::named("cloud");
    let nobody = cloud.address;
    cloud.kill();
    let proxy = Proxy::start(&config(&[("idc", "idc", idc.address), ("cloud", "cloud", nobody)]));
    eventually("the cloud is down", || proxy.cluster("cloud")["state"] == "down");
    let (near, far) = (proxy.json("/api/v1/clusters/idc"), proxy.json("/api/v1/clusters/cloud"));
    for key in ["service_ms", "queue_ms", "total_ms", "success_ratio"] {
        assert!(near[key].is_null() && far[key].is_null(), "{key}: {near} {far}");
    }
    assert!(near["distance_ms"].is_f64() && far["distance_ms"].is_null(), "{near} {far}");
    let why = near["why"].as_str().unwrap();
    assert!(why.starts_with("nearest healthy: ") && why.ends_with("; takes all"), "{why}");
    let why = far["why"].as_str().unwrap();
    assert!(why.starts_with("down: refused") && why.ends_with("probes every 100 ms"), "{why}");
    assert_eq!(proxy.get("/api/v1/clusters/nobody").status, 404);
    let metrics = proxy.get("/metrics").body;
    let distance = "tidegate_cluster_distance_seconds{tidegate_cluster=";
    assert!(metrics.contains(&format!("{distance}\"idc\"}} 0.")), "{metrics}");
    assert!(metrics.contains(&format!("{distance}\"cloud\"}} NaN\n")), "{metrics}");
    for _ in 0..100 {
        assert_eq!(get(proxy.at("web"), "/").status, 200);
    }
    eventually("what was measured is told", || {
        let near = proxy.json("/api/v1/clusters/idc");
        ["service_ms", "queue_ms", "total_ms"].iter().all(|key| near[key].is_f64())
            && near["success_ratio"] == 1.0
    });
}

#[test]
fn explain_is_text_or_json_with_and_without_a_running_proxy() {
    let (_idc, _cloud, proxy) = rig();
    let path = proxy.config_path();
    let explain = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["explain", "--host", "a", "--path", "/", "--config"])
            .arg(&path)
            .args(more)
            .output()
            .unwrap();
        let printed =
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), printed)
    };
    let admin = proxy.admin.to_string();
    let (code, text) = explain(&[]);
    assert!(code == Some(0) && text.contains("permitted    idc, cloud"), "{text}");
    let (code, live) = explain(&["--admin", &admin]);
    assert!(code == Some(0) && live.contains("chosen       idc"), "{live}");
    assert!(live.contains("nearest healthy: "), "{live}");
    for more in [&["--json"][..], &["--json", "--admin", &admin]] {
        let (code, text) = explain(more);
        let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &explained["service"]), (Some(0), &"shop".into()), "{text}");
    }
    let (code, text) = explain(&["--admin", &admin, "--listener", "none"]);
    assert!(code == Some(1) && text.contains("no listener `none`"), "{text}");
}

/// Runs a verb; returns its exit code and its output.
pub fn tidegate(arguments: &[&str]) -> (i32, String) {
    let command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env_remove("TIDEGATE_CONFIG")
        .output()
        .unwrap();
    let printed = [command.stdout, command.stderr].concat();
    (command.status.code().unwrap(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn the_address_for_metrics_serves_metrics_and_health_alone_to_any_host() {
    let cluster = Cluster::named("a");
    let folder = Folder::new();
    let config = config(&[("idc", "idc", cluster.address)]);
    let admin = "admin: { address: 127.0.0.1:0, token_file: token, metrics: '127.0.0.1:0' }\n";
    folder.write("token", "secret\n");
    folder.write("tidegate.yaml", &format!("{admin}{config}"));
    let proxy = Proxy::start_in(folder, &[]);
    let metrics = address(&proxy.says("metrics listening on"));
    assert_ne!(metrics, proxy.admin);
    let ask = |path: &str| {
        let head = "host: scrape.example.com\r\nconnection: close";
        ask_raw(metrics, format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes())
    };
    for path in ["/livez", "/readyz", "/healthz", "/metrics", "/stats/prometheus"] {
        assert_eq!(ask(path).status, 200, "{path}");
    }
    assert!(ask("/metrics").body.contains("tidegate_build_info{"));
    for path in ["/", "/api", "/api/v1/config", "/api/v1/clusters", "/dashboard/app.js"] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
    let drain = b"POST /api/v1/clusters/idc/drain HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n\
        content-type: application/json\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(ask_raw(metrics, drain).status, 404);
    assert_eq!(proxy.cluster("idc")["dial_percent"], 100);
}

#[test]
fn check_takes_a_file_and_shows_the_line_with_a_caret() {
    let folder = Folder::new();
    let cluster = Cluster::named("0");
    let good = config(&[("idc", "idc", cluster.address)]);
    let path = folder.write("a.yaml", &good);
    let path = path.to_str().unwrap();
    assert_eq!(tidegate(&["check", path]).0, 0);
    assert_eq!(tidegate(&["check"]).0, 2, "no file is a usage error");
    folder.write("a.yaml", &good.replace("protocol: http", "protocol: htp"));
    let (code, printed) = tidegate(&["check", path]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(code == 1 && lines[0].contains("`htp` is not one of the choices"), "{printed}");
    assert_eq!(lines[2].find('^'), lines[1].find("htp"), "{printed}");
    let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(path, [&[0xff, 0xfe], wide.as_slice()].concat()).unwrap();
    let (code, printed) = tidegate(&["check", path]);
    assert!(code == 1 && printed.contains("is UTF-16 text"), "{printed}");
    let input = std::fs::File::open(path).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "-"])
        .stdin(input)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("standard input is UTF-16 text"), "{printed}");
}

#[test]
fn an_unsupported_method_gets_the_supported_ones() {
    let (_idc, _cloud, proxy) = rig();
    for (method, path, allow) in [
        ("GET", "/api/v1/clusters/idc/drain", "POST"),
        ("HEAD", "/api/v1/reload", "POST"),
        ("GET", "/api/v1/clusters/idc/dial", "PUT, DELETE"),
        ("POST", "/api/v1/status", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("PUT", "/livez", "GET, HEAD"),
    ] {
        let answer = proxy.tell(method, path, "");
        let mut allowed: Vec<String> = answer
            .header("allow")
            .unwrap_or_default()
            .split(',')
            .map(|m| m.trim().to_owned())
            .collect();
        allowed.sort();
        let mut expected: Vec<&str> = allow.split(", ").collect();
        expected.sort_unstable();
        assert_eq!(
            (answer.status, allowed.join(" ")),
            (405, expected.join(" ")),
            "{method} {path}"
        );
    }
}

#[test]
fn a_health_check_uses_the_configured_admin_address() {
    let (_idc, _cloud, proxy) = rig();
    let folder = Folder::new();
    let cluster = Cluster::named("0");
    let text = config(&[("idc", "idc", cluster.address)]);
    let at = |address: &str| {
        let text = format!("admin: {{ address: \"{address}\" }}\n{text}");
        let path = folder.write("asked.yaml", &text);
        tidegate(&["healthcheck", "--config", path.to_str().unwrap()])
    };
    eventually("it is ready", || at(&proxy.admin.to_string()).0 == 0);
    let (code, printed) = at("off");
    assert!(code == 1 && printed.contains("has no admin API"), "{printed}");
}

#[test]
fn a_probe_is_answered_beside_any_number_of_stalled_connections() {
    let (_idc, _cloud, proxy) = rig();
    let begun = |head: &[u8]| {
        let mut stream = connect(proxy.admin);
        // The proxy may have closed this connection in favour of another.
        drop(stream.write_all(head));
        stream
    };
    let mut held: Vec<_> = (0..300).map(|_| begun(b"GET /metrics HTTP/1.1\r\n")).collect();
    let untaken = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    held.extend((0..100).map(|_| begun(&untaken)));
    held.extend((0..100).map(|_| begun(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")));
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/status"] {
        let since = std::time::Instant::now();
        assert_eq!(proxy.get(path).status, 200, "{path}");
        // A stalled connection would be closed after 10 s.
        assert!(since.elapsed() < std::time::Duration::from_secs(8), "{path} waits");
    }
    // The connections that were idle for longest were closed.
    let first = held.swap_remove(0).read(&mut [0; 64]);
    assert!(
        matches!(first, Ok(0)) || first.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock)
    );
}

#[test]
fn readiness_of_a_service_has_its_headroom() {
    let held = |mut connection: Connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/hold") {
                // Until the client or the cluster goes.
                while connection.take(1).is_some() {}
                return;
            }
            connection.reply("here");
        }
    };
    let (here, there) = (Cluster::scripted(held), Cluster::named("there"));
    let probe = "probe: { interval: 100ms, timeout: 100ms }";
    let mut proxy = Proxy::start(&format!(
        "site: {{ name: here }}\nsites: {{ here: {{ kind: idc }}, there: {{ kind: cloud }} }}\n\
         drain: {{ delay: 20s, deadline: 1s }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [a, b] }} }}\nclusters:\n  \
         a: {{ site: here, endpoints: [\"{}\"], capacity: {{ concurrent: 4 }}, {probe} }}\n  \
         b: {{ site: there, endpoints: [\"{}\"], {probe} }}\n",
        here.address, there.address
    ));
    let ask = |proxy: &Proxy, query: &str| {
        let answer = proxy.get(&format!("/readyz?service={query}"));
        let headroom = answer.header("tidegate-headroom").map(|text| text.parse::<u8>().unwrap());
        (answer.status, headroom, answer.body)
    };
    let told = |status, headroom, body: &str| (status, Some(headroom), body.to_owned());
    assert_eq!(ask(&proxy, "none"), (404, None, "no service `none`\n".to_owned()));
    eventually("it is idle", || ask(&proxy, "shop") == told(200, 100, "ready: headroom 100 %\n"));

    let web = proxy.at("web");
    let clients: Vec<Keeping> = (0..3)
        .map(|_| {
            let mut client = Keeping::new(web);
            client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    // Three of four at once; the queue that is inferred may count more.
    eventually("it is busy", || ask(&proxy, "shop").1.is_some_and(|free| free <= 25));
    assert_eq!(ask(&proxy, "shop").0, 200);
    let (status, free, body) = ask(&proxy, "shop&headroom=26");
    assert!(status == 503 && free <= Some(25) && body.starts_with("busy: headroom "), "{body}");
    drop(clients);
    eventually("it is idle again", || ask(&proxy, "shop&headroom=90").0 == 200);

    here.kill();
    eventually("another site serves", || {
        ask(&proxy, "shop") == told(200, 0, "ready: headroom 0 %\n")
    });
    assert_eq!(ask(&proxy, "shop&headroom=1"), told(503, 0, "busy: headroom 0 %\n"));
    there.kill();
    let down = told(503, 0, "no permitted cluster is live\n");
    eventually("nothing serves", || ask(&proxy, "shop") == down);
    assert_eq!(proxy.get("/readyz").status, 200, "the proxy itself is ready");
    proxy.signal(15);
    eventually("it drains", || ask(&proxy, "shop") == told(503, 0, "draining\n"));
    proxy.signal(15);
    assert_eq!(proxy.wait(), Some(0));
}
