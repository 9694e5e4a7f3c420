//! One exchange in the world: sent, served, answered, abandoned.

use super::{ATTEMPTS, Event, PROBE_KIND, Request, World};
use crate::outcome::{NOWHERE, Record};
use crate::place::State;
use crate::policy::{Answer, Ask, End, Pick};
use crate::spec::{Client, RequestKind, Service, normal};
use decision::plan::Kind as PlaceKind;
use decision::retry::{self, Kind as Failure};
use decision::units::Timestamp;

/// What the client of an exchange got in the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Got {
    /// A response.
    Answer,
    /// An error of the proxy, or nothing.
    Error,
}

impl World<'_> {
    pub(super) fn send(&mut self, id: u32) {
        let now = self.seconds();
        let request = &self.requests[id as usize];
        let (edge, sensitive) = (request.edge as usize, request.sensitive);
        let may = |place: &usize| !sensitive || self.spec.places[*place].kind == PlaceKind::Idc;
        let permitted: Vec<usize> = self.order[edge].iter().copied().filter(may).collect();
        let proxy = &mut self.proxies[edge];
        let kind = self.spec.kinds.get(request.kind as usize);
        let ask = Ask {
            now,
            worker: request.worker as usize,
            edge: &proxy.edge,
            permitted: &permitted,
            sensitive,
            service: request.service as usize,
            path: kind.map_or(0, |kind| kind.path),
            uploads: kind.is_some_and(|kind| matches!(kind.client, Client::Stalls(_))),
            id,
            tried: &request.tried,
            truth: &self.places,
            spec: self.spec,
        };
        let picked = proxy.policy.pick(&ask, &mut self.dice);
        let Some(pick) = picked else {
            return self.over(id, Got::Error);
        };
        proxy.edge.in_flight[pick.place][pick.endpoint] += 1;
        self.in_flight += 1;
        self.outcome.attempts += 1;
        let nearest = permitted.iter().copied().find(|place| self.places[*place].is_up());
        let idle = |place: usize| self.places[place].busy() < self.places[place].servers();
        let needless = nearest.is_some_and(|nearest| pick.place != nearest && idle(nearest));
        let request = &mut self.requests[id as usize];
        (request.pick, request.sent, request.needless) = (pick, self.now, needless);
        request.violation |= sensitive && self.spec.places[pick.place].kind != PlaceKind::Idc;
        let half = self.path(edge, pick.place) / 2.0;
        self.after(half, Event::Reach(id));
    }

    /// The round trip of this exchange, with jitter.
    pub(super) fn path(&mut self, edge: usize, place: usize) -> f64 {
        let ms = self.spec.edges[edge].rtt_ms[place] + self.places[place].wan_ms;
        let sigma = self.spec.jitter;
        let beyond = self.spec.places[place].beyond_ms / 1e3;
        ms / 1e3 * (sigma * normal(&mut self.dice) - sigma * sigma / 2.0).exp() + beyond
    }

    pub(super) fn reach(&mut self, id: u32) {
        let now = self.seconds();
        let pick = self.requests[id as usize].pick;
        let place = &mut self.places[pick.place];
        place.account(now);
        match place.endpoints[pick.endpoint].state {
            State::Down => self.turn_back(id, End::Refused, 0.0),
            State::Faulty => self.turn_back(id, End::Status, 0.001),
            State::Up => {
                place.arrived();
                let endpoint = &mut place.endpoints[pick.endpoint];
                if endpoint.busy < endpoint.servers.1 {
                    endpoint.busy += 1;
                    self.serve(id);
                } else {
                    endpoint.queue.push_back(id);
                }
            }
        }
    }

    pub(super) fn turn_back(&mut self, id: u32, end: End, after: f64) {
        let pick = self.requests[id as usize].pick;
        let edge = self.requests[id as usize].edge as usize;
        self.requests[id as usize].end = end;
        self.requests[id as usize].report = None;
        let half = self.path(edge, pick.place) / 2.0;
        self.after(after + half, Event::Return(id));
    }

    pub(super) fn serve(&mut self, id: u32) {
        let pick = self.requests[id as usize].pick;
        let place = &self.places[pick.place];
        let epoch = place.endpoints[pick.endpoint].epoch;
        let service = match self.requests[id as usize].kind {
            PROBE_KIND => Service::Constant(self.spec.probe.unwrap_or(0.0)),
            kind => match self.spec.kinds.get(kind as usize) {
                Some(RequestKind { client: Client::Stalls(seconds), .. }) => {
                    Service::Constant(*seconds)
                }
                Some(RequestKind { time: Some(time), .. }) => *time,
                Some(_) | None => self.service,
            },
        };
        let time = place.service(pick.endpoint, &service, &mut self.dice);
        let (place, endpoint) = (pick.place as u32, pick.endpoint as u32);
        self.after(time, Event::Served { place, endpoint, epoch, request: id });
    }

    pub(super) fn served(&mut self, place: usize, endpoint: usize, epoch: u32, id: u32) {
        if self.places[place].endpoints[endpoint].epoch != epoch {
            return;
        }
        let now = self.seconds();
        self.places[place].account(now);
        self.places[place].completed();
        self.outcome.usd[place] += self.spec.places[place].usd_per_request;
        let there = &mut self.places[place].endpoints[endpoint];
        there.busy -= 1;
        self.fill(place, endpoint);
        let report = self.report(place);
        let request = &mut self.requests[id as usize];
        let kind = self.spec.kinds.get(request.kind as usize);
        let stalls = kind.is_some_and(|kind| matches!(kind.client, Client::Stalls(_)));
        request.end = if stalls { End::ClientsFault } else { End::Good };
        request.report = report;
        let edge = request.edge as usize;
        let half = self.path(edge, place) / 2.0;
        self.after(half, Event::Return(id));
    }

    pub(super) fn returned(&mut self, id: u32) {
        let now = self.seconds();
        let request = self.requests[id as usize].clone();
        let Pick { place, endpoint } = request.pick;
        if request.abandoned {
            self.free.push(id);
            return;
        }
        if request.kind == PROBE_KIND {
            let answer = (self.now - request.sent) as f64 / 1e9;
            self.free.push(id);
            let rtt = self.handshake(request.edge as usize, place);
            let edge = request.edge as usize;
            let up = request.end == End::Good;
            return self.tell_probe(edge, request.pick, up.then_some((rtt, Some(answer))));
        }
        self.in_flight -= 1;
        let proxy = &mut self.proxies[request.edge as usize];
        proxy.edge.in_flight[place][endpoint] -= 1;
        let answer = Answer {
            pick: request.pick,
            worker: request.worker as usize,
            now,
            latency: (self.now - request.sent) as f64 / 1e9,
            end: request.end,
            report: request.report,
            sensitive: request.sensitive,
            service: request.service as usize,
            id,
        };
        proxy.policy.answered(&answer);
        proxy.health.answered(request.pick, request.end, now);
        proxy.health.show(&mut proxy.edge.alive, now);
        let kind = match request.end {
            End::Good | End::Abandoned => return self.over(id, Got::Answer),
            End::ClientsFault => return self.over(id, Got::Error),
            End::Refused => Failure::Unsent,
            End::Reset => Failure::Died,
            End::Status => Failure::GatewayStatus,
        };
        let request = retry::Request {
            idempotent: true,
            replayable: true,
            retried: request.retried,
            retries_max: 1,
        };
        let granted = proxy.budget.grant(kind, request, Timestamp::from_nanos(self.now));
        let request = &mut self.requests[id as usize];
        request.tried.push(request.pick);
        request.retried += u32::from(kind != Failure::Unsent);
        if granted && request.tried.len() < ATTEMPTS {
            self.send(id)
        } else {
            self.over(id, Got::Error)
        }
    }

    /// The exchange ended, and its client received the result.
    pub(super) fn over(&mut self, id: u32, got: Got) {
        let request = &self.requests[id as usize];
        let shed = got == Got::Error && request.sent == request.born && request.tried.is_empty();
        let place = if shed { NOWHERE } else { request.pick.place as u8 };
        self.outcome.records.push(Record {
            at: (request.born as f64 / 1e9) as f32,
            latency: ((self.now - request.born) as f64 / 1e9) as f32,
            place,
            edge: request.edge as u16,
            kind: request.kind,
            ok: got == Got::Answer,
            needless: request.needless,
            violation: request.violation,
        });
        self.ask_again(id);
        self.requests[id as usize].born = u64::MAX;
        self.free.push(id);
    }

    /// A closed-loop client sends its next request.
    fn ask_again(&mut self, id: u32) {
        let Request { edge, kind, looping, .. } = self.requests[id as usize];
        if looping {
            // A client that is refused at once does not send again at the same moment.
            self.after(0.010, Event::Loop { edge, kind });
        }
    }

    pub(super) fn give_up(&mut self, id: u32, birth: u64) {
        let request = &mut self.requests[id as usize];
        if request.born != birth || request.abandoned {
            return;
        }
        let (edge, again) = (request.edge, request.asked_again);
        request.abandoned = true;
        let answer = Answer {
            pick: request.pick,
            worker: request.worker as usize,
            now: self.now as f64 / 1e9,
            latency: (self.now - request.sent) as f64 / 1e9,
            end: End::Abandoned,
            report: None,
            sensitive: request.sensitive,
            service: request.service as usize,
            id,
        };
        // The proxy knows immediately; the place notices only when the request leaves its queue.
        let proxy = &mut self.proxies[edge as usize];
        proxy.edge.in_flight[answer.pick.place][answer.pick.endpoint] -= 1;
        proxy.policy.answered(&answer);
        self.in_flight -= 1;
        let request = &self.requests[id as usize];
        let record = Record {
            at: (birth as f64 / 1e9) as f32,
            latency: answer.latency as f32,
            place: request.pick.place as u8,
            edge: edge as u16,
            kind: request.kind,
            ok: false,
            needless: request.needless,
            violation: request.violation,
        };
        self.ask_again(id);
        match self.spec.impatience {
            Some(impatience) if again < impatience.retries => self.ask(edge, again + 1),
            Some(_) | None => self.outcome.records.push(record),
        }
    }
}
