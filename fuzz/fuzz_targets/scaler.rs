//! See `tidegate::scaling::properties::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::scaling::properties::request(bytes));
