//! The inputs of a forwarded exchange, and its state between attempts.

use super::affinity;
use super::hedge::PrimarySlot;
use super::request_head::{Identity, Ids};
use super::upload::{ReadWhole, Replay};
use crate::decision::plan::ClassIndex;
use crate::decision::retry::{self, Kind};
use crate::decision::route::Route;
use crate::decision::terms::Terms;
use crate::decision::units::Timestamp;
use crate::http::request::RequestHead;
use crate::l7::connection_info::ConnectionInfo;
use crate::refusal::Refusal;
use crate::selection::{Reach, Selection, Tried};
use crate::shared::View;
use crate::upstream::connect::Available;
use crate::worker::Worker;
use std::net::IpAddr;
use std::time::Duration;

/// The destination of a request.
#[derive(Clone, Copy)]
pub(super) struct Bound<'v> {
    pub(super) route: &'v Route,
    pub(super) class: ClassIndex,
    /// The settings for the route's requests of this class.
    pub(super) terms: &'v Terms,
    pub(super) reach: Reach,
    /// Path and query for the cluster, if the route rewrites them.
    pub(super) target: Option<&'v str>,
    /// The request's ids, used unless a trusted client sent its own.
    pub(super) ids: &'v Ids,
    /// Whether the request is a copy for a mirror.
    pub(super) is_copy: bool,
}

/// The inputs that are the same for all attempts of an exchange.
pub(super) struct Exchange<'a, 'v> {
    pub(super) worker: &'a Worker,
    pub(super) view: &'v View,
    pub(super) info: &'a ConnectionInfo,
    pub(super) bound: &'a Bound<'v>,
    pub(super) identity: Identity<'a>,
    /// The client's address.
    pub(super) client: IpAddr,
    pub(super) key: u64,
    /// Whether the client declares the request as a gRPC call. The request counts as a gRPC call if the service or
    /// the cluster's protocol is gRPC too: the call may then be silent without limit, the client sets the deadline of
    /// the whole call, and the endpoint is not blamed if this deadline is too short.
    pub(super) says_grpc: bool,
    /// The slot of the pending primary while its hedge runs.
    pub(super) primary_slot: PrimarySlot<'v>,
    /// Called once the whole request was read.
    pub(super) read_whole: Option<ReadWhole<'a>>,
}

impl<'v> Exchange<'_, 'v> {
    /// The affinity cookie of the service, if there is one.
    pub(super) fn cookie(&self) -> Option<affinity::Cookie<'v>> {
        let affinity = self.bound.terms.affinity.as_ref()?;
        let secret = affinity.secret.or(self.view.plan.cookie_secret)?;
        let service = self.view.plan.service_of(self.bound.class);
        Some(affinity::Cookie { affinity, service: &service.name, secret })
    }
}

/// Stale connections that an exchange may meet before the endpoint is blamed.
pub(super) const STALE_MAX: u32 = 4;

/// The state of an exchange between attempts.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) tried: Tried,
    pub(super) replay: Replay,
    /// Whether the exchange is a copy, which is never retried.
    is_copy: bool,
    retried: u32,
    pub(super) last: Option<Refusal>,
    /// Whether the next attempt needs a new connection because an idle one was stale.
    pub(super) fresh: bool,
    /// The number of stale connections, and whether the last one was shared.
    pub(super) stale: u32,
    pub(super) shared: bool,
    /// The time that all connection attempts have taken.
    pub(super) connecting: Duration,
    /// Whether the last connection attempt timed out, or could not start because other exchanges were waiting.
    pub(super) late: bool,
    pub(super) busy: bool,
    /// The capacity or connection that the queue granted to this exchange, and the deadline of its waits in the
    /// queue.
    pub(super) granted: Option<Available>,
    pub(super) queue_until: Option<Timestamp>,
    /// The time after which the first attempt gets a hedge.
    pub(super) hedge: Option<Duration>,
    /// Whether the next attempt is the hedge.
    pub(super) hedging: bool,
}

impl Walk {
    /// The initial state. A copy is neither retried nor hedged.
    pub(super) fn of(bound: &Bound<'_>) -> Walk {
        match bound.is_copy {
            true => Walk { is_copy: true, ..Walk::default() },
            false => Walk { hedge: bound.terms.hedge, ..Walk::default() },
        }
    }

    /// Notes that the attempt at `selection` still waits for its response: the next attempt is its hedge.
    pub(super) fn waits(&mut self, selection: &Selection, view: &View) {
        self.hedge = None;
        self.hedging = true;
        self.tried.add(selection.cluster, selection.signals(view).id);
        self.tried.waits = true;
    }

    /// Prepares another attempt after a failure of this kind.
    pub(super) fn again(&mut self, kind: Kind, refusal: Refusal) {
        self.tried.waits = false;
        let counts = !matches!(kind, Kind::Unsent | Kind::Ejected);
        self.retried = self.retried.saturating_add(u32::from(counts));
        self.last = Some(refusal);
    }

    pub(super) fn request(&self, head: &RequestHead, terms: &Terms) -> retry::Request {
        retry::Request {
            idempotent: head.is_idempotent() && head.upgrade().is_none(),
            replayable: self.replay.is_whole(),
            retried: self.retried,
            retries_max: if self.is_copy { 0 } else { terms.retries_max },
        }
    }
}
