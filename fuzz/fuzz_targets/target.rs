//! See `tidegate::http::properties::target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::target(bytes));
