//! See `tidegate::policy::properties::authorization`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::policy::properties::authorization(bytes));
