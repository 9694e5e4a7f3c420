//! The result of a world: a record of each request, and their sums.

use super::spec::Spec;

/// One request as observed by its client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// When the request was sent, in seconds.
    pub at: f32,
    /// The response time, in seconds.
    pub latency: f32,
    /// The place that served the last attempt; `NOWHERE` if the request was shed.
    pub place: u8,
    /// The edge.
    pub edge: u16,
    /// The request's kind, by its index in the spec; 0 if the spec has no kinds.
    pub kind: u8,
    /// Whether the request succeeded.
    pub ok: bool,
    /// Whether the request went farther although nearer servers were idle.
    pub needless: bool,
    /// Whether a constraint was broken.
    pub violation: bool,
}

/// No place.
pub const NOWHERE: u8 = u8::MAX;

/// The whole result.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One record for each request, in the order they ended.
    pub records: Vec<Record>,
    /// Attempts sent to places.
    pub attempts: u64,
    /// Dollars by place.
    pub usd: Vec<f64>,
    /// Server-seconds by place.
    pub server_seconds: Vec<f64>,
    /// The highest load of a place over its capacity, by second and place.
    pub load: Vec<Vec<f32>>,
    /// Exchanges in flight at the end; 0 unless an exchange was lost.
    pub left: i64,
}

/// Figures of a span of time. Milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Requests.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Share of successful requests.
    pub good: f64,
    /// Share that went to the first place.
    pub home: f64,
    /// Share that went farther although the nearest place was idle.
    pub needless: f64,
}

impl Outcome {
    /// The figures of the requests sent within `from..to`.
    #[must_use]
    pub fn between(&self, from: f64, to: f64) -> Summary {
        self.of(|record| (from..to).contains(&f64::from(record.at)))
    }

    /// The figures of the requests that `wanted` selects.
    #[must_use]
    pub fn of(&self, wanted: impl Fn(&Record) -> bool) -> Summary {
        let all: Vec<&Record> = self.records.iter().filter(|record| wanted(record)).collect();
        let count = all.len();
        if count == 0 {
            return Summary::default();
        }
        let mut latencies: Vec<f32> =
            all.iter().filter(|record| record.ok).map(|record| record.latency).collect();
        latencies.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index.min(latencies.len().saturating_sub(1))).map_or(0.0, |l| ms(*l))
        };
        let share = |test: &dyn Fn(&Record) -> bool| {
            all.iter().filter(|record| test(record)).count() as f64 / count as f64
        };
        let sum: f64 = latencies.iter().map(|latency| ms(*latency)).sum();
        Summary {
            count,
            mean: sum / (latencies.len() as f64).max(1.0),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            good: share(&|record| record.ok),
            home: share(&|record| record.place == 0),
            needless: share(&|record| record.needless),
        }
    }

    /// The share of each place in windows of `width` seconds.
    #[must_use]
    pub fn shares(&self, spec: &Spec, width: f64) -> Vec<Vec<f64>> {
        let windows = (spec.seconds / width).ceil() as usize;
        let mut counts = vec![vec![0.0; spec.places.len()]; windows];
        for record in self.records.iter().filter(|record| record.place != NOWHERE) {
            let window = (f64::from(record.at) / width) as usize;
            if let Some(counts) = counts.get_mut(window) {
                counts[usize::from(record.place)] += 1.0;
            }
        }
        for window in &mut counts {
            let all: f64 = window.iter().sum();
            window.iter_mut().for_each(|count| *count /= all.max(1.0));
        }
        counts
    }

    /// How often the first place's share crossed one half, from window to window of `width` seconds.
    #[must_use]
    pub fn switches(&self, spec: &Spec, width: f64) -> usize {
        let shares = self.shares(spec, width);
        shares.windows(2).filter(|pair| (pair[0][0] >= 0.5) != (pair[1][0] >= 0.5)).count()
    }

    /// A hash of the trace: equal traces have the same (FNV-1a over all records).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let fold = |sum: u64, bits: u64| (sum ^ bits).wrapping_mul(0x0000_0100_0000_01B3);
        self.records.iter().fold(0xCBF2_9CE4_8422_2325, |sum, record| {
            let sum = fold(sum, u64::from(record.at.to_bits()));
            let sum = fold(sum, u64::from(record.latency.to_bits()));
            fold(sum, u64::from(record.place) << 1 | u64::from(record.ok))
        })
    }
}

fn ms(seconds: f32) -> f64 {
    f64::from(seconds) * 1e3
}
