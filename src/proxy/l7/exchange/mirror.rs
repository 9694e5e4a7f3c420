//! Mirroring: copies of requests whose responses are discarded.
//!
//! A copy is made when the whole original was read, from the bytes buffered for a retry, and runs in its own task: it
//! can neither delay nor fail the original. A copy has the original's data classes, is shed first under load, is
//! neither retried nor hedged, and is never copied itself.

use super::context::Bound;
use super::forward::forward;
use super::record::Record;
use super::request_head::Ids;
use super::rewrite;
use super::trace;
use super::upload::Replay;
use crate::body::Broken;
use crate::decision::route::{Mirror, RouteIndex};
use crate::decision::terms::Destination;
use crate::http::Framing;
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::l7::client::{Client, Local, Reply, RequestBody, Response, Sent};
use crate::l7::connection_info::ConnectionInfo;
use crate::selection::Reach;
use crate::shared::{Scarcity, View};
use crate::worker::{Viewed, Worker};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most concurrent copies in one worker; more are shed.
const COPIES_MAX: usize = 128;
/// The total timeout of a copy.
const LONGEST: Duration = Duration::from_secs(60);

/// Makes at most one copy of an exchange. If the exchange ends without a copy, the copy counts as shed.
pub struct Copier<'a> {
    worker: &'a Worker,
    view: &'a View,
    info: &'a ConnectionInfo,
    route: RouteIndex,
    reach: Reach,
    ids: &'a Ids,
    done: Cell<bool>,
}

impl<'a> Copier<'a> {
    /// For an exchange that is to be copied: its route has a mirror, and the share selects this turn.
    pub(super) fn of(
        worker: &'a Worker,
        view: &'a View,
        info: &'a ConnectionInfo,
        bound: &Bound<'a>,
        route: Option<RouteIndex>,
    ) -> Option<Copier<'a>> {
        let mirror = bound.route.mirror.as_ref()?;
        if !is_its_turn(mirror.share, worker.next_share()) {
            return None;
        }
        let (reach, ids, done) = (bound.reach, bound.ids, Cell::new(false));
        Some(Copier { worker, view, info, route: route?, reach, ids, done })
    }

    /// Copies a request that was read to its end.
    pub(super) fn copy(&self, head: &RequestHead, replay: &Replay) {
        let worker = self.worker;
        if head.upgrade().is_some() {
            // The response to an upgrade would be a tunnel.
            return self.done.set(true);
        }
        let latest = worker.view();
        let may_copy = worker.copies.get() < COPIES_MAX
            && latest.generation == self.view.generation
            && worker.shared.scarcity() == Scarcity::None
            && !worker.shared.is_draining();
        let (true, Some(me)) = (may_copy, worker.me()) else { return };
        self.done.set(true);
        let (body, trailers) = replay.whole();
        let copy = Copied { head: head.clone(), body, trailers, read: false };
        let info = self.info.again(worker, &latest);
        let (ids, reach) = (*self.ids, self.reach);
        // Counted now: many copies may be created before the first task runs.
        let permit = CopyPermit::enter(me);
        tokio::task::spawn_local(send(permit, latest, info, copy, (self.route, ids, reach)));
    }
}

