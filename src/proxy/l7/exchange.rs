//! The walk of one exchange, on one screen: route, permit, place, attempt, and again if allowed.

use super::affinity;
use super::attempt::{self, Attempt, Ended, Start};
use super::client::{Client, RequestBody};
use super::compose::{Granted, Identity, Ids, compose};
use super::connection_info::ConnectionInfo;
use super::failure::{Failure, Retry, What};
use super::hedge::{Berth, Parked, Rival};
use super::record::Record;
use super::request_key::{hash_key, stratum};
use super::upload::{ReadWhole, Replay};
use crate::decision::retry::{self, Kind};
use crate::decision::route::Route;
use crate::decision::terms::Terms;
use crate::decision::units::Timestamp;
use crate::http::field::Role;
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::proxy::buffer::{give_back_scratch, lend_scratch};
use crate::proxy::deadline::ENDLESS;
use crate::proxy::place::{Place, Reach, Tried, is_shed, place};
use crate::proxy::refusal::Refusal;
use crate::proxy::upstream::connect::{Carrier, Given};
use crate::proxy::upstream::pool::Connection;
use crate::proxy::worker::Worker;
use crate::shared::{Held, View};
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

/// What is left to do after the walk.
pub enum After {
    /// The next request, if the client's connection is kept.
    Next,
    /// Bytes both ways.
    Tunnel(Box<Upgraded>),
}

/// A connection to a cluster that became a tunnel, counted until it ends.
pub struct Upgraded {
    /// The connection.
    pub connection: Connection,
    /// The counts.
    pub counts: (Held, Held),
}

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
    /// Where an attempt waits beside another.
    pub(super) berth: Berth<'v>,
    /// Called once the request was read whole.
    pub(super) read_whole: Option<ReadWhole<'a>>,
}

/// The walk from a class on: place, attempt, and again if allowed.
pub(super) async fn forward<C: Client>(
    worker: &Worker,
    view: &View,
    client: &mut C,
    info: &ConnectionInfo,
    record: &mut Record,
    bound: &Bound<'_>,
    read_whole: Option<ReadWhole<'_>>,
) -> Result<After, Failure> {
    let Bound { class, terms, .. } = *bound;
    record.class = Some(class);
    let index = view.plan.classes[class].service;
    if !bound.is_copy {
        worker.with_budget(view, index, |budget| budget.request(worker.about_now()));
    }
    let names = (bound.ids, bound.is_copy);
    let identity = Identity::new(worker, client.head(), (info, client.protocol()), record, names);
    let exchange = Exchange {
        worker,
        view,
        info,
        bound,
        identity,
        read_whole,
        client: info.client(client.head()),
        key: hash_key(terms.hash_key.as_ref(), client.head(), info),
        says_grpc: grpc::is_grpc(client.head().value(Role::ContentType)),
        berth: Berth::default(),
    };
    let priority = match bound.is_copy {
        true => 0,
        false => terms.priority,
    };
    if is_shed(worker, view, class, priority) {
        return Err(Failure::refuse(Refusal::Overloaded));
    }
    let mut walk = Walk { hedge: terms.hedge, ..Walk::default() };
    if bound.is_copy {
        walk.hedge = None;
        walk.retried = u32::MAX;
    }
    walk.tried.stay = exchange.cookie().and_then(|cookie| affinity::stay(&cookie, client.head()));
    let mut parked: Option<Box<Parked<'_>>> = None;
    loop {
        let (place, start) = match parked.take() {
            Some(parked) => {
                record.goes_on(&parked.place);
                (parked.place, Ok(Some(Start::Resumed(parked.waiting))))
            }
            None => match exchange.begin(client, &mut walk, record).await {
                Ok(begun) => begun,
                Err(failure) => {
                    parked = Some(exchange.berth.take().ok_or(failure)?);
                    continue;
                }
            },
        };
        let ended = match start {
            Ok(Some(start)) => exchange.attempt(client, &mut walk, record, &place, start).await,
            Ok(None) => Ok(Ended::Overtaken),
            Err(failure) => Err(failure),
        };
        parked = match ended {
            Ok(Ended::Done) => return Ok(After::Next),
            Ok(Ended::Tunnel(connection)) => {
                let counts = place.into_counts();
                return Ok(After::Tunnel(Box::new(Upgraded { connection, counts })));
            }
            Ok(Ended::Waits(waiting)) => {
                walk.waits(&place, view);
                exchange.berth.set(Some(Box::new(Parked { place, waiting })));
                None
            }
            Ok(Ended::Overtaken) => {
                walk.tried.add(place.cluster, place.signals(view).id);
                Some(exchange.berth.take().ok_or(Failure::OVER)?)
            }
            Err(failure) => exchange.after(failure, &mut walk, record, &place, client.head())?,
        };
    }
}

