//! `tls.acme` of listeners: from shapes to terms, with problems and their positions.

use super::compiler::Compiler;
use super::error::{Position, Problems};
use super::file::{self, File};
use super::policies::forwarded;
use super::shape::Spanned;
use crate::decision::acme::{Acme, ChallengeKind, DOMAINS_MAX, Directory, Domain, is_domain};
use crate::decision::plan::{Address, Plan, Protocol, UpstreamTls};
use crate::decision::units::hash;
use crate::tls::client;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The directory of Let's Encrypt (https://letsencrypt.org).
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

impl Compiler<'_> {
    /// The terms of `acme`; `None` after an error.
    pub(super) fn acme(
        &mut self,
        written: &file::Acme,
        folder: &Path,
        address: &Address,
        path: &str,
    ) -> Option<Acme> {
        let path = format!("{path}.acme");
        if !cfg!(feature = "acme") {
            let message = "this build has no ACME: it needs the cargo feature `acme`";
            let hint = "build with `--features acme`, or name files in `certificates`";
            self.problems.error_with_hint(written.at, path, message, hint);
            return None;
        }
        let before = self.problems.errors();
        if !written.accept_terms.value {
            let message = "the authority issues nothing without consent to its terms of service";
            let hint = "read them, and write `accept_terms: true`";
            let at = written.accept_terms.at;
            self.problems.error_with_hint(at, format!("{path}.accept_terms"), message, hint);
        }
        let challenge = match written.challenge {
            None | Some(file::ChallengeKind::Http01) => ChallengeKind::Http01,
            Some(file::ChallengeKind::TlsAlpn01) => ChallengeKind::TlsAlpn01,
        };
        self.warn_of_port(written, challenge, address, &path);
        let state_dir = self.file.state_dir.as_ref().map(|state| folder.join(state));
        if state_dir.is_none() {
            let message = "needs `state_dir`: account and certificates must survive a restart, because authorities limit how many they issue";
            let hint = "set `state_dir: /var/lib/tidegate`";
            self.problems.error_with_hint(written.at, &path, message, hint);
        }
        let shared = state_dir.unwrap_or_default().join("acme");
        let directory = directory(written, folder, &shared, self.problems, &path);
        let email = written.email.as_ref();
        if let Some(email) = email.filter(|email| !is_email(&email.value)) {
            let message = format!("`{}` is not an address", email.value.escape_debug());
            self.problems.error(email.at, format!("{path}.email"), message);
        }
        let email = email.map(|email| email.value.clone());
        let domains = domains(written, &directory.folder, self.problems, &path);
        let acme = Acme { directory, email, challenge, domains, folder: shared };
        (self.problems.errors() == before).then_some(acme)
    }

    /// TLS-ALPN-01 comes to port 443 (RFC 8737 §3). HTTP-01 is judged when all listeners are known.
    fn warn_of_port(
        &mut self,
        written: &file::Acme,
        challenge: ChallengeKind,
        address: &Address,
        path: &str,
    ) {
        if challenge == ChallengeKind::TlsAlpn01
            && matches!(address, Address::Ip(address) if address.port() != 443)
        {
            let message = "authorities validate names by tls-alpn-01 on port 443 only";
            let hint = "listen on port 443, or forward it to this listener";
            self.problems.warning(written.at, format!("{path}.challenge"), message, hint);
        }
    }

    /// Lets the plain listeners answer HTTP-01 challenges, if a listener needs that.
    pub(super) fn answer_acme(&mut self) {
        let is_http = |acme: &Acme| acme.challenge == ChallengeKind::Http01;
        let needed = |plan: &Plan| {
            let all = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
            all.filter_map(|tls| tls.acme.as_ref()).any(is_http)
        };
        if !needed(&self.plan) {
            return;
        }
        let mut on_port_80 = false;
        for listener in self.plan.listeners.iter_mut() {
            if listener.protocol == Protocol::Http && listener.tls.is_none() {
                listener.answers_acme = true;
                on_port_80 |= matches!(listener.address, Address::Ip(ip) if ip.port() == 80);
            }
        }
        if !on_port_80 {
            warn_of_port_80(self.file, self.problems);
        }
    }
}

