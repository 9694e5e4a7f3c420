//! A client's connection as its exchanges see it: who the client is, by which listener it came, and what that allows.
//!
//! It stands below the protocols and the exchange: both read it, and it knows neither.

use crate::decision::plan::{
    Address, Listener, ListenerIndex, ListenerTimeouts, Protocol, Transport,
};
use crate::http::hops;
use crate::http::request::RequestHead;
use crate::http::{EncodedSlash, Framing, Limits, Slashes, Underscores};
use crate::os::clock;
use crate::os::proxy_header::Origin;
use crate::os::secure::Agreed;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::{Cells, Worker};
use crate::shared::View;
use crate::telemetry::cells::ListenerCells;
use std::net::IpAddr;
use std::rc::Rc;

/// How a client's requests arrive: what holds for all of its connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Index of the listener in the plan of the exchange.
    pub listener: ListenerIndex,
    /// The listener's name.
    pub name: String,
    address: Address,
    /// The listener's counters.
    pub cells: Cells<ListenerCells>,
    /// The other end.
    pub peer: IpAddr,
    /// The other end as text.
    pub peer_text: String,
    /// Both ends, for clusters that want to be told.
    pub origin: Option<Origin>,
    /// Which clients its listener let in when it came.
    pub(super) clients: u64,
    /// What the TLS handshake has agreed on, where there was one.
    pub agreed: Option<Agreed>,
    /// Whether the peer's word about its client is believed.
    pub trusted: bool,
    /// The listener's deadlines.
    pub timeouts: Rc<ListenerTimeouts>,
    trusted_networks: Vec<ipnet::IpNet>,
    limits: Limits,
    /// The protocols that a connection may be upgraded to.
    pub(super) upgrades: Vec<String>,
    /// Bytes of a response's head, at most.
    pub response_head: usize,
    /// Whether clusters are told of this hop by `Via`.
    pub via: bool,
    body_limit: Option<u64>,
    body_rate: u64,
    has_http3: bool,
    generation: u64,
}

impl ConnectionInfo {
    /// Of a connection from `origin` to the listener at `index`, whose handshake has agreed on this.
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
            agreed,
            origin: Some(origin),
            clients: view.tls.clients_of(index),
            ..ConnectionInfo::new(index, plan, cells, peer, view.generation)
        }
    }

    /// Counts that this connection is ended for abuse; its client's address may have to wait before it may connect
    /// again, unless the peer speaks for others.
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

    /// The same once more, for an exchange that outlives its connection.
    pub(super) fn again(&self, worker: &Worker, view: &View) -> ConnectionInfo {
        let plan = &view.plan.listeners[self.listener];
        ConnectionInfo {
            agreed: self.agreed.clone(),
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
            origin: None,
            clients: 0,
            trusted: plan.trusts(peer),
            timeouts: Rc::new(plan.timeouts.clone()),
            trusted_networks: plan.trusted.clone(),
            limits: limits(plan),
            upgrades: plan.upgrades.clone(),
            response_head: plan.limits.response_head,
            via: plan.via,
            body_limit: plan.limits.body,
            body_rate: plan.limits.body_rate,
            has_http3: plan.tls.as_ref().is_some_and(|tls| tls.http3),
            generation,
        }
    }

    /// The generation of the plan it goes by.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether its listener would let it in as it came: a client nobody vouches for any more is gone.
    #[must_use]
    pub fn is_welcome(&self, view: &View) -> bool {
        view.tls.clients_of(self.listener) == self.clients
    }

    /// Whether a client certificate was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.is_verified)
    }

    /// The bounds of a request's head.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The most bytes of a request's body, and the least of them a second.
    #[must_use]
    pub fn body_bounds(&self) -> (Option<u64>, u64) {
        (self.body_limit, self.body_rate)
    }

    /// On which port HTTP/3 is spoken, as the client sees it; `None` where it is not.
    #[must_use]
    pub fn http3(&self) -> Option<u16> {
        self.origin.filter(|_| self.has_http3).map(|origin| origin.server.port())
    }

    /// Whether a request says that its body is longer than may be.
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

    /// Who the request is from: the peer, or whom a trusted peer names.
    #[must_use]
    pub fn client(&self, head: &RequestHead) -> IpAddr {
        if !self.trusted {
            return self.peer;
        }
        let trusts = |address: IpAddr| self.trusted_networks.iter().any(|n| n.contains(&address));
        hops::client_address(head, self.peer, trusts)
    }
}

fn limits(listener: &Listener) -> Limits {
    use crate::decision::plan::{Slashes as PlannedSlashes, Underscores as Planned};
    Limits {
        head_bytes: listener.limits.head,
        target_bytes: listener.limits.uri,
        fields: listener.limits.fields,
        underscores: match listener.limits.underscores {
            Planned::Refuse => Underscores::Refuse,
            Planned::Drop => Underscores::Drop,
            Planned::Allow => Underscores::Allow,
        },
        encoded_slash: match listener.limits.keep_encoded_slash {
            true => EncodedSlash::Keep,
            false => EncodedSlash::Refuse,
        },
        slashes: match listener.limits.slashes {
            PlannedSlashes::Merge => Slashes::Merge,
            PlannedSlashes::Refuse => Slashes::Refuse,
            PlannedSlashes::Keep => Slashes::Keep,
        },
    }
}

/// Takes over what a new plan says of the listener; whether the connection may go on by it.
pub(super) fn keep_up(worker: &Worker, view: &View, info: &mut Rc<ConnectionInfo>) -> bool {
    if view.generation != info.generation {
        match refresh(worker, view, info) {
            Some(fresh) => *info = Rc::new(fresh),
            None => return false,
        }
    }
    info.is_welcome(view)
}

/// What a new plan says of the listener; `None` when it is gone.
fn refresh(worker: &Worker, view: &View, info: &ConnectionInfo) -> Option<ConnectionInfo> {
    let index = view.plan.listener_at(Transport::Stream, &info.address)?;
    let plan = &view.plan.listeners[index];
    if plan.protocol != Protocol::Http {
        return None;
    }
    let cells = worker.listener_cells(&plan.name);
    let mut fresh = ConnectionInfo::new(index, plan, cells, info.peer, view.generation);
    fresh.agreed.clone_from(&info.agreed);
    fresh.origin = info.origin;
    fresh.clients = info.clients;
    Some(fresh)
}
