//! The shapes of listeners.

use super::service::HeaderEdits;
use crate::config::scalar::{
    FileMode, ListenAddress, Network, OptionalCount, OptionalSize, Size, Within,
};
use crate::config::shape::{Named, Pairs, Spanned, shape, words};
use std::time::Duration;

words! {
    /// The protocol of a listener.
    Protocol {
        /// HTTP.
        Http = "http",
        /// TCP.
        Tcp = "tcp",
        /// TLS that the cluster terminates.
        TlsPassthrough = "tls-passthrough",
        /// UDP.
        Udp = "udp",
    }
}

shape! {
    /// A certificate and its key.
    CertificateFiles {
        /// File with the chain, the leaf first, in PEM.
        cert: Spanned<String> = required,
        /// File with the private key, in PEM.
        key: Spanned<String> = required,
    }
}

words! {
    /// The minimum version of TLS.
    TlsVersion {
        /// TLS 1.2 and 1.3.
        Tls12 = "1.2",
        /// TLS 1.3 only.
        Tls13 = "1.3",
    }
}

words! {
    /// An application protocol over TLS.
    Alpn {
        /// HTTP/3, over QUIC.
        Http3 = "h3",
        /// HTTP/2.
        Http2 = "h2",
        /// HTTP/1.1.
        Http1 = "http/1.1",
    }
}

impl Alpn {
    /// The protocol's ALPN name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Alpn::Http3 => "h3",
            Alpn::Http2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }
}

words! {
    /// How an ACME authority validates a name.
    ChallengeKind {
        /// It fetches a token from port 80.
        Http01 = "http-01",
        /// It begins a TLS connection to port 443.
        TlsAlpn01 = "tls-alpn-01",
    }
}

shape! {
    /// Certificates from an ACME authority, such as Let's Encrypt.
    Acme {
        /// The URL of the authority's directory.
        directory: Spanned<String> = "https://acme-v02.api.letsencrypt.org/directory",
        /// Where the authority sends notices.
        email: Spanned<String> = optional,
        /// The names, each of which gets a certificate of its own.
        domains: Vec<Spanned<String>> = required,
        /// How the authority validates a name: http-01 or tls-alpn-01.
        challenge: ChallengeKind = "http-01",
        /// Consent to the authority's terms of service: true.
        accept_terms: Spanned<bool> = required,
        /// The authorities for the certificate of the directory; by default those of the system.
        ca: Spanned<String> = optional,
    }
}

shape! {
    /// TLS of a listener.
    ListenerTls {
        /// The certificates, chosen by SNI; the first one serves clients that send no known name.
        certificates: Vec<CertificateFiles> = optional,
        /// Certificates from an ACME authority, after those of `certificates`.
        acme: Acme = optional,
        /// A file with the certificate authorities that must have signed client certificates, or with client
        /// certificates themselves.
        client_ca: Spanned<String> = optional,
        /// 1.2 or 1.3.
        min_version: TlsVersion = "1.2",
        /// The offered protocols, preferred first: h2, http/1.1; and h3 in addition (cargo feature http3).
        alpn: Vec<Alpn> = optional,
    }
}

shape! {
    /// The PROXY protocol.
    ProxyProtocol {
        /// Peers that must send a PROXY header.
        from: Vec<Network> = required,
    }
}

words! {
    /// How connections to other addresses reach a listener.
    Transparent {
        /// Not at all.
        None = "none",
        /// The packet filter redirects them (REDIRECT).
        OriginalDst = "original_dst",
        /// The packet filter delivers them unchanged (TPROXY).
        Tproxy = "tproxy",
    }
}

