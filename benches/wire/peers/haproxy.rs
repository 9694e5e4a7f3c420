//! HAProxy: one thread, buffers of 64 KiB and splice, a shared pool.

use super::{Peer, Rig, Setup, free, listeners};
use std::fmt::Write as _;
use std::path::Path;

/// The proxy.
pub fn start(rig: &Rig, setup: &Setup) -> Option<Peer> {
    let listeners = listeners();
    let at = rig.folder.display();
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 7000\n  tune.bufsize 65536\n  tune.h2.max-concurrent-streams 1024\n\
         defaults\n  timeout client 1h\n  timeout server 1h\n  timeout connect 5s\n  http-reuse always\n  option splice-auto\n\
         frontend h\n  mode http\n  bind {}\n  bind {} ssl crt {at}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3\n",
        listeners.http, listeners.tls
    );
    if setup.access_log || setup.features {
        // Nobody listens there: what is measured is the writing and sending of the line.
        writeln!(text, "  log {} format raw local0\n  log-format '{{\"time\":\"%t\",\"client\":\"%ci\",\"method\":\"%HM\",\"path\":\"%HP\",\"status\":%ST,\"bytes\":%B,\"ms\":%Ta,\"upstream\":\"%si:%sp\"}}'", free()).unwrap();
    }
    if setup.features {
        text.push_str(
            "  stick-table type ip size 100k expire 10s store http_req_rate(1s)\n  http-request track-sc0 src\n\
             \u{20} http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }\n  http-request deny unless { src 127.0.0.0/8 }\n\
             \u{20} unique-id-format %[uuid]\n  unique-id-header x-request-id\n  option forwardfor\n  http-response set-header x-frame-options DENY\n",
        );
    }
    if setup.coding.is_some() {
        // `tune.comp.maxlevel` is the level: the default of 1 would be less work than that of the others.
        text = text.replacen("global\n", "global\n  tune.comp.maxlevel 4\n", 1);
        text.push_str("  compression algo gzip\n  compression type text/plain\n");
    }
    match setup.routes {
        1 => text.push_str("  default_backend hb\n"),
        routes => {
            // The form for many routes: one look-up in a prefix tree.
            let map: String = (0..routes).map(|route| format!("/r{route}/ hb\n")).collect();
            let map = rig.write("routes.map", &map);
            writeln!(text, "  use_backend %[path,map_beg({})]", map.display()).unwrap();
        }
    }
    let more = if setup.http2 { "proto h2" } else { "" };
    text.push_str("backend hb\n  mode http\n");
    for (index, address) in setup.addresses(rig.server(setup), 0).iter().enumerate() {
        writeln!(text, "  server s{index} {address} pool-max-conn -1 {more}").unwrap();
    }
    write!(
        text,
        "frontend t\n  mode tcp\n  bind {}\n  default_backend tb\nbackend tb\n  mode tcp\n  server s {}\n",
        listeners.tcp, rig.http1
    )
    .unwrap();
    let config = rig.write("haproxy.cfg", &text);
    let arguments = ["-db".to_owned(), "-f".to_owned(), config.display().to_string()];
    rig.peer("haproxy", Path::new("haproxy"), &arguments, listeners)
}
