//! What the demo shows: scenes of phases, each with a caption, a demand, and what is measured.
//!
//! Each scene begins with the data centre alive and half loaded, so that a scene that a key interrupted can be played
//! again.

/// Requests a second that the data centre can serve: ten slots of 20 ms.
pub(super) const CAPACITY: f64 = 500.0;
/// The demand of quiet times.
pub(super) const EBB: f64 = CAPACITY * 0.5;
/// The demand beyond the capacity.
pub(super) const FLOOD: f64 = CAPACITY * 1.3;

/// What happens to the data centre at the start of a phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    Nothing,
    Kill,
    Revive,
}

/// What the responses of a phase are judged by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Measure {
    /// At half load, the data centre serves.
    Low,
    /// The excess spills.
    High,
    /// The traffic returned after the flood.
    Back,
    /// An outage costs nothing.
    Outage,
    /// The traffic returned after the outage.
    Home,
}

/// Some seconds of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub(super) caption: &'static str,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) seconds: u64,
    pub(super) act: Act,
    /// `None` leaves the cluster time to settle.
    pub(super) measure: Option<Measure>,
}

const fn settles(caption: &'static str, rate: f64, seconds: u64, act: Act) -> Phase {
    Phase { caption, rate, seconds, act, measure: None }
}

const fn measured(caption: &'static str, rate: f64, seconds: u64, measure: Measure) -> Phase {
    Phase { caption, rate, seconds, act: Act::Nothing, measure: Some(measure) }
}

const LOW: &str = "Low tide: half of what the data centre can take. Everything stays at home.";
const RISE: &str = "The tide rises past its capacity: watch the excess spill into the near cloud.";
const HIGH: &str = "High tide: 130 % of its capacity. Nobody is refused, nobody waits long.";
const FALL: &str = "The tide falls: the traffic comes home by itself.";
const DEAD: &str = "The data centre is killed now, connections and all: watch the errors.";
const RETURN: &str = "The data centre is back: it gets 2 %, then twice as much each 250 ms.";
const HOME: &str = "Five seconds later: everything is at home again.";

/// All scenes, in order.
pub(super) const SCENES: &[&[Phase]] = &[
    &[settles(LOW, EBB, 1, Act::Nothing), measured(LOW, EBB, 2, Measure::Low)],
    &[
        settles(RISE, FLOOD, 3, Act::Nothing),
        measured(HIGH, FLOOD, 8, Measure::High),
        settles(FALL, EBB, 3, Act::Nothing),
        measured(FALL, EBB, 3, Measure::Back),
    ],
    &[
        Phase { act: Act::Kill, ..measured(DEAD, EBB, 4, Measure::Outage) },
        settles(RETURN, EBB, 5, Act::Revive),
        measured(HOME, EBB, 3, Measure::Home),
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tide_rises_early_enough_for_a_spill_within_five_seconds() {
        let phases = SCENES.iter().flat_map(|scene| scene.iter());
        let before = phases.take_while(|phase| phase.rate <= CAPACITY);
        assert!(before.map(|phase| phase.seconds).sum::<u64>() <= 3);
        let all = SCENES.iter().flat_map(|scene| scene.iter()).map(|phase| phase.seconds);
        assert!((30..=40).contains(&all.sum::<u64>()));
    }

    #[test]
    fn each_scene_can_be_played_again_and_everything_is_measured() {
        let mut measures = Vec::new();
        for scene in SCENES {
            let last = scene.last().unwrap();
            assert!(last.rate <= CAPACITY, "a scene ends at low tide");
            let kills = scene.iter().filter(|phase| phase.act == Act::Kill).count();
            let revives = scene.iter().filter(|phase| phase.act == Act::Revive).count();
            assert_eq!(kills, revives, "a scene ends with the data centre alive");
            measures.extend(scene.iter().filter_map(|phase| phase.measure));
        }
        use Measure::{Back, High, Home, Low, Outage};
        assert_eq!(measures, [Low, High, Back, Outage, Home]);
    }
}