impl<'v> Exchange<'_, 'v> {
    /// How clients stay, where they do.
    fn cookie(&self) -> Option<affinity::Cookie<'v>> {
        let affinity = self.bound.terms.affinity.as_ref()?;
        let secret = affinity.secret.or(self.view.plan.cookie_secret)?;
        let service = self.view.plan.service_of(self.bound.class);
        Some(affinity::Cookie { affinity, service: &service.name, secret })
    }

    /// Finds a place and connects to it, unless the one that waits is answered meanwhile (`None`). The inner error
    /// is the attempt's, the outer one that of finding none.
    async fn begin<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        record: &mut Record,
    ) -> Result<(Place, Result<Option<Start<'v>>, Failure>), Failure> {
        let (worker, view, Bound { class, reach, .. }) = (self.worker, self.view, *self.bound);
        let place = match place(worker, view, class, &walk.tried, self.key, reach) {
            Ok(place) => place,
            // Boxed: seldom, and every exchange should not have room for it.
            Err(refusal) => Box::pin(self.wait_for_room(client, walk, refusal)).await?,
        };
        record.attempt(&place);
        let way = (self.info.origin, client.head().upgrade().is_some());
        let rival = Rival::of(&self.berth);
        let start = match rival.waits() {
            // Boxed: seldom, and every exchange should not have room for it.
            true => Box::pin(self.connect_beside(client, walk, record, &place, rival)).await,
            false => {
                let connected = self.connect(Some(client), way, walk, record, &place).await;
                connected.map(|carrier| Some(Start::Fresh(carrier)))
            }
        };
        // Counted once it is sure that a second goes out.
        let sent = matches!(start, Ok(Some(_))) && std::mem::take(&mut walk.hedging);
        record.hedges[0] += u64::from(sent);
        Ok((place, start))
    }

    /// Connects while another attempt waits: that works on it already, and should know when nobody waits any more.
    async fn connect_beside<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        record: &mut Record,
        place: &Place,
        mut rival: Rival<'_, 'v>,
    ) -> Result<Option<Start<'v>>, Failure> {
        let way = (self.info.origin, client.head().upgrade().is_some());
        let connected = self.connect(None::<&mut C>, way, walk, record, place);
        let (_, body, _) = client.split();
        tokio::select! {
            // What is there is taken first.
            biased;
            connected = rival.beside(self.worker, self.view, connected) => match connected {
                Some(connected) => connected.map(|carrier| Some(Start::Fresh(carrier))),
                None => Ok(None),
            },
            () = body.broken() => Err(Failure::OVER),
        }
    }

    /// What follows an attempt that failed: the one that waits goes on, or another is made (`None`).
    ///
    /// # Errors
    /// The exchange's failure, if nothing follows.
    fn after(
        &self,
        failure: Failure,
        walk: &mut Walk,
        record: &mut Record,
        place: &Place,
        head: &RequestHead,
    ) -> Result<Option<Box<Parked<'v>>>, Failure> {
        let (worker, view, Bound { class, reach, is_copy, .. }) =
            (self.worker, self.view, *self.bound);
        let is_stale = failure.is_stale() && walk.stale < STALE_MAX;
        // A second that met an aged connection is made once more.
        let is_aged = is_stale && failure.kind() == Some(Kind::Unsent);
        if !is_aged && failure.what != What::Over && record.status == 0 {
            // Whatever became of the second, the first may still be answered.
            if let Some(parked) = self.berth.take() {
                walk.tried.add(place.cluster, place.signals(view).id);
                return Ok(Some(parked));
            }
        }
        let (Some(kind), Some(refusal)) = (failure.kind(), failure.refusal()) else {
            return Err(failure);
        };
        let asked = walk.request(head, self.bound.terms);
        let index = view.plan.classes[class].service;
        let granted =
            matches!(failure.retry, Retry::Granted(_)) || grant(worker, view, index, kind, asked);
        let counts = kind != Kind::Unsent && !is_copy;
        record.retries[usize::from(!granted)] += u64::from(counts);
        if !granted {
            return Err(Failure::refuse(refusal));
        }
        walk.again(kind, refusal);
        if is_stale {
            walk.stale += 1;
            // Idle ones age together; shared ones go one by one, and are not leased once they say so.
            walk.fresh = !walk.shared || walk.stale == STALE_MAX;
        } else {
            walk.tried.add(place.cluster, place.signals(view).id);
            walk.tried.pass_over_dead(worker, view, class);
            let elsewhere = || walk.tried.leaves_other_clusters(view, class, place, reach);
            if kind == Kind::Ejected && elsewhere() {
                walk.tried.left = Some(place.cluster);
            }
        }
        Ok(None)
    }

    /// Makes one attempt.
    async fn attempt<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        record: &mut Record,
        place: &Place,
        start: Start<'v>,
    ) -> Result<Ended<'v>, Failure> {
        let (worker, view, Bound { route, class, reach, .. }) =
            (self.worker, self.view, *self.bound);
        let resumed = match &start {
            Start::Resumed(waiting) => Some(waiting.since),
            Start::Fresh(_) => None,
        };
        let mut request = match resumed {
            Some(_) => lend_scratch(),
            None => {
                let granted = Granted::of(view, class, record);
                compose(view, route, place, client.head(), &self.identity, granted)
            }
        };
        let asked = walk.request(client.head(), self.bound.terms);
        let denied = Cell::new([false; 2]);
        let tried = &walk.tried;
        let may_retry = |kind| {
            let asked = retry::Request { replayable: true, ..asked };
            let elsewhere = tried.leaves_others(view, class, place, reach);
            let index = view.plan.classes[class].service;
            let granted = elsewhere && grant(worker, view, index, kind, asked);
            let mut known = denied.get();
            known[usize::from(kind == Kind::Slow)] |= elsewhere && !granted;
            denied.set(known);
            granted
        };
        let waited = resumed.map_or(Duration::ZERO, |since| worker.now().since(since));
        let over_http2 = matches!(&start, Start::Fresh(Carrier::Http2(_)));
        let is_call = self.says_grpc && (view.plan.says_grpc(class) || over_http2);
        if is_call {
            client.endure();
        }
        let timeout = if is_call { ENDLESS } else { self.bound.terms.timeout };
        let attempt = Attempt {
            worker,
            view,
            route,
            class,
            stratum: stratum(record.route, client.head()),
            place,
            client: self.client,
            head_bytes: self.info.response_head,
            timeout: timeout.saturating_sub(waited),
            stream_idle: self.info.timeouts.stream_idle,
            is_call,
            stall: if is_call { ENDLESS } else { self.info.timeouts.write },
            idempotent: asked.idempotent,
            explain: self.identity.explain,
            http3: self.info.http3(),
            set_cookie: self.cookie().and_then(|cookie| {
                let endpoint = place.signals(view);
                affinity::set_cookie(&cookie, endpoint, walk.tried.stay, self.info)
            }),
            edge: reach == Reach::ThisSite,
            // Who stays at an endpoint has something there that others have not.
            hedge: walk.hedge.filter(|_| asked.idempotent && walk.tried.stay.is_none()),
            resumed,
            berth: &self.berth,
            read_whole: self.read_whole,
            may_retry: &may_retry,
        };
        let replay = &mut walk.replay;
        let ended = attempt::run(&attempt, client, start, &mut request, replay, record).await;
        give_back_scratch(request);
        let [retry_denied, hedge_denied] = denied.get();
        record.retries[1] += u64::from(retry_denied);
        record.hedges[2] += u64::from(hedge_denied);
        ended
    }
}

