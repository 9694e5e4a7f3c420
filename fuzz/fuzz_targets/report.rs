//! Load reports from untrusted peers: any accepted value is in range.
#![no_main]

use tidegate::decision::report::Report;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for report in [Report::from_tidegate(text), Report::from_orca(text)].into_iter().flatten() {
        report.assert_in_range();
    }
});
