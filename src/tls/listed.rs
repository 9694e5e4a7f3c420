//! Certificates that are listed as authorities and shown by an endpoint itself.
//!
//! A self-signed certificate is often made with `CA:TRUE` (it is what `openssl req -x509` does) and given as `ca`
//! to who connects. webpki refuses it as the certificate of a server, curl and OpenSSL accept it: whoever proves to
//! hold the key of a certificate that the operator listed is who the operator means. Its names, dates and
//! usage still count.

use super::certificate;
use super::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Verifies servers by the authorities of a file, and by its certificates themselves.
#[derive(Debug)]
pub(super) struct Listed {
    by_authority: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Listed {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Listed, String> {
        let verifier = Listed::by(Arc::new(certificate::authorities(path)?));
        let verifier = verifier.map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(Listed { listed: certificate::chain(path)?, ..verifier })
    }

    /// Verifies by authorities alone.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn by(roots: Arc<RootCertStore>) -> Result<Listed, String> {
        let by_authority = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let by_authority = by_authority.map_err(|error| error.to_string())?;
        Ok(Listed { by_authority, listed: Vec::new() })
    }
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by_authority = self.by_authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        by_authority.or_else(|error| match self.listed.iter().any(|listed| listed == end_entity) {
            true => {
                is_valid_now(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            // webpki says first that it is an authority; what matters is that nobody vouches for it.
            false if is_self_issued(end_entity) => Err(CertificateError::UnknownIssuer.into()),
            false => Err(error),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.issuer() == parsed.subject())
}

/// Whether a certificate is for servers and valid at this date.
fn is_valid_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    let usage = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    match usage {
        Some(usage) if !usage.value.any && !usage.value.server_auth => {
            Err(CertificateError::InvalidPurpose.into())
        }
        Some(_) | None => Ok(()),
    }
}
