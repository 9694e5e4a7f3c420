//! A client's certificate as text for the cluster: an element of `X-Forwarded-Client-Cert`, as Envoy writes it.
//!
//! `Hash=SHA256;Subject="CN=...";URI=...;DNS=...`: the fingerprint of the certificate, its subject (RFC 4514 §2, the order
//! of the certificate), and each of its alternative names of these two kinds. Values with `,`, `;`, `=` or `"` are quoted.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The length of an element, in bytes, at most; a longer one has the fingerprint alone. Clusters limit the size of a head.
const ELEMENT_MAX: usize = 4096;

/// The fingerprint of a certificate (SHA-256, in hexadecimal digits), and its subject (RFC 4514 §2, the order of the
/// certificate), empty if it cannot be read.
#[must_use]
pub fn identity(certificate: &CertificateDer<'_>) -> (String, String) {
    let read = X509Certificate::from_der(certificate);
    let subject = read.map_or(String::new(), |(_, read)| read.subject().to_string());
    (fingerprint(certificate), subject)
}

/// The element for a verified certificate.
#[must_use]
pub fn element(certificate: &CertificateDer<'_>) -> String {
    let hash = format!("Hash={}", fingerprint(certificate));
    let Ok((_, read)) = X509Certificate::from_der(certificate) else { return hash };
    let mut text = format!("{hash};Subject={}", quoted(&read.subject().to_string(), true));
    if let Ok(Some(alternatives)) = read.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            let (key, value) = match name {
                GeneralName::URI(uri) => ("URI", uri),
                GeneralName::DNSName(name) => ("DNS", name),
                _ => continue,
            };
            // Writing to a string cannot fail.
            let _ = write!(text, ";{key}={}", quoted(value, false));
        }
    }
    if text.len() > ELEMENT_MAX { hash } else { text }
}

/// The SHA-256 of the certificate in hexadecimal digits.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, certificate).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A value, in quotes where a separator occurs in it. Bytes that no field value may have become question marks.
fn quoted(value: &str, always: bool) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let value: String = value.chars().map(printable).collect();
    match always || value.contains([',', ';', '=', '"', ' ']) {
        true => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_separators_are_quoted_and_control_characters_replaced() {
        for (value, expected) in [
            ("spiffe://a/b", "spiffe://a/b"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\\\"b\""),
            ("a\\b;", "\"a\\\\b;\""),
            ("a\r\nx: y", "\"a??x: y\""),
            ("größe", "gr??e"),
        ] {
            assert_eq!(quoted(value, false), expected);
        }
        assert_eq!(quoted("CN", true), "\"CN\"");
    }

    #[test]
    fn bytes_that_are_no_certificate_have_a_fingerprint_alone() {
        let none = CertificateDer::from(b"abc".as_slice());
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(element(&none), format!("Hash={hash}"));
    }
}
