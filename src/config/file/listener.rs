//! Listeners as they are written.

use crate::config::scalar::{
    FileMode, ListenAddress, Network, OptionalCount, OptionalSize, Size, Within,
};
use crate::config::shape::{Pairs, Spanned, shape, words};
use std::time::Duration;

words! {
    /// What a listener speaks.
    Protocol {
        /// HTTP/1.
        Http = "http",
        /// Bytes.
        Tcp = "tcp",
        /// TLS that is ended elsewhere.
        TlsPassthrough = "tls-passthrough",
        /// Datagrams.
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
    /// The least version of TLS.
    TlsVersion {
        /// TLS 1.2, and 1.3.
        Tls12 = "1.2",
        /// TLS 1.3 alone.
        Tls13 = "1.3",
    }
}

words! {
    /// A protocol over TLS.
    Alpn {
        /// HTTP/3, by QUIC.
        Http3 = "h3",
        /// HTTP/2.
        Http2 = "h2",
        /// HTTP/1.1.
        Http1 = "http/1.1",
    }
}

impl Alpn {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Alpn::Http3 => "h3",
            Alpn::Http2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }
}

shape! {
    /// TLS of a listener.
    ListenerTls {
        /// Chosen by SNI; the first is for clients that name nobody known.
        certificates: Vec<CertificateFiles> = required,
        /// File with authorities one of which must vouch for a client, or with clients' certificates themselves.
        client_ca: Spanned<String> = optional,
        /// 1.2 or 1.3.
        min_version: TlsVersion = "1.2",
        /// What is offered, best first: h2, http/1.1; h3 beside them (cargo feature http3).
        alpn: Vec<Alpn> = optional,
    }
}

shape! {
    /// The PROXY protocol.
    ProxyProtocol {
        /// Peers that speak it, and must.
        from: Vec<Network> = required,
    }
}

words! {
    /// How connections that were not made to a listener come to it.
    Transparent {
        /// They do not.
        None = "none",
        /// Redirected by the packet filter.
        OriginalDst = "original_dst",
        /// Taken by the packet filter as they are.
        Tproxy = "tproxy",
    }
}

shape! {
    /// Where connections are accepted.
    Listener {
        /// IP:PORT or unix:/path; "[::]:80" takes IPv4 too.
        address: Spanned<ListenAddress> = required,
        /// Permissions of a unix socket's file, in octal.
        mode: FileMode = "0660",
        /// http, tcp, tls-passthrough or udp.
        protocol: Protocol = required,
        /// http: the last route; tcp, udp: who serves; tls-passthrough: for names that are not in `sni`.
        service: Spanned<String> = optional,
        /// TLS, where it is spoken.
        tls: ListenerTls = optional,
        /// Who serves whom, by the name that is asked for: exact, or with a leading "*.".
        sni: Pairs = optional,
        /// Peers whose connections begin with a PROXY header, of version 1 or 2.
        proxy_protocol: ProxyProtocol = optional,
        /// Connections to other addresses that the packet filter brings here: none, original_dst or tproxy.
        transparent: Spanned<Transparent> = "none",
        /// Peers whose X-Forwarded-*, X-Request-Id and traceparent are believed.
        trusted_proxies: Vec<Network> = optional,
        /// Whether clusters are told of this hop: on or off.
        via: Via = "on",
        /// Tokens of Upgrade that become tunnels beside websocket; other offers are ignored.
        upgrades: Vec<Spanned<String>> = optional,
        /// Deadlines.
        timeouts: ListenerTimeouts = optional,
        /// Bounds.
        limits: ListenerLimits = optional,
    }
}

shape! {
    /// Deadlines of a listener.
    ListenerTimeouts {
        /// From accept to the first byte.
        first_byte: Duration = "5s",
        /// From the first byte of a head to its end.
        head: Duration = "10s",
        /// From accept to the end of a TLS handshake.
        handshake: Duration = "5s",
        /// To the end of a PROXY header.
        proxy_header: Duration = "3s",
        /// Between exchanges on a kept connection.
        idle: Duration = "60s",
        /// Without progress while writing.
        write: Duration = "30s",
        /// Without a byte of a request body, while one is wanted.
        body_idle: Duration = "30s",
        /// Without a byte of a response.
        stream_idle: Duration = "5m",
        /// Without a byte either way of a tcp flow; of a udp flow the default is 60s.
        idle_l4: Duration = "1h",
        /// Likewise once one side has closed.
        half_close: Duration = "60s",
    }
}

words! {
    /// Whether `Via` is sent to clusters.
    Via {
        /// It is.
        On = "on",
        /// It is not.
        Off = "off",
    }
}

words! {
    /// What becomes of a field whose name has an underscore.
    Underscores {
        /// Answer 400.
        Refuse = "refuse",
        /// Leave it out.
        Drop = "drop",
        /// Forward it.
        Allow = "allow",
    }
}

words! {
    /// What becomes of %2F in a path.
    EncodedSlash {
        /// Answer 400.
        Refuse = "refuse",
        /// Forward it.
        Keep = "keep",
    }
}

words! {
    /// What becomes of several slashes in a row in a path.
    Slashes {
        /// They are one.
        Merge = "merge",
        /// Answer 400.
        Refuse = "refuse",
        /// Route by them and forward them.
        Keep = "keep",
    }
}

shape! {
    /// Bounds of a listener.
    ListenerLimits {
        /// Connections at once.
        connections: Within<1, 10000000> = "100000",
        /// Connections at once from one address.
        connections_per_client: OptionalCount = "none",
        /// Bytes of a request's head.
        head: Size = "16KiB",
        /// Bytes of a response's head.
        response_head: Size = "64KiB",
        /// Bytes of a request's target.
        uri: Size = "8KiB",
        /// Fields of a request.
        fields: Within<1, 1000> = "100",
        /// Bytes of a request's body.
        body: OptionalSize = "none",
        /// Least bytes a second of a request's body, over 10 s; 0 is no bound.
        body_rate: Size = "512",
        /// Field names with `_`: refuse, drop or allow.
        underscores: Underscores = "refuse",
        /// %2F in a path: refuse or keep.
        encoded_slash: EncodedSlash = "refuse",
        /// Several slashes in a row in a path: merge, refuse or keep.
        slashes: Slashes = "merge",
    }
}
