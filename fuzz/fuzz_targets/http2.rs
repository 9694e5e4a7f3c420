//! See `tidegate::server::properties::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::server::properties::http2(bytes));
