//! `tidegate healthcheck`

use super::{FAILED, admin, fail, read_config};
use crate::decision::plan::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

/// Where a proxy is asked when nothing says otherwise.
const DEFAULT: &str = "http://127.0.0.1:9901";

/// Succeeds when the proxy is ready.
pub(super) fn healthcheck(url: Option<&str>, config: Option<&Path>) -> ExitCode {
    let url = match (url, config) {
        (Some(url), _) => Ok(url.to_owned()),
        (None, Some(config)) => configured(config),
        (None, None) => Ok(DEFAULT.to_owned()),
    };
    match url.and_then(|url| admin::get(&url, "/readyz")) {
        Ok(answer) if answer.status == 200 => ExitCode::SUCCESS,
        Ok(answer) => {
            eprint!("tidegate: {}", answer.body);
            FAILED
        }
        Err(message) => fail(&message),
    }
}

/// Where the proxy of a configuration file is asked.
fn configured(path: &Path) -> Result<String, String> {
    let (text, folder) = read_config(path)?;
    let outcome = crate::config::load(&text, &folder, &|name| std::env::var(name).ok());
    let config =
        outcome.config.ok_or(format!("{} has errors: see `tidegate check`", path.display()))?;
    match config.settings.admin {
        None => Err(format!("{} has no admin API: `admin.address` is off", path.display())),
        Some(_) if config.plan.admin_tls.is_some() => {
            Err("the admin API speaks TLS: ask it by another program, such as curl".to_owned())
        }
        Some(Address::Unix(socket)) => Ok(format!("unix:{}", socket.display())),
        Some(Address::Ip(address)) => Ok(format!("http://{}", reachable(address))),
    }
}

/// An address to connect to: one that listens everywhere is reached by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
