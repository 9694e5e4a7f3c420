//! The properties of a client's connection that its exchanges use: the client, the listener, and the
//! listener's limits.
//!
//! This module is below the protocols and the exchange: both use it, and it uses neither.

use crate::decision::plan::{Address, ForwardedClientCert, ListenerIndex, Protocol, Transport};
use crate::http::forward::ClientCert;
use crate::http::hops;
use crate::http::request::RequestHead;
use crate::http::{Framing, Limits};
use crate::listener_terms::ListenerTerms;
use crate::os::clock;
use crate::os::proxy_header::Origin;
use crate::os::secure::Agreed;
use crate::refusal::Refusal;
use crate::shared::View;
use crate::worker::Worker;
use std::net::IpAddr;
use std::rc::Rc;

/// The properties of a client's connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The listener's settings in the plan of the exchange.
    pub terms: Rc<ListenerTerms>,
    /// The peer's address.
    pub peer: IpAddr,
    /// The peer's address as text.
    pub peer_text: Box<str>,
    /// Both addresses, for clusters that expect a PROXY header.
    pub origin: Option<Origin>,
    /// The set of client authorities that verified the client; 0 without TLS.
    pub(super) clients: u64,
    /// The result of the TLS handshake, if there was one.
    pub agreed: Option<Box<Agreed>>,
    /// The client's verified certificate as an element of `X-Forwarded-Client-Cert`.
    client_cert: Option<Rc<str>>,
    /// Whether the peer's forwarding fields are trusted.
    pub trusted: bool,
}

impl ConnectionInfo {
    /// The connection from `origin` to the listener at `index`, with this result of the handshake.
    pub(super) fn of(
        worker: &Worker,
        view: &View,
        index: ListenerIndex,
        origin: Origin,
        agreed: Option<Agreed>,
    ) -> ConnectionInfo {
        let peer = origin.client.ip().to_canonical();
        ConnectionInfo {
            client_cert: client_cert(agreed.as_ref()),
            agreed: agreed.map(Box::new),
            origin: Some(origin),
            clients: view.tls.clients_of(index),
            ..ConnectionInfo::new(worker, view, index, peer)
        }
    }

    /// Counts that this connection is closed for abuse. The client's address may have to wait before it may connect
    /// again, unless the peer is a trusted proxy.
    pub(super) fn blame(&self, worker: &Worker) {
        self.terms.cells.refusals[Refusal::RateLimited].add(1);
        if self.trusted || matches!(self.terms.address, Address::Unix(_)) {
            return;
        }
        let wait = worker.shared.offenders.offend(self.peer, clock::now());
        if let Some(wait) = wait {
            let (client, wait_s) = (&self.peer_text, wait.as_secs());
            tracing::info!(
                listener = self.terms.name,
                client,
                wait_s,
                "client {client} refused for {wait_s} s: too many connections of its address ended for abuse"
            );
        }
    }

    /// A copy for an exchange that outlives its connection.
    pub(super) fn again(&self, worker: &Worker, view: &View) -> ConnectionInfo {
        self.at(worker, view, self.terms.index)
    }

    /// The connection with the settings of the listener at `index` of this plan.
    fn at(&self, worker: &Worker, view: &View, index: ListenerIndex) -> ConnectionInfo {
        ConnectionInfo {
            agreed: self.agreed.clone(),
            client_cert: self.client_cert.clone(),
            origin: self.origin,
            clients: self.clients,
            ..ConnectionInfo::new(worker, view, index, self.peer)
        }
    }

    fn new(worker: &Worker, view: &View, index: ListenerIndex, peer: IpAddr) -> ConnectionInfo {
        ConnectionInfo {
            terms: worker.listener_terms(view, index),
            peer,
            peer_text: peer.to_string().into(),
            agreed: None,
            client_cert: None,
            origin: None,
            clients: 0,
            trusted: view.plan.listeners[index].trusts(peer),
        }
    }

    /// The generation of the connection's plan.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.terms.generation
    }

    /// Whether the listener would still accept the client's certificate.
    #[must_use]
    pub fn is_welcome(&self, view: &View) -> bool {
        view.tls.clients_of(self.terms.index) == self.clients
    }

    /// Whether a client certificate was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.peer.is_some())
    }

    /// What clusters are told about the client's certificate.
    #[must_use]
    pub fn client_cert(&self) -> ClientCert<'_> {
        let element = self.client_cert.as_deref().unwrap_or_default();
        match self.terms.forwarded_client_cert {
            ForwardedClientCert::Strip => ClientCert::default(),
            ForwardedClientCert::Set => ClientCert { keeps: false, element },
            ForwardedClientCert::Append => ClientCert { keeps: self.trusted, element },
        }
    }

    /// The bounds of a request's head.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.terms.limits
    }

    /// The maximum size of a request body, and its minimum rate a second.
    #[must_use]
    pub fn body_bounds(&self) -> (Option<u64>, u64) {
        (self.terms.body_limit, self.terms.body_rate)
    }

    /// The port of HTTP/3 as the client sees it; `None` without HTTP/3.
    #[must_use]
    pub fn http3(&self) -> Option<u16> {
        self.origin.filter(|_| self.terms.has_http3).map(|origin| origin.server.port())
    }

    /// Whether the stated length of a request's body exceeds the limit.
    #[must_use]
    pub fn is_too_large(&self, head: &RequestHead) -> bool {
        match head.framing {
            Framing::Length(length) => self.terms.body_limit.is_some_and(|most| length > most),
            Framing::None | Framing::Chunked | Framing::Close => false,
        }
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.agreed.is_some() { "https" } else { "http" }
    }

    /// The client's address: the peer's, or the address that a trusted peer reports.
    #[must_use]
    pub fn client(&self, head: &RequestHead) -> IpAddr {
        if !self.trusted {
            return self.peer;
        }
        let networks = &self.terms.trusted_networks;
        let trusts = |address: IpAddr| networks.iter().any(|known| known.contains(&address));
        hops::client_address(head, self.peer, trusts)
    }
}

/// The certificate as text, once for each connection.
fn client_cert(agreed: Option<&Agreed>) -> Option<Rc<str>> {
    let peer = agreed.and_then(|agreed| agreed.peer.as_ref());
    peer.map(|peer| crate::tls::client_cert::element(peer).into())
}

/// Applies a new plan's listener settings; returns whether the connection may be kept.
pub(super) fn keep_up(worker: &Worker, view: &View, info: &mut Rc<ConnectionInfo>) -> bool {
    if view.generation != info.generation() {
        match refresh(worker, view, info) {
            Some(fresh) => *info = Rc::new(fresh),
            None => return false,
        }
    }
    info.is_welcome(view)
}

/// Applies a new plan's listener settings; `None` if the listener was removed.
fn refresh(worker: &Worker, view: &View, info: &ConnectionInfo) -> Option<ConnectionInfo> {
    let index = view.plan.listener_at(Transport::Stream, &info.terms.address)?;
    let is_http = view.plan.listeners[index].protocol == Protocol::Http;
    is_http.then(|| info.at(worker, view, index))
}
