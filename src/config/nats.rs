//! NATS as it is written: servers and credentials, the subject of a fleet's reports, the key of a configuration.

use super::error::{Position, Problems};
use super::file::{self, File};
use super::scalar::host_and_port;
use super::secrets;
use super::shape::Spanned;
use crate::decision::fleet::Nats;
use crate::decision::nats::{BucketKey, Credentials, SERVERS_MAX, Servers};
use crate::decision::plan::UpstreamTls;
use crate::tls::client;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The default prefix of subjects.
const SUBJECT: &str = "tidegate.fleet";
/// Bytes of the prefix of subjects.
const SUBJECT_MAX: usize = 64;
/// Bytes of the name of a bucket.
const BUCKET_MAX: usize = 64;
/// Bytes of a key in a bucket.
const KEY_MAX: usize = 128;

/// The keys that every section about NATS has.
struct Written<'a> {
    at: Position,
    /// The section.
    section: &'static str,
    /// What is said about servers without TLS.
    in_clear: &'static str,
    /// What to use in a build without NATS.
    instead: &'static str,
    url: &'a Spanned<String>,
    creds_file: Option<&'a Spanned<String>>,
    ca: Option<&'a Spanned<String>>,
    ignore_discovered: Option<bool>,
}

/// Compiles `fleet.nats`, with what is wrong about it.
pub(super) fn nats(file: &File, folder: &Path, problems: &mut Problems) -> Option<Nats> {
    let written = file.fleet.as_ref()?.nats.as_ref()?;
    let servers = Written {
        at: written.at,
        section: "fleet.nats",
        in_clear: "reports can be forged on the network without TLS",
        instead: "build with `--features nats`, or use `fleet.peers`",
        url: &written.url,
        creds_file: written.creds_file.as_ref(),
        ca: written.ca.as_ref(),
        ignore_discovered: written.ignore_discovered_servers,
    };
    let servers = servers.compile(folder, problems)?;
    let subject = written.subject.as_ref();
    if let Some(subject) = subject.filter(|subject| !is_subject(&subject.value)) {
        let message = format!("`{}` is not a subject", subject.value);
        let hint = format!(
            "tokens of letters, digits, `-` and `_`, separated by dots, at most {SUBJECT_MAX}"
        );
        problems.error_with_hint(subject.at, "fleet.nats.subject", message, hint);
    }
    let subject = subject.map_or(SUBJECT, |subject| &subject.value).to_owned();
    Some(Nats { servers, subject })
}

/// Compiles the key that holds a configuration, with what is wrong about it.
pub(super) fn bucket_key(
    written: &file::ConfigSource,
    folder: &Path,
    problems: &mut Problems,
) -> Option<BucketKey> {
    let servers = Written {
        at: written.at,
        section: "config",
        in_clear: "the configuration can be forged on the network without TLS",
        instead: "build with `--features nats`, or write the configuration into this file",
        url: &written.url,
        creds_file: written.creds_file.as_ref(),
        ca: written.ca.as_ref(),
        ignore_discovered: written.ignore_discovered_servers,
    };
    let servers = servers.compile(folder, problems)?;
    let (bucket, key) = (&written.bucket, &written.key);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=BUCKET_MAX).contains(&bucket.value.len()) || !bucket.value.bytes().all(is_plain) {
        let message = format!("`{}` is not a bucket", bucket.value);
        let hint = format!("letters, digits, `-` and `_`, at most {BUCKET_MAX}");
        problems.error_with_hint(bucket.at, "config.bucket", message, hint);
    }
    let is_valid = |byte: u8| is_plain(byte) || b"/=".contains(&byte);
    let token = |token: &str| !token.is_empty() && token.bytes().all(is_valid);
    if key.value.len() > KEY_MAX || !key.value.split('.').all(token) {
        let message = format!("`{}` is not a key", key.value);
        let hint = format!(
            "tokens of letters, digits, `-`, `_`, `/` and `=`, separated by dots, at most {KEY_MAX}"
        );
        problems.error_with_hint(key.at, "config.key", message, hint);
    }
    Some(BucketKey { servers, bucket: bucket.value.clone(), key: key.value.clone() })
}

impl Written<'_> {
    /// The servers, with what is wrong about them; `None` in a build without NATS.
    fn compile(&self, folder: &Path, problems: &mut Problems) -> Option<Servers> {
        if !cfg!(feature = "nats") {
            let message = "this build has no NATS: it needs the cargo feature `nats`";
            problems.error_with_hint(self.at, self.section, message, self.instead);
            return None;
        }
        let urls = self.urls(problems);
        let creds_file = self.creds_file.map(|file| self.credentials(file, folder, problems));
        Some(Servers {
            ca: self.ca.map(|ca| self.authorities(ca, &urls, folder, problems)),
            urls,
            creds_file,
            ignore_discovered: self.ignore_discovered.unwrap_or(false),
        })
    }

    /// The path of a key in messages.
    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.section)
    }

    fn urls(&self, problems: &mut Problems) -> Vec<String> {
        let (written, key) = (self.url, self.path("url"));
        let all: Vec<&str> = written.value.split(',').map(str::trim).collect();
        if all.len() > SERVERS_MAX {
            let message = format!("{} servers, and at most {SERVERS_MAX} are allowed", all.len());
            problems.error(written.at, &key, message);
        }
        let mut in_clear = false;
        for url in &all {
            match split(url) {
                Some((secure, is_local)) => in_clear |= !secure && !is_local,
                None if url.contains('@') => {
                    let message = "credentials do not belong in the URL";
                    let file = self.path("creds_file");
                    let hint = format!("write them into a file, and name it in `{file}`");
                    problems.error_with_hint(written.at, &key, message, hint);
                }
                None => {
                    let message = format!("`{url}` is not a URL such as tls://HOST:4222");
                    problems.error(written.at, &key, message);
                }
            }
        }
        if in_clear {
            let hint = "set `tls` at the servers, and write tls://";
            problems.warning(written.at, &key, self.in_clear, hint);
        }
        all.into_iter().map(str::to_owned).collect()
    }

    fn credentials(
        &self,
        written: &Spanned<String>,
        folder: &Path,
        problems: &mut Problems,
    ) -> PathBuf {
        let key = self.path("creds_file");
        let path = folder.join(&written.value);
        match std::fs::read_to_string(&path).map(|text| Credentials::read(&text)) {
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", written.value);
                problems.error(written.at, key, message);
            }
            Ok(None) => {
                let message = format!("`{}` holds no credentials", written.value);
                let hint = "a file as `nsc` writes it, or a line with the seed of an NKey (SU...)";
                problems.error_with_hint(written.at, key, message, hint);
            }
            Ok(Some(_)) => secrets::warn_if_public(problems, &path, written, &key),
        }
        path
    }

    fn authorities(
        &self,
        ca: &Spanned<String>,
        urls: &[String],
        folder: &Path,
        problems: &mut Problems,
    ) -> PathBuf {
        let key = self.path("ca");
        let path = folder.join(&ca.value);
        if !urls.iter().any(|url| url.starts_with("tls://")) {
            let message = "is used only with a tls URL: remove it, or write tls://";
            problems.error(ca.at, key, message);
            return path;
        }
        let (server_name, client, alpn) = (None, None, Vec::new());
        let terms = UpstreamTls { server_name, ca: Some(path.clone()), client, alpn };
        if let Err(error) = client::build(&terms, 0) {
            problems.error(ca.at, key, error);
        }
        path
    }
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
