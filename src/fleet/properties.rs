//! Properties that hold for any bytes: see `http::properties`.
//!
//! # Panics
//! When a property does not hold: callers are tests and fuzz targets.

use super::read;
use crate::decision::fleet::{Identity, Members, Merged, Report};
use crate::decision::units::Timestamp;

/// A line is refused, or it is a report with which the sum over a site is valid and reads back as it was written.
pub fn report(line: &[u8]) {
    let by = |instance: &str| Identity {
        site: "here".to_owned(),
        incarnation: 1,
        instance: instance.to_owned(),
    };
    let Ok(report) = read(line) else { return };
    let report = Report { by: by("peer:1"), ..report };
    let own = Report { by: by("own:1"), members: 1, expected: 1, ..Report::default() };
    let mut members = Members::default();
    let (is_valid, is_leaving) = (report.check().is_ok(), report.leaving);
    let mut merge = || members.merge("peer", "here", &own.by, report.clone(), Timestamp::START);
    assert_eq!(merge().is_ok(), is_valid, "what is out of bounds is refused");
    if !is_valid {
        return;
    }
    assert_eq!(merge(), Ok(Merged::Known));
    for (name, row) in &report.clusters {
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<'), "{name:?}");
        let numbers = [row.in_flight, row.requests_per_s, row.queue, row.distance, row.service];
        assert!(numbers.iter().all(|number| number.is_finite() && *number >= 0.0), "{row:?}");
    }
    let spills = report.services.values().map(|row| row.spill);
    assert!(spills.into_iter().all(|spill| (0.0..=1.0).contains(&spill)));

    let site = members.site(&own, Timestamp::START);

    assert_eq!(site.members, if is_leaving { 1 } else { 2 });
    assert_eq!(site.check(), Ok(()));
    let written = |report: &Report| serde_json::to_string(&report.unnamed());
    let text = written(&site).unwrap_or_default();
    match read(text.as_bytes()) {
        Ok(back) => assert_eq!(written(&back).ok(), Some(text)),
        // Escapes and rounding make a line longer or shorter; a site's report may exceed the bound, and is refused then.
        Err(reason) => assert!(text.len() > super::LINE_MAX, "{reason:?}: {text}"),
    }
}
