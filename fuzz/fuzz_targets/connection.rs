//! See `tidegate::server::properties::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::server::properties::connection(bytes));
