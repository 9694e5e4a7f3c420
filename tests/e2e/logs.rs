//! Logs: rotated, moved and turned off while the proxy runs; and the permissions of unix sockets.

use super::support::*;
use std::os::unix::fs::PermissionsExt;

fn with_logs(cluster: &Cluster, logs: &str) -> String {
    format!("{logs}\n{}", config(&[("idc", "idc", cluster.address)]))
}

#[test]
fn logs_follow_the_configuration_and_a_rotation() {
    let idc = Cluster::named("idc");
    let logs = "access_log: { path: access.log }";
    let proxy = Proxy::start(&with_logs(&idc, logs));
    let read = |name: &str| std::fs::read_to_string(proxy.folder.0.join(name)).unwrap_or_default();
    let asked = |path: &str| assert_eq!(get(proxy.at("web"), path).status, 200);
    asked("/first");
    eventually("the line", || read("access.log").contains("/first"));
    let made = std::fs::metadata(proxy.folder.0.join("access.log")).unwrap();
    assert_eq!(made.permissions().mode() & 0o7, 0, "it is not for every account");

    std::fs::rename(proxy.folder.0.join("access.log"), proxy.folder.0.join("old.log")).unwrap();
    proxy.signal(libc::SIGUSR1);
    eventually("the new file", || proxy.folder.0.join("access.log").exists());
    asked("/second");
    eventually("the line", || read("access.log").contains("/second"));
    assert!(!read("old.log").contains("/second"));

    let own = "log: { path: own.log, level: debug }\naccess_log: { path: b.log, format: common }";
    proxy.rewrite(&with_logs(&idc, own));
    eventually("the reload", || proxy.generation() == 2);
    asked("/third");
    eventually("the line", || read("b.log").contains("\"GET /third HTTP/1.1\" 200"));
    proxy.signal(libc::SIGHUP);
    eventually("the own log's file", || read("own.log").contains("in force generation="));
    std::fs::rename(proxy.folder.0.join("own.log"), proxy.folder.0.join("own.old")).unwrap();
    proxy.signal(libc::SIGUSR1);
    eventually("the new file", || proxy.folder.0.join("own.log").exists());
    proxy.signal(libc::SIGHUP);
    eventually("the line", || read("own.log").contains("in force generation="));

    let off = "access_log: { path: b.log, format: off }\nlog: { path: own.log }";
    proxy.rewrite(&with_logs(&idc, off));
    eventually("the reload", || proxy.generation() == 5);
    asked("/fourth");
    proxy.rewrite(&with_logs(&idc, "access_log: { path: b.log }\nlog: { path: own.log }"));
    eventually("the reload", || proxy.generation() == 6);
    asked("/fifth");
    eventually("the line", || read("b.log").contains("/fifth"));
    assert!(!read("b.log").contains("/fourth"));
}

#[test]
fn body_bytes_are_counted_without_heads() {
    let idc = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            match head.starts_with("HEAD") {
                true => connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
                false => connection.send(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
                ),
            }
        }
    });
    let proxy = Proxy::start(&with_logs(&idc, ""));
    let web = proxy.at("web");
    let line = |path: &str| -> serde_json::Value {
        serde_json::from_str(&proxy.says(&format!("\"path\":\"{path}\""))).unwrap()
    };
    let figures = |path: &str| {
        let line = line(path);
        ["bytes_in", "bytes_out", "head_bytes_in", "head_bytes_out"]
            .map(|key| line[key].as_u64().unwrap())
    };
    let fields = "Host: a\r\nConnection: close\r\n";
    for (method, path, body, expected) in [
        ("POST", "/posted", "hello", [5, 10]),
        ("GET", "/got", "", [0, 10]),
        ("HEAD", "/headed", "", [0, 0]),
    ] {
        let length = format!("Content-Length: {}\r\n", body.len());
        let length = if body.is_empty() { "" } else { &length };
        let head = format!("{method} {path} HTTP/1.1\r\n{fields}{length}\r\n");
        let mut stream = connect(web);
        std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
        let all = read_all(&mut stream).len() as u64;
        let [sent, got] = expected;
        assert_eq!(figures(path), [sent, got, head.len() as u64, all - got], "{path}");
    }
    let chunked = format!(
        "POST /chunked HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    );
    assert_eq!(ask_raw(web, chunked.as_bytes()).body, "0123456789");
    assert_eq!(figures("/chunked")[..2], [5, 10], "what frames a body is not of it");
    let output = std::process::Command::new("curl")
        .args(["--silent", "--http2-prior-knowledge", "--data", "hello"])
        .arg(format!("http://{web}/by-http2"))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0123456789");
    let [sent, got, head_in, head_out] = figures("/by-http2");
    assert_eq!([sent, got], [5, 10]);
    assert!(head_in > 30 && head_out > 30, "{head_in} {head_out}");
    let total = |name: &str, direction: &str| {
        proxy.metric(&format!("{name}{{listener=\"web\",direction=\"{direction}\"}}"))
    };
    assert_eq!(total("tidegate_bytes_total", "in"), 15.0);
    assert_eq!(total("tidegate_bytes_total", "out"), 40.0);
    assert!(total("tidegate_head_bytes_total", "in") > 200.0);
    assert!(total("tidegate_head_bytes_total", "out") > 200.0);
}

