//! Certificates and keys from files, with errors that say how to repair a file.

use super::provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// A certificate with its key, ready for handshakes.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// For rustls.
    pub key: Arc<CertifiedKey>,
    /// Names in the certificate, in lower case; a wildcard has `*` as its first label.
    pub names: Vec<String>,
    /// When the certificate expires, in seconds since 1970.
    pub expires: i64,
    /// When its validity begins, in seconds since 1970.
    pub begins: i64,
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// The problem, and how to repair it.
pub fn load(cert: &Path, key: &Path) -> Result<Certificate, String> {
    let chain = chain(cert)?;
    let signing = provider()
        .key_provider
        .load_private_key(private_key(key)?)
        .map_err(|error| format!("the key in `{}` is not supported: {error}", key.display()))?;
    let leaf = chain.first().ok_or("the chain is empty")?;
    let (names, begins, expires) = read_leaf(leaf, &cert.display().to_string())?;
    let matches = |certificate: &CertificateDer<'static>| {
        let alone = CertifiedKey::new(vec![certificate.clone()], signing.clone());
        let verdict = alone.keys_match();
        matches!(verdict, Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)))
    };
    if !matches(leaf) {
        let (key, cert) = (key.display(), cert.display());
        return Err(match chain.iter().position(matches) {
            Some(index) => format!(
                "the chain in `{cert}` is in the wrong order: the certificate that belongs to the key is \
                 number {} in it, and must come first, each issuer after what it signed",
                index + 1
            ),
            None => format!("the key in `{key}` does not match the certificate in `{cert}`"),
        });
    }
    let key = Arc::new(CertifiedKey::new(chain, signing));
    Ok(Certificate { key, names, expires, begins })
}

/// Reads a private key.
///
/// # Errors
/// The problem, and how to repair it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let (bytes, shown) = (pem(path)?, path.display());
    if contains(&bytes, "BEGIN ENCRYPTED PRIVATE KEY") || contains(&bytes, "Proc-Type: 4,ENCRYPTED")
    {
        return Err(format!(
            "the private key in `{shown}` is encrypted, and no passphrase can be given: decrypt it by \
             `openssl pkey -in {shown} -out NEW`"
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound if contains(&bytes, "BEGIN CERTIFICATE") => {
                "it holds a certificate and no key".to_owned()
            }
            pem::Error::NoItemsFound => "it holds no key in PEM".to_owned(),
            error => error.to_string(),
        };
        format!("cannot read a private key from `{shown}`: {why}")
    })
}

/// Reads a chain, the leaf first.
///
/// # Errors
/// The problem, and how to repair it.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let (bytes, shown) = (pem(path)?, path.display());
    let read = CertificateDer::pem_slice_iter(&bytes);
    let chain: Vec<CertificateDer<'static>> =
        read.collect::<Result<_, _>>().map_err(|error| format!("`{shown}`: {error}"))?;
    match chain.is_empty() {
        false => Ok(chain),
        true if contains(&bytes, "PRIVATE KEY-----") => {
            Err(format!("there is no certificate in `{shown}`: it holds a private key"))
        }
        true => Err(format!("there is no certificate in `{shown}`")),
    }
}

/// Reads certificate authorities from a file.
///
/// # Errors
/// The problem, and how to repair it.
pub fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| format!("`{}`: {error}", path.display()))?;
    }
    Ok(roots)
}

/// The bytes of a PEM file. Encodings that a PEM parser silently ignores are reported by name.
fn pem(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    let why = match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => {
            "begins with a byte order mark (BOM): save it as UTF-8 without BOM"
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "is UTF-16 text: save it as UTF-8 without BOM",
        [0x30, ..] => {
            "is DER: convert it to PEM, by `openssl x509` or `openssl pkey` with `-inform der`"
        }
        _ => return Ok(bytes),
    };
    Err(format!("`{shown}` {why}"))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// The names of a certificate and its period of validity.
fn read_leaf(leaf: &CertificateDer<'_>, shown: &str) -> Result<(Vec<String>, i64, i64), String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};
    let (_, certificate) = X509Certificate::from_der(leaf)
        .map_err(|_| format!("`{shown}` does not hold an X.509 certificate"))?;
    if certificate.version() != X509Version::V3 {
        return Err(format!(
            "`{shown}` holds an X.509 v1 certificate, which TLS libraries refuse: issue it as v3, with its \
             names as `subjectAltName` (`openssl x509 -req ... -extfile FILE`)"
        ));
    }
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    let validity = certificate.validity();
    Ok((names, validity.not_before.timestamp(), validity.not_after.timestamp()))
}
