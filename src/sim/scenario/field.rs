//! Worlds modelled on production traffic, S18-S25: slow pages, releases, clients that leave,
//! middleboxes, many small services.
//!
//! An IDC at 0.3 of its capacity, unless a scenario says otherwise; 1, 10 or 100 proxies in front of it.

use super::{Scenario, base, edges, idc, scenario, step};
use crate::spec::{Change, Client, RequestKind, Service, Spec};

/// Service times of a slow page and of other pages, in seconds.
const SLOW: f64 = 1.0;
const QUICK: f64 = 0.010;
/// The kind, of two, of the other clients' requests.
pub const OTHERS: u8 = 0;

/// This many proxies in front of an IDC of `servers`, with a demand of `load` times its capacity.
fn field(proxies: usize, servers: usize, seconds: f64) -> Spec {
    let mut spec = base(seconds, &[(0.0, 0.0)]);
    spec.edges = edges(proxies, &[1.0, 30.0, 70.0]);
    spec.places[0] = idc();
    for (place, times) in spec.places.iter_mut().zip([1, 2, 2]) {
        place.endpoints = vec![servers * times];
    }
    spec
}

/// Requests a second that use `load` of the IDC.
fn rate(spec: &Spec, load: f64) -> f64 {
    spec.places[0].endpoints.iter().sum::<usize>() as f64 * load / spec.mean_service()
}

/// The paths of quick and slow pages: in one path the proxy cannot distinguish them.
#[derive(Clone, Copy, Debug)]
enum Paths {
    /// Each kind has its own path.
    Own,
    /// Both kinds have the same path.
    One,
}

/// A page of one second in addition to fast pages; both may have the same path.
fn slow_page(proxies: usize, servers: usize, from: f64, paths: Paths) -> Spec {
    let mut spec = field(proxies, servers, 50.0);
    let path = match paths {
        Paths::Own => 1,
        Paths::One => 0,
    };
    let slow = RequestKind::of(0.05, path, Service::Constant(SLOW));
    let quick = RequestKind::of(0.95, 0, Service::Exponential(QUICK));
    spec.kinds = vec![quick, slow];
    spec.demand = vec![(0.0, rate(&spec, 0.3))];
    spec.kinds[1].from = from;
    spec
}

/// Six closed-loop clients of the slow page, in addition to 40 requests/s of other clients.
fn slow_clients(proxies: usize, paths: Paths) -> Spec {
    let mut spec = slow_page(proxies, 20, 20.0, paths);
    spec.kinds[1] = RequestKind { share: 0.0, closed: 6, ..spec.kinds[1] };
    spec.demand = vec![(0.0, 40.0)];
    spec
}

/// A slow page all the time, and from 20 s to 35 s a demand of 1.3 times the IDC's capacity.
fn slow_page_overload(proxies: usize, servers: usize) -> Spec {
    let mut spec = slow_page(proxies, servers, 0.0, Paths::Own);
    let (usual, much) = (rate(&spec, 0.3), rate(&spec, 1.3));
    spec.demand =
        [&[(0.0, usual)], &step(20.0, usual, much)[..], &step(35.0, much, usual)[..]].concat();
    spec
}

/// All service times grow by `factor` from 20 s to 80 s, to 20 ms: 0.6 of the IDC's capacity. From 50 s to 65 s
/// the demand exceeds the capacity.
fn release(proxies: usize, servers: usize, factor: f64) -> Spec {
    let mut spec = field(proxies, servers, 95.0);
    spec.service = Service::Exponential(0.020 / factor);
    let at = |load: f64| rate(&spec, load) / factor;
    let (usual, much) = (at(0.6), at(1.3));
    spec.demand =
        [&[(0.0, usual)], &step(50.0, usual, much)[..], &step(65.0, much, usual)[..]].concat();
    spec.changes = vec![(20.0, Change::Release(factor)), (80.0, Change::Release(1.0))];
    spec
}

/// Two closed-loop clients on four servers: from 20 s on the service time is 20 ms instead of 0.2 ms.
fn idle_release() -> Spec {
    let mut spec = field(1, 4, 60.0);
    spec.edges = edges(1, &[0.2, 30.0, 70.0]);
    let others = RequestKind::of(1.0, OTHERS, Service::Lognormal(0.0002, 0.3));
    spec.kinds = vec![RequestKind { closed: 2, ..others }];
    spec.changes = vec![(20.0, Change::Release(100.0))];
    spec
}

/// Only the IDC's service times grow, by 1.8; the IDC is still the nearest.
fn slower_idc(proxies: usize) -> Spec {
    let mut spec = field(proxies, 20, 60.0);
    spec.demand = vec![(0.0, rate(&spec, 0.3))];
    spec.changes = vec![(20.0, Change::Slow { place: 0, factor: 1.8 })];
    spec
}

/// The IDC's endpoints are replaced by others that take three times as long.
fn replaced(proxies: usize) -> Spec {
    let mut spec = field(proxies, 20, 60.0);
    spec.service = Service::Exponential(0.007);
    spec.demand = vec![(0.0, rate(&spec, 0.2))];
    spec.changes = vec![(20.0, Change::Replaced { place: 0, factor: 3.0 })];
    spec
}

