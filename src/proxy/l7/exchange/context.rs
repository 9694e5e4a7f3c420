//! What an exchange goes by that is forwarded, and what it carries from attempt to attempt.

use super::affinity;
use super::hedge::PrimarySlot;
use super::request_head::{Identity, Ids};
use super::upload::{ReadWhole, Replay};
use crate::decision::retry::{self, Kind};
use crate::decision::route::Route;
use crate::decision::terms::Terms;
use crate::decision::units::Timestamp;
use crate::http::request::RequestHead;
use crate::proxy::l7::connection_info::ConnectionInfo;
use crate::proxy::refusal::Refusal;
use crate::proxy::selection::{Reach, Selection, Tried};
use crate::proxy::upstream::connect::Available;
use crate::proxy::worker::Worker;
use crate::shared::View;
use std::net::IpAddr;
use std::time::Duration;

/// Where a request is bound for.
#[derive(Clone, Copy)]
pub(super) struct Bound<'v> {
    pub(super) route: &'v Route,
    pub(super) class: usize,
    /// What holds for the route's requests of this class.
    pub(super) terms: &'v Terms,
    pub(super) reach: Reach,
    /// What the request is called, unless its client has a name for it that is believed.
    pub(super) ids: &'v Ids,
    /// Whether it is a copy for a mirror.
    pub(super) is_copy: bool,
}

/// What holds for all attempts of an exchange.
pub(super) struct Exchange<'a, 'v> {
    pub(super) worker: &'a Worker,
    pub(super) view: &'v View,
    pub(super) info: &'a ConnectionInfo,
    pub(super) bound: &'a Bound<'v>,
    pub(super) identity: Identity<'a>,
    /// Who asks.
    pub(super) client: IpAddr,
    pub(super) key: u64,
    /// Whether its client says that it is a call of gRPC. It is one where the service or the cluster's
    /// protocol says so, too: then it may be silent for as long as it likes, has a deadline of its own, for
    /// all of it, and an endpoint is not to blame for one that was short.
    pub(super) says_grpc: bool,
    /// Where the primary attempt is pending while its hedge is made.
    pub(super) primary_slot: PrimarySlot<'v>,
    /// Called once the request was read whole.
    pub(super) read_whole: Option<ReadWhole<'a>>,
}

impl<'v> Exchange<'_, 'v> {
    /// How clients stay, where they do.
    pub(super) fn cookie(&self) -> Option<affinity::Cookie<'v>> {
        let affinity = self.bound.terms.affinity.as_ref()?;
        let secret = affinity.secret.or(self.view.plan.cookie_secret)?;
        let service = self.view.plan.service_of(self.bound.class);
        Some(affinity::Cookie { affinity, service: &service.name, secret })
    }
}

/// Aged connections an exchange may meet before an endpoint is blamed for them.
pub(super) const STALE_MAX: u32 = 4;

/// What an exchange carries from attempt to attempt.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) tried: Tried,
    pub(super) replay: Replay,
    pub(super) retried: u32,
    pub(super) last: Option<Refusal>,
    /// Only a new connection will do: an idle one had aged.
    pub(super) fresh: bool,
    /// How often a connection had aged, and whether the last one was shared.
    pub(super) stale: u32,
    pub(super) shared: bool,
    /// What all attempts to connect have taken so far.
    pub(super) connecting: Duration,
    /// Whether the last one did not come about in time, or could not be begun while others wait.
    pub(super) late: bool,
    pub(super) busy: bool,
    /// What became available to this exchange in the queue, and the deadline of its waits there.
    pub(super) granted: Option<Available>,
    pub(super) queue_until: Option<Timestamp>,
    /// After how long a first attempt is given a second beside it.
    pub(super) hedge: Option<Duration>,
    /// Whether the next attempt is that second.
    pub(super) hedging: bool,
}

impl Walk {
    /// At the beginning. A copy is neither retried nor hedged.
    pub(super) fn of(bound: &Bound<'_>) -> Walk {
        match bound.is_copy {
            true => Walk { retried: u32::MAX, ..Walk::default() },
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

    /// Another attempt was granted after one that failed in this way.
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
            retries_max: terms.retries_max,
        }
    }
}
