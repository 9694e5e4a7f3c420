//! nginx, as a proxy and as the cluster.

use super::{Peer, Rig, Setup, listeners};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;

const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The cluster: all files, below any `/rN`; gRPC calls are answered with a message and a trailer.
pub fn cluster(rig: &Rig) -> Child {
    let (http1, http2) = (rig.http1, rig.http2);
    let (port, port2) = (http1.port(), http2.port());
    let inside = format!(
        "server {{ listen 0.0.0.0:{port} backlog=4096; listen 0.0.0.0:{port2} http2 backlog=4096; root {}; http2_max_concurrent_streams 1024;\n\
         location /r {{ rewrite ^/r[0-9]+(/.*)$ $1 break; }}\n\
         location = /bench.Bench/Call {{ default_type application/grpc; add_trailer grpc-status 0; error_page 404 405 =200 /call; }}\n\
         location = /call {{ default_type application/grpc; add_trailer grpc-status 0; }} }}",
        rig.folder.display()
    );
    let config = rig.write("cluster.conf", &whole(rig, "cluster", "", &inside));
    let arguments = ["-c".to_owned(), config.display().to_string()];
    let started = rig.spawn("1", Path::new("nginx"), &arguments, http1);
    started.unwrap_or_else(|| panic!("the cluster does not run: {:?}", rig.notes())).0
}

/// The proxy.
pub fn start(rig: &Rig, setup: &Setup) -> Option<Peer> {
    let listeners = listeners();
    let at = rig.folder.display();
    let mut inside = "upstream u {\n".to_owned();
    for address in setup.addresses(rig.server(setup), 0) {
        writeln!(inside, "server {address};").unwrap();
    }
    inside.push_str("keepalive 256; keepalive_requests 1000000000; }\n");
    let policies = match setup.features {
        true => {
            "limit_req zone=all burst=1000000 nodelay; allow 127.0.0.0/8; deny all;\n\
             proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Request-Id $request_id;\n\
             add_header X-Frame-Options DENY always; add_header X-Request-Id $request_id always;\n"
        }
        false => "",
    };
    if setup.coding.is_some() {
        inside.push_str(
            "gzip on; gzip_comp_level 4; gzip_types text/plain; gzip_min_length 1k; gzip_proxied any; gzip_vary on;\n",
        );
    }
    if setup.features {
        inside.push_str("limit_req_zone $binary_remote_addr zone=all:10m rate=1000000r/s;\n");
    }
    let pass = match setup.http2 {
        true => "grpc_pass grpc://u;",
        false => "proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection \"\";",
    };
    let pass = format!("{{ {pass} {policies} }}");
    write!(
        inside,
        "ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; ssl_protocols TLSv1.3;\n\
         server {{ listen {}; listen {} ssl http2; http2_max_concurrent_streams 1024;\n",
        listeners.http, listeners.tls
    )
    .unwrap();
    match setup.routes {
        1 => writeln!(inside, "location / {pass}").unwrap(),
        routes => {
            for route in 0..routes {
                writeln!(inside, "location /r{route}/ {pass}").unwrap();
            }
        }
    }
    inside.push('}');
    if setup.access_log || setup.features {
        inside.push_str(
            "log_format json escape=json '{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"method\":\"$request_method\",\"path\":\"$uri\",\"status\":$status,\"bytes\":$body_bytes_sent,\"seconds\":$request_time,\"upstream\":\"$upstream_addr\",\"agent\":\"$http_user_agent\"}';\n",
        );
        writeln!(inside, "access_log {at}/nginx-access.log json buffer=64k;").unwrap();
    } else {
        inside.push_str("access_log off;\n");
    }
    let (before, stream) = stream(rig, listeners.tcp);
    let mut text = whole(rig, "nginx", &before, &inside);
    text.push_str(&stream);
    let config = rig.write("nginx.conf", &text);
    let arguments = ["-c".to_owned(), config.display().to_string()];
    let mut peer = rig.peer("nginx", Path::new("nginx"), &arguments, listeners)?;
    if stream.is_empty() {
        peer.tcp = None;
    }
    Some(peer)
}

/// The module for L4 and its part of the configuration, where it is installed.
fn stream(rig: &Rig, address: std::net::SocketAddr) -> (String, String) {
    if !PathBuf::from(STREAM).exists() {
        rig.note("nginx's stream module is not installed: no nginx in F and F'".to_owned());
        return (String::new(), String::new());
    }
    let part = format!(
        "stream {{ upstream t {{ server {}; }} server {{ listen {address}; proxy_pass t; proxy_buffer_size 64k; }} }}\n",
        rig.http1
    );
    (format!("load_module {STREAM};\n"), part)
}

fn whole(rig: &Rig, name: &str, before: &str, inside: &str) -> String {
    let at = rig.folder.display();
    let off = if name == "cluster" { "access_log off;" } else { "" };
    format!(
        "{before}worker_processes 1; daemon off; master_process off; pid {at}/{name}.pid; error_log {at}/{name}-error.log;\n\
         worker_rlimit_nofile 65536; events {{ worker_connections 32768; }}\n\
         http {{ {off} keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on;\n\
         open_file_cache max=100; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2;\n\
         fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n{inside}\n}}\n"
    )
}
