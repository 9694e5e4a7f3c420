//! How much longer exchanges take now than usual, over all kinds of requests: the delay that a queue adds to every
//! exchange.
//!
//! A queue delays fast and slow exchanges by the same amount, so the low quantiles rise too; a slow page raises only
//! its own kind. The estimate is the lower quartile of the differences between response times and the quartiles of
//! their kinds, over windows of doubling length, of all exchanges in flight within the window. An exchange that has
//! not ended, or whose client left, gives a lower bound of its response time (Kaplan and Meier 1958, with late entry
//! and censoring). The estimate comes with confidence bounds, so that a few samples do not decide.
//!
//! # Units
//! Seconds.
//!
//! # Not here
//! Whether the excess is a queue or slower work (`suspicion`).

use super::exchange::{End, Ended, Open};
use super::strata::{QUANTILES, Strata};

/// The windows, in seconds: each is twice as long as the one before.
const WINDOW_FIRST: f64 = 0.1;
/// The longest window in seconds; exchanges are kept for as long.
pub const WINDOW_MAX: f64 = 3.2;
/// With this many exchanges in a window, longer windows are not used.
const ENOUGH: f64 = 60.0;
/// The least number of exchanges in a window for a lower bound, and for an upper bound.
const FEW_LOW: f64 = 6.0;
const FEW_HIGH: f64 = 12.0;
/// With fewer exchanges, the median is used instead of the quartile.
const FEW_QUARTILE: f64 = 16.0;
/// Standard errors of the bounds: lower, upper, and of the bound beyond doubt.
const ERRORS_LOW: f64 = 2.0;
const ERRORS_HIGH: f64 = 0.5;
const ERRORS_SURE: f64 = 3.0;
const ERRORS_MOST: f64 = 3.0;

/// The difference between response times and their usual values, with bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// Lower bound; 0 if the excess may be 0.
    pub low: f64,
    /// Upper bound; infinite if unknown.
    pub high: f64,
    /// The estimate from the shortest window with enough exchanges.
    pub point: Option<f64>,
    /// Lower bound beyond doubt.
    pub sure: f64,
    /// Upper bound beyond doubt; infinite with few exchanges, and if an excess above 0 is possible.
    pub most: f64,
    /// The number of exchanges in the longest window used.
    pub count: f64,
}

impl Default for Excess {
    fn default() -> Excess {
        Excess {
            low: 0.0,
            high: f64::INFINITY,
            point: None,
            sure: 0.0,
            most: f64::INFINITY,
            count: 0.0,
        }
    }
}

/// One exchange within a window: its difference from its kind's quantile.
#[derive(Clone, Copy, Debug)]
struct Life {
    leaves: f64,
    answered: bool,
}

/// Buffers for one estimate, kept from sweep to sweep.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    lives: Vec<Life>,
    entries: Vec<f64>,
}

/// The exchanges of one cluster, and its distance.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Exchanges that ended, the newest last.
    pub ended: &'a [Ended],
    /// Exchanges in flight.
    pub open: &'a [Open],
    /// Distance in seconds.
    pub distance: f64,
}

