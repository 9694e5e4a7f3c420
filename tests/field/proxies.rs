//! The proxies under comparison, with equal endpoints, each configured as its documentation suggests.

use super::endpoint::Endpoint;
use super::support::{self, Folder};
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Price of a request to a cloud, for all proxies' bills.
pub const USD_PER_MILLION: f64 = 100.0;

/// A proxy under comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Tidegate,
    Nginx,
    Haproxy,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Tidegate, Kind::Nginx, Kind::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Tidegate => "Tidegate",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
        }
    }
}

/// How a proxy probes endpoints; nginx does not.
#[derive(Clone, Copy, PartialEq)]
pub enum Probe {
    Tcp,
    Http,
}

/// One cluster of a scenario. The first of a scenario is the IDC, the others are clouds.
pub struct Cluster<'a> {
    pub name: &'static str,
    pub endpoints: &'a [Endpoint],
    /// Whether a request to it costs [`USD_PER_MILLION`] millionths of a dollar.
    pub priced: bool,
}

/// The contents of a proxy's configuration.
pub struct Setup<'a> {
    pub clusters: Vec<Cluster<'a>>,
    pub probe: Probe,
    /// Services by path prefix, with their priorities; none is one service for everything.
    pub services: Vec<(&'static str, u8)>,
}

/// A running proxy; it ends with this value.
pub struct Running {
    /// The address that clients connect to.
    pub address: SocketAddr,
    /// Tidegate itself, for its admin API.
    pub tidegate: Option<support::Proxy>,
    _child: Option<(support::Process, Folder)>,
}

impl Running {
    pub fn start(kind: Kind, setup: &Setup<'_>) -> Running {
        match kind {
            Kind::Tidegate => {
                let proxy = support::Proxy::start(&tidegate_config(setup));
                Running { address: proxy.at("web"), tidegate: Some(proxy), _child: None }
            }
            Kind::Nginx => {
                let (folder, address) = (Folder::new(), free());
                let config = folder.write("nginx.conf", &nginx_config(setup, address, &folder));
                Running::child(folder, address, Command::new("nginx").arg("-c").arg(config))
            }
            Kind::Haproxy => {
                let (folder, address) = (Folder::new(), free());
                let config = folder.write("haproxy.cfg", &haproxy_config(setup, address));
                Running::child(
                    folder,
                    address,
                    Command::new("haproxy").arg("-db").arg("-f").arg(config),
                )
            }
        }
    }

    fn child(folder: Folder, address: SocketAddr, command: &mut Command) -> Running {
        let child: Child = command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let process = support::Process(child);
        support::eventually(&format!("{command:?} listens"), || {
            TcpStream::connect(address).is_ok()
        });
        Running { address, tidegate: None, _child: Some((process, folder)) }
    }

    /// The sum of a metric of Tidegate; `None` for the others.
    pub fn metric(&self, line: &str) -> Option<f64> {
        self.tidegate.as_ref().map(|proxy| proxy.metric(line))
    }

    /// Whether Tidegate reports an endpoint of the IDC as up; `true` for the others, which report nothing.
    pub fn reports_up(&self, address: SocketAddr) -> bool {
        let Some(proxy) = &self.tidegate else { return true };
        let address = address.to_string();
        let cluster = proxy.cluster("idc");
        let all = cluster["endpoints"].as_array().unwrap();
        all.iter().any(|known| known["address"] == address && known["state"] == "up")
    }
}

fn tidegate_config(setup: &Setup<'_>) -> String {
    let names: Vec<&str> = setup.clusters.iter().map(|cluster| cluster.name).collect();
    let names = names.join(", ");
    let mut text = String::from(
        "access_log: { format: \"off\" }\n\
         listeners: { web: { address: 127.0.0.1:0, protocol: http, service: shop } }\n",
    );
    write!(text, "services:\n  shop: {{ clusters: [{names}] }}\n").unwrap();
    for (prefix, priority) in &setup.services {
        writeln!(text, "  {prefix}: {{ clusters: [{names}], priority: {priority} }}").unwrap();
    }
    if !setup.services.is_empty() {
        text.push_str("routes:\n");
    }
    for (prefix, _) in &setup.services {
        writeln!(text, "  - {{ path_prefix: /{prefix}, service: {prefix} }}").unwrap();
    }
    text.push_str("clusters:\n");
    let probe = match setup.probe {
        Probe::Tcp => "",
        Probe::Http => ", probe: { kind: http, path: /healthz, interval: 500ms, timeout: 400ms }",
    };
    for (number, cluster) in setup.clusters.iter().enumerate() {
        let kind = if number == 0 { "idc" } else { "cloud" };
        let cost = match cluster.priced {
            true => format!(", cost: {{ per_million_requests: {USD_PER_MILLION} }}"),
            false => String::new(),
        };
        let endpoints: Vec<String> =
            cluster.endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.address)).collect();
        let (name, endpoints) = (cluster.name, endpoints.join(", "));
        writeln!(text, "  {name}: {{ kind: {kind}{cost}, endpoints: [{endpoints}]{probe} }}")
            .unwrap();
    }
    text
}

/// `least_conn` over the IDC, the clouds as `backup`; passive checks, as the open edition has no others.
fn nginx_config(setup: &Setup<'_>, address: SocketAddr, folder: &Folder) -> String {
    let at = folder.0.display();
    let mut servers = String::new();
    for (number, cluster) in setup.clusters.iter().enumerate() {
        let backup = if number == 0 { "" } else { " backup" };
        for endpoint in cluster.endpoints {
            writeln!(servers, "server {}{backup};", endpoint.address).unwrap();
        }
    }
    format!(
        "worker_processes 1; daemon off; master_process off; pid {at}/pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         keepalive_requests 1000000;\n\
         upstream shop {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://shop; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_connect_timeout 1s; proxy_read_timeout 15s; }} }} }}\n"
    )
}

/// `leastconn` with redispatch over the IDC, the clouds as `backup`, checked as often as Tidegate probes.
fn haproxy_config(setup: &Setup<'_>, address: SocketAddr) -> String {
    let mut servers = String::new();
    for (number, cluster) in setup.clusters.iter().enumerate() {
        let backup = if number == 0 { "" } else { " backup" };
        for endpoint in cluster.endpoints {
            writeln!(servers, "  server {} {}{backup}", endpoint.name, endpoint.address).unwrap();
        }
    }
    let check = match setup.probe {
        Probe::Tcp => "",
        Probe::Http => "  option httpchk GET /healthz\n",
    };
    format!(
        "global\n  nbthread 1\n  maxconn 7000\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout server 15s\n  timeout check 400ms\n\
         frontend web\n  bind {address}\n  default_backend shop\n\
         backend shop\n  balance leastconn\n  option redispatch\n  retries 3\n\
         {check}  default-server check inter 500ms fall 2 rise 2\n{servers}"
    )
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
