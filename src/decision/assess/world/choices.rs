//! The choice of a cluster in a small world: load, outages, paths, probes.

use super::*;

#[test]
fn at_half_load_nearly_all_stays_home() {
    for seed in 0..16 {
        for (exponential, least) in [(false, 0.99), (true, 0.95)] {
            let mut world = home_and_cloud(seed);
            world.exponential = exponential;
            world.rate = 250.0;
            world.run(30);
            assert!(world.share(0) >= least, "seed {seed}: {:?}", world.served);
        }
    }
}

#[test]
fn past_saturation_the_excess_spills_and_nobody_waits_long() {
    for seed in 0..16 {
        let mut world = home_and_cloud(seed);
        world.exponential = seed % 2 == 0;
        world.rate = 350.0;
        world.run(10);
        world.rate = 650.0;
        world.run(30);
        let (cloud, p99) = (world.share(1), world.p99());
        assert!((0.15..=0.45).contains(&cloud), "seed {seed}: cloud {cloud}");
        assert!(p99 < 0.200, "seed {seed}: p99 {p99}");
        world.rate = 250.0;
        world.run(3);
        world.run(10);
        assert!(world.share(0) >= 0.95, "seed {seed}: after the tide {:?}", world.served);
    }
}

#[test]
fn a_dead_cluster_loses_its_traffic_and_gets_it_back_within_five_seconds() {
    for seed in 0..16 {
        let mut world = home_and_cloud(seed);
        world.rate = 250.0;
        world.run(5);
        world.places[0].up = false;
        world.run(1);
        // The rate of the last second decays; the share of sent exchanges drops to zero at once.
        assert_eq!(world.signals.clusters[ClusterIndex(0)].share, 0.0, "seed {seed}");
        assert_eq!(world.signals.classes[ClassIndex(0)].shares, [0.0, 1.0], "seed {seed}");
        world.run(5);
        assert_eq!(world.served[0], 0, "seed {seed}");
        assert!(world.whys.keys().all(|why| *why == Why::Failover), "{:?}", world.whys);
        assert_eq!(world.signals.clusters[ClusterIndex(0)].share, 0.0);
        assert!(world.signals.classes[ClassIndex(0)].spill < 0.001, "seed {seed}");
        world.places[0].up = true;
        world.run(5);
        assert!(world.whys[&Why::Returning] > 50, "seed {seed}: {:?}", world.whys);
        // A wrong inference of a queue may last for a moment; traffic that the ramp holds back is no spill.
        let spilled = *world.whys.get(&Why::Spill).unwrap_or(&0);
        assert!(spilled <= 100 && world.spill_max < 0.3, "seed {seed}: {spilled}");
        world.run(5);
        assert!(world.share(0) > 0.95, "seed {seed}: {:?}", world.served);
    }
}

#[test]
fn the_order_follows_a_path_that_lengthens() {
    let mut world = home_and_cloud(1);
    world.rate = 100.0;
    world.run(5);
    world.places[0].rtt = 81 * MS;
    world.run(4);
    world.run(2);
    assert!(world.share(1) > 0.95, "{:?}", world.served);
}

#[test]
fn behind_middleboxes_the_loss_of_the_nearest_keeps_the_order_of_the_others() {
    let mut world = World::new(1, &[(10, 1), (100, 30), (100, 70)]);
    world.places.iter_mut().for_each(|place| place.hidden = true);
    let distances = |world: &World| -> Vec<u64> {
        let known = world.signals.clusters.iter().map(|cluster| cluster.distance.unwrap());
        known.map(|seconds| (seconds * 1e3).round() as u64).collect()
    };
    world.rate = 100.0;
    world.run(60);
    assert_eq!(distances(&world), [0, 29, 69], "known up to the nearest's own millisecond");
    for up in [false, true, false] {
        world.places[0].up = up;
        world.run(1);
        for _ in 0..10 {
            world.run(1);
            assert_eq!(distances(&world), [0, 29, 69]);
            assert_eq!(world.signals.classes[ClassIndex(0)].order, [0, 1, 2].map(ClusterIndex));
        }
    }
}

#[test]
fn the_work_of_a_slow_probe_is_not_counted_as_distance() {
    let mut world = World::new(1, &[(10, 1), (100, 30)]);
    let now = Timestamp::from_nanos(world.now);
    for (endpoint, rtt) in [(0, 1), (1, 30)] {
        let (rtt, answer) = (Duration::from_millis(rtt), Some(Duration::from_millis(rtt + 40)));
        for _ in 0..3 {
            world.assessor.fold(Event::ProbeSucceeded { endpoint, rtt, answer, report: None }, now);
        }
    }
    world.sweep();
    let distances: Vec<_> = world.signals.clusters.iter().map(|c| c.distance.unwrap()).collect();
    assert!((distances[0] - 0.001).abs() < 1e-9 && (distances[1] - 0.030).abs() < 1e-9);
}

