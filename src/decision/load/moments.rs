//! Number, sum and sum of squares of a decaying sample.

use super::ENOUGH;

/// Samples that show whether all of them are delayed. With 45, a queue that was only a few slow exchanges made overload
/// shed the high priority now and then; with 300, the queues of clusters with little traffic were ignored.
const AMPLE: f64 = 100.0;

/// The moments; all three decay together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    /// Number of values.
    pub(super) count: f64,
    /// Sum of the values.
    pub(super) sum: f64,
    /// Sum of their squares.
    pub(super) squares: f64,
}

impl Moments {
    /// Keeps the share `keep` of the old values and adds `new`.
    pub(super) fn fold(&mut self, keep: f64, new: Moments) {
        self.count = self.count * keep + new.count;
        self.sum = self.sum * keep + new.sum;
        self.squares = self.squares * keep + new.squares;
    }

    /// Whether there are 100 values or more.
    pub(super) fn is_ample(&self) -> bool {
        self.count >= AMPLE
    }

    /// The standard deviation; `None` below 30 values.
    pub(super) fn deviation(&self) -> Option<f64> {
        let mean = self.sum / self.count.max(1.0);
        (self.count >= 2.0 * ENOUGH)
            .then(|| (self.squares / self.count - mean * mean).max(0.0).sqrt())
    }
}
