//! A listener's settings as its connections use them: made once for each worker and plan, and shared, so that an idle
//! connection holds a pointer.

use crate::decision::plan::{
    Address, ForwardedClientCert, Listener, ListenerIndex, ListenerTimeouts,
};
use crate::http::Limits;
use crate::shared::{View, head_limits};
use crate::telemetry::cells::ListenerCells;
use ipnet::IpNet;
use std::rc::Rc;
use std::sync::Arc;

/// The settings of a listener in one plan.
#[derive(Debug)]
pub struct ListenerTerms {
    /// Index of the listener in the plan.
    pub index: ListenerIndex,
    /// The generation of the plan.
    pub generation: u64,
    /// The listener's name.
    pub name: String,
    /// The address that it listens on.
    pub address: Address,
    /// The listener's counters.
    pub cells: Rc<Arc<ListenerCells>>,
    /// The treatment of `X-Forwarded-Client-Cert`.
    pub forwarded_client_cert: ForwardedClientCert,
    /// The listener's deadlines.
    pub timeouts: Rc<ListenerTimeouts>,
    /// The networks of peers whose forwarding fields are trusted.
    pub trusted_networks: Vec<IpNet>,
    /// The bounds of a request's head.
    pub limits: Limits,
    /// The protocols that a connection may be upgraded to.
    pub upgrades: Vec<String>,
    /// Bytes of a response's head, at most.
    pub response_head: usize,
    /// Whether requests to clusters list this proxy in `Via`.
    pub via: bool,
    /// The maximum size of a request body in bytes.
    pub body_limit: Option<u64>,
    /// The minimum rate of a request body in bytes a second.
    pub body_rate: u64,
    /// Whether the listener serves HTTP/3, too.
    pub has_http3: bool,
}

impl ListenerTerms {
    /// The settings of the listener at `index`.
    #[must_use]
    pub fn of(view: &View, index: ListenerIndex, cells: Rc<Arc<ListenerCells>>) -> ListenerTerms {
        let listener: &Listener = &view.plan.listeners[index];
        ListenerTerms {
            index,
            generation: view.generation,
            name: listener.name.clone(),
            address: listener.address.clone(),
            cells,
            forwarded_client_cert: listener.forwarded_client_cert,
            timeouts: Rc::new(listener.timeouts.clone()),
            trusted_networks: listener.trusted.clone(),
            limits: head_limits(&listener.limits),
            upgrades: listener.upgrades.clone(),
            response_head: listener.limits.response_head,
            via: listener.via,
            body_limit: listener.limits.body,
            body_rate: listener.limits.body_rate,
            has_http3: listener.tls.as_ref().is_some_and(|tls| tls.http3),
        }
    }
}