/// The excess of exchanges that were sent after `since`, at `now`.
#[must_use]
pub fn excess(
    seen: &[Seen<'_>],
    strata: &Strata,
    since: f64,
    now: f64,
    scratch: &mut Scratch,
) -> Excess {
    let mut found = Excess::default();
    let mut window = WINDOW_FIRST;
    while window <= WINDOW_MAX * 1.01 {
        let count = fill(seen, strata, since, (now, window), 0, scratch);
        let which = usize::from(count < FEW_QUARTILE);
        if which == 1 {
            fill(seen, strata, since, (now, window), 1, scratch);
        }
        found.count = count;
        let level = QUANTILES[which];
        // The baseline is an estimate too.
        let error = (level * (1.0 - level) * (1.0 / count.max(1.0) + 1.0 / strata.weight())).sqrt();
        if count >= FEW_LOW {
            let at_least = |errors: f64| {
                let level = level - errors * error;
                if level > 0.0 { quantile(scratch, level).0 } else { f64::NEG_INFINITY }
            };
            // A longer window describes the past: its lower bound may not exceed an upper bound found so far.
            found.low = found.low.max(at_least(ERRORS_LOW).min(found.high));
            found.sure = found.sure.max(at_least(ERRORS_SURE).min(found.high));
        }
        if count >= FEW_HIGH {
            let (high, reached) = quantile(scratch, level + ERRORS_HIGH * error);
            let high = if reached { high.max(found.low) } else { f64::INFINITY };
            found.high = found.high.min(high);
            if found.point.is_none() {
                found.point = Some(quantile(scratch, level).0);
            }
        }
        if count >= ENOUGH {
            let (most, reached) = quantile(scratch, level + ERRORS_MOST * error);
            found.most = if reached && found.low <= 0.0 { most } else { f64::INFINITY };
            break;
        }
        window *= 2.0;
    }
    found
}

/// Fills `scratch` with the exchanges of a window, sorted; returns how many of them began early enough to
/// be compared with the baseline.
fn fill(
    seen: &[Seen<'_>],
    strata: &Strata,
    since: f64,
    (now, window): (f64, f64),
    which: usize,
    scratch: &mut Scratch,
) -> f64 {
    scratch.lives.clear();
    scratch.entries.clear();
    let begin = now - window;
    for cluster in seen {
        let mut add = |sent: f64, over: f64, stratum: u8, answered: bool| {
            let Some(usual) = strata.quantile(stratum, which) else { return };
            let usual = usual + cluster.distance;
            let enters = sent.max(begin) - sent - usual;
            scratch.lives.push(Life { leaves: over - sent - usual, answered });
            scratch.entries.push(enters);
        };
        for one in cluster.ended.iter().rev() {
            if one.ended <= begin {
                break;
            }
            if one.sent >= since {
                add(one.sent, one.ended, one.stratum, one.end == End::Answered);
            }
        }
        for one in cluster.open.iter().filter(|one| one.sent >= since) {
            add(one.sent, now, one.stratum, false);
        }
    }
    scratch.lives.sort_unstable_by(|a, b| a.leaves.total_cmp(&b.leaves));
    scratch.entries.sort_unstable_by(f64::total_cmp);
    scratch.entries.partition_point(|enters| *enters < 0.0) as f64
}

/// The difference at which the share of ended exchanges exceeds `level`, and `true`; or the greatest observed
/// difference and `false` if the share never exceeds `level`.
fn quantile(scratch: &Scratch, level: f64) -> (f64, bool) {
    let mut waiting = 1.0;
    let mut entered = 0;
    for (left, life) in scratch.lives.iter().enumerate() {
        while entered < scratch.entries.len() && scratch.entries[entered] < life.leaves {
            entered += 1;
        }
        if !life.answered {
            continue;
        }
        let at_risk = entered.saturating_sub(left).max(1) as f64;
        waiting *= 1.0 - 1.0 / at_risk;
        if 1.0 - waiting > level {
            return (life.leaves, true);
        }
    }
    (scratch.lives.last().map_or(0.0, |life| life.leaves), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    fn service(dice: &mut Dice) -> f64 {
        -(1.0 - dice.unit()).ln() * 0.020
    }

    fn learned() -> Strata {
        let (mut strata, mut dice) = (Strata::default(), Dice::seeded(1));
        (0..3_000).for_each(|_| strata.learn(0, service(&mut dice), 300.0));
        (0..200).for_each(|_| strata.learn(1, 1.0, 300.0));
        strata
    }

    /// Exchanges at `rate` with the given response times: those that have ended by `now`, and the others.
    fn world(
        rate: f64,
        now: f64,
        mut takes: impl FnMut(f64) -> (u8, f64),
    ) -> (Vec<Ended>, Vec<Open>) {
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        let mut sent = 0.0;
        while sent < now {
            let (stratum, seconds) = takes(sent);
            let over = sent + 0.001 + seconds;
            match over <= now {
                true => ended.push(Ended { sent, ended: over, stratum, end: End::Answered }),
                false => open.push(Open { sent, stratum }),
            }
            sent += 1.0 / rate;
        }
        ended.sort_by(|a, b| a.ended.total_cmp(&b.ended));
        (ended, open)
    }

    fn measure(world: &(Vec<Ended>, Vec<Open>), strata: &Strata, now: f64) -> Excess {
        let seen = Seen { ended: &world.0, open: &world.1, distance: 0.001 };
        excess(&[seen], strata, 0.0, now, &mut Scratch::default())
    }

    #[test]
    fn a_slow_page_is_no_excess_and_a_delay_of_all_is() {
        let (strata, mut dice) = (learned(), Dice::seeded(9));
        let slow_page = world(100.0, 5.0, |sent| match (sent * 100.0) as u64 % 5 {
            0 => (1, 1.0),
            _ => (0, service(&mut dice)),
        });
        let found = measure(&slow_page, &strata, 5.0);
        assert!(found.sure < 0.001 && found.low < 0.002 && found.high < 0.01, "{found:?}");
        let mut dice = Dice::seeded(9);
        let queue = world(100.0, 5.0, |sent| match (sent * 100.0) as u64 % 5 {
            0 => (1, 1.05),
            _ => (0, 0.05 + service(&mut dice)),
        });
        let found = measure(&queue, &strata, 5.0);
        assert!(found.sure > 0.03 && found.low > 0.04, "{found:?}");
        assert!(found.point.unwrap() > 0.04 && found.high < 0.08, "{found:?}");
    }

    #[test]
    fn a_cluster_without_answers_is_detected_by_its_waiting_exchanges() {
        let (strata, mut dice) = (learned(), Dice::seeded(4));
        let frozen =
            world(100.0, 5.0, |sent| (0, if sent > 4.7 { 9.0 } else { service(&mut dice) }));
        let found = measure(&frozen, &strata, 5.0);
        assert!(found.sure > 0.1 && found.high >= found.low, "{found:?}");
    }

    #[test]
    fn clients_who_leave_early_are_no_evidence_of_slowness() {
        let (strata, mut dice) = (learned(), Dice::seeded(6));
        let mut calm = world(60.0, 5.0, |_| (0, service(&mut dice)));
        for turn in 0..200 {
            let sent = f64::from(turn) * 0.025;
            let (stratum, end) = (0, End::Unanswered);
            calm.0.push(Ended { sent, ended: sent + 0.030, stratum, end });
        }
        calm.0.sort_by(|a, b| a.ended.total_cmp(&b.ended));
        // Half of these exchanges would have been answered by then; these clients left earlier.
        let found = measure(&calm, &strata, 5.0);
        assert!(found.sure < 0.012, "{found:?}");
    }

    #[test]
    fn little_evidence_gives_a_weak_bound() {
        let strata = learned();
        let few = world(2.0, 2.0, |_| (0, 0.050));
        let found = measure(&few, &strata, 2.0);
        assert!(found.sure == 0.0 && found.high.is_infinite(), "{found:?}");
        assert_eq!(measure(&(Vec::new(), Vec::new()), &strata, 1.0), Excess::default());
    }
}
