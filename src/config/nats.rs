//! The NATS cluster of a fleet: servers, subject and credentials.

use super::error::Problems;
use super::file::{self, File};
use super::scalar::host_and_port;
use super::secrets;
use super::shape::Spanned;
use crate::decision::fleet::{Credentials, Nats, SERVERS_MAX};
use crate::decision::plan::UpstreamTls;
use crate::tls::client;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The default prefix of subjects.
const SUBJECT: &str = "tidegate.fleet";
/// Bytes of the prefix of subjects.
const SUBJECT_MAX: usize = 64;

/// Compiles `fleet.nats`, with what is wrong about it.
pub(super) fn nats(file: &File, folder: &Path, problems: &mut Problems) -> Option<Nats> {
    let written = file.fleet.as_ref()?.nats.as_ref()?;
    if !cfg!(feature = "nats") {
        let message = "this build has no NATS: it needs the cargo feature `nats`";
        let hint = "build with `--features nats`, or use `fleet.peers`";
        problems.error_with_hint(written.at, "fleet.nats", message, hint);
        return None;
    }
    let servers = servers(&written.url, problems);
    let subject = written.subject.as_ref();
    if let Some(subject) = subject.filter(|subject| !is_subject(&subject.value)) {
        let message = format!("`{}` is not a subject", subject.value);
        let hint = format!(
            "tokens of letters, digits, `-` and `_`, separated by dots, at most {SUBJECT_MAX}"
        );
        problems.error_with_hint(subject.at, "fleet.nats.subject", message, hint);
    }
    let creds_file = written.creds_file.as_ref().map(|file| credentials(file, folder, problems));
    Some(Nats {
        ca: authorities(written, &servers, folder, problems),
        servers,
        subject: subject.map_or(SUBJECT, |subject| &subject.value).to_owned(),
        creds_file,
        ignore_discovered_servers: written.ignore_discovered_servers.unwrap_or(false),
    })
}

fn servers(written: &Spanned<String>, problems: &mut Problems) -> Vec<String> {
    const KEY: &str = "fleet.nats.url";
    let all: Vec<&str> = written.value.split(',').map(str::trim).collect();
    if all.len() > SERVERS_MAX {
        let message = format!("{} servers, and at most {SERVERS_MAX} are allowed", all.len());
        problems.error(written.at, KEY, message);
    }
    let mut in_clear = false;
    for url in &all {
        match split(url) {
            Some((secure, is_local)) => in_clear |= !secure && !is_local,
            None if url.contains('@') => {
                let message = "credentials do not belong in the URL";
                let hint = "write them into a file, and name it in `fleet.nats.creds_file`";
                problems.error_with_hint(written.at, KEY, message, hint);
            }
            None => {
                let message = format!("`{url}` is not a URL such as tls://HOST:4222");
                problems.error(written.at, KEY, message);
            }
        }
    }
    if in_clear {
        let message = "reports can be forged on the network without TLS";
        problems.warning(written.at, KEY, message, "set `tls` at the servers, and write tls://");
    }
    all.into_iter().map(str::to_owned).collect()
}

/// Whether a URL asks for TLS, and whether its server is on this machine.
fn split(url: &str) -> Option<(bool, bool)> {
    let (secure, authority) = match url.strip_prefix("tls://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("nats://")?),
    };
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return (address.port() > 0).then_some((secure, address.ip().is_loopback()));
    }
    let (host, _) = host_and_port(authority).ok()?;
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Some((secure, is_local))
}

fn is_subject(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let token = |token: &str| !token.is_empty() && token.bytes().all(valid);
    text.len() <= SUBJECT_MAX && text.split('.').all(token)
}

fn credentials(written: &Spanned<String>, folder: &Path, problems: &mut Problems) -> PathBuf {
    const KEY: &str = "fleet.nats.creds_file";
    let path = folder.join(&written.value);
    match std::fs::read_to_string(&path).map(|text| Credentials::read(&text)) {
        Err(error) => {
            problems.error(written.at, KEY, format!("cannot read `{}`: {error}", written.value));
        }
        Ok(None) => {
            let message = format!("`{}` holds no credentials", written.value);
            let hint = "a file as `nsc` writes it, or a line with the seed of an NKey (SU...)";
            problems.error_with_hint(written.at, KEY, message, hint);
        }
        Ok(Some(_)) => secrets::warn_if_public(problems, &path, written, KEY),
    }
    path
}

fn authorities(
    written: &file::Nats,
    servers: &[String],
    folder: &Path,
    problems: &mut Problems,
) -> Option<PathBuf> {
    const KEY: &str = "fleet.nats.ca";
    let ca = written.ca.as_ref()?;
    let path = folder.join(&ca.value);
    if !servers.iter().any(|url| url.starts_with("tls://")) {
        problems.error(ca.at, KEY, "is used only with a tls URL: remove it, or write tls://");
        return Some(path);
    }
    let (server_name, client, alpn) = (None, None, Vec::new());
    let terms = UpstreamTls { server_name, ca: Some(path.clone()), client, alpn };
    if let Err(error) = client::build(&terms, 0) {
        problems.error(ca.at, KEY, error);
    }
    Some(path)
}
