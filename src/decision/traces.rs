//! Which exchanges are traced, and the collector of their spans.
//!
//! A trusted client that sent `traceparent` has decided for the whole trace. Else the trace's id decides: every
//! proxy with the same ratio samples the same traces, and no random number is drawn for the decision.

use std::path::PathBuf;

/// The collector of spans.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    /// The URL as written.
    pub url: String,
    /// Whether the collector is authenticated by TLS.
    pub secure: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The certificate authorities for its certificate; `None` is those of the system.
    pub ca: Option<PathBuf>,
}

/// The share of traces that are recorded, where no trusted client decides.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sampling {
    /// Traces whose low 56 bits are below this number are recorded: those bits are random (W3C Trace Context §3.2.2.3).
    below: u64,
}

/// The number of values of the random bits.
const RANDOM: u64 = 1 << 56;

impl Sampling {
    /// Records this share of traces, from 0 to 1.
    #[must_use]
    pub fn of(ratio: f64) -> Sampling {
        Sampling { below: (ratio.clamp(0.0, 1.0) * RANDOM as f64) as u64 }
    }

    /// Whether a new trace is recorded.
    #[must_use]
    pub fn takes(self, trace: u128) -> bool {
        (trace as u64 & (RANDOM - 1)) < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    #[test]
    fn a_ratio_takes_its_share_and_the_same_traces_everywhere() {
        let mut dice = Dice::seeded(1);
        let traces: Vec<u128> =
            (0..20_000).map(|_| u128::from(dice.bits()) << 64 | u128::from(dice.bits())).collect();
        for (ratio, least, most) in
            [(0.0, 0, 0), (1.0, 20_000, 20_000), (0.25, 4_800, 5_200), (0.01, 150, 250)]
        {
            let sampling = Sampling::of(ratio);
            let taken = traces.iter().filter(|trace| sampling.takes(**trace)).count();
            assert!((least..=most).contains(&taken), "{ratio}: {taken}");
        }
        let (few, many) = (Sampling::of(0.1), Sampling::of(0.5));
        assert!(traces.iter().all(|trace| !few.takes(*trace) || many.takes(*trace)));
        assert!(!Sampling::default().takes(0));
    }
}
