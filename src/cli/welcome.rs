//! What a person in a terminal reads when the proxy starts, and what to do without a configuration.

use crate::decision::plan::{Address, Plan, Protocol};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The name of a first configuration file, in the messages.
pub(super) const FIRST_FILE: &str = "tidegate.yaml";

/// What to do when no configuration file was named, or the named file does not exist.
pub(super) fn without_a_file(why: &str) -> String {
    format!(
        "{why}\n\
         \x20 see it work first:  tidegate demo\n\
         \x20 write a first one:  tidegate init --backend idc=10.0.0.11:8080 --backend cloud=https://app.example.com \
         --output {FIRST_FILE}\n\
         \x20 then run it:        tidegate run --config {FIRST_FILE}     (TIDEGATE_CONFIG names the file, too)"
    )
}

/// What listens where, and what to try: for a person, at the start in a terminal.
pub(super) fn welcome(
    plan: &Plan,
    listeners: &BTreeMap<String, Address>,
    admin: Option<&Address>,
    config: &Path,
) -> String {
    let mut text = format!("\nTidegate {} is ready.\n", env!("CARGO_PKG_VERSION"));
    let width = listeners.keys().map(String::len).chain([9]).max().unwrap_or(9);
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<width$}  {value}");
    };
    let mut urls = Vec::new();
    for (name, address) in listeners {
        let url = plan.listeners.iter().find(|known| known.name == *name).and_then(|listener| {
            let Address::Ip(ip) = address else { return None };
            let is_http = listener.protocol == Protocol::Http;
            is_http.then(|| url(*ip, listener.tls.is_some()))
        });
        line(name, &url.clone().unwrap_or_else(|| address.to_string()));
        urls.extend(url);
    }
    let admin = admin.map(|admin| match admin {
        Address::Ip(ip) => url(*ip, plan.admin_tls.is_some()),
        Address::Unix(path) => format!("unix:{}", path.display()),
    });
    if let Some(admin) = &admin {
        line("dashboard", admin);
    }
    let mut tries = Vec::new();
    tries.extend(urls.first().map(|url| format!("curl -i {url}")));
    tries.extend(admin.map(|admin| format!("tidegate clusters --admin {admin}")));
    if config != Path::new("-") {
        tries.push(format!("tidegate explain --config {} --path /", config.display()));
    }
    for (index, what) in tries.iter().enumerate() {
        line(if index == 0 { "try" } else { "" }, what);
    }
    text
}

fn url(address: SocketAddr, secure: bool) -> String {
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}", reachable(address))
}

/// The address to connect to: a wildcard address is reached by loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
