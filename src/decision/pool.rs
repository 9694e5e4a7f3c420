//! Response times that the proxies of a site share, so that each of many proxies with little traffic sees a queue as soon
//! as one proxy with all of it would.
//!
//! A proxy that receives fewer than [`FEW`] responses a second for a service from a cluster sends the newest response times,
//! less its distance to the cluster, to the other proxies of its site. Each of these adds them to its own observations while it
//! receives as few responses itself. Without such reports, a proxy decides by its own observations alone.
//!
//! # Units
//! Seconds.
//!
//! # Wire format
//! Base64url (RFC 4648 §5) without padding of 16-bit numbers, the most significant byte first: the number of samples so
//! far, the number of the endpoints, then each sample, the newest last. A sample has five bits for its stratum and eleven for the logarithm of its time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;

/// With this many responses a second for a service from a cluster, a proxy needs no response times of other proxies.
pub const FEW: f64 = 20.0;
/// The most response times in a report for each pair of a service and a cluster.
pub const MOST: usize = 16;
/// Response times older than this, in seconds, are not reported.
pub const NEW: f64 = 3.0;
/// The longest response time in a report, in seconds; longer ones are reported as this.
const LONGEST: f64 = 60.0;
/// How long the count of the last report is kept, in seconds. A later report contains no older response times.
const REMEMBERED: f64 = NEW + 1.0;
/// Two reports within this time, in seconds, were delayed on their way, so the age of the samples in the second is unknown.
const DELAYED: f64 = 0.3;
/// The most pairs of a service and a cluster in one report, and the most that are kept for one proxy.
pub const PAIRS_MAX: usize = 64;
const PAIRS_KEPT: usize = 256;
/// The encoding: the shortest response time, in seconds, and the resolution of its logarithm, one percent.
const SHORTEST: f64 = 1e-5;
const STEPS: f64 = 100.0;
const STEPS_MAX: u16 = (1 << 11) - 1;

/// One response time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    /// When the response head arrived, by the clock of the proxy that uses it; on the wire it is left out.
    pub ended: f64,
    /// The time without the distance.
    pub seconds: f64,
    /// The kind of the request: see [`stratum`](crate::strata::number).
    pub stratum: u8,
}

/// The newest response times of one service at one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// The number of samples so far; it starts again after 65,535.
    pub total: u16,
    /// A hash of the cluster's endpoints. Samples of a cluster with other endpoints are not used.
    pub endpoints: u16,
    /// The newest samples, oldest first.
    pub newest: Vec<Observed>,
}

impl Recent {
    /// Adds the samples of another class of the same service at the same cluster.
    pub fn merge(&mut self, other: &Recent) {
        self.total = self.total.wrapping_add(other.total);
        self.endpoints = other.endpoints;
        self.newest.extend_from_slice(&other.newest);
        self.newest.sort_by(|a, b| a.ended.total_cmp(&b.ended));
    }

    /// The text on the wire, with at most `most` samples.
    #[must_use]
    pub fn encode(&self, most: usize) -> String {
        let newest = &self.newest[self.newest.len().saturating_sub(most)..];
        let samples = newest.iter().map(|one| {
            let steps = (one.seconds.min(LONGEST) / SHORTEST).max(1.0).ln() * STEPS;
            u16::from(one.stratum % 32) << 11 | (steps.round() as u16).min(STEPS_MAX)
        });
        let numbers = [self.total, self.endpoints].into_iter().chain(samples);
        let bytes: Vec<u8> = numbers.flat_map(u16::to_be_bytes).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text of [`encode`](Recent::encode); `None` if it is none, or has more than 16 samples.
    #[must_use]
    pub fn decode(text: &str) -> Option<Recent> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (numbers, rest) = bytes.as_chunks::<2>();
        let mut numbers = numbers.iter().map(|pair| u16::from_be_bytes(*pair));
        let total = numbers.next().filter(|_| rest.is_empty())?;
        let endpoints = numbers.next().filter(|_| numbers.len() <= MOST)?;
        let sample = |bits: u16| Observed {
            ended: 0.0,
            seconds: (SHORTEST * (f64::from(bits & STEPS_MAX) / STEPS).exp()).min(LONGEST),
            stratum: (bits >> 11) as u8,
        };
        Some(Recent { total, endpoints, newest: numbers.map(sample).collect() })
    }

    /// The samples that were added since the total was `before`.
    #[must_use]
    pub fn since(&self, before: u16) -> &[Observed] {
        let new = usize::from(self.total.wrapping_sub(before));
        &self.newest[self.newest.len() - new.min(self.newest.len())..]
    }
}

/// The encoded samples of a report, by service and cluster.
pub type Texts = BTreeMap<String, BTreeMap<String, String>>;

/// Response times of one service at one cluster, as reported by another proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The service's name.
    pub service: String,
    /// The cluster's name.
    pub cluster: String,
    /// See [`Recent::endpoints`].
    pub endpoints: u16,
    /// The response times, oldest first.
    pub observed: Vec<Observed>,
}

/// The sample counts in the last reports of one proxy, by service and cluster, and the times of these reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals(BTreeMap<(String, String), (u16, f64)>);

