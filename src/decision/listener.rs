//! Listeners: addresses, protocols, deadlines and limits.

use super::acme::Acme;
use super::edits::Edits;
use super::pages::ErrorPages;
use super::plan::{Address, ClassIndex};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The transport of an address: TCP and UDP may share a port.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    /// TCP, or a unix socket.
    Stream,
    /// UDP.
    Datagram,
    /// QUIC, which cannot share a UDP port.
    Quic,
}

impl Transport {
    /// The name of the transport in messages.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Transport::Stream => "stream",
            Transport::Datagram => "udp",
            Transport::Quic => "quic",
        }
    }

    /// Whether the two transports cannot share an address.
    #[must_use]
    pub fn collides(self, other: Transport) -> bool {
        (self == Transport::Stream) == (other == Transport::Stream)
    }
}

/// What clusters are told about certificates of clients, in `X-Forwarded-Client-Cert`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ForwardedClientCert {
    /// Nothing.
    #[default]
    Strip,
    /// The verified certificate of the connection.
    Set,
    /// What a trusted peer sends, and the verified certificate of the connection.
    Append,
}

/// The identity of a listening socket across plans.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BindKey {
    /// The transport.
    pub transport: Transport,
    /// The address.
    pub address: Address,
    /// Whether the socket accepts connections to other addresses, which needs a privilege.
    pub takes_all: bool,
}

/// How rules of the packet filter direct connections for other addresses to a listener.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transparent {
    /// Not at all.
    #[default]
    None,
    /// By REDIRECT; the kernel keeps the original destination.
    OriginalDst,
    /// By TPROXY; the socket accepts connections to every address.
    Tproxy,
}

/// One address on which the proxy accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: String,
    /// The listener's address.
    pub address: Address,
    /// Permissions of the socket file, if the address is a path.
    pub mode: u32,
    /// The listener's protocol.
    pub protocol: Protocol,
    /// Peers whose forwarding headers are trusted.
    pub trusted: Vec<ipnet::IpNet>,
    /// Whether connections to other addresses reach the listener.
    pub transparent: Transparent,
    /// TLS, if the listener uses TLS.
    pub tls: Option<ListenerTls>,
    /// Peers whose connections must begin with a PROXY header.
    pub proxied: Vec<ipnet::IpNet>,
    /// Tokens of `Upgrade` that become tunnels in addition to `websocket`.
    pub upgrades: Vec<String>,
    /// What clusters are told about certificates of clients.
    pub forwarded_client_cert: ForwardedClientCert,
    /// Whether requests to clusters list this proxy in `Via`.
    pub via: bool,
    /// Whether the listener answers HTTP-01 challenges of ACME authorities.
    pub answers_acme: bool,
    /// Edits of its requests' heads.
    pub request_edits: Arc<Edits>,
    /// Edits of its responses' heads.
    pub response_edits: Arc<Edits>,
    /// Error pages of refusals for which neither the route nor the service has one.
    pub error_pages: Option<ErrorPages>,
    /// Deadlines.
    pub timeouts: ListenerTimeouts,
    /// Bounds.
    pub limits: ListenerLimits,
}

impl Listener {
    /// The transports of the listener: one, and QUIC in addition.
    pub fn transports(&self) -> impl Iterator<Item = Transport> + use<> {
        let http3 = self.tls.as_ref().is_some_and(|tls| tls.http3);
        [self.protocol.transport()].into_iter().chain(http3.then_some(Transport::Quic))
    }

    /// The identities of the listener's sockets.
    pub fn bind_keys(&self) -> impl Iterator<Item = BindKey> {
        self.transports().map(|transport| BindKey {
            transport,
            address: self.address.clone(),
            takes_all: self.transparent == Transparent::Tproxy && transport == Transport::Stream,
        })
    }

    /// Whether a connection of this peer must begin with a PROXY header.
    #[must_use]
    pub fn is_proxied(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxied.iter().any(|network| network.contains(&peer))
    }

    /// Whether the forwarding headers (`X-Forwarded-*` and the like) of this peer are trusted.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// The files of a certificate chain and its key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct KeyPair {
    /// The chain, the leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The oldest version of TLS that a client may use.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LeastTls {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// TLS of a listener.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ListenerTls {
    /// Certificates, selected by SNI; the first one serves unknown names.
    pub certificates: Vec<KeyPair>,
    /// Further certificates, which an ACME authority issues.
    pub acme: Option<Acme>,
    /// The certificate authorities, one of which must have signed the client's certificate.
    pub client_ca: Option<PathBuf>,
    /// The oldest accepted version of TLS.
    pub least_tls: LeastTls,
    /// ALPN protocols offered, best first.
    pub alpn: Vec<String>,
    /// Whether HTTP/3 is offered too.
    pub http3: bool,
}

