//! See `tidegate::http::properties::translated`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::translated(bytes));
