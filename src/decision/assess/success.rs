//! The success ratios of the clusters of a class, compared with each other: a failing cluster receives less traffic.
//!
//! Clusters are compared with the best of them, never with a fixed ratio: a request that fails at all clusters is at
//! fault itself.

use super::place::PermittedCluster;
use crate::load::Track;
use crate::units::Timestamp;

/// The part of a failing cluster's traffic that goes to other clusters while their success ratio is unknown.
const TRIAL: f64 = 0.3;

/// The part of its share that each cluster gets, by slot: a cluster that fails twice as often as the best of `live`
/// gets only the minimum that shows its recovery. While no other success ratio is known, a failing cluster
/// gives up [`TRIAL`].
pub(super) fn working(tracks: &[Track], live: &[usize]) -> Vec<f64> {
    let part = |slot: usize| {
        let track = &tracks[slot];
        let others = live.iter().filter(|other| **other != slot && tracks[**other].is_judged());
        let best = others.map(|other| tracks[*other].success_at_least()).reduce(f64::max);
        match best {
            Some(best) => ((track.success_now() / best.max(1e-3) - 0.5) / 0.4).clamp(0.0, 1.0),
            None if track.success_now() < 0.9 => 1.0 - TRIAL,
            None => 1.0,
        }
    };
    (0..tracks.len()).map(part).collect()
}

/// The success ratio of each cluster, by slot, relative to the best live cluster whose ratio is known; at most 1.
pub(super) fn relative_success(
    tracks: &[Track],
    places: &[PermittedCluster<'_>],
    now: Timestamp,
) -> Vec<f64> {
    let known = |slot: &usize| places[*slot].is_live(now) && tracks[*slot].is_judged();
    let all = (0..tracks.len()).filter(known).map(|slot| tracks[slot].success_at_least());
    let best = all.reduce(f64::max).unwrap_or(1.0);
    let relative = |track: &Track| (track.success_at_least() / best).min(1.0);
    tracks.iter().map(relative).collect()
}
