//! See `tidegate::fleet::properties::report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fleet::properties::report(bytes));
