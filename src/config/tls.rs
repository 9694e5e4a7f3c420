//! TLS of listeners and clusters: from shapes to terms and TLS configurations, with problems and their positions.

use super::compiler::Compiler;
use super::error::{Position, Problem};
use super::file;
use super::secrets;
use super::shape::Spanned;
use crate::decision::listener::LeastTls;
use crate::decision::plan::{Address, KeyPair, ListenerTls, Source, UpstreamTls};
use crate::tls::client::{self, Upstream};
use crate::tls::server::{self, Secured};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time before a certificate's expiry from which the check warns.
const SOON: Duration = Duration::from_secs(14 * 86_400);

impl Compiler<'_> {
    /// A listener's terms and TLS configuration.
    pub(super) fn listener_tls(
        &mut self,
        written: &file::ListenerTls,
        (address, is_http): (&Address, bool),
        folder: &Path,
        path: &str,
    ) -> (ListenerTls, Option<Secured>) {
        let path = format!("{path}.tls");
        let certificates = written.certificates.as_deref().unwrap_or_default();
        if certificates.is_empty() && written.acme.is_none() {
            let message =
                "there is no certificate: name files in `certificates`, or names in `acme`";
            let problem = Problem::error(written.at, format!("{path}.certificates"), message);
            self.problems.lacking(&path, &["certificates", "acme"], problem);
        }
        let before = self.problems.errors();
        let acme = written.acme.as_ref();
        let acme = acme.and_then(|acme| self.acme(acme, folder, address, &path));
        let pair = |files: &file::CertificateFiles| KeyPair {
            cert: folder.join(&files.cert.value),
            key: folder.join(&files.key.value),
        };
        let default: &[file::Alpn] = match is_http {
            true => &[file::Alpn::Http2, file::Alpn::Http1],
            // An L4 listener negotiates no protocol.
            false => &[],
        };
        let alpn = written.alpn.as_deref().unwrap_or(default);
        let http3 = alpn.contains(&file::Alpn::Http3);
        let by_stream = alpn.iter().filter(|protocol| **protocol != file::Alpn::Http3);
        let terms = ListenerTls {
            certificates: certificates.iter().map(pair).collect(),
            acme,
            client_ca: written.client_ca.as_ref().map(|file| folder.join(&file.value)),
            least_tls: match written.min_version {
                Some(file::TlsVersion::Tls13) => LeastTls::Tls13,
                _ => LeastTls::Tls12,
            },
            alpn: by_stream.map(|protocol| protocol.name().to_owned()).collect(),
            http3,
        };
        self.check_http3(written, &terms, is_http, &path);
        for (index, files) in certificates.iter().enumerate() {
            let pair = &terms.certificates[index];
            let path = format!("{path}.certificates[{index}]");
            secrets::warn_if_public(self.problems, &pair.key, &files.key, &format!("{path}.key"));
            match crate::tls::certificate::load(&pair.cert, &pair.key) {
                Ok(certificate) => self.warn_of_expiry(files, &certificate, &path),
                Err(problem) => self.problems.error(files.at, path, problem),
            }
        }
        if let (Some(written), Some(file)) = (&written.client_ca, &terms.client_ca)
            && let Err(problem) = crate::tls::certificate::authorities(file)
        {
            self.problems.error(written.at, format!("{path}.client_ca"), problem);
        }
        if self.problems.errors() > before || terms.certificates.is_empty() && terms.acme.is_none()
        {
            return (terms, None);
        }
        let built = server::build(&terms);
        let built = built.map_err(|problem| self.problems.error(written.at, path, problem));
        (terms, built.ok())
    }

    fn check_http3(
        &mut self,
        written: &file::ListenerTls,
        terms: &ListenerTls,
        is_http: bool,
        path: &str,
    ) {
        let message = match terms.http3 {
            false => return,
            true if !cfg!(feature = "http3") => {
                "this build has no HTTP/3: it needs the cargo feature `http3`"
            }
            true if !is_http => "only an http listener can have HTTP/3",
            true if terms.alpn.is_empty() => {
                "h3 needs h2 or http/1.1 in addition: clients learn of HTTP/3 from a response over TCP"
            }
            true => return,
        };
        self.problems.error(written.at, format!("{path}.alpn"), message);
    }

    fn warn_of_expiry(
        &mut self,
        files: &file::CertificateFiles,
        certificate: &crate::tls::certificate::Certificate,
        path: &str,
    ) {
        let left = certificate.expires - seconds_now();
        let name = &files.cert.value;
        let message = match left {
            ..0 => format!("the certificate in `{name}` has expired"),
            _ if left < SOON.as_secs() as i64 => {
                format!("the certificate in `{name}` expires in {} days", left / 86_400)
            }
            _ if certificate.begins > seconds_now() => {
                format!("the certificate in `{name}` is not valid yet")
            }
            _ => return,
        };
        self.problems.warning(
            files.at,
            path,
            message,
            "replace the file: it is watched and loaded without a restart",
        );
    }

    /// The TLS configuration of the admin API.
    pub(super) fn admin_tls(&mut self, folder: &Path) {
        let Some(written) = self.file.admin.as_ref().and_then(|admin| admin.tls.as_ref()) else {
            return;
        };
        let file::CertificateFiles { at, cert, key } = written;
        let terms = one_certificate((cert, key, None), "http/1.1", folder);
        self.tls.admin = self.secured(&terms, (key, *at), "admin.tls");
        self.plan.admin_tls = Some(terms);
    }

    /// The terms and TLS configuration of the external scaler.
    pub(super) fn scaler_tls(&mut self, folder: &Path) {
        let Some(scaling) = &self.file.scaling else { return };
        let Some(written) = &scaling.tls else { return };
        if scaling.address.is_none() {
            let (message, hint) =
                ("has no effect without `scaling.address`", "set the address, or remove `tls`");
            self.problems.error_with_hint(written.at, "scaling.tls", message, hint);
        }
        let file::ScalerTls { at, cert, key, client_ca } = written;
        let terms = one_certificate((cert, key, client_ca.as_ref()), "h2", folder);
        self.tls.scaler = self.secured(&terms, (key, *at), "scaling.tls");
        self.plan.scaler_tls = Some(terms);
    }

    /// The TLS configuration of terms with one certificate, with what is wrong about its files.
    fn secured(
        &mut self,
        terms: &ListenerTls,
        (key, at): (&Spanned<String>, Position),
        path: &str,
    ) -> Option<Secured> {
        for pair in &terms.certificates {
            secrets::warn_if_public(self.problems, &pair.key, key, &format!("{path}.key"));
        }
        server::build(terms).map_err(|problem| self.problems.error(at, path, problem)).ok()
    }

    /// A cluster's terms and TLS configuration.
    pub(super) fn upstream_tls(
        &mut self,
        written: &file::UpstreamTls,
        protocol: Option<file::ClusterProtocol>,
        source: &Source,
        folder: &Path,
        path: &str,
    ) -> (UpstreamTls, Option<Upstream>) {
        let path = format!("{path}.tls");
        let resolve = |file: &Spanned<String>| folder.join(&file.value);
        let client = match (&written.client_cert, &written.client_key) {
            (Some(cert), Some(key)) => {
                let at = resolve(key);
                secrets::warn_if_public(self.problems, &at, key, &format!("{path}.client_key"));
                Some(KeyPair { cert: resolve(cert), key: at })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let message = "`client_cert` and `client_key` must both be set";
                self.problems.error(written.at, &path, message);
                None
            }
        };
        let system = |file: &&Spanned<String>| file.value != "system";
        let discovered = source.host().map(str::to_owned);
        let alpn: &[&str] = match protocol {
            Some(file::ClusterProtocol::Http1) => &["http/1.1"],
            Some(file::ClusterProtocol::Http2) => &["h2"],
            Some(file::ClusterProtocol::Auto) | None => &["h2", "http/1.1"],
        };
        let terms = UpstreamTls {
            server_name: written.server_name.clone().or(discovered),
            ca: written.ca.as_ref().filter(system).map(resolve),
            client,
            alpn: alpn.iter().map(|&name| name.to_owned()).collect(),
        };
        let id = crate::tls::store::id(&terms);
        let built = client::build(&terms, id);
        let built = built.map_err(|problem| self.problems.error(written.at, path, problem));
        (terms, built.ok())
    }
}

/// The terms of a socket beside the listeners: one certificate, one protocol, and perhaps client certificates.
fn one_certificate(
    (cert, key, client_ca): (&Spanned<String>, &Spanned<String>, Option<&Spanned<String>>),
    alpn: &str,
    folder: &Path,
) -> ListenerTls {
    let resolve = |file: &Spanned<String>| folder.join(&file.value);
    ListenerTls {
        certificates: vec![KeyPair { cert: resolve(cert), key: resolve(key) }],
        acme: None,
        client_ca: client_ca.map(resolve),
        least_tls: LeastTls::Tls12,
        alpn: vec![alpn.to_owned()],
        http3: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "the check of the expiry needs the date")]
fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
