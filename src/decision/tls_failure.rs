//! How a TLS handshake with an endpoint failed: one variant for each thing an operator would mend.

/// Why an endpoint is not reached over TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsFailure {
    /// Its certificate has expired.
    Expired,
    /// Its certificate is not valid yet, or our clock is behind.
    NotYetValid,
    /// No authority of `tls.ca` vouches for its certificate.
    UnknownIssuer,
    /// Its certificate is for other names than `tls.server_name`.
    WrongName,
    /// Its certificate cannot be used for another reason.
    BadCertificate,
    /// It refused our client certificate, or wants one.
    ClientCertificate,
    /// It has no version, cipher or protocol in common with us.
    NothingInCommon,
    /// It ended the handshake by another alert.
    Alert,
    /// It does not speak TLS.
    NotTls,
    /// It closed or reset the connection.
    Closed,
    /// It was too slow.
    Timeout,
    /// It broke the protocol in another way.
    Protocol,
}

impl TlsFailure {
    /// The word the API, the log and metrics use.
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
