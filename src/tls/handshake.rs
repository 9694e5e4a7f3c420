//! TLS handshakes over a [`Stream`], and the reasons for which they fail.

use super::challenges::Challenges;
use super::client::{Speaks, Upstream};
use super::prefers_chacha;
use super::server::Secured;
use crate::decision::plan::Address;
use crate::decision::tls_failure::TlsFailure;
use crate::os::stream::Stream;
use rustls::Error;
use rustls::server::Acceptor;
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

/// Why a handshake with a client failed; metrics use these labels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The client exceeded the handshake timeout.
    Timeout,
    /// The client closed or reset the connection.
    Closed,
    /// The client's bytes were not TLS.
    NotTls,
    /// Client and listener have no version, cipher suite or group in common.
    NothingInCommon,
    /// The client presented no certificate, or an untrusted one.
    ClientCertificate,
    /// The client rejected our certificate, or aborted with an alert.
    Alert,
    /// There is no certificate for the name yet: an ACME authority has not issued it.
    NoCertificate,
    /// No failure: an ACME authority validated a name, for which the handshake is the whole answer.
    AcmeChallenge,
    /// Any other violation of the protocol.
    Protocol,
}

impl Failure {
    /// All causes.
    pub const ALL: &[Failure] = &[
        Failure::Timeout,
        Failure::Closed,
        Failure::NotTls,
        Failure::NothingInCommon,
        Failure::ClientCertificate,
        Failure::Alert,
        Failure::NoCertificate,
        Failure::AcmeChallenge,
        Failure::Protocol,
    ];

    /// The label in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Failure::Timeout => "timeout",
            Failure::Closed => "closed",
            Failure::NotTls => "not_tls",
            Failure::NothingInCommon => "nothing_in_common",
            Failure::ClientCertificate => "client_certificate",
            Failure::Alert => "alert",
            Failure::NoCertificate => "no_certificate",
            Failure::AcmeChallenge => "acme_challenge",
            Failure::Protocol => "protocol",
        }
    }

    fn of(error: &io::Error) -> Failure {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            None => Failure::Closed,
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
                Failure::ClientCertificate
            }
            Some(Error::PeerIncompatible(_)) => Failure::NothingInCommon,
            Some(Error::AlertReceived(_)) => Failure::Alert,
            Some(Error::InvalidMessage(_)) => Failure::NotTls,
            Some(_) => Failure::Protocol,
        }
    }
}

/// Performs the handshake with a client, or the one that answers a challenge of an ACME authority.
///
/// # Errors
/// [`Failure`]; a client that speaks TLS has received an alert.
pub async fn accept(
    stream: Stream,
    secured: &Secured,
    challenges: &Challenges,
) -> Result<Stream, Failure> {
    // What the handshake is besides one that serves a client.
    let special = Cell::new(None);
    let seen = &special;
    let shaking = |socket| async move {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let hello = begun.client_hello();
        if secured.names.answers_acme
            && let Some(config) = challenges.config(&hello)
        {
            seen.set(Some(Failure::AcmeChallenge));
            return begun.into_stream(config).await.map(Into::into);
        }
        if secured.names.lacks(hello.server_name()) {
            seen.set(Some(Failure::NoCertificate));
        }
        let config = match prefers_chacha(hello.cipher_suites()) {
            true => &secured.by_client,
            false => &secured.config,
        };
        begun.into_stream(config.clone()).await.map(Into::into)
    };
    match (stream.secure(shaking).await, special.get()) {
        (Ok(_), Some(special)) => Err(special),
        (Ok(stream), None) => Ok(stream),
        (Err(_), Some(Failure::NoCertificate)) => Err(Failure::NoCertificate),
        (Err(error), _) => Err(Failure::of(&error)),
    }
}

/// Performs the handshake with an endpoint.
///
/// # Errors
/// [`TlsFailure`]; the library's error is logged at level debug.
pub async fn connect(
    stream: Stream,
    upstream: &Upstream,
    speaks: Speaks,
    endpoint: &Address,
) -> Result<Stream, TlsFailure> {
    let Some(name) = upstream.name_of(endpoint) else {
        tracing::debug!(%endpoint, "TLS with endpoint {endpoint} impossible: a unix socket needs tls.server_name");
        return Err(TlsFailure::WrongName);
    };
    let connector = TlsConnector::from(Arc::clone(upstream.config(speaks)));
    let shaking = |socket| async move { connector.connect(name, socket).await.map(Into::into) };
    stream.secure(shaking).await.map_err(|error| {
        let failure = of_upstream(&error);
        tracing::debug!(%endpoint, cause = failure.label(), %error, "TLS handshake with endpoint {endpoint} failed");
        failure
    })
}

fn of_upstream(error: &io::Error) -> TlsFailure {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        None => TlsFailure::Closed,
        Some(Error::InvalidCertificate(why)) => match why {
            Certificate::Expired | Certificate::ExpiredContext { .. } => TlsFailure::Expired,
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                TlsFailure::NotYetValid
            }
            Certificate::UnknownIssuer => TlsFailure::UnknownIssuer,
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                TlsFailure::WrongName
            }
            _ => TlsFailure::BadCertificate,
        },
        Some(Error::NoCertificatesPresented) => TlsFailure::BadCertificate,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
            TlsFailure::NothingInCommon
        }
        Some(Error::AlertReceived(alert)) => match alert {
            Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied => TlsFailure::ClientCertificate,
            Alert::HandshakeFailure
            | Alert::ProtocolVersion
            | Alert::InsufficientSecurity
            | Alert::NoApplicationProtocol => TlsFailure::NothingInCommon,
            _ => TlsFailure::Alert,
        },
        Some(Error::InvalidMessage(_)) => TlsFailure::NotTls,
        Some(_) => TlsFailure::Protocol,
    }
}
