//! The only code that reads clocks. All other code receives a [`Timestamp`].

use crate::decision::units::Timestamp;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

/// The current time of a monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
#[must_use]
pub fn now() -> Timestamp {
    let start = *START.get_or_init(Instant::now);
    Timestamp::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Wall-clock time since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
#[must_use]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Wall-clock time as RFC 3339 with milliseconds, in UTC.
#[must_use]
pub fn rfc3339(since_epoch: Duration) -> String {
    let stamp = jiff::Timestamp::from_millisecond(millis(since_epoch)).unwrap_or_default();
    format!("{stamp:.3}")
}

/// Wall-clock time in the format of HTTP (RFC 9110 §5.6.7).
#[must_use]
pub fn http_date(since_epoch: Duration) -> String {
    let stamp = jiff::Timestamp::from_millisecond(millis(since_epoch)).unwrap_or_default();
    stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Wall-clock time in the common log format.
#[must_use]
pub fn common_log(since_epoch: Duration) -> String {
    let stamp = jiff::Timestamp::from_millisecond(millis(since_epoch)).unwrap_or_default();
    stamp.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds of the kernel's monotonic clock, as service managers expect them.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// Unpredictable bits for seeds, from the standard library's hasher keys.
#[must_use]
pub fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u64(now().as_nanos());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_as_documented() {
        let moment = Duration::from_millis(784_111_777_123);
        assert_eq!(http_date(moment), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rfc3339(moment), "1994-11-06T08:49:37.123Z");
        assert_eq!(common_log(moment), "06/Nov/1994:08:49:37 +0000");
    }
}
