//! When the bound after a queue does not apply: each test begins with a bound that is in force.

use super::*;

/// The bound on what the nearest cluster of the class gets, in exchanges a second.
fn bound(world: &World) -> Option<f64> {
    world.assessor.classes[ClassIndex(0)].bound()
}

/// A data centre that gets more than it can serve, and a bound that is in force.
fn bounded(seed: u64) -> World {
    let mut world = home_and_cloud(seed);
    world.rate = 350.0;
    world.run(10);
    world.rate = 700.0;
    for _ in 0..400 {
        world.pass(50);
        if bound(&world).is_some() {
            return world;
        }
    }
    panic!("seed {seed}: no bound within 20 s");
}

/// Fails if there is a bound at a sweep of this time at which the condition holds, or if it holds at few sweeps.
fn never(world: &mut World, milliseconds: u64, mut when: impl FnMut(&World) -> bool) {
    let mut sweeps = 0;
    for _ in 0..milliseconds / 50 {
        world.pass(50);
        if when(world) {
            sweeps += 1;
            assert_eq!(bound(world), None, "after {sweeps} sweeps");
        }
    }
    assert!(sweeps > 20, "{sweeps} sweeps");
}

#[test]
fn a_cluster_that_is_alone_has_none() {
    for seed in 0..8 {
        let mut world = bounded(seed);
        world.places[1].up = false;
        let is_alone = |world: &World| world.signals.classes[ClassIndex(0)].choices.len() == 1;
        for _ in 0..200 {
            world.pass(50);
            if is_alone(&world) {
                break;
            }
        }
        assert!(is_alone(&world), "seed {seed}");
        never(&mut world, 2_000, is_alone);
    }
}

#[test]
fn a_cluster_that_returns_has_none_until_its_ramp_is_over() {
    for seed in 0..8 {
        let mut world = bounded(seed);
        world.places[0].up = false;
        world.run(5);
        assert_eq!(bound(&world), None, "seed {seed}: of another cluster");
        world.places[0].up = true;
        // A small part of this fills it.
        world.rate = 2_500.0;
        let returns = |world: &World| {
            let shares = &world.signals.classes[ClassIndex(0)].choices;
            let open = world.assessor.clusters[ClusterIndex(0)]
                .return_share(Timestamp::from_nanos(world.now));
            open < 1.0 && shares.iter().any(|choice| choice.slot == 0)
        };
        never(&mut world, 8_000, returns);
    }
}

#[test]
fn a_cluster_that_reports_its_queue_has_none() {
    for seed in 0..8 {
        let mut world = bounded(seed);
        world.reports = true;
        never(&mut world, 5_000, |world| {
            world.assessor.classes[ClassIndex(0)].tracks[0].report().is_some()
        });
    }
}

#[test]
fn while_every_cluster_has_a_queue_there_is_none() {
    for seed in 0..8 {
        let mut world = bounded(seed);
        world.places[1].servers = 2;
        let mut before = false;
        let overloaded = |world: &World| {
            // The overload of a sweep is that of the last one's queues.
            let (last, now) = (before, world.assessor.classes[ClassIndex(0)].is_overloaded());
            before = now;
            last && now
        };
        never(&mut world, 10_000, overloaded);
    }
}
