//! How fast a request's body has to come: so that a client that drips cannot hold an exchange for ever.

use crate::proxy::body::Broken;
use std::time::Duration;

/// Over so long a window a body's rate is judged.
const WINDOW: Duration = Duration::from_secs(10);

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

    /// Judges the rate of what came over the last ten seconds of waiting.
    ///
    /// # Errors
    /// [`Broken::Late`] when that was too little.
    pub fn judge(&mut self, waited: Duration) -> Result<(), Broken> {
        self.waited += waited;
        if self.waited < WINDOW || self.least == 0 {
            return Ok(());
        }
        if (self.bytes as f64) < self.least as f64 * self.waited.as_secs_f64() {
            return Err(Broken::Late);
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}