/// HTTP-01 comes to port 80 (RFC 8555 §8.3).
fn warn_of_port_80(file: &File, problems: &mut Problems) {
    for (name, listener) in &file.listeners.0 {
        let written = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref());
        let is_http = |acme: &&file::Acme| acme.challenge != Some(file::ChallengeKind::TlsAlpn01);
        if let Some(acme) = written.filter(is_http) {
            let path = format!("listeners.{}.tls.acme.challenge", name.value);
            let message = "authorities validate names by http-01 on port 80 only, and no listener without TLS is there";
            let hint =
                "add an http listener on port 80, forward port 80 to one, or use tls-alpn-01";
            problems.warning(acme.at, path, message, hint);
        }
    }
}

/// The directory, and the folder of what this authority issues.
fn directory(
    written: &file::Acme,
    folder: &Path,
    shared: &Path,
    problems: &mut Problems,
    path: &str,
) -> Directory {
    let url = written.directory.as_ref().map_or(LETS_ENCRYPT, |url| url.value.as_str());
    let found = forwarded(url).filter(|found| found.secure);
    if found.is_none() {
        let at = written.directory.as_ref().map_or(written.at, |url| url.at);
        let message = format!("`{}` is not a URL such as {LETS_ENCRYPT}", url.escape_debug());
        problems.error(at, format!("{path}.directory"), message);
    }
    let ca = written.ca.as_ref().map(|ca| authorities(ca, folder, problems, path));
    // Hosts are names or addresses: neither has a slash.
    let host = found.map_or(String::new(), |found| found.host.replace(':', "_"));
    let name = format!("{host}-{:08x}", hash(url.as_bytes()) >> 32);
    Directory { url: url.to_owned(), ca, folder: shared.join(name) }
}

fn authorities(
    ca: &Spanned<String>,
    folder: &Path,
    problems: &mut Problems,
    path: &str,
) -> PathBuf {
    let file = folder.join(&ca.value);
    let (server_name, client, alpn) = (None, None, Vec::new());
    let terms = UpstreamTls { server_name, ca: Some(file.clone()), client, alpn };
    if let Err(error) = client::build(&terms, 0) {
        problems.error(ca.at, format!("{path}.ca"), error);
    }
    file
}

fn domains(
    written: &file::Acme,
    folder: &Path,
    problems: &mut Problems,
    path: &str,
) -> Vec<Domain> {
    let path = format!("{path}.domains");
    let most = format!("{} names, and at most {DOMAINS_MAX} are possible", written.domains.len());
    match written.domains.len() {
        0 => problems.error(written.at, &path, "the list of names is empty: name at least one"),
        1..=DOMAINS_MAX => {}
        _ => problems.error(written.at, &path, most),
    }
    let (mut domains, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, domain) in written.domains.iter().enumerate() {
        let (name, at) = (domain.value.to_ascii_lowercase(), domain.at);
        let place = format!("{path}[{index}]");
        match fault(&name, !seen.insert(name.clone())) {
            Some((message, hint)) => wrong(problems, at, place, &name, message, hint),
            None => domains.push(Domain { file: folder.join(format!("{name}.pem")), name }),
        }
    }
    domains
}

/// What is wrong with a name, and a hint.
fn fault(name: &str, is_double: bool) -> Option<(&'static str, &'static str)> {
    if is_double {
        return Some(("is in the list twice", "remove one"));
    }
    if name.strip_prefix("*.").is_some_and(is_domain) {
        return Some((
            "a wildcard can be validated neither by http-01 nor by tls-alpn-01",
            "list each name, or get the certificate with another client and name its files in `certificates`",
        ));
    }
    (!is_domain(name)).then_some(("is not a host name", "for example `shop.example.com`"))
}

fn wrong(
    problems: &mut Problems,
    at: Position,
    place: String,
    name: &str,
    message: &str,
    hint: &str,
) {
    let message = format!("`{}`: {message}", name.escape_debug());
    problems.error_with_hint(at, place, message, hint);
}

/// Whether a text may be an email address.
fn is_email(text: &str) -> bool {
    let is_clean = text.bytes().all(|byte| byte.is_ascii_graphic() && !b",<>?&".contains(&byte));
    let parts = text.split_once('@');
    is_clean
        && parts
            .is_some_and(|(user, host)| !user.is_empty() && is_domain(&host.to_ascii_lowercase()))
}
