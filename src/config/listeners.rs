//! Listeners: address, protocol, TLS, and service.

use super::compiler::{Compiler, MODE, rooted};
use super::error::{Position, Problem};
use super::file::{self, File};
use super::headers::is_field_name;
use super::scalar;
use super::services::Layer;
use super::shape::{Named, Spanned};
use crate::decision::edits::Edits;
use crate::decision::pages::ErrorPages;
use crate::decision::plan::{
    Address, ClassIndex, ForwardedClientCert, Listener, ListenerLimits, ListenerTimeouts,
    ListenerTls, Names, Protocol, SendProxy, Slashes, Transparent, Transport, Underscores,
};
use crate::tls::server::Secured;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A placeholder for the class of a listener whose service is invalid. Such a plan is rejected, so no exchange
/// uses this class.
const NO_CLASS: ClassIndex = ClassIndex(0);
/// The upper bound of `limits.head`, in bytes.
const HEAD_MAX: usize = 256 * 1024;

impl Compiler<'_> {
    /// Compiles all listeners into the plan; `admin` is the address of the admin API.
    pub(super) fn listeners(&mut self, folder: &Path, admin: Option<&Address>) {
        if self.file.listeners.is_empty() {
            self.problems.error(self.file.at, "listeners", "there must be at least one listener");
        }
        for (name, listener) in &self.file.listeners.0 {
            let path = format!("listeners.{}", name.value);
            let address = rooted(&listener.address.value.0, folder);
            let protocol = self.protocol(listener, &path);
            let http3 = listener.tls.as_ref().and_then(|tls| tls.alpn.as_ref());
            let http3 = http3.is_some_and(|alpn| alpn.contains(&file::Alpn::Http3));
            let transports = [protocol.transport(), Transport::Quic];
            let transports = &transports[..if http3 { 2 } else { 1 }];
            self.overlap(&address, transports, listener.address.at, admin, &path);
            let timeouts = self.timeouts(listener, &path);
            let limits = self.limits(listener, &path);
            let built = self.tls_of(listener, &address, &protocol, folder, &path);
            let (tls, secured) = built.unzip();
            self.tls.listeners.push(secured.flatten());
            let upgrades = self.upgrades(listener, &path);
            let transparent = self.transparent(listener, &address, &protocol, &path);
            let forwarded_client_cert = self.forwarded_client_cert(listener, &path);
            let error_pages = self.listener_pages(listener, &path);
            let (request_edits, response_edits) = self.listener_edits(listener, &path);
            self.plan.listeners.push(Listener {
                tls,
                request_edits,
                response_edits,
                error_pages,
                forwarded_client_cert,
                transparent,
                upgrades,
                via: listener.via != Some(file::Via::Off),
                answers_acme: false,
                proxied: listener
                    .proxy_protocol
                    .as_ref()
                    .map_or(Vec::new(), |proxy| proxy.from.iter().map(|n| n.0).collect()),
                name: name.value.clone(),
                address,
                mode: listener.mode.map_or(MODE, |mode| mode.0),
                protocol,
                trusted: listener
                    .trusted_proxies
                    .as_ref()
                    .map_or(Vec::new(), |networks| networks.iter().map(|n| n.0).collect()),
                timeouts,
                limits,
            });
        }
        self.answer_acme();
    }

    /// The edits of requests' heads and of responses' heads.
    fn listener_edits(
        &mut self,
        listener: &file::Listener,
        path: &str,
    ) -> (Arc<Edits>, Arc<Edits>) {
        let heads = [
            ("request_headers", &listener.request_headers),
            ("response_headers", &listener.response_headers),
        ];
        let [request, response] = heads.map(|(key, written)| {
            let path = format!("{path}.{key}");
            if let Some(written) =
                written.as_ref().filter(|_| listener.protocol != file::Protocol::Http)
            {
                self.problems.error(written.at, &path, "only an http listener has header fields");
            }
            Arc::new(self.edits(written.as_ref(), &path))
        });
        (request, response)
    }

    fn listener_pages(&mut self, listener: &file::Listener, path: &str) -> Option<ErrorPages> {
        if listener.error_pages.is_some() && listener.protocol != file::Protocol::Http {
            let message = "only an http listener has error pages";
            self.problems.error(listener.at, format!("{path}.error_pages"), message);
        }
        self.error_pages(listener.error_pages.as_ref(), path)
    }

    /// What clusters are told about certificates of clients; by default all that is verified.
    fn forwarded_client_cert(
        &mut self,
        listener: &file::Listener,
        path: &str,
    ) -> ForwardedClientCert {
        let verifies = listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        match listener.forwarded_client_cert {
            None if verifies => ForwardedClientCert::Set,
            None | Some(file::ForwardedClientCert::Strip) => ForwardedClientCert::Strip,
            Some(file::ForwardedClientCert::Set) => {
                if !verifies {
                    let message =
                        "`set` needs `tls.client_ca`: without it no client certificate is verified";
                    let path = format!("{path}.forwarded_client_cert");
                    self.problems.error(listener.at, path, message);
                }
                ForwardedClientCert::Set
            }
            Some(file::ForwardedClientCert::Append) => ForwardedClientCert::Append,
        }
    }

    /// The timeouts of a listener, with the documented defaults.
    fn timeouts(&mut self, listener: &file::Listener, path: &str) -> ListenerTimeouts {
        let timeouts = listener_timeouts(listener.protocol, listener.timeouts.as_ref());
        let at = listener.timeouts.as_ref().map_or(listener.at, |timeouts| timeouts.at);
        let spans = [
            ("first_byte", Some(timeouts.first_byte)),
            ("head", Some(timeouts.head)),
            ("handshake", Some(timeouts.handshake)),
            ("proxy_header", Some(timeouts.proxy_header)),
            ("idle", Some(timeouts.idle)),
            ("body_idle", Some(timeouts.body_idle)),
            ("stream_idle", Some(timeouts.stream_idle)),
            ("write", Some(timeouts.write)),
            ("idle_l4", Some(timeouts.idle_l4)),
            ("half_close", Some(timeouts.half_close)),
        ];
        self.not_zero(at, &format!("{path}.timeouts"), &spans);
        timeouts
    }

    /// The limits of a listener, with the documented defaults.
    fn limits(&mut self, listener: &file::Listener, path: &str) -> ListenerLimits {
        let limits = listener_limits(listener.limits.as_ref());
        let fits = |bytes: usize| (256..=HEAD_MAX).contains(&bytes);
        if !fits(limits.head) || !fits(limits.response_head) || limits.uri > limits.head {
            let at = listener.limits.as_ref().map_or(listener.at, |limits| limits.at);
            let message = "head and response_head must be from 256 to 256KiB, and uri at most head";
            self.problems.error(at, format!("{path}.limits"), message);
        }
        limits
    }

    /// The TLS configuration of a listener; `None` without TLS, or if the protocol or address excludes TLS.
    fn tls_of(
        &mut self,
        listener: &file::Listener,
        address: &Address,
        protocol: &Protocol,
        folder: &Path,
        path: &str,
    ) -> Option<(ListenerTls, Option<Secured>)> {
        let written = listener.tls.as_ref()?;
        if matches!(address, Address::Unix(_)) {
            let message = "a unix socket cannot have TLS: remove `tls`";
            self.problems.error(written.at, format!("{path}.tls"), message);
            return None;
        }
        // `protocol` has already reported this error; the files are not read.
        if matches!(protocol, Protocol::Udp { .. } | Protocol::TlsPassthrough(_)) {
            return None;
        }
        let is_http = *protocol == Protocol::Http;
        Some(self.listener_tls(written, (address, is_http), folder, path))
    }

    fn upgrades(&mut self, listener: &file::Listener, path: &str) -> Vec<String> {
        let mut upgrades = Vec::new();
        for (index, token) in listener.upgrades.iter().flatten().enumerate() {
            if !token.value.split('/').all(is_field_name) {
                let message = format!("`{}` is not a protocol name", token.value.escape_debug());
                let path = format!("{path}.upgrades[{index}]");
                self.problems.error_with_hint(token.at, path, message, "for example `SPDY/3.1`");
            }
            upgrades.push(token.value.clone());
        }
        upgrades
    }

    fn transparent(
        &mut self,
        listener: &file::Listener,
        address: &Address,
        protocol: &Protocol,
        path: &str,
    ) -> Transparent {
        let Some(written) = &listener.transparent else { return Transparent::None };
        let transparent = match written.value {
            file::Transparent::None => Transparent::None,
            file::Transparent::OriginalDst => Transparent::OriginalDst,
            file::Transparent::Tproxy => Transparent::Tproxy,
        };
        let is_tcp = protocol.transport() == Transport::Stream && matches!(address, Address::Ip(_));
        if transparent != Transparent::None && !is_tcp {
            let message = "needs a TCP listener with an IP address: the packet filter redirects only TCP connections";
            self.problems.error(written.at, format!("{path}.transparent"), message);
        }
        transparent
    }

    fn protocol(&mut self, listener: &file::Listener, path: &str) -> Protocol {
        let is_passthrough = listener.protocol == file::Protocol::TlsPassthrough;
        if let Some(sni) = listener.sni.as_ref().filter(|_| !is_passthrough) {
            let at = sni.0.first().map_or(listener.at, |(name, _)| name.at);
            let message = "only a tls-passthrough listener may have `sni`";
            self.problems.error(at, format!("{path}.sni"), message);
        }
        let service =
            listener.service.as_ref().filter(|_| listener.protocol != file::Protocol::Http);
        let class = service.and_then(|service| {
            self.class_of(service, &[], &[], Layer::L4, &format!("{path}.service"))
        });
        match listener.protocol {
            file::Protocol::Http => Protocol::Http,
            file::Protocol::Tcp => {
                if listener.service.is_none() {
                    let message = "a tcp listener needs `service`";
                    let problem = Problem::error(listener.at, path, message);
                    self.problems.lacking(path, &["service"], problem);
                }
                Protocol::Tcp { class: class.unwrap_or(NO_CLASS) }
            }
            file::Protocol::Udp => {
                self.refuse_of_udp(listener, path);
                self.warn_of_udp(class, listener, path);
                Protocol::Udp { class: class.unwrap_or(NO_CLASS) }
            }
            file::Protocol::TlsPassthrough => {
                if let Some(tls) = &listener.tls {
                    let message = "a tls-passthrough listener does not terminate TLS: remove `tls`";
                    self.problems.error(tls.at, format!("{path}.tls"), message);
                }
                if listener.service.is_none()
                    && listener.sni.as_ref().is_none_or(|s| s.0.is_empty())
                {
                    let message = "a tls-passthrough listener needs `sni`, `service` or both";
                    let problem = Problem::error(listener.at, path, message);
                    self.problems.lacking(path, &["sni", "service"], problem);
                }
                let names = self.names(listener, path);
                Protocol::TlsPassthrough(Names { fallback: class, ..names })
            }
        }
    }

    /// Reports keys that a udp listener does not support.
    fn refuse_of_udp(&mut self, listener: &file::Listener, path: &str) {
        if listener.service.is_none() {
            let problem = Problem::error(listener.at, path, "a udp listener needs `service`");
            self.problems.lacking(path, &["service"], problem);
        }
        if matches!(listener.address.value.0, Address::Unix(_)) {
            let message = "a udp listener needs IP:PORT, not a unix socket";
            self.problems.error(listener.address.at, format!("{path}.address"), message);
        }
        if let Some(tls) = &listener.tls {
            let message = "a udp listener forwards datagrams unchanged and cannot have TLS";
            self.problems.error(tls.at, format!("{path}.tls"), message);
        }
        if let Some(proxy) = &listener.proxy_protocol {
            let message =
                "a udp listener cannot have `proxy_protocol`: datagrams carry no PROXY header";
            self.problems.error(proxy.at, format!("{path}.proxy_protocol"), message);
        }
    }

    /// Warns of cluster keys that have no effect for udp.
    fn warn_of_udp(&mut self, class: Option<ClassIndex>, listener: &file::Listener, path: &str) {
        let Some(class) = class else { return };
        let at = listener.service.as_ref().map_or(listener.at, |service| service.at);
        let path = format!("{path}.service");
        for index in self.plan.classes[class].permitted.clusters.clone() {
            let cluster = &self.plan.clusters[index];
            let name = &cluster.name;
            let unheard = cluster.tls.is_some() || cluster.send_proxy != SendProxy::None;
            if unheard {
                let message = format!(
                    "cluster `{name}` has `tls` or `send_proxy_protocol`, which a udp listener does not support"
                );
                self.problems.error(at, &path, message);
            }
            let written = &self.file.clusters.0[index.0].1;
            if written.probe.as_ref().is_none_or(|probe| probe.kind.is_none()) {
                let message = format!("cluster `{name}` serves udp and is probed by tcp");
                let hint = "write `probe: { kind: tcp }` if its endpoints listen on TCP too, else `probe: { kind: none }`";
                self.problems.warning(at, path.as_str(), message, hint);
            }
        }
    }

    fn names(&mut self, listener: &file::Listener, path: &str) -> Names {
        let mut names = Names::default();
        for (name, service) in listener.sni.iter().flat_map(|sni| &sni.0) {
            let path = format!("{path}.sni.{}", name.value);
            let text = name.value.to_ascii_lowercase();
            let bare = text.strip_prefix("*.").unwrap_or(&text);
            if !scalar::is_host_name(bare) {
                let message = format!("`{}` is not a host name", name.value);
                let hint = "a name, exact or with a leading \"*.\"";
                self.problems.error_with_hint(name.at, &path, message, hint);
            }
            let service = Spanned { value: service.clone(), at: name.at };
            let class = self.class_of(&service, &[], &[], Layer::L4, &path);
            let Some(class) = class else { continue };
            match text.strip_prefix('*') {
                Some(suffix) => names.wildcard.push((suffix.to_owned(), class)),
                None => names.exact.push((text, class)),
            }
        }
        names.wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        names
    }

    fn overlap(
        &mut self,
        own: &Address,
        transports: &[Transport],
        at: Position,
        admin: Option<&Address>,
        path: &str,
    ) {
        let others = self
            .plan
            .listeners
            .iter()
            .filter(|other| {
                other.transports().any(|own| transports.iter().any(|new| new.collides(own)))
            })
            .map(|other| (format!("listener `{}`", other.name), &other.address));
        let admin = admin.filter(|_| transports.contains(&Transport::Stream));
        let admin = admin.filter(|address| overlaps(address, own));
        let admin = admin.map(|address| ("the admin API".to_owned(), address));
        // Overlapping addresses may both have port 0, since the kernel chooses different ports. Equal addresses may
        // not: their sockets would have the same key.
        let mut others = others.filter(|(_, address)| *address == own || overlaps(address, own));
        let taken = others.next().or(admin);
        if let Some((who, address)) = taken {
            let message = format!("`{own}` overlaps {who} ({address})");
            self.problems.error(at, format!("{path}.address"), message);
        }
    }
}

