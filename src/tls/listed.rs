//! Verification of peers whose own certificate is listed as an authority.
//!
//! A self-signed certificate is often made with `CA:TRUE` (the default of `openssl req -x509`) and configured as `ca`
//! of the connecting side or `client_ca` of the listening side. webpki rejects such a certificate of a peer; curl,
//! nginx and OpenSSL accept it, because only the intended peer has the key of a listed certificate. Validity, key
//! usages and a server's names are still checked.

use super::certificate;
use super::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The methods that both verifier traits share: signatures are checked by the verifier of the authorities.
macro_rules! delegate_signatures {
    () => {
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
    };
}

/// Verifies servers by the authorities of a file, and by the listed certificates themselves.
#[derive(Debug)]
pub(super) struct Listed {
    by_authority: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Listed {
    /// Reads the file of authorities.
    ///
    /// # Errors
    /// The reason why the file is invalid.
    pub(super) fn read(path: &Path) -> Result<Listed, String> {
        let verifier = Listed::by(Arc::new(certificate::authorities(path)?));
        let verifier = verifier.map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(Listed { listed: certificate::chain(path)?, ..verifier })
    }

    /// Verifies by authorities alone.
    ///
    /// # Errors
    /// When there is no authority.
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
        by_authority.or_else(|error| {
            by_itself(&self.listed, end_entity, now, |usage| usage.server_auth, error)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            Ok(ServerCertVerified::assertion())
        })
    }

    delegate_signatures!();
}

/// Verifies clients by the authorities of a file, and by the listed certificates themselves. A certificate is required.
#[derive(Debug)]
pub(super) struct ListedClients {
    by_authority: Arc<dyn ClientCertVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl ListedClients {
    /// Reads the file of authorities.
    ///
    /// # Errors
    /// The reason why the file is invalid.
    pub(super) fn read(path: &Path) -> Result<ListedClients, String> {
        let roots = Arc::new(certificate::authorities(path)?);
        let by_authority = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let by_authority =
            by_authority.map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(ListedClients { by_authority, listed: certificate::chain(path)? })
    }
}

impl ClientCertVerifier for ListedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let by_authority = self.by_authority.verify_client_cert(end_entity, intermediates, now);
        by_authority.or_else(|error| {
            by_itself(&self.listed, end_entity, now, |usage| usage.client_auth, error)?;
            Ok(ClientCertVerified::assertion())
        })
    }

    delegate_signatures!();
}

/// Whether a certificate that no authority has signed is itself listed, valid now and `meant` for this use. `refused`
/// is the error of the verification by authorities.
fn by_itself(
    listed: &[CertificateDer<'static>],
    shown: &CertificateDer<'_>,
    now: UnixTime,
    meant: impl Fn(&ExtendedKeyUsage<'_>) -> bool,
    refused: Error,
) -> Result<(), Error> {
    match listed.contains(shown) {
        true => is_valid_now(shown, now, meant),
        // webpki reports first that the certificate is an authority; it may also have no trusted issuer.
        false if is_self_issued(shown) => Err(CertificateError::UnknownIssuer.into()),
        false => Err(refused),
    }
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.issuer() == parsed.subject())
}

/// Whether a certificate permits the use `meant`, if it restricts its uses, and is valid at this time.
fn is_valid_now(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
    meant: impl Fn(&ExtendedKeyUsage<'_>) -> bool,
) -> Result<(), Error> {
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
        Some(usage) if !usage.value.any && !meant(usage.value) => {
            Err(CertificateError::InvalidPurpose.into())
        }
        Some(_) | None => Ok(()),
    }
}