/// Other clients at 0.3 of the IDC's capacity, and from 20 s on requests of `kind`, at this rate a second.
fn rude(proxies: usize, kind: RequestKind, per_second: f64) -> Spec {
    let mut spec = field(proxies, 40, 60.0);
    let others = RequestKind::of(1.0, 0, Service::Exponential(0.020));
    let usual = rate(&Spec { kinds: vec![others], ..spec.clone() }, 0.3);
    spec.kinds = vec![others, RequestKind { share: per_second / usual, from: 20.0, ..kind }];
    spec.demand = [&[(0.0, usual)], &step(20.0, usual, usual + per_second)[..]].concat();
    spec
}

/// Three places behind middleboxes; the nearest is down from 20 s to 40 s.
fn middleboxes() -> Spec {
    let mut spec = field(1, 40, 60.0);
    spec.edges = edges(1, &[0.5, 0.5, 0.5]);
    for (place, ms) in spec.places.iter_mut().zip([5.0, 30.0, 60.0]) {
        place.beyond_ms = ms;
    }
    spec.probe = Some(0.001);
    spec.demand = vec![(0.0, rate(&spec, 0.3))];
    spec.changes = vec![(20.0, Change::Down(0)), (40.0, Change::Up(0))];
    spec
}

/// Fifty services of two requests a second in shared places.
fn small_services() -> Spec {
    let mut spec = field(10, 7, 120.0);
    spec.services = 50;
    spec.demand = vec![(0.0, 100.0)];
    spec
}

/// All scenarios of this file.
pub(super) fn all() -> Vec<Scenario> {
    let page = |client, time| RequestKind { client, ..RequestKind::of(0.0, 1, time) };
    let leaves = page(Client::Leaves(0.030), Service::Constant(0.050));
    let stalls = page(Client::Stalls(0.3), Service::Constant(0.3));
    let rejected = RequestKind::of(0.0, 0, Service::Constant(0.0002));
    vec![
        scenario("S18a", "a slow page, 5 %: one proxy", slow_page(1, 20, 0.0, Paths::Own)),
        scenario("S18a-path", "likewise, in one path", slow_page(1, 20, 0.0, Paths::One)),
        scenario("S18a-10", "a slow page, 5 %: 10 proxies", slow_page(10, 20, 0.0, Paths::Own)),
        scenario("S18a-100", "a slow page, 5 %: 100 proxies", slow_page(100, 64, 0.0, Paths::Own)),
        scenario("S18b", "a slow page from 20 s on: one proxy", slow_page(1, 20, 20.0, Paths::Own)),
        scenario("S18b-path", "likewise, in one path", slow_page(1, 20, 20.0, Paths::One)),
        scenario("S18b-10", "likewise: 10 proxies", slow_page(10, 20, 20.0, Paths::Own)),
        scenario("S18b-100", "likewise: 100 proxies", slow_page(100, 64, 20.0, Paths::Own)),
        scenario("S18c", "six clients of a slow page: one proxy", slow_clients(1, Paths::Own)),
        scenario("S18c-path", "likewise, in one path", slow_clients(1, Paths::One)),
        scenario("S18c-10", "likewise: 10 proxies", slow_clients(10, Paths::Own)),
        scenario("S18o", "a slow page and overload: one proxy", slow_page_overload(1, 20)),
        scenario("S18o-10", "likewise: 10 proxies", slow_page_overload(10, 20)),
        scenario("S19-3", "a release 3 times slower: one proxy", release(1, 20, 3.0)),
        scenario("S19-3-10", "likewise: 10 proxies", release(10, 20, 3.0)),
        scenario("S19-10", "a release 10 times slower: one proxy", release(1, 20, 10.0)),
        scenario("S19-10-10", "likewise: 10 proxies", release(10, 20, 10.0)),
        scenario("S19-50", "a release 50 times slower: one proxy", release(1, 20, 50.0)),
        scenario("S19-50-10", "likewise: 10 proxies", release(10, 20, 50.0)),
        scenario("S19-10-100", "10 times slower: 100 proxies", release(100, 64, 10.0)),
        scenario("S19-3-few", "3 times slower: 100 proxies of 6 requests/s", release(100, 20, 3.0)),
        scenario("S19-10-few", "10 times slower: likewise", release(100, 20, 10.0)),
        scenario("S19-50-few", "50 times slower: likewise", release(100, 20, 50.0)),
        scenario("S19i-few", "the IDC alone 1.8 times slower: 100 proxies", slower_idc(100)),
        scenario("S19c", "two clients and a release 100 times slower", idle_release()),
        scenario("S19i", "the IDC alone 1.8 times slower: one proxy", slower_idc(1)),
        scenario("S19i-10", "likewise: 10 proxies", slower_idc(10)),
        scenario("S19r", "endpoints replaced, 3 times slower: one proxy", replaced(1)),
        scenario("S19r-10", "likewise: 10 proxies", replaced(10)),
        scenario("S21", "three places behind middleboxes; the nearest dies", middleboxes()),
        scenario("S22-aborts", "230 a second leave after 30 ms", rude(1, leaves, 230.0)),
        scenario("S22-aborts-10", "likewise: 10 proxies", rude(10, leaves, 230.0)),
        scenario("S22-uploads", "27 uploads a second never end", rude(1, stalls, 27.0)),
        scenario("S22-rejected", "30 a second are rejected at once", rude(1, rejected, 30.0)),
        scenario("S25", "fifty services of 2 requests/s: 10 proxies", small_services()),
    ]
}