/// Whether two listening sockets cannot exist beside each other.
pub(super) fn overlaps(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Ip(a), Address::Ip(b)) => {
            let any = |ip: std::net::IpAddr| ip.is_unspecified();
            // "[::]" accepts IPv4 as well; 0.0.0.0 accepts IPv4 only.
            let covers =
                |x: std::net::IpAddr, y: std::net::IpAddr| any(x) && (x.is_ipv6() || y.is_ipv4());
            let same = a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip());
            a.port() == b.port() && a.port() != 0 && same
        }
        (Address::Ip(_), Address::Unix(_)) | (Address::Unix(_), Address::Ip(_)) => false,
    }
}

fn listener_timeouts(
    protocol: file::Protocol,
    written: Option<&file::ListenerTimeouts>,
) -> ListenerTimeouts {
    let seconds = Duration::from_secs;
    let or = |pick: fn(&file::ListenerTimeouts) -> Option<Duration>, default: Duration| {
        written.and_then(pick).unwrap_or(default)
    };
    // UDP has no end of connection.
    let idle_l4 = if protocol == file::Protocol::Udp { 60 } else { 3600 };
    ListenerTimeouts {
        first_byte: or(|t| t.first_byte, seconds(5)),
        head: or(|t| t.head, seconds(10)),
        handshake: or(|t| t.handshake, seconds(5)),
        proxy_header: or(|t| t.proxy_header, seconds(3)),
        idle: or(|t| t.idle, seconds(60)),
        write: or(|t| t.write, seconds(30)),
        body_idle: or(|t| t.body_idle, seconds(30)),
        stream_idle: or(|t| t.stream_idle, seconds(300)),
        idle_l4: or(|t| t.idle_l4, seconds(idle_l4)),
        half_close: or(|t| t.half_close, seconds(60)),
    }
}