impl Totals {
    /// The samples of a report that were not in an earlier report. `at` is when the report was requested, in seconds. Reports
    /// contain no timestamps: the samples are dated evenly over the time since the last report with the same service and
    /// cluster, at most three seconds.
    pub fn news(&mut self, texts: &Texts, at: f64) -> Vec<Told> {
        self.0.retain(|_, (_, told_at)| at - *told_at <= REMEMBERED);
        if self.0.len() > PAIRS_KEPT {
            self.0.clear();
        }
        let pairs = texts.iter().flat_map(|(service, of)| of.iter().map(move |one| (service, one)));
        let told = pairs.filter_map(|(service, (cluster, text))| {
            let recent = Recent::decode(text)?;
            let pair = (service.clone(), cluster.clone());
            let first = (recent.total.wrapping_sub(recent.newest.len() as u16), at - NEW);
            let (total, told_at) = self.0.insert(pair, (recent.total, at)).unwrap_or(first);
            let new = recent.since(total);
            let since = (at - told_at).clamp(0.0, NEW);
            if since < DELAYED {
                return None;
            }
            let step = since / f64::from(recent.total.wrapping_sub(total).max(1));
            let ended = |index: usize| at - step * (new.len() - index - 1) as f64;
            let dated = |(index, one): (usize, &Observed)| Observed { ended: ended(index), ..*one };
            let observed: Vec<Observed> = new.iter().enumerate().map(dated).collect();
            (!observed.is_empty()).then(|| Told {
                service: service.clone(),
                cluster: cluster.clone(),
                endpoints: recent.endpoints,
                observed,
            })
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    fn observed(seconds: f64, stratum: u8) -> Observed {
        Observed { ended: 0.0, seconds, stratum }
    }

    #[test]
    fn times_come_back_within_half_a_percent_and_strata_exactly() {
        let mut dice = Dice::seeded(1);
        for _ in 0..1_000 {
            let newest: Vec<Observed> = (0..dice.below(MOST + 1))
                .map(|_| observed((dice.unit() * 14.9).exp() * 2e-5, dice.below(32) as u8))
                .collect();
            let (total, endpoints) = (dice.below(65_536) as u16, dice.below(65_536) as u16);
            let recent = Recent { total, endpoints, newest };
            let back = Recent::decode(&recent.encode(MOST)).unwrap();
            assert_eq!((back.total, back.endpoints), (total, endpoints));
            assert_eq!(back.newest.len(), recent.newest.len());
            for (one, other) in back.newest.iter().zip(&recent.newest) {
                assert_eq!(one.stratum, other.stratum);
                assert!((one.seconds / other.seconds - 1.0).abs() < 0.0051, "{one:?} {other:?}");
            }
        }
        let full =
            Recent { total: 1, endpoints: 1, newest: vec![observed(0.020, 3); 20] }.encode(MOST);
        assert_eq!(full.len(), 48, "{full}");
    }

    #[test]
    fn what_no_proxy_tells_is_refused() {
        let long = "A".repeat((2 * (MOST + 3) * 4usize).div_ceil(3));
        for text in ["", "A", "AA", "AAA", "AAAAA!", "AAAAAAA", "AAAAAé", "AAAAAA==", &long] {
            assert_eq!(Recent::decode(text), None, "{text:?}");
        }
        for text in ["AAAAAA", "_____w", "AAAAAP__"] {
            assert!(Recent::decode(text).is_some(), "{text:?}");
        }
        assert!(Recent::decode("AAAAAP__").unwrap().newest[0].seconds <= LONGEST);
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            let recent = Recent { total: 1, endpoints: 0, newest: vec![observed(seconds, 200)] };
            let back = Recent::decode(&recent.encode(MOST)).unwrap();
            assert!(back.newest[0].seconds.is_finite() && back.newest[0].stratum < 32);
        }
    }

    #[test]
    fn each_sample_is_new_once() {
        let newest: Vec<Observed> = (0..4).map(|n| observed(f64::from(n), 0)).collect();
        let recent = Recent { total: 65_535, endpoints: 0, newest };
        let new = |before: u16| recent.since(before).len();
        assert_eq!((new(65_535), new(65_533)), (0, 2));
        assert_eq!(new(60_000), 4, "the others were lost");
        let later = Recent { total: 1, ..recent.clone() };
        assert_eq!(later.since(65_535).len(), 2, "the total starts again");
    }

    #[test]
    fn what_is_remembered_of_a_proxy_is_bounded() {
        let mut totals = Totals::default();
        for round in 0..40 {
            let of = |n: u32| (format!("c{round}-{n}"), "AAEAAAL3".to_owned());
            let texts = Texts::from([("shop".to_owned(), (0..512).map(of).collect())]);
            totals.news(&texts, 0.1 * f64::from(round));
            assert!(totals.0.len() <= PAIRS_KEPT + 512);
        }
        totals.news(&Texts::new(), 70.0);
        assert!(totals.0.is_empty());
    }

    #[test]
    fn classes_of_a_service_are_told_together_in_the_order_of_their_ends() {
        let at = |ended| Observed { ended, seconds: ended, stratum: 0 };
        let mut one = Recent { total: 2, endpoints: 7, newest: vec![at(1.0), at(3.0)] };
        one.merge(&Recent { total: 3, endpoints: 7, newest: vec![at(2.0)] });
        assert_eq!((one.total, one.newest), (5, vec![at(1.0), at(2.0), at(3.0)]));
    }
}