shape! {
    /// A listener.
    Listener {
        /// IP:PORT or unix:/path; "[::]:80" accepts IPv4 too.
        address: Spanned<ListenAddress> = required,
        /// Permissions of the socket file, in octal.
        mode: FileMode = "0660",
        /// http, tcp, tls-passthrough or udp.
        protocol: Protocol = required,
        /// http: the service of requests that match no route; tcp, udp: the service; tls-passthrough: the service of
        /// names that are not in `sni`.
        service: Spanned<String> = optional,
        /// TLS, if the listener uses it.
        tls: ListenerTls = optional,
        /// Services by server name (SNI): exact, or with a leading "*.".
        sni: Pairs = optional,
        /// Peers whose connections must begin with a PROXY header, version 1 or 2.
        proxy_protocol: ProxyProtocol = optional,
        /// Connections to other addresses that the packet filter sends to this listener: none, original_dst or
        /// tproxy.
        transparent: Spanned<Transparent> = "none",
        /// Peers whose X-Forwarded-*, X-Request-Id and traceparent fields are trusted.
        trusted_proxies: Vec<Network> = optional,
        /// What clusters are told about certificates of clients, in X-Forwarded-Client-Cert: strip, set or append; by
        /// default set with tls.client_ca, else strip.
        forwarded_client_cert: ForwardedClientCert = optional,
        /// Whether requests to clusters list this proxy in the Via field: on or off.
        via: Via = "on",
        /// Upgrade tokens that open a tunnel, in addition to websocket; other tokens are ignored.
        upgrades: Vec<Spanned<String>> = optional,
        /// Edits of the header fields of requests; they apply before those of the service and of the route.
        request_headers: HeaderEdits = optional,
        /// Edits of the header fields of responses, also of the proxy's own.
        response_headers: HeaderEdits = optional,
        /// Files with the bodies of the proxy's own error responses, by status ("503") or class ("5xx").
        error_pages: Named<Spanned<String>> = optional,
        /// Timeouts.
        timeouts: ListenerTimeouts = optional,
        /// Limits.
        limits: ListenerLimits = optional,
    }
}

shape! {
    /// Timeouts of a listener.
    ListenerTimeouts {
        /// From accept to the first byte.
        first_byte: Duration = "5s",
        /// From the first byte of a head to its end.
        head: Duration = "10s",
        /// From accept to the end of a TLS handshake.
        handshake: Duration = "5s",
        /// From accept to the end of a PROXY header.
        proxy_header: Duration = "3s",
        /// Between two exchanges on a keep-alive connection.
        idle: Duration = "60s",
        /// Without progress while a response is sent.
        write: Duration = "30s",
        /// Without a byte of a request body that the proxy waits for.
        body_idle: Duration = "30s",
        /// Without a byte of a response.
        stream_idle: Duration = "5m",
        /// Without a byte in either direction of a tcp flow; the default for udp flows is 60s.
        idle_l4: Duration = "1h",
        /// Without a byte of a tcp flow after one side has closed.
        half_close: Duration = "60s",
    }
}

words! {
    /// What clusters are told about certificates of clients, in X-Forwarded-Client-Cert.
    ForwardedClientCert {
        /// Nothing.
        Strip = "strip",
        /// The verified certificate of the connection.
        Set = "set",
        /// What a trusted peer sends, and the verified certificate of the connection.
        Append = "append",
    }
}

words! {
    /// Whether requests to clusters list this proxy in `Via`.
    Via {
        /// With `Via`.
        On = "on",
        /// Without `Via`.
        Off = "off",
    }
}

words! {
    /// The treatment of field names with an underscore.
    Underscores {
        /// The request is answered with 400.
        Refuse = "refuse",
        /// The field is removed.
        Drop = "drop",
        /// The field is forwarded.
        Allow = "allow",
    }
}

words! {
    /// The treatment of %2F in a path.
    EncodedSlash {
        /// The request is answered with 400.
        Refuse = "refuse",
        /// The path is forwarded unchanged.
        Keep = "keep",
    }
}

words! {
    /// The treatment of consecutive slashes in a path.
    Slashes {
        /// Consecutive slashes are merged.
        Merge = "merge",
        /// The request is answered with 400.
        Refuse = "refuse",
        /// The path is routed and forwarded unchanged.
        Keep = "keep",
    }
}

shape! {
    /// Limits of a listener.
    ListenerLimits {
        /// Concurrent connections.
        connections: Within<1, 10000000> = "100000",
        /// Concurrent connections from one client address.
        connections_per_client: OptionalCount = "none",
        /// Bytes of a request head.
        head: Size = "16KiB",
        /// Bytes of a response head.
        response_head: Size = "64KiB",
        /// Bytes of a request target.
        uri: Size = "8KiB",
        /// Header fields of a request.
        fields: Within<1, 1000> = "100",
        /// Bytes of a request body.
        body: OptionalSize = "none",
        /// The minimum rate of a request body in bytes a second, over 10 s; 0 disables it.
        body_rate: Size = "512",
        /// Field names with `_`: refuse, drop or allow.
        underscores: Underscores = "refuse",
        /// %2F in a path: refuse or keep.
        encoded_slash: EncodedSlash = "refuse",
        /// Consecutive slashes in a path: merge, refuse or keep.
        slashes: Slashes = "merge",
    }
}
