//! The newest load report of a cluster, passed from one thread to another.

use super::seqlock::SeqLock;
use crate::decision::report::Report;
use crate::decision::units::Timestamp;

/// The newest load report, with one writer. Readers get a whole report or none.
#[derive(Debug, Default)]
pub struct ReportCell(SeqLock<8>);

impl ReportCell {
    /// Replaces the report by one that arrived at `at`. Only one thread may write.
    pub fn write(&self, report: &Report, at: Timestamp) {
        let unknown = f64::NAN;
        let bits = f64::to_bits;
        self.0.write([
            at.as_nanos(),
            bits(report.queue),
            bits(report.service),
            bits(report.in_flight),
            bits(report.capacity.unwrap_or(unknown)),
            bits(report.utilisation.unwrap_or(unknown)),
            bits(report.arrivals),
            bits(report.good),
        ]);
    }

    /// The newest report and its time of arrival; `None` before the first one and while one is being written.
    #[must_use]
    pub fn read(&self) -> Option<(Report, Timestamp)> {
        let [at, fields @ ..] = self.0.read()?;
        let [queue, service, in_flight, capacity, utilisation, arrivals, good] =
            fields.map(f64::from_bits);
        let known = |value: f64| Some(value).filter(|value| !value.is_nan());
        let (capacity, utilisation) = (known(capacity), known(utilisation));
        let report =
            Report { queue, service, in_flight, capacity, utilisation, arrivals, good, age: 0.0 };
        Some((report, Timestamp::from_nanos(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_report_is_read_whole_or_not_at_all() {
        let cell = Arc::new(ReportCell::default());
        assert!(cell.read().is_none());
        let (writer, stop) = (cell.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for n in (1..u32::MAX).take_while(|_| !stopped.load(Ordering::Relaxed)) {
                let value = f64::from(n);
                let report = Report {
                    queue: value,
                    service: value,
                    in_flight: value,
                    capacity: Some(value),
                    arrivals: value,
                    good: value,
                    ..Report::default()
                };
                writer.write(&report, Timestamp::from_nanos(u64::from(n)));
                (0..200).for_each(|_| std::hint::spin_loop());
            }
        });
        let mut read = 0;
        while read < 5_000 {
            let Some((report, at)) = cell.read() else { continue };
            read += 1;
            let value = at.as_nanos() as f64;
            let all = [report.queue, report.service, report.arrivals, report.good];
            assert!(all.iter().all(|field| *field == value), "{report:?} at {at:?}");
            assert_eq!((report.capacity, report.utilisation), (Some(value), None));
        }
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
