//! The peers of a fleet: their addresses, tokens and certificate authorities.

use super::error::{Position, Problems};
use super::file::policy::LimitScope;
use super::file::{self, File};
use super::scalar::host_and_port;
use super::secrets;
use crate::decision::fleet::report::is_name;
use crate::decision::fleet::{PEERS_MAX, Peer};
use crate::decision::plan::UpstreamTls;
use crate::tls::client;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Compiles the peers and reports problems.
pub(super) fn peers(file: &File, folder: &Path, problems: &mut Problems) -> Vec<Peer> {
    let Some(fleet) = &file.fleet else { return Vec::new() };
    let peers = fleet.peers.as_deref().unwrap_or_default();
    if peers.len() > PEERS_MAX {
        let message =
            format!("there are {} peers, and at most {PEERS_MAX} are allowed", peers.len());
        let hint = "list all proxies of this site, and two of each other site";
        problems.error_with_hint(fleet.at, "fleet.peers", message, hint);
    }
    let mut all: Vec<Peer> = Vec::with_capacity(peers.len());
    for (index, written) in peers.iter().enumerate() {
        let path = format!("fleet.peers[{index}]");
        let Some(peer) = peer(written, folder, &path, problems) else { continue };
        if all.iter().any(|known| (&known.host, known.port) == (&peer.host, peer.port)) {
            let message = format!("`{}` is listed twice", peer.url);
            problems.error(written.url.at, format!("{path}.url"), message);
        }
        all.push(peer);
    }
    all
}

/// The file with the token that permits fleet reports alone. `admin` is the file with the token for everything.
pub(super) fn token_file(
    file: &File,
    folder: &Path,
    admin: Option<&Path>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    let written = file.fleet.as_ref()?.token_file.as_ref()?;
    let path = secrets::token_file(problems, folder, written, "fleet.token_file");
    let token = |path: &Path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let same = token(&path).filter(|text| !text.is_empty());
    if same.is_some() && same == admin.and_then(token) {
        let message = "is the token of `admin.token_file`, which permits changes";
        problems.warning(written.at, "fleet.token_file", message, "write another token");
    }
    Some(path)
}

/// Whether proxies publish reports on NATS.
pub(super) fn has_bus(file: &File) -> bool {
    file.fleet.as_ref().is_some_and(|fleet| fleet.nats.is_some())
}

/// Warns of limits of the site without a second proxy of the site.
fn check_divided(file: &File, members: u32, problems: &mut Problems) {
    // The proxies on NATS are not known from the configuration.
    if members > 1 || has_bus(file) {
        return;
    }
    let named = file.services.0.iter().map(|(name, service)| {
        let path = format!("services.{}", name.value);
        (path, service.at, &service.rate_limit, service.concurrency_scope)
    });
    let listed = file.routes.iter().flatten().enumerate().map(|(index, route)| {
        (format!("routes[{index}]"), route.at, &route.rate_limit, route.concurrency_scope)
    });
    for (path, at, rate, concurrency) in named.chain(listed) {
        let rate = rate.as_ref().and_then(|rate| Some((rate.at, "rate_limit.scope", rate.scope?)));
        let concurrency = concurrency.map(|scope| (at, "concurrency_scope", scope));
        for (at, key, scope) in rate.into_iter().chain(concurrency) {
            if scope == LimitScope::Site {
                let message = "`fleet` names no other proxy of this site: the limit is not divided";
                let hint = "list all proxies of this site in `fleet.peers`";
                problems.warning(at, format!("{path}.{key}"), message, hint);
            }
        }
    }
}

