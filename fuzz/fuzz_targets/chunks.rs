//! See `tidegate::http::properties::chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::chunks(bytes));
