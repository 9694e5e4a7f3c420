//! S22: failures that one client causes must not eject an endpoint, nor send other clients to the cloud.

use super::client::Who;
use super::endpoint::Endpoint;
use super::load::Load;
use super::proxies::Kind;
use super::report::{Answers, Figure, Played};
use super::unkind::Unkind;
use super::{Farther, Stage, before, endpoints, names, secs, support, traits};
use std::net::SocketAddr;
use std::time::Duration;

/// Uploads that one client leaves unfinished until the application resets the connection.
pub fn uploads(stage: Stage) -> Played {
    beside(stage, Way::Direct, |proxy| {
        let client = Unkind::uploads(proxy, 8);
        Box::new(move || client.stop())
    })
}

/// Requests for a page of 0.1 s that one client aborts after 30 ms, 100 a second: 10 of 32 slots.
pub fn aborts(stage: Stage) -> Played {
    beside(stage, Way::Direct, |proxy| {
        let client = Unkind::aborts(proxy, 100, "/shop/page");
        Box::new(move || client.stop())
    })
}

/// The same aborts through another Tidegate, which then is the only client that the proxy sees.
pub fn chained_aborts(stage: Stage) -> Played {
    beside(stage, Way::Chained, |proxy| {
        let client = Unkind::aborts(proxy, 100, "/shop/page");
        Box::new(move || client.stop())
    })
}

/// Calls that the application rejects with 400 and 500, ten a second each.
pub fn rejected(stage: Stage) -> Played {
    beside(stage, Way::Direct, |proxy| {
        let bad = Load::open(proxy, Who::One, 10.0, "/api/reject400");
        let worse = Load::open(proxy, Who::One, 10.0, "/api/reject500");
        Box::new(move || bad.stop().len() + worse.stop().len())
    })
}

/// Large responses that one client does not read.
pub fn untaken(stage: Stage) -> Played {
    beside(stage, Way::Direct, |proxy| {
        let client = Unkind::untaken(proxy, 8);
        Box::new(move || client.stop())
    })
}

/// Stops that client; how many requests it made.
type Stop = Box<dyn FnOnce() -> usize>;

/// The way of clients to the proxy.
enum Way {
    Direct,
    /// Through another Tidegate, whose only cluster is the proxy.
    Chained,
}

/// A proxy before the proxy.
fn edge(next: SocketAddr) -> support::Proxy {
    support::Proxy::start(&support::config(&[("next", "idc", next)]))
}

/// 40 requests/s of other clients, first alone, then together with one such client.
fn beside(stage: Stage, way: Way, begin: impl FnOnce(SocketAddr) -> Stop) -> Played {
    let mut kinds = traits(16, 20.0, 0);
    kinds.times.push(("page", Duration::from_millis(100)));
    let idc: Vec<Endpoint> = endpoints("idc", 2, &kinds);
    kinds.distance = Duration::from_millis(30);
    kinds.slots = 64;
    let cloud = endpoints("cloud", 1, &kinds);
    let proxy = before(stage.kind, &idc, &cloud, Farther::Priced);
    let edge = match way {
        Way::Direct => None,
        Way::Chained => Some(edge(proxy.address)),
    };
    let address = edge.as_ref().map_or(proxy.address, |edge| edge.at("web"));
    let others = Load::open(address, Who::Others, 40.0, "/shop/item");
    let from = stage.seconds(4.0, 3.0);
    others.run_until(secs(from));
    let stop = begin(address);
    others.run_until(secs(from + stage.seconds(15.0, 9.0)));
    let ejections = proxy.metric("tidegate_ejections_total");
    let samples = others.stop();
    let done = stop();
    let others = Answers(&samples).between(from, 1e6);
    let gates = vec![
        // One percent is four requests in the short form, where eight scenarios share two cores.
        Figure::share("others to the cloud", others.cloud()).at_most(if stage.long {
            0.01
        } else {
            0.02
        }),
        Figure::share("others to the cloud, worst 5 s", others.worst_cloud(5.0)).at_most(0.05),
        Figure::count("others refused or failed", others.lost()).at_most(0.0),
        Figure::count("ejections", ejections.unwrap_or(0.0))
            .at_most(0.0)
            .only_of(stage.kind, Kind::Tidegate),
        // Without that client's requests the other figures would prove nothing.
        Figure::count("requests of that client", done as f64).at_least(20.0),
    ];
    Played::of((stage.name, stage.kind), others, &names(&[&idc, &cloud]), gates)
}
