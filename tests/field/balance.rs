//! S20, S21 and a freeze: shares of equal endpoints, the order of clusters by distance, and recovery after an outage.

use super::client::{Outcome, Who};
use super::load::Load;
use super::proxies::{Cluster, Kind, Probe, Running, Setup};
use super::report::{Answers, Figure, Played};
use super::{Farther, Stage, before, endpoints, names, secs, sleep, traits};
use std::time::Duration;

/// Three equal endpoints at 0.05 of their capacity; then one of them is ten times slower for a second.
pub fn slow_second(stage: Stage) -> Played {
    let (idc, cloud) =
        (endpoints("idc", 3, &traits(8, 20.0, 0)), endpoints("cloud", 1, &traits(64, 20.0, 30)));
    let proxy = before(stage.kind, &idc, &cloud, Farther::Distant);
    let load = Load::open(proxy.address, Who::Others, 60.0, "/shop/item");
    load.run_until(secs(10.0));
    idc[0].slow_down(10.0);
    load.run_until(secs(11.0));
    idc[0].slow_down(1.0);
    let end = 17.0;
    load.run_until(secs(end));
    let samples = load.stop();
    let all = Answers(&samples);
    let equal = all.between(0.0, 10.0);
    let shares = idc.iter().map(|endpoint| equal.share(&endpoint.name));
    let (least, most) =
        shares.fold((1.0_f64, 0.0_f64), |(a, b), share| (a.min(share), b.max(share)));
    // The fair share is a third; the last two of the five seconds for recovery count.
    let after = all.between(14.0, 16.0).share(&idc[0].name) * 3.0;
    let gates = vec![
        Figure::share("least of three shares in 10 s", least).at_least(0.27),
        Figure::share("greatest of three shares in 10 s", most).at_most(0.40),
        Figure::share("slow endpoint: part of its fair share within 5 s", after).at_least(0.8),
        Figure::share("to the cloud", all.cloud()).at_most(0.01),
        Figure::count("refused or failed", all.lost()).at_most(0.0),
    ];
    Played::of((stage.name, stage.kind), all, &names(&[&idc, &cloud]), gates)
}

/// One of three endpoints is killed, and restarted three seconds later.
pub fn killed(stage: Stage) -> Played {
    let (idc, cloud) =
        (endpoints("idc", 3, &traits(8, 20.0, 0)), endpoints("cloud", 1, &traits(64, 20.0, 30)));
    let proxy = before(stage.kind, &idc, &cloud, Farther::Distant);
    let load = Load::open(proxy.address, Who::Others, 60.0, "/shop/item");
    load.run_until(secs(3.0));
    idc[0].kill();
    load.run_until(secs(6.0));
    let restarted = load.age();
    idc[0].restart();
    // An endpoint that is never reported as up misses its gate by this duration.
    while !proxy.reports_up(idc[0].address) && load.age() < restarted + secs(10.0) {
        sleep(Duration::from_millis(10));
    }
    let up = load.age();
    load.run_until(up + secs(4.0));
    let samples = load.stop();
    let all = Answers(&samples);
    let first =
        samples.iter().find(|sample| sample.due >= restarted && sample.is_served_by(&idc[0].name));
    let waited = first.map_or(f64::INFINITY, |sample| sample.due.saturating_sub(up).as_secs_f64());
    let gates = vec![
        Figure::seconds("first exchange after `up`", waited).at_most(1.0),
        Figure::share("to the cloud", all.cloud()).at_most(0.01),
        Figure::count("refused or failed", all.lost()).at_most(0.0),
    ];
    Played::of((stage.name, stage.kind), all, &names(&[&idc, &cloud]), gates)
}

/// Three clusters 5, 30 and 60 ms away, where a middlebox answers TCP: the nearest dies, and returns.
pub fn distance(stage: Stage) -> Played {
    let idc = endpoints("idc", 1, &traits(32, 10.0, 5));
    let near = endpoints("near", 1, &traits(32, 10.0, 30));
    let far = endpoints("far", 1, &traits(32, 10.0, 60));
    let mut clusters = vec![
        Cluster { name: "idc", endpoints: &idc, priced: false },
        Cluster { name: "near", endpoints: &near, priced: false },
        Cluster { name: "far", endpoints: &far, priced: false },
    ];
    if stage.kind == Kind::Tidegate {
        // The other proxies have the order in their configuration; Tidegate has to find it by measurement,
        // against the order of its list.
        clusters.swap(1, 2);
    }
    let setup = Setup { clusters, probe: Probe::Http, services: Vec::new() };
    let proxy = Running::start(stage.kind, &setup);
    // Distances come from HTTP probes, one each half second.
    sleep(secs(2.5));
    let load = Load::open(proxy.address, Who::Others, 60.0, "/shop/item");
    load.run_until(secs(5.0));
    idc[0].kill();
    load.run_until(secs(10.0));
    idc[0].restart();
    load.run_until(secs(20.0));
    let samples = load.stop();
    let all = Answers(&samples);
    let gates = vec![
        Figure::share("to the farthest while all are up", all.between(0.0, 5.0).share("far"))
            .at_most(0.02),
        Figure::share(
            "to the farthest from 1 s after the outage on",
            all.between(6.0, 20.0).share("far"),
        )
        .at_most(0.02),
        Figure::share(
            "to the nearest from 7 s after its return on",
            all.between(17.0, 20.0).share("idc"),
        )
        .at_least(0.9),
        // GET requests whose upstream connection is reset are retried.
        Figure::count("refused or failed", all.lost()).at_most(0.0),
    ];
    Played::of((stage.name, stage.kind), all, &names(&[&idc, &near, &far]), gates)
}

/// Every endpoint of the IDC stops answering and accepting, and its connections stay open.
pub fn frozen(stage: Stage) -> Played {
    let (idc, cloud) =
        (endpoints("idc", 3, &traits(8, 20.0, 0)), endpoints("cloud", 1, &traits(64, 20.0, 30)));
    let proxy = before(stage.kind, &idc, &cloud, Farther::Distant);
    let load = Load::open(proxy.address, Who::Others, 100.0, "/shop/item");
    load.run_until(secs(4.0));
    idc.iter().for_each(|endpoint| endpoint.freeze());
    load.run_until(secs(9.0));
    idc.iter().for_each(|endpoint| endpoint.thaw());
    load.run_until(secs(11.0));
    let samples = load.stop();
    let all = Answers(&samples);
    let during = all.between(3.5, 9.0);
    let late = during.0.iter().filter(|sample| {
        sample.took > Duration::from_millis(1_600) || !matches!(sample.outcome, Outcome::Served(_))
    });
    let gates = vec![
        Figure::seconds("slowest response", during.slowest()).at_most(1.6),
        Figure::count("not answered within 1.6 s", late.count() as f64).at_most(0.0),
    ];
    Played::of((stage.name, stage.kind), during, &names(&[&idc, &cloud]), gates)
}
