//! The properties of a client's connection that its exchanges use: the client, the listener, and the
//! listener's limits.
//!
//! This module is below the protocols and the exchange: both use it, and it uses neither.

use crate::decision::plan::{
    Address, ForwardedClientCert, Listener, ListenerIndex, ListenerTimeouts, Protocol, Transport,
};
use crate::http::forward::ClientCert;
use crate::http::hops;
use crate::http::request::RequestHead;
use crate::http::{Framing, Limits};
use crate::os::clock;
use crate::os::proxy_header::Origin;
use crate::os::secure::Agreed;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::{Cells, Worker};
use crate::shared::{View, head_limits};
use crate::telemetry::cells::ListenerCells;
use std::net::IpAddr;
use std::rc::Rc;

/// The properties of a client's connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Index of the listener in the plan of the exchange.
    pub listener: ListenerIndex,
    /// The listener's name.
    pub name: String,
    address: Address,
    /// The listener's counters.
    pub cells: Cells<ListenerCells>,
    /// The peer's address.
    pub peer: IpAddr,
    /// The peer's address as text.
    pub peer_text: String,
    /// Both addresses, for clusters that expect a PROXY header.
    pub origin: Option<Origin>,
    /// The set of client authorities that verified the client; 0 without TLS.
    pub(super) clients: u64,
    /// The result of the TLS handshake, if there was one.
    pub agreed: Option<Agreed>,
    /// The client's verified certificate as an element of `X-Forwarded-Client-Cert`; empty without one.
    client_cert: Rc<str>,
    forwarded_client_cert: ForwardedClientCert,
    /// Whether the peer's forwarding fields are trusted.
    pub trusted: bool,
    /// The listener's deadlines.
    pub timeouts: Rc<ListenerTimeouts>,
    trusted_networks: Vec<ipnet::IpNet>,
    limits: Limits,
    /// The protocols that a connection may be upgraded to.
    pub(super) upgrades: Vec<String>,
    /// Bytes of a response's head, at most.
    pub response_head: usize,
    /// Whether requests to clusters list this proxy in `Via`.
    pub via: bool,
    body_limit: Option<u64>,
    body_rate: u64,
    has_http3: bool,
    generation: u64,
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
        let plan = &view.plan.listeners[index];
        let cells = worker.listener_cells(&plan.name);
        let peer = origin.client.ip().to_canonical();
        ConnectionInfo {
            client_cert: client_cert(agreed.as_ref()),
            agreed,
            origin: Some(origin),
            clients: view.tls.clients_of(index),
            ..ConnectionInfo::new(index, plan, cells, peer, view.generation)
        }
    }

    /// Counts that this connection is closed for abuse. The client's address may have to wait before it may connect
    /// again, unless the peer is a trusted proxy.
    pub(super) fn blame(&self, worker: &Worker) {
        self.cells.refusals[Refusal::RateLimited].add(1);
        if self.trusted || matches!(self.address, Address::Unix(_)) {
            return;
        }
        let wait = worker.shared.offenders.offend(self.peer, clock::now());
        if let Some(wait) = wait {
            let (client, wait_s) = (&self.peer_text, wait.as_secs());
            tracing::info!(
                listener = self.name,
                client,
                wait_s,
                "client {client} refused for {wait_s} s: too many connections of its address ended for abuse"
            );
        }
    }

    /// A copy for an exchange that outlives its connection.
    pub(super) fn again(&self, worker: &Worker, view: &View) -> ConnectionInfo {
        let plan = &view.plan.listeners[self.listener];
        ConnectionInfo {
            agreed: self.agreed.clone(),
            client_cert: self.client_cert.clone(),
            origin: self.origin,
            clients: self.clients,
            ..ConnectionInfo::new(
                self.listener,
                plan,
                worker.listener_cells(&plan.name),
                self.peer,
                view.generation,
            )
        }
    }

    fn new(
        listener: ListenerIndex,
        plan: &Listener,
        cells: Cells<ListenerCells>,
        peer: IpAddr,
        generation: u64,
    ) -> ConnectionInfo {
        ConnectionInfo {
            listener,
            name: plan.name.clone(),
            address: plan.address.clone(),
            cells,
            peer,
            peer_text: peer.to_string(),
            agreed: None,
            client_cert: Rc::from(""),
            forwarded_client_cert: plan.forwarded_client_cert,
            origin: None,
            clients: 0,
            trusted: plan.trusts(peer),
            timeouts: Rc::new(plan.timeouts.clone()),
            trusted_networks: plan.trusted.clone(),
            limits: head_limits(&plan.limits),
            upgrades: plan.upgrades.clone(),
            response_head: plan.limits.response_head,
            via: plan.via,
            body_limit: plan.limits.body,
            body_rate: plan.limits.body_rate,
            has_http3: plan.tls.as_ref().is_some_and(|tls| tls.http3),
            generation,
        }
    }

    /// The generation of the connection's plan.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the listener would still accept the client's certificate.
    #[must_use]
    pub fn is_welcome(&self, view: &View) -> bool {
        view.tls.clients_of(self.listener) == self.clients
    }

    /// Whether a client certificate was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.peer.is_some())
    }

    /// What clusters are told about the client's certificate.
    #[must_use]
    pub fn client_cert(&self) -> ClientCert<'_> {
        match self.forwarded_client_cert {
            ForwardedClientCert::Strip => ClientCert::default(),
            ForwardedClientCert::Set => ClientCert { keeps: false, element: &self.client_cert },
            ForwardedClientCert::Append => {
                ClientCert { keeps: self.trusted, element: &self.client_cert }
            }
        }
    }

    /// The bounds of a request's head.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The maximum size of a request body, and its minimum rate a second.
    #[must_use]
    pub fn body_bounds(&self) -> (Option<u64>, u64) {
        (self.body_limit, self.body_rate)
    }

    /// The port of HTTP/3 as the client sees it; `None` without HTTP/3.
    #[must_use]
    pub fn http3(&self) -> Option<u16> {
        self.origin.filter(|_| self.has_http3).map(|origin| origin.server.port())
    }

    /// Whether the stated length of a request's body exceeds the limit.
    #[must_use]
    pub fn is_too_large(&self, head: &RequestHead) -> bool {
        match head.framing {
            Framing::Length(length) => self.body_limit.is_some_and(|most| length > most),
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
        let trusts = |address: IpAddr| self.trusted_networks.iter().any(|n| n.contains(&address));
        hops::client_address(head, self.peer, trusts)
    }
}