/// Checks shared ceilings, lines, budgets and limits without a second proxy of the site.
pub(super) fn check_shared(file: &File, members: u32, problems: &mut Problems) {
    check_divided(file, members, problems);
    for (name, service) in &file.services.0 {
        let Some(budget) = &service.budget else { continue };
        if members < 2 && budget.shared_by == Some(file::BudgetSharedBy::Fleet) {
            let path = format!("services.{}.budget.shared_by", name.value);
            not_shared(file, budget.at, path, "budget", problems);
        }
    }
    for (name, group) in file.capacity_groups.iter().flat_map(|groups| &groups.0) {
        if group.shared_by != Some(file::SharedBy::Fleet) {
            continue;
        }
        let path = format!("capacity_groups.{}.shared_by", name.value);
        let each = u64::from(members);
        if members < 2 {
            not_shared(file, group.at, path, "line", problems);
        } else if group.concurrent.as_ref().is_some_and(|most| most.0 < each) {
            let message = format!(
                "each of {members} proxies has a part of at least 1: the sum exceeds the line"
            );
            problems.warning(group.at, path, message, "raise `concurrent`");
        }
    }
    for (name, cluster) in &file.clusters.0 {
        let Some(capacity) = &cluster.capacity else { continue };
        if capacity.shared_by != Some(file::SharedBy::Fleet) {
            continue;
        }
        let path = format!("clusters.{}.capacity.shared_by", name.value);
        if capacity.mode == Some(file::CapacityMode::Hint) {
            problems.error(
                capacity.at,
                path,
                "has no effect with `mode: hint`: a hint limits nothing",
            );
        } else if members < 2 {
            not_shared(file, capacity.at, path, "ceiling", problems);
        } else if capacity.concurrent.0 < u64::from(members) {
            let message = format!(
                "each of {members} proxies has a part of at least 1: the sum exceeds the ceiling"
            );
            problems.warning(capacity.at, path, message, "raise `concurrent`");
        }
    }
}

fn peer(written: &file::Peer, folder: &Path, path: &str, problems: &mut Problems) -> Option<Peer> {
    if !is_name(&written.site.value) {
        let hint = "letters, digits, `-`, `_` and `.`, at most 128";
        let message = format!("`{}` is not a valid name of a site", written.site.value);
        problems.error_with_hint(written.site.at, format!("{path}.site"), message, hint);
    }
    let url = &written.url.value;
    let Some((secure, host, port)) = split(url) else {
        let message = format!("`{url}` is not a URL such as https://HOST:PORT, without a path");
        problems.error(written.url.at, format!("{path}.url"), message);
        return None;
    };
    let token_file = written.token_file.as_ref().map(|token| {
        let file = secrets::token_file(problems, folder, token, &format!("{path}.token_file"));
        let is_local =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !secure && !is_local {
            let message = "the token would be sent in plain text";
            let hint = "set `admin.tls` at the peer, and write https://";
            problems.warning(written.url.at, format!("{path}.url"), message, hint);
        }
        file
    });
    let ca = written.ca.as_ref().map(|ca| {
        let (key, file) = (format!("{path}.ca"), folder.join(&ca.value));
        if !secure {
            let message = "is used only with an https URL: remove it, or write https://";
            problems.error(ca.at, key, message);
            return file;
        }
        let (server_name, client, alpn) = (None, None, Vec::new());
        let terms = UpstreamTls { server_name, ca: Some(file.clone()), client, alpn };
        if let Err(error) = client::build(&terms, 0) {
            problems.error(ca.at, key, error);
        }
        file
    });
    let (site, url) = (written.site.value.clone(), url.clone());
    Some(Peer { site, url, secure, host, port, token_file, ca })
}

/// Scheme, host without brackets, and port of a URL.
pub(super) fn split(url: &str) -> Option<(bool, String, u16)> {
    let (secure, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return Some((secure, address.ip().to_string(), address.port()))
            .filter(|(.., port)| *port > 0);
    }
    let (host, port) = host_and_port(authority).ok()?;
    Some((secure, host, port))
}

/// Something that is to be shared while `fleet.peers` has no other proxy of the site. With NATS there are others, and each
/// would use the whole: an error. Without, this is the only proxy as far as the file knows.
fn not_shared(file: &File, at: Position, path: String, what: &str, problems: &mut Problems) {
    let hint = "list all proxies of this site in `fleet.peers`";
    let none = "`fleet.peers` lists no proxy of this site";
    if has_bus(file) {
        let message = format!("{none}: each proxy on `fleet.nats` would use the whole {what}");
        problems.error_with_hint(at, path, message, hint);
    } else {
        problems.warning(at, path, format!("{none}: the {what} is not shared"), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_url_names_host_and_port() {
        let named =
            |url: &str| split(url).map(|(secure, host, port)| format!("{secure} {host} {port}"));
        for (url, expected) in [
            ("https://gw-1.idc:9901", Some("true gw-1.idc 9901")),
            ("http://127.0.0.1:9901/", Some("false 127.0.0.1 9901")),
            ("https://[::1]:9901", Some("true ::1 9901")),
            ("https://gw-1.idc", None),
            ("https://gw:0", None),
            ("https://10.0.0.1:0", None),
            ("https://a/b:1", None),
            ("https://user@a:1", None),
            ("ftp://a:1", None),
            ("gw:9901", None),
            ("", None),
        ] {
            assert_eq!(named(url).as_deref(), expected, "{url}");
        }
    }
}