#[test]
fn removing_a_cluster_never_changes_the_distance_of_another() {
    for seed in 0..300 {
        let mut dice = Dice::seeded(seed);
        let millis: Vec<(u64, u64)> =
            (0..3).map(|_| (1 + dice.below(40) as u64, 1 + dice.below(120) as u64)).collect();
        let mut assessor = Assessor::new(Arc::new(plan(&["a", "b", "c"])), seed, Timestamp::START);
        for (index, name) in ["a", "b", "c"].iter().enumerate() {
            let address = Address::Unix(format!("/{index}").into());
            let found = vec![Found { address, weight: 1 }];
            let event = Event::Endpoints { cluster: (*name).to_owned(), found };
            assessor.fold(event, Timestamp::START);
        }
        let gone = dice.below(3) as u32;
        let distances = |assessor: &mut Assessor, tick: u64, is_gone: bool| -> Vec<f64> {
            let now = Timestamp::START.plus(Duration::from_millis(50 * tick));
            for (endpoint, (rtt, answer)) in (0..).zip(&millis) {
                assessor.fold(
                    match endpoint == gone && is_gone {
                        true => Event::ProbeFailed { endpoint, cause: Cause::Refused },
                        false => Event::ProbeSucceeded {
                            endpoint,
                            rtt: Duration::from_millis(*rtt),
                            answer: Some(Duration::from_millis(rtt + answer)),
                            report: None,
                        },
                    },
                    now,
                );
            }
            let clusters = assessor.sweep(&mut Answered(0.0), now).clusters;
            clusters.iter().map(|cluster| cluster.distance.unwrap()).collect()
        };
        let before = (0..10).map(|tick| distances(&mut assessor, tick, false)).last().unwrap();
        for tick in 10..200 {
            assert_eq!(distances(&mut assessor, tick, true), before, "seed {seed}, dead");
        }
        let left: Vec<&str> =
            ["a", "b", "c"].into_iter().zip(0..).filter(|(_, i)| *i != gone).map(|x| x.0).collect();
        assessor.adopt(Arc::new(plan(&left)));
        let then: Vec<f64> =
            before.iter().zip(0..).filter(|(_, i)| *i != gone).map(|x| *x.0).collect();
        for tick in 200..400 {
            assert_eq!(distances(&mut assessor, tick, true), then, "seed {seed}, out of the plan");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = || {
        let mut world = home_and_cloud(7);
        world.rate = 600.0;
        world.run(5);
        (world.served.clone(), world.latencies.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_few_slow_requests_of_a_new_client_are_no_queue() {
    for seed in 0..16 {
        let mut world = home_and_cloud(seed);
        world.service = 0.200;
        world.rate = 5.0;
        world.run(20);
        assert!(world.served[1] <= 2, "seed {seed}: {:?}", world.served);
    }
}

#[test]
fn a_cluster_without_keep_alive_is_farther_by_its_handshake() {
    let mut world = home_and_cloud(1);
    world.places[0].rtt = 20 * MS;
    world.places[1].rtt = 26 * MS;
    world.rate = 100.0;
    world.run(3);
    assert_eq!(world.signals.classes[ClassIndex(0)].order, [0, 1].map(ClusterIndex));
    world.dials = true;
    world.run(6);
    // 20 ms of round trip and 20 ms of handshake, against 26 ms for a connection that exists.
    let first = &world.signals.classes[ClassIndex(0)];
    assert_eq!(first.order, [1, 0].map(ClusterIndex), "{:?}", first.scores);
}

/// Answers of every endpoint since the last sweep.
struct Answered(f64);

impl Samples for Answered {
    fn class(&mut self, _: ClassIndex, _: usize) -> Tally {
        Tally::default()
    }

    fn exchanges(&mut self, _: ClassIndex, _: usize, _: &mut Exchanges) {}

    fn endpoint(&mut self, _: u32) -> Answers {
        Answers { count: self.0, seconds: self.0 * 0.01, ..Answers::default() }
    }

    fn requested(&mut self, _: ClassIndex) -> [f64; PRIORITIES] {
        [0.0; PRIORITIES]
    }
}

#[test]
fn a_success_ends_a_series_of_failures() {
    let start = Timestamp::START;
    let at = |ms: u64| Timestamp::START.plus(Duration::from_millis(ms));
    let fresh = || {
        let mut assessor = Assessor::new(Arc::new(plan(&["a"])), 1, start);
        let found = (0..2)
            .map(|index| Found { address: Address::Unix(format!("/{index}").into()), weight: 1 });
        let found = found.collect();
        assessor.fold(Event::Endpoints { cluster: "a".to_owned(), found }, start);
        for endpoint in 0..2 {
            let (rtt, answer, report) = (Duration::from_millis(1), None, None);
            assessor.fold(Event::ProbeSucceeded { endpoint, rtt, answer, report }, start);
        }
        assessor
    };
    let fail = |assessor: &mut Assessor, times: usize, ms: u64| {
        for _ in 0..times {
            let cause = Cause::GatewayStatus;
            let event = Event::ExchangeFailed { endpoint: 0, cause, client: None };
            assessor.fold(event, at(ms));
        }
    };
    let usable = |assessor: &mut Assessor, answered: f64, ms: u64| {
        assessor.sweep(&mut Answered(answered), at(ms)).clusters[ClusterIndex(0)].usable.len()
    };
    // One percent of ten thousand exchanges a second fail: at least five between two sweeps.
    let mut assessor = fresh();
    for sweep in 1..40 {
        fail(&mut assessor, 6, sweep * 50);
        assert_eq!(usable(&mut assessor, 594.0, sweep * 50), 2, "sweep {sweep}");
    }
    // All failures are of one client, which counts once: successes end the series.
    let mut assessor = fresh();
    for sweep in 1..80 {
        for _ in 0..20 {
            let client = Some(IpAddr::from([10, 0, 0, 1]));
            let event = Event::ExchangeFailed { endpoint: 0, cause: Cause::Reset, client };
            assessor.fold(event, at(sweep * 50));
        }
        assert_eq!(usable(&mut assessor, 1.0, sweep * 50), 2, "sweep {sweep}");
    }
    // Nothing succeeds: four failures are not sufficient, the fifth is, in any sweep.
    let mut assessor = fresh();
    fail(&mut assessor, 4, 10);
    assert_eq!(usable(&mut assessor, 0.0, 50), 2);
    fail(&mut assessor, 1, 60);
    assert_eq!(usable(&mut assessor, 0.0, 100), 1);
}
