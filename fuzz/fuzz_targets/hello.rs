//! See `tidegate::tls::properties::hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::tls::properties::hello(bytes));
