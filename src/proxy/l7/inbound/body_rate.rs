//! How fast a request's body has to come: so that a client that drips cannot hold an exchange for ever.

use crate::proxy::body::Broken;
use std::time::Duration;

/// Over so long a window a body's rate is judged.
const WINDOW: Duration = Duration::from_secs(10);

/// After waits of this length at most a body's rate is judged.
pub const RATE_SLICE: Duration = Duration::from_secs(2);

/// The rate of one body. Only waiting counts: while we do not read, nobody is slow.
#[derive(Debug, Default)]
pub struct Rate {
    /// Bytes a second, at least; 0 is no bound.
    pub least: u64,
    waited: Duration,
    bytes: u64,
}

impl Rate {
    /// A fresh judgement by this bound.
    #[must_use]
    pub fn of(least: u64) -> Rate {
        Rate { least, ..Rate::default() }
    }

    /// Notes what came.
    pub fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Notes how long a piece was waited for, or in vain.
    pub fn waited(&mut self, span: Duration) {
        self.waited += span;
    }

    /// Judges the rate of what came over the last ten seconds of waiting: before more is waited for, since a
    /// piece that has come must not be lost by it.
    ///
    /// # Errors
    /// [`Broken::Late`] when that was too little.
    pub fn judge(&mut self) -> Result<(), Broken> {
        if self.waited < WINDOW || self.least == 0 {
            return Ok(());
        }
        let enough = self.bytes as f64 >= self.least as f64 * self.waited.as_secs_f64();
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if enough { Ok(()) } else { Err(Broken::Late) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_below_the_minimum_rate_is_late_after_ten_seconds() {
        for (bytes_a_second, late) in [(500, true), (512, false), (0, true)] {
            let mut rate = Rate::of(512);
            let verdicts: Vec<bool> = (0..10)
                .map(|_| {
                    rate.came(bytes_a_second);
                    rate.waited(Duration::from_secs(1));
                    rate.judge().is_err()
                })
                .collect();
            assert!(verdicts[..9].iter().all(|verdict| !verdict), "not before its time");
            assert_eq!(verdicts[9], late, "{bytes_a_second}");
            // Judged anew from there.
            rate.waited(Duration::from_secs(9));
            assert!(rate.judge().is_ok());
        }
    }

    #[test]
    fn without_a_minimum_rate_no_body_is_late() {
        let mut rate = Rate::of(0);
        rate.waited(Duration::from_secs(3600));
        assert!(rate.judge().is_ok());
    }
}
