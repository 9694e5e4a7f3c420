//! Certificates and keys from their files, and what can be wrong with them.

use super::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// A certificate with its key, ready to be shown.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// For rustls.
    pub key: Arc<CertifiedKey>,
    /// Names it is for: exact, or with `*` as the first label; in lower case.
    pub names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub expires: i64,
    /// From when on it is valid, likewise.
    pub begins: i64,
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// What is wrong, as an operator would put it.
pub fn load(cert: &Path, key: &Path) -> Result<Certificate, String> {
    let chain = chain(cert)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("cannot read a private key from `{}`: {error}", key.display()))?;
    let signing = provider()
        .key_provider
        .load_private_key(private)
        .map_err(|error| format!("the key in `{}` is not supported: {error}", key.display()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(_) => {
            let (key, cert) = (key.display(), cert.display());
            return Err(format!("the key in `{key}` does not match the certificate in `{cert}`"));
        }
    }
    let leaf = certified.cert.first().ok_or("the chain is empty")?;
    let (names, begins, expires) = read_leaf(leaf)
        .ok_or_else(|| format!("`{}` does not hold an X.509 certificate", cert.display()))?;
    Ok(Certificate { key: Arc::new(certified), names, expires, begins })
}

/// Reads a chain, the leaf first.
///
/// # Errors
/// Likewise.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let read = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    let chain: Vec<CertificateDer<'static>> =
        read.collect::<Result<_, _>>().map_err(|error| format!("`{shown}`: {error}"))?;
    if chain.is_empty() {
        return Err(format!("there is no certificate in `{shown}`"));
    }
    Ok(chain)
}

/// Reads authorities from a file.
///
/// # Errors
/// Likewise.
pub fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| format!("`{}`: {error}", path.display()))?;
    }
    Ok(roots)
}

/// Names, and the span in which it is valid.
fn read_leaf(leaf: &CertificateDer<'_>) -> Option<(Vec<String>, i64, i64)> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    let validity = certificate.validity();
    Some((names, validity.not_before.timestamp(), validity.not_after.timestamp()))
}