fn listener_limits(written: Option<&file::ListenerLimits>) -> ListenerLimits {
    let size = |size: Option<scalar::Size>, default: u64| size.map_or(default, |size| size.0);
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    ListenerLimits {
        connections: count(written.and_then(|l| l.connections).map_or(100_000, |c| c.0)),
        connections_per_client: written
            .and_then(|limits| limits.connections_per_client)
            .and_then(|bound| bound.0)
            .map(count),
        head: count(size(written.and_then(|limits| limits.head), 16 * 1024)),
        response_head: count(size(written.and_then(|limits| limits.response_head), 64 * 1024)),
        uri: count(size(written.and_then(|limits| limits.uri), 8 * 1024)),
        fields: count(written.and_then(|limits| limits.fields).map_or(100, |fields| fields.0)),
        body: written.and_then(|limits| limits.body).and_then(|body| body.0),
        body_rate: size(written.and_then(|limits| limits.body_rate), 512),
        underscores: match written.and_then(|limits| limits.underscores) {
            None | Some(file::Underscores::Refuse) => Underscores::Refuse,
            Some(file::Underscores::Drop) => Underscores::Drop,
            Some(file::Underscores::Allow) => Underscores::Allow,
        },
        keep_encoded_slash: written.and_then(|limits| limits.encoded_slash)
            == Some(file::EncodedSlash::Keep),
        slashes: match written.and_then(|limits| limits.slashes) {
            None | Some(file::Slashes::Merge) => Slashes::Merge,
            Some(file::Slashes::Refuse) => Slashes::Refuse,
            Some(file::Slashes::Keep) => Slashes::Keep,
        },
    }
}

/// The names of the listeners, for routes.
pub(super) fn listener_names(file: &File) -> impl Iterator<Item = &str> + Clone {
    let named: &Named<file::Listener> = &file.listeners;
    named.names()
}
