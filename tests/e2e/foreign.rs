//! Interoperation with other implementations: nginx as a cluster, curl as a client.

use super::support::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// An nginx process of this test.
struct Nginx {
    process: Process,
    address: std::net::SocketAddr,
    _folder: Folder,
}

impl Nginx {
    fn start() -> Option<Nginx> {
        if !is_installed("nginx") {
            return None;
        }
        let folder = Folder::new();
        let address = free();
        folder.write("big", &"0123456789abcdef".repeat(65_536));
        let server = format!(
            "server {{ listen {address}; root {};\n\
             location = /hello {{ return 200 \"hello from nginx\\n\"; }}\n\
             location = /empty {{ return 204; }}\n\
             location = /echo {{ return 200 \"$request_method $http_x_forwarded_for $http_host\"; }} }}",
            folder.0.display()
        );
        let nginx = Nginx { process: nginx(&folder, address, &server), address, _folder: folder };
        Some(nginx)
    }
}

fn curl(arguments: &[&str]) -> String {
    let output =
        Command::new("curl").args(["-sS", "--max-time", "10"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_through_the_proxy_to_nginx() {
    let Some(nginx) = Nginx::start() else { return };
    let proxy = Proxy::start(&config(&[("a", "idc", nginx.address)]));
    let url = |path: &str| format!("http://{}{path}", proxy.at("web"));
    assert_eq!(curl(&[&url("/hello")]), "hello from nginx\n");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &url("/empty")]), "204");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{size_download}", &url("/big")]), "1048576");
    assert!(curl(&["-I", &url("/big")]).to_lowercase().contains("content-length: 1048576"));
    let range = curl(&["-r", "16-31", &url("/big")]);
    assert_eq!(range, "0123456789abcdef");
    let echo = curl(&["-H", "Host: shop.example", &url("/echo")]);
    assert_eq!(echo, "GET 127.0.0.1 shop.example");
    let both = curl(&[&url("/hello"), &url("/hello"), "-w", "%{num_connects} "]);
    assert!(both.contains("1 ") && both.contains("0 "), "one connection serves both: {both}");
    assert_eq!(curl(&["--http1.0", &url("/hello")]), "hello from nginx\n");
}

#[test]
fn a_killed_nginx_is_detected_and_failed_over() {
    let Some(nginx) = Nginx::start() else { return };
    let cloud = Cluster::named("cloud");
    let text = config(&[("idc", "idc", nginx.address), ("cloud", "cloud", cloud.address)])
        .replacen("probe: {", "probe: { kind: http, path: /hello,", 1);
    let proxy = Proxy::start(&text);
    let url = format!("http://{}/hello", proxy.at("web"));
    assert_eq!(curl(&[&url]), "hello from nginx\n");
    // Killed without a graceful close.
    let killed = Command::new("kill").args(["-KILL", &nginx.process.0.id().to_string()]).status();
    assert!(killed.unwrap().success());
    eventually("nginx is gone", || std::net::TcpStream::connect(nginx.address).is_err());
    for _ in 0..20 {
        assert_eq!(curl(&[&url]), "cloud");
    }
}

#[test]
fn websockets_of_python_talk_through_the_proxy() {
    let Some(python) = python("websockets") else { return };
    let mut server = Command::new(&python)
        .arg(script("websocket.py"))
        .arg("server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
    let proxy = Proxy::start(&config(&[("a", "idc", address)]));
    let url = format!("ws://{}/", proxy.at("web"));
    let said =
        Command::new(&python).arg(script("websocket.py")).args(["client", &url]).output().unwrap();
    drop(server.stdin.take());
    server.wait().unwrap();
    let printed = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(printed, "compressed 4001\n", "{}", String::from_utf8_lossy(&said.stderr));
    eventually("it is logged", || proxy.said("\"status\":101").is_some());
}
