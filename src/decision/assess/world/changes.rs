//! What an operator changes in a small world: dials, shifts, drills.

use super::*;

#[test]
fn a_dial_removes_its_share_and_zero_removes_all() {
    let mut world = home_and_cloud(1);
    world.rate = 200.0;
    let dial = |percent| Event::DialCluster { cluster: "a".to_owned(), percent };
    world.run(3);
    world.assessor.fold(dial(Some(50)), Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(10);
    assert!((0.47..=0.53).contains(&world.share(0)), "{:?}", world.served);
    world.assessor.fold(dial(Some(0)), Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(5);
    assert_eq!(world.served[0], 0);
    assert!(world.whys.keys().all(|why| *why == Why::Dial), "{:?}", world.whys);
    world.assessor.fold(dial(None), Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(5);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
}

fn shift(percent: u8) -> Shift {
    Shift { from: "a".to_owned(), to: "c".to_owned(), percent }
}

#[test]
fn a_shift_moves_its_part_to_its_target_and_all_of_it_at_last() {
    let mut world = World::new(1, &[(50, 1), (50, 20), (50, 40)]);
    world.rate = 200.0;
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    for (percent, shares) in [(40, [0.6, 0.0, 0.4]), (100, [0.0, 0.0, 1.0])] {
        let event = Event::Shift { service: "shop".to_owned(), shift: Some(shift(percent)) };
        world.assessor.fold(event, Timestamp::from_nanos(world.now));
        world.run(2);
        world.run(5);
        let served: [f64; 3] = std::array::from_fn(|slot| world.share(slot));
        for (share, expected) in served.iter().zip(shares) {
            assert!((share - expected).abs() < 0.03, "{percent}: {served:?}");
        }
        let class = &world.signals.classes[ClassIndex(0)];
        assert_eq!(class.order, [0, 1, 2].map(ClusterIndex), "distances are what they were");
        assert_eq!(class.shift.map(|shift| (shift.percent, shift.rests)), Some((percent, false)));
    }
    assert!(world.whys.keys().all(|why| *why == Why::Dial), "{:?}", world.whys);
    // The target is down: the shift rests, and the source serves as before.
    world.places[2].up = false;
    world.run(3);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    assert!(world.signals.classes[ClassIndex(0)].shift.unwrap().rests);
    world.places[2].up = true;
    world.run(5);
    let none = Event::Shift { service: "shop".to_owned(), shift: None };
    world.assessor.fold(none, Timestamp::from_nanos(world.now));
    world.run(2);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    assert_eq!(world.signals.classes[ClassIndex(0)].shift, None);
}

/// A world whose clusters are sites of their own.
fn sites() -> World {
    let mut world = home_and_cloud(1);
    let mut plan = plan(&["a", "b"]);
    for cluster in &mut plan.clusters {
        cluster.site = format!("site-{}", cluster.name);
    }
    world.assessor.adopt(Arc::new(plan));
    world.rate = 200.0;
    world.run(3);
    world
}

#[test]
fn a_temporary_change_ends_by_itself() {
    let mut world = sites();
    let hold = |world: &mut World, change| {
        let until = Timestamp::from_nanos(world.now).plus(Duration::from_secs(5));
        let event = Event::Temporary(Some(Temporary { change, until }));
        world.assessor.fold(event, Timestamp::from_nanos(world.now));
    };
    hold(&mut world, Change::Site { site: "site-a".to_owned(), percent: 0 });
    world.run(1);
    world.run(3);
    assert_eq!(world.served[0], 0);
    assert_eq!(world.signals.clusters[ClusterIndex(0)].site_dial, 0);
    assert_eq!(world.assessor.dials(), Dials::default(), "a temporary change is not stored");
    // Nobody extends it.
    world.run(2);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    let shift = Shift { from: "a".to_owned(), to: "b".to_owned(), percent: 100 };
    let change = Change::Shift { service: "shop".to_owned(), shift: Some(shift) };
    hold(&mut world, change);
    world.run(1);
    world.run(3);
    assert!(world.share(1) > 0.98, "{:?}", world.served);
    world.run(2);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
}

#[test]
fn a_drilled_site_serves_what_no_other_can() {
    let mut world = sites();
    let until = Timestamp::from_nanos(world.now).plus(Duration::from_secs(60));
    let change = Change::Site { site: "site-a".to_owned(), percent: 0 };
    let event = Event::Temporary(Some(Temporary { change, until }));
    world.assessor.fold(event, Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(1);
    assert_eq!(world.served[0], 0);
    world.places[1].up = false;
    world.run(2);
    world.run(2);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    // A dial of an operator is not a drill: nothing overrides it.
    let drain = Event::DialSite { site: "site-a".to_owned(), percent: Some(0) };
    world.assessor.fold(drain, Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(1);
    assert_eq!(world.served[0], 0);
}
