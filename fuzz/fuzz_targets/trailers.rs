//! See `tidegate::http::properties::trailers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::trailers(bytes));
