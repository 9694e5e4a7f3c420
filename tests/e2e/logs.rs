//! Logs as operators handle them: rotated, moved and turned off while the proxy runs; unix sockets with
//! the permissions they were given.

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
    eventually("the own log's file", || read("own.log").contains("configuration is in force"));
    std::fs::rename(proxy.folder.0.join("own.log"), proxy.folder.0.join("own.old")).unwrap();
    proxy.signal(libc::SIGUSR1);
    eventually("the new file", || proxy.folder.0.join("own.log").exists());
    proxy.signal(libc::SIGHUP);
    eventually("the line", || read("own.log").contains("configuration is in force"));

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
fn a_unix_socket_has_the_mode_it_was_given_and_takes_a_new_one() {
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
    assert!(proxy.said("were not written in time").is_none());
    let text = std::fs::read_to_string(proxy.folder.0.join("access.log")).unwrap();
    assert!(text.contains("/last"));
}
