//! What a cluster can serve, as far as that was seen, and how many endpoints the demand to come needs.
//!
//! A cluster in a cloud is ready a minute after it was asked for, so the asking must come before the spill.
//! What one can serve is what came back from it while it had a queue; what is reported or stated stands
//! in until then. The forecast is poured into the clusters in their order: one's own data centre up to
//! nine tenths of what it can serve, the rest into the first cloud.
//!
//! # Units
//! Exchanges a second; endpoints.

/// How much of an endpoint is to be used: the rest is for the unevenness of arrivals.
const UTILISATION: f64 = 0.7;
/// How full one's own data centre may be before a cloud is made ready.
const HOME_FULL: f64 = 0.9;
/// The window in which a full cluster's rate is learned, in seconds.
const LEARNED: f64 = 1.0;

/// What one cluster can serve of one class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    seen: Option<f64>,
}

impl Capacity {
    /// Folds in what comes back a second while the cluster is `full`.
    pub fn fold(&mut self, rate: f64, full: bool, elapsed: f64) {
        let rate = if rate.is_finite() { rate } else { 0.0 };
        if !full || rate <= 0.0 {
            // One that serves more than it was thought to can do that, too.
            self.seen = self.seen.map(|seen| seen.max(rate));
            return;
        }
        let news = 1.0 - (-elapsed / LEARNED).exp();
        self.seen = Some(self.seen.map_or(rate, |seen| seen + (rate - seen) * news));
    }

    /// What it can serve, seen rather than `told`.
    #[must_use]
    pub fn rate(&self, told: Option<f64>) -> Option<f64> {
        self.seen.or(told).filter(|rate| *rate > 0.0)
    }
}

/// One cluster in its order.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    /// What it can serve with the endpoints it has.
    pub rate: Option<f64>,
    /// Endpoints in use; none while it is down.
    pub endpoints: usize,
    /// Whether more can be had in a minute.
    pub is_cloud: bool,
}

/// How much of `demand` each cluster should be able to serve, in order.
#[must_use]
pub fn pour(demand: f64, supplies: &[Supply]) -> Vec<f64> {
    let mut left = demand;
    let mut pour = |supply: &Supply| {
        let takes = match (supply.is_cloud, supply.endpoints) {
            (true, _) => left,
            (false, 0) => 0.0,
            // Of one that was never full it is not known what it can serve: it has served all so far.
            (false, _) => supply.rate.map_or(left, |rate| left.min(HOME_FULL * rate)),
        };
        left -= takes;
        takes
    };
    supplies.iter().map(&mut pour).collect()
}

/// The endpoints each cluster needs to serve its part, not rounded: the parts that several proxies see are
/// to be added up first. `None` where nothing is known of what an endpoint can serve.
#[must_use]
pub fn replicas(parts: &[f64], supplies: &[Supply]) -> Vec<Option<f64>> {
    let per_endpoint = |supply: &Supply| {
        supply.rate.filter(|_| supply.endpoints > 0).map(|rate| rate / supply.endpoints as f64)
    };
    // The same application elsewhere is the best guess for one that was never full.
    let anywhere = supplies.iter().find_map(per_endpoint);
    let needed = |(part, supply): (&f64, &Supply)| {
        let each = per_endpoint(supply).or(anywhere)?;
        Some(part / (each * UTILISATION))
    };
    parts.iter().zip(supplies).map(needed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(rate: Option<f64>, endpoints: usize, is_cloud: bool) -> Supply {
        Supply { rate, endpoints, is_cloud }
    }

    #[test]
    fn what_home_cannot_take_is_asked_of_the_first_cloud() {
        let supplies =
            [supply(Some(1_000.0), 10, false), supply(None, 2, true), supply(Some(500.0), 5, true)];
        let parts = pour(1_600.0, &supplies);
        assert_eq!(parts, [900.0, 700.0, 0.0]);
        let needed = replicas(&parts, &supplies);
        assert!((needed[1].unwrap() - 10.0).abs() < 1e-9, "700 / (100 x 0.7): {needed:?}");
        assert_eq!(pour(500.0, &supplies), [500.0, 0.0, 0.0]);
    }

    #[test]
    fn a_fallen_home_takes_nothing_and_of_the_unknown_nothing_is_said() {
        let supplies = [supply(None, 0, false), supply(None, 2, true)];
        let parts = pour(100.0, &supplies);
        assert_eq!(parts, [0.0, 100.0]);
        assert_eq!(replicas(&parts, &supplies), [None, None]);
    }

    #[test]
    fn a_full_cluster_teaches_what_it_can_serve() {
        let mut capacity = Capacity::default();
        capacity.fold(700.0, false, 0.05);
        assert_eq!(capacity.rate(Some(50.0)), Some(50.0), "it was never full");
        (0..200).for_each(|_| capacity.fold(1_000.0, true, 0.05));
        assert!((capacity.rate(None).unwrap() - 1_000.0).abs() < 1.0);
        capacity.fold(1_300.0, false, 0.05);
        assert_eq!(capacity.rate(None), Some(1_300.0), "it can do what it does");
        (0..200).for_each(|_| capacity.fold(400.0, true, 0.05));
        assert!(capacity.rate(None).unwrap() < 410.0, "it lost servers");
        capacity.fold(f64::NAN, true, 0.05);
        assert!(capacity.rate(None).unwrap() < 410.0);
    }
}
