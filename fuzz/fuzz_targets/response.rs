//! See `tidegate::http::properties::response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::response(bytes));
