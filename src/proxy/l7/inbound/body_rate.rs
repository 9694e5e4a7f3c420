//! The minimum rate of a request body, so that a slow client cannot hold an exchange forever.

use crate::body::Broken;
use std::time::Duration;

/// The window over which a body's rate is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// The longest wait between two checks of a body's rate.
pub const RATE_SLICE: Duration = Duration::from_secs(2);

/// The rate of one body. Only time spent waiting counts: while the proxy does not read, the client does not
/// count as slow.
#[derive(Debug, Default)]
pub struct Rate {
    /// The minimum in bytes a second; 0 disables the check.
    pub least: u64,
    waited: Duration,
    bytes: u64,
}

impl Rate {
    /// Starts a new measurement with this minimum.
    #[must_use]
    pub fn of(least: u64) -> Rate {
        Rate { least, ..Rate::default() }
    }

    /// Counts received bytes.
    pub fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Counts the time of a wait, successful or not.
    pub fn waited(&mut self, span: Duration) {
        self.waited += span;
    }

    /// Checks the rate over the last ten seconds of waiting. Called before a wait, because a received piece must not
    /// be lost.
    ///
    /// # Errors
    /// [`Broken::Late`] when the rate is too low.
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
            // A new window begins there.
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
