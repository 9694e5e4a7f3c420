//! See `tidegate::http::properties::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::request(bytes));
