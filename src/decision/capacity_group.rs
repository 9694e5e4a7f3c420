//! Capacity groups: clusters behind one line (a leased line, a VPN), which is limited in exchanges at once or in bytes
//! a second.
//!
//! A full group takes no new exchanges: its clusters are not selected, as if they were at their own ceilings. Exchanges in
//! flight continue. The rate is limited by an allowance, the number of bytes that the line may have carried since the start: it
//! grows at the limit, and the group is full while the line has carried more. Bytes of running exchanges count too, so the
//! mean over time is at the limit, although the size of an exchange is unknown when it begins.
//!
//! # Units
//! Bytes, and bytes a second in each direction: a line of 100 Mbit/s carries as much both ways.

pub use super::index::GroupIndex;

/// A capacity group of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct CapacityGroup {
    /// Its name.
    pub name: String,
    /// Exchanges at once over the line.
    pub concurrent: Option<u32>,
    /// Bytes a second over the line, in each direction.
    pub bytes_per_s: Option<f64>,
    /// Whether the proxies of the site share the line.
    pub shared: bool,
}

impl CapacityGroup {
    /// The limits of the whole line.
    #[must_use]
    pub fn whole(&self) -> Limits {
        Limits { concurrent: self.concurrent, bytes_per_s: self.bytes_per_s }
    }
}

/// The limits of a line for this proxy: the whole line, or its share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Concurrent exchanges.
    pub concurrent: Option<u32>,
    /// Bytes a second, in each direction.
    pub bytes_per_s: Option<f64>,
}

impl Limits {
    /// The rate in Mbit/s.
    #[must_use]
    pub fn mbit_per_s(&self) -> Option<f64> {
        self.bytes_per_s.map(|bytes| bytes * 8.0 / 1e6)
    }
}

/// The limits and the use of a capacity group at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupSignals {
    /// The limits of this proxy.
    pub limits: Limits,
    /// Exchanges in flight.
    pub in_flight: u32,
    /// Bytes since the start of the process: received from clusters, and sent to them.
    pub bytes: [u64; 2],
    /// The same, in bytes a second, as means over about a second.
    pub bytes_per_s: [f64; 2],
    /// Whether the group takes no new exchange.
    pub full: bool,
}

impl GroupSignals {
    /// The rate of the busier direction, in Mbit/s.
    #[must_use]
    pub fn mbit_per_s(&self) -> f64 {
        let [received, sent] = self.bytes_per_s;
        received.max(sent) * 8.0 / 1e6
    }
}

/// The time for which an idle line saves its capacity: a short burst does not fill the group.
const BURST_SECONDS: f64 = 0.2;
/// The longest time for which a group is full because its running exchanges exceeded the limit.
const DEBT_SECONDS: f64 = 2.0;

/// The allowance after `elapsed` seconds: `carried` bytes so far, and the allowance before (`None`: the limit is new).
#[must_use]
pub fn allowance(carried: u64, before: Option<u64>, bytes_per_s: f64, elapsed: f64) -> u64 {
    let burst = bytes_per_s * BURST_SECONDS;
    let credit = before.map_or(burst, |before| {
        let left = before as f64 - carried as f64;
        (left + bytes_per_s * elapsed).clamp(-DEBT_SECONDS * bytes_per_s, burst)
    });
    (carried as f64 + credit).max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    /// Bytes a second over a line with this limit, whose exchanges begin whenever the group is not full: each has a random
    /// size, and is carried over a random time after its start.
    fn carried(limit: f64, per_s: f64, mean_bytes: f64, seconds: usize) -> f64 {
        let mut dice = Dice::seeded(3);
        let (mut total, mut allowed, mut running) = (0_u64, None, Vec::<(f64, f64)>::new());
        let (step, mut due) = (0.001, 0.0);
        for tick in 0..seconds * 1_000 {
            if tick % 50 == 0 {
                allowed =
                    Some(allowance(total, allowed, limit, if tick > 0 { 0.050 } else { 0.0 }));
            }
            due += per_s * step;
            while due >= 1.0 {
                due -= 1.0;
                if allowed.is_some_and(|allowed| total < allowed) {
                    running.push((2.0 * mean_bytes * dice.unit(), 0.020 + 0.2 * dice.unit()));
                }
            }
            for (left, time) in &mut running {
                let bytes = *left * (step / *time).min(1.0);
                total += bytes as u64;
                (*left, *time) = (*left - bytes, *time - step);
            }
            running.retain(|(_, time)| *time > 0.0);
        }
        total as f64 / seconds as f64
    }

    #[test]
    fn a_line_carries_its_limit_and_no_more() {
        for (per_s, mean_bytes) in [(2_000.0, 20_000.0), (400.0, 100_000.0), (20_000.0, 2_000.0)] {
            let rate = carried(12_500_000.0, per_s, mean_bytes, 30) / 12_500_000.0;
            assert!((0.9..1.03).contains(&rate), "{per_s}/s of {mean_bytes}: {rate}");
        }
        let rate = carried(12_500_000.0, 100.0, 20_000.0, 30);
        assert!((1.9e6..2.1e6).contains(&rate), "below the limit nothing is full: {rate}");
    }

    #[test]
    fn credit_and_debt_are_bounded() {
        assert_eq!(allowance(0, None, 1_000.0, 0.0), 200);
        assert_eq!(allowance(500, Some(700), 1_000.0, 100.0), 700, "no more than a burst is saved");
        assert_eq!(allowance(100_000, Some(700), 1_000.0, 0.0), 98_000, "two seconds of debt");
        assert_eq!(allowance(1_000, Some(0), 1_000.0, 0.0), 0);
    }
}