/// The certificate as text, once for each connection.
fn client_cert(agreed: Option<&Agreed>) -> Rc<str> {
    let peer = agreed.and_then(|agreed| agreed.peer.as_ref());
    peer.map_or_else(|| Rc::from(""), |peer| crate::tls::client_cert::element(peer).into())
}

/// Applies a new plan's listener settings; returns whether the connection may be kept.
pub(super) fn keep_up(worker: &Worker, view: &View, info: &mut Rc<ConnectionInfo>) -> bool {
    if view.generation != info.generation {
        match refresh(worker, view, info) {
            Some(fresh) => *info = Rc::new(fresh),
            None => return false,
        }
    }
    info.is_welcome(view)
}

/// Applies a new plan's listener settings; `None` if the listener was removed.
fn refresh(worker: &Worker, view: &View, info: &ConnectionInfo) -> Option<ConnectionInfo> {
    let index = view.plan.listener_at(Transport::Stream, &info.address)?;
    let plan = &view.plan.listeners[index];
    if plan.protocol != Protocol::Http {
        return None;
    }
    let cells = worker.listener_cells(&plan.name);
    let mut fresh = ConnectionInfo::new(index, plan, cells, info.peer, view.generation);
    fresh.agreed.clone_from(&info.agreed);
    fresh.client_cert.clone_from(&info.client_cert);
    fresh.origin = info.origin;
    fresh.clients = info.clients;
    Some(fresh)
}