/// Aged connections an exchange may meet before an endpoint is blamed for them.
const STALE_MAX: u32 = 4;

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
    /// What it has waited for, and until when it may.
    pub(super) given: Option<Given>,
    pub(super) queue_until: Option<Timestamp>,
    /// After how long a first attempt is given a second beside it.
    pub(super) hedge: Option<Duration>,
    /// Whether the next attempt is that second.
    pub(super) hedging: bool,
}

impl Walk {
    /// The attempt at `place` waits for its answer: the next one is its hedge.
    fn waits(&mut self, place: &Place, view: &View) {
        self.hedge = None;
        self.hedging = true;
        self.tried.add(place.cluster, place.signals(view).id);
        self.tried.waits = true;
    }

    /// Another attempt was granted after one that failed in this way.
    fn again(&mut self, kind: Kind, refusal: Refusal) {
        self.tried.waits = false;
        let counts = !matches!(kind, Kind::Unsent | Kind::Ejected);
        self.retried = self.retried.saturating_add(u32::from(counts));
        self.last = Some(refusal);
    }

    fn request(&self, head: &RequestHead, terms: &Terms) -> retry::Request {
        retry::Request {
            idempotent: head.is_idempotent() && head.upgrade().is_none(),
            replayable: self.replay.is_whole(),
            retried: self.retried,
            retries_max: terms.retries_max,
        }
    }
}

fn grant(
    worker: &Worker,
    view: &View,
    service: usize,
    kind: Kind,
    request: retry::Request,
) -> bool {
    worker
        .with_budget(view, service, |budget| budget.grant(kind, request, worker.about_now()))
        .unwrap_or(false)
}
