//! How a TLS handshake with an endpoint failed: one variant for each different action of an operator.

/// Why a TLS handshake with an endpoint failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsFailure {
    /// The endpoint's certificate has expired.
    Expired,
    /// The certificate is not valid yet, or this machine's clock is behind.
    NotYetValid,
    /// No certificate authority of `tls.ca` signed the certificate.
    UnknownIssuer,
    /// The certificate is for other names than `tls.server_name`.
    WrongName,
    /// The certificate is invalid for another reason.
    BadCertificate,
    /// The endpoint refused the client certificate, or requires one.
    ClientCertificate,
    /// No TLS version, cipher or protocol in common.
    NothingInCommon,
    /// The endpoint ended the handshake by another alert.
    Alert,
    /// The endpoint does not speak TLS.
    NotTls,
    /// The endpoint closed or reset the connection.
    Closed,
    /// The handshake was too slow.
    Timeout,
    /// The endpoint violated the protocol in another way.
    Protocol,
}

impl TlsFailure {
    /// All failures, for metrics.
    pub const ALL: &[TlsFailure] = &[
        TlsFailure::Expired,
        TlsFailure::NotYetValid,
        TlsFailure::UnknownIssuer,
        TlsFailure::WrongName,
        TlsFailure::BadCertificate,
        TlsFailure::ClientCertificate,
        TlsFailure::NothingInCommon,
        TlsFailure::Alert,
        TlsFailure::NotTls,
        TlsFailure::Closed,
        TlsFailure::Timeout,
        TlsFailure::Protocol,
    ];

    /// The word in the API, the log and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            TlsFailure::Expired => "tls_certificate_expired",
            TlsFailure::NotYetValid => "tls_certificate_not_yet_valid",
            TlsFailure::UnknownIssuer => "tls_unknown_issuer",
            TlsFailure::WrongName => "tls_wrong_name",
            TlsFailure::BadCertificate => "tls_bad_certificate",
            TlsFailure::ClientCertificate => "tls_client_certificate_refused",
            TlsFailure::NothingInCommon => "tls_nothing_in_common",
            TlsFailure::Alert => "tls_alert",
            TlsFailure::NotTls => "tls_not_spoken",
            TlsFailure::Closed => "tls_closed",
            TlsFailure::Timeout => "tls_timeout",
            TlsFailure::Protocol => "tls_protocol",
        }
    }
}