impl Drop for Copier<'_> {
    fn drop(&mut self) {
        if !self.done.get() {
            self.worker.shared.registry.copies_shed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the share selects this turn. Turns are spread by the square root of two, so that a share of a twentieth
/// takes every twentieth; a split uses the golden ratio, so that the two are independent.
fn is_its_turn(share: f64, turn: u64) -> bool {
    (turn.wrapping_mul(0x6A09_E667_F3BC_C909) as f64) < share * 2f64.powi(64)
}

/// Counts a running copy until dropped.
struct CopyPermit(Rc<Worker>);

impl CopyPermit {
    fn enter(worker: Rc<Worker>) -> CopyPermit {
        worker.copies.set(worker.copies.get() + 1);
        CopyPermit(worker)
    }
}

impl Drop for CopyPermit {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}

async fn send(
    permit: CopyPermit,
    view: Viewed,
    info: ConnectionInfo,
    mut copy: Copied,
    (route, ids, reach): (RouteIndex, Ids, Reach),
) {
    let worker = &permit.0;
    let route = view.plan.routes.route(route);
    let Some(Mirror { to: Destination { class, terms }, .. }) = &route.mirror else { return };
    // The original was forwarded, so its target can be rewritten.
    let Ok(target) = rewrite::target(route.rewrite.as_deref(), &copy.head) else { return };
    let target = target.as_deref();
    let bound = Bound { route, class: *class, terms, reach, target, ids: &ids, is_copy: true };
    let mut record = Record::begin(worker.now());
    record.trace = ids.traced().map(|original| trace::of_copy(worker, original));
    let walk = forward(worker, &view, &mut copy, &info, &mut record, &bound, None);
    match tokio::time::timeout(LONGEST, walk).await {
        Ok(Err(failure)) if record.status == 0 => {
            record.status = failure.refusal().map_or(0, |refusal| refusal.status());
        }
        Ok(Ok(_) | Err(_)) | Err(_) => {}
    }
    record.count(worker, &view, info.terms.index);
    if let Some(trace) = &record.trace {
        trace.send(worker, &view, &copy, &info, &record.facts(&copy.head, info.trusted));
    }
}

/// The client of a copy: the request is complete, and the response is discarded.
struct Copied {
    head: RequestHead,
    body: Vec<u8>,
    trailers: Vec<u8>,
    read: bool,
}

impl Client for Copied {
    type Body<'a> = Kept<'a>;
    type Response<'a> = Unheard;

    fn head(&self) -> &RequestHead {
        &self.head
    }

    fn protocol(&self) -> &'static str {
        "copy"
    }

    fn split(&mut self) -> (&RequestHead, Kept<'_>, Unheard) {
        let Copied { head, body, trailers, read } = self;
        (head, Kept { body, trailers, read }, Unheard)
    }

    fn abort(&mut self) {}

    fn received(&self) -> u64 {
        self.body.len() as u64
    }

    fn sent(&self) -> u64 {
        0
    }
}

/// A body that was read to its end.
struct Kept<'a> {
    body: &'a [u8],
    trailers: &'a [u8],
    read: &'a mut bool,
}

impl RequestBody for Kept<'_> {
    async fn next(&mut self) -> Result<Option<usize>, Broken> {
        Ok(self.ready()?.flatten())
    }

    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken> {
        Ok(Some((!*self.read && !self.body.is_empty()).then_some(self.body.len())))
    }

    fn data(&self) -> &[u8] {
        self.body
    }

    fn used(&mut self, _: usize) {
        *self.read = true;
    }

    fn trailers(&self) -> Vec<u8> {
        self.trailers.to_vec()
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }

    async fn broken(&self) {
        std::future::pending().await
    }
}

/// Discards the response.
struct Unheard;

impl Response for Unheard {
    async fn interim(&mut self, _: &ResponseHead, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self, reply: &Reply<'_>) -> Framing {
        reply.head.framing
    }

    async fn piece(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn end(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    async fn local(&mut self, _: &Local<'_>) -> io::Result<()> {
        Ok(())
    }

    fn keep_alive(&mut self) {}

    fn sent(&self) -> Sent {
        Sent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_shares_are_exact_and_independent_of_a_split() {
        let mut both = 0;
        let mut counts = Vec::new();
        for start in (0..100_000).step_by(2_000) {
            // Each exchange takes one turn for its split and the next for its mirror.
            let turns = (start..start + 2_000).step_by(2);
            let copied = |turn: &u64| is_its_turn(0.05, turn + 1);
            counts.push(turns.clone().filter(copied).count());
            let parts = [(95, 7), (5, 8)];
            let canary = |turn: &u64| super::super::entry::split(&parts, *turn) == Some(&8);
            both += turns.filter(|turn| copied(turn) && canary(turn)).count();
        }
        assert!(counts.iter().all(|count| (45..=55).contains(count)), "{counts:?}");
        assert!((90..=160).contains(&both), "a twentieth of a twentieth of 50,000 is 125: {both}");
        assert!((0..1_000).all(|turn| is_its_turn(1.0, turn) && !is_its_turn(0.0, turn)));
    }
}
