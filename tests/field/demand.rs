//! S23 and S24: the desired replicas after a step in demand, and shedding when all clusters are full.

use super::client::Who;
use super::load::{Load, Sample};
use super::proxies::{Cluster, Kind, Probe, Running, Setup};
use super::report::{Answers, Figure, Played};
use super::{Farther, Stage, before, endpoints, names, secs, sleep, traits};
use std::time::Duration;

/// 20, 100 and 20 requests/s for an IDC of four endpoints that serve 25/s each.
pub fn steps(stage: Stage) -> Played {
    let (idc, cloud) =
        (endpoints("idc", 4, &traits(1, 40.0, 0)), endpoints("cloud", 1, &traits(64, 40.0, 30)));
    let proxy = before(stage.kind, &idc, &cloud, Farther::Priced);
    let load = Load::open(proxy.address, Who::Others, 20.0, "/shop/item");
    let up = 5.0;
    let down = up + stage.seconds(12.0, 6.0);
    let end = down + stage.seconds(6.0, 3.0);
    let mut desired = watch(&proxy, &load, up);
    load.set_rate(100.0);
    let during = watch(&proxy, &load, down);
    load.set_rate(20.0);
    desired.extend(&during);
    desired.extend(watch(&proxy, &load, end));
    let samples = load.stop();
    // 100/s x 40 ms are four busy endpoints of one slot each, at nine tenths 4.4.
    let needed = 4.0 / 0.9;
    let greatest = desired.iter().copied().fold(0.0, f64::max);
    let last = during.last().copied().unwrap_or_default();
    let gates = vec![
        Figure::replicas("greatest desired replicas", greatest)
            .at_most(1.5 * needed)
            .only_of(stage.kind, Kind::Tidegate),
        // Half of the needed number: this gate concerns the first seconds; the exact number is required only
        // after a minute. The short form ends before the queue is detected; before that, no number is
        // published.
        Figure::replicas("desired replicas at 100/s, at the end", last)
            .at_least(if stage.long { needed / 2.0 } else { 0.0 })
            .only_of(stage.kind, Kind::Tidegate),
        Figure::count("refused or failed", Answers(&samples).lost()).at_most(0.0),
    ];
    Played::of((stage.name, stage.kind), Answers(&samples), &names(&[&idc, &cloud]), gates)
}

/// Samples Tidegate's desired replicas ten times a second, up to the time `until`.
fn watch(proxy: &Running, load: &Load, until: f64) -> Vec<f64> {
    let mut seen = Vec::new();
    while load.age() < secs(until) {
        seen.extend(proxy.metric("tidegate_desired_replicas"));
        sleep(Duration::from_millis(100));
    }
    seen
}

/// Two services of priority 0 and 9 in the same two clusters, together at 1.5 times their capacity.
pub fn priorities(stage: Stage) -> Played {
    // 4 slots x 40 ms twice: 200/s in total.
    let (idc, cloud) =
        (endpoints("idc", 1, &traits(4, 40.0, 0)), endpoints("cloud", 1, &traits(4, 40.0, 30)));
    let clusters = vec![
        Cluster { name: "idc", endpoints: &idc, priced: false },
        Cluster { name: "cloud", endpoints: &cloud, priced: true },
    ];
    let services = vec![("low", 0), ("high", 9)];
    let proxy = Running::start(stage.kind, &Setup { clusters, probe: Probe::Tcp, services });
    sleep(secs(1.5));
    let low = Load::open(proxy.address, Who::Others, 30.0, "/low/item");
    let high = Load::open(proxy.address, Who::Others, 30.0, "/high/item");
    let full = 5.0;
    high.run_until(secs(full));
    low.set_rate(150.0);
    high.set_rate(150.0);
    let end = full + stage.seconds(12.0, 7.0);
    high.run_until(secs(end));
    let learned = proxy.tidegate.as_ref().map(|proxy| proxy.cluster("idc")["service_ms"].as_f64());
    let learned = learned.flatten().unwrap_or_default() / 1_000.0;
    let (low, high) = (low.stop(), high.stop());
    let both: Vec<Sample> = {
        let mut both = [low.clone(), high.clone()].concat();
        both.sort_by_key(|sample| sample.due);
        both
    };
    let (low, high) = (Answers(&low).between(full, 1e6), Answers(&high).between(full, 1e6));
    let both = Answers(&both).between(full, 1e6);
    let gates = vec![
        Figure::count("priority 9 refused or failed", high.lost()).at_most(0.0),
        // The cloud's 30 ms are part of its service.
        Figure::seconds("p50 of admitted requests", both.quantile(0.5))
            // In the short form a development build shares two cores with seven other scenarios.
            .at_most(0.040 + 0.030 + if stage.long { 0.300 } else { 0.400 }),
        // Within a factor of two of the true 40 ms.
        Figure::seconds("learned service time of the IDC", learned)
            .within(0.020, 0.080)
            .only_of(stage.kind, Kind::Tidegate),
    ];
    let names = names(&[&idc, &cloud]);
    let mut played = Played::of((stage.name, stage.kind), high, &names, gates);
    let below = Played::of(("S24 priority 0", stage.kind), low, &names, Vec::new());
    played.row = format!("{}\n{}", played.row, below.row);
    played.reasons = format!("{}; priority 0: {}", played.reasons, below.reasons);
    played
}