#[test]
fn bytes_of_a_refusal_are_counted() {
    let idc = Cluster::named("idc");
    let text =
        with_logs(&idc, "").replace("service: shop }", "service: shop, limits: { body: 3 } }");
    let proxy = Proxy::start(&text);
    let request =
        b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let mut stream = connect(proxy.at("web"));
    std::io::Write::write_all(&mut stream, request).unwrap();
    let text = read_all(&mut stream);
    let answer = parse(&text);
    assert_eq!(answer.status, 413);
    let line: serde_json::Value = serde_json::from_str(&proxy.says("\"path\":\"/large\"")).unwrap();
    assert_eq!(line["bytes_out"], answer.body.len());
    assert_eq!(line["head_bytes_out"], text.len() - answer.body.len());
}

#[test]
fn a_unix_socket_has_its_configured_mode_and_a_reload_changes_it() {
    let idc = Cluster::named("idc");
    let text = |mode: &str| {
        format!(
            "listeners: {{ web: {{ address: unix:web.sock, protocol: http, service: s, mode: {mode} }} }}\n\
             services: {{ s: {{ clusters: [idc] }} }}\n\
             clusters: {{ idc: {{ endpoints: [{}] }} }}\n",
            idc.address
        )
    };
    let proxy = Proxy::start(&text("0600"));
    let path = proxy.folder.0.join("web.sock");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    proxy.rewrite(&text("0666"));
    eventually("the new mode", || mode() == 0o666);
    let out = std::process::Command::new("curl")
        .args(["-s", "--unix-socket", path.to_str().unwrap(), "http://shop.example/"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "idc");
}

#[test]
fn an_idle_proxy_stops_at_once_with_its_last_lines_written() {
    let idc = Cluster::named("idc");
    let mut proxy = Proxy::start(&with_logs(&idc, "access_log: { path: access.log }"));
    assert_eq!(get(proxy.at("web"), "/last").status, 200);
    let since = std::time::Instant::now();
    proxy.signal(libc::SIGTERM);
    assert_eq!(proxy.wait(), Some(0));
    assert!(since.elapsed() < std::time::Duration::from_millis(900), "{:?}", since.elapsed());
    assert!(proxy.said("not written in time").is_none());
    let text = std::fs::read_to_string(proxy.folder.0.join("access.log")).unwrap();
    assert!(text.contains("/last"));
}

#[test]
fn lines_that_come_together_are_written_together() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&(text + "routes: [{ path: /told, respond: { body: hi } }]\n"));
    let mut client = Keeping::new(proxy.at("web"));
    let (before, begun) = (proxy.writes(), std::time::Instant::now());
    // Pipelined, and answered by the proxy itself: even beside busy processes the lines come together.
    for _ in 0..40 {
        client.send(&b"GET /told HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50));
        (0..50).for_each(|_| assert_eq!(client.answer().body, "hi"));
    }
    let pauses = begun.elapsed().as_millis() / 20;
    let writes = u128::from(proxy.writes() - before);
    assert!(writes < 300 + 4 * pauses, "{writes} writes in {pauses} pauses, for 2,000 lines");
    let all =
        |log: Vec<String>| log.iter().filter(|line| line.contains("\"path\":\"/told\"")).count();
    eventually("all lines are written", || all(proxy.log()) == 2_000);
}