/// TLS towards a cluster.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UpstreamTls {
    /// The name in the endpoint's certificate; the endpoint's address if `None`.
    pub server_name: Option<String>,
    /// The certificate authorities; those of the system if `None`.
    pub ca: Option<PathBuf>,
    /// The client certificate.
    pub client: Option<KeyPair>,
    /// ALPN protocols offered, best first.
    pub alpn: Vec<String>,
}

/// The protocol of a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    /// HTTP, routed per request; requests that match no route go to this class, if there is one.
    Http,
    /// TCP, one cluster for each connection.
    Tcp {
        /// The class that serves it.
        class: ClassIndex,
    },
    /// TLS passthrough: one cluster for each connection, selected by SNI.
    TlsPassthrough(Names),
    /// Datagrams, placed once per flow.
    Udp {
        /// The class that serves it.
        class: ClassIndex,
    },
}

impl Protocol {
    /// The transport of the protocol.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self {
            Protocol::Http | Protocol::Tcp { .. } | Protocol::TlsPassthrough(_) => {
                Transport::Stream
            }
            Protocol::Udp { .. } => Transport::Datagram,
        }
    }
}

/// Classes by SNI.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// Exact names, in lower case.
    pub exact: Vec<(String, ClassIndex)>,
    /// The part after the `*`, longest first.
    pub wildcard: Vec<(String, ClassIndex)>,
    /// The class for all other names.
    pub fallback: Option<ClassIndex>,
}

impl Names {
    /// The class of a name: exact, else the longest wildcard (at least one label), else the fallback.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<ClassIndex> {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let by_name = name.and_then(|name| {
            let exact = self.exact.iter().find(|(known, _)| *known == name);
            let within = |(suffix, _): &&(String, ClassIndex)| {
                name.len() > suffix.len() && name.ends_with(suffix.as_str())
            };
            exact.or_else(|| self.wildcard.iter().find(within)).map(|(_, class)| *class)
        });
        by_name.or(self.fallback)
    }
}

/// Deadlines of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTimeouts {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request head to its end.
    pub head: Duration,
    /// From accept to the end of a TLS handshake.
    pub handshake: Duration,
    /// To the end of a PROXY header.
    pub proxy_header: Duration,
    /// Between exchanges on a keep-alive connection.
    pub idle: Duration,
    /// Without progress while writing.
    pub write: Duration,
    /// Without a byte of a request body while the proxy reads the body.
    pub body_idle: Duration,
    /// Without a byte of a response body, or in a tunnel.
    pub stream_idle: Duration,
    /// Without a byte in either direction of an L4 connection.
    pub idle_l4: Duration,
    /// As `idle_l4`, once one side has closed.
    pub half_close: Duration,
}

/// Bounds of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerLimits {
    /// Connections at once, over all workers.
    pub connections: usize,
    /// Connections at once from one address; `None`: no limit.
    pub connections_per_client: Option<usize>,
    /// Bytes of a request's head.
    pub head: usize,
    /// Bytes of a response's head.
    pub response_head: usize,
    /// Bytes of a request's target.
    pub uri: usize,
    /// Fields of a request.
    pub fields: usize,
    /// Bytes of a request's body.
    pub body: Option<u64>,
    /// The least rate of a request body over 10 s, in bytes a second; 0 turns the limit off.
    pub body_rate: u64,
    /// Fields whose names have `_`.
    pub underscores: Underscores,
    /// Whether `%2F` in a path is kept instead of refused.
    pub keep_encoded_slash: bool,
    /// `//` in a path.
    pub slashes: Slashes,
}

/// The treatment of consecutive slashes in a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slashes {
    /// Merged to one slash, for routes and for clusters.
    Merge,
    /// The request is refused.
    Refuse,
    /// Kept, for routes and for clusters.
    Keep,
}

/// The treatment of a field whose name has an underscore.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Underscores {
    /// The request is refused.
    Refuse,
    /// The field is left out.
    Drop,
    /// The field is forwarded.
    Allow,
}
